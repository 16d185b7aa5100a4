//! The mutation suite's table: which protection was off, how that was to be noticed, and how it was.

use crate::record::{MUTANTS_SUITE, RunRecord, Verdict};

/// Heads of the columns.
pub const COLUMNS: [&str; 5] = [
    "Protection off",
    "Scenario",
    "To be caught as",
    "Came out as",
    "Verdict",
];

/// One mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The protection that was off.
    pub protection: String,
    /// The scenario that is named for it.
    pub scenario: String,
    /// Outcome demanded.
    pub expected: String,
    /// Outcome seen.
    pub observed: String,
    /// `caught`, `not caught`, `not judged` or `error`.
    pub word: &'static str,
    /// What the word stands for.
    pub verdict: Verdict,
}

impl Row {
    /// Its cells in the order of [`COLUMNS`].
    #[must_use]
    pub fn cells(&self) -> [&str; 5] {
        [
            &self.protection,
            &self.scenario,
            &self.expected,
            &self.observed,
            self.word,
        ]
    }
}

/// A row for each mutant that was run; none for a run of anything but the mutation suite.
#[must_use]
pub fn rows(record: &RunRecord) -> Vec<Row> {
    if record.suite != MUTANTS_SUITE {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for scenario in &record.scenarios {
        for mutant in &scenario.controls {
            rows.extend(mutant.protection.as_ref().map(|protection| Row {
                protection: protection.clone(),
                scenario: scenario.name.clone(),
                expected: mutant.expected.clone(),
                observed: mutant.observed.clone(),
                word: word(scenario.verdict),
                verdict: scenario.verdict,
            }));
        }
    }
    rows
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "caught",
        Verdict::Deviated => "not caught",
        Verdict::Inconclusive => "not judged",
        Verdict::Error => "error",
    }
}

/// The table as plain text, a line each, columns aligned; empty without a row.
#[must_use]
pub fn text(record: &RunRecord) -> String {
    let rows = rows(record);
    if rows.is_empty() {
        return String::new();
    }
    let lines: Vec<[&str; 5]> = std::iter::once(COLUMNS)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut out = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(&format!("{cell:<width$}  "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}
