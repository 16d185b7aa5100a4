//! Where textures lie on the device: which of them, in which slab, in whose place the next one comes.
//!
//! Books alone, no device. A slab is a buffer of a fixed size that exists or not. The invariant: no two textures overlap, and what
//! the batch under way draws from is neither moved nor given up.

use std::collections::HashMap;

use super::TextureKey;

/// Slabs that a shader is bound to at once.
pub const SLABS: usize = 4;

/// Textures there may be: looking for a gap goes through those of a slab. More than a batch has frames.
const TEXTURES_MAX: usize = 4096;

/// How slabs are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Bytes of a unit: a word, or a block.
    pub unit_bytes: u64,
    /// Units of a slab.
    pub slab_units: u64,
    /// Textures begin at multiples of so many units.
    pub align: u64,
}

/// Where a texture lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which slab.
    pub slab: usize,
    /// First unit in it.
    pub at: u64,
    /// Units that it takes.
    pub units: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Longer than a slab.
    TooLong,
    /// All that could go is drawn from by the batch under way.
    Busy,
    /// There is no slab, and none can be had.
    NoSlab,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    place: Place,
    /// Batch that used it last.
    batch: u64,
    /// When it was used last.
    tick: u64,
}

/// The books; see the module.
#[derive(Debug)]
pub struct Atlas {
    grid: Grid,
    exists: [bool; SLABS],
    entries: HashMap<TextureKey, Entry>,
    tick: u64,
}

impl Atlas {
    /// No slab yet; each will be as `grid` says.
    pub fn new(grid: Grid) -> Self {
        Self {
            grid,
            exists: [false; SLABS],
            entries: HashMap::new(),
            tick: 0,
        }
    }

    /// Bytes of textures.
    pub fn bytes(&self) -> u64 {
        let units = self.entries.values().map(|entry| entry.place.units);
        units.sum::<u64>() * self.grid.unit_bytes
    }

    /// Where a texture lies, which batch number `batch` is about to use.
    pub fn find(&mut self, key: TextureKey, batch: u64) -> Option<Place> {
        self.tick += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.batch = batch;
        entry.tick = self.tick;
        Some(entry.place)
    }

    /// Makes room for a texture that is not there, for batch number `batch`: in a gap, else in a new slab if `grow` makes it, else in
    /// place of those that were not used for the longest time. Older versions of the same picture go first.
    pub fn place(
        &mut self,
        key: TextureKey,
        units: u64,
        batch: u64,
        mut grow: impl FnMut(usize) -> bool,
    ) -> Result<Place, NoPlace> {
        if units > self.grid.slab_units {
            return Err(NoPlace::TooLong);
        }
        let outdated = |other: &TextureKey, entry: &Entry| {
            other.index == key.index && other.version != key.version && entry.batch != batch
        };
        self.entries.retain(|other, entry| !outdated(other, entry));
        while self.entries.len() >= TEXTURES_MAX {
            self.forget_oldest(batch)?;
        }
        let mut may_grow = true;
        let place = loop {
            if let Some(place) = self.gap(units) {
                break place;
            }
            let next = (0..SLABS).find(|&slab| !self.exists[slab]);
            match next.filter(|_| may_grow) {
                Some(slab) if grow(slab) => self.exists[slab] = true,
                Some(_) => may_grow = false,
                None if !self.exists.contains(&true) => return Err(NoPlace::NoSlab),
                None => self.forget_oldest(batch)?,
            }
        };
        self.tick += 1;
        let tick = self.tick;
        self.entries.insert(key, Entry { place, batch, tick });
        Ok(place)
    }

    /// Gives up slabs, those whose textures were used least recently first, until they take no more than `bytes`. Returns which ones
    /// are gone. Not while a batch is being made.
    pub fn shrink_to(&mut self, bytes: u64) -> Vec<usize> {
        let stay = bytes / (self.grid.slab_units * self.grid.unit_bytes).max(1);
        let mut gone = Vec::new();
        while self.slabs() > stay {
            let used = |slab: usize| {
                let inside = self.entries.values().filter(|e| e.place.slab == slab);
                inside.map(|entry| entry.tick).max().unwrap_or(0)
            };
            let slabs = (0..SLABS).filter(|&slab| self.exists[slab]);
            let Some(slab) = slabs.min_by_key(|&slab| used(slab)) else {
                break;
            };
            self.exists[slab] = false;
            self.entries.retain(|_, entry| entry.place.slab != slab);
            gone.push(slab);
        }
        gone
    }

    fn slabs(&self) -> u64 {
        self.exists.iter().filter(|&&exists| exists).count() as u64
    }

    /// The first gap that is long enough.
    fn gap(&self, units: u64) -> Option<Place> {
        let Grid {
            slab_units, align, ..
        } = self.grid;
        let slabs = (0..SLABS).filter(|&slab| self.exists[slab]);
        slabs.into_iter().find_map(|slab| {
            let inside = self.entries.values().map(|entry| entry.place);
            let mut taken: Vec<Place> = inside.filter(|place| place.slab == slab).collect();
            taken.sort_unstable_by_key(|place| place.at);
            let mut at = 0;
            for place in taken {
                if place.at - at >= units {
                    break;
                }
                at = (place.at + place.units).next_multiple_of(align);
            }
            (at + units <= slab_units).then_some(Place { slab, at, units })
        })
    }

    fn forget_oldest(&mut self, batch: u64) -> Result<(), NoPlace> {
        let free = self.entries.iter().filter(|(_, e)| e.batch != batch);
        let oldest = free.min_by_key(|(_, entry)| entry.tick);
        let key = oldest.map(|(key, _)| *key).ok_or(NoPlace::Busy)?;
        self.entries.remove(&key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(index: u32) -> TextureKey {
        TextureKey { index, version: 1 }
    }

    fn of_words(slab_units: u64) -> Atlas {
        Atlas::new(Grid {
            unit_bytes: 4,
            slab_units,
            align: 64,
        })
    }

    fn overlap(a: Place, b: Place) -> bool {
        a.slab == b.slab && a.at < b.at + b.units && b.at < a.at + a.units
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut atlas = of_words(256);
        let one_slab = |slab: usize| slab == 0;
        for index in 0..4 {
            atlas.place(key(index), 64, 1, one_slab).unwrap();
        }
        atlas.find(key(0), 2).unwrap();
        let taken = atlas.place(key(9), 64, 2, one_slab).unwrap();
        assert_eq!((taken.slab, taken.at), (0, 64), "in place of number 1");
        assert_eq!(atlas.find(key(1), 2), None);
        assert!(atlas.find(key(0), 2).is_some());
    }

    #[test]
    fn what_the_batch_draws_from_stays() {
        let mut atlas = of_words(128);
        let place = |atlas: &mut Atlas, index, batch| atlas.place(key(index), 64, batch, |s| s < 1);
        place(&mut atlas, 0, 7).unwrap();
        place(&mut atlas, 1, 7).unwrap();
        assert_eq!(place(&mut atlas, 2, 7), Err(NoPlace::Busy));
        assert!(place(&mut atlas, 2, 8).is_ok());
        assert_eq!(atlas.bytes(), 128 * 4);
    }

    #[test]
    fn a_new_version_takes_the_old_ones_place() {
        let mut atlas = of_words(128);
        let first = atlas.place(key(3), 128, 1, |slab| slab == 0).unwrap();
        let newer = TextureKey {
            index: 3,
            version: 2,
        };
        assert_eq!(atlas.place(newer, 128, 2, |_| false), Ok(first));
        assert_eq!(atlas.find(key(3), 2), None);
    }

    #[test]
    fn without_room_the_reason_is_told() {
        let mut atlas = of_words(128);
        assert_eq!(atlas.place(key(0), 129, 1, |_| true), Err(NoPlace::TooLong));
        assert_eq!(atlas.place(key(0), 1, 1, |_| false), Err(NoPlace::NoSlab));
    }

    #[test]
    fn there_are_no_more_textures_than_can_be_looked_through() {
        let mut atlas = of_words(1 << 20);
        for index in 0..TEXTURES_MAX as u32 + 3 {
            atlas
                .place(key(index), 1, u64::from(index), |_| true)
                .unwrap();
        }
        assert_eq!(atlas.entries.len(), TEXTURES_MAX);
        assert_eq!(atlas.find(key(2), 0), None);
        assert!(atlas.find(key(3), 0).is_some());
    }

    #[test]
    fn shrinking_gives_up_the_slab_that_was_used_least_recently() {
        let mut atlas = of_words(64);
        for index in 0..3 {
            atlas.place(key(index), 64, 1, |_| true).unwrap();
        }
        atlas.find(key(0), 2).unwrap();
        assert_eq!(atlas.shrink_to(64 * 4 * 2), [1]);
        assert!(atlas.find(key(0), 3).is_some() && atlas.find(key(2), 3).is_some());
        assert_eq!(atlas.shrink_to(0).len(), 2);
        assert_eq!(atlas.bytes(), 0);
        assert!(atlas.place(key(5), 8, 4, |_| true).is_ok());
    }

    proptest! {
        #[test]
        fn textures_never_overlap_and_lie_inside_their_slab(
            steps in prop::collection::vec((0u32..24, 1u64..300, 0u64..40, 0usize..5), 1..120),
        ) {
            let mut atlas = of_words(512);
            for (step, (index, words, batch, shrink)) in steps.into_iter().enumerate() {
                if step % 17 == 16 {
                    atlas.shrink_to(shrink as u64 * 512 * 4);
                }
                if atlas.find(key(index), batch).is_none() {
                    let _ = atlas.place(key(index), words, batch, |_| true);
                }
                let places: Vec<Place> = atlas.entries.values().map(|e| e.place).collect();
                for (at, a) in places.iter().enumerate() {
                    prop_assert!(a.at + a.units <= 512 && a.at % 64 == 0 && atlas.exists[a.slab]);
                    prop_assert!(places[at + 1..].iter().all(|b| !overlap(*a, *b)));
                }
            }
        }
    }
}
