//! The way of evicted textures to the archive: a bounded queue, and one thread that writes.
//!
//! A texture on its way stays in its cell, leasable, with its block and its charge: a lease takes it back without a load, and
//! nothing counts as freed before it is. Best effort: what does not fit the queue, or is wanted for its memory, is dropped
//! without being written. It decides neither when to evict nor what.
//!
//! Locks: the queue's is taken under that of the residents, never the other way round.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Identity;
use super::cell::{Archiving, Cell};
use super::config::ArchivingConfig;
use super::readback::Readback;
use super::reclaim::Residents;
use super::slot::Slot;
use super::texture::Texture;
use crate::memory::budget::Budget;
use crate::metrics::{ArchiveWrite, EvictionReason, Metrics};
use crate::priority;
use crate::store::Store;
use crate::store::archive::{Admission, Archive};

/// Niceness of the thread: behind decoding, since nobody waits for it.
const NICE: i32 = 10;
/// How long the end of the process waits for a write that is under way.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// One texture on its way.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) slot: &'static Slot,
    pub(super) texture: Archiving<Texture>,
    pub(super) reason: EvictionReason,
    identity: Arc<Identity>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Of the items and of the one being written.
    bytes: u64,
    writing: bool,
    stopped: bool,
    ended: bool,
    #[cfg(test)]
    paused: bool,
}

impl Queue {
    /// The item whose turn it is, now being written.
    fn begin(&mut self) -> Option<Item> {
        #[cfg(test)]
        if self.paused {
            return None;
        }
        let item = self.items.pop_front()?;
        self.writing = true;
        Some(item)
    }
}

/// See the file's description.
#[derive(Debug)]
pub(super) struct Archiver {
    archive: Arc<Archive>,
    config: ArchivingConfig,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The write under way is to be given up.
    cancel: AtomicBool,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Archiver {
    /// Starts the thread.
    pub(super) fn start(
        archive: Arc<Archive>,
        config: ArchivingConfig,
        residents: &'static Residents,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Self>> {
        let archiver = Arc::new(Self {
            archive,
            config,
            queue: Mutex::default(),
            changed: Condvar::new(),
            cancel: AtomicBool::new(false),
            budget,
            metrics,
            thread: Mutex::default(),
        });
        let running = Arc::clone(&archiver);
        let thread = std::thread::Builder::new()
            .name("archive-write".to_owned())
            .spawn(move || running.run(residents))?;
        *archiver.thread.lock() = Some(thread);
        Ok(archiver)
    }

    /// Bytes that the queue may hold: a small part of the budget, since they hold back a texture each that was to make room.
    fn bytes_max(&self) -> u64 {
        let ceiling = self.budget.ceiling();
        self.config
            .queue_bytes_max
            .min(ceiling / self.config.queue_share)
    }

    /// Takes the unpinned texture of a cell on its way, unless it is not worth it or there is no place. False: evict it now.
    pub(super) fn admit(
        &self,
        slot: &'static Slot,
        cell: &'static Cell<Texture>,
        bytes: u64,
        reason: EvictionReason,
    ) -> bool {
        let Some(identity) = slot.identity() else {
            return false;
        };
        if let Admission::Refused(why) = self.archive.admits(&identity.stored) {
            self.count(why);
            return false;
        }
        let bytes_max = self.bytes_max();
        let mut queue = self.queue.lock();
        if queue.stopped {
            return false;
        }
        if queue.bytes.saturating_add(bytes) > bytes_max {
            self.count(ArchiveWrite::QueueFull);
            return false;
        }
        // Pinned since we looked: not evicted at all.
        let Some(texture) = cell.try_archive() else {
            return false;
        };
        queue.bytes += bytes;
        queue.items.push_back(Item {
            slot,
            texture,
            reason,
            identity,
            bytes,
        });
        self.publish(&queue);
        self.changed.notify_all();
        true
    }

    /// The oldest that waits, for its memory.
    pub(super) fn withdraw(&self) -> Option<Item> {
        let mut queue = self.queue.lock();
        let item = queue.items.pop_front()?;
        self.withdrawn(&mut queue, &item);
        Some(item)
    }

    /// All that wait, for their memory. A write that is under way is given up, and its texture goes a moment later.
    pub(super) fn withdraw_all(&self) -> Vec<Item> {
        let mut queue = self.queue.lock();
        if queue.writing {
            self.cancel.store(true, Ordering::Relaxed);
        }
        let items = std::mem::take(&mut queue.items);
        for item in &items {
            self.withdrawn(&mut queue, item);
        }
        items.into()
    }

    fn withdrawn(&self, queue: &mut Queue, item: &Item) {
        queue.bytes -= item.bytes;
        self.count(ArchiveWrite::Dropped);
        self.publish(queue);
    }

    /// Ends the thread and gives back what waited. Bounded: a disk that hangs does not hold the end of the process up.
    pub(super) fn stop(&self) -> Vec<Item> {
        self.queue.lock().stopped = true;
        let items = self.withdraw_all();
        self.changed.notify_all();
        let running = |queue: &mut Queue| !queue.ended;
        let waited = {
            let mut queue = self.queue.lock();
            self.changed.wait_while_for(&mut queue, running, STOP_WAIT)
        };
        match self.thread.lock().take() {
            Some(thread) if !waited.timed_out() => drop(thread.join()),
            _ => tracing::warn!("a write of the archive is still under way: left to itself"),
        }
        items
    }

    fn run(&self, residents: &'static Residents) {
        // A refusal costs promptness of the others and nothing else.
        let _ = priority::give_way(NICE);
        while let Some(item) = self.next() {
            let bytes = item.bytes;
            self.count(self.write(&item));
            drop(residents.end_archiving(item));
            let mut queue = self.queue.lock();
            queue.bytes -= bytes;
            queue.writing = false;
            self.publish(&queue);
            self.changed.notify_all();
        }
        self.queue.lock().ended = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Item> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(item) = queue.begin() {
                self.cancel.store(false, Ordering::Relaxed);
                return Some(item);
            }
            self.changed.wait(&mut queue);
        }
    }

    fn write(&self, item: &Item) -> ArchiveWrite {
        let (stored, texture) = (&item.identity.stored, item.texture.get());
        let present = || item.slot.version() == Ok(stored.version);
        if texture.version() != stored.version || !present() {
            return ArchiveWrite::Overtaken;
        }
        if !item.texture.is_condemned() {
            return ArchiveWrite::TakenBack;
        }
        let go_on = || present() && !self.cancel.load(Ordering::Relaxed);
        let written = self.archive.write(stored, texture.pixels().data(), &go_on);
        // A replace shows its version first and prunes then: either it finds this file, or we find its version.
        if written == ArchiveWrite::Ok && !present() {
            self.archive.forget(&stored.id, stored.version);
            return ArchiveWrite::Overtaken;
        }
        written
    }

    fn count(&self, result: ArchiveWrite) {
        self.metrics.archive.writes_total.of(result).inc();
    }

    fn publish(&self, queue: &Queue) {
        let textures = queue.items.len() + usize::from(queue.writing);
        self.metrics.archive.queue_textures.set(textures as i64);
        self.metrics.archive.queue_bytes.set(queue.bytes as i64);
    }

    /// Keeps the thread from beginning another write, or lets it.
    #[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
    pub(super) fn pause(&self, paused: bool) {
        self.queue.lock().paused = paused;
        self.changed.notify_all();
    }

    /// Waits until nothing waits and nothing is written.
    #[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
    pub(super) fn settle(&self) {
        let mut queue = self.queue.lock();
        let busy = |queue: &mut Queue| queue.writing || !queue.items.is_empty();
        let patience = Duration::from_secs(60);
        let waited = self.changed.wait_while_for(&mut queue, busy, patience);
        assert!(!waited.timed_out(), "the archiver never came to rest");
    }
}

impl Residents {
    /// Has evicted textures archived from now on, and gives what reads them back, if the store has an archive.
    pub(super) fn start_archiving(
        &'static self,
        store: &Store,
        config: &ArchivingConfig,
    ) -> std::io::Result<Option<Readback>> {
        let Some(archive) = store.archive() else {
            return Ok(None);
        };
        let readback = Readback::start(Arc::clone(archive), config, Arc::clone(&self.metrics))?;
        let archiver = Archiver::start(
            Arc::clone(archive),
            config.clone(),
            self,
            Arc::clone(&self.budget),
            Arc::clone(&self.metrics),
        )?;
        *self.archiver.write() = Some(archiver);
        Ok(Some(readback))
    }

    /// The end of it: what waits is dropped.
    pub(super) fn stop_archiving(&self) {
        let archiver = self.archiver.write().take();
        for item in archiver.iter().flat_map(|archiver| archiver.stop()) {
            drop(self.end_archiving(item));
        }
    }

    /// Whether the texture of an unpinned slot was taken on its way to the archive instead of going now. Never in Critical.
    pub(super) fn archives(&self, slot: &'static Slot, bytes: u64, reason: EvictionReason) -> bool {
        let archiver = self.archiver.read();
        archiver.as_ref().is_some_and(|archiver| {
            self.budget.growth_open() && archiver.admit(slot, slot.cell(), bytes, reason)
        })
    }

    /// Takes out one texture that waits to be archived, for the caller to drop outside every lock. `None`: none waits; `Some(None)`:
    /// it was leased again meanwhile.
    pub(super) fn withdraw_one(&self) -> Option<Option<Texture>> {
        let item = self.archiver.read().as_ref()?.withdraw()?;
        Some(self.end_archiving(item))
    }

    /// Takes out all textures that wait to be archived, for the caller to drop outside every lock.
    pub(super) fn withdraw_all(&self) -> Vec<Texture> {
        let items = match self.archiver.read().as_ref() {
            Some(archiver) => archiver.withdraw_all(),
            None => Vec::new(),
        };
        let textures = items.into_iter();
        textures
            .filter_map(|item| self.end_archiving(item))
            .collect()
    }

    /// The end of a texture's way: out, unless it is leased or was since.
    pub(super) fn end_archiving(&self, item: Item) -> Option<Texture> {
        let cell = item.texture.cell();
        let left = item.texture.release();
        self.after_archiving(item.slot, cell, left, item.reason)
    }
}
