//! Samples of a cell every few milliseconds: exact maxima, thinned rows, bounded memory.

use std::time::Duration;

use super::cgroup::{CellProbe, Leaf, LeafStats};
use super::process::ProcessId;

/// How to sample.
#[derive(Debug, Clone, Copy)]
pub struct SamplerConfig {
    /// Time between samples.
    pub period: Duration,
    /// Time between kept rows.
    pub row_every: Duration,
    /// Rows kept at most; when full, every second one is dropped and `row_every` doubles.
    pub rows_max: usize,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self { period: Duration::from_millis(10), row_every: Duration::from_millis(100), rows_max: 72_000 }
    }
}

/// One kept row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HostSample {
    /// Since the sampler began.
    pub t: Duration,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Limit in force, bytes.
    pub limit: u64,
    /// All that is charged to the cell, bytes.
    pub usage: u64,
    /// The service's leaf.
    pub service: LeafStats,
    /// The hog's leaf; zeros without one.
    pub hog: LeafStats,
    /// Highest anon + kernel + sockets of the service since the row before, bytes.
    pub service_held_max: u64,
    /// Highest usage of the hog's leaf since the row before, bytes.
    pub hog_usage_max: u64,
    /// CPU time of the watched service process, seconds; none while there is none.
    pub service_cpu_s: Option<f64>,
}

/// Maxima over all samples, kept or not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Peaks {
    /// Samples taken.
    pub samples: u64,
    /// Samples that could not be read.
    pub failed: u64,
    /// Longest time between two samples.
    pub gap_max: Duration,
    /// Highest anon + kernel + sockets of the service's leaf, bytes.
    pub service_held: u64,
    /// The three parts at that moment.
    pub service_at_peak: LeafStats,
    /// Highest usage of the service's leaf, page cache included, bytes.
    pub service_usage: u64,
    /// Highest usage of the hog's leaf, bytes.
    pub hog_usage: u64,
    /// Highest usage of the cell, bytes.
    pub cell_usage: u64,
}

/// The sampling thread; dropping it stops it.
#[derive(Debug)]
pub struct Sampler {}

impl Sampler {
    /// Starts sampling.
    #[must_use]
    pub fn start(config: SamplerConfig, cell: CellProbe, service: Leaf, hog: Option<Leaf>) -> Self {
        let _ = (config, cell, service, hog);
        Self {}
    }

    /// From now on this is the service's process, whose CPU time is sampled.
    pub fn watch(&self, process: Option<ProcessId>) {
        let _ = process;
    }

    /// Maxima since the start.
    #[must_use]
    pub fn peaks(&self) -> Peaks {
        Peaks::default()
    }

    /// Maxima since the last call of this (or the start), for windows of a run.
    #[must_use]
    pub fn take_window(&self) -> Peaks {
        Peaks::default()
    }

    /// The newest row.
    #[must_use]
    pub fn latest(&self) -> Option<HostSample> {
        None
    }

    /// Rows so far, oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<HostSample> {
        vec![]
    }

    /// Stops and hands over rows and maxima.
    #[must_use]
    pub fn stop(self) -> (Vec<HostSample>, Peaks) {
        (vec![], Peaks::default())
    }
}
