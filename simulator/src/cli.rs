//! The command line: raw flags first, then resolved into a [`Plan`] with every default applied and every value checked.

use std::net::SocketAddr;
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

/// What `--help` ends with.
const EXAMPLES: &str = "\
Examples, while `just serve` runs in another terminal:
  just sim mixed --sessions 100000 --duration 30s    a bit of everything
  just sim switch-storm                              1.2 million sessions
  just sim preview --backgrounds ~/Pictures          frames of your own photographs
  just sim mixed --help                              every flag of a load

Exit code: 0 every answer was true, 1 one was not, 2 inconclusive (too little was seen, or the
simulator itself was too slow), 64 asked for wrongly, 69 the service is away, 130 interrupted,
255 error.";

/// Load scenarios against a running Backdrop service: sessions with a due time each, and a truth checker.
///
/// A run uploads pictures, creates sessions, puts its load on the service, reads every session back, prints a table, and
/// deletes what it made. One Ctrl-C ends the load early and still tells what was measured, a second one quits at once.
#[derive(Debug, Parser)]
#[command(
    name = "backdrop-simulator",
    version,
    after_help = EXAMPLES,
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
    /// Every session switches its background once a period, each with a request of its own
    SwitchSingle(LoadArgs),
    /// Preview frames only, at a fixed rate that waits for no answer
    Preview(LoadArgs),
    /// Composites only, at a fixed rate: every request sends a participant's frame and mask, by turns raw and as files
    Composite(LoadArgs),
    /// Batches, single switches, preview frames and a few replaced pictures together
    Mixed(LoadArgs),
    /// Many sessions ask at the same moment for one background that nobody has, again and again
    ColdHerd(LoadArgs),
    /// Pictures are replaced all the time while sessions switch and look
    HotUpdate(LoadArgs),
    /// Preview frames, of popular backgrounds more often, and from time to time a pass over all of them in order
    Scan(LoadArgs),
    /// Batches while sessions leave and others join in their places
    Churn(LoadArgs),
    /// Requests for sessions and backgrounds that nobody made, beside batches: each must be a clean 404
    Penetration(LoadArgs),
    /// Batches as another run sent and recorded them (--record), switch by switch at its planned time
    Replay(ReplayArgs),
    /// Draw the sample pictures into a folder, to upload them by hand
    Backgrounds(DrawArgs),
    /// Print the version
    Version {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Headings of `--help`.
const SERVICE: &str = "The service";
const LOAD: &str = "The load";
const COLD_HERD: &str = "The load cold-herd";
const SCAN: &str = "The load scan";
const OTHERS: &str = "The loads churn and penetration";
const PICTURES: &str = "Pictures";
const RESULTS: &str = "What is told";
const BOUNDS: &str = "When to give up";

/// Flags of the load scenarios.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Address of the service's public listener
    #[arg(long, help_heading = SERVICE, default_value = "http://127.0.0.1:7080")]
    pub url: String,
    /// Bearer token, where the service asks for one; uploads need the role `catalogue`
    #[arg(long, help_heading = SERVICE, env = "BACKDROP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the bearer token
    #[arg(long, help_heading = SERVICE, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,

    /// Sessions that are created, and deleted at the end [default: switch-storm 1200000, mixed and churn 100000, scan 20000,
    /// switch-single 15000, preview, composite, hot-update and penetration 10000, cold-herd 4096, replay as recorded]
    #[arg(long, help_heading = LOAD, value_name = "N")]
    pub sessions: Option<u64>,
    /// Every session switches once in this time, each at a moment of its own [default: 3s, replay as recorded]
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = duration)]
    pub period: Option<Duration>,
    /// Length of the measured load [default: 60s, replay as recorded]
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Length of the load before it, which is not measured [default: 2s, replay as recorded]
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = duration)]
    pub warmup: Option<Duration>,
    /// Workers that own a share of the sessions each and send their switches
    #[arg(long, help_heading = LOAD, value_name = "N", default_value_t = 16)]
    pub gateways: usize,
    /// What fell due at a gateway in this time travels together, as one batch; latency counts from when it fell due
    #[arg(long, help_heading = LOAD, value_name = "TIME", default_value = "4ms", value_parser = duration)]
    pub tick: Duration,
    /// Connections of each gateway [default: 4, fewer with many gateways; switch-single 8]
    #[arg(long, help_heading = LOAD, value_name = "N")]
    pub connections: Option<usize>,
    /// Preview frames per second, of composite its composites [default: hot-update 100, preview and scan 50, composite, mixed, churn and penetration 20, else 0]
    #[arg(long, help_heading = LOAD, value_name = "RATE")]
    pub previews_per_second: Option<f64>,
    /// Size of preview frames, pixels
    #[arg(long, help_heading = LOAD, value_name = "WIDTHxHEIGHT", default_value = "640x360", value_parser = size)]
    pub preview_size: (u32, u32),
    /// Connections for previews, all together
    #[arg(long, help_heading = LOAD, value_name = "N", default_value_t = 16)]
    pub preview_connections: usize,
    /// mixed: most switches per second that are sent alone; the sessions that send them are always the same
    #[arg(long, help_heading = LOAD, value_name = "RATE", default_value_t = 500.0)]
    pub singles_per_second: f64,
    /// Replace the picture of one background this often, 0s for never [default: hot-update 500ms, mixed 5s, else never]
    #[arg(long, help_heading = LOAD, value_name = "TIME", value_parser = duration)]
    pub hot_update_every: Option<Duration>,
    /// How uneven the backgrounds' popularity is: exponent of a Zipf law, 0 is even [default: scan 0.9, else 0]
    #[arg(long, help_heading = LOAD, value_name = "EXPONENT")]
    pub zipf: Option<f64>,
    /// The same seed gives the same schedule, whose hash is in the report
    #[arg(long, help_heading = LOAD, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Form of batches
    #[arg(long, help_heading = LOAD, default_value = "binary")]
    pub wire: Wire,
    /// Run on these CPUs only, as 0,2-3
    #[arg(long, help_heading = LOAD, value_name = "CPUS", value_parser = cpu_list)]
    pub cpus: Option<CpuList>,
    /// Let idle CPUs sleep; else they are kept polling during the load (/dev/cpu_dma_latency, needs root), since a CPU that
    /// wakes late makes sends and answers late that are not
    #[arg(long, help_heading = LOAD)]
    pub cpus_may_sleep: bool,

    /// Previews asked for at the same moment, a connection each
    #[arg(long, help_heading = COLD_HERD, value_name = "N", default_value_t = 256)]
    pub herd_size: u16,
    /// From one herd to the next
    #[arg(long, help_heading = COLD_HERD, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub herd_every: Duration,
    /// Cold backgrounds that a herd is spread over
    #[arg(long, help_heading = COLD_HERD, value_name = "N", default_value_t = 1)]
    pub herd_keys: u16,
    /// The service's admin listener, such as http://127.0.0.1:7081: its count of texture loads is read around each herd
    #[arg(long, help_heading = COLD_HERD, value_name = "URL")]
    pub admin: Option<String>,

    /// From the start of one pass over all backgrounds to the next, 0s for no passes
    #[arg(long, help_heading = SCAN, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub scan_every: Duration,
    /// Frames per second of a pass
    #[arg(long, help_heading = SCAN, value_name = "RATE", default_value_t = 50.0)]
    pub scan_per_second: f64,

    /// Sessions per second that leave, and as many that join
    #[arg(long, help_heading = OTHERS, value_name = "RATE", default_value_t = 1000.0)]
    pub churn_per_second: f64,
    /// Requests per second for what is not there
    #[arg(long, help_heading = OTHERS, value_name = "RATE", default_value_t = 500.0)]
    pub absent_per_second: f64,

    /// Backgrounds that all sessions share [default: 16, replay as recorded]
    #[arg(long, help_heading = PICTURES, value_name = "N")]
    pub background_count: Option<u16>,
    /// Folder of photographs (JPEG, PNG, WebP) instead of drawn samples; copies get the code that the truth checker reads, the
    /// originals are left alone
    #[arg(long, help_heading = PICTURES, value_name = "DIR")]
    pub backgrounds: Option<PathBuf>,
    /// Where drawn samples and copies are kept from run to run
    #[arg(long, help_heading = PICTURES, value_name = "DIR", default_value = "target/backgrounds")]
    pub cache_dir: PathBuf,
    /// Never upload: the backgrounds must be there, from a run with --keep-backgrounds, say
    #[arg(long, help_heading = PICTURES)]
    pub no_upload: bool,
    /// Leave the backgrounds that this run uploaded in the service; else it deletes them at its end
    #[arg(long, help_heading = PICTURES)]
    pub keep_backgrounds: bool,

    /// Print the hash of the request schedule and send nothing
    #[arg(long, help_heading = RESULTS)]
    pub schedule_hash: bool,
    /// Write the whole report as JSON
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a latency log (HdrHistogram V2, one line a second)
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Record every switch that is sent: planned time, session, background; `replay` sends them again
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Switches that are recorded at most, about 20 bytes each; the recording ends there
    #[arg(long, help_heading = RESULTS, value_name = "N", default_value_t = 10_000_000)]
    pub record_max: u64,
    /// Write events as newline-delimited JSON while the run lasts; - is standard output, and the table goes to standard error
    #[arg(long, help_heading = RESULTS, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Figures of their own for a part of the load, as calm=0s..30s; repeatable
    #[arg(long = "window", help_heading = RESULTS, value_name = "NAME=FROM..TO", value_parser = window)]
    pub windows: Vec<Window>,
    /// Tell a Prometheus meanwhile, at /metrics of this address on loopback
    #[arg(long, help_heading = RESULTS, value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// How progress is shown, on standard error
    #[arg(long, help_heading = RESULTS, default_value = "auto")]
    pub progress: Progress,

    /// A request without an answer after this time is given up
    #[arg(long, help_heading = BOUNDS, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub timeout: Duration,
    /// Uploads and sessions must be there within this time, else the run ends
    #[arg(long, help_heading = BOUNDS, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub setup_timeout: Duration,
    /// Go on with fewer sessions where the service does not take them all
    #[arg(long, help_heading = BOUNDS)]
    pub allow_partial_sessions: bool,
    /// A service that is away for longer ends the run; one that is back sooner gets its sessions anew
    #[arg(long, help_heading = BOUNDS, value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub reconnect_for: Duration,

    /// What `replay` plays.
    #[arg(skip)]
    pub tape: Option<PathBuf>,
}

/// Flags of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// What --record wrote
    #[arg(value_name = "FILE")]
    pub tape: PathBuf,
    /// Those of every load
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Flags of `backgrounds`.
#[derive(Debug, Clone, Args)]
pub struct DrawArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub count: u16,
    /// Folder to write sample-0000.jpg and so on into; it is made if need be
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Size of each, pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1920x1080", value_parser = size)]
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
    /// Composites only.
    Composite,
    /// Everything together.
    Mixed,
    /// Many ask for one cold background.
    ColdHerd,
    /// Backgrounds are replaced under load.
    HotUpdate,
    /// Zipf previews with passes over everything.
    Scan,
    /// Sessions leave and join.
    Churn,
    /// Requests for what is not there.
    Penetration,
    /// What another run sent.
    Replay,
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
            Command::Composite(args) => load(Scenario::Composite, args),
            Command::Mixed(args) => load(Scenario::Mixed, args),
            Command::ColdHerd(args) => load(Scenario::ColdHerd, args),
            Command::HotUpdate(args) => load(Scenario::HotUpdate, args),
            Command::Scan(args) => load(Scenario::Scan, args),
            Command::Churn(args) => load(Scenario::Churn, args),
            Command::Penetration(args) => load(Scenario::Penetration, args),
            Command::Replay(args) => {
                let mut flags = args.load;
                flags.tape = Some(args.tape);
                load(Scenario::Replay, flags)
            }
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
            Scenario::Composite => "composite",
            Scenario::Mixed => "mixed",
            Scenario::ColdHerd => "cold-herd",
            Scenario::HotUpdate => "hot-update",
            Scenario::Scan => "scan",
            Scenario::Churn => "churn",
            Scenario::Penetration => "penetration",
            Scenario::Replay => "replay",
        }
    }

    /// Its sessions never switch: they only look.
    pub fn rests(self) -> bool {
        matches!(
            self,
            Scenario::Preview | Scenario::Composite | Scenario::ColdHerd | Scenario::Scan
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
