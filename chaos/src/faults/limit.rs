//! The limit itself comes down and goes up again. What the kernel took is one thing, what the service has seen another: both
//! are recorded, step by step.

use std::sync::Arc;
use std::time::Duration;

use backdrop_reports::record;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admin::Listener;
use crate::host::{HostError, LimitWatch, Lowering};
use crate::observed::{LimitSeen, LimitStep};
use crate::rig::{Rig, Stop, Stopper};
use crate::scenario::Amount;
use crate::units::{MIB, show_bytes};
use crate::verdict::HOG_RATIO_MIN;

/// Time that one step may take, and that it is waited for the service to see it.
const STEP_PATIENCE: Duration = Duration::from_secs(4);
/// Time for the service to see the limit that it had before. Nothing is judged by it.
const RESTORED_PATIENCE: Duration = Duration::from_secs(2);
/// How often the service is asked for the limit that it sees.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Kept free above what cannot be reclaimed: two textures, one that a load has been promised and one being copied.
const ROOM_BYTES: u64 = 16 * MIB;

/// What the service says that its limit is, over time.
#[derive(Debug, Default)]
struct Sightings(Mutex<Vec<(Instant, u64)>>);

impl Sightings {
    fn saw(&self, at: Instant, limit: u64) {
        let mut seen = self.0.lock();
        if seen.last().is_none_or(|(_, last)| *last != limit) {
            seen.push((at, limit));
        }
    }

    fn newest(&self) -> Option<u64> {
        self.0.lock().last().map(|(_, limit)| *limit)
    }

    /// When it first said this limit or a lower one, after it was taken.
    fn adopted(&self, taken: Instant, limit: u64) -> Option<Instant> {
        let seen = self.0.lock();
        let lower = seen
            .iter()
            .find(|(at, said)| *at >= taken && *said <= limit);
        lower.map(|(at, _)| *at)
    }
}

/// Asks the service on and on.
async fn look(admin: Listener, sightings: Arc<Sightings>, stop: Stop) {
    while stop.sleep_until(Instant::now() + LOOK_EVERY).await {
        if let Ok(memory) = admin.memory().await {
            sightings.saw(Instant::now(), memory.limit_bytes);
        }
    }
}

/// Writes down what the kernel took.
struct Steps {
    sightings: Arc<Sightings>,
    stop: Stop,
    taken: Vec<(Instant, u64)>,
}

impl LimitWatch for Steps {
    fn accepted(&mut self, limit: u64) {
        self.taken.push((Instant::now(), limit));
    }

    fn adopted(&self, limit: u64) -> bool {
        self.sightings.newest().is_some_and(|said| said <= limit)
    }

    fn given_up(&self) -> bool {
        self.stop.raised()
    }
}

/// Lowers the limit, step by step, holds it until the time is over, and raises it again.
pub(super) async fn shrink(
    rig: &Arc<Rig>,
    to: Amount,
    steps: u32,
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let from = rig.limit_bytes;
    let asked = match to {
        Amount::Share(share) => (from as f64 * share) as u64,
        Amount::Bytes(bytes) => bytes,
        // The schema offers it for memory that is taken, not for a limit.
        Amount::Floor { .. } => from,
    };
    let Some(service) = rig.service().filter(|_| asked < from) else {
        fault.proof = format!(
            "a limit of {} cannot be lowered to {} here",
            show_bytes(from),
            show_bytes(asked)
        );
        return;
    };
    let sightings = Arc::new(Sightings::default());
    let (stopper, looking) = Stopper::new();
    let looker = tokio::spawn(look(service.admin, sightings.clone(), looking));
    drop(service);
    let mut watch = Steps {
        sightings: sightings.clone(),
        stop: stop.clone(),
        taken: Vec::new(),
    };
    let mut held = None;
    for step in 1..=u64::from(steps) {
        let limit = from - (from - asked) * step / u64::from(steps);
        held = lower(rig, limit, &mut watch).err();
        if held.is_some() || stop.raised() || Instant::now() >= until {
            break;
        }
        seen(&sightings, limit, STEP_PATIENCE, stop).await;
    }
    stop.sleep_until(until).await;
    let ended = Instant::now();
    let restored = restore(rig, from, &sightings, stop).await;
    stopper.stop();
    let _ = looker.await;
    let seen = record_of(from, asked, &watch.taken, &sightings, ended);
    conclude(&seen, held, fault);
    fault.undone = restored;
    rig.notes.lock().probes.limit = Some(seen);
}

fn lower(rig: &Rig, limit: u64, watch: &mut Steps) -> Result<(), HostError> {
    let lowering = Lowering {
        patience: STEP_PATIENCE,
        room: ROOM_BYTES,
    };
    tokio::task::block_in_place(|| rig.set_limit(limit, lowering, watch)).map(drop)
}

/// Waits until the service has said this limit or a lower one, for a while.
async fn seen(sightings: &Sightings, limit: u64, patience: Duration, stop: &Stop) {
    let until = Instant::now() + patience;
    while sightings.newest().is_none_or(|said| said > limit) && Instant::now() < until {
        if !stop.sleep_until(Instant::now() + LOOK_EVERY).await {
            return;
        }
    }
}

/// Raises the limit to what it was; whether it reads back so.
async fn restore(rig: &Rig, from: u64, sightings: &Sightings, stop: &Stop) -> bool {
    let lowering = Lowering::within(STEP_PATIENCE);
    let raised = tokio::task::block_in_place(|| rig.set_limit(from, lowering, &mut ()));
    let until = Instant::now() + RESTORED_PATIENCE;
    while sightings.newest() != Some(from) && Instant::now() < until {
        if !stop.sleep_until(Instant::now() + LOOK_EVERY).await {
            break;
        }
    }
    raised.is_ok() && rig.limit_now() == Some(from)
}

fn record_of(
    from: u64,
    asked: u64,
    taken: &[(Instant, u64)],
    sightings: &Sightings,
    ended: Instant,
) -> LimitSeen {
    let step = |(at, limit): &(Instant, u64)| LimitStep {
        limit: *limit,
        adopted_s: sightings
            .adopted(*at, *limit)
            .unwrap_or(ended)
            .duration_since(*at)
            .as_secs_f64(),
    };
    LimitSeen {
        from,
        asked,
        reached: taken.iter().map(|(_, limit)| *limit).min().unwrap_or(from),
        steps: taken.iter().map(step).collect(),
    }
}

fn conclude(seen: &LimitSeen, held: Option<HostError>, fault: &mut record::Fault) {
    let fell = seen.from.saturating_sub(seen.reached) as f64;
    let ratio = fell / (seen.from - seen.asked).max(1) as f64;
    fault.achieved_ratio = Some(ratio);
    fault.acted = ratio >= HOG_RATIO_MIN;
    let slowest = seen.steps.iter().map(|s| s.adopted_s).fold(0.0, f64::max);
    let why = held.map_or_else(String::new, |e| format!("; then it stayed: {e}"));
    fault.proof = format!(
        "the limit fell from {} to {} of {} asked for, in {} steps that the kernel took; the service saw each within {slowest:.2} s{why}",
        show_bytes(seen.from),
        show_bytes(seen.reached),
        show_bytes(seen.asked),
        seen.steps.len(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_adopted_by_the_first_sighting_of_it_or_a_lower_one_after_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let sightings = Sightings::default();
        for (ms, limit) in [(0, 100), (10, 100), (30, 80), (50, 60), (90, 100)] {
            sightings.saw(at(ms), limit);
        }
        let taken = [(at(5), 90), (at(20), 80), (at(40), 70), (at(60), 50)];
        let seen = record_of(100, 40, &taken, &sightings, at(100));
        let ms: Vec<u64> = seen
            .steps
            .iter()
            .map(|s| (s.adopted_s * 1e3).round() as u64)
            .collect();
        // The last was never seen: it counts as long as it was waited for.
        assert_eq!(ms, [25, 10, 10, 40]);
        assert_eq!((seen.reached, seen.steps.len()), (50, 4));
        let plan = crate::scenario::library::find("memory-hog").expect("a scenario");
        let mut fault = super::super::planned(&plan.faults[0]);
        conclude(&seen, None, &mut fault);
        assert!(!fault.acted && fault.proof.contains("4 steps"), "{fault:?}");
        assert_eq!(fault.achieved_ratio, Some(50.0 / 60.0));
        let all_the_way = record_of(100, 40, &[(at(20), 80), (at(40), 40)], &sightings, at(100));
        conclude(&all_the_way, None, &mut fault);
        assert!(fault.acted, "{fault:?}");
        conclude(
            &record_of(100, 40, &[], &sightings, at(100)),
            None,
            &mut fault,
        );
        assert!(!fault.acted);
    }
}
