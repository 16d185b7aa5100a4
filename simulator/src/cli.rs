//! The command line: raw flags first, then resolved into a [`Plan`] with every default applied and every value checked.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::cohort::BACKGROUNDS_MAX;
use crate::wire::Wire;

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
    /// Sessions [default: switch-storm 1200000, mixed 100000, switch-single 15000, preview 10000]
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
    /// Preview frames per second [default: preview 50, mixed 20, else 0]
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
    /// mixed: upload a new revision of one background this often, 0s for never [default: 5s]
    #[arg(long, value_parser = duration)]
    pub hot_update_every: Option<Duration>,
    /// Zipf exponent of the backgrounds' popularity; 0 is uniform
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
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
}

impl Scenario {
    /// Name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::SwitchStorm => "switch-storm",
            Scenario::SwitchSingle => "switch-single",
            Scenario::Preview => "preview",
            Scenario::Mixed => "mixed",
        }
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

/// Everything a load run needs, resolved and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Load scenario.
    pub scenario: Scenario,
    /// Flags with their defaults.
    pub args: LoadArgs,
    /// Bearer token.
    pub token: Option<String>,
    /// Sessions.
    pub sessions: u64,
    /// Gateways, at most one per session.
    pub gateways: usize,
    /// Connections per gateway.
    pub connections: usize,
    /// Preview frames per second.
    pub previews_per_second: f64,
    /// 0: batches only; 1: singles only; k: every k-th session switches alone.
    pub singles_every: u32,
    /// Time between hot updates, if any.
    pub hot_update_every: Option<Duration>,
}

/// Flags that cannot be run.
#[derive(Debug, Error, PartialEq)]
#[error("--{flag}: {why}")]
pub struct UsageError {
    flag: &'static str,
    why: String,
}

fn usage(flag: &'static str, why: impl Into<String>) -> UsageError {
    UsageError {
        flag,
        why: why.into(),
    }
}

impl Plan {
    /// Applies the scenario's defaults and checks every value.
    pub fn resolve(scenario: Scenario, args: LoadArgs) -> Result<Plan, UsageError> {
        check(&args)?;
        let sessions = args.sessions.unwrap_or(match scenario {
            Scenario::SwitchStorm => 1_200_000,
            Scenario::Mixed => 100_000,
            Scenario::SwitchSingle => 15_000,
            Scenario::Preview => 10_000,
        });
        if sessions == 0 || sessions > u64::from(u32::MAX) {
            return Err(usage(
                "sessions",
                format!("{sessions} is not between 1 and {}", u32::MAX),
            ));
        }
        let gateways = args.gateways.min(sessions as usize);
        let previews_per_second = args.previews_per_second.unwrap_or(match scenario {
            Scenario::Preview => 50.0,
            Scenario::Mixed => 20.0,
            Scenario::SwitchStorm | Scenario::SwitchSingle => 0.0,
        });
        if scenario == Scenario::Preview && previews_per_second <= 0.0 {
            return Err(usage(
                "previews-per-second",
                "the preview scenario needs a rate above 0",
            ));
        }
        let hot_update_every = match (scenario, args.hot_update_every) {
            (Scenario::Mixed, None) => Some(Duration::from_secs(5)),
            (_, given) => given,
        };
        Ok(Plan {
            scenario,
            token: token(&args)?,
            sessions,
            gateways,
            connections: connections(scenario, &args, gateways),
            previews_per_second,
            singles_every: singles_every(scenario, sessions, &args),
            hot_update_every: hot_update_every.filter(|every| !every.is_zero() && !args.no_upload),
            args,
        })
    }

    /// Connections that the run opens at most, control included.
    pub fn connections_max(&self) -> usize {
        self.gateways * self.connections + self.preview_lanes() + 8
    }

    /// Connections for previews; none without previews.
    pub fn preview_lanes(&self) -> usize {
        if self.previews_per_second > 0.0 {
            self.args.preview_connections
        } else {
            0
        }
    }

    /// Switches that fall due per second when every session exists.
    pub fn switches_per_second(&self) -> f64 {
        match self.scenario {
            Scenario::Preview => 0.0,
            _ => self.sessions as f64 / self.args.period.as_secs_f64(),
        }
    }
}

fn check(args: &LoadArgs) -> Result<(), UsageError> {
    let at_least = |flag, value: Duration, least: Duration| {
        if value < least {
            Err(usage(flag, format!("{value:?} is less than {least:?}")))
        } else {
            Ok(())
        }
    };
    at_least("period", args.period, Duration::from_millis(10))?;
    at_least("duration", args.duration, Duration::from_millis(100))?;
    at_least("tick", args.tick, Duration::from_millis(1))?;
    at_least("timeout", args.timeout, Duration::from_millis(1))?;
    if args.period > Duration::from_secs(3600) {
        return Err(usage("period", "an hour is the longest"));
    }
    if args.tick > Duration::from_secs(1) {
        return Err(usage("tick", "a second is the longest"));
    }
    if args.gateways == 0 || args.gateways > 1024 {
        return Err(usage("gateways", "give 1 to 1024"));
    }
    if args.connections.is_some_and(|n| n == 0 || n > 1024) {
        return Err(usage("connections", "give 1 to 1024"));
    }
    if args.preview_connections == 0 || args.preview_connections > 4096 {
        return Err(usage("preview-connections", "give 1 to 4096"));
    }
    if !(0.0..=10.0).contains(&args.zipf) {
        return Err(usage("zipf", "give an exponent from 0 to 10"));
    }
    if args.background_count == 0 || args.background_count > BACKGROUNDS_MAX {
        return Err(usage(
            "background-count",
            format!("give 1 to {BACKGROUNDS_MAX}"),
        ));
    }
    if args
        .previews_per_second
        .is_some_and(|rate| !(0.0..=1_000_000.0).contains(&rate))
    {
        return Err(usage("previews-per-second", "give 0 to 1000000"));
    }
    if !args.singles_per_second.is_finite() || args.singles_per_second < 0.0 {
        return Err(usage("singles-per-second", "give 0 or more"));
    }
    for window in &args.windows {
        if window.to > args.duration {
            return Err(usage(
                "window",
                format!("{} ends after --duration", window.name),
            ));
        }
    }
    Ok(())
}

fn token(args: &LoadArgs) -> Result<Option<String>, UsageError> {
    match &args.token_file {
        None => Ok(args.token.clone()),
        Some(path) => std::fs::read_to_string(path)
            .map(|text| Some(text.trim().to_owned()))
            .map_err(|error| usage("token-file", format!("{}: {error}", path.display()))),
    }
}

fn connections(scenario: Scenario, args: &LoadArgs, gateways: usize) -> usize {
    args.connections.unwrap_or(match scenario {
        Scenario::SwitchSingle => 8,
        // 64 gateways with previews and control stay below 256.
        _ => (224 / gateways).clamp(1, 4),
    })
}

/// mixed: a fixed share of the sessions switches alone, as large as the rate allows, at most one in fifty.
fn singles_every(scenario: Scenario, sessions: u64, args: &LoadArgs) -> u32 {
    match scenario {
        Scenario::SwitchSingle => 1,
        Scenario::Mixed if args.singles_per_second > 0.0 => {
            let rate = sessions as f64 / args.period.as_secs_f64();
            (rate / args.singles_per_second).ceil().max(50.0) as u32
        }
        _ => 0,
    }
}

/// Parses `3s`, `500ms`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(|| format!("{text:?} has no unit; write 3s, 500ms or 2m"))?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!(
                "{unit:?} is no unit of time; write us, ms, s, m or h"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("{text:?} is out of range"))
}

/// Parses `640x360`.
fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match parsed {
        Some((width, height)) if (16..=8192).contains(&width) && (16..=8192).contains(&height) => {
            Ok((width, height))
        }
        _ => Err(format!(
            "{text:?} is no size; write 640x360, each side 16 to 8192"
        )),
    }
}

/// Parses `NAME=0s..30s`.
fn window(text: &str) -> Result<Window, String> {
    let parts = text
        .split_once('=')
        .and_then(|(name, range)| Some((name, range.split_once("..")?)));
    let Some((name, (from, to))) = parts else {
        return Err(format!("{text:?} is no window; write NAME=0s..30s"));
    };
    let window = Window {
        name: name.to_owned(),
        from: duration(from)?,
        to: duration(to)?,
    };
    if window.name.is_empty() || window.from >= window.to {
        return Err(format!(
            "{text:?}: a window needs a name and must end after it starts"
        ));
    }
    Ok(window)
}

/// Parses `0,2-3`.
fn cpu_list(text: &str) -> Result<CpuList, String> {
    let wrong = || format!("{text:?} is no list of CPUs; write 0 or 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| wrong())?;
        let to: usize = to.trim().parse().map_err(|_| wrong())?;
        if from > to || to >= 1024 {
            return Err(wrong());
        }
        cpus.extend(from..=to);
    }
    Ok(CpuList(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(scenario: Scenario, flags: &[&str]) -> Result<Plan, String> {
        let words = [&["backdrop-simulator", scenario.name()], flags].concat();
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        match cli.command {
            Command::SwitchStorm(args)
            | Command::SwitchSingle(args)
            | Command::Preview(args)
            | Command::Mixed(args) => {
                Plan::resolve(scenario, args).map_err(|error| error.to_string())
            }
            _ => Err("not a load scenario".to_owned()),
        }
    }

    #[test]
    fn defaults_suit_each_scenario() {
        let storm = plan(Scenario::SwitchStorm, &[]).unwrap();
        assert_eq!(
            (storm.sessions, storm.gateways, storm.singles_every),
            (1_200_000, 16, 0)
        );
        assert!((storm.switches_per_second() - 400_000.0).abs() < 1e-6);
        let mixed = plan(
            Scenario::Mixed,
            &["--sessions", "100000", "--duration", "30s"],
        )
        .unwrap();
        assert_eq!(mixed.singles_every, 67);
        assert_eq!(mixed.hot_update_every, Some(Duration::from_secs(5)));
        assert!(mixed.previews_per_second > 0.0);
        let many = plan(
            Scenario::SwitchStorm,
            &["--gateways", "64", "--sessions", "10000000"],
        )
        .unwrap();
        assert!(many.connections_max() <= 256);
    }

    #[test]
    fn flags_are_parsed() {
        let plan = plan(
            Scenario::Preview,
            &[
                "--window",
                "calm=0s..500ms",
                "--window",
                "rest=500ms..1s",
                "--duration",
                "9s",
                "--duration",
                "1s",
                "--cpus",
                "0,2-3",
                "--preview-size",
                "320x180",
            ],
        )
        .unwrap();
        assert_eq!(
            plan.args.duration,
            Duration::from_secs(1),
            "the last one wins"
        );
        assert_eq!(plan.args.windows.len(), 2);
        assert_eq!(plan.args.windows[0].to, Duration::from_millis(500));
        assert_eq!(plan.args.cpus, Some(CpuList(vec![0, 2, 3])));
        assert_eq!(plan.args.preview_size, (320, 180));
    }

    #[test]
    fn what_cannot_be_run_says_so() {
        for (flags, word) in [
            (&["--duration", "5"][..], "unit"),
            (&["--duration", "5 parsecs"], "unit"),
            (&["--sessions", "0"], "sessions"),
            (&["--window", "late=50s..90s"], "ends after"),
            (&["--window", "odd=9s..3s"], "must end after"),
            (&["--preview-size", "big"], "640x360"),
            (&["--cpus", "3-1"], "list of CPUs"),
            (&["--zipf", "-1"], "unexpected argument"),
            (&["--gateways", "0"], "gateways"),
            (&["--wire", "xml"], "binary"),
            (&["--nonsense"], "nonsense"),
        ] {
            let error = plan(Scenario::Mixed, flags).unwrap_err();
            assert!(error.contains(word), "{flags:?}: {error}");
        }
    }
}
