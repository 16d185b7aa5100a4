//! How far one sample lies from another, and how sure that is: the Hodges–Lehmann estimate with the exact interval of
//! Mann–Whitney. It assumes no distribution, needs no random draw, and says so where a few runs cannot carry a confidence.
//!
//! Hollander, Wolfe, Chicken, "Nonparametric Statistical Methods", 3rd edition, sections 4.1 to 4.3. Knows numbers alone.

/// Confidence that an interval must have to be called one.
pub const LEVEL: f64 = 0.95;
/// Values of a sample that are looked at, the first ones: of more the counts below would leave their integers.
pub const SAMPLE_MAX: usize = 50;

/// How far `b` lies above `a`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    /// Median of all differences between a value of `b` and one of `a`.
    pub estimate: f64,
    /// Lower end: of the interval, or the least difference where there is no confidence.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence of the interval, at least [`LEVEL`]; none where the samples are too few for it.
    pub confidence: Option<f64>,
}

/// The shift from `a` to `b`; none if either is empty.
#[must_use]
pub fn shift(a: &[f64], b: &[f64]) -> Option<Shift> {
    let (a, b) = (first(a), first(b));
    let mut differences: Vec<f64> = b
        .iter()
        .flat_map(|b| a.iter().map(move |a| b - a))
        .collect();
    differences.sort_by(f64::total_cmp);
    let estimate = median(&differences)?;
    let all = differences.len();
    let (tail, confidence) = tail(a.len(), b.len());
    Some(Shift {
        estimate,
        low: differences[tail.saturating_sub(1)],
        high: differences[all - tail.max(1)],
        confidence: (tail > 0).then_some(confidence),
    })
}

/// The middle of sorted or unsorted values; none without one.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], upper)
    } else {
        upper
    })
}

fn first(sample: &[f64]) -> &[f64] {
    &sample[..sample.len().min(SAMPLE_MAX)]
}

/// Which difference from either end bounds the interval, counted from 1, and the interval's confidence. Zero where even the
/// outermost ones give less than [`LEVEL`].
fn tail(m: usize, n: usize) -> (usize, f64) {
    let ways = ways(m, n);
    let all: u128 = ways.iter().sum();
    let (mut below, mut tail, mut confidence) = (0_u128, 0, 0.0);
    for count in ways {
        below += count;
        let both_sides = 2.0 * below as f64 / all as f64;
        if both_sides > 1.0 - LEVEL {
            break;
        }
        tail += 1;
        confidence = 1.0 - both_sides;
    }
    (tail, confidence)
}

/// In how many of the orders of `m` and `n` values exactly u pairs are inverted, for each u: the Gaussian binomial coefficient
/// as the product of (1 − xⁿ⁺ⁱ) / (1 − xⁱ).
fn ways(m: usize, n: usize) -> Vec<u128> {
    let pairs = m * n;
    let mut ways = vec![0_i128; pairs + 1];
    ways[0] = 1;
    for i in 1..=m {
        for u in (n + i..=pairs).rev() {
            ways[u] -= ways[u - n - i];
        }
        for u in i..=pairs {
            ways[u] += ways[u - i];
        }
    }
    ways.into_iter().map(i128::unsigned_abs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_those_that_counting_finds() {
        // Two and two values: six orders, by inversions 1 1 2 1 1.
        assert_eq!(ways(2, 2), [1, 1, 2, 1, 1]);
        assert_eq!(ways(1, 3), [1, 1, 1, 1]);
        assert_eq!(ways(20, 20).iter().sum::<u128>(), 137_846_528_820);
        assert_eq!(ways(50, 50).len(), 2501);
        assert!(ways(50, 50).iter().all(|w| *w > 0 && *w < u128::MAX / 2));
    }

    #[test]
    fn tails_are_those_of_the_printed_tables() {
        // Critical values of U, two-sided, 5 %: the interval's end is the next difference.
        for (m, n, critical) in [(4, 4, 0), (5, 5, 2), (5, 8, 6), (10, 10, 23), (20, 20, 127)] {
            assert_eq!(tail(m, n).0, critical + 1, "{m} and {n}");
            assert!(tail(m, n).1 >= LEVEL);
        }
        for (m, n) in [(1, 1), (1, 30), (3, 3), (2, 7), (3, 4)] {
            assert_eq!(tail(m, n).0, 0, "{m} and {n} are too few");
        }
    }

    #[test]
    fn a_shift_is_found_and_bounded() {
        let a = [10.0, 11.0, 9.0, 10.5];
        let b = a.map(|v| v + 5.0);
        let found = shift(&a, &b).expect("both have values");
        assert_eq!(found.estimate, 5.0);
        assert!(found.low == 3.0 && found.high == 7.0, "{found:?}");
        let confidence = found.confidence.expect("four each are enough");
        assert!((confidence - (1.0 - 2.0 / 70.0)).abs() < 1e-12);
        let back = shift(&b, &a).expect("both have values");
        assert_eq!((back.estimate, back.low, back.high), (-5.0, -7.0, -3.0));
    }

    #[test]
    fn few_values_give_a_range_and_no_confidence() {
        let one = shift(&[10.0], &[15.0]).expect("both have values");
        assert_eq!(
            (one.estimate, one.low, one.high, one.confidence),
            (5.0, 5.0, 5.0, None)
        );
        let few = shift(&[1.0, 2.0, 3.0], &[11.0, 12.0, 14.0]).expect("both have values");
        assert_eq!((few.low, few.high, few.confidence), (8.0, 13.0, None));
        assert_eq!(shift(&[], &[1.0]), None);
        assert_eq!(shift(&[1.0], &[]), None);
    }

    /// The interval holds the true shift as often as it says, for a distribution with a long tail.
    #[test]
    fn intervals_cover_what_they_claim() {
        let mut state = 7_u64;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln()
        };
        let (mut held, mut sum, rounds) = (0, 0.0, 4_000);
        for _ in 0..rounds {
            let a: Vec<f64> = (0..5).map(|_| draw()).collect();
            let b: Vec<f64> = (0..6).map(|_| draw() + 2.0).collect();
            let found = shift(&a, &b).expect("both have values");
            sum = found.confidence.expect("enough");
            held += usize::from((found.low..=found.high).contains(&2.0));
        }
        let share = held as f64 / f64::from(rounds);
        assert!((share - sum).abs() < 0.015, "{share} instead of {sum}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
