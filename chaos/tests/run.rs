//! The real runner against a stand-in service and simulator: exit codes, controls, and that nothing is left behind.
//!
//! Cells are real where the host allows them; elsewhere the emulation stands in, which these runs accept.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use backdrop_chaos::host::lock::RunLock;
use backdrop_reports::record::Verdict;

mod standin;

use standin::{Bench, KILLED, LOSES, SCENARIO, faulty, nothing_left};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
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
    agrees(&bench, code);
    let out = bench.dir.path().join("out/latest");
    assert!(out.join("index.html").is_file() && out.join("junit.xml").is_file());
    assert!(!out.join("data").exists(), "the data folder is gone");
}

/// What pipelines read says the same as the exit code.
fn agrees(bench: &Bench, code: Option<i32>) {
    let out = bench.dir.path().join("out/latest");
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let ctrf: serde_json::Value = serde_json::from_str(&read("ctrf.json")).unwrap();
    let summary = &ctrf["results"]["summary"];
    let (word, counted) = match code {
        Some(0) => ("held", "passed"),
        Some(1) => ("deviated", "failed"),
        _ => ("inconclusive", "other"),
    };
    assert_eq!(summary["extra"]["exit"].as_i64(), code.map(i64::from));
    assert_eq!(
        (&summary["extra"]["verdict"], &summary[counted]),
        (&word.into(), &1.into())
    );
    let exit = code.unwrap_or_default();
    assert!(read("junit.xml").contains(&format!(r#"<property name="exit" value="{exit}"/>"#)));
    assert!(read("summary.md").lines().next().unwrap().ends_with(word));
}

#[test]
fn a_lost_switch_deviates_and_a_toothless_control_is_inconclusive() {
    let lossy = SCENARIO.replace(
        "duration = \"5s\"",
        "duration = \"1s\"\nargs = [\"--lose\", \"1\"]",
    );
    let bench = Bench::new(&format!("{lossy}{KILLED}"));
    let (code, record) = bench.run();
    assert_eq!(
        (code, record.verdict),
        (Some(1), Verdict::Deviated),
        "{}",
        record.reason
    );
    agrees(&bench, code);
    let toothless = KILLED.replace("[\"--eat\"]", "[]");
    let brief = SCENARIO.replace("\"5s\"", "\"1s\"");
    let bench = Bench::new(&format!("{brief}{toothless}"));
    let (code, record) = bench.run();
    assert_eq!(
        (code, record.verdict),
        (Some(2), Verdict::Inconclusive),
        "{}",
        record.reason
    );
    assert!(record.reason.contains("no teeth"), "{}", record.reason);
    agrees(&bench, code);
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
fn a_starter_that_ignores_the_end_of_its_children_hides_no_end() {
    let output = Command::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(env!("CARGO_BIN_EXE_backdrop-chaos"))
        .arg("doctor")
        .output()
        .expect("run");
    // The one check that waits for a child to exit 0.
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("good  oom_score_adj"), "{told}");
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
fn a_simulator_that_refuses_is_an_error_with_its_own_words() {
    let refusing = SCENARIO.replace("[load]", "[load]\nargs = [\"--refuse\"]");
    let bench = Bench::new(&format!("{refusing}{KILLED}"));
    let (code, record) = bench.run();
    assert_eq!(
        (code, record.verdict),
        (Some(255), Verdict::Error),
        "{}",
        record.reason
    );
    let reason = &record.scenarios[0].reason;
    for part in ["exited 64", "give at least 10ms", "simulator.log"] {
        assert!(reason.contains(part), "no {part}: {reason}");
    }
    nothing_left(&record);
}

#[test]
fn what_a_busy_host_spoilt_is_tried_again_and_what_deviated_is_not() {
    let load = |args: &str| {
        let brief = SCENARIO.replace("\"5s\"", "\"1s\"");
        brief.replace("[load]", &format!("[load]\nargs = {args}"))
    };
    let bench = Bench::new(&format!("{}{KILLED}", load(r#"["--starve-once"]"#)));
    let (code, record) = bench.run_with(&["--attempts", "2"]);
    assert_eq!(code, Some(0), "{}", record.reason);
    let scenario = &record.scenarios[0];
    let [spoilt] = &scenario.set_aside[..] else {
        panic!("{:?}", scenario.set_aside);
    };
    assert_eq!(spoilt.outcome, "inconclusive");
    assert!(spoilt.reason.contains("starved"), "{}", spoilt.reason);
    let of = |logs: &[String], trial: &str| logs.iter().all(|log| log.starts_with(trial));
    assert!(of(&spoilt.logs, "logs/small/"), "{:?}", spoilt.logs);
    assert!(of(&scenario.trial.logs, "logs/small.attempt-2/"));

    let bench = Bench::new(&format!("{}{KILLED}", load(r#"["--starve-once"]"#)));
    let (code, record) = bench.run_with(&["--attempts", "1"]);
    assert_eq!(code, Some(2), "{}", record.reason);

    let bench = Bench::new(&format!(
        "{}{KILLED}",
        load(r#"["--starve-once", "--lose", "1"]"#)
    ));
    let (code, record) = bench.run_with(&["--attempts", "2"]);
    assert_eq!(
        code,
        Some(1),
        "a busy host loses no switches: {}",
        record.reason
    );
    assert!(record.scenarios[0].set_aside.is_empty());
}

/// What the runner says that cannot begin. It leaves nothing behind, and the newest run stays the newest.
fn refused(bench: &Bench, flags: &[&str]) -> String {
    let out = bench.dir.path().join("out");
    fs::create_dir_all(out.join("earlier")).unwrap();
    let latest = out.join("latest");
    if !latest.is_symlink() {
        std::os::unix::fs::symlink("earlier", &latest).unwrap();
    }
    let output = bench.command().args(flags).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(255), "{words}");
    let entries = fs::read_dir(&out).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["earlier", "latest"], "{words}");
    assert_eq!(fs::read_link(&latest).unwrap(), Path::new("earlier"));
    assert!(!bench.dir.path().join("cache").exists(), "{words}");
    words
}

#[test]
fn a_scenario_named_twice_is_refused() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let again = bench.dir.path().join("small.toml").display().to_string();
    let words = refused(&bench, &[&again]);
    assert!(words.contains("`small` is named twice"), "{words}");
}

#[test]
fn a_binary_that_is_missing_or_another_is_an_error() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let path = bench.dir.path().join("backdrop-service");
    let script = fs::read_to_string(&path).unwrap();
    fs::write(&path, script.replace("[]", "[\"failpoints\"]")).unwrap();
    let words = refused(&bench, &[]);
    assert!(words.contains("was built with features"), "{words}");
    for name in ["backdrop-service", "backdrop-simulator"] {
        fs::remove_file(bench.dir.path().join(name)).unwrap();
        let words = refused(&bench, &[]);
        assert!(words.contains("--bin-dir"), "{words}");
        assert!(words.contains(name), "{words}");
    }
}

#[test]
fn what_cannot_run_is_an_error() {
    let bench = Bench::new(&SCENARIO.replace("\"plain\"", "\"fast\""));
    let words = refused(&bench, &[]);
    assert!(words.contains("small.toml:5:9"), "{words}");
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let empty = bench.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (dir, why) in [
        (&empty, "holds no file"),
        (&empty.join("none"), "No such file"),
    ] {
        let dir = dir.display().to_string();
        let words = refused(&bench, &["--backgrounds", &dir]);
        assert!(words.contains(why), "{words}");
    }
}

#[test]
#[expect(unsafe_code, reason = "std sends no signals")]
fn an_interrupted_run_undoes_everything_and_writes_what_there_is() {
    let hog = "[[fault]]\nname = \"hog\"\nkind = \"memory_hog\"\namount = \"20%\"\nat = \"1s\"\nfor = \"500s\"\n";
    let bench = Bench::new(&faulty(hog).replace("\"10s\"", "\"600s\""));
    let mut child = bench
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // A line of progress names the faults that stand.
    assert!(
        lines.any(|l| l.unwrap().ends_with("| hog")),
        "the hog never stood"
    );
    let begun = descendants(child.id());
    assert!(
        begun.len() >= 4,
        "service, simulator, hog, reaper: {begun:?}"
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
    let live = |(pid, start): &(u32, u64)| start_of(*pid).is_some_and(|(_, now)| now == *start);
    // The reaper sees the end of its runner, and then ends.
    let since = std::time::Instant::now();
    while begun.iter().any(live) && since.elapsed() < REAPED_WITHIN {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let left: Vec<_> = begun.iter().filter(|process| live(process)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!bench.dir.path().join("out/latest/data").exists());
    let ours = format!("undo-{pid}-");
    // The last journal of all takes the folder with it.
    let journals = fs::read_dir(backdrop_chaos::host::state_dir());
    let left = journals
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&ours));
    assert!(left.is_none(), "{left:?}");
}

/// A reaper whose runner ended has nothing to do; a longer life than this is a leak.
const REAPED_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Parent and start time of a process, clock ticks after boot. None if it is gone, or only its exit code is left.
fn start_of(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit(')').next()?.split_whitespace().collect();
    if *fields.first()? == "Z" {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

/// Pids and start times of everything below a process.
fn descendants(of: u32) -> Vec<(u32, u64)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let children = pids.iter().filter_map(|&pid| {
        let (parent, start) = start_of(pid)?;
        (parent == of).then_some((pid, start))
    });
    let mut found: Vec<_> = children.collect();
    for (pid, _) in found.clone() {
        found.extend(descendants(pid));
    }
    found
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

/// A share in the lock of this host's runs, once nobody has it alone: another checkout's run may.
fn lock() -> RunLock {
    for _ in 0..600 {
        let shared = RunLock::share(&backdrop_chaos::host::state_dir());
        if let Some(lock) = shared.expect("the folder is ours") {
            return lock;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    panic!("another run has been under way for a minute");
}

#[test]
fn a_second_run_is_refused_unless_it_is_wanted() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let _lock = lock();
    let run = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"));
        let path = |name: &str| bench.dir.path().join(name);
        command
            .arg("run")
            .arg(path("small.toml"))
            .arg("--bin-dir")
            .arg(bench.dir.path())
            .arg("--out")
            .arg(path("out"))
            .arg("--cache-dir")
            .arg(path("cache"))
            .args(flags);
        let output = command.output().expect("the runner");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), words)
    };
    let (code, words) = run(&[]);
    assert_eq!(code, Some(255), "{words}");
    assert!(words.contains("another run is under way"), "{words}");
    assert!(
        !bench.dir.path().join("out").exists(),
        "nothing is left behind"
    );
    let (code, words) = run(&["--beside", "--allow-emulated"]);
    assert_eq!(code, Some(0), "{words}");
}

#[test]
fn what_cannot_be_asked_for_is_told_without_a_binary() {
    let check = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"))
            .arg("check")
            .args(words)
            .output()
            .expect("the runner");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let (code, told) = check(&["run", "nope"]);
    assert_eq!(code, Some(255));
    assert!(told.contains("there is no scenario `nope`"), "{told}");
    assert_eq!(check(&["run", "--bogus"]).0, Some(255));
    assert_eq!(check(&["search", "--scenario", "nope"]).0, Some(255));
    assert_eq!(check(&["replay", "/nowhere"]).0, Some(255));
    for fine in [
        &["run", "--suite", "smoke", "--seed", "7"][..],
        &["run", "overflow", "--bin-dir", "/nowhere"],
        &["mutants"],
        &["search", "--runs", "3"],
    ] {
        assert_eq!(check(fine), (Some(0), String::new()), "{fine:?}");
    }
}

#[test]
fn whoever_reads_may_have_had_enough() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"))
        .args(["explain", "figures"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the runner");
    // Closed before the first word.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), told.as_ref()), (Some(0), ""));
}

#[test]
fn a_replay_without_its_photographs_says_what_to_do() {
    let bench = Bench::new(&format!("{}{KILLED}", SCENARIO.replace("\"5s\"", "\"1s\"")));
    let photographs = bench.dir.path().join("photographs");
    fs::create_dir(&photographs).unwrap();
    fs::write(photographs.join("one.jpg"), "a picture").unwrap();
    let dir = photographs.display().to_string();
    let (code, record) = bench.run_with(&["--backgrounds", &dir]);
    assert_eq!(code, Some(0), "{}", record.reason);
    fs::remove_dir_all(&photographs).unwrap();
    let output = bench.replay().output().expect("the runner");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{words}");
    for part in [dir.as_str(), "put them back", &record.replay] {
        assert!(words.contains(part), "no {part}: {words}");
    }
}

/// A simulator that takes its time to tell the schedule keeps the runner before its first trial.
#[test]
#[expect(unsafe_code, reason = "std sends no signals")]
fn an_interrupt_before_the_first_scenario_is_a_clean_end() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let path = bench.dir.path().join("backdrop-simulator");
    let script = fs::read_to_string(&path).unwrap();
    let asked = bench.dir.path().join("asked");
    let asked_at = asked.display();
    let slow = format!(
        "*--schedule-hash*) touch '{asked_at}'; while [ ! -e '{asked_at}.go' ]; do sleep 0.05; done;"
    );
    fs::write(&path, script.replace("*--schedule-hash*)", &slow)).unwrap();
    let mut child = bench.command().stderr(Stdio::piped()).spawn().unwrap();
    while !asked.exists() {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        assert_eq!(child.try_wait().unwrap(), None, "it has ended");
    }
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: a plain system call on a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    fs::write(asked.with_extension("go"), "").unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words}");
    // Where it was heard late the run had begun, and then it is recorded.
    let begun = bench.record().map(|record| record.verdict);
    assert!(
        begun.is_none_or(|verdict| verdict == Verdict::Inconclusive),
        "{words}"
    );
}
