//! A child process in a leaf: started there, watched to its end, and its end explained.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::Leaf;
use super::cpu::CpuSet;
use super::error::HostError;

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time, clock ticks after boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
}

/// What to start and where.
#[derive(Debug, Clone)]
pub struct CommandSpec {
    /// Program.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Variables set on top of the inherited ones.
    pub env: Vec<(String, String)>,
    /// Working directory; the runner's if none.
    pub cwd: Option<PathBuf>,
    /// File that standard output is appended to; /dev/null if none.
    pub stdout: Option<PathBuf>,
    /// File that standard error is appended to; /dev/null if none.
    pub stderr: Option<PathBuf>,
    /// CPUs it is confined to.
    pub cpus: Option<CpuSet>,
    /// Leaf it enters before it executes the program.
    pub leaf: Option<Leaf>,
    /// The kernel's inclination to kill it, -1000..=1000; inherited if none.
    pub oom_score_adj: Option<i32>,
}

impl CommandSpec {
    /// The program alone.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: vec![],
            env: vec![],
            cwd: None,
            stdout: None,
            stderr: None,
            cpus: None,
            leaf: None,
            oom_score_adj: None,
        }
    }

    /// Program and arguments as one list, for the record.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let program = self.program.to_string_lossy().into_owned();
        std::iter::once(program).chain(self.args.iter().map(|a| a.to_string_lossy().into_owned())).collect()
    }
}

/// How a process ended, as `waitid` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// How a process ended and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself with this code.
    Exited(i32),
    /// By the kernel's OOM killer: SIGKILL that the runner did not send, and the leaf's kill counter rose.
    KilledByKernel,
    /// By the watchdog that stands in for the kernel.
    KilledByWatchdog,
    /// By a signal that the runner sent.
    KilledByRunner(i32),
    /// By a signal of unknown origin.
    Signalled(i32),
}

impl Ending {
    /// As the run record has it: `exited 0`, `signal 9 by the kernel's OOM killer`, `signal 9 by the runner`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Exited(code) => format!("exited {code}"),
            Self::KilledByKernel => "signal 9 by the kernel's OOM killer".to_owned(),
            Self::KilledByWatchdog => "signal 9 by the emulating watchdog".to_owned(),
            Self::KilledByRunner(signal) => format!("signal {signal} by the runner"),
            Self::Signalled(signal) => format!("signal {signal} of unknown origin"),
        }
    }
}

/// A running child. It dies with the runner; dropping it kills it and waits.
#[derive(Debug)]
pub struct ServiceProcess {}

impl ServiceProcess {
    /// Starts it: inside its leaf, on its CPUs and with its score before the program's first instruction.
    pub fn spawn(spec: &CommandSpec) -> Result<Self, HostError> {
        Err(HostError::Spawn { program: spec.program.clone(), source: std::io::ErrorKind::Unsupported.into() })
    }

    /// Pid and start time.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        ProcessId { pid: 0, start_ticks: 0 }
    }

    /// How it ended; none while it runs.
    #[must_use]
    pub fn try_wait(&self) -> Option<End> {
        None
    }

    /// Waits for its end for at most this long; none if it still runs then. Blocks.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> Option<End> {
        let _ = at_most;
        None
    }

    /// Waits for its end without blocking a thread. Cancel-safe.
    pub async fn ended(&self) -> End {
        std::future::pending().await
    }

    /// How it ended and by whom; none while it runs.
    pub fn ending(&self) -> Result<Option<Ending>, HostError> {
        Ok(None)
    }

    /// Sends a signal; an ended process is not an error (false). The runner's own kills are remembered for [`Self::ending`].
    pub fn signal(&self, signal: i32) -> Result<bool, HostError> {
        let _ = signal;
        Ok(false)
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<bool, HostError> {
        self.signal(libc::SIGKILL)
    }
}
