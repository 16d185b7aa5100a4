//! A whole run: refuse leftovers, look at host and binaries, run each scenario with its controls, judge, write, undo.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use backdrop_reports::record::{Build, Host, RECORD_SCHEMA_VERSION, RunRecord, ScenarioRecord};
use backdrop_reports::scrape::Endpoint;

use crate::cli::RunArgs;
use crate::context::{self, BinaryError, Context};
use crate::exposed::Exposed;
use crate::host::{
    self, CpuSet, Hierarchy, HostError, Placement, Reaper, UndoLog, scope, state_dir,
};
use crate::progress::Progress;
use crate::record;
use crate::rig::{Stop, Stopper};
use crate::scenario::{BuildKind, Scenario, ScenarioError, library};
use crate::targets::Board;
use crate::units;
use crate::verdict;

mod judge;

use judge::Judge;

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
    /// A folder of photographs without any.
    #[error("--backgrounds {path} holds no file; name a folder of JPEG, PNG or WebP pictures", path = path.display())]
    NoPictures {
        /// Which.
        path: PathBuf,
    },
    /// The record could not be written.
    #[error("writing the record: {0}")]
    Report(backdrop_reports::error::ReportError),
    /// Signals.
    #[error("listening for signals: {0}")]
    Signal(std::io::Error),
}

/// Runs what was asked for and returns the exit code.
///
/// # Errors
/// The run could not be, or its record could not be written. One that could not begin leaves nothing behind.
pub async fn run(args: RunArgs) -> Result<u8, RunError> {
    let exit = run_scenarios(args).await;
    // The undo log is gone by now; its folder stays if another runner has one in it.
    let _ = std::fs::remove_dir(state_dir());
    exit
}

async fn run_scenarios(args: RunArgs) -> Result<u8, RunError> {
    // What can be asked for wrongly is looked at before anything is touched.
    let scenarios = scenarios(&args)?;
    if let Some(dir) = &args.backgrounds {
        holds_files(dir)?;
    }
    let program = own_program()?;
    let bin_dir = std::path::absolute(&args.bin_dir).map_err(io(&args.bin_dir))?;
    let build = inspect(&program, &bin_dir, &scenarios)?;
    refuse_leftovers()?;
    let (hierarchy, lacking) = detect(&program)?;
    let host = host::host_facts(&hierarchy, lacking.as_ref());
    let (stopper, stop) = Stopper::new();
    listen_for_signals(stopper)?;
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
    let context = set_up(&args, started, bin_dir, made, (stop, told))?;
    context.progress.note(&format!(
        "{} scenarios, seed {}, {}",
        scenarios.len(),
        context.seed,
        context.dir.display()
    ));
    for lack in &host.lacks {
        context.progress.note(&format!("this host: {lack}"));
    }
    let mut judged = Judge {
        context: &context,
        args: &args,
        controls: BTreeMap::new(),
    };
    let mut records = Vec::new();
    for scenario in &scenarios {
        if context.stop.raised() {
            break;
        }
        let record = judged.scenario(scenario).await?;
        context.exposed.scenario(record.verdict);
        context.progress.note(&format!(
            "{}: {}: {}",
            record.name,
            record.verdict.word(),
            record.reason
        ));
        records.push(record);
    }
    let interrupted = context.stop.raised();
    // The verdict needs to know what could not be undone.
    let left = clean_up(&context, reaper);
    let run = conclude(
        &args,
        &context,
        records,
        (started, host, build),
        (interrupted, &left),
    );
    backdrop_reports::render::write_all(&run, &context.dir).map_err(RunError::Report)?;
    print_end(&run, &context.dir);
    Ok(run.exit)
}

/// Answers a Prometheus while the run lasts, on a free port of loopback. The run does without if need be.
fn endpoint(exposed: &Arc<Exposed>) -> Option<Endpoint> {
    let exposed = exposed.clone();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Endpoint::start(any, move || exposed.text())
        .inspect_err(|error| tracing::warn!(%error, "the runner has no /metrics"))
        .ok()
}

/// Whether the folder can be read and is not empty. Which of its files are pictures is for the simulator to say.
fn holds_files(dir: &Path) -> Result<(), RunError> {
    let entries = std::fs::read_dir(dir).map_err(|cause| RunError::Io {
        path: dir.to_owned(),
        cause,
    })?;
    let mut files = entries.flatten().filter(|entry| entry.path().is_file());
    match files.next() {
        Some(_) => Ok(()),
        None => Err(RunError::NoPictures {
            path: dir.to_owned(),
        }),
    }
}

fn scenarios(args: &RunArgs) -> Result<Vec<Scenario>, RunError> {
    if args.names.is_empty() {
        return Ok(library::suite(&args.suite)?);
    }
    let found: Vec<Scenario> = args
        .names
        .iter()
        .map(|n| library::find(n))
        .collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    match found.iter().find(|s| !names.insert(s.name.as_str())) {
        Some(again) => Err(RunError::Twice {
            name: again.name.clone(),
        }),
        None => Ok(found),
    }
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
    args: &RunArgs,
    started: SystemTime,
    bin_dir: PathBuf,
    (hierarchy, undo, program): (Hierarchy, UndoLog, PathBuf),
    (stop, (exposed, metrics)): (Stop, (Arc<Exposed>, Option<SocketAddr>)),
) -> Result<Context, RunError> {
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(io(path));
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let placement = Placement::decide(&CpuSet::allowed()?);
    placement.simulator.pin(std::process::id())?;
    let backgrounds = args.backgrounds.as_deref().map(absolute).transpose()?;
    std::fs::create_dir_all(&args.cache_dir).map_err(io(&args.cache_dir))?;
    let cache_dir = absolute(&args.cache_dir)?;
    std::fs::create_dir_all(&args.out).map_err(io(&args.out))?;
    let run = format!("{}-{seed}", units::compact_utc(started));
    let dir = absolute(&args.out)?.join(run);
    std::fs::create_dir_all(&dir).map_err(io(&dir))?;
    Ok(Context {
        board: Board::new(&dir, metrics),
        exposed,
        simulator: bin_dir.join(SIMULATOR),
        bin_dir,
        hierarchy,
        placement,
        undo,
        program,
        dir,
        seed,
        backgrounds,
        cache_dir,
        keep_data: args.keep_data,
        allow_emulated: args.allow_emulated,
        stop,
        progress: Arc::new(Progress::default()),
    })
}

/// Every build that the scenarios and their controls need.
fn inspect(program: &Path, bin_dir: &Path, scenarios: &[Scenario]) -> Result<Build, RunError> {
    let mut kinds = Vec::new();
    for scenario in scenarios {
        kinds.push(scenario.target.build);
        kinds.extend(scenario.controls.iter().map(|c| c.target.build));
        if let Some(other) = &scenario.controls_of {
            kinds.extend(
                library::find(other)?
                    .controls
                    .iter()
                    .map(|c| c.target.build),
            );
        }
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
        let output = Command::new("git")
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
    args: &RunArgs,
    context: &Context,
    scenarios: Vec<ScenarioRecord>,
    (started, host, build): (SystemTime, Host, Build),
    (interrupted, left): (bool, &[String]),
) -> RunRecord {
    let verdicts: Vec<_> = scenarios
        .iter()
        .map(|s| (s.name.as_str(), s.verdict, s.reason.as_str()))
        .collect();
    let (verdict, reason) = verdict::of_run(&verdicts, interrupted, left);
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
        suite: if args.names.is_empty() {
            args.suite.clone()
        } else {
            "named".to_owned()
        },
        replay: args.replay(None, context.seed),
        verdict,
        exit: verdict.exit(),
        reason,
        scenarios,
        host,
        build,
    }
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
    out.push_str(&format!(
        "report: {}\nreplay: {}\n",
        dir.join("index.html").display(),
        run.replay
    ));
    let mut stdout = std::io::stdout().lock();
    // A closed pipe is no reason for another exit code.
    let _ = std::io::Write::write_all(&mut stdout, out.as_bytes());
}
