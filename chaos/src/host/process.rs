//! A child process in a leaf: started there, watched to its end, and its end explained.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::cgroup::Leaf;
use super::cpu::CpuSet;
use super::error::HostError;
use super::{files, sys};

/// Time that a killed child has to vanish when it is dropped; only one stuck in the kernel needs more.
const DIE_WITHIN: Duration = Duration::from_secs(10);

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: u32,
    /// Start time, clock ticks after boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
}

/// Whether the process, and still this one, is stopped by a signal.
#[must_use]
pub fn is_stopped(process: ProcessId) -> bool {
    files::lives(process) && files::state(process.pid) == Some('T')
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
        std::iter::once(program)
            .chain(self.args.iter().map(|a| a.to_string_lossy().into_owned()))
            .collect()
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

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Signalled(signal) => write!(f, "ended by signal {signal}"),
        }
    }
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
pub struct ServiceProcess {
    id: ProcessId,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// How it ended. While this is none the child is not reaped, so its pid is its own: signals are sent under this lock.
    ended: Mutex<Option<(End, Ending)>>,
    changed: Condvar,
    news: watch::Sender<Option<End>>,
    /// Bit per signal that the runner sent.
    sent: AtomicU64,
}

/// How a child is bound to its starter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bond {
    /// Killed when the runner dies.
    DiesWithUs,
    /// Outlives the runner, in a session of its own.
    Survives,
}

impl ServiceProcess {
    /// Starts it: inside its leaf, on its CPUs and with its score before the program's first instruction.
    pub fn spawn(spec: &CommandSpec) -> Result<Self, HostError> {
        let stdout = log_file(spec.stdout.as_deref())?;
        Self::start(spec, stdout, Bond::DiesWithUs).map(|(process, _)| process)
    }

    /// Starts it with its standard output on a pipe.
    pub(super) fn spawn_piped(spec: &CommandSpec) -> Result<(Self, ChildStdout), HostError> {
        let (process, stdout) = Self::start(spec, Stdio::piped(), Bond::DiesWithUs)?;
        let missing = || HostError::Spawn {
            program: spec.program.clone(),
            cause: std::io::ErrorKind::BrokenPipe.into(),
        };
        Ok((process, stdout.ok_or_else(missing)?))
    }

    /// Starts it so that it outlives the runner; the caller must not drop it before then.
    pub(super) fn spawn_surviving(spec: &CommandSpec) -> Result<Self, HostError> {
        let stdout = log_file(spec.stdout.as_deref())?;
        Self::start(spec, stdout, Bond::Survives).map(|(process, _)| process)
    }

    fn start(
        spec: &CommandSpec,
        stdout: Stdio,
        bond: Bond,
    ) -> Result<(Self, Option<ChildStdout>), HostError> {
        let failed = |cause| HostError::Spawn {
            program: spec.program.clone(),
            cause,
        };
        let command = command(spec, stdout, bond)?;
        let kills_before = spec.leaf.as_ref().map(Leaf::kill_count).transpose()?;
        let mut child = on_lasting_thread(command).map_err(failed)?;
        let (stdout, pid) = (child.stdout.take(), child.id());
        // Nobody but us reaps it, so even one that has ended already is still there to be read.
        let Some(id) = files::process_id(pid) else {
            end_child(&mut child);
            return Err(failed(std::io::ErrorKind::NotFound.into()));
        };
        if let Some(leaf) = spec.leaf.as_ref().filter(|leaf| leaf.is_emulated())
            && let Err(error) = leaf.attach(pid)
        {
            end_child(&mut child);
            return Err(error);
        }
        let shared = Arc::new(Shared {
            ended: Mutex::new(None),
            changed: Condvar::new(),
            news: watch::Sender::new(None),
            sent: AtomicU64::new(0),
        });
        let oracle = Oracle {
            id,
            leaf: spec.leaf.clone(),
            kills_before,
        };
        let waiter = Arc::clone(&shared);
        let begun = std::thread::Builder::new()
            .name(format!("wait-{pid}"))
            .spawn(move || wait_thread(child, &oracle, &waiter));
        match begun {
            Ok(_) => Ok((Self { id, shared }, stdout)),
            Err(cause) => {
                // The closure took the child along: nobody waits for it, but it must not go on.
                let _ = sys::kill(pid, libc::SIGKILL);
                Err(failed(cause))
            }
        }
    }

    /// Pid and start time.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// How it ended; none while it runs.
    #[must_use]
    pub fn try_wait(&self) -> Option<End> {
        self.shared.ended.lock().map(|(end, _)| end)
    }

    /// Waits for its end for at most this long; none if it still runs then. Blocks.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> Option<End> {
        let until = Instant::now() + at_most;
        let mut ended = self.shared.ended.lock();
        while ended.is_none() {
            if self
                .shared
                .changed
                .wait_until(&mut ended, until)
                .timed_out()
            {
                break;
            }
        }
        ended.map(|(end, _)| end)
    }

    /// Waits for its end without blocking a thread. Cancel-safe.
    pub async fn ended(&self) -> End {
        let mut news = self.shared.news.subscribe();
        loop {
            if let Some(end) = *news.borrow_and_update() {
                return end;
            }
            // Cannot fail: the sender lives in `self`.
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// How it ended and by whom; none while it runs.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.shared.ended.lock().map(|(_, ending)| ending)
    }

    /// Sends a signal; an ended process is not an error (false). The runner's own kills are remembered for [`Self::ending`].
    pub fn signal(&self, signal: i32) -> Result<bool, HostError> {
        let ended = self.shared.ended.lock();
        if ended.is_some() {
            return Ok(false);
        }
        self.shared.sent.fetch_or(bit(signal), Ordering::AcqRel);
        let path = PathBuf::from(format!("/proc/{}", self.id.pid));
        sys::kill(self.id.pid, signal).map_err(HostError::io("signalling", &path))?;
        Ok(true)
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<bool, HostError> {
        self.signal(libc::SIGKILL)
    }

    /// SIGTERM, and SIGKILL if it is still there after this long. None if even that did not end it. Blocks.
    pub fn stop(&self, patience: Duration) -> Result<Option<End>, HostError> {
        self.signal(libc::SIGTERM)?;
        if let Some(end) = self.wait(patience) {
            return Ok(Some(end));
        }
        self.kill()?;
        Ok(self.wait(DIE_WITHIN))
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::error!(%error, pid = self.id.pid, "child could not be killed");
        }
        if self.wait(DIE_WITHIN).is_none() {
            tracing::error!(pid = self.id.pid, "child is still there after SIGKILL");
        }
    }
}

fn bit(signal: i32) -> u64 {
    u32::try_from(signal)
        .ok()
        .and_then(|s| 1_u64.checked_shl(s))
        .unwrap_or(0)
}

/// Ends a child that nobody will get to see.
fn end_child(child: &mut Child) {
    // Only fails if it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

fn log_file(path: Option<&Path>) -> Result<Stdio, HostError> {
    let Some(path) = path else {
        return Ok(Stdio::null());
    };
    let file: Result<File, _> = OpenOptions::new().create(true).append(true).open(path);
    file.map(Stdio::from)
        .map_err(HostError::io("opening", path))
}

fn command(spec: &CommandSpec, stdout: Stdio, bond: Bond) -> Result<Command, HostError> {
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(k, v)| (k, v)));
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(log_file(spec.stderr.as_deref())?);
    if bond == Bond::DiesWithUs {
        // A terminal's Ctrl-C goes to the whole foreground group: the runner alone shall get it and undo in order.
        command.process_group(0);
    }
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let what = sys::BeforeExec {
        enter: spec
            .leaf
            .as_ref()
            .map(Leaf::entrance)
            .transpose()?
            .flatten(),
        cpus: spec.cpus.as_ref().map(|c| c.cpus().to_vec()),
        oom_score_adj: spec.oom_score_adj,
        die_with_parent: bond == Bond::DiesWithUs,
        own_session: bond == Bond::Survives,
    };
    let failed = |cause| HostError::Spawn {
        program: spec.program.clone(),
        cause,
    };
    sys::before_exec(&mut command, what).map_err(failed)?;
    Ok(command)
}

type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// Forks on a thread that lasts as long as the process. `PR_SET_PDEATHSIG` fires when the forking *thread* ends: a child
/// forked on a worker of a pool would be killed at the pool's next tidy-up.
fn on_lasting_thread(command: Command) -> std::io::Result<Child> {
    static FORKER: Mutex<Option<mpsc::SyncSender<Order>>> = Mutex::new(None);
    let mut forker = FORKER.lock();
    let orders = match forker.take() {
        Some(orders) => orders,
        None => {
            let (send, receive) = mpsc::sync_channel::<Order>(1);
            let work = move || {
                for (mut command, answer) in receive {
                    // The asker waits for the answer, so it is there to take it.
                    let _ = answer.send(command.spawn());
                }
            };
            std::thread::Builder::new()
                .name("forker".to_owned())
                .spawn(work)?;
            send
        }
    };
    let gone = || std::io::Error::other("the forking thread is gone");
    let (answer, child) = mpsc::sync_channel(1);
    orders.send((command, answer)).map_err(|_| gone())?;
    let child = child.recv().map_err(|_| gone())?;
    *forker = Some(orders);
    child
}

/// What is needed to tell who ended a process.
#[derive(Debug)]
struct Oracle {
    id: ProcessId,
    leaf: Option<Leaf>,
    kills_before: Option<u64>,
}

impl Oracle {
    /// The kernel counts before it signals, so a risen counter is visible by the time the end is.
    fn judge(&self, end: End, same_process: bool, sent: u64) -> Ending {
        let signal = match end {
            End::Exited(code) => return Ending::Exited(code),
            End::Signalled(signal) => signal,
        };
        if sent & bit(signal) != 0 {
            return Ending::KilledByRunner(signal);
        }
        let kills_now = self.leaf.as_ref().and_then(|leaf| leaf.kill_count().ok());
        let rose =
            matches!((self.kills_before, kills_now), (Some(before), Some(now)) if now > before);
        if signal != libc::SIGKILL || !rose || !same_process {
            return Ending::Signalled(signal);
        }
        if self.leaf.as_ref().is_some_and(Leaf::is_emulated) {
            Ending::KilledByWatchdog
        } else {
            Ending::KilledByKernel
        }
    }
}

/// Waits for the end, reads the evidence while the pid is still taken, and only then reaps.
fn wait_thread(mut child: Child, oracle: &Oracle, shared: &Shared) {
    let waited = sys::wait_without_reaping(oracle.id.pid);
    let same_process =
        waited.is_ok() && files::start_ticks(oracle.id.pid) == Some(oracle.id.start_ticks);
    let mut ended = shared.ended.lock();
    let end = match child.wait() {
        Ok(status) => end_of(status),
        Err(error) => {
            tracing::error!(%error, pid = oracle.id.pid, "waiting for a child failed");
            End::Exited(-1)
        }
    };
    let ending = oracle.judge(end, same_process, shared.sent.load(Ordering::Acquire));
    *ended = Some((end, ending));
    drop(ended);
    shared.changed.notify_all();
    shared.news.send_replace(Some(end));
}

fn end_of(status: ExitStatus) -> End {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> CommandSpec {
        let mut spec = CommandSpec::new("/bin/sh");
        spec.args = vec!["-c".into(), script.into()];
        spec
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_exit_code_is_told() {
        let child = ServiceProcess::spawn(&shell("exit 137")).expect("started");
        assert_eq!(child.wait(LONG), Some(End::Exited(137)));
        assert_eq!(child.ending(), Some(Ending::Exited(137)), "137 is no kill");
        assert!(!child.kill().expect("not an error"), "it has ended");
    }

    #[test]
    fn the_runners_own_kill_is_its_own() {
        let child = ServiceProcess::spawn(&shell("exec sleep 1000")).expect("started");
        assert_eq!(child.try_wait(), None);
        assert!(child.kill().expect("sent"));
        assert_eq!(child.wait(LONG), Some(End::Signalled(libc::SIGKILL)));
        assert_eq!(
            child.ending().map(|e| e.words()).as_deref(),
            Some("signal 9 by the runner")
        );
    }

    #[test]
    fn a_kill_by_somebody_else_without_a_counter_is_of_unknown_origin() {
        let child = ServiceProcess::spawn(&shell("kill -9 $$")).expect("started");
        assert_eq!(child.wait(LONG), Some(End::Signalled(libc::SIGKILL)));
        assert_eq!(child.ending(), Some(Ending::Signalled(libc::SIGKILL)));
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let child = ServiceProcess::spawn(&shell("exec sleep 1000")).expect("started");
        let id = child.id();
        assert!(files::lives(id));
        drop(child);
        assert!(!files::lives(id));
    }

    #[test]
    fn a_child_started_on_a_passing_thread_stays() {
        let start =
            || std::thread::spawn(|| ServiceProcess::spawn(&shell("exec sleep 1000"))).join();
        let child = start().expect("joined").expect("started");
        // A second child has come and gone by the same thread: the first would be dead if its forker had ended.
        let second = ServiceProcess::spawn(&shell("exit 0")).expect("started");
        assert_eq!(second.wait(LONG), Some(End::Exited(0)));
        assert_eq!(child.try_wait(), None);
    }

    #[tokio::test]
    async fn the_end_can_be_awaited() {
        let child = ServiceProcess::spawn(&shell("exit 3")).expect("started");
        assert_eq!(child.ended().await, End::Exited(3));
        assert_eq!(child.ended().await, End::Exited(3), "and again");
    }

    #[test]
    fn score_and_output_are_set() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = dir.path().join("out.log");
        let mut spec = shell("cat /proc/self/oom_score_adj; echo $WORD");
        spec.oom_score_adj = Some(1000);
        spec.stdout = Some(log.clone());
        spec.env = vec![("WORD".to_owned(), "hello".to_owned())];
        let child = ServiceProcess::spawn(&spec).expect("started");
        assert_eq!(child.wait(LONG), Some(End::Exited(0)));
        assert_eq!(std::fs::read_to_string(log).expect("log"), "1000\nhello\n");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error =
            ServiceProcess::spawn(&CommandSpec::new("/no/such/program")).expect_err("missing");
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
