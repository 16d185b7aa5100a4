//! Takes away what a run made: its sessions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{BATCH_MAX, PopulationError, batch_call, refused};
use crate::client::Lane;
use crate::shared::Shared;
use crate::wire::code;

/// Time for it, and for one request.
const DELETE_TIME: Duration = Duration::from_secs(10);

/// Sessions that may be in the service and are in no cohort: a request for them, or for their end, was not answered. By catalogue
/// epoch, since none outlives it.
#[derive(Debug, Default)]
pub struct Strays(BTreeMap<u64, Astray>);

#[derive(Debug, Default)]
struct Astray {
    ids: Vec<u64>,
    unnamed: u64,
}

impl Strays {
    /// One whose deletion is not known to have happened.
    pub fn named(&mut self, epoch: u64, id: u64) {
        self.0.entry(epoch).or_default().ids.push(id);
    }

    /// So many may have been created; nobody was told their ids.
    pub fn unnamed(&mut self, epoch: u64, count: u64) {
        self.0.entry(epoch).or_default().unnamed += count;
    }

    fn take(&mut self, epoch: u64) -> Astray {
        std::mem::take(&mut self.0)
            .remove(&epoch)
            .unwrap_or_default()
    }
}

/// Sessions that a run left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// The service did not delete them, or time was over.
    pub there: u64,
    /// They may be there: their creation was not answered.
    pub perhaps: u64,
}

/// Deletes the sessions that this run created: a service that is used again has room again. Returns how many are left.
pub async fn delete_all(shared: &Shared) -> Left {
    let until = Instant::now() + DELETE_TIME;
    let mut lane = Lane::new(shared.target.clone(), DELETE_TIME);
    let (mut left, mut asking) = (0, true);
    let epoch = shared.catalogue().epoch;
    let astray = shared.strays.lock().take(epoch);
    let known = shared.cohorts.iter().map(|cohort| {
        let cohort = cohort.lock();
        let ids = (0..cohort.len()).filter_map(|index| cohort.id(index));
        (cohort.epoch(), ids.collect::<Vec<u64>>())
    });
    for (epoch, ids) in known.chain([(epoch, astray.ids)]) {
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
    Left {
        there: left,
        perhaps: astray.unnamed,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_do_not_outlive_the_life_of_the_service_that_they_were_in() {
        let mut strays = Strays::default();
        strays.unnamed(1, 10);
        strays.named(2, 7);
        strays.unnamed(2, 3);
        strays.unnamed(2, 1);
        let astray = strays.take(2);
        assert_eq!((astray.ids, astray.unnamed), (vec![7], 4));
        assert_eq!(strays.take(1).unnamed, 0, "told of once");
    }
}
