//! What the templates print: the record's facts as text, formatted for people. No HTML here, no numbers in the
//! templates.

use crate::format::{Unit, counted, seconds, show, show_against};
use crate::record::{
    Control, Event, Evidence, Expectation, Fault, Met, RunRecord, ScenarioRecord, Trial, Verdict,
};
use crate::render::chart::Chart;
use crate::render::charts;
use crate::render::facts::{Fact, Tone, evidence_facts};
use crate::render::mutants::Row;

/// A verdict's word, capitalised, with its tone.
#[derive(Debug, Clone, Copy)]
pub struct VerdictView {
    /// `held`, ... as in the record; also the CSS class.
    pub word: &'static str,
    /// `Held`, ...
    pub title: &'static str,
    /// `✓`, ...
    pub mark: &'static str,
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        let (title, mark) = match verdict {
            Verdict::Held => ("Held", "✓"),
            Verdict::Deviated => ("Deviated", "✕"),
            Verdict::Inconclusive => ("Inconclusive", "?"),
            Verdict::Error => ("Error", "!"),
        };
        Self {
            word: verdict.word(),
            title,
            mark,
        }
    }
}

/// One expectation.
#[derive(Debug, Clone)]
pub struct ExpectationView {
    /// Name.
    pub name: String,
    /// Name without its unit, as a label.
    pub label: String,
    /// In words.
    pub text: String,
    /// Observed, short.
    pub observed: String,
    /// Observed, exact.
    pub observed_exact: String,
    /// Relation and bound, short.
    pub bound: String,
    /// Bound, exact.
    pub bound_exact: String,
    /// Samples behind it.
    pub samples: String,
    /// Met or not.
    pub tone: Tone,
    /// `yes`, `no`, `unknown`.
    pub met: &'static str,
}

impl ExpectationView {
    fn of(e: &Expectation) -> Self {
        let unit = Unit::stated(&e.unit, &e.figure);
        let exact = |value: f64| show(value, unit).exact + &counted(value, unit, &e.unit);
        let (observed, bound) = match e.observed {
            Some(value) => show_against(value, e.bound, unit).into(),
            None => ("no sample".into(), show(e.bound, unit).short),
        };
        let relation = match e.relation.as_str() {
            "<=" => "≤",
            ">=" => "≥",
            "==" => "=",
            other => other,
        };
        let (tone, met) = match e.met {
            Met::Yes => (Tone::Good, "yes"),
            Met::No => (Tone::Bad, "no"),
            Met::Unknown => (Tone::Doubt, "unknown"),
        };
        Self {
            name: e.name.clone(),
            label: label(&e.figure),
            text: e.text.clone(),
            observed,
            observed_exact: e.observed.map_or_else(String::new, exact),
            bound: format!("{relation} {bound}"),
            bound_exact: exact(e.bound),
            samples: show(e.samples as f64, Unit::Count).short,
            tone,
            met,
        }
    }
}

/// One fault.
#[derive(Debug, Clone)]
pub struct FaultView {
    /// The record's.
    pub fault: Fault,
    /// `30 s – 60 s` or `at 12 s`.
    pub when: String,
    /// Share achieved.
    pub achieved: String,
    /// Whether it acted.
    pub acted: Tone,
    /// Whether it was undone.
    pub undone: Tone,
}

impl FaultView {
    fn of(fault: &Fault) -> Self {
        let when = if fault.to_s > fault.from_s {
            format!("{} – {}", clock(fault.from_s), clock(fault.to_s))
        } else {
            format!("at {}", clock(fault.from_s))
        };
        Self {
            when,
            achieved: fault
                .achieved_ratio
                .map_or_else(|| "–".into(), |r| show(r, Unit::Ratio).short),
            acted: Tone::good_if(fault.acted),
            // What never began has nothing to undo; a record of before it was said says that it acted.
            undone: match fault.began || fault.acted || !fault.undone {
                true => Tone::good_if(fault.undone),
                false => Tone::Plain,
            },
            fault: fault.clone(),
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct EventView {
    /// When.
    pub at: String,
    /// Kind.
    pub kind: String,
    /// In words.
    pub text: String,
}

impl EventView {
    fn of(event: &Event) -> Self {
        Self {
            at: clock(event.t_s),
            kind: event.kind.clone(),
            text: event.text.clone(),
        }
    }
}

/// One figure.
#[derive(Debug, Clone)]
pub struct FigureView {
    /// Name as in the record.
    pub name: String,
    /// Short value.
    pub short: String,
    /// Exact value.
    pub exact: String,
}

/// One start of the service, whether the scenario's own or a control's.
#[derive(Debug, Clone)]
pub struct TrialView {
    /// What its outcome rests on.
    pub evidence: Vec<Fact>,
    /// Circumstances that keep it from being believed.
    pub doubts: Vec<String>,
    /// Faults.
    pub faults: Vec<FaultView>,
    /// Events.
    pub events: Vec<EventView>,
    /// Figures.
    pub figures: Vec<FigureView>,
    /// Command lines.
    pub commands: Vec<(&'static str, String)>,
    /// Raw logs, relative to the run folder.
    pub logs: Vec<String>,
    /// What the truth checker found, if it found a violation.
    pub history: Vec<String>,
}

impl TrialView {
    fn of(
        record: &RunRecord,
        trial: &Trial,
        evidence: &Evidence,
        figures: &std::collections::BTreeMap<String, f64>,
    ) -> Self {
        let figure = |(name, value): (&String, &f64)| {
            let shown = show(*value, record.unit_of(name));
            FigureView {
                name: name.clone(),
                short: shown.short,
                exact: shown.exact,
            }
        };
        let command = |(name, words): (&'static str, &Vec<String>)| {
            (!words.is_empty()).then(|| {
                (
                    name,
                    words
                        .iter()
                        .map(|w| shell_word(w))
                        .collect::<Vec<_>>()
                        .join(" "),
                )
            })
        };
        let commands = [
            ("service", &trial.service_command),
            ("simulator", &trial.simulator_command),
        ];
        Self {
            evidence: evidence_facts(evidence, trial),
            doubts: evidence.doubts.clone(),
            faults: trial.faults.iter().map(FaultView::of).collect(),
            events: trial.events.iter().map(EventView::of).collect(),
            figures: figures.iter().map(figure).collect(),
            commands: commands.into_iter().filter_map(command).collect(),
            logs: trial.logs.clone(),
            history: trial
                .load
                .as_ref()
                .map(|l| l.truth.history.clone())
                .unwrap_or_default(),
        }
    }
}

/// One mutant of the mutation suite, in the overview of all.
#[derive(Debug, Clone)]
pub struct MutantView {
    /// Fragment of its scenario's section.
    pub anchor: String,
    /// The row.
    pub row: Row,
    /// Caught or not.
    pub tone: Tone,
}

impl MutantView {
    /// The view of one row.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        Self {
            anchor: anchor(&row.scenario),
            row: row.clone(),
            tone: match row.verdict {
                Verdict::Held => Tone::Good,
                Verdict::Inconclusive => Tone::Doubt,
                Verdict::Deviated | Verdict::Error => Tone::Bad,
            },
        }
    }
}

/// One control.
#[derive(Debug, Clone)]
pub struct ControlView {
    /// Name.
    pub name: String,
    /// Which protection is off.
    pub story: String,
    /// Expected outcome.
    pub expected: String,
    /// Observed outcome.
    pub observed: String,
    /// What shows it.
    pub reason: String,
    /// As expected or not.
    pub tone: Tone,
    /// The scenario's memory and the control's, on one scale.
    pub charts: [Chart; 2],
    /// Its run.
    pub trial: TrialView,
}

impl ControlView {
    fn of(record: &RunRecord, prefix: &str, scenario: &ScenarioRecord, control: &Control) -> Self {
        Self {
            name: control.label(),
            story: control.story.clone(),
            expected: outcome(&control.expected),
            observed: outcome(&control.observed),
            reason: control.reason.clone(),
            tone: Tone::good_if(control.as_expected),
            charts: charts::side_by_side(prefix, &scenario.trial, &control.trial),
            trial: TrialView::of(record, &control.trial, &control.evidence, &control.figures),
        }
    }
}

/// One scenario.
#[derive(Debug, Clone)]
pub struct ScenarioView {
    /// Fragment of its section.
    pub anchor: String,
    /// Name.
    pub name: String,
    /// One line.
    pub title: String,
    /// What it shows.
    pub story: String,
    /// Conclusion.
    pub verdict: VerdictView,
    /// Why.
    pub reason: String,
    /// Command that replays it.
    pub replay: String,
    /// Hash of its plan; empty where the record has none.
    pub plan: String,
    /// Expectations, all.
    pub expectations: Vec<ExpectationView>,
    /// The expectations that the first screen has: those not met, then the first ones.
    pub key: Vec<ExpectationView>,
    /// Controls.
    pub controls: Vec<ControlView>,
    /// Earlier attempts on a host too busy to measure on: trial, outcome and why.
    pub set_aside: Vec<String>,
    /// Its run.
    pub trial: TrialView,
    /// Charts of its run.
    pub charts: Vec<Chart>,
}

/// Key figures per scenario on the first screen.
const KEY_FIGURES: usize = 5;

impl ScenarioView {
    fn of(record: &RunRecord, number: usize, s: &ScenarioRecord) -> Self {
        let prefix = format!("s{number}");
        let expectations: Vec<_> = s.expectations.iter().map(ExpectationView::of).collect();
        let mut key = expectations.clone();
        key.sort_by_key(|e| e.tone == Tone::Good);
        key.truncate(KEY_FIGURES);
        let control = |(i, c)| ControlView::of(record, &format!("{prefix}-c{i}"), s, c);
        Self {
            anchor: anchor(&s.label()),
            name: s.label(),
            title: s.title.clone(),
            story: s.story.clone(),
            verdict: s.verdict.into(),
            reason: s.reason.clone(),
            replay: s.replay.clone(),
            plan: s.plan.hash.clone(),
            expectations,
            key,
            controls: s.controls.iter().enumerate().map(control).collect(),
            set_aside: s
                .set_aside
                .iter()
                .map(|a| format!("{}: {}: {}", a.trial, a.outcome, a.reason))
                .collect(),
            trial: TrialView::of(record, &s.trial, &s.evidence, &s.figures),
            charts: charts::of_trial(&prefix, &s.trial),
        }
    }
}

/// All scenarios of a run.
#[must_use]
pub fn scenarios(record: &RunRecord) -> Vec<ScenarioView> {
    record
        .scenarios
        .iter()
        .enumerate()
        .map(|(i, s)| ScenarioView::of(record, i, s))
        .collect()
}

/// A moment of the run, seconds after the first planned send.
fn clock(t_s: f64) -> String {
    if t_s.abs() < 120.0 {
        format!("{t_s:.1} s")
    } else {
        seconds(t_s)
    }
}

/// A control's outcome as it reads in a sentence.
fn outcome(word: &str) -> String {
    match word.split_once(':') {
        Some(("deviated", expectation)) => format!("deviated on {expectation}"),
        Some(("inconclusive", why)) => format!("inconclusive: {}", why.replace('-', " ")),
        _ => word.to_owned(),
    }
}

/// A name as a label: its unit is beside the value already.
fn label(name: &str) -> String {
    const UNITS: [&str; 8] = [
        "_mib", "_per_s", "_bytes", "_us", "_ms", "_s", "_points", "_percent",
    ];
    let (name, window) = name.split_once('.').unwrap_or((name, ""));
    let bare = UNITS
        .iter()
        .find_map(|unit| name.strip_suffix(unit))
        .filter(|bare| !bare.is_empty());
    let bare = bare.unwrap_or(name).replace(['_', '-'], " ");
    if window.is_empty() {
        bare
    } else {
        format!("{bare}, {window}")
    }
}

/// Fragment that is safe in a URL, whatever the name.
#[must_use]
pub fn anchor(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '-'
        }
    };
    format!("scenario-{}", name.chars().map(safe).collect::<String>())
}

/// A word as a POSIX shell takes it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(shell_word("--listen=127.0.0.1:0"), "--listen=127.0.0.1:0");
        assert_eq!(shell_word("a b'c"), r"'a b'\''c'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn outcomes_of_controls_read_as_words() {
        for (word, read) in [
            ("killed", "killed"),
            ("deviated:one-load", "deviated on one-load"),
            (
                "inconclusive:fault-did-not-act",
                "inconclusive: fault did not act",
            ),
        ] {
            assert_eq!(outcome(word), read);
        }
    }

    #[test]
    fn labels_leave_units_out() {
        assert_eq!(label("switch_p99_us"), "switch p99");
        assert_eq!(label("service-oom-kills"), "service oom kills");
        assert_eq!(label("hit_ratio"), "hit ratio");
        assert_eq!(label("switch_p99_ms.calm"), "switch p99, calm");
    }

    #[test]
    fn anchors_hold_no_surprises() {
        assert_eq!(anchor("million switch\"><"), "scenario-million-switch---");
    }
}
