//! What is let in and out: bodies within their size, their time and the budget.
//!
//! A body is reserved before it is read, and an answer before it is built, so that a flood is shed and never a surprise.
//! Small ones are not, since a batch of switches must not touch the budget's lock; what bounds them instead:
//! - A small body is free only if it arrives whole: a handler works on it at once, so that there are about as many as
//!   threads (beyond them the budget's own waiters and the decoders' queue count). One that trickles in is charged.
//! - Small answers wait for their reader: a connection has [`FREE_BYTES`] for them, which the streams of HTTP/2 share.
//!   With the default 4096 connections that is 64 MiB. Answers of fixed size (one session, a problem) are below 1 KiB.

use super::problem::{Kind, Problem};
use crate::memory::budget::{Budget, Charge, Purpose, ReserveError};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Version;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// Bodies up to this size, with what parsing makes of them, and the answers of a connection are not charged.
pub const FREE_BYTES: u64 = 16 * 1024;

/// Streams of one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 128;

/// Bytes that the shortest entry of a JSON list can become, for each of its own.
const PARSED_FACTOR: u64 = 32;

/// How a body without a stated length grows its reservation.
const STEP_BYTES: u64 = 256 * 1024;

/// Limits of one body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes_max: u64,
    /// Time for all of it to arrive.
    pub time_max: Duration,
    /// Time that a reservation may wait.
    pub reserve_wait: Duration,
    /// What it is charged as.
    pub purpose: Purpose,
    /// Most bytes that parsing makes of it on top; the shortest entries make [`PARSED_FACTOR`] times their length.
    pub parsed_bytes_max: u64,
}

impl BodyLimits {
    /// What a body of `bytes` is charged.
    fn reservation(&self, bytes: u64) -> u64 {
        bytes + (bytes * PARSED_FACTOR).min(self.parsed_bytes_max)
    }
}

/// A body and its charge; bytes live no longer than the charge.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub bytes: Bytes,
    /// None for a small one.
    pub charge: Option<Charge>,
}

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

fn too_large(limit: u64) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("send at most {limit} bytes"))
}

/// Reads a body within its limits.
///
/// # Errors
/// 413 before anything was read if the stated length is too large, else where the limit is passed; 408; 503.
pub async fn read_body(
    body: Incoming,
    limits: BodyLimits,
    budget: &Arc<Budget>,
) -> Result<Received, Problem> {
    let stated = body.size_hint().exact();
    if stated.is_some_and(|stated| stated > limits.bytes_max) {
        return Err(too_large(limits.bytes_max));
    }
    let expected = limits.reservation(stated.unwrap_or(STEP_BYTES.min(limits.bytes_max)));
    let charge = if stated.is_some() && expected <= FREE_BYTES {
        None
    } else {
        Some(reserve(budget, expected, limits).await?)
    };
    let reading = collect(body, stated, charge, limits, budget);
    tokio::time::timeout(limits.time_max, reading)
        .await
        .unwrap_or_else(|_| Err(Kind::BodyTimeout.into()))
}

async fn reserve(budget: &Arc<Budget>, bytes: u64, limits: BodyLimits) -> Result<Charge, Problem> {
    let reserved = budget.reserve(limits.purpose, bytes, limits.reserve_wait);
    reserved.await.map_err(|error| refused(&error))
}

async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Problem> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(_)) => {
                return Err(Problem::new(
                    Kind::BadRequest,
                    "the body ended before its stated length",
                ));
            }
            // Trailers carry nothing for us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn collect(
    mut body: Incoming,
    stated: Option<u64>,
    charge: Option<Charge>,
    limits: BodyLimits,
    budget: &Arc<Budget>,
) -> Result<Received, Problem> {
    let Some(first) = next_data(&mut body).await? else {
        return Ok(Received {
            bytes: Bytes::new(),
            charge,
        });
    };
    // The usual batch arrives whole with its head: it is used where it lies.
    if stated == Some(first.len() as u64) {
        return Ok(Received {
            bytes: first,
            charge,
        });
    }
    let expected = stated.unwrap_or(STEP_BYTES.min(limits.bytes_max));
    // It trickles in, so that its sender says how long it is held: not free, however small.
    let mut charge = match charge {
        Some(charge) => charge,
        None => reserve(budget, limits.reservation(expected), limits).await?,
    };
    let mut bytes = BytesMut::with_capacity(expected as usize);
    let mut next = Some(first);
    while let Some(data) = next {
        let total = (bytes.len() + data.len()) as u64;
        if total > limits.bytes_max {
            return Err(too_large(limits.bytes_max));
        }
        grow(&mut bytes, total, &mut charge, limits)?;
        bytes.extend_from_slice(&data);
        next = next_data(&mut body).await?;
    }
    Ok(Received {
        bytes: bytes.freeze(),
        charge: Some(charge),
    })
}

/// Makes room for `total` bytes, charging the new capacity before it is allocated.
fn grow(
    bytes: &mut BytesMut,
    total: u64,
    charge: &mut Charge,
    limits: BodyLimits,
) -> Result<(), Problem> {
    if total <= bytes.capacity() as u64 {
        return Ok(());
    }
    let capacity = total.max(2 * bytes.capacity() as u64).min(limits.bytes_max);
    // Old and new buffer stand side by side while one is copied into the other.
    let both = limits.reservation(capacity) + bytes.len() as u64;
    charge.resize(both).map_err(|error| refused(&error))?;
    bytes.reserve(capacity as usize - bytes.len());
    Ok(())
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
