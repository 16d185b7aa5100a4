//! Which charts a trial has, and which recorded columns each one shows.

use crate::load::{Interval, LoadReport, OperationFigures};
use crate::record::Trial;
use crate::render::chart::{Chart, Role, Series, XAxis, YAxis};
use crate::render::series::{Column, align, growth_per_second, sum};

const NO_LOAD: &str = "The simulator left no figures: the load did not start or did not end.";
const NO_SAMPLES: &str = "No sample of these columns was recorded.";

/// The charts of a scenario's own run, in the order of the page; `prefix` makes their ids unique.
#[must_use]
pub fn of_trial(prefix: &str, trial: &Trial) -> Vec<Chart> {
    vec![
        memory(format!("{prefix}-memory"), trial).wide().titled(
            "Memory",
            "What counts against the limit. The kernel kills at the limit; the governor acts at the watermarks.",
        ),
        governor(format!("{prefix}-governor"), trial).wide().titled(
            "Governor state",
            "Normal, elevated (cache gives memory back), critical (no new loads).",
        ),
        latency(format!("{prefix}-latency"), trial).titled(
            "Switch latency",
            "From each session's planned time to the last byte of its answer, per second of load; logarithmic.",
        ),
        spectrum(format!("{prefix}-spectrum"), trial).titled(
            "Latency spectrum",
            "The whole distribution: each step to the right is ten times rarer. Both axes are logarithmic.",
        ),
        rates(format!("{prefix}-rates"), trial).titled("Rate", "Answers per second by outcome."),
        cache(format!("{prefix}-hits"), trial).titled(
            "Hit ratio",
            "Share of texture accesses, whatever came of them, that found their texture resident or its load under way, per second. Degraded answers and 503s are no hits.",
        ),
        evictions(format!("{prefix}-evictions"), trial)
            .titled("Evictions and loads", "Textures evicted and accesses that missed, per second."),
        processor(format!("{prefix}-processor"), trial)
            .titled("Processor", "Cores in use by the service, user and system."),
    ]
}

/// The memory chart of one trial, without heading.
#[must_use]
pub fn memory(id: String, trial: &Trial) -> Chart {
    let columns = &trial.timeline.series;
    let column = |name: &str| columns.get(name).cloned().unwrap_or_default();
    let extra: Vec<Column> = ["kernel_bytes", "sockets_bytes"].map(column).to_vec();
    let service = sum(&column("anon_bytes"), &extra.iter().collect::<Vec<_>>());
    let series = vec![
        Series::new("service: anon + kernel + sockets", Role::Main, service),
        Series::new("hog", Role::Hog, column("hog_bytes")),
        Series::new("usage of the cgroup", Role::Faint, column("usage_bytes")),
        Series::offered("pressure", Role::Second, column("pressure_bytes")),
        Series::new(
            "allocator resident",
            Role::Allocator,
            column("allocator_resident_bytes"),
        ),
        Series::new("budget used", Role::Budget, column("budget_used_bytes")),
        Series::offered("textures", Role::Third, column("textures_bytes")),
        Series::offered("page cache", Role::Elevated, column("file_bytes")),
        Series::new(
            "budget ceiling",
            Role::Ceiling,
            column("budget_ceiling_bytes"),
        ),
        Series::new("elevated", Role::Elevated, column("elevated_bytes")),
        Series::new("critical", Role::Critical, column("critical_bytes")),
        Series::new("limit", Role::Limit, column("limit_bytes")),
    ];
    Chart::over_time(
        id,
        YAxis::Bytes,
        trial,
        &trial.timeline.t_s,
        series,
        NO_SAMPLES,
    )
}

/// Memory charts of a scenario and one control on the same scales, so that the eye may compare them.
#[must_use]
pub fn side_by_side(prefix: &str, held: &Trial, control: &Trial) -> [Chart; 2] {
    let pair = [
        memory(format!("{prefix}-held"), held),
        memory(format!("{prefix}-control"), control),
    ];
    on_one_scale(pair, held, control)
}

/// End of an id, heading, and how the chart is made.
type Kind = (&'static str, &'static str, fn(String, &Trial) -> Chart);

/// The charts of the same trial in two runs, each pair on the same scales.
#[must_use]
pub fn of_pair(prefix: &str, before: &Trial, after: &Trial) -> Vec<[Chart; 2]> {
    const CHARTS: [Kind; 5] = [
        ("memory", "Memory", memory),
        ("latency", "Switch latency", latency),
        ("rates", "Rate", rates),
        ("hits", "Hit ratio", cache),
        ("spectrum", "Latency spectrum", spectrum),
    ];
    let pair = |(id, title, chart): Kind| {
        let sides = [("a", "first run", before), ("b", "second run", after)];
        let pair = sides.map(|(side, which, trial)| {
            chart(format!("{prefix}-{id}-{side}"), trial).titled(&format!("{title}, {which}"), "")
        });
        match pair[0].x_axis {
            XAxis::Time => on_one_scale(pair, before, after),
            XAxis::Tail | XAxis::Run => pair,
        }
    };
    CHARTS.into_iter().map(pair).collect()
}

fn on_one_scale(mut pair: [Chart; 2], held: &Trial, control: &Trial) -> [Chart; 2] {
    let top = pair.iter().map(Chart::value_max).fold(0.0, f64::max);
    let ends = |c: &Chart| Some((*c.x.first()?, *c.x.last()?));
    // Without a first planned send the times of a trial have another zero: no common time axis then.
    let both_began = held.started_unix_ms > 0 && control.started_unix_ms > 0;
    let range = ends(&pair[0]).zip(ends(&pair[1])).filter(|_| both_began);
    let range = range.map(|((a, b), (c, d))| (a.min(c), b.max(d)));
    let label_rows = pair[0].label_rows.max(pair[1].label_rows);
    for chart in &mut pair {
        chart.label_rows = label_rows;
        chart.y_max = (top > 0.0).then_some(top * 1.05);
        chart.x_range = range;
    }
    pair
}

fn governor(id: String, trial: &Trial) -> Chart {
    let state = trial
        .timeline
        .series
        .get("governor_state")
        .cloned()
        .unwrap_or_default();
    let series = vec![Series::new("state", Role::Elevated, state)];
    Chart::over_time(
        id,
        YAxis::State,
        trial,
        &trial.timeline.t_s,
        series,
        "No governor state was recorded.",
    )
}

fn interval_times(load: &LoadReport) -> Vec<f64> {
    load.intervals.iter().map(|i| i.t_s).collect()
}

/// One value per interval; `None` where the interval has no evidence for it.
fn per_interval(load: &LoadReport, value: impl Fn(&Interval) -> Option<u64>) -> Column {
    load.intervals
        .iter()
        .map(|i| value(i).map(|v| v as f64))
        .collect()
}

fn latency(id: String, trial: &Trial) -> Chart {
    let Some(load) = &trial.load else {
        return Chart::bare(id, XAxis::Time, YAxis::Micros, &[], Vec::new(), NO_LOAD);
    };
    // An interval without an answer has no latency, and a zero has no place on a logarithmic axis.
    let switches = |pick: fn(&Interval) -> u64| {
        per_interval(load, |i| (i.switches_ok > 0).then(|| pick(i).max(1)))
    };
    let previews =
        |i: &Interval| (i.previews_ok + i.previews_degraded > 0).then_some(i.preview_p99_us.max(1));
    let series = vec![
        Series::new("max", Role::Faint, switches(|i| i.switch_max_us)),
        Series::new("p99", Role::Main, switches(|i| i.switch_p99_us)),
        Series::new("p50", Role::Third, switches(|i| i.switch_p50_us)),
        Series::offered("preview p99", Role::Second, per_interval(load, previews)),
    ];
    Chart::over_time(
        id,
        YAxis::Micros,
        trial,
        &interval_times(load),
        series,
        "No switch was answered.",
    )
}

fn rates(id: String, trial: &Trial) -> Chart {
    let Some(load) = &trial.load else {
        return Chart::bare(id, XAxis::Time, YAxis::PerSecond, &[], Vec::new(), NO_LOAD);
    };
    let times = interval_times(load);
    let rate = |pick: fn(&Interval) -> u64| -> Column {
        let length = |i: usize| {
            if i == 0 {
                times[0]
            } else {
                times[i] - times[i - 1]
            }
        };
        let length = |i: usize| if length(i) > 0.0 { length(i) } else { 1.0 };
        load.intervals
            .iter()
            .enumerate()
            .map(|(i, v)| Some(pick(v) as f64 / length(i)))
            .collect()
    };
    // A line that is zero throughout says nothing that the tables do not say; it would only crowd the legend.
    let unless_zero = |column: Column| {
        if column.iter().all(|v| *v == Some(0.0)) {
            Vec::new()
        } else {
            column
        }
    };
    let series = vec![
        Series::new("switches", Role::Main, rate(|i| i.switches_ok)),
        Series::new(
            "switches shed",
            Role::Elevated,
            unless_zero(rate(|i| i.switches_shed)),
        ),
        Series::new(
            "switches failed",
            Role::Critical,
            unless_zero(rate(|i| i.switches_failed)),
        ),
        Series::new(
            "previews",
            Role::Second,
            unless_zero(rate(|i| i.previews_ok)),
        ),
        Series::new(
            "previews degraded",
            Role::Third,
            unless_zero(rate(|i| i.previews_degraded)),
        ),
        Series::new(
            "previews shed",
            Role::Hog,
            unless_zero(rate(|i| i.previews_shed)),
        ),
        Series::new(
            "previews failed",
            Role::Limit,
            unless_zero(rate(|i| i.previews_failed)),
        ),
    ];
    Chart::over_time(
        id,
        YAxis::PerSecond,
        trial,
        &times,
        series,
        "The load has no intervals.",
    )
}

/// Growth per second of the named counters; empty columns for those not recorded.
fn growth<const N: usize>(trial: &Trial, names: [&str; N]) -> (Vec<f64>, [Column; N]) {
    let counters = names.map(|name| {
        let mut column = trial.timeline.series.get(name).cloned().unwrap_or_default();
        column.resize(trial.timeline.t_s.len(), None);
        column
    });
    let (times, columns) = growth_per_second(&trial.timeline.t_s, &counters.each_ref());
    (
        times,
        columns
            .try_into()
            .unwrap_or_else(|_| std::array::from_fn(|_| Column::new())),
    )
}

fn cache(id: String, trial: &Trial) -> Chart {
    // What counts as an access is the runner's to say, which judges by the same column.
    let (times, [hits, accesses]) = growth(trial, ["hits_total", "accesses_total"]);
    let ratio = |(hits, all): (&Option<f64>, &Option<f64>)| {
        let all = (*all).filter(|all| *all > 0.0)?;
        Some((*hits)? / all)
    };
    let ratio: Column = hits.iter().zip(&accesses).map(ratio).collect();
    let series = vec![Series::new("hit ratio", Role::Main, ratio)];
    let mut chart = Chart::over_time(
        id,
        YAxis::Ratio,
        trial,
        &times,
        series,
        "No texture was asked for while samples were taken.",
    );
    chart.y_max = Some(1.0);
    chart
}

fn evictions(id: String, trial: &Trial) -> Chart {
    let (times, [evictions, misses, degraded, shed]) = growth(
        trial,
        [
            "evictions_total",
            "misses_total",
            "degraded_total",
            "shed_total",
        ],
    );
    let series = vec![
        Series::new("evictions", Role::Main, evictions),
        Series::new("misses", Role::Second, misses),
        Series::new("degraded", Role::Elevated, degraded),
        Series::new("shed", Role::Critical, shed),
    ];
    Chart::over_time(
        id,
        YAxis::PerSecond,
        trial,
        &times,
        series,
        "No eviction counter was recorded.",
    )
}

fn processor(id: String, trial: &Trial) -> Chart {
    let (times, [cores]) = growth(trial, ["service_cpu_s"]);
    let series = vec![Series::new("service", Role::Main, cores)];
    Chart::over_time(
        id,
        YAxis::Cores,
        trial,
        &times,
        series,
        "The service's CPU time was not recorded.",
    )
}

fn spectrum(id: String, trial: &Trial) -> Chart {
    let Some(load) = &trial.load else {
        return Chart::bare(id, XAxis::Tail, YAxis::Micros, &[], Vec::new(), NO_LOAD);
    };
    let mut lines = vec![("switches".to_owned(), Role::Main, &load.switches)];
    const ROLES: [Role; 4] = [Role::Second, Role::Third, Role::Elevated, Role::Ceiling];
    for (window, role) in load.windows.iter().zip(ROLES.into_iter().cycle()) {
        lines.push((format!("switches, {}", window.name), role, &window.switches));
    }
    lines.push(("previews".to_owned(), Role::Hog, &load.previews));
    let points: Vec<Vec<(f64, f64)>> = lines.iter().map(|(_, _, figures)| tail(figures)).collect();
    let (x, columns) = align(&points);
    let series = lines
        .into_iter()
        .zip(columns)
        .map(|((label, role, _), values)| Series::new(label, role, values));
    let empty = "No latency spectrum was recorded.";
    let mut chart = Chart::bare(id, XAxis::Tail, YAxis::Micros, &x, series.collect(), empty);
    chart.joined = true;
    chart
}

/// The spectrum over 1 / (1 - quantile). Quantile 1 has no place on that axis: the largest of n values stands at n.
fn tail(figures: &OperationFigures) -> Vec<(f64, f64)> {
    let end = (figures.latency.count.max(1)) as f64;
    let points = figures
        .spectrum
        .iter()
        .filter(|(q, us)| (0.0..=1.0).contains(q) && *us > 0);
    points
        .map(|(q, us)| {
            (
                (1.0 / (1.0 - q).max(f64::MIN_POSITIVE)).min(end),
                *us as f64,
            )
        })
        .collect()
}
