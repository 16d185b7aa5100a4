//! The kept runs of one scenario, oldest first: what each figure was in each. Knows where runs lie and how many are looked at,
//! not how a trend looks. Runs of the mutation suite are none of a scenario. A run that cannot be opened is named with the reason,
//! and the others are shown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::alike::{Circumstances, Spoils, spoilt};
use crate::error::ReportError;
use crate::format::Unit;
use crate::read::{RECORD_FILE, read_record};
use crate::record::{Better, MUTANTS_SUITE, RunRecord, ScenarioRecord, Verdict};
use crate::statistics::median;

/// Runs that are looked at, the newest ones: a record may have some megabytes.
pub const RUNS_MAX: usize = 200;

/// One scenario over runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// The scenario.
    pub scenario: String,
    /// Runs that have it, oldest first.
    pub runs: Vec<Point>,
    /// Runs that could not be opened, with the reason.
    pub unread: Vec<(PathBuf, String)>,
    /// Older runs that were not looked at.
    pub older: usize,
    /// Figures of any of the runs, by name with the window.
    pub figures: BTreeMap<String, Facts>,
}

/// What a figure is, as far as the runs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which way it is better.
    pub better: Better,
    /// What it counts.
    pub unit: Unit,
    /// An expectation of one of the runs reads it.
    pub expected: bool,
}

/// The scenario in one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The run's folder's name.
    pub id: String,
    /// Where it lies.
    pub folder: PathBuf,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Git commit.
    pub commit: String,
    /// Worst verdict of the repeats.
    pub verdict: Verdict,
    /// Times that the scenario was run.
    pub repeats: usize,
    /// Something else was planned than in the newest run before it whose record says; false where its own does not.
    pub redefined: bool,
    /// It ran on another host than the run before.
    pub moved: bool,
    /// Its service was built with other features than in the newest run before it whose record says.
    pub rebuilt: bool,
    /// What of its repeats does not count.
    pub spoils: Spoils,
    /// Figures by name, the median of the repeats that count.
    pub values: BTreeMap<String, f64>,
}

impl Trend {
    /// The figure of each run; none where it has no sample.
    #[must_use]
    pub fn column(&self, figure: &str) -> Vec<Option<f64>> {
        let value = |run: &Point| run.values.get(figure).copied();
        self.runs.iter().map(value).collect()
    }

    /// Figures in the order in which they matter: those that an expectation reads, others that are better one way, the rest.
    #[must_use]
    pub fn figures_in_order(&self) -> Vec<(&String, &Facts)> {
        let mut figures: Vec<_> = self.figures.iter().collect();
        figures.sort_by_key(|(_, facts)| (!facts.expected, facts.better == Better::Neither));
        figures
    }

    /// What of all runs' repeats does not count.
    #[must_use]
    pub fn spoils(&self) -> Spoils {
        let each = self.runs.iter().map(|run| run.spoils);
        each.fold(Spoils::default(), Spoils::and)
    }
}

/// The trend of a scenario over the newest [`RUNS_MAX`] runs below `out`, of all its figures or of `figure` alone.
///
/// # Errors
/// The folder cannot be read, or no run there has the scenario or the figure.
pub fn trend(out: &Path, scenario: &str, figure: Option<&str>) -> Result<Trend, ReportError> {
    let mut folders = runs_in(out)?;
    let older = folders.len().saturating_sub(RUNS_MAX);
    let folders = folders.split_off(older);
    let mut trend = Trend {
        scenario: scenario.to_owned(),
        runs: Vec::new(),
        unread: Vec::new(),
        older,
        figures: BTreeMap::new(),
    };
    let mut before: Option<Circumstances> = None;
    let (mut others, mut known) = (BTreeSet::new(), BTreeSet::new());
    for folder in folders {
        // One at a time: together they may not fit into memory.
        let run = match read_record(&folder) {
            Ok(run) => run,
            Err(why) => {
                trend.unread.push((folder, why.to_string()));
                continue;
            }
        };
        // A mutation suite runs another trial under the scenario's name.
        if run.suite == MUTANTS_SUITE {
            continue;
        }
        let trials: Vec<_> = run
            .scenarios
            .iter()
            .filter(|s| s.name == scenario)
            .collect();
        let Some(first) = trials.first() else {
            others.extend(run.scenarios.iter().map(|s| s.name.clone()));
            continue;
        };
        let now = Circumstances::of(&run, first);
        let mut point = point(&run, &folder, &trials, before.as_ref(), &now);
        known.extend(point.values.keys().cloned());
        point
            .values
            .retain(|name, _| figure.is_none_or(|figure| figure == name));
        for name in point.values.keys() {
            let mut expectations = trials.iter().flat_map(|trial| &trial.expectations);
            let expected = expectations.any(|expectation| expectation.figure == *name);
            let facts = Facts {
                better: run.facts_of(name).map_or(Better::Neither, |f| f.better),
                unit: run.unit_of(name),
                expected,
            };
            let known = trend.figures.entry(name.clone()).or_insert(facts);
            let expected = expected || known.expected;
            if run.facts_of(name).is_some() {
                *known = facts;
            }
            known.expected = expected;
        }
        trend.runs.push(point);
        before = Some(match &before {
            Some(before) => now.or_as(before),
            None => now,
        });
    }
    let (what, others) = match figure {
        _ if trend.runs.is_empty() => (format!("scenario `{scenario}`"), others),
        Some(figure) if trend.figures.is_empty() => {
            (format!("figure `{figure}` of `{scenario}`"), known)
        }
        _ => return Ok(trend),
    };
    Err(ReportError::NoHistory {
        path: out.to_path_buf(),
        what,
        others: others.into_iter().collect(),
        unread: trend.unread,
    })
}

/// Folders below `out` with a record, in the order of their names, which begin with the time. `latest` is a link and counts once.
///
/// # Errors
/// The folder cannot be read.
pub fn runs_in(out: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let entries = std::fs::read_dir(out).map_err(|cause| ReportError::Read {
        path: out.to_path_buf(),
        cause,
    })?;
    let is_run = |entry: &std::fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && entry.path().join(RECORD_FILE).is_file()
    };
    let mut folders: Vec<_> = entries.flatten().filter(is_run).map(|e| e.path()).collect();
    folders.sort();
    Ok(folders)
}

fn point(
    run: &RunRecord,
    folder: &Path,
    trials: &[&ScenarioRecord],
    before: Option<&Circumstances>,
    now: &Circumstances,
) -> Point {
    let names: BTreeSet<&String> = trials.iter().flat_map(|t| t.figures.keys()).collect();
    let value = |name: &String| {
        let counts = |t: &&&ScenarioRecord| spoilt(t, name, run.facts_of(name)).is_none();
        let values: Vec<f64> = trials
            .iter()
            .filter(counts)
            .filter_map(|t| t.figures.get(name).copied())
            .collect();
        Some((name.clone(), median(&values)?))
    };
    Point {
        id: run.id.clone(),
        folder: folder.to_path_buf(),
        started_at: run.started_at.clone(),
        commit: run.build.commit.clone(),
        verdict: Verdict::worst(trials.iter().map(|t| t.verdict)).unwrap_or(run.verdict),
        repeats: trials.len(),
        redefined: before.is_some_and(|b| now.other_definition(b).is_some()),
        moved: before.is_some_and(|b| !now.other_host(b).is_empty()),
        rebuilt: before.is_some_and(|b| now.other_features(b).is_some()),
        spoils: Spoils::of(trials),
        values: names.into_iter().filter_map(value).collect(),
    }
}
