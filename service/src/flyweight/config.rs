//! Settings of the flyweights and their bounds.

use std::time::Duration;

use super::policy::Eviction;
use super::pool::PoolConfig;
use super::rendition::RenditionsConfig;
use crate::codec::Limits;

/// How evicted textures go to the archive and come back, where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivingConfig {
    /// Most bytes of textures that wait to be written.
    pub queue_bytes_max: u64,
    /// The same as a part of the budget's ceiling: its so-many-th. The lesser of both counts.
    pub queue_share: u64,
    /// Threads that read, and so reads at once; what comes on top is decoded.
    pub readers: usize,
    /// Longest wait for one read; after it the texture is decoded.
    pub read_timeout: Duration,
}

impl Default for ArchivingConfig {
    fn default() -> Self {
        Self {
            queue_bytes_max: 64 << 20,
            queue_share: 16,
            readers: 2,
            read_timeout: Duration::from_millis(250),
        }
    }
}

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlyweightsConfig {
    /// Live backgrounds.
    pub backgrounds_max: usize,
    /// Indices given out in the life of the process; deleting and creating again takes a new one.
    pub indices_max: usize,
    /// Threads that decode.
    pub decode_threads: usize,
    /// Decodes that may wait for a thread.
    pub decode_queue_max: usize,
    /// Loads that hold memory at the same time; the others wait before they reserve anything.
    pub loads_max: usize,
    /// How long a load or an upload waits for each reservation.
    pub reserve_wait: Duration,
    /// Longest time of one load.
    pub load_timeout: Duration,
    /// How long a failed load is remembered.
    pub negative_ttl: Duration,
    /// What a picture may claim.
    pub limits: Limits,
    /// The frame pool's.
    pub pool: PoolConfig,
    /// Order in which textures are evicted.
    pub eviction: Eviction,
    /// The way to the archive and back.
    pub archiving: ArchivingConfig,
    /// Frames that are kept.
    pub renditions: RenditionsConfig,
    /// Entries of the access record; 0 is off.
    pub access_record: usize,
    /// `false`: evicted are lower indices first, whatever was used last (a control experiment).
    pub ordered: bool,
    /// `false`: whoever finds a texture absent loads it, even while others do (a control experiment).
    pub single_flight: bool,
    /// `false`: a load is shown even if a replace overtook it (a control experiment).
    pub version_check: bool,
}

impl Default for FlyweightsConfig {
    fn default() -> Self {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .div_ceil(2);
        Self {
            backgrounds_max: 4096,
            indices_max: 65_536,
            decode_threads: threads,
            decode_queue_max: 256,
            loads_max: threads * 2,
            reserve_wait: Duration::from_secs(1),
            load_timeout: Duration::from_secs(10),
            negative_ttl: Duration::from_secs(1),
            limits: Limits::default(),
            pool: PoolConfig::default(),
            eviction: Eviction::default(),
            archiving: ArchivingConfig::default(),
            renditions: RenditionsConfig::default(),
            access_record: 0,
            ordered: true,
            single_flight: true,
            version_check: true,
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flyweights: {0}")]
pub struct FlyweightsConfigError(&'static str);

impl FlyweightsConfig {
    /// Checks the bounds.
    pub fn validate(&self) -> Result<(), FlyweightsConfigError> {
        let positive = [
            self.backgrounds_max,
            self.decode_threads,
            self.decode_queue_max,
            self.loads_max,
        ];
        if positive.contains(&0) {
            return Err(FlyweightsConfigError(
                "backgrounds, decode threads, their queue and loads must be at least 1",
            ));
        }
        if self.indices_max < self.backgrounds_max || self.indices_max > 1 << 24 {
            return Err(FlyweightsConfigError(
                "indices must be at least as many as backgrounds and at most 16 million",
            ));
        }
        if self.load_timeout.is_zero() || self.pool.blocks_max == 0 {
            return Err(FlyweightsConfigError(
                "the load timeout and the pool must not be zero",
            ));
        }
        if self.archiving.queue_share < 2
            || !(1..=64).contains(&self.archiving.readers)
            || self.archiving.read_timeout.is_zero()
        {
            return Err(FlyweightsConfigError(
                "the archive needs 1 to 64 readers, a timeout, and a queue of at most half the budget",
            ));
        }
        Ok(())
    }
}
