//! What can go wrong between a run record and its renderings. Each message names the file and what to do, and holds its cause.

use std::fmt;
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
    /// No kept run has what was asked for.
    #[error("no run in {} has {what}{}", path.display(), Instead { others, unread })]
    NoHistory {
        /// Folder of the runs.
        path: PathBuf,
        /// What was asked for.
        what: String,
        /// Scenarios that are there, or figures of the one that is.
        others: Vec<String>,
        /// Runs that could not be opened, with the reason.
        unread: Vec<(PathBuf, String)>,
    },
    /// The file was written by a Backdrop of before the first version.
    #[error("{} has schema version {found}, which no Backdrop wrote; the first one is 1", path.display())]
    Older {
        /// File asked for.
        path: PathBuf,
        /// Version in the file.
        found: u64,
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
    #[error("cannot render the page: {0}")]
    Html(askama::Error),
    /// The JUnit document could not be formed.
    #[error("cannot render junit.xml: {0}")]
    Junit(quick_junit::SerializeError),
}

/// What is there instead, for a person who asked for something else.
struct Instead<'a> {
    others: &'a [String],
    unread: &'a [(PathBuf, String)],
}

impl fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.others.is_empty() {
            write!(f, "; there are: {}", self.others.join(", "))?;
        }
        match self.unread {
            [] => Ok(()),
            [(_, why)] => write!(f, "; one run could not be opened: {why}"),
            [(_, why), ..] => write!(
                f,
                "; {} runs could not be opened, the first: {why}",
                self.unread.len()
            ),
        }
    }
}

impl ReportError {
    /// Exit code of the process, of sysexits.h.
    #[must_use]
    pub fn exit(&self) -> u8 {
        match self {
            Self::Read { .. } | Self::NoRecord { .. } | Self::NoHistory { .. } => 66,
            Self::NotARecord { .. }
            | Self::Older { .. }
            | Self::Newer { .. }
            | Self::Inconsistent { .. } => 65,
            Self::Write { .. } => 73,
            Self::Json(_) | Self::Html(_) | Self::Junit(_) => 70,
        }
    }
}
