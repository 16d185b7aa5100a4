//! What measured the same, and which figures of a trial count: one notion for comparisons and trends.

use crate::format::{Unit, bytes};
use crate::record::{FigureFacts, Host, RunRecord, ScenarioRecord, Verdict};

/// Hosts whose memory differs by less are alike: what a kernel takes for itself differs from boot to boot.
const MEMORY_RATIO_MAX: f64 = 0.02;

/// What must be the same for two trials to have measured the same.
#[derive(Debug, Clone)]
pub struct Circumstances {
    steps: Vec<String>,
    host: Host,
    features: Option<Vec<String>>,
}

impl Circumstances {
    /// Those of one trial of a run.
    #[must_use]
    pub fn of(run: &RunRecord, trial: &ScenarioRecord) -> Self {
        Self {
            steps: trial.plan.steps.clone(),
            host: run.host.clone(),
            features: features(trial, run).map(<[_]>::to_vec),
        }
    }

    /// What these do not say is taken to be as it was `before`: a record that is silent ends no comparison of those around it.
    #[must_use]
    pub fn or_as(mut self, before: &Self) -> Self {
        if self.steps.is_empty() {
            self.steps.clone_from(&before.steps);
        }
        if self.features.is_none() {
            self.features.clone_from(&before.features);
        }
        self
    }

    /// What else was planned, by the first step that only one has. None where one of them does not say.
    #[must_use]
    pub fn other_definition(&self, then: &Self) -> Option<String> {
        if self.steps.is_empty() || then.steps.is_empty() || self.steps == then.steps {
            return None;
        }
        let only = |of: &[String], not: &[String]| {
            let step = of.iter().find(|step| !not.contains(step));
            step.map_or_else(|| "no such step".to_owned(), |step| format!("`{step}`"))
        };
        Some(format!(
            "other scenario definition (first run: {}, second run: {})",
            only(&then.steps, &self.steps),
            only(&self.steps, &then.steps)
        ))
    }

    /// How the host differs.
    #[must_use]
    pub fn other_host(&self, then: &Self) -> Vec<String> {
        let (a, b) = (&then.host, &self.host);
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

    /// With which other features the service was built. None where one of them does not say.
    #[must_use]
    pub fn other_features(&self, then: &Self) -> Option<String> {
        let (before, after) = (then.features.as_ref()?, self.features.as_ref()?);
        let shown = |features: &[String]| match features {
            [] => "none".to_owned(),
            some => some.join(" "),
        };
        (before != after).then(|| {
            format!(
                "other build features ({} and {})",
                shown(before),
                shown(after)
            )
        })
    }
}

/// Features of the service that the trial ran; none if the record does not tell.
fn features<'a>(trial: &ScenarioRecord, run: &'a RunRecord) -> Option<&'a [String]> {
    let binary = trial.trial.service_command.first()?;
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let mut binaries = run.build.binaries.iter();
    let found = binaries.find(|b| file(&b.path) == file(binary))?;
    Some(&found.features)
}

/// Why something of a trial does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    /// The trial failed: nothing of it counts.
    Failed,
    /// Its load ended before its time: times and rates are of another load. What was counted, kills above all, was counted.
    EndedEarly,
    /// Its host was busy: what a clock gave does not count.
    BusyHost,
}

impl Spoilt {
    /// Why, in words.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Failed => "it failed",
            Self::EndedEarly => "its load ended before its time",
            Self::BusyHost => "its host was busy",
        }
    }
}

/// Why this figure of the trial does not count; none if it does. Without facts (a record of schema version 1) its name says
/// whether a clock gave it.
#[must_use]
pub fn spoilt(trial: &ScenarioRecord, name: &str, facts: Option<&FigureFacts>) -> Option<Spoilt> {
    let unit = Unit::stated(facts.map_or("", |f| &f.unit), name);
    let timed = facts.map_or(unit.is_time() || unit.is_rate(), |f| f.timed);
    if trial.verdict == Verdict::Error {
        Some(Spoilt::Failed)
    } else if ended_early(trial) && (timed || unit.is_rate()) {
        Some(Spoilt::EndedEarly)
    } else if timed && trial.evidence.busy_host {
        Some(Spoilt::BusyHost)
    } else {
        None
    }
}

/// A simulator that left no report did not come to the end of its load either.
fn ended_early(trial: &ScenarioRecord) -> bool {
    let load = trial.trial.load.as_ref();
    load.is_none_or(|load| load.ended_early.is_some())
}

/// Of how many rounds something does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spoils {
    /// All rounds.
    pub rounds: usize,
    /// Rounds that failed.
    pub failed: usize,
    /// Others whose load ended before its time.
    pub ended_early: usize,
    /// Those on a busy host, failed ones apart.
    pub busy_host: usize,
}

impl Spoils {
    /// Those of these rounds.
    #[must_use]
    pub fn of(rounds: &[&ScenarioRecord]) -> Self {
        let failed = |t: &ScenarioRecord| t.verdict == Verdict::Error;
        let count = |of: fn(&ScenarioRecord) -> bool| {
            let rounds = rounds.iter();
            rounds.filter(|t| !failed(t) && of(t)).count()
        };
        Self {
            rounds: rounds.len(),
            failed: rounds.iter().filter(|t| failed(t)).count(),
            ended_early: count(ended_early),
            busy_host: count(|t| t.evidence.busy_host),
        }
    }

    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            rounds: self.rounds + other.rounds,
            failed: self.failed + other.failed,
            ended_early: self.ended_early + other.ended_early,
            busy_host: self.busy_host + other.busy_host,
        }
    }

    /// What does not count, in words; empty if everything does.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let all = self.rounds;
        [
            (self.failed, "failed: nothing of them counts"),
            (
                self.ended_early,
                "ended before their load's time: what a clock gave and rates do not count",
            ),
            (
                self.busy_host,
                "had a busy host (starved simulator or taken CPUs): what a clock gave does not count",
            ),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} of {all} rounds {what}"))
        .collect()
    }
}
