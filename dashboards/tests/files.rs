//! The files of this folder: generated ones are up to date, panels are whole, queries parse, and the service exposes
//! what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

/// Exposed by Prometheus itself, not by the service.
const FOREIGN: [&str; 1] = ["up"];
/// Only in a build with the feature `failpoints`; the golden exposition is of one without.
const WITH_FAILPOINTS: [&str; 1] = ["backdrop_failpoint_triggers_total"];
/// Labels that Prometheus adds when it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn dashboard() -> Value {
    serde_json::from_str(&read(folder().join("grafana/service-overview.json")))
        .expect("the dashboard is JSON")
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"]
        .as_array()
        .expect("panels")
        .iter()
        .collect()
}

/// Every query with where it stands: panels, annotations, variables, alerts.
fn queries() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let mut all = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expr = target["expr"].as_str().expect("an expression");
            all.push((format!("panel {}", panel["title"]), expr.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"]
        .as_array()
        .expect("annotations")
    {
        let expr = annotation["expr"].as_str().expect("an expression");
        all.push((
            format!("annotation {}", annotation["name"]),
            expr.to_owned(),
        ));
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        let query = variable["query"].as_str().expect("a query");
        if let Some((selector, _)) = query
            .strip_prefix("label_values(")
            .and_then(|q| q.rsplit_once(','))
        {
            all.push((
                format!("variable {}", variable["name"]),
                selector.to_owned(),
            ));
        }
    }
    let rules = read(folder().join("prometheus/rules.yml"));
    let exprs = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    all.extend(exprs.map(|expr| ("alert".to_owned(), expr.to_owned())));
    all
}

/// As Grafana would send it.
fn substituted(expr: &str) -> String {
    expr.replace("$__rate_interval", "15s")
        .replace("$job", "backdrop-service")
        .replace("$instance", ".+")
}

fn parsed(place: &str, expr: &str) -> Expr {
    let text = substituted(expr);
    assert!(!text.contains('$'), "{place}: unknown variable in {text}");
    parser::parse(&text).unwrap_or_else(|e| panic!("{place}: {text}: {e}"))
}

#[derive(Default)]
struct Selectors(Vec<VectorSelector>);

impl ExprVisitor for Selectors {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.0.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
            _ => {}
        }
        Ok(true)
    }
}

fn selectors(place: &str, expr: &str) -> Vec<VectorSelector> {
    let mut found = Selectors::default();
    let Ok(_) = walk_expr(&mut found, &parsed(place, expr));
    found.0
}

/// Label names with their values, by the name of the sample.
type Exposed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What the service exposes, by its own golden file. Label values of ours hold neither commas nor quotes.
fn exposed() -> Exposed {
    let golden = read(folder().join("../service/tests/golden/metrics.txt"));
    let mut exposed = Exposed::new();
    for line in golden
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let entry = exposed.entry(name.trim().to_owned()).or_default();
        for (label, value) in labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|l| l.split_once('='))
        {
            entry
                .entry(label.to_owned())
                .or_default()
                .insert(value.trim_matches('"').to_owned());
        }
    }
    assert!(
        exposed.len() > 30,
        "the golden exposition has only {} metrics",
        exposed.len()
    );
    exposed
}

#[test]
fn committed_files_are_what_the_source_generates() {
    for (name, content) in backdrop_dashboards::files() {
        assert!(
            read(folder().join(name)) == content,
            "{name} is old: run `cargo run -p backdrop-dashboards`"
        );
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard = dashboard();
    for panel in panels(&dashboard)
        .into_iter()
        .filter(|p| p["type"] != "row")
    {
        let title = &panel["title"];
        assert!(
            panel["description"].as_str().is_some_and(|d| d.len() > 20),
            "{title} has no description"
        );
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|u| !u.is_empty()), "{title} has no unit");
        let targets = panel["targets"].as_array().expect("targets");
        let ids: BTreeSet<_> = targets.iter().map(|t| t["refId"].as_str()).collect();
        assert!(
            !targets.is_empty() && ids.len() == targets.len(),
            "{title} has no or ambiguous queries"
        );
    }
    for variable in ["datasource", "job", "instance"] {
        let list = dashboard["templating"]["list"]
            .as_array()
            .expect("variables");
        assert!(
            list.iter().any(|v| v["name"] == variable),
            "no variable {variable}"
        );
    }
}

#[test]
fn panels_have_ids_and_places_of_their_own() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    let ids: BTreeSet<_> = panels
        .iter()
        .map(|p| p["id"].as_u64().expect("an id"))
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeMap::new();
    for panel in panels {
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
        assert!(
            w > 0 && h > 0 && x + w <= 24,
            "{} leaves the grid",
            panel["title"]
        );
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = taken.insert(cell, &panel["title"]);
            assert!(other.is_none(), "{} overlaps {:?}", panel["title"], other);
        }
    }
}

#[test]
fn every_query_parses() {
    let queries = queries();
    assert!(
        queries.len() > 50 && queries.iter().filter(|(place, _)| place == "alert").count() >= 5
    );
    for (place, expr) in queries {
        assert!(
            !selectors(&place, &expr).is_empty(),
            "{place}: {expr} reads nothing"
        );
    }
}

/// Names of the counters that are read without a range, each where it stands.
#[derive(Default)]
struct BareCounters(Vec<String>);

impl ExprVisitor for BareCounters {
    type Error = std::convert::Infallible;

    /// A selector with a range is another node, a leaf.
    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::VectorSelector(selector) = expr {
            let name = selector.name.as_deref().unwrap_or_default();
            if ["_total", "_bucket"].iter().any(|end| name.ends_with(end)) {
                self.0.push(name.to_owned());
            }
        }
        Ok(true)
    }
}

fn bare_counters(place: &str, expr: &str) -> Vec<String> {
    let mut found = BareCounters::default();
    let Ok(_) = walk_expr(&mut found, &parsed(place, expr));
    found.0
}

#[test]
fn counters_are_only_read_as_rates() {
    for (place, expr) in queries() {
        let bare = bare_counters(&place, &expr);
        assert!(
            bare.is_empty(),
            "{place}: {bare:?} without a range in {expr}"
        );
    }
    let second = bare_counters("example", "sum(rate(a_total[1m])) / a_total{x=\"}\"}");
    assert_eq!(second, ["a_total"]);
}

#[test]
fn the_service_exposes_what_is_asked_for() {
    let exposed = exposed();
    for (place, expr) in queries() {
        for selector in selectors(&place, &expr) {
            let name = selector
                .name
                .clone()
                .expect("every selector names its metric");
            if FOREIGN.contains(&name.as_str()) || WITH_FAILPOINTS.contains(&name.as_str()) {
                continue;
            }
            let labels = exposed
                .get(&name)
                .unwrap_or_else(|| panic!("{place}: the service has no {name}"));
            for matcher in &selector.matchers.matchers {
                if ADDED.contains(&matcher.name.as_str()) {
                    continue;
                }
                let values = labels.get(&matcher.name);
                let values = values
                    .unwrap_or_else(|| panic!("{place}: {name} has no label {}", matcher.name));
                let wanted: Vec<&str> = match &matcher.op {
                    MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
                    MatchOp::Equal | MatchOp::NotEqual => vec![matcher.value.as_str()],
                };
                for value in wanted {
                    assert!(
                        values.contains(value),
                        "{place}: {name} has no {}={value:?}",
                        matcher.name
                    );
                }
            }
        }
    }
}

#[test]
fn every_exposed_metric_is_on_the_dashboard() {
    let asked: BTreeSet<String> = queries()
        .iter()
        .flat_map(|(place, expr)| selectors(place, expr))
        .filter_map(|s| s.name)
        .collect();
    // A histogram is read by its buckets.
    let parts = |name: &str| name.ends_with("_sum") || name.ends_with("_count");
    let missing: Vec<_> = exposed()
        .into_keys()
        .filter(|name| !parts(name) && !asked.contains(name))
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}
