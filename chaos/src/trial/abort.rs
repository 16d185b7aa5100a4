//! Looks once a second whether the trial must be broken off.

use std::time::Duration;

use backdrop_reports::record::Aborted;
use backdrop_reports::steal::StealMeter;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use crate::abort::{Conditions, Second};
use crate::faults::Clock;
use crate::host::used_memory_ratio;
use crate::load::Live;
use crate::rig::Rig;
use crate::scenario::Abort;

const EVERY: Duration = Duration::from_secs(1);

/// Returns what breaks the trial off, and never if nothing does.
pub(super) async fn watch(
    aborts: &[Abort],
    rig: &Rig,
    live: &Mutex<Live>,
    clock: Clock,
) -> Aborted {
    if aborts.is_empty() {
        return std::future::pending().await;
    }
    let mut conditions = Conditions::new(aborts);
    let cpus = rig.placement.simulator.union(&rig.placement.service);
    let mut steal = StealMeter::start(cpus.cpus());
    let (mut intervals_seen, mut usage) = (0, Usage::default());
    let mut looks = tokio::time::interval_at(clock.start + EVERY, EVERY);
    // After a stall the looks that were missed would all see the same.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let ratio = std::mem::replace(&mut steal, StealMeter::start(cpus.cpus())).ratio();
        let host = host_side(rig, ratio, &mut usage);
        let aborted = {
            let live = live.lock();
            // One that was looked at before is not this look's.
            let new = live.intervals.get(intervals_seen..).unwrap_or_default();
            intervals_seen = live.intervals.len();
            conditions.look(clock.now_s(), host, new)
        };
        if let Some(aborted) = aborted {
            return aborted;
        }
    }
}

fn host_side(rig: &Rig, host_steal_ratio: Option<f64>, usage: &mut Usage) -> Second {
    let latest = rig.latest();
    let latest = latest.and_then(|now| usage.counted(now.unix_ms, (now.usage, now.limit)));
    Second {
        kills: rig.service_leaf.kill_count().ok().map(|kills| kills as f64),
        usage_ratio: latest,
        host_memory_ratio: used_memory_ratio(),
        host_steal_ratio,
        ..Second::default()
    }
}

/// Samples of the usage, each of which counts once, and one a second of their own time: while the sampler stands still, its last one is
/// no sample of another second.
#[derive(Debug, Default)]
struct Usage {
    /// Time of the last one that counted, milliseconds since the Unix epoch.
    last_unix_ms: Option<u64>,
}

impl Usage {
    /// The share of the limit in force, 0..=1; none if there is no limit, or if this second's counted before. Looks and samples are a
    /// little early or late: half a second apart are two.
    fn counted(&mut self, unix_ms: u64, (usage, limit): (u64, u64)) -> Option<f64> {
        let apart = |last: u64| unix_ms.saturating_sub(last) >= EVERY.as_millis() as u64 / 2;
        let counts = limit > 0 && self.last_unix_ms.is_none_or(apart);
        counts.then(|| {
            self.last_unix_ms = Some(unix_ms);
            usage as f64 / limit as f64
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_once_and_the_next_one_a_second_later() {
        let mut usage = Usage::default();
        let half = (50, 100);
        assert_eq!(usage.counted(10_000, (50, 0)), None, "no limit");
        assert_eq!(usage.counted(10_000, half), Some(0.5));
        assert_eq!(usage.counted(10_000, half), None, "the same one");
        assert_eq!(usage.counted(10_100, half), None, "of the same second");
        assert_eq!(usage.counted(10_990, half), Some(0.5), "a little early");
        assert_eq!(usage.counted(10_995, half), None);
    }
}
