//! The process: which build it is, what it has used, and which of its failpoints fired. All of it is set by whoever asks, just
//! before the exposition.

use super::Build;
use super::label::{By, labels};
use super::registrar::{Pairs, Registrar};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::atomic::{AtomicU64, Ordering};

labels! {
    /// What the kernel did for a page.
    PageFault("kind") { Minor = "minor", Major = "major", }
}

/// Series of the process.
#[derive(Debug)]
pub struct ProcessMetrics {
    failpoint_triggers_total: Vec<(&'static str, Counter)>,
    page_faults_total: By<PageFault, Counter>,
    cpu_seconds_total: Counter<f64, AtomicU64>,
}

fn build_info(r: &mut Registrar, build: &Build) {
    let labels = [
        ("version", build.version.to_owned()),
        ("features", build.features.join(",")),
    ];
    let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
    family.get_or_create(&labels.to_vec()).set(1);
    r.registry
        .register("build_info", "Version and features of this build", family);
}

fn failpoint_triggers(r: &mut Registrar, names: &[&'static str]) -> Vec<(&'static str, Counter)> {
    if names.is_empty() {
        return Vec::new();
    }
    let sets: Vec<Pairs> = names
        .iter()
        .map(|name| vec![("failpoint", *name)])
        .collect();
    let make = Counter::default as fn() -> Counter;
    let help = "Times that each failpoint fired; a rise is an injected fault";
    let handles = r.sets("failpoint_triggers", help, make, &sets);
    names.iter().copied().zip(handles).collect()
}

impl ProcessMetrics {
    pub(super) fn new(r: &mut Registrar, build: &Build) -> Self {
        build_info(r, build);
        Self {
            failpoint_triggers_total: failpoint_triggers(r, build.failpoints),
            page_faults_total: r.counters(
                "process_page_faults",
                "Page faults of the process; a rise of minor ones with the loads means that blocks are not reused, of major ones that pages come from disk",
            ),
            cpu_seconds_total: r.one(
                "process_cpu_seconds",
                "CPU time of the process, user and system; a rise without more requests means dearer ones: decodes, larger frames",
                Counter::default(),
            ),
        }
    }

    /// Sets the counters of the failpoints, which count on their own.
    pub fn set_failpoint_triggers(&self, triggers: &[(&'static str, u64)]) {
        for (name, counter) in &self.failpoint_triggers_total {
            if let Some((_, count)) = triggers.iter().find(|(known, _)| known == name) {
                counter.inner().store(*count, Ordering::Relaxed);
            }
        }
    }

    /// Sets the CPU time that the process has used so far.
    pub fn set_cpu_seconds(&self, seconds: f64) {
        self.cpu_seconds_total
            .inner()
            .store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// Sets the page faults that the process has had so far.
    pub fn set_page_faults(&self, minor: u64, major: u64) {
        for (kind, count) in [(PageFault::Minor, minor), (PageFault::Major, major)] {
            let counter = self.page_faults_total.of(kind);
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}
