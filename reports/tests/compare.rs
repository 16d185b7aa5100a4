//! Two runs side by side: what is called better or worse, on how many runs, and what is not compared at all.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backdrop_reports::compare::{Change, Comparison, Outcome, Pair, Word, compare};
use backdrop_reports::record::{
    Better, Expectation, FigureFacts, RunRecord, ScenarioRecord, Verdict,
};
use backdrop_reports::render::{side_by_side, terminal, write_all};
use serde_json::Value;

const NOISE: f64 = 0.05;
const P99: &str = "switch_p99_us";

/// A run of one scenario, repeated once for each value of the figure.
fn repeated(figure: &str, values: &[f64]) -> RunRecord {
    let mut run = support::run();
    run.scenarios.truncate(1);
    let first = run.scenarios[0].clone();
    let repeat = |(i, value): (usize, &f64)| {
        let mut scenario = first.clone();
        scenario.repeat = i as u32 + 1;
        scenario.figures = [(figure.to_owned(), *value)].into();
        scenario
    };
    run.scenarios = values.iter().enumerate().map(repeat).collect();
    run
}

fn only(comparison: &Comparison) -> &Change {
    match comparison.scenarios.as_slice() {
        [Pair { figures, .. }] if figures.len() == 1 => &figures[0],
        other => panic!("one scenario with one figure, not {other:?}"),
    }
}

fn word(figure: &str, before: &[f64], after: &[f64]) -> (Word, Outcome) {
    let comparison = compare(&repeated(figure, before), &repeated(figure, after), NOISE);
    (only(&comparison).word, comparison.outcome)
}

#[test]
fn what_is_worse_and_what_is_better_depends_on_the_figure() {
    let (low, high) = ([100.0, 102.0, 98.0, 101.0], [150.0, 149.0, 153.0, 151.0]);
    for (figure, risen, fallen) in [
        (P99, Word::Worse, Word::Better),
        ("switch_rate_per_s", Word::Better, Word::Worse),
        ("capacities_evicted", Word::Differs, Word::Differs),
    ] {
        let exit = |word: Word| match word {
            Word::Worse => 1,
            Word::Better => 0,
            // A figure that is better neither way decides nothing, and here there is no other.
            _ => 2,
        };
        for (before, after, expected) in [(low, high, risen), (high, low, fallen)] {
            let (word, outcome) = word(figure, &before, &after);
            assert_eq!(
                (word, outcome.exit()),
                (expected, exit(expected)),
                "{figure}"
            );
        }
    }
}

#[test]
fn one_run_each_is_never_certain() {
    let comparison = compare(&repeated(P99, &[100.0]), &repeated(P99, &[900.0]), NOISE);
    let change = only(&comparison);
    assert_eq!((change.word, change.confidence), (Word::Unclear, None));
    assert_eq!(change.why, "one run each: no confidence");
    assert_eq!(change.change_ratio, Some(8.0));
    assert_eq!(comparison.outcome.exit(), 2);
    // Nor is it that a change is within the noise, unless there is none.
    let unclear = (Word::Unclear, Outcome::Unclear);
    assert_eq!(word(P99, &[100.0], &[104.0]), unclear);
    assert_eq!(word(P99, &[100.0], &[96.0]), unclear);
    let same = (Word::Same, Outcome::NoWorse);
    assert_eq!(word(P99, &[100.0], &[100.0]), same);
    assert_eq!(word(P99, &[100.0, 101.0], &[101.0, 100.0]), same);
    assert_eq!(word(P99, &[7.0], &[7.0, 7.0]), same);
}

/// A run of one scenario with an expectation on each of `deciding` figures and none on the others, four rounds of it.
fn of_many(deciding: usize, hints: usize, value: impl Fn(&str) -> f64) -> RunRecord {
    let mut run = repeated(P99, &[0.0; 4]);
    let facts = run.figures[P99].clone();
    let names = |what: &str, n: usize| (0..n).map(|i| format!("{what}_{i}_ms")).collect::<Vec<_>>();
    let (deciding, hints) = (names("expected", deciding), names("other", hints));
    for scenario in &mut run.scenarios {
        let one = scenario.expectations[0].clone();
        let expect = |figure: &String| Expectation {
            figure: figure.clone(),
            ..one.clone()
        };
        scenario.expectations = deciding.iter().map(expect).collect();
        let all = deciding.iter().chain(&hints);
        scenario.figures = all.map(|name| (name.clone(), value(name))).collect();
    }
    let all = deciding.iter().chain(&hints);
    run.figures = all.map(|name| (name.clone(), facts.clone())).collect();
    run
}

#[test]
fn of_many_figures_one_that_looks_worse_is_no_proof() {
    let outcome = |deciding: usize, worse: &str| {
        let before = of_many(deciding, 30, |_| 100.0);
        let after = of_many(
            deciding,
            30,
            |name| if name == worse { 200.0 } else { 100.0 },
        );
        let comparison = compare(&before, &after, NOISE);
        let figures = &comparison.scenarios[0].figures;
        let found = figures.iter().find(|f| f.name == worse).expect("there");
        assert_eq!(found.word, Word::Worse);
        assert_eq!(found.chance, Some(1.0 / 70.0));
        assert!(figures[..deciding].iter().all(|f| f.decides));
        (comparison.outcome, comparison.reason)
    };
    let (worse, reason) = outcome(3, "expected_0_ms");
    assert_eq!(worse, Outcome::Worse);
    assert!(
        reason.contains("expected_0_ms of million-switch"),
        "{reason}"
    );
    let (unclear, reason) = outcome(4, "expected_0_ms");
    assert_eq!(
        unclear,
        Outcome::Unclear,
        "four rounds are too few for four"
    );
    assert!(reason.contains("can be chance"), "{reason}");
    let (hint, reason) = outcome(3, "other_7_ms");
    assert_eq!(hint, Outcome::NoWorse);
    assert!(reason.contains("1 others look worse, a hint"), "{reason}");
}

#[test]
fn few_or_scattered_runs_are_unclear_and_say_why() {
    let few = compare(
        &repeated(P99, &[10.0, 11.0, 10.5]),
        &repeated(P99, &[20.0, 21.0, 22.0]),
        NOISE,
    );
    assert_eq!(only(&few).word, Word::Unclear);
    assert!(
        only(&few).why.contains("3 and 3 runs are too few"),
        "{}",
        only(&few).why
    );
    let scattered = [10.0, 30.0, 12.0, 26.0, 14.0];
    assert_eq!(
        word(P99, &scattered, &[16.0, 12.0, 33.0, 24.0, 20.0]).0,
        Word::Unclear
    );
    // All of it above zero, but not all of it above the noise.
    let (before, after) = ([100.0, 101.0, 102.0, 100.5], [104.0, 106.0, 109.0, 107.0]);
    assert_eq!(word(P99, &before, &after).0, Word::Unclear);
    let wide = compare(&repeated(P99, &before), &repeated(P99, &after), 0.5);
    assert_eq!(only(&wide).word, Word::Same, "with a wider noise");
}

#[test]
fn intervals_are_told_and_the_same_every_time() {
    let (before, after) = (
        repeated(P99, &[100.0, 104.0, 98.0, 102.0, 96.0]),
        repeated(P99, &[130.0, 128.0, 134.0, 126.0, 132.0]),
    );
    let first = compare(&before, &after, NOISE);
    let change = only(&first);
    let [low, high] = change.interval_ratio.expect("five each are enough");
    assert!(
        low > NOISE && low < 0.3 && high > 0.3 && high < 0.4,
        "{low} {high}"
    );
    assert_eq!(change.change_ratio, Some(0.3));
    assert!(change.confidence.expect("told") >= 0.95);
    assert!(change.why.contains("% confidence"), "{}", change.why);
    assert_eq!(compare(&before, &after, NOISE), first);
}

#[test]
fn from_nothing_any_change_is_beyond_the_noise() {
    let kills = "service_oom_kills";
    assert_eq!(
        word(kills, &[0.0; 4], &[0.0; 4]),
        (Word::Same, Outcome::NoWorse)
    );
    assert_eq!(
        word(kills, &[0.0; 4], &[1.0; 4]),
        (Word::Worse, Outcome::Worse)
    );
    assert_eq!(
        word(kills, &[0.0; 4], &[0.0, 1.0, 0.0, 1.0]),
        (Word::Unclear, Outcome::Unclear)
    );
    let comparison = compare(
        &repeated(kills, &[0.0; 4]),
        &repeated(kills, &[1.0; 4]),
        NOISE,
    );
    assert_eq!(
        only(&comparison).change_ratio,
        None,
        "there is no percentage of nothing"
    );
    let json: Value = serde_json::to_value(&comparison).expect("no infinity in JSON");
    assert!(json["scenarios"][0]["figures"][0]["interval_ratio"].is_null());
}

#[test]
fn a_run_is_no_worse_than_itself() {
    let run = support::run();
    let comparison = compare(&run, &run, NOISE);
    assert_eq!(
        comparison.outcome,
        Outcome::NoWorse,
        "{}",
        comparison.reason
    );
    assert!(comparison.notes.is_empty() && comparison.scenarios.len() == 2);
    for pair in &comparison.scenarios {
        assert!(!pair.figures.is_empty() && pair.apart.is_empty());
        assert!(
            pair.figures
                .iter()
                .all(|f| f.word == Word::Same && f.change_ratio == Some(0.0))
        );
    }
}

/// A run and one that differs from it by `change`: the reason for which nothing is compared.
fn apart(change: impl Fn(&mut RunRecord)) -> String {
    let before = repeated(P99, &[100.0; 4]);
    let mut after = repeated(P99, &[900.0; 4]);
    change(&mut after);
    let comparison = compare(&before, &after, NOISE);
    assert_eq!(comparison.outcome, Outcome::Unclear);
    let pair = &comparison.scenarios[0];
    assert!(pair.figures.is_empty(), "{pair:?}");
    let text = terminal::comparison(&comparison);
    assert!(
        text.contains("not compared: ") && text.contains("cannot be compared"),
        "{text}"
    );
    pair.apart.join("; ")
}

#[test]
fn what_cannot_be_compared_is_said_with_the_reason() {
    let reason = apart(|run| {
        for scenario in &mut run.scenarios {
            scenario.plan.steps[1] = "fault memory-hog memory_hog bytes=1".into();
        }
    });
    assert!(
        reason.contains("other scenario definition") && reason.contains("bytes=1`"),
        "{reason}"
    );
    let reason = apart(|run| run.host.cpu = "an abacus".into());
    assert!(
        reason.contains("other host: processor") && reason.contains("abacus"),
        "{reason}"
    );
    let reason = apart(|run| run.host.memory_bytes /= 2);
    assert!(reason.contains("other host: memory"), "{reason}");
    let reason = apart(|run| run.build.binaries[0].features = vec!["failpoints".into()]);
    assert!(
        reason.contains("other build features (none and failpoints)"),
        "{reason}"
    );
    let reason = apart(|run| {
        run.scenarios
            .iter_mut()
            .for_each(|s| s.plan = Default::default())
    });
    assert!(reason.contains("schema version 1"), "{reason}");
    let reason = apart(|run| {
        run.scenarios
            .iter_mut()
            .for_each(|s| s.name = "other".into())
    });
    assert!(
        reason.contains("second run has no such scenario"),
        "{reason}"
    );
    let mut failed = repeated(P99, &[900.0; 4]);
    for scenario in &mut failed.scenarios {
        scenario.verdict = Verdict::Error;
        scenario.reason = "no simulator".into();
    }
    let comparison = compare(&failed, &failed, NOISE);
    assert_eq!(comparison.outcome, Outcome::Unclear);
    assert_eq!(
        comparison.scenarios[0].apart,
        ["first", "second"]
            .map(|which| format!("the {which} run has no figures that count: no simulator"))
    );
}

#[test]
fn a_load_that_ended_early_spoils_times_and_rates_but_no_counter() {
    let with = |p99: f64, kills: f64, ended: fn(&mut ScenarioRecord)| {
        let mut run = repeated(P99, &[p99; 4]);
        for scenario in &mut run.scenarios {
            scenario.figures.insert("service_oom_kills".into(), kills);
            scenario.figures.insert("kills_per_hour".into(), kills);
            ended(scenario);
        }
        run.figures.insert(
            "kills_per_hour".into(),
            FigureFacts {
                unit: "1/h".into(),
                better: Better::Lower,
                timed: false,
            },
        );
        run
    };
    let before = with(100.0, 0.0, |_| {});
    let killed: [fn(&mut ScenarioRecord); 2] = [
        |s| s.trial.load = None,
        |s| s.trial.load.as_mut().expect("a load").ended_early = Some("the service went".into()),
    ];
    for ended in killed {
        let comparison = compare(&before, &with(50.0, 1.0, ended), NOISE);
        let find = |name: &str| {
            let mut all = comparison.scenarios[0].figures.iter();
            all.find(|f| f.name == name).expect("it is there")
        };
        assert_eq!(find("service_oom_kills").word, Word::Worse);
        assert_eq!(comparison.outcome, Outcome::Worse, "{}", comparison.reason);
        for name in [P99, "kills_per_hour"] {
            assert_eq!(
                (find(name).word, find(name).values[1]),
                (Word::Unclear, None)
            );
            assert!(find(name).why.contains("its load ended before its time"));
        }
    }
}

#[test]
fn rounds_that_are_left_out_carry_no_word_in_favour_of_their_side() {
    let with = |p99: f64, busy: bool| {
        let mut run = repeated(P99, &[p99; 6]);
        run.scenarios[5].evidence.busy_host = busy;
        run
    };
    for (a, b, expected) in [
        ((100.0, false), (100.0, false), Word::Same),
        ((100.0, false), (100.0, true), Word::Unclear),
        ((100.0, true), (100.0, false), Word::Unclear),
        ((100.0, false), (50.0, true), Word::Unclear),
        ((100.0, true), (50.0, false), Word::Better),
        ((100.0, false), (200.0, true), Word::Worse),
        ((100.0, true), (200.0, false), Word::Unclear),
    ] {
        let comparison = compare(&with(a.0, a.1), &with(b.0, b.1), NOISE);
        assert_eq!(only(&comparison).word, expected, "{a:?} {b:?}");
        let told = only(&comparison).why.contains("without 1 of 6 rounds");
        assert_eq!(told, a.1 || b.1, "{}", only(&comparison).why);
    }
}

#[test]
fn another_seed_or_commit_is_told_and_compared() {
    let before = repeated(P99, &[100.0; 4]);
    let mut after = repeated(P99, &[200.0; 4]);
    after.seed = 43;
    after.build.commit = "beef".into();
    after.host.kernel = "7.0".into();
    after
        .scenarios
        .iter_mut()
        .for_each(|s| s.plan.hash = "another".into());
    let comparison = compare(&before, &after, NOISE);
    assert_eq!(comparison.outcome, Outcome::Worse);
    let notes = comparison.notes.join("; ");
    for word in [
        "other seed (42 and 43)",
        "other commit (0fa7a90c and beef)",
        "other kernel",
    ] {
        assert!(notes.contains(word), "{notes}");
    }
}

#[test]
fn a_busy_host_spoils_what_a_clock_gave_and_nothing_else() {
    let with = |p99: f64, peak: f64, busy: usize| {
        let mut run = repeated(P99, &[p99; 5]);
        for (i, scenario) in run.scenarios.iter_mut().enumerate() {
            scenario.figures.insert("peak_bytes".into(), peak);
            scenario.evidence.busy_host = i < busy;
        }
        run
    };
    let find = |c: &Comparison, name: &str| {
        let found = c.scenarios[0].figures.iter().find(|f| f.name == name);
        found.expect("the figure is there").clone()
    };
    let some = compare(&with(100.0, 100.0, 0), &with(200.0, 200.0, 1), NOISE);
    assert_eq!(find(&some, P99).runs, [5, 4]);
    assert_eq!(find(&some, P99).word, Word::Worse);
    assert_eq!(find(&some, "peak_bytes").runs, [5, 5]);
    assert!(some.scenarios[0].notes[0].contains("second run: 1 of 5 rounds had a busy host"));
    let all = compare(&with(100.0, 100.0, 0), &with(200.0, 100.0, 5), NOISE);
    let p99 = find(&all, P99);
    assert_eq!((p99.word, p99.values), (Word::Unclear, [Some(100.0), None]));
    assert!(p99.why.contains("its host was busy"), "{}", p99.why);
    assert_eq!(find(&all, "peak_bytes").word, Word::Same);
    assert_eq!(all.outcome, Outcome::Unclear);
}

#[test]
fn runs_that_failed_do_not_count() {
    let before = repeated(P99, &[100.0; 5]);
    let mut after = repeated(P99, &[100.0, 100.0, 100.0, 100.0, 9_000.0]);
    after.scenarios[4].verdict = Verdict::Error;
    let comparison = compare(&before, &after, NOISE);
    assert_eq!(
        (only(&comparison).word, only(&comparison).runs),
        (Word::Unclear, [5, 4])
    );
    assert!(comparison.scenarios[0].notes[0].contains("1 of 5 rounds failed"));
    assert_eq!(
        comparison.outcome,
        Outcome::Unclear,
        "an error is no good news"
    );
}

#[test]
fn a_figure_that_has_gone_and_a_verdict_that_fell_are_not_no_worse() {
    let before = support::run();
    let mut gone = support::run();
    gone.scenarios[0].figures.remove("peak_bytes");
    let comparison = compare(&before, &gone, NOISE);
    assert_eq!(comparison.outcome, Outcome::Unclear);
    let change = &comparison.scenarios[0].figures[0];
    assert_eq!(
        (change.name.as_str(), change.word),
        ("peak_bytes", Word::Unclear)
    );
    assert!(
        change
            .why
            .contains("no value in the second run: it was not measured"),
        "{}",
        change.why
    );
    let fallen = compare(&before, &support::deviated(), NOISE);
    assert_eq!(fallen.outcome, Outcome::Unclear);
    assert!(
        fallen
            .reason
            .contains("overflow held in the first run and is deviated"),
        "{}",
        fallen.reason
    );
    assert_eq!(
        compare(&support::deviated(), &before, NOISE).outcome,
        Outcome::NoWorse
    );
}

#[test]
fn windows_have_the_direction_of_their_figure() {
    let name = "switch_p99_us.pressed";
    let comparison = compare(
        &repeated(name, &[1.0; 4]),
        &repeated(name, &[2.0; 4]),
        NOISE,
    );
    assert_eq!(only(&comparison).better, Better::Lower);
    assert_eq!(only(&comparison).word, Word::Worse);
}

#[test]
fn the_page_has_both_runs_and_asks_nothing_of_any_server() {
    let (before, mut after) = (support::run(), support::deviated());
    after.id = "later".into();
    after.scenarios[0].figures.insert("<b>evil</b>".into(), 1.0);
    let comparison = compare(&before, &after, NOISE);
    let reports = [Some("../run a/index.html".to_owned()), None];
    let page = side_by_side::render(&comparison, [&before, &after], reports).expect("renders");
    for wanted in [
        "default-src 'none'",
        "<section class=\"hero inconclusive\"",
        "p0-memory-a",
        "p0-memory-b",
        "p1-latency-b",
        "one run each: no confidence",
        "later",
        "lower is better",
        "href=\"../run%20a/index.html\"",
        "<details class=\"table\" open><summary>Figures that decide",
        "<details class=\"table\"><summary>Hints",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    for unwanted in [" src=", "@import", "url(http", "fetch(", "<b>evil"] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
}

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn written(out: &Path, name: &str, record: &RunRecord) -> PathBuf {
    let dir = out.join(name);
    write_all(record, &dir).expect("written");
    dir
}

#[test]
fn the_binary_exits_by_what_came_of_it() {
    let out = tempfile::tempdir().expect("a folder");
    let low = written(out.path(), "low", &repeated(P99, &[100.0; 4]));
    let high = written(out.path(), "high", &repeated(P99, &[200.0; 4]));
    let once = written(out.path(), "once", &repeated(P99, &[900.0]));
    let [low, high, once] = [&low, &high, &once].map(|p| p.to_str().expect("utf-8"));
    for (arguments, code, words) in [
        (vec!["compare", low, low], 0, "NO WORSE: "),
        (vec!["compare", low, high], 1, "+100.0 %"),
        (vec!["compare", high, low], 0, "better"),
        (vec!["compare", low, once], 2, "UNCLEAR: "),
        (vec!["compare", low, high, "--noise", "150"], 0, "same"),
        (vec!["compare", low], 64, "RUN_B"),
        (
            vec!["compare", low, high, "--noise", "lots"],
            64,
            "percentage",
        ),
        (vec!["compare", low, "/nowhere"], 66, "/nowhere"),
    ] {
        let output = report(&arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    let page = out.path().join("both.html");
    let output = report(&[
        "compare",
        low,
        high,
        "--json",
        "--html",
        page.to_str().expect("utf-8"),
    ]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    assert_eq!(
        (output.status.code(), &json["outcome"]),
        (Some(1), &Value::from("worse"))
    );
    assert_eq!(json["scenarios"][0]["figures"][0]["word"], "worse");
    assert!(page.metadata().expect("written").len() > 1000);
    let bad = out.path().join("bad.json");
    std::fs::write(&bad, "{\"schema_version\": 99}").expect("written");
    assert_eq!(
        report(&["compare", low, bad.to_str().expect("utf-8")])
            .status
            .code(),
        Some(65)
    );
}
