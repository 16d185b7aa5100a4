//! The committed files as the tests read them: dashboards, their queries, the rules, and what the programs expose.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backdrop_dashboards::run::ask::Variables;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

/// The crate's folder.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of ours.
pub fn read(path: impl AsRef<Path>) -> String {
    let path: PathBuf = folder().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every committed dashboard with its file's name, as it is on disk.
pub fn dashboards() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(folder().join("grafana/dashboards")).expect("the folder");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string())
        .map(|name| name.expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names.len(), backdrop_dashboards::all().len(), "{names:?}");
    let parse = |name: String| {
        let text = read(format!("grafana/dashboards/{name}"));
        let dashboard = serde_json::from_str(&text).expect("JSON");
        (name, dashboard)
    };
    names.into_iter().map(parse).collect()
}

/// Members of a list in JSON; none if there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text in JSON.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// A query with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In words.
    pub place: String,
    /// PromQL with Grafana's variables.
    pub expr: String,
}

/// Every query of a dashboard: panels, annotations, variables.
pub fn queries_of(name: &str, dashboard: &Value) -> Vec<Query> {
    let query = |place: String, expr: &str| Query {
        place: format!("{name}: {place}"),
        expr: expr.to_owned(),
    };
    let mut all = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            let place = format!("panel {}", panel["title"]);
            all.push(query(place, text(&target["expr"])));
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        let place = format!("annotation {}", annotation["name"]);
        all.push(query(place, text(&annotation["expr"])));
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let inner = text(&variable["query"]).strip_prefix("label_values(");
        if let Some((selector, _)) = inner.and_then(|inner| inner.rsplit_once(',')) {
            all.push(query(format!("variable {}", variable["name"]), selector));
        }
    }
    all
}

/// Every rule: the name of its alert or record, and its expression.
pub fn rules() -> Vec<(String, String)> {
    let rules = read("prometheus/rules.yml");
    let mut found = Vec::new();
    let mut name = String::new();
    for line in rules.lines().map(str::trim) {
        let line = line.trim_start_matches("- ");
        for key in ["alert: ", "record: "] {
            if let Some(value) = line.strip_prefix(key) {
                value.clone_into(&mut name);
            }
        }
        if let Some(expr) = line.strip_prefix("expr: ") {
            found.push((name.clone(), expr.to_owned()));
        }
    }
    found
}

/// All of them, dashboards' and rules'.
pub fn queries() -> Vec<Query> {
    let mut all: Vec<Query> = dashboards()
        .iter()
        .flat_map(|(name, dashboard)| queries_of(name, dashboard))
        .collect();
    all.extend(rules().into_iter().map(|(name, expr)| Query {
        place: format!("rule {name}"),
        expr,
    }));
    all
}

/// Parsed as Grafana would send it.
pub fn parsed(query: &Query) -> Result<Expr, String> {
    let text = Variables::over(60).fill(&query.expr);
    if text.contains('$') {
        return Err(format!("{}: unknown variable in {text}", query.place));
    }
    parser::parse(&text).map_err(|e| format!("{}: {text}: {e}", query.place))
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

/// What a query reads.
pub fn selectors(query: &Query) -> Vec<VectorSelector> {
    let expr = parsed(query).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Selectors::default();
    let Ok(_) = walk_expr(&mut found, &expr);
    found.0
}

/// Label names with their values, by the name of the sample.
pub type Exposed = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// What service, simulator and runner expose, by their own golden files. Label values of ours hold neither commas nor quotes.
pub fn exposed() -> Exposed {
    let mut exposed = Exposed::new();
    for program in ["service", "simulator", "chaos"] {
        let golden = read(format!("../{program}/tests/golden/metrics.txt"));
        let series = golden
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in series {
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            let entry = exposed.entry(name.trim().to_owned()).or_default();
            let labels = labels.trim_end_matches('}').split(',');
            for (label, value) in labels.filter_map(|label| label.split_once('=')) {
                let values = entry.entry(label.to_owned()).or_default();
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    exposed
}

/// Tells a person what a test could not see here; past the harness, which would swallow it.
pub fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let install = backdrop_dashboards::run::prometheus::INSTALL;
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED {test}: {why}; {install}");
}
