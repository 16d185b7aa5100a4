//! The figures that an expectation may read: name, unit, where the evidence comes from, and what it means.
//!
//! One table, so that schema errors, `explain` and the computation in `figures` agree.

/// Where a figure's evidence comes from; a busy host discredits [`Source::Timing`], and of [`Source::Answers`] what a clock
/// gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel, read by the runner.
    Kernel,
    /// The service's own metrics.
    Service,
    /// The simulator's counts and truth checker.
    Load,
    /// The simulator's clock: latencies and rates.
    Timing,
    /// The simulator's counts of answers, in which those that did not come in time count as failed.
    Answers,
    /// Requests the runner made by itself.
    Probe,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name in scenario files and records.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Whether `NAME.WINDOW` exists too.
    pub windowed: bool,
    /// Where it comes from.
    pub source: Source,
    /// What it means.
    pub meaning: &'static str,
}

const fn figure(
    name: &'static str,
    unit: &'static str,
    source: Source,
    meaning: &'static str,
) -> Spec {
    Spec {
        name,
        unit,
        windowed: false,
        source,
        meaning,
    }
}

const fn windowed(
    name: &'static str,
    unit: &'static str,
    source: Source,
    meaning: &'static str,
) -> Spec {
    Spec {
        name,
        unit,
        windowed: true,
        source,
        meaning,
    }
}

use Source::{Answers, Kernel, Load, Probe, Service, Timing};

/// Every figure.
pub const FIGURES: &[Spec] = &[
    figure(
        "service_oom_kills",
        "kills",
        Kernel,
        "kills that the kernel counted in the service's leaf",
    ),
    figure(
        "hog_oom_kills",
        "kills",
        Kernel,
        "kills that the kernel counted in the hog's leaf",
    ),
    figure(
        "kills_per_hour",
        "1/h",
        Kernel,
        "kills in the service's leaf per hour of load",
    ),
    figure(
        "service_peak_mib",
        "MiB",
        Kernel,
        "highest anon + kernel + sockets of the service's leaf in one 10 ms sample",
    ),
    figure(
        "usage_peak_mib",
        "MiB",
        Kernel,
        "highest usage of the limited parent, page cache included",
    ),
    figure(
        "sockets_peak_mib",
        "MiB",
        Kernel,
        "highest socket memory of the service's leaf",
    ),
    figure(
        "kernel_peak_mib",
        "MiB",
        Kernel,
        "highest usage of the service's leaf by the kernel's own count, page cache included: never less than the sampled peak",
    ),
    figure(
        "hog_peak_mib",
        "MiB",
        Kernel,
        "highest anonymous memory of the hog's leaf",
    ),
    figure(
        "memory_given_back_mib",
        "MiB",
        Kernel,
        "service memory before the memory hog less the least while it stood",
    ),
    figure(
        "service_cores",
        "cores",
        Kernel,
        "mean cores of the service over the load",
    ),
    windowed(
        "switch_rate_per_s",
        "1/s",
        Timing,
        "switches acknowledged per second",
    ),
    windowed(
        "switch_rate_ratio",
        "ratio",
        Timing,
        "switches acknowledged per second against plan",
    ),
    windowed(
        "switch_p50_ms",
        "ms",
        Timing,
        "median switch latency from the session's planned time",
    ),
    windowed(
        "switch_p99_ms",
        "ms",
        Timing,
        "99th percentile of switch latency from the session's planned time",
    ),
    windowed(
        "switch_p999_ms",
        "ms",
        Timing,
        "99.9th percentile of switch latency from planned time",
    ),
    windowed(
        "switch_max_ms",
        "ms",
        Timing,
        "longest switch latency from planned time",
    ),
    windowed(
        "switches_shed",
        "switches",
        Load,
        "switches shed by the service",
    ),
    windowed(
        "switches_failed",
        "switches",
        Answers,
        "switches refused, failed or without an answer in time",
    ),
    windowed(
        "switch_missed_ratio",
        "ratio",
        Answers,
        "switches shed, refused, failed or without an answer in time, of those planned",
    ),
    windowed(
        "preview_rate_per_s",
        "1/s",
        Timing,
        "preview frames answered per second",
    ),
    windowed(
        "preview_p50_ms",
        "ms",
        Timing,
        "median preview latency from planned time",
    ),
    windowed(
        "preview_p99_ms",
        "ms",
        Timing,
        "99th percentile of preview latency from planned time",
    ),
    windowed(
        "preview_failed_ratio",
        "ratio",
        Answers,
        "previews failed or without an answer, of those planned",
    ),
    windowed(
        "preview_whole_ratio",
        "ratio",
        Answers,
        "previews answered whole, neither degraded, shed nor failed, of those planned",
    ),
    figure(
        "degraded_or_shed_ratio",
        "ratio",
        Load,
        "previews degraded or shed, of those answered in steady state",
    ),
    figure(
        "lost_switches",
        "switches",
        Load,
        "acknowledged switches that were not there when read back",
    ),
    figure(
        "truth_violations",
        "violations",
        Load,
        "lost, stale, wrong and torn answers that the truth checker found",
    ),
    figure(
        "sessions_read_back",
        "sessions",
        Load,
        "sessions read back at the end",
    ),
    figure(
        "read_back_ratio",
        "ratio",
        Load,
        "sessions read back, of those created",
    ),
    figure(
        "frames_read",
        "frames",
        Load,
        "preview frames whose pixel code the truth checker read",
    ),
    figure(
        "sessions_reached",
        "sessions",
        Load,
        "most sessions that held a background at one time",
    ),
    figure(
        "sessions_recreated",
        "sessions",
        Load,
        "sessions made anew after the service forgot them",
    ),
    figure(
        "entries_shed",
        "entries",
        Load,
        "session creations and switches that the service shed",
    ),
    figure(
        "connections_max",
        "connections",
        Load,
        "most connections open at one time",
    ),
    figure(
        "simulator_cores",
        "cores",
        Load,
        "mean cores of the simulator over the load",
    ),
    figure(
        "total_cores",
        "cores",
        Load,
        "mean cores of service and simulator together over the load",
    ),
    figure(
        "bytes_per_session",
        "B",
        Service,
        "session table bytes per session, as the service reports them",
    ),
    figure(
        "evictions",
        "textures",
        Service,
        "textures evicted for capacity or pressure",
    ),
    figure(
        "evicted_capacities",
        "ratio",
        Service,
        "textures evicted against the median number resident",
    ),
    figure("evicted_mib", "MiB", Service, "texture bytes evicted"),
    figure(
        "hit_ratio",
        "ratio",
        Service,
        "accesses that found pixels resident or loading, of all recorded accesses",
    ),
    figure(
        "lru_replay_hit_ratio",
        "ratio",
        Service,
        "the same order of accesses through an exact LRU of the recorded capacity",
    ),
    figure(
        "hit_ratio_gap_points",
        "points",
        Service,
        "distance between hit ratio and exact LRU replay",
    ),
    figure("loads", "loads", Service, "texture loads finished"),
    figure("load_errors", "loads", Service, "texture loads that failed"),
    figure(
        "errors_counted_ratio",
        "ratio",
        Service,
        "texture loads counted as failed, of those that failpoints made fail",
    ),
    figure(
        "load_error_ratio",
        "ratio",
        Service,
        "texture loads that failed, of all loads while the fault stood",
    ),
    figure(
        "failpoint_triggers",
        "triggers",
        Service,
        "times that a failpoint of the scenario fired",
    ),
    figure(
        "governor_transitions",
        "transitions",
        Service,
        "changes of the governor's state",
    ),
    figure(
        "governor_worst_state",
        "state",
        Service,
        "0 normal, 1 elevated, 2 critical: the worst that was scraped",
    ),
    figure(
        "ledger_drift_max_mib",
        "MiB",
        Service,
        "largest distance between texture ledger and allocator",
    ),
    figure(
        "shed_by_service",
        "requests",
        Service,
        "requests the service says it shed",
    ),
    figure(
        "pixels_over_limit",
        "ratio",
        Probe,
        "decoded bytes of all backgrounds against the memory limit",
    ),
    figure(
        "uploads_probed",
        "uploads",
        Probe,
        "the runner's own uploads that were acknowledged right before the kill",
    ),
    figure(
        "uploads_checked",
        "uploads",
        Probe,
        "acknowledged uploads, the runner's own and the load's, looked for after the restart",
    ),
    figure(
        "uploads_missing",
        "uploads",
        Probe,
        "acknowledged uploads that were gone or different after the restart",
    ),
    figure(
        "stale_ids_not_found",
        "ratio",
        Probe,
        "session ids of the earlier life answered by a clean 404, of those asked for",
    ),
    figure(
        "clean_errors_ratio",
        "ratio",
        Probe,
        "answers other than 200 that were problem+json with a code, of those the runner saw",
    ),
    figure(
        "errors_seen",
        "answers",
        Probe,
        "answers other than 200 that the runner's own requests saw while the failpoints stood",
    ),
    figure(
        "outage_s",
        "s",
        Probe,
        "from the kill until the service was ready again",
    ),
    figure(
        "recovery_s",
        "s",
        Timing,
        "from the end of the fault until every band of [recovery] held for 3 s in a row",
    ),
];

/// Figures that have no sample where no fault acted.
const OF_FAULTS: &[&str] = &[
    "errors_counted_ratio",
    "clean_errors_ratio",
    "memory_given_back_mib",
    "uploads_checked",
    "uploads_missing",
    "stale_ids_not_found",
    "outage_s",
    "recovery_s",
];

/// Whether the figure is about what a fault did.
#[must_use]
pub fn is_of_faults(name: &str) -> bool {
    OF_FAULTS.contains(&name)
}

/// The figure of that name, without a window.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    FIGURES.iter().find(|f| f.name == name)
}

/// The figure of that name, a window after a dot allowed.
#[must_use]
pub fn find_windowed(name: &str) -> Option<&'static Spec> {
    find(name.split_once('.').map_or(name, |(base, _)| base))
}

/// The figures most alike to a name that does not exist, in words.
#[must_use]
pub fn nearest(name: &str) -> String {
    let mut ranked: Vec<_> = FIGURES
        .iter()
        .map(|f| (distance(name, f.name), f.name))
        .collect();
    ranked.sort_unstable();
    let names: Vec<_> = ranked
        .iter()
        .take(3)
        .map(|(_, n)| format!("`{n}`"))
        .collect();
    format!("{}, or another of `explain figures`", names.join(", "))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_near_ones_are_found() {
        for (i, a) in FIGURES.iter().enumerate() {
            assert!(
                FIGURES[i + 1..].iter().all(|b| b.name != a.name),
                "{} twice",
                a.name
            );
        }
        assert!(OF_FAULTS.iter().all(|name| find(name).is_some()));
        assert!(nearest("switch_p98_ms").starts_with("`switch_p9"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
