//! The book of revisions: which revision of a background was acknowledged when, and which versions answers named.
//!
//! With it a frame can be called stale, and a version that goes back be seen. It knows no HTTP.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

use super::{Metadata, Uploaded};

/// Which revisions of one background were acknowledged when.
#[derive(Debug, Default)]
struct Book {
    acknowledged: Vec<(Instant, u8)>,
    begun: u8,
    versions: HashMap<u32, u8>,
    newest_version: u32,
    checksum: String,
    /// Versions that answers named, each higher than the one before, with the time of the answer.
    seen: Vec<(Instant, u32)>,
    /// This run created it.
    created: bool,
    /// The service holds a picture that is not this run's: its revision cannot be judged.
    foreign: bool,
}

/// The books of all backgrounds.
#[derive(Debug)]
pub struct Revisions(Mutex<Vec<Book>>);

impl Revisions {
    /// Books without entries.
    pub fn new(count: usize) -> Self {
        Revisions(Mutex::new((0..count).map(|_| Book::default()).collect()))
    }

    /// Whether this number is a background of the run.
    pub fn knows(&self, number: u16) -> bool {
        usize::from(number) < self.0.lock().len()
    }

    /// Revision acknowledged before `at`.
    pub fn floor(&self, number: u16, at: Instant) -> u8 {
        let books = self.0.lock();
        let book = &books[usize::from(number)];
        book.acknowledged
            .iter()
            .rev()
            .find(|(when, _)| *when < at)
            .map_or(0, |(_, revision)| *revision)
    }

    /// Newest revision of which an upload was begun.
    pub fn ceiling(&self, number: u16) -> u8 {
        let books = self.0.lock();
        let book = &books[usize::from(number)];
        if book.foreign { u8::MAX } else { book.begun }
    }

    /// Revision that a version of the service stands for, if this run uploaded it.
    pub fn of_version(&self, number: u16, version: u32) -> Option<u8> {
        self.0.lock()[usize::from(number)]
            .versions
            .get(&version)
            .copied()
    }

    /// The next revision, marked as begun; `None` when its eight bits are used up.
    pub fn begin(&self, number: u16) -> Option<u8> {
        let mut books = self.0.lock();
        let book = &mut books[usize::from(number)];
        book.begun = book.begun.checked_add(1)?;
        Some(book.begun)
    }

    /// An upload was acknowledged, or the listing shows that a revision is there.
    pub fn acknowledge(&self, number: u16, revision: u8, metadata: &Metadata) {
        let mut books = self.0.lock();
        let book = &mut books[usize::from(number)];
        book.begun = book.begun.max(revision);
        book.versions.insert(metadata.version, revision);
        if metadata.version >= book.newest_version {
            book.newest_version = metadata.version;
            book.checksum.clone_from(&metadata.checksum);
            book.acknowledged.push((Instant::now(), revision));
        }
    }

    /// The same of an upload of this run, which may have created the background.
    pub fn uploaded(&self, number: u16, revision: u8, uploaded: &Uploaded) {
        self.acknowledge(number, revision, &uploaded.metadata);
        self.0.lock()[usize::from(number)].created |= uploaded.created;
    }

    /// Backgrounds that this run created, each with the newest version that was acknowledged to it.
    pub(super) fn created(&self) -> Vec<(u16, u32)> {
        let books = self.0.lock();
        let created = books.iter().enumerate().filter(|(_, book)| book.created);
        created
            .map(|(number, book)| (number as u16, book.newest_version))
            .collect()
    }

    /// An answer that was there at `done` named a version. Returns a newer one that an earlier answer had named before this
    /// one was even asked for: versions only grow, so nobody may look back.
    pub fn saw(&self, number: u16, version: u32, sent: Instant, done: Instant) -> Option<u32> {
        let mut books = self.0.lock();
        let seen = &mut books[usize::from(number)].seen;
        let known = seen.iter().rev().find(|(when, _)| *when < sent);
        let newer = known
            .map(|(_, newest)| *newest)
            .filter(|newest| *newest > version);
        if seen.last().is_none_or(|(_, newest)| *newest < version) {
            seen.push((done, version));
        }
        newer
    }

    /// Why an acknowledged upload breaks a promise: its version is not above those acknowledged before.
    pub fn stands_still(&self, number: u16, found: &Metadata) -> Option<String> {
        let newest = self.0.lock()[usize::from(number)].newest_version;
        (found.version <= newest).then(|| {
            format!(
                "{}: an upload was acknowledged as version {}, though version {newest} was before it",
                found.id, found.version
            )
        })
    }

    pub(super) fn foreign(&self, number: u16) {
        self.0.lock()[usize::from(number)].foreign = true;
    }

    /// Why a listing after a restart breaks a promise: an acknowledged upload that is older or away.
    pub fn broken_promise(
        &self,
        number: u16,
        id: &str,
        listed: Option<&Metadata>,
    ) -> Option<String> {
        let books = self.0.lock();
        let book = &books[usize::from(number)];
        if book.acknowledged.is_empty() {
            return None;
        }
        let version = book.newest_version;
        match listed {
            None => Some(format!(
                "{id}: version {version} was acknowledged; after the restart it is not listed"
            )),
            Some(found) if found.version < version => Some(format!(
                "{id}: version {version} was acknowledged; after the restart version {} is listed",
                found.version
            )),
            Some(found) if found.version == version && found.checksum != book.checksum => {
                Some(format!(
                    "{id}: version {version} was acknowledged with checksum {}; after the restart it is {}",
                    book.checksum, found.checksum
                ))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn metadata(version: u32, checksum: &str) -> Metadata {
        Metadata {
            id: "sample-0000".to_owned(),
            flyweight: 3,
            version,
            checksum: checksum.to_owned(),
        }
    }

    #[test]
    fn revisions_have_a_floor_from_their_acknowledgement_on() {
        let revisions = Revisions::new(1);
        let before = Instant::now();
        revisions.acknowledge(0, 1, &metadata(7, "a"));
        assert_eq!(revisions.floor(0, before), 0);
        let second = revisions.begin(0).unwrap();
        assert_eq!((second, revisions.ceiling(0)), (2, 2));
        let later = Instant::now() + Duration::from_secs(1);
        assert_eq!(revisions.floor(0, later), 1);
        revisions.acknowledge(0, 2, &metadata(8, "b"));
        assert_eq!(revisions.floor(0, later), 2);
        assert_eq!(
            (revisions.of_version(0, 7), revisions.of_version(0, 9)),
            (Some(1), None)
        );
    }

    #[test]
    fn versions_only_grow() {
        let revisions = Revisions::new(1);
        let at = |s| Instant::now() + Duration::from_secs(s);
        let (first, second, third) = (at(0), at(1), at(2));
        assert_eq!(revisions.saw(0, 7, first, first), None);
        assert_eq!(revisions.saw(0, 8, first, second), None);
        // Asked for before the newer one was there: either is right.
        assert_eq!(revisions.saw(0, 7, second, third), None);
        assert_eq!(revisions.saw(0, 7, third, third), Some(8));
        revisions.acknowledge(0, 1, &metadata(8, "a"));
        assert_eq!(revisions.stands_still(0, &metadata(9, "b")), None);
        assert!(revisions.stands_still(0, &metadata(8, "b")).is_some());
    }

    #[test]
    fn a_restart_must_keep_what_was_acknowledged() {
        let revisions = Revisions::new(1);
        assert_eq!(revisions.broken_promise(0, "x", None), None);
        revisions.acknowledge(0, 1, &metadata(7, "a"));
        assert_eq!(
            revisions.broken_promise(0, "x", Some(&metadata(7, "a"))),
            None
        );
        assert_eq!(
            revisions.broken_promise(0, "x", Some(&metadata(8, "z"))),
            None
        );
        for broken in [None, Some(metadata(6, "a")), Some(metadata(7, "b"))] {
            assert!(revisions.broken_promise(0, "x", broken.as_ref()).is_some());
        }
    }
}
