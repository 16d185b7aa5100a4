//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::host::Subprocess;

/// Runs chaos scenarios: the service in a real memory cgroup, under load, with faults, and a verdict that can be believed.
///
/// Exit code of `run`: 0 held, 1 deviated, 2 inconclusive or interrupted, 255 error.
#[derive(Debug, Parser)]
#[command(name = "backdrop-chaos", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and judge them.
    Run(RunArgs),
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
    /// Scenarios by name or path of a .toml file; without one, the suite.
    pub names: Vec<String>,
    /// Suite to run when no scenario is named; `list` shows them.
    #[arg(long, default_value = "default")]
    pub suite: String,
    /// Seed of every schedule; drawn if absent.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Folder of photographs to use instead of drawn backgrounds; copies are stamped, originals left alone.
    #[arg(long)]
    pub backgrounds: Option<PathBuf>,
    /// Folder that run folders are made in.
    #[arg(long, default_value = "reports/out")]
    pub out: PathBuf,
    /// Folder of the service builds and the simulator.
    #[arg(long, default_value = "target/chaos")]
    pub bin_dir: PathBuf,
    /// Folder that drawn backgrounds are kept in.
    #[arg(long, default_value = "target/backgrounds")]
    pub cache_dir: PathBuf,
    /// Times that a scenario or control is run at most while a busy host (the simulator starved, CPUs taken by the hypervisor)
    /// leaves it inconclusive; before another attempt it waits up to a minute for quiet CPUs. Every attempt is in the record.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub attempts: u32,
    /// Where no cgroup can be had: accept kills by the emulating watchdog as if they were the kernel's.
    #[arg(long)]
    pub allow_emulated: bool,
    /// Keep the service's data folders.
    #[arg(long)]
    pub keep_data: bool,
}

impl RunArgs {
    /// The command that replays this run, or one scenario of it.
    #[must_use]
    pub fn replay(&self, only: Option<&str>, seed: u64) -> String {
        let mut words = vec!["just chaos run".to_owned()];
        match only {
            Some(name) => words.push(name.to_owned()),
            None if self.names.is_empty() => words.push(format!("--suite {}", self.suite)),
            None => words.extend(self.names.iter().cloned()),
        }
        words.push(format!("--seed {seed}"));
        if let Some(dir) = &self.backgrounds {
            words.push(format!("--backgrounds {}", dir.display()));
        }
        if self.allow_emulated {
            words.push("--allow-emulated".to_owned());
        }
        words.join(" ")
    }
}
