//! The order of eviction: how many accesses hit under each policy, ours and the peers', and what one eviction costs.

use std::io;
use std::time::Instant;

use backdrop_service::codec::Size;
use backdrop_service::flyweight::{Eviction, History, Policy};
use backdrop_service::memory::budget::Purpose;

use crate::peers::{foyer, foyer_policies, moka, quick};
use crate::rounds::{Random, Zipf};
use crate::support::{Figure, median};
use crate::world::{MIB, World};

/// Backgrounds of a trace, and those that fit.
const BACKGROUNDS: u32 = 2_000;
const FITS: usize = 128;
const ACCESSES: usize = 400_000;
/// Accesses between two changes of what is popular.
const SHIFT: usize = 40_000;

/// By popularity alone.
fn zipf() -> Vec<u32> {
    let (law, mut random) = (Zipf::new(BACKGROUNDS as usize, 1.0), Random(1));
    let keys = random.shuffled(BACKGROUNDS);
    (0..ACCESSES).map(|_| keys[law.draw(&mut random)]).collect()
}

/// By popularity, and every 10,000 accesses somebody goes through the whole catalogue once.
fn zipf_and_scan() -> Vec<u32> {
    let mut trace = Vec::with_capacity(ACCESSES + BACKGROUNDS as usize);
    let popular = zipf();
    for part in popular.chunks(10_000) {
        trace.extend_from_slice(part);
        trace.extend(0..BACKGROUNDS);
    }
    trace.truncate(ACCESSES);
    trace
}

/// By popularity, which changes altogether now and then.
fn shift() -> Vec<u32> {
    let (law, mut random) = (Zipf::new(BACKGROUNDS as usize, 1.0), Random(3));
    let mut keys = Vec::new();
    let draw = |at: usize| {
        if at.is_multiple_of(SHIFT) {
            keys = random.shuffled(BACKGROUNDS);
        }
        keys[law.draw(&mut random)]
    };
    (0..ACCESSES).map(draw).collect()
}

fn share(hits: usize, trace: &[u32]) -> f64 {
    hits as f64 / trace.len() as f64
}

/// Hits of one of our policies: its own code on the slots' histories, which stay when textures go.
fn ours(policy: &dyn Policy, trace: &[u32]) -> f64 {
    let histories: Vec<History> = (0..BACKGROUNDS).map(|_| History::default()).collect();
    let mut resident = vec![false; BACKGROUNDS as usize];
    let mut set: Vec<u32> = Vec::with_capacity(FITS);
    let mut hits = 0;
    for (tick, &key) in trace.iter().enumerate() {
        let key = key as usize;
        if resident[key] {
            hits += 1;
        } else {
            if set.len() == FITS {
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
fn peers(trace: &[u32]) -> Vec<(&'static str, f64)> {
    let cache = quick(FITS, 1);
    let quick = peer(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, ());
        }
        hit
    });
    let cache = moka(FITS);
    let moka = peer(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, ());
        }
        // Its book-keeping is put off otherwise, and it would hold more than its capacity meanwhile.
        cache.run_pending_tasks();
        hit
    });
    let mut all = vec![("quick_cache", quick), ("moka", moka)];
    for (name, policy) in foyer_policies() {
        let cache = foyer(FITS, 1, policy);
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

pub fn hit_ratios() -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (load, trace) in [
        ("zipf", zipf()),
        ("zipf + scan", zipf_and_scan()),
        ("popularity shift", shift()),
    ] {
        let peers = peers(&trace);
        let best = peers
            .iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("peers");
        let mut ours_best = 0.0;
        for eviction in Eviction::ALL {
            let hits = ours(&eviction.policy(), &trace);
            ours_best = f64::max(ours_best, hits);
            let name = format!("hit ratio, {load}, {}", eviction.name());
            figures.push(
                Figure::new(name, "share", hits)
                    .peer(format!("best: {}", best.0), best.1)
                    .higher_is_better(),
            );
        }
        for (peer, hits) in peers {
            let name = format!("hit ratio, {load}, our better one against {peer}");
            figures.push(
                Figure::new(name, "share", ours_best)
                    .peer(peer, hits)
                    .higher_is_better(),
            );
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
