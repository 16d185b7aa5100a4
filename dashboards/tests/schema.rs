//! The committed dashboards against Grafana's own types (`schema/classic.json`, made of @grafana/schema), and what these find.

mod support;

use serde_json::{Value, json};
use support::{dashboards, read};

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&read("schema/classic.json")).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
}

fn errors(schema: &jsonschema::Validator, dashboard: &Value) -> Vec<String> {
    schema
        .iter_errors(dashboard)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn every_dashboard_is_one_of_grafanas() {
    let schema = schema();
    for (name, dashboard) in dashboards() {
        let errors = errors(&schema, &dashboard);
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    }
}

#[test]
fn what_grafana_would_not_understand_is_found() {
    let schema = schema();
    let (_, good) = dashboards().remove(0);
    // The first panel is a row, the second a number.
    let cases: [(&str, Value); 8] = [
        ("/panels/1/gridPos/w", json!("wide")),
        ("/panels/1/type", json!("speedometer")),
        ("/panels/1/options/colorMode", json!("rainbow")),
        ("/panels/1/fieldConfig/defaults/color/mode", json!("bright")),
        (
            "/panels/1/fieldConfig/defaults/thresholds/steps/0",
            json!({"value": 1}),
        ),
        ("/templating/list/1/refresh", json!(9)),
        ("/graphTooltip", json!(7)),
        ("/schemaVersion", json!("41")),
    ];
    for (pointer, value) in cases {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("there") = value;
        assert!(!errors(&schema, &bad).is_empty(), "{pointer}");
    }
    let mut bad = good;
    bad["panels"][1]["tragets"] = json!([]);
    assert!(
        !errors(&schema, &bad).is_empty(),
        "a key that does not exist"
    );
}

#[test]
fn the_schema_says_where_it_comes_from() {
    let text = read("schema/classic.json");
    assert!(text.contains("@grafana/schema@13.") && text.contains("Apache-2.0"));
}
