//! What a pipeline reads: JSON, JUnit, CTRF, Markdown and the exit code say the same of every run, whatever came of it.

mod support;

use backdrop_reports::read::read_record;
use backdrop_reports::record::{RunRecord, SetAside, Verdict};
use backdrop_reports::render::{ctrf, html, junit, markdown, write_all};
use serde_json::{Value, json};

const VERDICTS: [Verdict; 4] = [
    Verdict::Held,
    Verdict::Deviated,
    Verdict::Inconclusive,
    Verdict::Error,
];

/// Two scenarios, the second one with this verdict.
fn with(verdict: Verdict) -> RunRecord {
    let mut record = support::run();
    record.scenarios[1].verdict = verdict;
    record.verdict = verdict;
    record.exit = verdict.exit();
    record
}

fn ctrf_of(record: &RunRecord) -> Value {
    serde_json::from_str(&ctrf::render(record).expect("renders")).expect("it is JSON")
}

/// Passed, failed, other; all others are never used.
fn counts(document: &Value) -> [u64; 3] {
    let summary = &document["results"]["summary"];
    let count = |name: &str| summary[name].as_u64().expect("a count");
    assert_eq!((count("skipped"), count("pending")), (0, 0));
    let counts = ["passed", "failed", "other"].map(count);
    assert_eq!(counts.iter().sum::<u64>(), count("tests"));
    counts
}

#[test]
fn every_file_of_a_folder_says_the_same_as_the_exit_code() {
    for verdict in VERDICTS {
        let out = tempfile::tempdir().expect("a folder");
        let dir = out.path().join("run");
        write_all(&with(verdict), &dir).expect("written");
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).expect(name);
        let (word, exit) = (verdict.word(), verdict.exit());

        let record = read_record(&dir).expect("readable");
        assert_eq!((record.verdict, record.exit), (verdict, exit));

        let document: Value = serde_json::from_str(&text("ctrf.json")).expect("it is JSON");
        let (passed, failed, other, status) = match verdict {
            Verdict::Held => (2, 0, 0, "passed"),
            Verdict::Deviated | Verdict::Error => (1, 1, 0, "failed"),
            Verdict::Inconclusive => (1, 0, 1, "other"),
        };
        assert_eq!(counts(&document), [passed, failed, other], "{word}");
        let results = &document["results"];
        assert_eq!(results["tests"][0]["status"], "passed");
        assert_eq!(results["tests"][1]["status"], status);
        assert_eq!(results["tests"][1]["rawStatus"], word);
        assert_eq!(results["summary"]["extra"]["verdict"], word);
        assert_eq!(results["summary"]["extra"]["exit"], exit);
        assert_eq!(results["environment"]["healthy"], exit == 0);

        let xml = text("junit.xml");
        for property in [("verdict", word.to_owned()), ("exit", exit.to_string())] {
            let line = format!(
                r#"<property name="{}" value="{}"/>"#,
                property.0, property.1
            );
            assert!(xml.contains(&line), "{line}: {xml}");
        }
        let (failures, errors) = match verdict {
            Verdict::Held => (0, 0),
            Verdict::Deviated => (1, 0),
            Verdict::Inconclusive | Verdict::Error => (0, 1),
        };
        let line = format!(r#"tests="2" skipped="0" failures="{failures}" errors="{errors}""#);
        assert!(xml.contains(&line), "{xml}");
        assert_eq!(xml.contains(&format!(r#"type="{word}""#)), exit != 0);

        let summary = text("summary.md");
        let first = summary.lines().next().expect("a line");
        assert!(first.ends_with(word), "{first}");
        assert!(summary.contains(&format!("exit {exit},")), "{summary}");

        let page = text("index.html");
        assert!(page.contains(&format!("<section class=\"hero {word}\"")));
    }
}

#[test]
fn what_only_the_run_says_is_a_case_of_its_own() {
    let mut record = support::run();
    record.verdict = Verdict::Inconclusive;
    record.exit = 2;
    record.reason = "all 2 scenarios held; not everything was undone: cgroup x".into();
    let xml = junit::render(&record).expect("renders");
    assert!(
        xml.contains("tests=\"3\" skipped=\"0\" failures=\"0\" errors=\"1\""),
        "{xml}"
    );
    assert!(xml.contains("not everything was undone"), "{xml}");
    let document = ctrf_of(&record);
    assert_eq!(counts(&document), [2, 0, 1]);
    let run = &document["results"]["tests"][2];
    assert_eq!(
        (&run["name"], &run["rawStatus"]),
        (&json!("run"), &json!("inconclusive"))
    );

    record.scenarios.clear();
    record.verdict = Verdict::Error;
    record.exit = 255;
    let document = ctrf_of(&record);
    assert_eq!(
        counts(&document),
        [0, 1, 0],
        "a run without scenarios passes nothing"
    );
}

/// The rules of CTRF that bind us, in our own words: which keys there are, which must be, and what they hold.
fn rules() -> Value {
    let text = json!({"type": "string"});
    let name = json!({"type": "string", "minLength": 1});
    let count = json!({"type": "integer", "minimum": 0});
    let status = json!({"enum": ["passed", "failed", "skipped", "pending", "other"]});
    let object = |required: Value, properties: Value| {
        json!({
            "type": "object", "additionalProperties": false,
            "required": required, "properties": properties,
        })
    };
    let attempt = object(
        json!(["attempt", "status"]),
        json!({"attempt": {"type": "integer", "minimum": 1}, "status": status, "message": text}),
    );
    let test = object(
        json!(["name", "status", "duration"]),
        json!({
            "name": name, "status": status, "duration": count, "rawStatus": text, "message": text, "trace": text,
            "type": text, "suite": {"type": "array", "minItems": 1, "items": text}, "retries": count,
            "retryAttempts": {"type": "array", "items": attempt}, "extra": {"type": "object"},
        }),
    );
    let summary = object(
        json!([
            "tests", "passed", "failed", "skipped", "pending", "other", "start", "stop"
        ]),
        json!({
            "tests": count, "passed": count, "failed": count, "skipped": count, "pending": count, "other": count,
            "start": count, "stop": count, "duration": count, "extra": {"type": "object"},
        }),
    );
    let environment = object(
        json!([]),
        json!({
            "appName": text, "appVersion": text, "commit": text, "osPlatform": text, "osRelease": text,
            "healthy": {"type": "boolean"}, "extra": {"type": "object"},
        }),
    );
    let tool = object(json!(["name"]), json!({"name": name, "version": text}));
    let results = object(
        json!(["tool", "summary", "tests"]),
        json!({
            "tool": tool, "summary": summary, "tests": {"type": "array", "items": test}, "environment": environment,
        }),
    );
    object(
        json!(["reportFormat", "specVersion", "results"]),
        json!({
            "reportFormat": {"const": "CTRF"},
            "specVersion": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$"},
            "timestamp": text, "generatedBy": text, "results": results,
        }),
    )
}

#[test]
fn the_ctrf_document_keeps_the_formats_rules() {
    let validator = jsonschema::validator_for(&rules()).expect("the rules are a schema");
    let mut records: Vec<_> = VERDICTS.into_iter().map(with).collect();
    records.push(support::deviated());
    let mut bare = support::run();
    bare.scenarios.clear();
    bare.started_at = "long ago".into();
    bare.build.commit = String::new();
    records.push(bare);
    for record in &records {
        let document = ctrf_of(record);
        let wrong: Vec<_> = validator
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    let mut wrong = ctrf_of(&records[0]);
    wrong["results"]["tests"][0]["status"] = json!("held");
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn attempts_that_were_set_aside_are_retries() {
    let mut record = support::run();
    let scenario = &mut record.scenarios[0];
    for trial in [
        "million-switch.attempt-2",
        "million-switch.exclusive-control",
    ] {
        scenario.set_aside.push(SetAside {
            trial: trial.into(),
            outcome: "inconclusive".into(),
            reason: format!("{trial} was starved"),
            logs: Vec::new(),
        });
    }
    let document = ctrf_of(&record);
    let test = &document["results"]["tests"][0];
    assert_eq!(
        test["retries"], 2,
        "those of a control are not the scenario's"
    );
    assert_eq!(test["retryAttempts"][1]["attempt"], 2);
    assert_eq!(
        test["retryAttempts"][1]["message"],
        "million-switch.attempt-2 was starved"
    );
    let times = &document["results"]["summary"];
    assert_eq!(
        (&times["start"], &times["duration"]),
        (&json!(1_795_376_040_000_u64), &json!(372_000))
    );
}

#[test]
fn a_huge_record_is_cut_and_the_summary_says_so() {
    const MIB: usize = 1024 * 1024;
    let mut many = with(Verdict::Deviated);
    for i in 0..3_000 {
        let mut more = many.scenarios[0].clone();
        more.name = format!("again-{i}");
        more.trial = Default::default();
        more.controls.clear();
        many.scenarios.push(more);
    }
    let mut wordy = with(Verdict::Deviated);
    wordy.scenarios[0].reason = "ä".repeat(MIB);
    let mut verbose = with(Verdict::Deviated);
    verbose.scenarios[1].story = "a story is not in the summary ".repeat(100_000);
    verbose.scenarios[1].expectations[0].text = "long ".repeat(400_000);
    for (record, words) in [
        (&many, "scenarios are left out here"),
        (&wordy, "cut: `run.json` has the rest"),
        (&verbose, "1 scenario is left out here"),
    ] {
        let summary = markdown::render(record);
        assert!(summary.len() < MIB, "{}", summary.len());
        assert!(
            summary
                .lines()
                .next()
                .expect("a line")
                .ends_with("deviated")
        );
        assert!(summary.contains(words), "{words}");
    }
    let small = markdown::render(&with(Verdict::Deviated));
    assert!(!small.contains("left out here") && !small.contains("has the rest"));
}

#[test]
fn a_hostile_name_stays_in_its_string() {
    let mut record = support::run();
    let evil = "\"}],\u{0}</script>\n\u{2028}";
    record.scenarios[0].name = evil.into();
    assert_eq!(ctrf_of(&record)["results"]["tests"][0]["name"], evil);
    assert!(html::render(&record, None).is_ok());
}
