//! Reading an archived texture back, as the first tier of a load: into its block, on threads of its own, within a deadline.
//!
//! Whatever goes wrong here is a counted miss, and the load goes on to the decoder. A read that overruns its deadline cannot be
//! stopped: it keeps its turn and its block until the disk answers. Turns are few, so a disk that hangs costs that many blocks
//! and that many deadlines, and later loads pass it by.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::config::ArchivingConfig;
use super::pool::Pool;
use super::texture::Texture;
use super::workers::Workers;
use crate::memory::budget::ReserveError;
use crate::metrics::{ArchiveRead, Metrics};
use crate::store::Stored;
use crate::store::archive::Archive;

/// See the file's description.
#[derive(Debug)]
pub(super) struct Readback {
    archive: Arc<Archive>,
    workers: Workers,
    turns: Arc<Semaphore>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Readback {
    pub(super) fn start(
        archive: Arc<Archive>,
        config: &ArchivingConfig,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            archive,
            workers: Workers::start("archive-read", config.readers, config.readers)?,
            turns: Arc::new(Semaphore::new(config.readers)),
            timeout: config.read_timeout,
            metrics,
        })
    }

    /// The texture of `entry` if the archive gives it in time. An error only where the decoder would meet the same: no memory.
    pub(super) async fn load(
        &self,
        entry: &Stored,
        pool: &Arc<Pool>,
        patience: Duration,
    ) -> Result<Option<Texture>, ReserveError> {
        let outcome = self.try_load(entry, pool, patience).await?;
        let result = match &outcome {
            Ok(_) => ArchiveRead::Hit,
            Err(miss) => *miss,
        };
        self.metrics.archive.reads_total.of(result).inc();
        Ok(outcome.ok())
    }

    async fn try_load(
        &self,
        entry: &Stored,
        pool: &Arc<Pool>,
        patience: Duration,
    ) -> Result<Result<Texture, ArchiveRead>, ReserveError> {
        if !self.archive.holds(entry) {
            return Ok(Err(ArchiveRead::Absent));
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
            return Ok(Err(ArchiveRead::Busy));
        };
        let ticket = pool.acquire(entry.size.bytes(), patience).await?;
        let (archive, entry) = (Arc::clone(&self.archive), entry.clone());
        let job = move || {
            let _turn = turn;
            let block = ticket.realise().map_err(|_| ArchiveRead::Error)?;
            let mut texture = Texture::new(block, entry.size, entry.version);
            match archive.read(&entry, texture.pixels_mut().data()) {
                ArchiveRead::Hit => Ok(texture),
                miss => Err(miss),
            }
        };
        let read = tokio::time::timeout(self.timeout, self.workers.run(job)).await;
        Ok(match read {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ArchiveRead::Error),
            Err(_) => Err(ArchiveRead::Timeout),
        })
    }
}
