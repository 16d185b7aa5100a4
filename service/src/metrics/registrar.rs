//! Makes series and registers them, every label set at 0.

use super::label::{By, Label};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Pairs of key and value that name one series of a family.
pub(super) type Pairs = Vec<(&'static str, &'static str)>;

/// Bounds of the histograms of renders, loads and files, in seconds.
const WORK_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Registers metrics under one registry.
pub(super) struct Registrar {
    pub(super) registry: Registry,
}

impl Registrar {
    pub(super) fn one<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        metric
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.one(name, help, Counter::default())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.one(name, help, Gauge::default())
    }

    /// Of work that takes milliseconds.
    pub(super) fn work(&mut self, name: &str, help: &str) -> Histogram {
        self.one(name, help, Histogram::new(WORK_BUCKETS))
    }

    pub(super) fn sets<M, C>(
        &mut self,
        name: &str,
        help: &str,
        constructor: C,
        sets: &[Pairs],
    ) -> Box<[M]>
    where
        M: Clone,
        C: MetricConstructor<M> + Clone,
        Family<Pairs, M, C>: Metric,
    {
        let family = Family::<Pairs, M, C>::new_with_constructor(constructor);
        let handles = sets
            .iter()
            .map(|set| family.get_or_create_owned(set))
            .collect();
        self.registry.register(name, help, family);
        handles
    }

    pub(super) fn by<L: Label, M, C>(&mut self, name: &str, help: &str, constructor: C) -> By<L, M>
    where
        M: Clone,
        C: MetricConstructor<M> + Clone,
        Family<Pairs, M, C>: Metric,
    {
        let sets: Vec<Pairs> = L::ALL
            .iter()
            .map(|value| vec![(L::KEY, value.name())])
            .collect();
        By::new(self.sets(name, help, constructor, &sets))
    }

    pub(super) fn counters<L: Label>(&mut self, name: &str, help: &str) -> By<L, Counter> {
        self.by(name, help, Counter::default as fn() -> Counter)
    }

    pub(super) fn gauges<L: Label>(&mut self, name: &str, help: &str) -> By<L, Gauge> {
        self.by(name, help, Gauge::default as fn() -> Gauge)
    }
}
