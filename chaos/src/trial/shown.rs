//! What a person is shown of a running trial, once a second.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::TrialPlan;
use super::watch::governor_word;
use crate::live::{self, Standing};
use crate::load::Live;
use crate::metrics::Scrape;
use crate::observed::{Observed, Oracle, Plan};
use crate::progress::{Line, Progress};
use crate::rig::{Rig, Stop};
use crate::scenario::FaultPlan;
use crate::units;

const EVERY: Duration = Duration::from_secs(1);
/// A momentary fault is shown for this long, seconds.
const MOMENT_S: f64 = 2.0;
/// Scrapes that the expectations are looked at by; of a long trial some are left out, never the last.
const SCRAPES_MAX: usize = 1200;

/// Until `stop` is raised.
pub(super) async fn report(
    progress: Arc<Progress>,
    plan: TrialPlan,
    rig: Arc<Rig>,
    live: Arc<Mutex<Live>>,
    scrapes: Arc<Mutex<Vec<Scrape>>>,
    stop: Stop,
) {
    while stop.sleep_until(Instant::now() + EVERY).await {
        let now = live.lock().clone();
        let expectations = match progress.is_live() {
            true => standings(&plan, &rig, &now, &scrapes),
            false => Vec::new(),
        };
        let governor = governor_word(scrapes.lock().last().and_then(|s| s.governor_state));
        progress.tick(&line(&plan, &rig, now, governor, expectations));
    }
    progress.clear();
}

fn line(
    plan: &TrialPlan,
    rig: &Rig,
    mut live: Live,
    governor: &'static str,
    expectations: Vec<Standing>,
) -> Line {
    let t_s = (live.started_unix_ms > 0)
        .then(|| (units::unix_ms_now() as f64 - live.started_unix_ms as f64) / 1e3);
    let latest = rig.latest();
    Line {
        trial: plan.name.clone(),
        phase: live.phase,
        t_s,
        duration_s: plan.load.duration.as_secs_f64(),
        sessions: live.sessions,
        last: live.intervals.pop(),
        held_bytes: latest.map_or(0, |l| l.service.held()),
        hog_bytes: latest.map_or(0, |l| l.hog.held()),
        usage_bytes: latest.map_or(0, |l| l.usage),
        limit_bytes: latest.map_or(rig.limit_bytes, |l| l.limit),
        governor,
        faults: standing(&plan.faults, t_s),
        next_fault: next(&plan.faults, t_s),
        expectations,
    }
}

fn standing(faults: &[FaultPlan], t_s: Option<f64>) -> Vec<String> {
    let Some(t_s) = t_s else { return Vec::new() };
    let stands = |f: &&FaultPlan| {
        let at = f.at.as_secs_f64();
        (at..=f.end().as_secs_f64().max(at + MOMENT_S)).contains(&t_s)
    };
    let standing = faults.iter().filter(stands);
    standing.map(|f| f.name.clone()).collect()
}

fn next(faults: &[FaultPlan], t_s: Option<f64>) -> Option<(String, f64)> {
    let now = t_s.unwrap_or(0.0);
    let coming = faults.iter().map(|f| (f.name.clone(), f.at.as_secs_f64()));
    let coming = coming.filter(|(_, at)| *at > now);
    coming.min_by(|a, b| a.1.total_cmp(&b.1))
}

fn standings(
    plan: &TrialPlan,
    rig: &Rig,
    live: &Live,
    scrapes: &Mutex<Vec<Scrape>>,
) -> Vec<Standing> {
    let scrapes = thinned(&scrapes.lock());
    let kills = rig.service_leaf.kill_count();
    let seen = Observed {
        started_unix_ms: live.started_unix_ms,
        limit_bytes: rig.limit_bytes,
        peaks: rig.peaks(),
        oracle: Oracle {
            readable: kills.is_ok(),
            service_kills: kills.unwrap_or(0),
            ..Oracle::default()
        },
        scrapes,
        live: live.intervals.clone(),
        sessions_live: live.sessions,
        probes: rig.notes.lock().probes.clone(),
        ..Observed::default()
    };
    let against = Plan {
        load: &plan.load,
        steady: &plan.shown.steady,
        recovery: None,
    };
    live::standings(&plan.shown.expects, &seen, against)
}

fn thinned(scrapes: &[Scrape]) -> Vec<Scrape> {
    let step = scrapes.len().div_ceil(SCRAPES_MAX).max(1);
    let mut kept: Vec<_> = scrapes.iter().step_by(step).cloned().collect();
    if step > 1 {
        kept.extend(scrapes.last().cloned());
    }
    kept
}
