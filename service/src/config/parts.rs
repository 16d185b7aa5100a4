//! What each part is told: its own settings, made from the service's.
//!
//! Made and checked here, so that what a part would refuse is a bad setting before anything is bound. Parts do not know
//! this file, and their defaults stand wherever the service has no setting of its own.

use super::{Config, ConfigError};
use crate::codec::Limits;
use crate::flyweight::{FlyweightsConfig, RenditionsConfig};
use crate::frames::FramesConfig;
use crate::memory::{BudgetConfig, GovernorConfig, MemoryConfig};
use crate::sessions::SessionsConfig;
use crate::store::StoreConfig;
use crate::store::archive::ArchiveConfig;
use std::path::PathBuf;
use std::time::Duration;

/// Indices given out for each background that is allowed at once.
const INDICES_PER_BACKGROUND: usize = 16;
/// Most indices of an epoch.
const INDICES_MAX: usize = 1 << 24;
/// A load waits so many times as long as another reservation: it waits for its turn and for several reservations, all in one.
const LOAD_WAITS: u32 = 4;

impl Config {
    /// The flyweights' settings.
    #[must_use]
    pub fn flyweights(&self) -> FlyweightsConfig {
        let backgrounds_max = self.backgrounds_max as usize;
        FlyweightsConfig {
            backgrounds_max,
            indices_max: self.indices_max(),
            decode_threads: self.decode_threads,
            loads_max: self.decode_threads * 2,
            reserve_wait: self.http.reserve_wait * LOAD_WAITS,
            limits: Limits::with_pixels_max(self.image_pixels_max),
            eviction: self.eviction,
            renditions: RenditionsConfig {
                per_background: self.renditions_per_background,
                ..RenditionsConfig::default()
            },
            access_record: self.access_record,
            ordered: !self.unsafe_switches.disable_eviction_order,
            single_flight: !self.unsafe_switches.disable_single_flight,
            version_check: !self.unsafe_switches.disable_version_check,
            ..FlyweightsConfig::default()
        }
    }

    /// The frames' settings.
    #[must_use]
    pub fn frames(&self) -> FramesConfig {
        let bound = |queue_max| match self.unsafe_switches.disable_queue_bound {
            true => FramesConfig::QUEUE_MAX,
            false => queue_max,
        };
        FramesConfig {
            threads: self.render_threads,
            queue_max: bound(self.render_queue_max),
            composite_threads: self.composite_threads,
            composite_queue_max: bound(self.composite_queue_max),
            reserve_wait: self.http.reserve_wait,
            ..FramesConfig::default()
        }
    }

    /// The table of sessions' settings.
    #[must_use]
    pub fn sessions(&self) -> SessionsConfig {
        SessionsConfig {
            sessions_max: self.sessions_max,
        }
    }

    /// How memory is watched.
    #[must_use]
    pub fn memory(&self) -> MemoryConfig {
        let mut governor = GovernorConfig {
            enabled: !self.unsafe_switches.disable_governor,
            ..GovernorConfig::default()
        };
        if self.unsafe_switches.disable_dwell {
            governor.dwell = Duration::ZERO;
        }
        let defaults = MemoryConfig::default();
        MemoryConfig {
            limit: self.memory_limit,
            governor,
            fast: self.memory_sample_interval,
            slow: defaults.slow.max(self.memory_sample_interval),
            ..defaults
        }
    }

    /// The budget's settings, until the limit is known.
    #[must_use]
    pub fn budget(&self) -> BudgetConfig {
        BudgetConfig {
            enforce: !self.unsafe_switches.disable_budget,
            ..BudgetConfig::default()
        }
    }

    /// Indices of an epoch; also the ids, deleted ones included, that catalogue and store keep.
    fn indices_max(&self) -> usize {
        (self.backgrounds_max as usize * INDICES_PER_BACKGROUND).clamp(1 << 16, INDICES_MAX)
    }

    /// Where uploads live, and how safely.
    #[must_use]
    pub fn store(&self) -> StoreConfig {
        StoreConfig {
            volatile: self.unsafe_switches.volatile_uploads,
            ids_max: self.indices_max(),
            ..StoreConfig::at(&self.data)
        }
    }

    /// Where the archive's files lie.
    #[must_use]
    pub fn archive_dir(&self) -> PathBuf {
        let inside = || self.data.join("archive");
        self.archive.clone().unwrap_or_else(inside)
    }

    /// The archive's settings, unless it is off.
    #[must_use]
    pub fn archive(&self) -> Option<ArchiveConfig> {
        (self.archive_bytes_max > 0)
            .then(|| ArchiveConfig::at(self.archive_dir(), self.archive_bytes_max))
    }

    /// Asks each part whether it can work with what it would be told.
    pub(super) fn validate_parts(&self) -> Result<(), ConfigError> {
        let flyweights = self.flyweights();
        let checks = [
            (self.http.validate(), "change it"),
            (self.sessions().validate(), "change sessions-max"),
            (self.frames().validate(), "change the render settings"),
            (self.sources.validate(), "change it"),
            (self.gpu.validate(), "change it"),
            (flyweights.limits.validate(), "change image-pixels-max"),
            (
                flyweights.validate().map_err(|error| error.to_string()),
                "change backgrounds-max or decode-threads",
            ),
            (
                self.memory().validate().map_err(|error| error.to_string()),
                "change memory-limit or memory-sample-interval",
            ),
        ];
        for (checked, mend) in checks {
            checked.map_err(|cause| ConfigError::new(cause, mend))?;
        }
        Ok(())
    }
}
