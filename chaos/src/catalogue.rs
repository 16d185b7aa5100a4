//! The figures that an expectation may read: name, unit, where the evidence comes from, and what it means.
//!
//! One table, so that schema errors, `explain` and the computation in `figures` agree.

use backdrop_reports::record::{Better, FigureFacts};

mod table;

pub use table::FIGURES;

/// Where a figure's evidence comes from; a busy host discredits [`Source::Timing`], and of [`Source::Answers`] what a clock
/// gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The kernel, read by the runner.
    Kernel,
    /// The service's own metrics.
    Service,
    /// The simulator's counts and truth checker.
    Load,
    /// The simulator's clock: latencies and rates.
    Timing,
    /// The simulator's counts of answers, in which those that did not come in time count as failed.
    Answers,
    /// Requests the runner made by itself.
    Probe,
}

/// One figure.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Name in scenario files and records.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Whether `NAME.WINDOW` exists too.
    pub windowed: bool,
    /// Where it comes from.
    pub source: Source,
    /// Which way it is better, the load being the same.
    pub better: Better,
    /// What it means.
    pub meaning: &'static str,
}

/// A figure of the whole load.
const fn figure(
    name: &'static str,
    unit: &'static str,
    source: Source,
    better: Better,
    meaning: &'static str,
) -> Spec {
    Spec {
        name,
        unit,
        windowed: false,
        source,
        better,
        meaning,
    }
}

/// One that each window of the load has too.
const fn windowed(
    name: &'static str,
    unit: &'static str,
    source: Source,
    better: Better,
    meaning: &'static str,
) -> Spec {
    Spec {
        windowed: true,
        ..figure(name, unit, source, better, meaning)
    }
}

impl Spec {
    /// What records say of it.
    #[must_use]
    pub fn facts(&self) -> FigureFacts {
        FigureFacts {
            unit: self.unit.to_owned(),
            better: self.better,
            timed: matches!(self.source, Source::Timing | Source::Answers),
        }
    }
}

/// Figures that have no sample where no fault acted.
const OF_FAULTS: &[&str] = &[
    "errors_counted_ratio",
    "gpu_returned_ratio",
    "archive_errors_counted_ratio",
    "clean_errors_ratio",
    "memory_given_back_mib",
    "limit_steps",
    "limit_missed_mib",
    "limit_adopted_max_s",
    "burst_rate_mib_s",
    "burst_over_bound",
    "oversized_refused_ratio",
    "slow_clients_cut",
    "flood_connections_cut",
    "uploads_checked",
    "uploads_missing",
    "stale_ids_not_found",
    "outage_s",
    "recovery_s",
];

/// Whether the figure is about what a fault did.
#[must_use]
pub fn is_of_faults(name: &str) -> bool {
    OF_FAULTS.contains(&name)
}

/// The figure of that name, without a window.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    FIGURES.iter().find(|f| f.name == name)
}

/// The figure of that name, a window after a dot allowed.
#[must_use]
pub fn find_windowed(name: &str) -> Option<&'static Spec> {
    find(name.split_once('.').map_or(name, |(base, _)| base))
}

/// The figures most alike to a name that does not exist, in words.
#[must_use]
pub fn nearest(name: &str) -> String {
    let mut ranked: Vec<_> = FIGURES
        .iter()
        .map(|f| (distance(name, f.name), f.name))
        .collect();
    ranked.sort_unstable();
    let names: Vec<_> = ranked
        .iter()
        .take(3)
        .map(|(_, n)| format!("`{n}`"))
        .collect();
    format!("{}, or another of `explain figures`", names.join(", "))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_near_ones_are_found() {
        for (i, a) in FIGURES.iter().enumerate() {
            assert!(
                FIGURES[i + 1..].iter().all(|b| b.name != a.name),
                "{} twice",
                a.name
            );
        }
        assert!(OF_FAULTS.iter().all(|name| find(name).is_some()));
        assert!(nearest("switch_p98_ms").starts_with("`switch_p9"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
