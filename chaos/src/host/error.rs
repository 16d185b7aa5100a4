//! What can go wrong on the host, each with its cause in its text and, where a person can do something, the mend.

use std::io;
use std::path::{Path, PathBuf};

use super::process::ProcessId;

/// An operation on the host failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No place where a memory cgroup with a limit can be made.
    #[error("no memory cgroup can be made here: {}; {mend}", tried.join("; "))]
    NoHierarchy {
        /// Each place tried and why it would not do.
        tried: Vec<String>,
        /// What a person can do about it.
        mend: String,
    },
    /// A file or system call failed.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was being done, e.g. `writing`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A kernel file did not have the expected form.
    #[error("{}: {what}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What was missing or odd.
        what: String,
    },
    /// The kernel did not take a value: it reads back differently.
    #[error("{} was set to {asked} but reads back as {got}", path.display())]
    NotTaken {
        /// The file.
        path: PathBuf,
        /// Value written.
        asked: u64,
        /// Value read.
        got: u64,
    },
    /// A limit further up is smaller, so the cell's own would not bind.
    #[error("{} allows only {got} bytes and the scenario needs {asked}: raise it, or start the run outside of that cgroup", path.display())]
    SmallerAbove {
        /// Where it is set or stated.
        path: PathBuf,
        /// Limit of the scenario.
        asked: u64,
        /// Limit that binds.
        got: u64,
    },
    /// The limit could not be lowered in the time allowed.
    #[error("limit of {} stays at {got} bytes instead of {asked}: {usage} bytes are in use and cannot be reclaimed", path.display())]
    LimitHeld {
        /// The cgroup.
        path: PathBuf,
        /// Limit asked for.
        asked: u64,
        /// Limit reached.
        got: u64,
        /// Usage at that moment.
        usage: u64,
    },
    /// A folder that undoing relies on is not ours alone.
    #[error("{} is not to be trusted: {why}", path.display())]
    Untrusted {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another run is under way.
    #[error(
        "another run is under way{}: both would disturb each other's figures; wait for it, or give --beside to run all the same",
        by.map_or_else(String::new, |by| format!(" (pid {}, started at tick {})", by.pid, by.start_ticks))
    )]
    AnotherRun {
        /// Whose, if it says so.
        by: Option<ProcessId>,
    },
    /// Something would not go away.
    #[error("{what} is still there: {why}")]
    NotUndone {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// A child could not be started.
    #[error("starting {}: {cause}", program.display())]
    Spawn {
        /// Program.
        program: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// A helper process did not do its work.
    #[error("{what}: {why}")]
    Subprocess {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A name or argument is not usable.
    #[error("{what}: {why}")]
    Invalid {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
}

impl HostError {
    /// Adds place and purpose to an I/O error.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |cause| Self::Io { doing, path, cause }
    }

    /// The operating system's error number, if it was one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { cause, .. } | Self::Spawn { cause, .. } => cause.raw_os_error(),
            _ => None,
        }
    }
}
