//! The catalogue: which backgrounds there are, by index and by id.
//!
//! Slots lie in chunks that are only ever added, so an index is two array steps, without a lock. Ids are looked up in a map that is
//! replaced as a whole. Invariants: an index names one background for as long as the epoch lasts and is never given out again; a
//! version number of an id is never given out twice; the number of live entries, of indices and of remembered ids is bounded.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::slot::Slot;
use super::sync::Mutex;
use super::{Identity, Unavailable};
use crate::store::valid_id;

/// Slots of a chunk. Two where shuttle runs, which makes a catalogue for every schedule, and slots are kept for ever.
const CHUNK: usize = if cfg!(all(test, feature = "shuttle")) {
    2
} else {
    256
};

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

type Chunk = Box<[Slot]>;

#[derive(Debug)]
pub(super) struct Catalogue {
    config: CatalogueConfig,
    epoch: u64,
    chunks: Box<[OnceLock<&'static Chunk>]>,
    len: AtomicU32,
    directory: ArcSwap<BTreeMap<Arc<str>, u32>>,
    /// Its lock orders all writers.
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Highest version number given out, by id, deleted ids included.
    versions: HashMap<String, u32>,
    /// Places that are kept for new ids whose upload is under way.
    pending: usize,
}

/// A version number given out, and for a new id the place that it will take: whoever holds one is not refused for want of room.
#[must_use = "a dropped place is given back at once"]
#[derive(Debug)]
pub(super) struct Place<'a> {
    catalogue: &'a Catalogue,
    version: u32,
    keeps: usize,
}

impl Place<'_> {
    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.keeps > 0 {
            self.catalogue.books.lock().pending -= self.keeps;
        }
    }
}

impl Catalogue {
    pub(super) fn new(config: CatalogueConfig, epoch: u64) -> Self {
        let chunks = config.indices_max.max(1).div_ceil(CHUNK);
        Self {
            config,
            epoch,
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            directory: ArcSwap::default(),
            books: Mutex::default(),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The slot of an index; `Unknown` for one never given out.
    pub(super) fn slot(&self, index: u32) -> Result<&'static Slot, Unavailable> {
        if index >= self.len.load(Ordering::Acquire) {
            return Err(Unavailable::Unknown);
        }
        let chunk: Option<&&'static Chunk> = self.chunks[index as usize / CHUNK].get();
        chunk
            .map(|chunk| &chunk[index as usize % CHUNK])
            .ok_or(Unavailable::Unknown)
    }

    pub(super) fn resolve(&self, id: &str) -> Option<u32> {
        self.directory.load().get(id).copied()
    }

    pub(super) fn live(&self) -> usize {
        self.directory.load().len()
    }

    /// Identities in order of ids, from the one after `after`.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Identity>> {
        let directory = self.directory.load();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = directory.range::<str, _>((from, Bound::Unbounded));
        range
            .filter_map(|(_, &index)| self.slot(index).ok()?.identity())
            .take(limit)
            .collect()
    }

    /// Remembers that version numbers up to `version` were used.
    pub(super) fn remember(&self, id: &str, version: u32) -> Result<(), CatalogueError> {
        let mut books = self.books.lock();
        let last = self.last_version(&mut books, id)?;
        *last = version.max(*last);
        Ok(())
    }

    fn last_version<'a>(
        &self,
        books: &'a mut Books,
        id: &str,
    ) -> Result<&'a mut u32, CatalogueError> {
        if !books.versions.contains_key(id) && books.versions.len() >= self.config.indices_max {
            return Err(CatalogueError::Full(self.config.indices_max));
        }
        Ok(books.versions.entry(id.to_owned()).or_default())
    }

    /// Gives out the next version number of an id, and keeps a place for it if it is new.
    pub(super) fn next_version(&self, id: &str) -> Result<Place<'_>, CatalogueError> {
        if !valid_id(id) {
            return Err(CatalogueError::BadId(id.to_owned()));
        }
        let mut books = self.books.lock();
        let keeps = usize::from(self.resolve(id).is_none());
        if keeps > 0 {
            self.check_room(books.pending)?;
        }
        let last = self.last_version(&mut books, id)?;
        *last = last
            .checked_add(1)
            .ok_or_else(|| CatalogueError::VersionsSpent(id.to_owned()))?;
        let version = *last;
        books.pending += keeps;
        Ok(Place {
            catalogue: self,
            version,
            keeps,
        })
    }

    fn check_room(&self, pending: usize) -> Result<(), CatalogueError> {
        if self.live() + pending >= self.config.backgrounds_max {
            return Err(CatalogueError::Full(self.config.backgrounds_max));
        }
        if self.len.load(Ordering::Relaxed) as usize + pending >= self.config.indices_max {
            return Err(CatalogueError::IndicesSpent(self.config.indices_max));
        }
        Ok(())
    }

    /// The slot for an id, new or the one it has, for `show` to set the identity of. True when it is new; it is found by readers only
    /// after `show` ran. A place that was kept for it is used up.
    pub(super) fn admit(
        &self,
        id: &str,
        version: u32,
        place: Option<Place<'_>>,
        show: impl FnOnce(&'static Slot) -> Result<(), CatalogueError>,
    ) -> Result<(u32, bool), CatalogueError> {
        if !valid_id(id) {
            return Err(CatalogueError::BadId(id.to_owned()));
        }
        self.remember(id, version)?;
        let mut books = self.books.lock();
        // Under the same lock as the entry that takes its place: neither counted twice nor not at all.
        books.pending -= place.map_or(0, |mut place| std::mem::take(&mut place.keeps));
        if let Some(index) = self.resolve(id) {
            let slot = self
                .slot(index)
                .unwrap_or_else(|_| unreachable!("the directory names existing slots"));
            match slot.version() {
                Ok(current) if current >= version => {
                    return Err(CatalogueError::Overtaken {
                        id: id.to_owned(),
                        current,
                    });
                }
                _ => show(slot)?,
            }
            return Ok((index, false));
        }
        self.check_room(books.pending)?;
        let index = self.len.load(Ordering::Relaxed);
        show(self.prepare(index))?;
        self.len.store(index + 1, Ordering::Release);
        let mut directory = BTreeMap::clone(&self.directory.load());
        directory.insert(Arc::from(id), index);
        self.directory.store(Arc::new(directory));
        Ok((index, true))
    }

    /// The slot that `index` will have; its chunk is made, and lives for ever, when its first slot is needed.
    fn prepare(&self, index: u32) -> &'static Slot {
        let number = index as usize / CHUNK;
        let chunk = self.chunks[number].get_or_init(|| {
            let first = (number * CHUNK) as u32;
            Box::leak(Box::new(
                (first..first + CHUNK as u32).map(Slot::vacant).collect(),
            ))
        });
        &chunk[index as usize % CHUNK]
    }

    /// Takes an id out; its slot is for `end` to close. `None` when there is none, or it is at another version than expected.
    pub(super) fn remove(&self, id: &str, end: impl FnOnce(&'static Slot)) -> Option<u32> {
        let _writer = self.books.lock();
        let index = self.resolve(id)?;
        let mut directory = BTreeMap::clone(&self.directory.load());
        directory.remove(id);
        self.directory.store(Arc::new(directory));
        end(self.slot(index).ok()?);
        Some(index)
    }

    /// Slots given out so far, live and gone.
    pub(super) fn slots(&self) -> impl Iterator<Item = &'static Slot> + '_ {
        (0..self.len.load(Ordering::Acquire)).filter_map(|index| self.slot(index).ok())
    }
}
