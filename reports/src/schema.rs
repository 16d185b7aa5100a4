//! The JSON Schema of the run record, derived from the types. The committed copy is `schema/run-v2.json`; a test
//! compares the two, so that a change of the wire format is seen in review.

use crate::error::ReportError;
use crate::record::RunRecord;

/// The schema as pretty JSON with a final newline, byte for byte what is committed.
///
/// # Errors
/// Only if the schema could not be serialised.
pub fn run_schema() -> Result<String, ReportError> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(RunRecord))
        .map_err(ReportError::Json)?;
    text.push('\n');
    Ok(text)
}
