//! How a texture comes to be: from the archive if it is there, else source bytes from the store, a block from the pool, pixels
//! from the codec. It knows no slots.
//!
//! Everything is reserved before it is taken: source and scratch as `decode`, the block as `textures`. The decode itself runs on its
//! own threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::pool::{Pool, Ticket};
use super::readback::Readback;
use super::texture::Texture;
use super::workers::{WorkerError, Workers};
use crate::codec::{self, CodecError, Header, Limits, PixelsMut};
use crate::failpoints;
use crate::memory::arena::ArenaError;
use crate::memory::budget::{Budget, Charge, Purpose, ReserveError};
use crate::store::{Store, StoreError, Stored};

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No memory was granted.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// The source could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source could not be decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The decode threads did not do it.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The allocator failed under a granted reservation.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// A fault was injected here.
    #[error("injected by failpoint {0}")]
    Injected(&'static str),
    /// It took longer than the configuration allows.
    #[error("the load took longer than {0:?}")]
    Timeout(Duration),
}

impl LoadError {
    /// Whether it is for lack of room rather than for a fault: worth another try soon.
    pub fn is_overload(&self) -> bool {
        matches!(
            self,
            LoadError::Reserve(ReserveError::Exhausted { .. })
                | LoadError::Worker(WorkerError::QueueFull)
                | LoadError::Timeout(_)
        )
    }
}

/// A decoded upload: what its sidecar needs.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) header: Header,
    pub(super) thumbnail: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Loader {
    pub(super) store: Arc<Store>,
    pub(super) budget: Arc<Budget>,
    pub(super) pool: Arc<Pool>,
    pub(super) workers: Workers,
    pub(super) limits: Limits,
    pub(super) reserve_wait: Duration,
    pub(super) load_timeout: Duration,
    pub(super) loads: Semaphore,
    pub(super) readback: Option<Readback>,
}

impl Loader {
    /// The pixels of one version.
    pub(super) async fn load(&self, entry: &Stored) -> Result<Texture, LoadError> {
        let load = self.load_unbounded(entry);
        tokio::time::timeout(self.load_timeout, load)
            .await
            .unwrap_or(Err(LoadError::Timeout(self.load_timeout)))
    }

    async fn load_unbounded(&self, entry: &Stored) -> Result<Texture, LoadError> {
        // One patience for memory, the wait for a turn included: where all of it is taken, a caller is shed after that time
        // however many wait before it.
        let until = Instant::now() + self.reserve_wait;
        let patience = || until.saturating_duration_since(Instant::now());
        let _permit = self
            .loads
            .acquire()
            .await
            .map_err(|_| WorkerError::Stopped)?;
        // The store's faults are those of all its tiers.
        failpoints::delay(failpoints::STORE_LOAD_DELAY).await;
        if failpoints::hit(failpoints::STORE_LOAD_ERROR) {
            return Err(LoadError::Injected(failpoints::STORE_LOAD_ERROR));
        }
        if let Some(readback) = &self.readback
            && let Some(texture) = readback.load(entry, &self.pool, patience()).await?
        {
            return Ok(texture);
        }
        let mut charge = self
            .budget
            .reserve(Purpose::Decode, entry.bytes, patience())
            .await?;
        let source = self.store.get(entry).await?;
        let mut header = codec::probe(&source, &self.limits)?;
        if header.size != entry.size {
            // Uploaded when EXIF was not looked at: everything that is known of it is of the picture as it is stored.
            header = header.unturned();
        }
        charge.merge(
            self.budget
                .reserve(Purpose::Decode, header.scratch_bytes, patience())
                .await?,
        );
        let ticket = self.pool.acquire(header.output_bytes(), patience()).await?;
        self.decode(source, header, ticket, charge, entry.version)
            .await
    }

    async fn decode(
        &self,
        source: Bytes,
        header: Header,
        ticket: Ticket,
        charge: Charge,
        version: u32,
    ) -> Result<Texture, LoadError> {
        failpoints::delay(failpoints::CODEC_DECODE_DELAY).await;
        if failpoints::hit(failpoints::CODEC_DECODE_ERROR) {
            return Err(LoadError::Injected(failpoints::CODEC_DECODE_ERROR));
        }
        let job = move || {
            // Checked at its upload, and its checksum since.
            let outcome = decode_into(codec::decode_trusted, &source, &header, ticket, version);
            drop(source);
            drop(charge);
            outcome
        };
        self.workers.run(job).await?
    }

    /// Decodes an upload completely, so that nothing is acknowledged that could not be shown, and makes its thumbnail.
    pub(super) async fn inspect(&self, source: &Bytes) -> Result<Inspected, LoadError> {
        let header = codec::probe(source, &self.limits)?;
        let charge = self
            .budget
            .reserve(Purpose::Upload, header.scratch_bytes, self.reserve_wait)
            .await?;
        let ticket = self
            .pool
            .acquire(header.output_bytes(), self.reserve_wait)
            .await?;
        let source = source.clone();
        let job = move || {
            let texture = decode_into(codec::decode, &source, &header, ticket, 0)?;
            let thumbnail = codec::thumbnail(texture.pixels())?;
            drop(charge);
            Ok(Inspected { header, thumbnail })
        };
        self.workers.run(job).await?
    }
}

type Decode = fn(&[u8], &Header, PixelsMut<'_>) -> Result<(), CodecError>;

fn decode_into(
    decode: Decode,
    source: &[u8],
    header: &Header,
    ticket: Ticket,
    version: u32,
) -> Result<Texture, LoadError> {
    let mut texture = Texture::new(ticket.realise()?, header.size, version);
    decode(source, header, texture.pixels_mut())?;
    Ok(texture)
}
