//! The scorecard: every name in its rows is one that somebody measures, and what it shows is what kept records hold.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use backdrop_reports::record::{MUTANTS_SUITE, RunRecord, Verdict};
use backdrop_reports::render::{self, write_all};
use backdrop_reports::scorecard::found::{Found, Origin};
use backdrop_reports::scorecard::rows::{CLAIMS, Source, Trial};
use backdrop_reports::scorecard::{self, Scorecard};

const MIB: f64 = 1024.0 * 1024.0;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text_below(dir: &Path, ending: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            text += &text_below(&path, ending);
        } else if path.extension().is_some_and(|e| e == ending) {
            text += &std::fs::read_to_string(&path).expect("text");
        }
    }
    text
}

fn sources() -> impl Iterator<Item = &'static Source> {
    let measures = CLAIMS.iter().flat_map(|claim| claim.measures);
    measures.map(|measure| &measure.source)
}

/// Whether a name can be what is made of a string in the source, whose places in braces may be anything.
fn fits(literal: &str, name: &str) -> bool {
    let mut fixed = literal
        .split('{')
        .map(|part| part.split_once('}').map_or(part, |p| p.1));
    let first = fixed.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut known = first.len();
    for part in fixed {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        known += part.len();
    }
    // What is all braces fits everything.
    known >= 10 && (rest.is_empty() || literal.ends_with('}'))
}

#[test]
fn the_benchmarks_have_every_figure_and_group() {
    let code = text_below(&workspace().join("service/benches"), "rs");
    let literals: Vec<&str> = code
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect();
    let known = |name: &str| literals.iter().any(|literal| fits(literal, name));
    assert!(!known("metadata: a figure that nobody measures"));
    let mut seen = 0;
    for source in sources() {
        let Source::Bench { group, figure } = source else {
            continue;
        };
        assert!(
            code.contains(&format!("(\"{group}\", ")),
            "no group {group}"
        );
        assert!(known(figure), "no benchmark writes `{figure}`");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn the_runner_has_every_scenario_control_and_figure() {
    let chaos = workspace().join("chaos");
    let catalogue = text_below(&chaos.join("src/catalogue"), "rs");
    let has = |trial: &Trial| {
        let file = chaos.join(format!("scenarios/{}.toml", trial.scenario));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        let name = trial
            .control
            .map(|name| format!("[[control]]\nname = \"{name}\""));
        name.is_none_or(|name| text.contains(&name))
    };
    for source in sources() {
        let Source::Run {
            figure,
            per,
            naive,
            ours,
        } = source
        else {
            continue;
        };
        for trial in naive.iter().chain([ours]) {
            assert!(has(trial), "{} is no trial", trial.name());
        }
        for figure in per.iter().chain([figure]) {
            let base = figure.split('.').next().expect("a name");
            assert!(
                catalogue.contains(&format!("\"{base}\"")),
                "no figure {base}"
            );
        }
    }
}

#[test]
fn rows_have_places_of_their_own() {
    let ids: BTreeSet<&str> = CLAIMS.iter().map(|claim| claim.id).collect();
    assert_eq!(ids.len(), CLAIMS.len());
    assert!(CLAIMS.iter().all(|claim| !claim.measures.is_empty()));
}

/// A run with the shared and the naive service beside each other.
fn run(second: usize, peak_mib: f64) -> RunRecord {
    let mut run = support::run();
    run.id = format!("20261122T1934{second:02}Z-42");
    run.figures.remove("service_peak_mib");
    let shared = &mut run.scenarios[0];
    shared
        .figures
        .insert("sessions_reached".into(), 1_200_000.0);
    shared.figures.insert("service_peak_mib".into(), peak_mib);
    shared.figures.insert("switch_p99_ms.pressed".into(), 3.25);
    let mut naive = shared.clone();
    naive.name = "exclusive-control".into();
    naive.figures.insert("sessions_reached".into(), 40.0);
    naive.figures.insert("service_peak_mib".into(), 360.0);
    naive.controls[0].name = "protections-off".into();
    naive.controls[0]
        .figures
        .insert("service_oom_kills".into(), 1.0);
    naive.controls[0]
        .figures
        .insert("service_peak_mib".into(), 380.0);
    run.scenarios.push(naive);
    run
}

fn keep(out: &Path, run: &RunRecord) {
    write_all(run, &out.join(&run.id)).expect("written");
}

fn found<'a>(card: &'a Scorecard, what: &str) -> Option<&'a Found> {
    let mut readings = card.rows.iter().flat_map(|row| &row.readings);
    let reading = readings.find(|reading| reading.measure.what == what);
    reading.expect("such a measure").found.as_ref()
}

fn of(out: &Path) -> Scorecard {
    scorecard::of(out).expect("a folder")
}

const REACHED: &str = "sessions that hold a background";
const EACH: &str = "peak memory of the service for each of them";
const KILLS: &str = "kernel kills, where the naive service has nothing to protect it";

#[test]
fn both_sides_come_from_the_newest_run_that_has_them() {
    let out = tempfile::tempdir().expect("a folder");
    keep(out.path(), &run(1, 200.0));
    keep(out.path(), &run(2, 240.0));
    // Newer ones that cannot say: one side alone, a suite of mutants, one that failed, one that was not decided.
    let mut alone = run(5, 1.0);
    alone.scenarios.truncate(1);
    keep(out.path(), &alone);
    let mut mutants = run(3, 1.0);
    mutants.suite = MUTANTS_SUITE.into();
    keep(out.path(), &mutants);
    let mut failed = run(4, 1.0);
    failed.scenarios[0].verdict = Verdict::Error;
    keep(out.path(), &failed);
    let mut undecided = run(6, 1.0);
    undecided.scenarios[0].verdict = Verdict::Inconclusive;
    undecided.scenarios[1].verdict = Verdict::Inconclusive;
    keep(out.path(), &undecided);
    let card = of(out.path());
    let reached = found(&card, REACHED).expect("measured");
    assert_eq!((reached.naive, reached.ours), (Some(40.0), 1_200_000.0));
    let each = found(&card, EACH).expect("measured");
    assert_eq!(each.naive, Some(360.0 / 40.0));
    assert!((each.ours * MIB - 240.0 * MIB / 1_200_000.0).abs() < 1e-6);
    let kills = found(&card, KILLS).expect("measured");
    assert_eq!((kills.naive, kills.ours), (Some(1.0), 0.0));
    assert_eq!(kills.peer, "exclusive-control, protections-off");
    for found in [reached, each, kills] {
        let Origin::Run { id, verdict, .. } = &found.origin else {
            panic!("{found:?}");
        };
        assert_eq!(
            (id.as_str(), *verdict),
            ("20261122T193402Z-42", Verdict::Held)
        );
    }
}

#[test]
fn a_control_that_did_not_do_what_was_expected_shows_nothing() {
    let out = tempfile::tempdir().expect("a folder");
    let mut run = run(1, 200.0);
    let last = run.scenarios.len() - 1;
    run.scenarios[last].controls[0].as_expected = false;
    keep(out.path(), &run);
    let card = of(out.path());
    assert!(found(&card, KILLS).is_none());
    assert!(found(&card, REACHED).is_some());
}

#[test]
fn rounds_become_their_median() {
    let out = tempfile::tempdir().expect("a folder");
    let mut whole = run(1, 100.0);
    for (repeat, peak) in [(2, 900.0), (3, 120.0)] {
        let mut round = run(1, peak).scenarios[0].clone();
        round.repeat = repeat;
        whole.scenarios.push(round);
    }
    keep(out.path(), &whole);
    let peak = of(out.path());
    let peak = found(&peak, "peak memory of the service").expect("measured");
    assert_eq!((peak.naive, peak.ours), (Some(380.0), 120.0));
}

const BENCH: &str = r#"[
  {"name": "metadata: a changed copy, one more tag", "ours": 50.0, "peer": 150.0, "peer_name": "owned <record>",
   "unit": "ns", "ratio": 0.33, "goal": null, "reached": null},
  {"name": "preview: page faults", "ours": 0.0, "peer": 230.0, "peer_name": "fresh", "unit": "faults"},
  {"name": "pool churn: time per load", "ours": null, "peer": 1.0, "peer_name": "x", "unit": "ms"},
  {"name": "nobody asks for this", "ours": 1.0, "peer": null, "peer_name": null, "unit": "ms"}
]"#;

fn page(out: &Path) -> String {
    let home = out.join("scorecard");
    std::fs::create_dir_all(&home).expect("a folder");
    render::scorecard::render(&of(out), &home).expect("a page")
}

#[test]
fn the_page_shows_what_is_measured_and_how_to_measure_the_rest() {
    let out = tempfile::tempdir().expect("a folder");
    let empty = page(out.path());
    let (_, all) = of(out.path()).counts();
    assert!(empty.contains(&format!("0 of {all} figures")));
    assert_eq!(empty.matches("not measured here").count(), all);
    for command in [
        "just bench sharing",
        "just chaos run million-switch exclusive-control",
        "just chaos run soak",
        "just chaos run hot-update",
    ] {
        assert!(
            empty.contains(&format!("<code>{command}</code>")),
            "{command}"
        );
    }

    keep(out.path(), &run(1, 200.0));
    std::fs::create_dir_all(out.path().join("bench")).expect("a folder");
    std::fs::write(out.path().join("bench/figures.json"), BENCH).expect("written");
    let page = page(out.path());
    for part in [
        "30,000 × more", // sessions
        "none left",     // kills, and page faults
        ">1 kill<",
        "; naive: exclusive-control, protections-off",
        "the naive service does not live that long",
        "3 × less", // ns
        "1,200,000",
        "150 ns",
        "owned &#60;record&#62;",
        "million-switch of 20261122T193401Z-42",
        "42.7 GB → 18.3 GB",
        "do not add up",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
    let links = page.split("<td data-label=\"By\"><span><a href=\"").skip(1);
    let mut seen = 0;
    for link in links {
        let (href, _) = link.split_once('"').expect("it ends");
        let (path, anchor) = href.split_once('#').unwrap_or((href, ""));
        let file = out.path().join("scorecard").join(path);
        let target = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{href}: {e}"));
        assert!(
            anchor.is_empty() || target.contains(&format!("id=\"{anchor}\"")),
            "{href}"
        );
        seen += 1;
    }
    assert_eq!(seen, of(out.path()).counts().0);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let out = tempfile::tempdir().expect("a folder");
    let broken = out.path().join("20261122T193409Z-1");
    std::fs::create_dir_all(&broken).expect("a folder");
    std::fs::write(broken.join("run.json"), "{\"schema_version\": 99}").expect("written");
    std::fs::create_dir_all(out.path().join("bench")).expect("a folder");
    std::fs::write(out.path().join("bench/figures.json"), "{}").expect("written");
    keep(out.path(), &run(1, 200.0));
    let card = of(out.path());
    assert!(found(&card, REACHED).is_some(), "the others are used");
    assert_eq!(card.unread.len(), 2);
    let page = page(out.path());
    assert!(page.contains("not the benchmarks"));
    assert!(page.contains("schema version 99"));
}

#[test]
fn the_binary_writes_it_and_reports_lead_to_it() {
    let out = tempfile::tempdir().expect("a folder");
    let run = run(1, 200.0);
    keep(out.path(), &run);
    let index = out.path().join(&run.id).join("index.html");
    let link = "href=\"../scorecard/index.html\"";
    assert!(
        !std::fs::read_to_string(&index)
            .expect("there")
            .contains(link)
    );
    let report = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
        command.args(arguments).output().expect("the binary starts")
    };
    let folder = out.path().to_str().expect("utf-8");
    let done = report(&["scorecard", "--out", folder]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("not measured here: just bench metadata\n"),
        "{said}"
    );
    let file = out.path().join("scorecard/index.html");
    assert!(said.ends_with(&format!("{}\n", file.display())), "{said}");
    assert!(file.is_file());
    let run = out.path().join(&run.id);
    assert!(
        report(&["render", run.to_str().expect("utf-8")])
            .status
            .success()
    );
    assert!(
        std::fs::read_to_string(&index)
            .expect("there")
            .contains(link)
    );
    // It is no run.
    assert_eq!(of(out.path()).unread, Vec::new());
    let nowhere = report(&["scorecard", "--out", &format!("{folder}/nowhere")]);
    assert_eq!(nowhere.status.code(), Some(66));
}
