//! The page of a comparison: what became of each figure, and the charts of both runs beside each other on the same scales.

use askama::Template;

use crate::compare::{Change, Comparison, Outcome, Pair, RunFacts};
use crate::error::ReportError;
use crate::record::RunRecord;
use crate::render::chart::Chart;
use crate::render::charts;
use crate::render::page::Shell;
use crate::render::view::VerdictView;
use crate::render::words::{better, caution, exact, percent, tone, value};

#[derive(Template)]
#[template(path = "compare.html")]
struct Page<'a> {
    comparison: &'a Comparison,
    /// Class of the first screen: that of the verdict which is as good.
    class: &'static str,
    mark: &'static str,
    title: &'static str,
    caution: String,
    sides: [Side<'a>; 2],
    scenarios: Vec<PairView<'a>>,
    shell: Shell,
}

struct Side<'a> {
    which: &'static str,
    run: &'a RunFacts,
    /// Its own page, relative to this one.
    report: Option<String>,
    verdict: VerdictView,
}

struct PairView<'a> {
    anchor: String,
    pair: &'a Pair,
    verdicts: Vec<VerdictView>,
    tables: Vec<Table<'a>>,
    charts: Vec<[Chart; 2]>,
}

struct Table<'a> {
    caption: &'static str,
    changes: Vec<ChangeView<'a>>,
    /// Shown at once, or unfolded by who asks.
    open: bool,
}

struct ChangeView<'a> {
    change: &'a Change,
    word: &'static str,
    class: &'static str,
    mark: &'static str,
    better: &'static str,
    before: String,
    before_exact: String,
    after: String,
    after_exact: String,
    percent: String,
}

/// The whole page; `runs` are those that were compared, `reports` their own pages, relative to this one.
///
/// # Errors
/// If the template or the embedded data fails.
pub fn render<'a>(
    comparison: &'a Comparison,
    runs: [&RunRecord; 2],
    reports: [Option<String>; 2],
) -> Result<String, ReportError> {
    let pairs = comparison.scenarios.iter().enumerate();
    let scenarios: Vec<_> = pairs.map(|(i, pair)| view(i, pair, runs)).collect();
    let shell = Shell::with(scenarios.iter().flat_map(|s| s.charts.iter().flatten()))?;
    let (class, mark, title) = match comparison.outcome {
        Outcome::NoWorse => ("held", "✓", "No worse"),
        Outcome::Worse => ("deviated", "✕", "Worse"),
        Outcome::Unclear => ("inconclusive", "?", "Unclear"),
    };
    let [first, second] = reports;
    let side = |which, run: &'a RunFacts, report| Side {
        which,
        run,
        report,
        verdict: run.verdict.into(),
    };
    let page = Page {
        class,
        mark,
        title,
        caution: caution(comparison),
        sides: [
            side("First run", &comparison.a, first),
            side("Second run", &comparison.b, second),
        ],
        comparison,
        scenarios,
        shell,
    };
    page.render().map_err(ReportError::Html)
}

fn view<'a>(number: usize, pair: &'a Pair, runs: [&RunRecord; 2]) -> PairView<'a> {
    let trials = runs.map(|run| run.scenarios.iter().find(|s| s.name == pair.name));
    let charts = match &trials {
        [Some(before), Some(after)] if pair.apart.is_empty() => {
            charts::of_pair(&format!("p{number}"), &before.trial, &after.trial)
        }
        _ => Vec::new(),
    };
    PairView {
        anchor: format!("pair-{number}"),
        verdicts: pair
            .verdicts
            .iter()
            .flatten()
            .map(|v| (*v).into())
            .collect(),
        tables: tables(pair),
        charts,
        pair,
    }
}

/// What decides is shown; hints are many, and fold where something does decide.
fn tables<'a>(pair: &'a Pair) -> Vec<Table<'a>> {
    let (deciding, hints): (Vec<_>, Vec<_>) = pair.figures.iter().partition(|f| f.decides);
    let table = |caption, figures: Vec<&'a Change>, open| Table {
        caption,
        changes: figures.into_iter().map(change).collect(),
        open,
    };
    let open = deciding.is_empty();
    let both = [
        table(
            "Figures that decide: an expectation reads them",
            deciding,
            true,
        ),
        table("Hints: all other figures", hints, open),
    ];
    both.into_iter().filter(|t| !t.changes.is_empty()).collect()
}

fn change(change: &Change) -> ChangeView<'_> {
    let tone = tone(change.word);
    let [before, after] = change.values;
    ChangeView {
        word: change.word.word(),
        class: tone.class(),
        mark: tone.mark(),
        better: better(change.better),
        before: value(change.unit, before),
        before_exact: exact(change.unit, before),
        after: value(change.unit, after),
        after_exact: exact(change.unit, after),
        percent: percent(change),
        change,
    }
}
