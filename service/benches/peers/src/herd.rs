//! A herd: 10,000 callers at once on one cold background.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Figure, median};
use crate::world::{FULL_HD, MIB, World};

const HERD: usize = 10_000;
const ROUNDS: usize = 7;

/// Loads, the load's own time, the first and the last caller's wait, in milliseconds.
struct Stampede {
    loads: f64,
    load: f64,
    first: f64,
    last: f64,
}

fn stampede(world: &World, index: u32) -> io::Result<Stampede> {
    let series = |name: &str| world.metric(name);
    let loads = || series("backdrop_flyweight_loads_total{result=\"ok\"}");
    let seconds = || series("backdrop_flyweight_load_duration_seconds_sum");
    world.flyweights.shrink_to(0);
    let (loads_before, seconds_before) = (loads()?, seconds()?);
    let started = Instant::now();
    let waits = world.runtime.block_on(async {
        let herd: Vec<_> = (0..HERD)
            .map(|_| {
                let flyweights = Arc::clone(&world.flyweights);
                tokio::spawn(async move {
                    let soon = tokio::time::Instant::now() + Duration::from_secs(60);
                    let lease = flyweights.lease(index, soon).await;
                    lease.map(|_| started.elapsed().as_secs_f64() * 1e3)
                })
            })
            .collect();
        let mut waits = Vec::with_capacity(HERD);
        for caller in herd {
            let wait = caller.await.map_err(io::Error::other)?;
            waits.push(wait.map_err(io::Error::other)?);
        }
        io::Result::Ok(waits)
    })?;
    Ok(Stampede {
        loads: loads()? - loads_before,
        load: (seconds()? - seconds_before) * 1e3,
        first: waits.iter().copied().fold(f64::INFINITY, f64::min),
        last: waits.iter().copied().fold(0.0, f64::max),
    })
}

pub fn herd() -> io::Result<Vec<Figure>> {
    let world = World::of(64 * MIB)?;
    let index = world.upload(1, FULL_HD)?[0];
    stampede(&world, index)?;
    let rounds: Result<Vec<Stampede>, _> = (0..ROUNDS).map(|_| stampede(&world, index)).collect();
    let rounds = rounds?;
    let middle = |value: fn(&Stampede) -> f64| median(rounds.iter().map(value).collect());
    let (load, first) = (middle(|round| round.load), middle(|round| round.first));
    let extra = middle(|round| (round.last - round.load) * 1e3 / HERD as f64);
    let loads = rounds.iter().map(|round| round.loads).fold(0.0, f64::max);
    Ok(vec![
        Figure::new("herd of 10,000: loads", "loads", loads).goal(1.0),
        Figure::new("herd of 10,000: first waiter", "ms", first)
            .peer("the load itself", load)
            .goal(1.05),
        Figure::new(
            "herd of 10,000: last waiter beyond the load, per waiter",
            "µs",
            extra,
        )
        .goal(2.0),
        Figure::new(
            "herd of 10,000: last waiter",
            "ms",
            middle(|round| round.last),
        )
        .peer("the load itself", load),
    ])
}
