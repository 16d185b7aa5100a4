//! What is to be run, resolved: from the flags of `run`, or from the record of an earlier run that is replayed. Everything that
//! can be asked for wrongly is found here, before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backdrop_reports::read::{locate, read_record};
use backdrop_reports::record::{Definition, Plan, ReplayOf, RunOptions, RunRecord, ScenarioRecord};

use super::{RunError, io};
use crate::cli::{PlaceArgs, ReplayArgs, RunArgs};
use crate::plan;
use crate::scenario::{self, Scenario, library};

/// See the module.
pub(super) struct Request {
    /// In the order they run.
    pub(super) scenarios: Vec<Scenario>,
    /// Scenarios whose controls count for another one's own, by name.
    lenders: BTreeMap<String, Scenario>,
    /// Suite asked for, or `named`.
    pub(super) suite: String,
    /// Seed of every schedule.
    pub(super) seed: u64,
    /// Beside scenarios and seed.
    pub(super) options: RunOptions,
    /// Where everything is and goes.
    pub(super) place: PlaceArgs,
    /// What is replayed, if anything.
    earlier: Option<RunRecord>,
}

impl Request {
    /// From the flags of `run`.
    ///
    /// # Errors
    /// A scenario cannot be had, is named twice, or there are no pictures where some are asked for.
    pub(super) fn of_run(args: &RunArgs) -> Result<Self, RunError> {
        let named = !args.names.is_empty();
        let scenarios = if named {
            let found = args.names.iter().map(|n| library::find(n));
            found.collect::<Result<Vec<_>, _>>()?
        } else {
            library::suite(&args.suite)?
        };
        let mut names = BTreeSet::new();
        if let Some(again) = scenarios.iter().find(|s| !names.insert(s.name.as_str())) {
            return Err(RunError::Twice {
                name: again.name.clone(),
            });
        }
        let lenders = lenders(&scenarios, |name| Ok(library::find(name)?))?;
        let backgrounds = args.backgrounds.as_deref().map(pictures).transpose()?;
        Ok(Self {
            scenarios,
            lenders,
            suite: if named {
                "named".to_owned()
            } else {
                args.suite.clone()
            },
            seed: args
                .seed
                .unwrap_or_else(|| u64::from(rand::random::<u32>())),
            options: RunOptions {
                repeat: args.repeat,
                backgrounds,
                allow_emulated: args.allow_emulated,
            },
            place: args.place.clone(),
            earlier: None,
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
        let defined = |name: &str| -> Result<Scenario, RunError> {
            let Definition { origin, text } = earlier
                .definitions
                .get(name)
                .ok_or_else(|| lacking(&format!("does not hold the file of `{name}`")))?;
            let parsed = scenario::parse(origin, text);
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
        let lenders = lenders(&scenarios, defined)?;
        if let Some(dir) = &earlier.options.backgrounds {
            pictures(Path::new(dir))?;
        }
        Ok(Self {
            scenarios,
            lenders,
            suite: earlier.suite.clone(),
            seed: earlier.seed,
            options: earlier.options.clone(),
            place: args.place.clone(),
            earlier: Some(earlier),
        })
    }

    /// The scenario whose controls count for this one too.
    pub(super) fn lender(&self, scenario: &Scenario) -> Option<&Scenario> {
        self.lenders.get(scenario.controls_of.as_ref()?)
    }

    /// Every scenario file that decides what is run, by name.
    pub(super) fn definitions(&self) -> BTreeMap<String, Definition> {
        let all = self.scenarios.iter().chain(self.lenders.values());
        let definition = |s: &Scenario| Definition {
            origin: s.origin.clone(),
            text: s.text.clone(),
        };
        all.map(|s| (s.name.clone(), definition(s))).collect()
    }

    /// The plan of this scenario, as the simulator's schedule makes it.
    pub(super) fn plan(&self, scenario: &Scenario, schedule_hash: String) -> Plan {
        let photographs = self.options.backgrounds.is_some();
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
    pub(super) fn replay_of(&self, plans: &BTreeMap<String, Plan>) -> Option<ReplayOf> {
        let earlier = self.earlier.as_ref()?;
        let mut differences = Vec::new();
        for (name, now) in plans {
            let then = self.replayed(name).map(|s| plan::differences(&s.plan, now));
            differences.extend(then.into_iter().flatten().map(|d| format!("{name}: {d}")));
        }
        Some(ReplayOf {
            id: earlier.id.clone(),
            differences,
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
        let mut words = vec!["just chaos run".to_owned()];
        match only {
            Some(name) => words.push(
                self.scenarios
                    .iter()
                    .find(|s| s.name == name)
                    .map_or(name, as_named)
                    .to_owned(),
            ),
            None if self.suite == "named" => {
                words.extend(self.scenarios.iter().map(|s| as_named(s).to_owned()))
            }
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

/// The folder, absolute, if it can be read and is not empty. Which of its files are pictures is for the simulator to say.
fn pictures(dir: &Path) -> Result<String, RunError> {
    let entries = std::fs::read_dir(dir).map_err(io(dir))?;
    let mut files = entries.flatten().filter(|entry| entry.path().is_file());
    if files.next().is_none() {
        return Err(RunError::NoPictures {
            path: dir.to_owned(),
        });
    }
    let absolute: PathBuf = std::fs::canonicalize(dir).map_err(io(dir))?;
    Ok(absolute.display().to_string())
}
