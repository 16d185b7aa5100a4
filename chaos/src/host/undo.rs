//! The undo log: on disk before the deed, so that whoever finds it can take back what its writer could not.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::HostError;
use super::process::ProcessId;

/// One thing to take back. Taking back twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Kill what is in this cgroup and remove it with its children. Its name must begin with `backdrop-`.
    Cgroup {
        /// Path of the cell.
        path: PathBuf,
    },
    /// Move the processes of this cgroup back and remove it.
    Homecoming {
        /// Where they are; its name must begin with `backdrop-`.
        from: PathBuf,
        /// Where they came from.
        to: PathBuf,
    },
    /// Kill this process if it is still the same.
    Process {
        /// Which.
        process: ProcessId,
        /// What it is, for people.
        what: String,
    },
    /// Turn this failpoint off; a service that is gone has none.
    Failpoint {
        /// Admin address, `host:port`.
        admin: String,
        /// Name.
        name: String,
    },
    /// Remove this folder with all that is in it.
    Folder {
        /// Which.
        path: PathBuf,
    },
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoReport {
    /// Taken back and checked, in words.
    pub done: Vec<String>,
    /// Could not be taken back, with the reason.
    pub failed: Vec<String>,
}

impl UndoReport {
    /// Everything was taken back and checked.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.failed.is_empty()
    }
}

/// The log of one runner. Clones are handles; when the last one goes, everything left is undone and a clean log deleted.
#[derive(Debug, Clone)]
pub struct UndoLog {}

impl UndoLog {
    /// Opens `undo-<pid>-<start ticks>.jsonl` in this folder, which is made.
    pub fn create(dir: &Path) -> Result<Self, HostError> {
        let _ = dir;
        Ok(Self {})
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new("")
    }

    /// Writes it down, durable on return: call it *before* the deed.
    pub fn record(&self, undo: Undo) -> Result<UndoGuard, HostError> {
        let _ = undo;
        Ok(UndoGuard {})
    }

    /// Takes back what is still open, newest first, and checks it. Idempotent.
    #[must_use]
    pub fn undo_all(&self) -> UndoReport {
        UndoReport::default()
    }
}

/// One open entry; dropping it undoes it.
#[derive(Debug)]
#[must_use = "dropping the guard undoes at once"]
pub struct UndoGuard {}

impl UndoGuard {
    /// Takes it back now and says how that went.
    pub fn undo(self) -> Result<String, HostError> {
        Ok(String::new())
    }

    /// Somebody else has taken it back and checked it (a [`super::Cell::remove`], say): strike it off.
    pub fn settled(self) -> Result<(), HostError> {
        Ok(())
    }
}

/// A log that a dead runner left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub path: PathBuf,
    /// Whose.
    pub runner: ProcessId,
    /// What is still open.
    pub open: Vec<Undo>,
}

impl Leftover {
    /// Takes it all back; deletes the log if that went clean.
    #[must_use]
    pub fn clean(&self) -> UndoReport {
        UndoReport::default()
    }
}

/// Logs of runners that no longer live. A start refuses while there are any and names `chaos doctor --clean`.
pub fn leftovers(dir: &Path) -> Result<Vec<Leftover>, HostError> {
    let _ = dir;
    Ok(vec![])
}
