//! A figure that was measured, and by whom.

use std::path::PathBuf;

use crate::record::Verdict;

/// A figure that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The naive way's value, where there is one.
    pub naive: Option<f64>,
    /// What the naive way is: a trial, or as the benchmarks call it.
    pub peer: String,
    /// Ours.
    pub ours: f64,
    /// Unit word of both.
    pub unit: String,
    /// Who measured it.
    pub origin: Origin,
}

/// Who measured a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The benchmarks.
    Bench {
        /// The file of their figures.
        file: PathBuf,
    },
    /// A run.
    Run {
        /// Its folder.
        folder: PathBuf,
        /// Its id.
        id: String,
        /// The scenario that is ours.
        scenario: &'static str,
        /// What became of it, the worst of its rounds.
        verdict: Verdict,
    },
}
