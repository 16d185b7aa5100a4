//! A folder with the stand-in under the names of all binaries, a scenario, and the runner that is let loose on both.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use backdrop_reports::record::{Evidence, RunRecord, ScenarioRecord};

/// A load without faults, and what must hold.
pub const SCENARIO: &str = r#"name = "small"
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

/// A control that takes more than the limit.
pub const KILLED: &str = r#"[[control]]
name = "eats"
story = "s"
expected = "killed"
[control.target]
args = ["--eat"]
"#;

/// A control that loses switches.
pub const LOSES: &str = r#"[[control]]
name = "loses"
story = "s"
expected = "deviated:nothing-lost"
[control.load]
duration = "1s"
args = ["--lose", "3"]
"#;

/// A load that is long enough for faults, and is steady before them.
pub fn faulty(faults: &str) -> String {
    let (head, expects) = SCENARIO.split_once("[[expect]]").unwrap();
    let head = head.replace("\"5s\"", "\"10s\"");
    let control = LOSES.replace("expected", "faults = []\nexpected");
    format!("{head}[steady]\nfrom = \"0s\"\n{faults}[[expect]]{expects}{control}")
}

/// See the module.
pub struct Bench {
    /// The folder; runs are made in `out`.
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// With this scenario.
    pub fn new(scenario: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        super::install(dir.path(), "stands_in");
        fs::write(dir.path().join("small.toml"), scenario).unwrap();
        Self { dir }
    }

    /// The runner on the scenario.
    pub fn command(&self) -> Command {
        self.command_of("run", &["small.toml"])
    }

    /// The runner's subcommand on these scenario files of the folder.
    pub fn command_of(&self, subcommand: &str, files: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"));
        let path = |name: &str| self.dir.path().join(name);
        command
            .arg(subcommand)
            .args(files.iter().map(|file| path(file)))
            .arg("--bin-dir")
            .arg(self.dir.path());
        command
            .args(["--allow-emulated", "--beside", "--seed", "7", "--out"])
            .arg(path("out"));
        command.arg("--cache-dir").arg(path("cache"));
        command
    }

    /// The runner on the newest run, again.
    pub fn replay(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"));
        let path = |name: &str| self.dir.path().join(name);
        command
            .arg("replay")
            .arg(path("out/latest"))
            .arg("--beside")
            .arg("--bin-dir")
            .arg(self.dir.path())
            .arg("--out")
            .arg(path("out"))
            .arg("--cache-dir")
            .arg(path("cache"));
        command
    }

    /// Runs it to its end: exit code and record.
    pub fn run(&self) -> (Option<i32>, RunRecord) {
        self.run_with(&[])
    }

    /// The same with further flags.
    pub fn run_with(&self, flags: &[&str]) -> (Option<i32>, RunRecord) {
        let output = self.command().args(flags).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            self.record()
                .unwrap_or_else(|| panic!("no record: {words}")),
        )
    }

    /// The record of the newest run.
    pub fn record(&self) -> Option<RunRecord> {
        let text = fs::read_to_string(self.dir.path().join("out/latest/run.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }
}

/// Evidence of a scenario and of its controls.
pub fn of_all_trials(scenario: &ScenarioRecord) -> impl Iterator<Item = &Evidence> {
    let controls = scenario.controls.iter().map(|c| &c.evidence);
    controls.chain([&scenario.evidence])
}

/// That everything was undone, by the record and by a look of our own.
pub fn nothing_left(record: &RunRecord) {
    for evidence in record.scenarios.iter().flat_map(of_all_trials) {
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

/// Tells a person what a test could not see here; past the harness, which would swallow it.
pub fn tell(test: &str, words: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{test}: {words}");
}
