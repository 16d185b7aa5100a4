//! One scenario with its controls: run, tried again where a busy host spoilt it, weighed, judged.

use std::collections::BTreeMap;
use std::time::Duration;

use backdrop_reports::record::{Control, Plan, ScenarioRecord, SetAside, Verdict};
use tokio::time::Instant;

use super::request::Request;
use crate::context::Context;
use crate::expect::{self, Clock};
use crate::figures::{self, Figures};
use crate::host::steal;
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

/// Runs and judges scenarios; remembers controls, so that one that serves two scenarios runs once.
pub(super) struct Judge<'a> {
    pub(super) context: &'a Context,
    pub(super) request: &'a Request,
    /// What each scenario's trial is to be, by name.
    pub(super) plans: &'a BTreeMap<String, Plan>,
    pub(super) controls: BTreeMap<(String, String), Control>,
}

impl Judge<'_> {
    /// One scenario, in this round over all of them, counted from 1.
    pub(super) async fn scenario(&mut self, scenario: &Scenario, round: u32) -> ScenarioRecord {
        let name = match round {
            1 => scenario.name.clone(),
            n => format!("{}.repeat-{n}", scenario.name),
        };
        self.context
            .progress
            .note(&format!("\n{name}: {}", scenario.title));
        let planned = self.plans.get(&scenario.name).cloned().unwrap_or_default();
        let plan = TrialPlan {
            name,
            schedule_hash: Some(planned.schedule_hash.clone()),
            target: scenario.target.clone(),
            load: scenario.load.clone(),
            faults: scenario.faults.clone(),
        };
        let verdict_of = |seen: &TrialSeen| {
            let weighed = Weighed::of(&seen.observed, &plan.load, scenario, &scenario.expects);
            let (verdict, reason) =
                verdict::judge(&weighed.facts(&seen.observed, &[], self.context));
            Came {
                out_as: verdict.word().to_owned(),
                reason,
                of_a_busy_host: weighed.busy_host,
            }
        };
        let (seen, mut set_aside) = self.attempt(&plan, Verdict::Held.word(), verdict_of).await;
        let mut controls = Vec::new();
        if seen.observed.failure.is_none() {
            for control in &scenario.controls {
                controls.extend(self.control(scenario, control, &mut set_aside).await);
            }
            if let Some(other) = self.request.lender(scenario) {
                for control in &other.controls {
                    controls.extend(self.control(other, control, &mut set_aside).await);
                }
            }
        }
        self.judge(scenario, (planned, round), &seen, controls, set_aside)
    }

    /// Runs a trial, and again while a busy host keeps it from coming out as `wanted`: the last attempt, and those set aside.
    /// What came out otherwise on a quiet host is never tried again.
    async fn attempt(
        &self,
        plan: &TrialPlan,
        wanted: &str,
        outcome_of: impl Fn(&TrialSeen) -> Came,
    ) -> (TrialSeen, Vec<SetAside>) {
        let mut set_aside = Vec::new();
        for number in 1.. {
            let mut plan = plan.clone();
            if number > 1 {
                plan.name = format!("{}.attempt-{number}", plan.name);
            }
            let seen = trial::run(self.context, &plan).await;
            let Came {
                out_as: outcome,
                reason,
                of_a_busy_host,
            } = outcome_of(&seen);
            let again = of_a_busy_host
                && outcome == Verdict::Inconclusive.word()
                && outcome != wanted
                && number < self.request.place.attempts
                && !self.context.stop.raised();
            if !again {
                return (seen, set_aside);
            }
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

    /// Waits while the hypervisor takes the CPUs, a minute at most: in the same noise another attempt would be wasted.
    async fn wait_for_quiet(&self) {
        let placement = &self.context.placement;
        let cpus = placement.simulator.union(&placement.service);
        let give_up = Instant::now() + QUIET_WITHIN;
        let mut noted = false;
        while Instant::now() < give_up && !self.context.stop.raised() {
            let stolen = tokio::task::block_in_place(|| steal::probe(&cpus, PROBE_FOR));
            let Some(stolen) = stolen.filter(|stolen| *stolen > PROBE_RATIO_MAX) else {
                return;
            };
            if !noted {
                noted = true;
                self.context.progress.note(&format!(
                    "the hypervisor takes {:.0} % of the CPUs: waiting for a quiet moment, {} s at most",
                    stolen * 100.0,
                    QUIET_WITHIN.as_secs()
                ));
            }
            self.context
                .stop
                .sleep_until(Instant::now() + PROBE_EVERY)
                .await;
        }
    }

    /// None if a person interrupted before it began.
    async fn control(
        &mut self,
        scenario: &Scenario,
        control: &ControlPlan,
        set_aside: &mut Vec<SetAside>,
    ) -> Option<Control> {
        let key = (scenario.name.clone(), control.name.clone());
        if let Some(known) = self.controls.get(&key) {
            return Some(known.clone());
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
        };
        let expected = control.expected.to_string();
        let outcome_of = |seen: &TrialSeen| {
            let record = self.judge_control(scenario, control, seen);
            Came {
                out_as: record.observed,
                reason: record.reason,
                of_a_busy_host: record.evidence.busy_host,
            }
        };
        let (seen, again) = self.attempt(&plan, &expected, outcome_of).await;
        set_aside.extend(again);
        let record = self.judge_control(scenario, control, &seen);
        self.context.progress.note(&format!(
            "{}: {} ({})",
            plan.name, record.observed, record.reason
        ));
        if !self.context.stop.raised() {
            self.controls.insert(key, record.clone());
        }
        Some(record)
    }

    fn judge(
        &self,
        scenario: &Scenario,
        (plan, repeat): (Plan, u32),
        seen: &TrialSeen,
        mut controls: Vec<Control>,
        set_aside: Vec<SetAside>,
    ) -> ScenarioRecord {
        let weighed = Weighed::of(&seen.observed, &scenario.load, scenario, &scenario.expects);
        let control_facts: Vec<_> = controls.iter().map(control_facts).collect();
        let facts = weighed.facts(&seen.observed, &control_facts, self.context);
        let (verdict, reason) = verdict::judge(&facts);
        let mut evidence = seen.observed.evidence.clone();
        evidence.doubts = verdict::doubts(&facts);
        evidence.busy_host = weighed.busy_host;
        if repeat > 1 {
            // They are those of the first round, which has them.
            controls.clear();
        }
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
            controls,
            evidence,
            figures: record::values(&weighed.figures),
        }
    }

    fn judge_control(
        &self,
        scenario: &Scenario,
        control: &ControlPlan,
        seen: &TrialSeen,
    ) -> Control {
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
        evidence.busy_host = weighed.busy_host;
        Control {
            name: control.name.clone(),
            story: control.story.clone(),
            expected: control.expected.to_string(),
            as_expected: observed == control.expected.to_string(),
            observed,
            reason,
            trial: record::trial(seen),
            evidence,
            figures: record::values(&weighed.figures),
        }
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
    of_a_busy_host: bool,
}

/// Observations made into figures and judged expectations.
struct Weighed {
    figures: Figures,
    expectations: Vec<backdrop_reports::record::Expectation>,
    steady: SteadyState,
    /// What is in doubt may be so for a busy host: another attempt may be none.
    busy_host: bool,
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
        let clock = Clock {
            busy_host,
            stalls: observed.stalls.as_ref().unwrap_or(&unseen),
            load,
        };
        let expectations = expect::evaluate(expects, &figures, &clock);
        Self {
            busy_host: busy_host || expectations.iter().any(expect::excused),
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
            ended_early: observed
                .load
                .as_ref()
                .and_then(|l| l.ended_early.as_deref()),
            steady: &self.steady,
            controls,
            allow_emulated: context.allow_emulated,
            interrupted: context.stop.raised(),
        }
    }
}
