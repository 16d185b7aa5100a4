//! Pixels shared and loaded once, against a decoded copy for every user. One pass of each side, the naive one first.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use backdrop_service::codec::Size;
use backdrop_service::metrics::Metrics;
use backdrop_service::sessions::{Sessions, SessionsConfig, TenantId};

use crate::counters::Heap;
use crate::support::{Figure, median};
use crate::world::{FULL_HD, MIB, World, decode, id, ms_since, photograph};

const BACKGROUNDS: usize = 16;
const FEW: usize = 64;
const MANY: u64 = 100_000;

/// What each user holds in the naive way: everything.
struct Own {
    user: u64,
    background: String,
    pixels: Vec<u8>,
    size: Size,
    crop: [f32; 4],
    alpha: f32,
}

fn own(user: u64, file: &[u8]) -> io::Result<Own> {
    Ok(Own {
        user,
        background: id(user as usize % BACKGROUNDS),
        pixels: decode(file)?,
        size: FULL_HD,
        crop: [0.0, 0.0, 1.0, 1.0],
        alpha: 1.0,
    })
}

/// Bytes for each of [`FEW`] users, and the median time until a further user has its background, in milliseconds.
fn naive() -> io::Result<(f64, f64)> {
    let file = photograph(FULL_HD)?;
    let before = Heap::read()?;
    let (mut users, mut times) = (Vec::new(), Vec::new());
    for user in 0..FEW as u64 {
        let started = Instant::now();
        users.push(own(user, &file)?);
        times.push(ms_since(started));
    }
    let (_, bytes) = Heap::read()?.since(&before);
    let own: usize = users
        .iter()
        .map(|own| own.pixels.len() + own.background.len() + own.crop.len())
        .sum();
    assert!(
        own > 0
            && users
                .iter()
                .all(|own| own.alpha > 0.0 && own.size == FULL_HD && own.user < FEW as u64)
    );
    Ok((bytes as f64 / FEW as f64, median(times)))
}

pub fn run() -> io::Result<Vec<Figure>> {
    let (naive_bytes, naive_ms) = naive()?;
    let world = World::of((BACKGROUNDS as u64 + 2) * 8 * MIB)?;
    let indices = world.upload(BACKGROUNDS, FULL_HD)?;
    let before = Heap::read()?;
    let config = SessionsConfig {
        sessions_max: MANY as u32,
    };
    let sessions = Sessions::new(
        config,
        Arc::clone(&world.budget),
        Arc::new(Metrics::default()),
    );
    let mut firsts = Vec::new();
    for &index in &indices {
        let started = Instant::now();
        drop(world.lease(index)?);
        firsts.push(ms_since(started));
    }
    let mut join = |user: u64| {
        let index = indices[user as usize % BACKGROUNDS];
        let session = sessions.create(TenantId(0), user, index);
        let lease = world.flyweights.try_lease(index).ok().flatten();
        session.is_ok() && lease.is_some()
    };
    assert!((0..FEW as u64).all(&mut join), "sixteen textures fit");
    let few_bytes = Heap::read()?.since(&before).1 as f64 / FEW as f64;
    let started = Instant::now();
    assert!((FEW as u64..MANY).all(&mut join), "all sessions fit");
    let each_ms = ms_since(started) / (MANY - FEW as u64) as f64;
    let many_bytes = Heap::read()?.since(&before).1 as f64 / MANY as f64;
    let (one, two) = (world.lease(indices[0])?, world.lease(indices[0])?);
    let shared = std::ptr::eq(one.pixels().row(0), two.pixels().row(0));
    let naive = "own decoded copy per user";
    Ok(vec![
        Figure::new(
            "sharing: bytes per user, 64 users on 16 backgrounds",
            "bytes",
            few_bytes,
        )
        .peer(naive, naive_bytes),
        Figure::new(
            "sharing: bytes per user, 100,000 users on 16 backgrounds",
            "bytes",
            many_bytes,
        )
        .peer("own decoded copy per user, as measured at 64", naive_bytes),
        Figure::new(
            "sharing: time until a further user has its background",
            "ms",
            each_ms,
        )
        .peer(naive, naive_ms),
        Figure::new("sharing: first load of a background", "ms", median(firsts))
            .peer(naive, naive_ms),
        Figure::new(
            "sharing: the same id is the same instance",
            "1 = yes",
            f64::from(u8::from(shared)),
        )
        .higher_is_better()
        .goal(1.0),
    ])
}
