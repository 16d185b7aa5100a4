//! The hand-written files and every query, as Prometheus itself judges them: `promtool` checks configuration and rules, runs the
//! rules' tests, and parses what `promql-parser` takes, too, which knows later syntax than a Prometheus that is in use. Where it
//! is not installed this says so and proves nothing.

mod support;

use std::path::Path;
use std::process::Output;

use backdrop_dashboards::run::ask::Variables;
use backdrop_dashboards::run::prometheus::promtool;
use support::{Query, folder, queries, read, rules, skipped};

/// Runs it in the folder of the Prometheus files; none where it is not installed.
fn run(test: &str, arguments: &[&str]) -> Option<Output> {
    let mut tool = promtool();
    let output = tool
        .args(arguments)
        .current_dir(folder().join("prometheus"))
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(test, &format!("{:?}: {error}", tool.get_program()));
            None
        }
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

#[test]
fn configuration_and_rules_are_right_and_do_what_their_tests_say() {
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ] {
        let Some(output) = run("promtool", &arguments) else {
            return;
        };
        let words = said(&output);
        assert!(output.status.success(), "promtool {arguments:?}: {words}");
    }
}

/// A file of rules that records every query.
fn recorded(queries: &[Query]) -> String {
    let variables = Variables::over(60);
    let mut rules = "groups:\n  - name: queries\n    rules:\n".to_owned();
    for (n, query) in queries.iter().enumerate() {
        let expr = serde_json::to_string(&variables.fill(&query.expr)).expect("a string");
        rules.push_str(&format!(
            "      - record: query:{n}\n        expr: {expr}\n"
        ));
    }
    rules
}

fn check(path: &Path, rules: &str) -> Option<Output> {
    std::fs::write(path, rules).expect("written");
    run("queries", &["check", "rules", &path.display().to_string()])
}

#[test]
fn every_query_is_taken_by_a_real_promtool() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("queries.yml");
    let queries = queries();
    let Some(output) = check(&path, &recorded(&queries)) else {
        return;
    };
    let words = said(&output);
    assert!(output.status.success(), "{words}");
    assert!(
        words.contains(&format!("{} rules found", queries.len())),
        "{words}"
    );
    let planted = Query {
        place: "planted".into(),
        expr: "sum(rate(a[$__rate_interval])".into(),
    };
    let refused = check(&path, &recorded(&[planted])).expect("it was there");
    assert!(!refused.status.success());
}

#[test]
fn every_rule_is_tested_and_every_alert_both_ways() {
    let tests = read("prometheus/rules_test.yml");
    let cases: Vec<&str> = tests.split("        alertname: ").skip(1).collect();
    for (name, _) in rules() {
        if name.contains(':') {
            assert!(
                tests.contains(&format!("expr: '{name}")),
                "{name} is not tested"
            );
            continue;
        }
        let of_alert: Vec<&&str> = cases
            .iter()
            .filter(|case| case.lines().next() == Some(name.as_str()))
            .collect();
        let rests = of_alert.iter().any(|case| case.contains("exp_alerts: []"));
        let fires = of_alert.iter().any(|case| case.contains("exp_labels:"));
        assert!(
            rests && fires,
            "{name}: tested at rest {rests}, firing {fires}"
        );
    }
}
