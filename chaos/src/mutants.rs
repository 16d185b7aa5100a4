//! The mutation suite: the service without one of its protections, and the scenario that must notice.
//!
//! A mutant is a control of a scenario that names the protection which it lacks. It counts as caught when it comes out as the
//! scenario demands, while the *intact* service, which is the same build under the same load and faults with nothing switched
//! off, meets the very expectation that catches the mutant. Everything here is pure.

use std::fmt::Write;

use backdrop_reports::record::{Control, Verdict};

use crate::scenario::library::{self, EMBEDDED};
use crate::scenario::protection::{PROTECTIONS, is_switch};
use crate::scenario::{ControlPlan, KILLS_FIGURE, Outcome, Scenario, ScenarioError};
use crate::verdict::IN_DOUBT;

/// Outcomes of a mutant that say neither that it was caught nor that it got away.
const UNJUDGED: [&str; 6] = [
    "error",
    "interrupted",
    "inconclusive",
    "hog killed",
    "killed by emulation",
    "killed before its fault",
];

/// The mutant of a scenario, if it has one.
#[must_use]
pub fn of(scenario: &Scenario) -> Option<&ControlPlan> {
    scenario.controls.iter().find(|c| c.protection.is_some())
}

/// The library's scenarios that have a mutant, in the order of [`PROTECTIONS`].
///
/// # Errors
/// An embedded scenario is wrong.
pub fn all() -> Result<Vec<Scenario>, ScenarioError> {
    let mut found = Vec::new();
    for (name, _) in EMBEDDED {
        let scenario = library::find(name)?;
        let place =
            of(&scenario).and_then(|m| PROTECTIONS.iter().position(|p| Some(*p) == m.protection));
        found.extend(place.map(|place| (place, scenario)));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(_, scenario)| scenario).collect())
}

/// What the mutant is held against: its own trial with every protection on, and of the scenario's expectations the one that
/// catches it.
#[must_use]
pub fn intact(scenario: &Scenario, mutant: &ControlPlan) -> Scenario {
    let mut intact = scenario.clone();
    intact.target = mutant.target.clone();
    intact.target.args.retain(|arg| !is_switch(arg));
    intact.load = mutant.load.clone();
    intact.faults = mutant.faults.clone();
    intact.expects.retain(|e| match &mutant.expected {
        Outcome::Deviated(name) => e.name == *name,
        _ => e.figure == KILLS_FIGURE,
    });
    intact.controls.clear();
    intact.controls_of = None;
    intact
}

/// Held: caught as demanded. Deviated: it got away, or was caught otherwise. Inconclusive: it cannot be judged.
#[must_use]
pub fn judge(intact: (Verdict, String), mutant: Option<&Control>) -> (Verdict, String) {
    match intact {
        (Verdict::Held, _) => {}
        (Verdict::Error, why) => return (Verdict::Error, why),
        (verdict, why) => {
            let came_out = verdict.word();
            return (
                Verdict::Inconclusive,
                format!(
                    "with every protection on it came out as {came_out}, so the mutant shows nothing: {why}"
                ),
            );
        }
    }
    let Some(mutant) = mutant else {
        return (Verdict::Inconclusive, "the mutant was not run".to_owned());
    };
    let Control {
        expected,
        observed,
        reason,
        ..
    } = mutant;
    if UNJUDGED.contains(&observed.as_str()) || observed.ends_with(IN_DOUBT) {
        return (
            Verdict::Inconclusive,
            format!("the mutant came out as {observed}: {reason}"),
        );
    }
    if !mutant.as_expected {
        return (
            Verdict::Deviated,
            format!("the mutant came out as {observed} instead of {expected}: {reason}"),
        );
    }
    if !mutant.evidence.undone {
        let why = "not everything of the mutant was undone".to_owned();
        return (Verdict::Inconclusive, why);
    }
    (Verdict::Held, format!("the mutant was caught: {reason}"))
}

/// The suite in words, for `explain mutants`.
///
/// # Errors
/// An embedded scenario is wrong.
pub fn explain() -> Result<String, ScenarioError> {
    let mut out = String::from(
        "Mutants: the service with one protection off, each to be caught by the scenario that is named for it.\n\
         First the same build runs under the same load and faults with nothing off, and must meet what catches the mutant.\n\
         Exit code: 0 all caught, 1 one got away or was caught otherwise, 2 one could not be judged, 255 the run itself failed.\n\n",
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<16} {:<18} must come out as",
        "protection", "scenario"
    );
    for scenario in all()? {
        let Some(mutant) = of(&scenario) else {
            continue;
        };
        let _ = writeln!(
            out,
            "{:<16} {:<18} {}",
            mutant.protection.unwrap_or_default(),
            scenario.name,
            mutant.expected
        );
        for line in mutant.story.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    Ok(out)
}
