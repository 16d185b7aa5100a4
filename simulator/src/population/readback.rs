//! Sessions read back: all of them at the end, a few while the load runs; each is judged against what it was acknowledged.

use std::time::Instant;

use bytes::BytesMut;

use super::{BATCH_MAX, Backoff, PopulationError, REQUEST_TIMEOUT, batch_call, refused};
use crate::client::{CallError, Lane};
use crate::schedule::mix;
use crate::shared::Shared;
use crate::truth::{Moment, Shown, Tally};
use crate::wire::{Answer, NO_FLYWEIGHT, Seen, code};

/// Sessions of one sample while the load runs.
const SAMPLE: usize = 32;

/// Reads every session back and judges it. `progress` is told how many were read.
pub async fn read_back(shared: &Shared, progress: &(dyn Fn(u64) + Sync)) {
    let mut lane = Lane::new(shared.target.clone(), REQUEST_TIMEOUT);
    let mut read = 0;
    let mut tally = Some(Tally::default());
    for gateway in 0..shared.cohorts.len() {
        let mut counted = Some(0);
        let present: Vec<usize> = {
            let cohort = shared.cohorts[gateway].lock();
            (0..cohort.len())
                .filter(|index| cohort.id(*index).is_some())
                .collect()
        };
        for part in present.chunks(BATCH_MAX) {
            match read_part(shared, &mut lane, gateway, part).await {
                Ok(switches) => counted = counted.zip(switches).map(|(sum, more)| sum + more),
                Err(error) => {
                    shared
                        .truth
                        .lock()
                        .doubt(format!("sessions could not be read back: {error}"));
                    return;
                }
            }
            read += part.len() as u64;
            progress(read);
        }
        let ledger = shared.cohorts[gateway].lock().ledger();
        let counted = counted.filter(|_| !ledger.uncounted);
        tally = tally.zip(counted).map(|(mut tally, counted)| {
            let counted = counted + ledger.departed;
            tally.add(Tally::of(ledger.acknowledged, ledger.doubtful, counted));
            tally
        });
    }
    // Only whole: a session that is missing took its counter with it, and is a finding by itself.
    if let Some(tally) = tally {
        shared.truth.lock().counters(tally);
    }
}

/// Judges some sessions. Returns the switches that they count, `None` where one of them did not say.
///
/// The service counts what it applied since it created the session, in 32 bits: at the shortest period a run would
/// have to last a year to wrap one.
async fn read_part(
    shared: &Shared,
    lane: &mut Lane,
    gateway: usize,
    part: &[usize],
) -> Result<Option<u64>, PopulationError> {
    let since = Instant::now();
    let mut backoff = Backoff::default();
    let seen = loop {
        match read(shared, lane, gateway, part).await {
            Ok(seen) => break seen,
            Err(_)
                if since.elapsed() < shared.plan.args.reconnect_for
                    && shared.stop.reason().is_none() =>
            {
                backoff.wait().await;
            }
            Err(error) => return Err(error),
        }
    };
    let catalogue = shared.catalogue();
    let cohort = shared.cohorts[gateway].lock();
    if seen.epoch != cohort.epoch() {
        drop(cohort);
        shared
            .truth
            .lock()
            .doubt("the service restarted before the sessions were read back".to_owned());
        return Ok(None);
    }
    let mut truth = shared.truth.lock();
    let mut switches = Some(0);
    for (&index, entry) in part.iter().zip(&seen.entries) {
        let allowed = cohort.allowed(index);
        let shown = shown(entry, &catalogue);
        truth.session(
            || who(&cohort, index),
            &allowed,
            shown,
            &cohort.earlier(index),
            Moment::End,
        );
        switches = switches
            .filter(|_| entry.code == code::OK)
            .map(|sum| sum + u64::from(entry.switches));
    }
    Ok(switches)
}

fn who(cohort: &crate::cohort::Cohort, index: usize) -> String {
    format!(
        "session {:016x} (user {})",
        cohort.id(index).unwrap_or(0),
        cohort.user(index)
    )
}

/// A session for messages.
pub fn name(shared: &Shared, gateway: usize, index: usize) -> String {
    who(&shared.cohorts[gateway].lock(), index)
}

/// What a session showed, in this run's numbers.
pub fn shown(entry: &Seen, catalogue: &crate::catalogue::Catalogue) -> Shown {
    match entry {
        Seen {
            code: code::OK,
            flyweight: NO_FLYWEIGHT,
            ..
        } => Shown::Nothing,
        Seen {
            code: code::OK,
            flyweight,
            ..
        } => match catalogue.number(*flyweight) {
            Some(number) => Shown::Background(number),
            None => Shown::Foreign(*flyweight),
        },
        _ => Shown::Missing,
    }
}

async fn read(
    shared: &Shared,
    lane: &mut Lane,
    gateway: usize,
    part: &[usize],
) -> Result<Answer<Seen>, PopulationError> {
    let ids: Vec<u64> = {
        let cohort = shared.cohorts[gateway].lock();
        part.iter()
            .map(|index| cohort.id(*index).unwrap_or(0))
            .collect()
    };
    read_ids(shared, lane, &ids).await
}

/// Reads some sessions.
///
/// # Errors
/// The service is away, refuses, or answers something else.
pub async fn read_ids(
    shared: &Shared,
    lane: &mut Lane,
    ids: &[u64],
) -> Result<Answer<Seen>, PopulationError> {
    let wire = shared.plan.args.wire;
    let mut body = BytesMut::with_capacity(16 + 8 * ids.len());
    wire.read(shared.catalogue().epoch, ids, &mut body);
    let call = batch_call("batchRead", wire, body, ids.len());
    let answer = lane.call(call).await?;
    if answer.status != 200 {
        return Err(refused("reading sessions", &answer));
    }
    Ok(wire.read_answer(&answer.body, ids.len())?)
}

/// Reads a few sessions while the load runs; switches under way make either answer right.
pub async fn sample(shared: &Shared, lane: &mut Lane, round: u64) {
    let hash = mix(shared.plan.args.seed, 0x7361_6d70, round);
    let gateways = shared.cohorts.len();
    // A partial population may sit in the first gateways only.
    let Some(gateway) = (0..gateways)
        .map(|step| (hash as usize).wrapping_add(step) % gateways)
        .find(|gateway| shared.cohorts[*gateway].lock().pick(hash).is_some())
    else {
        return;
    };
    let (epoch, watches) = {
        let mut cohort = shared.cohorts[gateway].lock();
        let mut indices: Vec<usize> = (0..SAMPLE as u64)
            .filter_map(|at| cohort.pick(mix(hash, 1, at)))
            .collect();
        indices.sort_unstable();
        indices.dedup();
        let watches: Vec<(usize, u64)> = indices
            .iter()
            .map(|index| (*index, cohort.watch(*index)))
            .collect();
        (cohort.epoch(), watches)
    };
    let indices: Vec<usize> = watches.iter().map(|(index, _)| *index).collect();
    if indices.is_empty() {
        return;
    }
    let seen = read(shared, lane, gateway, &indices).await;
    let catalogue = shared.catalogue();
    let mut cohort = shared.cohorts[gateway].lock();
    for (position, (index, token)) in watches.into_iter().enumerate() {
        let Some(allowed) = cohort.unwatch(token) else {
            continue;
        };
        let Ok(seen) = &seen else { continue };
        if seen.epoch != epoch || catalogue.epoch != epoch {
            continue;
        }
        let shown = shown(&seen.entries[position], &catalogue);
        let earlier = cohort.earlier(index);
        shared.truth.lock().session(
            || who(&cohort, index),
            &allowed,
            shown,
            &earlier,
            Moment::Load,
        );
    }
    drop(cohort);
    if matches!(seen, Err(PopulationError::Away(CallError::Connect(_)))) {
        shared.suspect();
    }
}
