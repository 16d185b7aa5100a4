//! A hit: key → lease → drop, on the same keys for everybody; and a further lease on a handle that is held.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::flyweight::Texture;

use crate::counters::Heap;
use crate::peers::{foyer, foyer_policies, moka, quick};
use crate::rounds::{Contender, Random, Zipf, nanoseconds};
use crate::support::Figure;
use crate::world::{SMALL, World};

/// Resident textures; all fit, so that nobody evicts.
const KEYS: usize = 256;
const CAPACITY: usize = 512;
const SEQUENCE: usize = 1 << 16;

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

fn contenders<'a>(
    world: &'a World,
    keys: &'a [u32],
    textures: &[(u32, Arc<Texture>)],
) -> Vec<Contender<'a>> {
    let ours = Contender::new(move |thread, ops| {
        for key in asked(keys, thread, ops) {
            let lease = world.flyweights.try_lease(key).ok().flatten();
            black_box(lease.expect("resident").version());
        }
    });
    let cache = quick(CAPACITY, 0);
    textures
        .iter()
        .for_each(|(key, texture)| cache.insert(*key, Arc::clone(texture)));
    let quick = Contender::new(move |thread, ops| {
        for key in asked(keys, thread, ops) {
            black_box(cache.get(&key).expect("resident").version());
        }
    });
    let cache = moka(CAPACITY);
    textures
        .iter()
        .for_each(|(key, texture)| cache.insert(*key, Arc::clone(texture)));
    cache.run_pending_tasks();
    let moka = Contender::new(move |thread, ops| {
        for key in asked(keys, thread, ops) {
            black_box(cache.get(&key).expect("resident").version());
        }
    });
    let mut all = vec![ours, quick, moka];
    // Of foyer's policies these two hit without an exclusive lock; the faster one counts.
    for (name, policy) in foyer_policies() {
        if !name.ends_with("s3fifo") && !name.ends_with("sieve") {
            continue;
        }
        let cache = foyer(CAPACITY, 8, policy);
        for (key, texture) in textures {
            cache.insert(*key, Arc::clone(texture));
        }
        all.push(Contender::new(move |thread, ops| {
            for key in asked(keys, thread, ops) {
                black_box(cache.get(&key).expect("resident").value().version());
            }
        }));
    }
    all
}

/// key → lease → drop at 1 and 2 threads.
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
    let contenders = contenders(&world, &keys, &textures);
    let mut figures = Vec::new();
    for threads in [1, 2] {
        let times = nanoseconds(&contenders, threads);
        let foyer = times[3].min(times[4]);
        let figure = |peer: &str, time: f64| {
            let name = format!("flyweight hit, {threads} thread(s), against {peer}");
            Figure::new(name, "ns", times[0]).peer(peer, time)
        };
        let peers = [
            figure("quick_cache", times[1]),
            figure("moka", times[2]),
            figure("foyer", foyer),
        ];
        // The goals: no slower than quick_cache on one thread, half the time of the two others on two.
        figures.extend(
            peers
                .into_iter()
                .enumerate()
                .map(|(at, figure)| match (threads, at) {
                    (1, 0) => figure.goal(1.0),
                    (2, 1 | 2) => figure.goal(0.5),
                    _ => figure,
                }),
        );
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
