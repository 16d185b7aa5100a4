//! JUnit for CI: one suite per run, one test case per scenario. JUnit has no word for `inconclusive`; it is an
//! `error` whose type says so, since a reader that counts a skipped test as passed would call it held.

use std::fmt::Write as _;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::error::ReportError;
use crate::format::{Unit, show};
use crate::record::{Met, RunRecord, ScenarioRecord, Verdict};

/// The whole document.
///
/// # Errors
/// If the XML could not be formed.
pub fn render(record: &RunRecord) -> Result<String, ReportError> {
    let mut suite = TestSuite::new(format!("backdrop chaos {}", record.suite));
    for (name, value) in [
        ("verdict", record.verdict.word().to_owned()),
        ("reason", record.reason.clone()),
        ("exit", record.exit.to_string()),
        ("seed", record.seed.to_string()),
        ("id", record.id.clone()),
        ("started_at", record.started_at.clone()),
        ("replay", record.replay.clone()),
        ("version", record.build.version.clone()),
        ("commit", record.build.commit.clone()),
    ] {
        suite.add_property((name.to_owned(), value));
    }
    let mut total = Duration::ZERO;
    for scenario in &record.scenarios {
        let time = scenario_time(scenario);
        total += time;
        suite.add_test_case(test_case(scenario, time));
    }
    // What the run as a whole says and no scenario does (it failed before the first one, was interrupted, left something on the
    // host) must not look like a passing suite.
    let said = record.scenarios.iter().any(|s| s.verdict == record.verdict);
    if !said && record.verdict != Verdict::Held {
        suite.add_test_case(TestCase::new(
            "run",
            status(record.verdict, &record.reason, ""),
        ));
    }
    suite.set_time(total);
    let mut report = Report::new("backdrop chaos");
    report.set_time(total);
    report.add_test_suite(suite);
    report.to_string().map_err(ReportError::Junit)
}

fn scenario_time(scenario: &ScenarioRecord) -> Duration {
    let seconds: f64 = scenario.trial.duration_s
        + scenario
            .controls
            .iter()
            .map(|c| c.trial.duration_s)
            .sum::<f64>();
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

fn test_case(scenario: &ScenarioRecord, time: Duration) -> TestCase {
    let details = details(scenario);
    let mut case = TestCase::new(
        scenario.name.as_str(),
        status(scenario.verdict, &scenario.reason, &details),
    );
    case.set_classname("backdrop.chaos")
        .set_assertions(scenario.expectations.len())
        .set_time(time);
    case.add_property(("verdict", scenario.verdict.word()));
    case.add_property(("replay", scenario.replay.as_str()));
    case.set_system_out(details);
    case
}

fn status(verdict: Verdict, reason: &str, details: &str) -> TestCaseStatus {
    let kind = match verdict {
        Verdict::Held => return TestCaseStatus::success(),
        Verdict::Deviated => NonSuccessKind::Failure,
        Verdict::Inconclusive | Verdict::Error => NonSuccessKind::Error,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_type(verdict.word())
        .set_message(format!("{}: {reason}", verdict.word()));
    status.set_description(details.to_owned());
    status
}

/// Expectations, controls and doubts as plain lines.
fn details(scenario: &ScenarioRecord) -> String {
    let mut text = String::new();
    for e in &scenario.expectations {
        let unit = Unit::of_word(&e.unit);
        let observed = e
            .observed
            .map_or_else(|| "no sample".into(), |v| show(v, unit).short);
        let mark = match e.met {
            Met::Yes => "met",
            Met::No => "NOT MET",
            Met::Unknown => "unknown",
        };
        let _ = writeln!(
            text,
            "{mark}: {}: {observed} {} {}",
            e.name,
            e.relation,
            show(e.bound, unit).short
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
            c.name, c.observed, c.expected, c.reason
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
