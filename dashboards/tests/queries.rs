//! Every query parses, reads what the programs expose, and reads it as what it is; every metric is on a dashboard.

mod support;

use std::collections::BTreeSet;

use promql_parser::label::MatchOp;
use promql_parser::parser::Expr;
use promql_parser::util::{ExprVisitor, walk_expr};
use support::{Query, exposed, parsed, queries, rules, selectors};

/// Exposed by Prometheus itself.
const FOREIGN: [&str; 1] = ["up"];
/// Only in a build with the feature `failpoints`; the golden exposition is of one without.
const WITH_FAILPOINTS: [&str; 1] = ["backdrop_failpoint_triggers_total"];
/// Labels that Prometheus adds when it scrapes.
const ADDED: [&str; 2] = ["job", "instance"];
/// The label of one metric by its own name, as only a variable asks for it.
const NAME: &str = "__name__";

#[test]
fn every_query_parses() {
    let queries = queries();
    assert!(queries.len() > 150, "{}", queries.len());
    for query in queries {
        assert!(!selectors(&query).is_empty(), "{query:?} reads nothing");
    }
}

#[test]
fn what_does_not_parse_is_found() {
    let query = |expr: &str| Query {
        place: "planted".into(),
        expr: expr.into(),
    };
    assert!(parsed(&query("sum(rate(a_total[$__rate_interval])")).is_err());
    assert!(parsed(&query("sum(rate(a_total[$__rate_interval]))")).is_ok());
    assert!(parsed(&query("sum(a{b=\"$unknown\"})")).is_err());
}

/// Names of the counters that are read without a range.
#[derive(Default)]
struct BareCounters(Vec<String>);

impl ExprVisitor for BareCounters {
    type Error = std::convert::Infallible;

    /// A selector with a range is another node, a leaf.
    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        if let Expr::VectorSelector(selector) = expr {
            let name = selector.name.as_deref().unwrap_or_default();
            if name.ends_with("_bucket") {
                self.0.push(name.to_owned());
            }
        }
        Ok(true)
    }
}

#[test]
fn histograms_are_only_read_as_rates() {
    let bare = |query: &Query| {
        let mut found = BareCounters::default();
        let expr = parsed(query).unwrap_or_else(|error| panic!("{error}"));
        let Ok(_) = walk_expr(&mut found, &expr);
        found.0
    };
    for query in queries() {
        assert!(bare(&query).is_empty(), "{query:?}");
    }
    let planted = Query {
        place: "planted".into(),
        expr: "sum(rate(a_bucket[1m])) / b_bucket{x=\"}\"}".into(),
    };
    assert_eq!(bare(&planted), ["b_bucket"]);
}

#[test]
fn the_programs_expose_what_is_asked_for() {
    let exposed = exposed();
    let recorded: BTreeSet<String> = rules().into_iter().map(|(name, _)| name).collect();
    for query in queries() {
        for selector in selectors(&query) {
            let place = &query.place;
            let Some(name) = selector.name.clone() else {
                let by_name = |m: &promql_parser::label::Matcher| m.name == NAME;
                assert!(
                    selector.matchers.matchers.iter().any(by_name),
                    "{place}: reads anything"
                );
                continue;
            };
            let known = [&FOREIGN[..], &WITH_FAILPOINTS].concat();
            if known.contains(&name.as_str()) || recorded.contains(&name) {
                continue;
            }
            let labels = exposed
                .get(&name)
                .unwrap_or_else(|| panic!("{place}: nobody exposes {name}"));
            for matcher in &selector.matchers.matchers {
                if ADDED.contains(&matcher.name.as_str()) {
                    continue;
                }
                let values = labels
                    .get(&matcher.name)
                    .unwrap_or_else(|| panic!("{place}: {name} has no label {}", matcher.name));
                let wanted: Vec<&str> = match &matcher.op {
                    MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
                    MatchOp::Equal | MatchOp::NotEqual => vec![matcher.value.as_str()],
                };
                for value in wanted {
                    let label = &matcher.name;
                    assert!(
                        values.contains(value),
                        "{place}: {name} has no {label}={value:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_exposed_metric_is_on_a_dashboard() {
    let asked: BTreeSet<String> = queries()
        .iter()
        .filter(|query| !query.place.starts_with("rule "))
        .flat_map(selectors)
        .filter_map(|selector| selector.name)
        .collect();
    // A histogram is read by its buckets; the builds are what variables are made of.
    let parts = |name: &str| {
        ["_sum", "_count", "_build_info"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let missing: Vec<_> = exposed()
        .into_keys()
        .filter(|name| !parts(name) && !asked.contains(name))
        .collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
}
