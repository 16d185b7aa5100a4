//! Settings of the sampler and their bounds.

use std::time::Duration;

use crate::memory::governor::{
    DECISION, GovernorConfig, GovernorConfigError, ReactionBound, reaction_bound,
};

/// Settings.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryConfig {
    /// A limit in bytes instead of the cgroup's or the host's.
    pub limit: Option<u64>,
    /// The state machine's.
    pub governor: GovernorConfig,
    /// Time between samples while pressure is above `fast_above`.
    pub fast: Duration,
    /// Time between samples otherwise.
    pub slow: Duration,
    /// Share of the limit.
    pub fast_above: f64,
    /// Time between looks at the allocator and at where the limit comes from.
    pub allocator: Duration,
    /// Assumed time from decision until usage has fallen, for the reaction bound. A pass over up to 64 MiB was seen to take 0.1 to
    /// 7 ms; without huge pages a hundred MiB take 7 ms alone.
    pub fall: Duration,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            limit: None,
            governor: GovernorConfig::default(),
            fast: Duration::from_millis(10),
            slow: Duration::from_millis(25),
            fast_above: 0.70,
            allocator: Duration::from_millis(100),
            fall: Duration::from_millis(10),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryConfigError {
    /// The state machine's.
    #[error(transparent)]
    Governor(#[from] GovernorConfigError),
    /// A period that is not between 1 ms and 1 s, or fast above slow.
    #[error(
        "memory sampling periods must lie between 1 ms and 1 s, and the fast one not above the slow one"
    )]
    Period,
    /// Growth that the reaction bound promises to survive could pass Elevated before the sampler quickens.
    #[error("the slow memory sampling period is too long for where the fast one begins")]
    Approach,
    /// Too small to run in at all.
    #[error("memory limit must be at least 32 MiB, got {0} bytes")]
    Limit(u64),
}

impl MemoryConfig {
    /// Checks what the threads rely on.
    pub fn validate(&self) -> Result<(), MemoryConfigError> {
        self.governor.validate()?;
        let sane = |period: Duration| {
            (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period)
        };
        if ![self.fast, self.slow, self.allocator].into_iter().all(sane) || self.fast > self.slow {
            return Err(MemoryConfigError::Period);
        }
        if !self.sees_the_approach() {
            return Err(MemoryConfigError::Approach);
        }
        match self.limit {
            Some(bytes) if bytes < 32 << 20 => Err(MemoryConfigError::Limit(bytes)),
            _ => Ok(()),
        }
    }

    /// What these settings promise under a limit of so many bytes.
    pub fn reaction_bound(&self, limit: u64) -> ReactionBound {
        reaction_bound(&self.governor, limit, self.fast, DECISION, self.fall)
    }

    /// Whether the fast period has begun when Elevated is reached at the rate that is promised at rest.
    fn sees_the_approach(&self) -> bool {
        // Rate and room grow with the limit alike: any limit will do.
        let limit = 1 << 40;
        let bound = self.reaction_bound(limit);
        let unseen = bound.at_rest.rate_bytes_per_second * self.slow.as_secs_f64();
        unseen <= (self.governor.elevated - self.fast_above) * limit as f64
    }
}
