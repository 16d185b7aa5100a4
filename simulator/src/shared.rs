//! What the workers of one run share: clock, stop signal, catalogue, cohorts, truth, measurements.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backdrop_reports::load::LoadEvent;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::catalogue::{Catalogue, Librarian, Revisions};
use crate::cli::Plan;
use crate::client::Target;
use crate::cohort::Cohort;
use crate::gallery::Gallery;
use crate::herd::Herds;
use crate::metrics::Metrics;
use crate::participant::Participant;
use crate::population::Strays;
use crate::reader::Reader;
use crate::record::{Collector, Spans};
use crate::report::Beside;
use crate::tape::Taping;
use crate::truth::Truth;

/// Why the load ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum StopReason {
    /// The user asked for it.
    Interrupted = 1,
    /// The service was away for longer than `--reconnect-for`.
    ServiceGone = 2,
}

/// Tells every part to stop; the first reason stays.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicU8>);

impl Stop {
    /// Asks to stop; false if that was asked before.
    pub fn set(&self, reason: StopReason) -> bool {
        self.0
            .compare_exchange(0, reason as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether and why to stop.
    pub fn reason(&self) -> Option<StopReason> {
        match self.0.load(Ordering::Acquire) {
            1 => Some(StopReason::Interrupted),
            2 => Some(StopReason::ServiceGone),
            _ => None,
        }
    }
}

/// The time line of the load; microseconds count from `origin`, where the warm-up starts.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Start of the warm-up.
    pub origin: Instant,
    /// The same as wall-clock time, milliseconds since the epoch.
    pub origin_unix_ms: u64,
    /// End of the warm-up: the first measured planned send.
    pub load_us: u64,
    /// End of the load.
    pub end_us: u64,
}

impl Clock {
    /// A clock that starts a moment from now.
    pub fn starting_in(lead: Duration, warmup: Duration, duration: Duration) -> Self {
        Clock {
            origin: Instant::now() + lead,
            origin_unix_ms: unix_ms() + lead.as_millis() as u64,
            load_us: micros(warmup),
            end_us: micros(warmup + duration),
        }
    }

    /// Microseconds since the origin, zero before it.
    pub fn at(&self, instant: Instant) -> u64 {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// Now.
    pub fn now_us(&self) -> u64 {
        self.at(Instant::now())
    }

    /// The instant of a time.
    pub fn instant(&self, at_us: u64) -> Instant {
        self.origin + Duration::from_micros(at_us)
    }
}

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// All workers start together: the last one to arrive starts the clock.
#[derive(Debug)]
pub struct Gate {
    expected: u64,
    arrived: AtomicU64,
    clock: watch::Sender<Option<Clock>>,
}

impl Gate {
    /// A gate for so many workers.
    pub fn new(expected: u64) -> Self {
        Gate {
            expected,
            arrived: AtomicU64::new(0),
            clock: watch::Sender::new(None),
        }
    }

    /// Waits until everybody is there. Returns the same clock to all.
    pub async fn arrive(&self, start: impl FnOnce() -> Clock) -> Clock {
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.expected {
            self.clock.send_replace(Some(start()));
        }
        self.opened().await
    }

    /// Waits for the clock without being counted.
    pub async fn opened(&self) -> Clock {
        let mut clock = self.clock.subscribe();
        loop {
            if let Some(clock) = *clock.borrow_and_update() {
                return clock;
            }
            if clock.changed().await.is_err() {
                // Unreachable while `self` is borrowed: the sender lives in it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The clock, if it runs.
    pub fn clock(&self) -> Option<Clock> {
        *self.clock.borrow()
    }
}

/// Sessions over the run.
#[derive(Debug, Default)]
pub struct Census {
    /// Acknowledged at set-up.
    pub created: AtomicU64,
    /// Refused, for whatever reason.
    pub refused: AtomicU64,
    /// Those of them that were shed.
    pub shed: AtomicU64,
    /// Made anew after the service forgot them.
    pub recreated: AtomicU64,
    holding: AtomicU64,
    reached: AtomicU64,
}

impl Census {
    /// So many sessions more hold a background.
    pub fn gained(&self, n: u64) {
        let holding = self.holding.fetch_add(n, Ordering::AcqRel) + n;
        self.reached.fetch_max(holding, Ordering::AcqRel);
    }

    /// So many sessions were refused and will not be asked for again.
    pub fn refuse(&self, refused: u64, shed: u64) {
        self.refused.fetch_add(refused, Ordering::Relaxed);
        self.shed.fetch_add(shed, Ordering::Relaxed);
    }

    /// So many sessions are gone.
    pub fn lost(&self, n: u64) {
        self.holding.fetch_sub(n, Ordering::AcqRel);
    }

    /// Sessions that hold a background now.
    pub fn holding(&self) -> u64 {
        self.holding.load(Ordering::Acquire)
    }

    /// The most there were at one time.
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }
}

/// Where events go: a sink, which is dropped if it fails while the run goes on, and the metrics.
pub struct Events {
    sink: Mutex<Option<Box<dyn Write + Send>>>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Events into `sink`, if there is one, and into the metrics.
    pub fn new(sink: Option<Box<dyn Write + Send>>, metrics: Arc<Metrics>) -> Self {
        Events {
            sink: Mutex::new(sink),
            metrics,
        }
    }

    /// Writes one line.
    pub fn emit(&self, event: &LoadEvent) {
        match event {
            LoadEvent::Phase { phase, .. } => self.metrics.phase(phase),
            LoadEvent::Setup { sessions } => self.metrics.sessions(*sessions),
            LoadEvent::Interval(_) => {}
        }
        let mut sink = self.sink.lock();
        if let Some(writer) = sink.as_mut()
            && let Ok(mut line) = serde_json::to_vec(event)
        {
            line.push(b'\n');
            if writer
                .write_all(&line)
                .and_then(|()| writer.flush())
                .is_err()
            {
                *sink = None;
            }
        }
    }

    /// A phase begins now.
    pub fn phase(&self, phase: &str) {
        self.phase_at(phase, unix_ms());
    }

    /// A phase began then.
    pub fn phase_at(&self, phase: &str, unix_ms: u64) {
        self.emit(&LoadEvent::Phase {
            phase: phase.to_owned(),
            unix_ms,
        });
    }
}

/// Everything that the workers of one run share.
#[derive(Debug)]
pub struct Shared {
    /// What to do.
    pub plan: Plan,
    /// Where.
    pub target: Arc<Target>,
    /// Who is sent with every request for a frame, if frames are composites.
    pub participant: Option<Participant>,
    /// Background files.
    pub gallery: Arc<Gallery>,
    /// Speaks to the catalogue.
    pub librarian: Librarian,
    /// The catalogue of the current epoch.
    pub catalogue: RwLock<Arc<Catalogue>>,
    /// One refresh of the catalogue at a time.
    pub refresh: tokio::sync::Mutex<()>,
    /// Which revision was acknowledged when.
    pub revisions: Arc<Revisions>,
    /// Sessions by gateway.
    pub cohorts: Vec<Mutex<Cohort>>,
    /// Findings.
    pub truth: Arc<Mutex<Truth>>,
    /// Reads codes off frames.
    pub reader: Reader,
    /// Measurements.
    pub collector: Collector,
    /// Where the run is cut.
    pub spans: Spans,
    /// Sessions over the run.
    pub census: Census,
    /// Stop signal.
    pub stop: Stop,
    /// Start signal.
    pub gate: Gate,
    /// Event sink.
    pub events: Events,
    /// What a Prometheus is told.
    pub metrics: Arc<Metrics>,
    /// Counts hints that the service may have restarted; gateways look at it each tick.
    pub trouble: AtomicU64,
    /// The admin listener, if its address was given.
    pub admin: Option<Admin>,
    /// What the herds brought.
    pub herds: Mutex<Herds>,
    /// Frames of passes over all backgrounds that were answered.
    pub scanned: AtomicU64,
    /// Hot updates that were acknowledged.
    pub updates: AtomicU64,
    /// Where what is sent is kept, if it is.
    pub taping: Option<Taping>,
    /// Sessions that may be there, and that no cohort has.
    pub strays: Mutex<Strays>,
    /// What single workers hand in for the report.
    pub beside: Mutex<Beside>,
}

impl Shared {
    /// The current catalogue.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().clone()
    }

    /// Some answer suggests that the service restarted.
    pub fn suspect(&self) {
        self.trouble.fetch_add(1, Ordering::AcqRel);
    }

    /// The clock of this run, as the plan has it.
    pub fn start_clock(&self) -> Clock {
        Clock::starting_in(
            Duration::from_millis(100),
            self.plan.warmup,
            self.plan.duration,
        )
    }
}
