//! What the archive holds, in memory: one version of each id, in the order of use. It knows no files.

use std::collections::{BTreeMap, HashMap};

use super::file::Name;
use crate::store::Stored;

/// One file's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) version: u32,
    /// Of the source.
    pub(super) checksum: u64,
    pub(super) bytes: u64,
    /// Tells this entry from a later one of the same name.
    pub(super) born: u64,
    used: u64,
}

/// The present entry is newer than the one that was offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Newer;

/// See the file's description.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_id: HashMap<String, Held>,
    by_use: BTreeMap<u64, String>,
    bytes: u64,
    clock: u64,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn held(&self, id: &str) -> Option<&Held> {
        self.by_id.get(id)
    }

    /// The entry of this version of this source.
    pub(super) fn find(&self, entry: &Stored) -> Option<&Held> {
        self.held(&entry.id)
            .filter(|held| (held.version, held.checksum) == (entry.version, entry.checksum))
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Notes a use of the entry that was born then, if it is still there.
    pub(super) fn touch(&mut self, id: &str, born: u64) {
        let tick = self.tick();
        let Some(held) = self.by_id.get_mut(id).filter(|held| held.born == born) else {
            return;
        };
        let before = std::mem::replace(&mut held.used, tick);
        if let Some(id) = self.by_use.remove(&before) {
            self.by_use.insert(tick, id);
        }
    }

    /// Puts an entry in as the one used last, in place of an older version, which is returned.
    pub(super) fn insert(&mut self, entry: &Stored, bytes: u64) -> Result<Option<Held>, Newer> {
        self.put(&entry.id, entry.version, entry.checksum, bytes)
    }

    /// The same for a file that was found.
    pub(super) fn adopt(&mut self, name: &Name, bytes: u64) -> Result<Option<Held>, Newer> {
        self.put(&name.id, name.version, name.checksum, bytes)
    }

    fn put(
        &mut self,
        id: &str,
        version: u32,
        checksum: u64,
        bytes: u64,
    ) -> Result<Option<Held>, Newer> {
        if self.held(id).is_some_and(|held| held.version > version) {
            return Err(Newer);
        }
        let older = self.remove(id);
        let tick = self.tick();
        let held = Held {
            version,
            checksum,
            bytes,
            born: tick,
            used: tick,
        };
        self.by_id.insert(id.to_owned(), held);
        self.by_use.insert(tick, id.to_owned());
        self.bytes += bytes;
        Ok(older)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Held> {
        let held = self.by_id.remove(id)?;
        self.by_use.remove(&held.used);
        self.bytes -= held.bytes;
        Some(held)
    }

    /// Removes the entry that was born then, and no later one.
    pub(super) fn remove_born(&mut self, id: &str, born: u64) {
        if self.held(id).is_some_and(|held| held.born == born) {
            self.remove(id);
        }
    }

    pub(super) fn take_oldest(&mut self) -> Option<(String, Held)> {
        let id = self.by_use.values().next()?.clone();
        let held = self.remove(&id)?;
        Some((id, held))
    }

    /// Takes out all that `keep` does not want.
    pub(super) fn take_unless(
        &mut self,
        keep: impl Fn(&str, &Held) -> bool,
    ) -> Vec<(String, Held)> {
        let doomed: Vec<String> = self
            .by_id
            .iter()
            .filter(|(id, held)| !keep(id, held))
            .map(|(id, _)| id.clone())
            .collect();
        doomed
            .into_iter()
            .filter_map(|id| self.remove(&id).map(|held| (id, held)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, version: u32) -> Name {
        Name {
            id: id.to_owned(),
            version,
            checksum: u64::from(version),
        }
    }

    #[test]
    fn the_order_is_of_use_and_one_version_of_an_id_is_held() {
        let mut index = Index::default();
        for id in ["a", "b", "c"] {
            assert_eq!(index.adopt(&name(id, 2), 10), Ok(None));
        }
        let born = index.held("a").expect("held").born;
        index.touch("a", born);
        assert_eq!(index.adopt(&name("a", 1), 10), Err(Newer));
        let older = index.adopt(&name("b", 3), 5).expect("newer");
        assert_eq!(older.expect("replaced").version, 2);
        assert_eq!((index.len(), index.bytes()), (3, 25));
        let order: Vec<String> =
            std::iter::from_fn(|| index.take_oldest().map(|(id, _)| id)).collect();
        assert_eq!(order, ["c", "a", "b"]);
        assert_eq!((index.len(), index.bytes()), (0, 0));
    }

    #[test]
    fn who_knew_an_earlier_entry_neither_touches_nor_removes_a_later_one() {
        let mut index = Index::default();
        assert!(index.adopt(&name("a", 1), 1).is_ok());
        let early = index.held("a").expect("held").born;
        index.remove("a");
        assert!(index.adopt(&name("a", 1), 1).is_ok());
        assert!(index.adopt(&name("b", 1), 1).is_ok());
        index.touch("a", early);
        index.remove_born("a", early);
        assert_eq!(index.take_oldest().expect("two").0, "a");
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn what_is_not_kept_is_taken_out_with_its_bytes() {
        let mut index = Index::default();
        assert!(index.adopt(&name("a", 1), 1).is_ok());
        assert!(index.adopt(&name("b", 2), 2).is_ok());
        let doomed = index.take_unless(|_, held| held.version == 2);
        assert_eq!(doomed[0].0, "a");
        assert_eq!((index.len(), index.bytes()), (1, 2));
        assert_eq!(index.take_oldest().expect("one").0, "b");
    }
}
