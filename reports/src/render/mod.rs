//! Writes a run's folder: `run.json`, `index.html`, `junit.xml`, `ctrf.json`, `summary.md`, and moves the `latest` link.
//!
//! Everything is rendered before the first byte is written, and each file is written aside and renamed, so a
//! reader sees the old file or the new one. The renderings repeat the record's verdict and never form their own.

pub mod cases;
pub mod chart;
pub mod charts;
pub mod ctrf;
pub mod facts;
pub mod html;
pub mod junit;
pub mod link;
pub mod markdown;
pub mod mutants;
pub mod page;
pub mod scorecard;
pub mod series;
pub mod sheet;
pub mod side_by_side;
pub mod terminal;
pub mod trend;
pub mod view;
pub mod words;

use std::borrow::Cow;
use std::path::Path;

use crate::error::ReportError;
use crate::read::{RECORD_FILE, parse_record};
use crate::record::{Evidence, RunRecord, Trial};

/// Name of the link beside the run folders that points to the last run.
pub const LATEST_LINK: &str = "latest";

/// Writes all five files into the run folder `dir` (made if missing) and points the sibling link `latest` to it.
///
/// A figure that is not a finite number has no place in JSON: it is left out, and a sample becomes null.
///
/// # Errors
/// Which file could not be rendered or written; with [`ReportError::Inconsistent`] or
/// [`ReportError::NotARecord`] the files are there, but `run.json` would be refused by a reader.
pub fn write_all(record: &RunRecord, dir: &Path) -> Result<(), ReportError> {
    let record = finite(record);
    let json = to_json(&record)?;
    let renderings = Renderings::of(&record, dir)?;
    make_dir(dir)?;
    write_file(&dir.join(RECORD_FILE), &json)?;
    renderings.write(dir)?;
    point_latest(dir)?;
    parse_record(&json, &dir.join(RECORD_FILE)).map(|_| ())
}

/// Writes the four renderings of `record` into `dir`, leaving `run.json` and `latest` alone.
///
/// # Errors
/// Which file could not be rendered or written.
pub fn write_renderings(record: &RunRecord, dir: &Path) -> Result<(), ReportError> {
    let renderings = Renderings::of(record, dir)?;
    make_dir(dir)?;
    renderings.write(dir)
}

/// The record as pretty JSON with a final newline.
///
/// # Errors
/// Only if serde fails on it.
pub fn to_json(record: &RunRecord) -> Result<Vec<u8>, ReportError> {
    let mut json = serde_json::to_vec_pretty(record).map_err(ReportError::Json)?;
    json.push(b'\n');
    Ok(json)
}

/// The rendered files, complete before any is written.
struct Renderings {
    html: String,
    junit: String,
    ctrf: String,
    summary: String,
}

impl Renderings {
    /// For the folder `dir`; the page leads to the scorecard where one lies beside it.
    fn of(record: &RunRecord, dir: &Path) -> Result<Self, ReportError> {
        let beside = dir.parent().map(|out| out.join(scorecard::FILE));
        let scorecard = beside.is_some_and(|page| page.is_file());
        let href = scorecard.then(|| format!("../{}", scorecard::FILE));
        Ok(Self {
            html: html::render(record, href.as_deref())?,
            junit: junit::render(record)?,
            ctrf: ctrf::render(record)?,
            summary: markdown::render(record),
        })
    }

    fn write(&self, dir: &Path) -> Result<(), ReportError> {
        write_file(&dir.join(link::REPORT_FILE), self.html.as_bytes())?;
        write_file(&dir.join("junit.xml"), self.junit.as_bytes())?;
        write_file(&dir.join("ctrf.json"), self.ctrf.as_bytes())?;
        write_file(&dir.join("summary.md"), self.summary.as_bytes())
    }
}

/// Makes the folder, if it is missing, and those above it.
///
/// # Errors
/// If it cannot be made.
pub fn make_dir(dir: &Path) -> Result<(), ReportError> {
    std::fs::create_dir_all(dir).map_err(|cause| ReportError::Write {
        path: dir.to_path_buf(),
        cause,
    })
}

/// Written aside in the same folder and renamed over `path`.
///
/// # Errors
/// Which file could not be written.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = std::fs::write(&aside, content).and_then(|()| std::fs::rename(&aside, path));
    written.map_err(|cause| {
        let _ = std::fs::remove_file(&aside);
        ReportError::Write {
            path: path.to_path_buf(),
            cause,
        }
    })
}

/// Points `latest` beside `dir` to `dir`: a new link is made aside and renamed, so the name never dangles.
fn point_latest(dir: &Path) -> Result<(), ReportError> {
    let failed = |path: &Path, cause| ReportError::Write {
        path: path.to_path_buf(),
        cause,
    };
    let dir = dir.canonicalize().map_err(|e| failed(dir, e))?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Ok(());
    };
    let link = parent.join(LATEST_LINK);
    let aside = parent.join(format!(".{LATEST_LINK}.{}.tmp", std::process::id()));
    let _ = std::fs::remove_file(&aside);
    let moved =
        std::os::unix::fs::symlink(name, &aside).and_then(|()| std::fs::rename(&aside, &link));
    moved.map_err(|e| {
        let _ = std::fs::remove_file(&aside);
        failed(&link, e)
    })
}

/// The record without numbers that JSON cannot hold; borrowed if it has none.
fn finite(record: &RunRecord) -> Cow<'_, RunRecord> {
    let mut clean = record.clone();
    for scenario in &mut clean.scenarios {
        scenario.figures.retain(|_, v| v.is_finite());
        for expectation in &mut scenario.expectations {
            expectation.observed = expectation.observed.filter(|v| v.is_finite());
        }
        finite_trial(&mut scenario.trial);
        finite_evidence(&mut scenario.evidence);
        for control in &mut scenario.controls {
            control.figures.retain(|_, v| v.is_finite());
            finite_trial(&mut control.trial);
            finite_evidence(&mut control.evidence);
        }
    }
    if clean == *record {
        Cow::Borrowed(record)
    } else {
        Cow::Owned(clean)
    }
}

fn finite_trial(trial: &mut Trial) {
    for values in trial.timeline.series.values_mut() {
        for value in values {
            *value = value.filter(|v| v.is_finite());
        }
    }
    for fault in &mut trial.faults {
        fault.achieved_ratio = fault.achieved_ratio.filter(|v| v.is_finite());
    }
}

fn finite_evidence(evidence: &mut Evidence) {
    evidence.late_ratio = evidence.late_ratio.filter(|v| v.is_finite());
    evidence.simulator_busy_max = evidence.simulator_busy_max.filter(|v| v.is_finite());
}
