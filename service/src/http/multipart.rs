//! Bodies in parts: a frame and its mask as two files of one `multipart/form-data`.
//!
//! `multer` finds the parts; what it holds at a time is bounded here. It takes all that a stream has before it looks, so it is given one
//! piece for each look; and no further piece comes once a part's head is [`HEAD_BYTES_MAX`] long. Parts are put where bodies are.

use super::body::{BodyLimits, Filling, Intake, Look, Received};
use super::problem::{Kind, Problem};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Incoming};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// Bytes after which no further piece comes while the head of a part is looked for. A piece may be longer, and hold the head and more.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// Why no more of a body comes.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the body ended before its end")]
    Cut,
    #[error("a part's head is too long")]
    Head,
    #[error("the body is too long")]
    Long,
}

/// What may come yet.
#[derive(Debug)]
struct Left {
    of_body: AtomicU64,
    of_head: AtomicU64,
}

impl Left {
    /// Takes a piece into account, or says why it may not come.
    fn take(&self, bytes: u64) -> Result<(), Broken> {
        let order = Ordering::Relaxed;
        let of_body = |left: u64| left.checked_sub(bytes);
        let of_head = |left: u64| (left > 0).then(|| left.saturating_sub(bytes));
        let body = self.of_body.fetch_update(order, order, of_body);
        body.map_err(|_| Broken::Long)?;
        let head = self.of_head.fetch_update(order, order, of_head);
        head.map(drop).map_err(|_| Broken::Head)
    }
}

/// A body, piece by piece.
struct Pieces<'a> {
    body: &'a mut Incoming,
    /// The parser has one that it has not looked at.
    given: bool,
    left: Arc<Left>,
}

impl Stream for Pieces<'_> {
    type Item = Result<Bytes, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.given) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let Some(frame) = ready!(Pin::new(&mut *self.body).poll_frame(context)) else {
                return Poll::Ready(None);
            };
            let Ok(frame) = frame else {
                return Poll::Ready(Some(Err(Broken::Cut)));
            };
            // Trailers carry nothing for us.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let bytes = data.len() as u64;
            self.given = true;
            return Poll::Ready(Some(self.left.take(bytes).map(|()| data)));
        }
    }
}

fn malformed(detail: &'static str) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

impl Broken {
    fn problem(&self, limits: &BodyLimits) -> Problem {
        match self {
            Self::Cut => malformed("the body ended before its stated length"),
            Self::Head => malformed("the head of a part is too long"),
            Self::Long => limits.too_large(),
        }
    }
}

fn problem_of(error: multer::Error, limits: &BodyLimits) -> Problem {
    let broken = match &error {
        multer::Error::StreamReadFailed(cause) => cause.downcast_ref::<Broken>(),
        _ => None,
    };
    match broken {
        Some(broken) => broken.problem(limits),
        None => malformed("the multipart body is not well-formed").because(error),
    }
}

/// Reads the parts of these names, each at most once. `limits` are those of the body as a whole.
///
/// # Errors
/// 400 for a body that is not well-formed or has other parts; 408, 413 and 503 as for any body; what `look` says of a part.
pub(super) async fn read<const N: usize>(
    body: Incoming,
    boundary: String,
    names: [&'static str; N],
    limits: BodyLimits,
    intake: &Intake,
    look: Look<'_>,
) -> Result<[Option<Received>; N], Problem> {
    let reading = read_parts(body, boundary, names, limits, intake, look);
    tokio::time::timeout(limits.time_max, reading)
        .await
        .unwrap_or_else(|_| Err(Kind::BodyTimeout.into()))
}

async fn read_parts<const N: usize>(
    mut body: Incoming,
    boundary: String,
    names: [&'static str; N],
    limits: BodyLimits,
    intake: &Intake,
    look: Look<'_>,
) -> Result<[Option<Received>; N], Problem> {
    let stated = body.size_hint().exact();
    if stated.is_some_and(|stated| stated > limits.bytes_max) {
        return Err(limits.too_large());
    }
    // No part is longer than all of them.
    let limits = BodyLimits {
        bytes_max: stated.unwrap_or(limits.bytes_max),
        ..limits
    };
    let left = Arc::new(Left {
        of_body: AtomicU64::new(limits.bytes_max),
        of_head: AtomicU64::new(HEAD_BYTES_MAX),
    });
    let pieces = Pieces {
        body: &mut body,
        given: false,
        left: Arc::clone(&left),
    };
    let failed = |error| problem_of(error, &limits);
    let mut multipart = multer::Multipart::new(pieces, boundary);
    let mut parts = [const { None }; N];
    loop {
        left.of_head.store(HEAD_BYTES_MAX, Ordering::Relaxed);
        let Some(mut field) = multipart.next_field().await.map_err(failed)? else {
            break;
        };
        let at = names.iter().position(|name| field.name() == Some(*name));
        let Some(part) = at.and_then(|at| parts.get_mut(at)) else {
            return Err(Problem::new(
                Kind::BadRequest,
                format!("parts have one of the names {}", names.join(", ")),
            ));
        };
        if part.is_some() {
            return Err(malformed("a part comes twice"));
        }
        left.of_head.store(u64::MAX, Ordering::Relaxed);
        let mut filling = Filling::begin(None, None, limits, intake, look).await?;
        while let Some(data) = field.chunk().await.map_err(failed)? {
            filling.push(&data).await?;
        }
        *part = Some(filling.finish());
    }
    drop(multipart);
    // What follows the last boundary means nothing, but a connection whose request is left unread is closed.
    left.of_head.store(u64::MAX, Ordering::Relaxed);
    let mut rest = Pieces {
        body: &mut body,
        given: false,
        left,
    };
    while let Some(piece) = rest.next().await {
        piece.map_err(|broken| broken.problem(&limits))?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_may_be_longer_than_a_head_but_none_follows_a_head_that_is_too_long() {
        let left = Left {
            of_body: AtomicU64::new(4 * HEAD_BYTES_MAX),
            of_head: AtomicU64::new(HEAD_BYTES_MAX),
        };
        assert!(left.take(10).is_ok());
        assert!(left.take(2 * HEAD_BYTES_MAX).is_ok());
        assert!(matches!(left.take(1), Err(Broken::Head)));
        left.of_head.store(u64::MAX, Ordering::Relaxed);
        assert!(left.take(HEAD_BYTES_MAX).is_ok());
        assert!(matches!(left.take(HEAD_BYTES_MAX), Err(Broken::Long)));
    }
}
