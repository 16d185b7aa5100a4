//! One offline page of charts that stand for no verdict, drawn as the report draws its own: the preview of the dashboards.

use askama::Template;

use crate::error::ReportError;
use crate::render::chart::Chart;
use crate::render::page::Shell;

/// A page.
#[derive(Template)]
#[template(path = "sheet.html")]
pub struct Sheet {
    title: String,
    lead: String,
    parts: Vec<Part>,
    shell: Shell,
}

/// A part that the head of the page links to.
#[derive(Debug, Clone)]
pub struct Part {
    /// Anchor, unique in the page; the charts' ids begin with it, so that their crosshairs go together.
    pub anchor: String,
    /// Heading.
    pub title: String,
    /// What it is for.
    pub text: String,
    /// Charts under headings of their own.
    pub groups: Vec<Group>,
}

/// Charts under one heading.
#[derive(Debug, Clone)]
pub struct Group {
    /// Heading.
    pub title: String,
    /// The charts.
    pub charts: Vec<Chart>,
}

impl Sheet {
    /// A page of these parts.
    ///
    /// # Errors
    /// If the data cannot be embedded.
    pub fn new(title: String, lead: String, parts: Vec<Part>) -> Result<Self, ReportError> {
        let charts = parts.iter().flat_map(|p| &p.groups).flat_map(|g| &g.charts);
        let shell = Shell::with(charts)?;
        Ok(Self {
            title,
            lead,
            parts,
            shell,
        })
    }

    /// The whole page.
    ///
    /// # Errors
    /// If the template fails.
    pub fn html(&self) -> Result<String, ReportError> {
        self.render().map_err(ReportError::Html)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::chart::{Role, Series, XAxis, YAxis};

    #[test]
    fn a_page_holds_its_charts_and_nothing_from_elsewhere() {
        let series = vec![Series::new("a <b>", Role::Main, vec![Some(1.0), Some(2.0)])];
        let (x, axis) = ([0.0, 1.0], YAxis::Count);
        let chart = Chart::bare("one-1".into(), XAxis::Time, axis, &x, series, "nothing")
            .titled("Things", "What they are.");
        let none = Chart::bare(
            "one-2".into(),
            XAxis::Time,
            axis,
            &x,
            Vec::new(),
            "no event",
        )
        .titled("Others", "");
        let part = Part {
            anchor: "one".into(),
            title: "One".into(),
            text: "Why.".into(),
            groups: vec![Group {
                title: "Row".into(),
                charts: vec![chart, none],
            }],
        };
        let page = Sheet::new("Sheet".into(), "Lead.".into(), vec![part]).expect("data");
        let html = page.html().expect("a page");
        for part in [
            "id=\"one-1\"",
            "href=\"#one\"",
            "no event",
            "\\u003cb\\u003e",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("id=\"one-2\""), "nothing is drawn for it");
        assert!(!html.contains("src=\"http") && !html.contains("href=\"http"));
    }
}
