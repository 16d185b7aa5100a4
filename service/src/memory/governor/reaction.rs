//! What the configuration promises: how fast usage may grow and is still caught before the limit. Arithmetic only.
//!
//! There are two promises. The first holds whatever went before: growth is caught between Critical and the limit. It is all there is
//! within a dwell of the last return to Normal, when Elevated is not entered again. The second is for growth that begins while the
//! governor is *at rest*, in Normal for at least a dwell, and keeps its rate: Elevated is entered then, which leaves more room, and
//! passes go on, one each `reclaim_interval`. It is close: three times that rate fills the room between two passes even where memory
//! falls at once. Both take for granted that there is enough to give back.

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
    /// What is promised beyond that.
    pub at_rest: RestBound,
}

/// What is promised for growth that begins while the governor is at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestBound {
    /// Room that the growth has: above Elevated until the first pass, or above what a pass aims at until the next one, whichever is
    /// filled first. In bytes.
    pub room_bytes: u64,
    /// Longest time that it has for it.
    pub reaction: Duration,
    /// Rate that fills this room in this time, in bytes per second.
    pub rate_bytes_per_second: f64,
}

impl RestBound {
    fn new(room_bytes: u64, reaction: Duration) -> Self {
        Self {
            room_bytes,
            reaction,
            rate_bytes_per_second: rate(room_bytes, reaction),
        }
    }
}

impl ReactionBound {
    /// Longest time from crossing the watermark until usage has fallen.
    pub fn reaction(&self) -> Duration {
        self.sample + self.decision + self.fall
    }
}

fn rate(room_bytes: u64, reaction: Duration) -> f64 {
    room_bytes as f64 / reaction.as_secs_f64().max(1e-6)
}

/// `rate × (sample + decision + fall) < limit − critical watermark`, solved for the rate; and the same at rest, where the room is that
/// above Elevated, or that above a pass's aim, in which case the time until the next pass comes on top.
pub fn reaction_bound(
    config: &GovernorConfig,
    limit: u64,
    sample: Duration,
    decision: Duration,
    fall: Duration,
) -> ReactionBound {
    let above = |watermark: f64| limit - share(limit, watermark).min(limit);
    let reaction = sample + decision + fall;
    let first_pass = RestBound::new(above(config.elevated), reaction);
    // A pass is due at the first sample after the interval.
    let next_pass = RestBound::new(above(config.aim()), config.reclaim_interval + reaction);
    let first_is_less = first_pass.rate_bytes_per_second < next_pass.rate_bytes_per_second;
    let room_bytes = above(config.critical);
    ReactionBound {
        room_bytes,
        sample,
        decision,
        fall,
        rate_bytes_per_second: rate(room_bytes, reaction),
        at_rest: if first_is_less { first_pass } else { next_pass },
    }
}

#[cfg(test)]
mod tests;
