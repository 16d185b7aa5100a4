//! The page of a trend: each figure over the kept runs, with the runs where something else began to be measured marked.

use askama::Template;

use crate::error::ReportError;
use crate::format::Unit;
use crate::history::{Point, Trend};
use crate::record::Better;
use crate::render::chart::{Chart, Mark, Role, Series, YAxis};
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
    charts: Vec<Chart>,
    shell: Shell,
}

struct RunView<'a> {
    run: &'a Point,
    verdict: VerdictView,
    /// What is not as in the run before.
    news: &'static str,
}

/// The whole page.
///
/// # Errors
/// If the template or the embedded data fails.
///
/// # Panics
/// If the trend has no run; [`crate::history::trend`] gives none without.
pub fn render(trend: &Trend) -> Result<String, ReportError> {
    let charts: Vec<_> = trend
        .figures
        .iter()
        .enumerate()
        .map(|(i, (name, which))| chart(i, name, *which, trend))
        .collect();
    let newest = trend.runs.last().expect("a trend has a run");
    let page = Page {
        newest: newest.verdict.into(),
        span: format!("{} to {}", trend.runs[0].started_at, newest.started_at),
        runs: trend.runs.iter().rev().map(view).collect(),
        shell: Shell::with(charts.iter())?,
        charts,
        trend,
    };
    page.render().map_err(ReportError::Html)
}

fn view(run: &Point) -> RunView<'_> {
    RunView {
        verdict: run.verdict.into(),
        news: news(run).unwrap_or(""),
        run,
    }
}

fn news(run: &Point) -> Option<&'static str> {
    match (run.redefined, run.moved) {
        (true, true) => Some("another definition, another host"),
        (true, false) => Some("another definition"),
        (false, true) => Some("another host"),
        (false, false) => None,
    }
}

fn chart(number: usize, name: &str, which: Better, trend: &Trend) -> Chart {
    let (y_axis, scale) = axis(Unit::of_name(name), &trend.column(name));
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
            label: label.to_owned(),
            kill: false,
        })
    };
    chart.marks = trend.runs.iter().enumerate().filter_map(mark).collect();
    chart.titled(name, better(which))
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
        Unit::Ratio | Unit::Percent | Unit::Points | Unit::PerHour | Unit::Count => {
            (YAxis::Count, 1.0)
        }
    }
}
