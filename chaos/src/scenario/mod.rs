//! A scenario: its story, the target, the load, the faults with times, what is expected and which control gives it teeth.
//!
//! These are the resolved types; `raw` is the TOML as written, `check` turns one into the other and names file, line and
//! column of what is wrong, `library` holds the scenarios that ship with the runner. Nothing here starts anything.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::units;

mod check;
mod check_abort;
mod check_controls;
mod check_faults;
mod error;
pub mod library;
pub mod protection;
mod raw;
pub mod write;

pub use error::SchemaError;

/// Figure of the expectation that a kill fails.
pub const KILLS_FIGURE: &str = "service_oom_kills";

/// Parses and checks one scenario. `file` is the name that errors carry. The one whose controls it counts for its own must be
/// embedded, or a file.
///
/// # Errors
/// The first thing that is wrong, with its place and what would be right.
pub fn parse(file: &str, text: &str) -> Result<Scenario, SchemaError> {
    check::parse(file, text, &library::own_controls)
}

/// The same for a scenario that a record holds: it was checked when it was run, and what it leans on is in the record, too. No
/// other file is looked at.
///
/// # Errors
/// As [`parse`].
pub fn parse_recorded(file: &str, text: &str) -> Result<Scenario, SchemaError> {
    check::parse(file, text, &|_| Ok(1))
}

/// One scenario, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// File it came from, as named to [`parse`].
    pub origin: String,
    /// Its text.
    pub text: String,
    /// Name on the command line.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What it shows and why it matters.
    pub story: String,
    /// The service and its limit.
    pub target: Target,
    /// The load.
    pub load: Load,
    /// Faults in the order of the file.
    pub faults: Vec<FaultPlan>,
    /// What must hold.
    pub expects: Vec<Expect>,
    /// Own controls.
    pub controls: Vec<ControlPlan>,
    /// When its own trial is broken off; its controls are to fail, and are not.
    pub aborts: Vec<Abort>,
    /// Another scenario whose controls count for this one too.
    pub controls_of: Option<String>,
    /// What counts as steady before the first fault.
    pub steady: Steady,
    /// What counts as recovered after a fault.
    pub recovery: Option<Recovery>,
}

/// Which build of the service is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuildKind {
    /// Release build without features, what users run.
    Plain,
    /// With failpoints compiled in.
    Failpoints,
    /// With the switches that turn protections off.
    Controls,
}

impl BuildKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Failpoints, Self::Controls];

    /// The word of scenario files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Failpoints => "failpoints",
            Self::Controls => "controls",
        }
    }

    /// File name of the binary in the binaries' folder.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Plain => "backdrop-service",
            Self::Failpoints => "backdrop-service-failpoints",
            Self::Controls => "backdrop-service-controls",
        }
    }

    /// Features the binary must report; it must report no other.
    #[must_use]
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Failpoints => &["failpoints"],
            Self::Controls => &["chaos-controls"],
        }
    }
}

/// The service and its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Build to run.
    pub build: BuildKind,
    /// Limit of the parent cgroup, bytes.
    pub memory_limit: u64,
    /// Further flags of `serve`.
    pub args: Vec<String>,
    /// Further environment.
    pub env: BTreeMap<String, String>,
}

/// A named part of the load phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Name that figures end in.
    pub name: String,
    /// Start after the first planned send.
    pub from: Duration,
    /// End after the first planned send.
    pub to: Duration,
}

/// The load: what the simulator is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Load scenario of the simulator.
    pub scenario: String,
    /// Sessions.
    pub sessions: u64,
    /// Each session switches once in this time.
    pub period: Duration,
    /// Length of the load phase.
    pub duration: Duration,
    /// Gateways, each with its own cohort.
    pub gateways: u32,
    /// Preview frames per second beside the switches.
    pub previews_per_second: f64,
    /// `WIDTHxHEIGHT` of a preview.
    pub preview_size: String,
    /// Backgrounds drawn and uploaded.
    pub background_count: u32,
    /// Exponent of the popularity; 0 is uniform.
    pub zipf: f64,
    /// Named parts of the load phase.
    pub windows: Vec<Window>,
    /// Further flags of the simulator.
    pub args: Vec<String>,
}

impl Load {
    /// Switches planned per second.
    #[must_use]
    pub fn planned_switches_per_s(&self) -> f64 {
        // Loads whose sessions only look.
        if ["preview", "composite", "cold-herd", "scan"].contains(&self.scenario.as_str()) {
            0.0
        } else {
            self.sessions as f64 / self.period.as_secs_f64()
        }
    }

    /// Time after which the simulator gives a request up: its own, unless `args` say another one.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let mut args = self.args.iter();
        args.find(|arg| *arg == "--timeout")
            .and_then(|_| units::parse_duration(args.next()?).ok())
            .unwrap_or(Duration::from_secs(2))
    }
}

/// How much a memory hog takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// The limit less the service's floor: what it cannot give back, `textures` textures and the margin it keeps free.
    Floor {
        /// Textures the floor leaves room for.
        textures: u32,
    },
    /// Share of the limit, 0..1.
    Share(f64),
    /// Bytes.
    Bytes(u64),
}

/// How fast a burst takes its memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Times the reaction bound that the service states for growth from rest.
    Bound(f64),
    /// Bytes per second.
    Bytes(u64),
}

/// Whose leaf a process runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The service's own.
    Service,
    /// One below the service's.
    Child,
    /// One beside it, under the same limit.
    Sibling,
}

/// Which CPUs a CPU hog presses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Those of the service, not those of the measurement.
    Service,
    /// All of them.
    Anywhere,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// A process takes memory under the same limit.
    MemoryHog {
        /// How much.
        amount: Amount,
        /// In whose leaf.
        place: Place,
        /// Time from nothing to all of it.
        ramp: Duration,
        /// Then it is given back and taken again in turns, each for this long; held if absent.
        pulse: Option<Duration>,
    },
    /// The same, at a rate.
    Burst {
        /// How much.
        amount: Amount,
        /// How fast.
        rate: Rate,
    },
    /// A process reads files of its own, over and over, so that their clean page cache is active and charged under the limit.
    PageCache {
        /// How much.
        amount: Amount,
        /// In whose leaf.
        place: Place,
    },
    /// The limit itself is lowered, as carefully as the kernel allows, and raised again.
    LimitShrink {
        /// The lowest limit.
        to: Amount,
        /// Equal steps towards it, each once the service has seen the one before.
        steps: u32,
    },
    /// Files of the service's archive are changed on disk, each by a byte, as long as the fault stands.
    ArchiveCorrupt,
    /// Uploads over the service's limit of a body, one after the other, as long as the fault stands.
    OversizedBody {
        /// Size of each.
        amount: Amount,
    },
    /// Another process takes CPU.
    CpuHog {
        /// Busy threads.
        threads: u32,
        /// On which CPUs.
        press: Press,
    },
    /// A failpoint inside the service.
    Failpoint {
        /// Name, `module.operation.effect`.
        failpoint: String,
        /// Action, e.g. `10%return`.
        action: String,
    },
    /// SIGSTOP, and SIGCONT when it is over: the service is there and does nothing.
    Stop,
    /// Clients that send and take a byte at a time.
    SlowClients {
        /// How many at once.
        clients: u32,
    },
    /// Connections on which nothing is asked.
    ConnectionFlood {
        /// How many at once.
        connections: u32,
    },
    /// SIGKILL, then a restart on the same data and ports.
    Kill {
        /// The service must be ready again within this time.
        restart_within: Duration,
    },
}

impl FaultKind {
    /// Every word of [`FaultKind::word`].
    pub const WORDS: [&str; 12] = [
        "memory_hog",
        "burst",
        "page_cache",
        "limit_shrink",
        "archive_corrupt",
        "oversized_body",
        "cpu_hog",
        "failpoint",
        "stop",
        "slow_clients",
        "connection_flood",
        "kill",
    ];

    /// Whether it has a moment and no length.
    #[must_use]
    pub fn is_momentary(&self) -> bool {
        matches!(self, Self::Kill { .. })
    }

    /// The word of scenario files and records.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::MemoryHog { .. } => "memory_hog",
            Self::Burst { .. } => "burst",
            Self::PageCache { .. } => "page_cache",
            Self::LimitShrink { .. } => "limit_shrink",
            Self::ArchiveCorrupt => "archive_corrupt",
            Self::OversizedBody { .. } => "oversized_body",
            Self::CpuHog { .. } => "cpu_hog",
            Self::Failpoint { .. } => "failpoint",
            Self::Stop => "stop",
            Self::SlowClients { .. } => "slow_clients",
            Self::ConnectionFlood { .. } => "connection_flood",
            Self::Kill { .. } => "kill",
        }
    }
}

/// One fault with its times.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultPlan {
    /// Name, unique in the scenario.
    pub name: String,
    /// What it does.
    pub kind: FaultKind,
    /// Start after the first planned send.
    pub at: Duration,
    /// How long; zero for a momentary fault.
    pub lasts: Duration,
}

impl FaultPlan {
    /// End after the first planned send.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

/// How an observed figure must stand to the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// At most.
    Le,
    /// At least.
    Ge,
    /// Exactly.
    Eq,
}

impl Relation {
    /// `<=`, `>=` or `==`.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Le => "<=",
            Self::Ge => ">=",
            Self::Eq => "==",
        }
    }

    /// Whether `observed` stands so to `bound`.
    #[must_use]
    pub fn holds(self, observed: f64, bound: f64) -> bool {
        match self {
            Self::Le => observed <= bound,
            Self::Ge => observed >= bound,
            Self::Eq => observed == bound,
        }
    }
}

/// One expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// Name, unique in the scenario.
    pub name: String,
    /// In words.
    pub text: String,
    /// Figure it reads.
    pub figure: String,
    /// How.
    pub relation: Relation,
    /// Demanded value.
    pub bound: f64,
    /// Unit of both, always that of the figure.
    pub unit: String,
}

/// What is known of the last second while a trial runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveFigure {
    /// Kills in the service's leaf so far.
    Kills,
    /// Operations that failed or had no answer in time, of all.
    FailedRatio,
    /// Operations that were shed, of all.
    ShedRatio,
    /// 99th percentile of switches.
    SwitchP99Ms,
    /// 99th percentile of previews.
    PreviewP99Ms,
    /// Usage of the limited parent, of the limit in force.
    UsageRatio,
    /// Memory of the host that is in use, of all of it.
    HostMemoryRatio,
    /// CPU time that the hypervisor took.
    HostStealRatio,
}

impl LiveFigure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Kills,
        Self::FailedRatio,
        Self::ShedRatio,
        Self::SwitchP99Ms,
        Self::PreviewP99Ms,
        Self::UsageRatio,
        Self::HostMemoryRatio,
        Self::HostStealRatio,
    ];

    /// The word of scenario files and records.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::FailedRatio => "failed_ratio",
            Self::ShedRatio => "shed_ratio",
            Self::SwitchP99Ms => "switch_p99_ms",
            Self::PreviewP99Ms => "preview_p99_ms",
            Self::UsageRatio => "usage_ratio",
            Self::HostMemoryRatio => "host_memory_ratio",
            Self::HostStealRatio => "host_steal_ratio",
        }
    }

    /// Its unit.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::SwitchP99Ms | Self::PreviewP99Ms => "ms",
            _ => "ratio",
        }
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Kills => "kills that the kernel has counted in the service's leaf",
            Self::FailedRatio => {
                "switches and previews that failed or had no answer in time, of all"
            }
            Self::ShedRatio => "switches and previews that the service shed, of all",
            Self::SwitchP99Ms => "99th percentile of switch latency",
            Self::PreviewP99Ms => "99th percentile of preview latency",
            Self::UsageRatio => {
                "usage of the limited parent, page cache included, by the limit in force"
            }
            Self::HostMemoryRatio => {
                "memory of the host that is in use, whoever uses it, by all of it"
            }
            Self::HostStealRatio => "CPU time of service and simulator that the hypervisor took",
        }
    }
}

/// A condition under which a trial is broken off.
#[derive(Debug, Clone, PartialEq)]
pub struct Abort {
    /// Name, unique in the scenario.
    pub name: String,
    /// Figure of the last second.
    pub figure: LiveFigure,
    /// It is met while the figure is above this.
    pub above: f64,
    /// Seconds in a row that it must be met.
    pub seconds: u32,
}

/// Outcome demanded of a control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel kills the service.
    Killed,
    /// Not killed, and at least one entry shed.
    Sheds,
    /// The evidence does not carry a conclusion.
    Inconclusive,
    /// The same, and because no fault did act.
    FaultsIdle,
    /// This expectation fails.
    Deviated(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("killed"),
            Self::Sheds => f.write_str("sheds"),
            Self::Inconclusive => f.write_str("inconclusive"),
            Self::FaultsIdle => f.write_str("inconclusive:fault-did-not-act"),
            Self::Deviated(name) => write!(f, "deviated:{name}"),
        }
    }
}

/// One control: the same with a protection off.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlPlan {
    /// Name, unique in the scenario.
    pub name: String,
    /// Which protection is off, in words.
    pub story: String,
    /// The target with the overrides applied.
    pub target: Target,
    /// The load with the overrides applied.
    pub load: Load,
    /// Faults of the scenario that the control has too, and those of its own.
    pub faults: Vec<FaultPlan>,
    /// Demanded outcome.
    pub expected: Outcome,
    /// The one protection that is off, where the control is its mutant: one of [`protection::PROTECTIONS`].
    pub protection: Option<&'static str>,
}

/// What counts as steady before the first fault.
#[derive(Debug, Clone, PartialEq)]
pub struct Steady {
    /// Start of the steady part; earlier seconds are warm-up.
    pub from: Duration,
    /// Least rate of acknowledged operations against plan, 0..=1.
    pub rate_ratio: f64,
    /// Highest median over the seconds' switch p99, milliseconds.
    pub p99_ms: Option<f64>,
}

impl Default for Steady {
    fn default() -> Self {
        Self {
            from: Duration::from_secs(2),
            rate_ratio: 0.95,
            p99_ms: None,
        }
    }
}

/// When the service counts as recovered: every band holds for three seconds in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// Fault whose end starts the clock.
    pub after: String,
    /// Least rate against the steady state's median, 0..=1.
    pub rate_ratio: f64,
    /// Highest switch p99 of a second, milliseconds.
    pub p99_ms: f64,
    /// Hit ratio at most this many points below the steady state's.
    pub hit_ratio_points: Option<f64>,
    /// Resident texture bytes at least this share of the steady state's, 0..=1.
    pub working_set_ratio: Option<f64>,
}

/// A scenario that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file's content is wrong.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Neither a scenario of the library nor a file.
    #[error(
        "there is no scenario `{name}`; there are: {known}. A path to a .toml file is taken too"
    )]
    Unknown {
        /// As asked for.
        name: String,
        /// Names of the library.
        known: String,
    },
    /// No such suite.
    #[error("there is no suite `{name}`; there are: {known}")]
    UnknownSuite {
        /// As asked for.
        name: String,
        /// Names of the suites.
        known: String,
    },
    /// A folder without a scenario.
    #[error("{path} holds no .toml file; name a folder of scenario files, as chaos/scenarios is one", path = path.display())]
    NoneThere {
        /// The folder.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}
