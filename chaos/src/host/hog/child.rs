//! The hog itself, the child's side: takes what it is told to and says how far it is, one JSON object a line.
//!
//! Knows no cgroup: its parent has put it into one.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::cpu::CpuSet;
use super::super::error::HostError;
use super::super::sys;

/// Length of the ramp's steps: small against any ramp a scenario would name.
const STEP_EVERY: Duration = Duration::from_millis(2);

/// Time between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(50);

/// Reports of a ramp at least, however short it is.
const REPORTS_MIN: u32 = 20;

/// Bytes of a file that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Threads of a CPU hog at most.
const THREADS_MAX: u32 = 1024;

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
        /// Take huge pages where there are some: for steep ramps.
        #[arg(long)]
        huge_pages: bool,
        /// Time to hold them before they are given back for as long, again and again; 0 holds them.
        #[arg(long, default_value_t = 0)]
        pulse_ms: u64,
    },
    /// Page cache: reads a file over and over, then waits for SIGTERM.
    Cache {
        /// File to read.
        #[arg(long)]
        file: PathBuf,
        /// How often.
        #[arg(long, default_value_t = 3)]
        passes: u32,
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

/// What the child says of itself, one JSON object a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    pub state: HogState,
    /// Bytes made resident so far.
    pub bytes: u64,
    /// Bytes that the ramp wants by now.
    pub planned: u64,
    /// Since the ramp began, microseconds.
    #[serde(default)]
    pub elapsed_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HogState {
    Ramping,
    Holding,
    Released,
}

/// Says it; a parent that no longer listens changes nothing.
fn say(state: HogState, bytes: u64, planned: u64, elapsed: Duration) {
    let Ok(mut line) = serde_json::to_vec(&Word {
        state,
        bytes,
        planned,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
    }) else {
        return;
    };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

impl HogCommand {
    /// Hogs until the time is up or SIGTERM comes.
    pub fn run(self) -> Result<(), HostError> {
        let stop = sys::StopSignal::block().map_err(HostError::io(
            "blocking signals of",
            Path::new("/proc/self"),
        ))?;
        let hold = |ms| (ms > 0).then(|| Duration::from_millis(ms));
        match self {
            Self::Memory {
                bytes,
                ramp_ms,
                hold_ms,
                huge_pages,
                pulse_ms,
            } => {
                let ramp = Duration::from_millis(ramp_ms);
                let times = (hold(hold_ms), hold(pulse_ms));
                hog_memory(&stop, (bytes, huge_pages), ramp, times)
            }
            Self::Cache { file, passes } => hog_cache(&stop, &file, passes),
            Self::Cpu {
                threads,
                cpus,
                hold_ms,
            } => hog_cpu(&stop, threads, cpus.as_deref(), hold(hold_ms)),
        }
    }
}

/// Bytes that a linear ramp wants after this long.
fn planned(bytes: u64, ramp: Duration, elapsed: Duration) -> u64 {
    if elapsed >= ramp {
        return bytes;
    }
    let share = u128::from(bytes) * elapsed.as_nanos() / ramp.as_nanos().max(1);
    u64::try_from(share).unwrap_or(bytes)
}

fn hog_memory(
    stop: &sys::StopSignal,
    (bytes, huge_pages): (u64, bool),
    ramp: Duration,
    (hold, pulse): (Option<Duration>, Option<Duration>),
) -> Result<(), HostError> {
    let failed = |why: String| HostError::Subprocess {
        what: "memory hog",
        why,
    };
    let length = usize::try_from(bytes)
        .map_err(|_| failed(format!("{bytes} bytes do not fit an address space")))?;
    let map = || {
        sys::Region::map(length.max(1), huge_pages)
            .map_err(|e| failed(format!("mapping {bytes} bytes: {e}")))
    };
    let mut region = map()?;
    // Before the first page: a hog that is killed at once has yet begun.
    say(HogState::Ramping, 0, 0, Duration::ZERO);
    // A steep ramp is over before many reports: its rate is read off them.
    let report_every = (ramp / REPORTS_MIN).clamp(STEP_EVERY, REPORT_EVERY);
    let begun = Instant::now();
    let mut reported = begun;
    loop {
        let want = planned(bytes, ramp, begun.elapsed());
        let touched = region.populate(usize::try_from(want).unwrap_or(length)) as u64;
        if touched >= bytes {
            break;
        }
        if reported.elapsed() >= report_every {
            say(HogState::Ramping, touched, want, begun.elapsed());
            reported = Instant::now();
        }
        if stop.wait(Some(STEP_EVERY)) {
            drop(region);
            say(HogState::Released, 0, 0, begun.elapsed());
            return Ok(());
        }
    }
    let ramped = begun.elapsed();
    say(HogState::Holding, bytes, bytes, ramped);
    while let Some(pulse) = pulse {
        if stop.wait(Some(pulse)) {
            break;
        }
        drop(region);
        region = map()?;
        if stop.wait(Some(pulse)) {
            break;
        }
        region.populate(length);
        say(HogState::Holding, bytes, bytes, ramped);
    }
    if pulse.is_none() {
        stop.wait(hold);
    }
    drop(region);
    say(HogState::Released, 0, 0, begun.elapsed());
    Ok(())
}

/// Reads the whole file again and again. A page that is read a second time counts as active to the kernel.
fn hog_cache(stop: &sys::StopSignal, path: &Path, passes: u32) -> Result<(), HostError> {
    let file = File::open(path).map_err(HostError::io("opening", path))?;
    let bytes = file
        .metadata()
        .map_err(HostError::io("looking at", path))?
        .len();
    say(HogState::Ramping, 0, bytes, Duration::ZERO);
    let (begun, mut buffer) = (Instant::now(), vec![0; CHUNK_BYTES]);
    for _ in 0..passes {
        let mut at = 0;
        loop {
            let read = file
                .read_at(&mut buffer, at)
                .map_err(HostError::io("reading", path))?;
            if read == 0 {
                break;
            }
            at += read as u64;
            if stop.wait(Some(Duration::ZERO)) {
                return Ok(());
            }
        }
        say(HogState::Ramping, at, bytes, begun.elapsed());
    }
    say(HogState::Holding, bytes, bytes, begun.elapsed());
    // The cache stays without us, until its file goes.
    stop.wait(None);
    say(HogState::Released, 0, 0, begun.elapsed());
    Ok(())
}

fn hog_cpu(
    stop: &sys::StopSignal,
    threads: u32,
    cpus: Option<&str>,
    hold: Option<Duration>,
) -> Result<(), HostError> {
    let failed = |why: String| HostError::Subprocess {
        what: "CPU hog",
        why,
    };
    if threads == 0 || threads > THREADS_MAX {
        return Err(failed(format!(
            "{threads} threads are not 1 to {THREADS_MAX}"
        )));
    }
    if let Some(cpus) = cpus {
        cpus.parse::<CpuSet>()?.pin(std::process::id())?;
    }
    let over = Arc::new(AtomicBool::new(false));
    for n in 0..threads {
        let over = Arc::clone(&over);
        let spin = move || {
            while !over.load(Ordering::Relaxed) {
                // Keeps the core busy without touching memory that others share.
                std::hint::black_box(
                    (0..10_000_u64).fold(0_u64, |a, b| std::hint::black_box(a ^ b)),
                );
            }
        };
        let begun = std::thread::Builder::new()
            .name(format!("spin-{n}"))
            .spawn(spin);
        begun.map_err(|e| failed(format!("starting thread {n}: {e}")))?;
    }
    say(HogState::Holding, 0, 0, Duration::ZERO);
    stop.wait(hold);
    over.store(true, Ordering::Relaxed);
    say(HogState::Released, 0, 0, Duration::ZERO);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ramp_is_linear_and_ends_at_the_request() {
        let (bytes, ramp) = (1_000_000_u64, Duration::from_millis(1000));
        for percent in 0..=100_u32 {
            let got = planned(bytes, ramp, ramp * percent / 100);
            assert!(
                got.abs_diff(bytes * u64::from(percent) / 100) <= 1,
                "{percent} %: {got}"
            );
        }
        assert_eq!(planned(bytes, ramp, ramp * 2), bytes);
        assert_eq!(
            planned(bytes, Duration::ZERO, Duration::ZERO),
            bytes,
            "no ramp: at once"
        );
        assert_eq!(
            planned(u64::MAX, ramp, ramp / 2),
            u64::MAX / 2,
            "no overflow"
        );
    }

    #[test]
    fn a_word_survives_its_line() {
        let word = Word {
            state: HogState::Ramping,
            bytes: 5,
            planned: 7,
            elapsed_us: 9,
        };
        let line = serde_json::to_string(&word).expect("written");
        assert_eq!(
            line,
            r#"{"state":"ramping","bytes":5,"planned":7,"elapsed_us":9}"#
        );
        assert_eq!(serde_json::from_str::<Word>(&line).expect("read"), word);
    }
}
