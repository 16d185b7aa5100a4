//! What `just bench` kept: a list of figures, each ours and, where there is one, its peer's. It names neither host nor commit.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::scorecard::found::{Found, Origin};
use crate::scorecard::rows::Source;

/// Where the file lies below the folder of the kept runs.
const FIGURES_FILE: &str = "bench/figures.json";

/// What the benchmarks kept.
#[derive(Debug)]
pub struct Bench {
    /// The file.
    pub file: PathBuf,
    figures: Vec<Figure>,
}

#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    /// None where it was no number.
    ours: Option<f64>,
    peer: Option<f64>,
    peer_name: Option<String>,
    unit: String,
}

impl Bench {
    /// What is kept below `out`; no figures, and in words why not, where the file cannot be read or holds something else.
    #[must_use]
    pub fn below(out: &Path) -> (Self, Option<String>) {
        let file = out.join(FIGURES_FILE);
        let read = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|cause| format!("not the benchmarks' figures: {cause}")),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(cause) => Err(cause.to_string()),
        };
        let (figures, wrong) = match read {
            Ok(figures) => (figures, None),
            Err(wrong) => (Vec::new(), Some(wrong)),
        };
        (Self { file, figures }, wrong)
    }

    /// The figure that is asked for; none if it is not there.
    #[must_use]
    pub fn found(&self, source: &Source) -> Option<Found> {
        let Source::Bench { figure, .. } = source else {
            return None;
        };
        let kept = self.figures.iter().find(|kept| kept.name == *figure)?;
        Some(Found {
            naive: kept.peer,
            peer: kept.peer_name.clone().unwrap_or_default(),
            ours: kept.ours?,
            unit: kept.unit.clone(),
            origin: Origin::Bench {
                file: self.file.clone(),
            },
        })
    }
}
