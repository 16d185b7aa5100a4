//! JUnit for CI: one suite per run, one test case per scenario. JUnit has no word for `inconclusive`; it is an
//! `error` whose type says so, since a reader that counts a skipped test as passed would call it held.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::error::ReportError;
use crate::record::{RunRecord, Verdict};
use crate::render::cases::{self, Case};

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
    let cases = cases::of_run(record);
    let total: Duration = cases.iter().map(|c| c.time).sum();
    for case in cases {
        suite.add_test_case(test_case(case));
    }
    suite.set_time(total);
    let mut report = Report::new("backdrop chaos");
    report.set_time(total);
    report.add_test_suite(suite);
    report.to_string().map_err(ReportError::Junit)
}

fn test_case(case: Case<'_>) -> TestCase {
    let mut test = TestCase::new(case.name.as_str(), status(&case));
    if let Some(scenario) = case.scenario {
        test.set_classname("backdrop.chaos")
            .set_assertions(scenario.expectations.len())
            .set_time(case.time);
        test.add_property(("verdict", case.verdict.word()));
        test.add_property(("replay", scenario.replay.as_str()));
        test.set_system_out(case.details);
    }
    test
}

fn status(case: &Case<'_>) -> TestCaseStatus {
    let kind = match case.verdict {
        Verdict::Held => return TestCaseStatus::success(),
        Verdict::Deviated => NonSuccessKind::Failure,
        Verdict::Inconclusive | Verdict::Error => NonSuccessKind::Error,
    };
    let word = case.verdict.word();
    let mut status = TestCaseStatus::non_success(kind);
    status
        .set_type(word)
        .set_message(format!("{word}: {}", case.reason));
    status.set_description(case.details.clone());
    status
}
