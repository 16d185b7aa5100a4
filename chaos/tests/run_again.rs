//! The real runner against the stand-ins: the same plan for the same seed, rounds, replays and comparisons.

use std::fs;
use std::process::{Command, Output};

use backdrop_reports::record::{RunRecord, Verdict};

mod standin;

use standin::{Bench, LOSES, SCENARIO, nothing_left};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

fn brief() -> String {
    format!("{}{LOSES}", SCENARIO.replace("\"5s\"", "\"1s\""))
}

fn words(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|b| String::from_utf8_lossy(b).into_owned())
        .concat()
}

/// The newest run, and the runner's exit code and words.
fn replay(bench: &Bench) -> (Option<i32>, RunRecord, String) {
    let output = bench.replay().output().unwrap();
    let words = words(&output);
    (
        output.status.code(),
        bench
            .record()
            .unwrap_or_else(|| panic!("no record: {words}")),
        words,
    )
}

#[test]
fn rounds_are_recorded_apart_and_the_worst_one_counts() {
    let bench = Bench::new(&brief());
    let output = bench.command().args(["--repeat", "3"]).output().unwrap();
    let record = bench.record().expect("a record");
    assert_eq!(
        (output.status.code(), record.verdict),
        (Some(0), Verdict::Held),
        "{}",
        record.reason
    );
    assert!(
        record.reason.contains("all 3 scenarios held"),
        "{}",
        record.reason
    );
    assert!(record.replay.contains("--repeat 3"), "{}", record.replay);
    assert_eq!(record.options.repeat, 3);
    let rounds: Vec<_> = record
        .scenarios
        .iter()
        .map(|s| (s.repeat, s.controls.len()))
        .collect();
    assert_eq!(
        rounds,
        [(1, 1), (2, 0), (3, 0)],
        "the control runs once and counts for all"
    );
    for scenario in &record.scenarios {
        assert_eq!(scenario.plan, record.scenarios[0].plan);
        assert!(
            scenario.reason.contains("1 control came out as demanded"),
            "{}",
            scenario.reason
        );
        assert!(!scenario.trial.timeline.t_s.is_empty() && !scenario.figures.is_empty());
    }
    let logs: Vec<_> = record
        .scenarios
        .iter()
        .map(|s| s.trial.logs[0].as_str())
        .collect();
    assert!(
        logs[1].contains("small.repeat-2/") && logs[2].contains("small.repeat-3/"),
        "{logs:?}"
    );
    let facts = &record.figures["lost_switches"];
    assert_eq!((facts.unit.as_str(), facts.timed), ("switches", false));
    // The plan is told before anything happens.
    let plan = format!(
        "small: plan {}, schedule schedule-7",
        record.scenarios[0].plan.hash
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.find(&plan).expect("told") < said.find("must come out as").expect("a control"),
        "{said}"
    );
    nothing_left(&record);
}

#[test]
fn a_replay_does_what_was_recorded_and_says_so() {
    let bench = Bench::new(&brief());
    let (code, first) = bench.run();
    assert_eq!(code, Some(0), "{}", first.reason);
    let (code, second, words) = replay(&bench);
    assert_eq!((code, second.verdict), (Some(0), Verdict::Held), "{words}");
    let (before, after) = (&first.scenarios[0], &second.scenarios[0]);
    assert_eq!(before.plan.hash.len(), 64);
    assert_eq!(
        before.plan, after.plan,
        "the same plan and schedule, byte for byte"
    );
    let replayed = second.replay_of.as_ref().expect("a replay");
    assert_eq!(
        (replayed.id.as_str(), replayed.differences.len()),
        (first.id.as_str(), 0)
    );
    assert!(
        words.contains("plan and request schedule are the same, by the same commit and binaries"),
        "{words}"
    );
    assert!(!words.contains("has changed"), "{words}");
    assert_eq!(
        (first.seed, &first.definitions, &first.replay),
        (second.seed, &second.definitions, &second.replay)
    );

    // The file holds another scenario by now: what is replayed is the recorded one.
    let file = bench.dir.path().join("small.toml");
    let changed = fs::read_to_string(&file)
        .unwrap()
        .replace("sessions = 300", "sessions = 900");
    fs::write(&file, changed).unwrap();
    let (_, third, words) = replay(&bench);
    assert!(words.contains("small.toml: has changed since"), "{words}");
    assert_eq!(third.scenarios[0].plan, before.plan);
    fs::remove_file(&file).unwrap();
    let (code, fourth, words) = replay(&bench);
    assert!(words.contains("small.toml: is gone"), "{words}");
    assert_eq!((code, &fourth.scenarios[0].plan), (Some(0), &before.plan));
}

#[test]
fn a_replay_by_another_simulator_says_what_is_not_the_same() {
    let bench = Bench::new(&brief());
    let (_, first) = bench.run();
    let simulator = bench.dir.path().join("backdrop-simulator");
    let script = fs::read_to_string(&simulator).unwrap();
    fs::write(
        &simulator,
        script.replace("echo \"schedule-", "echo \"other-"),
    )
    .unwrap();
    let (code, second, words) = replay(&bench);
    assert!(
        words.contains(&format!("replay of {}: NOT the same", first.id)),
        "{words}"
    );
    assert!(
        words.contains("schedule schedule-7 then, other-7 now"),
        "{words}"
    );
    assert!(
        words.contains("by another build (another backdrop-simulator)"),
        "{words}"
    );
    // It told one schedule and ran another: what it measured is not of the plan.
    assert_eq!(
        (code, second.verdict),
        (Some(2), Verdict::Inconclusive),
        "{}",
        second.reason
    );
    assert!(
        second.reason.contains("ran schedule schedule-7"),
        "{}",
        second.reason
    );
}

#[test]
fn controls_that_a_file_lends_are_replayed_from_the_record() {
    let bench = Bench::new("");
    let [file, lender] = ["small.toml", "other.toml"].map(|name| bench.dir.path().join(name));
    let lent = brief().replace("name = \"small\"", "name = \"lender\"");
    fs::write(&lender, lent).unwrap();
    let borrows = format!("controls_of = \"{}\"\n[target]", lender.display());
    let own = SCENARIO.replace("\"5s\"", "\"1s\"");
    fs::write(&file, own.replacen("[target]", &borrows, 1)).unwrap();
    let (code, first) = bench.run();
    assert_eq!((code, first.scenarios[0].controls.len()), (Some(0), 1));
    fs::remove_file(&file).unwrap();
    fs::remove_file(&lender).unwrap();
    let (code, second, words) = replay(&bench);
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(second.scenarios[0].controls[0].name, "loses");
    assert_eq!(first.definitions, second.definitions);
    assert!(words.contains("other.toml: is gone"), "{words}");
}

#[test]
fn a_replay_says_which_photographs_and_which_scenarios_are_not_as_they_were() {
    let bench = Bench::new(&brief());
    let photographs = bench.dir.path().join("photographs");
    fs::create_dir(&photographs).unwrap();
    let picture = photographs.join("one.jpg");
    fs::write(&picture, "one").unwrap();
    bench.run_with(&["--backgrounds", &photographs.display().to_string()]);
    let (_, same, words) = replay(&bench);
    assert!(
        words.contains("plan and request schedule are the same"),
        "{words}"
    );
    assert_eq!(same.options.scenarios, ["small"]);
    fs::write(&picture, "two").unwrap();
    let (_, other, words) = replay(&bench);
    let differences = other.replay_of.unwrap().differences;
    assert!(
        differences[0].contains("only then: backgrounds photographs sha256="),
        "{words}"
    );
    // As an interrupted run leaves it.
    let path = bench.dir.path().join("out/latest/run.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: RunRecord = serde_json::from_str(&text).unwrap();
    record.options.scenarios.push("later".into());
    fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
    let (_, part, words) = replay(&bench);
    let differences = part.replay_of.unwrap().differences;
    assert_eq!(
        differences,
        ["1 scenario of that run never began: later"],
        "{words}"
    );
    assert_eq!(part.options.scenarios, ["small"]);
}

#[test]
fn controls_that_the_first_round_could_not_run_are_recorded_where_they_ran() {
    let bench = Bench::new(&brief());
    let simulator = bench.dir.path().join("backdrop-simulator");
    let script = fs::read_to_string(&simulator).unwrap();
    let once = bench.dir.path().join("once");
    let fails_once = format!(
        "esac\n[ -e '{0}' ] || {{ touch '{0}'; exit 1; }}\n",
        once.display()
    );
    fs::write(&simulator, script.replacen("esac\n", &fails_once, 1)).unwrap();
    let (_, record) = bench.run_with(&["--repeat", "3"]);
    let rounds: Vec<_> = record
        .scenarios
        .iter()
        .map(|s| (s.verdict == Verdict::Error, s.controls.len()))
        .collect();
    assert_eq!(
        rounds,
        [(true, 0), (false, 1), (false, 0)],
        "{}",
        record.reason
    );
}

#[test]
fn more_rounds_than_a_record_can_hold_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"))
        .args(["run", "--suite", "default", "--repeat", "11"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255));
    let said = words(&output);
    assert!(
        said.contains("--repeat takes up to 10 for so many"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_command_that_does_alike() {
    let bench = Bench::new(&brief());
    bench.run();
    let path = bench.dir.path().join("out/latest/run.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["schema_version"] = 1.into();
    record.as_object_mut().unwrap().remove("definitions");
    fs::write(&path, record.to_string()).unwrap();
    let output = bench.replay().output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(255), "{said}");
    assert!(
        said.contains("holds no scenario files") && said.contains("just chaos run"),
        "{said}"
    );
    fs::remove_file(&path).unwrap();
    let output = bench.replay().output().unwrap();
    assert_eq!(output.status.code(), Some(255));
    assert!(words(&output).contains("run.json"), "{}", words(&output));
}

#[test]
fn runs_are_compared_as_report_compares_them() {
    let bench = Bench::new(&brief());
    let (_, mut first) = bench.run();
    // Whether the host was busy is not for this test.
    first.scenarios[0].evidence.busy_host = false;
    let run = bench.dir.path().join("kept.json");
    fs::write(&run, serde_json::to_string(&first).unwrap()).unwrap();
    let run = run.display().to_string();
    let chaos = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"));
        command.arg("compare").args(args).output().unwrap()
    };
    let output = chaos(&[&run, &run]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(
        words(&output).contains("small: held → held"),
        "{}",
        words(&output)
    );
    assert_eq!(chaos(&[&run]).status.code(), Some(64));
    assert_eq!(chaos(&[&run, "/nowhere"]).status.code(), Some(66));
}
