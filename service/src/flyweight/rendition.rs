//! Renditions: what one view of a background is at one size, kept so that the next such frame is a copy.
//!
//! A rendition is a flyweight whose identity is evictable too. Its texture lies in a slot among the residents: charged, leased and
//! evicted like any other, in the same order. It is in no catalogue, so no session can name it, and it is never archived: to draw it
//! again costs less than to read it.
//!
//! Its place is quantised: per background, sizes rounded up to [`super::key::STEP`] and views to 1/256, a bounded number of places. What
//! lies there is exact: the pixels of one view at one size of one version, as the renderer drew them, and only a frame of just these is
//! served from them. So a frame has the same bytes whichever way it was made. (Cut to another size within the step it would show less
//! of the picture, not the same at another size.) The encoding is no part of it, since pixels are kept.
//!
//! A frame is kept from its second time on within a while, so that what is looked at once costs nothing. The invariants: a rendition
//! is found only while its version is the present one; a replace, a removal and an invalidation take all of a background's along
//! before they return; what is drawn meanwhile finds its place gone and is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::key::round_up;
use super::lease::Lease;
use super::pool::Ticket;
use super::reclaim::Residents;
use super::record::Event;
use super::slot::Slot;
use super::texture::Texture;
use super::{Flyweights, Unavailable};
use crate::codec::{PixelsRef, Size};
use crate::metrics::{EvictionReason, RenditionResult};

/// Settings of the renditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionsConfig {
    /// Places of each background; 0 keeps none.
    pub per_background: usize,
    /// Places of all backgrounds together.
    pub total: usize,
    /// A frame that is asked for again within this time is kept.
    pub again_within: Duration,
}

impl Default for RenditionsConfig {
    fn default() -> Self {
        Self {
            per_background: 0,
            total: 4096,
            again_within: Duration::from_secs(10),
        }
    }
}

/// A view in numbers that this part compares and rounds, and does not understand: six in 1/65536, and an opacity in 1/255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Looked {
    /// Crop, offset and zoom.
    pub window: [i32; 7],
    /// Opacity.
    pub alpha: u8,
}

/// Which frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Its size.
    pub size: Size,
    /// What it shows.
    pub looked: Looked,
}

/// Steps of a view in one.
const VIEW_STEP: i32 = 65_536 / 256;

/// Where a rendition belongs: frames that differ by less share a place, and the later takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    size: Size,
    looked: Looked,
}

impl Wanted {
    fn place(&self) -> Place {
        let Looked { window, alpha } = self.looked;
        let window = window.map(|number| number.div_euclid(VIEW_STEP));
        Place {
            size: Size::new(round_up(self.size.width), round_up(self.size.height)),
            looked: Looked { window, alpha },
        }
    }
}

/// What lies, or may come to lie, in a place.
#[derive(Debug)]
struct Rendition {
    place: Place,
    wanted: Wanted,
    version: u32,
    /// Names this one: what was drawn for another that had the place before is not put here.
    number: u64,
    asked: Instant,
    slot: Option<&'static Slot>,
}

#[derive(Debug, Default)]
struct Shard {
    of: HashMap<u32, Vec<Rendition>>,
    count: usize,
    /// Slots without an identity.
    free: Vec<&'static Slot>,
}

/// Locks: one per shard, taken before a slot's and the residents', never by a hit on a texture.
#[derive(Debug)]
pub(super) struct Renditions {
    config: RenditionsConfig,
    shards: Box<[Mutex<Shard>]>,
    numbers: AtomicU64,
    residents: &'static Residents,
}

const SHARDS: usize = 16;
/// Indices of slots that are in no catalogue. A catalogue's stay far below.
const FIRST_INDEX: u32 = 1 << 31;

impl Renditions {
    pub(super) fn new(config: RenditionsConfig, residents: &'static Residents) -> Self {
        Self {
            config,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            numbers: AtomicU64::new(0),
            residents,
        }
    }

    fn shard(&self, index: u32) -> &Mutex<Shard> {
        &self.shards[index as usize % SHARDS]
    }

    fn is_off(&self) -> bool {
        self.config.per_background == 0
    }

    /// The frame, if it is kept. `version` is asked for under the lock: whoever knows of a version is never shown an older one.
    fn find(
        &self,
        index: u32,
        wanted: &Wanted,
        version: impl FnOnce() -> Result<u32, Unavailable>,
    ) -> Option<Lease> {
        let mut shard = self.shard(index).lock();
        let kept = shard.of.get_mut(&index)?;
        let version = version().ok()?;
        let found = kept
            .iter_mut()
            .find(|one| one.version == version && one.wanted == *wanted)?;
        let slot = found.slot?;
        let pin = slot.try_pin()?;
        found.asked = Instant::now();
        Some(Lease {
            pin: Some(pin),
            slot,
            residents: self.residents,
        })
    }

    /// Notes that a frame is drawn. `Some`: it was asked for a while ago as well, and is to be kept under this number.
    ///
    /// `present` is asked under the lock: a texture that was barred by then is not drawn for anyone who asks from now on.
    fn note(
        &self,
        index: u32,
        version: u32,
        wanted: &Wanted,
        present: impl FnOnce() -> bool,
    ) -> Option<u64> {
        let now = Instant::now();
        let place = wanted.place();
        let mut shard = self.shard(index).lock();
        if !present() {
            return None;
        }
        let mut outgoing = None;
        let again = shard.of.get_mut(&index).and_then(|kept| {
            let same = kept.iter_mut().find(|one| one.place == place)?;
            let again = same.wanted == *wanted
                && same.version == version
                && now.duration_since(same.asked) <= self.config.again_within;
            same.asked = now;
            if !again {
                (same.wanted, same.version) = (*wanted, version);
                same.number = self.numbers.fetch_add(1, Ordering::Relaxed);
                outgoing = same
                    .slot
                    .and_then(|slot| self.empty(slot, EvictionReason::Capacity));
            }
            Some((again, same.number))
        });
        let again = again.unwrap_or_else(|| {
            outgoing = self.make_room(&mut shard, index);
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            shard.of.entry(index).or_default().push(Rendition {
                place,
                wanted: *wanted,
                version,
                number,
                asked: now,
                slot: None,
            });
            shard.count += 1;
            (false, number)
        });
        drop(shard);
        drop(outgoing);
        let (again, number) = again;
        again.then_some(number)
    }

    /// Takes the place that was asked for longest ago, of the background or of the shard, where one of the two has all of theirs.
    fn make_room(&self, shard: &mut Shard, index: u32) -> Option<Texture> {
        let of_background = shard.of.get(&index).map_or(0, Vec::len);
        let oldest = if of_background >= self.config.per_background {
            index
        } else if shard.count >= (self.config.total / SHARDS).max(1) {
            let oldest_of = |kept: &Vec<Rendition>| kept.iter().map(|one| one.asked).min();
            let of = shard.of.iter();
            *of.min_by_key(|(_, kept)| oldest_of(kept))?.0
        } else {
            return None;
        };
        let kept = shard.of.get_mut(&oldest)?;
        let (at, _) = kept.iter().enumerate().min_by_key(|(_, one)| one.asked)?;
        let gone = kept.swap_remove(at);
        if kept.is_empty() {
            shard.of.remove(&oldest);
        }
        shard.count -= 1;
        let slot = gone.slot?;
        self.metrics_kept(-1);
        shard.free.push(slot);
        self.empty(slot, EvictionReason::Capacity)
    }

    /// Bars a slot's texture from new leases. What comes back is to be dropped outside of the lock.
    fn empty(&self, slot: &'static Slot, reason: EvictionReason) -> Option<Texture> {
        let (_, (texture, _)) = slot.invalidate(|cell| self.residents.retired(slot, cell, reason));
        texture
    }

    /// Takes all of a background's along.
    pub(super) fn drop_all(&self, index: u32, reason: EvictionReason) {
        if self.is_off() {
            return;
        }
        let mut shard = self.shard(index).lock();
        let gone = shard.of.remove(&index).unwrap_or_default();
        shard.count -= gone.len();
        let slots: Vec<_> = gone.iter().filter_map(|one| one.slot).collect();
        let textures: Vec<_> = slots
            .iter()
            .filter_map(|slot| self.empty(slot, reason))
            .collect();
        self.metrics_kept(-(slots.len() as i64));
        shard.free.extend(slots);
        drop(shard);
        drop(textures);
    }

    /// Every texture goes: the end of the flyweights.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let indices: Vec<u32> = shard.lock().of.keys().copied().collect();
            indices
                .into_iter()
                .for_each(|index| self.drop_all(index, EvictionReason::Removed));
        }
    }

    /// Puts drawn pixels in their place, if it is still theirs and their version the present one. Else gives them back.
    fn install(
        &self,
        index: u32,
        number: u64,
        texture: Texture,
        version: impl FnOnce() -> Result<u32, Unavailable>,
    ) -> Result<(), Texture> {
        let mut guard = self.shard(index).lock();
        let shard = &mut *guard;
        let place = shard.of.get_mut(&index);
        let place = place.and_then(|kept| kept.iter_mut().find(|one| one.number == number));
        let Some(place) = place.filter(|_| version() == Ok(texture.version())) else {
            return Err(texture);
        };
        let slot = match place.slot {
            Some(slot) => slot,
            None => {
                let slot = shard.free.pop().unwrap_or_else(|| self.slot());
                self.metrics_kept(1);
                *place.slot.insert(slot)
            }
        };
        // It has been drawn twice at the same time.
        if slot.cell().look().resident {
            return Err(texture);
        }
        let pin = self
            .residents
            .install(slot, &mut slot.control.lock(), texture, false)?;
        // Its first use: else it would be the oldest of all.
        self.residents.touch(slot, Event::Joined);
        drop(guard);
        self.residents.release(slot, pin);
        Ok(())
    }

    /// A new slot. There are as many as places at most, since those of former ones are used again.
    fn slot(&self) -> &'static Slot {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) as u32;
        Box::leak(Box::new(Slot::vacant(FIRST_INDEX + number)))
    }

    fn metrics_kept(&self, by: i64) {
        self.residents.metrics.flyweight.renditions.inc_by(by);
    }

    fn count(&self, result: RenditionResult) {
        let total = &self.residents.metrics.flyweight.rendition_frames_total;
        total.of(result).inc();
    }
}

/// The right and the room to keep one frame once it is drawn.
pub struct Keeper {
    flyweights: Arc<Flyweights>,
    index: u32,
    version: u32,
    size: Size,
    number: u64,
    ticket: Ticket,
}

impl Keeper {
    /// Keeps the pixels of the frame, unless its background was replaced meanwhile, or another place is now in its stead.
    pub fn keep(self, pixels: PixelsRef<'_>) {
        let Self {
            flyweights,
            index,
            version,
            size,
            number,
            ticket,
        } = self;
        debug_assert!(pixels.size() == size, "the frame that was asked for");
        let renditions = &flyweights.renditions;
        let kept = ticket.realise().ok().and_then(|block| {
            let mut texture = Texture::new(block, size, version);
            texture.pixels_mut().data().copy_from_slice(pixels.data());
            let present = || flyweights.check(index);
            renditions.install(index, number, texture, present).ok()
        });
        renditions.count(match kept {
            Some(()) => RenditionResult::Kept,
            None => RenditionResult::Dropped,
        });
    }
}

impl Flyweights {
    /// The pixels of exactly this frame, if they are kept.
    pub fn rendition(&self, index: u32, wanted: &Wanted) -> Option<Lease> {
        if self.renditions.is_off() {
            return None;
        }
        let lease = self.renditions.find(index, wanted, || self.check(index))?;
        self.residents.touch(lease.slot, Event::Hit);
        self.renditions.count(RenditionResult::Hit);
        Some(lease)
    }

    /// What keeps this frame of `texture` once it is drawn: if it was asked for before, a while ago at most, takes less memory than the
    /// background's texture, and there is room. It waits for none.
    pub async fn keeper(self: &Arc<Self>, texture: &Lease, wanted: &Wanted) -> Option<Keeper> {
        let (index, version, size) = (texture.index(), texture.version(), wanted.size);
        if self.renditions.is_off() || size.bytes() >= texture.size().bytes() {
            return None;
        }
        let pin = texture.pin.as_ref()?;
        let present = || pin.cell().look().resident;
        let number = self.renditions.note(index, version, wanted, present)?;
        let Ok(ticket) = self.pool.acquire(size.bytes(), Duration::ZERO).await else {
            self.renditions.count(RenditionResult::Dropped);
            return None;
        };
        Some(Keeper {
            flyweights: Arc::clone(self),
            index,
            version,
            size,
            number,
            ticket,
        })
    }
}
