//! The page of a trend: a chart of each figure that changed over the kept runs, with the runs where something else began to be
//! measured marked, and a table of those that did not.

use std::path::Path;

use askama::Template;

use crate::error::ReportError;
use crate::format::{Unit, show};
use crate::history::{Facts, Point, Trend};
use crate::record::Better;
use crate::render::chart::{Chart, Mark, Role, Series, YAxis};
use crate::render::link;
use crate::render::page::Shell;
use crate::render::series::Column;
use crate::render::view::VerdictView;
use crate::render::words::better;

#[derive(Template)]
#[template(path = "trend.html")]
struct Page<'a> {
    trend: &'a Trend,
    newest: VerdictView,
    span: String,
    runs: Vec<RunView<'a>>,
    groups: Vec<Group>,
    steady: Vec<Steady<'a>>,
    shell: Shell,
}

/// Charts of figures that matter alike.
struct Group {
    title: &'static str,
    charts: Vec<Chart>,
}

/// A figure that was the same in every run that has it.
struct Steady<'a> {
    name: &'a str,
    value: String,
    exact: String,
    runs: usize,
    remark: String,
}

struct RunView<'a> {
    run: &'a Point,
    /// Its own page, relative to this one.
    report: Option<String>,
    verdict: VerdictView,
    /// What is not as in the run before.
    news: String,
    /// What of it does not count.
    left_out: String,
}

/// The whole page, for the folder `home`: links are relative to it.
///
/// # Errors
/// If the template or the embedded data fails.
///
/// # Panics
/// If the trend has no run; [`crate::history::trend`] gives none without.
pub fn render(trend: &Trend, home: &Path) -> Result<String, ReportError> {
    let mut groups = [
        "What an expectation reads",
        "What else is better one way",
        "All else",
    ]
    .map(|title| Group {
        title,
        charts: Vec::new(),
    });
    let mut steady = Vec::new();
    for (i, (name, facts)) in trend.figures_in_order().into_iter().enumerate() {
        let values: Vec<f64> = trend.column(name).into_iter().flatten().collect();
        if values.windows(2).all(|pair| pair[0] == pair[1]) {
            steady.extend(
                values
                    .first()
                    .map(|value| unchanged(name, facts, *value, values.len())),
            );
        } else {
            let group = match facts {
                Facts { expected: true, .. } => 0,
                Facts {
                    better: Better::Neither,
                    ..
                } => 2,
                _ => 1,
            };
            groups[group].charts.push(chart(i, name, facts, trend));
        }
    }
    let groups: Vec<Group> = groups
        .into_iter()
        .filter(|g| !g.charts.is_empty())
        .collect();
    let newest = trend.runs.last().expect("a trend has a run");
    let page = Page {
        newest: newest.verdict.into(),
        span: format!("{} to {}", trend.runs[0].started_at, newest.started_at),
        runs: trend.runs.iter().rev().map(|run| view(run, home)).collect(),
        shell: Shell::with(groups.iter().flat_map(|g| &g.charts))?,
        groups,
        steady,
        trend,
    };
    page.render().map_err(ReportError::Html)
}

fn unchanged<'a>(name: &'a str, facts: &Facts, value: f64, runs: usize) -> Steady<'a> {
    let shown = show(value, facts.unit);
    let read = if facts.expected { "expected, " } else { "" };
    Steady {
        name,
        value: shown.short,
        exact: shown.exact,
        runs,
        remark: format!("{read}{}", better(facts.better)),
    }
}

fn view<'a>(run: &'a Point, home: &Path) -> RunView<'a> {
    RunView {
        report: link::to_report(home, &run.folder),
        verdict: run.verdict.into(),
        news: news(run).unwrap_or_default(),
        left_out: run.spoils.words().join("; "),
        run,
    }
}

fn news(run: &Point) -> Option<String> {
    let news = [
        (run.redefined, "another definition"),
        (run.moved, "another host"),
        (run.rebuilt, "another build"),
    ];
    let words: Vec<_> = news.iter().filter(|(is, _)| *is).map(|(_, w)| *w).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn chart(number: usize, name: &str, facts: &Facts, trend: &Trend) -> Chart {
    let (y_axis, scale) = axis(facts.unit, &trend.column(name));
    let values: Column = trend
        .column(name)
        .iter()
        .map(|v| v.map(|v| v * scale))
        .collect();
    let labels: Vec<String> = trend.runs.iter().map(|r| r.started_at.clone()).collect();
    let series = vec![Series::new(name, Role::Main, values)];
    let mut chart = Chart::over_runs(
        format!("f{number}"),
        y_axis,
        labels,
        series,
        "No run has it.",
    );
    let mark = |(place, run): (usize, &Point)| {
        news(run).map(|label| Mark {
            at: place as f64 - 0.5,
            label,
            kill: false,
        })
    };
    chart.marks = trend.runs.iter().enumerate().filter_map(mark).collect();
    chart.titled(name, better(facts.better))
}

/// The axis for a unit, and what a value is multiplied with for it.
fn axis(unit: Unit, column: &[Option<f64>]) -> (YAxis, f64) {
    const MIB: f64 = 1_048_576.0;
    let most = column.iter().flatten().copied().fold(0.0, f64::max);
    match unit {
        Unit::Bytes => (YAxis::Bytes, 1.0),
        Unit::Mebibytes => (YAxis::Bytes, MIB),
        Unit::Seconds => (YAxis::Seconds, 1.0),
        Unit::Millis => (YAxis::Seconds, 1e-3),
        Unit::Micros => (YAxis::Seconds, 1e-6),
        // The axis of shares ends at one.
        Unit::Ratio if most <= 1.0 => (YAxis::Ratio, 1.0),
        Unit::PerSecond => (YAxis::PerSecond, 1.0),
        Unit::Cores => (YAxis::Cores, 1.0),
        Unit::Ratio
        | Unit::Percent
        | Unit::Points
        | Unit::PerHour
        | Unit::MebibytesPerSecond
        | Unit::Count => (YAxis::Count, 1.0),
    }
}
