//! The catalogue: which backgrounds there are, by index and by id.
//!
//! Slots lie in chunks that are only ever added, so an index is two array steps, without a lock. Ids are looked up in maps, sharded by
//! the id's hash, each replaced as a whole: a reader takes no lock, a writer only its shard's, and it copies that shard alone.
//! Invariants: an index names one background for as long as the epoch lasts and is never given out again; a version number of an id
//! is never given out twice; the number of live entries, of indices and of remembered ids is bounded over all shards together.

use std::cmp::Reverse;
use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::slot::Slot;
use super::sync::{Mutex, Swap};
use super::{Identity, Unavailable};
use crate::store::{checksum, valid_id};

/// Slots of a chunk. Two where shuttle runs, which makes a catalogue for every schedule, and slots are kept for ever.
const CHUNK: usize = if cfg!(all(test, feature = "shuttle")) {
    2
} else {
    256
};
/// Shards of the directory. With many more than CPUs, two writers seldom meet, and what a write copies is small.
const SHARDS: usize = 64;

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CatalogueConfig {
    /// Live backgrounds.
    pub(super) backgrounds_max: usize,
    /// Indices given out in the life of the process, and ids whose last version is remembered.
    pub(super) indices_max: usize,
}

/// Why a background was not taken into the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// Not of the form `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error("background id {0:?} is not of the form [a-z0-9][a-z0-9._-]{{0,63}}")]
    BadId(String),
    /// As many backgrounds as the configuration allows.
    #[error("the catalogue is full: {0} backgrounds")]
    Full(usize),
    /// As many indices as the configuration allows; a restart begins a new epoch.
    #[error("the catalogue gave out all its {0} indices in this epoch")]
    IndicesSpent(usize),
    /// Four thousand million versions of one background.
    #[error("background {0} has no version number left")]
    VersionsSpent(String),
    /// A version that is not newer than the present one.
    #[error("background {id} is at version {current} already")]
    Overtaken {
        /// Id.
        id: String,
        /// Present version.
        current: u32,
    },
}

type Directory = BTreeMap<Arc<str>, u32>;

#[derive(Debug)]
pub(super) struct Catalogue {
    config: CatalogueConfig,
    epoch: u64,
    chunks: Box<[OnceLock<&'static [Slot]>]>,
    /// Indices given out.
    len: AtomicU32,
    /// Live entries.
    live: AtomicUsize,
    /// Live entries, and places kept for new ones whose upload is under way.
    places: AtomicUsize,
    /// Indices given out, and those kept for such places.
    indices: AtomicUsize,
    /// Ids whose last version is remembered, over all shards.
    remembered: AtomicUsize,
    shards: Box<[Shard]>,
}

/// The ids of one range of hashes.
#[derive(Debug, Default)]
struct Shard {
    directory: Swap<Directory>,
    /// Highest version number given out, by id, deleted ids included. Its lock orders the shard's writers.
    versions: Mutex<HashMap<String, u32>>,
}

impl Shard {
    fn resolve(&self, id: &str) -> Option<u32> {
        self.directory.with(|directory| directory?.get(id).copied())
    }

    /// Replaces the directory by a changed copy. The caller holds the shard's lock.
    fn edit(&self, change: impl FnOnce(&mut Directory)) {
        let mut directory = self.directory.with(|d| d.cloned()).unwrap_or_default();
        change(&mut directory);
        drop(self.directory.swap(Some(Arc::new(directory))));
    }
}

/// A version number given out, and for a new id the place that it will take: whoever holds one is not refused for want of room.
#[must_use = "a dropped place is given back at once"]
#[derive(Debug)]
pub(super) struct Place<'a> {
    catalogue: &'a Catalogue,
    version: u32,
    keeps: bool,
}

impl Place<'_> {
    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.keeps {
            self.catalogue.places.fetch_sub(1, Ordering::Relaxed);
            self.catalogue.indices.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The next entry of one shard's range, so that the least id of all shards compares highest.
fn head<'a>(
    number: usize,
    range: &mut Range<'a, Arc<str>, u32>,
) -> Option<Reverse<(&'a str, usize, u32)>> {
    let (id, &index) = range.next()?;
    Some(Reverse((&**id, number, index)))
}

/// Counts one more, if that stays within `max`.
fn count_up(counter: &AtomicUsize, max: usize) -> bool {
    let more = |count: usize| (count < max).then_some(count + 1);
    counter
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        .is_ok()
}

impl Catalogue {
    pub(super) fn new(config: CatalogueConfig, epoch: u64) -> Self {
        let chunks = config.indices_max.max(1).div_ceil(CHUNK);
        Self {
            config,
            epoch,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            live: AtomicUsize::new(0),
            places: AtomicUsize::new(0),
            indices: AtomicUsize::new(0),
            remembered: AtomicUsize::new(0),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    fn shard(&self, id: &str) -> &Shard {
        &self.shards[checksum(id.as_bytes()) as usize % SHARDS]
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The slot of an index; `Unknown` for one never given out.
    #[inline]
    pub(super) fn slot(&self, index: u32) -> Result<&'static Slot, Unavailable> {
        if index >= self.len.load(Ordering::Acquire) {
            return Err(Unavailable::Unknown);
        }
        let chunk = self.chunks[index as usize / CHUNK].get();
        chunk
            .map(|chunk| &chunk[index as usize % CHUNK])
            .ok_or(Unavailable::Unknown)
    }

    pub(super) fn resolve(&self, id: &str) -> Option<u32> {
        self.shard(id).resolve(id)
    }

    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Identities in order of ids, from the one after `after`: the shards' lists, each in order, merged.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Identity>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let directories: Vec<Arc<Directory>> = self
            .shards
            .iter()
            .filter_map(|shard| shard.directory.load())
            .collect();
        let mut ranges: Vec<_> = directories
            .iter()
            .map(|directory| directory.range::<str, _>((from, Bound::Unbounded)))
            .collect();
        let numbered = ranges.iter_mut().enumerate();
        let mut heads: BinaryHeap<_> = numbered
            .filter_map(|(number, range)| head(number, range))
            .collect();
        let merged = std::iter::from_fn(|| {
            let Reverse((_, number, index)) = heads.pop()?;
            heads.extend(head(number, &mut ranges[number]));
            Some(index)
        });
        merged
            .filter_map(|index| self.slot(index).ok()?.identity())
            .take(limit)
            .collect()
    }

    /// Remembers that version numbers up to `version` were used.
    pub(super) fn remember(&self, id: &str, version: u32) -> Result<(), CatalogueError> {
        let mut versions = self.shard(id).versions.lock();
        let last = self.last_version(&mut versions, id)?;
        *last = version.max(*last);
        Ok(())
    }

    fn last_version<'a>(
        &self,
        versions: &'a mut HashMap<String, u32>,
        id: &str,
    ) -> Result<&'a mut u32, CatalogueError> {
        if !versions.contains_key(id) && !count_up(&self.remembered, self.config.indices_max) {
            return Err(CatalogueError::Full(self.config.indices_max));
        }
        Ok(versions.entry(id.to_owned()).or_default())
    }

    /// Gives out the next version number of an id, and keeps a place for it if it is new.
    pub(super) fn next_version(&self, id: &str) -> Result<Place<'_>, CatalogueError> {
        if !valid_id(id) {
            return Err(CatalogueError::BadId(id.to_owned()));
        }
        let shard = self.shard(id);
        let mut versions = shard.versions.lock();
        let mut place = Place {
            catalogue: self,
            version: 0,
            keeps: false,
        };
        if shard.resolve(id).is_none() {
            self.take_place()?;
            place.keeps = true;
        }
        let last = self.last_version(&mut versions, id)?;
        *last = last
            .checked_add(1)
            .ok_or_else(|| CatalogueError::VersionsSpent(id.to_owned()))?;
        place.version = *last;
        Ok(place)
    }

    /// Room for one more entry, and an index for it.
    fn take_place(&self) -> Result<(), CatalogueError> {
        if !count_up(&self.places, self.config.backgrounds_max) {
            return Err(CatalogueError::Full(self.config.backgrounds_max));
        }
        if !count_up(&self.indices, self.config.indices_max) {
            self.places.fetch_sub(1, Ordering::Relaxed);
            return Err(CatalogueError::IndicesSpent(self.config.indices_max));
        }
        Ok(())
    }

    /// The slot for an id, new or the one it has, for `show` to set the identity of. True when it is new; it is found by readers only
    /// after `show` ran. A place that was kept for it is used up.
    pub(super) fn admit(
        &self,
        id: &Arc<str>,
        version: u32,
        place: Option<Place<'_>>,
        show: impl FnOnce(&'static Slot),
    ) -> Result<(u32, bool), CatalogueError> {
        if !valid_id(id) {
            return Err(CatalogueError::BadId(id.to_string()));
        }
        self.remember(id, version)?;
        let shard = self.shard(id);
        let _writer = shard.versions.lock();
        if let Some(index) = shard.resolve(id) {
            let slot = self
                .slot(index)
                .unwrap_or_else(|_| unreachable!("the directory names existing slots"));
            match slot.version() {
                Ok(current) if current >= version => {
                    return Err(CatalogueError::Overtaken {
                        id: id.to_string(),
                        current,
                    });
                }
                _ => show(slot),
            }
            return Ok((index, false));
        }
        match place {
            // The entry takes what was kept for it: it is counted already.
            Some(mut place) if place.keeps => place.keeps = false,
            _ => self.take_place()?,
        }
        // Readers who try this index before it is shown find a vacant slot, or none.
        let index = self.len.fetch_add(1, Ordering::AcqRel);
        show(self.prepare(index));
        shard.edit(|directory| {
            directory.insert(Arc::clone(id), index);
        });
        self.live.fetch_add(1, Ordering::Relaxed);
        Ok((index, true))
    }

    /// The slot that `index` will have; its chunk is made, and lives for ever, when its first slot is needed.
    fn prepare(&self, index: u32) -> &'static Slot {
        let number = index as usize / CHUNK;
        let chunk = self.chunks[number].get_or_init(|| {
            let first = (number * CHUNK) as u32;
            let slots: Vec<Slot> = (first..first + CHUNK as u32).map(Slot::vacant).collect();
            Vec::leak(slots)
        });
        &chunk[index as usize % CHUNK]
    }

    /// Takes an id out; its slot is for `end` to close. `None` when there is none.
    pub(super) fn remove(&self, id: &str, end: impl FnOnce(&'static Slot)) -> Option<u32> {
        let shard = self.shard(id);
        let _writer = shard.versions.lock();
        let index = shard.resolve(id)?;
        shard.edit(|directory| {
            directory.remove(id);
        });
        end(self.slot(index).ok()?);
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.places.fetch_sub(1, Ordering::Relaxed);
        Some(index)
    }

    /// Slots given out so far, live and gone.
    pub(super) fn slots(&self) -> impl Iterator<Item = &'static Slot> + '_ {
        (0..self.len.load(Ordering::Acquire)).filter_map(|index| self.slot(index).ok())
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::{Format, Size};
    use crate::store::{Stored, Tags};

    fn catalogue(backgrounds_max: usize, indices_max: usize) -> Catalogue {
        let config = CatalogueConfig {
            backgrounds_max,
            indices_max,
        };
        Catalogue::new(config, 1)
    }

    fn admit(catalogue: &Catalogue, id: &str, version: u32) -> Result<(u32, bool), CatalogueError> {
        let place = catalogue.next_version(id)?;
        let stored = Stored {
            id: id.into(),
            version,
            format: Format::Png,
            size: Size::new(1, 1),
            bytes: 1,
            checksum: 1,
            thumbnail: Bytes::new(),
            tags: Tags::default(),
        };
        catalogue.admit(&Arc::from(id), version, Some(place), |slot| {
            let identity = Identity {
                index: slot.index,
                stored,
                _thumbnail: None,
            };
            slot.show(Arc::new(identity), |_| None);
        })
    }

    fn ids(page: &[Arc<Identity>]) -> Vec<String> {
        page.iter()
            .map(|identity| identity.stored.id.to_string())
            .collect()
    }

    #[test]
    fn ids_of_all_shards_are_listed_in_one_order_and_page_by_page() {
        let catalogue = catalogue(1000, 1000);
        let mut expected: Vec<String> = (0..300)
            .map(|number| format!("b{}", number * 7919 % 1000))
            .collect();
        for id in &expected {
            admit(&catalogue, id, 1).expect("room");
        }
        expected.sort_unstable();
        let shards = catalogue
            .shards
            .iter()
            .filter(|shard| !shard.directory.load().is_none_or(|d| d.is_empty()));
        assert!(shards.count() > SHARDS / 2, "spread over the shards");
        assert_eq!(ids(&catalogue.list(None, 1000)), expected);
        let mut paged: Vec<String> = Vec::new();
        loop {
            let page = catalogue.list(paged.last().map(String::as_str), 7);
            if page.is_empty() {
                break;
            }
            paged.extend(ids(&page));
        }
        assert_eq!(paged, expected);
        assert_eq!(catalogue.live(), 300);
    }

    #[test]
    fn bounds_hold_over_all_shards_and_threads() {
        const ROOM: usize = 100;
        let catalogue = catalogue(ROOM, ROOM + 10);
        let admitted: Vec<u32> = std::thread::scope(|scope| {
            let one = |thread: usize| {
                let catalogue = &catalogue;
                scope.spawn(move || {
                    let ids = (0..60).map(|number| format!("b{thread}-{number}"));
                    ids.filter_map(|id| match admit(catalogue, &id, 1) {
                        Ok((index, created)) => created.then_some(index),
                        Err(error) => {
                            assert!(matches!(error, CatalogueError::Full(_)), "{error}");
                            None
                        }
                    })
                    .collect::<Vec<u32>>()
                })
            };
            let threads: Vec<_> = (0..4).map(one).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("a thread"))
                .collect()
        });
        let distinct: std::collections::BTreeSet<u32> = admitted.iter().copied().collect();
        assert!(
            distinct.iter().copied().eq(0..ROOM as u32),
            "each index once"
        );
        assert_eq!((catalogue.live(), admitted.len()), (ROOM, ROOM));
        for identity in catalogue.list(None, 11) {
            assert!(
                catalogue
                    .remove(&identity.stored.id, |slot| drop(slot.end(|_| None)))
                    .is_some()
            );
        }
        // Eleven places are free again, but no index is given out twice, and ten were left.
        for number in 0..10 {
            let (index, _) = admit(&catalogue, &format!("later-{number}"), 1).expect("room");
            assert_eq!(index as usize, ROOM + number);
        }
        let spent = admit(&catalogue, "one-more", 1);
        assert_eq!(spent.err(), Some(CatalogueError::IndicesSpent(ROOM + 10)));
        assert_eq!(catalogue.live(), ROOM - 1);
    }

    #[test]
    fn a_place_is_kept_until_it_is_used_or_dropped() {
        let catalogue = catalogue(1, 8);
        let place = catalogue.next_version("a").expect("room");
        assert_eq!(
            admit(&catalogue, "b", 1).err(),
            Some(CatalogueError::Full(1))
        );
        drop(place);
        admit(&catalogue, "b", 1).expect("the place was given back");
        assert_eq!(
            catalogue.next_version("b").expect("it has one").version(),
            2
        );
        assert_eq!(
            admit(&catalogue, "c", 1).err(),
            Some(CatalogueError::Full(1))
        );
    }
}
