//! The mutation suite: what the library's mutants cover, how one is judged, and the real runner on mutants of the stand-in.

use std::fs;
use std::process::Output;

use backdrop_chaos::mutants;
use backdrop_chaos::scenario::protection::{PROTECTIONS, switch};
use backdrop_chaos::scenario::{BuildKind, Outcome, parse};
use backdrop_reports::record::{Control, Evidence, MUTANTS_SUITE, RunRecord, Trial, Verdict};

mod standin;

use standin::{Bench, KILLED, SCENARIO, nothing_left};

/// Not a test: what the stand-in's scripts start.
#[test]
#[ignore = "started by the other tests"]
fn stands_in() {
    standin::run();
}

#[test]
fn every_protection_has_one_mutant_and_it_must_be_caught_as_is_asked_of_it() {
    let scenarios = mutants::all().unwrap();
    let found: Vec<_> = scenarios.iter().map(|s| mutants::of(s).unwrap()).collect();
    let protections: Vec<_> = found.iter().filter_map(|m| m.protection).collect();
    assert_eq!(protections, PROTECTIONS);
    for mutant in found {
        let killed = ["budget", "governor"].contains(&mutant.protection.unwrap());
        assert_eq!(
            mutant.expected == Outcome::Killed,
            killed,
            "{}",
            mutant.name
        );
        assert_eq!(mutant.target.build, BuildKind::Controls);
    }
    let words = mutants::explain().unwrap();
    for scenario in &scenarios {
        assert!(words.contains(&scenario.name), "{words}");
    }
}

#[test]
fn the_intact_service_is_the_mutant_with_everything_on_and_meets_what_catches_it() {
    for scenario in mutants::all().unwrap() {
        let mutant = mutants::of(&scenario).unwrap();
        let intact = mutants::intact(&scenario, mutant);
        let mut args = mutant.target.args.clone();
        args.retain(|arg| *arg != switch(mutant.protection.unwrap()));
        assert_eq!(intact.target.args, args);
        assert_eq!(intact.target.build, mutant.target.build);
        assert_eq!(
            (&intact.load, &intact.faults),
            (&mutant.load, &mutant.faults)
        );
        let names: Vec<_> = intact.expects.iter().map(|e| e.name.as_str()).collect();
        let catches = match &mutant.expected {
            Outcome::Deviated(name) => name,
            _ => "no-kill",
        };
        assert_eq!(names, [catches], "{}", scenario.name);
    }
}

fn control(expected: &str, observed: &str) -> Control {
    Control {
        name: "off".into(),
        lent_by: None,
        story: "s".into(),
        protection: Some("dwell".into()),
        expected: expected.into(),
        observed: observed.into(),
        as_expected: expected == observed,
        reason: "r".into(),
        trial: Trial::default(),
        evidence: Evidence {
            undone: true,
            ..Evidence::default()
        },
        figures: Default::default(),
    }
}

#[test]
fn a_mutant_is_judged_by_itself_and_by_the_intact_service() {
    let judged = |intact: Verdict, mutant: Option<&Control>| {
        mutants::judge((intact, "why".into()), mutant).0
    };
    let caught = control("deviated:calm", "deviated:calm");
    assert_eq!(judged(Verdict::Held, Some(&caught)), Verdict::Held);
    for intact in [Verdict::Deviated, Verdict::Inconclusive] {
        assert_eq!(judged(intact, Some(&caught)), Verdict::Inconclusive);
    }
    assert_eq!(judged(Verdict::Error, None), Verdict::Error);
    assert_eq!(judged(Verdict::Held, None), Verdict::Inconclusive);
    for away in ["held", "killed", "deviated:rate", "crashed"] {
        let mutant = control("deviated:calm", away);
        assert_eq!(
            judged(Verdict::Held, Some(&mutant)),
            Verdict::Deviated,
            "{away}"
        );
    }
    for unjudged in [
        "inconclusive",
        "interrupted",
        "error",
        "hog killed",
        "killed by emulation",
        "killed before its fault",
        "deviated:calm, in doubt",
    ] {
        let mutant = control("deviated:calm", unjudged);
        assert_eq!(
            judged(Verdict::Held, Some(&mutant)),
            Verdict::Inconclusive,
            "{unjudged}"
        );
    }
    let mut left = caught;
    left.evidence.undone = false;
    assert_eq!(judged(Verdict::Held, Some(&left)), Verdict::Inconclusive);
}

const CALM: &str = r#"[[expect]]
name = "calm"
text = "x"
figure = "governor_transitions_per_min"
relation = "<="
bound = 40
unit = "1/min"
"#;

/// A scenario of the stand-in with the mutant of `protection`.
fn mutated(protection: &str, expected: &str) -> String {
    let scenario = SCENARIO
        .replace("\"small\"", &format!("\"no-{protection}\""))
        .replace("\"5s\"", "\"2s\"");
    format!(
        "{scenario}{CALM}[[control]]\nname = \"off\"\nstory = \"s\"\nprotection = \"{protection}\"\n\
         expected = \"{expected}\"\n[control.target]\nbuild = \"controls\"\nargs = [\"{}\"]\n",
        switch(protection)
    )
}

/// Runs the suite on these scenarios.
fn run(scenarios: &[String]) -> (Output, RunRecord, Bench) {
    let bench = Bench::new(SCENARIO);
    let names: Vec<_> = (0..scenarios.len()).map(|n| format!("{n}.toml")).collect();
    for (name, text) in names.iter().zip(scenarios) {
        fs::write(bench.dir.path().join(name), text).unwrap();
    }
    let files: Vec<_> = names.iter().map(String::as_str).collect();
    let output = bench.command_of("mutants", &files).output().unwrap();
    let record = bench
        .record()
        .unwrap_or_else(|| panic!("no record: {}", String::from_utf8_lossy(&output.stderr)));
    nothing_left(&record);
    (output, record, bench)
}

/// Cells of the lines of `text` that begin with one of the protections.
fn table(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .filter(|cells: &Vec<String>| {
            cells
                .first()
                .is_some_and(|first| PROTECTIONS.contains(&first.as_str()))
        })
        .collect()
}

#[test]
fn mutants_that_are_caught_hold_and_stand_in_the_table_of_every_rendering() {
    let (output, record, bench) = run(&[
        mutated("budget", "killed"),
        mutated("dwell", "deviated:calm"),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", record.reason);
    assert_eq!(record.suite, MUTANTS_SUITE);
    assert_eq!(record.reason, "all 2 mutants were caught");
    assert!(
        record.replay.starts_with("just chaos mutants "),
        "{}",
        record.replay
    );
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        table(&words),
        [
            ["budget", "no-budget", "killed", "killed", "caught"],
            [
                "dwell",
                "no-dwell",
                "deviated:calm",
                "deviated:calm",
                "caught"
            ],
        ],
        "{words}"
    );
    for scenario in &record.scenarios {
        let command = scenario.trial.service_command.join(" ");
        assert!(
            command.contains("backdrop-service-controls") && !command.contains("--unsafe-"),
            "{command}"
        );
        assert_eq!(
            scenario.expectations.len(),
            1,
            "the one that catches the mutant"
        );
    }
    let rendered =
        |name: &str| fs::read_to_string(bench.dir.path().join("out/latest").join(name)).unwrap();
    let row = "| dwell | no-dwell | deviated:calm | deviated:calm | caught";
    assert!(rendered("summary.md").contains(row));
    assert!(rendered("index.html").contains("<h2 id=\"mutants\">"));
}

#[test]
fn a_mutant_that_gets_away_is_deviated_and_one_that_cannot_be_judged_inconclusive() {
    // The stand-in has no queue, so that it does not miss its bound.
    let (output, record, _bench) = run(&[
        mutated("queue-bound", "deviated:calm"),
        mutated("dwell", "deviated:calm"),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", record.reason);
    assert!(
        record
            .reason
            .starts_with("1 of 2 mutants was caught; no-queue-bound: ")
    );
    let words = String::from_utf8_lossy(&output.stdout);
    let away = [
        "queue-bound",
        "no-queue-bound",
        "deviated:calm",
        "held",
        "not",
        "caught",
    ];
    assert_eq!(table(&words)[0], away, "{words}");
    let restless = mutated("dwell", "deviated:calm")
        .replace("memory_limit", "args = [\"--restless\"]\nmemory_limit");
    let (output, record, _bench) = run(&[restless]);
    assert_eq!(output.status.code(), Some(2), "{}", record.reason);
    assert!(
        record.reason.contains("with every protection on"),
        "{}",
        record.reason
    );
}

#[test]
fn a_replay_of_mutants_runs_them_again_as_they_were_recorded() {
    let (_, first, bench) = run(&[mutated("dwell", "deviated:calm")]);
    let plan = &first.scenarios[0].plan;
    let mutant = &first.scenarios[0].controls[0].trial.service_command;
    let target = &plan.steps[1];
    assert!(
        target.contains("build=controls") && !target.contains("--unsafe-"),
        "what is planned is the intact service: {target}"
    );
    fs::remove_file(bench.dir.path().join("0.toml")).unwrap();
    let output = bench.replay().output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let second = bench.record().expect("a record");
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(
        words.contains("plan and request schedule are the same"),
        "{words}"
    );
    assert_eq!(
        (second.suite.as_str(), &second.scenarios[0].plan),
        (MUTANTS_SUITE, plan)
    );
    assert_eq!(second.reason, "the mutant was caught");
    assert_eq!(second.replay, first.replay);
    let again = &second.scenarios[0].controls[0].trial.service_command;
    let off = |command: &[String]| command.contains(&switch("dwell"));
    assert!(off(mutant) && off(again), "{again:?}");
    nothing_left(&second);
}

#[test]
fn a_scenario_without_a_mutant_is_refused() {
    let bench = Bench::new(&format!("{SCENARIO}{KILLED}"));
    let output = bench
        .command_of("mutants", &["small.toml"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(255), "{words}");
    assert!(words.contains("`small` has no mutant"), "{words}");
}

#[test]
fn what_a_mutant_must_be_is_checked() {
    let good = mutated("dwell", "deviated:calm");
    parse("x.toml", &good).unwrap();
    for (from, to, complaint) in [
        (
            "protection = \"dwell\"",
            "protection = \"dwel\"",
            "is no protection",
        ),
        (
            "protection = \"dwell\"",
            "protection = \"budget\"",
            "no other",
        ),
        (
            "\"deviated:calm\"",
            "\"sheds\"",
            "by a kill or by an expectation",
        ),
        (
            "[\"--unsafe-disable-dwell\"]",
            "[\"--unsafe-disable-dwell\", \"--unsafe-disable-budget\"]",
            "no other",
        ),
    ] {
        let error = parse("x.toml", &good.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(error.contains(complaint), "{error}");
    }
    let second = good[good.find("[[control]]").unwrap()..].replace("\"off\"", "\"again\"");
    let error = parse("x.toml", &format!("{good}{second}"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is a mutant"), "{error}");
    let unwatched = mutated("budget", "killed").replace("service_oom_kills", "hog_oom_kills");
    let error = parse("x.toml", &unwatched).unwrap_err().to_string();
    assert!(error.contains("not expected anywhere"), "{error}");
}
