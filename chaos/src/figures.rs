//! Every figure of `catalogue`, computed in one place from what a trial observed, each with the number of samples behind it.
//!
//! A figure without samples is absent; an expectation on it is unknown and the scenario can not have held.

use std::collections::BTreeMap;

use backdrop_reports::load::{Interval, LoadReport, OperationFigures};

use crate::host::HostSample;
use crate::lru;
use crate::metrics::{Scrape, increase};
use crate::observed::{Observed, Plan, Uploads};
use crate::steady::{self, Recovery};

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Value in the catalogue's unit.
    pub value: f64,
    /// Samples behind it, at least one.
    pub samples: u64,
    /// It is at least this much: what it counts up to had not come when the load was over.
    pub at_least: bool,
    /// For figures of [`crate::catalogue::Source::Answers`]: its value if the operations that a clock gave up on had been
    /// answered well.
    pub but_for_timeouts: Option<f64>,
}

/// Figures by name, `NAME.WINDOW` for those of a window.
pub type Figures = BTreeMap<String, Figure>;

const MIB: f64 = (1 << 20) as f64;

/// Computes every figure that has evidence.
#[must_use]
pub fn compute(seen: &Observed, plan: Plan<'_>) -> Figures {
    let mut out = Collected::default();
    kernel(seen, &mut out);
    load(seen, plan, &mut out);
    service(seen, &mut out);
    accesses(seen, &mut out);
    probes(seen, &mut out);
    match steady::recovery(seen, plan) {
        Some(Recovery::After { s, seconds }) => out.put("recovery_s", s, seconds),
        Some(Recovery::Never { waited_s, seconds }) => {
            out.put_least("recovery_s", waited_s, seconds);
        }
        None => {}
    }
    out.0
}

#[derive(Default)]
struct Collected(Figures);

impl Collected {
    fn put(&mut self, name: &str, value: f64, samples: u64) {
        self.insert(name, value, samples, None);
    }

    fn put_least(&mut self, name: &str, value: f64, samples: u64) {
        self.put(name, value, samples);
        if let Some(figure) = self.0.get_mut(name) {
            figure.at_least = true;
        }
    }

    fn put_answers(&mut self, name: &str, value: f64, but_for_timeouts: f64, samples: u64) {
        self.insert(name, value, samples, Some(but_for_timeouts));
    }

    fn insert(&mut self, name: &str, value: f64, samples: u64, but_for_timeouts: Option<f64>) {
        if samples > 0 && value.is_finite() {
            let figure = Figure {
                value,
                samples,
                at_least: false,
                but_for_timeouts,
            };
            self.0.insert(name.to_owned(), figure);
        }
    }

    fn maybe(&mut self, name: &str, value: Option<f64>, samples: u64) {
        if let Some(value) = value {
            self.put(name, value, samples);
        }
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(|f| f.value)
    }
}

fn kernel(seen: &Observed, out: &mut Collected) {
    if seen.oracle.readable {
        out.put("service_oom_kills", seen.oracle.service_kills as f64, 1);
        out.put("hog_oom_kills", seen.oracle.hog_kills as f64, 1);
        if let Some(load) = seen.load.as_ref().filter(|l| l.duration_s > 0.0) {
            out.put(
                "kills_per_hour",
                seen.oracle.service_kills as f64 * 3600.0 / load.duration_s,
                1,
            );
        }
    }
    let peaks = &seen.peaks;
    out.put(
        "service_peak_mib",
        peaks.service_held as f64 / MIB,
        peaks.samples,
    );
    out.put(
        "usage_peak_mib",
        peaks.cell_usage as f64 / MIB,
        peaks.samples,
    );
    let hog = seen.rows.iter().map(|r| r.hog.anon).max();
    out.maybe(
        "hog_peak_mib",
        hog.map(|b| b as f64 / MIB),
        seen.rows.len() as u64,
    );
    let sockets = seen
        .sockets_counted
        .then(|| seen.rows.iter().map(|r| r.service.sockets).max());
    out.maybe(
        "sockets_peak_mib",
        sockets.flatten().map(|b| b as f64 / MIB),
        seen.rows.len() as u64,
    );
    out.maybe(
        "kernel_peak_mib",
        seen.kernel_peak_bytes.map(|b| b as f64 / MIB),
        1,
    );
    let cache = seen
        .rows
        .iter()
        .map(|r| r.service.active_file + r.hog.active_file);
    out.maybe(
        "page_cache_peak_mib",
        cache.max().map(|b| b as f64 / MIB),
        seen.rows.len() as u64,
    );
    // By the limit of each moment: one that was lowered is nearer.
    let shares = seen.rows.iter().filter(|r| r.limit > 0);
    let shares = shares.map(|r| r.usage as f64 / r.limit as f64);
    let highest = shares.reduce(f64::max);
    out.maybe("usage_share_max", highest, seen.rows.len() as u64);
    given_back(seen, out);
    service_cores(seen, out);
}

/// Kinds of fault that the service answers by giving memory back.
const PRESSING: [&str; 3] = ["memory_hog", "burst", "limit_shrink"];

/// Memory of the service in the 3 s before the first fault that presses against its least while that stood.
fn given_back(seen: &Observed, out: &mut Collected) {
    let pressing = |f: &&backdrop_reports::record::Fault| PRESSING.contains(&f.kind.as_str());
    let Some(hog) = seen.faults.iter().find(pressing) else {
        return;
    };
    let within = |from: f64, to: f64| {
        seen.rows
            .iter()
            .filter(move |r| (from..=to).contains(&seen.t_s(r.unix_ms)))
            .map(|r| r.service.held())
    };
    let before = within(hog.from_s - 3.0, hog.from_s).max();
    let least = within(hog.from_s, hog.to_s).min();
    if let (Some(before), Some(least)) = (before, least) {
        let samples = within(hog.from_s, hog.to_s).count() as u64;
        out.put(
            "memory_given_back_mib",
            (before as f64 - least as f64) / MIB,
            samples,
        );
    }
}

fn service_cores(seen: &Observed, out: &mut Collected) {
    let end = seen.load.as_ref().map_or(f64::MAX, |l| l.duration_s);
    let during: Vec<&HostSample> = seen
        .rows
        .iter()
        .filter(|r| (0.0..=end).contains(&seen.t_s(r.unix_ms)) && r.service_cpu_s.is_some())
        .collect();
    let (Some(first), Some(last)) = (during.first(), during.last()) else {
        return;
    };
    let wall = (last.unix_ms.saturating_sub(first.unix_ms)) as f64 / 1e3;
    // A restart sets the clock back: only rises count.
    let cpu: f64 = during
        .windows(2)
        .filter_map(|w| Some((w[1].service_cpu_s? - w[0].service_cpu_s?).max(0.0)))
        .sum();
    if wall > 0.0 && seen.started_unix_ms > 0 {
        out.put("service_cores", cpu / wall, during.len() as u64);
    }
}

fn load(seen: &Observed, plan: Plan<'_>, out: &mut Collected) {
    let reported = seen.load.as_ref().map_or(0, |l| l.sessions.reached);
    let reached = reported.max(seen.sessions_live);
    out.put(
        "sessions_reached",
        reached as f64,
        u64::from(seen.load.is_some() || seen.sessions_live > 0),
    );
    degraded_or_shed(seen, plan, out);
    let Some(report) = &seen.load else { return };
    operations(out, "", &report.switches, &report.previews, plan);
    for window in &report.windows {
        operations(
            out,
            &format!(".{}", window.name),
            &window.switches,
            &window.previews,
            plan,
        );
    }
    let truth = &report.truth;
    let violations = truth.lost + truth.stale + truth.wrong + truth.torn;
    let looked = truth.sessions_read + truth.sessions_sampled + truth.frames_read;
    out.put(
        "lost_switches",
        truth.lost as f64,
        truth.sessions_read + truth.sessions_sampled,
    );
    out.put("truth_violations", violations as f64, looked);
    out.put(
        "sessions_read_back",
        truth.sessions_read as f64,
        truth.sessions_read,
    );
    out.put("frames_read", truth.frames_read as f64, truth.frames_read);
    if report.sessions.created > 0 {
        // Those whose last switch is indeterminate were read like all others; their answer may be one of two.
        out.put(
            "read_back_ratio",
            truth.sessions_read as f64 / report.sessions.created as f64,
            truth.sessions_read,
        );
    }
    out.put("updates", report.updates as f64, 1);
    flyweight(report, out);
    out.put("sessions_recreated", report.sessions.recreated as f64, 1);
    out.put(
        "creations_shed",
        report.sessions.shed as f64,
        report.sessions.requested,
    );
    let shed = report.sessions.shed + report.switches.shed;
    out.put(
        "entries_shed",
        shed as f64,
        report.sessions.requested + report.switches.planned,
    );
    out.put(
        "connections_max",
        report.http.connections_max as f64,
        report.http.connections_opened,
    );
    out.put(
        "simulator_cores",
        report.simulator.cores_mean,
        u64::from(report.simulator.cpu_s > 0.0),
    );
    if let (Some(service), true) = (out.value("service_cores"), report.simulator.cpu_s > 0.0) {
        out.put("total_cores", service + report.simulator.cores_mean, 1);
    }
}

/// Herds and scans, where the load had any.
fn flyweight(report: &LoadReport, out: &mut Collected) {
    if let Some(herds) = &report.herds {
        let ms = |us: u64| us as f64 / 1e3;
        out.put("herds", herds.herds as f64, 1);
        let shown = herds.shown as f64 / herds.asked.max(1) as f64;
        out.put("herd_shown_ratio", shown, herds.asked);
        out.put("herd_first_ms", ms(herds.first.p50_us), herds.first.count);
        out.put("herd_last_ms", ms(herds.last.p50_us), herds.last.count);
        // Every herd must have been counted: the one that was not may be the one that loaded twice.
        if herds.counted == herds.herds {
            out.put("herd_loads_max", herds.loads_max as f64, herds.counted);
        }
    }
    if let Some(scan) = &report.scan {
        out.put("scan_passes", scan.passes, 1);
    }
}

fn operations(
    out: &mut Collected,
    window: &str,
    switches: &OperationFigures,
    previews: &OperationFigures,
    plan: Plan<'_>,
) {
    failures(out, window, switches, previews);
    let ms = |us: u64| us as f64 / 1e3;
    let mut put =
        |name: &str, value: f64, samples: u64| out.put(&format!("{name}{window}"), value, samples);
    let latency = &switches.latency;
    put("switch_rate_per_s", switches.rate_per_s, switches.planned);
    let planned = plan.load.planned_switches_per_s();
    if planned > 0.0 {
        put(
            "switch_rate_ratio",
            switches.rate_per_s / planned,
            switches.planned,
        );
    }
    put("switch_p50_ms", ms(latency.p50_us), latency.count);
    put("switch_p99_ms", ms(latency.p99_us), latency.count);
    put("switch_p999_ms", ms(latency.p999_us), latency.count);
    put("switch_max_ms", ms(latency.max_us), latency.count);
    put("switches_shed", switches.shed as f64, switches.planned);
    put("preview_rate_per_s", previews.rate_per_s, previews.planned);
    put(
        "preview_p50_ms",
        ms(previews.latency.p50_us),
        previews.latency.count,
    );
    put(
        "preview_p99_ms",
        ms(previews.latency.p99_us),
        previews.latency.count,
    );
}

/// Operations that failed because a clock ran out, before the answer or before the send: on a busy host they say
/// nothing of the service. By the names that the simulator gives them.
fn timed_out(operations: &OperationFigures) -> u64 {
    let names = ["timeout", "unsent_timeout", "overslept"];
    names.iter().filter_map(|n| operations.errors.get(*n)).sum()
}

fn failures(
    out: &mut Collected,
    window: &str,
    switches: &OperationFigures,
    previews: &OperationFigures,
) {
    let failed = |o: &OperationFigures| o.failed + o.indeterminate;
    let mut put = |name: &str, count: &dyn Fn(u64) -> f64, all: u64, o: &OperationFigures| {
        let but_for = all.saturating_sub(timed_out(o));
        let name = format!("{name}{window}");
        out.put_answers(&name, count(all), count(but_for), o.planned);
    };
    put("switches_failed", &|n| n as f64, failed(switches), switches);
    let of = |o: &OperationFigures| o.planned.max(1) as f64;
    let missed = failed(switches) + switches.shed;
    put(
        "switch_missed_ratio",
        &|n| n as f64 / of(switches),
        missed,
        switches,
    );
    put(
        "preview_failed_ratio",
        &|n| n as f64 / of(previews),
        failed(previews),
        previews,
    );
    // Whole ones are what is left after everything else.
    let short = previews.degraded + previews.shed + failed(previews);
    put(
        "preview_whole_ratio",
        &|n| 1.0 - n as f64 / of(previews),
        short,
        previews,
    );
}

fn degraded_or_shed(seen: &Observed, plan: Plan<'_>, out: &mut Collected) {
    let from = plan.steady.from.as_secs_f64();
    let steady = seen.intervals().iter().filter(|i| i.t_s > from);
    let (mut short, mut all) = (0, 0);
    for i in steady {
        short += i.previews_degraded + i.previews_shed;
        all += i.previews_ok + i.previews_degraded + i.previews_shed;
    }
    if all > 0 {
        out.put("degraded_or_shed_ratio", short as f64 / all as f64, all);
    }
}

fn service(seen: &Observed, out: &mut Collected) {
    type Field = fn(&Scrape) -> Option<f64>;
    let scrapes = &seen.scrapes;
    let samples = |field: Field| scrapes.iter().filter_map(field).count() as u64;
    let rise = |field: Field| increase(scrapes, field);
    let mut risen = |name: &str, field: Field| out.maybe(name, rise(field), samples(field));
    risen("evictions", |s| s.evictions);
    risen("evicted_mib", |s| s.evicted_bytes.map(|b| b / MIB));
    risen("loads", |s| s.loads);
    risen("loads_overtaken", |s| s.loads_overtaken);
    risen("loads_refused", |s| Some(s.degraded? + s.accesses_shed?));
    risen("load_errors", |s| s.load_errors);
    risen("archive_hits", |s| s.archive_hits);
    risen("archive_damaged", |s| s.archive_damaged);
    risen("archive_write_errors", |s| s.archive_write_errors);
    risen("governor_transitions", |s| s.governor_transitions);
    risen("shed_by_service", |s| s.shed);
    risen("failpoint_triggers", |s| s.failpoint_triggers);
    // What was never there can neither draw nor be lost.
    let gpu = scrapes.iter().any(|s| s.gpu_frames > Some(0.0));
    if gpu {
        risen("gpu_frames", |s| s.gpu_frames);
        risen("gpu_losses", |s| s.gpu_losses);
    }
    let per_min = transitions_per_min(scrapes);
    let changes = samples(|s| s.governor_transitions);
    out.maybe("governor_transitions_per_min", per_min, changes);
    let mut highest = |name: &str, field: Field| {
        let value = scrapes.iter().filter_map(field).reduce(f64::max);
        out.maybe(name, value, samples(field));
    };
    highest("pinned_share_max", |s| {
        Some(s.pinned_bytes? / s.textures_bytes.filter(|b| *b > 0.0)?)
    });
    highest("pinned_peak_mib", |s| s.pinned_bytes.map(|b| b / MIB));
    highest("governor_worst_state", |s| s.governor_state);
    highest("ledger_drift_max_mib", |s| {
        s.drift_bytes.map(|b| b.abs() / MIB)
    });
    // Counted, as a share of what was injected or lost; nothing was shown where nothing was.
    let mut share = |name: &str, counted: Field, injected: Field| {
        if let (Some(counted), Some(all)) = (rise(counted), rise(injected))
            && all > 0.0
        {
            out.put(name, counted / all, samples(injected));
        }
    };
    share(
        "archive_errors_counted_ratio",
        |s| s.archive_write_errors,
        |s| s.archive_failures_injected,
    );
    if gpu {
        share("gpu_returned_ratio", |s| s.gpu_returns, |s| s.gpu_losses);
    }
    share(
        "errors_counted_ratio",
        |s| s.load_errors,
        |s| s.load_failures_injected,
    );
    if let (Some(evictions), Some(resident)) = (rise(|s| s.evictions), median_resident(scrapes))
        && resident > 0.0
    {
        let samples = samples(|s| s.evictions);
        out.put("evicted_capacities", evictions / resident, samples);
    }
    if let (Some(failed), Some(all), samples) = during_failpoints(seen)
        && all > 0.0
    {
        out.put("load_error_ratio", failed / all, samples);
    }
}

/// Changes of the governor's state per minute between the first and the last scrape.
fn transitions_per_min(scrapes: &[Scrape]) -> Option<f64> {
    let (first, last) = scrapes.first().zip(scrapes.last())?;
    let minutes = last.unix_ms.saturating_sub(first.unix_ms) as f64 / 60_000.0;
    increase(scrapes, |s| s.governor_transitions)
        .filter(|_| minutes > 0.0)
        .map(|changes| changes / minutes)
}

/// Failed and all loads from the first failpoint on until the last one is off, and scrapes in between.
fn during_failpoints(seen: &Observed) -> (Option<f64>, Option<f64>, u64) {
    let faults = || seen.faults.iter().filter(|f| f.kind == "failpoint");
    let from = faults().map(|f| f.from_s).fold(f64::MAX, f64::min);
    let to = faults().map(|f| f.to_s).fold(f64::MIN, f64::max);
    let inside: Vec<_> = seen
        .scrapes
        .iter()
        .filter(|s| (from..=to + 1.0).contains(&seen.t_s(s.unix_ms)))
        .collect();
    (
        increase(inside.iter().copied(), |s| s.load_errors),
        increase(inside.iter().copied(), |s| s.loads),
        inside.len() as u64,
    )
}

/// Median number of resident textures since the first eviction.
fn median_resident(scrapes: &[Scrape]) -> Option<f64> {
    let mut counts: Vec<f64> = scrapes
        .iter()
        .filter(|s| s.evictions.is_some_and(|e| e > 0.0))
        .filter_map(|s| s.textures)
        .collect();
    counts.sort_by(f64::total_cmp);
    counts.get(counts.len() / 2).copied()
}

fn accesses(seen: &Observed, out: &mut Collected) {
    if let Some(seen) = seen.probes.accesses.as_ref().and_then(lru::compare) {
        out.put("hit_ratio", seen.recorded, seen.accesses);
        out.put("lru_replay_hit_ratio", seen.replayed, seen.accesses);
        out.put(
            "hit_ratio_gap_points",
            (seen.recorded - seen.replayed).abs() * 100.0,
            seen.accesses,
        );
        return;
    }
    // Without a record the counters still give the ratio, though nothing to compare it with.
    let hits = increase(&seen.scrapes, |s| s.hits);
    let all = increase(&seen.scrapes, Scrape::accesses);
    if let (Some(hits), Some(all)) = (hits, all)
        && all > 0.0
    {
        out.put("hit_ratio", hits / all, all as u64);
    }
}

fn probes(seen: &Observed, out: &mut Collected) {
    let probes = &seen.probes;
    if let (Some(bytes), true) = (probes.catalogue_pixel_bytes, seen.limit_bytes > 0) {
        out.put(
            "pixels_over_limit",
            bytes as f64 / seen.limit_bytes as f64,
            1,
        );
    }
    if let Some(uploads) = probes.uploads {
        let all = Uploads::TRIED;
        out.put("uploads_probed", uploads.probed as f64, all);
        // Nothing lost of nothing uploaded would prove nothing.
        if uploads.probed >= all {
            out.put("uploads_checked", uploads.checked as f64, uploads.checked);
            out.put("uploads_missing", uploads.missing as f64, uploads.checked);
        }
    }
    if let Some((asked, clean)) = probes
        .stale_ids
        .filter(|(asked, _)| *asked >= Uploads::STALE_IDS)
    {
        out.put("stale_ids_not_found", clean as f64 / asked as f64, asked);
    }
    if let Some((seen, clean)) = probes.errors.filter(|(seen, _)| *seen > 0) {
        out.put("errors_seen", seen as f64, seen);
        out.put("clean_errors_ratio", clean as f64 / seen as f64, seen);
    }
    if let Some(limit) = &probes.limit {
        let steps = limit.steps.len() as u64;
        out.put("limit_steps", steps as f64, 1);
        let missed = limit.reached.saturating_sub(limit.asked) as f64 / MIB;
        out.put("limit_missed_mib", missed, 1);
        let slowest = limit.steps.iter().map(|s| s.adopted_s).reduce(f64::max);
        out.maybe("limit_adopted_max_s", slowest, steps);
    }
    if let Some(burst) = probes.burst {
        out.put("burst_rate_mib_s", burst.rate / MIB, 1);
        let over = burst.bound.map(|bound| burst.rate / bound);
        out.maybe("burst_over_bound", over, 1);
    }
    if let Some(seen) = probes.oversized.filter(|seen| seen.answered > 0) {
        let refused = seen.refused as f64 / seen.answered as f64;
        out.put("oversized_refused_ratio", refused, seen.answered);
    }
    for (name, seen) in [
        ("slow_clients_cut", probes.slow_clients),
        ("flood_connections_cut", probes.flood),
    ] {
        if let Some(seen) = seen {
            out.put(name, seen.cut as f64, seen.opened);
        }
    }
    out.maybe("outage_s", probes.outage_s, 1);
    out.maybe(
        "bytes_per_session",
        probes.bytes_per_session.filter(|b| *b > 0.0),
        1,
    );
}

/// Acknowledged operations of one second: switches, or previews where nothing switches.
#[must_use]
pub fn acknowledged(interval: &Interval, planned_switches_per_s: f64) -> f64 {
    if planned_switches_per_s > 0.0 {
        interval.switches_ok as f64
    } else {
        interval.previews_ok as f64
    }
}
