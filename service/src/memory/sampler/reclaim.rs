//! The other thread: gives memory back on demand, which may take milliseconds, while sampling goes on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::super::governor::Reclaim;
use super::Shared;

/// What is to be given back, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    reclaim: Reclaim,
    since: Instant,
}

/// Hands a demand to the reclaim thread; demands that it has not taken yet are joined.
pub(super) fn post(shared: &Shared, reclaim: Reclaim) {
    let mut slot = shared.mailbox.0.lock();
    *slot = Some(match *slot {
        Some(Demand {
            reclaim: waiting,
            since,
        }) => Demand {
            reclaim: Reclaim {
                to_bytes: waiting.to_bytes.min(reclaim.to_bytes),
                purge: waiting.purge || reclaim.purge,
            },
            since,
        },
        None => Demand {
            reclaim,
            since: Instant::now(),
        },
    });
    drop(slot);
    shared.reclaims.fetch_add(1, Ordering::Relaxed);
    shared.mailbox.1.notify_one();
}

/// Meets demands until told to stop.
pub(super) fn run(shared: &Shared) {
    loop {
        let mut slot = shared.mailbox.0.lock();
        let Demand { reclaim, since } = loop {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            match slot.take() {
                Some(demand) => break demand,
                None => shared.mailbox.1.wait(&mut slot),
            }
        };
        drop(slot);
        // Idle blocks first: they cost nobody anything, and with luck no texture has to go.
        (shared.hooks.trim)();
        (shared.hooks.shrink)(reclaim.to_bytes);
        (shared.hooks.trim)();
        // Usage has fallen. A purge takes longer, and what it returns is no texture's; a demand that must wait for it says so.
        note_pass(shared, since.elapsed());
        if reclaim.purge {
            (shared.hooks.purge)();
        }
    }
}

fn note_pass(shared: &Shared, took: Duration) {
    let mut passes = shared.passes.lock();
    let first_slow = took > shared.config.fall && passes.longest <= shared.config.fall;
    passes.count += 1;
    passes.last = took;
    passes.longest = passes.longest.max(took);
    drop(passes);
    if first_slow {
        tracing::warn!(
            took_ms = took.as_secs_f64() * 1e3,
            fall_ms = shared.config.fall.as_secs_f64() * 1e3,
            "giving memory back took longer than the reaction bound assumes"
        );
    }
}
