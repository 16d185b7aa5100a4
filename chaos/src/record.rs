//! From observations to the run record: timeline columns, events, faults, and the final table.

use std::collections::BTreeMap;

use backdrop_reports::format::rounded;
use backdrop_reports::record::{self, Met, RunRecord, ScenarioRecord, Timeline};
use backdrop_reports::render::mutants;

use crate::expect;
use crate::figures::Figures;
use crate::host::HostSample;
use crate::metrics::Scrape;
use crate::observed::Observed;
use crate::trial::TrialSeen;

/// Rows of a timeline at most; more are thinned, maxima kept.
const ROWS_MAX: usize = 3000;
/// A scrape stands in for rows at most this long after it.
const SCRAPE_HOLDS_MS: u64 = 600;

/// The trial as the record has it.
#[must_use]
pub fn trial(seen: &TrialSeen) -> record::Trial {
    let observed = &seen.observed;
    record::Trial {
        started_unix_ms: observed.started_unix_ms,
        duration_s: observed.duration_s,
        service_command: seen.service_command.clone(),
        simulator_command: seen.simulator_command.clone(),
        faults: observed.faults.clone(),
        timeline: timeline(observed),
        load: observed.load.clone(),
        aborted: observed.aborted.clone(),
        events: observed.events.clone(),
        logs: seen.logs.clone(),
    }
}

/// Values alone, as the record keeps them.
#[must_use]
pub fn values(figures: &Figures) -> BTreeMap<String, f64> {
    figures
        .iter()
        .map(|(name, figure)| (name.clone(), figure.value))
        .collect()
}

type Column<T> = (&'static str, fn(&T) -> Option<f64>);

const KERNEL: &[Column<HostSample>] = &[
    ("limit_bytes", |r| Some(r.limit as f64)),
    ("usage_bytes", |r| Some(r.usage as f64)),
    ("anon_bytes", |r| Some(r.service.anon as f64)),
    ("kernel_bytes", |r| Some(r.service.kernel as f64)),
    ("sockets_bytes", |r| Some(r.service.sockets as f64)),
    ("file_bytes", |r| Some(r.service.file as f64)),
    ("held_max_bytes", |r| Some(r.service_held_max as f64)),
    ("hog_bytes", |r| Some(r.hog.anon as f64)),
    ("service_cpu_s", |r| r.service_cpu_s),
    ("oom_kills", |r| Some(r.service.oom_kills as f64)),
];

const SCRAPED: &[Column<Scrape>] = &[
    ("pressure_bytes", |s| s.pressure_bytes),
    ("elevated_bytes", |s| s.elevated_bytes),
    ("critical_bytes", |s| s.critical_bytes),
    ("budget_ceiling_bytes", |s| s.budget_ceiling_bytes),
    ("budget_used_bytes", |s| s.budget_used_bytes),
    ("allocator_resident_bytes", |s| s.allocator_resident_bytes),
    ("textures_bytes", |s| s.textures_bytes),
    ("governor_state", |s| s.governor_state),
    ("evictions_total", |s| s.evictions),
    ("hits_total", |s| s.hits),
    ("accesses_total", Scrape::accesses),
    ("misses_total", |s| s.misses),
    ("degraded_total", |s| s.degraded),
    ("shed_total", |s| s.shed),
];

/// Columns over the kernel's rows; of several rows that become one the maximum is kept, of scrapes the newest.
#[must_use]
pub fn timeline(observed: &Observed) -> Timeline {
    let step = observed.rows.len().div_ceil(ROWS_MAX).max(1);
    let chunks: Vec<&[HostSample]> = observed.rows.chunks(step).collect();
    let ends: Vec<u64> = chunks
        .iter()
        .filter_map(|c| c.last())
        .map(|r| r.unix_ms)
        .collect();
    let t_s = ends.iter().map(|end| round(observed.t_s(*end))).collect();
    let mut series = BTreeMap::new();
    for (name, column) in KERNEL {
        let highest = |c: &&[HostSample]| c.iter().filter_map(column).reduce(f64::max);
        series.insert((*name).to_owned(), chunks.iter().map(highest).collect());
    }
    let held = scrapes_at(&observed.scrapes, &ends);
    for (name, column) in SCRAPED {
        series.insert(
            (*name).to_owned(),
            held.iter().map(|s| s.and_then(column)).collect(),
        );
    }
    Timeline { t_s, series }
}

/// For each time the newest scrape that is not too old.
fn scrapes_at<'a>(scrapes: &'a [Scrape], ends: &[u64]) -> Vec<Option<&'a Scrape>> {
    let mut next = 0;
    ends.iter()
        .map(|end| {
            while scrapes.get(next).is_some_and(|s| s.unix_ms <= *end) {
                next += 1;
            }
            let newest = next.checked_sub(1).and_then(|i| scrapes.get(i));
            newest.filter(|s| end - s.unix_ms <= SCRAPE_HOLDS_MS)
        })
        .collect()
}

fn round(t_s: f64) -> f64 {
    (t_s * 1000.0).round() / 1000.0
}

/// The final table: a line per scenario, its expectations and its controls.
#[must_use]
pub fn table(run: &RunRecord) -> String {
    let mut out = String::new();
    for scenario in &run.scenarios {
        out.push_str(&scenario_table(scenario));
    }
    let mutants = mutants::text(run);
    if !mutants.is_empty() {
        out.push_str(&format!("\n{mutants}"));
    }
    out.push_str(&format!(
        "\n{}: {}\n",
        run.verdict.word().to_uppercase(),
        run.reason
    ));
    out
}

fn scenario_table(scenario: &ScenarioRecord) -> String {
    let mut out = format!(
        "\n{:<12} {}: {}\n",
        scenario.verdict.word().to_uppercase(),
        scenario.label(),
        scenario.reason
    );
    for earlier in &scenario.set_aside {
        out.push_str(&format!(
            "  set aside {}: {}: {}\n",
            earlier.trial, earlier.outcome, earlier.reason
        ));
    }
    for e in &scenario.expectations {
        let met = match e.met {
            Met::Yes => "met    ",
            Met::No => "NOT MET",
            Met::Unknown => "unknown",
        };
        out.push_str(&format!("  {met} {:<28} {}\n", e.name, expect::words(e)));
    }
    for c in &scenario.controls {
        let met = if c.as_expected {
            "as demanded"
        } else {
            "NOT AS DEMANDED"
        };
        let reached = c
            .figures
            .get("sessions_reached")
            .map_or_else(String::new, |n| {
                format!(", {} sessions reached", rounded(*n))
            });
        out.push_str(&format!(
            "  control {:<20} {} ({met}: {}){reached}\n",
            c.label(),
            c.observed,
            c.reason
        ));
    }
    for doubt in &scenario.evidence.doubts {
        out.push_str(&format!("  doubt   {doubt}\n"));
    }
    out
}
