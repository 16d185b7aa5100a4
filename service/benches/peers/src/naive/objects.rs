//! What 500,000 switches leave on the heap: records of a table that are changed in place, against an object for each user.
//!
//! Counts of requests and bytes, not times, from one pass of each side.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use backdrop_service::codec::Format;
use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::Metrics;
use backdrop_service::sessions::{NO_FLYWEIGHT, Sessions, SessionsConfig, TenantId};

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

/// Requests to the allocator during the calls, and bytes held after them.
fn naive() -> io::Result<(f64, f64)> {
    let before = Heap::read()?;
    let mut users: HashMap<u64, Box<Background>> = HashMap::with_capacity(CALLS as usize);
    let calls = Heap::read()?;
    for user in 0..CALLS {
        users.insert(user, Box::new(Background::of(user % BACKGROUNDS)));
    }
    let after = Heap::read()?;
    assert!(users.values().all(|background| background.weight() > 0));
    Ok((after.since(&calls).0 as f64, after.since(&before).1 as f64))
}

fn ours() -> io::Result<(f64, f64)> {
    let before = Heap::read()?;
    let config = SessionsConfig {
        sessions_max: CALLS as u32,
    };
    let budget = Budget::new(BudgetConfig::default());
    let sessions = Sessions::new(config, budget, Arc::new(Metrics::default()));
    let made: Result<Vec<_>, _> = (0..CALLS)
        .map(|user| sessions.create(TenantId(0), user, NO_FLYWEIGHT))
        .collect();
    let made = made.map_err(io::Error::other)?;
    let calls = Heap::read()?;
    for (call, &session) in made.iter().enumerate() {
        let index = call as u32 % BACKGROUNDS as u32;
        sessions
            .switch(session, TenantId(0), index)
            .map_err(io::Error::other)?;
    }
    let after = Heap::read()?;
    // The callers' list of names is not the service's.
    let names = (made.capacity() * size_of_val(&made[0])) as f64;
    Ok((
        after.since(&calls).0 as f64,
        after.since(&before).1 as f64 - names,
    ))
}

pub fn run() -> io::Result<Vec<Figure>> {
    // Once for nothing: the first reading of the statistics allocates.
    Heap::read()?;
    let ((requests, bytes), (naive_requests, naive_bytes)) = (ours()?, naive()?);
    let naive = "an object per user";
    Ok(vec![
        Figure::new(
            "session objects: made by 500,000 switches",
            "objects",
            requests,
        )
        .peer(naive, naive_requests),
        Figure::new(
            "session objects: bytes held for 500,000 users",
            "bytes",
            bytes,
        )
        .peer(naive, naive_bytes),
    ])
}
