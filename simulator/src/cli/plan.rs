//! Flags resolved: every default applied, every value checked.

use std::hash::Hasher;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::{LoadArgs, Scenario};
use crate::cohort::BACKGROUNDS_MAX;
use crate::tape::{Header, SWITCHES_MAX, Tape};

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
    /// Every session switches once in this time, unless a tape says when.
    pub period: Duration,
    /// Length of the load that is not measured.
    pub warmup: Duration,
    /// Length of the measured load.
    pub duration: Duration,
    /// Backgrounds.
    pub background_count: u16,
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
    /// Zipf exponent of the backgrounds' popularity.
    pub zipf: f64,
    /// Herds on cold backgrounds, if any.
    pub herding: Option<Herding>,
    /// Passes over all backgrounds, if any.
    pub scanning: Option<Scanning>,
    /// Sessions per second that leave and join, if any.
    pub churn_per_second: Option<f64>,
    /// Requests per second for what is not there, if any.
    pub absent_per_second: Option<f64>,
    /// Switches of another run, to be sent again.
    pub tape: Option<Tape>,
}

/// Herds on cold backgrounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Herding {
    /// Previews of one herd.
    pub size: u16,
    /// From one herd to the next.
    pub every: Duration,
    /// Cold backgrounds that a herd is spread over.
    pub keys: u16,
}

/// Passes over all backgrounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scanning {
    /// From the start of one pass to the next.
    pub every: Duration,
    /// Frames per second of a pass.
    pub per_second: f64,
}

/// Longest time of any flag: what lies further ahead overflows clocks, and nobody waits for it.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Connections of the passes over all backgrounds.
const SCAN_LANES: usize = 8;
/// Connections of requests for what is not there.
const PENETRATION_LANES: usize = 8;

/// Flags that cannot be run.
#[derive(Debug, Error, PartialEq)]
#[error("{what}: {why}")]
pub struct UsageError {
    what: String,
    why: String,
}

fn usage(flag: &'static str, why: impl Into<String>) -> UsageError {
    UsageError {
        what: format!("--{flag}"),
        why: why.into(),
    }
}

impl Plan {
    /// Applies the scenario's defaults and checks every value.
    pub fn resolve(scenario: Scenario, args: LoadArgs) -> Result<Plan, UsageError> {
        let tape = args.tape.as_deref().map(|path| tape(&args, path));
        let tape = tape.transpose()?;
        let head = tape.as_ref().map(|tape| &tape.header);
        let sessions = head.map(|head| head.sessions).or(args.sessions);
        let sessions = sessions.unwrap_or(match scenario {
            Scenario::SwitchStorm => 1_200_000,
            Scenario::Mixed | Scenario::Churn => 100_000,
            Scenario::SwitchSingle => 15_000,
            Scenario::Scan => 20_000,
            Scenario::Preview
            | Scenario::Composite
            | Scenario::HotUpdate
            | Scenario::Penetration => 10_000,
            Scenario::ColdHerd => 4_096,
            Scenario::Replay => 0,
        });
        let taped = |head: &Header| Duration::from_micros(head.warmup_us);
        let warmup = head.map(taped).or(args.warmup);
        let warmup = warmup.unwrap_or(Duration::from_secs(2));
        let duration = args.duration.or(tape.as_ref().map(Tape::duration));
        let duration = duration.unwrap_or(Duration::from_secs(60));
        let period = args.period.unwrap_or(Duration::from_secs(3));
        let background_count = head.map(|head| head.backgrounds).or(args.background_count);
        let background_count = background_count.unwrap_or(16);
        check(&args, (period, warmup, duration), background_count)?;
        if sessions == 0 || sessions > u64::from(u32::MAX) {
            return Err(usage(
                "sessions",
                format!("{sessions} is not between 1 and {}", u32::MAX),
            ));
        }
        let gateways = args.gateways.min(sessions as usize);
        let previews_per_second = args.previews_per_second.unwrap_or(match scenario {
            Scenario::HotUpdate => 100.0,
            Scenario::Preview | Scenario::Scan => 50.0,
            Scenario::Composite | Scenario::Mixed | Scenario::Churn | Scenario::Penetration => 20.0,
            Scenario::SwitchStorm
            | Scenario::SwitchSingle
            | Scenario::ColdHerd
            | Scenario::Replay => 0.0,
        });
        let looks = matches!(
            scenario,
            Scenario::Preview | Scenario::Composite | Scenario::HotUpdate | Scenario::Scan
        );
        if looks && previews_per_second <= 0.0 {
            let why = format!("the {} scenario needs a rate above 0", scenario.name());
            return Err(usage("previews-per-second", why));
        }
        let hot_update_every = match (scenario, args.hot_update_every) {
            (Scenario::Mixed, None) => Some(Duration::from_secs(5)),
            (Scenario::HotUpdate, None) => Some(Duration::from_millis(500)),
            (_, given) => given,
        };
        Ok(Plan {
            scenario,
            token: token(&args)?,
            sessions,
            period,
            warmup,
            duration,
            background_count,
            gateways,
            connections: connections(scenario, &args, gateways),
            previews_per_second,
            singles_every: singles_every(scenario, sessions as f64 / period.as_secs_f64(), &args),
            hot_update_every: hot_update_every.filter(|every| !every.is_zero() && !args.no_upload),
            zipf: args.zipf.unwrap_or(match scenario {
                Scenario::Scan => 0.9,
                _ => 0.0,
            }),
            herding: herding(scenario, &args, background_count)?,
            scanning: scanning(scenario, &args, background_count)?,
            churn_per_second: (scenario == Scenario::Churn).then_some(args.churn_per_second),
            absent_per_second: (scenario == Scenario::Penetration)
                .then_some(args.absent_per_second),
            tape,
            args,
        })
    }

    /// Frames are asked for: the truth checker must see some.
    pub fn looks(&self) -> bool {
        let previews = self.previews_per_second * self.duration.as_secs_f64();
        previews >= 1.0 || self.herding.is_some()
    }

    /// Sessions are to leave: the truth checker must see one go.
    pub fn churns(&self) -> bool {
        self.brings_one(self.churn_per_second)
    }

    /// What is not there is asked for: the truth checker must see a clean 404.
    pub fn intrudes(&self) -> bool {
        self.brings_one(self.absent_per_second)
    }

    fn brings_one(&self, per_second: Option<f64>) -> bool {
        per_second.is_some_and(|rate| rate * self.duration.as_secs_f64() >= 1.0)
    }

    /// Feeds a hasher what decides, beside seed and switches, which requests are sent when: every part's rate, size and start, and
    /// how they travel. What a load is told, given or called by is not among it.
    pub fn hash_load(&self, hasher: &mut impl Hasher) {
        // Every field is named, so that a new one cannot be forgotten.
        let Plan {
            scenario,
            args,
            token: _,
            sessions,
            period: _,
            warmup,
            duration,
            background_count,
            gateways,
            connections,
            previews_per_second,
            singles_every,
            hot_update_every,
            zipf,
            herding,
            scanning,
            churn_per_second,
            absent_per_second,
            tape: _,
        } = self;
        let (width, height) = args.preview_size;
        let time = |time: Duration| Some(time.as_micros() as u64);
        let rate = |rate: f64| Some(rate.to_bits());
        hasher.write(scenario.name().as_bytes());
        for word in [
            Some(args.seed),
            Some(*sessions),
            time(*warmup),
            time(*duration),
            time(args.tick),
            time(args.timeout),
            Some(u64::from(*background_count)),
            Some(*gateways as u64),
            Some(*connections as u64),
            rate(*previews_per_second),
            Some(self.preview_lanes() as u64),
            Some(u64::from(width)),
            Some(u64::from(height)),
            Some(u64::from(*singles_every)),
            hot_update_every.and_then(time),
            rate(*zipf),
            herding.map(|herding| u64::from(herding.size)),
            herding.map(|herding| u64::from(herding.keys)),
            herding.and_then(|herding| time(herding.every)),
            scanning.and_then(|scanning| time(scanning.every)),
            scanning.and_then(|scanning| rate(scanning.per_second)),
            scanning.map(|_| self.scan_lanes() as u64),
            churn_per_second.and_then(rate),
            absent_per_second.and_then(rate),
            Some(args.wire as u64),
        ] {
            // None is no zero.
            hasher.write_u8(u8::from(word.is_some()));
            hasher.write_u64(word.unwrap_or_default());
        }
    }

    /// Connections that the run opens at most, control included.
    pub fn connections_max(&self) -> usize {
        let herd = self.herding.map_or(0, |herding| usize::from(herding.size));
        let scan = self.scanning.map_or(0, |_| SCAN_LANES);
        let gateways = self.gateways * self.connections;
        gateways + self.preview_lanes() + herd + scan + self.penetration_lanes() + 8
    }

    /// Connections for what is not there.
    pub fn penetration_lanes(&self) -> usize {
        self.absent_per_second.map_or(0, |_| PENETRATION_LANES)
    }

    /// Connections for the passes over all backgrounds.
    pub fn scan_lanes(&self) -> usize {
        self.args.preview_connections.min(SCAN_LANES)
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
        if self.scenario.rests() {
            return 0.0;
        }
        if let Some(tape) = &self.tape {
            let seconds = (self.warmup + tape.duration()).as_secs_f64();
            return tape.count as f64 / seconds.max(1e-6);
        }
        self.sessions as f64 / self.period.as_secs_f64()
    }
}

/// Reads what `replay` is to send. What it says of the load is not to be said twice.
fn tape(args: &LoadArgs, path: &Path) -> Result<Tape, UsageError> {
    let given = [
        ("sessions", args.sessions.is_some()),
        ("period", args.period.is_some()),
        ("warmup", args.warmup.is_some()),
        ("background-count", args.background_count.is_some()),
        ("record", args.record.is_some()),
    ];
    if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
        return Err(usage(flag, "leave it away: the recording says it"));
    }
    let tape = Tape::read(path).map_err(|error| UsageError {
        what: path.display().to_string(),
        why: error.to_string(),
    })?;
    let longest = tape.duration();
    if args.duration.is_some_and(|duration| duration > longest) {
        return Err(usage(
            "duration",
            format!("the recording ends after {longest:?}"),
        ));
    }
    Ok(tape)
}

fn check(
    args: &LoadArgs,
    (period, warmup, duration): (Duration, Duration, Duration),
    background_count: u16,
) -> Result<(), UsageError> {
    if let Some(address) = args.metrics_listen
        && !address.ip().is_loopback()
    {
        return Err(usage(
            "metrics-listen",
            format!("{address} is not on loopback"),
        ));
    }
    let at_least = |flag, value: Duration, least: Duration| {
        if value < least {
            Err(usage(flag, format!("{value:?} is less than {least:?}")))
        } else {
            Ok(())
        }
    };
    at_least("period", period, Duration::from_millis(10))?;
    at_least("duration", duration, Duration::from_millis(100))?;
    at_least("tick", args.tick, Duration::from_millis(1))?;
    at_least("timeout", args.timeout, Duration::from_millis(1))?;
    for (flag, value) in [
        ("duration", Some(duration)),
        ("warmup", Some(warmup)),
        ("hot-update-every", args.hot_update_every),
        ("herd-every", Some(args.herd_every)),
        ("scan-every", Some(args.scan_every)),
        ("timeout", Some(args.timeout)),
        ("setup-timeout", Some(args.setup_timeout)),
        ("reconnect-for", Some(args.reconnect_for)),
    ] {
        if value.is_some_and(|value| value > TIME_MAX) {
            return Err(usage(flag, "a day is the longest"));
        }
    }
    if period > Duration::from_secs(3600) {
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
    if args.zipf.is_some_and(|zipf| !(0.0..=10.0).contains(&zipf)) {
        return Err(usage("zipf", "give an exponent from 0 to 10"));
    }
    if background_count == 0 || background_count > BACKGROUNDS_MAX {
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
    if !(0.1..=1_000_000.0).contains(&args.churn_per_second) {
        return Err(usage("churn-per-second", "give 0.1 to 1000000"));
    }
    if !(0.1..=1_000_000.0).contains(&args.absent_per_second) {
        return Err(usage("absent-per-second", "give 0.1 to 1000000"));
    }
    if args.record_max == 0 || args.record_max > SWITCHES_MAX {
        return Err(usage(
            "record-max",
            format!("give 1 to {SWITCHES_MAX}: no more can be replayed"),
        ));
    }
    if !args.singles_per_second.is_finite() || args.singles_per_second < 0.0 {
        return Err(usage("singles-per-second", "give 0 or more"));
    }
    for window in &args.windows {
        if window.to > duration {
            return Err(usage(
                "window",
                format!("{} ends after --duration", window.name),
            ));
        }
    }
    Ok(())
}

fn herding(
    scenario: Scenario,
    args: &LoadArgs,
    background_count: u16,
) -> Result<Option<Herding>, UsageError> {
    if scenario != Scenario::ColdHerd {
        return Ok(None);
    }
    if args.no_upload {
        let why = "a herd needs a cold background, and an upload is what makes one cold";
        return Err(usage("no-upload", why));
    }
    if args.herd_size == 0 || args.herd_size > 4096 {
        return Err(usage("herd-size", "give 1 to 4096"));
    }
    if args.herd_every < Duration::from_millis(100) {
        return Err(usage("herd-every", "100ms is the shortest"));
    }
    if args.herd_keys == 0 || args.herd_keys > background_count.min(args.herd_size) {
        let why = "give 1 to the number of backgrounds, and no more than the herd has members";
        return Err(usage("herd-keys", why));
    }
    Ok(Some(Herding {
        size: args.herd_size,
        every: args.herd_every,
        keys: args.herd_keys,
    }))
}

fn scanning(
    scenario: Scenario,
    args: &LoadArgs,
    background_count: u16,
) -> Result<Option<Scanning>, UsageError> {
    if scenario != Scenario::Scan || args.scan_every.is_zero() {
        return Ok(None);
    }
    if !(0.1..=1_000_000.0).contains(&args.scan_per_second) {
        return Err(usage("scan-per-second", "give 0.1 to 1000000"));
    }
    let pass = f64::from(background_count) / args.scan_per_second;
    if pass > args.scan_every.as_secs_f64() {
        let why = format!("a pass over all backgrounds takes {pass:.1} s, longer than that");
        return Err(usage("scan-every", why));
    }
    Ok(Some(Scanning {
        every: args.scan_every,
        per_second: args.scan_per_second,
    }))
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
fn singles_every(scenario: Scenario, rate: f64, args: &LoadArgs) -> u32 {
    match scenario {
        Scenario::SwitchSingle => 1,
        Scenario::Mixed if args.singles_per_second > 0.0 => {
            (rate / args.singles_per_second).ceil().max(50.0) as u32
        }
        _ => 0,
    }
}
