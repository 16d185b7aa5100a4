//! Everything one trial observed, as it was collected and before anything is concluded from it.
//!
//! All times are seconds after the first planned send of the load, negative during set-up.

use backdrop_reports::load::{Interval, LoadReport};
use backdrop_reports::record::{Aborted, Event, Evidence, Fault};

use crate::host::stall::Stall;
use crate::host::{HostSample, Peaks};
use crate::lru::Accesses;
use crate::metrics::Scrape;
use crate::scenario::{Load, Recovery, Steady};
use crate::stalls::Stalls;

/// What the kernel's counters and `waitid` say about the ends of processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oracle {
    /// The counters could be read at the end.
    pub readable: bool,
    /// Kills in the service's leaf.
    pub service_kills: u64,
    /// Kills in the hog's leaf.
    pub hog_kills: u64,
    /// A process that we had started and waited for ended by a kill that the kernel counted.
    pub service_seen_dying: bool,
}

/// What the runner's own requests found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probes {
    /// Decoded bytes of the whole catalogue.
    pub catalogue_pixel_bytes: Option<u64>,
    /// Uploads across a kill.
    pub uploads: Option<Uploads>,
    /// Ids of the earlier life asked for, and those answered by a clean 404.
    pub stale_ids: Option<(u64, u64)>,
    /// Answers other than 200 while failpoints stood, and those that were problem+json with a code.
    pub errors: Option<(u64, u64)>,
    /// From kill to ready, seconds.
    pub outage_s: Option<f64>,
    /// Session table bytes per session.
    pub bytes_per_session: Option<f64>,
    /// Share of the CPUs' time that the hypervisor took during the load, 0..=1.
    pub host_steal_ratio: Option<f64>,
    /// Times at which a CPU stood still during the load; none where the host does not let them be seen.
    pub host_stalls: Option<Vec<Stall>>,
    /// The access record at the end of the load.
    pub accesses: Option<Accesses>,
    /// How a limit came down.
    pub limit: Option<LimitSeen>,
    /// How fast a burst was.
    pub burst: Option<BurstSeen>,
    /// What became of bodies over the service's limit.
    pub oversized: Option<OversizedSeen>,
    /// What became of slow clients.
    pub slow_clients: Option<ClientsSeen>,
    /// What became of connections on which nothing was asked.
    pub flood: Option<ClientsSeen>,
}

/// What became of clients that are a burden by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientsSeen {
    /// Most connections at one time.
    pub open_max: u64,
    /// Most clients at one time that were connected, or turned away and about to come again.
    pub there_max: u64,
    /// Connections in all.
    pub opened: u64,
    /// Attempts to connect that came to nothing.
    pub failed: u64,
    /// Those that the service closed.
    pub cut: u64,
    /// Bytes sent or taken.
    pub bytes: u64,
}

/// What became of bodies over the service's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OversizedSeen {
    /// Uploads begun.
    pub offered: u64,
    /// Answered at all.
    pub answered: u64,
    /// Answered by 413.
    pub refused: u64,
}

/// How a limit came down, bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitSeen {
    /// Limit before.
    pub from: u64,
    /// Limit asked for.
    pub asked: u64,
    /// Lowest limit that the kernel took.
    pub reached: u64,
    /// Every limit that the kernel took on the way down.
    pub steps: Vec<LimitStep>,
}

/// One limit on the way down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitStep {
    /// Bytes.
    pub limit: u64,
    /// From the kernel's taking it until the service reported it or a lower one, seconds; while it never did, as long as it was
    /// waited for.
    pub adopted_s: f64,
}

/// How fast a burst was, bytes per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BurstSeen {
    /// As it happened.
    pub rate: f64,
    /// Reaction bound at rest that the service stated before it; none where it was not asked for.
    pub bound: Option<f64>,
}

/// What became of uploads that were acknowledged before a kill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploads {
    /// The runner's own right before the kill, of [`Uploads::TRIED`].
    pub probed: u64,
    /// Looked for after the restart: those, and the catalogue of the load.
    pub checked: u64,
    /// Gone or different.
    pub missing: u64,
}

impl Uploads {
    /// The runner's own uploads before a kill; of fewer acknowledged ones their survival says too little.
    pub const TRIED: u64 = 8;
    /// Session ids that are asked for after it.
    pub const STALE_IDS: u64 = 32;
}

/// Everything one trial observed.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// First planned send, milliseconds since the Unix epoch; zero if load never began.
    pub started_unix_ms: u64,
    /// Wall time of the trial, seconds.
    pub duration_s: f64,
    /// Limit as read back, bytes.
    pub limit_bytes: u64,
    /// Thinned samples of the cgroup.
    pub rows: Vec<HostSample>,
    /// Maxima over every sample.
    pub peaks: Peaks,
    /// Scrapes of the service.
    pub scrapes: Vec<Scrape>,
    /// What the simulator wrote; none if it did not get that far.
    pub load: Option<LoadReport>,
    /// Seconds of load as they came in live; stands in where `load` is missing.
    pub live: Vec<Interval>,
    /// Sessions acknowledged during set-up, as they came in live.
    pub sessions_live: u64,
    /// Exit code of the simulator, if it exited.
    pub simulator_exit: Option<i32>,
    /// Why there is no report of the simulator; empty if there is one.
    pub no_report: String,
    /// Kernel's word on kills.
    pub oracle: Oracle,
    /// Kernel's own maximum of the service's leaf, bytes.
    pub kernel_peak_bytes: Option<u64>,
    /// Socket buffers are among the samples.
    pub sockets_counted: bool,
    /// Faults as they happened.
    pub faults: Vec<Fault>,
    /// The runner's own requests.
    pub probes: Probes,
    /// Moments worth telling.
    pub events: Vec<Event>,
    /// Facts about host and processes, filled by the trial; doubts are added by the verdict.
    pub evidence: Evidence,
    /// Why and when it was broken off, if it was.
    pub aborted: Option<Aborted>,
    /// The trial failed as a trial: in words.
    pub failure: Option<String>,
    /// The service ended or could not start by itself: in words.
    pub crash: Option<String>,
    /// What the runner itself could not measure as it should, each in words.
    pub blind_spots: Vec<String>,
    /// Times at which a CPU stood still; none where the host does not let them be seen.
    pub stalls: Option<Stalls>,
}

impl Observed {
    /// Seconds after the first planned send.
    #[must_use]
    pub fn t_s(&self, unix_ms: u64) -> f64 {
        if self.started_unix_ms == 0 {
            return unix_ms as f64 / 1e3
                - self
                    .rows
                    .first()
                    .map_or(unix_ms as f64, |r| r.unix_ms as f64)
                    / 1e3;
        }
        (unix_ms as f64 - self.started_unix_ms as f64) / 1e3
    }

    /// Seconds of load, from the report or as they came in.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        match &self.load {
            Some(load) if !load.intervals.is_empty() => &load.intervals,
            _ => &self.live,
        }
    }

    /// When the kernel's kill of the service was seen, seconds.
    #[must_use]
    pub fn killed_s(&self) -> Option<f64> {
        let kill = |e: &&Event| e.kind == "kernel";
        self.events.iter().find(kill).map(|e| e.t_s)
    }

    /// The fault of that name, if it was planned.
    #[must_use]
    pub fn fault(&self, name: &str) -> Option<&Fault> {
        self.faults.iter().find(|f| f.name == name)
    }
}

/// What a trial was meant to be: plan and bands that figures are read against.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Load.
    pub load: &'a Load,
    /// Steady state.
    pub steady: &'a Steady,
    /// Recovery.
    pub recovery: Option<&'a Recovery>,
}
