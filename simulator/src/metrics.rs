//! What a run tells a Prometheus while it lasts (`--metrics-listen`): the figures of the report, as counters.
//!
//! Poured in once a second by the monitor, from what it takes anyway, so that no request is touched by it. Every label set is
//! closed and there from the start, at 0.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backdrop_reports::load::{SendFigures, TruthFigures};
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

use crate::record::{Second, Total};

/// The phases that the events name, in their order.
pub const PHASES: [&str; 6] = ["setup", "warmup", "load", "drain", "readback", "done"];
const OPERATIONS: [&str; 2] = ["switch", "preview"];
const RESULTS: [&str; 5] = ["ok", "degraded", "shed", "failed", "indeterminate"];
const MISSED: [&str; 3] = ["late", "dropped", "unsent"];
const FINDINGS: [&str; 4] = ["lost", "stale", "wrong", "torn"];
const CHECKED: [&str; 2] = ["session", "frame"];

/// Bounds of the latency histograms, microseconds; the first ones are the goal's own: 10 ms from plan to answer.
const BOUNDS_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

type Labels = Vec<(&'static str, &'static str)>;

/// Latencies that arrive a second at a time, already counted: `Histogram` of the library takes them one by one.
#[derive(Debug, Clone, Default)]
struct Latencies(Arc<Mutex<Buckets>>);

#[derive(Debug, Default)]
struct Buckets {
    sum_s: f64,
    count: u64,
    /// Counts up to each bound, and beyond the last one.
    counts: [u64; BOUNDS_US.len() + 1],
}

impl Latencies {
    fn add(&self, second: &Total) {
        let mut buckets = self.0.lock();
        for value in second.iter_recorded() {
            let (us, n) = (value.value_iterated_to(), value.count_at_value());
            buckets.counts[BOUNDS_US.partition_point(|bound| *bound < us)] += n;
            buckets.count += n;
            buckets.sum_s += us as f64 / 1e6 * n as f64;
        }
    }
}

impl EncodeMetric for Latencies {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let buckets = self.0.lock();
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let pairs: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(buckets.counts).collect();
        encoder.encode_histogram::<NoLabelSet>(buckets.sum_s, buckets.count, &pairs, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latencies {
    const TYPE: MetricType = MetricType::Histogram;
}

/// All series of one run.
pub struct Metrics {
    registry: Registry,
    phase: Vec<Gauge>,
    sessions: Gauge,
    operations: Vec<Counter>,
    latency: Vec<Latencies>,
    sends_planned: Vec<Counter>,
    sends_missed: Vec<Counter>,
    requests: Counter,
    connections: Counter,
    updates: Counter,
    findings: Vec<Counter>,
    checked: Vec<Counter>,
    cpu_seconds: Counter<f64, AtomicU64>,
    resident_peak_bytes: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What the run's own counters stand at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Sessions that hold a background.
    pub sessions: u64,
    /// Requests sent.
    pub requests: u64,
    /// Connections opened.
    pub connections: u64,
    /// Hot updates acknowledged.
    pub updates: u64,
    /// CPU time of the process.
    pub cpu: Duration,
    /// Peak resident set, bytes.
    pub resident_peak_bytes: u64,
}

impl Metrics {
    /// Every series at 0. `scenario` is the load's name, `sessions` how many it wants.
    #[must_use]
    pub fn new(scenario: &'static str, sessions: u64) -> Self {
        let mut registry = Registry::with_prefix("backdrop_simulator");
        let r = &mut registry;
        let version = env!("CARGO_PKG_VERSION");
        let info: Gauge = one_of(
            r,
            "build_info",
            "Version of this build, and the load that it runs",
            vec![("version", version), ("scenario", scenario)],
        );
        info.set(1);
        let planned: Gauge = single(r, "sessions_planned", "Sessions that the load wants");
        planned.set(sessions as i64);
        Self {
            phase: by(
                r,
                "phase",
                "1 for the phase that the run is in",
                "phase",
                &PHASES,
            ),
            sessions: single(
                r,
                "sessions",
                "Sessions that hold a background; a fall means that the service forgot them",
            ),
            operations: pairs(
                r,
                "operations",
                "Switches, one per session, and preview frames that were answered or given up, by result; more shed: the service refuses load; more failed or indeterminate: it fails",
                ("operation", &OPERATIONS),
                ("result", &RESULTS),
            ),
            latency: by(
                r,
                "latency_seconds",
                "Time from an operation's planned moment to its answer, or to when it was given up, the wait for its batch included; a rise means that sessions wait for the service, or for a simulator that is late",
                "operation",
                &OPERATIONS,
            ),
            sends_planned: by(
                r,
                "sends_planned",
                "Sends that fell due; a rise means more load",
                "operation",
                &OPERATIONS,
            ),
            sends_missed: pairs(
                r,
                "sends_missed",
                "Sends not made as planned; more late or dropped: the simulator's own doing, which above 1 % makes a run inconclusive; more unsent: the service takes no connection",
                ("operation", &OPERATIONS),
                ("how", &MISSED),
            ),
            requests: single(
                r,
                "requests",
                "HTTP requests sent, batches as one; a rise at the same load means smaller batches",
            ),
            connections: single(
                r,
                "connections_opened",
                "Connections opened; a rise during the load means that the service closes them",
            ),
            updates: single(
                r,
                "hot_updates",
                "Backgrounds replaced during the load and acknowledged; more of them: more occasions to show an old one",
            ),
            findings: by(
                r,
                "truth_findings",
                "Answers that were not true, by kind; any rise is a defect of the service",
                "kind",
                &FINDINGS,
            ),
            checked: by(
                r,
                "truth_checked",
                "Sessions and frames that the truth checker looked at; no rise means that nothing is checked",
                "what",
                &CHECKED,
            ),
            cpu_seconds: single(
                r,
                "process_cpu_seconds",
                "CPU time of the simulator, user and system; a rise by as many seconds a second as it has CPUs means that it is starved",
            ),
            resident_peak_bytes: single(
                r,
                "process_resident_peak_bytes",
                "Most memory that the simulator has held",
            ),
            registry,
        }
    }

    /// The exposition in OpenMetrics text; empty if it cannot be formatted, which no value can cause.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }

    /// A phase begins; one that [`PHASES`] does not name leaves all at 0.
    pub fn phase(&self, phase: &str) {
        for (name, gauge) in PHASES.iter().zip(&self.phase) {
            gauge.set(i64::from(*name == phase));
        }
    }

    /// Sessions made so far, during set-up.
    pub fn sessions(&self, sessions: u64) {
        self.sessions.set(sessions as i64);
    }

    /// What one second of load brought: switches, previews.
    pub fn second(&self, seconds: &[Second; 2]) {
        for (at, second) in seconds.iter().enumerate() {
            let c = &second.counts;
            let counts = [c.ok, c.degraded, c.shed, c.failed, c.indeterminate];
            for (counter, n) in self.operations[at * RESULTS.len()..].iter().zip(counts) {
                counter.inc_by(n);
            }
            self.latency[at].add(&second.latency);
            let SendFigures {
                planned,
                late,
                dropped,
                unsent,
                ..
            } = second.sends;
            self.sends_planned[at].inc_by(planned);
            let missed = [late, dropped, unsent];
            for (counter, n) in self.sends_missed[at * MISSED.len()..].iter().zip(missed) {
                counter.inc_by(n);
            }
        }
    }

    /// What the run's own counters stand at now.
    pub fn standing(&self, now: Standing, truth: &TruthFigures) {
        self.sessions(now.sessions);
        self.resident_peak_bytes.set(now.resident_peak_bytes as i64);
        raise(&self.requests, now.requests);
        raise(&self.connections, now.connections);
        raise(&self.updates, now.updates);
        let found = [truth.lost, truth.stale, truth.wrong, truth.torn];
        let looked = [
            truth.sessions_read + truth.sessions_sampled,
            truth.frames_read + truth.frames_unreadable,
        ];
        for (counter, n) in self.findings.iter().zip(found) {
            raise(counter, n);
        }
        for (counter, n) in self.checked.iter().zip(looked) {
            raise(counter, n);
        }
        // The bits of numbers that are not negative are ordered as they are.
        let cpu = now.cpu.as_secs_f64().to_bits();
        self.cpu_seconds.inner().fetch_max(cpu, Ordering::Relaxed);
    }
}

/// Sets a counter that others keep; it never falls.
fn raise(counter: &Counter, to: u64) {
    counter.inner().fetch_max(to, Ordering::Relaxed);
}

fn single<M: Metric + Clone + Default>(r: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

fn one_of<M>(r: &mut Registry, name: &str, help: &str, labels: Labels) -> M
where
    M: Clone + Default,
    Family<Labels, M>: Metric,
{
    sets(r, name, help, &[labels]).remove(0)
}

/// One series for each value of a label.
fn by<M>(
    r: &mut Registry,
    name: &str,
    help: &str,
    key: &'static str,
    values: &[&'static str],
) -> Vec<M>
where
    M: Clone + Default,
    Family<Labels, M>: Metric,
{
    let labels: Vec<Labels> = values.iter().map(|value| vec![(key, *value)]).collect();
    sets(r, name, help, &labels)
}

/// One series for each pair of values; those of the second label follow each other.
fn pairs<M>(
    r: &mut Registry,
    name: &str,
    help: &str,
    (outer, outers): (&'static str, &[&'static str]),
    (inner, inners): (&'static str, &[&'static str]),
) -> Vec<M>
where
    M: Clone + Default,
    Family<Labels, M>: Metric,
{
    let labels: Vec<Labels> = outers
        .iter()
        .flat_map(|a| inners.iter().map(move |b| vec![(outer, *a), (inner, *b)]))
        .collect();
    sets(r, name, help, &labels)
}

fn sets<M>(r: &mut Registry, name: &str, help: &str, labels: &[Labels]) -> Vec<M>
where
    M: Clone + Default,
    Family<Labels, M>: Metric,
{
    let family = Family::<Labels, M>::default();
    let handles = labels
        .iter()
        .map(|set| family.get_or_create_owned(set))
        .collect();
    r.register(name, help, family);
    handles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Counts, histogram};

    /// Everything of one run; more would mean that a label is not closed.
    const SERIES_MAX: usize = 100;

    fn second(ok: u64, latency_us: &[u64]) -> Second {
        let mut latency: Total = histogram();
        for us in latency_us {
            latency.record(*us).expect("in range");
        }
        let counts = Counts {
            planned: ok,
            ok,
            ..Counts::default()
        };
        let sends = SendFigures {
            planned: ok,
            late: 1,
            ..SendFigures::default()
        };
        Second {
            counts,
            latency,
            sends,
        }
    }

    #[test]
    fn every_series_is_there_before_the_first_second() {
        let text = Metrics::new("mixed", 7).text();
        for line in [
            "backdrop_simulator_operations_total{operation=\"switch\",result=\"ok\"} 0",
            "backdrop_simulator_sends_missed_total{operation=\"preview\",how=\"unsent\"} 0",
            "backdrop_simulator_latency_seconds_bucket{le=\"+Inf\",operation=\"preview\"} 0",
            "backdrop_simulator_truth_findings_total{kind=\"torn\"} 0",
            "backdrop_simulator_phase{phase=\"load\"} 0",
            "backdrop_simulator_sessions_planned 7",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series < SERIES_MAX, "{series}");
    }

    #[test]
    fn seconds_add_up_and_no_operation_counts_for_another() {
        let metrics = Metrics::new("mixed", 7);
        let none = || second(0, &[]);
        metrics.second(&[second(3, &[400, 400, 20_000_000]), none()]);
        metrics.second(&[second(2, &[250, 9_000]), none()]);
        let text = metrics.text();
        for line in [
            "operations_total{operation=\"switch\",result=\"ok\"} 5",
            "operations_total{operation=\"preview\",result=\"ok\"} 0",
            "latency_seconds_bucket{le=\"0.00025\",operation=\"switch\"} 1",
            "latency_seconds_bucket{le=\"0.0005\",operation=\"switch\"} 3",
            "latency_seconds_bucket{le=\"0.01\",operation=\"switch\"} 4",
            "latency_seconds_bucket{le=\"10.0\",operation=\"switch\"} 4",
            "latency_seconds_bucket{le=\"+Inf\",operation=\"switch\"} 5",
            "latency_seconds_count{operation=\"switch\"} 5",
            "sends_planned_total{operation=\"switch\"} 5",
            "sends_missed_total{operation=\"switch\",how=\"late\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_phase_is_one_and_what_stands_never_falls() {
        let metrics = Metrics::new("mixed", 7);
        metrics.phase("warmup");
        metrics.phase("load");
        let truth = TruthFigures {
            lost: 2,
            frames_read: 9,
            ..TruthFigures::default()
        };
        let now = Standing {
            sessions: 5,
            requests: 11,
            cpu: Duration::from_millis(1500),
            ..Standing::default()
        };
        metrics.standing(now, &truth);
        metrics.standing(Standing::default(), &TruthFigures::default());
        let text = metrics.text();
        for line in [
            "phase{phase=\"warmup\"} 0",
            "phase{phase=\"load\"} 1",
            "requests_total 11",
            "truth_findings_total{kind=\"lost\"} 2",
            "truth_checked_total{what=\"frame\"} 9",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
