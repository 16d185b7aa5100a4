//! Samples of a cell every few milliseconds: exact maxima, thinned rows, bounded memory.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use super::cgroup::{CellProbe, CellStats, Leaf, LeafStats};
use super::error::HostError;
use super::files;
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
        Self {
            period: Duration::from_millis(10),
            row_every: Duration::from_millis(100),
            rows_max: 72_000,
        }
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

impl Peaks {
    fn take(&mut self, cell: &CellStats, service: &LeafStats, hog: &LeafStats) {
        self.samples += 1;
        if service.held() >= self.service_held {
            self.service_held = service.held();
            self.service_at_peak = *service;
        }
        self.service_usage = self.service_usage.max(service.usage);
        self.hog_usage = self.hog_usage.max(hog.usage);
        self.cell_usage = self.cell_usage.max(cell.usage);
    }
}

/// One reading of everything.
#[derive(Debug, Clone, Copy)]
struct Reading {
    t: Duration,
    unix_ms: u64,
    cell: CellStats,
    service: LeafStats,
    hog: LeafStats,
}

/// Rows and maxima; knows no clock and no kernel.
#[derive(Debug)]
struct Ledger {
    row_every: Duration,
    rows_max: usize,
    rows: Vec<HostSample>,
    peaks: Peaks,
    /// Maxima since the last kept row.
    service_held_max: u64,
    hog_usage_max: u64,
    last_t: Option<Duration>,
}

impl Ledger {
    fn new(config: &SamplerConfig) -> Self {
        Self {
            row_every: config.row_every,
            rows_max: config.rows_max.max(2),
            rows: Vec::new(),
            peaks: Peaks::default(),
            service_held_max: 0,
            hog_usage_max: 0,
            last_t: None,
        }
    }

    /// Whether the next reading becomes a row.
    fn row_due(&self, t: Duration) -> bool {
        self.rows
            .last()
            .is_none_or(|row| t >= row.t + self.row_every)
    }

    fn take(&mut self, reading: &Reading, service_cpu_s: Option<f64>) {
        let Reading {
            t,
            unix_ms,
            cell,
            service,
            hog,
        } = *reading;
        let gap = self
            .last_t
            .map_or(Duration::ZERO, |last| t.saturating_sub(last));
        self.peaks.take(&cell, &service, &hog);
        self.peaks.gap_max = self.peaks.gap_max.max(gap);
        self.last_t = Some(t);
        self.service_held_max = self.service_held_max.max(service.held());
        self.hog_usage_max = self.hog_usage_max.max(hog.usage);
        if self.row_due(t) {
            let service_held_max = std::mem::take(&mut self.service_held_max);
            let hog_usage_max = std::mem::take(&mut self.hog_usage_max);
            let (limit, usage) = (cell.limit, cell.usage);
            self.keep(HostSample {
                t,
                unix_ms,
                limit,
                usage,
                service,
                hog,
                service_held_max,
                hog_usage_max,
                service_cpu_s,
            });
        }
    }

    fn keep(&mut self, row: HostSample) {
        if self.rows.len() >= self.rows_max {
            self.thin();
        }
        self.rows.push(row);
    }

    /// Halves the rows: of each pair the later one stays and takes over the maxima of both.
    fn thin(&mut self) {
        self.row_every *= 2;
        self.rows = self.rows.chunks(2).filter_map(merge).collect();
    }

    fn fail(&mut self) {
        self.peaks.failed += 1;
    }
}

fn merge(pair: &[HostSample]) -> Option<HostSample> {
    let mut last = *pair.last()?;
    for row in pair {
        last.service_held_max = last.service_held_max.max(row.service_held_max);
        last.hog_usage_max = last.hog_usage_max.max(row.hog_usage_max);
    }
    Some(last)
}

#[derive(Debug)]
struct Shared {
    ledger: Mutex<Ledger>,
    watched: Mutex<Option<Watched>>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// `/proc/PID/stat`, kept open: once the process is gone reads fail, also if the pid is taken again.
#[derive(Debug)]
struct Watched(File);

impl Watched {
    fn open(process: ProcessId) -> Option<Self> {
        let file = File::open(format!("/proc/{}/stat", process.pid)).ok()?;
        (files::start_ticks(process.pid) == Some(process.start_ticks)).then_some(Self(file))
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let mut buffer = [0; 1024];
        let n = self.0.read_at(&mut buffer, 0).ok()?;
        files::cpu_seconds(&String::from_utf8_lossy(&buffer[..n]))
    }
}

/// The sampling thread; dropping it stops it.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts sampling.
    pub fn start(
        config: SamplerConfig,
        cell: CellProbe,
        service: Leaf,
        hog: Option<Leaf>,
    ) -> Result<Self, HostError> {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(&config)),
            watched: Mutex::default(),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let source = Source {
            cell,
            service,
            hog,
            begun: Instant::now(),
        };
        let (sampled, period) = (
            Arc::clone(&shared),
            config.period.max(Duration::from_millis(1)),
        );
        let work = move || sample_until_stopped(&sampled, &source, period);
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(work);
        let thread = thread.map_err(|cause| HostError::Spawn {
            program: "sampler thread".into(),
            cause,
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// From now on this is the service's process, whose CPU time is sampled.
    pub fn watch(&self, process: Option<ProcessId>) {
        *self.shared.watched.lock() = process.and_then(Watched::open);
    }

    /// Maxima since the start.
    #[must_use]
    pub fn peaks(&self) -> Peaks {
        self.shared.ledger.lock().peaks
    }

    /// The newest row.
    #[must_use]
    pub fn latest(&self) -> Option<HostSample> {
        self.shared.ledger.lock().rows.last().copied()
    }

    /// Rows so far, oldest first.
    #[must_use]
    pub fn rows(&self) -> Vec<HostSample> {
        self.shared.ledger.lock().rows.clone()
    }

    /// Stops and hands over rows and maxima.
    #[must_use]
    pub fn stop(mut self) -> (Vec<HostSample>, Peaks) {
        self.halt();
        let mut ledger = self.shared.ledger.lock();
        (std::mem::take(&mut ledger.rows), ledger.peaks)
    }

    fn halt(&mut self) {
        *self.shared.stop.lock() = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sampler panicked");
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.halt();
    }
}

/// What is sampled.
#[derive(Debug)]
struct Source {
    cell: CellProbe,
    service: Leaf,
    hog: Option<Leaf>,
    begun: Instant,
}

impl Source {
    fn read(&self) -> Result<Reading, HostError> {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Reading {
            t: self.begun.elapsed(),
            unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
            cell: self.cell.stats()?,
            service: self.service.stats()?,
            hog: self
                .hog
                .as_ref()
                .map_or(Ok(LeafStats::default()), Leaf::stats)?,
        })
    }
}

/// On an absolute schedule: a late sample does not delay the next, and missed ones are not made up for.
fn sample_until_stopped(shared: &Shared, source: &Source, period: Duration) {
    let mut due = source.begun;
    loop {
        match source.read() {
            Ok(reading) => {
                let cpu = || {
                    shared
                        .watched
                        .lock()
                        .as_ref()
                        .and_then(Watched::cpu_seconds)
                };
                let mut ledger = shared.ledger.lock();
                let cpu = if ledger.row_due(reading.t) {
                    cpu()
                } else {
                    None
                };
                ledger.take(&reading, cpu);
            }
            Err(_) => shared.ledger.lock().fail(),
        }
        due = (due + period).max(Instant::now());
        let mut stop = shared.stop.lock();
        while !*stop {
            if shared.stopped.wait_until(&mut stop, due).timed_out() {
                break;
            }
        }
        if *stop {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(ms: u64, anon: u64, hog: u64) -> Reading {
        let service = LeafStats {
            anon,
            usage: anon,
            ..LeafStats::default()
        };
        let cell = CellStats {
            limit: 1000,
            usage: anon + hog,
        };
        let hog = LeafStats {
            usage: hog,
            ..LeafStats::default()
        };
        Reading {
            t: Duration::from_millis(ms),
            unix_ms: ms,
            cell,
            service,
            hog,
        }
    }

    fn ledger(rows_max: usize) -> Ledger {
        Ledger::new(&SamplerConfig {
            rows_max,
            ..SamplerConfig::default()
        })
    }

    #[test]
    fn a_peak_between_rows_is_not_lost() {
        let mut ledger = ledger(100);
        for (ms, anon) in [(0, 1), (10, 2), (50, 99), (60, 3), (100, 4), (110, 5)] {
            ledger.take(&reading(ms, anon, 0), None);
        }
        assert_eq!(ledger.peaks.service_held, 99);
        assert_eq!(
            (ledger.peaks.samples, ledger.peaks.gap_max),
            (6, Duration::from_millis(40))
        );
        let rows: Vec<_> = ledger
            .rows
            .iter()
            .map(|r| (r.unix_ms, r.service.anon, r.service_held_max))
            .collect();
        assert_eq!(rows, [(0, 1, 1), (100, 4, 99)]);
    }

    proptest! {
        #[test]
        fn rows_stay_bounded_and_keep_every_maximum(readings in prop::collection::vec((1_u64..300, 0_u64..1000, 0_u64..1000), 1..400)) {
            let mut ledger = ledger(8);
            let mut ms = 0;
            for (step, anon, hog) in &readings {
                ms += step;
                ledger.take(&reading(ms, *anon, *hog), None);
            }
            prop_assert!(ledger.rows.len() <= 8);
            prop_assert!(ledger.rows.is_sorted_by(|a, b| a.t < b.t));
            let kept = ledger.rows.iter().map(|r| r.service_held_max).max().unwrap_or(0).max(ledger.service_held_max);
            prop_assert_eq!(kept, readings.iter().map(|r| r.1).max().unwrap_or(0));
            prop_assert_eq!(ledger.peaks.service_held, kept);
            prop_assert_eq!(ledger.peaks.hog_usage, readings.iter().map(|r| r.2).max().unwrap_or(0));
        }
    }
}
