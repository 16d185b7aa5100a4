//! Random fault plans within what host and target can bear. The same seed gives the same plans on a host of the same
//! [`Bounds`], on any version of any library.
//!
//! A plan is to be one that the service has promised to survive: what takes memory at one moment leaves it its half of the limit,
//! a burst stays below the reaction bound that the service states, and nothing else happens while the service is killed or stopped,
//! since a fault that finds nobody there shows nothing.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::scenario::{Amount, BuildKind, FaultKind, FaultPlan, Place, Press, Rate, Scenario};
use crate::steady::SECONDS_MIN;
use crate::units::{self, show_duration};

/// Faults of one plan at most.
pub const FAULTS_MAX: u32 = 10;
/// Share of the limit, per cent, that faults take at one moment at most.
const TAKEN_MAX: u64 = 50;
/// Attempts at placing a fault beside those that are placed already.
const PLACINGS: u32 = 16;
/// Times are drawn in these steps.
const STEP: Duration = Duration::from_millis(500);
/// Least and greatest length of a fault, in steps.
const LASTS: (u64, u64) = (4, 16);
/// Length of a stop, in steps: half of what clients wait.
const STOP_LASTS: u64 = 2;
/// Load after the last fault.
const AFTER: Duration = Duration::from_secs(1);
/// Time in which a killed service must be ready again.
const RESTART_WITHIN: Duration = Duration::from_secs(10);
/// Time around a kill that nothing else happens in, in steps: one that is ready again has sessions to make anew.
const KILL_ROOM: u64 = 10;
/// Slow clients, and connections of a flood, come in so many.
const SLOW: u64 = 20;
const FLOOD: u64 = 100;
/// What the host keeps of its memory and of its disk.
const SPARE_BYTES: u64 = 512 * units::MIB;

/// What the host can bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// CPUs that the runner may use.
    pub cpus: u32,
    /// The kernel enforces the limit: it can be lowered, and page cache counts under it.
    pub kernel_limit: bool,
    /// Memory that the host can still give, bytes.
    pub memory_bytes: u64,
    /// Room where the run's folder is, bytes.
    pub disk_bytes: u64,
    /// Connections that clients of faults may have open at a time, within the open files of the runner.
    pub clients: u64,
}

/// A kind that can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    MemoryHog,
    Burst,
    PageCache,
    LimitShrink,
    ArchiveCorrupt,
    OversizedBody,
    CpuHog,
    Failpoint,
    Stop,
    SlowClients,
    ConnectionFlood,
    Kill,
}

/// Nothing can be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// No room for a fault.
    #[error(
        "the load of `{name}` is too short for a fault: {seconds} steady seconds from {from} on, a fault of {least} and {after} after it need a `duration` of {needed}",
        seconds = SECONDS_MIN,
        after = show_duration(AFTER)
    )]
    Short {
        /// The base.
        name: String,
        /// Start of its steady part.
        from: String,
        /// Shortest fault.
        least: String,
        /// Length that it would need.
        needed: String,
    },
}

/// What plans are drawn from.
#[derive(Debug, Clone)]
pub struct Space {
    kinds: Vec<Kind>,
    /// In steps after the first planned send.
    from: u64,
    to: u64,
    cpus: u32,
    clients: u64,
    faults_max: u32,
}

impl Space {
    /// Of the base's target and load on this host.
    ///
    /// # Errors
    /// The load leaves no time for a fault.
    pub fn new(base: &Scenario, bounds: Bounds, faults_max: u32) -> Result<Self, DrawError> {
        let steady = base.steady.from + Duration::from_secs(SECONDS_MIN as u64);
        let from = steps_up(steady);
        let to = steps_down(base.load.duration.saturating_sub(AFTER));
        if to < from + LASTS.0 {
            let least = STEP * LASTS.0 as u32;
            return Err(DrawError::Short {
                name: base.name.clone(),
                from: show_duration(base.steady.from),
                least: show_duration(least),
                needed: show_duration(STEP * from as u32 + least + AFTER),
            });
        }
        Ok(Self {
            kinds: kinds(base, bounds, to - from),
            from,
            to,
            cpus: bounds.cpus.max(1),
            clients: bounds.clients,
            faults_max: faults_max.clamp(1, FAULTS_MAX),
        })
    }

    /// The plan of this number, from one fault up, in the order of time.
    #[must_use]
    pub fn draw(&self, seed: u64, number: u32) -> Vec<FaultPlan> {
        let mut dice = Dice::new(seed, number);
        let wanted = dice.between(1, u64::from(self.faults_max)) as usize;
        let mut faults: Vec<FaultPlan> = Vec::new();
        for _ in 0..PLACINGS * self.faults_max {
            let fault = self.fault(&mut dice);
            if faults.iter().all(|other| goes_with(&fault, other)) && self.bearable(&faults, &fault)
            {
                faults.push(fault);
            }
            if faults.len() == wanted {
                break;
            }
        }
        faults.sort_by_key(|fault| fault.at);
        for (n, fault) in faults.iter_mut().enumerate() {
            fault.name = format!("f{}-{}", n + 1, fault.kind.word().replace('_', "-"));
        }
        faults
    }

    fn fault(&self, dice: &mut Dice) -> FaultPlan {
        let kind = self.kinds[dice.below(self.kinds.len() as u64) as usize];
        let kind = self.kind(kind, dice);
        let longest = (self.to - self.from).min(LASTS.1);
        let lasts = match kind {
            FaultKind::Kill { .. } => KILL_ROOM,
            // Longer, and clients give everything up that is under way.
            FaultKind::Stop => STOP_LASTS,
            _ => dice.between(LASTS.0, longest),
        };
        let at = dice.between(self.from, self.to - lasts);
        let lasts = if kind.is_momentary() { 0 } else { lasts };
        FaultPlan {
            name: String::new(),
            kind,
            at: STEP * at as u32,
            lasts: STEP * lasts as u32,
        }
    }

    fn kind(&self, kind: Kind, dice: &mut Dice) -> FaultKind {
        match kind {
            Kind::MemoryHog => FaultKind::MemoryHog {
                amount: percent(dice, 10, TAKEN_MAX),
                place: Place::Sibling,
                ramp: Duration::from_millis(500) * dice.between(1, 3) as u32,
                pulse: None,
            },
            Kind::Burst => FaultKind::Burst {
                amount: percent(dice, 10, 30),
                rate: Rate::Bound(dice.between(1, 8) as f64 / 10.0),
            },
            Kind::PageCache => FaultKind::PageCache {
                amount: percent(dice, 10, 50),
                place: [Place::Service, Place::Sibling][dice.below(2) as usize],
            },
            Kind::LimitShrink => FaultKind::LimitShrink {
                to: percent(dice, 60, 90),
                steps: dice.between(1, 4) as u32,
            },
            Kind::ArchiveCorrupt => FaultKind::ArchiveCorrupt,
            Kind::OversizedBody => FaultKind::OversizedBody {
                amount: Amount::Bytes(dice.between(5, 12) * 32 * units::MIB),
            },
            Kind::CpuHog => FaultKind::CpuHog {
                threads: dice.between(1, u64::from(self.cpus)) as u32,
                press: Press::Service,
            },
            Kind::Failpoint => {
                let (failpoint, effect) = FAILPOINTS[dice.below(FAILPOINTS.len() as u64) as usize];
                FaultKind::Failpoint {
                    failpoint: failpoint.to_owned(),
                    action: format!("{}%{effect}", dice.between(1, 6) * 5),
                }
            }
            Kind::Stop => FaultKind::Stop,
            Kind::SlowClients => FaultKind::SlowClients {
                clients: self.within(dice.between(1, 10) * SLOW),
            },
            Kind::ConnectionFlood => FaultKind::ConnectionFlood {
                connections: self.within(dice.between(1, 10) * FLOOD),
            },
            Kind::Kill => FaultKind::Kill {
                restart_within: RESTART_WITHIN,
            },
        }
    }

    /// So many clients, or as many as may be.
    fn within(&self, clients: u64) -> u32 {
        u32::try_from(clients.min(self.clients)).unwrap_or(u32::MAX)
    }

    /// Whether what is taken of the limit, and of the open files, stays bearable at every moment.
    fn bearable(&self, faults: &[FaultPlan], one: &FaultPlan) -> bool {
        let all = || faults.iter().chain([one]);
        // Both are highest at the beginning of one of them.
        all().all(|moment| {
            let standing = || all().filter(|f| f.at <= moment.at && moment.at < f.end());
            let taken = standing().map(|f| taken_percent(&f.kind)).sum::<f64>();
            let clients = standing().map(|f| clients(&f.kind)).sum::<u64>();
            taken <= TAKEN_MAX as f64 + 0.5 && clients <= self.clients
        })
    }
}

/// A share of the limit in steps of five per cent, which are written as they are.
fn percent(dice: &mut Dice, least: u64, most: u64) -> Amount {
    Amount::Share((dice.between(least / 5, most / 5) * 5) as f64 / 100.0)
}

/// Those that target and host allow, each of which can act.
fn kinds(base: &Scenario, bounds: Bounds, room: u64) -> Vec<Kind> {
    let limit = base.target.memory_limit;
    let looked_at = base.load.previews_per_second > 0.0;
    let mut args = base.target.args.iter();
    let archive_off = args.any(|arg| arg == "--archive-bytes-max")
        && base.target.args.iter().any(|arg| arg == "0" || arg == "0B");
    let memory = bounds.memory_bytes > limit + SPARE_BYTES;
    // A burst's memory is made to be at hand before it comes, a quarter more than the limit.
    let warm = bounds.memory_bytes > limit + limit / 4 + 2 * SPARE_BYTES;
    let failpoints = base.target.build == BuildKind::Failpoints && looked_at;
    let allowed = [
        (Kind::MemoryHog, memory),
        (Kind::Burst, warm && bounds.kernel_limit),
        (
            Kind::PageCache,
            bounds.kernel_limit && bounds.disk_bytes > limit + SPARE_BYTES,
        ),
        (Kind::LimitShrink, bounds.kernel_limit),
        // Something must be evicted for the archive to hold anything.
        (
            Kind::ArchiveCorrupt,
            looked_at && !archive_off && evicts(base),
        ),
        (Kind::OversizedBody, true),
        (Kind::CpuHog, true),
        (Kind::Failpoint, failpoints),
        (Kind::Stop, true),
        (Kind::SlowClients, bounds.clients >= SLOW),
        (Kind::ConnectionFlood, bounds.clients >= FLOOD),
        (Kind::Kill, room >= KILL_ROOM),
    ];
    let allowed = allowed.into_iter().filter(|(_, allowed)| *allowed);
    allowed.map(|(kind, _)| kind).collect()
}

/// Whether the base's pictures are more than its limit holds.
fn evicts(base: &Scenario) -> bool {
    const TEXTURE_BYTES: u64 = 8 * units::MIB;
    u64::from(base.load.background_count) * TEXTURE_BYTES > base.target.memory_limit
}

/// Failpoints that fire whenever something is loaded, decoded or drawn, and what each is made to do.
const FAILPOINTS: [(&str, &str); 5] = [
    ("store.load.error", "return"),
    ("store.load.delay", "return(150)"),
    ("codec.decode.error", "return"),
    ("frames.render.error", "return"),
    ("frames.render.delay", "return(50)"),
];

/// Whether both can be in one plan as they are.
fn goes_with(one: &FaultPlan, other: &FaultPlan) -> bool {
    match (&one.kind, &other.kind) {
        // Two of these would undo each other, or find what the other one left.
        (FaultKind::LimitShrink { .. }, FaultKind::LimitShrink { .. })
        | (FaultKind::ArchiveCorrupt, FaultKind::ArchiveCorrupt)
        | (FaultKind::PageCache { .. }, FaultKind::PageCache { .. })
        | (FaultKind::Burst { .. }, FaultKind::Burst { .. }) => false,
        (FaultKind::Failpoint { failpoint: a, .. }, FaultKind::Failpoint { failpoint: b, .. })
            if a == b =>
        {
            apart(one, other)
        }
        (a, b) if needs_quiet(a) || needs_quiet(b) => apart(one, other),
        _ => true,
    }
}

/// While it acts nobody answers.
fn needs_quiet(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::Kill { .. } | FaultKind::Stop)
}

fn apart(one: &FaultPlan, other: &FaultPlan) -> bool {
    let (a, b) = (span(one), span(other));
    a.1 <= b.0 || b.1 <= a.0
}

/// From its begin until nothing more comes of it.
fn span(fault: &FaultPlan) -> (Duration, Duration) {
    let end = match fault.kind {
        FaultKind::Kill { .. } => fault.at + STEP * KILL_ROOM as u32,
        _ => fault.end(),
    };
    (fault.at, end)
}

/// Share of the limit that the service must do without, per cent.
fn taken_percent(kind: &FaultKind) -> f64 {
    match kind {
        FaultKind::MemoryHog {
            amount: Amount::Share(share),
            ..
        }
        | FaultKind::Burst {
            amount: Amount::Share(share),
            ..
        } => share * 100.0,
        FaultKind::LimitShrink {
            to: Amount::Share(share),
            ..
        } => (1.0 - share) * 100.0,
        _ => 0.0,
    }
}

/// Connections that it has open.
fn clients(kind: &FaultKind) -> u64 {
    match kind {
        FaultKind::SlowClients { clients: many }
        | FaultKind::ConnectionFlood { connections: many } => u64::from(*many),
        _ => 0,
    }
}

fn steps_up(time: Duration) -> u64 {
    (time.as_millis().div_ceil(STEP.as_millis())) as u64
}

fn steps_down(time: Duration) -> u64 {
    (time.as_millis() / STEP.as_millis()) as u64
}

/// Numbers from SHA-256 over seed, plan and a count: what `rand` gives for a seed may be another number in its next version.
struct Dice {
    seed: [u8; 12],
    count: u64,
}

impl Dice {
    fn new(seed: u64, number: u32) -> Self {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..].copy_from_slice(&number.to_le_bytes());
        Self {
            seed: bytes,
            count: 0,
        }
    }

    /// Below `many`, which must not be zero. Its bias is `many` in 2^64.
    fn below(&mut self, many: u64) -> u64 {
        self.count += 1;
        let hash = Sha256::new()
            .chain_update(self.seed)
            .chain_update(self.count.to_le_bytes())
            .finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        u64::from_le_bytes(first) % many
    }

    /// Both ends included.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }
}
