//! `index.html`: one file with everything in it. Style, script, uPlot and data are inlined and a content security
//! policy forbids any request, so the page reads the same from a disk, an artifact store or a mail.

use std::collections::BTreeMap;

use askama::Template;

use crate::error::ReportError;
use crate::format::seconds;
use crate::record::{Binary, RunRecord};
use crate::render::chart::Chart;
use crate::render::facts::{Fact, Tone, place_facts, run_facts};
use crate::render::view::{ScenarioView, VerdictView, scenarios};

pub(super) const STYLE: &str = include_str!("../../assets/report.css");
pub(super) const SCRIPT: &str = include_str!("../../assets/report.js");
pub(super) const UPLOT_STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");
pub(super) const UPLOT_SCRIPT: &str = include_str!("../../vendor/uplot/uPlot.iife.min.js");

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
    data: String,
    style: &'static str,
    script: &'static str,
    uplot_style: &'static str,
    uplot_script: &'static str,
}

/// The whole page.
///
/// # Errors
/// If the template or the embedded data fails.
pub fn render(record: &RunRecord) -> Result<String, ReportError> {
    let scenarios = scenarios(record);
    let data = embedded(&scenarios)?;
    let page = Page {
        record,
        verdict: record.verdict.into(),
        length: length(record),
        facts: run_facts(record),
        place: place_facts(record),
        binaries: &record.build.binaries,
        scenarios,
        data,
        style: STYLE,
        script: SCRIPT,
        uplot_style: UPLOT_STYLE,
        uplot_script: UPLOT_SCRIPT,
    };
    page.render().map_err(ReportError::Html)
}

fn length(record: &RunRecord) -> String {
    let trials = record.scenarios.iter().flat_map(|s| {
        std::iter::once(s.trial.duration_s).chain(s.controls.iter().map(|c| c.trial.duration_s))
    });
    seconds(trials.sum::<f64>().round())
}

/// Charts by id, as JSON that is safe inside a script element.
fn embedded(scenarios: &[ScenarioView]) -> Result<String, ReportError> {
    let charts = scenarios.iter().flat_map(|s| {
        s.charts
            .iter()
            .chain(s.controls.iter().flat_map(|c| &c.charts))
    });
    let charts: BTreeMap<&str, &Chart> = charts
        .filter(|c| c.empty.is_none())
        .map(|c| (c.id.as_str(), c))
        .collect();
    let json = serde_json::to_string(&charts).map_err(ReportError::Json)?;
    Ok(script_safe(&json))
}

/// JSON that no HTML parser takes for the end of its script element or for a comment, and that old script
/// engines do not take for the end of a line.
pub(super) fn script_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_script_element() {
        let json = serde_json::to_string("</script><!--\u{2028}&").expect("a string serialises");
        let safe = script_safe(&json);
        assert_eq!(safe, r#""\u003c/script\u003e\u003c!--\u2028\u0026""#);
        let back: String = serde_json::from_str(&safe).expect("still JSON");
        assert_eq!(back, "</script><!--\u{2028}&");
    }
}
