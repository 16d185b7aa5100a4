//! One scenario with its controls, or its mutant beside the intact service: run, tried again where a busy host spoilt it, weighed,
//! judged.

use std::collections::BTreeMap;
use std::time::Duration;

use backdrop_reports::record::{Control, Plan, ScenarioRecord, SetAside, Verdict};
use tokio::time::Instant;

use super::request::Request;
use crate::context::Context;
use crate::expect::{self, Clock};
use crate::figures::{self, Figures};
use crate::host::stall::StallMeter;
use crate::host::steal;
use crate::mutants;
use crate::observed::{self, Observed};
use crate::record;
use crate::scenario::{ControlPlan, Expect, Load, Scenario};
use crate::stalls::Stalls;
use crate::steady::{self, SteadyState};
use crate::trial::{self, TrialPlan, TrialSeen, simulator_facts};
use crate::verdict::{self, ControlFacts, ControlSeen, Facts};

/// Longest wait for a quiet host before a trial is tried again.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Length of a look: at 100 clock ticks a second, two CPUs give 200 ticks.
const PROBE_FOR: Duration = Duration::from_secs(1);
/// A probe wants all of its CPUs, a trial about half of them.
const PROBE_RATIO_MAX: f64 = 2.0 * verdict::STEAL_RATIO_MAX;

/// Stalls of a probe that are too many: one in a hundred, of all its CPUs together.
const PROBE_STALLS_MAX: Duration = Duration::from_millis(10);

/// The last attempt at a trial, those set aside, and why it is not enough, if it is not.
type Attempts = (TrialSeen, Vec<SetAside>, Option<String>);

/// Runs and judges scenarios; remembers controls, so that one that serves two scenarios runs once.
pub(super) struct Judge<'a> {
    pub(super) context: &'a Context,
    pub(super) request: &'a Request,
    /// What each scenario's trial is to be, by name.
    pub(super) plans: &'a BTreeMap<String, Plan>,
    /// Each with the round that ran it.
    pub(super) controls: BTreeMap<(String, String), (u32, Control)>,
}

impl Judge<'_> {
    /// What the request asks of one scenario, in this round over all of them, counted from 1.
    pub(super) async fn record(&mut self, scenario: &Scenario, round: u32) -> ScenarioRecord {
        match self.request.mutant(scenario) {
            Some(mutant) => self.mutant(scenario, mutant).await,
            None => self.scenario(scenario, round).await,
        }
    }

    /// The scenario with its controls.
    async fn scenario(&mut self, scenario: &Scenario, round: u32) -> ScenarioRecord {
        let name = match round {
            1 => scenario.name.clone(),
            n => format!("{}.repeat-{n}", scenario.name),
        };
        self.context
            .progress
            .note(&format!("\n{name}: {}", scenario.title));
        let (planned, (seen, mut set_aside, outvoted)) = self.trial(name, scenario).await;
        let mut controls = Vec::new();
        if seen.observed.failure.is_none() {
            for control in &scenario.controls {
                controls.extend(self.control(scenario, control, round, &mut set_aside).await);
            }
            if let Some(other) = self.request.lender(scenario) {
                for control in &other.controls {
                    let lent = self.control(other, control, round, &mut set_aside).await;
                    controls.extend(lent.map(|(mut control, earlier)| {
                        control.lent_by = Some(other.name.clone());
                        (control, earlier)
                    }));
                }
            }
        }
        let attempts = (set_aside, outvoted.as_deref());
        self.judge(scenario, (planned, round), &seen, controls, attempts)
    }

    /// The scenario's mutant, and before it the same with every protection on.
    async fn mutant(&mut self, scenario: &Scenario, mutant: &ControlPlan) -> ScenarioRecord {
        self.context.progress.note(&format!(
            "\n{}: first with every protection on, then without {}",
            scenario.name,
            mutant.protection.unwrap_or_default()
        ));
        let intact = self.request.subject(scenario);
        let name = scenario.name.clone();
        let (planned, (seen, mut set_aside, outvoted)) = self.trial(name, &intact).await;
        let mut controls = Vec::new();
        if seen.observed.failure.is_none() {
            let control = self.control(scenario, mutant, 1, &mut set_aside).await;
            controls.extend(control.map(|(control, _)| control));
        }
        let attempts = (set_aside, outvoted.as_deref());
        let mut record = self.judge(&intact, (planned, 1), &seen, Vec::new(), attempts);
        let judged = (record.verdict, record.reason);
        (record.verdict, record.reason) = mutants::judge(judged, controls.first());
        record.controls = controls;
        record
    }

    /// The scenario itself, without its controls, and what it was to be.
    async fn trial(&self, name: String, scenario: &Scenario) -> (Plan, Attempts) {
        let planned = self.plans.get(&scenario.name).cloned().unwrap_or_default();
        let plan = TrialPlan {
            name,
            schedule_hash: Some(planned.schedule_hash.clone()),
            target: scenario.target.clone(),
            load: scenario.load.clone(),
            faults: scenario.faults.clone(),
            aborts: scenario.aborts.clone(),
            shown: shown(scenario, &scenario.expects),
        };
        let verdict_of = |seen: &TrialSeen| {
            let weighed = Weighed::of(&seen.observed, &plan.load, scenario, &scenario.expects);
            let (verdict, reason) =
                verdict::judge(&weighed.facts(&seen.observed, &[], self.context));
            Came {
                out_as: verdict.word().to_owned(),
                reason,
                of_a_busy_host: weighed.busy_host || weighed.excused,
                missed: weighed.excused && !weighed.busy_host,
            }
        };
        let attempts = self.attempt(&plan, Verdict::Held.word(), verdict_of).await;
        (planned, attempts)
    }

    /// Runs a trial, and again while a busy host keeps it from coming out as `wanted`: the last attempt, those set aside, and why it
    /// is not enough, if it is not. What came out otherwise on a quiet host is never tried again.
    ///
    /// A bound that was missed while the host stood still is no evidence, but to try until it is met would be none either: as many
    /// attempts must meet it as were set aside for it.
    async fn attempt(
        &self,
        plan: &TrialPlan,
        wanted: &str,
        outcome_of: impl Fn(&TrialSeen) -> Came,
    ) -> Attempts {
        let mut set_aside = Vec::new();
        let mut votes = Votes::default();
        for number in 1.. {
            let mut plan = plan.clone();
            if number > 1 {
                plan.name = format!("{}.attempt-{number}", plan.name);
            }
            let seen = trial::run(self.context, &plan).await;
            let came = outcome_of(&seen);
            let (outcome, reason) = (came.out_as.clone(), came.reason.clone());
            let outvoted = votes.count(&came, wanted);
            let spoilt =
                came.of_a_busy_host && outcome == Verdict::Inconclusive.word() && outcome != wanted;
            let again = (spoilt || outvoted.is_some())
                && number < self.request.place.attempts
                && !self.context.stop.raised();
            if !again {
                return (seen, set_aside, outvoted);
            }
            let reason = outvoted.unwrap_or(reason);
            self.context.progress.note(&format!(
                "{}: {outcome}: {reason}; the host was busy, attempt {} of {} follows",
                plan.name,
                number + 1,
                self.request.place.attempts
            ));
            set_aside.push(SetAside {
                trial: plan.name,
                outcome,
                reason,
                logs: seen.logs,
            });
            self.wait_for_quiet().await;
        }
        unreachable!("the last attempt returns")
    }

    /// One trial of a plan that a search asks for, under this name, and each way in which it deviated.
    pub(super) async fn searched(
        &self,
        scenario: &Scenario,
        name: String,
        planned: Plan,
    ) -> (ScenarioRecord, Vec<String>) {
        let plan = TrialPlan {
            name,
            schedule_hash: Some(planned.schedule_hash.clone()),
            target: scenario.target.clone(),
            load: scenario.load.clone(),
            faults: scenario.faults.clone(),
            aborts: scenario.aborts.clone(),
            shown: shown(scenario, &scenario.expects),
        };
        let seen = trial::run(self.context, &plan).await;
        let weighed = Weighed::of(&seen.observed, &plan.load, scenario, &scenario.expects);
        let deviations = verdict::deviations(&weighed.facts(&seen.observed, &[], self.context));
        let record = self.judge(
            scenario,
            (planned, 1),
            &seen,
            Vec::new(),
            (Vec::new(), None),
        );
        (record, deviations)
    }

    /// Waits while the hypervisor takes the CPUs or they stand still, a minute at most: in the same noise another attempt would be
    /// wasted.
    pub(super) async fn wait_for_quiet(&self) {
        let placement = &self.context.placement;
        let cpus = placement.simulator.union(&placement.service);
        let give_up = Instant::now() + QUIET_WITHIN;
        let mut noted = false;
        while Instant::now() < give_up && !self.context.stop.raised() {
            let (stolen, stood) = tokio::task::block_in_place(|| {
                let stalls = StallMeter::start(&cpus);
                let stolen = steal::probe(&cpus, PROBE_FOR).unwrap_or(0.0);
                let stalls = stalls.map(StallMeter::stop).unwrap_or_default();
                (
                    stolen,
                    stalls.iter().map(|stall| stall.lasted).sum::<Duration>(),
                )
            });
            if stolen <= PROBE_RATIO_MAX && stood <= PROBE_STALLS_MAX {
                return;
            }
            if !noted {
                noted = true;
                self.context.progress.note(&format!(
                    "the hypervisor takes {:.0} % of the CPUs, which stood still for {} ms of {} ms: waiting for a quiet moment, {} s at most",
                    stolen * 100.0,
                    stood.as_millis(),
                    PROBE_FOR.as_millis(),
                    QUIET_WITHIN.as_secs()
                ));
            }
            self.context
                .stop
                .sleep_until(Instant::now() + PROBE_EVERY)
                .await;
        }
    }

    /// With whether an earlier round ran it, whose record has it. None if a person interrupted before it began.
    async fn control(
        &mut self,
        scenario: &Scenario,
        control: &ControlPlan,
        round: u32,
        set_aside: &mut Vec<SetAside>,
    ) -> Option<(Control, bool)> {
        let key = (scenario.name.clone(), control.name.clone());
        if let Some((of, known)) = self.controls.get(&key) {
            return Some((known.clone(), *of < round));
        }
        if self.context.stop.raised() {
            return None;
        }
        let name = format!("{}.{}", scenario.name, control.name);
        self.context
            .progress
            .note(&format!("{name}: must come out as {}", control.expected));
        let plan = TrialPlan {
            name,
            schedule_hash: None,
            target: control.target.clone(),
            load: control.load.clone(),
            faults: control.faults.clone(),
            aborts: Vec::new(),
            shown: shown(scenario, &[]),
        };
        let expected = control.expected.to_string();
        let outcome_of = |seen: &TrialSeen| {
            let (record, excused) = self.judge_control(scenario, control, seen);
            Came {
                out_as: record.observed,
                reason: record.reason,
                of_a_busy_host: record.evidence.busy_host || excused,
                // A control is to miss its bounds.
                missed: false,
            }
        };
        let (seen, again, _) = self.attempt(&plan, &expected, outcome_of).await;
        set_aside.extend(again);
        let (record, _) = self.judge_control(scenario, control, &seen);
        self.context.progress.note(&format!(
            "{}: {} ({})",
            plan.name, record.observed, record.reason
        ));
        if !self.context.stop.raised() {
            self.controls.insert(key, (round, record.clone()));
        }
        Some((record, false))
    }

    fn judge(
        &self,
        scenario: &Scenario,
        (plan, repeat): (Plan, u32),
        seen: &TrialSeen,
        controls: Vec<(Control, bool)>,
        (set_aside, outvoted): (Vec<SetAside>, Option<&str>),
    ) -> ScenarioRecord {
        let weighed = Weighed::of(&seen.observed, &scenario.load, scenario, &scenario.expects);
        let control_facts: Vec<_> = controls.iter().map(|(c, _)| control_facts(c)).collect();
        let facts = Facts {
            outvoted,
            ..weighed.facts(&seen.observed, &control_facts, self.context)
        };
        let (verdict, reason) = verdict::judge(&facts);
        let mut evidence = seen.observed.evidence.clone();
        evidence.doubts = verdict::doubts(&facts);
        evidence.busy_host = weighed.busy_host || weighed.stood_still;
        let of_this_round = controls.into_iter().filter(|(_, earlier)| !earlier);
        ScenarioRecord {
            name: scenario.name.clone(),
            repeat,
            title: scenario.title.clone(),
            story: scenario.story.clone(),
            verdict,
            reason,
            replay: self.request.command(Some(&scenario.name)),
            set_aside,
            plan,
            expectations: weighed.expectations,
            trial: record::trial(seen),
            controls: of_this_round.map(|(control, _)| control).collect(),
            evidence,
            figures: record::values(&weighed.figures),
        }
    }

    /// What a control came to, and whether a bound that it missed is in doubt.
    fn judge_control(
        &self,
        scenario: &Scenario,
        control: &ControlPlan,
        seen: &TrialSeen,
    ) -> (Control, bool) {
        let expects: Vec<_> = scenario
            .expects
            .iter()
            .filter(|e| has_window(e, &control.load))
            .cloned()
            .collect();
        let weighed = Weighed::of(&seen.observed, &control.load, scenario, &expects);
        let facts = weighed.facts(&seen.observed, &[], self.context);
        let control_seen = ControlSeen {
            facts,
            kill_proven: seen.observed.oracle.service_seen_dying,
            killed_s: seen.observed.killed_s(),
            entries_shed: weighed.figures.get("entries_shed").map_or(0.0, |f| f.value),
        };
        let (observed, reason) = verdict::outcome(&control_seen, &control.expected);
        let mut evidence = seen.observed.evidence.clone();
        evidence.doubts = verdict::doubts(&facts);
        evidence.busy_host = weighed.busy_host || weighed.stood_still;
        let record = Control {
            name: control.name.clone(),
            lent_by: None,
            story: control.story.clone(),
            protection: control.protection.map(str::to_owned),
            expected: control.expected.to_string(),
            as_expected: observed == control.expected.to_string(),
            observed,
            reason,
            trial: record::trial(seen),
            evidence,
            figures: record::values(&weighed.figures),
        };
        (record, weighed.excused)
    }
}

/// What a person is shown while it runs.
fn shown(scenario: &Scenario, expects: &[Expect]) -> trial::Shown {
    trial::Shown {
        expects: expects.to_vec(),
        steady: scenario.steady.clone(),
    }
}

/// An expectation on a window that a shorter load does not have says nothing about it.
fn has_window(expect: &Expect, load: &Load) -> bool {
    expect
        .figure
        .split_once('.')
        .is_none_or(|(_, window)| load.windows.iter().any(|w| w.name == window))
}

fn control_facts(control: &Control) -> ControlFacts {
    ControlFacts {
        name: control.name.clone(),
        expected: control.expected.clone(),
        observed: control.observed.clone(),
        as_expected: control.as_expected,
        undone: control.evidence.undone,
    }
}

/// How an attempt came out.
struct Came {
    out_as: String,
    reason: String,
    /// Another attempt may come out otherwise.
    of_a_busy_host: bool,
    /// It missed a bound, and the host's standing still is all that can be said for it.
    missed: bool,
}

/// Attempts that missed a bound while the host stood still, and those that met all.
#[derive(Default)]
struct Votes {
    missed: u32,
    met: u32,
}

impl Votes {
    /// Counts one more; why it does not decide, if it came out as wanted and yet does not.
    fn count(&mut self, came: &Came, wanted: &str) -> Option<String> {
        let met = came.out_as == wanted;
        self.missed += u32::from(came.missed);
        self.met += u32::from(met);
        (met && self.met < self.missed).then(|| {
            format!(
                "{} attempts missed a bound while the host stood still, {} met all: as many must",
                self.missed, self.met
            )
        })
    }
}

/// Observations made into figures and judged expectations.
struct Weighed {
    figures: Figures,
    expectations: Vec<backdrop_reports::record::Expectation>,
    steady: SteadyState,
    /// The host was too busy to measure times on, whatever they came to.
    busy_host: bool,
    /// It stood still for too much of the load to compare times of it with those of others.
    stood_still: bool,
    /// A bound that was missed is in doubt for the host's sake.
    excused: bool,
    /// Windows of which the simulator sent too much too late, with the share.
    late_windows: Vec<(String, f64)>,
}

impl Weighed {
    fn of(observed: &Observed, load: &Load, scenario: &Scenario, expects: &[Expect]) -> Self {
        let plan = observed::Plan {
            load,
            steady: &scenario.steady,
            recovery: scenario.recovery.as_ref(),
        };
        let figures = figures::compute(observed, plan);
        let busy_host = verdict::busy_host(simulator_facts(observed), &observed.evidence);
        let unseen = Stalls::default();
        let late_windows = late_windows(observed);
        let clock = Clock {
            busy_host,
            stalls: observed.stalls.as_ref().unwrap_or(&unseen),
            late_windows: &late_windows,
            load,
        };
        let expectations = expect::evaluate(expects, &figures, &clock);
        Self {
            busy_host,
            stood_still: clock.stalls.too_many(0.0, load.duration.as_secs_f64()),
            excused: expectations.iter().any(expect::excused),
            late_windows,
            figures,
            expectations,
            steady: steady::before_faults(observed, plan),
        }
    }

    fn facts<'a>(
        &'a self,
        observed: &'a Observed,
        controls: &'a [ControlFacts],
        context: &Context,
    ) -> Facts<'a> {
        Facts {
            failure: observed.failure.as_deref(),
            crash: observed.crash.as_deref(),
            blind_spots: &observed.blind_spots,
            expectations: &self.expectations,
            faults: &observed.faults,
            evidence: &observed.evidence,
            simulator: simulator_facts(observed),
            late_windows: &self.late_windows,
            aborted: observed.aborted.as_ref(),
            ended_early: observed
                .load
                .as_ref()
                .and_then(|l| l.ended_early.as_deref()),
            steady: &self.steady,
            controls,
            outvoted: None,
            allow_emulated: context.allow_emulated,
            interrupted: context.stop.raised(),
        }
    }
}

fn late_windows(observed: &Observed) -> Vec<(String, f64)> {
    let windows = observed.load.iter().flat_map(|load| &load.windows);
    windows
        .filter_map(|window| Some((window.name.clone(), window.too_late()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_attempts_must_meet_a_bound_as_were_set_aside_for_it() {
        let came = |out_as: &str, missed| Came {
            out_as: out_as.into(),
            reason: String::new(),
            of_a_busy_host: missed,
            missed,
        };
        let (held, missed) = (came("held", false), came("inconclusive", true));
        let starved = came("inconclusive", false);
        let mut votes = Votes::default();
        let mut decides = |came| votes.count(came, "held").is_none();
        assert!(decides(&missed) && decides(&starved), "not as wanted");
        assert!(decides(&held), "one of two");
        assert!(decides(&missed) && decides(&missed));
        assert!(!decides(&held), "two of five");
        assert!(decides(&held), "three of six");
    }
}
