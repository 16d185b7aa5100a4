//! What the runner itself tells a Prometheus: which trial runs, which faults stand, and what the kernel says of the cell,
//! whether or not the service still answers. Verdicts rest on none of it.
//!
//! Label sets are closed and there from the start, at 0, but for the name of the trial: of those there is one at a time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use backdrop_reports::record::Verdict;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::host::HostSample;
use crate::scenario::FaultKind;

const VERDICTS: [Verdict; 4] = [
    Verdict::Held,
    Verdict::Deviated,
    Verdict::Inconclusive,
    Verdict::Error,
];
/// Leaves of the cell.
const LEAVES: [&str; 2] = ["service", "hog"];
/// What became of a fault.
const OUTCOMES: [&str; 2] = ["acted", "idle"];

type Labels = Vec<(&'static str, String)>;

/// All series of one run.
pub struct Exposed {
    registry: Registry,
    trial: Family<Labels, Gauge>,
    trials: Counter,
    scenarios: Vec<Counter>,
    active: Vec<Gauge>,
    begun: Vec<Counter>,
    faults: Vec<Counter>,
    limit_bytes: Gauge,
    usage_bytes: Gauge,
    leaf_bytes: Vec<Gauge>,
    held_bytes: Vec<Gauge>,
    kills: Vec<Counter>,
    /// Kills of the trials before this one.
    kills_before: [AtomicU64; LEAVES.len()],
}

impl fmt::Debug for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposed").finish_non_exhaustive()
    }
}

impl Default for Exposed {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("backdrop_chaos");
        let r = &mut registry;
        let info = Family::<Labels, Gauge>::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        info.get_or_create(&version).set(1);
        r.register("build_info", "Version of this build", info);
        let trial = Family::<Labels, Gauge>::default();
        let help = "1 for the trial that runs, a scenario or one of its controls";
        r.register("trial_running", help, trial.clone());
        let verdicts = VERDICTS.map(Verdict::word);
        Self {
            trial,
            trials: single(
                r,
                "trials",
                "Trials begun; more than were planned: a busy host had some of them repeated",
            ),
            scenarios: by(
                r,
                "scenarios",
                "Scenarios judged, by verdict; more of any but held: the report says why",
                ("verdict", &verdicts),
            ),
            active: by(
                r,
                "faults_active",
                "Faults that stand, by kind; what the service shows meanwhile is the fault's doing",
                ("kind", &FaultKind::WORDS),
            ),
            begun: by(
                r,
                "faults_begun",
                "Faults that began to act, by kind; a rise also tells of one that is over before the next scrape, as a kill is",
                ("kind", &FaultKind::WORDS),
            ),
            faults: by(
                r,
                "faults",
                "Faults that are over, by whether they acted; more idle: their scenarios are inconclusive",
                ("outcome", &OUTCOMES),
            ),
            limit_bytes: single(
                r,
                "memory_limit_bytes",
                "Memory limit of the cell, as the kernel has it",
            ),
            usage_bytes: single(
                r,
                "memory_usage_bytes",
                "All that the kernel charges to the cell",
            ),
            leaf_bytes: by(
                r,
                "leaf_usage_bytes",
                "All that the kernel charges to a leaf of the cell, page cache included",
                ("leaf", &LEAVES),
            ),
            held_bytes: by(
                r,
                "leaf_held_bytes",
                "Anonymous, kernel and socket memory of a leaf: what the kernel cannot drop",
                ("leaf", &LEAVES),
            ),
            kills: by(
                r,
                "oom_kills",
                "Processes of a leaf that the kernel killed for memory; a rise of the service's is what a scenario is about",
                ("leaf", &LEAVES),
            ),
            kills_before: Default::default(),
            registry,
        }
    }
}

impl Exposed {
    /// The exposition in OpenMetrics text; empty if it cannot be formatted, which no value can cause.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }

    /// A trial begins, and lasts until the answer is dropped.
    pub fn trial(&self, name: &str) -> Running<'_> {
        let labels = vec![("trial", name.to_owned())];
        self.trial.get_or_create(&labels).set(1);
        self.trials.inc();
        for (before, kills) in self.kills_before.iter().zip(&self.kills) {
            before.store(kills.get(), Ordering::Relaxed);
        }
        Running {
            exposed: self,
            labels,
        }
    }

    /// A fault begins to act; it stands until the answer is dropped.
    pub fn fault(&self, kind: &FaultKind) -> Standing<'_> {
        let at = FaultKind::WORDS
            .iter()
            .position(|word| *word == kind.word());
        let gauge = at.map(|at| &self.active[at]);
        if let Some(at) = at {
            self.active[at].inc();
            self.begun[at].inc();
        }
        Standing(gauge)
    }

    /// A fault is over.
    pub fn fault_over(&self, acted: bool) {
        self.faults[usize::from(!acted)].inc();
    }

    /// A scenario was judged.
    pub fn scenario(&self, verdict: Verdict) {
        let at = VERDICTS.iter().position(|other| *other == verdict);
        if let Some(counter) = at.and_then(|at| self.scenarios.get(at)) {
            counter.inc();
        }
    }

    /// What the kernel says of the cell of the trial that runs.
    pub fn sample(&self, now: &HostSample) {
        self.limit_bytes.set(now.limit as i64);
        self.usage_bytes.set(now.usage as i64);
        for (at, leaf) in [&now.service, &now.hog].into_iter().enumerate() {
            self.leaf_bytes[at].set(leaf.usage as i64);
            self.held_bytes[at].set(leaf.held() as i64);
        }
        self.killed([now.service.oom_kills, now.hog.oom_kills]);
    }

    /// What the kernel has counted in the leaves of this trial, the service's first.
    pub fn killed(&self, kills: [u64; LEAVES.len()]) {
        for (at, n) in kills.into_iter().enumerate() {
            let total = self.kills_before[at].load(Ordering::Relaxed) + n;
            self.kills[at].inner().fetch_max(total, Ordering::Relaxed);
        }
    }
}

/// A trial that runs.
#[must_use]
pub struct Running<'a> {
    exposed: &'a Exposed,
    labels: Labels,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.exposed.trial.remove(&self.labels);
        // The cell is gone, and nothing is charged to it any more.
        let e = self.exposed;
        let gauges = [&e.limit_bytes, &e.usage_bytes].into_iter();
        for gauge in gauges.chain(&e.leaf_bytes).chain(&e.held_bytes) {
            gauge.set(0);
        }
    }
}

/// A fault that stands.
#[must_use]
pub struct Standing<'a>(Option<&'a Gauge>);

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if let Some(gauge) = self.0 {
            gauge.dec();
        }
    }
}

fn single<M>(r: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    r.register(name, help, metric.clone());
    metric
}

/// One series for each value of a label.
fn by<M>(
    r: &mut Registry,
    name: &str,
    help: &str,
    (key, values): (&'static str, &[&'static str]),
) -> Vec<M>
where
    M: Clone + Default,
    Family<Labels, M>: prometheus_client::registry::Metric,
{
    let family = Family::<Labels, M>::default();
    let series = |value: &&'static str| vec![(key, (*value).to_owned())];
    let handles = values
        .iter()
        .map(|value| family.get_or_create_owned(&series(value)))
        .collect();
    r.register(name, help, family);
    handles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::LeafStats;
    use std::time::Duration;

    fn holds(text: &str, lines: &[&str]) {
        for line in lines {
            let line = format!("backdrop_chaos_{line}\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    fn sample(service_kills: u64) -> HostSample {
        let leaf = |usage, anon, oom_kills| LeafStats {
            usage,
            anon,
            oom_kills,
            ..LeafStats::default()
        };
        HostSample {
            t: Duration::ZERO,
            unix_ms: 0,
            limit: 100,
            usage: 60,
            service: leaf(40, 30, service_kills),
            hog: leaf(20, 20, 0),
            service_held_max: 0,
            hog_usage_max: 0,
            service_cpu_s: None,
        }
    }

    #[test]
    fn every_series_is_there_from_the_start() {
        let text = Exposed::default().text();
        holds(
            &text,
            &[
                "scenarios_total{verdict=\"held\"} 0",
                "scenarios_total{verdict=\"error\"} 0",
                "faults_active{kind=\"page_cache\"} 0",
                "faults_begun_total{kind=\"kill\"} 0",
                "faults_total{outcome=\"idle\"} 0",
                "oom_kills_total{leaf=\"service\"} 0",
                "trials_total 0",
            ],
        );
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series < 60, "{series}");
    }

    #[test]
    fn a_trial_and_its_faults_are_told_while_they_last() {
        let exposed = Exposed::default();
        let running = exposed.trial("overflow.unbounded");
        let standing = exposed.fault(&FaultKind::ArchiveCorrupt);
        exposed.sample(&sample(1));
        holds(
            &exposed.text(),
            &[
                "trial_running{trial=\"overflow.unbounded\"} 1",
                "faults_active{kind=\"archive_corrupt\"} 1",
                "memory_limit_bytes 100",
                "leaf_usage_bytes{leaf=\"hog\"} 20",
                "leaf_held_bytes{leaf=\"service\"} 30",
                "oom_kills_total{leaf=\"service\"} 1",
            ],
        );
        drop((standing, running));
        exposed.fault_over(true);
        let text = exposed.text();
        assert!(!text.contains("overflow"), "{text}");
        holds(
            &text,
            &[
                "faults_active{kind=\"archive_corrupt\"} 0",
                "faults_begun_total{kind=\"archive_corrupt\"} 1",
                "faults_total{outcome=\"acted\"} 1",
                "memory_usage_bytes 0",
            ],
        );
    }

    #[test]
    fn kills_add_up_over_trials() {
        let exposed = Exposed::default();
        for kills in [1, 2] {
            let _running = exposed.trial("a");
            exposed.sample(&sample(kills));
        }
        holds(&exposed.text(), &["oom_kills_total{leaf=\"service\"} 3"]);
    }
}
