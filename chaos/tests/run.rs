//! The real runner against a stand-in service and simulator: exit codes, controls, and that nothing is left behind.
//!
//! Cells are real where the host allows them; elsewhere the emulation stands in, which these runs accept.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use backdrop_reports::record::{RunRecord, Verdict};

mod standin;

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

const SCENARIO: &str = r#"name = "small"
title = "t"
story = "s"
[target]
build = "plain"
memory_limit = "96MiB"
[load]
scenario = "switch-storm"
sessions = 300
duration = "5s"
[[expect]]
name = "no-kill"
text = "x"
figure = "service_oom_kills"
relation = "=="
bound = 0
unit = "kills"
[[expect]]
name = "nothing-lost"
text = "x"
figure = "lost_switches"
relation = "=="
bound = 0
unit = "switches"
"#;

const KILLED: &str = r#"[[control]]
name = "eats"
story = "s"
expected = "killed"
[control.target]
args = ["--eat"]
"#;

const LOSES: &str = r#"[[control]]
name = "loses"
story = "s"
expected = "deviated:nothing-lost"
[control.load]
duration = "1s"
args = ["--lose", "3"]
"#;

/// A folder with the stand-in under the names of all binaries, and a scenario.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(scenario: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        standin::install(dir.path(), "stands_in");
        fs::write(dir.path().join("small.toml"), scenario).unwrap();
        Self { dir }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"));
        let path = |name: &str| self.dir.path().join(name);
        command
            .arg("run")
            .arg(path("small.toml"))
            .arg("--bin-dir")
            .arg(self.dir.path());
        command
            .args(["--allow-emulated", "--seed", "7", "--out"])
            .arg(path("out"));
        command.arg("--cache-dir").arg(path("cache"));
        command
    }

    fn run(&self) -> (Option<i32>, RunRecord) {
        let output = self.command().output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            self.record()
                .unwrap_or_else(|| panic!("no record: {words}")),
        )
    }

    fn record(&self) -> Option<RunRecord> {
        let text = fs::read_to_string(self.dir.path().join("out/latest/run.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }
}

fn nothing_left(record: &RunRecord) {
    for scenario in &record.scenarios {
        let trials = scenario
            .controls
            .iter()
            .map(|c| &c.evidence)
            .chain([&scenario.evidence]);
        for evidence in trials {
            assert!(evidence.undone);
            assert!(
                !Path::new(&evidence.cgroup_path).exists(),
                "{}",
                evidence.cgroup_path
            );
            for process in &evidence.service_processes {
                let stat =
                    fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap_or_default();
                let start = stat
                    .rsplit(')')
                    .next()
                    .and_then(|rest| rest.split_whitespace().nth(19));
                assert_ne!(
                    start,
                    Some(process.start_ticks.to_string().as_str()),
                    "the service lives on"
                );
            }
        }
    }
}

#[test]
fn a_flawless_load_holds_and_its_controls_do_what_is_demanded() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}{LOSES}"));
    let (code, record) = bench.run();
    let scenario = &record.scenarios[0];
    assert_eq!(
        (code, record.verdict),
        (Some(0), Verdict::Held),
        "{}",
        record.reason
    );
    let outcomes: Vec<_> = scenario
        .controls
        .iter()
        .map(|c| c.observed.as_str())
        .collect();
    assert_eq!(outcomes, ["killed", "deviated:nothing-lost"]);
    let killed = &scenario.controls[0].evidence;
    assert!(killed.service_oom_kills >= 1 && killed.service_processes.len() == 1);
    assert!(!scenario.trial.timeline.t_s.is_empty());
    assert!(
        scenario
            .trial
            .logs
            .iter()
            .any(|l| l.ends_with("service.log"))
    );
    let binaries = &record.build.binaries;
    assert!(
        binaries
            .iter()
            .any(|b| b.path.ends_with("backdrop-chaos") && b.sha256.len() == 64),
        "{binaries:?}"
    );
    nothing_left(&record);
    let out = bench.dir.path().join("out/latest");
    assert!(out.join("index.html").is_file() && out.join("junit.xml").is_file());
    assert!(!out.join("data").exists(), "the data folder is gone");
}

#[test]
fn a_lost_switch_deviates_and_a_toothless_control_is_inconclusive() {
    let lossy = SCENARIO.replace(
        "duration = \"5s\"",
        "duration = \"1s\"\nargs = [\"--lose\", \"1\"]",
    );
    let (code, record) = Bench::new(&format!("{lossy}{KILLED}")).run();
    assert_eq!(
        (code, record.verdict),
        (Some(1), Verdict::Deviated),
        "{}",
        record.reason
    );
    let toothless = KILLED.replace("[\"--eat\"]", "[]");
    let brief = SCENARIO.replace("\"5s\"", "\"1s\"");
    let (code, record) = Bench::new(&format!("{brief}{toothless}")).run();
    assert_eq!(
        (code, record.verdict),
        (Some(2), Verdict::Inconclusive),
        "{}",
        record.reason
    );
    assert!(record.reason.contains("no teeth"), "{}", record.reason);
}

#[test]
fn a_service_that_crashes_deviates_and_its_controls_are_run() {
    let crashing = SCENARIO.replace("memory_limit", "args = [\"--crash\"]\nmemory_limit");
    // As long as the scenario itself, so that it crashes too.
    let control = LOSES.replace("duration = \"1s\"\n", "");
    let (code, record) = Bench::new(&format!("{crashing}{control}")).run();
    assert_eq!(
        (code, record.verdict),
        (Some(1), Verdict::Deviated),
        "{}",
        record.reason
    );
    let scenario = &record.scenarios[0];
    assert!(
        scenario.reason.contains("ended by itself"),
        "{}",
        scenario.reason
    );
    assert!(scenario.reason.contains("signal 6"), "{}", scenario.reason);
    assert_eq!(scenario.evidence.service_processes.len(), 1);
    assert_eq!(
        scenario.controls.len(),
        1,
        "the control was run all the same"
    );
    assert_eq!(scenario.controls[0].observed, "crashed");
    nothing_left(&record);
}

#[test]
fn a_service_that_cannot_start_deviates() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let path = bench.dir.path().join("backdrop-service");
    let script = fs::read_to_string(&path).unwrap();
    let (version, _) = script.split_once("&& exit\n").unwrap();
    fs::write(&path, format!("{version}&& exit\nexit 3\n")).unwrap();
    let (code, record) = bench.run();
    assert_eq!(code, Some(1), "{}", record.reason);
    let reason = &record.scenarios[0].reason;
    assert!(
        reason.contains("before it was ready") && reason.contains("exited 3"),
        "{reason}"
    );
    nothing_left(&record);
}

#[test]
fn a_scenario_named_twice_is_refused() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let output = bench
        .command()
        .arg(bench.dir.path().join("small.toml"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{words}");
    assert!(words.contains("`small` is named twice"), "{words}");
}

#[test]
fn what_cannot_run_is_an_error() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    fs::remove_file(bench.dir.path().join("backdrop-service")).unwrap();
    let output = bench.command().output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--bin-dir"));
    let bench = Bench::new(&SCENARIO.replace("\"plain\"", "\"fast\""));
    let output = bench.command().output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("small.toml:5:9"));
}

#[test]
#[expect(unsafe_code, reason = "std sends no signals")]
fn an_interrupted_run_undoes_everything_and_writes_what_there_is() {
    let long = SCENARIO.replace("\"5s\"", "\"600s\"");
    let bench = Bench::new(&format!("{long}{KILLED}"));
    let mut child = bench
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // A line of progress with a rate is printed once the load runs.
    assert!(
        lines.any(|l| l.unwrap().contains("/s | p99")),
        "the load never began"
    );
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: a plain system call on a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let record = bench.record().expect("a record is written");
    assert_eq!(record.verdict, Verdict::Inconclusive, "{}", record.reason);
    assert_eq!(record.scenarios.len(), 1);
    assert!(
        record.scenarios[0].controls.is_empty(),
        "no control was begun after the interrupt"
    );
    nothing_left(&record);
}

#[test]
fn a_wrong_flag_is_not_the_verdict_inconclusive() {
    let exit = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"))
            .args(args)
            .output()
            .expect("the runner");
        output.status.code()
    };
    assert_eq!(exit(&["run", "--bogus"]), Some(255));
    assert_eq!(exit(&["run", "--attempts", "0"]), Some(255));
    assert_eq!(exit(&["--help"]), Some(0));
}
