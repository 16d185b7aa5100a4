//! The verdict: pure rules over what was observed. Held needs evidence for everything; a failure needs evidence for itself.
//!
//! Order of the rules: the runner failed → error; a person interrupted → inconclusive; an expectation failed on evidence, or a harm that no scenario may allow
//! (a kill, an untrue answer) was seen → deviated; any doubt → inconclusive; otherwise held.

use backdrop_reports::load::{SendFigures, TruthVerdict};
use backdrop_reports::record::{Evidence, Expectation, Fault, Met, Verdict};

use crate::expect;
use crate::scenario::Outcome;
use crate::steady::SteadyState;

/// Highest share of its CPUs that a simulator may have used in any second.
pub const BUSY_MAX: f64 = 0.90;
/// Largest share of the CPUs' time that a hypervisor may take before a bound in time that was missed is in doubt.
pub const STEAL_RATIO_MAX: f64 = 0.01;
/// Least share of the request that a memory hog must have reached.
pub const HOG_RATIO_MIN: f64 = 0.95;

/// What the simulator says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simulator {
    /// Outcome of the truth checker.
    pub truth: TruthVerdict,
    /// Late and dropped sends, 0..=1.
    pub late_ratio: f64,
    /// Highest share of its CPUs in one second, 0..=1.
    pub busy_max: f64,
}

impl Simulator {
    /// Why its clock proves nothing; none if it does.
    #[must_use]
    pub fn starved(&self) -> Option<String> {
        if self.late_ratio > SendFigures::LATE_RATIO_MAX {
            return Some(format!(
                "the simulator was starved: {:.1} % of its sends were late or dropped",
                self.late_ratio * 100.0
            ));
        }
        if self.busy_max > BUSY_MAX {
            return Some(format!(
                "the simulator was starved: it used {:.0} % of its CPUs in one second",
                self.busy_max * 100.0
            ));
        }
        None
    }
}

/// One control, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFacts {
    /// Name.
    pub name: String,
    /// Demanded outcome.
    pub expected: String,
    /// Seen outcome.
    pub observed: String,
    /// What was demanded was seen, on evidence.
    pub as_expected: bool,
}

/// Everything a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The runner failed at something.
    pub failure: Option<&'a str>,
    /// Judged expectations.
    pub expectations: &'a [Expectation],
    /// Faults as they happened.
    pub faults: &'a [Fault],
    /// Host and processes.
    pub evidence: &'a Evidence,
    /// The simulator's word; none if it wrote no report.
    pub simulator: Option<Simulator>,
    /// Why the load ended before its time, if it did.
    pub ended_early: Option<&'a str>,
    /// Steady state before the first fault.
    pub steady: &'a SteadyState,
    /// Controls that were run.
    pub controls: &'a [ControlFacts],
    /// Take kills by the emulating watchdog for the kernel's.
    pub allow_emulated: bool,
    /// Interrupted by a person.
    pub interrupted: bool,
}

/// The verdict and why, in one sentence.
#[must_use]
pub fn judge(facts: &Facts<'_>) -> (Verdict, String) {
    if let Some(failure) = facts.failure {
        return (Verdict::Error, format!("the run itself failed: {failure}"));
    }
    if facts.interrupted {
        // A trial that was cut short has not had the time to meet anything.
        return (Verdict::Inconclusive, "the run was interrupted".to_owned());
    }
    if let Some(failed) = facts.expectations.iter().find(|e| e.met == Met::No) {
        return (
            Verdict::Deviated,
            format!(
                "expectation {} was not met: {}",
                failed.name,
                expect::words(failed)
            ),
        );
    }
    if let Some(harm) = harm(facts) {
        return (Verdict::Deviated, harm);
    }
    let doubts = doubts(facts);
    match doubts.split_first() {
        Some((first, [])) => (Verdict::Inconclusive, first.clone()),
        Some((first, more)) => (
            Verdict::Inconclusive,
            format!("{first} (and {} more doubts)", more.len()),
        ),
        None => (Verdict::Held, held(facts)),
    }
}

/// Harm that counts whether or not an expectation names it.
fn harm(facts: &Facts<'_>) -> Option<String> {
    let kills = facts.evidence.service_oom_kills;
    if kills > 0 && real_kills(facts) {
        return Some(format!("the kernel killed the service {kills} times"));
    }
    match facts.simulator {
        Some(Simulator {
            truth: TruthVerdict::Violated,
            ..
        }) => {
            Some("the truth checker found answers that contradict what was acknowledged".to_owned())
        }
        _ => None,
    }
}

fn real_kills(facts: &Facts<'_>) -> bool {
    facts.evidence.cgroup != "emulated" || facts.allow_emulated
}

fn held(facts: &Facts<'_>) -> String {
    let count = |n: usize, one: &str, many: &str| {
        if n == 1 {
            format!("1 {one}")
        } else {
            format!("{n} {many}")
        }
    };
    let met = match facts.expectations {
        [_] => "the expectation was met".to_owned(),
        all => format!("all {} expectations were met", all.len()),
    };
    let mut words = vec![met];
    if !facts.faults.is_empty() {
        words.push(format!(
            "{} acted",
            count(facts.faults.len(), "fault", "faults")
        ));
    }
    if !facts.controls.is_empty() {
        words.push(format!(
            "{} came out as demanded",
            count(facts.controls.len(), "control", "controls")
        ));
    }
    words.join(", ")
}

/// Whether the host was too busy to measure times on: the simulator was starved, or the hypervisor took its CPUs.
#[must_use]
pub fn busy_host(simulator: Option<Simulator>, evidence: &Evidence) -> bool {
    simulator.is_some_and(|s| s.starved().is_some()) || stolen(evidence).is_some()
}

/// The share that the hypervisor took, if it was too much.
fn stolen(evidence: &Evidence) -> Option<f64> {
    evidence
        .host_steal_ratio
        .filter(|ratio| *ratio > STEAL_RATIO_MAX)
}

/// Everything that keeps the trial from being believed, the gravest first.
#[must_use]
pub fn doubts(facts: &Facts<'_>) -> Vec<String> {
    let mut out = Vec::new();
    if facts.interrupted {
        out.push("the run was interrupted".to_owned());
    }
    if facts.expectations.is_empty() && !facts.interrupted {
        out.push("nothing was expected".to_owned());
    }
    for fault in facts.faults {
        out.extend(fault_doubt(fault));
    }
    if facts.evidence.hog_oom_kills > 0 {
        out.push(
            "the kernel killed the hog, not the service: its size left no room for either"
                .to_owned(),
        );
    }
    let unknown = |e: &&Expectation| e.met == Met::Unknown;
    for e in facts.expectations.iter().filter(unknown) {
        out.push(format!(
            "expectation {} is unknown: {}",
            e.name,
            expect::words(e)
        ));
    }
    let discredited = |e: &Expectation| e.met == Met::Unknown && e.observed.is_some();
    if facts.expectations.iter().any(discredited)
        && let Some(ratio) = stolen(facts.evidence)
    {
        out.push(format!(
            "the hypervisor took {:.1} % of the CPUs: a bound in time that was missed says nothing of the service",
            ratio * 100.0
        ));
    }
    match facts.simulator {
        None => out.push("the simulator left no report".to_owned()),
        Some(simulator) => {
            out.extend(simulator.starved());
            if simulator.truth == TruthVerdict::Inconclusive {
                out.push("the truth checker read too little to say".to_owned());
            }
        }
    }
    if let Some(why) = facts.ended_early {
        out.push(format!("the load ended before its time: {why}"));
    }
    if let SteadyState::NotHeld(why) = facts.steady {
        out.push(format!("no steady state before the first fault: {why}"));
    }
    if facts.evidence.cgroup == "emulated" && !facts.allow_emulated {
        out.push(
            "the memory limit was emulated, not the kernel's (--allow-emulated accepts that)"
                .to_owned(),
        );
    } else if !facts.evidence.swap_off && facts.evidence.cgroup != "emulated" {
        out.push("swap was not verified to be off, so the limit may not bind".to_owned());
    }
    if !facts.evidence.undone {
        out.push("not everything was undone".to_owned());
    }
    for control in facts.controls.iter().filter(|c| !c.as_expected) {
        out.push(format!(
            "control {} came out as {} instead of {}: the scenario has no teeth",
            control.name, control.observed, control.expected
        ));
    }
    out
}

fn fault_doubt(fault: &Fault) -> Option<String> {
    let short =
        fault.kind == "memory_hog" && fault.achieved_ratio.is_some_and(|r| r < HOG_RATIO_MIN);
    if !fault.acted || short {
        return Some(format!("fault {} did not act: {}", fault.name, fault.proof));
    }
    (!fault.undone).then(|| format!("fault {} was not undone", fault.name))
}

/// What a control shows, in the words of scenario files.
#[derive(Debug, Clone, Copy)]
pub struct ControlSeen<'a> {
    /// The trial by the same rules, without controls.
    pub facts: Facts<'a>,
    /// A process of ours was seen dying of a kill that the kernel counted in its leaf.
    pub kill_proven: bool,
    /// Entries that the service shed.
    pub entries_shed: f64,
}

/// Outcome seen, in the words of `Outcome`, and what shows it. For a demanded expectation that failed among others, that one
/// is named.
#[must_use]
pub fn outcome(seen: &ControlSeen<'_>, expected: &Outcome) -> (String, String) {
    let facts = &seen.facts;
    if let Some(failure) = facts.failure {
        return ("error".to_owned(), failure.to_owned());
    }
    if facts.interrupted {
        return (
            "interrupted".to_owned(),
            "the run was interrupted".to_owned(),
        );
    }
    if facts.evidence.service_oom_kills > 0 {
        return killed(seen);
    }
    if facts.evidence.hog_oom_kills > 0 {
        return (
            "hog killed".to_owned(),
            "the kernel killed the hog instead of the service".to_owned(),
        );
    }
    match expected {
        Outcome::Sheds if seen.entries_shed > 0.0 => (
            Outcome::Sheds.to_string(),
            format!("not killed, {:.0} entries shed", seen.entries_shed),
        ),
        Outcome::Deviated(name) => match facts
            .expectations
            .iter()
            .find(|e| &e.name == name && e.met == Met::No)
        {
            Some(failed) => (expected.to_string(), expect::words(failed)),
            None => by_rules(facts),
        },
        _ => by_rules(facts),
    }
}

fn killed(seen: &ControlSeen<'_>) -> (String, String) {
    let facts = &seen.facts;
    if !real_kills(facts) {
        return (
            "killed by emulation".to_owned(),
            "the watchdog killed it, not the kernel".to_owned(),
        );
    }
    if !seen.kill_proven {
        let why =
            "the leaf's kill counter rose, but the service that was waited for did not die of it";
        return ("inconclusive".to_owned(), why.to_owned());
    }
    let who = facts.evidence.service_processes.last();
    let who = who.map_or_else(String::new, |p| {
        format!(", pid {} started at tick {}", p.pid, p.start_ticks)
    });
    (
        Outcome::Killed.to_string(),
        format!(
            "kills counted by the kernel in its leaf: {}{who}",
            facts.evidence.service_oom_kills
        ),
    )
}

fn by_rules(facts: &Facts<'_>) -> (String, String) {
    let (verdict, reason) = judge(facts);
    let failed = facts.expectations.iter().find(|e| e.met == Met::No);
    match (verdict, failed) {
        (Verdict::Deviated, Some(failed)) => (format!("deviated:{}", failed.name), reason),
        _ => (verdict.word().to_owned(), reason),
    }
}
