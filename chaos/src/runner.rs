//! A whole run: refuse leftovers, look at host and binaries, run each scenario with its controls, judge, write, undo.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use backdrop_reports::error::ReportError;
use backdrop_reports::record::{
    Build, FigureFacts, Host, Plan, RECORD_SCHEMA_VERSION, ReplayOf, RunRecord, ScenarioRecord,
    Verdict,
};
use backdrop_reports::scrape::Endpoint;

use crate::catalogue;
use crate::cli::{Command, ReplayArgs, RunArgs, ScenarioArgs, SearchArgs};
use crate::context::{self, BinaryError, Context};
use crate::exposed::Exposed;
use crate::host::lock::RunLock;
use crate::host::{
    self, CpuSet, Hierarchy, HostError, Placement, Reaper, UndoLog, scope, state_dir,
};
use crate::load;
use crate::progress::Progress;
use crate::record;
use crate::rig::{Stop, Stopper};
use crate::scenario::{BuildKind, Scenario, ScenarioError};
use crate::search::DrawError;
use crate::targets::Board;
use crate::units;
use crate::verdict;

mod judge;
mod request;
mod search;

use judge::Judge;
use request::Request;
use search::Searched;

/// File name of the simulator in the binaries' folder.
const SIMULATOR: &str = "backdrop-simulator";

/// Why a run could not be.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A scenario could not be had.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A scenario was named twice; both would share their logs.
    #[error("scenario `{name}` is named twice; each runs once")]
    Twice {
        /// Which.
        name: String,
    },
    /// A scenario was named whose mutant is asked for, and it has none.
    #[error("scenario `{name}` has no mutant; `explain mutants` names those that have one")]
    NoMutant {
        /// Which.
        name: String,
    },
    /// More than a record can be expected to hold.
    #[error(
        "{scenarios} scenarios {repeat} times are too many for one record: --repeat takes up to {most} for so many"
    )]
    TooMany {
        /// Scenarios asked for.
        scenarios: usize,
        /// Rounds asked for.
        repeat: u32,
        /// Rounds that so many scenarios may have.
        most: usize,
    },
    /// A binary.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// An earlier runner died and left things behind.
    #[error("an earlier run left things behind ({what}); `just chaos doctor --clean` undoes them")]
    Leftovers {
        /// Logs.
        what: String,
    },
    /// A file or folder.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A replay's photographs are gone.
    #[error(
        "the run showed the photographs of {path}, which cannot be read: {cause}; put them back there (the plan holds their sum), or run the scenarios anew with other ones: {command}",
        path = path.display()
    )]
    PhotographsGone {
        /// Their folder.
        path: PathBuf,
        /// Why not.
        cause: String,
        /// The run's own replay command.
        command: String,
    },
    /// A folder of photographs without any.
    #[error("--backgrounds {path} holds no file; name a folder of JPEG, PNG or WebP pictures", path = path.display())]
    NoPictures {
        /// Which.
        path: PathBuf,
    },
    /// The simulator does not tell the schedule of a load.
    #[error("planning {scenario}: {what}")]
    Schedule {
        /// Which scenario's load.
        scenario: String,
        /// Why not.
        what: String,
    },
    /// A search by expectations that no plan could meet.
    #[error(
        "`{name}` expects nothing but of its own faults, which a search leaves out; name a scenario with an expectation of any trial, `calm` is one"
    )]
    NothingExpected {
        /// The scenario.
        name: String,
    },
    /// A search has nothing to draw from.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// There is no run to replay.
    #[error(transparent)]
    Replay(ReportError),
    /// The record does not hold what a replay needs.
    #[error("{path} {what}; a command that does alike: {command}", path = path.display())]
    NotReplayable {
        /// The record.
        path: PathBuf,
        /// What it lacks.
        what: String,
        /// Its own replay command.
        command: String,
    },
    /// The record could not be written.
    #[error("writing the record: {0}")]
    Report(ReportError),
    /// Signals.
    #[error("listening for signals: {0}")]
    Signal(std::io::Error),
}

/// Runs what was asked for and returns the exit code.
///
/// # Errors
/// The run could not be, or its record could not be written. One that could not begin leaves nothing behind.
pub async fn run(args: RunArgs) -> Result<u8, RunError> {
    carry_out(|| Request::of_run(&args)).await
}

/// Whether a run could be asked for so: the scenarios are there, and what they need of flags and pictures.
///
/// # Errors
/// As [`run`], [`mutants`], [`search`] and [`replay`] before anything is touched.
pub fn check(command: &Command) -> Result<(), RunError> {
    match command {
        Command::Run(args) => Request::of_run(args).map(drop),
        Command::Mutants(args) => Request::of_mutants(args).map(drop),
        Command::Search(args) => Request::of_search(args).map(drop),
        Command::Replay(args) => Request::of_replay(args).map(drop),
        _ => Ok(()),
    }
}

/// Runs the mutation suite, all of it or what was asked for, and returns the exit code.
///
/// # Errors
/// As [`run`]; and if a scenario that was asked for has no mutant.
pub async fn mutants(args: ScenarioArgs) -> Result<u8, RunError> {
    carry_out(|| Request::of_mutants(&args)).await
}

/// Searches for a plan of faults that the service does not bear and returns the exit code.
///
/// # Errors
/// As [`run`]; and if the scenario leaves no room for a fault, or expects nothing of a trial with other faults than its own.
pub async fn search(args: SearchArgs) -> Result<u8, RunError> {
    carry_out(|| Request::of_search(&args)).await
}

/// Runs what an earlier run did and returns the exit code.
///
/// # Errors
/// As [`run`]; and if the earlier run's record is not there or does not hold what was run.
pub async fn replay(args: ReplayArgs) -> Result<u8, RunError> {
    carry_out(|| Request::of_replay(&args)).await
}

async fn carry_out(asked: impl FnOnce() -> Result<Request, RunError>) -> Result<u8, RunError> {
    let (stopper, stop) = Stopper::new();
    // Before anything that takes time: a person who thinks better of it at once gets a clean end, too.
    listen_for_signals(stopper)?;
    let request = tokio::task::block_in_place(asked)?;
    let exit = run_scenarios(request, stop).await;
    // The undo log is gone by now; its folder stays if another runner has one in it.
    let _ = std::fs::remove_dir(state_dir());
    exit
}

async fn run_scenarios(request: Request, stop: Stop) -> Result<u8, RunError> {
    // What can be asked for wrongly is looked at before anything is touched.
    let program = own_program()?;
    let bin_dir = &request.place.bin_dir;
    let bin_dir = std::path::absolute(bin_dir).map_err(io(bin_dir))?;
    let build = inspect(&program, &bin_dir, &request)?;
    let plans = plans(&request, &bin_dir.join(SIMULATOR))?;
    // Before what another run has under way could be taken for what it left behind.
    let _lock = match request.place.beside {
        true => RunLock::share(&state_dir())?,
        false => Some(RunLock::take(&state_dir())?),
    };
    refuse_leftovers()?;
    let (hierarchy, lacking) = detect(&program)?;
    let space = search::space(&request, &hierarchy)?;
    let host = host::host_facts(&hierarchy, lacking.as_ref());
    if stop.raised() {
        eprintln!(
            "interrupted before the first scenario: nothing was begun, and no record is written"
        );
        return Ok(Verdict::Inconclusive.exit());
    }
    let started = SystemTime::now();
    let undo = UndoLog::create(&state_dir())?;
    // Detecting the hierarchy may have moved processes aside; that is undone like everything else.
    let debt = hierarchy.debt();
    let _debt = debt.map(|d| undo.record(d)).transpose()?;
    let reaper = Reaper::start(&program, &undo)?;
    // What comes after the reaper is dropped before it, so that it stands by while that is undone, after a panic too.
    let _debt = _debt;
    let exposed = Arc::new(Exposed::default());
    let endpoint = endpoint(&exposed);
    let told = (exposed, endpoint.as_ref().map(Endpoint::address));
    let made = (hierarchy, undo, program);
    let context = set_up(&request, started, bin_dir, made, (stop, told))?;
    announce(&context, &request, (&host, &build), &plans);
    let mut judged = Judge {
        context: &context,
        request: &request,
        plans: &plans,
        controls: BTreeMap::new(),
    };
    let (records, searched) = match &space {
        None => (scenarios(&mut judged).await, None),
        Some((asked, space)) => {
            let (records, searched) = search::carry_out(&judged, asked, space).await?;
            (records, Some(searched))
        }
    };
    let interrupted = context.stop.raised();
    // The verdict needs to know what could not be undone.
    let left = clean_up(&context, reaper);
    let mut run = conclude(
        &request,
        &context,
        records,
        (started, host, build),
        (interrupted, &left),
        searched,
    );
    run.replay_of = request.replay_of(&plans, &run.build);
    backdrop_reports::render::write_all(&run, &context.dir).map_err(RunError::Report)?;
    print_end(&run, &context.dir);
    Ok(run.exit)
}

/// Every scenario, as often as was asked for.
async fn scenarios(judged: &mut Judge<'_>) -> Vec<ScenarioRecord> {
    let (context, request) = (judged.context, judged.request);
    let mut records = Vec::new();
    // Round by round and not scenario by scenario: what changes on the host in between meets all of them.
    let rounds = (1..=request.options.repeat).flat_map(|round| {
        let scenarios = request.scenarios.iter();
        scenarios.map(move |scenario| (round, scenario))
    });
    for (round, scenario) in rounds {
        if context.stop.raised() {
            break;
        }
        let record = judged.record(scenario, round).await;
        context.exposed.scenario(record.verdict);
        context.progress.note(&format!(
            "{}: {}: {}",
            record.label(),
            record.verdict.word(),
            record.reason
        ));
        records.push(record);
    }
    records
}

/// Answers a Prometheus while the run lasts, on a free port of loopback. The run does without if need be.
fn endpoint(exposed: &Arc<Exposed>) -> Option<Endpoint> {
    let exposed = exposed.clone();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Endpoint::start(any, move || exposed.text())
        .inspect_err(|error| tracing::warn!(%error, "the runner has no /metrics"))
        .ok()
}

/// What each scenario's trial is to be, by name: of the mutation suite, that of the intact service.
fn plans(request: &Request, simulator: &Path) -> Result<BTreeMap<String, Plan>, RunError> {
    let plan = |scenario: &Scenario| {
        let scenario = request.subject(scenario);
        let hash = load::schedule_hash(simulator, &scenario.load, request.seed);
        let hash = hash.map_err(|what| RunError::Schedule {
            scenario: scenario.name.clone(),
            what,
        })?;
        Ok((scenario.name.clone(), request.plan(&scenario, hash)))
    };
    request.scenarios.iter().map(plan).collect()
}

/// What a person is told before the first scenario.
fn announce(
    context: &Context,
    request: &Request,
    (host, build): (&Host, &Build),
    plans: &BTreeMap<String, Plan>,
) {
    let say = |text: String| context.progress.note(&text);
    let rounds = match request.options.repeat {
        1 => String::new(),
        n => format!(", {n} times"),
    };
    let what = match &request.search {
        Some(asked) => format!(
            "search of {} at most on {}",
            units::count(asked.runs_max as usize, "trial", "trials"),
            asked.words()
        ),
        None => units::count(request.scenarios.len(), "scenario", "scenarios"),
    };
    say(format!(
        "{what}{rounds}, seed {}, {}",
        context.seed,
        context.dir.display()
    ));
    for (name, plan) in plans {
        let (hash, schedule) = (&plan.hash, &plan.schedule_hash);
        say(format!("{name}: plan {hash}, schedule {schedule}"));
    }
    if let Some(replay) = request.replay_of(plans, build) {
        request.changed_files().into_iter().for_each(&say);
        say(replayed(&replay));
    }
    for lack in &host.lacks {
        say(format!("this host: {lack}"));
    }
}

/// Whether a replay does what the earlier run did, in words.
fn replayed(replay: &ReplayOf) -> String {
    let same = match replay.differences.as_slice() {
        [] => "plan and request schedule are the same".to_owned(),
        some => format!("NOT the same: {}", some.join("; ")),
    };
    let build = match replay.other_build.as_slice() {
        [] => "by the same commit and binaries".to_owned(),
        some => format!("by another build ({})", some.join(", ")),
    };
    format!("replay of {}: {same}, {build}", replay.id)
}

/// Where cells can be made, and why only the emulation is, if so. Where nothing can be made but the user's systemd delegates,
/// the program starts over in a scope of it and this does not return.
fn detect(program: &Path) -> Result<(Hierarchy, Option<HostError>), RunError> {
    match Hierarchy::detect() {
        Ok(hierarchy) => Ok((hierarchy, None)),
        Err(why) => {
            scope::enter(program, &why.to_string())?;
            Ok((Hierarchy::emulated(), Some(why)))
        }
    }
}

fn own_program() -> Result<PathBuf, RunError> {
    std::env::current_exe().map_err(|cause| RunError::Io {
        path: PathBuf::from("/proc/self/exe"),
        cause,
    })
}

fn refuse_leftovers() -> Result<(), RunError> {
    let left: Vec<_> = host::leftovers(&state_dir())?;
    if left.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = left
        .iter()
        .map(|l| format!("{} of pid {}", l.path.display(), l.runner.pid))
        .collect();
    Err(RunError::Leftovers {
        what: what.join(", "),
    })
}

fn listen_for_signals(stopper: Stopper) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.stop();
    });
    Ok(())
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_owned();
    move |cause| RunError::Io { path, cause }
}

/// Makes the run's folder, the last thing that can fail before the first scenario.
fn set_up(
    request: &Request,
    started: SystemTime,
    bin_dir: PathBuf,
    (hierarchy, undo, program): (Hierarchy, UndoLog, PathBuf),
    (stop, (exposed, metrics)): (Stop, (Arc<Exposed>, Option<SocketAddr>)),
) -> Result<Context, RunError> {
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(io(path));
    let (place, seed) = (&request.place, request.seed);
    let placement = Placement::decide(&CpuSet::allowed()?);
    placement.simulator.pin(std::process::id())?;
    std::fs::create_dir_all(&place.cache_dir).map_err(io(&place.cache_dir))?;
    let cache_dir = absolute(&place.cache_dir)?;
    std::fs::create_dir_all(&place.out).map_err(io(&place.out))?;
    let run = format!("{}-{seed}", units::compact_utc(started));
    let dir = absolute(&place.out)?.join(run);
    std::fs::create_dir_all(&dir).map_err(io(&dir))?;
    Ok(Context {
        board: Board::new(&dir, metrics, &undo)?,
        exposed,
        simulator: bin_dir.join(SIMULATOR),
        bin_dir,
        hierarchy,
        placement,
        undo,
        program,
        dir,
        seed,
        backgrounds: request.options.backgrounds.as_ref().map(PathBuf::from),
        cache_dir,
        keep_data: place.keep_data,
        allow_emulated: request.options.allow_emulated,
        stop,
        progress: Arc::new(Progress::default()),
    })
}

/// Every build that the scenarios and their controls need, or their mutants.
fn inspect(program: &Path, bin_dir: &Path, request: &Request) -> Result<Build, RunError> {
    let mut kinds = Vec::new();
    for scenario in &request.scenarios {
        if let Some(mutant) = request.mutant(scenario) {
            kinds.push(mutant.target.build);
            continue;
        }
        kinds.push(scenario.target.build);
        let lent = request.lender(scenario).map(|other| &other.controls);
        let controls = scenario.controls.iter().chain(lent.into_iter().flatten());
        kinds.extend(controls.map(|c| c.target.build));
    }
    let needed: Vec<_> = BuildKind::ALL
        .into_iter()
        .filter(|k| kinds.contains(k))
        .collect();
    let mut binaries = vec![
        context::inspect_runner(program)?,
        context::inspect_simulator(&bin_dir.join(SIMULATOR))?,
    ];
    for kind in needed {
        binaries.push(context::inspect_service(bin_dir, kind)?);
    }
    Ok(Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        binaries,
    })
}

/// Commit of the checkout we run in, `+dirty` if it was changed; empty outside one.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git")
            .args(args)
            .output()
            .ok()
            .filter(|o| o.status.success())?;
        String::from_utf8(output.stdout)
            .ok()
            .map(|s| s.trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else {
        return String::new();
    };
    let dirty = git(&["status", "--porcelain"]).is_some_and(|s| !s.is_empty());
    format!("{head}{}", if dirty { "+dirty" } else { "" })
}

fn conclude(
    request: &Request,
    context: &Context,
    scenarios: Vec<ScenarioRecord>,
    (started, host, build): (SystemTime, Host, Build),
    (interrupted, left): (bool, &[String]),
    searched: Option<Searched>,
) -> RunRecord {
    let labels: Vec<_> = scenarios.iter().map(ScenarioRecord::label).collect();
    let verdicts: Vec<_> = scenarios
        .iter()
        .zip(&labels)
        .map(|(s, label)| (label.as_str(), s.verdict, s.reason.as_str()))
        .collect();
    let (verdict, reason) = match &searched {
        Some(searched) => verdict::of_search(&verdicts, searched.found_words(), interrupted, left),
        None if request.is_of_mutants() => verdict::of_mutants(&verdicts, interrupted, left),
        None => verdict::of_run(&verdicts, interrupted, left),
    };
    let mut definitions = request.definitions();
    let search = searched.map(|searched| {
        definitions.extend(searched.definitions);
        searched.record
    });
    RunRecord {
        schema_version: RECORD_SCHEMA_VERSION,
        id: context
            .dir
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
        started_at: units::rfc3339(started),
        finished_at: units::rfc3339(SystemTime::now()),
        seed: context.seed,
        suite: request.suite.clone(),
        replay: request.command(None),
        verdict,
        exit: verdict.exit(),
        reason,
        figures: figure_facts(&scenarios),
        scenarios,
        host,
        build,
        options: request.options.clone(),
        replay_of: None,
        definitions,
        search,
    }
}

/// What the figures of these scenarios and their controls are.
fn figure_facts(scenarios: &[ScenarioRecord]) -> BTreeMap<String, FigureFacts> {
    let of = |s: &ScenarioRecord| {
        let controls = s.controls.iter().flat_map(|c| c.figures.keys());
        s.figures
            .keys()
            .chain(controls)
            .cloned()
            .collect::<Vec<_>>()
    };
    let known = |name: String| catalogue::find_windowed(&name);
    let specs = scenarios.iter().flat_map(of).filter_map(known);
    specs
        .map(|spec| (spec.name.to_owned(), spec.facts()))
        .collect()
}

/// Undoes what is left; what could not be undone, in words.
fn clean_up(context: &Context, reaper: Reaper) -> Vec<String> {
    let mut left = context.undo.undo_all().failed;
    left.extend(reaper.dismiss().err().map(|e| e.to_string()));
    // The folder stays if --keep-data left something in it.
    host::unmark_empty(&context.dir.join("data"));
    for line in &left {
        context.progress.note(&format!("not undone: {line}"));
    }
    left
}

fn print_end(run: &RunRecord, dir: &Path) {
    let mut out = record::table(run);
    if let Some(replay) = &run.replay_of {
        out.push_str(&format!("{}\n", replayed(replay)));
    }
    out.push_str(&format!(
        "report: {}\nreplay: {}\n",
        dir.join("index.html").display(),
        run.replay
    ));
    let mut stdout = std::io::stdout().lock();
    // A closed pipe is no reason for another exit code.
    let _ = std::io::Write::write_all(&mut stdout, out.as_bytes());
}
