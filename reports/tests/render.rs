//! The five files of a run's folder: they agree, survive hostile text, hold no request, and `latest` follows.

mod support;

use std::path::Path;

use backdrop_reports::error::ReportError;
use backdrop_reports::read::read_record;
use backdrop_reports::record::{
    MUTANTS_SUITE, RunRecord, SEARCH_SUITE, Search, SearchFound, SearchTrial, Verdict,
};
use backdrop_reports::render::series::POINTS_MAX;
use backdrop_reports::render::{html, junit, markdown, mutants, write_all};
use serde_json::Value;

fn page(record: &RunRecord) -> String {
    html::render(record, None).expect("the page renders")
}

/// The chart data as the page's script reads it.
fn charts(page: &str) -> Value {
    let (_, rest) = page
        .split_once("<script id=\"charts\" type=\"application/json\">")
        .expect("the data is there");
    let (data, _) = rest.split_once("</script>").expect("it ends");
    serde_json::from_str(data).expect("it is JSON")
}

fn series<'a>(chart: &'a Value, label: &str) -> &'a [Value] {
    let all = chart["series"].as_array().expect("series");
    let found = all
        .iter()
        .find(|s| s["label"] == label)
        .unwrap_or_else(|| panic!("no series {label}"));
    found["values"].as_array().expect("values")
}

/// The values that are there.
fn series_of(chart: &Value, label: &str) -> Vec<f64> {
    series(chart, label)
        .iter()
        .filter_map(Value::as_f64)
        .collect()
}

#[test]
fn the_folder_is_whole_and_latest_follows() {
    let out = tempfile::tempdir().expect("a folder");
    for (name, record) in [("one", support::run()), ("two", support::deviated())] {
        let dir = out.path().join(name);
        write_all(&record, &dir).expect("written");
        for file in [
            "run.json",
            "index.html",
            "junit.xml",
            "ctrf.json",
            "summary.md",
        ] {
            assert!(dir.join(file).metadata().expect(file).len() > 100, "{file}");
        }
        assert_eq!(
            std::fs::read_dir(&dir).expect("readable").count(),
            5,
            "nothing else is left behind"
        );
        assert_eq!(
            std::fs::read_link(out.path().join("latest")).expect("a link"),
            Path::new(name)
        );
        assert_eq!(
            read_record(&out.path().join("latest")).expect("readable"),
            record
        );
    }
    assert_eq!(
        std::fs::read_dir(out.path()).expect("readable").count(),
        3,
        "two folders and the link"
    );
}

#[test]
fn a_latest_that_is_no_link_is_an_error_and_stays() {
    let out = tempfile::tempdir().expect("a folder");
    let squatter = out.path().join("latest");
    std::fs::create_dir(&squatter).expect("made");
    let error = write_all(&support::run(), &out.path().join("one")).expect_err("refused");
    assert!(matches!(error, ReportError::Write { path, .. } if path.ends_with("latest")));
    assert!(squatter.is_dir() && out.path().join("one/index.html").is_file());
}

#[test]
fn numbers_that_json_cannot_hold_become_gaps() {
    let out = tempfile::tempdir().expect("a folder");
    let mut record = support::run();
    record.scenarios[0]
        .figures
        .insert("broken_ratio".into(), f64::NAN);
    record.scenarios[0]
        .trial
        .timeline
        .series
        .get_mut("anon_bytes")
        .expect("there")[7] = Some(f64::INFINITY);
    write_all(&record, &out.path().join("run")).expect("written");
    let back = read_record(&out.path().join("run")).expect("readable");
    assert!(!back.scenarios[0].figures.contains_key("broken_ratio"));
    assert_eq!(
        back.scenarios[0].trial.timeline.series["anon_bytes"][7],
        None
    );
}

#[test]
fn a_mutation_suites_table_stands_in_page_and_summary_and_in_no_other_run() {
    let mut record = support::run();
    let scenario = &mut record.scenarios[0];
    scenario.controls[0].protection = Some("budget".into());
    let name = scenario.name.clone();
    let (head, none) = ("<h2 id=\"mutants\">", mutants::text(&record));
    assert_eq!(none, "");
    assert!(!page(&record).contains(head));
    record.suite = MUTANTS_SUITE.into();
    for (verdict, word) in [
        (Verdict::Held, "caught"),
        (Verdict::Deviated, "not caught"),
        (Verdict::Inconclusive, "not judged"),
    ] {
        record.scenarios[0].verdict = verdict;
        let row = format!("| budget | {name} | killed | killed | {word} ");
        let summary = markdown::render(&record);
        assert!(summary.contains(&row), "{summary}");
        let page = page(&record);
        assert!(page.contains(head) && page.contains(word));
        let text = mutants::text(&record);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with(&format!("  {word}\n")), "{text}");
    }
}

#[test]
fn a_searchs_trials_and_what_it_found_stand_in_page_and_summary_and_in_no_other_run() {
    let mut record = support::deviated();
    let head = "<h2 id=\"search\">";
    assert!(!page(&record).contains(head));
    assert!(!markdown::render(&record).contains("| Trial | Step |"));
    let (small, big) = (
        "fault f2-stop stop at_us=5 for_us=<1>",
        "fault f1-kill kill at_us=5",
    );
    let trial = |run, step: &str, faults: &[&str], outcome: &str| SearchTrial {
        run,
        step: step.into(),
        faults: faults.iter().map(|f| (*f).to_owned()).collect(),
        outcome: outcome.into(),
        reason: "because | so".into(),
        logs: Vec::new(),
    };
    record.suite = SEARCH_SUITE.into();
    record.search = Some(Search {
        base: "calm".into(),
        runs_max: 20,
        faults_max: 4,
        held: 3,
        unjudged: 1,
        trials: vec![
            trial(1, "plan 1", &[big, small], "deviated"),
            trial(2, "no fault", &[], "held"),
        ],
        found: Some(SearchFound {
            plan: 1,
            cause: "nothing-lost".into(),
            drawn: vec![big.into(), small.into()],
            smallest: vec![small.into()],
            done: true,
            files: vec!["found/search-7-1-small.toml".into()],
        }),
    });
    let page = page(&record);
    assert!(page.contains(head) && page.contains("deviates by nothing-lost"));
    for part in [
        "<code>fault f2-stop stop at_us=5 for_us=&#60;1&#62;</code>",
        "<a href=\"found/search-7-1-small.toml\">",
        "<td data-label=\"Step\">no fault</td>",
        "3 of the plans held, 1 could not be judged",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    let summary = markdown::render(&record);
    for part in [
        "deviates by **nothing-lost**; 1 of its 2 faults are enough",
        "| 1 | plan 1 | 2 | deviated | because \\| so |",
        "| 2 | no fault | 0 | held |",
    ] {
        assert!(summary.contains(part), "no {part} in {summary}");
    }
}

#[test]
fn what_was_set_aside_or_is_in_doubt_is_told_everywhere() {
    let mut record = support::run();
    let reason = record.scenarios[0].set_aside[0].reason.clone();
    let doubt = "the hypervisor took 2.0 % of the CPUs";
    record.scenarios[0].evidence.doubts = vec![doubt.to_owned()];
    record.scenarios[0].evidence.host_steal_ratio = Some(0.02);
    let xml = junit::render(&record).expect("renders");
    let renderings = [page(&record), markdown::render(&record), xml];
    for text in &renderings {
        assert!(text.contains(&reason) && text.contains(doubt), "{text}");
    }
    assert!(renderings[0].contains("CPU taken by the hypervisor"));
}

#[test]
fn a_hit_is_a_share_of_all_accesses_whatever_came_of_them() {
    let mut record = support::run();
    let series = &mut record.scenarios[0].trial.timeline.series;
    // A tenth of the accesses is shed or fails: neither hit nor miss.
    let accesses = series["hits_total"]
        .iter()
        .map(|hits| hits.map(|h| h / 0.9));
    let accesses: Vec<_> = accesses.collect();
    series.insert("accesses_total".into(), accesses);
    let charts = charts(&page(&record));
    let ratios = series_of(&charts["s0-hits"], "hit ratio");
    assert!(!ratios.is_empty() && ratios.iter().all(|r| (r - 0.9).abs() < 1e-3));
}

#[test]
fn a_run_without_scenarios_is_no_passing_suite() {
    let mut record = support::run();
    record.scenarios.clear();
    record.verdict = Verdict::Error;
    record.exit = 255;
    record.reason = "no memory cgroup could be made".into();
    let xml = junit::render(&record).expect("renders");
    assert!(
        xml.contains("tests=\"1\" skipped=\"0\" failures=\"0\" errors=\"1\""),
        "{xml}"
    );
    assert!(page(&record).contains("ended before its first scenario"));
    assert!(markdown::render(&record).contains("no memory cgroup could be made"));
}

#[test]
fn hostile_text_stays_text() {
    let mut record = support::run();
    let evil = "</script><script>alert(1)</script><!-- \u{2028} | `x` \u{0} ]]>";
    record.reason = evil.into();
    record.scenarios[0].name = evil.into();
    record.scenarios[0].trial.faults[0].name = evil.into();
    record.scenarios[0].trial.logs = vec!["javascript:alert(1)".into(), "a b/\"c".into()];
    let page = page(&record);
    assert!(!page.contains("<script>alert"));
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    assert!(!page.contains("href=\"javascript:"));
    assert_eq!(charts(&page)["s0-memory"]["bands"][0]["label"], evil);
    let xml = junit::render(&record).expect("renders");
    assert!(!xml.contains("<script>") && !xml.contains('\u{0}'));
    assert!(!markdown::render(&record).contains("<script>"));
}

#[test]
fn the_page_asks_nothing_of_any_server() {
    let page = page(&support::run());
    for wanted in [
        " src=",
        "@import",
        "url(http",
        "fetch(",
        "XMLHttpRequest",
        "sendBeacon",
        "<link rel=\"stylesheet\"",
    ] {
        assert!(!page.contains(wanted), "{wanted}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_first_screen_has_verdict_reason_evidence_and_replay() {
    let record = support::run();
    let page = page(&record);
    let screen = page.split("id=\"scenario-").next().expect("a first screen");
    for wanted in [
        record.reason.as_str(),
        record.replay.as_str(),
        "Controls as expected",
        "million-switch",
        "203.4 MiB",
        "killed",
    ] {
        assert!(screen.contains(wanted), "{wanted}");
    }
}

#[test]
fn gaps_stay_gaps_and_empty_charts_say_so() {
    let mut record = support::run();
    let page_text = page(&record);
    let charts = charts(&page_text);
    let memory = &charts["s0-memory"];
    let service = series(memory, "service: anon + kernel + sockets");
    assert!(service.iter().any(Value::is_null) && service.iter().all(|v| v != 0));
    for line in ["allocator resident", "budget used"] {
        assert!(!series_of(memory, line).is_empty(), "{line}");
    }
    // No answer in second 39: no latency, but a rate of zero.
    assert!(series(&charts["s0-latency"], "p99")[38].is_null());
    assert_eq!(series(&charts["s0-rates"], "switches")[38], 0);
    // The control is on the scenario's scales, with its kill marked.
    assert_eq!(
        charts["s0-c0-held"]["y_max"],
        charts["s0-c0-control"]["y_max"]
    );
    assert_eq!(charts["s0-c0-control"]["marks"][0]["kill"], true);
    record.scenarios[0].trial.load = None;
    record.scenarios[0].trial.timeline = Default::default();
    let bare = page(&record);
    assert!(
        bare.contains("the load did not start or did not end")
            && bare.contains("No governor state was recorded")
    );
}

#[test]
fn long_timelines_are_thinned_out() {
    let mut record = support::run();
    let trial = &mut record.scenarios[0].trial;
    let rows = 360_000;
    trial.timeline.t_s = (0..rows).map(|i| f64::from(i) * 0.01).collect();
    for values in trial.timeline.series.values_mut() {
        *values = vec![Some(1.0); rows as usize];
    }
    let page = page(&record);
    for (id, chart) in charts(&page).as_object().expect("charts") {
        let points = chart["x"].as_array().expect("x").len();
        assert!(points <= POINTS_MAX, "{id} has {points}");
    }
    assert!(page.len() < 4 * 1024 * 1024, "{} bytes", page.len());
}
