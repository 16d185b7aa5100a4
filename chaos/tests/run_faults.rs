//! Faults through the whole runner, with a stand-in for service and simulator: one that acts is proven and undone, one that
//! does not act leaves a run that never held.
//!
//! Cells are real where the host allows them; elsewhere the emulation stands in, which the output says.

use backdrop_reports::record::{Fault, RunRecord, ScenarioRecord, Verdict};

mod standin;

use standin::{Bench, faulty, nothing_left, tell};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

/// A table of a fault, from the fourth second on.
fn fault(name: &str, rest: &str) -> String {
    format!("[[fault]]\nname = \"{name}\"\n{rest}\n")
}

/// The scenario, with failpoints built in, and with further flags for the stand-ins of service and simulator.
fn with_flags(scenario: &str, service: &str, simulator: &str) -> String {
    scenario
        .replacen("build = \"plain\"", "build = \"failpoints\"", 1)
        .replacen(
            "memory_limit",
            &format!("args = [{service}]\nmemory_limit"),
            1,
        )
        .replacen("sessions", &format!("args = [{simulator}]\nsessions"), 1)
}

fn says_how_it_was_limited(test: &str, scenario: &ScenarioRecord) {
    if scenario.evidence.cgroup == "emulated" {
        tell(
            test,
            "no memory cgroup can be made here: the limit was a watchdog's, not the kernel's",
        );
    }
}

fn named<'a>(scenario: &'a ScenarioRecord, name: &str) -> &'a Fault {
    let faults = &scenario.trial.faults;
    let found = faults.iter().find(|fault| fault.name == name);
    found.unwrap_or_else(|| panic!("{name} is not among {faults:#?}"))
}

#[test]
fn a_kill_a_failpoint_and_hogs_act_are_proven_and_undone() {
    let faults = [
        fault(
            "fails",
            "kind = \"failpoint\"\nfailpoint = \"store.load.error\"\naction = \"10%return\"\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault(
            "presses",
            "kind = \"memory_hog\"\namount = \"16MiB\"\nramp = \"500ms\"\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault(
            "spins",
            "kind = \"cpu_hog\"\nthreads = 1\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault(
            "dies",
            "kind = \"kill\"\nat = \"7s\"\nrestart_within = \"20s\"",
        ),
    ];
    let bench = Bench::new(&with_flags(&faulty(&faults.concat()), "", ""));
    let (code, record) = bench.run();
    let scenario = &record.scenarios[0];
    says_how_it_was_limited("a_kill_a_failpoint_and_hogs", scenario);
    for (name, proof) in [
        ("fails", "it fired "),
        ("presses", "of 16 MiB asked for"),
        ("spins", "of the time and got "),
        ("dies", "SIGKILL sent, process gone, connections refused"),
    ] {
        let fault = named(scenario, name);
        assert!(fault.began && fault.acted && fault.undone, "{fault:#?}");
        assert!(fault.proof.contains(proof), "{fault:#?}");
        let told = scenario.trial.events.iter();
        let told = told.filter(|e| e.kind == "fault" && e.text.starts_with(name));
        assert_eq!(told.count(), 2, "{name} begins and is over");
    }
    assert_eq!(
        (code, record.verdict),
        (Some(0), Verdict::Held),
        "{}",
        record.reason
    );
    assert!(scenario.evidence.faults_acted && scenario.evidence.doubts.is_empty());
    let lives = &scenario.evidence.service_processes;
    assert_eq!(lives.len(), 2, "{lives:?}");
    assert_eq!(lives[0].end, "signal 9 by the runner");
    let figures = &scenario.figures;
    for figure in ["failpoint_triggers", "outage_s"] {
        assert!(figures.get(figure).is_some_and(|f| *f > 0.0), "{figure}");
    }
    assert!(figures["hog_peak_mib"] >= 15.0, "{figures:#?}");
    nothing_left(&record);
}

/// Runs the scenario once: whatever was tried, it never held, and each of these faults is why.
fn never_held(test: &str, scenario: &str, idle: &[&str]) -> RunRecord {
    let (code, record) = Bench::new(scenario).run_with(&["--attempts", "1"]);
    let seen = &record.scenarios[0];
    says_how_it_was_limited(test, seen);
    assert_eq!(
        (code, record.verdict, seen.verdict),
        (Some(2), Verdict::Inconclusive, Verdict::Inconclusive),
        "{}",
        record.reason
    );
    for name in idle {
        let fault = named(seen, name);
        assert!(fault.began && !fault.acted && fault.undone, "{fault:#?}");
        let doubt = format!("fault {name} did not act: {}", fault.proof);
        assert!(seen.evidence.doubts.contains(&doubt), "{doubt}");
    }
    assert!(!seen.evidence.faults_acted);
    record
}

/// What a kill must leave, as `service-killed` demands it.
const KEPT: &str = r#"
[[expect]]
name = "uploads-kept"
text = "x"
figure = "uploads_missing"
relation = "=="
bound = 0
unit = "uploads"
[[expect]]
name = "old-ids"
text = "x"
figure = "stale_ids_not_found"
relation = "=="
bound = 1
unit = "ratio"
"#;

#[test]
fn an_upload_that_a_kill_lost_and_an_id_that_it_revived_are_found() {
    let kill = fault(
        "dies",
        "kind = \"kill\"\nat = \"4s\"\nrestart_within = \"20s\"",
    );
    for (planted, verdict, reason) in [
        ("", Verdict::Held, "all 4 expectations were met"),
        (
            "\"--lose-upload\"",
            Verdict::Deviated,
            "uploads_missing is 1",
        ),
        (
            "\"--revive\"",
            Verdict::Deviated,
            "stale_ids_not_found is 0",
        ),
    ] {
        let scenario = with_flags(&faulty(&kill), planted, "");
        let bench = Bench::new(&scenario.replacen("[[control]]", &format!("{KEPT}[[control]]"), 1));
        let (_, record) = bench.run();
        let seen = &record.scenarios[0];
        assert_eq!(seen.verdict, verdict, "{planted}: {}", seen.reason);
        assert!(seen.reason.contains(reason), "{planted}: {}", seen.reason);
        assert_eq!(
            seen.figures["uploads_missing"],
            f64::from(u8::from(planted.contains("lose")))
        );
        nothing_left(&record);
    }
}

#[test]
fn faults_that_do_too_little_never_let_a_run_hold() {
    let faults = [
        // The service says yes to it and never counts a trigger.
        fault(
            "silent",
            "kind = \"failpoint\"\nfailpoint = \"store.load.error\"\naction = \"10%return\"\nat = \"4s\"\nfor = \"2s\"",
        ),
        // It is over long before its ramp.
        fault(
            "slow",
            "kind = \"memory_hog\"\namount = \"16MiB\"\nramp = \"30s\"\nat = \"4s\"\nfor = \"3s\"",
        ),
        // It is kept from running for a second of its three.
        fault(
            "idles",
            "kind = \"cpu_hog\"\nthreads = 1\nat = \"4s\"\nfor = \"3s\"",
        ),
    ];
    let scenario = with_flags(&faulty(&faults.concat()), "\"--mute\"", "\"--stop-hogs\"");
    let idle = ["silent", "slow", "idles"];
    let record = never_held("faults_that_do_too_little", &scenario, &idle);
    let scenario = &record.scenarios[0];
    assert_eq!(named(scenario, "silent").proof, "it fired 0 times");
    for name in ["slow", "idles"] {
        let ratio = named(scenario, name).achieved_ratio;
        assert!(ratio.is_some_and(|r| r < 0.95), "{name}: {ratio:?}");
    }
    nothing_left(&record);
}

#[test]
fn faults_that_are_ended_or_not_noticed_never_let_a_run_hold() {
    let faults = [
        fault(
            "shot-memory",
            "kind = \"memory_hog\"\namount = \"16MiB\"\nramp = \"1s\"\nat = \"4s\"\nfor = \"2s\"",
        ),
        fault(
            "shot-cpu",
            "kind = \"cpu_hog\"\nthreads = 1\nat = \"4s\"\nfor = \"2s\"",
        ),
        // Somebody else has the port too, so that no client is refused.
        fault(
            "unseen",
            "kind = \"kill\"\nat = \"7s\"\nrestart_within = \"20s\"",
        ),
    ];
    let alone = "[control.target]\nargs = [\"--alone\"]\n";
    let scenario = format!("{}{alone}", faulty(&faults.concat()));
    let scenario = with_flags(&scenario, "\"--twin\"", "\"--kill-hogs\"");
    let idle = ["shot-memory", "shot-cpu", "unseen"];
    let record = never_held("faults_that_are_ended", &scenario, &idle);
    let scenario = &record.scenarios[0];
    for name in ["shot-memory", "shot-cpu"] {
        let proof = &named(scenario, name).proof;
        assert!(proof.contains("then it was killed"), "{proof}");
    }
    let proof = &named(scenario, "unseen").proof;
    assert!(
        proof.contains("process gone, connections still answered"),
        "{proof}"
    );
    nothing_left(&record);
}

#[test]
fn a_failpoint_that_stays_armed_never_lets_a_run_hold() {
    let stays = fault(
        "stays",
        "kind = \"failpoint\"\nfailpoint = \"store.load.error\"\naction = \"10%return\"\nat = \"4s\"\nfor = \"1s\"",
    );
    let scenario = with_flags(&faulty(&stays), "\"--sticky\"", "");
    let (code, record) = Bench::new(&scenario).run_with(&["--attempts", "1"]);
    assert_eq!(
        (code, record.verdict),
        (Some(2), Verdict::Inconclusive),
        "{}",
        record.reason
    );
    let scenario = &record.scenarios[0];
    let fault = named(scenario, "stays");
    assert!(fault.acted && !fault.undone, "{fault:#?}");
    assert!(!scenario.evidence.undone);
    let reason = &scenario.reason;
    assert!(reason.contains("fault stays was not undone"), "{reason}");
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
        let why = "skipped: no memory cgroup can be made here, and the kernel's own limit is needed to see them act";
        tell("faults_of_memory_and_limit_act", why);
        return;
    }
    let faults = &scenario.trial.faults;
    for (fault, proof) in faults.iter().zip([
        "of active page cache, files read 3 times",
        "MiB of 16 MiB asked for (",
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
    for part in [
        "fault burst did not act",
        "reaction.at_rest.rate_bytes_per_second",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    nothing_left(&record);
}
