//! The host side of the runner: cgroups with a limit, child processes inside them, hogs, samples, undo.
//!
//! Talks to the kernel and to nothing else of ours: it knows no scenario, no verdict and no load. What it makes it takes
//! away again: by guard, by [`UndoLog`], and by the [`Reaper`] if the runner itself is killed.

pub mod cgroup;
pub mod cpu;
pub mod doctor;
mod emulated;
mod error;
mod files;
pub mod hog;
pub mod lock;
mod mounts;
mod ours;
pub mod process;
pub mod reaper;
pub mod sample;
pub mod scope;
pub mod stall;
pub mod steal;
#[expect(
    unsafe_code,
    reason = "the one place for system calls that std does not offer"
)]
mod sys;
mod takeback;
mod tree;
pub mod undo;
mod v1;
mod v2;

pub use cgroup::{
    Cell, CellProbe, CellStats, Hierarchy, Leaf, LeafStats, LimitChange, LimitWatch, Limits,
    Lowering, Removed, Swap,
};
pub use cpu::{CpuSet, Placement};
pub use doctor::{
    Check, CheckState, available_disk, available_memory, doctor, host_facts, open_files,
    spare_files, used_memory_ratio,
};
pub use error::HostError;
pub use hog::{
    CacheHog, CacheHogSpec, CpuHog, CpuHogSpec, HogReport, MemoryHog, MemoryHogSpec, warm,
};
pub use ours::{mark, state_dir, unmark_empty};
pub use process::{CommandSpec, End, Ending, ProcessId, ServiceProcess, is_stopped};
pub use reaper::Reaper;
pub use sample::{HostSample, Peaks, Sampler, SamplerConfig};
pub use sys::{ResidentFile, keep_ended_children};
pub use undo::{Leftover, Undo, UndoGuard, UndoLog, UndoReport, leftovers};

/// Subcommands that the runner starts itself as; a command line flattens them in, hidden.
#[derive(Debug, clap::Subcommand)]
pub enum Subprocess {
    /// Hog memory or CPU until the time is up or SIGTERM comes.
    #[command(hide = true)]
    Hog {
        /// What to hog.
        #[command(subcommand)]
        what: hog::HogCommand,
    },
    /// Wait for a runner's death and undo what it left.
    #[command(hide = true)]
    Reaper(reaper::ReaperCommand),
}

impl Subprocess {
    /// Runs to the end; blocks.
    pub fn run(self) -> Result<(), HostError> {
        match self {
            Self::Hog { what } => what.run(),
            Self::Reaper(command) => command.run(),
        }
    }
}
