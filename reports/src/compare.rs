//! Two runs side by side: which trials may be compared, and what became of each figure, with a confidence where repeats give one.
//!
//! One run is one sample. The seconds within a run are none: they follow from each other, and say nothing of how another run
//! would have come out. So a change is called better or worse only if both runs were repeated and the whole interval of
//! [`crate::statistics`] lies beyond the noise. The confidence is that of each figure by itself. Of many figures some differ by
//! chance, so the outcome rests on those that an expectation reads, corrected for their number; the others are hints.
//!
//! Rounds that do not count are slow ones more often than not. To leave them out flatters their side, so that no word in its
//! favour stands.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::alike::{Circumstances, Spoils, Spoilt, spoilt};
use crate::format::Unit;
use crate::record::{Better, FigureFacts, RunRecord, ScenarioRecord, Verdict};
use crate::statistics::{LEVEL, SAMPLE_MAX, chance_of_rise, median, shift, stand_together};

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Worse beyond the noise, with confidence.
    Worse,
    /// Perhaps changed, perhaps not: too few runs, rounds left out, or an interval that reaches over the noise.
    Unclear,
    /// Better beyond the noise, with confidence.
    Better,
    /// Changed beyond the noise, with confidence, and neither better nor worse for it.
    Differs,
    /// Within the noise, with confidence, or the same values on both sides.
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
    /// No figure that decides is worse, and each of them is clear.
    NoWorse,
    /// At least one figure that decides is worse, with confidence for all of them together.
    Worse,
    /// Nothing that decides is known to be worse, but not everything is clear.
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
    /// Figures of either run, those that decide first, and what matters most before the rest.
    pub figures: Vec<Change>,
}

/// One figure in both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Name, with its window.
    pub name: String,
    /// What it counts.
    #[serde(skip)]
    pub unit: Unit,
    /// Which way it is better.
    pub better: Better,
    /// An expectation reads it and it is better one way: the outcome rests on it. Otherwise it is a hint.
    pub decides: bool,
    /// Median over the runs that count; null without one.
    pub values: [Option<f64>; 2],
    /// Runs that count.
    pub runs: [usize; 2],
    /// Runs that do not, or have no value.
    pub left_out: [usize; 2],
    /// Change as a share of the first run's value; null where that is zero, or a value is missing.
    pub change_ratio: Option<f64>,
    /// Ends of the interval of the change, in the same terms; null where the runs are too few for a confidence.
    pub interval_ratio: Option<[f64; 2]>,
    /// Confidence of the interval, 0..=1.
    pub confidence: Option<f64>,
    /// How likely so bad a change beyond the noise is at most if there is none, 0..=1, this figure taken by itself.
    pub chance: Option<f64>,
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
    let all = || {
        scenarios
            .iter()
            .flat_map(|s| s.figures.iter().map(move |f| (s, f)))
    };
    let deciding: Vec<_> = all().filter(|(_, f)| f.decides).collect();
    let count = |word| deciding.iter().filter(|(_, f)| f.word == word).count();
    let of_all = format!("of {} figures with an expectation", deciding.len());
    let worse = worse_together(&deciding);
    if !worse.is_empty() {
        return (
            Outcome::Worse,
            format!("{} {of_all} are worse: {}", worse.len(), worse.join(", ")),
        );
    }
    let apart = scenarios.iter().filter(|s| !s.apart.is_empty()).count();
    let fallen = scenarios.iter().find(|s| s.fell());
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
    } else if count(Word::Worse) > 0 {
        format!(
            "{} {of_all} look worse, which of so many can be chance: more rounds would tell",
            count(Word::Worse)
        )
    } else if count(Word::Unclear) > 0 {
        format!("{} {of_all} are unclear", count(Word::Unclear))
    } else if deciding.is_empty() {
        "there is no figure with an expectation to compare".to_owned()
    } else {
        let better = count(Word::Better);
        let hints = all().filter(|(_, f)| !f.decides && f.word == Word::Worse);
        let hints = match hints.count() {
            0 => String::new(),
            n => format!("; {n} others look worse, a hint"),
        };
        return (
            Outcome::NoWorse,
            format!("none {of_all} is worse, {better} are better{hints}"),
        );
    };
    (Outcome::Unclear, unclear_reason)
}

/// Those that are worse with confidence for all that decide together.
fn worse_together(deciding: &[(&Pair, &Change)]) -> Vec<String> {
    let tested = deciding.iter().filter_map(|(s, f)| Some((s, f, f.chance?)));
    let (tested, chances): (Vec<_>, Vec<f64>) = tested.map(|(s, f, p)| ((s, f), p)).unzip();
    let stand = stand_together(&chances);
    let both = tested.into_iter().zip(stand);
    both.filter(|((_, f), stands)| *stands && f.word == Word::Worse)
        .map(|((s, f), _)| format!("{} of {}", f.name, s.name))
        .collect()
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

/// What the sides are called.
const WHICH: [&str; 2] = ["first", "second"];

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
    let expected: BTreeSet<&str> = sides
        .iter()
        .flatten()
        .flat_map(|s| s.expectations.iter().map(|e| e.figure.as_str()))
        .collect();
    let names: BTreeSet<&String> = sides
        .iter()
        .flatten()
        .flat_map(|s| s.figures.keys())
        .collect();
    let change = |name: &String| {
        let facts = runs[1].facts_of(name).or_else(|| runs[0].facts_of(name));
        let expected = expected.contains(name.as_str());
        change(name, (facts, expected), &sides, noise_ratio)
    };
    pair.figures = names.into_iter().map(change).collect();
    pair.figures.sort_by_key(|f| (!f.decides, f.word));
    pair
}

/// Why a scenario of the two runs cannot be compared.
fn apart(sides: &Sides<'_>, runs: [&RunRecord; 2]) -> Vec<String> {
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
    let [then, now] = [0, 1].map(|i| Circumstances::of(runs[i], sides[i][0]));
    reasons.extend(now.other_definition(&then));
    reasons.extend(now.other_host(&then));
    reasons.extend(now.other_features(&then));
    for (side, which) in sides.iter().zip(WHICH) {
        if side.iter().all(|s| s.verdict == Verdict::Error) {
            let why = &side[0].reason;
            reasons.push(format!("the {which} run has no figures that count: {why}"));
        }
    }
    reasons
}

/// What of the runs does not count, in words.
fn left_out(sides: &Sides<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    for (side, which) in sides.iter().zip(WHICH) {
        let words = Spoils::of(side).words();
        notes.extend(words.into_iter().map(|w| format!("{which} run: {w}")));
        if side.len() > SAMPLE_MAX {
            notes.push(format!(
                "{which} run: of {} rounds the first {SAMPLE_MAX} count",
                side.len()
            ));
        }
    }
    notes
}

fn change(
    name: &str,
    (facts, expected): (Option<&FigureFacts>, bool),
    sides: &Sides<'_>,
    noise_ratio: f64,
) -> Change {
    let value = |s: &&ScenarioRecord| match spoilt(s, name, facts) {
        Some(_) => None,
        None => s.figures.get(name).copied(),
    };
    let all = sides
        .each_ref()
        .map(|side| side.iter().filter_map(value).collect::<Vec<f64>>());
    let samples = all
        .each_ref()
        .map(|values| &values[..values.len().min(SAMPLE_MAX)]);
    let better = facts.map_or(Better::Neither, |f| f.better);
    let mut change = Change {
        name: name.to_owned(),
        unit: Unit::stated(facts.map_or("", |f| &f.unit), name),
        better,
        decides: expected && better != Better::Neither,
        values: samples.map(median),
        runs: samples.map(<[f64]>::len),
        left_out: [0, 1].map(|i| sides[i].len() - all[i].len()),
        change_ratio: None,
        interval_ratio: None,
        confidence: None,
        chance: None,
        word: Word::Unclear,
        why: String::new(),
    };
    let why_not = |i: usize| {
        let mut sides = sides[i].iter();
        let spoilt = sides.find_map(|s| spoilt(s, name, facts));
        spoilt.map_or("it was not measured", Spoilt::why)
    };
    let [Some(before), Some(_)] = change.values else {
        let i = usize::from(change.values[0].is_some());
        change.why = format!("no value in the {} run: {}", WHICH[i], why_not(i));
        return change;
    };
    let Some(shift) = shift(samples[0], samples[1]) else {
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
    let noise = noise_ratio * before.abs();
    change.chance = match change.better {
        Better::Lower => chance_of_rise(samples[0], samples[1], noise),
        Better::Higher => chance_of_rise(samples[1], samples[0], noise),
        Better::Neither => None,
    };
    change.word = if shift.confidence.is_some() {
        word(low, high, noise_ratio, change.better)
    } else if equal(samples) {
        Word::Same
    } else {
        Word::Unclear
    };
    change.why = why(&change);
    if !stands(change.word, change.left_out) {
        change.word = Word::Unclear;
    }
    for (i, which) in WHICH.iter().enumerate() {
        if change.left_out[i] > 0 {
            let (n, all) = (change.left_out[i], sides[i].len());
            let not = format!(
                "; without {n} of {all} rounds of the {which} run: {}",
                why_not(i)
            );
            change.why.push_str(&not);
        }
    }
    change
}

/// Both sides have the same values, or one value and no other.
fn equal(samples: [&[f64]; 2]) -> bool {
    let sorted = samples.map(|values| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    });
    let first = samples[0].first();
    sorted[0] == sorted[1] || samples.iter().copied().flatten().all(|v| Some(v) == first)
}

/// Whether a word stands although rounds were left out: not in favour of the side that this flatters.
fn stands(word: Word, left_out: [usize; 2]) -> bool {
    match word {
        Word::Worse => left_out[0] == 0,
        Word::Better => left_out[1] == 0,
        Word::Differs | Word::Same => left_out == [0, 0],
        Word::Unclear => true,
    }
}

/// What an interval says.
fn word(low: f64, high: f64, noise_ratio: f64, better: Better) -> Word {
    let (risen, fallen) = (low > noise_ratio, high < -noise_ratio);
    if low >= -noise_ratio && high <= noise_ratio {
        return Word::Same;
    }
    if !(risen || fallen) {
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
