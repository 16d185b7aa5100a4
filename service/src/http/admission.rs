//! What is let in and out without a charge, and the reservation of answers; bodies are read in `body`.
//!
//! A body is reserved before it is read, and an answer before it is built, so that a flood is shed and never a surprise.
//! Small ones are not, since a batch of switches must not touch the budget's lock; what bounds them instead:
//! - A small body is free only if it arrives whole: a handler works on it at once, so that there are about as many as
//!   threads (beyond them the budget's own waiters and the decoders' queue count). One that trickles in is charged.
//! - Small answers wait for their reader: a connection has [`FREE_BYTES`] for them, which the streams of HTTP/2 share.
//!   Answers of fixed size (one session, a problem) are below 1 KiB.
//! - What a connection itself holds is bounded, not charged. On HTTP/1 a buffer for reading and one for writing of
//!   `header-bytes-max` each: with the answer 48 KiB by default. On HTTP/2 a head (a quarter of that) and a small answer for each of
//!   [`STREAMS_MAX`] streams, [`WINDOW_BYTES`] of bodies that nobody has read yet, and frames under way: below 768 KiB.
//!   With the default 4096 connections that is 192 MiB, and 3 GiB if all of them speak HTTP/2 and have all their streams busy. As any
//!   other usage that no charge covers, it lowers the budget's ceiling while it lasts; `connections-max` bounds it.

use super::problem::{Kind, Problem};
use crate::memory::budget::{Budget, Charge, Purpose, ReserveError};
use hyper::Version;
use std::sync::Arc;
use std::time::Duration;

/// Bodies up to this size, with what parsing makes of them, and the answers of a connection are not charged.
pub const FREE_BYTES: u64 = 16 * 1024;

/// Streams of one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 128;

/// Bytes of bodies that an HTTP/2 connection may send before they are read, over all of its streams: the least that the protocol
/// knows. hyper's default is sixteen times as much.
pub const WINDOW_BYTES: u32 = 65_535;

/// Answers up to this size are not charged: streams of one connection share what a connection has.
const fn free_answer_bytes(version: Version) -> u64 {
    match version {
        Version::HTTP_2 => FREE_BYTES / STREAMS_MAX as u64,
        _ => FREE_BYTES,
    }
}

/// Reserves an answer of at most `bytes` before it is built; none for a small one.
///
/// # Errors
/// The budget refuses it.
pub async fn reserve_answer(
    budget: &Arc<Budget>,
    bytes: u64,
    version: Version,
    wait: Duration,
) -> Result<Option<Charge>, ReserveError> {
    if bytes <= free_answer_bytes(version) {
        return Ok(None);
    }
    budget.reserve(Purpose::Body, bytes, wait).await.map(Some)
}

/// The problem that a refused reservation is.
#[must_use]
pub fn refused(error: &ReserveError) -> Problem {
    match error {
        ReserveError::TooLarge { .. } => Problem::new(
            Kind::BodyTooLarge,
            "this would need more memory than the service may ever use for it",
        ),
        ReserveError::Exhausted { .. } => Kind::BudgetExhausted.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetConfig;

    #[tokio::test]
    async fn streams_share_what_a_connection_may_answer_uncharged() {
        let budget = Budget::new(BudgetConfig::default());
        let charged = async |bytes, version| {
            let reserved = reserve_answer(&budget, bytes, version, Duration::ZERO).await;
            reserved.expect("room").map(|charge| charge.bytes())
        };
        let share = FREE_BYTES / u64::from(STREAMS_MAX);
        for (version, free) in [(Version::HTTP_11, FREE_BYTES), (Version::HTTP_2, share)] {
            assert_eq!(charged(free, version).await, None);
            assert_eq!(charged(free + 1, version).await, Some(free + 1));
        }
        assert_eq!(budget.used(), 0);
    }
}
