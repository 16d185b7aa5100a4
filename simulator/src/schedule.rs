//! When each session switches and to what: a pure function of the seed.
//!
//! Every session has a phase within the period and, for each round, a background. Both come from a counter-based
//! hash of (seed, user, round), so nothing of the schedule is stored but the sorted phases, any entry can be
//! computed again when its answer arrives, and the same seed gives the same requests on every machine.

use std::hash::Hasher;

use xxhash_rust::xxh3::Xxh3;

/// Round number that stands for the background a session is created with.
pub const INITIAL_ROUND: u64 = u64::MAX;
/// Sessions of one block of [`spread`] at most: 16 of a million's are due within a millisecond.
const SPREAD_BLOCK_MAX: usize = 16;
/// Blocks are made smaller to have at least so many.
const SPREAD_BLOCKS_MIN: usize = 1024;

/// Mixes three words into one; splitmix64's finaliser applied twice.
pub fn mix(seed: u64, stream: u64, counter: u64) -> u64 {
    let first = finalise(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    finalise(
        first
            ^ counter
                .wrapping_mul(0xd1b5_4a32_d192_ed03)
                .wrapping_add(0x8cb9_2ba7_2f3d_8dd7),
    )
}

fn finalise(mut word: u64) -> u64 {
    word ^= word >> 30;
    word = word.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^= word >> 27;
    word = word.wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Maps a hash to `0..bound` without division.
pub fn below(hash: u64, bound: u64) -> u64 {
    ((u128::from(hash) * u128::from(bound)) >> 64) as u64
}

/// Which background is asked for how often: uniform, or Zipf with number 0 the most popular.
#[derive(Debug, Clone)]
pub struct Popularity {
    /// Vose's alias table: keep the column below `threshold`, else take `alias`.
    columns: Vec<(u32, u16)>,
}

impl Popularity {
    /// `exponent` 0 is uniform; the weight of number k is 1 / (k + 1)^exponent.
    ///
    /// # Panics
    /// If `count` is zero; the plan never asks for that.
    pub fn new(count: u16, exponent: f64) -> Self {
        assert!(count > 0, "popularity over no backgrounds");
        let weights: Vec<f64> = (0..count)
            .map(|k| f64::from(k + 1).powf(-exponent))
            .collect();
        let scale = f64::from(count) / weights.iter().sum::<f64>();
        let mut share: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<u16>, Vec<u16>) =
            (0..count).partition(|k| share[usize::from(*k)] < 1.0);
        let mut columns: Vec<(u32, u16)> = (0..count).map(|k| (u32::MAX, k)).collect();
        while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
            let part = share[usize::from(low)];
            columns[usize::from(low)] = ((part * f64::from(u32::MAX)) as u32, high);
            share[usize::from(high)] -= 1.0 - part;
            if share[usize::from(high)] < 1.0 {
                small.push(high)
            } else {
                large.push(high)
            }
        }
        Popularity { columns }
    }

    /// The background number for a hash.
    pub fn pick(&self, hash: u64) -> u16 {
        let column = below(hash, self.columns.len() as u64) as usize;
        let (threshold, alias) = self.columns[column];
        // The low word decides within the column; the high word chose it.
        if hash as u32 <= threshold {
            column as u16
        } else {
            alias
        }
    }

    /// Number of backgrounds.
    pub fn count(&self) -> usize {
        self.columns.len()
    }
}

/// One switch of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When, microseconds after the schedule's origin.
    pub at_us: u64,
    /// Whose.
    pub user: u32,
    /// To which background, by number.
    pub background: u16,
}

/// The whole request schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Seed of phases and choices.
    pub seed: u64,
    /// Every session switches once in this many microseconds.
    pub period_us: u32,
    /// Popularity of backgrounds.
    pub popularity: Popularity,
}

impl Schedule {
    /// The background that `user` asks for in `round`.
    pub fn background(&self, user: u64, round: u64) -> u16 {
        self.popularity.pick(mix(self.seed, user, round))
    }

    /// The background that `user` is created with.
    pub fn initial(&self, user: u64) -> u16 {
        self.background(user, INITIAL_ROUND)
    }

    /// Phases of one gateway's sessions, sorted, microseconds within the period.
    pub fn phases(&self, gateway: u64, sessions: usize) -> Vec<u32> {
        let seed = self.seed ^ 0x7068_6173_6573_0000;
        let mut phases: Vec<u32> = (0..sessions as u64)
            .map(|index| below(mix(seed, gateway, index), u64::from(self.period_us)) as u32)
            .collect();
        phases.sort_unstable();
        phases
    }

    /// Hash of a schedule that is a list of switches.
    pub fn hash_of(switches: &[Planned]) -> u64 {
        let mut hasher = Xxh3::new();
        for planned in switches {
            hasher.write_u64(planned.at_us);
            hasher.write_u32(planned.user);
            hasher.write_u16(planned.background);
        }
        hasher.finish()
    }

    /// Hash of the schedule for gateways of these sizes: phases, first backgrounds and two rounds of switches.
    pub fn hash(&self, sizes: &[usize]) -> u64 {
        let mut hasher = Xxh3::new();
        hasher.write_u32(self.period_us);
        let mut user = 0_u64;
        for (gateway, size) in sizes.iter().enumerate() {
            for phase in self.phases(gateway as u64, *size) {
                hasher.write_u32(phase);
                for round in [INITIAL_ROUND, 0, 1] {
                    hasher.write_u16(self.background(user, round));
                }
                user += 1;
            }
        }
        hasher.finish()
    }
}

/// Every index below `len` once, so that any beginning of the sequence is spread over the whole: neighbours in small
/// blocks, the blocks a golden section apart. Blocks, because sessions made together lie together in the service's
/// memory, and those that switch together should.
pub fn spread(len: usize) -> impl Iterator<Item = usize> {
    let block = (len / SPREAD_BLOCKS_MIN).clamp(1, SPREAD_BLOCK_MAX);
    let blocks = len.div_ceil(block);
    let stride = coprime_stride(blocks);
    (0..blocks).flat_map(move |turn| {
        let first = (turn as u64 * stride as u64 % blocks as u64) as usize * block;
        first..(first + block).min(len)
    })
}

/// A step through `0..count` that meets every number once: the first one from the golden section on that shares no
/// factor with `count`.
fn coprime_stride(count: usize) -> usize {
    let golden = ((count as f64 * 0.618_033_988_75) as usize).max(1);
    (golden..)
        .find(|stride| gcd(*stride, count) == 1)
        .unwrap_or(1)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Splits `sessions` over `gateways` as evenly as whole numbers allow.
pub fn sizes(sessions: u64, gateways: usize) -> Vec<usize> {
    let gateways = gateways as u64;
    (0..gateways)
        .map(|index| (sessions / gateways + u64::from(index < sessions % gateways)) as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(seed: u64, zipf: f64) -> Schedule {
        Schedule {
            seed,
            period_us: 3_000_000,
            popularity: Popularity::new(16, zipf),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_hash() {
        let sizes = sizes(1000, 3);
        assert_eq!(sizes.iter().sum::<usize>(), 1000);
        assert_eq!(schedule(7, 0.0).hash(&sizes), schedule(7, 0.0).hash(&sizes));
        assert_eq!(
            schedule(7, 0.0).phases(1, 50),
            schedule(7, 0.0).phases(1, 50)
        );
        assert_ne!(schedule(7, 0.0).hash(&sizes), schedule(8, 0.0).hash(&sizes));
        assert_ne!(schedule(7, 0.0).hash(&sizes), schedule(7, 0.9).hash(&sizes));
    }

    #[test]
    fn the_hash_of_a_known_schedule_never_changes() {
        // A changed value means that old seeds no longer replay old runs: say so in the changelog.
        let even = schedule(1, 0.0);
        assert_eq!(mix(1, 2, 3), 4_652_081_480_720_272_495);
        assert_eq!(
            even.phases(0, 4),
            [231_376, 1_442_989, 1_499_729, 2_407_817]
        );
        let uneven = schedule(9, 0.9).background(3, 5);
        assert_eq!([even.initial(0), even.background(7, 0), uneven], [3, 9, 0]);
        let hash = schedule(7, 0.9).hash(&sizes(1000, 3));
        assert_eq!(hash, 8_547_449_747_708_305_553);
    }

    #[test]
    fn any_beginning_of_a_spread_is_spread() {
        for len in [0, 1, 2, 3, 10, 100, 1024, 75_000] {
            let mut all: Vec<usize> = spread(len).collect();
            let beginning = &all[..len / 4];
            for quarter in 0..4 {
                let bounds = quarter * len / 4..(quarter + 1) * len / 4;
                let within = beginning.iter().filter(|at| bounds.contains(at)).count();
                assert!(
                    within.abs_diff(len / 16) <= 2 + len / 100,
                    "{within} of {} in quarter {quarter}",
                    len / 4
                );
            }
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..len), "{len}");
        }
    }

    #[test]
    fn zipf_shares_are_zipfs() {
        let popularity = Popularity::new(10, 1.0);
        let mut counts = [0_u32; 10];
        for counter in 0..200_000 {
            counts[usize::from(popularity.pick(mix(3, 5, counter)))] += 1;
        }
        let harmonic: f64 = (1..=10).map(|k| 1.0 / f64::from(k)).sum();
        for (k, count) in counts.iter().enumerate() {
            let expected = 200_000.0 / (k as f64 + 1.0) / harmonic;
            assert!(
                (f64::from(*count) - expected).abs() < expected * 0.06,
                "{k}: {count} vs {expected}"
            );
        }
    }

    #[test]
    fn uniform_reaches_every_background() {
        let popularity = Popularity::new(400, 0.0);
        let mut seen = vec![0_u32; 400];
        for counter in 0..400_000 {
            seen[usize::from(popularity.pick(mix(1, 1, counter)))] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)));
    }
}
