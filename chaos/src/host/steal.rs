//! A look at how much of the CPUs the hypervisor takes at this moment.

use std::thread;
use std::time::{Duration, Instant};

use backdrop_reports::steal::StealMeter;

use super::cpu::CpuSet;
use super::sys;

/// Keeps `cpus` busy for `time`, since from an idle CPU nothing is stolen, and returns [`StealMeter::ratio`] of it. Blocks.
#[must_use]
pub fn probe(cpus: &CpuSet, time: Duration) -> Option<f64> {
    let meter = StealMeter::start(cpus.cpus());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_knows_the_share_of_the_cpus_it_was_given() {
        let allowed = CpuSet::allowed().expect("CPUs");
        let ratio = probe(&allowed, Duration::from_millis(40)).expect("the kernel says");
        assert!((0.0..=1.0).contains(&ratio), "{ratio}");
        assert_eq!(probe(&CpuSet::default(), Duration::ZERO), None);
    }
}
