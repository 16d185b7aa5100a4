//! What the sampler has seen, as it is told to others: the latest figures, changes of state, passes of the reclaim thread.

use std::time::Duration;

use super::super::arena::AllocatorStats;
use super::super::budget::BudgetReport;
use super::super::cgroup::Reading;
use super::super::governor::{Sample, State};

/// One change of state with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransitionRecord {
    /// Milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Pressure that caused it, in bytes.
    pub pressure: u64,
    /// Where that came from.
    pub reason: Reason,
}

/// Why the state changed, as far as two samples a second apart tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The limit was lowered.
    Limit,
    /// What others use under the same limit grew, and more than ours.
    Foreign,
    /// Our own usage grew.
    Own,
    /// Pressure fell.
    Relief,
}

impl Reason {
    /// Its name in JSON and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Limit => "limit_lowered",
            Reason::Foreign => "foreign_growth",
            Reason::Own => "own_growth",
            Reason::Relief => "pressure_fell",
        }
    }

    pub(super) fn of(from: State, to: State, before: &Sample, now: &Sample) -> Self {
        if to < from {
            Reason::Relief
        } else if now.limit < before.limit {
            Reason::Limit
        } else if now.foreign().saturating_sub(before.foreign())
            > now.own.saturating_sub(before.own)
        {
            Reason::Foreign
        } else {
            Reason::Own
        }
    }
}

/// The passes of the reclaim thread, and how long they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// Passes made.
    pub count: u64,
    /// Time of the last, from its decision until its textures and idle blocks were gone.
    pub last: Duration,
    /// The same of the longest: above the configured `fall`, the reaction bound promises too much.
    pub longest: Duration,
}

/// The latest figures, in bytes unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// The kernel's.
    pub reading: Reading,
    /// Number of the sample that first saw the present limit, from 1.
    pub limit_sample: u64,
    /// The allocator's.
    pub allocator: AllocatorStats,
    /// Pixel arena by its own ledger.
    pub arena_ledger: u64,
    /// Pixel arena by the allocator's statistics.
    pub arena_allocated: u64,
    /// Entry of Elevated.
    pub elevated: u64,
    /// Entry of Critical.
    pub critical: u64,
    /// Untracked usage assumed.
    pub baseline: u64,
    /// Ceiling of the budget.
    pub ceiling: u64,
    /// State.
    pub state: State,
    /// Set on the sample that changed the state.
    pub changed: Option<State>,
}

impl Snapshot {
    /// Allocator's count of the pixel arena less its ledger.
    pub fn drift(&self) -> i64 {
        self.arena_allocated as i64 - self.arena_ledger as i64
    }
}

/// Everything `/debug/memory` says about memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryReport {
    /// Latest figures.
    pub snapshot: Snapshot,
    /// The books.
    pub budget: BudgetReport,
    /// Latest changes of state, oldest first.
    pub transitions: Vec<TransitionRecord>,
    /// Samples taken.
    pub samples: u64,
    /// Reclaim passes asked for.
    pub reclaims: u64,
    /// Reclaim passes made: several demands may be met by one.
    pub passes: Passes,
    /// Where the limit comes from.
    pub source: String,
}
