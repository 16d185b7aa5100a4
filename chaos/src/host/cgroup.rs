//! A memory cgroup with a limit, made and taken away: v1, v2 or, where neither can be had, an emulation flagged as such.
//!
//! A [`Cell`] is a parent with the limit; processes live in its [`Leaf`]s, so that service and hog share the limit while the
//! kernel counts their kills apart. Knows no process but those it has to kill to take a cell away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HostError;

/// Where cells can be made.
#[derive(Debug, Clone)]
pub struct Hierarchy {}

/// Limits of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all leaves together, bytes; rounded down to pages by the kernel.
    pub memory_bytes: u64,
}

/// Whether the limit can be evaded into swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Nothing of the cell can go to swap, read back.
    pub off: bool,
    /// What shows it, in words.
    pub how: String,
}

/// A parent cgroup with a limit. Dropping it kills what is left inside and removes it.
#[derive(Debug)]
pub struct Cell {}

/// A cheap handle for reading a cell's figures while somebody else owns the cell.
#[derive(Debug, Clone)]
pub struct CellProbe {}

/// Figures of a cell as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CellStats {
    /// Limit in force, bytes.
    pub limit: u64,
    /// All that is charged, reclaimable page cache included, bytes.
    pub usage: u64,
}

/// How a limit was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// Limit before, bytes.
    pub from: u64,
    /// Limit now, read back, bytes.
    pub to: u64,
    /// Intermediate limits that were set because usage stood above the target.
    pub steps: u32,
    /// How long it took.
    pub took: Duration,
}

/// What taking a cell away did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Path that no longer exists.
    pub path: PathBuf,
    /// Processes that were still inside and were killed.
    pub killed: Vec<u32>,
}

/// A cgroup inside a cell that holds processes. Clones are handles to the same leaf.
#[derive(Debug, Clone)]
pub struct Leaf {}

/// Figures of a leaf, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeafStats {
    /// All that is charged, page cache included; on v1 without TCP buffers.
    pub usage: u64,
    /// Anonymous pages.
    pub anon: u64,
    /// Page cache, shared memory included.
    pub file: u64,
    /// Shared memory (part of `file`), which cannot be dropped.
    pub shmem: u64,
    /// Page cache in recent use.
    pub active_file: u64,
    /// Page cache not in recent use.
    pub inactive_file: u64,
    /// Page cache that must be written before it can be dropped.
    pub dirty: u64,
    /// Page cache being written.
    pub writeback: u64,
    /// Kernel memory: stacks, page tables, slab.
    pub kernel: u64,
    /// Socket buffers.
    pub sockets: u64,
    /// Processes of this leaf that the kernel killed for memory.
    pub oom_kills: u64,
}

impl LeafStats {
    /// What the kernel cannot take back: anon + kernel + sockets, bytes.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.anon + self.kernel + self.sockets
    }
}

impl Hierarchy {
    /// Finds a place where a memory cgroup with a limit can be made, by making one. Never emulated.
    pub fn detect() -> Result<Self, HostError> {
        Err(HostError::NoHierarchy { tried: vec![], mend: String::new() })
    }

    /// The stand-in: a watchdog that samples resident memory and kills. Its kills are not the kernel's.
    #[must_use]
    pub fn emulated() -> Self {
        Self {}
    }

    /// `v1`, `v2` or `emulated`, as in the run record.
    #[must_use]
    pub fn word(&self) -> &'static str {
        "emulated"
    }

    /// True where the kernel does not enforce the limit.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        true
    }

    /// Folder under which cells are made; empty when emulated.
    #[must_use]
    pub fn base(&self) -> &Path {
        Path::new("")
    }

    /// Makes a cell `backdrop-<name>` with this limit and swap off, both read back. The name must be unique on the host:
    /// letters, digits, `-` and `_`.
    pub fn cell(&self, name: &str, limits: Limits) -> Result<Cell, HostError> {
        let _ = (name, limits);
        Err(HostError::NoHierarchy { tried: vec![], mend: String::new() })
    }
}

impl Cell {
    /// Path of the limited parent; a made-up one when emulated.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new("")
    }

    /// Whether swap is off, and what shows it.
    #[must_use]
    pub fn swap(&self) -> &Swap {
        static SWAP: Swap = Swap { off: false, how: String::new() };
        &SWAP
    }

    /// The leaf of this name (`service`, `hog`), made on first use.
    pub fn leaf(&self, name: &str) -> Result<Leaf, HostError> {
        Err(HostError::Invalid { what: name.to_owned(), why: String::new() })
    }

    /// Handle for sampling.
    #[must_use]
    pub fn probe(&self) -> CellProbe {
        CellProbe {}
    }

    /// Figures now.
    pub fn stats(&self) -> Result<CellStats, HostError> {
        self.probe().stats()
    }

    /// Limit as the kernel reads it back, bytes.
    pub fn limit(&self) -> Result<u64, HostError> {
        Ok(self.stats()?.limit)
    }

    /// Changes the limit; lowering below usage is done in steps, for at most `patience`. Blocks.
    pub fn set_limit(&self, bytes: u64, patience: Duration) -> Result<LimitChange, HostError> {
        let _ = (bytes, patience);
        Err(HostError::NoHierarchy { tried: vec![], mend: String::new() })
    }

    /// Kills what is left inside, removes leaves and parent, and checks that they are gone.
    pub fn remove(self) -> Result<Removed, HostError> {
        Err(HostError::NoHierarchy { tried: vec![], mend: String::new() })
    }
}

impl CellProbe {
    /// Figures now.
    pub fn stats(&self) -> Result<CellStats, HostError> {
        Ok(CellStats::default())
    }
}

impl Leaf {
    /// Its name in the cell.
    #[must_use]
    pub fn name(&self) -> &str {
        ""
    }

    /// The file that takes process ids; none when emulated.
    #[must_use]
    pub fn procs_file(&self) -> Option<PathBuf> {
        None
    }

    /// Moves a process in, with all its threads.
    pub fn attach(&self, pid: u32) -> Result<(), HostError> {
        let _ = pid;
        Ok(())
    }

    /// Processes inside now.
    pub fn pids(&self) -> Result<Vec<u32>, HostError> {
        Ok(vec![])
    }

    /// Processes of this leaf that the kernel (the watchdog, when emulated) killed for memory since the cell was made.
    pub fn kill_count(&self) -> Result<u64, HostError> {
        Ok(0)
    }

    /// Figures now.
    pub fn stats(&self) -> Result<LeafStats, HostError> {
        Ok(LeafStats::default())
    }
}
