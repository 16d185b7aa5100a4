//! Steady state before the first fault, and recovery after one: bands over the seconds of the load.

use backdrop_reports::load::Interval;

use crate::figures::acknowledged;
use crate::metrics::{Scrape, increase};
use crate::observed::{Observed, Plan};

/// Seconds in a row that make a state: before a fault, and after one to count as recovered.
pub const SECONDS_MIN: usize = 3;
/// Seconds over which a hit ratio is taken.
const HIT_WINDOW_S: f64 = 3.0;

/// Whether the steady state held before the first fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SteadyState {
    /// No fault, so nothing to hold before one.
    NotNeeded,
    /// It held.
    Held,
    /// It did not, or was not seen: in words.
    NotHeld(String),
}

/// Judges the seconds between warm-up and the first fault.
#[must_use]
pub fn before_faults(seen: &Observed, plan: Plan<'_>) -> SteadyState {
    let Some(first) = seen.faults.iter().map(|f| f.from_s).reduce(f64::min) else {
        return SteadyState::NotNeeded;
    };
    let seconds = steady_seconds(seen, plan, first);
    if seconds.len() < SECONDS_MIN {
        return SteadyState::NotHeld(format!(
            "only {} seconds of load lie between warm-up and the first fault, {SECONDS_MIN} are needed",
            seconds.len()
        ));
    }
    let planned = plan.load.planned_switches_per_s();
    let due = if planned > 0.0 {
        planned
    } else {
        plan.load.previews_per_second
    };
    let rate = median(seconds.iter().map(|i| acknowledged(i, planned)));
    if due > 0.0 && rate < plan.steady.rate_ratio * due {
        return SteadyState::NotHeld(format!(
            "median rate before the first fault was {rate:.0}/s of {due:.0}/s planned, below {:.0} %",
            plan.steady.rate_ratio * 100.0
        ));
    }
    let failed: u64 = seconds
        .iter()
        .map(|i| i.switches_failed + i.previews_failed)
        .sum();
    if failed > 0 {
        return SteadyState::NotHeld(format!("{failed} operations failed before the first fault"));
    }
    let p99_ms = median(seconds.iter().map(|i| i.switch_p99_us as f64 / 1e3));
    match plan.steady.p99_ms {
        Some(bound) if p99_ms > bound => SteadyState::NotHeld(format!(
            "median p99 before the first fault was {p99_ms:.1} ms, above {bound} ms"
        )),
        _ => SteadyState::Held,
    }
}

/// How a service came back after a fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recovery {
    /// Every band held for three seconds in a row.
    After {
        /// Seconds from the end of the fault until the first of them.
        s: f64,
        /// Seconds judged.
        seconds: u64,
    },
    /// Not before the load was over.
    Never {
        /// Seconds from the end of the fault until the last second that was outside a band.
        waited_s: f64,
        /// Seconds judged.
        seconds: u64,
    },
}

/// Recovery after the fault that the bands name. None without such a fault, without bands, or where too little was seen to say.
#[must_use]
pub fn recovery(seen: &Observed, plan: Plan<'_>) -> Option<Recovery> {
    let bands = plan.recovery?;
    let fault = seen.fault(&bands.after)?;
    let first = seen.faults.iter().map(|f| f.from_s).reduce(f64::min)?;
    let before = steady_seconds(seen, plan, first);
    let planned = plan.load.planned_switches_per_s();
    let rate = median(before.iter().map(|i| acknowledged(i, planned)));
    let working_set = steady_working_set(seen, plan, first);
    // Where nobody asks for pixels nothing can be hit.
    let hit_points = bands
        .hit_ratio_points
        .filter(|_| plan.load.previews_per_second > 0.0);
    let hit_ratio = hit_ratio_between(seen, plan.steady.from.as_secs_f64(), first);
    let after: Vec<_> = seen
        .intervals()
        .iter()
        .filter(|i| i.t_s > fault.to_s)
        .collect();
    // None where a band cannot be seen.
    let good = |i: &Interval| {
        let fast = acknowledged(i, planned) >= bands.rate_ratio * rate
            && i.switch_p99_us as f64 / 1e3 <= bands.p99_ms;
        let warm = match (bands.working_set_ratio, working_set) {
            (Some(ratio), Some(bytes)) => textures_at(seen, i.t_s).map(|now| now >= ratio * bytes),
            (Some(_), None) => None,
            (None, _) => Some(true),
        };
        let hitting = match (hit_points, hit_ratio) {
            (Some(points), Some(ratio)) => hit_ratio_between(seen, i.t_s - HIT_WINDOW_S, i.t_s)
                .map(|now| now >= ratio - points / 100.0),
            (Some(_), None) => None,
            (None, _) => Some(true),
        };
        match [Some(fast), warm, hitting] {
            bands if bands.contains(&Some(false)) => Some(false),
            bands if bands.contains(&None) => None,
            _ => Some(true),
        }
    };
    let good: Vec<_> = after.iter().map(|i| good(i)).collect();
    let seconds = after.len() as u64;
    let since = |at: usize| (after[at].t_s - fault.to_s).max(0.0);
    let recovered = |w: &[Option<bool>]| w.iter().all(|good| *good == Some(true));
    if let Some(at) = good.windows(SECONDS_MIN).position(recovered) {
        let s = since(at);
        return Some(Recovery::After { s, seconds });
    }
    // What is left of a second in which the load ended is not one.
    let whole = |i: &Interval| i.t_s <= plan.load.duration.as_secs_f64() + 0.5;
    let bad = |at: &usize| good[*at] == Some(false) && whole(after[*at]);
    let last = (0..after.len()).rev().find(bad)?;
    let waited_s = since(last);
    Some(Recovery::Never { waited_s, seconds })
}

fn steady_seconds<'a>(seen: &'a Observed, plan: Plan<'_>, until: f64) -> Vec<&'a Interval> {
    // An interval is named by its end and must lie before the fault as a whole.
    let from = plan.steady.from.as_secs_f64();
    seen.intervals()
        .iter()
        .filter(|i| i.t_s - 1.0 >= from - 0.5 && i.t_s <= until)
        .collect()
}

fn scrapes_between(seen: &Observed, from: f64, to: f64) -> impl Iterator<Item = &Scrape> {
    seen.scrapes
        .iter()
        .filter(move |s| (from..=to).contains(&seen.t_s(s.unix_ms)))
}

fn steady_working_set(seen: &Observed, plan: Plan<'_>, until: f64) -> Option<f64> {
    let bytes: Vec<f64> = scrapes_between(seen, plan.steady.from.as_secs_f64(), until)
        .filter_map(|s| s.textures_bytes)
        .collect();
    (!bytes.is_empty()).then(|| median(bytes))
}

fn textures_at(seen: &Observed, t_s: f64) -> Option<f64> {
    scrapes_between(seen, t_s - 1.0, t_s)
        .filter_map(|s| s.textures_bytes)
        .last()
}

/// None if nothing was accessed in between.
fn hit_ratio_between(seen: &Observed, from: f64, to: f64) -> Option<f64> {
    let rise = |field: fn(&Scrape) -> Option<f64>| {
        increase(scrapes_between(seen, from, to), field).unwrap_or(0.0)
    };
    let all = rise(Scrape::accesses);
    (all > 0.0).then(|| rise(|s| s.hits) / all)
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
