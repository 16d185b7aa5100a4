//! The order in which textures are evicted. A policy knows no locks, and the locks know no policy.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is remembered of a slot's use. It outlives the texture: slots stay when pixels go.
#[derive(Debug, Default)]
pub struct History {
    last_used: AtomicU64,
    uses: AtomicU64,
}

impl History {
    /// Notes an access at `tick` of the shared clock.
    pub fn touch(&self, tick: u64) {
        // Two accesses may store in the other order; they then lie nanoseconds apart, and either order is a true one.
        self.last_used.store(tick, Ordering::Relaxed);
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    /// Tick of the latest access.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Accesses so far.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }
}

/// Ranks textures; the lowest rank goes first.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Name, for the log.
    fn name(&self) -> &'static str;
    /// Rank of a texture with this history.
    fn rank(&self, history: &History) -> u64;
}

/// Least recently used first. Exact: every access takes a tick of one clock, and the true minimum is evicted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lru;

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn rank(&self, history: &History) -> u64 {
        history.last_used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lru_ranks_by_the_latest_access_only() {
        let (old, new) = (History::default(), History::default());
        for tick in 1..=9 {
            old.touch(tick);
        }
        new.touch(10);
        assert!(Lru.rank(&old) < Lru.rank(&new));
        assert_eq!((old.uses(), new.uses()), (9, 1));
        old.touch(11);
        assert!(Lru.rank(&old) > Lru.rank(&new));
    }
}
