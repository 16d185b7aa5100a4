//! The sampler: reads the kernel and the allocator, drives the governor, and has its decisions carried out.
//!
//! Two threads of its own, because both must work when every tokio worker is busy: one samples and decides, the other gives memory
//! back (which may take milliseconds, during which sampling goes on). What is shrunk is known only as closures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};

use super::arena::{self, AllocatorStats, Arena};
use super::budget::{Budget, Purpose};
use super::cgroup::{Probe, ProbeError};
use crate::metrics::{BudgetPurpose, GovernorState, Label, Metrics, Watermark};

use super::governor::{Decision, Governor, ReactionBound, Sample, State, Transition};

mod config;
mod reclaim;
mod report;
pub use config::{MemoryConfig, MemoryConfigError};
use reclaim::Demand;
pub use report::{MemoryReport, Passes, Reason, Snapshot, TransitionRecord};

/// Transitions that are remembered for the report.
const TRANSITIONS_KEPT: usize = 64;

/// Why watching could not start.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Neither cgroup nor `/proc` could be read.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A thread could not be started.
    #[error("cannot start thread: {0}")]
    Thread(std::io::Error),
}

/// How memory is given back. Called on the reclaim thread only.
pub struct Hooks {
    /// Brings textures and idle blocks down to this many bytes; returns the bytes freed.
    pub shrink: Box<dyn Fn(u64) -> u64 + Send + Sync>,
    /// Frees what is idle; returns the bytes freed.
    pub trim: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Returns the allocator's dirty pages to the kernel.
    pub purge: Box<dyn Fn() + Send + Sync>,
}

struct Shared {
    config: MemoryConfig,
    budget: Arc<Budget>,
    arena: Arc<Arena>,
    metrics: Arc<Metrics>,
    hooks: Hooks,
    state: AtomicU8,
    snapshot: Mutex<Snapshot>,
    transitions: Mutex<VecDeque<TransitionRecord>>,
    samples: AtomicU64,
    reclaims: AtomicU64,
    passes: Mutex<Passes>,
    stop: AtomicBool,
    tick: (Mutex<()>, Condvar),
    mailbox: (Mutex<Option<Demand>>, Condvar),
}

/// Watches memory until dropped.
pub struct Memory {
    shared: Arc<Shared>,
    source: String,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("source", &self.source)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Takes the first sample (so that the budget's ceiling is right from the start) and starts both threads.
    pub fn start(
        config: MemoryConfig,
        probe: Probe,
        budget: Arc<Budget>,
        arena: Arc<Arena>,
        metrics: Arc<Metrics>,
        hooks: Hooks,
    ) -> Result<Self, MemoryError> {
        let source = probe.source();
        log_start(&config, probe.limit(), &source);
        let mut sampler = Sampler::new(&config, probe, &arena)?;
        let shared = Arc::new(Shared {
            snapshot: Mutex::new(sampler.snapshot),
            config,
            budget,
            arena,
            metrics,
            hooks,
            state: AtomicU8::new(State::Normal as u8),
            transitions: Mutex::new(VecDeque::with_capacity(TRANSITIONS_KEPT)),
            samples: AtomicU64::new(0),
            reclaims: AtomicU64::new(0),
            passes: Mutex::default(),
            stop: AtomicBool::new(false),
            tick: (Mutex::new(()), Condvar::new()),
            mailbox: (Mutex::new(None), Condvar::new()),
        });
        sampler.sample(&shared);
        let mut memory = Self {
            shared: Arc::clone(&shared),
            source,
            threads: Vec::with_capacity(2),
        };
        let sampling = Arc::clone(&shared);
        memory.spawn("memory-sampler", move || sampler.run(&sampling))?;
        memory.spawn("memory-reclaim", move || reclaim::run(&shared))?;
        Ok(memory)
    }

    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), MemoryError> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(MemoryError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Present state: one atomic load.
    pub fn state(&self) -> State {
        State::from_number(self.shared.state.load(Ordering::Relaxed))
    }

    /// Latest figures.
    pub fn snapshot(&self) -> Snapshot {
        *self.shared.snapshot.lock()
    }

    /// All figures.
    pub fn report(&self) -> MemoryReport {
        MemoryReport {
            snapshot: self.snapshot(),
            budget: self.shared.budget.report(),
            transitions: self.shared.transitions.lock().iter().copied().collect(),
            samples: self.shared.samples.load(Ordering::Relaxed),
            reclaims: self.shared.reclaims.load(Ordering::Relaxed),
            passes: *self.shared.passes.lock(),
            source: self.source.clone(),
        }
    }

    /// What the configuration promises under the present limit.
    pub fn reaction_bound(&self) -> ReactionBound {
        let limit = self.snapshot().reading.limit;
        self.shared.config.reaction_bound(limit)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Taking each lock once closes the gap between a thread's look at `stop` and its wait.
        drop(self.shared.tick.0.lock());
        drop(self.shared.mailbox.0.lock());
        self.shared.tick.1.notify_all();
        self.shared.mailbox.1.notify_all();
        for thread in self.threads.drain(..) {
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a memory thread panicked");
            }
        }
    }
}

fn log_start(config: &MemoryConfig, limit: u64, source: &str) {
    tracing::info!(
        limit_bytes = limit,
        source,
        elevated = config.governor.elevated,
        critical = config.governor.critical,
        governor = config.governor.enabled,
        "memory is watched"
    );
    let bound = config.reaction_bound(limit);
    let rest = bound.at_rest;
    let mib = |rate: f64| (rate / (1u64 << 20) as f64).floor();
    tracing::info!(
        room_bytes = bound.room_bytes,
        reaction_ms = bound.reaction().as_secs_f64() * 1e3,
        sample_ms = bound.sample.as_secs_f64() * 1e3,
        fall_ms = bound.fall.as_secs_f64() * 1e3,
        rate_mib_per_second = mib(bound.rate_bytes_per_second),
        at_rest_room_bytes = rest.room_bytes,
        at_rest_reaction_ms = rest.reaction.as_secs_f64() * 1e3,
        at_rest_rate_mib_per_second = mib(rest.rate_bytes_per_second),
        "reaction bound: growth slower than this rate is caught between critical and the limit, and slower than the one at rest \
         survived where it begins in normal"
    );
}

struct Sampler {
    probe: Probe,
    governor: Governor,
    snapshot: Snapshot,
    started: Instant,
    allocator_at: Option<Instant>,
    charged: u64,
    waits: u64,
    sheds: u64,
    books_due: bool,
    failed: bool,
    /// Samples of this second and of the one before: what a change of state is measured against.
    before: Option<(Instant, Sample)>,
    earlier: Option<(Instant, Sample)>,
}

impl Sampler {
    fn new(config: &MemoryConfig, probe: Probe, arena: &Arena) -> Result<Self, MemoryError> {
        let reading = probe.read()?;
        let snapshot = Snapshot {
            reading,
            limit_sample: 1,
            allocator: AllocatorStats::default(),
            arena_ledger: arena.ledger_bytes(),
            arena_allocated: arena.ledger_bytes(),
            elevated: 0,
            critical: 0,
            baseline: 0,
            ceiling: 0,
            state: State::Normal,
            changed: None,
        };
        let governor = Governor::new(config.governor.clone());
        Ok(Self {
            probe,
            governor,
            snapshot,
            started: Instant::now(),
            allocator_at: None,
            charged: 0,
            waits: 0,
            sheds: 0,
            books_due: true,
            failed: false,
            before: None,
            earlier: None,
        })
    }

    fn run(mut self, shared: &Shared) {
        loop {
            let period = self.period(&shared.config);
            let mut gate = shared.tick.0.lock();
            if !shared.stop.load(Ordering::SeqCst) {
                shared.tick.1.wait_for(&mut gate, period);
            }
            drop(gate);
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            self.sample(shared);
        }
    }

    fn period(&self, config: &MemoryConfig) -> Duration {
        let reading = &self.snapshot.reading;
        let pressed = reading.pressure as f64 >= reading.limit as f64 * config.fast_above;
        if pressed || self.snapshot.state != State::Normal {
            config.fast
        } else {
            config.slow
        }
    }

    fn sample(&mut self, shared: &Shared) {
        let now = Instant::now();
        if self
            .allocator_at
            .is_none_or(|at| now >= at + shared.config.allocator)
        {
            self.allocator_at = Some(now);
            self.look_at_allocator(shared);
            self.books_due = true;
        }
        match self.probe.read() {
            Ok(reading) => {
                if reading.limit != self.snapshot.reading.limit {
                    self.snapshot.limit_sample = shared.samples.load(Ordering::Relaxed) + 1;
                }
                self.snapshot.reading = reading;
                self.failed = false;
            }
            // The last figures stay in force: to forget them would be to forget the pressure.
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!(%error, "memory cannot be read");
            }
            Err(_) => {}
        }
        let sample = self.assemble(shared);
        let decision = self.governor.observe(now - self.started, &sample);
        self.apply(shared, &sample, &decision);
        self.remember(now, &sample);
        shared.samples.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a sample of each second, and the one before it: the older is at least a second old.
    fn remember(&mut self, now: Instant, sample: &Sample) {
        if self
            .before
            .is_none_or(|(at, _)| now >= at + Duration::from_secs(1))
        {
            self.earlier = self.before.replace((now, *sample));
        }
    }

    fn look_at_allocator(&mut self, shared: &Shared) {
        if let Err(error) = self.probe.refresh_limit() {
            tracing::debug!(%error, "limit cannot be read again");
        }
        if let Ok(stats) = arena::allocator_stats() {
            self.snapshot.allocator = stats;
        }
        // Ledger before and after: a drift is reported only when no block came or went in between.
        let before = shared.arena.ledger_bytes();
        if let Ok(allocated) = shared.arena.allocated_bytes()
            && before == shared.arena.ledger_bytes()
        {
            self.snapshot.arena_ledger = before;
            self.snapshot.arena_allocated = allocated;
        }
    }

    fn assemble(&mut self, shared: &Shared) -> Sample {
        let reading = &self.snapshot.reading;
        let books = shared.budget.unsettled_report();
        let growth = books.used.saturating_sub(self.charged);
        self.charged = books.used;
        Sample {
            limit: reading.limit,
            pressure: reading.pressure,
            own: reading.own,
            charged: books.used,
            growth,
            reclaimable: books.by_purpose[Purpose::Textures as usize]
                + books.by_purpose[Purpose::PoolIdle as usize],
        }
    }

    fn apply(&mut self, shared: &Shared, sample: &Sample, decision: &Decision) {
        shared.budget.set_ceiling(decision.ceiling);
        shared.budget.set_nominal(decision.nominal);
        shared.budget.set_growth_open(decision.growth_open);
        shared.state.store(decision.state as u8, Ordering::Relaxed);
        if let Some(change) = decision.transition {
            let before = self.earlier.or(self.before);
            let before = before.map_or(*sample, |(_, before)| before);
            let reason = Reason::of(change.from, change.to, &before, sample);
            record_transition(shared, change, reason, sample);
        }
        if let Some(reclaim) = decision.reclaim {
            reclaim::post(shared, reclaim);
        }
        let limit = sample.limit as f64;
        self.snapshot.elevated = (limit * shared.config.governor.elevated) as u64;
        self.snapshot.critical = (limit * shared.config.governor.critical) as u64;
        self.snapshot.baseline = decision.baseline;
        self.snapshot.ceiling = decision.ceiling;
        self.snapshot.state = decision.state;
        self.snapshot.changed = decision.transition.map(|change| change.to);
        *shared.snapshot.lock() = self.snapshot;
        publish(&shared.metrics, &self.snapshot);
        if self.books_due {
            self.books_due = false;
            self.publish_books(shared);
        }
    }

    /// The books go out at the allocator's pace, not with every sample.
    fn publish_books(&mut self, shared: &Shared) {
        let books = shared.budget.report();
        for (purpose, label) in Purpose::ALL.iter().zip(BudgetPurpose::ALL) {
            let bytes = books.by_purpose[*purpose as usize];
            shared
                .metrics
                .budget
                .used_bytes
                .of(*label)
                .set(bytes as i64);
        }
        shared
            .metrics
            .budget
            .waits_total
            .inc_by(books.waits - self.waits);
        shared
            .metrics
            .budget
            .shed_total
            .inc_by(books.sheds - self.sheds);
        (self.waits, self.sheds) = (books.waits, books.sheds);
    }
}

fn publish(metrics: &Metrics, snapshot: &Snapshot) {
    let reading = &snapshot.reading;
    metrics.memory.limit_bytes.set(reading.limit as i64);
    metrics.memory.usage_bytes.set(reading.usage as i64);
    metrics.memory.pressure_bytes.set(reading.pressure as i64);
    metrics.memory.foreign_bytes.set(reading.foreign() as i64);
    metrics.memory.rss_bytes.set(reading.rss as i64);
    metrics
        .memory
        .allocator_resident_bytes
        .set(snapshot.allocator.resident as i64);
    metrics
        .memory
        .allocator_allocated_bytes
        .set(snapshot.allocator.allocated as i64);
    metrics
        .governor
        .watermark_bytes
        .of(Watermark::Elevated)
        .set(snapshot.elevated as i64);
    metrics
        .governor
        .watermark_bytes
        .of(Watermark::Critical)
        .set(snapshot.critical as i64);
    metrics.budget.ceiling_bytes.set(snapshot.ceiling as i64);
    metrics.memory.arena_drift_bytes.set(snapshot.drift());
    metrics.governor.state.set(snapshot.state as i64);
    if let Some(entered) = snapshot.changed {
        metrics
            .governor
            .transitions_total
            .of(GovernorState::ALL[entered as usize])
            .inc();
    }
}

fn record_transition(shared: &Shared, change: Transition, reason: Reason, sample: &Sample) {
    let Transition { from, to } = change;
    let at_unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let mut transitions = shared.transitions.lock();
    if transitions.len() == TRANSITIONS_KEPT {
        transitions.pop_front();
    }
    transitions.push_back(TransitionRecord {
        at_unix_ms,
        from,
        to,
        pressure: sample.pressure,
        reason,
    });
    drop(transitions);
    tracing::warn!(
        from = from.as_str(),
        to = to.as_str(),
        reason = reason.as_str(),
        pressure_bytes = sample.pressure,
        foreign_bytes = sample.foreign(),
        limit_bytes = sample.limit,
        charged_bytes = sample.charged,
        "memory state changed"
    );
}

#[cfg(test)]
mod tests;
