//! `index.html`: one file with everything in it.

use askama::Template;

use crate::error::ReportError;
use crate::format::seconds;
use crate::record::{Binary, RunRecord};
use crate::render::facts::{Fact, Tone, place_facts, run_facts};
use crate::render::mutants;
use crate::render::page::Shell;
use crate::render::view::{MutantView, ScenarioView, VerdictView, scenarios};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    record: &'a RunRecord,
    verdict: VerdictView,
    length: String,
    facts: Vec<Fact>,
    place: Vec<Fact>,
    binaries: &'a [Binary],
    scenarios: Vec<ScenarioView>,
    mutants: Vec<MutantView>,
    columns: [&'static str; 5],
    /// Where the scorecard is, from this page.
    scorecard: Option<&'a str>,
    shell: Shell,
}

/// The whole page, with a link to a scorecard if there is one.
///
/// # Errors
/// If the template or the embedded data fails.
pub fn render(record: &RunRecord, scorecard: Option<&str>) -> Result<String, ReportError> {
    let scenarios = scenarios(record);
    let charts = scenarios.iter().flat_map(|s| {
        let controls = s.controls.iter().flat_map(|c| &c.charts);
        s.charts.iter().chain(controls)
    });
    let shell = Shell::with(charts)?;
    let page = Page {
        record,
        verdict: record.verdict.into(),
        length: length(record),
        facts: run_facts(record),
        place: place_facts(record),
        binaries: &record.build.binaries,
        scenarios,
        mutants: mutants::rows(record).iter().map(MutantView::of).collect(),
        columns: mutants::COLUMNS,
        scorecard,
        shell,
    };
    page.render().map_err(ReportError::Html)
}

fn length(record: &RunRecord) -> String {
    let trials = record.scenarios.iter().flat_map(|s| {
        std::iter::once(s.trial.duration_s).chain(s.controls.iter().map(|c| c.trial.duration_s))
    });
    seconds(trials.sum::<f64>().round())
}
