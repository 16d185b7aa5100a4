//! How much of our own memory no charge covers, as far as it stays: the *baseline*. It knows times and bytes only.
//!
//! A refused upload's buffers, or pages that the allocator returns a moment later, are untracked usage too, but they pass, and a
//! ceiling that followed them would make a burst evict textures for ten seconds. And where a charge runs ahead of the pages
//! that it is for, untracked usage dips. So neither peaks nor dips count: what counts is the level that was reached or passed
//! for the *settle* time within the last two of them, and of these levels the highest of a window.

use std::collections::VecDeque;
use std::time::Duration;

/// Looks that make up one settle time. More would tell nothing and cost the sampler time.
const LOOKS: usize = 40;

/// See the file's description. Times are since any fixed instant and do not run backwards.
#[derive(Debug)]
pub(super) struct Baseline {
    settle: Duration,
    window: Duration,
    /// One look of each slot of `settle / LOOKS`: its slot and its bytes. Slots, so that time weighs and not the sampler's pace.
    looks: VecDeque<(u64, u64)>,
    level: u64,
    /// Levels that may still become the highest, falling.
    peaks: VecDeque<(Duration, u64)>,
}

impl Baseline {
    pub(super) fn new(settle: Duration, window: Duration) -> Self {
        Self {
            settle,
            window,
            looks: VecDeque::with_capacity(2 * LOOKS + 1),
            level: 0,
            peaks: VecDeque::new(),
        }
    }

    /// Takes a look in; returns the baseline.
    pub(super) fn observe(&mut self, now: Duration, untracked: u64) -> u64 {
        if self.look(now, untracked) {
            self.level = self.settled();
        }
        self.peak(now, self.level)
    }

    /// Keeps the first look of each slot. True when this was one.
    fn look(&mut self, now: Duration, untracked: u64) -> bool {
        let length = (self.settle / LOOKS as u32).max(Duration::from_millis(1));
        let slot = (now.as_nanos() / length.as_nanos()) as u64;
        if self.looks.back().is_some_and(|&(last, _)| last == slot) {
            return false;
        }
        self.looks.push_back((slot, untracked));
        while self
            .looks
            .front()
            .is_some_and(|&(first, _)| first + 2 * LOOKS as u64 <= slot)
        {
            self.looks.pop_front();
        }
        true
    }

    /// The level that was reached or passed in a settle time's worth of looks; the least, as long as there are fewer.
    fn settled(&self) -> u64 {
        let mut levels: Vec<u64> = self.looks.iter().map(|&(_, bytes)| bytes).collect();
        let at = LOOKS.min(levels.len()) - 1;
        let (_, level, _) = levels.select_nth_unstable_by(at, |one, other| other.cmp(one));
        *level
    }

    /// The highest level of the last window: rises at once, falls only when a whole window stayed below.
    fn peak(&mut self, now: Duration, level: u64) -> u64 {
        while self.peaks.back().is_some_and(|&(_, bytes)| bytes <= level) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, level));
        while self
            .peaks
            .front()
            .is_some_and(|&(at, _)| at + self.window < now)
            && self.peaks.len() > 1
        {
            self.peaks.pop_front();
        }
        // A strictly falling series would keep every level: past this many, the newest stands for its neighbours.
        if self.peaks.len() > 1024 {
            self.peaks.remove(1);
        }
        self.peaks.front().map_or(level, |&(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTLE: Duration = Duration::from_secs(2);
    const WINDOW: Duration = Duration::from_secs(10);

    /// What is seen every 10 ms from `from` on, for `seconds`.
    fn hold(baseline: &mut Baseline, from: &mut u64, seconds: f64, bytes: u64) -> u64 {
        let mut last = 0;
        for _ in 0..(seconds * 100.0) as u64 {
            *from += 10;
            last = baseline.observe(Duration::from_millis(*from), bytes);
        }
        last
    }

    #[test]
    fn a_burst_shorter_than_the_settle_time_does_not_count_and_growth_that_stays_does() {
        let (mut baseline, mut now) = (Baseline::new(SETTLE, WINDOW), 0);
        assert_eq!(hold(&mut baseline, &mut now, 5.0, 30), 30);
        assert_eq!(hold(&mut baseline, &mut now, 1.9, 500), 30);
        assert_eq!(hold(&mut baseline, &mut now, 20.0, 30), 30);
        assert_eq!(hold(&mut baseline, &mut now, 2.1, 80), 80, "this one stays");
        assert_eq!(hold(&mut baseline, &mut now, 5.0, 30), 80, "remembered");
        assert_eq!(hold(&mut baseline, &mut now, 12.0, 30), 30, "and forgotten");
    }

    #[test]
    fn a_burst_right_at_the_start_does_not_count() {
        let (mut baseline, mut now) = (Baseline::new(SETTLE, WINDOW), 0);
        hold(&mut baseline, &mut now, 0.3, 30);
        assert_eq!(hold(&mut baseline, &mut now, 1.5, 500), 30);
    }

    #[test]
    fn charges_that_run_ahead_of_their_pages_do_not_hide_it() {
        let (mut baseline, mut now) = (Baseline::new(SETTLE, WINDOW), 0);
        for _ in 0..20 {
            hold(&mut baseline, &mut now, 0.6, 90);
            assert!(now < 2_000 || hold(&mut baseline, &mut now, 0.4, 0) == 90);
        }
    }

    proptest! {
        #[test]
        fn it_lies_within_what_was_seen_and_never_counts_a_short_burst(
            pace in 1u64..40,
            ground in 0u64..1000,
            burst_ms in 0u64..1950,
            height in 1000u64..5000,
        ) {
            let mut baseline = Baseline::new(SETTLE, WINDOW);
            let burst = 5_000..5_000 + burst_ms;
            for now in (0..30_000).step_by(pace as usize) {
                let bytes = if burst.contains(&now) { height } else { ground };
                prop_assert_eq!(baseline.observe(Duration::from_millis(now), bytes), ground);
            }
        }
    }
}
