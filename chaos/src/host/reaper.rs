//! The reaper: a process apart that outlives a killed runner and undoes what it left.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::HostError;
use super::process::{CommandSpec, ProcessId, ServiceProcess};
use super::undo::{Leftover, UndoLog};
use super::{files, sys};

/// Time for undoing after the runner's death; what is left then stays in the log for the next start to find.
const UNDO_WITHIN: Duration = Duration::from_secs(10);

/// Time between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(200);

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
    /// Waits for the runner's death, undoes what is open, leaves. A runner that ended well has deleted its log.
    pub fn run(self) -> Result<(), HostError> {
        // A terminal's Ctrl-C is for the runner; and a tidy-up that sends SIGTERM to all must not get us first.
        sys::ignore_stop_signals();
        await_death(ProcessId {
            pid: self.parent,
            start_ticks: self.parent_start,
        })?;
        let begun = Instant::now();
        loop {
            if !self.journal.exists() {
                return Ok(());
            }
            let report = Leftover::read(&self.journal)?.clean();
            if report.clean() {
                return Ok(());
            }
            if begun.elapsed() > UNDO_WITHIN {
                return Err(HostError::NotUndone {
                    what: self.journal.display().to_string(),
                    why: report.failed.join("; "),
                });
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the interval of a bounded retry; this process does nothing else"
            )]
            std::thread::sleep(RETRY_EVERY);
        }
    }
}

fn await_death(process: ProcessId) -> Result<(), HostError> {
    let path = PathBuf::from(format!("/proc/{}", process.pid));
    let fd = match sys::PidFd::open(process.pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        other => other.map_err(HostError::io("waiting for", &path))?,
    };
    // The descriptor may be of a later process with the same pid.
    while files::lives(process) {
        if fd
            .ended(None)
            .map_err(HostError::io("waiting for", &path))?
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Parent side: the running reaper. Dropping it dismisses it, so drop it after the undo log.
#[derive(Debug)]
pub struct Reaper {
    process: ServiceProcess,
}

impl Reaper {
    /// Starts `program reaper …` (the runner's own binary) in a session of its own.
    pub fn start(program: &Path, log: &UndoLog) -> Result<Self, HostError> {
        let missing = || HostError::Subprocess {
            what: "reaper",
            why: "own start time cannot be read".to_owned(),
        };
        let me = files::process_id(std::process::id()).ok_or_else(missing)?;
        let mut command = CommandSpec::new(program);
        let (parent, start) = (me.pid.to_string(), me.start_ticks.to_string());
        command.args = vec!["reaper".into(), "--journal".into(), log.path().into()];
        command
            .args
            .extend(["--parent", &parent, "--parent-start", &start].map(Into::into));
        // Not in the way of whoever removes the runner's working directory.
        command.cwd = Some(PathBuf::from("/"));
        command.program = program
            .canonicalize()
            .map_err(HostError::io("resolving", program))?;
        let process = ServiceProcess::spawn_surviving(&command)?;
        Ok(Self { process })
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// Whether it still stands by.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.process.try_wait().is_none()
    }

    /// Ends it, once everything is undone, and waits until it is gone.
    pub fn dismiss(self) -> Result<(), HostError> {
        self.process.kill()?;
        match self.process.wait(UNDO_WITHIN) {
            Some(_) => Ok(()),
            None => Err(HostError::NotUndone {
                what: "reaper".to_owned(),
                why: "SIGKILL had no effect".to_owned(),
            }),
        }
    }
}
