//! One measure out of one run: both sides of it from the same record, the median of the rounds that count.

use std::path::Path;

use crate::alike::spoilt;
use crate::record::{MUTANTS_SUITE, RunRecord, ScenarioRecord, Verdict};
use crate::scorecard::found::{Found, Origin};
use crate::scorecard::rows::{Source, Trial};
use crate::statistics::median;

/// The measure in this run, which lies in `folder`; none if a side of it is missing or does not count.
#[must_use]
pub fn found(run: &RunRecord, folder: &Path, source: &Source) -> Option<Found> {
    let Source::Run {
        figure,
        per,
        naive,
        ours,
    } = source
    else {
        return None;
    };
    // A mutation suite runs another trial under the scenario's name.
    if run.suite == MUTANTS_SUITE {
        return None;
    }
    let value = |trial: Trial| value(run, trial, figure, *per);
    let beside = match naive {
        Some(trial) => Some(value(*trial)?),
        None => None,
    };
    let facts = run.facts_of(figure);
    Some(Found {
        naive: beside,
        peer: naive.map_or_else(String::new, |trial| trial.name()),
        ours: value(*ours)?,
        unit: facts.map_or_else(String::new, |facts| facts.unit.clone()),
        origin: Origin::Run {
            folder: folder.to_path_buf(),
            id: run.id.clone(),
            scenario: ours.scenario,
            verdict: Verdict::worst(rounds(run, ours.scenario).map(|round| round.verdict))?,
        },
    })
}

fn rounds<'a>(run: &'a RunRecord, scenario: &str) -> impl Iterator<Item = &'a ScenarioRecord> {
    run.scenarios.iter().filter(move |s| s.name == scenario)
}

fn value(run: &RunRecord, trial: Trial, figure: &str, per: Option<&str>) -> Option<f64> {
    let values: Vec<f64> = rounds(run, trial.scenario)
        .filter_map(|round| {
            let value = of_round(run, round, trial, figure)?;
            match per {
                None => Some(value),
                Some(per) => {
                    let per = of_round(run, round, trial, per)?;
                    (per > 0.0).then(|| value / per)
                }
            }
        })
        .collect();
    median(&values)
}

fn of_round(run: &RunRecord, round: &ScenarioRecord, trial: Trial, figure: &str) -> Option<f64> {
    let Some(name) = trial.control else {
        // Nothing is shown by a trial whose fault did not act, or that was broken off: a memory peak that nobody pressed is low.
        let judged = matches!(round.verdict, Verdict::Held | Verdict::Deviated);
        let counts = judged && spoilt(round, figure, run.facts_of(figure)).is_none();
        return round.figures.get(figure).copied().filter(|_| counts);
    };
    // One that did not do what was expected of it shows nothing.
    let control = round.controls.iter().find(|c| c.name == name)?;
    control
        .figures
        .get(figure)
        .copied()
        .filter(|_| control.as_expected)
}
