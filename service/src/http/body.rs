//! Request bodies: read within their size, their time and the budget, and looked at while they come.
//!
//! A body is reserved before it is read. What is reserved is what is held: a long body lies in one block that is filled from its
//! start and never copied into a larger one, and its pages leave the process with it. What it is for is the caller's business; a
//! caller that can tell from the first bytes that the rest is not worth having says so with a [`Look`].

use super::admission::{FREE_BYTES, refused};
use super::problem::{Kind, Problem};
use crate::memory::arena::{Arena, Block, HUGE_PAGE};
use crate::memory::aside;
use crate::memory::budget::{Budget, Charge, Purpose};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that the shortest entry of a JSON list can become, for each of its own: two bytes of text make a value of at most 64.
const PARSED_FACTOR: u64 = 32;

/// What a body of unknown length starts with; longer bodies lie in a block of their own.
const SHORT_BYTES: u64 = 256 * 1024;

/// How a block's reservation grows with a body of unknown length: by the most that the kernel backs at a touch.
const STEP_BYTES: u64 = HUGE_PAGE as u64;

/// Judges the first bytes of a body: `false` asks to be shown more.
pub type Look<'a> = &'a (dyn Fn(&[u8]) -> Result<bool, Problem> + Send + Sync);

/// Where bodies are put, and out of which budget.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Pays for them.
    pub budget: Arc<Budget>,
    /// Holds the long ones. Not the pixels' arena, whose statistics stand for pixels alone.
    pub arena: Arc<Arena>,
}

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

    pub(super) fn too_large(&self) -> Problem {
        Problem::new(
            Kind::BodyTooLarge,
            format!("send at most {} bytes", self.bytes_max),
        )
    }
}

/// A body and its charge; bytes live no longer than the charge.
#[derive(Debug)]
pub struct Received {
    /// The bytes. Those of a long body hold its charge themselves.
    pub bytes: Bytes,
    /// None for a small one, and for a long one.
    pub charge: Option<Charge>,
}

impl Received {
    /// The bytes, charged whatever their length: for who keeps them longer than a handler works.
    ///
    /// # Errors
    /// No memory for a small one, which was free until now.
    pub async fn charged(self, limits: BodyLimits, intake: &Intake) -> Result<Bytes, Problem> {
        let Self { bytes, charge } = self;
        match charge {
            Some(charge) => Ok(charge.cover(bytes)),
            None if bytes.len() as u64 <= FREE_BYTES && !bytes.is_empty() => {
                let charge = reserve(intake, bytes.len() as u64, limits).await?;
                // A copy: it lies in a buffer of its connection, which is longer and would stay with it.
                Ok(charge.cover(Bytes::copy_from_slice(&bytes)))
            }
            None => Ok(bytes),
        }
    }
}

/// Reads a body within its limits.
///
/// # Errors
/// 413 before anything was read if the stated length is too large, else where the limit is passed; 408; 503.
pub async fn read(
    body: Incoming,
    limits: BodyLimits,
    intake: &Intake,
) -> Result<Received, Problem> {
    read_looking(body, limits, intake, &|_| Ok(true)).await
}

/// The same, ended as soon as `look` refuses what has come. A body that came in one piece is not shown to it.
///
/// # Errors
/// As [`read`], and those of `look`.
pub async fn read_looking(
    body: Incoming,
    limits: BodyLimits,
    intake: &Intake,
    look: Look<'_>,
) -> Result<Received, Problem> {
    let stated = body.size_hint().exact();
    if stated.is_some_and(|stated| stated > limits.bytes_max) {
        return Err(limits.too_large());
    }
    let expected = limits.reservation(stated.unwrap_or(SHORT_BYTES.min(limits.bytes_max)));
    let charge = if stated.is_some() && expected <= FREE_BYTES {
        None
    } else {
        Some(reserve(intake, expected, limits).await?)
    };
    let reading = collect(body, stated, charge, limits, intake, look);
    tokio::time::timeout(limits.time_max, reading)
        .await
        .unwrap_or_else(|_| Err(Kind::BodyTimeout.into()))
}

async fn reserve(intake: &Intake, bytes: u64, limits: BodyLimits) -> Result<Charge, Problem> {
    let reserved = intake
        .budget
        .reserve(limits.purpose, bytes, limits.reserve_wait);
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
    intake: &Intake,
    look: Look<'_>,
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
    // It trickles in, so that its sender says how long it is held: not free, however small.
    let mut filling = Filling::begin(stated, charge, limits, intake, look).await?;
    let mut next = Some(first);
    while let Some(data) = next {
        filling.push(&data).await?;
        next = next_data(&mut body).await?;
    }
    Ok(filling.finish())
}

/// A body, or a part of one, while it comes in piece by piece.
pub struct Filling<'a> {
    buffer: Buffer,
    limits: BodyLimits,
    intake: &'a Intake,
    look: Look<'a>,
    look_at: Option<u64>,
}

impl<'a> Filling<'a> {
    /// Begins with what is `stated` of its length, and what was reserved for it already.
    ///
    /// # Errors
    /// No memory.
    pub async fn begin(
        stated: Option<u64>,
        charge: Option<Charge>,
        limits: BodyLimits,
        intake: &'a Intake,
        look: Look<'a>,
    ) -> Result<Self, Problem> {
        let expected = stated.unwrap_or(SHORT_BYTES.min(limits.bytes_max));
        let charge = match charge {
            Some(charge) => charge,
            None => reserve(intake, limits.reservation(expected), limits).await?,
        };
        Ok(Self {
            buffer: Buffer::new(expected, charge, intake)?,
            limits,
            intake,
            look,
            look_at: Some(1),
        })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// It passes the limit, there is no memory for it, or the look refuses what has come.
    pub async fn push(&mut self, data: &[u8]) -> Result<(), Problem> {
        let total = (self.buffer.bytes().len() + data.len()) as u64;
        if total > self.limits.bytes_max {
            return Err(self.limits.too_large());
        }
        let room = self.buffer.make_room(total, self.limits, self.intake);
        room.await?;
        self.buffer.push(data);
        // Each time that it has doubled: looks cost in proportion to the body, not to its square.
        if self.look_at.is_some_and(|at| total >= at) {
            self.look_at = (!(self.look)(self.buffer.bytes())?).then_some(2 * total);
        }
        Ok(())
    }

    /// What has come, with its charge.
    pub fn finish(self) -> Received {
        self.buffer.freeze()
    }
}

/// A body that is coming in, with its charge.
#[derive(Debug)]
enum Buffer {
    /// At most [`SHORT_BYTES`], from the general heap.
    Short(Vec<u8>, Charge),
    /// A block with room for all that may come. Only what was written takes memory; charged is the stated length, or what was written
    /// up to the next [`STEP_BYTES`] where none was stated.
    Long(Long),
}

impl Buffer {
    fn new(expected: u64, charge: Charge, intake: &Intake) -> Result<Self, Problem> {
        if expected <= SHORT_BYTES {
            return Ok(Buffer::Short(Vec::with_capacity(expected as usize), charge));
        }
        Long::new(expected, charge, intake).map(Buffer::Long)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Short(bytes, _) => bytes,
            Buffer::Long(long) => long.as_ref(),
        }
    }

    /// Makes room for `total` bytes, charged before they are written.
    async fn make_room(
        &mut self,
        total: u64,
        limits: BodyLimits,
        intake: &Intake,
    ) -> Result<(), Problem> {
        let charge = match self {
            Buffer::Short(bytes, _) if total <= bytes.capacity() as u64 => return Ok(()),
            Buffer::Short(_, charge) => charge,
            Buffer::Long(Long {
                charge: Some(charge),
                ..
            }) => charge,
            Buffer::Long(_) => return Ok(()),
        };
        let held = total.next_multiple_of(STEP_BYTES).min(limits.bytes_max);
        let wanted = limits.reservation(held.max(total));
        charge
            .grow(wanted, limits.reserve_wait)
            .await
            .map_err(|error| refused(&error))?;
        if let Buffer::Short(bytes, charge) = self {
            let charge = charge.split(u64::MAX);
            let mut long = Long::new(limits.bytes_max, charge, intake)?;
            long.push(bytes);
            *self = Buffer::Long(long);
        }
        Ok(())
    }

    fn push(&mut self, data: &[u8]) {
        match self {
            Buffer::Short(bytes, _) => bytes.extend_from_slice(data),
            Buffer::Long(long) => long.push(data),
        }
    }

    fn freeze(self) -> Received {
        match self {
            Buffer::Short(bytes, charge) => Received {
                bytes: bytes.into(),
                charge: Some(charge),
            },
            Buffer::Long(long) => Received {
                bytes: Bytes::from_owner(long),
                charge: None,
            },
        }
    }
}

/// See [`Buffer::Long`]. Its memory goes before its charge, and not on an async worker.
#[derive(Debug)]
struct Long {
    block: Option<Block>,
    len: usize,
    charge: Option<Charge>,
}

impl Long {
    fn new(capacity: u64, charge: Charge, intake: &Intake) -> Result<Self, Problem> {
        let block = intake.arena.allocate(capacity as usize, HUGE_PAGE);
        let block =
            block.map_err(|error| Problem::new(Kind::BudgetExhausted, error.to_string()))?;
        Ok(Self {
            block: Some(block),
            len: 0,
            charge: Some(charge),
        })
    }

    /// Appends what the block has room for, which the caller has seen to.
    fn push(&mut self, data: &[u8]) {
        if let Some(block) = &mut self.block {
            let end = self.len + data.len();
            block.as_mut_slice()[self.len..end].copy_from_slice(data);
            self.len = end;
        }
    }
}

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        self.block
            .as_ref()
            .map_or(&[], |block| &block.as_slice()[..self.len])
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        aside::discard((self.block.take(), self.charge.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetConfig;

    const MIB: u64 = 1 << 20;
    const LIMITS: BodyLimits = BodyLimits {
        bytes_max: 64 * MIB,
        time_max: Duration::from_secs(1),
        reserve_wait: Duration::ZERO,
        purpose: Purpose::Upload,
        parsed_bytes_max: 0,
    };

    fn intake(ceiling: u64) -> Intake {
        Intake {
            budget: Budget::new(BudgetConfig {
                ceiling,
                ..BudgetConfig::default()
            }),
            arena: Arena::new().expect("arena"),
        }
    }

    async fn filled(intake: &Intake, pieces: u8) -> Result<Buffer, Problem> {
        let charge = intake
            .budget
            .try_reserve(Purpose::Upload, SHORT_BYTES)
            .expect("fits");
        let mut buffer = Buffer::new(SHORT_BYTES, charge, intake)?;
        for piece in 0..pieces {
            let data = [piece; 65_536];
            let total = (buffer.bytes().len() + data.len()) as u64;
            buffer.make_room(total, LIMITS, intake).await?;
            buffer.push(&data);
        }
        Ok(buffer)
    }

    #[tokio::test]
    async fn a_growing_body_is_charged_what_it_holds_and_not_twice() {
        for (pieces, most) in [
            (4, SHORT_BYTES),
            (5, 2 * MIB),
            (33, 4 * MIB),
            (128, 8 * MIB),
        ] {
            let intake = intake(512 * MIB);
            let buffer = filled(&intake, pieces).await.expect("room");
            let books = intake.budget.report();
            assert_eq!((books.used, books.peak), (most, most), "{pieces} pieces");
            let received = buffer.freeze();
            assert!(
                received
                    .bytes
                    .chunks(65_536)
                    .zip(0..)
                    .all(|(piece, number): (_, u8)| piece.iter().all(|byte| *byte == number))
            );
            assert_eq!(received.bytes.len(), usize::from(pieces) * 65_536);
        }
    }

    #[tokio::test]
    async fn a_body_that_outgrows_the_budget_is_refused_and_leaves_nothing() {
        let intake = intake(5 * MIB);
        assert!(filled(&intake, 128).await.is_err());
        // The block goes on another thread, its charge after it.
        let whole = intake
            .budget
            .reserve(Purpose::Upload, 5 * MIB, Duration::from_secs(60))
            .await;
        assert!(whole.is_ok());
        assert_eq!(intake.arena.ledger_bytes(), 0);
    }
}
