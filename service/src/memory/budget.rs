//! The budget: every allocation that scales with input is reserved here before it is made.
//!
//! A reservation either fits under the ceiling or is refused; nothing is ever allocated first and counted later. The charge is
//! RAII, so a lost charge is a lost value and shows in a type check rather than in a leak. What to evict when a reservation does
//! not fit is a closure; this file knows bytes and purposes only.
//!
//! Two limits hold at once: the sum never exceeds the *ceiling*, and what stays (textures, idle blocks, sessions, thumbnails) never
//! exceeds the ceiling less a *headroom* for what comes and goes (decode scratch, bodies, encode output). Without the second rule a
//! full cache would evict an 8 MiB texture for every 2 MiB of scratch, and its capacity would wobble with the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::aside;
use crate::failpoints;

mod charge;
mod purpose;
pub use charge::Charge;
pub use purpose::Purpose;

/// Why a reservation was refused. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Could never fit, however long one waits.
    #[error("{requested} bytes for {} can never fit {ceiling}", purpose.as_str())]
    TooLarge {
        /// What it was for.
        purpose: Purpose,
        /// Size asked for.
        requested: u64,
        /// Largest size that could be granted.
        ceiling: u64,
    },
    /// Does not fit now: shed, and say when to come again.
    #[error("{requested} bytes for {} do not fit now ({available} free)", purpose.as_str())]
    Exhausted {
        /// What it was for.
        purpose: Purpose,
        /// Size asked for.
        requested: u64,
        /// Bytes that were free for this purpose.
        available: u64,
    },
}

/// Settings of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Bytes that may be charged in total, until `set_ceiling` says otherwise.
    pub ceiling: u64,
    /// `false` only counts and refuses nothing: for a control experiment.
    pub enforce: bool,
    /// Callers that may wait at once; the next is refused without waiting.
    pub waiters_max: usize,
    /// Least bytes kept free of what stays: the headroom is an eighth of the ceiling, within these bounds.
    pub headroom_min: u64,
    /// Most bytes kept free of what stays.
    pub headroom_max: u64,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            ceiling: 256 << 20,
            enforce: true,
            waiters_max: 8192,
            headroom_min: 0,
            headroom_max: 64 << 20,
        }
    }
}

#[derive(Debug)]
struct Ledger {
    ceiling: u64,
    nominal: u64,
    headroom_min: u64,
    headroom_max: u64,
    used: u64,
    staying: u64,
    peak: u64,
    by_purpose: [u64; Purpose::COUNT],
}

impl Ledger {
    fn headroom(&self, ceiling: u64) -> u64 {
        (ceiling / 8)
            .max(self.headroom_min)
            .min(self.headroom_max)
            .min(ceiling)
    }

    fn largest(&self, purpose: Purpose) -> u64 {
        self.nominal
            - if purpose.stays() {
                self.headroom(self.nominal)
            } else {
                0
            }
    }

    fn available(&self, purpose: Purpose) -> u64 {
        let total = self.ceiling.saturating_sub(self.used);
        match purpose.stays() {
            true => {
                total.min((self.ceiling - self.headroom(self.ceiling)).saturating_sub(self.staying))
            }
            false => total,
        }
    }

    fn add(&mut self, purpose: Purpose, bytes: u64) {
        self.used += bytes;
        self.peak = self.peak.max(self.used);
        self.by_purpose[purpose as usize] += bytes;
        if purpose.stays() {
            self.staying += bytes;
        }
    }

    fn sub(&mut self, purpose: Purpose, bytes: u64) {
        self.used -= bytes;
        self.by_purpose[purpose as usize] -= bytes;
        if purpose.stays() {
            self.staying -= bytes;
        }
    }
}

/// A queue of callers that wait for room. The head tries, all others wait for their turn: first come, first served.
#[derive(Debug, Default)]
struct Lane {
    turn: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// A look at the budget's books, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetReport {
    /// Present ceiling.
    pub ceiling: u64,
    /// Charged in total.
    pub used: u64,
    /// Highest total ever charged.
    pub peak: u64,
    /// Charged per purpose, in the order of [`Purpose::ALL`].
    pub by_purpose: [u64; Purpose::COUNT],
    /// Reservations that had to wait.
    pub waits: u64,
    /// Reservations refused because they did not fit in time.
    pub sheds: u64,
}

type Reclaimer = Arc<dyn Fn(u64) -> u64 + Send + Sync>;
type Settler = Arc<dyn Fn() + Send + Sync>;

/// The books. Cheap to share; all methods take `&self`.
pub struct Budget {
    ledger: Mutex<Ledger>,
    enforce: bool,
    growth_open: AtomicBool,
    waiters_max: usize,
    waiting: AtomicUsize,
    staying: Lane,
    passing: Lane,
    reclaimer: RwLock<Option<Reclaimer>>,
    settler: RwLock<Option<Settler>>,
    waits: AtomicU64,
    sheds: AtomicU64,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("ledger", &self.ledger)
            .field("enforce", &self.enforce)
            .finish_non_exhaustive()
    }
}

/// Reclaim passes tried for one reservation before it is refused; another caller may take what a pass freed.
const RECLAIM_PASSES_MAX: usize = 4;

impl Budget {
    /// Opens the books.
    pub fn new(config: BudgetConfig) -> Arc<Self> {
        Arc::new(Self {
            ledger: Mutex::new(Ledger {
                ceiling: config.ceiling,
                nominal: config.ceiling,
                headroom_min: config.headroom_min,
                headroom_max: config.headroom_max,
                used: 0,
                staying: 0,
                peak: 0,
                by_purpose: [0; Purpose::COUNT],
            }),
            enforce: config.enforce,
            growth_open: AtomicBool::new(true),
            waiters_max: config.waiters_max,
            waiting: AtomicUsize::new(0),
            staying: Lane::default(),
            passing: Lane::default(),
            reclaimer: RwLock::new(None),
            settler: RwLock::new(None),
            waits: AtomicU64::new(0),
            sheds: AtomicU64::new(0),
        })
    }

    /// Sets the present ceiling. Below what is in use nothing more is granted until enough was released.
    pub fn set_ceiling(&self, ceiling: u64) {
        let raised = {
            let mut ledger = self.ledger.lock();
            let raised = ceiling > ledger.ceiling;
            ledger.ceiling = ceiling;
            ledger.nominal = ledger.nominal.max(ceiling);
            raised
        };
        if raised {
            self.poke();
        }
    }

    /// Sets what the ceiling would be without pressure: the measure for "can never fit".
    pub fn set_nominal(&self, nominal: u64) {
        let mut ledger = self.ledger.lock();
        ledger.nominal = nominal.max(ledger.ceiling);
    }

    /// Opens or closes growth: while closed, loads and uploads are refused without waiting.
    pub fn set_growth_open(&self, open: bool) {
        if self.growth_open.swap(open, Ordering::SeqCst) != open && open {
            self.poke();
        }
    }

    /// Whether loads and uploads are admitted at all.
    #[inline]
    pub fn growth_open(&self) -> bool {
        self.growth_open.load(Ordering::Relaxed)
    }

    /// Sets what is called, outside every lock, when a reservation lacks `n` bytes; it returns the bytes it released.
    /// It must not reserve. It frees memory, so it is never called on an async worker.
    pub fn set_reclaimer(&self, reclaimer: impl Fn(u64) -> u64 + Send + Sync + 'static) {
        *self.reclaimer.write() = Some(Arc::new(reclaimer));
    }

    /// Sets what is called, outside every lock, before charges are read by purpose: whoever puts transfers off makes up for them in
    /// it. It must neither reserve nor read by purpose.
    pub fn set_settler(&self, settler: impl Fn() + Send + Sync + 'static) {
        *self.settler.write() = Some(Arc::new(settler));
    }

    fn settle(&self) {
        let settler = self.settler.read().clone();
        if let Some(settler) = settler {
            settler();
        }
    }

    /// The present ceiling, in bytes.
    pub fn ceiling(&self) -> u64 {
        self.ledger.lock().ceiling
    }

    /// Bytes charged now.
    pub fn used(&self) -> u64 {
        self.ledger.lock().used
    }

    /// Bytes charged now for one purpose.
    pub fn used_by(&self, purpose: Purpose) -> u64 {
        self.settle();
        self.ledger.lock().by_purpose[purpose as usize]
    }

    /// Bytes that a reservation for `purpose` could get without reclaiming.
    pub fn available(&self, purpose: Purpose) -> u64 {
        self.ledger.lock().available(purpose)
    }

    /// All figures at one instant.
    pub fn report(&self) -> BudgetReport {
        self.settle();
        self.unsettled_report()
    }

    /// The same at no cost for the pool, whose blocks may have fallen idle and still count as textures. Their sum is right.
    pub fn unsettled_report(&self) -> BudgetReport {
        let ledger = self.ledger.lock();
        BudgetReport {
            ceiling: ledger.ceiling,
            used: ledger.used,
            peak: ledger.peak,
            by_purpose: ledger.by_purpose,
            waits: self.waits.load(Ordering::Relaxed),
            sheds: self.sheds.load(Ordering::Relaxed),
        }
    }

    /// Reserves without waiting and without reclaiming.
    pub fn try_reserve_free(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: u64,
    ) -> Result<Charge, ReserveError> {
        self.admit(purpose, bytes)?;
        Ok(Charge::of(self, purpose, bytes))
    }

    /// Reserves without waiting. When it does not fit, the reclaimer is asked for what is lacking, but not on an async worker: there
    /// [`Budget::reserve`] has it asked elsewhere.
    pub fn try_reserve(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: u64,
    ) -> Result<Charge, ReserveError> {
        self.admit_reclaiming(purpose, bytes)
            .inspect_err(|_| self.count_shed())?;
        Ok(Charge::of(self, purpose, bytes))
    }

    /// Reserves, waiting up to `wait` for room; a pass of the reclaimer is not cut short by it. Cancel-safe: dropping the future
    /// leaves nothing charged.
    pub async fn reserve(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: u64,
        wait: Duration,
    ) -> Result<Charge, ReserveError> {
        let refusal = match self.reserve_reclaiming(purpose, bytes).await {
            Ok(charge) => return Ok(charge),
            Err(refusal) => refusal,
        };
        let hopeless = matches!(refusal, ReserveError::TooLarge { .. });
        if hopeless || !self.may_wait(purpose, wait) {
            self.count_shed();
            return Err(refusal);
        }
        let waiting = async {
            let turn = self.turn(purpose).await?;
            loop {
                if let Ok(charge) = self.reserve_reclaiming(purpose, bytes).await {
                    return Some(charge);
                }
                turn.changed().await;
            }
        };
        let granted = tokio::time::timeout(wait, waiting).await.ok().flatten();
        granted.ok_or_else(|| {
            self.count_shed();
            ReserveError::Exhausted {
                purpose,
                requested: bytes,
                available: self.available(purpose),
            }
        })
    }

    /// As [`Budget::try_reserve`], with the reclaimer put aside.
    async fn reserve_reclaiming(
        self: &Arc<Self>,
        purpose: Purpose,
        bytes: u64,
    ) -> Result<Charge, ReserveError> {
        for _ in 0..RECLAIM_PASSES_MAX {
            let lacking = match self.try_reserve_free(purpose, bytes) {
                Err(ReserveError::Exhausted { available, .. })
                    if available < bytes && self.may_reclaim(purpose) =>
                {
                    bytes - available
                }
                other => return other,
            };
            let Some(reclaimer) = self.reclaimer.read().clone() else {
                break;
            };
            let freed = aside::run(move || reclaimer(lacking)).await;
            if freed.unwrap_or(0) == 0 {
                break;
            }
        }
        self.try_reserve_free(purpose, bytes)
    }

    fn may_wait(&self, purpose: Purpose, wait: Duration) -> bool {
        !wait.is_zero() && (self.growth_open() || !purpose.grows())
    }

    /// Waits for a place at the head of those that wait for room for `purpose`: first come, first served. `None` when too many wait
    /// already. Whoever has it tries, and tries again after each [`Turn::changed`]; how long is up to him.
    ///
    /// No wake-up is lost: whoever makes room does so before it looks whether anybody waits, and a waiter counts itself before it
    /// looks for room; and a notification that comes between attempt and wait is kept by `Notify`.
    pub async fn turn(&self, purpose: Purpose) -> Option<Turn<'_>> {
        let lane = if purpose.stays() {
            &self.staying
        } else {
            &self.passing
        };
        let waiting = Waiting::enter(&self.waiting, self.waiters_max)?;
        self.waits.fetch_add(1, Ordering::Relaxed);
        Some(Turn {
            _turn: lane.turn.lock().await,
            _waiting: waiting,
            lane,
        })
    }

    /// Tells waiters that room may have appeared other than by a release: a pin was dropped, a block fell idle.
    #[inline]
    pub fn poke(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        self.staying.changed.notify_one();
        self.passing.changed.notify_one();
    }

    fn count_shed(&self) {
        self.sheds.fetch_add(1, Ordering::Relaxed);
    }

    fn admit_reclaiming(&self, purpose: Purpose, bytes: u64) -> Result<(), ReserveError> {
        for _ in 0..RECLAIM_PASSES_MAX {
            match self.admit(purpose, bytes) {
                Err(ReserveError::Exhausted { available, .. })
                    if available < bytes && self.may_reclaim(purpose) =>
                {
                    if self.reclaim(bytes - available) == 0 {
                        break;
                    }
                }
                other => return other,
            }
        }
        self.admit(purpose, bytes)
    }

    fn may_reclaim(&self, purpose: Purpose) -> bool {
        self.growth_open() || !purpose.grows()
    }

    fn reclaim(&self, lacking: u64) -> u64 {
        if aside::on_worker() {
            return 0;
        }
        let reclaimer = self.reclaimer.read().clone();
        reclaimer.map_or(0, |reclaimer| reclaimer(lacking.max(1)))
    }

    fn admit(&self, purpose: Purpose, bytes: u64) -> Result<(), ReserveError> {
        let mut ledger = self.ledger.lock();
        if !self.enforce {
            ledger.add(purpose, bytes);
            return Ok(());
        }
        if bytes > ledger.largest(purpose) {
            return Err(ReserveError::TooLarge {
                purpose,
                requested: bytes,
                ceiling: ledger.largest(purpose),
            });
        }
        let available = ledger.available(purpose);
        if bytes > available || (purpose.grows() && !self.growth_open()) || exhausted_on_purpose() {
            return Err(ReserveError::Exhausted {
                purpose,
                requested: bytes,
                available: available.min(bytes),
            });
        }
        ledger.add(purpose, bytes);
        Ok(())
    }

    fn release(&self, purpose: Purpose, bytes: u64) {
        if bytes > 0 {
            self.ledger.lock().sub(purpose, bytes);
            self.poke();
        }
    }
}

fn exhausted_on_purpose() -> bool {
    failpoints::hit(failpoints::MEMORY_RESERVE_EXHAUSTED)
}

/// A place at the head of a queue for room, given up on drop.
#[must_use = "dropped, the place is given up"]
pub struct Turn<'a> {
    _turn: tokio::sync::MutexGuard<'a, ()>,
    _waiting: Waiting<'a>,
    lane: &'a Lane,
}

impl Turn<'_> {
    /// Waits until room may have appeared since the last wait.
    pub async fn changed(&self) {
        self.lane.changed.notified().await;
    }
}

/// One caller in the count of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::SeqCst) >= max {
            count.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        Some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
