//! A shrink from 4 GiB to 1 GiB with a tenth of the textures pinned and lookups going on.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backdrop_service::flyweight::{Lease, ShrinkReport};

use crate::counters::resident_bytes;
use crate::rounds::Random;
use crate::support::{Figure, median};
use crate::world::{FULL_HD, MIB, World, ms_since};

const TEXTURES: usize = 512;
const PINNED: usize = TEXTURES / 10;
const TARGET: u64 = 1024 * MIB;
const ROUNDS: usize = 3;
/// Time that resident memory has to fall, far beyond what it takes.
const FALLS_WITHIN: Duration = Duration::from_secs(30);

struct Pass {
    report: ShrinkReport,
    lookup_max: f64,
    lookup_max_at_rest: f64,
    fallen_after: f64,
    lost: usize,
}

/// Looks textures up until `stop`, and keeps the longest time of one lookup, in nanoseconds.
fn look_up(world: &World, indices: &[u32], stop: &AtomicBool, longest: &AtomicU64) {
    let mut random = Random(5);
    while !stop.load(Ordering::Relaxed) {
        let index = indices[(random.next() % indices.len() as u64) as usize];
        let started = Instant::now();
        // The pin alone: what is found is let go after the clock was read, as a render would hold it.
        let found = world.flyweights.try_lease(index);
        let took = started.elapsed().as_nanos() as u64;
        longest.fetch_max(took, Ordering::Relaxed);
        drop(found);
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "spans of a measurement, and the interval of a bounded poll"
)]
fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// Milliseconds from `started` until resident memory is at `bytes` or below; an error when that takes longer than
/// [`FALLS_WITHIN`].
fn watch(started: Instant, bytes: u64) -> io::Result<f64> {
    loop {
        let resident = resident_bytes();
        if resident <= bytes {
            return Ok(ms_since(started));
        }
        if started.elapsed() > FALLS_WITHIN {
            let seconds = FALLS_WITHIN.as_secs();
            let what = format!("{resident} bytes resident {seconds} s later, expected {bytes}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        pause(1);
    }
}

fn pass(world: &World, indices: &[u32]) -> io::Result<Pass> {
    world.warm(indices)?;
    let step = TEXTURES / PINNED;
    let pinned: io::Result<Vec<Lease>> = indices
        .iter()
        .step_by(step)
        .take(PINNED)
        .map(|&index| world.lease(index))
        .collect();
    let pinned = pinned?;
    let (stop, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let micros = |longest: &AtomicU64| longest.swap(0, Ordering::Relaxed) as f64 / 1e3;
    let freed = world.flyweights.held_bytes().saturating_sub(TARGET);
    // A little of what is freed may be in use again by the bookkeeping itself.
    let fallen = resident_bytes().saturating_sub(freed) + 16 * MIB;
    std::thread::scope(|scope| {
        scope.spawn(|| look_up(world, indices, &stop, &longest));
        // As long as a pass takes, without one.
        pause(50);
        longest.store(0, Ordering::Relaxed);
        pause(200);
        let lookup_max_at_rest = micros(&longest);
        let started = Instant::now();
        let watching = scope.spawn(move || watch(started, fallen));
        let report = world.flyweights.shrink_to(TARGET);
        let lookup_max = micros(&longest);
        let watched = watching.join();
        // Whatever came of it: the scope waits for the lookups to end.
        stop.store(true, Ordering::Relaxed);
        let fallen_after = watched.expect("a benchmark's thread")?;
        let lost = pinned.iter().filter(|lease| {
            let found = world.flyweights.try_lease(lease.index());
            !matches!(found, Ok(Some(found)) if std::ptr::eq(found.pixels().row(0), lease.pixels().row(0)))
        });
        Ok(Pass {
            report,
            lookup_max,
            lookup_max_at_rest,
            fallen_after,
            lost: lost.count(),
        })
    })
}

pub fn shrink() -> io::Result<Vec<Figure>> {
    let world = World::of((TEXTURES as u64 + 1) * 8 * MIB)?;
    let indices = world.upload(TEXTURES, FULL_HD)?;
    let passes: Result<Vec<Pass>, _> = (0..ROUNDS).map(|_| pass(&world, &indices)).collect();
    let passes = passes?;
    let middle = |value: &dyn Fn(&Pass) -> f64| median(passes.iter().map(value).collect());
    let freed = middle(&|pass| pass.report.freed_bytes as f64 / MIB as f64);
    let lost: usize = passes.iter().map(|pass| pass.lost).sum();
    let kept = passes
        .iter()
        .map(|pass| pass.report.pinned)
        .min()
        .unwrap_or(0);
    let name = |what: &str| format!("shrink 4 to 1 GiB, a tenth pinned: {what}");
    Ok(vec![
        Figure::new(
            name("unlink pass"),
            "ms",
            middle(&|pass| pass.report.unlink.as_secs_f64() * 1e3),
        )
        .goal(1.0),
        Figure::new(
            name("concurrent lookup, maximum"),
            "µs",
            middle(&|pass| pass.lookup_max),
        )
        .goal(50.0),
        Figure::new(
            name("concurrent lookup, against none going on"),
            "µs",
            middle(&|pass| pass.lookup_max),
        )
        .peer(
            "maximum of 200 ms without a shrink",
            middle(&|pass| pass.lookup_max_at_rest),
        ),
        Figure::new(name("pinned textures lost"), "textures", lost as f64).goal(0.0),
        Figure::new(name("pinned textures kept"), "textures", kept as f64)
            .higher_is_better()
            .goal(PINNED as f64),
        Figure::new(name("freed"), "MiB", freed),
        Figure::new(
            name("time until resident memory has fallen"),
            "ms",
            middle(&|pass| pass.fallen_after),
        ),
        Figure::new(
            name("whole pass"),
            "ms",
            middle(&|pass| pass.report.duration.as_secs_f64() * 1e3),
        ),
    ])
}
