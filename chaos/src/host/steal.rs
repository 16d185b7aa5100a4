//! CPU time that a hypervisor gave to others while this machine wanted it: the `steal` column of `/proc/stat`.
//!
//! On a shared machine it is the cause of late wake-ups and slow answers that no one inside can mend. Zero on bare metal.

use std::thread;
use std::time::{Duration, Instant};

use super::cpu::CpuSet;
use super::sys;

/// Column of `steal` behind the CPU's name (proc_stat(5)).
const STEAL: usize = 7;

/// Measures from its start on.
#[derive(Debug)]
pub struct StealMeter {
    cpus: CpuSet,
    began: Option<Times>,
}

/// Clock ticks since boot, summed over some CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    all: u64,
    stolen: u64,
}

impl StealMeter {
    /// Starts to measure on `cpus`.
    #[must_use]
    pub fn start(cpus: CpuSet) -> Self {
        let began = read(&cpus);
        Self { cpus, began }
    }

    /// Share of the CPUs' time that was stolen since the start, 0..=1; none where the kernel does not say.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        share(self.began?, read(&self.cpus)?)
    }
}

/// Keeps `cpus` busy for `time`, since from an idle CPU nothing is stolen, and returns [`StealMeter::ratio`] of it. Blocks.
#[must_use]
pub fn probe(cpus: &CpuSet, time: Duration) -> Option<f64> {
    let meter = StealMeter::start(cpus.clone());
    thread::scope(|scope| {
        for &cpu in cpus.cpus() {
            scope.spawn(move || {
                // A CPU that went away meanwhile cannot be measured, and its thread then spins on another one.
                let _ = sys::set_affinity(0, &[cpu]);
                let until = Instant::now() + time;
                while Instant::now() < until {}
            });
        }
    });
    meter.ratio()
}

fn share(from: Times, to: Times) -> Option<f64> {
    let all = to.all.checked_sub(from.all).filter(|all| *all > 0)?;
    Some(to.stolen.saturating_sub(from.stolen) as f64 / all as f64)
}

fn read(cpus: &CpuSet) -> Option<Times> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?, cpus)
}

/// None if one of the CPUs is not listed.
fn parse(stat: &str, cpus: &CpuSet) -> Option<Times> {
    let mut sum = Times::default();
    for cpu in cpus.cpus() {
        let name = format!("cpu{cpu}");
        let line = stat
            .lines()
            .find(|line| line.split(' ').next() == Some(name.as_str()))?;
        // Guest time is part of user time and would count twice.
        let ticks = line
            .split_whitespace()
            .skip(1)
            .take(STEAL + 1)
            .map(|ticks| ticks.parse().ok())
            .collect::<Option<Vec<u64>>>()?;
        sum.all += ticks.iter().sum::<u64>();
        sum.stolen += ticks.get(STEAL)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 5 80 1 0 1 3 7 0\ncpu1 20 0 5 60 1 0 1 13 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\nintr 5\n";

    #[test]
    fn sums_the_asked_cpus_and_leaves_guests_out() {
        let sum = |cpus: &[usize]| parse(STAT, &CpuSet::new(cpus.iter().copied()));
        let one = Times {
            all: 100,
            stolen: 3,
        };
        let both = Times {
            all: 200,
            stolen: 16,
        };
        assert_eq!(sum(&[0]), Some(one));
        assert_eq!(sum(&[0, 1]), Some(both));
        assert_eq!(sum(&[1, 2]), None);
    }

    #[test]
    fn a_share_needs_time_to_have_passed() {
        let from = Times {
            all: 100,
            stolen: 3,
        };
        let to = Times {
            all: 200,
            stolen: 13,
        };
        assert_eq!(share(from, to), Some(0.1));
        assert_eq!(share(from, from), None);
        assert_eq!(share(to, from), None);
    }

    #[test]
    fn the_kernel_of_this_host_can_be_read() {
        assert!(read(&CpuSet::allowed().expect("CPUs")).is_some());
    }

    #[test]
    fn a_probe_knows_the_share_of_the_cpus_it_was_given() {
        let allowed = CpuSet::allowed().expect("CPUs");
        let ratio = probe(&allowed, Duration::from_millis(40)).expect("the kernel says");
        assert!((0.0..=1.0).contains(&ratio), "{ratio}");
        assert_eq!(probe(&CpuSet::default(), Duration::ZERO), None);
    }
}
