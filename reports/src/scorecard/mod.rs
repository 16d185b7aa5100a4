//! What is measured here beside the naive way, row by row, out of kept runs and the benchmarks' figures. Nothing is a constant but
//! what a row says in words: what no record holds is not measured.

pub mod bench;
pub mod found;
pub mod rows;
pub mod runs;

use std::path::{Path, PathBuf};

use crate::error::ReportError;
use crate::history::{RUNS_MAX, runs_in};
use crate::read::read_record;
use bench::Bench;
use found::Found;
use rows::{CLAIMS, Claim, Measure, Source};

/// Every row with what was found.
#[derive(Debug)]
pub struct Scorecard {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// What could not be opened, with the reason.
    pub unread: Vec<(PathBuf, String)>,
}

/// A claim with what was found for it.
#[derive(Debug)]
pub struct Row {
    /// The claim.
    pub claim: &'static Claim,
    /// Each of its measures.
    pub readings: Vec<Reading>,
}

/// A measure with what was found.
#[derive(Debug)]
pub struct Reading {
    /// What is measured.
    pub measure: &'static Measure,
    /// What was; none if no record has it.
    pub found: Option<Found>,
}

impl Scorecard {
    /// The measures that were found, and all of them.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let all = || self.rows.iter().flat_map(|row| &row.readings);
        let found = all().filter(|reading| reading.found.is_some());
        (found.count(), all().count())
    }
}

/// The scorecard of the folder `out`: for each measure what the benchmarks kept there, or the newest of its newest [`RUNS_MAX`] runs
/// that has both sides of it.
///
/// # Errors
/// The folder cannot be read. What cannot be opened in it is named, and the rest is used.
pub fn of(out: &Path) -> Result<Scorecard, ReportError> {
    let runs = runs_in(out)?;
    let (bench, wrong) = Bench::below(out);
    let mut unread: Vec<_> = wrong
        .map(|why| (bench.file.clone(), why))
        .into_iter()
        .collect();
    let reading = |measure: &'static Measure| Reading {
        found: bench.found(&measure.source),
        measure,
    };
    let row = |claim: &'static Claim| Row {
        claim,
        readings: claim.measures.iter().map(reading).collect(),
    };
    let mut rows: Vec<Row> = CLAIMS.iter().map(row).collect();
    let mut missing: Vec<&mut Reading> = rows
        .iter_mut()
        .flat_map(|row| &mut row.readings)
        .filter(|reading| matches!(reading.measure.source, Source::Run { .. }))
        .collect();
    for folder in runs.into_iter().rev().take(RUNS_MAX) {
        if missing.is_empty() {
            break;
        }
        // One at a time: together they may not fit into memory.
        match read_record(&folder) {
            Ok(run) => missing.retain_mut(|reading| {
                reading.found = runs::found(&run, &folder, &reading.measure.source);
                reading.found.is_none()
            }),
            Err(why) => unread.push((folder, why.to_string())),
        }
    }
    Ok(Scorecard { rows, unread })
}
