//! Sessions: a table of fixed records, addressed by slot and generation.
//!
//! A lookup is one array access. The word of a record holds its generation and its flyweight, so a switch is one
//! compare-and-swap that also proves that the session is still the one that was meant. Live generations are odd:
//! a free slot never matches an id. Generations start from a random value at each boot, so that an id of an earlier
//! life names nothing. The table knows flyweights only as 4-byte numbers: they pin nothing.

pub mod exclusive;
pub mod view;

use crate::failpoints;
use crate::memory::budget::{Budget, Charge, Purpose};
use crate::metrics::Metrics;
use crate::render::view::{View, ViewError};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
pub use view::ViewPatch;

/// Flyweight number of a session without a background.
pub const NO_FLYWEIGHT: u32 = u32::MAX;

/// Records of one chunk: 3 MiB.
pub const CHUNK_RECORDS: usize = 1 << 16;

/// Most sessions that a table can hold: a slot has 32 bits and one value marks the end of the free list.
pub const SESSIONS_LIMIT: u32 = u32::MAX - 1;

/// Locks that views are striped over; a view is two words and must not be seen half changed.
const VIEW_STRIPES: usize = 64;

/// End of the free list.
const NIL: u32 = u32::MAX;

/// Names one life of one slot: the slot in the low 32 bits, its generation in the high ones. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    const fn new(slot: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | slot as u64)
    }

    /// Position in the table.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A tenant's number, given by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantId(pub u16);

/// Why an operation on a session was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Stale, unknown, or of another tenant: these are not told apart.
    #[error("no such session")]
    NotFound,
    /// Every slot that the configuration allows is taken.
    #[error("the table of sessions is full")]
    Full,
    /// The budget refused the next chunk.
    #[error("no memory for more sessions")]
    Exhausted,
    /// Injected.
    #[error("internal error")]
    Injected,
}

/// A session as it was at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The tenant's own number for its user.
    pub user: u64,
    /// Present background, or [`NO_FLYWEIGHT`].
    pub flyweight: u32,
    /// Switches applied since it was created; wraps.
    pub switches: u32,
    /// Seconds since the Unix epoch, at the last switch or the creation.
    pub changed_unix_s: u64,
    /// Extrinsic state.
    pub view: View,
}

/// One slot. All fields are written before the word that publishes them, and re-checked against it after reading.
#[repr(C)]
#[derive(Default)]
struct Record {
    /// Generation in the high half, flyweight in the low one.
    word: AtomicU64,
    /// User; in a free slot unused.
    user: AtomicU64,
    crop: AtomicU64,
    rest: AtomicU64,
    switches: AtomicU32,
    /// Seconds since the table was made, at the last switch or the creation.
    changed_s: AtomicU32,
    /// Next free slot while this one is free.
    next_free: AtomicU32,
    tenant: AtomicU16,
}

const fn pack(generation: u32, flyweight: u32) -> u64 {
    (generation as u64) << 32 | flyweight as u64
}

const fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}

struct Chunk {
    records: Box<[Record]>,
    _charge: Charge,
}

/// What the lock of creation and deletion guards.
struct Free {
    /// Head of the list of slots that were used before.
    head: u32,
    /// First slot that was never used.
    fresh: u32,
    /// Slots whose chunk exists.
    backed: u32,
}

/// Settings of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionsConfig {
    /// Most sessions alive at once.
    pub sessions_max: u32,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            sessions_max: 2_000_000,
        }
    }
}

impl SessionsConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence with the cause and the mend.
    pub fn validate(&self) -> Result<(), String> {
        if self.sessions_max == 0 || self.sessions_max > SESSIONS_LIMIT {
            return Err(format!(
                "sessions-max is {}, and must lie between 1 and {SESSIONS_LIMIT}",
                self.sessions_max
            ));
        }
        Ok(())
    }
}

/// The table.
pub struct Sessions {
    config: SessionsConfig,
    chunks: Box<[OnceLock<Chunk>]>,
    free: Mutex<Free>,
    views: Box<[RwLock<()>]>,
    /// First generation of every slot, even.
    first_generation: u32,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    start: Instant,
    start_unix_s: u64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// An empty table; chunks come as sessions do.
    #[must_use]
    pub fn new(config: SessionsConfig, budget: Arc<Budget>, metrics: Arc<Metrics>) -> Self {
        let chunks = (config.sessions_max as usize).div_ceil(CHUNK_RECORDS);
        metrics
            .sessions
            .capacity
            .set(i64::from(config.sessions_max));
        Self {
            config,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            free: Mutex::new(Free {
                head: NIL,
                fresh: 0,
                backed: 0,
            }),
            views: (0..VIEW_STRIPES).map(|_| RwLock::new(())).collect(),
            first_generation: rand::random::<u32>() & !1,
            budget,
            metrics,
            start: Instant::now(),
            start_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        }
    }

    /// Sessions alive.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.metrics.sessions.live.get().unsigned_abs()
    }

    /// Sessions that the configuration allows.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.config.sessions_max
    }

    /// Bytes that the budget holds for the table, for each session alive; `None` without any. Chunks stay when sessions end.
    #[must_use]
    pub fn bytes_per_session(&self) -> Option<f64> {
        let (held, count) = (self.budget.used_by(Purpose::Sessions), self.count());
        (count > 0).then(|| held as f64 / count as f64)
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    #[inline]
    fn record(&self, slot: u32) -> Option<&Record> {
        let chunk = self.chunks.get(slot as usize / CHUNK_RECORDS)?.get()?;
        chunk.records.get(slot as usize % CHUNK_RECORDS)
    }

    /// The record of a live session of this tenant, and its word.
    #[inline]
    fn live(&self, id: SessionId, tenant: TenantId) -> Result<(&Record, u64), SessionError> {
        let record = self.record(id.slot()).ok_or(SessionError::NotFound)?;
        let word = record.word.load(Ordering::Acquire);
        let same_life = generation_of(word) == id.generation() && id.generation() & 1 == 1;
        // Read after the word: should the slot change hands in between, the caller's later check of the word fails.
        if same_life && record.tenant.load(Ordering::Acquire) == tenant.0 {
            Ok((record, word))
        } else {
            Err(SessionError::NotFound)
        }
    }

    fn stripe(&self, slot: u32) -> &RwLock<()> {
        &self.views[slot as usize % VIEW_STRIPES]
    }

    /// Creates one session.
    ///
    /// # Errors
    /// The table is full, or the budget refuses the next chunk.
    pub fn create(
        &self,
        tenant: TenantId,
        user: u64,
        flyweight: u32,
    ) -> Result<SessionId, SessionError> {
        let mut creation = self.creation(tenant, None);
        creation.create(user, flyweight)
    }

    /// Reserves what `more` sessions need beyond the chunks that are there, waiting up to `wait` while others make room. To be taken
    /// along to [`Sessions::creation`], which holds a lock and can wait for nothing. `None`: nothing is needed, or refused.
    pub async fn room(&self, more: usize, wait: Duration) -> Option<Charge> {
        let (lacking, left) = {
            let free = self.free.lock();
            let unused = u64::from(free.backed).saturating_sub(self.count());
            let lacking = more.saturating_sub(unused as usize);
            (lacking, (self.config.sessions_max - free.backed) as usize)
        };
        let records = lacking.next_multiple_of(CHUNK_RECORDS).min(left);
        if records == 0 {
            return None;
        }
        let bytes = (records * size_of::<Record>()) as u64;
        let reserved = self.budget.reserve(Purpose::Sessions, bytes, wait);
        reserved.await.ok()
    }

    /// Holds the lock of creation for a whole batch; `room` as [`Sessions::room`] gave it.
    pub fn creation(&self, tenant: TenantId, room: Option<Charge>) -> Creation<'_> {
        Creation {
            free: self.free.lock(),
            room,
            table: self,
            tenant,
            now: self.seconds(),
            created: 0,
        }
    }

    fn grow(&self, free: &mut Free, room: &mut Option<Charge>) -> Result<(), SessionError> {
        let left = self.config.sessions_max - free.backed;
        let records = (left as usize).min(CHUNK_RECORDS);
        let bytes = (records * size_of::<Record>()) as u64;
        let charge = match room {
            Some(room) if room.bytes() >= bytes => room.split(bytes),
            _ => self
                .budget
                .try_reserve(Purpose::Sessions, bytes)
                .map_err(|_| SessionError::Exhausted)?,
        };
        let first = pack(self.first_generation, NO_FLYWEIGHT);
        let records = (0..records)
            .map(|_| Record {
                word: AtomicU64::new(first),
                ..Record::default()
            })
            .collect();
        let chunk = Chunk {
            records,
            _charge: charge,
        };
        let index = free.backed as usize / CHUNK_RECORDS;
        free.backed += chunk.records.len() as u32;
        assert!(
            self.chunks[index].set(chunk).is_ok(),
            "the lock makes a chunk once"
        );
        Ok(())
    }

    fn take_slot(&self, free: &mut Free, room: &mut Option<Charge>) -> Result<u32, SessionError> {
        if let Some(record) = self.record(free.head) {
            let slot = free.head;
            free.head = record.next_free.load(Ordering::Relaxed);
            return Ok(slot);
        }
        if free.fresh == self.config.sessions_max {
            return Err(SessionError::Full);
        }
        if free.fresh == free.backed {
            self.grow(free, room)?;
        }
        let slot = free.fresh;
        free.fresh += 1;
        Ok(slot)
    }

    /// Ends a session; its id is stale from here on. Returns the flyweight it had.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn delete(&self, id: SessionId, tenant: TenantId) -> Result<u32, SessionError> {
        let (record, mut word) = self.live(id, tenant)?;
        let ended = pack(id.generation().wrapping_add(1), NO_FLYWEIGHT);
        while let Err(now) =
            record
                .word
                .compare_exchange_weak(word, ended, Ordering::AcqRel, Ordering::Acquire)
        {
            if generation_of(now) != id.generation() {
                return Err(SessionError::NotFound);
            }
            word = now;
        }
        let mut free = self.free.lock();
        record.next_free.store(free.head, Ordering::Relaxed);
        free.head = id.slot();
        drop(free);
        self.metrics.sessions.live.dec();
        Ok(word as u32)
    }

    /// Gives a session another background. The caller has checked the flyweight. Returns the one it had.
    ///
    /// # Errors
    /// [`SessionError::NotFound`], or an injected fault; nothing is applied then.
    #[inline]
    pub fn switch(
        &self,
        id: SessionId,
        tenant: TenantId,
        flyweight: u32,
    ) -> Result<u32, SessionError> {
        self.switch_at(id, tenant, flyweight, self.seconds())
    }

    /// The time stamp for [`Sessions::switch_at`]; one reading serves a batch.
    #[must_use]
    pub fn now_s(&self) -> u32 {
        self.seconds()
    }

    /// As [`Sessions::switch`], with the time given.
    ///
    /// # Errors
    /// As [`Sessions::switch`].
    #[inline]
    pub fn switch_at(
        &self,
        id: SessionId,
        tenant: TenantId,
        flyweight: u32,
        now_s: u32,
    ) -> Result<u32, SessionError> {
        if failpoints::hit(failpoints::SESSIONS_SWITCH_ERROR) {
            return Err(SessionError::Injected);
        }
        let (record, mut word) = self.live(id, tenant)?;
        let wanted = pack(id.generation(), flyweight);
        while let Err(now) =
            record
                .word
                .compare_exchange_weak(word, wanted, Ordering::AcqRel, Ordering::Acquire)
        {
            if generation_of(now) != id.generation() {
                return Err(SessionError::NotFound);
            }
            word = now;
        }
        // Counters are advisory: a deletion between the swap and here counts into the next life of the slot at most once.
        // The addition needs no order of its own, it continues the release sequence of the store that it adds to.
        record.switches.fetch_add(1, Ordering::Relaxed);
        record.changed_s.store(now_s, Ordering::Release);
        Ok(word as u32)
    }

    /// A session as it is now.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn read(&self, id: SessionId, tenant: TenantId) -> Result<Session, SessionError> {
        let (record, _) = self.live(id, tenant)?;
        let view = {
            let _reading = self.stripe(id.slot()).read();
            record.view()
        };
        // A seqlock's reader: each load acquires, so that a value of the slot's next life brings with it that the word
        // has changed, and the word is read after all of them. Relaxed loads may sink below it on a weak machine.
        let user = record.user.load(Ordering::Acquire);
        let switches = record.switches.load(Ordering::Acquire);
        let changed_s = record.changed_s.load(Ordering::Acquire);
        let word = record.word.load(Ordering::Acquire);
        if generation_of(word) != id.generation() {
            return Err(SessionError::NotFound);
        }
        Ok(Session {
            id,
            user,
            flyweight: word as u32,
            switches,
            changed_unix_s: self.start_unix_s + u64::from(changed_s),
            view,
        })
    }

    /// Flyweight and switches of a session, without its view: what a batch read answers.
    ///
    /// # Errors
    /// [`SessionError::NotFound`].
    pub fn peek(&self, id: SessionId, tenant: TenantId) -> Result<(u32, u32), SessionError> {
        let (record, _) = self.live(id, tenant)?;
        let switches = record.switches.load(Ordering::Acquire);
        let word = record.word.load(Ordering::Acquire);
        if generation_of(word) == id.generation() {
            Ok((word as u32, switches))
        } else {
            Err(SessionError::NotFound)
        }
    }

    /// Changes some of a session's view.
    ///
    /// # Errors
    /// [`SessionError::NotFound`], or inside the result a value out of range; nothing is applied then.
    pub fn patch_view(
        &self,
        id: SessionId,
        tenant: TenantId,
        patch: &ViewPatch,
    ) -> Result<Result<View, ViewError>, SessionError> {
        let _writing = self.stripe(id.slot()).write();
        let (record, _) = self.live(id, tenant)?;
        let patched = patch.apply(&record.view());
        if let Ok(view) = &patched {
            record.store_view(view);
        }
        Ok(patched)
    }
}

impl Record {
    /// Under the slot's stripe.
    fn view(&self) -> View {
        view::from_words([
            self.crop.load(Ordering::Relaxed),
            self.rest.load(Ordering::Relaxed),
        ])
    }

    /// Under the slot's stripe, for writing.
    fn store_view(&self, view: &View) {
        let [crop, rest] = view::to_words(view);
        self.crop.store(crop, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }
}

/// The right to create sessions, held for one batch.
pub struct Creation<'a> {
    free: parking_lot::MutexGuard<'a, Free>,
    room: Option<Charge>,
    table: &'a Sessions,
    tenant: TenantId,
    now: u32,
    created: i64,
}

impl Creation<'_> {
    /// Creates one session.
    ///
    /// # Errors
    /// The table is full, or the budget refuses the next chunk.
    pub fn create(&mut self, user: u64, flyweight: u32) -> Result<SessionId, SessionError> {
        let slot = self.table.take_slot(&mut self.free, &mut self.room)?;
        let record = self.table.record(slot).ok_or(SessionError::Full)?;
        {
            // A patch of the slot's previous life may still be writing; after this it finds another generation.
            let _writing = self.table.stripe(slot).write();
            let generation = generation_of(record.word.load(Ordering::Acquire)).wrapping_add(1);
            debug_assert!(generation & 1 == 1, "live generations are odd");
            // The lock orders the view. Each other field is released: who sees it of this life sees too that the word
            // has left the previous one (see `read`). One fence before them would do, and be easier to lose.
            record.store_view(&View::default());
            record.user.store(user, Ordering::Release);
            record.tenant.store(self.tenant.0, Ordering::Release);
            record.switches.store(0, Ordering::Release);
            record.changed_s.store(self.now, Ordering::Release);
            record
                .word
                .store(pack(generation, flyweight), Ordering::Release);
            self.created += 1;
            Ok(SessionId::new(slot, generation))
        }
    }
}

impl Drop for Creation<'_> {
    fn drop(&mut self) {
        self.table.metrics.sessions.live.inc_by(self.created);
    }
}

#[cfg(test)]
mod tests;
