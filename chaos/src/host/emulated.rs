//! The stand-in for hosts without a memory cgroup: a watchdog that samples resident memory and kills.
//!
//! Everything here is weaker than the kernel: it counts what processes show of themselves, late, and no kernel or socket
//! memory. Whoever uses it has to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::cgroup::{CellStats, LeafStats};
use super::error::HostError;
use super::process::ProcessId;
use super::{files, sys};

/// Time between two looks at resident memory.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Time that a killed process has to free its memory before the next one is chosen.
const DIE_WITHIN: Duration = Duration::from_secs(2);

/// Processes watched per leaf at most.
const PROCESSES_MAX: usize = 256;

/// A made-up leaf.
#[derive(Debug, Default)]
pub struct EmulatedLeaf {
    processes: Mutex<Vec<ProcessId>>,
    kills: AtomicU64,
}

impl EmulatedLeaf {
    /// Watches a process from now on.
    pub fn attach(&self, pid: u32) -> Result<(), HostError> {
        let missing = || HostError::Invalid {
            what: format!("process {pid}"),
            why: "it does not exist".to_owned(),
        };
        let process = files::process_id(pid).ok_or_else(missing)?;
        let mut processes = self.processes.lock();
        processes.retain(|&p| files::lives(p));
        if processes.len() >= PROCESSES_MAX {
            let why = format!("{PROCESSES_MAX} processes are watched already");
            return Err(HostError::Invalid {
                what: format!("process {pid}"),
                why,
            });
        }
        processes.push(process);
        Ok(())
    }

    pub fn pids(&self) -> Vec<u32> {
        self.living().into_iter().map(|p| p.pid).collect()
    }

    fn living(&self) -> Vec<ProcessId> {
        self.processes
            .lock()
            .iter()
            .copied()
            .filter(|&p| files::lives(p))
            .collect()
    }

    pub fn kill_count(&self) -> u64 {
        self.kills.load(Ordering::Acquire)
    }

    pub fn stats(&self) -> LeafStats {
        let mut stats = LeafStats {
            oom_kills: self.kill_count(),
            ..LeafStats::default()
        };
        for process in self.living() {
            let get = |key| files::status_bytes(process.pid, key).unwrap_or(0);
            stats.anon += get("RssAnon");
            stats.shmem += get("RssShmem");
            stats.file += get("RssFile") + get("RssShmem");
            stats.kernel += get("VmPTE");
        }
        stats.usage = stats.anon + stats.file + stats.kernel;
        stats
    }

    /// Kills what is left; pids.
    pub fn kill_all(&self) -> Vec<u32> {
        self.living()
            .into_iter()
            .filter(|p| kill_exactly(*p))
            .map(|p| p.pid)
            .collect()
    }
}

/// SIGKILL for this very process.
fn kill_exactly(process: ProcessId) -> bool {
    let Ok(fd) = sys::PidFd::open(process.pid) else {
        return false;
    };
    files::lives(process) && fd.signal(libc::SIGKILL).is_ok()
}

#[derive(Debug)]
struct Shared {
    limit: AtomicU64,
    stop: AtomicBool,
    leaves: Mutex<Vec<Arc<EmulatedLeaf>>>,
}

/// A made-up parent with its watchdog.
#[derive(Debug)]
pub struct EmulatedCell {
    shared: Arc<Shared>,
    watchdog: Option<JoinHandle<()>>,
}

/// Reads a made-up parent.
#[derive(Debug, Clone)]
pub struct EmulatedProbe(Arc<Shared>);

impl EmulatedCell {
    pub fn new(limit: u64) -> Result<Self, HostError> {
        let shared = Arc::new(Shared {
            limit: limit.into(),
            stop: false.into(),
            leaves: Mutex::default(),
        });
        let watched = Arc::clone(&shared);
        let watchdog = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&watched))
            .map_err(|cause| HostError::Spawn {
                program: "watchdog thread".into(),
                cause,
            })?;
        Ok(Self {
            shared,
            watchdog: Some(watchdog),
        })
    }

    pub fn leaf(&self) -> Arc<EmulatedLeaf> {
        let leaf = Arc::new(EmulatedLeaf::default());
        self.shared.leaves.lock().push(Arc::clone(&leaf));
        leaf
    }

    pub fn probe(&self) -> EmulatedProbe {
        EmulatedProbe(Arc::clone(&self.shared))
    }

    /// New limit; the old one.
    pub fn set_limit(&self, bytes: u64) -> u64 {
        self.shared.limit.swap(bytes, Ordering::AcqRel)
    }

    /// Stops the watchdog and kills what is left; pids.
    pub fn end(&mut self) -> Vec<u32> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(watchdog) = self.watchdog.take() {
            // It cannot panic; if it did, its being gone is what matters here.
            let _ = watchdog.join();
        }
        self.shared
            .leaves
            .lock()
            .iter()
            .flat_map(|leaf| leaf.kill_all())
            .collect()
    }
}

impl EmulatedProbe {
    pub fn stats(&self) -> CellStats {
        CellStats {
            limit: self.0.limit.load(Ordering::Acquire),
            usage: usage(&self.0),
        }
    }
}

fn usage(shared: &Shared) -> u64 {
    let leaves = shared.leaves.lock().clone();
    leaves
        .iter()
        .map(|leaf| leaf.stats())
        .map(|s| s.anon + s.shmem + s.kernel)
        .sum()
}

fn watch(shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        if usage(shared) > shared.limit.load(Ordering::Acquire) {
            kill_victim(shared);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread of its own that polls what the kernel tells nobody"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Kills the process that the kernel would rank first.
fn kill_victim(shared: &Shared) {
    let leaves = shared.leaves.lock().clone();
    let candidates = leaves
        .iter()
        .flat_map(|leaf| leaf.living().into_iter().map(move |p| (leaf, p)));
    let Some((leaf, victim)) = candidates.max_by_key(|(_, p)| oom_score(p.pid)) else {
        return;
    };
    // Counted before the signal, as the kernel does: who sees the end sees the count.
    leaf.kills.fetch_add(1, Ordering::AcqRel);
    if !kill_exactly(victim) {
        leaf.kills.fetch_sub(1, Ordering::AcqRel);
        return;
    }
    // A dying process still shows its memory: looking again before it is gone would kill the next one for it.
    if let Ok(fd) = sys::PidFd::open(victim.pid) {
        let _ = fd.ended(Some(DIE_WITHIN));
    }
}

fn oom_score(pid: u32) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/oom_score")).unwrap_or_default();
    text.trim().parse().unwrap_or(i64::MIN)
}
