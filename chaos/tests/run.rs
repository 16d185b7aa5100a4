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

/// A load that is long enough for faults, and is steady before them.
fn faulty(faults: &str) -> String {
    let (head, expects) = SCENARIO.split_once("[[expect]]").unwrap();
    let head = head.replace("\"5s\"", "\"10s\"");
    let control = LOSES.replace("expected", "faults = []\nexpected");
    format!("{head}[steady]\nfrom = \"0s\"\n{faults}[[expect]]{expects}{control}")
}

const PRESSED: &str = r#"[[fault]]
name = "cache"
kind = "page_cache"
amount = "16MiB"
at = "4s"
for = "2s"
[[fault]]
name = "burst"
kind = "burst"
amount = "16MiB"
rate = "64MiB"
at = "4s"
for = "2s"
[[fault]]
name = "shrink"
kind = "limit_shrink"
to = "60%"
steps = 2
at = "7s"
for = "2s"
"#;

#[test]
fn faults_of_memory_and_limit_act_are_proven_and_undone() {
    let bench = Bench::new(&faulty(PRESSED));
    let (_, record) = bench.run();
    nothing_left(&record);
    let scenario = &record.scenarios[0];
    if scenario.evidence.cgroup == "emulated" {
        eprintln!("skipped: the kernel's own limit is needed to see them act");
        return;
    }
    let faults = &scenario.trial.faults;
    for (fault, proof) in faults.iter().zip([
        "of active page cache, files read 3 times",
        "MiB of 16 MiB asked for at ",
        "the limit fell from 96 MiB to 58 MiB of 58 MiB asked for, in 2 steps",
    ]) {
        assert!(fault.began && fault.acted && fault.undone, "{fault:#?}");
        assert!(fault.proof.contains(proof), "{fault:#?}");
    }
    assert_eq!(record.verdict, Verdict::Held, "{}", record.reason);
    let figures = &scenario.figures;
    assert_eq!(
        (figures["limit_steps"], figures["limit_missed_mib"]),
        (2.0, 0.0)
    );
    assert!(
        figures.contains_key("limit_adopted_max_s"),
        "each step was adopted"
    );
    assert!(figures["burst_rate_mib_s"] > 0.0);
    assert!(figures["page_cache_peak_mib"] >= 15.0, "{figures:#?}");
    let data = bench.dir.path().join("out/latest/data");
    assert!(!data.exists(), "the files of page cache are gone too");
}

#[test]
fn a_burst_against_a_bound_that_nobody_states_names_what_is_missing() {
    let burst = "[[fault]]\nname = \"burst\"\nkind = \"burst\"\namount = \"16MiB\"\nrate = \"0.8x\"\n\
                 at = \"4s\"\nfor = \"1s\"\n";
    let (code, record) = Bench::new(&faulty(burst)).run();
    assert_eq!(code, Some(2), "{}", record.reason);
    let reason = &record.scenarios[0].reason;
    for part in ["fault burst did not act", "reaction.rate_bytes_per_second"] {
        assert!(reason.contains(part), "{reason}");
    }
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
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let empty = bench.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (dir, why) in [
        (&empty, "holds no file"),
        (&empty.join("none"), "No such file"),
    ] {
        let output = bench
            .command()
            .arg("--backgrounds")
            .arg(dir)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(255));
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(why), "{words}");
    }
    assert!(!bench.dir.path().join("out").exists(), "nothing was begun");
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
    assert_eq!(child.wait().unwrap().code(), Some(2));
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
