//! Reads a run record from disk. Version first: a newer record is refused before its fields are looked at, so
//! that the message names the version and not some field this build has never heard of.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::ReportError;
use crate::record::{RECORD_SCHEMA_VERSION, RunRecord};

/// Name of the record in a run's folder.
pub const RECORD_FILE: &str = "run.json";

#[derive(Deserialize)]
struct VersionOnly {
    schema_version: u64,
}

/// Where the record lies: `path` itself, or `run.json` in it if it is a folder.
///
/// # Errors
/// [`ReportError::NoRecord`] for a folder without one.
pub fn locate(path: &Path) -> Result<PathBuf, ReportError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let file = path.join(RECORD_FILE);
    if file.is_file() {
        Ok(file)
    } else {
        Err(ReportError::NoRecord {
            path: path.to_path_buf(),
        })
    }
}

/// Reads the record at `path`, a `run.json` or the folder that holds one.
///
/// # Errors
/// Names the file: not there, no record, newer than this build, or contradicting itself.
pub fn read_record(path: &Path) -> Result<RunRecord, ReportError> {
    let path = locate(path)?;
    let text = std::fs::read(&path).map_err(|cause| ReportError::Read {
        path: path.clone(),
        cause,
    })?;
    parse_record(&text, &path)
}

/// Parses the bytes of a record; `path` is only for messages.
///
/// # Errors
/// As [`read_record`], without the reading.
pub fn parse_record(text: &[u8], path: &Path) -> Result<RunRecord, ReportError> {
    let not_a_record = |cause| ReportError::NotARecord {
        path: path.to_path_buf(),
        cause,
    };
    let version: VersionOnly = serde_json::from_slice(text).map_err(not_a_record)?;
    if version.schema_version > u64::from(RECORD_SCHEMA_VERSION) {
        return Err(ReportError::Newer {
            path: path.to_path_buf(),
            found: version.schema_version,
            known: RECORD_SCHEMA_VERSION,
        });
    }
    if version.schema_version == 0 {
        return Err(ReportError::Older {
            path: path.to_path_buf(),
            found: 0,
        });
    }
    let record: RunRecord = serde_json::from_slice(text).map_err(not_a_record)?;
    check(&record)?;
    Ok(record)
}

/// The invariants that the types cannot express.
///
/// # Errors
/// The first contradiction found.
pub fn check(record: &RunRecord) -> Result<(), ReportError> {
    let inconsistent = |what| Err(ReportError::Inconsistent { what });
    if record.exit != record.verdict.exit() {
        return inconsistent(format!(
            "verdict `{}` has exit code {}, the record says {}",
            record.verdict.word(),
            record.verdict.exit(),
            record.exit
        ));
    }
    for scenario in &record.scenarios {
        let trials = std::iter::once((scenario.name.as_str(), &scenario.trial)).chain(
            scenario
                .controls
                .iter()
                .map(|c| (c.name.as_str(), &c.trial)),
        );
        for (name, trial) in trials {
            let rows = trial.timeline.t_s.len();
            if let Some((column, values)) =
                trial.timeline.series.iter().find(|(_, v)| v.len() != rows)
            {
                return inconsistent(format!(
                    "timeline of `{name}`: column `{column}` has {} values for {rows} times",
                    values.len()
                ));
            }
        }
    }
    Ok(())
}
