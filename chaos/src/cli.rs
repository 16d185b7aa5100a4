//! The command line.

use std::path::PathBuf;

use backdrop_reports::command::{COMPARE_HELP, CompareArgs};
use clap::{Args, Parser, Subcommand};

use crate::host::Subprocess;

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples (`just chaos` builds what is missing and hands everything on):
  just chaos run                         the default suite, about six minutes
  just chaos run --suite smoke           the short one
  just chaos run overflow memory-hog     two scenarios by name
  just chaos run memory-hog --repeat 4   often enough for a confidence when it is compared
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
    /// Run again what an earlier run did: its scenarios as they were recorded, its seed, its pictures.
    ///
    /// Says whether the plan (faults with times and amounts) and the request schedule are the same, and where a scenario file has
    /// changed since. Exits like `run`.
    Replay(ReplayArgs),
    /// Hold two runs against each other: change per figure, with a confidence where runs were repeated.
    #[command(after_help = COMPARE_HELP)]
    Compare(CompareArgs),
    /// Name all scenarios and suites.
    List,
    /// Say in words what a scenario does, expects and is controlled by; `figures` names what an expectation may read.
    Explain {
        /// Scenario, path of a .toml file, or `figures`.
        name: String,
    },
    /// Look at what this host can do; with --clean, undo what a killed runner left behind.
    Doctor {
        /// Undo what a killed runner left behind.
        #[arg(long)]
        clean: bool,
    },
    /// Subcommands that the runner starts itself as.
    #[command(flatten)]
    Subprocess(Subprocess),
}

/// What to run and where.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Scenarios by name (`list` has them) or path of a .toml file; without one, the suite.
    #[arg(value_name = "SCENARIO")]
    pub names: Vec<String>,
    /// Suite to run when no scenario is named; `list` has them.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub suite: String,
    /// Seed of every schedule; drawn if absent, and told in the report.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Times that the scenarios are run, one round after the other, with the same seed. Controls run once, in the first round.
    ///
    /// The verdict is the worst of all. `compare` takes each round for a sample: four make its least confidence.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub repeat: u32,
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
    /// A host is busy where the simulator was starved or a hypervisor took the CPUs. Before another attempt the run waits up to a
    /// minute for quiet CPUs. Every attempt is in the record.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub attempts: u32,
    /// Keep the service's data folders, below `data` in the run's folder.
    #[arg(long)]
    pub keep_data: bool,
}
