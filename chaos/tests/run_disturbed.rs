//! Through the whole runner, with a stand-in for service and simulator: clients that are a burden, a service that is stopped, hogs in
//! other leaves, a trial that is broken off, and a search.

use std::fs;
use std::path::Path;
use std::process::Command;

use backdrop_chaos::scenario;
use backdrop_reports::record::{Fault, RunRecord, ScenarioRecord, Verdict};

mod standin;

use standin::{Bench, KILLED, SCENARIO, faulty, nothing_left};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

fn fault(name: &str, rest: &str) -> String {
    format!("[[fault]]\nname = \"{name}\"\n{rest}\n")
}

fn named<'a>(scenario: &'a ScenarioRecord, name: &str) -> &'a Fault {
    let faults = &scenario.trial.faults;
    let found = faults.iter().find(|fault| fault.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {faults:#?}"))
}

#[test]
fn burdens_stops_and_hogs_in_any_leaf_act_are_proven_and_undone() {
    // So large that what a hog's process itself needs is no matter.
    let hog =
        "kind = \"memory_hog\"\namount = \"100MiB\"\nramp = \"500ms\"\nat = \"4s\"\nfor = \"2s\"";
    let faults = [
        fault(
            "crawls",
            "kind = \"slow_clients\"\nclients = 8\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault(
            "floods",
            "kind = \"connection_flood\"\nconnections = 40\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault("beside", hog),
        fault("below", &format!("{hog}\nplacement = \"child\"")),
        fault("inside", &format!("{hog}\nplacement = \"same\"")),
        fault("halts", "kind = \"stop\"\nat = \"7s\"\nfor = \"1s\""),
    ];
    let scenario = faulty(&faults.concat()).replacen("\"96MiB\"", "\"448MiB\"", 1);
    let (code, record) = Bench::new(&scenario).run();
    let scenario = &record.scenarios[0];
    for (name, proof) in [
        ("crawls", "8 of 8 clients connected at a time"),
        ("floods", "40 of 40 connections open at a time"),
        ("beside", "/hog"),
        ("below", "/service/hog"),
        ("inside", "/service"),
        ("halts", "process stopped, a client had no answer"),
    ] {
        let fault = named(scenario, name);
        assert!(fault.began && fault.acted && fault.undone, "{fault:#?}");
        assert!(fault.proof.contains(proof), "{fault:#?}");
    }
    assert!(named(scenario, "inside").proof.ends_with("/service"));
    for hog in ["beside", "below", "inside"] {
        let ratio = named(scenario, hog).achieved_ratio.expect("it has one");
        assert!((0.98..=1.02).contains(&ratio), "{hog}: {ratio}");
    }
    assert_eq!(
        (code, record.verdict),
        (Some(0), Verdict::Held),
        "{}",
        record.reason
    );
    assert_eq!(
        scenario.evidence.service_processes.len(),
        1,
        "a stop is no end of it"
    );
    nothing_left(&record);
}

/// A condition that the stand-in's load meets in its second second.
const ABORT: &str = r#"[[abort]]
name = "slow"
figure = "switch_p99_ms"
above = 0.5
unit = "ms"
for = "5s"
"#;

#[test]
fn a_trial_whose_condition_is_met_is_broken_off_and_never_held() {
    let hog =
        "kind = \"memory_hog\"\namount = \"12MiB\"\nramp = \"500ms\"\nat = \"3s\"\nfor = \"500s\"";
    let scenario = faulty(&fault("hog", hog)).replace("\"10s\"", "\"600s\"");
    let (code, record) = Bench::new(&format!("{scenario}{ABORT}")).run();
    let seen = &record.scenarios[0];
    assert_eq!(
        (code, record.verdict),
        (Some(2), Verdict::Inconclusive),
        "{}",
        record.reason
    );
    let aborted = seen.trial.aborted.as_ref().expect("it was broken off");
    assert_eq!((aborted.name.as_str(), aborted.observed), ("slow", 1.0));
    let off = aborted.faults_off_s.expect("they are off");
    assert!(off >= aborted.at_s && aborted.at_s >= 4.0, "{aborted:?}");
    let hog = named(seen, "hog");
    assert!(
        hog.began && hog.undone && hog.to_s <= off + 0.001,
        "{hog:?}"
    );
    assert!(
        seen.reason.contains("broken off") && seen.reason.contains("slow"),
        "{}",
        seen.reason
    );
    let noted = seen.trial.events.iter().filter(|e| e.kind == "abort");
    assert_eq!(
        noted.count(),
        2,
        "when it was met, and when the faults were off"
    );
    assert_eq!(
        seen.controls.len(),
        1,
        "its control ran, and was not broken off"
    );
    assert!(seen.controls[0].trial.aborted.is_none());
    nothing_left(&record);
}

#[test]
fn an_expectation_that_a_trial_cut_short_misses_proves_nothing() {
    // It loses a switch.
    let lossy = SCENARIO.replace(
        "duration = \"5s\"",
        "duration = \"60s\"\nargs = [\"--lose\", \"1\"]",
    );
    let abort = ABORT.replace("\"5s\"", "\"1s\"");
    let (code, record) = Bench::new(&format!("{lossy}{KILLED}{abort}")).run();
    assert_eq!(code, Some(2), "{}", record.reason);
}

/// The runner's search on the scenario of the bench.
fn search(bench: &Bench, flags: &[&str]) -> (Option<i32>, RunRecord, String) {
    let path = |name: &str| bench.dir.path().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_backdrop-chaos"))
        .args(["search", "--scenario"])
        .arg(path("small.toml"))
        .args([
            "--allow-emulated",
            "--beside",
            "--faults-max",
            "1",
            "--bin-dir",
        ])
        .arg(bench.dir.path())
        .arg("--out")
        .arg(path("out"))
        .arg("--cache-dir")
        .arg(path("cache"))
        .args(flags)
        .output()
        .expect("the runner");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let record = bench
        .record()
        .unwrap_or_else(|| panic!("no record: {words}"));
    (output.status.code(), record, words)
}

/// With a load of six seconds, three of them steady, and the briefest of faults in between.
fn base(args: &str) -> String {
    let brief = SCENARIO.replace("\"5s\"", "\"6s\"").replace(
        "[[expect]]\nname = \"no-kill\"",
        "[steady]\nfrom = \"0s\"\n[[expect]]\nname = \"no-kill\"",
    );
    let brief = brief.replace("memory_limit", &format!("args = [{args}]\nmemory_limit"));
    format!("{brief}{KILLED}")
}

#[test]
fn a_search_that_finds_nothing_exits_0_and_records_every_plan() {
    let bench = Bench::new(&base(""));
    let (code, record, words) = search(&bench, &["--seed", "7", "--runs", "1"]);
    assert_eq!((code, record.verdict), (Some(0), Verdict::Held), "{words}");
    let search = record.search.as_ref().expect("a search");
    assert_eq!((search.held, search.trials.len()), (1, 1));
    assert_eq!((&search.found, search.base.as_str()), (&None, "small"));
    assert_eq!(record.scenarios.len(), 1);
    assert!(words.contains("trial 1 of 1, plan 1"), "{words}");
    assert!(!bench.dir.path().join("out/latest/found").exists());
    nothing_left(&record);
}

#[test]
fn what_a_search_finds_is_written_as_a_scenario_that_runs_again() {
    // It ends by itself, whatever is done to it.
    let bench = Bench::new(&base("\"--crash\""));
    let (code, record, words) = search(&bench, &["--seed", "7", "--runs", "4"]);
    assert_eq!(
        (code, record.verdict),
        (Some(1), Verdict::Deviated),
        "{words}"
    );
    let search = record.search.as_ref().expect("a search");
    let found = search.found.as_ref().expect("found");
    assert_eq!((found.cause.as_str(), found.done), ("crash", true));
    assert!(found.smallest.is_empty(), "no fault is needed: {found:?}");
    assert_eq!(search.trials.len(), 2);
    assert!(
        record.reason.contains("without any fault"),
        "{}",
        record.reason
    );
    let out = bench.dir.path().join("out/latest");
    for (file, faults) in found.files.iter().zip([0, found.drawn.len()]) {
        let path = out.join(file);
        let text = fs::read_to_string(&path).expect(file);
        let scenario = scenario::parse(file, &text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scenario.faults.len(), faults);
        assert!(record.definitions.contains_key(&scenario.name), "{file}");
        assert!(record.scenarios.iter().any(|s| s.name == scenario.name));
    }
    let replayed = bench.replay().output().expect("the runner");
    let told = String::from_utf8_lossy(&replayed.stderr).into_owned();
    assert_eq!(replayed.status.code(), Some(255), "{told}");
    assert!(
        told.contains("was a search") && told.contains(&record.replay),
        "{told}"
    );
    let again = run_folder(&bench, &out.join("found"));
    assert_eq!(again.0, Some(1), "{}", again.1);
    nothing_left(&record);
}

#[test]
fn a_search_without_a_protection_finds_what_that_was_for() {
    // The stand-in takes more than its limit without a budget, and nothing else.
    let bench = Bench::new(&base(""));
    let flags = ["--seed", "7", "--runs", "4", "--without", "budget"];
    let (code, record, words) = search(&bench, &flags);
    assert_eq!(
        (code, record.verdict),
        (Some(1), Verdict::Deviated),
        "{words}"
    );
    assert!(
        record.replay.contains(" --without budget "),
        "{}",
        record.replay
    );
    let search = record.search.as_ref().expect("a search");
    assert_eq!(search.base, "small without budget");
    let found = search.found.as_ref().expect("found");
    assert!(found.smallest.is_empty() && found.done, "{found:?}");
    // The file alone says what was searched.
    let folder = bench.dir.path().join("out/latest/found");
    let text = fs::read_to_string(folder.join("search-7-1-small.toml")).expect("written");
    assert!(text.contains("--unsafe-disable-budget"), "{text}");
    let again = run_folder(&bench, &folder);
    assert_eq!(again.0, Some(1), "{}", again.1);
    nothing_left(&record);
}

/// `run --scenarios DIR`.
fn run_folder(bench: &Bench, dir: &Path) -> (Option<i32>, String) {
    let output = bench
        .command_of("run", &[])
        .arg("--scenarios")
        .arg(dir)
        .output()
        .expect("the runner");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
