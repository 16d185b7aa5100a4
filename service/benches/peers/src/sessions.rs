//! What one session costs, everything included.

use std::io;
use std::sync::Arc;

use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::Metrics;
use backdrop_service::sessions::{NO_FLYWEIGHT, Sessions, SessionsConfig, TenantId};

use crate::counters::{Heap, resident_bytes};
use crate::support::Figure;

const SESSIONS: u32 = 1_200_000;

pub fn bytes_per_session() -> io::Result<Vec<Figure>> {
    let budget = Budget::new(BudgetConfig::default());
    let before = Heap::read()?;
    let resident = resident_bytes();
    let config = SessionsConfig {
        sessions_max: SESSIONS,
    };
    let sessions = Sessions::new(config, Arc::clone(&budget), Arc::new(Metrics::default()));
    let mut creation = sessions.creation(TenantId(0), None);
    for user in 0..u64::from(SESSIONS) {
        creation
            .create(user, NO_FLYWEIGHT)
            .map_err(io::Error::other)?;
    }
    drop(creation);
    let (_, bytes) = Heap::read()?.since(&before);
    let resident = resident_bytes().saturating_sub(resident) as f64;
    let each = |bytes: f64| bytes / f64::from(SESSIONS);
    let figures = vec![
        Figure::new(
            "bytes per session, by the allocator",
            "bytes",
            each(bytes as f64),
        )
        .goal(64.0),
        Figure::new("bytes per session, resident", "bytes", each(resident)).goal(64.0),
    ];
    drop(sessions);
    Ok(figures)
}
