//! Times at which a CPU stood still: nothing at all ran on it, whatever its priority.
//!
//! A hypervisor that leaves a virtual CPU out, or wakes it late, is often not in its own account of stolen time. A thread of real-time
//! priority, which no program of normal priority can keep from running, sees it: it wakes every two milliseconds and notes by how
//! much too late. It costs a CPU less than half a percent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::cpu::CpuSet;
use super::sys;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(2);
/// Shorter ones are not noted: a planned send counts as late from here on.
pub const LEAST: Duration = Duration::from_millis(5);
/// Most that are noted.
const NOTED_MAX: usize = 100_000;

/// One time at which a CPU stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Milliseconds since the Unix epoch at which it was over.
    pub unix_ms: u64,
    /// How long it was, at least.
    pub lasted: Duration,
}

/// Looks at some CPUs until it is stopped or dropped.
#[derive(Debug)]
pub struct StallMeter {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Stall>>>,
    threads: Vec<JoinHandle<()>>,
}

impl StallMeter {
    /// Starts to look. None where the host refuses real-time priority or one of the CPUs: of any other thread, lateness shows nothing.
    #[must_use]
    pub fn start(cpus: &CpuSet) -> Option<Self> {
        let mut meter = Self {
            stop: Arc::default(),
            seen: Arc::default(),
            threads: Vec::new(),
        };
        let (ready, started) = std::sync::mpsc::channel();
        for &cpu in cpus.cpus() {
            let (stop, seen, ready) = (meter.stop.clone(), meter.seen.clone(), ready.clone());
            let look = move || {
                let fit = sys::set_affinity(0, &[cpu]).and_then(|()| sys::run_in_real_time());
                let fits = fit.is_ok();
                let _ = ready.send(fits);
                if fits {
                    look(&stop, &seen);
                }
            };
            let thread = thread::Builder::new().name(format!("stall-{cpu}"));
            meter.threads.push(thread.spawn(look).ok()?);
        }
        drop(ready);
        let mut answers = started.iter().take(meter.threads.len());
        (!meter.threads.is_empty() && answers.all(|fits| fits)).then_some(meter)
    }

    /// What was seen, in the order in which it was.
    #[must_use]
    pub fn stop(mut self) -> Vec<Stall> {
        self.end();
        std::mem::take(&mut *self.seen.lock())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for StallMeter {
    fn drop(&mut self) {
        self.end();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how late a sleep ends is what is measured"
)]
fn look(stop: &AtomicBool, seen: &Mutex<Vec<Stall>>) {
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + PERIOD;
        thread::sleep(PERIOD);
        let lasted = due.elapsed();
        if lasted < LEAST {
            continue;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut seen = seen.lock();
        if seen.len() < NOTED_MAX {
            seen.push(Stall {
                unix_ms: now.unwrap_or_default().as_millis() as u64,
                lasted,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_without_a_cpu_or_on_one_that_is_not_there_measures_nothing() {
        assert!(StallMeter::start(&CpuSet::default()).is_none());
        assert!(StallMeter::start(&CpuSet::new([1023])).is_none());
    }

    #[test]
    fn what_is_noted_is_late_and_ends() {
        let began = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock");
        let Some(meter) = StallMeter::start(&CpuSet::allowed().expect("CPUs")) else {
            eprintln!("SKIPPED: no real-time priority here (root or CAP_SYS_NICE)");
            return;
        };
        // A look at the least, were it only its last one.
        meter.seen.lock().clear();
        for stall in meter.stop() {
            assert!(stall.lasted >= LEAST);
            assert!(u128::from(stall.unix_ms) >= began.as_millis());
        }
    }
}
