//! Two runs side by side: which trials may be compared, and what became of each figure, with a confidence where repeats give one.
//!
//! One run is one sample. The seconds within a run are none: they follow from each other, and say nothing of how another run
//! would have come out. So a change is called better or worse only if both runs were repeated and the whole interval of
//! [`crate::statistics`] lies beyond the noise. The confidence is that of each figure by itself.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::format::bytes;
use crate::record::{Better, FigureFacts, Host, RunRecord, ScenarioRecord, Verdict};
use crate::statistics::{LEVEL, SAMPLE_MAX, median, shift};

/// Hosts whose memory differs by less are alike: what a kernel takes for itself differs from boot to boot.
const MEMORY_RATIO_MAX: f64 = 0.02;

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Worse beyond the noise, with confidence.
    Worse,
    /// Perhaps changed, perhaps not: too few runs, or an interval that reaches over the noise.
    Unclear,
    /// Better beyond the noise, with confidence.
    Better,
    /// Changed beyond the noise, with confidence, and neither better nor worse for it.
    Differs,
    /// Within the noise.
    Same,
}

impl Word {
    /// The word that is printed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Unclear => "unclear",
            Self::Better => "better",
            Self::Differs => "differs",
            Self::Same => "same",
        }
    }
}

/// What came of a comparison as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing is worse, and everything could be compared.
    NoWorse,
    /// At least one figure is worse, with confidence.
    Worse,
    /// Nothing is known to be worse, but not everything is clear.
    Unclear,
}

impl Outcome {
    /// The words that are printed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NoWorse => "no worse",
            Self::Worse => "worse",
            Self::Unclear => "unclear",
        }
    }

    /// Exit code of the process: 0, 1 or 2.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::NoWorse => 0,
            Self::Worse => 1,
            Self::Unclear => 2,
        }
    }
}

/// Two runs compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The first run, what is compared with.
    pub a: RunFacts,
    /// The second run, what is compared.
    pub b: RunFacts,
    /// Changes up to this share of the first run's value are noise, 0..=1.
    pub noise_ratio: f64,
    /// Least confidence of an interval, 0..=1.
    pub confidence: f64,
    /// What came of it.
    pub outcome: Outcome,
    /// One sentence: why.
    pub reason: String,
    /// What is different between the runs and keeps nothing from being compared.
    pub notes: Vec<String>,
    /// Scenarios of either run, those of the first in its order, then those that only the second has.
    pub scenarios: Vec<Pair>,
}

/// Which run it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFacts {
    /// Its folder's name.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Git commit.
    pub commit: String,
    /// Conclusion.
    pub verdict: Verdict,
}

/// One scenario in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// Name.
    pub name: String,
    /// Worst verdict in either run; null where the run has no such scenario.
    pub verdicts: [Option<Verdict>; 2],
    /// Why it cannot be compared; empty if it can.
    pub apart: Vec<String>,
    /// What is to be known of the figures below.
    pub notes: Vec<String>,
    /// Figures of either run, what matters most first.
    pub figures: Vec<Change>,
}

/// One figure in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name, with its window.
    pub name: String,
    /// Which way it is better.
    pub better: Better,
    /// Median over the runs that count; null without one.
    pub values: [Option<f64>; 2],
    /// Runs that count.
    pub runs: [usize; 2],
    /// Change as a share of the first run's value; null where that is zero, or a value is missing.
    pub change_ratio: Option<f64>,
    /// Ends of the interval of the change, in the same terms; null where the runs are too few for a confidence.
    pub interval_ratio: Option<[f64; 2]>,
    /// Confidence of the interval, 0..=1.
    pub confidence: Option<f64>,
    /// What became of it.
    pub word: Word,
    /// What carries the word, or why there is no other.
    pub why: String,
}

/// Compares two runs; changes up to `noise_ratio` of the first one's value are noise.
#[must_use]
pub fn compare(a: &RunRecord, b: &RunRecord, noise_ratio: f64) -> Comparison {
    let mut names: Vec<&str> = Vec::new();
    for scenario in a.scenarios.iter().chain(&b.scenarios) {
        if !names.contains(&scenario.name.as_str()) {
            names.push(&scenario.name);
        }
    }
    let runs = [a, b];
    let scenarios: Vec<_> = names
        .into_iter()
        .map(|name| pair(name, runs, noise_ratio))
        .collect();
    let (outcome, reason) = conclude(&scenarios);
    Comparison {
        a: facts(a),
        b: facts(b),
        noise_ratio,
        confidence: LEVEL,
        outcome,
        reason,
        notes: notes(a, b),
        scenarios,
    }
}

fn facts(run: &RunRecord) -> RunFacts {
    RunFacts {
        id: run.id.clone(),
        started_at: run.started_at.clone(),
        commit: run.build.commit.clone(),
        verdict: run.verdict,
    }
}

fn conclude(scenarios: &[Pair]) -> (Outcome, String) {
    let judged = || scenarios.iter().flat_map(|s| &s.figures);
    let judged = || judged().filter(|f| f.better != Better::Neither);
    let count = |word| judged().filter(|f| f.word == word).count();
    let (worse, unclear, all) = (count(Word::Worse), count(Word::Unclear), judged().count());
    let apart = scenarios.iter().filter(|s| !s.apart.is_empty()).count();
    let fallen = scenarios.iter().find(|s| s.fell());
    let of_all = format!("of {all} figures that are better one way");
    if worse > 0 {
        return (Outcome::Worse, format!("{worse} {of_all} are worse"));
    }
    let unclear_reason = if let Some(pair) = fallen {
        let word = |v: Option<Verdict>| v.map_or("not run", Verdict::word);
        let [before, after] = pair.verdicts.map(word);
        format!(
            "{} {before} in the first run and is {after} in the second",
            pair.name
        )
    } else if apart > 0 {
        format!(
            "{apart} of {} scenarios cannot be compared",
            scenarios.len()
        )
    } else if unclear > 0 {
        format!("{unclear} {of_all} are unclear")
    } else if all == 0 {
        "there is no figure to compare".to_owned()
    } else {
        let better = count(Word::Better);
        return (
            Outcome::NoWorse,
            format!("none {of_all} is worse, {better} are better"),
        );
    };
    (Outcome::Unclear, unclear_reason)
}

impl Pair {
    /// The verdict is worse than it was. A verdict is no figure: one run says it, and none says how sure it is.
    fn fell(&self) -> bool {
        let [Some(before), Some(after)] = self.verdicts else {
            return false;
        };
        before != after && Verdict::worst([before, after]) == Some(after)
    }
}

/// What differs between the runs as a whole and is no obstacle.
fn notes(a: &RunRecord, b: &RunRecord) -> Vec<String> {
    let mut notes = Vec::new();
    if a.seed != b.seed {
        notes.push(format!(
            "other seed ({} and {}): the same load by another schedule",
            a.seed, b.seed
        ));
    }
    if a.build.commit != b.build.commit {
        let name = |commit: &str| match commit {
            "" => "none".to_owned(),
            known => known.to_owned(),
        };
        notes.push(format!(
            "other commit ({} and {})",
            name(&a.build.commit),
            name(&b.build.commit)
        ));
    }
    if a.host.kernel != b.host.kernel {
        notes.push(format!(
            "other kernel ({} and {})",
            a.host.kernel, b.host.kernel
        ));
    }
    notes
}

/// The runs of one scenario, of either side.
type Sides<'a> = [Vec<&'a ScenarioRecord>; 2];

fn pair(name: &str, runs: [&RunRecord; 2], noise_ratio: f64) -> Pair {
    let sides: Sides<'_> =
        runs.map(|run| run.scenarios.iter().filter(|s| s.name == name).collect());
    let verdict = |side: &Vec<&ScenarioRecord>| Verdict::worst(side.iter().map(|s| s.verdict));
    let mut pair = Pair {
        name: name.to_owned(),
        verdicts: sides.each_ref().map(verdict),
        apart: apart(&sides, runs),
        notes: Vec::new(),
        figures: Vec::new(),
    };
    if !pair.apart.is_empty() {
        return pair;
    }
    pair.notes = left_out(&sides);
    let names: BTreeSet<&String> = sides
        .iter()
        .flatten()
        .flat_map(|s| s.figures.keys())
        .collect();
    let change = |name: &String| {
        let facts = runs[1].facts_of(name).or_else(|| runs[0].facts_of(name));
        change(name, facts, &sides, noise_ratio)
    };
    pair.figures = names.into_iter().map(change).collect();
    pair.figures.sort_by_key(|f| f.word);
    pair
}

/// Why a scenario of the two runs cannot be compared.
fn apart(sides: &Sides<'_>, runs: [&RunRecord; 2]) -> Vec<String> {
    const WHICH: [&str; 2] = ["first", "second"];
    let mut reasons = Vec::new();
    for (side, which) in sides.iter().zip(WHICH) {
        if side.is_empty() {
            reasons.push(format!("the {which} run has no such scenario"));
        } else if side.iter().any(|s| s.plan.hash.is_empty()) {
            reasons.push(format!(
                "the {which} run's record is of schema version 1 and does not say what was planned"
            ));
        }
    }
    if !reasons.is_empty() {
        return reasons;
    }
    let steps = sides.each_ref().map(|side| &side[0].plan.steps);
    if let Some(reason) = other_steps(steps[0], steps[1]) {
        reasons.push(reason);
    }
    reasons.extend(other_host(&runs[0].host, &runs[1].host));
    let features = [0, 1].map(|i| features(sides[i][0], runs[i]));
    if let [Some(before), Some(after)] = &features
        && before != after
    {
        reasons.push(format!(
            "other build features ({} and {})",
            shown_features(before),
            shown_features(after)
        ));
    }
    for (side, which) in sides.iter().zip(WHICH) {
        let all: Option<Vec<String>> = side.iter().map(|s| unusable(s)).collect();
        if let Some(why) = all.iter().flatten().next() {
            reasons.push(format!("the {which} run has no figures that count: {why}"));
        }
    }
    reasons
}

/// The first step that only one of them has.
fn other_steps(before: &[String], after: &[String]) -> Option<String> {
    let only = |of: &[String], not: &[String]| of.iter().find(|step| !not.contains(step)).cloned();
    let differing = [only(before, after), only(after, before)];
    if before == after {
        return None;
    }
    let words =
        differing.map(|step| step.map_or_else(|| "no such step".to_owned(), |s| format!("`{s}`")));
    Some(format!(
        "other scenario definition (first run: {}, second run: {})",
        words[0], words[1]
    ))
}

fn other_host(a: &Host, b: &Host) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut differs = |what: &str, before: String, after: String| {
        if before != after {
            reasons.push(format!("other host: {what} {before} and {after}"));
        }
    };
    differs("processor", a.cpu.clone(), b.cpu.clone());
    differs("CPUs", a.cpus.to_string(), b.cpus.to_string());
    differs("cgroup", a.cgroup.clone(), b.cgroup.clone());
    let (before, after) = (a.memory_bytes as f64, b.memory_bytes as f64);
    if (before - after).abs() > MEMORY_RATIO_MAX * before.max(after) {
        differs("memory", bytes(before), bytes(after));
    }
    reasons
}

/// Features of the service that the trial ran; none if the record does not tell.
fn features<'a>(scenario: &ScenarioRecord, run: &'a RunRecord) -> Option<&'a [String]> {
    let binary = scenario.trial.service_command.first()?;
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let found = run
        .build
        .binaries
        .iter()
        .find(|b| file(&b.path) == file(binary))?;
    Some(&found.features)
}

fn shown_features(features: &[String]) -> String {
    match features {
        [] => "none".to_owned(),
        some => some.join(" "),
    }
}

/// Why no figure of this trial counts.
fn unusable(scenario: &ScenarioRecord) -> Option<String> {
    if scenario.verdict == Verdict::Error {
        return Some(scenario.reason.clone());
    }
    match &scenario.trial.load {
        None => Some("the simulator left no report".to_owned()),
        Some(load) => {
            let why = load.ended_early.as_ref()?;
            Some(format!("the load ended before its time: {why}"))
        }
    }
}

/// What of the runs does not count, in words.
fn left_out(sides: &Sides<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (side, which) in sides.iter().zip(["first", "second"]) {
        let all = side.len();
        let unusable = side.iter().filter(|s| unusable(s).is_some()).count();
        if unusable > 0 {
            notes.push(format!(
                "{unusable} of {all} runs of the {which} side failed or ended early and do not count"
            ));
        }
        let busy = side.iter().filter(|s| s.evidence.busy_host).count();
        if busy > 0 {
            notes.push(format!(
                "{busy} of {all} runs of the {which} side were made on a busy host (starved simulator or taken CPUs): what a clock gave does not count"
            ));
        }
        if all > SAMPLE_MAX {
            notes.push(format!(
                "of {all} runs of the {which} side the first {SAMPLE_MAX} count"
            ));
        }
    }
    notes
}

fn change(name: &str, facts: Option<&FigureFacts>, sides: &Sides<'_>, noise_ratio: f64) -> Change {
    let timed = facts.is_some_and(|f| f.timed);
    let counts = |s: &&&ScenarioRecord| unusable(s).is_none() && !(timed && s.evidence.busy_host);
    let values = |side: &Vec<&ScenarioRecord>| -> Vec<f64> {
        let of = |s: &&ScenarioRecord| s.figures.get(name).copied();
        side.iter()
            .filter(counts)
            .filter_map(of)
            .take(SAMPLE_MAX)
            .collect()
    };
    let samples = sides.each_ref().map(values);
    let mut change = Change {
        name: name.to_owned(),
        better: facts.map_or(Better::Neither, |f| f.better),
        values: samples.each_ref().map(|values| median(values)),
        runs: samples.each_ref().map(Vec::len),
        change_ratio: None,
        interval_ratio: None,
        confidence: None,
        word: Word::Unclear,
        why: String::new(),
    };
    let [Some(before), Some(_)] = change.values else {
        let which = if change.values[0].is_none() {
            "first"
        } else {
            "second"
        };
        let spoilt = timed && sides.iter().flatten().any(|s| s.evidence.busy_host);
        let why = if spoilt {
            "its host was busy"
        } else {
            "it was not measured"
        };
        change.why = format!("no value in the {which} run: {why}");
        return change;
    };
    let Some(shift) = shift(&samples[0], &samples[1]) else {
        return change;
    };
    // Of nothing every change is beyond any noise.
    let share = |by: f64| match (by == 0.0, before == 0.0) {
        (true, _) => 0.0,
        (false, true) => by.signum() * f64::INFINITY,
        (false, false) => by / before.abs(),
    };
    let (low, high) = (share(shift.low), share(shift.high));
    change.change_ratio = Some(share(shift.estimate)).filter(|r| r.is_finite());
    change.confidence = shift.confidence;
    if shift.confidence.is_some() {
        change.interval_ratio = Some([low, high]).filter(|ends| ends.iter().all(|r| r.is_finite()));
    }
    change.word = word(
        low,
        high,
        shift.confidence.is_some(),
        noise_ratio,
        change.better,
    );
    change.why = why(&change);
    change
}

/// What an interval (or, without confidence, the range of all differences) says.
fn word(low: f64, high: f64, confident: bool, noise_ratio: f64, better: Better) -> Word {
    let (risen, fallen) = (low > noise_ratio, high < -noise_ratio);
    if low >= -noise_ratio && high <= noise_ratio {
        return Word::Same;
    }
    if !confident || !(risen || fallen) {
        return Word::Unclear;
    }
    match better {
        Better::Neither => Word::Differs,
        Better::Lower if fallen => Word::Better,
        Better::Higher if risen => Word::Better,
        Better::Lower | Better::Higher => Word::Worse,
    }
}

fn why(change: &Change) -> String {
    let percent = |ratio: f64| format!("{:+.1} %", ratio * 100.0);
    match (change.confidence, change.interval_ratio, change.runs) {
        (Some(confidence), Some([low, high]), _) => format!(
            "{} to {}, {:.1} % confidence",
            percent(low),
            percent(high),
            confidence * 100.0
        ),
        (Some(confidence), None, _) => {
            format!("from nothing, {:.1} % confidence", confidence * 100.0)
        }
        (None, _, [1, 1]) => "one run each: no confidence".to_owned(),
        (None, _, [a, b]) => format!(
            "{a} and {b} runs are too few for {:.0} % confidence; four each are enough",
            LEVEL * 100.0
        ),
    }
}
