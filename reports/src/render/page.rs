//! What every page has: style, scripts, uPlot and the data of its charts, all inlined. A content security policy forbids any
//! request, so a page reads the same from a disk, an artifact store or a mail.

use std::collections::BTreeMap;

use crate::error::ReportError;
use crate::render::chart::Chart;

/// The parts that the template `page.html` puts around a page's own.
#[derive(Debug)]
pub struct Shell {
    /// Charts by id, as JSON that is safe inside a script element.
    pub data: String,
    /// Version of this build.
    pub version: &'static str,
    /// Style of all pages.
    pub style: &'static str,
    /// Script that draws the charts.
    pub script: &'static str,
    /// Style of uPlot.
    pub uplot_style: &'static str,
    /// uPlot.
    pub uplot_script: &'static str,
}

impl Shell {
    /// A page with these charts; those that are empty have no data.
    ///
    /// # Errors
    /// Only if serde fails on them.
    pub fn with<'a>(charts: impl Iterator<Item = &'a Chart>) -> Result<Self, ReportError> {
        let charts: BTreeMap<&str, &Chart> = charts
            .filter(|c| c.empty.is_none())
            .map(|c| (c.id.as_str(), c))
            .collect();
        let json = serde_json::to_string(&charts).map_err(ReportError::Json)?;
        Ok(Self {
            data: script_safe(&json),
            version: env!("CARGO_PKG_VERSION"),
            style: include_str!("../../assets/report.css"),
            script: include_str!("../../assets/report.js"),
            uplot_style: include_str!("../../vendor/uplot/uPlot.min.css"),
            uplot_script: include_str!("../../vendor/uplot/uPlot.iife.min.js"),
        })
    }
}

/// JSON that no HTML parser takes for the end of its script element or for a comment, and that old script
/// engines do not take for the end of a line.
fn script_safe(json: &str) -> String {
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
