//! Who may import whom: a dashboard knows the typed Grafana and its helpers and no other dashboard; what asks and draws a run
//! knows no dashboard either, they are handed to it.

use std::path::Path;

#[path = "../../reports/tests/support/layers.rs"]
mod layers;

const DASHBOARD: &[&str] = &["grafana", "head", "layout", "queries", "words"];

const ALLOWED: &[layers::Row] = &[
    ("grafana", &[]),
    ("queries", &[]),
    ("words", &["grafana"]),
    ("layout", &["grafana"]),
    ("head", &["grafana", "queries"]),
    ("overview", DASHBOARD),
    ("memory", DASHBOARD),
    ("render", DASHBOARD),
    ("simulator", DASHBOARD),
    ("chaos", DASHBOARD),
    ("run", &[]),
    ("run::recording", &["run"]),
    ("run::prometheus", &["run", "run::recording"]),
    ("run::ask", &["grafana", "run", "run::prometheus"]),
    (
        "run::preview",
        &["grafana", "queries", "run", "run::ask", "run::prometheus"],
    ),
];

#[test]
fn imports_follow_the_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong = layers::wrong(&source, ALLOWED);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
