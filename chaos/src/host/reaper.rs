//! The reaper: a process apart that outlives a killed runner and undoes what it left.

use std::path::{Path, PathBuf};

use super::error::HostError;
use super::process::ProcessId;
use super::undo::UndoLog;

/// Child side.
#[derive(Debug, clap::Args)]
pub struct ReaperCommand {
    /// Undo log to work off.
    #[arg(long)]
    pub journal: PathBuf,
    /// Runner to wait for.
    #[arg(long)]
    pub parent: u32,
    /// Its start time, clock ticks after boot.
    #[arg(long)]
    pub parent_start: u64,
}

impl ReaperCommand {
    /// Waits for the runner's death, undoes what is open, leaves.
    pub fn run(self) -> Result<(), HostError> {
        Ok(())
    }
}

/// Parent side: the running reaper. Dropping it dismisses it.
#[derive(Debug)]
pub struct Reaper {}

impl Reaper {
    /// Starts `program reaper …` (the runner's own binary) in a session of its own.
    pub fn start(program: &Path, log: &UndoLog) -> Result<Self, HostError> {
        let _ = (program, log);
        Ok(Self {})
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: 0, start_ticks: 0 }
    }

    /// Ends it, once everything is undone, and waits until it is gone.
    pub fn dismiss(self) -> Result<(), HostError> {
        Ok(())
    }
}
