//! The service's catalogue as this run uses it: which index and version each background number has.
//!
//! Lists, uploads what is missing or differs, and keeps the book of revisions: which one was acknowledged when, so
//! that a frame can be called stale. Knows HTTP only through [`Lane`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use parking_lot::Mutex;
use serde::Deserialize;
use thiserror::Error;

use crate::client::{Answer, Call, CallError, Lane, Target};
use crate::gallery::{FIRST_REVISION, Gallery, GalleryError};

/// Uploads under way at one time.
const UPLOADS_AT_ONCE: usize = 4;
const PAGE: usize = 1000;
/// Time for one upload or one page.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait before an upload that was shed is tried again.
const SHED_PAUSE: Duration = Duration::from_millis(300);

/// A catalogue that cannot be had.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// Nothing answers.
    #[error(
        "nothing answers at {url} ({source}); start the service with `just serve`, or give its address with --url"
    )]
    Unavailable {
        /// Where.
        url: String,
        /// Why.
        source: CallError,
    },
    /// The service said no.
    #[error("{what}: the service answered {status} {code}{mend}")]
    Refused {
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// Problem code.
        code: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// The answer is not the service's.
    #[error("{what}: {url} does not answer like a Backdrop service ({why})")]
    Foreign {
        /// What was asked for.
        what: String,
        /// Where.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Backgrounds are not there and must not be uploaded.
    #[error(
        "{missing} of the {count} backgrounds are not in the catalogue (the first is {first}); leave --no-upload away to have them uploaded"
    )]
    Missing {
        /// How many.
        missing: usize,
        /// Of how many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A file.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

/// One background as the service describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    /// Catalogue id.
    pub id: String,
    /// Index within the epoch.
    pub flyweight: u32,
    /// Version.
    pub version: u32,
    /// XXH3-64 of the source bytes.
    pub checksum: String,
}

#[derive(Debug, Deserialize)]
struct Page {
    epoch: String,
    backgrounds: Vec<Metadata>,
    next: Option<String>,
}

/// The catalogue within one epoch.
#[derive(Debug)]
pub struct Catalogue {
    /// Epoch that the indices are true in.
    pub epoch: u64,
    flyweights: Vec<u32>,
    numbers: HashMap<u32, u16>,
}

impl Catalogue {
    fn new(epoch: u64, flyweights: Vec<u32>) -> Self {
        let numbers = flyweights
            .iter()
            .enumerate()
            .map(|(number, index)| (*index, number as u16))
            .collect();
        Catalogue {
            epoch,
            flyweights,
            numbers,
        }
    }

    /// Index of a background number.
    pub fn flyweight(&self, number: u16) -> u32 {
        self.flyweights[usize::from(number)]
    }

    /// Background number of an index, if it is one of this run's.
    pub fn number(&self, flyweight: u32) -> Option<u16> {
        self.numbers.get(&flyweight).copied()
    }
}

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

    fn foreign(&self, number: u16) {
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

/// Speaks to the catalogue.
#[derive(Debug, Clone)]
pub struct Librarian {
    target: Arc<Target>,
}

impl Librarian {
    /// A librarian with connections of its own, opened when needed.
    pub fn new(target: Arc<Target>) -> Self {
        Librarian { target }
    }

    fn lane(&self) -> Lane {
        Lane::new(self.target.clone(), REQUEST_TIMEOUT)
    }

    /// The whole listing: epoch and backgrounds by id.
    pub async fn list(&self) -> Result<(u64, HashMap<String, Metadata>), CatalogueError> {
        let mut lane = self.lane();
        let mut found = HashMap::new();
        let mut after = String::new();
        loop {
            let page = self.page(&mut lane, &after).await?;
            let epoch = page
                .epoch
                .parse()
                .map_err(|_| self.odd("the listing", "epoch is no number"))?;
            found.extend(
                page.backgrounds
                    .into_iter()
                    .map(|metadata| (metadata.id.clone(), metadata)),
            );
            match page.next {
                // A page that names itself as the next one would never end.
                Some(next) if next != after => after = next,
                _ => return Ok((epoch, found)),
            }
        }
    }

    async fn page(&self, lane: &mut Lane, after: &str) -> Result<Page, CatalogueError> {
        let path = if after.is_empty() {
            format!("/v1/backgrounds?limit={PAGE}")
        } else {
            format!("/v1/backgrounds?limit={PAGE}&after={after}")
        };
        let what = "listing backgrounds";
        let path: Uri = path
            .parse()
            .map_err(|_| self.odd(what, "`next` is no id"))?;
        let answer = lane
            .call(Call::get(path))
            .await
            .map_err(|source| self.away(source))?;
        if answer.status != 200 {
            return Err(refused(what.to_owned(), &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.odd(what, &error.to_string()))
    }

    fn away(&self, source: CallError) -> CatalogueError {
        CatalogueError::Unavailable {
            url: self.target.url().to_owned(),
            source,
        }
    }

    fn odd(&self, what: &str, why: &str) -> CatalogueError {
        CatalogueError::Foreign {
            what: what.to_owned(),
            url: self.target.url().to_owned(),
            why: why.to_owned(),
        }
    }

    /// Uploads one background; sheds are tried again until `until`.
    pub async fn upload(
        &self,
        lane: &mut Lane,
        id: &str,
        bytes: Bytes,
        until: Instant,
    ) -> Result<Metadata, CatalogueError> {
        let what = format!("uploading {id}");
        let path: Uri = format!("/v1/backgrounds/{id}")
            .parse()
            .map_err(|_| self.odd(&what, "the id is no path"))?;
        loop {
            let call = Call {
                method: Method::PUT,
                path: path.clone(),
                content_type: Some(HeaderValue::from_static("image/jpeg")),
                body: bytes.clone(),
            };
            let answer = lane.call(call).await.map_err(|source| self.away(source))?;
            match answer.status {
                200 | 201 => {
                    return serde_json::from_slice(&answer.body)
                        .map_err(|error| self.odd(&what, &error.to_string()));
                }
                429 | 503 if Instant::now() < until => tokio::time::sleep(SHED_PAUSE).await,
                _ => return Err(refused(what, &answer)),
            }
        }
    }

    /// Makes sure that every background of the gallery is there, and books its revision.
    /// `progress` is told after each upload how many are done, of how many.
    pub async fn ensure(
        &self,
        gallery: &Gallery,
        revisions: &Revisions,
        upload: bool,
        until: Instant,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Catalogue, CatalogueError> {
        let (_, listed) = self.list().await?;
        let mut wanting = Vec::new();
        for number in 0..gallery.len() as u16 {
            match listed.get(gallery.id(number)) {
                Some(found) if found.checksum == gallery.checksum(number) => {
                    revisions.acknowledge(number, FIRST_REVISION, found);
                }
                Some(_) if !upload => revisions.foreign(number),
                _ => wanting.push(number),
            }
        }
        if let (Some(first), false) = (wanting.first(), upload) {
            return Err(CatalogueError::Missing {
                missing: wanting.len(),
                count: gallery.len(),
                first: gallery.id(*first).to_owned(),
            });
        }
        self.upload_all(gallery, revisions, &wanting, until, progress)
            .await?;
        self.map(gallery).await.map(|(catalogue, _)| catalogue)
    }

    async fn upload_all(
        &self,
        gallery: &Gallery,
        revisions: &Revisions,
        wanting: &[u16],
        until: Instant,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<(), CatalogueError> {
        let done = &std::sync::atomic::AtomicUsize::new(0);
        stream::iter(wanting.chunks(wanting.len().div_ceil(UPLOADS_AT_ONCE).max(1)))
            .map(|part| async move {
                let mut lane = self.lane();
                for &number in part {
                    let bytes = Bytes::from(gallery.file(number)?);
                    let metadata = self
                        .upload(&mut lane, gallery.id(number), bytes, until)
                        .await?;
                    revisions.acknowledge(number, FIRST_REVISION, &metadata);
                    let so_far = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    progress(so_far, wanting.len());
                }
                Ok::<(), CatalogueError>(())
            })
            .buffer_unordered(UPLOADS_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Indices of the gallery's backgrounds in the current epoch, with the listing they come from.
    pub async fn map(
        &self,
        gallery: &Gallery,
    ) -> Result<(Catalogue, HashMap<String, Metadata>), CatalogueError> {
        let (epoch, listed) = self.list().await?;
        let mut flyweights = Vec::with_capacity(gallery.len());
        let mut missing = Vec::new();
        for number in 0..gallery.len() as u16 {
            match listed.get(gallery.id(number)) {
                Some(found) => flyweights.push(found.flyweight),
                None => missing.push(gallery.id(number)),
            }
        }
        if let Some(first) = missing.first() {
            return Err(CatalogueError::Missing {
                missing: missing.len(),
                count: gallery.len(),
                first: (*first).to_owned(),
            });
        }
        Ok((Catalogue::new(epoch, flyweights), listed))
    }
}

fn refused(what: String, answer: &Answer) -> CatalogueError {
    let mend = match answer.status {
        401 => "; give a token that the service knows with --token or --token-file",
        403 => {
            "; give the token of a tenant with the role `catalogue`, or upload before and use --no-upload"
        }
        413 => "; the service's limits are too small for these backgrounds",
        _ => "",
    };
    CatalogueError::Refused {
        what,
        status: answer.status,
        code: answer.problem_code().unwrap_or_default(),
        mend,
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn indices_and_numbers_map_both_ways() {
        let catalogue = Catalogue::new(1, vec![10, 12]);
        assert_eq!(catalogue.flyweight(1), 12);
        assert_eq!(
            (catalogue.number(10), catalogue.number(11)),
            (Some(0), None)
        );
    }
}
