//! Looks once a second whether the trial must be broken off.

use std::time::Duration;

use backdrop_reports::record::Aborted;
use backdrop_reports::steal::StealMeter;
use parking_lot::Mutex;

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
    let mut seconds_seen = 0;
    for second in 1.. {
        tokio::time::sleep_until(clock.start + EVERY * second).await;
        let ratio = std::mem::replace(&mut steal, StealMeter::start(cpus.cpus())).ratio();
        let now = host_side(rig, ratio);
        let now = {
            let live = live.lock();
            // One that was looked at before is not this second's.
            let newest = live.intervals.get(seconds_seen..).and_then(<[_]>::last);
            let now = newest.map_or(now, |interval| now.of_load(interval));
            seconds_seen = live.intervals.len();
            now
        };
        if let Some(aborted) = conditions.second(clock.now_s(), &now) {
            return aborted;
        }
    }
    std::future::pending().await
}

fn host_side(rig: &Rig, host_steal_ratio: Option<f64>) -> Second {
    let latest = rig.latest();
    let usage = latest.filter(|sample| sample.limit > 0);
    Second {
        kills: rig.service_leaf.kill_count().ok().map(|kills| kills as f64),
        usage_ratio: usage.map(|sample| sample.usage as f64 / sample.limit as f64),
        host_memory_ratio: used_memory_ratio(),
        host_steal_ratio,
        ..Second::default()
    }
}
