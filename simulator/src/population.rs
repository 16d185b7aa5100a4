//! The sessions at the service: create them, make them anew after a restart, read them back, delete them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use thiserror::Error;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::client::{Answer, Call, CallError, Lane};
use crate::shared::{Shared, StopReason};
use crate::truth::Violation;
use crate::wire::{Create, Wire, WireError, code};

mod readback;
mod tidy;

pub use readback::{name, read_back, read_ids, sample, shown};
pub use tidy::{Left, Strays, delete, delete_all};

/// Entries of one create, read or deletion at most.
pub const BATCH_MAX: usize = 10_000;
/// Time for one of them: a naive service decodes a picture per session.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Refused batches in a row after which a partial population is taken as it is.
const REFUSALS_MAX: u32 = 20;

/// Sessions that cannot be made or read.
#[derive(Debug, Error)]
pub enum PopulationError {
    /// The service is away.
    #[error("the service went away: {0}")]
    Away(CallError),
    /// The catalogue could not be read again.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The answer makes no sense.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The service said no.
    #[error("{what}: the service answered {status} {code}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// Problem code.
        code: String,
    },
    /// Fewer sessions than were asked for.
    #[error(
        "{created} of {requested} sessions could be created ({refused} refused); give the service more --sessions-max or memory, or go on with --allow-partial-sessions"
    )]
    Partial {
        /// Acknowledged.
        created: u64,
        /// Asked for.
        requested: u64,
        /// Refused.
        refused: u64,
    },
    /// Set-up took too long.
    #[error("set-up was not over within --setup-timeout")]
    TimedOut,
    /// The user or the service ended it.
    #[error("stopped")]
    Stopped,
}

/// By hand: `#[from]` would make the cause, which the text holds, a source that is printed once more.
impl From<CallError> for PopulationError {
    fn from(cause: CallError) -> Self {
        PopulationError::Away(cause)
    }
}

impl PopulationError {
    /// Whether the service may have done what was asked for, now or later. A 503 was not done and will not be.
    pub fn may_have_applied(&self) -> bool {
        match self {
            PopulationError::Away(cause) => cause.may_have_applied(),
            PopulationError::Wire(_) => true,
            PopulationError::Refused { status, .. } => *status >= 500 && *status != 503,
            _ => false,
        }
    }
}

/// A wait that grows.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Backoff(BACKOFF_FIRST)
    }
}

impl Backoff {
    /// Waits, a little longer each time.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

fn batch_call(action: &str, wire: Wire, body: BytesMut, entries: usize) -> Call {
    Call {
        method: Method::POST,
        path: Uri::builder()
            .path_and_query(format!("/v1/sessions:{action}"))
            .build()
            .unwrap_or_default(),
        content_type: Some(HeaderValue::from_static(wire.content_type())),
        if_match: None,
        body: body.freeze(),
        answer_bytes_max: wire.answer_bytes_max(entries),
    }
}

fn refused(what: &'static str, answer: &Answer) -> PopulationError {
    PopulationError::Refused {
        what,
        status: answer.status,
        code: answer.problem_code().unwrap_or_default(),
    }
}

/// Creates every session of every gateway, the gateways in turn and each in its birth order: a service that refuses
/// some leaves a part that is spread over gateways and period. Batches start small, so that a service that dies of it
/// leaves an honest count of what it had acknowledged.
pub async fn create_all(
    shared: &Shared,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), PopulationError> {
    let until = Instant::now() + shared.plan.args.setup_timeout;
    let mut lane = Lane::new(shared.target.clone(), REQUEST_TIMEOUT);
    let mut refusals = 0;
    let mut turns: VecDeque<_> = shared
        .cohorts
        .iter()
        .map(|cohort| cohort.lock().birth_order())
        .enumerate()
        .collect();
    while let Some((gateway, mut order)) = turns.pop_front() {
        if shared.stop.reason().is_some() {
            return Err(PopulationError::Stopped);
        }
        if Instant::now() > until {
            return give_up(shared, PopulationError::TimedOut);
        }
        let part: Vec<usize> = order.by_ref().take(batch_size(shared)).collect();
        if part.is_empty() {
            continue;
        }
        turns.push_back((gateway, order));
        let made = create_batch(shared, &mut lane, gateway, &part).await?;
        shared.census.refuse(made.left.len() as u64, made.shed);
        shared
            .census
            .created
            .fetch_add(made.born.len() as u64, Ordering::Relaxed);
        refusals = match made.born.is_empty() {
            true => refusals + 1,
            false => 0,
        };
        progress(shared.census.created.load(Ordering::Relaxed));
        if refusals > REFUSALS_MAX {
            return give_up(shared, partial(shared));
        }
    }
    if shared.census.refused.load(Ordering::Relaxed) > 0 {
        return give_up(shared, partial(shared));
    }
    Ok(())
}

/// A quarter of what a gateway has on average: no gateway gets far ahead of the others.
fn batch_size(shared: &Shared) -> usize {
    let holding = shared.census.holding() as usize;
    (1 + holding / (4 * shared.cohorts.len().max(1))).min(BATCH_MAX)
}

fn partial(shared: &Shared) -> PopulationError {
    PopulationError::Partial {
        created: shared.census.created.load(Ordering::Relaxed),
        requested: shared.plan.sessions,
        refused: shared.census.refused.load(Ordering::Relaxed),
    }
}

/// A partial population is an error unless the plan allows it.
fn give_up(shared: &Shared, error: PopulationError) -> Result<(), PopulationError> {
    if shared.plan.args.allow_partial_sessions {
        Ok(())
    } else {
        Err(error)
    }
}

/// A session that the service has just made.
#[derive(Debug, Clone, Copy)]
pub struct Newborn {
    /// Its place in its cohort.
    pub index: usize,
    /// Its id.
    pub id: u64,
    /// What it was created with.
    pub background: u16,
}

/// What became of a batch of creations.
#[derive(Debug, Default)]
pub struct Made {
    /// Catalogue epoch that it was asked for in.
    pub epoch: u64,
    /// Acknowledged.
    pub born: Vec<Newborn>,
    /// Refused.
    pub left: Vec<usize>,
    /// Those of them that were shed.
    pub shed: u64,
}

/// Creates some sessions of a gateway; nobody knows of them yet. What refused ones count for is the caller's business.
///
/// # Errors
/// The service is away, refuses, or answers something else. It may have made them all the same: [`Strays`].
pub async fn create(
    shared: &Shared,
    lane: &mut Lane,
    gateway: usize,
    indices: &[usize],
) -> Result<Made, PopulationError> {
    let catalogue = shared.catalogue();
    let made = create_in(shared, &catalogue, lane, gateway, indices).await;
    if let Err(error) = &made
        && error.may_have_applied()
    {
        let count = indices.len() as u64;
        shared.strays.lock().unnamed(catalogue.epoch, count);
    }
    made
}

async fn create_in(
    shared: &Shared,
    catalogue: &Catalogue,
    lane: &mut Lane,
    gateway: usize,
    indices: &[usize],
) -> Result<Made, PopulationError> {
    let wire = shared.plan.args.wire;
    let mut backgrounds = Vec::with_capacity(indices.len());
    let mut entries = Vec::with_capacity(indices.len());
    {
        let cohort = shared.cohorts[gateway].lock();
        for &index in indices {
            let background = cohort.wanted(index);
            backgrounds.push(background);
            entries.push(Create {
                user: cohort.user(index) as u32,
                flyweight: catalogue.flyweight(background),
            });
        }
    }
    let mut body = BytesMut::with_capacity(16 + 8 * entries.len());
    wire.create(catalogue.epoch, &entries, &mut body);
    let call = batch_call("batchCreate", wire, body, entries.len());
    let answer = lane.call(call).await?;
    let mut made = Made {
        epoch: catalogue.epoch,
        ..Made::default()
    };
    let answered = match answer.status {
        200 | 201 => wire.create_answer(&answer.body, entries.len())?,
        429 | 503 => {
            made.left = indices.to_vec();
            made.shed = indices.len() as u64;
            return Ok(made);
        }
        _ => return Err(refused("creating sessions", &answer)),
    };
    for ((&index, background), created) in indices.iter().zip(backgrounds).zip(&answered.entries) {
        if created.code == code::OK && created.session != 0 {
            made.born.push(Newborn {
                index,
                id: created.session,
                background,
            });
        } else {
            made.left.push(index);
            made.shed += u64::from(created.code == code::SHED);
        }
    }
    Ok(made)
}

/// Creates some sessions of a gateway that sends nothing meanwhile: they take part at once.
async fn create_batch(
    shared: &Shared,
    lane: &mut Lane,
    gateway: usize,
    indices: &[usize],
) -> Result<Made, PopulationError> {
    let made = create(shared, lane, gateway, indices).await?;
    let mut cohort = shared.cohorts[gateway].lock();
    cohort.set_epoch(made.epoch);
    for newborn in &made.born {
        cohort.born(newborn.index, newborn.id, newborn.background);
    }
    drop(cohort);
    shared.census.gained(made.born.len() as u64);
    Ok(made)
}

/// After a failure: waits until the service answers, and if it is another life of it, makes the gateway's sessions
/// anew. Sets the stop signal when the service stays away for too long. Creations that it refuses are tried again for
/// as long; then the load goes on without these sessions.
pub async fn recover(shared: &Shared, gateway: usize) {
    let patience = shared.plan.args.reconnect_for;
    let mut away_since = Instant::now();
    let mut refusing_since = None;
    let mut backoff = Backoff::default();
    while shared.stop.reason().is_none() {
        match revive(shared, gateway).await {
            Ok(Revived::Whole) => return,
            Ok(Revived::Partly { failed }) => {
                // A service that refuses is not away.
                away_since = Instant::now();
                if refusing_since.get_or_insert(away_since).elapsed() > patience {
                    return abandon(shared, gateway, failed);
                }
            }
            Err(PopulationError::Catalogue(error @ CatalogueError::Foreign { .. })) => {
                shared
                    .truth
                    .lock()
                    .doubt(format!("after a reconnect: {error}"));
            }
            Err(_) => {}
        }
        if away_since.elapsed() > patience {
            shared.stop.set(StopReason::ServiceGone);
            return;
        }
        backoff.wait().await;
    }
}

/// How much of a gateway's sessions there is after an attempt to make them anew.
#[derive(Debug, Clone, Copy)]
enum Revived {
    /// All.
    Whole,
    /// Some were refused and are still owed; `failed` of the last batch for another reason than shedding.
    Partly { failed: u64 },
}

/// Gives up on the sessions that the service will not make anew: they stay absent, which the counts show.
fn abandon(shared: &Shared, gateway: usize, failed: u64) {
    let left = shared.cohorts[gateway].lock().owed(usize::MAX).len() as u64;
    shared.census.refuse(left, left.saturating_sub(failed));
}

/// One attempt; it ends with the first refusal, so that a service under pressure is given time.
async fn revive(shared: &Shared, gateway: usize) -> Result<Revived, PopulationError> {
    let epoch = refresh(shared).await?;
    let lost = {
        let mut cohort = shared.cohorts[gateway].lock();
        let lost = if cohort.epoch() == epoch {
            Vec::new()
        } else {
            cohort.forget()
        };
        cohort.set_epoch(epoch);
        cohort.owe(&lost);
        lost.len() as u64
    };
    shared.census.lost(lost);
    let mut lane = Lane::new(shared.target.clone(), REQUEST_TIMEOUT);
    loop {
        let part = shared.cohorts[gateway].lock().owed(BATCH_MAX);
        if part.is_empty() {
            return Ok(Revived::Whole);
        }
        let made = match create_batch(shared, &mut lane, gateway, &part).await {
            Ok(made) => made,
            Err(error) => {
                // The next attempt makes them.
                shared.cohorts[gateway].lock().owe(&part);
                return Err(error);
            }
        };
        shared
            .census
            .recreated
            .fetch_add(made.born.len() as u64, Ordering::Relaxed);
        if !made.left.is_empty() {
            shared.cohorts[gateway].lock().owe(&made.left);
            let failed = made.left.len() as u64 - made.shed;
            return Ok(Revived::Partly { failed });
        }
    }
}

/// Lists again; in a new epoch checks that acknowledged uploads are there, and publishes the new indices.
async fn refresh(shared: &Shared) -> Result<u64, PopulationError> {
    let known = shared.catalogue().epoch;
    let _one_at_a_time = shared.refresh.lock().await;
    if shared.catalogue().epoch != known {
        return Ok(shared.catalogue().epoch);
    }
    let (epoch, listed) = shared.librarian.list().await?;
    if epoch == known {
        return Ok(epoch);
    }
    for number in 0..shared.gallery.len() as u16 {
        let id = shared.gallery.id(number);
        if let Some(words) = shared.revisions.broken_promise(number, id, listed.get(id)) {
            shared.truth.lock().violation(Violation::Lost, &words);
        }
        if !listed.contains_key(id) && !shared.plan.args.no_upload {
            upload_again(shared, number).await?;
        }
    }
    let (catalogue, _) = shared.librarian.map(&shared.gallery).await?;
    let epoch = catalogue.epoch;
    *shared.catalogue.write() = std::sync::Arc::new(catalogue);
    Ok(epoch)
}

/// Uploads the next revision of a background; the book knows it from the moment it is begun. Whether it was acknowledged:
/// not where it could not be painted, or its revisions are used up.
pub async fn upload_again(shared: &Shared, number: u16) -> Result<bool, PopulationError> {
    let Some(revision) = shared.revisions.begin(number) else {
        return Ok(false);
    };
    let Some(bytes) = shared.reader.paint(number, revision).await else {
        return Ok(false);
    };
    let mut lane = Lane::new(shared.target.clone(), REQUEST_TIMEOUT);
    let until = Instant::now() + shared.plan.args.reconnect_for;
    let id = shared.gallery.id(number);
    let uploaded = shared
        .librarian
        .upload(&mut lane, id, bytes.into(), until)
        .await?;
    if let Some(words) = shared.revisions.stands_still(number, &uploaded.metadata) {
        shared.truth.lock().violation(Violation::Stale, &words);
    }
    shared.revisions.uploaded(number, revision, &uploaded);
    shared.updates.fetch_add(1, Ordering::Relaxed);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_cause_stands_in_the_text_and_is_no_source() {
        let error = PopulationError::from(CallError::Timeout);
        assert_eq!(
            error.to_string(),
            "the service went away: no answer in time"
        );
        assert!(error.source().is_none());
    }

    #[test]
    fn a_refusal_was_not_done_and_an_unknown_outcome_may_have_been() {
        let refused = |status| PopulationError::Refused {
            what: "deleting sessions",
            status,
            code: String::new(),
        };
        for (status, may) in [
            (404, false),
            (429, false),
            (503, false),
            (500, true),
            (504, true),
        ] {
            assert_eq!(refused(status).may_have_applied(), may, "{status}");
        }
        assert!(PopulationError::from(CallError::Timeout).may_have_applied());
        assert!(!PopulationError::from(CallError::NotSent).may_have_applied());
    }
}
