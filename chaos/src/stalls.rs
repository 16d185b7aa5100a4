//! How much of a time a standing host can explain. Rules only; [`crate::host::stall`] measures.

use std::time::Duration;

use backdrop_reports::record::HostStalls;

/// Largest share of a window that the host may stand still before a bound in time that was missed in it is in doubt: what falls due
/// in a stall, and until it is caught up with, is at most twice as much, and the 99th percentile leaves one in a hundred out.
pub const RATIO_MAX: f64 = 0.005;

/// Times at which one of the CPUs stood still, apart from each other and in order; seconds after the first planned send.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stalls(Vec<(f64, f64)>);

impl Stalls {
    /// From beginnings and ends in any order; what overlaps, on one CPU or another, is one.
    #[must_use]
    pub fn new(times: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut apart: Vec<(f64, f64)> = Vec::new();
        for (from, to) in times {
            match apart.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => apart.push((from, to)),
            }
        }
        Self(apart)
    }

    /// Those in this time, for the record.
    #[must_use]
    pub fn summary(&self, from: f64, to: f64) -> HostStalls {
        let lengths = || self.within(from, to).map(|(from, to)| to - from);
        HostStalls {
            count: lengths().count() as u64,
            total_s: lengths().sum(),
            longest_s: lengths().fold(0.0, f64::max),
        }
    }

    /// Whether those of at least this length take so much of the window that a bound in time may be missed for them.
    #[must_use]
    pub fn excuse(&self, (from, to): (f64, f64), least: Duration) -> bool {
        let long = |(from, to): &(f64, f64)| to - from >= least.as_secs_f64();
        let stood: f64 = self
            .within(from, to)
            .filter(long)
            .map(|(from, to)| to - from)
            .sum();
        to > from && stood / (to - from) > RATIO_MAX
    }

    fn within(&self, from: f64, to: f64) -> impl Iterator<Item = (f64, f64)> {
        let parts = self.0.iter();
        let parts = parts.map(move |stall| (stall.0.max(from), stall.1.min(to)));
        parts.filter(|(from, to)| to > from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_of_several_cpus_at_once_are_one() {
        let stalls = Stalls::new([(3.0, 3.1), (1.0, 1.2), (1.1, 1.3), (3.0, 3.05)]);
        assert_eq!(stalls, Stalls(vec![(1.0, 1.3), (3.0, 3.1)]));
        let all = stalls.summary(0.0, 10.0);
        assert_eq!(all.count, 2);
        assert!((all.total_s - 0.4).abs() < 1e-9 && (all.longest_s - 0.3).abs() < 1e-9);
        assert_eq!(stalls.summary(1.2, 2.0).count, 1, "a part counts as such");
        assert_eq!(Stalls::default().summary(0.0, 10.0), HostStalls::default());
    }

    #[test]
    fn only_long_stalls_in_the_window_itself_are_an_excuse() {
        let stalls = Stalls::new([(12.0, 12.2), (14.0, 14.006)]);
        let ms = Duration::from_millis;
        assert!(stalls.excuse((0.0, 20.0), ms(25)), "one in a hundred");
        assert!(!stalls.excuse((0.0, 50.0), ms(25)), "too little of it");
        assert!(!stalls.excuse((0.0, 10.0), ms(25)), "not in it");
        assert!(!stalls.excuse((10.0, 30.0), ms(201)), "too short for it");
        assert!(!stalls.excuse((12.0, 12.0), ms(0)));
    }
}
