//! Rounds: each contender in its turn, on one thread or several at once, and the median over the rounds.

use std::io;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::support::median;

/// One side of a comparison: does `ops` operations on thread number `thread`.
pub struct Contender<'a> {
    work: Box<dyn Fn(usize, usize) + Sync + 'a>,
}

impl<'a> Contender<'a> {
    pub fn new(work: impl Fn(usize, usize) + Sync + 'a) -> Self {
        Self {
            work: Box::new(work),
        }
    }
}

/// Rounds of a comparison.
const ROUNDS: usize = 15;
/// Time of one contender's turn.
const TURN: Duration = Duration::from_millis(40);

/// Median nanoseconds of one operation on each of `threads` threads, per contender, in their order.
pub fn nanoseconds(contenders: &[Contender<'_>], threads: usize) -> Vec<f64> {
    let ops: Vec<usize> = contenders
        .iter()
        .map(|contender| {
            // Once to warm up, once to see how many operations a turn has time for.
            turn(contender, threads, 200);
            let probe = turn(contender, threads, 200);
            let fits = TURN.as_nanos() as f64 / probe.max(1.0);
            (fits as usize).clamp(16, 4_000_000)
        })
        .collect();
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (at, contender) in contenders.iter().enumerate() {
            times[at].push(turn(contender, threads, ops[at]));
        }
    }
    times.into_iter().map(median).collect()
}

/// Medians of what two sides count or time themselves, ours and the peer's: each has its turn in every round.
pub fn in_turns<const N: usize>(
    rounds: usize,
    mut ours: impl FnMut() -> io::Result<[f64; N]>,
    mut peer: impl FnMut() -> io::Result<[f64; N]>,
) -> io::Result<([f64; N], [f64; N])> {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        mine.push(ours()?);
        theirs.push(peer()?);
    }
    Ok((medians(&mine), medians(&theirs)))
}

fn medians<const N: usize>(turns: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|at| median(turns.iter().map(|turn| turn[at]).collect()))
}

/// One turn: all threads start together, the slowest one counts.
fn turn(contender: &Contender<'_>, threads: usize, ops: usize) -> f64 {
    let barrier = Barrier::new(threads);
    let one = |thread: usize| {
        (contender.work)(thread, ops / 8 + 1);
        barrier.wait();
        let start = Instant::now();
        (contender.work)(thread, ops);
        start.elapsed().as_nanos() as f64 / ops as f64
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|thread| scope.spawn(move || one(thread)))
            .collect();
        let mine = one(0);
        others
            .into_iter()
            .map(|other| other.join().expect("a benchmark's thread"))
            .fold(mine, f64::max)
    })
}

/// A small generator of random numbers (SplitMix64), so that every run measures the same.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Within 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 to `count`, in any order.
    pub fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count).collect();
        for at in (1..all.len()).rev() {
            all.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
        all
    }
}

/// Zipf's law over ranks: the n-th is drawn in proportion to n to the power of -`exponent`.
pub struct Zipf(Vec<f64>);

impl Zipf {
    pub fn new(count: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|value| *value /= sum);
        Self(sums)
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.0
            .partition_point(|&sum| sum < at)
            .min(self.0.len() - 1)
    }
}
