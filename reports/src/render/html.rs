//! `index.html`: one file with everything in it.

use askama::Template;

use crate::error::ReportError;
use crate::format::seconds;
use crate::record::{Binary, RunRecord};
use crate::render::facts::{Fact, Tone, place_facts, run_facts};
use crate::render::page::Shell;
use crate::render::view::{ScenarioView, VerdictView, scenarios};

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
    shell: Shell,
}

/// The whole page.
///
/// # Errors
/// If the template or the embedded data fails.
pub fn render(record: &RunRecord) -> Result<String, ReportError> {
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
