//! Hogs: child processes that take memory, page cache or CPU, measured from outside.
//!
//! Knows no scenario: what share of which limit to take is the caller's to say.

mod cache;
mod child;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::cgroup::Leaf;
use super::cpu::CpuSet;
use super::error::HostError;
use super::files;
use super::process::{CommandSpec, End, ProcessId, ServiceProcess};

pub use cache::{CacheHog, CacheHogSpec};
pub use child::HogCommand;
use child::{HogState, Word};

/// Time in which a child must have begun, and in which one told to stop must be gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A memory hog to start.
#[derive(Debug, Clone)]
pub struct MemoryHogSpec {
    /// The runner's own binary, `std::env::current_exe()`.
    pub program: PathBuf,
    /// Bytes to reach.
    pub bytes: u64,
    /// Time to reach them, linearly.
    pub ramp: Duration,
    /// Then give them back and take them again in turns, each for this long; hold them if absent.
    pub pulse: Option<Duration>,
    /// Take huge pages where there are some: small ones are filled too slowly for a steep ramp.
    pub huge_pages: bool,
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
    /// Bytes per second of its ramp by its own clock, where it told of one; a memory hog that was killed has none.
    pub rate_bytes_per_s: Option<f64>,
    /// It was killed by somebody else than us.
    pub killed: bool,
}

/// What the reading thread learns.
#[derive(Debug, Default)]
struct Heard {
    reported: AtomicU64,
    /// Highest anonymous memory seen from outside, bytes.
    achieved: AtomicU64,
    holding: AtomicBool,
    /// Time that the ramp took, or has taken so far, microseconds.
    elapsed_us: AtomicU64,
}

/// Bytes of anonymous memory that the kernel books on the hog: its leaf's, and no more than the process's own, so that
/// a leaf shared with others does not count as achieved.
fn measure(leaf: &Leaf, pid: u32) -> u64 {
    let booked = leaf.stats().map_or(0, |stats| stats.anon);
    booked.min(files::status_bytes(pid, "RssAnon").unwrap_or(0))
}

/// A running memory hog; dropping it ends it.
#[derive(Debug)]
pub struct MemoryHog {
    spec: MemoryHogSpec,
    process: ServiceProcess,
    heard: Arc<Heard>,
}

impl MemoryHog {
    /// Starts it; returns as soon as the ramp has begun.
    ///
    /// The service, at +1000, is the kernel's choice before it. It may yet be killed *after* the service: a victim stops
    /// holding others back a moment before its pages are returned.
    pub fn start(spec: MemoryHogSpec) -> Result<Self, HostError> {
        let mut command = CommandSpec::new(&spec.program);
        let (bytes, ramp_ms) = (spec.bytes.to_string(), spec.ramp.as_millis().to_string());
        let args = ["hog", "memory", "--bytes", &bytes, "--ramp-ms", &ramp_ms];
        command.args = args.map(Into::into).to_vec();
        if spec.huge_pages {
            command.args.push("--huge-pages".into());
        }
        if let Some(pulse) = spec.pulse {
            let pulse_ms = pulse.as_millis().to_string();
            command.args.extend(["--pulse-ms".into(), pulse_ms.into()]);
        }
        command.cpus = spec.cpus.clone();
        command.leaf = Some(spec.leaf.clone());
        command.oom_score_adj = Some(0);
        let (process, stdout) = ServiceProcess::spawn_piped(&command)?;
        let heard = Arc::new(Heard::default());
        let pid = process.id().pid;
        let begun = listen(stdout, {
            let (heard, leaf) = (Arc::clone(&heard), spec.leaf.clone());
            move |word| heard.hear(word, &leaf, pid)
        })?;
        let hog = Self {
            spec,
            process,
            heard,
        };
        begun
            .recv_timeout(ANSWER_WITHIN)
            .map_err(|_| hog.silent())?;
        Ok(hog)
    }

    fn silent(&self) -> HostError {
        HostError::Subprocess {
            what: "memory hog",
            why: unheard(&self.process),
        }
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// Highest number of bytes reached so far, measured from outside.
    #[must_use]
    pub fn achieved_bytes(&self) -> u64 {
        let now = measure(&self.spec.leaf, self.process.id().pid);
        self.heard
            .achieved
            .fetch_max(now, Ordering::AcqRel)
            .max(now)
    }

    /// Highest share of the request reached so far, measured by the leaf's anonymous pages, not by its own word.
    #[must_use]
    pub fn achieved_ratio(&self) -> f64 {
        self.achieved_bytes() as f64 / self.spec.bytes.max(1) as f64
    }

    /// Bytes that it says it has touched.
    #[must_use]
    pub fn reported_bytes(&self) -> u64 {
        self.heard.reported.load(Ordering::Acquire)
    }

    /// Bytes per second of the ramp so far, or of all of it, by its own word; none before its first step.
    #[must_use]
    pub fn rate_bytes_per_s(&self) -> Option<f64> {
        let elapsed_us = self.heard.elapsed_us.load(Ordering::Acquire);
        (elapsed_us > 0).then(|| self.reported_bytes() as f64 / (elapsed_us as f64 / 1e6))
    }

    /// The ramp is over and the memory is held.
    #[must_use]
    pub fn holding(&self) -> bool {
        self.heard.holding.load(Ordering::Acquire)
    }

    /// It ended without being told to.
    #[must_use]
    pub fn killed(&self) -> bool {
        self.process.try_wait().is_some()
    }

    /// Tells it to release, waits, and checks that it is gone.
    pub fn stop(self) -> Result<HogReport, HostError> {
        let killed = self.killed();
        let (achieved, ratio) = (self.achieved_bytes(), self.achieved_ratio());
        let rate_bytes_per_s = self.rate_bytes_per_s();
        let end = self.process.stop(ANSWER_WITHIN)?;
        end.ok_or_else(|| HostError::NotUndone {
            what: "memory hog".to_owned(),
            why: "SIGKILL had no effect".to_owned(),
        })?;
        Ok(HogReport {
            process: self.id(),
            requested: self.spec.bytes,
            achieved,
            achieved_ratio: ratio,
            rate_bytes_per_s,
            killed,
        })
    }
}

/// Takes and gives back so much memory outside of every cell. In a virtual machine memory that nobody has used lately must first
/// be found by the host, which takes thirty times as long as filling it: a burst of it would be the host's pace, not ours.
///
/// False if it was given up before it had ended; its process is gone then, too. Takes ten seconds at most.
///
/// # Errors
/// The process could not be started, or ended otherwise.
pub async fn warm(
    program: &Path,
    bytes: u64,
    cpus: &CpuSet,
    given_up: impl Future<Output = ()>,
) -> Result<bool, HostError> {
    let mut command = CommandSpec::new(program);
    let text = bytes.to_string();
    let args = [
        "hog",
        "memory",
        "--huge-pages",
        "--ramp-ms",
        "1",
        "--hold-ms",
        "1",
    ];
    command.args = args.map(Into::into).to_vec();
    command.args.push("--bytes".into());
    command.args.push(text.into());
    command.cpus = Some(cpus.clone());
    // Outside of every limit: if the host itself runs short, this one goes.
    command.oom_score_adj = Some(1000);
    let (process, stdout) = tokio::task::block_in_place(|| ServiceProcess::spawn_piped(&command))?;
    let _begun = listen(stdout, |_| {})?;
    let ended = tokio::select! {
        ended = tokio::time::timeout(ANSWER_WITHIN, process.ended()) => ended.ok(),
        () = given_up => {
            // Its memory is given back before anything else happens.
            tokio::task::block_in_place(|| drop(process));
            return Ok(false);
        }
    };
    match ended {
        Some(End::Exited(0)) => Ok(true),
        other => Err(HostError::Subprocess {
            what: "warming memory",
            why: other.map_or_else(
                || format!("it had not ended after {} s", ANSWER_WITHIN.as_secs()),
                |end| end.to_string(),
            ),
        }),
    }
}

/// Why a process of ours said nothing.
fn unheard(process: &ServiceProcess) -> String {
    process.try_wait().map_or_else(
        || "it runs but says nothing".to_owned(),
        |end| format!("it {end} without a word"),
    )
}

impl Heard {
    fn hear(&self, word: Word, leaf: &Leaf, pid: u32) {
        match word.state {
            HogState::Released => return,
            HogState::Holding => self.holding.store(true, Ordering::Release),
            HogState::Ramping => {}
        }
        self.reported.store(word.bytes, Ordering::Release);
        self.elapsed_us.store(word.elapsed_us, Ordering::Release);
        self.achieved
            .fetch_max(measure(leaf, pid), Ordering::AcqRel);
    }
}

/// Hears the child on a thread of its own, which ends with the child. The receiver gets one word at the first line.
fn listen(
    stdout: ChildStdout,
    mut hear: impl FnMut(Word) + Send + 'static,
) -> Result<mpsc::Receiver<()>, HostError> {
    let (first, begun) = mpsc::sync_channel(1);
    let work = move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if let Ok(word) = serde_json::from_str(&line) {
                hear(word);
                // Full or gone: it has been told already.
                let _ = first.try_send(());
            }
        }
    };
    let started = std::thread::Builder::new()
        .name("hog-ear".to_owned())
        .spawn(work);
    started.map_err(|e| HostError::Subprocess {
        what: "hog",
        why: format!("no thread to hear it: {e}"),
    })?;
    Ok(begun)
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
pub struct CpuHog {
    spec: CpuHogSpec,
    process: ServiceProcess,
    begun: Instant,
    base: Scheduled,
    last: parking_lot::Mutex<Figures>,
}

/// Time of all threads of a process, by the scheduler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Scheduled {
    ran: Duration,
    waited: Duration,
}

/// What a CPU hog got, kept for when it is gone.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    got: Scheduled,
    wall: Duration,
}

impl Scheduled {
    /// Of the threads that live now.
    fn of(pid: u32) -> Option<Self> {
        let mut sum = Self::default();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let Ok(text) = std::fs::read_to_string(entry.ok()?.path().join("schedstat")) else {
                continue;
            };
            let one = Self::parse(&text)?;
            sum = Self {
                ran: sum.ran + one.ran,
                waited: sum.waited + one.waited,
            };
        }
        Some(sum)
    }

    /// `ran waited slices`, nanoseconds.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split_ascii_whitespace()
            .map(|n| n.parse().ok().map(Duration::from_nanos));
        Some(Self {
            ran: numbers.next()??,
            waited: numbers.next()??,
        })
    }

    fn since(self, base: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(base.ran),
            waited: self.waited.saturating_sub(base.waited),
        }
    }
}

impl CpuHog {
    /// Starts it; returns once it spins.
    pub fn start(spec: CpuHogSpec) -> Result<Self, HostError> {
        let mut command = CommandSpec::new(&spec.program);
        let (threads, cpus) = (spec.threads.to_string(), spec.cpus.to_string());
        command.args = ["hog", "cpu", "--threads", &threads, "--cpus", &cpus]
            .map(Into::into)
            .to_vec();
        command.cpus = Some(spec.cpus.clone());
        command.leaf = spec.leaf.clone();
        command.oom_score_adj = Some(0);
        let (process, stdout) = ServiceProcess::spawn_piped(&command)?;
        let begun = listen(stdout, |_| {})?;
        let silent = |_| HostError::Subprocess {
            what: "CPU hog",
            why: unheard(&process),
        };
        begun.recv_timeout(ANSWER_WITHIN).map_err(silent)?;
        let base = Scheduled::of(process.id().pid).unwrap_or_default();
        Ok(Self {
            spec,
            process,
            begun: Instant::now(),
            base,
            last: parking_lot::Mutex::default(),
        })
    }

    /// Which process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.process.id()
    }

    /// Reads the scheduler while the process lives; the last reading afterwards.
    fn figures(&self) -> Figures {
        let mut last = self.last.lock();
        let now = if self.killed() {
            None
        } else {
            Scheduled::of(self.process.id().pid)
        };
        if let Some(now) = now {
            let figures = Figures {
                got: now.since(self.base),
                wall: self.begun.elapsed(),
            };
            // A process about to end has lost its threads' figures already.
            if figures.got.ran >= last.got.ran {
                *last = figures;
            }
        }
        *last
    }

    /// CPU time that it could have had at most: wall time on the smaller of threads and CPUs.
    fn possible(&self, wall: Duration) -> Duration {
        let lanes = self.spec.cpus.cpus().len().min(self.spec.threads as usize);
        wall * u32::try_from(lanes).unwrap_or(u32::MAX)
    }

    /// CPU time it got per CPU that it could have had (the smaller of threads and CPUs), 0..=1. Sharing with the service
    /// lowers it: it says how hard the hog pressed, not whether it was there.
    #[must_use]
    pub fn share(&self) -> f64 {
        let figures = self.figures();
        ratio(figures.got.ran, self.possible(figures.wall))
    }

    /// Share of the time since its start in which its threads ran or wanted to run, 0..=1: whether it acted.
    #[must_use]
    pub fn achieved_ratio(&self) -> f64 {
        let figures = self.figures();
        ratio(
            figures.got.ran + figures.got.waited,
            figures.wall * self.spec.threads,
        )
    }

    /// It ended without being told to.
    #[must_use]
    pub fn killed(&self) -> bool {
        self.process.try_wait().is_some()
    }

    /// Ends it and checks that it is gone.
    pub fn stop(self) -> Result<HogReport, HostError> {
        let killed = self.killed();
        let (achieved_ratio, figures) = (self.achieved_ratio(), self.figures());
        let end = self.process.stop(ANSWER_WITHIN)?;
        end.ok_or_else(|| HostError::NotUndone {
            what: "CPU hog".to_owned(),
            why: "SIGKILL had no effect".to_owned(),
        })?;
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        Ok(HogReport {
            process: self.id(),
            requested: nanos(self.possible(figures.wall)),
            // The scheduler books in slices: the first one may have begun before our clock did.
            achieved: nanos(figures.got.ran.min(self.possible(figures.wall))),
            achieved_ratio,
            rate_bytes_per_s: None,
            killed,
        })
    }
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        0.0
    } else {
        (part.as_secs_f64() / whole.as_secs_f64()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheduler_is_read() {
        let one = Scheduled::parse("1500 500 3\n").expect("parsed");
        assert_eq!(
            one,
            Scheduled {
                ran: Duration::from_nanos(1500),
                waited: Duration::from_nanos(500)
            }
        );
        assert!(Scheduled::of(std::process::id()).is_some());
        assert_eq!(Scheduled::parse(""), None);
    }
}
