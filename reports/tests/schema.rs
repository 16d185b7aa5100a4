//! The committed schema is the types' schema, takes a real-looking record and refuses a broken one.

mod support;

use std::path::Path;

use backdrop_reports::error::ReportError;
use backdrop_reports::read::parse_record;
use backdrop_reports::{render, schema};
use serde_json::{Value, json};

const COMMITTED: &str = include_str!("../schema/run-v2.json");

fn value() -> Value {
    serde_json::to_value(support::run()).expect("the fixture serialises")
}

fn parse(value: &Value) -> Result<(), ReportError> {
    parse_record(value.to_string().as_bytes(), Path::new("run.json")).map(|_| ())
}

#[test]
fn committed_schema_is_the_types_schema() {
    let ours = schema::run_schema().expect("the schema serialises");
    assert!(
        ours == COMMITTED,
        "write it again: cargo run -p backdrop-reports -- schema > reports/schema/run-v2.json"
    );
}

#[test]
fn a_real_record_validates_and_a_broken_one_does_not() {
    let schema: Value = serde_json::from_str(COMMITTED).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    assert!(validator.is_valid(&value()));
    let deviated = serde_json::to_value(support::deviated()).expect("the fixture serialises");
    assert!(validator.is_valid(&deviated));
    for (pointer, broken) in [
        ("/verdict", json!("splendid")),
        ("/seed", json!(-1)),
        ("/scenarios/0/expectations/0/bound", json!("ten")),
        (
            "/scenarios/0/trial/timeline/series/anon_bytes",
            json!({"0": 1}),
        ),
    ] {
        let mut record = value();
        *record.pointer_mut(pointer).expect("the field is there") = broken;
        assert!(!validator.is_valid(&record), "{pointer} went through");
        assert!(
            matches!(parse(&record), Err(ReportError::NotARecord { .. })),
            "{pointer} was read"
        );
    }
    let mut record = value();
    record.as_object_mut().expect("an object").remove("reason");
    assert!(!validator.is_valid(&record));
}

#[test]
fn a_record_survives_being_written_and_read() {
    let json = render::to_json(&support::run()).expect("the fixture serialises");
    assert_eq!(
        parse_record(&json, Path::new("run.json")).expect("it reads back"),
        support::run()
    );
}

#[test]
fn a_newer_record_is_refused_by_its_version_alone() {
    let newer = json!({"schema_version": 7, "verdict": {"new": "shape"}});
    let error = parse(&newer).expect_err("refused");
    let said = error.to_string();
    assert!(
        said.contains("schema version 7") && said.contains("up to 2"),
        "{said}"
    );
}

#[test]
fn a_version_that_nobody_wrote_is_refused_by_its_number() {
    let error = parse(&json!({"schema_version": 0})).expect_err("refused");
    assert!(error.to_string().contains("schema version 0"), "{error}");
    assert_eq!(error.exit(), 65);
    let none = parse(&json!({"id": "a run"})).expect_err("refused");
    assert!(none.to_string().contains("`schema_version`"), "{none}");
}

#[test]
fn contradictions_are_refused() {
    let mut wrong_exit = support::run();
    wrong_exit.exit = 1;
    let mut ragged = support::run();
    ragged.scenarios[0].trial.timeline.t_s.pop();
    for (record, word) in [(wrong_exit, "exit code"), (ragged, "column")] {
        let json = render::to_json(&record).expect("serialises");
        let error = parse_record(&json, Path::new("run.json")).expect_err("refused");
        assert!(error.to_string().contains(word), "{error}");
    }
}
