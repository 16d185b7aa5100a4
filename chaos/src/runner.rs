//! A whole run: refuse leftovers, look at host and binaries, run each scenario with its controls, judge, write, undo.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use backdrop_reports::record::{
    Build, Control, Host, RECORD_SCHEMA_VERSION, RunRecord, ScenarioRecord, SetAside, Verdict,
};

use crate::cli::RunArgs;
use crate::context::{self, BinaryError, Context};
use crate::expect;
use crate::figures::{self, Figures};
use crate::host::{
    self, CpuSet, Hierarchy, HostError, Placement, Reaper, UndoLog, scope, state_dir,
};
use crate::observed::{Observed, Plan};
use crate::progress::Progress;
use crate::record;
use crate::rig::{Stop, Stopper};
use crate::scenario::{BuildKind, ControlPlan, Expect, Load, Scenario, ScenarioError, library};
use crate::steady::{self, SteadyState};
use crate::trial::{self, TrialPlan, TrialSeen, simulator_facts};
use crate::units;
use crate::verdict::{self, ControlFacts, ControlSeen, Facts};

/// Exit code after SIGINT or SIGTERM.
const INTERRUPTED: u8 = 130;

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
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The record could not be written.
    #[error("writing the record: {0}")]
    Report(#[from] backdrop_reports::error::ReportError),
    /// Signals.
    #[error("listening for signals: {0}")]
    Signal(std::io::Error),
}

/// Runs what was asked for and returns the exit code.
///
/// # Errors
/// The run could not be, or its record could not be written.
pub async fn run(args: RunArgs) -> Result<u8, RunError> {
    let scenarios = scenarios(&args)?;
    let program = own_program()?;
    let (hierarchy, lacking) = detect(&program)?;
    let host = host::host_facts(&hierarchy, lacking.as_ref());
    refuse_leftovers()?;
    let (stopper, stop) = Stopper::new();
    listen_for_signals(stopper)?;
    let started = SystemTime::now();
    let seed = args
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let context = set_up(&args, seed, started, (hierarchy, program), stop)?;
    let build = inspect(&context, &scenarios)?;
    // Detecting the hierarchy may have moved processes aside; that is undone like everything else.
    let debt = context.hierarchy.debt();
    let _debt = debt.map(|d| context.undo.record(d)).transpose()?;
    let reaper = Reaper::start(&context.program, &context.undo)?;
    // Dropped before the reaper, so that a panic here undoes while the reaper still stands by.
    let (context, _debt) = (context, _debt);
    context.progress.note(&format!(
        "{} scenarios, seed {seed}, {}",
        scenarios.len(),
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
    backdrop_reports::render::write_all(&run, &context.dir)?;
    print_end(&run, &context.dir);
    // The last handle of the undo log deletes its file; the folder stays if another runner has one in it.
    drop(context);
    let _ = std::fs::remove_dir(state_dir());
    Ok(if interrupted { INTERRUPTED } else { run.exit })
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
    std::env::current_exe().map_err(|source| RunError::Io {
        path: PathBuf::from("/proc/self/exe"),
        source,
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

fn set_up(
    args: &RunArgs,
    seed: u64,
    started: SystemTime,
    (hierarchy, program): (Hierarchy, PathBuf),
    stop: Stop,
) -> Result<Context, RunError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Io { path, source }
    };
    let dir = args
        .out
        .join(format!("{}-{seed}", units::compact_utc(started)));
    std::fs::create_dir_all(&dir).map_err(io(&dir))?;
    std::fs::create_dir_all(&args.cache_dir).map_err(io(&args.cache_dir))?;
    let absolute = |path: &Path| std::fs::canonicalize(path).map_err(io(path));
    let bin_dir = absolute(&args.bin_dir)?;
    let placement = Placement::decide(&CpuSet::allowed()?);
    placement.simulator.pin(std::process::id())?;
    Ok(Context {
        simulator: bin_dir.join("backdrop-simulator"),
        bin_dir,
        hierarchy,
        placement,
        undo: UndoLog::create(&state_dir())?,
        program,
        dir: absolute(&dir)?,
        seed,
        backgrounds: args.backgrounds.as_deref().map(absolute).transpose()?,
        cache_dir: absolute(&args.cache_dir)?,
        keep_data: args.keep_data,
        allow_emulated: args.allow_emulated,
        stop,
        progress: Arc::new(Progress::default()),
    })
}

/// Every build that the scenarios and their controls need.
fn inspect(context: &Context, scenarios: &[Scenario]) -> Result<Build, RunError> {
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
        context::inspect_runner(&context.program)?,
        context::inspect_simulator(&context.simulator)?,
    ];
    for kind in needed {
        binaries.push(context::inspect_service(&context.bin_dir, kind)?);
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

/// Runs and judges scenarios; remembers controls, so that one that serves two scenarios runs once.
struct Judge<'a> {
    context: &'a Context,
    args: &'a RunArgs,
    controls: BTreeMap<(String, String), Control>,
}

impl Judge<'_> {
    async fn scenario(&mut self, scenario: &Scenario) -> Result<ScenarioRecord, RunError> {
        self.context
            .progress
            .note(&format!("\n{}: {}", scenario.name, scenario.title));
        let plan = TrialPlan {
            name: scenario.name.clone(),
            target: scenario.target.clone(),
            load: scenario.load.clone(),
            faults: scenario.faults.clone(),
        };
        let verdict_of = |seen: &TrialSeen| {
            let weighed = Weighed::of(&seen.observed, &plan.load, scenario, &scenario.expects);
            let (verdict, reason) =
                verdict::judge(&weighed.facts(&seen.observed, &[], self.context));
            (verdict.word().to_owned(), reason)
        };
        let (seen, mut set_aside) = self.attempt(&plan, Verdict::Held.word(), verdict_of).await;
        let mut controls = Vec::new();
        if seen.observed.failure.is_none() {
            for control in &scenario.controls {
                controls.extend(self.control(scenario, control, &mut set_aside).await);
            }
            if let Some(other) = &scenario.controls_of {
                let other = library::find(other)?;
                for control in &other.controls {
                    controls.extend(self.control(&other, control, &mut set_aside).await);
                }
            }
        }
        Ok(self.judge(scenario, &seen, controls, set_aside))
    }

    /// Runs a trial, and again while a busy host keeps it from coming out as `wanted`: the last attempt, and those set aside.
    /// What came out otherwise on a quiet host is never tried again.
    async fn attempt(
        &self,
        plan: &TrialPlan,
        wanted: &str,
        outcome_of: impl Fn(&TrialSeen) -> (String, String),
    ) -> (TrialSeen, Vec<SetAside>) {
        let mut set_aside = Vec::new();
        for number in 1.. {
            let mut plan = plan.clone();
            if number > 1 {
                plan.name = format!("{}.attempt-{number}", plan.name);
            }
            let seen = trial::run(self.context, &plan).await;
            let (outcome, reason) = outcome_of(&seen);
            let busy = verdict::busy_host(simulator_facts(&seen.observed), &seen.observed.evidence);
            let again = busy
                && outcome == Verdict::Inconclusive.word()
                && outcome != wanted
                && number < self.args.attempts
                && !self.context.stop.raised();
            if !again {
                return (seen, set_aside);
            }
            self.context.progress.note(&format!(
                "{}: {outcome}: {reason}; the host was busy, attempt {} of {} follows",
                plan.name,
                number + 1,
                self.args.attempts
            ));
            set_aside.push(SetAside {
                trial: plan.name,
                outcome,
                reason,
                logs: seen.logs,
            });
        }
        unreachable!("the last attempt returns")
    }

    /// None if a person interrupted before it began.
    async fn control(
        &mut self,
        scenario: &Scenario,
        control: &ControlPlan,
        set_aside: &mut Vec<SetAside>,
    ) -> Option<Control> {
        let key = (scenario.name.clone(), control.name.clone());
        if let Some(known) = self.controls.get(&key) {
            return Some(known.clone());
        }
        if self.context.stop.raised() {
            return None;
        }
        let name = format!("{}.{}", scenario.name, control.name);
        self.context
            .progress
            .note(&format!("{name}: must come out as {}", control.expected));
        let plan = TrialPlan {
            name,
            target: control.target.clone(),
            load: control.load.clone(),
            faults: control.faults.clone(),
        };
        let expected = control.expected.to_string();
        let outcome_of = |seen: &TrialSeen| {
            let record = self.judge_control(scenario, control, seen);
            (record.observed, record.reason)
        };
        let (seen, again) = self.attempt(&plan, &expected, outcome_of).await;
        set_aside.extend(again);
        let record = self.judge_control(scenario, control, &seen);
        self.context.progress.note(&format!(
            "{}: {} ({})",
            plan.name, record.observed, record.reason
        ));
        if !self.context.stop.raised() {
            self.controls.insert(key, record.clone());
        }
        Some(record)
    }

    fn judge(
        &self,
        scenario: &Scenario,
        seen: &TrialSeen,
        controls: Vec<Control>,
        set_aside: Vec<SetAside>,
    ) -> ScenarioRecord {
        let weighed = Weighed::of(&seen.observed, &scenario.load, scenario, &scenario.expects);
        let control_facts: Vec<_> = controls.iter().map(control_facts).collect();
        let facts = weighed.facts(&seen.observed, &control_facts, self.context);
        let (verdict, reason) = verdict::judge(&facts);
        let mut evidence = seen.observed.evidence.clone();
        evidence.doubts = verdict::doubts(&facts);
        ScenarioRecord {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            story: scenario.story.clone(),
            verdict,
            reason,
            replay: self.args.replay(Some(&scenario.name), self.context.seed),
            set_aside,
            expectations: weighed.expectations,
            trial: record::trial(seen),
            controls,
            evidence,
            figures: record::values(&weighed.figures),
        }
    }

    fn judge_control(
        &self,
        scenario: &Scenario,
        control: &ControlPlan,
        seen: &TrialSeen,
    ) -> Control {
        let expects: Vec<_> = scenario
            .expects
            .iter()
            .filter(|e| has_window(e, &control.load))
            .cloned()
            .collect();
        let weighed = Weighed::of(&seen.observed, &control.load, scenario, &expects);
        let facts = weighed.facts(&seen.observed, &[], self.context);
        let control_seen = ControlSeen {
            facts,
            kill_proven: seen.observed.oracle.service_seen_dying,
            killed_s: seen.observed.killed_s(),
            entries_shed: weighed.figures.get("entries_shed").map_or(0.0, |f| f.value),
        };
        let (observed, reason) = verdict::outcome(&control_seen, &control.expected);
        let mut evidence = seen.observed.evidence.clone();
        evidence.doubts = verdict::doubts(&facts);
        Control {
            name: control.name.clone(),
            story: control.story.clone(),
            expected: control.expected.to_string(),
            as_expected: observed == control.expected.to_string(),
            observed,
            reason,
            trial: record::trial(seen),
            evidence,
            figures: record::values(&weighed.figures),
        }
    }
}

/// An expectation on a window that a shorter load does not have says nothing about it.
fn has_window(expect: &Expect, load: &Load) -> bool {
    expect
        .figure
        .split_once('.')
        .is_none_or(|(_, window)| load.windows.iter().any(|w| w.name == window))
}

fn control_facts(control: &Control) -> ControlFacts {
    ControlFacts {
        name: control.name.clone(),
        expected: control.expected.clone(),
        observed: control.observed.clone(),
        as_expected: control.as_expected,
        undone: control.evidence.undone,
    }
}

/// Observations made into figures and judged expectations.
struct Weighed {
    figures: Figures,
    expectations: Vec<backdrop_reports::record::Expectation>,
    steady: SteadyState,
}

impl Weighed {
    fn of(observed: &Observed, load: &Load, scenario: &Scenario, expects: &[Expect]) -> Self {
        let plan = Plan {
            load,
            steady: &scenario.steady,
            recovery: scenario.recovery.as_ref(),
        };
        let figures = figures::compute(observed, plan);
        let busy_host = verdict::busy_host(simulator_facts(observed), &observed.evidence);
        let expectations = expect::evaluate(expects, &figures, busy_host);
        Self {
            figures,
            expectations,
            steady: steady::before_faults(observed, plan),
        }
    }

    fn facts<'a>(
        &'a self,
        observed: &'a Observed,
        controls: &'a [ControlFacts],
        context: &Context,
    ) -> Facts<'a> {
        Facts {
            failure: observed.failure.as_deref(),
            crash: observed.crash.as_deref(),
            blind_spots: &observed.blind_spots,
            expectations: &self.expectations,
            faults: &observed.faults,
            evidence: &observed.evidence,
            simulator: simulator_facts(observed),
            ended_early: observed
                .load
                .as_ref()
                .and_then(|l| l.ended_early.as_deref()),
            steady: &self.steady,
            controls,
            allow_emulated: context.allow_emulated,
            interrupted: context.stop.raised(),
        }
    }
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
