//! A lookup by id without a lock and one load however many ask, against a map behind a mutex that is filled by whoever
//! finds nothing.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use backdrop_service::flyweight::Texture;
use backdrop_service::store::Stored;
use parking_lot::Mutex;

use crate::rounds::{Contender, Random, in_turns, nanoseconds};
use crate::support::Figure;
use crate::world::{FULL_HD, MIB, SMALL, World, decode, id, ms_since, photograph};

const KEYS: usize = 256;
const CALLERS: usize = 16;
/// Turns of each side, where a turn starts from nothing.
const ROUNDS: usize = 7;

fn hits(world: &World, indices: &[u32]) -> io::Result<Vec<Figure>> {
    let ids: Vec<String> = (0..KEYS).map(id).collect();
    let textures: Result<HashMap<String, Arc<Texture>>, _> = indices
        .iter()
        .map(|&index| {
            let texture = world.runtime.block_on(world.flyweights.load_private(index));
            texture.map(|texture| (ids[index as usize].clone(), Arc::new(texture)))
        })
        .collect();
    let map = Mutex::new(textures.map_err(io::Error::other)?);
    let ask = |thread: usize, ops: usize| {
        let mut random = Random(thread as u64);
        let ids = &ids;
        (0..ops).map(move |_| ids[(random.next() % KEYS as u64) as usize].as_str())
    };
    let contenders = [
        Contender::new(|thread, ops| {
            for id in ask(thread, ops) {
                let index = world.flyweights.resolve(id).expect("it is there");
                let lease = world.flyweights.try_lease(index).ok().flatten();
                black_box(lease.expect("resident").version());
            }
        }),
        Contender::new(|thread, ops| {
            for id in ask(thread, ops) {
                let texture = map.lock().get(id).cloned().expect("resident");
                black_box(texture.version());
            }
        }),
    ];
    let figure = |threads| {
        let times = nanoseconds(&contenders, threads);
        let name = format!("lookup: hit by id, {threads} thread(s)");
        Figure::new(name, "ns", times[0]).peer("Mutex<HashMap<String, Arc>>", times[1])
    };
    Ok(vec![figure(1), figure(2), figure(16)])
}

/// Time to enter a new id into a catalogue of some thousand.
fn first_write() -> io::Result<Figure> {
    const ENTRIES: usize = 4_000;
    let world = World::of(8 * MIB)?;
    let index = world.upload(1, SMALL)?[0];
    let known = world.flyweights.identity(index).map_err(io::Error::other)?;
    let entry = |number: usize| Stored {
        id: id(number).into(),
        ..known.stored.clone()
    };
    let entries: Vec<Stored> = (1..ENTRIES).map(entry).collect();
    let each_us = |started: Instant| ms_since(started) * 1e3 / entries.len() as f64;
    let ours = || {
        let (world, entries) = (World::of(8 * MIB)?, entries.clone());
        let started = Instant::now();
        for entry in entries {
            let shown = world.flyweights.insert_or_replace(entry);
            shown.map_err(io::Error::other)?;
        }
        io::Result::Ok([each_us(started)])
    };
    let naive = || {
        let map: Mutex<HashMap<String, Stored>> = Mutex::default();
        let entries = entries.clone();
        let started = Instant::now();
        for entry in entries {
            map.lock().entry(entry.id.to_string()).or_insert(entry);
        }
        let each = each_us(started);
        black_box(&map);
        io::Result::Ok([each])
    };
    let ([ours], [naive]) = in_turns(ROUNDS, ours, naive)?;
    Ok(Figure::new("lookup: first write of an id", "µs", ours).peer("Mutex<HashMap>", naive))
}

/// Loads, and milliseconds until all have it, for callers that come at once and find nothing.
fn cold_naive(file: &[u8]) -> io::Result<[f64; 2]> {
    let map: Mutex<HashMap<String, Arc<Vec<u8>>>> = Mutex::default();
    let (loads, barrier) = (AtomicUsize::new(0), Barrier::new(CALLERS));
    let get = || {
        if let Some(found) = map.lock().get("beach").cloned() {
            return found;
        }
        // Not under the lock: a decode there would stop every other lookup.
        loads.fetch_add(1, Ordering::Relaxed);
        let pixels = decode(file).expect("decodes");
        Arc::clone(
            map.lock()
                .entry("beach".to_owned())
                .or_insert(Arc::new(pixels)),
        )
    };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                barrier.wait();
                black_box(get());
            });
        }
    });
    let took = ms_since(started);
    Ok([loads.load(Ordering::Relaxed) as f64, took])
}

fn cold_ours() -> io::Result<[f64; 2]> {
    let world = World::of(64 * MIB)?;
    let index = world.upload(1, FULL_HD)?[0];
    let loads = || world.metric("backdrop_flyweight_loads_total{result=\"ok\"}");
    let (before, barrier) = (loads()?, Barrier::new(CALLERS));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                barrier.wait();
                let soon = tokio::time::Instant::now() + Duration::from_secs(60);
                let leased = world.runtime.block_on(world.flyweights.lease(index, soon));
                black_box(leased.expect("loads"));
            });
        }
    });
    let took = ms_since(started);
    Ok([loads()? - before, took])
}

pub fn run() -> io::Result<Vec<Figure>> {
    let world = World::of((KEYS as u64 * 2 + 8) << 19)?;
    let indices = world.upload(KEYS, SMALL)?;
    world.warm(&indices)?;
    let mut figures = hits(&world, &indices)?;
    figures.push(first_write()?);
    let file = photograph(FULL_HD)?;
    let (cold, naive_cold) = in_turns(ROUNDS, cold_ours, || cold_naive(&file))?;
    let ([loads, ms], [naive_loads, naive_ms]) = (cold, naive_cold);
    let naive = "look, load, insert";
    figures.push(
        Figure::new("lookup: loads for 16 callers of a cold id", "loads", loads)
            .peer(naive, naive_loads),
    );
    figures.push(Figure::new("lookup: time until all 16 have it", "ms", ms).peer(naive, naive_ms));
    Ok(figures)
}
