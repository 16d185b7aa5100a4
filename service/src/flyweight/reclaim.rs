//! Which textures are resident, and how they leave: for room, under pressure, replaced or removed.
//!
//! The lock here is taken when a texture comes or goes, never by a lookup. Textures are taken out under it and dropped outside.
//! Invariant: a slot is in the set exactly while its present texture can be leased. A texture that was retired under a lease
//! *lingers* until the last one is dropped: it is counted as pinned, and its memory is charged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;

use super::archiver::Archiver;
use super::cell::{Cell, Left, Pin};
use super::policy::{Chosen, Policy};
use super::pool::Pool;
use super::record::{AccessRecord, Event};
use super::slot::{Control, Slot};
use super::sync::{Flaw, Mutex, planted};
use super::texture::Texture;
use crate::failpoints;
use crate::memory::budget::Budget;
use crate::metrics::{AccessResult, EvictionReason, Label, Metrics, ShrinkResult};

/// What a pass did. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShrinkReport {
    /// Textures that left.
    pub evicted: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Bytes that went back to the kernel: of idle blocks and of the evicted.
    pub freed_bytes: u64,
    /// Textures that stayed because they are under a lease.
    pub pinned: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
    /// Textures that are on their way to the archive. They hold their bytes until they are written, and count as neither
    /// evicted nor freed before.
    pub archived: u64,
    /// Their bytes.
    pub archived_bytes: u64,
    /// Textures that were pinned between the look and the attempt.
    pub skipped: u64,
    /// Bytes held afterwards, idle blocks included.
    pub held_bytes: u64,
    /// Time of unlinking, during which textures cannot come or go (lookups are not affected).
    pub unlink: Duration,
    /// Time of the whole pass.
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Resident {
    slot: &'static Slot,
    bytes: u64,
    /// Rank with which it stands in the queue; an entry with another one is an old one.
    queued: u64,
}

/// Who may be next to go: ranks, as they were when they were queued, with the slots' indices; the lowest on top.
type Queue = BinaryHeap<Reverse<(u64, u32)>>;

/// What every hit writes, away from what every hit only reads: two lines, since they are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Clock(AtomicU64);

/// See the file's description.
#[derive(Debug)]
pub(super) struct Residents {
    set: Mutex<BTreeMap<u32, Resident>>,
    /// Locked after the set only.
    queue: Mutex<Queue>,
    count: AtomicU64,
    bytes: AtomicU64,
    /// Textures that linger, and their bytes. They change under the set's lock.
    lingering: AtomicU64,
    lingering_bytes: AtomicU64,
    /// Numbers the accesses: the last number is how many there were.
    clock: Clock,
    /// Accesses that were no hits.
    others: AtomicU64,
    policy: Chosen,
    /// Else every texture has the same rank, and lower indices go first.
    ordered: bool,
    record: Option<AccessRecord>,
    pub(super) archiver: RwLock<Option<Arc<Archiver>>>,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
}

impl Residents {
    pub(super) fn new(
        (policy, ordered): (Chosen, bool),
        record: usize,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            set: Mutex::default(),
            queue: Mutex::default(),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lingering: AtomicU64::new(0),
            lingering_bytes: AtomicU64::new(0),
            clock: Clock(AtomicU64::new(0)),
            others: AtomicU64::new(0),
            policy,
            ordered,
            record: (record > 0).then(|| AccessRecord::new(record)),
            archiver: RwLock::default(),
            budget,
            metrics,
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self) -> Option<&AccessRecord> {
        self.record.as_ref()
    }

    /// Notes an access: its place in the order, and in the record if there is one. A hit is counted here and nowhere else; without
    /// a record the clock does it along the way, since one more counter would cost a hit a fifth of its time.
    #[inline]
    pub(super) fn touch(&self, slot: &Slot, event: Event) {
        let tick = match &self.record {
            Some(record) => self.touch_recorded(record, slot, event),
            None => {
                // Who sees this access on the clock sees that it was no hit.
                let order = match event == Event::Hit {
                    true => Ordering::Relaxed,
                    false => {
                        self.others.fetch_add(1, Ordering::Relaxed);
                        Ordering::Release
                    }
                };
                self.clock.0.fetch_add(1, order) + 1
            }
        };
        self.policy.touch(&slot.history, tick, self.count());
    }

    #[cold]
    fn touch_recorded(&self, record: &AccessRecord, slot: &Slot, event: Event) -> u64 {
        if event == Event::Hit {
            self.hits_total().inc();
        }
        record.push(slot.index, event, self.count())
    }

    fn rank(&self, slot: &Slot) -> u64 {
        match self.ordered {
            true => self.policy.rank(&slot.history),
            false => 0,
        }
    }

    /// Notes what is no access to a texture, which leaves the order as it is.
    pub(super) fn note(&self, slot: &Slot, event: Event) {
        if let Some(record) = &self.record {
            record.push(slot.index, event, self.count());
        }
    }

    /// Puts a texture in. The caller holds the slot's lock.
    pub(super) fn install(
        &self,
        slot: &'static Slot,
        control: &mut Control,
        texture: Texture,
        version_check: bool,
    ) -> Result<Pin<Texture>, Texture> {
        let bytes = texture.bytes();
        let mut set = self.set.lock();
        let pin = slot.install(control, texture, version_check)?;
        let queued = self.rank(slot);
        set.insert(
            slot.index,
            Resident {
                slot,
                bytes,
                queued,
            },
        );
        self.enqueue(&set, queued, slot.index);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.note(slot, Event::Loaded);
        self.publish();
        Ok(pin)
    }

    /// Takes a slot out of the set, if it is in it: its bytes, then. Under the lock.
    fn unlink(
        &self,
        set: &mut BTreeMap<u32, Resident>,
        slot: &Slot,
        reason: EvictionReason,
    ) -> Option<u64> {
        let resident = set.remove(&slot.index)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(resident.bytes, Ordering::Relaxed);
        self.metrics.flyweight.evictions_total.of(reason).inc();
        self.metrics
            .flyweight
            .evicted_bytes_total
            .inc_by(resident.bytes);
        self.note(slot, Event::Evicted);
        self.publish();
        Some(resident.bytes)
    }

    fn hits_total(&self) -> &Counter {
        self.metrics.flyweight.accesses_total.of(AccessResult::Hit)
    }

    /// Brings the metrics up to date.
    pub(super) fn publish(&self) {
        if self.record.is_none() {
            let accesses = self.clock.0.load(Ordering::Acquire);
            let hits = accesses.saturating_sub(self.others.load(Ordering::Relaxed));
            // Upwards only: of two who publish at the same time, the one who looked first may come last.
            self.hits_total().inner().fetch_max(hits, Ordering::Relaxed);
        }
        self.metrics
            .flyweight
            .resident_textures
            .set(self.count() as i64);
        self.metrics
            .flyweight
            .resident_bytes
            .set(self.bytes() as i64);
    }

    /// After a cell was retired: out of the set at once, and its texture out of it unless a lease still holds it.
    pub(super) fn retired(
        &self,
        slot: &Slot,
        cell: &Cell<Texture>,
        reason: EvictionReason,
    ) -> Option<Texture> {
        let mut set = self.set.lock();
        let unlinked = self.unlink(&mut set, slot, reason);
        let texture = cell.try_take_condemned();
        if let (None, Some(bytes)) = (&texture, unlinked) {
            self.lingering.fetch_add(1, Ordering::Relaxed);
            self.lingering_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        texture
    }

    /// Lets go of a pin; the last one of a texture that was asked to go takes it along.
    #[inline]
    pub(super) fn release(&self, slot: &'static Slot, pin: Pin<Texture>) {
        let cell = pin.cell();
        match pin.release() {
            Left::Pinned => {}
            // Whoever waits for room can now have this texture evicted.
            Left::Unpinned => self.budget.poke(),
            Left::Condemned => self.drop_condemned(slot, cell),
        }
    }

    #[cold]
    fn drop_condemned(&self, slot: &'static Slot, cell: &'static Cell<Texture>) {
        drop(self.take_condemned(slot, cell, EvictionReason::Pressure));
    }

    /// What follows when the one who archives has let go: the texture that was only waiting for that, or room.
    pub(super) fn after_archiving(
        &self,
        slot: &'static Slot,
        cell: &'static Cell<Texture>,
        left: Left,
        reason: EvictionReason,
    ) -> Option<Texture> {
        match left {
            Left::Pinned => {}
            Left::Unpinned => self.budget.poke(),
            Left::Condemned => return self.take_condemned(slot, cell, reason),
        }
        None
    }

    fn take_condemned(
        &self,
        slot: &'static Slot,
        cell: &'static Cell<Texture>,
        reason: EvictionReason,
    ) -> Option<Texture> {
        let mut set = self.set.lock();
        let texture = cell.try_take_condemned()?;
        // A retired texture left the set before; its slot may by now hold another one in another cell.
        let present = std::ptr::eq(slot.cell(), cell) || planted(Flaw::UnlinkAny);
        let unlinked = present && self.unlink(&mut set, slot, reason).is_some();
        if !unlinked {
            self.lingering.fetch_sub(1, Ordering::Relaxed);
            self.lingering_bytes
                .fetch_sub(texture.bytes(), Ordering::Relaxed);
        }
        Some(texture)
    }

    /// Bars one slot's texture, and any that is being loaded for it, from new leases. False when no texture was there.
    pub(super) fn invalidate(&self, slot: &'static Slot) -> bool {
        let (there, outgoing) =
            slot.invalidate(|cell| self.retired(slot, cell, EvictionReason::Removed));
        drop(outgoing);
        there
    }

    /// Evicts one slot's texture, or has it go with its last lease. True when it went at once.
    pub(super) fn evict(&self, slot: &'static Slot) -> bool {
        let cell = slot.cell();
        cell.condemn()
            && self
                .take_condemned(slot, cell, EvictionReason::Pressure)
                .is_some()
    }

    fn enqueue(&self, set: &BTreeMap<u32, Resident>, rank: u64, index: u32) {
        let mut queue = self.queue.lock();
        queue.push(Reverse((rank, index)));
        // Entries of textures that left otherwise than by their turn stay behind; now and then they are cleared away.
        if queue.len() > 2 * set.len() + 64 {
            *queue = set
                .values()
                .map(|resident| Reverse((resident.queued, resident.slot.index)))
                .collect();
        }
    }

    /// The texture of the lowest rank of those that are neither pinned nor on their way to the archive; it stays in the set and the
    /// queue. Exact, without looking at all of them: an access raises a rank, so whose rank is what it was when it was queued, and is
    /// the lowest queued, has the lowest of all.
    fn next_victim(&self, set: &mut BTreeMap<u32, Resident>) -> Option<Resident> {
        let mut queue = self.queue.lock();
        let mut passed_over = Vec::new();
        // Each goes back once at most, unless it is used again meanwhile: by then its turn is as good as any other's.
        let mut requeues = 2 * set.len() + 64;
        let victim = loop {
            let Some(entry @ Reverse((rank, index))) = queue.pop() else {
                break None;
            };
            let Some(resident) = set.get_mut(&index).filter(|there| there.queued == rank) else {
                continue;
            };
            let present = self.rank(resident.slot);
            if present != rank && requeues > 0 {
                requeues -= 1;
                resident.queued = present;
                queue.push(Reverse((present, index)));
                continue;
            }
            passed_over.push(entry);
            let look = resident.slot.cell().look();
            if look.pins == 0 && !look.archiving {
                break Some(*resident);
            }
        };
        queue.extend(passed_over);
        victim
    }

    /// Evicts the one texture whose turn it is, and says how many bytes that freed: none where its block fell idle. `None`: all are
    /// under a lease.
    ///
    /// The one whose turn it is may go to the archive, which gives its memory back only when it is written; the next one then
    /// goes at once. One that waits to be archived goes when nothing else is left.
    pub(super) fn evict_one(&self) -> Option<u64> {
        let mut set = self.set.lock();
        let mut may_archive = true;
        // Each round that takes nothing found its victim pinned a moment later; leases are short, so the bound is never met.
        for _ in 0..set.len() + 64 {
            let Some(victim) = self.next_victim(&mut set) else {
                drop(set);
                match self.withdraw_one()? {
                    Some(texture) => return Some(free(texture)),
                    // It was leased again meanwhile, which made another one's turn.
                    None => set = self.set.lock(),
                }
                continue;
            };
            if may_archive && self.archives(victim.slot, victim.bytes, EvictionReason::Capacity) {
                may_archive = false;
                continue;
            }
            // Pinned since we looked: another one's turn.
            let Some(texture) = victim.slot.cell().try_take() else {
                continue;
            };
            self.unlink(&mut set, victim.slot, EvictionReason::Capacity);
            drop(set);
            return Some(free(texture));
        }
        None
    }

    /// Takes textures out in policy order until `bytes` are reached or all others are pinned: one pass.
    fn take_until(
        &self,
        bytes: u64,
        reason: EvictionReason,
        report: &mut ShrinkReport,
    ) -> Vec<Texture> {
        let mut taken = Vec::new();
        let mut set = self.set.lock();
        report.pinned = self.lingering.load(Ordering::Relaxed);
        report.pinned_bytes = self.lingering_bytes.load(Ordering::Relaxed);
        let mut order: Vec<(u64, Resident)> = set
            .values()
            .map(|resident| (self.rank(resident.slot), *resident))
            .collect();
        order.sort_unstable_by_key(|&(rank, resident)| (rank, resident.slot.index));
        let mut spare = evictable(&order).saturating_sub(bytes);
        // Of this pass alone: the queue may have been dropped before it.
        let mut taken_bytes = 0;
        for (_, resident) in order {
            let cell = resident.slot.cell();
            let look = cell.look();
            if look.pins > 0 {
                report.pinned += 1;
                report.pinned_bytes += resident.bytes;
            } else if !look.archiving && taken_bytes < bytes {
                // What goes to the archive frees nothing now, so there must be enough others that do.
                if spare >= resident.bytes && self.archives(resident.slot, resident.bytes, reason) {
                    spare -= resident.bytes;
                    report.archived += 1;
                    report.archived_bytes += resident.bytes;
                    continue;
                }
                let Some(texture) = cell.try_take() else {
                    report.skipped += 1;
                    continue;
                };
                self.unlink(&mut set, resident.slot, reason);
                report.evicted += 1;
                report.evicted_bytes += resident.bytes;
                taken_bytes += resident.bytes;
                taken.push(texture);
            }
        }
        taken
    }

    /// Brings what textures and idle blocks hold down to `target` bytes, as far as leases allow.
    pub(super) fn shrink_to(
        &self,
        pool: &Pool,
        target: u64,
        reason: EvictionReason,
    ) -> ShrinkReport {
        let started = Instant::now();
        let mut report = ShrinkReport::default();
        let excess = |pool: &Pool| pool.held_bytes().saturating_sub(target);
        report.freed_bytes += pool.trim(excess(pool));
        if !self.budget.growth_open() {
            report.freed_bytes += self.free_withdrawn(pool, target, &mut report);
        }
        if excess(pool) > 0 {
            let unlinking = Instant::now();
            let taken = self.take_until(excess(pool), reason, &mut report);
            report.unlink = unlinking.elapsed();
            failpoints::delay_blocking(failpoints::FLYWEIGHT_EVICT_DELAY);
            report.freed_bytes += taken.into_iter().map(free).sum::<u64>();
            report.freed_bytes += pool.trim(excess(pool));
        }
        if excess(pool) > 0 {
            report.freed_bytes += self.free_withdrawn(pool, target, &mut report);
        }
        report.held_bytes = pool.held_bytes();
        report.duration = started.elapsed();
        self.metrics
            .flyweight
            .pinned_bytes
            .set(self.pinned_bytes() as i64);
        let result = match report.held_bytes <= target {
            true => ShrinkResult::Reached,
            false => ShrinkResult::Short,
        };
        self.metrics.flyweight.shrinks_total.of(result).inc();
        log(&report, target, reason, self.policy.eviction().name());
        report
    }

    /// Drops what waits to be archived, and frees its blocks down to `target`: memory presses more than a later load costs.
    fn free_withdrawn(&self, pool: &Pool, target: u64, report: &mut ShrinkReport) -> u64 {
        let withdrawn = self.withdraw_all();
        report.evicted += withdrawn.len() as u64;
        report.evicted_bytes += withdrawn.iter().map(Texture::bytes).sum::<u64>();
        let freed: u64 = withdrawn.into_iter().map(free).sum();
        freed + pool.trim(pool.held_bytes().saturating_sub(target))
    }

    /// Bytes of textures under a lease, those of replaced versions included.
    pub(super) fn pinned_bytes(&self) -> u64 {
        let set = self.set.lock();
        let pinned = set
            .values()
            .filter(|resident| resident.slot.cell().look().pins > 0);
        let lingering = self.lingering_bytes.load(Ordering::Relaxed);
        pinned.map(|resident| resident.bytes).sum::<u64>() + lingering
    }

    /// Frees `bytes` for a reservation that lacks them: idle blocks first, then one texture at a time. Returns what was freed, which
    /// is less when all others are under a lease.
    pub(super) fn reclaim(&self, pool: &Pool, bytes: u64) -> u64 {
        let mut freed = pool.trim(bytes);
        // A load may take the block that an evicted texture left, and then its eviction frees nothing for us. The bound is for loads
        // that do so again and again.
        for _ in 0..self.count() + 64 {
            if freed >= bytes {
                break;
            }
            let Some(at_once) = self.evict_one() else {
                break;
            };
            freed += at_once;
            freed += pool.trim(bytes.saturating_sub(freed));
        }
        freed
    }
}

/// Drops a texture, outside of every lock and not on an async worker: the bytes that this frees. A block of the pool falls idle and
/// frees none; what fits none is freed right here.
fn free(texture: Texture) -> u64 {
    let bytes = match texture.is_pooled() {
        true => 0,
        false => texture.bytes(),
    };
    drop(texture);
    bytes
}

/// Bytes that a pass could evict now.
fn evictable(order: &[(u64, Resident)]) -> u64 {
    let free = |resident: &&Resident| {
        let look = resident.slot.cell().look();
        look.pins == 0 && !look.archiving
    };
    let residents = order.iter().map(|(_, resident)| resident);
    residents.filter(free).map(|resident| resident.bytes).sum()
}

fn log(report: &ShrinkReport, target: u64, reason: EvictionReason, policy: &str) {
    tracing::info!(
        reason = reason.name(),
        policy,
        target_bytes = target,
        evicted = report.evicted,
        evicted_bytes = report.evicted_bytes,
        freed_bytes = report.freed_bytes,
        pinned = report.pinned,
        pinned_bytes = report.pinned_bytes,
        archived = report.archived,
        archived_bytes = report.archived_bytes,
        skipped = report.skipped,
        held_bytes = report.held_bytes,
        unlink_us = report.unlink.as_micros() as u64,
        duration_us = report.duration.as_micros() as u64,
        "textures shrunk"
    );
}
