//! The order of eviction: how many accesses hit under each policy, ours and the peers', and what one eviction costs.

use std::io;
use std::time::Instant;

use backdrop_service::codec::Size;
use backdrop_service::flyweight::{Eviction, History, Policy};
use backdrop_service::memory::budget::Purpose;

use crate::peers::{foyer, foyer_policies, moka, moka_policies, quick};
use crate::rounds::{Random, Zipf};
use crate::support::{Figure, median};
use crate::world::{MIB, World};

/// Backgrounds of a trace.
const BACKGROUNDS: u32 = 2_000;
const ACCESSES: usize = 400_000;
/// Textures that fit with the traces that LRFU was tuned on, and with the one that was held out.
const TUNED_FITS: usize = 128;
const HELD_OUT_FITS: [usize; 2] = [32, 512];
/// What is popular stays so.
const NEVER: usize = usize::MAX;

/// By popularity, which changes altogether every `shift` accesses.
fn zipf(exponent: f64, seed: u64, shift: usize) -> Vec<u32> {
    let (law, mut random) = (Zipf::new(BACKGROUNDS as usize, exponent), Random(seed));
    let mut keys = Vec::new();
    let draw = |at: usize| {
        if at.is_multiple_of(shift) {
            keys = random.shuffled(BACKGROUNDS);
        }
        keys[law.draw(&mut random)]
    };
    (0..ACCESSES).map(draw).collect()
}

/// The same, and after every `interval` accesses of it somebody goes through the whole catalogue once.
fn with_scans(popular: &[u32], interval: usize) -> Vec<u32> {
    let mut trace = Vec::with_capacity(ACCESSES + BACKGROUNDS as usize);
    for part in popular.chunks(interval) {
        trace.extend_from_slice(part);
        trace.extend(0..BACKGROUNDS);
    }
    trace.truncate(ACCESSES);
    trace
}

fn share(hits: usize, trace: &[u32]) -> f64 {
    hits as f64 / trace.len() as f64
}

/// Hits of one of our policies: its own code on the slots' histories, which stay when textures go.
fn ours(policy: &dyn Policy, trace: &[u32], fits: usize) -> f64 {
    let histories: Vec<History> = (0..BACKGROUNDS).map(|_| History::default()).collect();
    let mut resident = vec![false; BACKGROUNDS as usize];
    let mut set: Vec<u32> = Vec::with_capacity(fits);
    let mut hits = 0;
    for (tick, &key) in trace.iter().enumerate() {
        let key = key as usize;
        if resident[key] {
            hits += 1;
        } else {
            if set.len() == fits {
                let rank = |at: &usize| policy.rank(&histories[set[*at] as usize]);
                let victim = (0..set.len()).min_by_key(rank).expect("a full set");
                resident[set.swap_remove(victim) as usize] = false;
            }
            resident[key] = true;
            set.push(key as u32);
        }
        policy.touch(&histories[key], tick as u64 + 1, set.len() as u64);
    }
    share(hits, trace)
}

/// Hits of a peer: `ask` looks a key up and puts it in when it is not there.
fn peer(trace: &[u32], mut ask: impl FnMut(u32) -> bool) -> f64 {
    share(trace.iter().filter(|&&key| ask(key)).count(), trace)
}

/// Every peer's hits, each as one undivided cache, so that shards cost it nothing.
fn peers(trace: &[u32], fits: usize) -> Vec<(&'static str, f64)> {
    let cache = quick(fits, 1);
    let quick = peer(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, ());
        }
        hit
    });
    let mut all = vec![("quick_cache", quick)];
    for (policy, name) in moka_policies() {
        let cache = moka(fits, policy);
        let hits = peer(trace, |key| {
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, ());
            }
            // Its book-keeping is put off otherwise, and it would hold more than its capacity meanwhile.
            cache.run_pending_tasks();
            hit
        });
        all.push((name, hits));
    }
    for (name, policy) in foyer_policies() {
        let cache = foyer(fits, 1, policy);
        let hits = peer(trace, |key| {
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, ());
            }
            hit
        });
        all.push((name, hits));
    }
    all
}

/// LRU, which is the default, and LRFU, each against every peer.
///
/// Two things favour LRFU here. The history of a background outlives its pixels: there is one for each of the catalogue's entries
/// (as in the service), however few textures fit, while a peer keeps no more of what it evicted than a sketch or a list bounded by
/// its capacity. And LRFU's half-life was tuned on the first three traces; only the held-out one, of another exponent and other
/// capacities, with scans and with shifts at other intervals, says how it does on what it was not tuned for.
pub fn hit_ratios() -> io::Result<Vec<Figure>> {
    let steady = zipf(1.0, 1, NEVER);
    let scanned = with_scans(&steady, 10_000);
    let shifting = zipf(1.0, 3, 40_000);
    let held_out = with_scans(&zipf(0.8, 5, 60_000), 25_000);
    let mut loads = vec![
        ("zipf", &steady, TUNED_FITS),
        ("zipf + scan", &scanned, TUNED_FITS),
        ("popularity shift", &shifting, TUNED_FITS),
    ];
    loads.extend(HELD_OUT_FITS.map(|fits| ("held out", &held_out, fits)));
    let mut figures = Vec::new();
    for (load, trace, fits) in loads {
        let peers = peers(trace, fits);
        for eviction in Eviction::ALL {
            let hits = ours(&eviction.policy(), trace, fits);
            let against = |&(peer, theirs): &(&'static str, f64)| {
                let name = format!(
                    "hit ratio, {load}, {fits} fit: {} / {peer}",
                    eviction.name()
                );
                Figure::new(name, "share", hits)
                    .peer(peer, theirs)
                    .higher_is_better()
            };
            figures.extend(peers.iter().map(against));
        }
    }
    Ok(figures)
}

/// Time to find and evict the one texture whose turn it is, out of 4,096.
pub fn evict_one() -> io::Result<Vec<Figure>> {
    const RESIDENT: usize = 4_096;
    let world = World::of(512 * MIB)?;
    let indices = world.upload(RESIDENT, Size::new(64, 64))?;
    world.warm(&indices)?;
    // The first ones took blocks of the pool, which are larger than they need and slow to free; their turn comes last.
    world.warm(&indices[..512])?;
    // All that is left is taken, so that each further reservation has one texture evicted.
    let rest = world.budget.available(Purpose::Render);
    let _rest = world
        .budget
        .try_reserve(Purpose::Render, rest)
        .map_err(io::Error::other)?;
    let mut taken = Vec::new();
    let mut times = Vec::new();
    while times.len() < 200 {
        let (resident, started) = (world.flyweights.resident(), Instant::now());
        taken.push(
            world
                .budget
                .try_reserve(Purpose::Render, 1)
                .map_err(io::Error::other)?,
        );
        let took = started.elapsed().as_secs_f64() * 1e6;
        if world.flyweights.resident() == resident - 1 {
            times.push(took);
        }
    }
    Ok(vec![Figure::new(
        "eviction of one out of 4,096",
        "µs",
        median(times),
    )])
}
