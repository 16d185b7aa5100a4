//! Hogs: child processes that take memory or CPU, and the parent's side that measures what they really got.

use std::path::PathBuf;
use std::time::Duration;

use super::cgroup::Leaf;
use super::cpu::CpuSet;
use super::error::HostError;
use super::process::ProcessId;

/// Child side: what to hog.
#[derive(Debug, clap::Subcommand)]
pub enum HogCommand {
    /// Memory along a linear ramp.
    Memory {
        /// Bytes to reach.
        #[arg(long)]
        bytes: u64,
        /// Time to reach them.
        #[arg(long)]
        ramp_ms: u64,
        /// Time to hold them; 0 until SIGTERM.
        #[arg(long, default_value_t = 0)]
        hold_ms: u64,
    },
    /// CPU time.
    Cpu {
        /// Threads that spin.
        #[arg(long)]
        threads: u32,
        /// CPUs they are confined to, e.g. `0,2-3`; any if absent.
        #[arg(long)]
        cpus: Option<String>,
        /// Time to spin; 0 until SIGTERM.
        #[arg(long, default_value_t = 0)]
        hold_ms: u64,
    },
}

impl HogCommand {
    /// Hogs until the time is up or SIGTERM comes.
    pub fn run(self) -> Result<(), HostError> {
        Ok(())
    }
}

/// A memory hog to start.
#[derive(Debug, Clone)]
pub struct MemoryHogSpec {
    /// The runner's own binary, `std::env::current_exe()`.
    pub program: PathBuf,
    /// Bytes to reach.
    pub bytes: u64,
    /// Time to reach them, linearly.
    pub ramp: Duration,
    /// Leaf it runs in and is measured by.
    pub leaf: Leaf,
    /// CPUs it is confined to.
    pub cpus: Option<CpuSet>,
}

/// What a hog did.
#[derive(Debug, Clone, PartialEq)]
pub struct HogReport {
    /// Which process.
    pub process: ProcessId,
    /// Bytes (memory) or CPU nanoseconds (CPU) asked for.
    pub requested: u64,
    /// What was reached at most, measured from outside.
    pub achieved: u64,
    /// `achieved / requested`.
    pub achieved_ratio: f64,
    /// It was killed by somebody else than us.
    pub killed: bool,
    /// In words.
    pub words: String,
}

/// A running memory hog; dropping it ends it.
#[derive(Debug)]
pub struct MemoryHog {}

impl MemoryHog {
    /// Starts it; returns as soon as the ramp has begun.
    pub fn start(spec: MemoryHogSpec) -> Result<Self, HostError> {
        let _ = spec;
        Ok(Self {})
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: 0, start_ticks: 0 }
    }

    /// Highest share of the request reached so far, measured by the leaf's anonymous pages, not by its own word.
    #[must_use]
    pub fn achieved_ratio(&self) -> f64 {
        0.0
    }

    /// Bytes that it says it has touched.
    #[must_use]
    pub fn reported_bytes(&self) -> u64 {
        0
    }

    /// The ramp is over and the memory is held.
    #[must_use]
    pub fn holding(&self) -> bool {
        false
    }

    /// It ended without being told to.
    #[must_use]
    pub fn killed(&self) -> bool {
        false
    }

    /// Tells it to release, waits, and checks that it is gone.
    pub fn stop(self) -> Result<HogReport, HostError> {
        Err(HostError::Helper { what: "memory hog", why: String::new() })
    }
}

/// A CPU hog to start.
#[derive(Debug, Clone)]
pub struct CpuHogSpec {
    /// The runner's own binary, `std::env::current_exe()`.
    pub program: PathBuf,
    /// Threads that spin.
    pub threads: u32,
    /// CPUs they are confined to.
    pub cpus: CpuSet,
    /// Leaf it runs in; outside every cell if none.
    pub leaf: Option<Leaf>,
}

/// A running CPU hog; dropping it ends it.
#[derive(Debug)]
pub struct CpuHog {}

impl CpuHog {
    /// Starts it.
    pub fn start(spec: CpuHogSpec) -> Result<Self, HostError> {
        let _ = spec;
        Ok(Self {})
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: 0, start_ticks: 0 }
    }

    /// CPU time it got per CPU that it could have had (the smaller of threads and CPUs), 0..=1. Sharing with the service
    /// lowers it: it says how hard the hog pressed, not whether it was there.
    #[must_use]
    pub fn share(&self) -> f64 {
        0.0
    }

    /// Share of the time since its start in which its threads ran or wanted to run, 0..=1: whether it acted.
    #[must_use]
    pub fn achieved_ratio(&self) -> f64 {
        0.0
    }

    /// It ended without being told to.
    #[must_use]
    pub fn killed(&self) -> bool {
        false
    }

    /// Ends it and checks that it is gone.
    pub fn stop(self) -> Result<HogReport, HostError> {
        Err(HostError::Helper { what: "CPU hog", why: String::new() })
    }
}
