//! Backgrounds in and out: upload, removal, and recovery at start.
//!
//! An upload is checked completely (header, then every pixel), kept durably, and only then shown: nothing is acknowledged that is not
//! on disk, and nothing shown that could not be loaded again. Writers of the same id take turns.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use super::catalogue::Place;
use super::loader::LoadError;
use super::{CatalogueError, Flyweights, OVERTAKEN_MAX, Registered};
use crate::codec::{self, CodecError};
use crate::memory::budget::{Charge, Purpose};
use crate::store::{Damaged, StoreError, Stored, Tags, checksum, valid_id};

/// What a writer wants to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Anything.
    #[default]
    None,
    /// This version.
    Version(u32),
    /// Any version, but one.
    Exists,
    /// No such background.
    Absent,
}

impl Precondition {
    fn holds(self, current: Option<u32>) -> bool {
        match self {
            Precondition::None => true,
            Precondition::Version(version) => current == Some(version),
            Precondition::Exists => current.is_some(),
            Precondition::Absent => current.is_none(),
        }
    }
}

/// Why an upload was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The catalogue's reason.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The picture, the memory for it, or the threads.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The background is at another version.
    #[error("the background is not at the expected version")]
    Precondition {
        /// Its version, if there is one.
        current: Option<u32>,
    },
    /// The task that keeps it ended early: the service is stopping.
    #[error("the upload was cut short")]
    Interrupted,
}

/// Why a background was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none of that id.
    #[error("no such background")]
    NotFound,
    /// The background is at another version.
    #[error("the background is not at the expected version")]
    Precondition {
        /// Its version.
        current: Option<u32>,
    },
    /// The removal could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task ended early: the service is stopping.
    #[error("the removal was cut short")]
    Interrupted,
}

/// What start-up found in the store.
#[derive(Debug, Default)]
pub struct RecoveryReport {
    /// Backgrounds taken in.
    pub live: usize,
    /// Sound entries that did not fit the catalogue's bounds.
    pub refused: Vec<(String, CatalogueError)>,
    /// Entries that were passed over.
    pub damaged: Vec<Damaged>,
}

impl Flyweights {
    async fn turn(&self, id: &str) -> OwnedMutexGuard<()> {
        let writers = &self.writers[checksum(id.as_bytes()) as usize % self.writers.len()];
        Arc::clone(writers).lock_owned().await
    }

    fn current(&self, id: &str) -> Option<u32> {
        self.resolve(id).and_then(|index| self.check(index).ok())
    }

    /// Judges the first bytes of an upload: refused for what they say already, `false` if they do not yet hold the whole header.
    pub fn peek(&self, head: &[u8]) -> Result<bool, CodecError> {
        codec::peek(head, &self.loader.limits)
    }

    /// Takes an encoded picture as the next version of `id`. Durable when it returns. The caller has charged `image`.
    pub async fn upload(
        self: &Arc<Self>,
        id: &str,
        image: Bytes,
        wanted: Precondition,
    ) -> Result<Registered, UploadError> {
        let keeping = self
            .begin_upload(id, image, Tags::default(), wanted)
            .await?;
        keeping.await
    }

    /// The same in two parts, with tags, which belong to the version as its picture does: a later upload brings its own.
    ///
    /// The first waits for memory, for the decoders and for the id's turn: dropped, or failed, it leaves nothing. Once it has returned,
    /// the picture is being kept, and is kept to the end whether or not the second part is awaited: a caller that goes away must not
    /// leave the disk ahead of the catalogue.
    pub async fn begin_upload(
        self: &Arc<Self>,
        id: &str,
        image: Bytes,
        tags: Tags,
        wanted: Precondition,
    ) -> Result<impl Future<Output = Result<Registered, UploadError>>, UploadError> {
        if !valid_id(id) {
            return Err(CatalogueError::BadId(id.to_owned()).into());
        }
        self.check_precondition(id, wanted)?;
        let inspected = self.loader.inspect(&image).await?;
        // Before anything is kept: what is acknowledged can be shown degraded.
        let reserving = self.budget.reserve(
            Purpose::Thumbnails,
            inspected.thumbnail.len() as u64,
            self.config.reserve_wait,
        );
        let thumbnail = reserving.await.map_err(LoadError::from)?;
        let turn = self.turn(id).await;
        let (flyweights, id) = (Arc::clone(self), Arc::<str>::from(id));
        let keeping = tokio::spawn(async move {
            let _turn = turn;
            flyweights.check_precondition(&id, wanted)?;
            let place = flyweights.catalogue.next_version(&id)?;
            let stored = Stored {
                version: place.version(),
                id,
                format: inspected.header.format,
                size: inspected.header.size,
                bytes: image.len() as u64,
                checksum: checksum(&image),
                thumbnail: inspected.thumbnail.into(),
                tags,
            };
            flyweights.keep(stored, image, thumbnail, place).await
        });
        Ok(async { keeping.await.unwrap_or(Err(UploadError::Interrupted)) })
    }

    /// Durable, then shown, and only then without the versions before it: whoever was led to one of them finds its files.
    async fn keep(
        &self,
        stored: Stored,
        image: Bytes,
        thumbnail: Charge,
        place: Place<'_>,
    ) -> Result<Registered, UploadError> {
        let (id, version) = (Arc::clone(&stored.id), stored.version);
        let store = &self.loader.store;
        let kept = store.put(&stored, image).await;
        let shown = kept
            .map_err(UploadError::from)
            .and_then(|()| Ok(self.show(stored, Some(thumbnail), Some(place))?));
        match &shown {
            Ok(_) => store.prune(&id, version).await,
            // Not acknowledged, so not to be found after a restart.
            Err(_) => store.discard(&id, version).await,
        }
        shown
    }

    fn check_precondition(&self, id: &str, wanted: Precondition) -> Result<(), UploadError> {
        let current = self.current(id);
        if wanted.holds(current) {
            Ok(())
        } else {
            Err(UploadError::Precondition { current })
        }
    }

    /// Removes a background from store and catalogue. Durable when it returns.
    pub async fn delete(
        self: &Arc<Self>,
        id: &str,
        wanted: Precondition,
    ) -> Result<u32, RemoveError> {
        self.begin_delete(id, wanted).await.await
    }

    /// The same in two parts, as [`Flyweights::begin_upload`]: dropped while it waits for the id's turn, the first leaves everything as
    /// it was; once it has returned, the removal goes on to its end.
    pub async fn begin_delete(
        self: &Arc<Self>,
        id: &str,
        wanted: Precondition,
    ) -> impl Future<Output = Result<u32, RemoveError>> {
        let turn = self.turn(id).await;
        let (flyweights, id) = (Arc::clone(self), id.to_owned());
        let removing = tokio::spawn(async move {
            let _turn = turn;
            let current = flyweights.current(&id).ok_or(RemoveError::NotFound)?;
            if !wanted.holds(Some(current)) {
                return Err(RemoveError::Precondition {
                    current: Some(current),
                });
            }
            let store = &flyweights.loader.store;
            store.bury(&id, current).await?;
            let removed = flyweights.remove(&id).ok_or(RemoveError::NotFound);
            // Last: until it is out of the catalogue, readers are led to its files.
            store.prune_deleted(&id, current).await;
            removed
        });
        async { removing.await.unwrap_or(Err(RemoveError::Interrupted)) }
    }

    /// The source bytes of the present version.
    pub async fn read_source(
        &self,
        id: &str,
    ) -> Result<(Arc<super::Identity>, Bytes), RemoveError> {
        let present = || {
            let index = self.resolve(id)?;
            self.identity(index).ok()
        };
        let mut identity = present().ok_or(RemoveError::NotFound)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let read = self.loader.store.get(&identity.stored).await;
            let now = present().ok_or(RemoveError::NotFound)?;
            let overtaken = read.is_err() && now.stored.version != identity.stored.version;
            if !overtaken || tries == OVERTAKEN_MAX {
                return Ok((identity, read?));
            }
            // Replaced meanwhile: its files went while they were read.
            identity = now;
        }
    }

    /// Removes from the archive what is not in the catalogue.
    async fn prune_archive(&self) {
        if let Some(archive) = self.loader.store.archive() {
            let live = self.list(None, usize::MAX);
            let live = live.iter().map(|identity| {
                let stored = &identity.stored;
                (stored.id.to_string(), (stored.version, stored.checksum))
            });
            let (archive, live) = (Arc::clone(archive), live.collect());
            // Best effort: what stays is never read, it only takes place.
            drop(tokio::task::spawn_blocking(move || archive.retain(&live)).await);
        }
    }

    /// Takes in what the store kept. Damaged entries are reported and passed over.
    pub async fn recover(&self) -> Result<RecoveryReport, StoreError> {
        let found = self.loader.store.recover().await?;
        let mut report = RecoveryReport {
            damaged: found.damaged,
            ..RecoveryReport::default()
        };
        for (id, version) in found.last_versions {
            if let Err(error) = self.catalogue.remember(&id, version) {
                report.refused.push((id, error));
            }
        }
        for stored in found.live {
            let id = Arc::clone(&stored.id);
            match self.insert_or_replace(stored) {
                Ok(_) => report.live += 1,
                Err(error) => report.refused.push((id.to_string(), error)),
            }
        }
        self.prune_archive().await;
        for damaged in &report.damaged {
            tracing::warn!(
                path = damaged.path,
                what = damaged.what,
                "stored entry passed over"
            );
        }
        Ok(report)
    }
}
