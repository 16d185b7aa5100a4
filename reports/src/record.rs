//! The run record: what `chaos run` concluded, on which evidence, on which host and build.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::Unit;
use crate::load::LoadReport;

/// Version of [`RunRecord`]'s JSON; a reader refuses a newer one. Version 2 says what was planned (`plan`, `definitions`, `options`),
/// which repeat a scenario is of, and which way a figure is better (`figures`); of a record of version 1 these are empty.
pub const RECORD_SCHEMA_VERSION: u32 = 2;

/// [`RunRecord::suite`] of a run of the mutation suite, in which a scenario has held if its mutant was caught.
pub const MUTANTS_SUITE: &str = "mutants";

/// Conclusion of a run or of one scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every expectation was met, on evidence, and every control did what was expected of it.
    Held,
    /// An expectation was not met.
    Deviated,
    /// No expectation failed, but the evidence does not carry a conclusion.
    Inconclusive,
    /// The run itself failed.
    Error,
}

impl Verdict {
    /// Exit code of the process: 0, 1, 2 or 255.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Deviated => 1,
            Self::Inconclusive => 2,
            Self::Error => 255,
        }
    }

    /// The word that reports print.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Deviated => "deviated",
            Self::Inconclusive => "inconclusive",
            Self::Error => "error",
        }
    }

    /// Of several verdicts the one that a run as a whole has: error, deviated, inconclusive, held. None without any.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let rank = |v: &Self| match v {
            Self::Held => 0,
            Self::Inconclusive => 1,
            Self::Deviated => 2,
            Self::Error => 3,
        };
        verdicts.into_iter().max_by_key(rank)
    }
}

/// One `chaos run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// Always [`RECORD_SCHEMA_VERSION`] when written by this build.
    pub schema_version: u32,
    /// `<UTC time>-<seed>`, the folder's name.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Seed of every schedule of the run.
    pub seed: u64,
    /// Suite asked for, `named` when scenarios were named, `mutants` for the mutation suite.
    pub suite: String,
    /// Command that replays the whole run.
    pub replay: String,
    /// Worst verdict of the scenarios.
    pub verdict: Verdict,
    /// Exit code, always `verdict.exit()`.
    pub exit: u8,
    /// One sentence: why this verdict.
    pub reason: String,
    /// Scenarios in the order they ran.
    pub scenarios: Vec<ScenarioRecord>,
    /// Where it ran.
    pub host: Host,
    /// What was run.
    pub build: Build,
    /// What it was asked for beside its seed.
    #[serde(default)]
    pub options: RunOptions,
    /// The run that this one replays, if it does.
    #[serde(default)]
    pub replay_of: Option<ReplayOf>,
    /// The search that drew the scenarios, if one did.
    #[serde(default)]
    pub search: Option<Search>,
    /// Scenario files as they were run, by name; those whose controls others count for their own as `controls_of` names them.
    #[serde(default)]
    pub definitions: BTreeMap<String, Definition>,
    /// What the figures of the scenarios are, by name without a window.
    #[serde(default)]
    pub figures: BTreeMap<String, FigureFacts>,
}

/// What a run was asked for beside its seed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunOptions {
    /// Scenarios in order, by name; of an interrupted run not all of them began. Empty in older records.
    #[serde(default)]
    pub scenarios: Vec<String>,
    /// Times that the scenarios were to be run.
    pub repeat: u32,
    /// Folder of photographs instead of drawn backgrounds.
    pub backgrounds: Option<String>,
    /// Kills by the emulating watchdog were taken for the kernel's.
    pub allow_emulated: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            scenarios: Vec::new(),
            repeat: 1,
            backgrounds: None,
            allow_emulated: false,
        }
    }
}

/// An earlier run that is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayOf {
    /// Its id.
    pub id: String,
    /// What was not as in that run, in words: plan, schedule, or scenarios that never began there. Empty if all are the same.
    pub differences: Vec<String>,
    /// What was built otherwise, in words: commit and binaries.
    #[serde(default)]
    pub other_build: Vec<String>,
}

/// [`RunRecord::suite`] of a search, whose scenarios are the plans that it drew, and the smallest that it found.
pub const SEARCH_SUITE: &str = "search";

/// A search through random fault plans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Search {
    /// Scenario whose target, load and expectations the plans have.
    pub base: String,
    /// Trials that it was allowed.
    pub runs_max: u32,
    /// Faults that a plan was allowed.
    pub faults_max: u32,
    /// Plans that held.
    pub held: u32,
    /// Plans none of whose trials decided anything.
    pub unjudged: u32,
    /// Every trial in order.
    pub trials: Vec<SearchTrial>,
    /// The first plan that deviated, made smaller.
    pub found: Option<SearchFound>,
}

/// One trial of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchTrial {
    /// Number, from 1.
    pub run: u32,
    /// Why it was run: `plan N`, `no fault`, `fewer faults`, `smaller: size of FAULT`.
    pub step: String,
    /// Its faults with times and amounts, a line each, as in [`Plan::steps`].
    pub faults: Vec<String>,
    /// Verdict in a word.
    pub outcome: String,
    /// One sentence: why.
    pub reason: String,
    /// Raw logs, relative to the run folder.
    pub logs: Vec<String>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SearchFound {
    /// Number of the plan.
    pub plan: u32,
    /// In which way it deviated: `crash`, `killed`, `untrue`, or the name of an expectation.
    pub cause: String,
    /// As it was drawn.
    pub drawn: Vec<String>,
    /// The smallest that was seen to deviate in that way.
    pub smallest: Vec<String>,
    /// Nothing smaller was left to try, and all that was tried could be judged; otherwise the run's reason says what is open.
    pub done: bool,
    /// Scenario files, relative to the run folder: the smallest, then the plan as it was drawn.
    pub files: Vec<String>,
}

/// A scenario file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// File that it came from.
    pub origin: String,
    /// Its text, TOML.
    pub text: String,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The less the better.
    Lower,
    /// The more the better.
    Higher,
    /// Neither: it says what happened, not how well.
    Neither,
}

/// What a figure is, whatever its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FigureFacts {
    /// Unit.
    pub unit: String,
    /// Which way it is better.
    pub better: Better,
    /// A clock gave it: a busy host spoils it.
    pub timed: bool,
}

impl RunRecord {
    /// What a figure is; a window after a dot is allowed. None in a record of schema version 1.
    #[must_use]
    pub fn facts_of(&self, figure: &str) -> Option<&FigureFacts> {
        let base = figure.split_once('.').map_or(figure, |(base, _)| base);
        self.figures.get(base)
    }

    /// Unit of a figure: as the record says, or by its name where it says nothing.
    #[must_use]
    pub fn unit_of(&self, figure: &str) -> Unit {
        let facts = self.facts_of(figure);
        Unit::stated(facts.map_or("", |f| &f.unit), figure)
    }
}

/// One scenario of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioRecord {
    /// Name, e.g. `million-switch`.
    pub name: String,
    /// Which of the run's rounds over the scenarios it is of, from 1.
    #[serde(default = "first")]
    pub repeat: u32,
    /// One line for people.
    pub title: String,
    /// What it shows and why it matters.
    pub story: String,
    /// Conclusion.
    pub verdict: Verdict,
    /// One sentence: why this verdict.
    pub reason: String,
    /// Command that replays this scenario alone.
    pub replay: String,
    /// Earlier attempts that a busy host left inconclusive, in order; what follows is of the last one.
    #[serde(default)]
    pub set_aside: Vec<SetAside>,
    /// What the trial was to be.
    #[serde(default)]
    pub plan: Plan,
    /// Each expectation with what was observed.
    pub expectations: Vec<Expectation>,
    /// The run itself: faults, samples, load.
    pub trial: Trial,
    /// Control runs: the same with a protection off, each with its exact expected outcome. With repeats they are run and
    /// recorded once, in the first that could run them; the verdicts of those after it count them.
    pub controls: Vec<Control>,
    /// What the verdict rests on.
    pub evidence: Evidence,
    /// Figures by name, unit last in the name; expectations refer to these.
    pub figures: BTreeMap<String, f64>,
}

fn first() -> u32 {
    1
}

impl ScenarioRecord {
    /// The name, with the repeat where it is not the first.
    #[must_use]
    pub fn label(&self) -> String {
        match self.repeat {
            1 => self.name.clone(),
            n => format!("{}, repeat {n}", self.name),
        }
    }
}

/// What a trial was to be: known before it began, and the same wherever and whenever it is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// SHA-256, hex, of the steps, the seed and the schedule. Empty in a record of schema version 1.
    pub hash: String,
    /// Hash of the request schedule, as the simulator tells it before the run.
    pub schedule_hash: String,
    /// Target, load, each fault with times and amounts, and the bands that figures are read against: a line each, without the
    /// seed. Trials of the same steps can be compared.
    pub steps: Vec<String>,
}

/// An attempt that says nothing, because the host was too busy to measure on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SetAside {
    /// What was attempted: the scenario, or `SCENARIO.CONTROL`.
    pub trial: String,
    /// What it came out as.
    pub outcome: String,
    /// One sentence: why.
    pub reason: String,
    /// Raw logs, relative to the run folder.
    pub logs: Vec<String>,
}

/// One control of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// Name, e.g. `governor-off`.
    pub name: String,
    /// The scenario whose control it is, where that is another one.
    #[serde(default)]
    pub lent_by: Option<String>,
    /// Which protection is off, in words.
    pub story: String,
    /// The one protection that is off, where the control is its mutant, e.g. `single-flight`.
    #[serde(default)]
    pub protection: Option<String>,
    /// Outcome that the scenario file demands: `killed`, `sheds`, `inconclusive`, `inconclusive:fault-did-not-act`,
    /// `deviated:EXPECTATION`.
    pub expected: String,
    /// Outcome seen, in the same words where they apply, else in others: `held`, `crashed`, `killed before its fault`.
    pub observed: String,
    /// `expected == observed`, on evidence.
    pub as_expected: bool,
    /// One sentence: what shows it.
    pub reason: String,
    /// The control's own run.
    pub trial: Trial,
    /// What the outcome rests on.
    pub evidence: Evidence,
    /// Figures by name.
    pub figures: BTreeMap<String, f64>,
}

impl Control {
    /// The name, with the scenario that it is borrowed from.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.lent_by {
            Some(other) => format!("{} (of {other})", self.name),
            None => self.name.clone(),
        }
    }
}

/// One start of the service under load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// First planned send, milliseconds since the Unix epoch: t = 0 of every time below. Zero if load never began.
    pub started_unix_ms: u64,
    /// Wall time of the whole trial, seconds.
    pub duration_s: f64,
    /// Command line of the service.
    pub service_command: Vec<String>,
    /// Command line of the simulator.
    pub simulator_command: Vec<String>,
    /// Faults, planned and as they happened.
    pub faults: Vec<Fault>,
    /// Samples over time.
    pub timeline: Timeline,
    /// What the simulator measured; none if it did not finish.
    pub load: Option<LoadReport>,
    /// Why and when it was broken off, if it was.
    #[serde(default)]
    pub aborted: Option<Aborted>,
    /// Notable moments: state changes, kills, restarts, undo.
    pub events: Vec<Event>,
    /// Raw logs, relative to the run folder.
    pub logs: Vec<String>,
}

/// Parallel columns: `t_s[i]` is the time of every `series[name][i]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Seconds after the first planned send; negative during set-up.
    pub t_s: Vec<f64>,
    /// Columns by name, unit last in the name; a sample that could not be read is null. Known names:
    /// `limit_bytes`, `usage_bytes`, `anon_bytes`, `kernel_bytes`, `sockets_bytes`, `file_bytes`, `hog_bytes`,
    /// `held_max_bytes` (the service's highest anon + kernel + sockets since the row before),
    /// `pressure_bytes`, `elevated_bytes`, `critical_bytes`, `budget_ceiling_bytes`, `budget_used_bytes`,
    /// `allocator_resident_bytes`, `textures_bytes`, `governor_state`, `evictions_total`, `hits_total`,
    /// `misses_total`, `degraded_total`, `accesses_total` (hits, misses, degraded, shed and failed ones: what hits are a share
    /// of), `shed_total`, `service_cpu_s`, `oom_kills`.
    pub series: BTreeMap<String, Vec<Option<f64>>>,
}

/// A trial that was broken off because a condition of its scenario was met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aborted {
    /// Name of the condition.
    pub name: String,
    /// Figure of the last second that it reads.
    pub figure: String,
    /// Unit of the figure.
    pub unit: String,
    /// It is met while the figure is above this.
    pub above: f64,
    /// Seconds in a row that it must be met.
    pub seconds: u32,
    /// Value in the last of them.
    pub observed: f64,
    /// When that was seen, seconds after the first planned send.
    pub at_s: f64,
    /// When every fault was off, seconds after the first planned send; null if one was not.
    pub faults_off_s: Option<f64>,
}

/// One notable moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Seconds after the first planned send.
    pub t_s: f64,
    /// `fault`, `governor`, `kernel`, `process`, `undo`, `abort`, `runner`.
    pub kind: String,
    /// In words.
    pub text: String,
}

/// One injected fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// Name in the scenario.
    pub name: String,
    /// `memory_hog`, `burst`, `page_cache`, `limit_shrink`, `archive_corrupt`, `oversized_body`, `cpu_hog`,
    /// `failpoint`, `stop`, `slow_clients`, `connection_flood` or `kill`.
    pub kind: String,
    /// What was asked for, in words.
    pub requested: String,
    /// Share of the request that was achieved, 0..=1; null where the notion does not apply.
    pub achieved_ratio: Option<f64>,
    /// Start and end as they happened, seconds after the first planned send.
    pub from_s: f64,
    /// End; equal to `from_s` for a momentary fault.
    pub to_s: f64,
    /// Whether its time came; otherwise the times are those planned.
    #[serde(default)]
    pub began: bool,
    /// Whether it demonstrably acted.
    pub acted: bool,
    /// What shows that it acted (trigger count, achieved bytes, outage seen).
    pub proof: String,
    /// Whether it was undone and the undoing checked.
    pub undone: bool,
}

/// Whether an expectation was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// Met, on at least one sample.
    Yes,
    /// Not met.
    No,
    /// No sample: neither.
    Unknown,
}

/// One expectation with what was observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// Name, unique in the scenario.
    pub name: String,
    /// In words.
    pub text: String,
    /// Figure it reads, a key of `figures`.
    pub figure: String,
    /// `<=`, `>=` or `==`.
    pub relation: String,
    /// Demanded value.
    pub bound: f64,
    /// Unit of bound and observed.
    pub unit: String,
    /// Observed value.
    pub observed: Option<f64>,
    /// Samples behind it.
    pub samples: u64,
    /// Whether it was met.
    pub met: Met,
}

/// What a verdict rests on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// `v1`, `v2` or `emulated`.
    pub cgroup: String,
    /// Path of the limited parent.
    pub cgroup_path: String,
    /// Limit read back from the kernel, bytes.
    pub limit_bytes: u64,
    /// Swap was off for the cgroup, read back.
    pub swap_off: bool,
    /// What shows it, or that it was not.
    #[serde(default)]
    pub swap: String,
    /// Kernel kills in the service's leaf.
    pub service_oom_kills: u64,
    /// Kernel kills in the hog's leaf.
    pub hog_oom_kills: u64,
    /// Service processes of the trial in order.
    pub service_processes: Vec<ServiceProcess>,
    /// Share of late or dropped sends, 0..=1.
    pub late_ratio: Option<f64>,
    /// Highest share of its cores the simulator used, 0..=1.
    pub simulator_busy_max: Option<f64>,
    /// Share of the CPUs' time that the hypervisor took during the load, 0..=1.
    #[serde(default)]
    pub host_steal_ratio: Option<f64>,
    /// Times during the load at which one of the CPUs stood still; none where the host does not let them be seen.
    #[serde(default)]
    pub host_stalls: Option<HostStalls>,
    /// Every fault demonstrably acted (true when there is none).
    pub faults_acted: bool,
    /// Everything was undone and checked.
    pub undone: bool,
    /// The host was too busy to measure times on, whatever they came to: the simulator was starved, its CPUs were taken or stood still.
    #[serde(default)]
    pub busy_host: bool,
    /// How CPUs were shared out, in words.
    pub cpu_placement: String,
    /// Each circumstance that keeps the trial from being believed; empty is good.
    pub doubts: Vec<String>,
}

/// Times of 5 ms and more at which nothing ran on a CPU, whatever its priority: the host under it stood still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostStalls {
    /// How many; several CPUs at once are one.
    pub count: u64,
    /// Together, seconds.
    pub total_s: f64,
    /// The longest, seconds.
    pub longest_s: f64,
}

/// One life of the service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceProcess {
    /// Process id.
    pub pid: u32,
    /// Start time, clock ticks after boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
    /// How it ended: `exited 0`, `signal 9 by the kernel's OOM killer`, `signal 9 by the runner`.
    pub end: String,
}

/// Where it ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Usable CPUs.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// `v1`, `v2`, `emulated`.
    pub cgroup: String,
    /// Running as root.
    pub root: bool,
    /// What the host lacks, what was used instead and what that means for the verdict.
    pub lacks: Vec<String>,
}

/// What was run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// Version of Backdrop.
    pub version: String,
    /// Git commit, with `+dirty` if the tree was changed; empty outside a checkout.
    pub commit: String,
    /// Service binaries by use.
    pub binaries: Vec<Binary>,
}

/// One binary of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Binary {
    /// Path.
    pub path: String,
    /// Cargo features it was built with, as it reports itself; `unknown` if it does not.
    pub features: Vec<String>,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}
