//! What of a fault can be made smaller, in whole steps: its length, and the one size that makes it weaker or stronger.

use std::time::Duration;

use crate::scenario::{Amount, FaultKind, FaultPlan, Rate};
use crate::units;

/// Lengths go in these steps.
const STEP: Duration = Duration::from_millis(500);
/// Shortest length that is tried.
const SHORTEST: u64 = 2;
/// Bytes go in these steps.
const BYTES_STEP: u64 = units::MIB;

/// One thing that can be made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// The size: share, bytes, depth, threads, probability.
    Size,
    /// How fast, where that is apart from the size.
    Rate,
    /// The length.
    Lasts,
}

impl Dial {
    /// In the order that they are turned: what is weak is easier to understand than what is short.
    pub const ALL: [Self; 3] = [Self::Size, Self::Rate, Self::Lasts];

    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Rate => "rate",
            Self::Lasts => "length",
        }
    }

    /// Where it stands, and the least that makes sense; none where the fault has no such thing.
    #[must_use]
    pub fn range(self, fault: &FaultPlan) -> Option<(u64, u64)> {
        match self {
            Self::Lasts if fault.kind.is_momentary() => None,
            Self::Lasts => {
                let now = (fault.lasts.as_millis() / STEP.as_millis()) as u64;
                Some((now, SHORTEST + ramp(&fault.kind)))
            }
            Self::Rate => match &fault.kind {
                FaultKind::Burst { rate, .. } => Some((rate_steps(*rate), 1)),
                _ => None,
            },
            Self::Size => size(&fault.kind).map(|now| (now, 1)),
        }
    }

    /// The fault with it turned to `value`.
    #[must_use]
    pub fn turned(self, fault: &FaultPlan, value: u64) -> FaultPlan {
        let mut fault = fault.clone();
        match self {
            Self::Lasts => fault.lasts = STEP * u32::try_from(value).unwrap_or(u32::MAX),
            Self::Rate => {
                if let FaultKind::Burst { rate, .. } = &mut fault.kind {
                    *rate = rate_of(*rate, value);
                }
            }
            Self::Size => resize(&mut fault.kind, value),
        }
        fault
    }
}

/// Steps of length that the fault needs before it is all there.
fn ramp(kind: &FaultKind) -> u64 {
    match kind {
        FaultKind::MemoryHog { ramp, .. } => ramp.as_millis().div_ceil(STEP.as_millis()) as u64,
        _ => 0,
    }
}

fn size(kind: &FaultKind) -> Option<u64> {
    match kind {
        FaultKind::MemoryHog { amount, .. }
        | FaultKind::Burst { amount, .. }
        | FaultKind::PageCache { amount, .. }
        | FaultKind::OversizedBody { amount } => amount_steps(*amount),
        FaultKind::LimitShrink {
            to: Amount::Share(share),
            ..
        } => Some(100 - percent(*share)),
        FaultKind::CpuHog { threads, .. } => Some(u64::from(*threads)),
        FaultKind::SlowClients { clients } => Some(u64::from(*clients)),
        FaultKind::ConnectionFlood { connections } => Some(u64::from(*connections)),
        FaultKind::Failpoint { action, .. } => probability(action).map(|(percent, _)| percent),
        FaultKind::LimitShrink { .. }
        | FaultKind::ArchiveCorrupt
        | FaultKind::Stop
        | FaultKind::Kill { .. } => None,
    }
}

fn resize(kind: &mut FaultKind, value: u64) {
    match kind {
        FaultKind::MemoryHog { amount, .. }
        | FaultKind::Burst { amount, .. }
        | FaultKind::PageCache { amount, .. }
        | FaultKind::OversizedBody { amount } => *amount = amount_of(*amount, value),
        FaultKind::LimitShrink { to, .. } => *to = share(100 - value.min(99)),
        FaultKind::CpuHog { threads: count, .. }
        | FaultKind::SlowClients { clients: count }
        | FaultKind::ConnectionFlood { connections: count } => {
            *count = u32::try_from(value).unwrap_or(u32::MAX);
        }
        FaultKind::Failpoint { action, .. } => {
            if let Some((_, effect)) = probability(action) {
                *action = format!("{value}%{effect}");
            }
        }
        FaultKind::ArchiveCorrupt | FaultKind::Stop | FaultKind::Kill { .. } => {}
    }
}

fn percent(share: f64) -> u64 {
    (share * 100.0).round() as u64
}

fn share(percent: u64) -> Amount {
    Amount::Share(percent as f64 / 100.0)
}

fn amount_steps(amount: Amount) -> Option<u64> {
    match amount {
        Amount::Share(share) => Some(percent(share)),
        Amount::Bytes(bytes) => Some(bytes / BYTES_STEP),
        Amount::Floor { .. } => None,
    }
}

fn amount_of(like: Amount, value: u64) -> Amount {
    match like {
        Amount::Share(_) => share(value),
        Amount::Bytes(_) => Amount::Bytes(value * BYTES_STEP),
        Amount::Floor { .. } => like,
    }
}

fn rate_steps(rate: Rate) -> u64 {
    match rate {
        Rate::Bound(times) => (times * 10.0).round() as u64,
        Rate::Bytes(bytes) => bytes / BYTES_STEP,
    }
}

fn rate_of(like: Rate, value: u64) -> Rate {
    match like {
        Rate::Bound(_) => Rate::Bound(value as f64 / 10.0),
        Rate::Bytes(_) => Rate::Bytes(value * BYTES_STEP),
    }
}

/// `15%return` is 15 and `return`.
fn probability(action: &str) -> Option<(u64, &str)> {
    let (percent, effect) = action.split_once('%')?;
    Some((percent.parse().ok()?, effect))
}
