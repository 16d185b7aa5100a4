//! What can go wrong between a run record and its renderings. Each message names the file and what to do, and holds its cause.

use std::path::PathBuf;

/// A record that could not be read, or a report that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file is not there or not readable.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// File asked for.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A folder without `run.json`.
    #[error("{} holds no run.json; give a run's folder, e.g. reports/out/latest, or the run.json itself", path.display())]
    NoRecord {
        /// Folder asked for.
        path: PathBuf,
    },
    /// The file is no JSON or lacks what a run record has.
    #[error("{} is not a run record: {cause}", path.display())]
    NotARecord {
        /// File asked for.
        path: PathBuf,
        /// Where the JSON stops making sense.
        cause: serde_json::Error,
    },
    /// The file was written by a newer Backdrop.
    #[error("{} has schema version {found}, this build reads up to {known}; render it with the Backdrop that wrote it or a newer one", path.display())]
    Newer {
        /// File asked for.
        path: PathBuf,
        /// Version in the file.
        found: u64,
        /// Newest version this build knows.
        known: u32,
    },
    /// The record contradicts itself.
    #[error("the run record contradicts itself: {what}")]
    Inconsistent {
        /// The contradiction, in words.
        what: String,
    },
    /// A rendering could not be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// File to be written.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// The record could not be put into JSON.
    #[error("cannot serialise the run record: {0}")]
    Json(serde_json::Error),
    /// The HTML template failed.
    #[error("cannot render index.html: {0}")]
    Html(askama::Error),
    /// The JUnit document could not be formed.
    #[error("cannot render junit.xml: {0}")]
    Junit(quick_junit::SerializeError),
}
