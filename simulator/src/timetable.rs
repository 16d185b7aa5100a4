//! When previews fall due, and of which background: an even stream over whatever the sessions show, or a pass over all
//! backgrounds again and again. Pure functions of a place in the sequence; knows no clock and no session.

use crate::frame::Due;
use crate::schedule::mix;

/// Keeps the numbers of passes apart from those of the stream, so that both hash to sessions of their own.
const PASSES: u64 = 1 << 48;

/// One worker's sequence of previews.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Timetable {
    /// So many per second, evenly spaced with a seeded jitter of one place; every `workers`-th is this worker's.
    Stream {
        /// Seed of the jitter.
        seed: u64,
        /// Frames per second of all workers together.
        per_second: f64,
        /// Which of them.
        worker: u64,
        /// How many.
        workers: u64,
    },
    /// Every background once, in order, so many per second; and again after a time.
    Passes {
        /// Backgrounds.
        count: u16,
        /// Frames per second of a pass.
        per_second: f64,
        /// From the start of one pass to the next, microseconds.
        every_us: u64,
        /// Start of the first one, microseconds after the clock's origin.
        from_us: u64,
    },
}

impl Timetable {
    /// The `n`-th preview.
    pub fn due(&self, n: u64) -> Due {
        match *self {
            Timetable::Stream {
                seed,
                per_second,
                worker,
                workers,
            } => {
                let number = n * workers + worker;
                let jitter = (mix(seed, 0x7072_6576, number) >> 11) as f64 / (1_u64 << 53) as f64;
                Due {
                    number,
                    at_us: ((number as f64 + jitter) / per_second * 1e6) as u64,
                }
            }
            Timetable::Passes {
                count,
                per_second,
                every_us,
                from_us,
            } => {
                let (pass, place) = (n / u64::from(count), n % u64::from(count));
                let into_us = (place as f64 / per_second * 1e6) as u64;
                Due {
                    number: PASSES + n,
                    at_us: from_us + pass * every_us + into_us,
                }
            }
        }
    }

    /// The background that a preview must show; `None` for whatever its session shows.
    pub fn background(&self, number: u64) -> Option<u16> {
        match *self {
            Timetable::Stream { .. } => None,
            Timetable::Passes { count, .. } => {
                Some((number.wrapping_sub(PASSES) % u64::from(count)) as u16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_an_even_stream() {
        let stream = |worker| Timetable::Stream {
            seed: 3,
            per_second: 100.0,
            worker,
            workers: 2,
        };
        let mut all: Vec<Due> = (0..2)
            .flat_map(|worker| (0..50).map(move |n| stream(worker).due(n)))
            .collect();
        all.sort_by_key(|due| due.number);
        for (place, due) in all.iter().enumerate() {
            let place_us = place as u64 * 10_000;
            assert!(
                (place_us..=place_us + 10_000).contains(&due.at_us),
                "{due:?}"
            );
            assert_eq!(stream(0).background(due.number), None);
        }
        assert_eq!(stream(0).due(7), stream(0).due(7));
    }

    #[test]
    fn a_pass_asks_for_every_background_once_and_in_order() {
        let passes = Timetable::Passes {
            count: 5,
            per_second: 10.0,
            every_us: 2_000_000,
            from_us: 1_000_000,
        };
        let asked: Vec<(u64, u16)> = (0..10)
            .map(|n| passes.due(n))
            .map(|due| (due.at_us, passes.background(due.number).unwrap()))
            .collect();
        let pass = |from: u64| (0..5).map(move |k| (from + u64::from(k) * 100_000, k));
        let expected: Vec<(u64, u16)> = pass(1_000_000).chain(pass(3_000_000)).collect();
        assert_eq!(asked, expected);
    }
}
