//! What the formats for CI have in common: a test case per scenario, and one for the run where no scenario says what the run says.

use std::fmt::Write as _;
use std::time::Duration;

use crate::format::{stated, stated_against};
use crate::record::{Met, RunRecord, ScenarioRecord, Verdict};

/// Name of the case that stands for the run as a whole.
const RUN: &str = "run";

/// One test case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case<'a> {
    /// Name of the scenario, or `run`.
    pub name: String,
    /// Conclusion.
    pub verdict: Verdict,
    /// One sentence: why.
    pub reason: &'a str,
    /// Expectations, controls and doubts as plain lines.
    pub details: String,
    /// Time of the scenario's trial and of its controls.
    pub time: Duration,
    /// The scenario; none for the run.
    pub scenario: Option<&'a ScenarioRecord>,
}

/// The cases of a run in the order they ran.
#[must_use]
pub fn of_run(record: &RunRecord) -> Vec<Case<'_>> {
    let mut cases: Vec<_> = record.scenarios.iter().map(of_scenario).collect();
    // What the run as a whole says and no scenario does (it failed before the first one, was interrupted, left something on the
    // host) must not look like a passing suite.
    let said = cases.iter().any(|c| c.verdict == record.verdict);
    if !said && record.verdict != Verdict::Held {
        cases.push(Case {
            name: RUN.to_owned(),
            verdict: record.verdict,
            reason: &record.reason,
            details: String::new(),
            time: Duration::ZERO,
            scenario: None,
        });
    }
    cases
}

fn of_scenario(scenario: &ScenarioRecord) -> Case<'_> {
    Case {
        name: scenario.label(),
        verdict: scenario.verdict,
        reason: &scenario.reason,
        details: details(scenario),
        time: time(scenario),
        scenario: Some(scenario),
    }
}

fn time(scenario: &ScenarioRecord) -> Duration {
    let controls = scenario.controls.iter().map(|c| c.trial.duration_s);
    let seconds = scenario.trial.duration_s + controls.sum::<f64>();
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

fn details(scenario: &ScenarioRecord) -> String {
    let mut text = String::new();
    for e in &scenario.expectations {
        let [observed, bound] = match e.observed {
            Some(seen) => stated_against(seen, e.bound, &e.unit, &e.figure),
            None => ["no sample".into(), stated(e.bound, &e.unit, &e.figure)],
        };
        let mark = match e.met {
            Met::Yes => "met",
            Met::No => "NOT MET",
            Met::Unknown => "unknown",
        };
        let _ = writeln!(
            text,
            "{mark}: {}: {observed} {} {bound}",
            e.name, e.relation
        );
    }
    for c in &scenario.controls {
        let mark = if c.as_expected {
            "as expected"
        } else {
            "NOT AS EXPECTED"
        };
        let _ = writeln!(
            text,
            "control {}: {mark}: {} (expected {}): {}",
            c.label(),
            c.observed,
            c.expected,
            c.reason
        );
    }
    for earlier in &scenario.set_aside {
        let _ = writeln!(
            text,
            "set aside {}: {}: {}",
            earlier.trial, earlier.outcome, earlier.reason
        );
    }
    for doubt in &scenario.evidence.doubts {
        let _ = writeln!(text, "doubt: {doubt}");
    }
    text
}
