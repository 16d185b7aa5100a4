//! What one simulator run measured: the JSON that `backdrop-simulator --json` writes.
//!
//! Latencies are in microseconds from a session's *planned* time unless a field says otherwise.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of [`LoadReport`]'s JSON; a reader refuses a newer one.
pub const LOAD_SCHEMA_VERSION: u32 = 1;

/// Everything one simulator run measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadReport {
    /// Always [`LOAD_SCHEMA_VERSION`] when written by this build.
    pub schema_version: u32,
    /// Load scenario, e.g. `switch-storm`.
    pub scenario: String,
    /// Seed of schedule, popularity and drawings.
    pub seed: u64,
    /// Hash of the request schedule; equal seeds and settings give equal hashes.
    pub schedule_hash: String,
    /// First planned send, milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// Length of the load phase, seconds.
    pub duration_s: f64,
    /// Sessions asked for and reached.
    pub sessions: SessionFigures,
    /// Switches, one count per session switched (not per batch).
    pub switches: OperationFigures,
    /// Preview frames.
    pub previews: OperationFigures,
    /// HTTP requests under the operations.
    pub http: HttpFigures,
    /// Goose's own view of the same run (closed model, headers only, actual send).
    pub goose: GooseFigures,
    /// How late the simulator itself woke, microseconds after plan; not part of the service's latency.
    pub wake_lateness: Latency,
    /// Sends of switches against plan.
    pub sends: SendFigures,
    /// Sends of previews against plan; they are paced apart from the switches.
    #[serde(default)]
    pub preview_sends: SendFigures,
    /// What the truth checker found.
    pub truth: TruthFigures,
    /// Figures of the windows asked for with `--window NAME=FROM..TO`.
    pub windows: Vec<WindowFigures>,
    /// One sample a second.
    pub intervals: Vec<Interval>,
    /// The simulator's own cost.
    pub simulator: ProcessFigures,
    /// Backgrounds replaced while the load ran, each acknowledged.
    #[serde(default)]
    pub updates: u64,
    /// Herds on cold backgrounds; null where the scenario has none.
    #[serde(default)]
    pub herds: Option<HerdFigures>,
    /// Passes over all backgrounds; null where the scenario has none.
    #[serde(default)]
    pub scan: Option<ScanFigures>,
    /// The simulator could not keep its plan (too many late or dropped sends): its figures say nothing.
    #[serde(default)]
    pub starved: bool,
    /// Why the load ended before its time, if it did.
    #[serde(default)]
    pub ended_early: Option<String>,
}

impl OperationFigures {
    /// The share that the simulator itself sent late or never, where that is too much for times to prove anything.
    #[must_use]
    pub fn too_late(&self) -> Option<f64> {
        let ratio = self.late as f64 / self.planned as f64;
        (self.planned >= SendFigures::JUDGED_MIN && ratio > SendFigures::LATE_RATIO_MAX)
            .then_some(ratio)
    }
}

impl WindowFigures {
    /// The share of late sends by which the simulator's pace in this window is judged, where it is too much: the switches', or the
    /// previews' where no switch was planned.
    #[must_use]
    pub fn too_late(&self) -> Option<f64> {
        match self.switches.planned {
            0 => self.previews.too_late(),
            _ => self.switches.too_late(),
        }
    }
}

impl LoadReport {
    /// The sends by which the simulator's pace is judged: the switches', or the previews' where no switch was planned.
    #[must_use]
    pub fn paced_sends(&self) -> &SendFigures {
        if self.sends.planned > 0 {
            &self.sends
        } else {
            &self.preview_sends
        }
    }
}

/// Sessions asked for and reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionFigures {
    /// Sessions the scenario asked for.
    pub requested: u64,
    /// Sessions the service acknowledged at set-up.
    pub created: u64,
    /// Sessions the service refused to create, at set-up or for good after a restart: `shed` and all others.
    pub refused: u64,
    /// Those of `refused` that were shed: 429, 503 or the per-entry code `shed`.
    #[serde(default)]
    pub shed: u64,
    /// Sessions made anew after the service forgot them (restart).
    pub recreated: u64,
    /// Most sessions that held a background of their own acknowledged at one time; under `--sharing exclusive`
    /// the number that owned a texture.
    pub reached: u64,
}

/// One kind of operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationFigures {
    /// Operations whose planned time fell into the window.
    pub planned: u64,
    /// Acknowledged.
    pub ok: u64,
    /// Answered in degraded form (previews: the thumbnail).
    pub degraded: u64,
    /// Shed by the service: 503 or the per-entry code `shed`.
    pub shed: u64,
    /// Refused or failed for any other reason; `errors` says which.
    pub failed: u64,
    /// No answer in time: applied or not, unknown.
    pub indeterminate: u64,
    /// Sent more than 5 ms late, or never, because the simulator itself woke late.
    #[serde(default)]
    pub late: u64,
    /// Failures by name, e.g. `session_not_found`, `http_500`, `connection`.
    pub errors: BTreeMap<String, u64>,
    /// Acknowledged operations per second over the load phase (or window).
    pub rate_per_s: f64,
    /// From the planned time to the last byte of the answer; without one (timeout, broken or refused connection, never
    /// sent) to the moment it was given up: what it waited at least. Answers that refuse or fail (shed, an error
    /// status or code) are counted above and left out here: a quick no would flatter.
    pub latency: Latency,
    /// From the actual send to the last byte of the answer.
    pub service_time: Latency,
    /// Percentile spectrum of `latency`: pairs of quantile in 0..=1 and microseconds.
    pub spectrum: Vec<(f64, u64)>,
}

/// Herds: many previews asked for at the same moment, of a background whose pixels nobody has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HerdFigures {
    /// Herds sent.
    pub herds: u64,
    /// Herds left out, because their background could not be made cold before they were due.
    pub skipped: u64,
    /// Previews of all herds.
    pub asked: u64,
    /// Those answered by the whole picture.
    pub shown: u64,
    /// Those whose answer says that its caller loaded the pixels.
    pub missed: u64,
    /// Herds for which the service's own count of texture loads was read before and after.
    pub counted: u64,
    /// Texture loads of those herds, by that count.
    pub loads: u64,
    /// Most texture loads of one herd.
    pub loads_max: u64,
    /// From the herd's planned time to its first whole picture, over the herds.
    pub first: Latency,
    /// From the herd's planned time to its last whole picture, over the herds.
    pub last: Latency,
}

/// Passes over all backgrounds in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanFigures {
    /// Frames of passes that were answered.
    pub frames: u64,
    /// The same in passes: frames over backgrounds.
    pub passes: f64,
}

/// A latency distribution, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Recorded values; zero means that nothing below has evidence.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Largest.
    pub max_us: u64,
}

/// HTTP requests under the operations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpFigures {
    /// Requests sent.
    pub requests: u64,
    /// Requests per second over the load phase.
    pub requests_per_s: f64,
    /// Connections opened, reconnects included.
    pub connections_opened: u64,
    /// Most connections open at one time.
    pub connections_max: u64,
    /// Median entries in a batch.
    pub batch_entries_p50: u64,
    /// Largest batch, entries.
    pub batch_entries_max: u64,
}

/// Goose's own view.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GooseFigures {
    /// Requests goose counted.
    pub requests: u64,
    /// Requests goose counted as failed.
    pub failures: u64,
    /// Goose's mean response time, milliseconds.
    pub mean_ms: f64,
    /// Goose's median response time, milliseconds.
    pub p50_ms: f64,
    /// Goose's 99th percentile, milliseconds.
    pub p99_ms: f64,
}

/// Sends against plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SendFigures {
    /// Sends planned.
    pub planned: u64,
    /// Sends made.
    pub sent: u64,
    /// Sent more than 5 ms after the end of their tick because the simulator woke late.
    pub late: u64,
    /// Never sent because the simulator itself woke too late: previews that it overslept by more than the timeout.
    /// Overslept switches are sent with the next tick, and `late`.
    pub dropped: u64,
    /// Given up because no connection became free in time, nothing listened or the session was replaced: the service's
    /// doing, and no sign of starvation.
    #[serde(default)]
    pub unsent: u64,
    /// `late + dropped` over `planned`, 0..=1: what the simulator itself did wrong.
    pub late_ratio: f64,
}

impl SendFigures {
    /// Largest share of late or dropped sends that a measurement bears.
    pub const LATE_RATIO_MAX: f64 = 0.01;
    /// Fewest planned sends whose share is judged: of fewer, one batch that was late is more than the largest share.
    pub const JUDGED_MIN: u64 = 1_000;

    /// The share by which starvation is judged, 0..=1: zero where too few sends were planned to tell.
    #[must_use]
    pub fn judged_late_ratio(&self) -> f64 {
        if self.planned < Self::JUDGED_MIN {
            return 0.0;
        }
        self.late_ratio
    }

    /// Whether the simulator sent too late for its clock to prove anything.
    #[must_use]
    pub fn too_late(&self) -> bool {
        self.judged_late_ratio() > Self::LATE_RATIO_MAX
    }
}

/// Outcome of the truth checker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruthVerdict {
    /// Everything read back agrees with what was acknowledged.
    Clean,
    /// At least one violation, with its history.
    Violated,
    /// Too little could be read to say: no samples, more than 1 % of the frames unreadable, more than 10 % of the frames
    /// skipped, more than 1 % of the sessions indeterminate, or a check that failed itself (the history says which).
    #[default]
    Inconclusive,
}

/// What the truth checker found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TruthFigures {
    /// The outcome.
    pub verdict: TruthVerdict,
    /// Sessions read back at the end, indeterminate ones included.
    pub sessions_read: u64,
    /// Sessions read back while the load ran.
    pub sessions_sampled: u64,
    /// Frames whose pixel code was read.
    pub frames_read: u64,
    /// Frames whose code could not be read.
    pub frames_unreadable: u64,
    /// Frames that were not looked at, because the readers were busy; `frames_read`, `frames_unreadable` and these are
    /// all frames offered.
    #[serde(default)]
    pub frames_skipped: u64,
    /// Acknowledged switches that were not there: shown by a session, or missing from the sessions' own counters; at
    /// least so many.
    pub lost: u64,
    /// Frames of an older version than one acknowledged before the request.
    pub stale: u64,
    /// Frames or sessions showing a background nobody asked for; refused switches that were applied; at least so many.
    pub wrong: u64,
    /// Frames of more than one background or version, or with a band that shows none.
    pub torn: u64,
    /// Those of `sessions_read` with a switch that timed out and is not settled: more than one background was right.
    pub indeterminate: u64,
    /// Acknowledged switches that were compared with the counters of the sessions read back, counted since the sessions
    /// were last created. `None` where that was not possible.
    #[serde(default)]
    pub switches_counted: Option<u64>,
    /// The first violations, in words, each with what was acknowledged and what was seen.
    pub history: Vec<String>,
}

/// Figures of one named window of the load phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowFigures {
    /// Name given with `--window`.
    pub name: String,
    /// Start, seconds after the first planned send.
    pub from_s: f64,
    /// End, seconds after the first planned send.
    pub to_s: f64,
    /// Switches planned in the window.
    pub switches: OperationFigures,
    /// Previews planned in the window.
    pub previews: OperationFigures,
}

/// One second of the load phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// End of the interval, seconds after the first planned send.
    pub t_s: f64,
    /// Switches acknowledged in it.
    pub switches_ok: u64,
    /// Switches shed in it.
    pub switches_shed: u64,
    /// Switches failed or indeterminate in it.
    pub switches_failed: u64,
    /// Median switch latency, microseconds.
    pub switch_p50_us: u64,
    /// 99th percentile of switch latency, microseconds.
    pub switch_p99_us: u64,
    /// Largest switch latency, microseconds.
    pub switch_max_us: u64,
    /// Previews answered whole.
    pub previews_ok: u64,
    /// Previews answered by the thumbnail.
    pub previews_degraded: u64,
    /// Previews shed.
    pub previews_shed: u64,
    /// Previews failed or indeterminate.
    pub previews_failed: u64,
    /// 99th percentile of preview latency, microseconds.
    pub preview_p99_us: u64,
}

/// Cost of one process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessFigures {
    /// CPU time of the load phase, seconds.
    pub cpu_s: f64,
    /// Mean cores over the load phase.
    pub cores_mean: f64,
    /// Highest share of the cores it may use, over one second, 0..=1.
    pub busy_max: f64,
    /// Peak resident set, bytes.
    pub rss_peak_bytes: u64,
    /// Bytes of the simulator's own state per session.
    pub bytes_per_session: f64,
    /// Share of the time of the CPUs it may use that the hypervisor gave to others during the load, 0..=1. `None` where
    /// the kernel does not say.
    #[serde(default)]
    pub host_steal_ratio: Option<f64>,
    /// Idle CPUs were kept from sleeping during the load, so that none woke late.
    #[serde(default)]
    pub cpus_awake: bool,
}

/// One line of `--events`: newline-delimited JSON while the simulator runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LoadEvent {
    /// A phase began: `setup`, `warmup`, `load`, `drain`, `readback`, `done`.
    Phase {
        /// Name of the phase.
        phase: String,
        /// When, milliseconds since the Unix epoch. For `load` it is the first planned send: t = 0 of all times.
        unix_ms: u64,
    },
    /// Set-up progress: sessions created so far.
    Setup {
        /// Sessions acknowledged.
        sessions: u64,
    },
    /// One second of load.
    Interval(Interval),
}
