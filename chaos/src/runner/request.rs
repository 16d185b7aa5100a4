//! What is to be run, resolved: from the flags of `run` or `mutants`, or from the record of an earlier run that is replayed.
//! Everything that can be asked for wrongly is found here, before anything is touched.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backdrop_reports::read::{locate, read_record};
use backdrop_reports::record::{
    Build, Definition, MUTANTS_SUITE, Plan, ReplayOf, RunOptions, RunRecord, SEARCH_SUITE,
    ScenarioRecord,
};
use sha2::{Digest, Sha256};

use super::{RunError, io};
use crate::catalogue;
use crate::cli::{PlaceArgs, ReplayArgs, RunArgs, ScenarioArgs, SearchArgs};
use crate::mutants;
use crate::plan;
use crate::scenario::protection::switch_off;
use crate::scenario::{self, ControlPlan, Scenario, library};
use crate::units;

/// Suite of a run whose scenarios were named.
const NAMED: &str = "named";

/// Trials of scenarios that a run has at most, controls and further attempts apart: each adds a megabyte or so to record and report.
const TRIALS_MAX: usize = 60;

/// See the module.
pub(super) struct Request {
    /// In the order they run.
    pub(super) scenarios: Vec<Scenario>,
    /// Scenarios whose controls count for another one's own, as `controls_of` names them: by name, or by file.
    lenders: BTreeMap<String, Scenario>,
    /// Whether they were named one by one.
    named: bool,
    /// Suite asked for, [`NAMED`], or [`MUTANTS_SUITE`].
    pub(super) suite: String,
    /// Seed of every schedule.
    pub(super) seed: u64,
    /// Beside scenarios and seed.
    pub(super) options: RunOptions,
    /// Where everything is and goes.
    pub(super) place: PlaceArgs,
    /// What decides the pictures: sum of the photographs, if there are any.
    photographs: Option<String>,
    /// What is replayed, if anything.
    earlier: Option<RunRecord>,
    /// What is searched, if anything.
    pub(super) search: Option<SearchAsked>,
}

/// A search that is asked for.
pub(super) struct SearchAsked {
    /// Whose target, load and expectations the plans have.
    pub(super) base: Scenario,
    /// As it was named.
    named: String,
    /// Protection that it lacks.
    without: Option<String>,
    /// Trials in all.
    pub(super) runs_max: u32,
    /// Faults of a plan at most.
    pub(super) faults_max: u32,
}

impl SearchAsked {
    /// What is searched, for people.
    pub(super) fn words(&self) -> String {
        match &self.without {
            None => self.base.name.clone(),
            Some(protection) => format!("{} without {protection}", self.base.name),
        }
    }
}

impl Request {
    /// From the flags of `run`.
    ///
    /// # Errors
    /// A scenario cannot be had, is named twice, or there are no pictures where some are asked for.
    pub(super) fn of_run(args: &RunArgs) -> Result<Self, RunError> {
        let (suite, scenarios) = match (&args.scenarios, named(&args.what)?) {
            (Some(dir), _) => (NAMED, each_once(library::folder(dir)?)?),
            (None, Some(scenarios)) => (NAMED, scenarios),
            (None, None) => (args.suite.as_str(), library::suite(&args.suite)?),
        };
        let lenders = lenders(&scenarios, |name| Ok(library::find(name)?))?;
        Self::of(&args.what, suite, args.repeat, (scenarios, lenders))
    }

    /// From the flags of `mutants`.
    ///
    /// # Errors
    /// As [`Request::of_run`]; and if a scenario is named that has no mutant.
    pub(super) fn of_mutants(args: &ScenarioArgs) -> Result<Self, RunError> {
        let scenarios = named(args)?.map_or_else(mutants::all, Ok)?;
        all_have_mutants(&scenarios)?;
        Self::of(args, MUTANTS_SUITE, 1, (scenarios, BTreeMap::new()))
    }

    /// From the flags of `search`.
    ///
    /// # Errors
    /// The scenario cannot be had, or expects nothing but of its own faults.
    pub(super) fn of_search(args: &SearchArgs) -> Result<Self, RunError> {
        let mut base = library::find(&args.scenario)?;
        if let Some(protection) = &args.without {
            switch_off(&mut base.target, protection);
        }
        if base
            .expects
            .iter()
            .all(|e| catalogue::is_of_faults(&e.figure))
        {
            return Err(RunError::NothingExpected { name: base.name });
        }
        let calm = Scenario {
            faults: Vec::new(),
            controls: Vec::new(),
            controls_of: None,
            ..base.clone()
        };
        let scenarios = ScenarioArgs {
            names: vec![args.scenario.clone()],
            seed: args.seed,
            backgrounds: None,
            allow_emulated: args.allow_emulated,
            place: args.place.clone(),
        };
        let search = SearchAsked {
            base,
            named: args.scenario.clone(),
            without: args.without.clone(),
            runs_max: args.runs,
            faults_max: args.faults_max,
        };
        Ok(Self {
            search: Some(search),
            ..Self::of(&scenarios, SEARCH_SUITE, 1, (vec![calm], BTreeMap::new()))?
        })
    }

    fn of(
        args: &ScenarioArgs,
        suite: &str,
        repeat: u32,
        (scenarios, lenders): (Vec<Scenario>, BTreeMap<String, Scenario>),
    ) -> Result<Self, RunError> {
        if scenarios.len() * repeat as usize > TRIALS_MAX {
            return Err(RunError::TooMany {
                scenarios: scenarios.len(),
                repeat,
                most: TRIALS_MAX / scenarios.len(),
            });
        }
        let backgrounds = args.backgrounds.as_deref().map(absolute).transpose()?;
        let photographs = backgrounds.as_deref().map(sum_of).transpose()?;
        let asked = scenarios.iter().map(|s| s.name.clone()).collect();
        let drawn = || u64::from(rand::random::<u32>());
        Ok(Self {
            scenarios,
            lenders,
            named: suite == NAMED || !args.names.is_empty(),
            suite: suite.to_owned(),
            seed: args.seed.unwrap_or_else(drawn),
            options: RunOptions {
                scenarios: asked,
                repeat,
                backgrounds: backgrounds.map(|dir| dir.display().to_string()),
                allow_emulated: args.allow_emulated,
            },
            place: args.place.clone(),
            photographs,
            earlier: None,
            search: None,
        })
    }

    /// From the record of an earlier run: its scenarios as they were, its seed, its pictures.
    ///
    /// # Errors
    /// There is no such record, it does not hold the scenarios, or what it names is gone.
    pub(super) fn of_replay(args: &ReplayArgs) -> Result<Self, RunError> {
        let earlier = read_record(&args.run).map_err(RunError::Replay)?;
        let path = locate(&args.run).map_err(RunError::Replay)?;
        let lacking = |what: &str| RunError::NotReplayable {
            path: path.clone(),
            what: what.to_owned(),
            command: earlier.replay.clone(),
        };
        if earlier.definitions.is_empty() {
            return Err(lacking(
                "holds no scenario files, as those of schema version 1",
            ));
        }
        if earlier.search.is_some() {
            return Err(lacking(
                "was a search: its seed draws the same plans again, and what it found is run by the scenario files in its folder",
            ));
        }
        let defined = |name: &str| -> Result<Scenario, RunError> {
            let Definition { origin, text } = earlier
                .definitions
                .get(name)
                .ok_or_else(|| lacking(&format!("does not hold the file of `{name}`")))?;
            let parsed = scenario::parse_recorded(origin, text);
            Ok(parsed.map_err(scenario::ScenarioError::from)?)
        };
        let mut scenarios: Vec<Scenario> = Vec::new();
        for record in &earlier.scenarios {
            if scenarios.iter().all(|s| s.name != record.name) {
                scenarios.push(defined(&record.name)?);
            }
        }
        if scenarios.is_empty() {
            return Err(lacking("ended before its first scenario"));
        }
        let lenders = match earlier.suite == MUTANTS_SUITE {
            true => all_have_mutants(&scenarios).map(|()| BTreeMap::new())?,
            false => lenders(&scenarios, defined)?,
        };
        let backgrounds = earlier.options.backgrounds.as_deref().map(Path::new);
        let gone = |dir: &Path, error: RunError| RunError::PhotographsGone {
            path: dir.to_owned(),
            cause: match error {
                RunError::Io { cause, .. } => cause.to_string(),
                RunError::NoPictures { .. } => "it holds no file".to_owned(),
                other => other.to_string(),
            },
            command: earlier.replay.clone(),
        };
        let sum = |dir: &Path| sum_of(dir).map_err(|error| gone(dir, error));
        let photographs = backgrounds.map(sum).transpose()?;
        let asked = scenarios.iter().map(|s| s.name.clone()).collect();
        Ok(Self {
            scenarios,
            lenders,
            named: earlier.suite == NAMED,
            suite: earlier.suite.clone(),
            seed: earlier.seed,
            options: RunOptions {
                scenarios: asked,
                ..earlier.options.clone()
            },
            place: args.place.clone(),
            photographs,
            earlier: Some(earlier),
            search: None,
        })
    }

    /// The scenario whose controls count for this one too.
    pub(super) fn lender(&self, scenario: &Scenario) -> Option<&Scenario> {
        self.lenders.get(scenario.controls_of.as_ref()?)
    }

    /// Whether it is the mutation suite.
    pub(super) fn is_of_mutants(&self) -> bool {
        self.suite == MUTANTS_SUITE
    }

    /// The mutant of this scenario, where the mutation suite is run.
    pub(super) fn mutant<'s>(&self, scenario: &'s Scenario) -> Option<&'s ControlPlan> {
        self.is_of_mutants()
            .then(|| mutants::of(scenario))
            .flatten()
    }

    /// What is run and judged in the place of the scenario: itself, or the intact service beside its mutant.
    pub(super) fn subject<'s>(&self, scenario: &'s Scenario) -> Cow<'s, Scenario> {
        match self.mutant(scenario) {
            Some(mutant) => Cow::Owned(mutants::intact(scenario, mutant)),
            None => Cow::Borrowed(scenario),
        }
    }

    /// Every scenario file that decides what is run: what runs by its name, what lends controls as `controls_of` names it.
    pub(super) fn definitions(&self) -> BTreeMap<String, Definition> {
        let definition = |s: &Scenario| Definition {
            origin: s.origin.clone(),
            text: s.text.clone(),
        };
        let lenders = self.lenders.iter();
        let lenders = lenders.map(|(key, s)| (key.clone(), definition(s)));
        let run = self.scenarios.iter();
        lenders
            .chain(run.map(|s| (s.name.clone(), definition(s))))
            .collect()
    }

    /// The plan of this scenario, as the simulator's schedule makes it.
    pub(super) fn plan(&self, scenario: &Scenario, schedule_hash: String) -> Plan {
        let photographs = self.photographs.as_deref();
        plan::of(scenario, self.seed, schedule_hash, photographs)
    }

    /// Scenario files that hold something else by now than what is replayed, in words.
    pub(super) fn changed_files(&self) -> Vec<String> {
        let Some(earlier) = &self.earlier else {
            return Vec::new();
        };
        let changed = |(name, then): (&String, &Definition)| {
            let what = match library::text_now(name, &then.origin) {
                Some(now) if now == then.text => return None,
                Some(_) => "has changed since",
                None => "is gone",
            };
            Some(format!(
                "{}: {what}; {name} is replayed as it was recorded",
                then.origin
            ))
        };
        earlier.definitions.iter().filter_map(changed).collect()
    }

    /// The record of this scenario in the run that is replayed.
    pub(super) fn replayed(&self, name: &str) -> Option<&ScenarioRecord> {
        let earlier = self.earlier.as_ref()?;
        earlier.scenarios.iter().find(|s| s.name == name)
    }

    /// Which run is replayed, and what was not as in it.
    pub(super) fn replay_of(
        &self,
        plans: &BTreeMap<String, Plan>,
        build: &Build,
    ) -> Option<ReplayOf> {
        let earlier = self.earlier.as_ref()?;
        let mut differences = Vec::new();
        let began = |name: &String| earlier.scenarios.iter().any(|s| s.name == *name);
        let asked = earlier.options.scenarios.iter();
        let never: Vec<&str> = asked.filter(|n| !began(n)).map(String::as_str).collect();
        if !never.is_empty() {
            differences.push(format!(
                "{} of that run never began: {}",
                units::count(never.len(), "scenario", "scenarios"),
                never.join(", ")
            ));
        }
        for (name, now) in plans {
            let then = self.replayed(name).map(|s| plan::differences(&s.plan, now));
            differences.extend(then.into_iter().flatten().map(|d| format!("{name}: {d}")));
        }
        Some(ReplayOf {
            id: earlier.id.clone(),
            differences,
            other_build: other_build(&earlier.build, build),
        })
    }

    /// The command that replays this run, or one scenario of it.
    pub(super) fn command(&self, only: Option<&str>) -> String {
        if let Some(earlier) = &self.earlier {
            return match only {
                None => earlier.replay.clone(),
                Some(name) => self
                    .replayed(name)
                    .map_or(earlier.replay.clone(), |s| s.replay.clone()),
            };
        }
        if let Some(search) = &self.search {
            let SearchAsked {
                named,
                without,
                runs_max,
                faults_max,
                ..
            } = search;
            let without = without
                .as_ref()
                .map_or_else(String::new, |protection| format!(" --without {protection}"));
            let emulated = match self.options.allow_emulated {
                true => " --allow-emulated",
                false => "",
            };
            return format!(
                "just chaos search --scenario {named}{without} --seed {} --runs {runs_max} --faults-max {faults_max}{emulated}",
                self.seed
            );
        }
        let mut words = vec![match self.is_of_mutants() {
            true => "just chaos mutants".to_owned(),
            false => "just chaos run".to_owned(),
        }];
        match only {
            Some(name) => words.push(
                self.scenarios
                    .iter()
                    .find(|s| s.name == name)
                    .map_or(name, as_named)
                    .to_owned(),
            ),
            None if self.named => {
                words.extend(self.scenarios.iter().map(|s| as_named(s).to_owned()))
            }
            None if self.is_of_mutants() => {}
            None => words.push(format!("--suite {}", self.suite)),
        }
        words.push(format!("--seed {}", self.seed));
        if only.is_none() && self.options.repeat > 1 {
            words.push(format!("--repeat {}", self.options.repeat));
        }
        if let Some(dir) = &self.options.backgrounds {
            words.push(format!("--backgrounds {dir}"));
        }
        if self.options.allow_emulated {
            words.push("--allow-emulated".to_owned());
        }
        words.join(" ")
    }
}

/// The scenarios that are named, each once; none if none is.
fn named(args: &ScenarioArgs) -> Result<Option<Vec<Scenario>>, RunError> {
    if args.names.is_empty() {
        return Ok(None);
    }
    let found = args.names.iter().map(|n| library::find(n));
    Ok(Some(each_once(found.collect::<Result<Vec<_>, _>>()?)?))
}

fn each_once(scenarios: Vec<Scenario>) -> Result<Vec<Scenario>, RunError> {
    let mut names = BTreeSet::new();
    match scenarios.iter().find(|s| !names.insert(s.name.as_str())) {
        Some(again) => Err(RunError::Twice {
            name: again.name.clone(),
        }),
        None => Ok(scenarios),
    }
}

fn all_have_mutants(scenarios: &[Scenario]) -> Result<(), RunError> {
    match scenarios.iter().find(|s| mutants::of(s).is_none()) {
        Some(scenario) => Err(RunError::NoMutant {
            name: scenario.name.clone(),
        }),
        None => Ok(()),
    }
}

/// As a person names it: one that does not ship with the runner by its file.
fn as_named(scenario: &Scenario) -> &str {
    if library::ships(&scenario.name, &scenario.origin) {
        &scenario.name
    } else {
        &scenario.origin
    }
}

fn lenders(
    scenarios: &[Scenario],
    find: impl Fn(&str) -> Result<Scenario, RunError>,
) -> Result<BTreeMap<String, Scenario>, RunError> {
    let names = scenarios.iter().filter_map(|s| s.controls_of.as_ref());
    let lender = |name: &String| Ok((name.clone(), find(name)?));
    names.map(lender).collect()
}

/// What was built otherwise, in words: the commit, and each binary that both runs had.
fn other_build(then: &Build, now: &Build) -> Vec<String> {
    let mut out = Vec::new();
    if then.commit != now.commit {
        let named = |commit: &str| match commit {
            "" => "none".to_owned(),
            known => known.to_owned(),
        };
        let (then, now) = (named(&then.commit), named(&now.commit));
        out.push(format!("commit {then} then, {now} now"));
    }
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    for binary in &now.binaries {
        let name = file(&binary.path);
        let mut before = then.binaries.iter().filter(|b| file(&b.path) == name);
        if before.next().is_some_and(|b| b.sha256 != binary.sha256) {
            out.push(format!("another {name}"));
        }
    }
    out
}

fn absolute(dir: &Path) -> Result<PathBuf, RunError> {
    std::fs::canonicalize(dir).map_err(io(dir))
}

/// One sum over names and contents of a folder's files, which must not be empty. Which of them are pictures is for the simulator to
/// say.
fn sum_of(dir: impl AsRef<Path>) -> Result<String, RunError> {
    let dir = dir.as_ref();
    let entries = std::fs::read_dir(dir).map_err(io(dir))?;
    let files = entries.flatten().map(|entry| entry.path());
    let files: BTreeSet<PathBuf> = files.filter(|path| path.is_file()).collect();
    if files.is_empty() {
        return Err(RunError::NoPictures {
            path: dir.to_owned(),
        });
    }
    let mut sum = Sha256::new();
    for path in &files {
        let name = path.file_name().unwrap_or_default();
        let content = std::fs::read(path).map_err(io(path))?;
        sum.update(name.as_encoded_bytes());
        sum.update([0]);
        sum.update(Sha256::digest(&content));
    }
    Ok(plan::hex(&sum.finalize()))
}
