//! The service's catalogue as this run uses it: which index and version each background number has.
//!
//! Lists, uploads what is missing or differs, and takes away what it created; [`Revisions`] is its book. Knows HTTP only through
//! [`Lane`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use serde::Deserialize;
use thiserror::Error;

use crate::client::{Answer, Call, CallError, Lane, Target};
use crate::gallery::{FIRST_REVISION, Gallery, GalleryError};
use crate::wire::SMALL_ANSWER_BYTES;

mod revisions;
mod tidy;

pub use revisions::Revisions;

/// Uploads under way at one time.
const UPLOADS_AT_ONCE: usize = 4;
const PAGE: usize = 1000;
/// Bytes of a page: its entries take less than a kilobyte each.
const PAGE_BYTES_MAX: usize = PAGE << 12;
/// Pages of a listing: a million backgrounds, more than a service takes.
const PAGES_MAX: usize = 1000;
/// Time for one upload or one page.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait before an upload that was shed is tried again.
const SHED_PAUSE: Duration = Duration::from_millis(300);

/// A catalogue that cannot be had.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// Nothing answers.
    #[error(
        "nothing answers at {url} ({cause}); start the service with `just serve`, or give its address with --url"
    )]
    Unavailable {
        /// Where.
        url: String,
        /// Why.
        cause: CallError,
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
    /// The user ended it.
    #[error("interrupted while backgrounds were uploaded")]
    Stopped,
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

/// An upload that the service acknowledged.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// What is there now.
    pub metadata: Metadata,
    /// There was no background of this id before.
    pub created: bool,
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
    ///
    /// # Errors
    /// Also where it would not end: a page that does not lead onwards, or more pages than [`PAGES_MAX`].
    pub async fn list(&self) -> Result<(u64, HashMap<String, Metadata>), CatalogueError> {
        let mut lane = self.lane();
        let mut found = HashMap::new();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
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
                Some(next) if next > after => after = next,
                Some(next) => {
                    let why = format!("`next` is {next:?} after {after:?}");
                    return Err(self.odd("the listing", &why));
                }
                None => return Ok((epoch, found)),
            }
        }
        let why = format!("it has more than {PAGES_MAX} pages");
        Err(self.odd("the listing", &why))
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
            .call(Call::get(path, PAGE_BYTES_MAX))
            .await
            .map_err(|cause| self.away(cause))?;
        if answer.status != 200 {
            return Err(refused(what.to_owned(), &answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.odd(what, &error.to_string()))
    }

    fn away(&self, cause: CallError) -> CatalogueError {
        CatalogueError::Unavailable {
            url: self.target.url().to_owned(),
            cause,
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
    ) -> Result<Uploaded, CatalogueError> {
        let what = format!("uploading {id}");
        let path: Uri = format!("/v1/backgrounds/{id}")
            .parse()
            .map_err(|_| self.odd(&what, "the id is no path"))?;
        loop {
            let call = Call {
                method: Method::PUT,
                path: path.clone(),
                content_type: Some(HeaderValue::from_static("image/jpeg")),
                if_match: None,
                body: bytes.clone(),
                answer_bytes_max: SMALL_ANSWER_BYTES,
            };
            let answer = lane.call(call).await.map_err(|cause| self.away(cause))?;
            match answer.status {
                200 | 201 => {
                    let metadata = serde_json::from_slice(&answer.body)
                        .map_err(|error| self.odd(&what, &error.to_string()))?;
                    let created = answer.status == 201;
                    return Ok(Uploaded { metadata, created });
                }
                429 | 503 if Instant::now() < until => tokio::time::sleep(SHED_PAUSE).await,
                _ => return Err(refused(what, &answer)),
            }
        }
    }

    /// Makes sure that every background of the gallery is there, and books its revision.
    /// `progress` is told after each upload how many are done, of how many, and says whether to go on.
    pub async fn ensure(
        &self,
        gallery: &Gallery,
        revisions: &Revisions,
        upload: bool,
        until: Instant,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
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

    /// Several at once. Where one fails, or `progress` says so, the others end after the upload that they are at: each is booked.
    async fn upload_all(
        &self,
        gallery: &Gallery,
        revisions: &Revisions,
        wanting: &[u16],
        until: Instant,
        progress: &(dyn Fn(usize, usize) -> bool + Sync),
    ) -> Result<(), CatalogueError> {
        let (done, going) = (&AtomicUsize::new(0), &AtomicBool::new(true));
        let parts = wanting.chunks(wanting.len().div_ceil(UPLOADS_AT_ONCE).max(1));
        let ended: Vec<Result<(), CatalogueError>> = stream::iter(parts)
            .map(|part| async move {
                let mut lane = self.lane();
                for &number in part {
                    if !going.load(Ordering::Relaxed) {
                        break;
                    }
                    let first = self.upload_first(&mut lane, gallery, number, until).await;
                    let uploaded = first.inspect_err(|_| going.store(false, Ordering::Relaxed))?;
                    revisions.uploaded(number, FIRST_REVISION, &uploaded);
                    let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
                    going.fetch_and(progress(so_far, wanting.len()), Ordering::Relaxed);
                }
                Ok(())
            })
            .buffer_unordered(UPLOADS_AT_ONCE)
            .collect()
            .await;
        ended.into_iter().collect::<Result<(), _>>()?;
        if done.load(Ordering::Relaxed) == wanting.len() {
            Ok(())
        } else {
            Err(CatalogueError::Stopped)
        }
    }

    async fn upload_first(
        &self,
        lane: &mut Lane,
        gallery: &Gallery,
        number: u16,
        until: Instant,
    ) -> Result<Uploaded, CatalogueError> {
        let bytes = Bytes::from(gallery.file(number)?);
        self.upload(lane, gallery.id(number), bytes, until).await
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
