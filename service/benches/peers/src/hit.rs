//! A hit: key → lease → drop, on the same keys for everybody; and a further lease on a handle that is held.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::flyweight::Texture;

use crate::counters::Heap;
use crate::peers::{foyer, foyer_policies, moka, moka_policies, moka_segmented, quick};
use crate::rounds::{Contender, Random, Zipf, nanoseconds};
use crate::support::Figure;
use crate::world::{SMALL, World};

/// Resident textures; all fit, so that nobody evicts.
const KEYS: usize = 256;
const CAPACITY: usize = 512;
const SEQUENCE: usize = 1 << 16;
/// Parts of a cache that is in parts: some for each CPU of a small machine, and so many that two keys rarely share one.
const SHARDS: usize = 8;
const MANY_SHARDS: usize = 64;

/// The keys in the order of asking: by popularity, the same for all.
fn sequence(indices: &[u32]) -> Vec<u32> {
    let (zipf, mut random) = (Zipf::new(indices.len(), 1.0), Random(7));
    (0..SEQUENCE)
        .map(|_| indices[zipf.draw(&mut random)])
        .collect()
}

/// The keys that one thread asks for, from a place of its own on.
fn asked(sequence: &[u32], thread: usize, ops: usize) -> impl Iterator<Item = u32> {
    let start = thread * 4099;
    (start..start + ops).map(|at| sequence[at % SEQUENCE])
}

/// A way to ask a peer, and what it is called.
type Way<'a> = (String, Contender<'a>);

/// Asks `get` for the version under each key.
fn way<'a>(name: String, keys: &'a [u32], get: impl Fn(u32) -> u32 + Sync + 'a) -> Way<'a> {
    let ask = move |thread, ops| {
        for key in asked(keys, thread, ops) {
            black_box(get(key));
        }
    };
    (name, Contender::new(ask))
}

type Shared = Arc<Texture>;

fn quick_ways<'a>(keys: &'a [u32], textures: &[(u32, Shared)]) -> Vec<Way<'a>> {
    let way = |(room, shards)| {
        let cache = quick(room, shards);
        for (key, texture) in textures {
            cache.insert(*key, Arc::clone(texture));
        }
        let name = format!("quick_cache, {} shards", cache.num_shards());
        way(name, keys, move |key| {
            cache.get(&key).expect("resident").version()
        })
    };
    // As many shards as it takes by itself; and as many as may be, for which it wants room.
    let ways = [(CAPACITY, 0), (CAPACITY * SHARDS, MANY_SHARDS)];
    ways.map(way).into()
}

fn moka_ways<'a>(keys: &'a [u32], textures: &[(u32, Shared)]) -> Vec<Way<'a>> {
    let mut ways = Vec::new();
    for (policy, name) in moka_policies() {
        let cache = moka(CAPACITY, policy.clone());
        for (key, texture) in textures {
            cache.insert(*key, Arc::clone(texture));
        }
        cache.run_pending_tasks();
        let get = move |key| cache.get(&key).expect("resident").version();
        ways.push(way(name.to_owned(), keys, get));
        let cache = moka_segmented(CAPACITY, SHARDS, policy);
        for (key, texture) in textures {
            cache.insert(*key, Arc::clone(texture));
        }
        cache.run_pending_tasks();
        let get = move |key| cache.get(&key).expect("resident").version();
        ways.push(way(format!("{name}, {SHARDS} segments"), keys, get));
    }
    ways
}

fn foyer_ways<'a>(keys: &'a [u32], textures: &[(u32, Shared)]) -> Vec<Way<'a>> {
    let mut ways = Vec::new();
    // Of foyer's policies that heed a hit these two do so without an exclusive lock.
    let policies = foyer_policies().into_iter();
    for (name, policy) in
        policies.filter(|(name, _)| matches!(*name, "foyer s3fifo" | "foyer sieve"))
    {
        for shards in [SHARDS, MANY_SHARDS] {
            let cache = foyer(CAPACITY * shards, shards, policy.clone());
            for (key, texture) in textures {
                cache.insert(*key, Arc::clone(texture));
            }
            let get = move |key| cache.get(&key).expect("resident").value().version();
            ways.push(way(format!("{name}, {shards} shards"), keys, get));
        }
    }
    ways
}

/// key → lease → drop at 1 and 2 threads. Of each peer the way that was fastest counts, with that number of threads.
pub fn hit() -> io::Result<Vec<Figure>> {
    let world = World::of((KEYS as u64 * 2 + 8) << 19)?;
    let indices = world.upload(KEYS, SMALL)?;
    world.warm(&indices)?;
    let textures: Result<Vec<_>, _> = indices
        .iter()
        .map(|&index| {
            let texture = world.runtime.block_on(world.flyweights.load_private(index));
            texture.map(|texture| (index, Arc::new(texture)))
        })
        .collect();
    let textures = textures.map_err(io::Error::other)?;
    let keys = sequence(&indices);
    let ours = |key| {
        let lease = world.flyweights.try_lease(key).ok().flatten();
        lease.expect("resident").version()
    };
    // The goals: no slower than quick_cache on one thread, half the time of the two others on two.
    let peers = [
        (
            "quick_cache",
            quick_ways(&keys, &textures),
            [Some(1.0), None],
        ),
        ("moka", moka_ways(&keys, &textures), [None, Some(0.5)]),
        ("foyer", foyer_ways(&keys, &textures), [None, Some(0.5)]),
    ];
    let (mut names, mut contenders) = (Vec::new(), Vec::new());
    contenders.push(way(String::new(), &keys, ours).1);
    let mut goals = Vec::new();
    for (peer, ways, goal) in peers {
        goals.push((peer, contenders.len()..contenders.len() + ways.len(), goal));
        for (name, contender) in ways {
            names.push(name);
            contenders.push(contender);
        }
    }
    let mut figures = Vec::new();
    for threads in [1, 2] {
        let times = nanoseconds(&contenders, threads);
        for (peer, range, goal) in &goals {
            let fastest = range.clone().min_by(|a, b| times[*a].total_cmp(&times[*b]));
            let fastest = fastest.expect("each peer has a way");
            let name = format!("flyweight hit, {threads} thread(s), against {peer}");
            let figure =
                Figure::new(name, "ns", times[0]).peer(&*names[fastest - 1], times[fastest]);
            figures.push(match goal[threads - 1] {
                Some(goal) => figure.goal(goal),
                None => figure,
            });
        }
    }
    Ok(figures)
}

/// One more lease of what is held, and its end; and that neither allocates.
pub fn lease() -> io::Result<Vec<Figure>> {
    let world = World::of(16 << 19)?;
    let index = world.upload(1, SMALL)?[0];
    let held = world.lease(index)?;
    let again = |_: usize, ops: usize| {
        for _ in 0..ops {
            drop(black_box(black_box(&held).clone()));
        }
    };
    let arc = Arc::new(0u64);
    let bare = |_: usize, ops: usize| {
        for _ in 0..ops {
            drop(black_box(Arc::clone(black_box(&arc))));
        }
    };
    let before = Heap::read()?;
    again(0, 100_000);
    for _ in 0..100_000 {
        black_box(world.flyweights.try_lease(index).ok());
    }
    let (requests, _) = Heap::read()?.since(&before);
    let times = nanoseconds(&[Contender::new(again), Contender::new(bare)], 1);
    let name = "lease on a held handle, clone and drop";
    Ok(vec![
        Figure::new(name, "ns", times[0]).goal(6.0),
        Figure::new(format!("{name}, against Arc"), "ns", times[0]).peer("std Arc", times[1]),
        // What reading the counters itself allocates is in it, hence not the bare 0 of a count per lease.
        Figure::new(
            "allocations per 1,000 leases, held and by index",
            "requests",
            requests as f64 / 200.0,
        )
        .goal(0.1),
    ])
}
