//! The order in which textures are evicted. A policy knows no locks, and the locks know no policy.
//!
//! What a policy remembers of a slot lies in the slot's [`History`] and outlives the texture, so that a background that comes back
//! is no stranger. Accesses are numbered by one clock, and that number, the *tick*, is the only time there is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What is remembered of a slot's use. It outlives the texture: slots stay when pixels go.
#[derive(Debug, Default)]
pub struct History {
    last_used: AtomicU64,
    score: AtomicU64,
}

impl History {
    /// Tick of the latest access; 0 before the first.
    pub fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Notes an access at `tick`.
    #[inline]
    fn use_at(&self, tick: u64) {
        // Two accesses may store in the other order. They then happened at the same time, as long as a thread may be kept waiting
        // between its tick and this line; to compare before the store would make every hit dearer for that.
        self.last_used.store(tick, Ordering::Relaxed);
    }
}

/// Ranks textures; the lowest rank goes first.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Which one it is.
    fn eviction(&self) -> Eviction;
    /// Notes an access at `tick` of the shared clock, with `resident` textures in memory. Neither lock nor allocation: this is on the
    /// path of a hit.
    fn touch(&self, history: &History, tick: u64, resident: u64);
    /// Rank of a texture with this history. An access raises it, but for one that was kept waiting while others noted theirs.
    fn rank(&self, history: &History) -> u64;
}

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// [`Lru`].
    #[default]
    Lru,
    /// [`Lrfu`].
    Lrfu,
}

impl Eviction {
    /// Every policy, the default first.
    pub const ALL: [Self; 2] = [Self::Lru, Self::Lrfu];

    /// Name, for settings and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::Lrfu => "lrfu",
        }
    }

    /// The policy itself.
    pub fn policy(self) -> Chosen {
        match self {
            Self::Lru => Chosen::Lru(Lru),
            Self::Lrfu => Chosen::Lrfu(Lrfu::default()),
        }
    }
}

/// One of the policies, without the indirect call of a trait object, which would be a noticeable part of a hit.
#[derive(Debug)]
pub enum Chosen {
    /// Least recently used.
    Lru(Lru),
    /// Least recently and frequently used.
    Lrfu(Lrfu),
}

impl Policy for Chosen {
    fn eviction(&self) -> Eviction {
        match self {
            Self::Lru(policy) => policy.eviction(),
            Self::Lrfu(policy) => policy.eviction(),
        }
    }

    #[inline]
    fn touch(&self, history: &History, tick: u64, resident: u64) {
        match self {
            Self::Lru(policy) => policy.touch(history, tick, resident),
            Self::Lrfu(policy) => policy.touch(history, tick, resident),
        }
    }

    fn rank(&self, history: &History) -> u64 {
        match self {
            Self::Lru(policy) => policy.rank(history),
            Self::Lrfu(policy) => policy.rank(history),
        }
    }
}

/// Least recently used first. Exact, as far as accesses at the same time have an order: every access takes a tick of one clock, and
/// the true minimum is evicted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lru;

impl Policy for Lru {
    fn eviction(&self) -> Eviction {
        Eviction::Lru
    }

    #[inline]
    fn touch(&self, history: &History, tick: u64, _: u64) {
        history.use_at(tick);
    }

    fn rank(&self, history: &History) -> u64 {
        history.last_used()
    }
}

/// Least recently and frequently used first (Lee et al., "LRFU: A Spectrum of Policies", 2001): each access weighs half as much for
/// every half-life that has passed since, and the lowest sum of weights goes. One access weighs little beside a history of many, so
/// a scan evicts itself; and what nobody asks for any more fades, so a change of what is popular is followed.
///
/// The sum changes with time, the order does not. So not the sum is kept but the *score*: the tick at which a single access would
/// weigh as much as all of them do. With half-life `h`, an access at tick `t` makes of score `r`
/// `max(r, t) + h * log2(1 + 2^(-|r - t| / h))`; the logarithm comes out of a table, and `h` is a power of two, so that this takes
/// shifts and additions only.
///
/// When the cache shrinks, so does the half-life, and what was popular before would be ahead by more than anything can now reach.
/// So a rank counts no more of a lead over the latest access than the present half-life can bring about.
#[derive(Debug)]
pub struct Lrfu {
    gain: Box<[u64; GAINS]>,
    /// Binary logarithm of the half-life at the latest access to anything.
    half_life_log2: AtomicU32,
}

/// Half-life in accesses, for each resident texture, before it is rounded up to a power of two. Chosen by measurement: half of it
/// loses a hit in a hundred under Zipf's law with or without scans, twice as much loses more when what is popular changes.
const HALF_LIFE: u64 = 12;
/// Steps of the table for each half-life.
const STEPS: u32 = 16;
/// Entries of the table: beyond 16 half-lives the gain is nothing.
const GAINS: usize = 256;
/// Fractional bits of an entry.
const FRACTION: u32 = 16;

impl Default for Lrfu {
    fn default() -> Self {
        let mut gain = Box::new([0; GAINS]);
        for (step, gain) in gain.iter_mut().enumerate() {
            // Between two steps the value in the middle is the fairest.
            let half_lives = (step as f64 + 0.5) / f64::from(STEPS);
            *gain = ((1.0 + (-half_lives).exp2()).log2() * f64::from(1u32 << FRACTION)) as u64;
        }
        let half_life_log2 = AtomicU32::new(Self::half_life_log2(0));
        Self {
            gain,
            half_life_log2,
        }
    }
}

impl Lrfu {
    /// Binary logarithm of the half-life.
    fn half_life_log2(resident: u64) -> u32 {
        // Within these bounds nothing below can overflow.
        (resident.clamp(8, 1 << 24) * HALF_LIFE)
            .next_power_of_two()
            .ilog2()
    }

    /// Most ticks that a score can be ahead of the latest access: with one at every tick the weights sum up to 1.44 half-lives.
    fn lead_max(half_life_log2: u32) -> u64 {
        (u64::from(half_life_log2) + 1) << half_life_log2
    }

    fn add(&self, score: u64, tick: u64, half_life_log2: u32) -> u64 {
        if score == 0 {
            return tick;
        }
        let step = score.abs_diff(tick) >> (half_life_log2 - STEPS.ilog2());
        let gain = self.gain.get(step as usize).copied().unwrap_or(0);
        score.max(tick) + (gain << half_life_log2 >> FRACTION)
    }
}

impl Policy for Lrfu {
    fn eviction(&self) -> Eviction {
        Eviction::Lrfu
    }

    fn touch(&self, history: &History, tick: u64, resident: u64) {
        history.use_at(tick);
        let half_life_log2 = Self::half_life_log2(resident);
        if self.half_life_log2.load(Ordering::Relaxed) != half_life_log2 {
            self.half_life_log2.store(half_life_log2, Ordering::Relaxed);
        }
        let before = history.score.load(Ordering::Relaxed);
        let score = self.add(before, tick, half_life_log2);
        let (set, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        // Of two accesses at the same moment one may be lost: a little less weight, once.
        let _ = history.score.compare_exchange(before, score, set, seen);
    }

    fn rank(&self, history: &History) -> u64 {
        let half_life_log2 = self.half_life_log2.load(Ordering::Relaxed);
        let latest = history.last_used();
        let score = history.score.load(Ordering::Relaxed);
        score.min(latest.saturating_add(Self::lead_max(half_life_log2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_one_to_one_with_policies() {
        for eviction in Eviction::ALL {
            assert_eq!(eviction.policy().eviction(), eviction);
        }
        assert_eq!(Eviction::default(), Eviction::ALL[0]);
    }

    #[test]
    fn lru_ranks_by_the_latest_access_only() {
        let (old, new) = (History::default(), History::default());
        for tick in 1..=9 {
            Lru.touch(&old, tick, 2);
        }
        Lru.touch(&new, 10, 2);
        assert!(Lru.rank(&old) < Lru.rank(&new));
        Lru.touch(&old, 11, 2);
        assert!(Lru.rank(&old) > Lru.rank(&new));
    }

    #[test]
    fn many_accesses_outrank_one_later_access_until_they_fade() {
        let (policy, resident) = (Lrfu::default(), 16);
        let popular = History::default();
        for tick in (1..=200).step_by(10) {
            policy.touch(&popular, tick, resident);
        }
        let once_at = |tick| {
            let once = History::default();
            policy.touch(&once, tick, resident);
            once
        };
        assert!(policy.rank(&once_at(201)) < policy.rank(&popular), "a scan");
        let half_life = 1 << Lrfu::half_life_log2(resident);
        // Twenty accesses are less than five doublings of one.
        let much_later = once_at(200 + 5 * half_life);
        assert!(
            policy.rank(&much_later) > policy.rank(&popular),
            "popular no more"
        );
    }

    #[test]
    fn what_was_popular_in_a_larger_cache_fades_at_the_pace_of_a_smaller_one() {
        let (policy, old) = (Lrfu::default(), History::default());
        for tick in 1..=50_000 {
            policy.touch(&old, tick, 5_000);
        }
        let (log2, new) = (Lrfu::half_life_log2(8), History::default());
        assert!(policy.rank(&old) > 50_000 + Lrfu::lead_max(log2));
        policy.touch(&new, 50_001 + Lrfu::lead_max(log2), 8);
        assert!(policy.rank(&old) < policy.rank(&new));
    }

    /// The sum of weights itself, at the time of the latest access.
    fn score_of(ticks: &[u64], half_life: f64) -> f64 {
        let last = ticks[ticks.len() - 1] as f64;
        let weight = |&tick: &u64| ((tick as f64 - last) / half_life).exp2();
        last + half_life * ticks.iter().map(weight).sum::<f64>().log2()
    }

    proptest! {
        #[test]
        fn a_score_is_the_sum_of_weights(steps in prop::collection::vec(1u64..2_000, 1..200), resident in 1u64..5_000) {
            let policy = Lrfu::default();
            let history = History::default();
            let mut ticks = Vec::new();
            for step in steps {
                ticks.push(ticks.last().copied().unwrap_or(0) + step);
                policy.touch(&history, ticks[ticks.len() - 1], resident);
            }
            let half_life = f64::from(1u32 << Lrfu::half_life_log2(resident));
            let (kept, exact) = (policy.rank(&history) as f64, score_of(&ticks, half_life));
            // The table is off by up to a 64th of a half-life at each access, mostly to either side in turn.
            prop_assert!((kept - exact).abs() <= half_life / 16.0 + ticks.len() as f64, "{kept} instead of {exact}");
        }

        #[test]
        fn no_tick_is_too_large(score in 1u64..1 << 60, tick in 1u64..1 << 60, resident: u64) {
            let policy = Lrfu::default();
            let added = policy.add(score, tick, Lrfu::half_life_log2(resident));
            prop_assert!(added >= score.max(tick));
        }
    }
}
