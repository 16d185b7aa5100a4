//! Looks at a running load once a second: interval figures, events, latency log, progress, own cost.
//!
//! It also says when the measured load starts, because only it waits for that moment anyway.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use backdrop_reports::load::{Interval, LoadEvent};
use backdrop_reports::steal::StealMeter;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use tokio::sync::{oneshot, watch};

use crate::host;
use crate::metrics::Standing;
use crate::progress::Progress;
use crate::record::{Second, Total, interval_of};
use crate::shared::{Clock, Shared};

/// Gateways pour a second in once their first tick after it has ended: the monitor reads a little later.
const GRACE: Duration = Duration::from_millis(150);
/// Intervals kept for the report: a day. A longer run keeps the first ones.
const INTERVALS_MAX: usize = 86_400;

/// What the monitor saw.
#[derive(Debug, Default)]
pub struct Monitored {
    /// One per second of measured load.
    pub intervals: Vec<Interval>,
    /// CPU time of the measured load.
    pub cpu: Duration,
    /// How long that was.
    pub wall: Duration,
    /// Highest share of the CPUs over one second.
    pub busy_max: f64,
    /// Share of the CPUs' time that the hypervisor took during the measured load.
    pub steal: Option<f64>,
}

/// A latency log in the HdrHistogram format, version 1.3.
#[derive(Debug)]
pub struct LatencyLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: Tagless,
}

/// [`V2DeflateSerializer`] has no `Debug` of its own.
struct Tagless(V2DeflateSerializer);

impl std::fmt::Debug for Tagless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("V2DeflateSerializer")
    }
}

impl LatencyLog {
    /// Creates the file.
    pub fn create(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            std::fs::create_dir_all(parent)?;
        }
        Ok(LatencyLog {
            path: path.to_owned(),
            file: BufWriter::new(File::create(path)?),
            serializer: Tagless(V2DeflateSerializer::new()),
        })
    }

    /// A failure in words; the log ends with it, the run goes on.
    fn failed(&self, error: &io::Error) -> String {
        format!("--hlog {}: {error}", self.path.display())
    }

    fn start(&mut self, clock: &Clock) -> io::Result<()> {
        let start = SystemTime::UNIX_EPOCH
            + Duration::from_millis(clock.origin_unix_ms)
            + Duration::from_micros(clock.load_us);
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[latency from planned time to last byte, microseconds]")
            .with_start_time(start)
            .begin_log_with(&mut self.file, &mut self.serializer.0)?;
        writeln!(
            self.file,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )
    }

    fn write(
        &mut self,
        tag: &'static str,
        from: Duration,
        length: Duration,
        latency: &Total,
    ) -> io::Result<()> {
        let mut writer = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer.0)?;
        writer
            .write_histogram(latency, from, length, Tag::new(tag))
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Runs it on a thread of its own, which gives way to those that send: what it writes may wait for a disk, and a disk must not make a
/// send late. An error of the receiver is a panic of the thread.
///
/// # Errors
/// No thread, or no timer for it.
pub fn start(
    watching: impl Future<Output = Monitored> + Send + 'static,
) -> io::Result<oneshot::Receiver<Monitored>> {
    let (tell, told) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let run = move || {
        host::give_way();
        // Nobody is left to hear it only where the run itself has failed.
        let _ = tell.send(runtime.block_on(watching));
    };
    std::thread::Builder::new()
        .name("monitor".into())
        .spawn(run)?;
    Ok(told)
}

/// Runs until `done` says so; then takes what is left.
pub async fn watch(
    shared: Arc<Shared>,
    mut log: Option<LatencyLog>,
    mut progress: Progress,
    mut done: watch::Receiver<bool>,
) -> Monitored {
    let clock = tokio::select! {
        clock = shared.gate.opened() => clock,
        _ = done.wait_for(|done| *done) => return Monitored::default(),
    };
    let mut monitored = Monitored::default();
    shared.events.phase_at("warmup", clock.origin_unix_ms);
    let started = tokio::select! {
        () = sleep_to(&clock, clock.load_us) => true,
        _ = done.wait_for(|done| *done) => false,
    };
    shared
        .events
        .phase_at("load", clock.origin_unix_ms + clock.load_us / 1000);
    if let Some(open) = log.as_mut()
        && let Err(error) = open.start(&clock)
    {
        progress.warn(&open.failed(&error));
        log = None;
    }
    let steal = StealMeter::start(host::allowed_cpus());
    let cpu_start = host::cpu_time();
    let mut cpu_last = cpu_start;
    let mut wall_last = clock.now_us();
    let mut drained = !started;
    // What came before is warm-up.
    tokio::time::sleep(GRACE).await;
    shared.collector.take();
    stand(&shared);
    for second in 1_u64.. {
        let at_us = clock.load_us + second * 1_000_000;
        let over = tokio::select! {
            () = sleep_to(&clock, at_us) => false,
            _ = done.wait_for(|done| *done) => true,
        };
        if !over {
            tokio::time::sleep(GRACE).await;
        }
        let seconds = shared.collector.take();
        shared.metrics.second(&seconds);
        stand(&shared);
        let now_us = clock.now_us();
        let t_s = if over {
            now_us.saturating_sub(clock.load_us) as f64 / 1e6
        } else {
            second as f64
        };
        let (cpu_now, wall_us) = (host::cpu_time(), now_us.saturating_sub(wall_last));
        if wall_us > 100_000 && !drained {
            let busy =
                (cpu_now - cpu_last).as_secs_f64() * 1e6 / wall_us as f64 / host::cpus() as f64;
            monitored.busy_max = monitored.busy_max.max(busy);
        }
        (cpu_last, wall_last) = (cpu_now, now_us);
        if !drained {
            monitored.cpu = cpu_now - cpu_start;
            monitored.steal = steal.ratio();
            monitored.wall = Duration::from_micros(now_us.saturating_sub(clock.load_us));
        }
        // The rest after the last whole second is an interval only if something came in it.
        if !over || seconds.iter().any(|second| second.counts.planned > 0) {
            note(
                &shared,
                &mut monitored,
                &mut log,
                &mut progress,
                t_s,
                &seconds,
            );
        }
        if now_us >= clock.end_us && !drained {
            drained = true;
            shared.events.phase("drain");
        }
        if over {
            break;
        }
    }
    if let Some(mut open) = log
        && let Err(error) = open.file.flush()
    {
        progress.warn(&open.failed(&error));
    }
    progress.end();
    monitored
}

/// Tells the metrics what the run's own counters stand at.
pub fn stand(shared: &Shared) {
    let now = Standing {
        sessions: shared.census.holding(),
        requests: shared.target.requests(),
        connections: shared.target.connections().0,
        updates: shared.updates.load(Ordering::Relaxed),
        cpu: host::cpu_time(),
        resident_peak_bytes: host::rss_peak_bytes(),
    };
    let truth = shared.truth.lock().counts();
    shared.metrics.standing(now, &truth);
}

fn note(
    shared: &Shared,
    monitored: &mut Monitored,
    log: &mut Option<LatencyLog>,
    progress: &mut Progress,
    t_s: f64,
    seconds: &[Second; 2],
) {
    let interval = interval_of(t_s, seconds);
    if let Some(open) = log.as_mut() {
        let (length, from) = (
            Duration::from_secs(1),
            Duration::from_secs_f64((t_s - 1.0).max(0.0)),
        );
        let written = [("switch", &seconds[0]), ("preview", &seconds[1])]
            .into_iter()
            .filter(|(_, second)| !second.latency.is_empty())
            .try_for_each(|(tag, second)| open.write(tag, from, length, &second.latency));
        if let Err(error) = written {
            progress.warn(&open.failed(&error));
            *log = None;
        }
    }
    progress.second(&interval, shared.plan.duration, shared.census.holding());
    shared.events.emit(&LoadEvent::Interval(interval.clone()));
    if monitored.intervals.len() < INTERVALS_MAX {
        monitored.intervals.push(interval);
    }
}

async fn sleep_to(clock: &Clock, at_us: u64) {
    tokio::time::sleep_until(clock.instant(at_us).into()).await;
}
