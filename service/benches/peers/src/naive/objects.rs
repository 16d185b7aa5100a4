//! What 500,000 users who join, and as many switches after that, make on the heap: records of a table that are changed in place,
//! against an object for each user.
//!
//! Counts of requests and bytes, not times, from one pass of each side. Either table has room for all from the start.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use backdrop_service::codec::Format;
use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::Metrics;
use backdrop_service::sessions::{Sessions, SessionsConfig, TenantId};

use crate::counters::Heap;
use crate::support::Figure;
use crate::world::id;

const CALLS: u64 = 500_000;
const BACKGROUNDS: u64 = 16;

/// The naive object of one user's background: what is the user's, and what is the picture's, in one.
struct Background {
    id: String,
    format: Format,
    size: (u32, u32),
    crop: [f32; 4],
    alpha: f32,
}

impl Background {
    fn of(number: u64) -> Self {
        Self {
            id: id(number as usize),
            format: Format::Jpeg,
            size: (1920, 1080),
            crop: [0.0, 0.0, 1.0, 1.0],
            alpha: 1.0,
        }
    }

    fn weight(&self) -> usize {
        self.id.len()
            + self.format.name().len()
            + self.crop.len()
            + (self.alpha as usize)
            + self.size.0 as usize
    }
}

/// What one side did: requests to the allocator while users joined and while they switched, and bytes held after that.
struct Counts {
    joins: f64,
    switches: f64,
    bytes: f64,
}

impl Counts {
    fn between(before: &Heap, joined: &Heap, after: &Heap) -> Self {
        Self {
            joins: joined.since(before).0 as f64,
            switches: after.since(joined).0 as f64,
            bytes: after.since(before).1 as f64,
        }
    }
}

/// Background of a user at first, and after a switch.
fn first(user: u64) -> u64 {
    user % BACKGROUNDS
}

fn next(user: u64) -> u64 {
    (user + 1) % BACKGROUNDS
}

fn naive() -> io::Result<Counts> {
    let before = Heap::read()?;
    let mut users: HashMap<u64, Box<Background>> = HashMap::with_capacity(CALLS as usize);
    for user in 0..CALLS {
        users.insert(user, Box::new(Background::of(first(user))));
    }
    let joined = Heap::read()?;
    for user in 0..CALLS {
        // What the user had goes.
        users.insert(user, Box::new(Background::of(next(user))));
    }
    let after = Heap::read()?;
    assert!(users.values().all(|background| background.weight() > 0));
    Ok(Counts::between(&before, &joined, &after))
}

fn ours() -> io::Result<Counts> {
    // The callers' list of names is not the service's.
    let mut names = Vec::with_capacity(CALLS as usize);
    let before = Heap::read()?;
    let config = SessionsConfig {
        sessions_max: CALLS as u32,
    };
    let budget = Budget::new(BudgetConfig::default());
    let sessions = Sessions::new(config, budget, Arc::new(Metrics::default()));
    for user in 0..CALLS {
        let session = sessions.create(TenantId(0), user, first(user) as u32);
        names.push(session.map_err(io::Error::other)?);
    }
    let joined = Heap::read()?;
    for (user, &session) in (0..CALLS).zip(&names) {
        sessions
            .switch(session, TenantId(0), next(user) as u32)
            .map_err(io::Error::other)?;
    }
    let after = Heap::read()?;
    Ok(Counts::between(&before, &joined, &after))
}

pub fn run() -> io::Result<Vec<Figure>> {
    // Once for nothing: the first reading of the statistics allocates.
    Heap::read()?;
    let (ours, naive) = (ours()?, naive()?);
    let peer = "an object per user";
    Ok(vec![
        Figure::new(
            "session objects: made by 500,000 switches",
            "objects",
            ours.switches,
        )
        .peer(peer, naive.switches),
        Figure::new(
            "session objects: made by 500,000 users who join",
            "objects",
            ours.joins,
        )
        .peer(peer, naive.joins),
        Figure::new(
            "session objects: bytes held for 500,000 users",
            "bytes",
            ours.bytes,
        )
        .peer(peer, naive.bytes),
    ])
}
