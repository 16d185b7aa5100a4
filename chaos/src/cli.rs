//! The command line.

use std::path::PathBuf;

use backdrop_reports::command::{COMPARE_HELP, CompareArgs};
use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::host::Subprocess;
use crate::scenario::protection::PROTECTIONS;

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples (`just chaos` builds what is missing and hands everything on):
  just chaos run                         the default suite, about seven minutes
  just chaos run --suite smoke           the short one
  just chaos run overflow memory-hog     two scenarios by name
  just chaos mutants                     is each protection of the service missed when it is off?
  just chaos search --seed 7             random faults; what the service does not bear, made small
  just chaos run memory-hog --repeat 5   often enough for a confidence when it is compared
  just chaos compare RUN_A RUN_B         what became better or worse, and how sure that is
  just chaos replay reports/out/latest   a run again, as it was recorded
  just chaos explain overflow            what one does, expects, and is controlled by
  just chaos doctor                      whether this host can do it, and what to mend";

/// What `run --help` ends with.
const RUN_EXAMPLES: &str = "\
Examples:
  just chaos run --suite smoke
  just chaos run overflow --seed 7                   with the schedules of an earlier run
  just chaos run my.toml --backgrounds ~/Pictures    a scenario of yours; see chaos/scenarios

A run leaves OUT/<UTC time>-<seed>/ with index.html, run.json, junit.xml, ctrf.json, summary.md and logs;
OUT/latest links to the newest.
Exit code: 0 held, 1 deviated, 2 inconclusive or interrupted, 255 the run itself failed or was asked
for wrongly.";

/// What `mutants --help` ends with.
const MUTANTS_EXAMPLES: &str = "\
Examples:
  just chaos mutants                     every protection, about eight minutes
  just chaos mutants cold-herd           the mutant of one scenario
  just chaos explain mutants             which there are, and how each must be caught

Exit code: 0 all caught, 1 one got away or was caught otherwise, 2 one could not be judged,
255 the run itself failed or was asked for wrongly.";

/// What `search --help` ends with.
const SEARCH_EXAMPLES: &str = "\
Examples:
  just chaos search --seed 7                          20 trials, eight minutes or so
  just chaos search --scenario mine.toml --runs 60    of your target, load and expectations
  just chaos search --without governor                what the search is worth: this it must find
  just chaos run reports/out/latest/found/search-7-3-small.toml    what was found, again

Exit code: 0 nothing found, 1 found and written, 2 a plan could not be judged, or interrupted before
anything was found, 255 the search itself failed or was asked for wrongly.";

/// Runs chaos scenarios: the service in a real memory cgroup, under load, with faults, and a verdict that can be believed.
#[derive(Debug, Parser)]
#[command(name = "backdrop-chaos", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and judge them.
    ///
    /// Each scenario starts the service under a memory limit, puts a load on it, injects faults, and checks what it expects. Then its
    /// controls run: the same with a protection switched off, which must fail as stated; one that does not makes the scenario
    /// inconclusive. Ctrl-C undoes everything and writes what there is.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Switch each protection of the service off in turn: the scenario that is named for it must notice.
    ///
    /// First the same build runs with every protection on, under the same load and faults, and must meet what catches the mutant;
    /// then without the one protection. Of scenarios that are named, those that have a mutant.
    #[command(after_help = MUTANTS_EXAMPLES)]
    Mutants(ScenarioArgs),
    /// Try random plans of faults until the service deviates, and make that plan as small as it can be.
    ///
    /// A plan is drawn within what the host and the service's own promises can bear, put on the target and load of a scenario, and
    /// judged by its expectations, controls apart. The first that deviates is run on with fewer, weaker and shorter faults while it
    /// still deviates in the same way, and written as a scenario file, as drawn and as small as it got. The same seed draws the same
    /// plans on a host of the same bounds. Ctrl-C keeps the smallest so far.
    #[command(after_help = SEARCH_EXAMPLES)]
    Search(SearchArgs),
    /// Run again what an earlier run did: its scenarios as they were recorded, its seed, its pictures.
    ///
    /// Says whether the plan (load, faults with times and amounts, photographs), the request schedule and the binaries are the same,
    /// which scenarios never began in that run, and where a scenario file has changed since. Exits like `run`.
    Replay(ReplayArgs),
    /// Hold two runs against each other: change per figure, with a confidence where runs were repeated.
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Name all scenarios and suites.
    List,
    /// Say in words what a scenario does, expects and is controlled by; `figures` names what an expectation may read, `mutants` the
    /// mutation suite.
    Explain {
        /// Scenario, path of a .toml file, `figures`, or `mutants`.
        name: String,
    },
    /// Look at what this host can do; with --clean, undo what a killed runner left behind.
    Doctor {
        /// Undo what a killed runner left behind.
        #[arg(long)]
        clean: bool,
    },
    /// Say whether the runner would take this command line, and do nothing: 0 or 255. Before long builds.
    #[command(hide = true)]
    Check {
        /// The command line without the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Subcommands that the runner starts itself as.
    #[command(flatten)]
    Subprocess(Subprocess),
}

/// What `run` is asked for.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Suite to run when no scenario is named; `list` has them.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub suite: String,
    /// Folder of scenario files to run instead of a suite, all that end in .toml, by name.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["suite", "names"])]
    pub scenarios: Option<PathBuf>,
    /// Times that the scenarios are run, one round after the other, with the same seed. Controls run once, in the first round
    /// whose trial could be. Scenarios times rounds are 60 at most.
    ///
    /// The verdict is the worst of all. `compare` takes each round for a sample: four make a confidence of one figure, five one of
    /// up to 12 expectations together.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub repeat: u32,
    /// What and where.
    #[command(flatten)]
    pub what: ScenarioArgs,
}

/// What to run and where.
#[derive(Debug, Clone, Args)]
pub struct ScenarioArgs {
    /// Scenarios by name (`list` has them) or path of a .toml file; without one, all of the suite.
    #[arg(value_name = "SCENARIO")]
    pub names: Vec<String>,
    /// Seed of every schedule; drawn if absent, and told in the report.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Folder of photographs (JPEG, PNG, WebP) to use instead of drawn backgrounds; copies are stamped, originals left alone.
    #[arg(long, value_name = "DIR")]
    pub backgrounds: Option<PathBuf>,
    /// Where no memory cgroup can be had: take kills by the emulating watchdog for the kernel's.
    #[arg(long)]
    pub allow_emulated: bool,
    /// Where everything is and goes.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What to search and where.
#[derive(Debug, Clone, Args)]
pub struct SearchArgs {
    /// Scenario whose target, load and expectations the plans have: its own faults are left out, and what it expects of them.
    #[arg(long, value_name = "NAME", default_value = "calm")]
    pub scenario: String,
    /// Trials in all, those that make a plan smaller among them. One that decides nothing is repeated twice at most.
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub runs: u32,
    /// Faults that a plan has at most.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub faults_max: u32,
    /// Protection of the service that is switched off, in the build for controls: what the search itself is controlled by, since it must find
    /// a plan then that the whole service bears. `explain mutants` says what each is.
    #[arg(long, value_name = "PROTECTION", value_parser = PossibleValuesParser::new(PROTECTIONS))]
    pub without: Option<String>,
    /// Seed of plans and schedules; drawn if absent, and told in the report.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where no memory cgroup can be had: take kills by the emulating watchdog for the kernel's.
    #[arg(long)]
    pub allow_emulated: bool,
    /// Where everything is and goes.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What to replay and where.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Folder of the run, or its run.json.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Where everything is and goes.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Where everything is and goes, and how patient a run is.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Folder that run folders are made in.
    #[arg(long, value_name = "DIR", default_value = "reports/out")]
    pub out: PathBuf,
    /// Folder of the service's builds and the simulator, where `just chaos` puts them.
    #[arg(long, value_name = "DIR", default_value = "target/chaos")]
    pub bin_dir: PathBuf,
    /// Folder that drawn backgrounds are kept in from run to run.
    #[arg(long, value_name = "DIR", default_value = "target/backgrounds")]
    pub cache_dir: PathBuf,
    /// Times that a scenario or control is run at most while a busy host leaves it inconclusive.
    ///
    /// A host is busy where the simulator was starved, a hypervisor took the CPUs, or a CPU stood still for long enough to explain
    /// the bound in time that was missed; as many attempts must then meet that bound as were set aside for it. Before another
    /// attempt the run waits up to a minute for quiet CPUs. Every attempt is in the record.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub attempts: u32,
    /// Run although another run is under way. Both disturb each other: figures in time say nothing then.
    #[arg(long)]
    pub beside: bool,
    /// Keep the service's data folders, below `data` in the run's folder.
    #[arg(long)]
    pub keep_data: bool,
}
