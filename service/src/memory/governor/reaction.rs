//! What the configuration promises: the fastest growth of usage that is caught between Critical and the limit. Arithmetic only.

use std::time::Duration;

use super::{GovernorConfig, share};

/// Time from a sample to its decision being handed on: microseconds, unless this thread must wait for a CPU.
pub const DECISION: Duration = Duration::from_millis(1);

/// See the file's description.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReactionBound {
    /// Room between the Critical watermark and the limit, in bytes.
    pub room_bytes: u64,
    /// Longest time between two samples.
    pub sample: Duration,
    /// Time from a sample to its decision.
    pub decision: Duration,
    /// Time from the decision until usage has fallen.
    pub fall: Duration,
    /// Allocation rate that fills the room in the sum of these, in bytes per second. Slower growth is always caught.
    pub rate_bytes_per_second: f64,
}

impl ReactionBound {
    /// Longest time from crossing the watermark until usage has fallen.
    pub fn reaction(&self) -> Duration {
        self.sample + self.decision + self.fall
    }
}

/// `rate × (sample + decision + fall) < limit − critical watermark`, solved for the rate.
pub fn reaction_bound(
    config: &GovernorConfig,
    limit: u64,
    sample: Duration,
    decision: Duration,
    fall: Duration,
) -> ReactionBound {
    let room_bytes = limit - share(limit, config.critical).min(limit);
    let reaction = sample + decision + fall;
    ReactionBound {
        room_bytes,
        sample,
        decision,
        fall,
        rate_bytes_per_second: room_bytes as f64 / reaction.as_secs_f64().max(1e-6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::governor::{Governor, Sample, State};
    use crate::memory::sampler::MemoryConfig;
    use proptest::prelude::*;

    const STEPS_PER_MS: u64 = 10;
    const GB: u64 = 1_000_000_000;

    /// A burst on virtual time, in steps of a tenth of a millisecond: what a neighbour takes, until it has as much as reclaim can
    /// make room for, while samples, decisions and falls take the times that the bound is made of.
    struct Burst {
        config: MemoryConfig,
        limit: u64,
        /// Pressure at its beginning, as a share of the limit.
        start: f64,
        bytes_per_second: f64,
        /// Time of the first sample after its beginning, as a share of the sampler's period.
        phase: f64,
    }

    impl Burst {
        /// Highest pressure that is reached.
        fn peak(&self) -> u64 {
            let MemoryConfig { fast, slow, .. } = self.config;
            let mut governor = Governor::new(self.config.governor.clone());
            let fixed = self.limit / 10;
            let mut textures = share(self.limit, self.start) - fixed;
            let burst = textures as f64;
            let period = |pressure: u64, state: State| {
                let pressed = pressure as f64 >= self.limit as f64 * self.config.fast_above;
                if pressed || state != State::Normal {
                    fast
                } else {
                    slow
                }
            };
            let mut peak = 0;
            let mut pending: Vec<(Duration, u64)> = Vec::new();
            let mut next = period(fixed + textures, State::Normal).mul_f64(self.phase);
            for step in 0..4_000 * STEPS_PER_MS {
                let now = Duration::from_micros(step * 1000 / STEPS_PER_MS);
                let foreign = (self.bytes_per_second * now.as_secs_f64()).min(burst) as u64;
                pending.retain(|&(at, to_bytes)| {
                    let done = at <= now;
                    if done {
                        textures = textures.min(to_bytes);
                    }
                    !done
                });
                let pressure = fixed + textures + foreign;
                peak = peak.max(pressure);
                if now < next {
                    continue;
                }
                let sample = Sample {
                    limit: self.limit,
                    pressure,
                    own: fixed + textures,
                    charged: fixed + textures,
                    growth: 0,
                    reclaimable: textures,
                };
                let decision = governor.observe(now, &sample);
                if let Some(reclaim) = decision.reclaim {
                    pending.push((now + DECISION + self.config.fall, reclaim.to_bytes));
                }
                next = now + period(pressure, decision.state);
            }
            peak
        }
    }

    /// The least limit for which this rate is within the bound.
    fn limit_for(config: &MemoryConfig, bytes_per_second: u64) -> u64 {
        let bound = |limit| bound_of(config, limit).rate_bytes_per_second;
        let limit = (bytes_per_second as f64 / bound(GB) * GB as f64 * 1.001) as u64;
        assert!(bound(limit) >= bytes_per_second as f64);
        limit
    }

    fn bound_of(config: &MemoryConfig, limit: u64) -> ReactionBound {
        reaction_bound(&config.governor, limit, config.fast, DECISION, config.fall)
    }

    #[test]
    fn bursts_of_1_2_and_5_gb_a_second_are_caught_within_the_bound_and_not_at_three_times_it() {
        let config = MemoryConfig::default();
        for rate in [GB, 2 * GB, 5 * GB] {
            let limit = limit_for(&config, rate);
            for (phase, start) in [0.0, 0.3, 0.7, 1.0].iter().flat_map(|phase| {
                [0.3, 0.6, 0.69, 0.8, 0.84, 0.9, 0.949].map(|start| (*phase, start))
            }) {
                let burst = |times: f64| Burst {
                    config: config.clone(),
                    limit,
                    start,
                    bytes_per_second: rate as f64 * times,
                    phase,
                };
                let peak = burst(1.0).peak();
                assert!(peak < limit, "{rate} B/s from {start}: {peak} of {limit}");
                if start > 0.9 {
                    let peak = burst(3.0).peak();
                    assert!(
                        peak > limit,
                        "3 × {rate} B/s from {start}: {peak} of {limit}"
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_within_the_bound_crosses_the_limit(
            limit in 64u64 << 20..16 << 30,
            start in 0.15f64..0.949,
            times in 0.05f64..1.0,
            phase in 0.0f64..1.0,
        ) {
            let config = MemoryConfig::default();
            let rate = bound_of(&config, limit).rate_bytes_per_second * times;
            let peak = Burst { config, limit, start, bytes_per_second: rate, phase }.peak();
            prop_assert!(peak < limit, "{} of {}", peak, limit);
        }
    }
}
