//! Flyweights: backgrounds, each one small identity and at most one texture, shared by every session that shows it.
//!
//! Identity and residency are two things. The catalogue's identities are permanent until removed; a texture is there or not, is
//! pinned by a [`Lease`] only, and leaves when memory is needed elsewhere. This part knows neither sessions nor HTTP, and of memory only
//! the budget and the arena. Invariants, each with a test: the same index yields the same texture as long as anyone holds it; a cold
//! one is loaded once whatever the number of callers; a lease shows one version, whole; no lookup waits for an eviction.

mod archiver;
mod boarding;
mod catalogue;
#[expect(
    unsafe_code,
    reason = "one atomic word guards a value that readers share without a lock"
)]
mod cell;
mod config;
mod flight;
pub mod key;
mod lease;
mod loader;
pub mod policy;
pub mod pool;
mod readback;
mod reclaim;
pub mod record;
mod rendition;
#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
mod schedules;
mod slot;
mod sync;
#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests;
mod texture;
mod upload;
mod workers;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::memory::arena::Arena;
use crate::memory::budget::{Budget, Charge, Purpose};
use crate::metrics::{AccessResult, EvictionReason, LoadResult, Metrics};
use crate::store::{Store, Stored};
use boarding::Boarded;
use catalogue::{Catalogue, CatalogueConfig, Place};
use cell::Pin;
use flight::Seat;
use loader::Loader;
use pool::Pool;
use reclaim::Residents;
use record::Event;
use rendition::Renditions;
use slot::{Outgoing, Slot};
use workers::Workers;

pub use catalogue::CatalogueError;
pub use config::{ArchivingConfig, FlyweightsConfig, FlyweightsConfigError};
pub use key::RenditionKey;
pub use lease::{Access, Lease, LeaseError, Source};
pub use loader::LoadError;
pub use policy::{Chosen, Eviction, History, Policy};
pub use reclaim::ShrinkReport;
pub use record::AccessRecord;
pub use rendition::{Keeper, Looked, RenditionsConfig, Wanted};
pub use texture::Texture;
pub use upload::{Precondition, RecoveryReport, RemoveError, UploadError};
pub use workers::WorkerError;

/// Replaces that a load follows before it gives up.
const OVERTAKEN_MAX: usize = 16;

/// What is known of a background without its pixels. Small, immutable, shared.
#[derive(Debug)]
pub struct Identity {
    /// Index of the flyweight, stable within the epoch.
    pub index: u32,
    /// Id, version, format, size, checksum, thumbnail, tags.
    pub stored: Stored,
    _thumbnail: Option<Charge>,
}

/// Why an index cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unavailable {
    /// Never given out in this epoch.
    #[error("no such flyweight in this epoch")]
    Unknown,
    /// Its background was removed.
    #[error("the flyweight's background was removed")]
    Gone,
}

/// What an index names.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A background.
    Live(Arc<Identity>),
    /// A removed one.
    Gone,
    /// Nothing.
    Unknown,
}

/// Answer to a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    /// Index of the flyweight.
    pub index: u32,
    /// Version from now on.
    pub version: u32,
    /// False when an existing background was replaced.
    pub created: bool,
}

/// The part's one object.
pub struct Flyweights {
    config: FlyweightsConfig,
    catalogue: Catalogue,
    residents: &'static Residents,
    renditions: Renditions,
    loader: Loader,
    pool: Arc<Pool>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    writers: Box<[Arc<tokio::sync::Mutex<()>>]>,
}

impl std::fmt::Debug for Flyweights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flyweights")
            .field("epoch", &self.epoch())
            .field("resident", &self.residents.count())
            .finish_non_exhaustive()
    }
}

impl Flyweights {
    /// An empty catalogue with a new epoch. Slots and the table of residents live as long as the process, so make one.
    pub fn new(
        config: FlyweightsConfig,
        store: Arc<Store>,
        budget: Arc<Budget>,
        arena: Arc<Arena>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Self>> {
        let residents = Residents::new(
            (config.eviction.policy(), config.ordered),
            config.access_record,
            Arc::clone(&budget),
            Arc::clone(&metrics),
        );
        let residents: &'static Residents = Box::leak(Box::new(residents));
        let pool = Pool::new(
            arena,
            Arc::clone(&budget),
            Arc::clone(&metrics),
            config.pool.clone(),
        );
        pool.set_make_room(|| residents.evict_one().is_some());
        let trimmed = Arc::clone(&pool);
        budget.set_reclaimer(move |bytes| residents.reclaim(&trimmed, bytes));
        let readback = residents.start_archiving(&store, &config.archiving)?;
        let loader = Loader {
            store,
            budget: Arc::clone(&budget),
            pool: Arc::clone(&pool),
            workers: Workers::start("decode", config.decode_threads, config.decode_queue_max)?,
            limits: config.limits,
            reserve_wait: config.reserve_wait,
            load_timeout: config.load_timeout,
            loads: Semaphore::new(config.loads_max),
            readback,
        };
        let bounds = CatalogueConfig {
            backgrounds_max: config.backgrounds_max,
            indices_max: config.indices_max,
        };
        Ok(Arc::new(Self {
            catalogue: Catalogue::new(bounds, rand::random::<u64>().max(1)),
            residents,
            renditions: Renditions::new(config.renditions.clone(), residents),
            loader,
            pool,
            budget,
            metrics,
            writers: (0..64).map(|_| Arc::default()).collect(),
            config,
        }))
    }

    /// Number of this catalogue's life; indices mean nothing in another.
    pub fn epoch(&self) -> u64 {
        self.catalogue.epoch()
    }

    /// Index of a live background.
    pub fn resolve(&self, id: &str) -> Option<u32> {
        self.catalogue.resolve(id)
    }

    /// Present version of an index: what a switch needs, without lock or allocation.
    pub fn check(&self, index: u32) -> Result<u32, Unavailable> {
        self.catalogue.slot(index)?.version()
    }

    /// What an index names.
    pub fn entry(&self, index: u32) -> Entry {
        match self
            .catalogue
            .slot(index)
            .and_then(|slot| slot.version().map(|_| slot.identity()))
        {
            Ok(Some(identity)) => Entry::Live(identity),
            // Removed between the two looks.
            Ok(None) | Err(Unavailable::Gone) => Entry::Gone,
            Err(Unavailable::Unknown) => Entry::Unknown,
        }
    }

    /// Identity of a live index.
    pub fn identity(&self, index: u32) -> Result<Arc<Identity>, Unavailable> {
        match self.entry(index) {
            Entry::Live(identity) => Ok(identity),
            Entry::Gone => Err(Unavailable::Gone),
            Entry::Unknown => Err(Unavailable::Unknown),
        }
    }

    /// Live backgrounds in order of ids, from the one after `after`.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Identity>> {
        self.catalogue.list(after, limit)
    }

    /// Number of live backgrounds.
    pub fn live(&self) -> usize {
        self.catalogue.live()
    }

    /// Takes a stored version into the catalogue, as a new background or in place of an older version. From its return on every new
    /// lease is of this version; leases that are held keep the old one, whole.
    pub fn insert_or_replace(&self, stored: Stored) -> Result<Registered, CatalogueError> {
        let bytes = stored.thumbnail.len() as u64;
        let thumbnail = self.budget.try_reserve(Purpose::Thumbnails, bytes).ok();
        self.show(stored, thumbnail, None)
    }

    fn show(
        &self,
        mut stored: Stored,
        thumbnail: Option<Charge>,
        place: Option<Place<'_>>,
    ) -> Result<Registered, CatalogueError> {
        let (id, version) = (Arc::clone(&stored.id), stored.version);
        if thumbnail.is_none() {
            tracing::warn!(
                id = &*id,
                "no memory for the thumbnail: this background cannot be shown degraded"
            );
            stored.thumbnail = Bytes::new();
        }
        let mut old = Outgoing::default();
        let (index, created) = self.catalogue.admit(&id, version, place, |slot| {
            let identity = Arc::new(Identity {
                index: slot.index,
                stored,
                _thumbnail: thumbnail,
            });
            old = slot.show(identity, |cell| {
                self.residents.retired(slot, cell, EvictionReason::Replaced)
            });
        })?;
        drop(old);
        self.renditions.drop_all(index, EvictionReason::Replaced);
        self.metrics
            .flyweight
            .catalogue_entries
            .set(self.live() as i64);
        Ok(Registered {
            index,
            version,
            created,
        })
    }

    /// Takes a background out of the catalogue (not out of the store). Its index answers `Gone` from now on.
    pub fn remove(&self, id: &str) -> Option<u32> {
        let mut old = Outgoing::default();
        let index = self.catalogue.remove(id, |slot| {
            old = slot.end(|cell| self.residents.retired(slot, cell, EvictionReason::Removed));
        });
        drop(old);
        if let Some(index) = index {
            self.renditions.drop_all(index, EvictionReason::Removed);
        }
        self.metrics
            .flyweight
            .catalogue_entries
            .set(self.live() as i64);
        index
    }

    /// A lease if the texture is there. No lock, no allocation.
    #[inline]
    pub fn try_lease(&self, index: u32) -> Result<Option<Lease>, Unavailable> {
        let slot = self.catalogue.slot(index)?;
        match self.pin(slot) {
            Some(lease) => {
                self.residents.touch(slot, Event::Hit);
                Ok(Some(lease))
            }
            None => slot.version().map(|_| None),
        }
    }

    /// A lease, loading the texture if need be, until `deadline`. The load goes on when the caller does not.
    pub async fn lease(
        self: &Arc<Self>,
        index: u32,
        deadline: tokio::time::Instant,
    ) -> Result<(Lease, Access), LeaseError> {
        let outcome = self.acquire(index, deadline).await;
        if let Err(error) = &outcome {
            self.fail(index, error);
        }
        outcome
    }

    /// What to draw a frame from: the texture, or where memory or time are short the thumbnail, if `degrade` allows.
    pub async fn source(
        self: &Arc<Self>,
        index: u32,
        deadline: tokio::time::Instant,
        degrade: bool,
    ) -> Result<Source, LeaseError> {
        let error = match self.acquire(index, deadline).await {
            Ok((lease, access)) => return Ok(Source::Texture(lease, access)),
            Err(error) => error,
        };
        let identity = self
            .identity(index)
            .ok()
            .filter(|identity| !identity.stored.thumbnail.is_empty());
        match (identity, self.catalogue.slot(index)) {
            (Some(identity), Ok(slot)) if degrade && error.is_overload() => {
                self.residents.note(slot, Event::Degraded);
                self.metrics
                    .flyweight
                    .accesses_total
                    .of(AccessResult::Degraded)
                    .inc();
                Ok(Source::Thumbnail(identity))
            }
            _ => {
                self.fail(index, &error);
                Err(error)
            }
        }
    }

    fn fail(&self, index: u32, error: &LeaseError) {
        if let Ok(slot) = self.catalogue.slot(index) {
            self.residents.note(slot, Event::Failed);
        }
        self.metrics
            .flyweight
            .accesses_total
            .of(error.result())
            .inc();
    }

    async fn acquire(
        self: &Arc<Self>,
        index: u32,
        deadline: tokio::time::Instant,
    ) -> Result<(Lease, Access), LeaseError> {
        let slot = self.catalogue.slot(index)?;
        let (lease, access) = match self.pin(slot) {
            Some(lease) => (lease, Access::Hit),
            None => match self.board(slot)? {
                Boarded::Resident(lease) => (lease, Access::Hit),
                Boarded::Joined(seat) => (
                    self.fly(slot, seat, Access::Joined, deadline).await?,
                    Access::Joined,
                ),
                Boarded::Opened(seat, flying) => {
                    // Outside the slot's lock: a runtime that shuts down drops the task at once, and that takes the lock.
                    tokio::spawn(flying.run());
                    (
                        self.fly(slot, seat, Access::Miss, deadline).await?,
                        Access::Miss,
                    )
                }
            },
        };
        match access {
            // Counted as it is noted.
            Access::Hit => self.residents.touch(slot, Event::Hit),
            // Noted when it was made.
            Access::Miss | Access::Joined => {
                let accesses = &self.metrics.flyweight.accesses_total;
                accesses.of(access.result()).inc();
            }
        }
        Ok((lease, access))
    }

    async fn fly(
        &self,
        slot: &'static Slot,
        seat: Seat,
        access: Access,
        deadline: tokio::time::Instant,
    ) -> Result<Lease, LeaseError> {
        // The access counts when it is made: a popular cold background must not look unused while it loads.
        self.residents.touch(slot, access.into());
        tokio::time::timeout_at(deadline, seat.wait())
            .await
            .unwrap_or(Err(LeaseError::Deadline))
    }

    #[inline]
    fn pin(&self, slot: &'static Slot) -> Option<Lease> {
        slot.try_pin().map(|pin| self.wrap(slot, pin))
    }

    #[inline]
    fn wrap(&self, slot: &'static Slot, pin: Pin<Texture>) -> Lease {
        Lease {
            pin: Some(pin),
            slot,
            residents: self.residents,
        }
    }

    /// A texture of the caller's own, through the same loader, shared with nobody. It goes when it is dropped.
    pub async fn load_private(&self, index: u32) -> Result<Texture, LeaseError> {
        for _ in 0..OVERTAKEN_MAX {
            let identity = self.identity(index)?;
            let loaded = self.loader.load(&identity.stored).await;
            // Its files may have gone while it was read.
            let overtaken = loaded.is_err() && self.check(index) != Ok(identity.stored.version);
            let result = match &loaded {
                Ok(_) => LoadResult::Ok,
                Err(_) if overtaken => LoadResult::Overtaken,
                Err(error) if error.is_overload() => LoadResult::Shed,
                Err(_) => LoadResult::Error,
            };
            self.metrics.flyweight.loads_total.of(result).inc();
            if !overtaken {
                return Ok(loaded?);
            }
        }
        Err(LeaseError::Overtaken)
    }

    /// Has a texture go: now, or with its last lease. Asked for again before that, the same one stays. True when it went now.
    pub fn evict(&self, index: u32) -> bool {
        self.catalogue
            .slot(index)
            .is_ok_and(|slot| self.residents.evict(slot))
    }

    /// Closes a texture: from its return on no new lease shows these pixels, nor any whose load began before, nor a failure that is
    /// remembered. Leases that are held keep them, whole. True when a texture was there.
    pub fn invalidate(&self, index: u32) -> bool {
        let slot = self.catalogue.slot(index);
        let there = slot.is_ok_and(|slot| self.residents.invalidate(slot));
        self.renditions.drop_all(index, EvictionReason::Removed);
        there
    }

    /// Brings textures and idle blocks down to `bytes` in one pass, in the order of the policy, sparing what is leased. Frees memory on
    /// the calling thread: not for an async worker.
    pub fn shrink_to(&self, bytes: u64) -> ShrinkReport {
        self.residents
            .shrink_to(&self.pool, bytes, EvictionReason::Pressure)
    }

    /// The same because somebody asked for it, which metrics and log tell from pressure.
    pub fn shrink_on_request(&self, bytes: u64) -> ShrinkReport {
        self.residents
            .shrink_to(&self.pool, bytes, EvictionReason::Requested)
    }

    /// Frees idle blocks; returns the bytes freed.
    pub fn trim(&self) -> u64 {
        self.pool.trim(u64::MAX)
    }

    /// Textures resident.
    pub fn resident(&self) -> u64 {
        self.residents.count()
    }

    /// Their bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.residents.bytes()
    }

    /// Bytes that textures and idle blocks hold.
    pub fn held_bytes(&self) -> u64 {
        self.pool.held_bytes()
    }

    /// Bytes of textures under a lease; also sets the metric.
    pub fn pinned_bytes(&self) -> u64 {
        let bytes = self.residents.pinned_bytes();
        self.metrics.flyweight.pinned_bytes.set(bytes as i64);
        bytes
    }

    /// Brings the metrics up to date that are not kept so on the way of a hit.
    pub fn publish(&self) {
        self.residents.publish();
        self.pool.settle();
    }

    /// Entries of the access record; none when it is off.
    pub fn accesses_recorded(&self) -> usize {
        self.residents.record().map_or(0, AccessRecord::count)
    }

    /// The access record in its binary form, up to `entries_max`; empty when it is off. `reset` takes these out of it.
    pub fn accesses(&self, entries_max: usize, reset: bool) -> Vec<u8> {
        self.residents
            .record()
            .map_or_else(AccessRecord::export_empty, |record| {
                record.export(entries_max, reset)
            })
    }
}

impl Drop for Flyweights {
    fn drop(&mut self) {
        self.residents.stop_archiving();
        self.renditions.clear();
        // Slots outlive us; what they show and hold must not.
        for slot in self.catalogue.slots() {
            drop(slot.end(|cell| self.residents.retired(slot, cell, EvictionReason::Removed)));
        }
        self.pool.close();
    }
}
