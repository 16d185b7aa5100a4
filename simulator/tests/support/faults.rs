//! What goes wrong with batches of sessions: refused, not answered, late; each as often as it is told to.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use super::answers::{problem, respond};
use super::batches::{Batch, CREATE, DELETE, READ, SWITCH};
use super::{Bug, Fake};

/// Leavers of a turn at most; a sample has more.
const FEW: usize = 10;

/// What is told to go wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Reads that are refused with 503 from now on.
    pub refused_reads: AtomicU64,
    /// Deletions that are not answered from now on, and applied later: with the next one, or with a switch after a read of few.
    pub mute_deletions: AtomicU64,
    /// Creations that are applied and not answered from now on.
    pub mute_creations: AtomicU64,
    /// So long takes the first creation after the first switch.
    pub slow_creation: Option<Duration>,
    /// So long takes a deletion.
    pub slow_deletions: Option<Duration>,
    /// The next read of few sessions is answered when the service has restarted and its first session is made anew.
    pub restart_in_read: AtomicBool,
    /// A switch was asked for.
    pub switched: AtomicBool,
    /// The slow creation was asked for.
    pub slept: AtomicBool,
}

#[derive(Debug, Clone)]
struct Unanswered;

/// An answer that is never sent: the connection breaks.
fn unanswered() -> Response<Full<Bytes>> {
    let mut response = respond(200, serde_json::Value::Null);
    response.extensions_mut().insert(Unanswered);
    response
}

/// What goes out on the connection.
pub fn sent(response: Response<Full<Bytes>>) -> io::Result<Response<Full<Bytes>>> {
    match response.extensions().get::<Unanswered>() {
        Some(Unanswered) => Err(io::Error::other("not answered")),
        None => Ok(response),
    }
}

/// Takes one, if there is one.
fn take(counter: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    let (order, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
    counter.fetch_update(order, relaxed, less).is_ok()
}

impl Fake {
    /// Answers a batch with all that is told to go wrong.
    pub(super) async fn faulty(&self, batch: &Batch) -> Response<Full<Bytes>> {
        let faults = &self.faults;
        let size = batch.entries.len() as u64;
        match batch.kind {
            SWITCH => faults.switched.store(true, Ordering::Relaxed),
            _ => {
                self.batch_max.fetch_max(size, Ordering::Relaxed);
            }
        }
        match batch.kind {
            READ if take(&faults.refused_reads) || self.hides(batch) => {
                return problem(503, "shed");
            }
            READ if batch.entries.len() <= FEW
                && faults.restart_in_read.swap(false, Ordering::Relaxed) =>
            {
                let answer = self.batch(batch);
                let mut created = self.created.subscribe();
                self.restart();
                // Bounded, as the load may end.
                let _ = tokio::time::timeout(Duration::from_secs(5), created.changed()).await;
                return answer;
            }
            DELETE => {
                if take(&faults.mute_deletions) {
                    let mut state = self.state.lock();
                    state.looked = false;
                    state.late.extend(batch.entries.iter().map(|(id, _)| id));
                    return unanswered();
                }
                if let Some(time) = faults.slow_deletions {
                    tokio::time::sleep(time).await;
                }
            }
            CREATE => {
                if let Some(time) = faults.slow_creation
                    && faults.switched.load(Ordering::Relaxed)
                    && !faults.slept.swap(true, Ordering::Relaxed)
                {
                    tokio::time::sleep(time).await;
                }
                if take(&faults.mute_creations) {
                    self.batch(batch);
                    return unanswered();
                }
            }
            _ => {}
        }
        self.apply_late(batch);
        self.batch(batch)
    }

    fn hides(&self, batch: &Batch) -> bool {
        let state = self.state.lock();
        self.bug == Bug::HidesTheGone
            && batch
                .entries
                .iter()
                .any(|(id, _)| state.slot(*id).is_none())
    }

    /// Applies deletions that were not answered.
    fn apply_late(&self, batch: &Batch) {
        let mut state = self.state.lock();
        let is_time = match batch.kind {
            READ => {
                state.looked |= batch.entries.len() <= FEW;
                false
            }
            SWITCH => state.looked,
            kind => kind == DELETE,
        };
        if is_time {
            for id in std::mem::take(&mut state.late) {
                self.delete(&mut state, id);
            }
        }
    }
}
