//! The command line: raw flags first, then resolved into a [`Plan`] with every default applied and every value checked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::wire::Wire;

mod plan;
#[cfg(test)]
mod tests;
mod values;

pub use plan::{Herding, Plan, Scanning, UsageError};
pub use values::duration;
use values::{cpu_list, size, window};

/// Load scenarios against a running Backdrop service: sessions with a due time each, and a truth checker.
#[derive(Debug, Parser)]
#[command(
    name = "backdrop-simulator",
    version,
    about,
    max_term_width = 110,
    args_override_self = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every session switches its background once a period; what fell due in a tick travels as one batch
    SwitchStorm(LoadArgs),
    /// The same, one session per request
    SwitchSingle(LoadArgs),
    /// Previews only, at a fixed open rate
    Preview(LoadArgs),
    /// Batches, single switches, previews and hot updates together
    Mixed(LoadArgs),
    /// Many sessions ask at the same moment for one background that nobody has, again and again
    ColdHerd(LoadArgs),
    /// Backgrounds are replaced all the time while sessions switch and look
    HotUpdate(LoadArgs),
    /// Zipf previews, and from time to time a pass over all backgrounds in order
    Scan(LoadArgs),
    /// Draw the sample backgrounds into a folder
    Backgrounds(DrawArgs),
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Flags of the load scenarios.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Address of the service
    #[arg(long, default_value = "http://127.0.0.1:7080")]
    pub url: String,
    /// Bearer token
    #[arg(long, env = "BACKDROP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the bearer token
    #[arg(long, conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Sessions [default: switch-storm 1200000, mixed 100000, scan 20000, switch-single 15000, preview and
    /// hot-update 10000, cold-herd 4096]
    #[arg(long)]
    pub sessions: Option<u64>,
    /// Every session switches once in this time
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub period: Duration,
    /// Length of the measured load
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub duration: Duration,
    /// Load before it, not measured
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Gateways: workers that own a share of the sessions each
    #[arg(long, default_value_t = 16)]
    pub gateways: usize,
    /// What fell due in this time is sent together
    #[arg(long, default_value = "4ms", value_parser = duration)]
    pub tick: Duration,
    /// Connections per gateway [default: 4, fewer with many gateways; switch-single 8]
    #[arg(long)]
    pub connections: Option<usize>,
    /// Preview frames per second [default: hot-update 100, preview and scan 50, mixed 20, else 0]
    #[arg(long)]
    pub previews_per_second: Option<f64>,
    /// Size of preview frames
    #[arg(long, default_value = "640x360", value_parser = size)]
    pub preview_size: (u32, u32),
    /// Connections for previews
    #[arg(long, default_value_t = 16)]
    pub preview_connections: usize,
    /// mixed: most single switches per second; they are a fixed share of the sessions
    #[arg(long, default_value_t = 500.0)]
    pub singles_per_second: f64,
    /// Upload a new revision of one background this often, 0s for never [default: hot-update 500ms, mixed 5s]
    #[arg(long, value_parser = duration)]
    pub hot_update_every: Option<Duration>,
    /// cold-herd: previews asked for at the same moment, a connection each
    #[arg(long, default_value_t = 256)]
    pub herd_size: u16,
    /// cold-herd: from one herd to the next
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub herd_every: Duration,
    /// cold-herd: cold backgrounds that a herd is spread over
    #[arg(long, default_value_t = 1)]
    pub herd_keys: u16,
    /// cold-herd: the service's admin listener, whose count of texture loads is read around each herd
    #[arg(long)]
    pub admin: Option<String>,
    /// scan: from the start of one pass to the next, 0s for no passes
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub scan_every: Duration,
    /// scan: frames per second of a pass
    #[arg(long, default_value_t = 50.0)]
    pub scan_per_second: f64,
    /// Zipf exponent of the backgrounds' popularity; 0 is uniform [default: scan 0.9, else 0]
    #[arg(long)]
    pub zipf: Option<f64>,
    /// Backgrounds
    #[arg(long, default_value_t = 16)]
    pub background_count: u16,
    /// Folder of photographs (JPEG, PNG, WebP); the code is stamped onto copies
    #[arg(long)]
    pub backgrounds: Option<PathBuf>,
    /// Where drawn backgrounds and stamped copies are kept
    #[arg(long, default_value = "target/backgrounds")]
    pub cache_dir: PathBuf,
    /// Seed of the schedule
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A request without an answer after this time is given up
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub timeout: Duration,
    /// Figures of their own for a part of the load, as NAME=0s..30s; repeatable
    #[arg(long = "window", value_parser = window)]
    pub windows: Vec<Window>,
    /// Write the whole report as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write a latency log (HdrHistogram V2, one line a second)
    #[arg(long)]
    pub hlog: Option<PathBuf>,
    /// Write events as newline-delimited JSON while the run lasts; - is standard output
    #[arg(long)]
    pub events: Option<PathBuf>,
    /// Run on these CPUs only, as 0,2-3
    #[arg(long, value_parser = cpu_list)]
    pub cpus: Option<CpuList>,
    /// Never upload: the backgrounds must be there
    #[arg(long)]
    pub no_upload: bool,
    /// Leave the backgrounds that this run uploaded in the catalogue, for a look at them or for the next run; else they are deleted
    /// at its end
    #[arg(long)]
    pub keep_backgrounds: bool,
    /// How progress is shown
    #[arg(long, default_value = "auto")]
    pub progress: Progress,
    /// Form of batches
    #[arg(long, default_value = "binary")]
    pub wire: Wire,
    /// Set-up must be over within this time
    #[arg(long, default_value = "120s", value_parser = duration)]
    pub setup_timeout: Duration,
    /// Go on with the sessions that could be created
    #[arg(long)]
    pub allow_partial_sessions: bool,
    /// A service that is away for longer ends the run
    #[arg(long, default_value = "20s", value_parser = duration)]
    pub reconnect_for: Duration,
}

/// Flags of `backgrounds`.
#[derive(Debug, Clone, Args)]
pub struct DrawArgs {
    /// Backgrounds to draw
    #[arg(long, default_value_t = 16)]
    pub count: u16,
    /// Folder to write into
    #[arg(long)]
    pub out: PathBuf,
    /// Pixels
    #[arg(long, default_value = "1920x1080", value_parser = size)]
    pub size: (u32, u32),
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A line that is rewritten on a terminal, else plain.
    Auto,
    /// One line every five seconds.
    Plain,
    /// Nothing.
    None,
}

/// Load scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Batches.
    SwitchStorm,
    /// One session per request.
    SwitchSingle,
    /// Previews only.
    Preview,
    /// Everything together.
    Mixed,
    /// Many ask for one cold background.
    ColdHerd,
    /// Backgrounds are replaced under load.
    HotUpdate,
    /// Zipf previews with passes over everything.
    Scan,
}

/// A command with the loads told apart from the rest.
#[derive(Debug)]
pub enum Errand {
    /// Put a load on a service.
    Load(Scenario, Box<LoadArgs>),
    /// Draw backgrounds.
    Draw(DrawArgs),
    /// Print the version.
    Version {
        /// As JSON.
        json: bool,
    },
}

impl Command {
    /// What to do, sorted.
    pub fn errand(self) -> Errand {
        let load = |scenario, args| Errand::Load(scenario, Box::new(args));
        match self {
            Command::SwitchStorm(args) => load(Scenario::SwitchStorm, args),
            Command::SwitchSingle(args) => load(Scenario::SwitchSingle, args),
            Command::Preview(args) => load(Scenario::Preview, args),
            Command::Mixed(args) => load(Scenario::Mixed, args),
            Command::ColdHerd(args) => load(Scenario::ColdHerd, args),
            Command::HotUpdate(args) => load(Scenario::HotUpdate, args),
            Command::Scan(args) => load(Scenario::Scan, args),
            Command::Backgrounds(args) => Errand::Draw(args),
            Command::Version { json } => Errand::Version { json },
        }
    }
}

impl Scenario {
    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::SwitchStorm => "switch-storm",
            Scenario::SwitchSingle => "switch-single",
            Scenario::Preview => "preview",
            Scenario::Mixed => "mixed",
            Scenario::ColdHerd => "cold-herd",
            Scenario::HotUpdate => "hot-update",
            Scenario::Scan => "scan",
        }
    }

    /// Its sessions never switch: they only look.
    pub fn rests(self) -> bool {
        matches!(
            self,
            Scenario::Preview | Scenario::ColdHerd | Scenario::Scan
        )
    }
}

/// A named part of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Name in the report.
    pub name: String,
    /// Start after the first measured send.
    pub from: Duration,
    /// End after the first measured send.
    pub to: Duration,
}

/// CPUs by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);
