//! The verdict: pure rules over what was observed. Held needs evidence for everything; a failure needs evidence for itself.
//!
//! Order of the rules: the runner failed → error; a person interrupted → inconclusive; a harm that no scenario may allow (a kill, a
//! crash, an untrue answer) was seen, or an expectation failed on evidence → deviated; any doubt → inconclusive; otherwise held.
//!
//! A trial that was broken off is never held: harm counts in it as in any other, while an expectation that it misses may be missed for
//! that alone, so it is inconclusive.

use backdrop_reports::format::{stated, stated_against};
use backdrop_reports::load::{SendFigures, TruthVerdict};
use backdrop_reports::record::{Aborted, Evidence, Expectation, Fault, Met, Verdict};

use crate::catalogue;
use crate::expect;
use crate::scenario::Outcome;
use crate::steady::SteadyState;
use crate::units;

/// Highest share of its CPUs that a simulator may have used in any second.
pub const BUSY_MAX: f64 = 0.90;
/// Largest share of the CPUs' time that a hypervisor may take before a bound in time that was missed is in doubt.
pub const STEAL_RATIO_MAX: f64 = 0.01;
/// Least share of the request that a fault which takes memory must have reached.
pub const HOG_RATIO_MIN: f64 = 0.95;

/// Time in which every fault must be off once a trial is broken off, seconds.
pub const FAULTS_OFF_MAX_S: f64 = 2.0;

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
                "the simulator was starved: {:.1} % of its sends were late or dropped, {:.0} % may be; what else runs on its CPUs takes them",
                self.late_ratio * 100.0,
                SendFigures::LATE_RATIO_MAX * 100.0
            ));
        }
        if self.busy_max > BUSY_MAX {
            return Some(format!(
                "the simulator was starved: it used {:.0} % of its CPUs in one second, {:.0} % may be",
                self.busy_max * 100.0,
                BUSY_MAX * 100.0
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
    /// Everything of it was undone and checked.
    pub undone: bool,
}

/// Everything a verdict rests on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The runner failed at something.
    pub failure: Option<&'a str>,
    /// The service ended, or could not start, by itself.
    pub crash: Option<&'a str>,
    /// What the runner itself could not measure as it should.
    pub blind_spots: &'a [String],
    /// Judged expectations.
    pub expectations: &'a [Expectation],
    /// Faults as they happened.
    pub faults: &'a [Fault],
    /// Host and processes.
    pub evidence: &'a Evidence,
    /// The simulator's word; none if it wrote no report.
    pub simulator: Option<Simulator>,
    /// Windows in which the simulator sent too late for their times to prove anything, with the share of sends that were late, 0..=1.
    pub late_windows: &'a [(String, f64)],
    /// Why and when the trial was broken off, if it was.
    pub aborted: Option<&'a Aborted>,
    /// Why the load ended before its time, if it did.
    pub ended_early: Option<&'a str>,
    /// Steady state before the first fault.
    pub steady: &'a SteadyState,
    /// Controls that were run.
    pub controls: &'a [ControlFacts],
    /// More attempts were set aside for a bound that they missed than there are that met it: in words.
    pub outvoted: Option<&'a str>,
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
    if let Some(crash) = facts.crash {
        // Before the expectations, most of which only follow from it.
        return (Verdict::Deviated, crash.to_owned());
    }
    if let Some(aborted) = facts.aborted {
        return match harm(facts) {
            Some(harm) => (
                Verdict::Deviated,
                format!("{harm}; {}", broken_off(aborted)),
            ),
            None => (Verdict::Inconclusive, broken_off(aborted)),
        };
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

/// Every way in which a trial deviated, the gravest first, in the order of [`judge`]: `crash`, names of expectations, `killed`, `untrue`.
#[must_use]
pub fn deviations(facts: &Facts<'_>) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(facts.crash.map(|_| "crash".to_owned()));
    let failed = facts.expectations.iter().filter(|e| e.met == Met::No);
    let failed = failed.filter(|_| facts.aborted.is_none());
    out.extend(failed.map(|e| e.name.clone()));
    if facts.evidence.service_oom_kills > 0 && real_kills(facts) {
        out.push("killed".to_owned());
    }
    let truth = facts.simulator.map(|s| s.truth);
    if truth == Some(TruthVerdict::Violated) {
        out.push("untrue".to_owned());
    }
    out
}

/// The verdict of a whole run from its scenarios' (name, verdict, reason): the worst, and never held if a person interrupted or
/// something is left on the host.
#[must_use]
pub fn of_run(
    scenarios: &[(&str, Verdict, &str)],
    interrupted: bool,
    left: &[String],
) -> (Verdict, String) {
    of_all(
        scenarios,
        ["scenario", "scenarios", "held", "held"],
        interrupted,
        left,
    )
}

/// The same of a search, by the plans that it drew; what it found, in words, is the reason if it found something,
/// after the error if there was one.
#[must_use]
pub fn of_search(
    plans: &[(&str, Verdict, &str)],
    found: Option<String>,
    interrupted: bool,
    left: &[String],
) -> (Verdict, String) {
    let (verdict, reason) = of_all(plans, ["plan", "plans", "held", "held"], interrupted, left);
    let reason = match (verdict, found) {
        (_, None) => reason,
        // The verdict is the error's, whatever else was found.
        (Verdict::Error, Some(found)) => format!("{reason}; {found}"),
        (_, Some(found)) => with_left(found, left),
    };
    (verdict, reason)
}

/// The same of a run of the mutation suite, by the scenarios that are named for the mutants.
#[must_use]
pub fn of_mutants(
    scenarios: &[(&str, Verdict, &str)],
    interrupted: bool,
    left: &[String],
) -> (Verdict, String) {
    of_all(
        scenarios,
        ["mutant", "mutants", "was caught", "were caught"],
        interrupted,
        left,
    )
}

fn of_all(
    scenarios: &[(&str, Verdict, &str)],
    [one, many, it_did, they_did]: [&str; 4],
    interrupted: bool,
    left: &[String],
) -> (Verdict, String) {
    let all = scenarios.len();
    let worst = Verdict::worst(scenarios.iter().map(|s| s.1)).unwrap_or(Verdict::Inconclusive);
    let held = scenarios.iter().filter(|s| s.1 == Verdict::Held).count();
    let reason = match scenarios.iter().find(|s| s.1 == worst) {
        _ if interrupted => format!("interrupted after {}", units::count(all, one, many)),
        Some(_) if worst == Verdict::Held && all == 1 => format!("the {one} {it_did}"),
        Some(_) if worst == Verdict::Held => format!("all {held} {many} {they_did}"),
        Some((name, _, reason)) => {
            let all = units::count(all, one, many);
            let did = if held == 1 { it_did } else { they_did };
            format!("{held} of {all} {did}; {name}: {reason}")
        }
        None => "nothing was run".to_owned(),
    };
    let reason = with_left(reason, left);
    let spoilt = interrupted || !left.is_empty();
    match worst {
        Verdict::Held if spoilt => (Verdict::Inconclusive, reason),
        worst => (worst, reason),
    }
}

fn with_left(reason: String, left: &[String]) -> String {
    match left {
        [] => reason,
        left => format!("{reason}; not everything was undone: {}", left.join("; ")),
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

/// Why and when a trial was broken off, and when its faults were off.
#[must_use]
pub fn broken_off(aborted: &Aborted) -> String {
    let Aborted { figure, unit, .. } = aborted;
    let [seen, bound] = stated_against(aborted.observed, aborted.above, unit, figure);
    let off = match aborted.faults_off_s {
        Some(off) => format!("all faults were off at {}", stated(off, "s", "t_s")),
        None => "not every fault was off".to_owned(),
    };
    format!(
        "the trial was broken off at {} by {}: {figure} was {seen}, above {bound} for {} s; {off}",
        stated(aborted.at_s, "s", "t_s"),
        aborted.name,
        aborted.seconds
    )
}

/// What there is against a trial that was broken off.
fn aborted_doubts(aborted: &Aborted, out: &mut Vec<Doubt>) {
    out.push((Cause::Other, broken_off(aborted)));
    let took = aborted.faults_off_s.map(|off| off - aborted.at_s);
    if took.is_none_or(|took| took > FAULTS_OFF_MAX_S) {
        let words = format!(
            "its faults were not off within {FAULTS_OFF_MAX_S} s of the condition {}",
            aborted.name
        );
        out.push((Cause::Other, words));
    }
}

fn real_kills(facts: &Facts<'_>) -> bool {
    facts.evidence.cgroup != "emulated" || facts.allow_emulated
}

fn held(facts: &Facts<'_>) -> String {
    let met = match facts.expectations {
        [_] => "the expectation was met".to_owned(),
        all => format!("all {} expectations were met", all.len()),
    };
    let mut words = vec![met];
    if !facts.faults.is_empty() {
        words.push(format!(
            "{} acted",
            units::count(facts.faults.len(), "fault", "faults")
        ));
    }
    if !facts.controls.is_empty() {
        words.push(format!(
            "{} came out as demanded",
            units::count(facts.controls.len(), "control", "controls")
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

/// Why a trial is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A fault did nothing that can be shown.
    FaultIdle,
    /// No sample of a figure that has none where no fault acted.
    NoFaultSeen,
    /// No sample of another figure.
    Unseen,
    /// The host was too busy to measure times on.
    BusyHost,
    /// What may come of a busy host, and of other things.
    MaybeBusyHost,
    /// Anything else.
    Other,
}

type Doubt = (Cause, String);

/// Everything that keeps the trial from being believed, the gravest first.
#[must_use]
pub fn doubts(facts: &Facts<'_>) -> Vec<String> {
    causes(facts).into_iter().map(|(_, words)| words).collect()
}

fn causes(facts: &Facts<'_>) -> Vec<Doubt> {
    let mut out = Vec::new();
    let other = |words: &str| (Cause::Other, words.to_owned());
    if facts.interrupted {
        out.push(other("the run was interrupted"));
    }
    if facts.expectations.is_empty() && !facts.interrupted {
        out.push(other("nothing was expected"));
    }
    out.extend(facts.faults.iter().filter_map(fault_doubt));
    if facts.evidence.hog_oom_kills > 0 {
        let words = "the kernel killed the hog, not the service: its size left no room for either";
        out.push(other(words));
    }
    unknown_expectations(facts, &mut out);
    load_doubts(facts, &mut out);
    if let SteadyState::NotHeld(why) = facts.steady {
        let words = format!("no steady state before the first fault: {why}");
        out.push((Cause::MaybeBusyHost, words));
    }
    host_doubts(facts, &mut out);
    out.extend(
        facts
            .outvoted
            .map(|words| (Cause::BusyHost, words.to_owned())),
    );
    for control in facts.controls {
        out.extend(control_doubts(control));
    }
    out
}

fn unknown_expectations(facts: &Facts<'_>, out: &mut Vec<Doubt>) {
    for e in facts.expectations.iter().filter(|e| e.met == Met::Unknown) {
        let cause = match e.observed {
            Some(_) => Cause::BusyHost,
            None if catalogue::is_of_faults(&e.figure) => Cause::NoFaultSeen,
            None => Cause::Unseen,
        };
        let words = format!("expectation {} is unknown: {}", e.name, expect::words(e));
        out.push((cause, words));
    }
    if !facts.expectations.iter().any(expect::excused) {
        return;
    }
    let so = "a bound in time that was missed says nothing of the service";
    if let Some(ratio) = stolen(facts.evidence) {
        let words = format!(
            "the hypervisor took {:.1} % of the CPUs: {so}",
            ratio * 100.0
        );
        out.push((Cause::BusyHost, words));
    }
    for (window, ratio) in facts.late_windows {
        let words = format!(
            "the simulator was starved in window {window}: {:.1} % of its sends were late: {so}",
            ratio * 100.0
        );
        out.push((Cause::BusyHost, words));
    }
    let starved = busy_host(facts.simulator, facts.evidence) || !facts.late_windows.is_empty();
    if let Some(stalls) = facts.evidence.host_stalls.filter(|_| !starved) {
        let words = format!(
            "a CPU stood still {} times, for up to {:.0} ms: {so}",
            stalls.count,
            stalls.longest_s * 1e3
        );
        out.push((Cause::BusyHost, words));
    }
}

fn load_doubts(facts: &Facts<'_>, out: &mut Vec<Doubt>) {
    match facts.simulator {
        None => out.push((Cause::Other, "the simulator left no report".to_owned())),
        Some(simulator) => {
            out.extend(simulator.starved().map(|words| (Cause::BusyHost, words)));
            if simulator.truth == TruthVerdict::Inconclusive {
                let words = "the truth checker read too little to say".to_owned();
                out.push((Cause::MaybeBusyHost, words));
            }
        }
    }
    if let Some(aborted) = facts.aborted {
        aborted_doubts(aborted, out);
    } else if let Some(why) = facts.ended_early {
        let words = format!("the load ended before its time: {why}");
        out.push((Cause::Other, words));
    }
}

fn host_doubts(facts: &Facts<'_>, out: &mut Vec<Doubt>) {
    let evidence = facts.evidence;
    let other = |words: String| (Cause::Other, words);
    if evidence.cgroup == "emulated" && !facts.allow_emulated {
        let words =
            "the memory limit was emulated, not the kernel's (--allow-emulated accepts that)";
        out.push(other(words.to_owned()));
    } else if !evidence.swap_off && evidence.cgroup != "emulated" {
        out.push(other(format!(
            "swap was not verified to be off, so the limit may not bind: {}",
            evidence.swap
        )));
    }
    let unseen = |words: &String| (Cause::MaybeBusyHost, words.clone());
    out.extend(facts.blind_spots.iter().map(unseen));
    if !evidence.undone {
        out.push(other("not everything was undone".to_owned()));
    }
}

fn control_doubts(control: &ControlFacts) -> Vec<Doubt> {
    let mut out = Vec::new();
    if !control.as_expected {
        let words = format!(
            "control {} came out as {} instead of {}: the scenario has no teeth",
            control.name, control.observed, control.expected
        );
        out.push((Cause::Other, words));
    }
    if !control.undone {
        let words = format!("not everything of control {} was undone", control.name);
        out.push((Cause::Other, words));
    }
    out
}

fn fault_doubt(fault: &Fault) -> Option<Doubt> {
    let of_memory = ["memory_hog", "burst", "page_cache"].contains(&fault.kind.as_str());
    let short = of_memory && fault.achieved_ratio.is_some_and(|r| r < HOG_RATIO_MIN);
    if !fault.acted || short {
        let words = format!("fault {} did not act: {}", fault.name, fault.proof);
        return Some((Cause::FaultIdle, words));
    }
    let words = || (Cause::Other, format!("fault {} was not undone", fault.name));
    (!fault.undone).then(words)
}

/// Whether that no fault did act is why the trial is inconclusive, and nothing else: other doubts follow from it, or come of a
/// busy host.
fn faults_idle(facts: &Facts<'_>) -> bool {
    let doubts = causes(facts);
    let count = |cause| doubts.iter().filter(|(c, _)| *c == cause).count();
    let busy = busy_host(facts.simulator, facts.evidence);
    let allowed = |cause: Cause| match cause {
        Cause::FaultIdle | Cause::NoFaultSeen | Cause::BusyHost => true,
        Cause::MaybeBusyHost => busy,
        Cause::Unseen | Cause::Other => false,
    };
    !facts.faults.is_empty()
        && count(Cause::FaultIdle) == facts.faults.len()
        && doubts.iter().all(|(cause, _)| allowed(*cause))
}

/// What an outcome ends with that a doubt keeps from being the one it would be.
pub const IN_DOUBT: &str = ", in doubt";

/// Why a trial is not the one that was meant, so that an expectation that failed in it shows nothing: a fault was idle, the load ended
/// early, something else was killed. A busy host is no such reason, since it leaves only what it cannot explain as failed.
fn unsound(facts: &Facts<'_>) -> Option<String> {
    let spoils = |cause: Cause| matches!(cause, Cause::FaultIdle | Cause::Other);
    let mut doubts = causes(facts).into_iter();
    doubts.find_map(|(cause, words)| spoils(cause).then_some(words))
}

/// What a control shows, in the words of scenario files.
#[derive(Debug, Clone, Copy)]
pub struct ControlSeen<'a> {
    /// The trial by the same rules, without controls.
    pub facts: Facts<'a>,
    /// A process of ours was seen dying of a kill that the kernel counted in its leaf.
    pub kill_proven: bool,
    /// When that was seen, seconds after the first planned send.
    pub killed_s: Option<f64>,
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
    if let Some(crash) = facts.crash {
        return ("crashed".to_owned(), crash.to_owned());
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
            Some(failed) => match unsound(facts) {
                None => (expected.to_string(), expect::words(failed)),
                Some(doubt) => (
                    format!("{expected}{IN_DOUBT}"),
                    format!("{}; but {doubt}", expect::words(failed)),
                ),
            },
            None => by_rules(facts),
        },
        Outcome::FaultsIdle
            if by_rules(facts).0 == Verdict::Inconclusive.word() && faults_idle(facts) =>
        {
            (expected.to_string(), by_rules(facts).1)
        }
        _ => by_rules(facts),
    }
}

/// Whether a fault stood when the service was killed; true for a trial without faults, whose load is all there is to kill it.
fn after_a_fault(seen: &ControlSeen<'_>) -> bool {
    let faults = seen.facts.faults;
    let before = |at: f64| faults.iter().any(|f| f.began && f.from_s <= at);
    faults.is_empty() || seen.killed_s.is_some_and(before)
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
    if !after_a_fault(seen) {
        let why = "the kernel killed it before its first fault began, so the fault shows nothing";
        return ("killed before its fault".to_owned(), why.to_owned());
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
