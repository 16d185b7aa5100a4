//! Takes away what a run made: its sessions.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{BATCH_MAX, PopulationError, batch_call, refused};
use crate::client::Lane;
use crate::shared::Shared;
use crate::wire::code;

/// Time for it, and for one request.
const DELETE_TIME: Duration = Duration::from_secs(10);

/// Deletes the sessions that this run created: a service that is used again has room again. Returns how many are left: time was
/// over, or the service did not do it.
pub async fn delete_all(shared: &Shared) -> u64 {
    let until = Instant::now() + DELETE_TIME;
    let mut lane = Lane::new(shared.target.clone(), DELETE_TIME);
    let (mut left, mut asking) = (0, true);
    for cohort in &shared.cohorts {
        let (epoch, ids): (u64, Vec<u64>) = {
            let cohort = cohort.lock();
            let ids = (0..cohort.len()).filter_map(|index| cohort.id(index));
            (cohort.epoch(), ids.collect())
        };
        for part in ids.chunks(BATCH_MAX) {
            asking &= Instant::now() <= until;
            let codes = match asking {
                true => delete(shared, &mut lane, epoch, part).await,
                false => Ok(Vec::new()),
            };
            // Who is not there for this part will not be there for the next one.
            asking &= !matches!(codes, Err(PopulationError::Away(_)));
            let gone = |code: &&u8| matches!(**code, code::OK | code::SESSION_NOT_FOUND);
            let deleted = codes.map_or(0, |codes| codes.iter().filter(gone).count());
            left += (part.len() - deleted) as u64;
        }
    }
    left
}

/// Asks for the deletion of some sessions; a code for each.
///
/// # Errors
/// The service is away, refuses, or answers something else.
pub async fn delete(
    shared: &Shared,
    lane: &mut Lane,
    epoch: u64,
    ids: &[u64],
) -> Result<Vec<u8>, PopulationError> {
    let wire = shared.plan.args.wire;
    let mut body = BytesMut::with_capacity(16 + 8 * ids.len());
    wire.delete(epoch, ids, &mut body);
    let call = batch_call("batchDelete", wire, body, ids.len());
    let answer = lane.call(call).await?;
    if answer.status != 200 {
        return Err(refused("deleting sessions", &answer));
    }
    Ok(wire.delete_answer(&answer.body, ids.len())?)
}
