//! The frame pool: taking and giving back an idle block, and what it saves over a run of loads that push each other out.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backdrop_service::flyweight::pool::{Pool, PoolConfig};
use backdrop_service::memory::arena::Arena;
use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::Metrics;
use parking_lot::Mutex;

use crate::counters::page_faults;
use crate::rounds::{Contender, Random, Zipf, nanoseconds};
use crate::support::Figure;
use crate::world::{FULL_HD, MIB, World, decode, ms_since, photograph};

/// A pool with room for `bytes`.
pub fn pool(bytes: u64) -> io::Result<Arc<Pool>> {
    let budget = Budget::new(BudgetConfig {
        ceiling: bytes,
        headroom_max: 0,
        ..BudgetConfig::default()
    });
    let arena = Arena::new().map_err(io::Error::other)?;
    Ok(Pool::new(
        arena,
        budget,
        Arc::new(Metrics::default()),
        PoolConfig::default(),
    ))
}

/// Runs a future that never has to wait. Inlined, as an `await` is: to move it into a call would cost more than what it does.
#[inline(always)]
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::noop();
    match future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker))
    {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("there is room, so nothing to wait for"),
    }
}

/// Takes an idle block and gives it back.
pub fn take_and_give(pool: &Arc<Pool>, ops: usize) {
    for _ in 0..ops {
        let ticket = at_once(pool.acquire(FULL_HD.bytes(), Duration::ZERO)).expect("room");
        black_box(&ticket.realise().expect("an idle block"));
    }
}

pub fn acquire() -> io::Result<Vec<Figure>> {
    let pool = pool(64 * MIB)?;
    let lock = Mutex::new(0u64);
    let turns = [
        Contender::new(|_, ops| take_and_give(&pool, ops)),
        // What the lock of a class costs, which is taken once for either way.
        Contender::new(|_, ops| (0..2 * ops).for_each(|_| *black_box(&lock).lock() += 1)),
    ];
    let mut figures = Vec::new();
    for threads in [1, 2] {
        let times = nanoseconds(&turns, threads);
        let name = format!("frame pool acquire + release, {threads} thread(s)");
        let figure = Figure::new(&*name, "ns", times[0]);
        figures.push(match threads {
            1 => figure.goal(10.0),
            _ => figure,
        });
        let locks = Figure::new(format!("{name}, against two locks"), "ns", times[0]);
        figures.push(locks.peer("parking_lot", times[1]));
    }
    Ok(figures)
}

/// Textures that fit, backgrounds that are asked for, and accesses.
const FITS: usize = 16;
const BACKGROUNDS: usize = 64;
const ACCESSES: usize = 400;

/// The naive way: each load decodes into a buffer of its own, which goes when its turn has come.
fn fresh_buffers(order: &[u32]) -> io::Result<(u64, usize, f64)> {
    let file = photograph(FULL_HD)?;
    let mut cache: HashMap<u32, (usize, Vec<u8>)> = HashMap::new();
    let (faults, started, mut loads) = (page_faults(), Instant::now(), 0);
    for (at, &key) in order.iter().enumerate() {
        if let Some((used, _)) = cache.get_mut(&key) {
            *used = at;
            continue;
        }
        if cache.len() == FITS {
            let oldest = cache
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(&key, _)| key);
            oldest.map(|oldest| cache.remove(&oldest));
        }
        cache.insert(key, (at, decode(&file)?));
        loads += 1;
    }
    Ok((page_faults() - faults, loads, ms_since(started)))
}

/// One pass of each side, ours first.
pub fn churn() -> io::Result<Vec<Figure>> {
    let (zipf, mut random) = (Zipf::new(BACKGROUNDS, 0.8), Random(11));
    let order: Vec<u32> = (0..ACCESSES)
        .map(|_| zipf.draw(&mut random) as u32)
        .collect();
    let world = World::of(FITS as u64 * 8 * MIB)?;
    let indices = world.upload(BACKGROUNDS, FULL_HD)?;
    let count = |what: &str, result: &str| {
        let series = format!("backdrop_pool_{what}_total{{result=\"{result}\"}}");
        world.metric(&series)
    };
    let all = || {
        io::Result::Ok([
            count("acquires", "reused")?,
            count("acquires", "grown")?,
            count("acquires", "direct")?,
            // Each new block counts once, whether or not the kernel gave its pages at once.
            count("populates", "populated")? + count("populates", "refused")?,
        ])
    };
    let (before, faults, started) = (all()?, page_faults(), Instant::now());
    for &key in &order {
        drop(world.lease(indices[key as usize])?);
    }
    let (faults, took) = (page_faults() - faults, ms_since(started));
    let now = all()?;
    let [reused, grown, direct, populated] = [0, 1, 2, 3].map(|at| now[at] - before[at]);
    let loads = reused + grown + direct;
    let (naive_faults, naive_loads, naive_took) = fresh_buffers(&order)?;
    let per = |faults: u64, loads: f64| faults as f64 / loads;
    let naive = "fresh buffer per load";
    Ok(vec![
        Figure::new(
            "pool churn: page faults per load",
            "faults",
            per(faults, loads),
        )
        .peer(naive, per(naive_faults, naive_loads as f64)),
        Figure::new("pool churn: time per load", "ms", took / loads)
            .peer(naive, naive_took / naive_loads as f64),
        Figure::new(
            "pool churn: share of loads into a reused block",
            "share",
            reused / loads,
        )
        .higher_is_better()
        .goal(0.89),
        Figure::new("pool churn: blocks populated", "blocks", populated).goal(FITS as f64),
    ])
}
