//! A search on this host: each plan that is asked for becomes a scenario, a trial and an answer; what is found becomes files and records.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backdrop_reports::record::{
    Definition, Plan, ScenarioRecord, Search, SearchFound, SearchTrial, SetAside, Verdict,
};

use super::judge::Judge;
use super::request::{Request, SearchAsked};
use super::{RunError, io};
use crate::host::{CpuSet, Hierarchy, available_disk, available_memory, spare_files};
use crate::plan;
use crate::scenario::write::{Called, with_faults};
use crate::scenario::{self, FaultPlan, Scenario};
use crate::search::{self, Answer, Ask, Bounds, Found, Outcome, Space, Step};

/// Folder of what was found, in the run's.
const FOUND: &str = "found";

/// What a search is and draws from on this host; none if none is asked for.
///
/// # Errors
/// The scenario leaves no room for a fault.
pub(super) fn space<'r>(
    request: &'r Request,
    hierarchy: &Hierarchy,
) -> Result<Option<(&'r SearchAsked, Space)>, RunError> {
    let Some(asked) = &request.search else {
        return Ok(None);
    };
    let bounds = Bounds {
        cpus: u32::try_from(CpuSet::allowed()?.cpus().len()).unwrap_or(u32::MAX),
        kernel_limit: !hierarchy.is_emulated(),
        memory_bytes: available_memory().unwrap_or(0),
        disk_bytes: available_disk(&request.place.out).unwrap_or(0),
        clients: spare_files(),
    };
    Ok(Some((
        asked,
        Space::new(&asked.base, bounds, asked.faults_max)?,
    )))
}

/// What a search came to, for the record.
pub(super) struct Searched {
    pub(super) record: Search,
    /// Scenario files of all plans.
    pub(super) definitions: BTreeMap<String, Definition>,
    /// What keeps what was found from being proven to be the smallest.
    open: Option<&'static str>,
}

impl Searched {
    /// What was found, in a sentence; none if nothing was.
    pub(super) fn found_words(&self) -> Option<String> {
        let found = self.record.found.as_ref()?;
        let enough = match (found.smallest.len(), found.drawn.len()) {
            (0, _) => "and does so without any fault".to_owned(),
            (few, all) => format!("for which {few} of its {all} faults are enough"),
        };
        let more = self
            .open
            .map_or_else(String::new, |open| format!("; {open}"));
        Some(format!(
            "plan {} deviates by {}, {enough}: {}{more}",
            found.plan, found.cause, found.files[0]
        ))
    }
}

/// Runs the search; records of the plans that were drawn, and of the smallest that was found.
///
/// # Errors
/// A plan could not be written or read again.
pub(super) async fn carry_out(
    judge: &Judge<'_>,
    asked: &SearchAsked,
    space: &Space,
) -> Result<(Vec<ScenarioRecord>, Searched), RunError> {
    let seed = judge.context.seed;
    let mut oracle = Oracle {
        judge,
        asked,
        cause: None,
        trials: Vec::new(),
        plans: BTreeMap::new(),
        smallest: None,
        definitions: BTreeMap::new(),
        failed: None,
    };
    let runs = (asked.runs_max, judge.request.place.attempts);
    let draw = |number| space.draw(seed, number);
    let outcome = search::search(draw, runs, async |ask: Ask<'_>| oracle.answer(ask).await).await;
    match oracle.failed.take() {
        Some(error) => Err(error),
        None => oracle.conclude(outcome),
    }
}

/// Runs trials of plans and keeps what they came to.
struct Oracle<'a> {
    judge: &'a Judge<'a>,
    asked: &'a SearchAsked,
    /// In which way the first plan deviated, once one did.
    cause: Option<String>,
    trials: Vec<SearchTrial>,
    /// The last trial of each plan that was drawn.
    plans: BTreeMap<u32, ScenarioRecord>,
    /// The last that was smaller and still deviated in that way.
    smallest: Option<ScenarioRecord>,
    definitions: BTreeMap<String, Definition>,
    failed: Option<RunError>,
}

impl Oracle<'_> {
    fn seed(&self) -> u64 {
        self.judge.context.seed
    }

    async fn answer(&mut self, ask: Ask<'_>) -> Answer {
        if self.judge.context.stop.raised() {
            return Answer::Stopped;
        }
        let number = match ask.step {
            Step::Drawn(number) => Some(number),
            _ => None,
        };
        let scenario = match self.scenario(number, ask.faults) {
            Ok(scenario) => scenario,
            Err(error) => {
                self.failed = Some(error);
                return Answer::Stopped;
            }
        };
        self.say_begin(ask);
        let name = format!("{}.run-{}", scenario.name, ask.run);
        let schedule = self.judge.plans.get(&self.asked.base.name);
        let schedule = schedule.map_or_else(String::new, |plan| plan.schedule_hash.clone());
        let planned = self.judge.request.plan(&scenario, schedule);
        let (record, deviations) = self.judge.searched(&scenario, name, planned).await;
        self.keep(ask, number, &record, &deviations);
        if self.judge.context.stop.raised() {
            return Answer::Stopped;
        }
        let answer = match record.verdict {
            Verdict::Held => Answer::Held,
            Verdict::Deviated => Answer::Deviated(deviations),
            Verdict::Inconclusive | Verdict::Error => Answer::Inconclusive,
        };
        if answer == Answer::Inconclusive && record.evidence.busy_host {
            self.judge.wait_for_quiet().await;
        }
        answer
    }

    /// The plan as a scenario; without a number it is one that is made smaller.
    fn scenario(
        &mut self,
        number: Option<u32>,
        faults: &[FaultPlan],
    ) -> Result<Scenario, RunError> {
        let seed = self.seed();
        let name = match number {
            Some(number) => format!("search-{seed}-{number}"),
            None => format!("search-{seed}-small"),
        };
        let title = format!("a random plan of seed {seed} on {}", self.asked.words());
        let story = format!("Drawn by `{}`.", self.judge.request.command(None));
        self.written(&name, &title, &story, faults)
    }

    fn written(
        &mut self,
        name: &str,
        title: &str,
        story: &str,
        faults: &[FaultPlan],
    ) -> Result<Scenario, RunError> {
        let called = Called { name, title, story };
        let text = with_faults(&self.asked.base, called, faults);
        let origin = self.path(name).display().to_string();
        let scenario = scenario::parse(&origin, &text).map_err(scenario::ScenarioError::from)?;
        let definition = Definition { origin, text };
        self.definitions.insert(name.to_owned(), definition);
        Ok(scenario)
    }

    fn path(&self, name: &str) -> PathBuf {
        let dir = self.judge.context.dir.join(FOUND);
        dir.join(format!("{name}.toml"))
    }

    fn say_begin(&self, ask: Ask<'_>) {
        let faults: Vec<_> = ask.faults.iter().map(plan::fault).collect();
        let faults = match faults.as_slice() {
            [] => "nothing is done to the service".to_owned(),
            some => some.join("\n  "),
        };
        self.judge.context.progress.note(&format!(
            "\ntrial {} of {}, {}:\n  {faults}",
            ask.run,
            self.asked.runs_max,
            ask.step.words()
        ));
    }

    fn keep(
        &mut self,
        ask: Ask<'_>,
        number: Option<u32>,
        record: &ScenarioRecord,
        deviations: &[String],
    ) {
        let words = format!("{}: {}", record.verdict.word(), record.reason);
        self.judge.context.progress.note(&words);
        self.judge.context.exposed.scenario(record.verdict);
        self.trials.push(SearchTrial {
            run: ask.run,
            step: ask.step.words(),
            faults: ask.faults.iter().map(plan::fault).collect(),
            outcome: record.verdict.word().to_owned(),
            reason: record.reason.clone(),
            logs: record.trial.logs.clone(),
        });
        if let Some(number) = number {
            let mut record = record.clone();
            if let Some(before) = self.plans.remove(&number) {
                record.set_aside = before.set_aside;
                record.set_aside.push(SetAside {
                    trial: before.name,
                    outcome: before.verdict.word().to_owned(),
                    reason: before.reason,
                    logs: before.trial.logs,
                });
            }
            self.plans.insert(number, record);
            self.cause = deviations.first().cloned();
        } else if record.verdict == Verdict::Deviated
            && deviations.iter().any(|d| Some(d) == self.cause.as_ref())
        {
            self.smallest = Some(record.clone());
        }
    }

    fn conclude(mut self, outcome: Outcome) -> Result<(Vec<ScenarioRecord>, Searched), RunError> {
        let smaller = self.smallest.take();
        self.definitions
            .remove(&format!("search-{}-small", self.seed()));
        let (found, record) = match &outcome.found {
            Some(found) => {
                let (found, record) = self.write(found, smaller)?;
                (Some(found), record)
            }
            None => (None, None),
        };
        let mut records: Vec<_> = self.plans.into_values().collect();
        records.extend(record);
        let searched = Searched {
            record: Search {
                base: self.asked.words(),
                runs_max: self.asked.runs_max,
                faults_max: self.asked.faults_max,
                held: outcome.held,
                unjudged: outcome.unjudged,
                trials: self.trials,
                found,
            },
            definitions: self.definitions,
            open: outcome.found.as_ref().and_then(Found::open),
        };
        Ok((records, searched))
    }

    /// Writes the plan that was found, as drawn and as small as it got, which has a record of its own.
    fn write(
        &mut self,
        found: &Found,
        smaller: Option<ScenarioRecord>,
    ) -> Result<(SearchFound, Option<ScenarioRecord>), RunError> {
        let (seed, number) = (self.seed(), found.number);
        let drawn = format!("search-{seed}-{number}");
        let mut names = vec![drawn.clone()];
        let record = smaller.map(|mut record| {
            record.name = format!("{drawn}-small");
            record
        });
        let record = match record {
            Some(mut record) => {
                let base = self.asked.words();
                let title = format!(
                    "plan {number} of seed {seed} on {base}, made small: {}",
                    found.cause
                );
                let open = found.open();
                let open = open.map_or_else(String::new, |open| format!("; {open}"));
                let story = format!(
                    "`{}` drew a plan of {} faults by which the service deviates: {}. This is the smallest that was seen to{open}.",
                    self.judge.request.command(None),
                    found.drawn.len(),
                    found.cause
                );
                let name = record.name.clone();
                let scenario = self.written(&name, &title, &story, &found.smallest)?;
                record.plan = self.planned(&scenario, &record.plan);
                (record.title, record.story) = (title, story);
                record.replay = format!(
                    "just chaos run {} --seed {seed}",
                    self.path(&name).display()
                );
                names.insert(0, name);
                Some(record)
            }
            None => None,
        };
        let dir = self.judge.context.dir.join(FOUND);
        std::fs::create_dir_all(&dir).map_err(io(&dir))?;
        for name in &names {
            let path = self.path(name);
            let text = self.definitions.get(name).map_or("", |d| d.text.as_str());
            std::fs::write(&path, text).map_err(io(&path))?;
        }
        if let Some(plan) = self.plans.get_mut(&number) {
            plan.replay = format!(
                "just chaos run {} --seed {seed}",
                dir.join(format!("{drawn}.toml")).display()
            );
        }
        let lines = |faults: &[FaultPlan]| faults.iter().map(plan::fault).collect();
        let found = SearchFound {
            plan: number,
            cause: found.cause.clone(),
            drawn: lines(&found.drawn),
            smallest: lines(&found.smallest),
            done: found.done,
            files: names.iter().map(|n| format!("{FOUND}/{n}.toml")).collect(),
        };
        Ok((found, record))
    }

    fn planned(&self, scenario: &Scenario, before: &Plan) -> Plan {
        self.judge
            .request
            .plan(scenario, before.schedule_hash.clone())
    }
}
