//! One start of the service under load with faults: from an empty cell to a removed one, everything observed in between.
//!
//! A trial concludes nothing. What it cannot do is its `failure`; that the service dies is an observation.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backdrop_reports::load::TruthVerdict;
use backdrop_reports::record::{Aborted, Event, Evidence, Fault};
use backdrop_reports::steal::StealMeter;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::context::Context;
use crate::faults::{self, Clock};
use crate::host::stall::StallMeter;
use crate::host::{self, Peaks, ResidentFile, Undo};
use crate::load::{READBACK_MAX, SETUP_MAX, Simulator, SimulatorSpec};
use crate::observed::Observed;
use crate::probes;
use crate::recording;
use crate::rig::{Rig, Stop, Stopper, TakenDown};
use crate::scenario::{Abort, Expect, FaultKind, FaultPlan, Load, Steady, Target};
use crate::service::ServiceSpec;
use crate::stalls::Stalls;
use crate::targets::{Job, Target as Scraped};
use crate::units;
use crate::verdict::Simulator as SimulatorFacts;

mod abort;
mod shown;
mod watch;
use watch::watch;

/// Time for a service to become ready with an empty catalogue.
const READY_MAX: Duration = Duration::from_secs(30);
/// Time for the simulator to write its report after SIGINT.
const SIMULATOR_PATIENCE: Duration = Duration::from_secs(20);
/// Longest time between two samples of the cgroup, of which a hundred a second are taken.
const GAP_MAX: Duration = Duration::from_secs(1);
/// Time for faults to end once the load is over.
const FAULTS_PATIENCE: Duration = Duration::from_secs(60);
/// Time for those that did not, to undo what they did once they are told to.
const UNDO_PATIENCE: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug, Clone)]
pub struct TrialPlan {
    /// `SCENARIO` or `SCENARIO.CONTROL`: folder of its logs, name of its cell.
    pub name: String,
    /// Hash of the request schedule that was planned, if it is known.
    pub schedule_hash: Option<String>,
    /// The service.
    pub target: Target,
    /// The load.
    pub load: Load,
    /// The faults.
    pub faults: Vec<FaultPlan>,
    /// When it is broken off.
    pub aborts: Vec<Abort>,
    /// What a person is shown as it stands; nothing is judged by it here.
    pub shown: Shown,
}

/// What a person is shown of a trial while it runs.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Expectations.
    pub expects: Vec<Expect>,
    /// What counts as steady, for the figures.
    pub steady: Steady,
}

/// What was observed, and with which command lines.
pub struct TrialSeen {
    /// Observations.
    pub observed: Observed,
    /// Command line of the service.
    pub service_command: Vec<String>,
    /// Command line of the simulator.
    pub simulator_command: Vec<String>,
    /// Log files, relative to the run folder.
    pub logs: Vec<String>,
}

/// Runs one trial. Always returns with everything undone, or with what could not be undone said.
pub async fn run(context: &Context, plan: &TrialPlan) -> TrialSeen {
    let began = Instant::now();
    let mut seen = TrialSeen {
        observed: Observed {
            limit_bytes: plan.target.memory_limit,
            ..Observed::default()
        },
        service_command: Vec::new(),
        simulator_command: Vec::new(),
        logs: Vec::new(),
    };
    if let Err(failure) = set_up_and_drive(context, plan, &mut seen).await {
        seen.observed.failure = Some(failure);
    }
    seen.observed.duration_s = began.elapsed().as_secs_f64();
    conclude(&mut seen.observed, context);
    seen
}

/// A failure that the end of the service explains is none; a missing report is one unless something explains it.
fn conclude(observed: &mut Observed, context: &Context) {
    let service_ended = observed.oracle.service_kills > 0 || observed.crash.is_some();
    if service_ended || context.stop.raised() {
        observed.failure = None;
    } else if observed.failure.is_none() && observed.load.is_none() {
        let exit = observed
            .simulator_exit
            .map_or_else(|| "was ended".to_owned(), |code| format!("exited {code}"));
        let why = &observed.no_report;
        observed.failure = Some(format!("the simulator {exit} without a report: {why}"));
    }
}

async fn set_up_and_drive(
    context: &Context,
    plan: &TrialPlan,
    seen: &mut TrialSeen,
) -> Result<(), String> {
    let folders = Folders::of(context, &plan.name);
    let data_guard = context
        .undo
        .record(Undo::Folder {
            path: folders.data.clone(),
        })
        .map_err(|e| e.to_string())?;
    folders.make()?;
    let binary = context.binary(plan.target.build)?;
    // A program that is read in by the service itself is charged to its leaf. At the limit the kernel would then take back the
    // program, page by page, and read it again from disk, for minutes, before it kills: nothing that a trial asks about.
    let _program = tokio::task::block_in_place(|| ResidentFile::hold(&binary))
        .map_err(|e| format!("reading {}: {e}", binary.display()))?;
    let rig = tokio::task::block_in_place(|| {
        let name = plan.name.replace('.', "_");
        let limit = plan.target.memory_limit;
        Rig::set_up(
            &name,
            limit,
            &context.hierarchy,
            context.placement.clone(),
            context.undo.clone(),
            context.program.clone(),
            context.exposed.clone(),
        )
    })
    .map_err(|e| e.to_string())?;
    let rig = Arc::new(rig);
    let driven = match ServiceSpec::new(
        binary,
        &folders.logs,
        folders.data.clone(),
        plan.target.clone(),
    ) {
        Ok(spec) => drive(context, plan, &rig, spec, &folders, seen).await,
        Err(e) => Err(e.to_string()),
    };
    let down = tokio::task::block_in_place(|| rig.take_down());
    let kills = [down.oracle.service_kills, down.oracle.hog_kills];
    context.exposed.killed(kills);
    let data_undone = if context.keep_data {
        data_guard.settled()
    } else {
        data_guard.undo().map(drop)
    };
    fill(
        &mut seen.observed,
        (context, plan),
        &rig,
        down,
        data_undone.err().map(|e| e.to_string()),
    );
    let other = other_schedule(plan, &seen.observed);
    seen.observed.blind_spots.extend(other);
    seen.logs = folders.relative_files(context);
    driven
}

struct Folders {
    logs: PathBuf,
    data: PathBuf,
}

impl Folders {
    fn of(context: &Context, name: &str) -> Self {
        Self {
            logs: context.dir.join("logs").join(name),
            data: context.dir.join("data").join(name),
        }
    }

    fn make(&self) -> Result<(), String> {
        let around = self.data.parent().unwrap_or(&self.data);
        host::mark(around).map_err(|e| e.to_string())?;
        for dir in [&self.logs, &self.data] {
            std::fs::create_dir_all(dir).map_err(|e| format!("making {}: {e}", dir.display()))?;
        }
        Ok(())
    }

    fn relative_files(&self, context: &Context) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.logs) else {
            return Vec::new();
        };
        let relative = |p: PathBuf| {
            p.strip_prefix(&context.dir)
                .ok()
                .map(|p| p.display().to_string())
        };
        let mut files: Vec<_> = entries
            .flatten()
            .filter_map(|e| relative(e.path()))
            .collect();
        files.sort();
        files
    }
}

async fn drive(
    context: &Context,
    plan: &TrialPlan,
    rig: &Arc<Rig>,
    spec: ServiceSpec,
    folders: &Folders,
    seen: &mut TrialSeen,
) -> Result<(), String> {
    let reserved = simulator_metrics(&spec);
    let metrics = reserved.as_ref().map(|(_, address)| *address);
    let scraped = [(Job::Service, Some(spec.admin)), (Job::Simulator, metrics)];
    let scraped = scraped
        .into_iter()
        .filter_map(|(job, address)| address.map(|address| Scraped { job, address }));
    let scraped: Vec<_> = scraped.collect();
    let _announced = context.board.announce(&scraped, &plan.name);
    let _running = context.exposed.trial(&plan.name);
    // A person need not wait for a service that does not get ready.
    let started = tokio::select! {
        started = rig.start_service(&spec, READY_MAX) => started,
        () = context.stop.wait() => return Ok(()),
    };
    let service = started.map_err(|e| e.to_string())?;
    seen.service_command.clone_from(&service.command);
    let (stopper, stop) = Stopper::new();
    let simulator_spec = SimulatorSpec {
        binary: context.simulator.clone(),
        url: format!("http://{}", spec.listen),
        admin: format!("http://{}", spec.admin),
        metrics,
        load: plan.load.clone(),
        seed: context.seed,
        backgrounds: context.backgrounds.clone(),
        cache_dir: context.cache_dir.clone(),
        cpus: context.placement.simulator.clone(),
        dir: folders.logs.clone(),
    };
    // Only now may the simulator take the port.
    drop(reserved);
    let simulator = Simulator::start(&simulator_spec, &context.undo, stop.clone())
        .map_err(|e| e.to_string())?;
    seen.simulator_command.clone_from(&simulator.command);
    let scrapes = Arc::new(Mutex::new(Vec::new()));
    let watcher = tokio::spawn(watch(rig.clone(), scrapes.clone(), stop.clone()));
    let recorder = tokio::spawn(recording::keep(
        folders.logs.clone(),
        plan.name.clone(),
        context.board.with(&scraped),
        context.exposed.clone(),
        stop.clone(),
    ));
    let reporter = tokio::spawn(shown::report(
        context.progress.clone(),
        plan.clone(),
        rig.clone(),
        simulator.live_handle(),
        scrapes.clone(),
        stop.clone(),
    ));
    let outcome = load(context, plan, rig, &spec, &simulator, &stopper, &stop).await;
    stopper.stop();
    let (watched, _, _) = tokio::join!(watcher, recorder, reporter);
    tokio::task::block_in_place(|| simulator.interrupt(SIMULATOR_PATIENCE));
    let live = simulator.live();
    let observed = &mut seen.observed;
    observed.blind_spots.extend(match watched {
        Ok(watched) => watched.blind_spot(),
        Err(e) => Some(format!("reading the service's metrics ended early: {e}")),
    });
    observed.scrapes = std::mem::take(&mut *scrapes.lock());
    observed.simulator_exit = simulator.exit();
    match simulator.report() {
        Ok(report) => observed.load = Some(report),
        Err(why) => observed.no_report = why,
    }
    observed.started_unix_ms = observed
        .load
        .as_ref()
        .map_or(live.started_unix_ms, |l| l.started_unix_ms);
    observed.sessions_live = live.sessions;
    observed.live = live.intervals;
    let Driven {
        faults,
        aborted,
        ended,
    } = outcome;
    (observed.faults, observed.aborted) = (faults, aborted);
    ended
}

/// A port for the simulator's metrics, kept from everybody else until the simulator is started: connections take free ports all the
/// time. The trial does without if need be.
fn simulator_metrics(spec: &ServiceSpec) -> Option<(TcpListener, SocketAddr)> {
    let bind = |_| {
        let kept = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = kept.local_addr()?;
        Ok((kept, address))
    };
    // The service's are free, too, until it is started: two of three at most.
    let bound: std::io::Result<Vec<_>> = (0..3).map(bind).collect();
    let ours =
        |(_, address): &(TcpListener, SocketAddr)| ![spec.listen, spec.admin].contains(address);
    bound
        .inspect_err(|error| tracing::warn!(%error, "the simulator has no /metrics"))
        .ok()?
        .into_iter()
        .find(ours)
}

/// What a load and its faults came to.
struct Driven {
    faults: Vec<Fault>,
    aborted: Option<Aborted>,
    ended: Result<(), String>,
}

/// Waits for the load to begin, runs the faults beside it, and waits for its end.
async fn load(
    context: &Context,
    plan: &TrialPlan,
    rig: &Arc<Rig>,
    spec: &ServiceSpec,
    simulator: &Simulator,
    stopper: &Stopper,
    stop: &Stop,
) -> Driven {
    let never = |ended| Driven {
        faults: plan.faults.iter().map(faults::planned).collect(),
        aborted: None,
        ended,
    };
    let unix_ms = tokio::select! {
        at = simulator.load_started() => at,
        () = simulator.ended() => return never(Ok(())),
        () = lost(rig) => return never(Ok(())),
        () = context.stop.wait() => return never(Ok(())),
        () = tokio::time::sleep(SETUP_MAX) => return never(Err(format!("the load did not begin within {} s", SETUP_MAX.as_secs()))),
    };
    rig.note("runner", format!("load began: {}", plan.load.scenario));
    // The first planned send may lie in the future.
    let ahead = unix_ms as i64 - units::unix_ms_now() as i64;
    let start = if ahead >= 0 {
        Instant::now() + Duration::from_millis(ahead as u64)
    } else {
        Instant::now()
            .checked_sub(Duration::from_millis(ahead.unsigned_abs()))
            .unwrap_or_else(Instant::now)
    };
    let cpus = rig.placement.simulator.union(&rig.placement.service);
    let steal = StealMeter::start(cpus.cpus());
    let stalls = StallMeter::start(&cpus);
    let clock = Clock { start, unix_ms };
    let mut tasks = JoinSet::new();
    for fault in plan.faults.clone() {
        tasks.spawn(faults::run(
            fault,
            rig.clone(),
            spec.clone(),
            clock,
            stop.clone(),
        ));
    }
    let side = tokio::spawn(side_probes(rig.clone(), plan.clone(), start, stop.clone()));
    let deadline = start + plan.load.duration + READBACK_MAX;
    let live = simulator.live_handle();
    let mut aborted = None;
    let ended = tokio::select! {
        () = simulator.ended() => Ok(()),
        why = abort::watch(&plan.aborts, rig, &live, clock) => {
            stopper.stop();
            rig.note("abort", format!("{}: {} was {}", why.name, why.figure, why.observed));
            aborted = Some(why);
            Ok(())
        }
        () = lost(rig) => {
            stopper.stop();
            Ok(())
        }
        () = context.stop.wait() => Ok(()),
        () = tokio::time::sleep_until(deadline) => Err(format!("the simulator did not end within {} s after the load", READBACK_MAX.as_secs())),
    };
    let stalls = stalls.map(StallMeter::stop);
    {
        let probes = &mut rig.notes.lock().probes;
        probes.host_steal_ratio = steal.ratio();
        probes.host_stalls = stalls;
    }
    if ended.is_err() || context.stop.raised() {
        stopper.stop();
    }
    let faults = join(tasks, stopper, plan).await;
    if let Some(aborted) = &mut aborted {
        let off = faults.iter().all(|fault| fault.undone);
        aborted.faults_off_s = off.then(|| clock.now_s());
        let words = if off {
            "all faults are off"
        } else {
            "not every fault is off"
        };
        rig.note("abort", words.to_owned());
    }
    let _ = side.await;
    if !context.stop.raised() && aborted.is_none() {
        probes::at_the_end(rig).await;
    }
    Driven {
        faults,
        aborted,
        ended,
    }
}

async fn join(mut tasks: JoinSet<Fault>, stopper: &Stopper, plan: &TrialPlan) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut patience = Instant::now() + FAULTS_PATIENCE;
    while !tasks.is_empty() {
        match tokio::time::timeout_at(patience, tasks.join_next()).await {
            Ok(Some(Ok(fault))) => faults.push(fault),
            Ok(Some(Err(e))) => tracing::error!("a fault's task failed: {e}"),
            Ok(None) => break,
            Err(_) if stopper.raised() => break,
            Err(_) => {
                stopper.stop();
                patience = Instant::now() + UNDO_PATIENCE;
            }
        }
    }
    // In the plan's order; one whose task was lost is there too, as one that proved nothing.
    let of = |plan: &FaultPlan| faults.iter().find(|f| f.name == plan.name).cloned();
    plan.faults
        .iter()
        .map(|p| {
            of(p).unwrap_or_else(|| Fault {
                proof: "its task was lost".to_owned(),
                undone: false,
                ..faults::planned(p)
            })
        })
        .collect()
}

/// Probes beside the load: bytes per session half-way, error answers while failpoints stand.
async fn side_probes(rig: Arc<Rig>, plan: TrialPlan, start: Instant, stop: Stop) {
    let failpoints = || {
        plan.faults
            .iter()
            .filter(|f| matches!(f.kind, FaultKind::Failpoint { .. }))
    };
    let span = failpoints()
        .map(|f| f.at)
        .min()
        .zip(failpoints().map(FaultPlan::end).max());
    let errors = async {
        if let Some((from, to)) = span {
            probes::watch_errors(&rig, start + from, start + to, stop.clone()).await;
        }
    };
    let sessions = async {
        if stop.sleep_until(start + plan.load.duration / 2).await
            && let Some(service) = rig.service()
            && let Ok(memory) = service.admin.memory().await
        {
            rig.notes.lock().probes.bytes_per_session = memory.bytes_per_session();
        }
    };
    tokio::join!(errors, sessions);
}

/// Returns when the service has ended without anybody intending it, which is noted.
async fn lost(rig: &Rig) {
    loop {
        let changed = tokio::time::timeout(Duration::from_millis(200), rig.changed.notified());
        match rig.service() {
            Some(service) if service.process.try_wait().is_some() => {
                if !rig.end_is_intended() {
                    rig.bury(&service);
                    rig.crashed(&service, "the service ended by itself");
                    return;
                }
                let _ = changed.await;
            }
            Some(service) => {
                tokio::select! {
                    _ = service.process.ended() => {}
                    _ = changed => {}
                }
            }
            None => {
                let _ = changed.await;
            }
        }
    }
}

/// Everything that is known once the rig is gone.
fn fill(
    observed: &mut Observed,
    (context, plan): (&Context, &TrialPlan),
    rig: &Rig,
    down: TakenDown,
    data: Option<String>,
) {
    let notes = std::mem::take(&mut *rig.notes.lock());
    observed.limit_bytes = rig.limit_bytes;
    observed.rows = down.rows;
    observed.peaks = down.peaks;
    observed.oracle = down.oracle;
    observed.kernel_peak_bytes = down.kernel_peak;
    observed.sockets_counted = rig.service_leaf.counts_sockets();
    observed.crash = notes.crash;
    observed
        .blind_spots
        .extend(blind_spots(&observed.peaks, rig));
    // A watchdog's kills are no oracle unless a person says so.
    observed.oracle.readable &= !rig.emulated || context.allow_emulated;
    observed.stalls = notes.probes.host_stalls.as_ref().map(|stalls| {
        let times = stalls.iter().map(|stall| {
            let to = observed.t_s(stall.unix_ms);
            (to - stall.lasted.as_secs_f64(), to)
        });
        Stalls::new(times)
    });
    observed.probes = notes.probes;
    let failed: Vec<String> = down.failed.into_iter().chain(data).collect();
    let undone = failed.is_empty() && observed.faults.iter().all(|f| f.undone);
    let mut events: Vec<Event> = notes
        .moments
        .into_iter()
        .map(|m| Event {
            t_s: observed.t_s(m.unix_ms),
            kind: m.kind.to_owned(),
            text: m.text,
        })
        .collect();
    events.extend(failed.into_iter().map(|text| Event {
        t_s: observed.duration_s,
        kind: "undo".to_owned(),
        text,
    }));
    observed.events = events;
    let simulator = simulator_facts(observed);
    observed.evidence = Evidence {
        cgroup: context.hierarchy.word().to_owned(),
        cgroup_path: rig.cell_path.display().to_string(),
        limit_bytes: rig.limit_bytes,
        swap_off: rig.swap.off,
        swap: rig.swap.how.clone(),
        service_oom_kills: down.oracle.service_kills,
        hog_oom_kills: down.oracle.hog_kills,
        service_processes: notes.processes,
        late_ratio: simulator.map(|s| s.late_ratio),
        simulator_busy_max: simulator.map(|s| s.busy_max),
        host_steal_ratio: observed.probes.host_steal_ratio,
        host_stalls: observed
            .stalls
            .as_ref()
            .map(|stalls| stalls.summary(0.0, plan.load.duration.as_secs_f64())),
        faults_acted: observed.faults.iter().all(|f| f.acted),
        undone,
        // This and the doubts are the verdict's to say.
        busy_host: false,
        cpu_placement: rig.placement.words.clone(),
        doubts: Vec::new(),
    };
}

/// What the runner's own measurement lacks.
fn blind_spots(peaks: &Peaks, rig: &Rig) -> Vec<String> {
    let mut out = Vec::new();
    if peaks.failed > 0 {
        out.push(format!(
            "{} of the samples of the cgroup could not be read",
            peaks.failed
        ));
    }
    if peaks.gap_max > GAP_MAX {
        out.push(format!(
            "the cgroup was not sampled for {:.1} s: a peak in between was not seen",
            peaks.gap_max.as_secs_f64()
        ));
    }
    // The emulation counts no sockets either, and is a doubt of its own.
    if !rig.emulated && !rig.service_leaf.counts_sockets() {
        out.push("the kernel does not count socket buffers in the service's leaf".to_owned());
    }
    out
}

/// Says so if the load was not the one that had been planned.
fn other_schedule(plan: &TrialPlan, observed: &Observed) -> Option<String> {
    let planned = plan.schedule_hash.as_ref()?;
    let ran = &observed.load.as_ref()?.schedule_hash;
    (ran != planned)
        .then(|| format!("the simulator ran schedule {ran} instead of the planned {planned}"))
}

/// What the simulator says of itself.
#[must_use]
pub fn simulator_facts(observed: &Observed) -> Option<SimulatorFacts> {
    let load = observed.load.as_ref()?;
    // Without a planned operation the truth checker has nothing to look at.
    let truth = if load.switches.planned + load.previews.planned > 0 {
        load.truth.verdict
    } else {
        TruthVerdict::Inconclusive
    };
    Some(SimulatorFacts {
        truth,
        late_ratio: load.paced_sends().judged_late_ratio(),
        busy_max: load.simulator.busy_max,
    })
}
