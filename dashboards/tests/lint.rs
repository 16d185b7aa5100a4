//! The rules of Grafana's dashboard-linter that apply to Prometheus dashboards, by its names, on the committed files; and that
//! each finds what is wrong when it is planted.

mod support;

use promql_parser::parser::Expr;
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::{Value, json};
use support::{Query, dashboards, list, parsed, queries_of, text};

/// Counters that are read as they stand: what they count is few and told apart one by one, and `increase` would make fractions
/// of it.
const COUNTED_ONE_BY_ONE: [&str; 5] = [
    "backdrop_chaos_faults_total",
    "backdrop_chaos_oom_kills_total",
    "backdrop_chaos_scenarios_total",
    "backdrop_chaos_trials_total",
    "backdrop_simulator_truth_findings_total",
];

type Rule = fn(&Value) -> Vec<String>;

const RULES: [(&str, Rule); 13] = [
    ("template-datasource-rule", template_datasource),
    ("template-job-rule", template_job),
    ("template-instance-rule", template_instance),
    ("template-on-time-change-reload-rule", template_reload),
    ("template-label-promql-rule", template_promql),
    ("panel-datasource-rule", panel_datasource),
    ("panel-title-description-rule", panel_title_description),
    ("panel-units-rule", panel_units),
    ("panel-no-targets-rule", panel_no_targets),
    ("target-promql-rule", target_promql),
    ("target-rate-interval-rule", target_rate_interval),
    ("target-counter-agg-rule", target_counter_agg),
    ("uneditable-dashboard", uneditable),
];

/// Rules of their own, since they are one rule twice.
const MATCHERS: [(&str, &str); 2] = [
    ("target-job-rule", "job"),
    ("target-instance-rule", "instance"),
];

/// Broken rules by name, with where.
fn violations(dashboard: &Value) -> Vec<(&'static str, String)> {
    let rules = RULES.iter().flat_map(|(name, rule)| {
        let found = rule(dashboard).into_iter();
        found.map(move |what| (*name, what))
    });
    let matchers = MATCHERS.iter().flat_map(|(name, label)| {
        let found = target_matcher(dashboard, label).into_iter();
        found.map(move |what| (*name, what))
    });
    rules.chain(matchers).collect()
}

fn variable<'a>(dashboard: &'a Value, name: &str) -> Option<&'a Value> {
    list(&dashboard["templating"]["list"]).find(|variable| variable["name"] == name)
}

/// Panels that show something; rows only divide.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).filter(|panel| panel["type"] != "row")
}

fn when(wrong: bool, what: impl Into<String>) -> Vec<String> {
    if wrong { vec![what.into()] } else { Vec::new() }
}

fn template_datasource(dashboard: &Value) -> Vec<String> {
    let right = |v: &Value| {
        v["type"] == "datasource" && v["query"] == "prometheus" && v["label"] == "Data source"
    };
    let found = variable(dashboard, "datasource").is_some_and(right);
    when(!found, "no variable `datasource`, labelled Data source")
}

fn template_of(dashboard: &Value, name: &str, label: &str) -> Vec<String> {
    let right = |v: &Value| {
        v["type"] == "query"
            && v["datasource"]["uid"] == "${datasource}"
            && v["label"] == label
            && v["multi"] == true
            && v["includeAll"] == true
            && v["allValue"] == ".+"
            && text(&v["query"]).starts_with("label_values(")
            && text(&v["query"]).ends_with(&format!(", {name})"))
    };
    let found = variable(dashboard, name).is_some_and(right);
    when(!found, format!("no variable `{name}` with All as .+"))
}

fn template_job(dashboard: &Value) -> Vec<String> {
    template_of(dashboard, "job", "Job")
}

fn template_instance(dashboard: &Value) -> Vec<String> {
    template_of(dashboard, "instance", "Instance")
}

fn template_reload(dashboard: &Value) -> Vec<String> {
    list(&dashboard["templating"]["list"])
        .filter(|v| v["type"] == "query" && v["refresh"] != 2)
        .map(|v| format!("{} is not asked again when the time changes", v["name"]))
        .collect()
}

fn unparsed(dashboard: &Value, kind: &str) -> Vec<String> {
    let all = queries_of("", dashboard).into_iter();
    all.filter(|query| query.place.contains(kind))
        .filter_map(|query| parsed(&query).err())
        .collect()
}

fn template_promql(dashboard: &Value) -> Vec<String> {
    unparsed(dashboard, ": variable ")
}

fn target_promql(dashboard: &Value) -> Vec<String> {
    unparsed(dashboard, ": panel ")
}

fn panel_datasource(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|p| {
            let targets = list(&p["targets"]).map(|t| &t["datasource"]);
            let mut all = targets.chain([&p["datasource"]]);
            all.any(|d| d["uid"] != "${datasource}" || d["type"] != "prometheus")
        })
        .map(|p| format!("{} does not ask the picked data source", p["title"]))
        .collect()
}

fn panel_title_description(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|p| text(&p["title"]).is_empty() || text(&p["description"]).len() < 20)
        .map(|p| format!("panel {} {} says too little", p["id"], p["title"]))
        .collect()
}

/// Panels that show words need a mapping of values, all others a unit.
fn panel_units(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|p| {
            let defaults = &p["fieldConfig"]["defaults"];
            let worded = list(&defaults["mappings"]).next().is_some();
            match text(&defaults["unit"]) {
                "" => true,
                "none" => !worded,
                _ => false,
            }
        })
        .map(|p| format!("{} has no unit", p["title"]))
        .collect()
}

fn panel_no_targets(dashboard: &Value) -> Vec<String> {
    panels(dashboard)
        .filter(|p| {
            let names: Vec<_> = list(&p["targets"]).map(|t| text(&t["refId"])).collect();
            let mut apart = names.clone();
            apart.sort_unstable();
            apart.dedup();
            names.is_empty() || apart.len() != names.len()
        })
        .map(|p| format!("{} has no or ambiguous queries", p["title"]))
        .collect()
}

fn panel_queries(dashboard: &Value) -> Vec<Query> {
    let mut all = queries_of("", dashboard);
    all.retain(|query| query.place.contains(": panel "));
    all
}

fn target_rate_interval(dashboard: &Value) -> Vec<String> {
    panel_queries(dashboard)
        .into_iter()
        .filter(|q| q.expr.replace("[$__rate_interval]", "").contains('['))
        .map(|q| format!("{}: a fixed range in {}", q.place, q.expr))
        .collect()
}

/// Counters that are read without a range.
#[derive(Default)]
struct Bare(Vec<String>);

impl ExprVisitor for Bare {
    type Error = std::convert::Infallible;

    /// A selector with a range is another node, a leaf.
    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::VectorSelector(selector) = expr {
            let name = selector.name.as_deref().unwrap_or_default();
            if name.ends_with("_total") && !COUNTED_ONE_BY_ONE.contains(&name) {
                self.0.push(name.to_owned());
            }
        }
        Ok(true)
    }
}

fn target_counter_agg(dashboard: &Value) -> Vec<String> {
    let parsed = panel_queries(dashboard)
        .into_iter()
        .filter_map(|query| Some((parsed(&query).ok()?, query)));
    parsed
        .flat_map(|(expr, query)| {
            let mut found = Bare::default();
            let Ok(_) = walk_expr(&mut found, &expr);
            let told = move |name| format!("{}: {name} without a range", query.place);
            found.0.into_iter().map(told)
        })
        .collect()
}

fn target_matcher(dashboard: &Value, label: &str) -> Vec<String> {
    let wanted = format!("{label}=~\"${label}\"");
    panel_queries(dashboard)
        .into_iter()
        .filter(|q| q.expr.matches('{').count() != q.expr.matches(&wanted).count())
        .map(|q| format!("{}: a selector without {wanted} in {}", q.place, q.expr))
        .collect()
}

fn uneditable(dashboard: &Value) -> Vec<String> {
    when(dashboard["editable"] != false, "it may be edited")
}

#[test]
fn the_committed_dashboards_break_no_rule() {
    for (name, dashboard) in dashboards() {
        let found = violations(&dashboard);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

/// The dashboard with something else in one place.
fn planted(pointer: &str, value: Value) -> Value {
    let (_, mut dashboard) = dashboards().remove(0);
    let place = dashboard.pointer_mut(pointer);
    *place.unwrap_or_else(|| panic!("there is no {pointer}")) = value;
    dashboard
}

#[test]
fn every_rule_finds_what_is_planted() {
    // The first panel is a row; variables are datasource, job, instance.
    let expr = "/panels/1/targets/0/expr";
    let own = |metric: &str| format!("{metric}{{job=~\"$job\",instance=~\"$instance\"}}");
    let cases: [(&str, &str, Value); 19] = [
        (
            "template-datasource-rule",
            "/templating/list/0/name",
            json!("source"),
        ),
        (
            "template-datasource-rule",
            "/templating/list/0/label",
            json!("Prometheus"),
        ),
        (
            "template-job-rule",
            "/templating/list/1/allValue",
            json!(""),
        ),
        (
            "template-instance-rule",
            "/templating/list/2/multi",
            json!(false),
        ),
        (
            "template-on-time-change-reload-rule",
            "/templating/list/1/refresh",
            json!(1),
        ),
        (
            "template-label-promql-rule",
            "/templating/list/1/query",
            json!("label_values(a{, job)"),
        ),
        (
            "panel-datasource-rule",
            "/panels/1/datasource/uid",
            json!("abc"),
        ),
        (
            "panel-datasource-rule",
            "/panels/1/targets/0/datasource/uid",
            json!("abc"),
        ),
        ("panel-title-description-rule", "/panels/1/title", json!("")),
        (
            "panel-title-description-rule",
            "/panels/1/description",
            json!("short"),
        ),
        (
            "panel-units-rule",
            "/panels/1/fieldConfig/defaults/unit",
            json!(""),
        ),
        (
            "panel-units-rule",
            "/panels/1/fieldConfig/defaults/unit",
            json!("none"),
        ),
        ("panel-no-targets-rule", "/panels/1/targets", json!([])),
        ("target-promql-rule", expr, json!("sum(")),
        (
            "target-rate-interval-rule",
            expr,
            json!(format!("rate({}[5m])", own("a_total"))),
        ),
        ("target-counter-agg-rule", expr, json!(own("a_total"))),
        ("target-job-rule", expr, json!("a{instance=~\"$instance\"}")),
        ("target-instance-rule", expr, json!("a{job=~\"$job\"}")),
        ("uneditable-dashboard", "/editable", json!(true)),
    ];
    for (rule, pointer, value) in &cases {
        let found = violations(&planted(pointer, value.clone()));
        let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
        assert!(
            names.contains(rule),
            "{rule}: {pointer} = {value}: {found:?}"
        );
    }
    let named = RULES.iter().map(|(name, _)| *name);
    for name in named.chain(MATCHERS.map(|(name, _)| name)) {
        let planted = cases.iter().any(|(rule, ..)| *rule == name);
        assert!(planted, "nothing is planted for {name}");
    }
}
