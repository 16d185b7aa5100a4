//! One run from plan to report: prepare pictures, set up, attack, read back, conclude.

use std::hash::Hasher;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use backdrop_reports::load::{LoadEvent, LoadReport};
use backdrop_reports::scrape::Endpoint;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

use crate::admin::Admin;
use crate::attack;
use crate::catalogue::{Catalogue, CatalogueError, Librarian, Revisions};
use crate::cli::{Plan, Scenario};
use crate::client::{Target, TargetError};
use crate::cohort::Cohort;
use crate::gallery::{Gallery, GalleryError};
use crate::herd::Herds;
use crate::host::{self, Awake, HostError};
use crate::metrics::Metrics;
use crate::monitor::{self, LatencyLog};
use crate::participant::Participant;
use crate::picture::PictureError;
use crate::population::{self, PopulationError, Strays};
use crate::progress::{Progress, grouped};
use crate::reader::Reader;
use crate::record::{Collector, Spans};
use crate::report::{self, Beside, Load, Whole};
use crate::schedule::{Popularity, Schedule, sizes};
use crate::shared::{Census, Events, Gate, Shared, Stop, StopReason, micros};
use crate::tape::{Header, Taping};
use crate::truth::{Evidence, Truth};

/// Descriptors beside connections: files, pipes, the runtime's own.
const DESCRIPTORS_SPARE: u64 = 64;
/// Attempts to populate a service that restarts under it.
const POPULATE_ATTEMPTS: u32 = 3;
/// Time for deleting the backgrounds that a run uploaded.
const TAKE_BACK_TIME: Duration = Duration::from_secs(20);

/// A run that left no report.
#[derive(Debug, Error)]
pub enum RunError {
    /// URL or token.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Pictures.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The participant of composites.
    #[error("--preview-size: {0}")]
    Participant(#[from] PictureError),
    /// The catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Sessions.
    #[error(transparent)]
    Population(#[from] PopulationError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The load framework.
    #[error(transparent)]
    Attack(#[from] attack::AttackError),
    /// A file to write, or a thread to start.
    #[error("{what}: {cause}")]
    Io {
        /// What for.
        what: String,
        /// Why.
        cause: std::io::Error,
    },
}

impl RunError {
    /// Exit code: 64 for what the user can mend on the command line, 69 for a service that is away, else 255.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Target(_) | RunError::Host(_) => 64,
            RunError::Gallery(_) | RunError::Participant(_) => 64,
            RunError::Catalogue(CatalogueError::Stopped) => 130,
            RunError::Catalogue(CatalogueError::Missing { .. }) => 64,
            RunError::Catalogue(CatalogueError::Refused {
                status: 401 | 403, ..
            }) => 64,
            RunError::Catalogue(_) => 69,
            RunError::Population(PopulationError::Stopped) => 130,
            RunError::Population(_) => 69,
            RunError::Attack(_) | RunError::Io { .. } => 255,
        }
    }
}

fn io_error(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.to_string();
    move |cause| RunError::Io { what, cause }
}

/// A report with the exit code that it means.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub report: LoadReport,
    /// What was measured beside it.
    pub beside: Beside,
    /// Exit code.
    pub exit: u8,
}

/// Runs a plan. `stop` ends the load; the report is written all the same.
pub async fn run(plan: Plan, stop: Stop) -> Result<Outcome, RunError> {
    host::ensure_descriptors(plan.connections_max() as u64 + DESCRIPTORS_SPARE)?;
    let mut progress = Progress::new(plan.args.progress);
    let metrics = Arc::new(Metrics::new(plan.scenario.name(), plan.sessions));
    let _endpoint = endpoint(&plan, &metrics)?;
    let events = Events::new(event_sink(&plan)?, metrics.clone());
    let log = match plan.args.hlog.as_deref() {
        Some(path) => {
            Some(LatencyLog::create(path).map_err(io_error(format!("--hlog {}", path.display())))?)
        }
        None => None,
    };
    events.phase("setup");
    let shared = set_up(plan, stop, (events, metrics), &mut progress).await?;
    let shared = Arc::new(shared);
    let measured = measure(&shared, log, &mut progress).await;
    stop_taping(&shared, &mut progress).await;
    tidy(&shared, &mut progress).await;
    let mut load = measured?;
    load.connections = shared.target.connections();
    let report = report::build(&shared, load);
    let beside = shared.beside.lock().clone();
    if let Some(path) = &shared.plan.args.json {
        write_json(path, &Whole::of(&report, &beside))?;
    }
    monitor::stand(&shared);
    shared.events.phase("done");
    let exit = report::exit_code(&report, shared.stop.reason());
    Ok(Outcome {
        report,
        beside,
        exit,
    })
}

/// Sessions, load, readback. Where the run was stopped meanwhile, what comes after is left out.
async fn measure(
    shared: &Arc<Shared>,
    log: Option<LatencyLog>,
    progress: &mut Progress,
) -> Result<Load, RunError> {
    let mut load = Load {
        schedule_hash: schedule_hash(&shared.plan),
        ..Load::default()
    };
    populate(shared, progress).await?;
    if shared.stop.reason().is_none() && shared.census.holding() > 0 {
        attack(shared, log, progress, &mut load).await?;
    }
    conclude(shared, progress).await;
    Ok(load)
}

fn taping(plan: &Plan) -> Result<Option<Taping>, RunError> {
    let Some(path) = &plan.args.record else {
        return Ok(None);
    };
    let (warmup_us, duration_us) = (micros(plan.warmup), micros(plan.duration));
    let header = Header::new(plan.sessions, plan.background_count, warmup_us, duration_us);
    Taping::create(path, &header, plan.args.record_max)
        .map(Some)
        .map_err(io_error(format!("--record {}", path.display())))
}

/// What is not on the tape is said: its replay would be another load.
async fn stop_taping(shared: &Arc<Shared>, progress: &mut Progress) {
    let taping = shared.clone();
    let finish = move || taping.taping.as_ref().map(Taping::finish);
    // Waits for the disk; the runtime has a place for that.
    let Ok(Some(figures)) = tokio::task::spawn_blocking(finish).await else {
        return;
    };
    if let Some(words) = &figures.failure {
        progress.warn(words);
    }
    if figures.left_out > 0 {
        let left_out = grouped(figures.left_out);
        progress.warn(&format!("{left_out} switches were sent and not recorded"));
    }
    shared.beside.lock().recording = Some(figures);
}

fn event_sink(plan: &Plan) -> Result<Option<Box<dyn Write + Send>>, RunError> {
    match &plan.args.events {
        None => Ok(None),
        Some(path) if path.as_os_str() == "-" => Ok(Some(Box::new(std::io::stdout()))),
        Some(path) => {
            let file = std::fs::File::create(path)
                .map_err(io_error(format!("--events {}", path.display())))?;
            Ok(Some(Box::new(file)))
        }
    }
}

/// Answers a Prometheus from now on until the run is over, if it is to.
fn endpoint(plan: &Plan, metrics: &Arc<Metrics>) -> Result<Option<Endpoint>, RunError> {
    let Some(address) = plan.args.metrics_listen else {
        return Ok(None);
    };
    let metrics = metrics.clone();
    let endpoint = Endpoint::start(address, move || metrics.text())
        .map_err(io_error(format!("--metrics-listen {address}")))?;
    Ok(Some(endpoint))
}

fn write_json(path: &PathBuf, report: &Whole<'_>) -> Result<(), RunError> {
    let failed = || io_error(format!("--json {}", path.display()));
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        std::fs::create_dir_all(parent).map_err(failed())?;
    }
    let text = serde_json::to_vec_pretty(report).map_err(|error| failed()(error.into()))?;
    std::fs::write(path, text).map_err(failed())
}

/// Hash of the request schedule, known before anything is sent: of all switches, and of whatever decides about the rest.
pub fn schedule_hash(plan: &Plan) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.write_u64(match &plan.tape {
        Some(tape) => tape.hash,
        None => schedule(plan).hash(&sizes(plan.sessions, plan.gateways)),
    });
    plan.hash_load(&mut hasher);
    hasher.finish()
}

fn schedule(plan: &Plan) -> Schedule {
    Schedule {
        seed: plan.args.seed,
        period_us: micros(plan.period) as u32,
        popularity: Popularity::new(plan.background_count, plan.zipf),
    }
}

fn spans(plan: &Plan) -> Spans {
    let start = micros(plan.warmup);
    let mut edges = vec![start, start + micros(plan.duration)];
    for window in &plan.args.windows {
        edges.extend([start + micros(window.from), start + micros(window.to)]);
    }
    Spans::new(edges)
}

/// The cohorts of all gateways; what is on a tape goes over to them.
fn cohorts(plan: &mut Plan) -> Vec<Mutex<Cohort>> {
    let schedule = Arc::new(schedule(plan));
    let sizes = sizes(plan.sessions, plan.gateways);
    let mut taped = plan.tape.as_mut().map(|tape| tape.share_out(&sizes));
    let mut first_user = 0;
    sizes
        .into_iter()
        .enumerate()
        .map(|(gateway, size)| {
            let cohort = Cohort::new(schedule.clone(), gateway as u64, first_user, size)
                .with_singles(plan.singles_every);
            first_user += size as u64;
            let taped = taped.as_mut();
            Mutex::new(
                match taped.map(|parts| std::mem::take(&mut parts[gateway])) {
                    Some(sent) => cohort.following(sent),
                    None if plan.scenario.rests() => cohort.resting(),
                    None if plan.churn_per_second.is_some() => cohort.churning(),
                    None => cohort,
                },
            )
        })
        .collect()
}

/// Pictures, catalogue and everything shared; no sessions yet.
async fn set_up(
    mut plan: Plan,
    stop: Stop,
    (events, metrics): (Events, Arc<Metrics>),
    progress: &mut Progress,
) -> Result<Shared, RunError> {
    let target = Arc::new(Target::new(&plan.args.url, plan.token.as_deref())?);
    let admin = plan.args.admin.as_deref().map(Admin::new).transpose()?;
    let librarian = Librarian::new(target.clone());
    // Whether anybody listens is said before pictures are drawn.
    librarian.list().await?;
    // Where nobody does, an older recording is left as it is.
    let taping = taping(&plan)?;
    let gallery = Arc::new(gallery(&plan, progress)?);
    let participant = (plan.scenario == Scenario::Composite)
        .then(|| Participant::new(plan.args.preview_size))
        .transpose()?;
    let revisions = Arc::new(Revisions::new(gallery.len()));
    let going = || stop.reason().is_none();
    let had = catalogue(&plan, &librarian, &gallery, &revisions, &going, progress).await;
    let catalogue = match had {
        Ok(catalogue) => catalogue,
        Err(error) => {
            take_back(&plan, &librarian, &gallery, &revisions, progress).await;
            return Err(error);
        }
    };
    let mut evidence = vec![Evidence::Sessions];
    if plan.looks() {
        evidence.push(Evidence::Frames);
    }
    if plan.churns() {
        evidence.push(Evidence::Leavers);
    }
    if plan.intrudes() {
        evidence.push(Evidence::Absent);
    }
    let truth = Arc::new(Mutex::new(Truth::requiring(evidence)));
    let readers = (host::cpus() / 2).max(1);
    let reader = Reader::start(readers, truth.clone(), revisions.clone(), gallery.clone())
        .map_err(io_error("reader threads"))?;
    Ok(Shared {
        cohorts: cohorts(&mut plan),
        spans: spans(&plan),
        gate: Gate::new(attack::users(&plan)),
        participant,
        plan,
        target,
        gallery,
        librarian,
        catalogue: RwLock::new(Arc::new(catalogue)),
        refresh: tokio::sync::Mutex::new(()),
        revisions,
        truth,
        reader,
        collector: Collector::default(),
        census: Census::default(),
        stop,
        events,
        metrics,
        trouble: AtomicU64::new(0),
        admin,
        herds: Mutex::new(Herds::default()),
        scanned: AtomicU64::new(0),
        updates: AtomicU64::new(0),
        taping,
        strays: Mutex::new(Strays::default()),
        beside: Mutex::default(),
    })
}

fn gallery(plan: &Plan, progress: &mut Progress) -> Result<Gallery, RunError> {
    let args = &plan.args;
    let started = Instant::now();
    let gallery = match &args.backgrounds {
        Some(folder) => Gallery::photographs(folder, &args.cache_dir, plan.background_count)?,
        None => Gallery::drawn(&args.cache_dir, plan.background_count)?,
    };
    for words in &gallery.skipped {
        progress.warn(&format!("skipped {words}"));
    }
    progress.say(&format!(
        "{} backgrounds ready in {:.1} s",
        gallery.len(),
        started.elapsed().as_secs_f64()
    ));
    Ok(gallery)
}

async fn catalogue(
    plan: &Plan,
    librarian: &Librarian,
    gallery: &Gallery,
    revisions: &Revisions,
    going: &(dyn Fn() -> bool + Sync),
    progress: &mut Progress,
) -> Result<Catalogue, RunError> {
    let until = Instant::now() + plan.args.setup_timeout;
    let shown = Mutex::new(progress.clone());
    let counting = |done, of| {
        let words = format!("uploaded {done} of {of} backgrounds");
        shown.lock().counting(&words);
        going()
    };
    let catalogue = librarian
        .ensure(gallery, revisions, !plan.args.no_upload, until, &counting)
        .await?;
    *progress = shown.into_inner();
    progress.end();
    Ok(catalogue)
}

/// Creates the sessions. With `--allow-partial-sessions` a service that dies of it ends the run, with a report.
async fn populate(shared: &Arc<Shared>, progress: &mut Progress) -> Result<(), RunError> {
    let started = Instant::now();
    for _ in 0..POPULATE_ATTEMPTS {
        let shown = Mutex::new((progress.clone(), Instant::now()));
        let counting = |sessions| {
            let (progress, last) = &mut *shown.lock();
            progress.counting(&format!("{} sessions created", grouped(sessions)));
            if last.elapsed() > Duration::from_millis(200) {
                *last = Instant::now();
                shared.events.emit(&LoadEvent::Setup { sessions });
            }
        };
        let result = population::create_all(shared, &counting).await;
        *progress = shown.into_inner().0;
        match result {
            Ok(()) => break,
            Err(PopulationError::Stopped) => return Ok(()),
            Err(error) if !shared.plan.args.allow_partial_sessions => return Err(error.into()),
            Err(error) => {
                // What was reached is said before the wait: it is all that is left of this life of the service.
                let sessions = shared.census.reached();
                shared.events.emit(&LoadEvent::Setup { sessions });
                progress.warn(&format!("{error}; waiting for it to come back"));
                wait_for_service(shared).await;
            }
        }
        if shared.stop.reason().is_some() {
            return Ok(());
        }
    }
    let sessions = shared.census.holding();
    shared.events.emit(&LoadEvent::Setup { sessions });
    progress.say(&format!(
        "{} sessions created in {:.1} s",
        grouped(sessions),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// After a death during set-up: every session is gone; waits, and reads the catalogue of the next life.
async fn wait_for_service(shared: &Arc<Shared>) {
    for cohort in &shared.cohorts {
        shared.census.lost(cohort.lock().forget().len() as u64);
    }
    let since = Instant::now();
    let mut backoff = population::Backoff::default();
    while shared.stop.reason().is_none() {
        if let Ok((catalogue, _)) = shared.librarian.map(&shared.gallery).await {
            *shared.catalogue.write() = Arc::new(catalogue);
            return;
        }
        if since.elapsed() > shared.plan.args.reconnect_for {
            shared.stop.set(StopReason::ServiceGone);
            return;
        }
        backoff.wait().await;
    }
}

async fn attack(
    shared: &Arc<Shared>,
    log: Option<LatencyLog>,
    progress: &mut Progress,
    load: &mut Load,
) -> Result<(), RunError> {
    let plan = &shared.plan;
    progress.say(&format!(
        "{}: {} sessions, {} switches/s, {} previews/s for {:.0} s over {} gateways (schedule {:016x})",
        plan.scenario.name(),
        grouped(shared.census.holding()),
        grouped(plan.switches_per_second() as u64),
        plan.previews_per_second,
        plan.duration.as_secs_f64(),
        plan.gateways,
        load.schedule_hash,
    ));
    host::stay_in_memory();
    let awake = match plan.args.cpus_may_sleep {
        true => None,
        false => Awake::keep()
            .inspect_err(|error| {
                progress.say(&format!("CPUs may sleep, and wake late: {error}"));
            })
            .ok(),
    };
    let (done, is_done) = watch::channel(false);
    let watching = monitor::watch(shared.clone(), log, progress.clone(), is_done);
    let monitor = monitor::start(watching).map_err(io_error("monitor"))?;
    let before = shared.target.requests();
    let goose = attack::run(shared).await;
    done.send_replace(true);
    shared
        .cohorts
        .iter()
        .for_each(|cohort| cohort.lock().admit_all());
    load.cpus_awake = awake.is_some();
    drop(awake);
    load.requests = shared.target.requests() - before;
    load.monitored = monitor
        .await
        .map_err(|_| io_error("monitor")(std::io::Error::other("its thread panicked")))?;
    load.goose = goose?;
    Ok(())
}

/// Frames still queued are looked at, every session is read back.
async fn conclude(shared: &Arc<Shared>, progress: &mut Progress) {
    if shared.stop.reason() != Some(StopReason::ServiceGone) && shared.gate.clock().is_some() {
        shared.events.phase("readback");
        let shown = Mutex::new(progress.clone());
        let counting = |read| {
            shown
                .lock()
                .counting(&format!("{} sessions read back", grouped(read)))
        };
        population::read_back(shared, &counting).await;
        *progress = shown.into_inner();
        progress.end();
    }
    let readers = shared.clone();
    // Joining threads blocks; the runtime has a place for that.
    let joined = tokio::task::spawn_blocking(move || readers.reader.finish()).await;
    if joined.is_err() {
        let words = "the threads that read frames could not be joined";
        shared.truth.lock().doubt(words.to_owned());
    }
}

/// Takes away what this run made, the sessions and the backgrounds, as far as that can be done in time. Where the service is
/// gone there is nobody to ask.
async fn tidy(shared: &Shared, progress: &mut Progress) {
    if shared.stop.reason() != Some(StopReason::ServiceGone) {
        let left = population::delete_all(shared).await;
        if left.there > 0 {
            let left = grouped(left.there);
            progress.warn(&format!(
                "{left} of the sessions that this run created are still in the service"
            ));
        }
        if left.perhaps > 0 {
            let left = grouped(left.perhaps);
            progress.warn(&format!(
                "{left} sessions more may be there: their creation was not answered"
            ));
        }
        let (librarian, gallery) = (&shared.librarian, &shared.gallery);
        take_back(
            &shared.plan,
            librarian,
            gallery,
            &shared.revisions,
            progress,
        )
        .await;
    }
}

/// Takes the backgrounds back that this run created, unless they are to be kept.
async fn take_back(
    plan: &Plan,
    librarian: &Librarian,
    gallery: &Gallery,
    revisions: &Revisions,
    progress: &mut Progress,
) {
    if plan.args.keep_backgrounds {
        return;
    }
    let removing = librarian.remove_created(gallery, revisions, TAKE_BACK_TIME);
    if let left @ [first, ..] = &removing.await[..] {
        progress.warn(&format!(
            "{} of the backgrounds that this run uploaded are still in the catalogue, {first} among them",
            left.len()
        ));
    }
}
