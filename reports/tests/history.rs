//! A scenario over the kept runs: newest ones, in order, older schema versions among them, and what could not be opened named.

mod support;

use std::path::Path;
use std::process::{Command, Output};

use backdrop_reports::history::{RUNS_MAX, Trend, trend};
use backdrop_reports::load::LoadReport;
use backdrop_reports::read::read_record;
use backdrop_reports::record::{Better, MUTANTS_SUITE, RunRecord, Trial, Verdict};
use backdrop_reports::render::{self, terminal, write_all};

/// A record as a build of schema version 1 wrote it.
const VERSION_1: &str = include_str!("fixtures/run-v1.json");

/// A run of one scenario with one value of a figure.
fn run(second: usize, p99_us: f64) -> RunRecord {
    let mut run = support::run();
    run.id = format!("20261122T19{:02}{:02}Z-42", second / 60, second % 60);
    run.started_at = format!("2026-11-22T19:{:02}:{:02}Z", second / 60, second % 60);
    run.scenarios.truncate(1);
    let scenario = &mut run.scenarios[0];
    scenario.controls.clear();
    scenario.trial = Trial {
        load: Some(LoadReport::default()),
        service_command: scenario.trial.service_command.clone(),
        ..Trial::default()
    };
    scenario.figures.insert("switch_p99_us".into(), p99_us);
    run
}

fn keep(out: &Path, run: &RunRecord) {
    let dir = out.join(&run.id);
    std::fs::create_dir_all(&dir).expect("a folder");
    let json = render::to_json(run).expect("serialises");
    std::fs::write(dir.join("run.json"), json).expect("written");
}

fn of(out: &Path, figure: Option<&str>) -> Trend {
    trend(out, "million-switch", figure).expect("there are runs")
}

#[test]
fn runs_are_in_order_and_the_oldest_are_left_out() {
    let out = tempfile::tempdir().expect("a folder");
    for i in 0..RUNS_MAX + 5 {
        keep(out.path(), &run(i, i as f64));
    }
    // Neither the link to the newest run nor what is no run counts.
    std::os::unix::fs::symlink(run(0, 0.0).id, out.path().join("latest")).expect("a link");
    std::fs::create_dir(out.path().join("bench")).expect("a folder");
    let trend = of(out.path(), None);
    assert_eq!(
        (trend.runs.len(), trend.older, trend.unread.len()),
        (RUNS_MAX, 5, 0)
    );
    let column: Vec<_> = trend
        .column("switch_p99_us")
        .into_iter()
        .flatten()
        .collect();
    assert!(column.is_sorted() && column[0] == 5.0, "{column:?}");
    assert_eq!(trend.figures["switch_p99_us"].better, Better::Lower);
    let text = terminal::trend(&trend);
    assert!(text.contains("5 older runs are not looked at"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() < 180), "{text}");
}

#[test]
fn a_mutation_suites_trial_is_not_the_scenarios() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(0, 1.0));
    let mut mutants = run(1, 2.0);
    mutants.suite = MUTANTS_SUITE.into();
    keep(out.path(), &mutants);
    let trend = of(out.path(), None);
    assert_eq!(trend.column("switch_p99_us"), [Some(1.0)]);
    assert!(trend.unread.is_empty());
}

#[test]
fn one_figure_is_told_run_by_run() {
    let out = tempfile::tempdir().expect("a folder");
    for (i, us) in [1_000.0, 8_000.0, 4_000.0].into_iter().enumerate() {
        keep(out.path(), &run(i, us));
    }
    let trend = of(out.path(), Some("switch_p99_us"));
    let text = terminal::trend(&trend);
    assert!(
        text.contains("switch_p99_us (lower is better) ▁█▄"),
        "{text}"
    );
    for (id, value) in [
        ("20261122T190000Z-42", "1 ms"),
        ("20261122T190001Z-42", "8 ms"),
    ] {
        let line = text
            .lines()
            .find(|l| l.contains(&format!("  {id}")))
            .expect("a line per run");
        assert!(line.contains(value) && line.contains("held"), "{line}");
    }
    assert!(!text.contains("recovery_s"), "{text}");
}

#[test]
fn repeats_become_their_median_and_changes_of_what_is_measured_are_marked() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(0, 1.0));
    let mut repeated = run(1, 10.0);
    for (n, value) in [(2, 30.0), (3, 20.0)] {
        let mut more = repeated.scenarios[0].clone();
        more.repeat = n;
        more.verdict = if n == 3 {
            Verdict::Inconclusive
        } else {
            Verdict::Held
        };
        more.figures.insert("switch_p99_us".into(), value);
        repeated.scenarios.push(more);
    }
    keep(out.path(), &repeated);
    let mut redefined = run(2, 2.0);
    redefined.scenarios[0].plan.steps.push("load longer".into());
    redefined.host.cpus = 64;
    keep(out.path(), &redefined);
    let trend = of(out.path(), None);
    assert_eq!(
        trend.column("switch_p99_us"),
        [Some(1.0), Some(20.0), Some(2.0)]
    );
    assert_eq!(
        (trend.runs[1].repeats, trend.runs[1].verdict),
        (3, Verdict::Inconclusive)
    );
    let marks: Vec<_> = trend.runs.iter().map(|r| (r.redefined, r.moved)).collect();
    assert_eq!(marks, [(false, false), (false, false), (true, true)]);
    let text = terminal::trend(&trend);
    assert!(
        text.contains("another definition since 20261122T190002Z-42"),
        "{text}"
    );
    assert!(
        text.contains("another host since 20261122T190002Z-42"),
        "{text}"
    );
    let page = render::trend::render(&trend, out.path()).expect("renders");
    for wanted in [
        "default-src 'none'",
        "another definition, another host",
        "\"x_labels\":[\"2026-11-22T19:00:00Z\"",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_run_of_schema_version_1_opens_and_is_part_of_the_trend() {
    let out = tempfile::tempdir().expect("a folder");
    let old = out.path().join("20261101T000000Z-1");
    std::fs::create_dir(&old).expect("a folder");
    std::fs::write(old.join("run.json"), VERSION_1).expect("written");
    let record = read_record(&old).expect("an old record opens");
    assert_eq!((record.schema_version, record.options.repeat), (1, 1));
    let scenario = &record.scenarios[0];
    assert_eq!(
        (scenario.repeat, scenario.label()),
        (1, scenario.name.clone())
    );
    assert!(scenario.plan.hash.is_empty() && record.definitions.is_empty());
    // It is rendered like any other.
    let rendered = out.path().join("rendered");
    render::write_renderings(&record, &rendered).expect("rendered");
    assert!(rendered.join("ctrf.json").is_file());
    let mut newer = run(0, 1.0);
    newer.scenarios[0].name = scenario.name.clone();
    keep(out.path(), &newer);
    let trend = trend(out.path(), &scenario.name, None).expect("both are there");
    assert_eq!(trend.runs.len(), 2);
    assert!(
        !trend.runs[1].redefined,
        "an old record does not say what was planned"
    );
    assert!(trend.runs[0].values.contains_key("service_oom_kills"));
}

#[test]
fn what_does_not_count_in_a_comparison_does_not_in_a_trend() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(0, 1.0));
    let mut busy = run(1, 90.0);
    busy.scenarios[0].evidence.busy_host = true;
    keep(out.path(), &busy);
    let mut early = run(2, 80.0);
    early.scenarios[0].trial.load = None;
    keep(out.path(), &early);
    let mut failed = run(3, 70.0);
    failed.scenarios[0].verdict = Verdict::Error;
    keep(out.path(), &failed);
    let trend = of(out.path(), None);
    assert_eq!(trend.column("switch_p99_us"), [Some(1.0), None, None, None]);
    let kills = trend.column("service_oom_kills");
    assert_eq!(kills, [Some(0.0), Some(0.0), Some(0.0), None]);
    let text = terminal::trend(&trend);
    for what in ["busy host", "ended before their load's time", "failed"] {
        let told = text.lines().find(|l| l.contains(what)).expect("told");
        assert!(told.starts_with("left out: 1 of 4 rounds"), "{told}");
    }
    let page = render::trend::render(&trend, out.path()).expect("renders");
    assert!(page.contains("1 of 1 rounds had a busy host"));
}

#[test]
fn a_silent_record_in_between_hides_no_change_and_alike_means_the_same_as_in_a_comparison() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(0, 1.0));
    let mut silent = run(1, 1.0);
    silent.scenarios[0].plan = Default::default();
    silent.scenarios[0].trial.service_command.clear();
    keep(out.path(), &silent);
    let mut other = run(2, 1.0);
    other.scenarios[0].plan.steps.push("load longer".into());
    other.build.binaries[0].features = vec!["failpoints".into()];
    other.host.memory_bytes /= 2;
    keep(out.path(), &other);
    let trend = of(out.path(), None);
    let marks = |i: usize| {
        let run = &trend.runs[i];
        (run.redefined, run.moved, run.rebuilt)
    };
    assert_eq!([marks(0), marks(1)], [(false, false, false); 2]);
    assert_eq!(marks(2), (true, true, true));
    assert!(terminal::trend(&trend).contains("another build since 20261122T190002Z-42"));
}

#[test]
fn what_an_expectation_reads_comes_first_and_what_never_changed_is_a_table() {
    let out = tempfile::tempdir().expect("a folder");
    for (i, us) in [1_000.0, 8_000.0, 4_000.0].into_iter().enumerate() {
        let mut run = run(i, us);
        run.scenarios[0]
            .figures
            .insert("recovery_s".into(), i as f64);
        // Only the last has a page.
        if i == 2 {
            write_all(&run, &out.path().join(&run.id)).expect("written");
        } else {
            keep(out.path(), &run);
        }
    }
    let trend = of(out.path(), None);
    let order: Vec<_> = trend.figures_in_order();
    assert!(order.is_sorted_by_key(|(_, facts)| !facts.expected));
    assert!(order[0].1.expected && !order[order.len() - 1].1.expected);
    let text = terminal::trend(&trend);
    let rows: Vec<&str> = text.lines().skip_while(|l| !l.contains("newest")).collect();
    assert!(rows[1].contains("expected, "), "{text}");
    let at = |name: &str| rows.iter().position(|row| row.contains(name));
    assert!(at("switch_p99_us") < at("recovery_s"), "{text}");

    let page = render::trend::render(&trend, out.path()).expect("renders");
    let place = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}"));
    let steady = place("id=\"steady\"");
    for (drawn, group) in [
        ("switch_p99_us", "id=\"group-1\""),
        ("recovery_s", "id=\"group-2\""),
    ] {
        let heading = place(&format!("{drawn}</h4>"));
        assert!(place(group) < heading && heading < steady, "{drawn}");
    }
    assert!(place("<code>service_oom_kills</code>") > steady);
    assert!(!page.contains("service_oom_kills</h4>"));
    assert_eq!(page.matches("/index.html\">2026").count(), 1);
    assert!(page.contains("href=\"20261122T190002Z-42/index.html\""));
}

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

#[test]
fn the_binary_tells_what_could_not_be_opened_and_what_is_not_there() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(0, 1.0));
    for (name, text) in [
        ("20261122T200000Z-1", "{\"schema_version\": 3}"),
        ("20261122T200001Z-1", "{\"schema_version\": 0}"),
        ("20261122T200002Z-1", "half a rec"),
    ] {
        std::fs::create_dir(out.path().join(name)).expect("a folder");
        std::fs::write(out.path().join(name).join("run.json"), text).expect("written");
    }
    let dir = out.path().to_str().expect("utf-8");
    let page = out.path().join("trend.html");
    let html = page.to_str().expect("utf-8");
    for (arguments, code, words) in [
        (
            vec!["million-switch", "--html", html],
            0,
            vec![
                "schema version 3, this build reads up to 2",
                "schema version 0",
                "is not a run record",
            ],
        ),
        (
            vec!["million-switch", "--figure", "recovery_s"],
            0,
            vec!["recovery_s (lower is better)"],
        ),
        (
            vec!["million-switch", "--figure", "nonsense"],
            66,
            vec![
                "figure `nonsense` of `million-switch`; there are: ",
                "recovery_s",
                "switch_p99_us",
            ],
        ),
        (
            vec!["overflow"],
            66,
            vec![
                "scenario `overflow`; there are: million-switch",
                "3 runs could not be opened",
            ],
        ),
        (vec![], 64, vec!["SCENARIO"]),
    ] {
        let all: Vec<&str> = ["trend"]
            .into_iter()
            .chain(arguments)
            .chain(["--out", dir])
            .collect();
        let output = report(&all);
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{all:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{all:?}: {said}");
        }
    }
    assert!(page.metadata().expect("written").len() > 1000);
    let nowhere = report(&["trend", "million-switch", "--out", "/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(66));
}

/// Written by `write_all`, found by `trend`.
#[test]
fn a_runs_folder_is_found_where_it_is_written() {
    let out = tempfile::tempdir().expect("a folder");
    let record = run(0, 1.0);
    write_all(&record, &out.path().join(&record.id)).expect("written");
    assert_eq!(of(out.path(), None).runs.len(), 1);
}
