//! `ctrf.json`, the Common Test Report Format of <https://ctrf.io>, for tools that read no JUnit. A test is a scenario. Held is
//! `passed`, deviated and error are `failed`, inconclusive is `other`; `rawStatus` is the verdict's own word.

use serde::Serialize;

use crate::error::ReportError;
use crate::format::unix_ms;
use crate::record::{RunRecord, ScenarioRecord, SetAside, Verdict};
use crate::render::cases::{self, Case};

/// Version of the format that this follows.
const SPEC_VERSION: &str = "0.0.0";
/// Who says so, in the document.
const GENERATED_BY: &str = concat!("backdrop-reports ", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    report_format: &'static str,
    spec_version: &'static str,
    timestamp: &'a str,
    generated_by: &'static str,
    results: Results<'a>,
}

#[derive(Serialize)]
struct Results<'a> {
    tool: Tool<'a>,
    summary: Summary<'a>,
    tests: Vec<Test<'a>>,
    environment: Environment<'a>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'static str,
    version: &'a str,
}

/// Counts by status; times in milliseconds.
#[derive(Serialize)]
struct Summary<'a> {
    tests: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    pending: usize,
    other: usize,
    start: u64,
    stop: u64,
    duration: u64,
    extra: RunFacts<'a>,
}

/// What the run says of itself, and the format has no place for.
#[derive(Serialize)]
struct RunFacts<'a> {
    verdict: Verdict,
    exit: u8,
    reason: &'a str,
    id: &'a str,
    seed: u64,
    suite: &'a str,
    replay: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Test<'a> {
    name: String,
    status: &'static str,
    /// Milliseconds.
    duration: u128,
    raw_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace: String,
    #[serde(rename = "type")]
    kind: &'static str,
    suite: [&'a str; 2],
    #[serde(skip_serializing_if = "is_zero")]
    retries: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retry_attempts: Vec<Attempt<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<TestFacts<'a>>,
}

/// An attempt that a busy host left inconclusive.
#[derive(Serialize)]
struct Attempt<'a> {
    attempt: usize,
    status: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct TestFacts<'a> {
    replay: &'a str,
    expectations: usize,
    controls: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Environment<'a> {
    app_name: &'static str,
    app_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    commit: &'a str,
    os_platform: &'static str,
    os_release: &'a str,
    healthy: bool,
    extra: HostFacts<'a>,
}

#[derive(Serialize)]
struct HostFacts<'a> {
    cpu: &'a str,
    cpus: u32,
    memory_bytes: u64,
    cgroup: &'a str,
    lacks: &'a [String],
}

/// The whole document, with a final newline.
///
/// # Errors
/// Only if serde fails on it.
pub fn render(record: &RunRecord) -> Result<String, ReportError> {
    let tests: Vec<_> = cases::of_run(record)
        .into_iter()
        .map(|case| test(case, &record.suite))
        .collect();
    let document = Document {
        report_format: "CTRF",
        spec_version: SPEC_VERSION,
        timestamp: &record.finished_at,
        generated_by: GENERATED_BY,
        results: Results {
            tool: Tool {
                name: "backdrop-chaos",
                version: &record.build.version,
            },
            summary: summary(record, &tests),
            tests,
            environment: environment(record),
        },
    };
    let mut text = serde_json::to_string_pretty(&document).map_err(ReportError::Json)?;
    text.push('\n');
    Ok(text)
}

fn status(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "passed",
        Verdict::Deviated | Verdict::Error => "failed",
        Verdict::Inconclusive => "other",
    }
}

fn test<'a>(case: Case<'a>, suite: &'a str) -> Test<'a> {
    let held = case.verdict == Verdict::Held;
    let attempts = case.scenario.map(attempts).unwrap_or_default();
    Test {
        status: status(case.verdict),
        duration: case.time.as_millis(),
        raw_status: case.verdict.word(),
        message: (!held).then(|| format!("{}: {}", case.verdict.word(), case.reason)),
        trace: if held { String::new() } else { case.details },
        kind: "chaos",
        suite: ["backdrop chaos", suite],
        retries: attempts.len(),
        retry_attempts: attempts,
        extra: case.scenario.map(|s| TestFacts {
            replay: &s.replay,
            expectations: s.expectations.len(),
            controls: s.controls.len(),
        }),
        name: case.name,
    }
}

/// Attempts at the scenario itself; those at its controls are in the record.
fn attempts<'a>(scenario: &'a ScenarioRecord) -> Vec<Attempt<'a>> {
    let name = match scenario.repeat {
        1 => scenario.name.clone(),
        n => format!("{}.repeat-{n}", scenario.name),
    };
    let own = |trial: &str| {
        let rest = trial.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(".attempt-"))
    };
    let earlier = scenario.set_aside.iter().filter(|s| own(&s.trial));
    let attempt = |(before, earlier): (usize, &'a SetAside)| Attempt {
        attempt: before + 1,
        status: "other",
        message: &earlier.reason,
    };
    earlier.enumerate().map(attempt).collect()
}

fn summary<'a>(record: &'a RunRecord, tests: &[Test<'_>]) -> Summary<'a> {
    let count = |status| tests.iter().filter(|t| t.status == status).count();
    let start = unix_ms(&record.started_at).unwrap_or(0);
    let stop = unix_ms(&record.finished_at).unwrap_or(start).max(start);
    Summary {
        tests: tests.len(),
        passed: count("passed"),
        failed: count("failed"),
        skipped: 0,
        pending: 0,
        other: count("other"),
        start,
        stop,
        duration: stop - start,
        extra: RunFacts {
            verdict: record.verdict,
            exit: record.exit,
            reason: &record.reason,
            id: &record.id,
            seed: record.seed,
            suite: &record.suite,
            replay: &record.replay,
        },
    }
}

fn environment(record: &RunRecord) -> Environment<'_> {
    let host = &record.host;
    Environment {
        app_name: "backdrop-service",
        app_version: &record.build.version,
        commit: &record.build.commit,
        os_platform: "linux",
        os_release: &host.kernel,
        healthy: record.verdict == Verdict::Held,
        extra: HostFacts {
            cpu: &host.cpu,
            cpus: host.cpus,
            memory_bytes: host.memory_bytes,
            cgroup: &host.cgroup,
            lacks: &host.lacks,
        },
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
