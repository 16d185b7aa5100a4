//! `index.html`: one offline file.

use askama::Template;

use crate::error::ReportError;
use crate::record::RunRecord;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    record: &'a RunRecord,
}

/// The whole page.
///
/// # Errors
/// If the template fails.
pub fn render(record: &RunRecord) -> Result<String, ReportError> {
    Ok(Page { record }.render()?)
}
