//! The governor: from samples of memory to decisions, as a pure state machine on a clock that is passed in.
//!
//! It reads no file, owns no thread and knows no texture. `Normal → Elevated → Critical` by watermarks on the pressure seen at the
//! limit, back by lower watermarks held for a dwell time. Every exit depends on pressure alone, and every decision outside Normal
//! asks for a reclaim and a purge while pressure is above the exit: so once foreign usage leaves room, purging alone leads back.
//!
//! Where the shares come from: 80 % for the budget, 85 % and 95 % as watermarks are the design's; exits lie 5 points below their
//! entries, so that the growth between two samples cannot flip the state.

use std::time::Duration;

mod baseline;
mod reaction;
use baseline::Baseline;
pub use reaction::{DECISION, ReactionBound, RestBound, reaction_bound};

/// Settings. Shares are of the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct GovernorConfig {
    /// `false`: never leaves Normal and never asks for a reclaim (a control experiment).
    pub enabled: bool,
    /// Share of the limit that own usage may reach by the budget, baseline included.
    pub ceiling: f64,
    /// Entry of Elevated.
    pub elevated: f64,
    /// Exit of Elevated.
    pub elevated_exit: f64,
    /// Entry of Critical.
    pub critical: f64,
    /// Exit of Critical.
    pub critical_exit: f64,
    /// Distance kept below a watermark that is aimed at.
    pub slack: f64,
    /// Least bytes worth a reclaim pass.
    pub reclaim_min: f64,
    /// How long pressure must stay below an exit, and the least time between two changes (but Critical is entered at once).
    pub dwell: Duration,
    /// Least time between two reclaim passes: until usage has followed the last one.
    pub reclaim_interval: Duration,
    /// Least time between two purges of the allocator.
    pub purge_interval: Duration,
    /// For how long untracked usage must stay before it counts: what passes sooner is a burst, and left to the watermarks.
    pub baseline_settle: Duration,
    /// For how long the highest untracked usage that counted is remembered.
    pub baseline_window: Duration,
}

impl Default for GovernorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ceiling: 0.80,
            elevated: 0.85,
            elevated_exit: 0.80,
            critical: 0.95,
            critical_exit: 0.90,
            slack: 0.02,
            reclaim_min: 0.02,
            dwell: Duration::from_millis(250),
            reclaim_interval: Duration::from_millis(30),
            purge_interval: Duration::from_millis(250),
            baseline_settle: Duration::from_secs(2),
            baseline_window: Duration::from_secs(10),
        }
    }
}

/// A setting of the governor that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GovernorConfigError {
    /// Shares must rise: exit of Elevated, Elevated, exit of Critical, Critical, 1.
    #[error(
        "governor shares must rise: elevated_exit < elevated <= critical_exit < critical < 1, and ceiling <= elevated_exit"
    )]
    Order,
    /// The slack must fit below the lowest watermark.
    #[error("governor slack and reclaim_min must be between 0 and 0.2")]
    Slack,
    /// Bursts must be told from what stays within the time that is remembered.
    #[error(
        "governor baseline_settle must be positive and at most baseline_window, and that at most an hour"
    )]
    Baseline,
}

impl GovernorConfig {
    /// Share of the limit that pressure is brought down to while memory presses.
    fn aim(&self) -> f64 {
        self.elevated_exit - self.slack
    }

    /// Checks what the state machine relies on.
    pub fn validate(&self) -> Result<(), GovernorConfigError> {
        let rising = [0.1, self.elevated_exit, self.elevated, self.critical];
        let ordered = rising.windows(2).all(|pair| pair[0] < pair[1])
            && self.elevated <= self.critical_exit
            && self.critical_exit < self.critical
            && self.critical < 1.0
            && self.ceiling <= self.elevated_exit
            && self.ceiling > 0.0;
        if !ordered {
            return Err(GovernorConfigError::Order);
        }
        let (settle, window) = (self.baseline_settle, self.baseline_window);
        if settle.is_zero() || settle > window || window > Duration::from_secs(3600) {
            return Err(GovernorConfigError::Baseline);
        }
        let small = |share: f64| (0.0..=0.2).contains(&share);
        if small(self.slack) && small(self.reclaim_min) {
            Ok(())
        } else {
            Err(GovernorConfigError::Slack)
        }
    }
}

/// How hard memory presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// The budget alone rules.
    Normal,
    /// Something outside the budget presses: give memory back.
    Elevated,
    /// Close to the kernel's limit: no loads, no uploads.
    Critical,
}

impl State {
    /// Label value in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Normal => "normal",
            State::Elevated => "elevated",
            State::Critical => "critical",
        }
    }

    /// From the number that metrics carry; anything unknown is Critical.
    pub fn from_number(number: u8) -> State {
        match number {
            0 => State::Normal,
            1 => State::Elevated,
            _ => State::Critical,
        }
    }
}

/// What was measured, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// The limit in force.
    pub limit: u64,
    /// Pressure at the level of the limit: all that the kernel cannot simply drop, own and foreign.
    pub pressure: u64,
    /// Own share of it.
    pub own: u64,
    /// Bytes charged to the budget.
    pub charged: u64,
    /// Bytes charged to the budget since the sample before that pages may not show yet.
    pub growth: u64,
    /// Of the charged: textures and idle blocks, the part that can be given back.
    pub reclaimable: u64,
}

impl Sample {
    /// Pressure including what was reserved since the last sample and is about to be touched; never more than the books could
    /// explain.
    fn projected(&self, baseline: u64) -> u64 {
        let foreign = self.foreign();
        let explained = (self.charged + baseline + foreign).max(self.pressure);
        (self.pressure + self.growth).min(explained)
    }

    /// Usage under the same limit that is not ours.
    pub fn foreign(&self) -> u64 {
        self.pressure.saturating_sub(self.own)
    }
}

/// One change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// A demand to give memory back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclaim {
    /// Textures and idle blocks are to be at most this, in bytes.
    pub to_bytes: u64,
    /// Purge the allocator too.
    pub purge: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// State from now on.
    pub state: State,
    /// Set when it just changed.
    pub transition: Option<Transition>,
    /// Ceiling of the budget.
    pub ceiling: u64,
    /// Highest ceiling that this limit can have, with the least untracked usage seen: what is above it can never fit.
    pub nominal: u64,
    /// Untracked usage assumed.
    pub baseline: u64,
    /// Whether loads and uploads are admitted.
    pub growth_open: bool,
    /// Memory to give back.
    pub reclaim: Option<Reclaim>,
}

fn share(limit: u64, share: f64) -> u64 {
    (limit as f64 * share) as u64
}

/// The state machine. Times are since any fixed instant and must not run backwards.
#[derive(Debug)]
pub struct Governor {
    config: GovernorConfig,
    state: State,
    changed_at: Option<Duration>,
    below_exit_since: Option<Duration>,
    reclaimed_at: Option<Duration>,
    purged_at: Option<Duration>,
    baseline: Baseline,
    baseline_least: u64,
    ceiling: Option<u64>,
    yielding: bool,
}

impl Governor {
    /// Starts in Normal.
    pub fn new(config: GovernorConfig) -> Self {
        let baseline = Baseline::new(config.baseline_settle, config.baseline_window);
        Self {
            config,
            state: State::Normal,
            changed_at: None,
            below_exit_since: None,
            reclaimed_at: None,
            purged_at: None,
            baseline,
            baseline_least: u64::MAX,
            ceiling: None,
            yielding: false,
        }
    }

    /// Present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes a sample in and says what to do.
    pub fn observe(&mut self, now: Duration, sample: &Sample) -> Decision {
        let untracked = sample.own.saturating_sub(sample.charged);
        let baseline = self.baseline.observe(now, untracked);
        self.baseline_least = self.baseline_least.min(untracked);
        let pressure = sample.projected(baseline);
        let transition = if self.config.enabled {
            self.step(now, sample.limit, pressure)
        } else {
            None
        };
        let budgeted = share(sample.limit, self.config.ceiling);
        let nominal = budgeted.saturating_sub(baseline);
        Decision {
            state: self.state,
            transition,
            ceiling: self.ceiling(sample, baseline, nominal),
            nominal: budgeted.saturating_sub(self.baseline_least),
            baseline,
            growth_open: self.state != State::Critical,
            reclaim: self.reclaim(now, sample, pressure),
        }
    }

    fn step(&mut self, now: Duration, limit: u64, pressure: u64) -> Option<Transition> {
        let above = |at: f64| pressure >= share(limit, at);
        let exit = match self.state {
            State::Normal => None,
            State::Elevated => Some((self.config.elevated_exit, State::Normal)),
            State::Critical => Some((self.config.critical_exit, State::Elevated)),
        };
        let dwelt = self
            .changed_at
            .is_none_or(|at| now >= at + self.config.dwell);
        if self.state != State::Critical && above(self.config.critical) {
            return self.change(now, State::Critical);
        }
        if self.state == State::Normal && above(self.config.elevated) {
            return if dwelt {
                self.change(now, State::Elevated)
            } else {
                None
            };
        }
        let (watermark, next) = exit?;
        if above(watermark) {
            self.below_exit_since = None;
            return None;
        }
        let since = *self.below_exit_since.get_or_insert(now);
        if dwelt && now >= since + self.config.dwell {
            self.change(now, next)
        } else {
            None
        }
    }

    fn change(&mut self, now: Duration, to: State) -> Option<Transition> {
        let from = std::mem::replace(&mut self.state, to);
        self.changed_at = Some(now);
        self.below_exit_since = None;
        Some(Transition { from, to })
    }

    /// Bytes of pressure that are aimed at while memory presses.
    fn target(&self, limit: u64) -> u64 {
        share(limit, self.config.aim())
    }

    /// In Normal the cache may grow up to its share. Outside it, up to the target less what others use. Having yielded once, it goes on
    /// leaving others their room in Normal too, to just below Elevated, until they have left: else it would grow back into Elevated
    /// again and again.
    /// It sinks at once and rises in steps, so that noise in the baseline does not move the cache's capacity.
    fn ceiling(&mut self, sample: &Sample, baseline: u64, nominal: u64) -> u64 {
        let taken = sample.foreign() + baseline;
        let below = |edge: u64| edge.saturating_sub(taken).min(nominal);
        let wanted = match self.state {
            State::Elevated | State::Critical => {
                self.yielding = true;
                below(self.target(sample.limit))
            }
            State::Normal if self.yielding => {
                let left = below(share(
                    sample.limit,
                    self.config.elevated - self.config.slack,
                ));
                self.yielding = left < nominal;
                left
            }
            State::Normal => nominal,
        };
        let step = share(sample.limit, self.config.slack);
        let ceiling = match self.ceiling {
            Some(held) if wanted > held && wanted < held + step => held,
            _ => wanted,
        };
        self.ceiling = Some(ceiling);
        ceiling
    }

    fn reclaim(&mut self, now: Duration, sample: &Sample, pressure: u64) -> Option<Reclaim> {
        let due =
            |last: Option<Duration>, interval: Duration| last.is_none_or(|at| now >= at + interval);
        let pressed = self.state != State::Normal
            && pressure >= share(sample.limit, self.config.elevated_exit);
        if !pressed || !due(self.reclaimed_at, self.config.reclaim_interval) {
            return None;
        }
        self.reclaimed_at = Some(now);
        let purge = due(self.purged_at, self.config.purge_interval);
        if purge {
            self.purged_at = Some(now);
        }
        let excess = pressure - self.target(sample.limit).min(pressure);
        let bytes = excess.max(share(sample.limit, self.config.reclaim_min));
        Some(Reclaim {
            to_bytes: sample.reclaimable.saturating_sub(bytes),
            purge,
        })
    }
}

#[cfg(test)]
mod tests;
