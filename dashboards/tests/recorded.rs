//! The way of a recording through a real `promtool` and a real Prometheus to every panel, with series that grow as those of a
//! run do. `just dashboards check` goes the same way with a real run.

#[path = "../../reports/tests/support/browser.rs"]
mod browser;
mod support;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use backdrop_dashboards::run::ask;
use backdrop_dashboards::run::preview;
use backdrop_dashboards::run::prometheus::{Prometheus, program};
use flate2::Compression;
use flate2::write::GzEncoder;
use support::{read, skipped};

const SECONDS: u64 = 30;
const FROM_MS: u64 = 1_700_000_000_000;
/// Who is scraped, and whose name stands in its series.
const PROGRAMS: [(&str, &str); 3] = [("service", "trial"), ("simulator", "trial"), ("chaos", "")];

/// A series of a golden exposition with every label given a value.
fn series(line: &str) -> String {
    let Some((name, labels)) = line.split_once('{') else {
        return line.to_owned();
    };
    let labels = labels.trim_end_matches('}').split(',');
    let given = labels.map(|label| match label.contains('=') {
        true => label.to_owned(),
        false => format!("{label}=\"any\""),
    });
    format!("{name}{{{}}}", given.collect::<Vec<_>>().join(","))
}

/// A run whose every series grows by one a second, without those of metrics that have `lacking` in their names.
fn record(run: &Path, lacking: &str) {
    let logs = run.join("logs/any");
    std::fs::create_dir_all(&logs).expect("a folder");
    let file = File::create(logs.join("metrics.gz")).expect("a file");
    let mut out = GzEncoder::new(file, Compression::fast());
    let golden = PROGRAMS.map(|(name, _)| read(format!("../{name}/tests/golden/metrics.txt")));
    for second in 0..SECONDS {
        for ((name, trial), golden) in PROGRAMS.iter().zip(&golden) {
            let unix_ms = FROM_MS + second * 1000;
            writeln!(
                out,
                "#scrape {{\"unix_ms\":{unix_ms},\"job\":\"backdrop-{name}\",\"instance\":\"{name}:1\",\"trial\":\"{trial}\",\"up\":1}}"
            )
            .expect("written");
            let lines = golden.lines().filter(|line| !line.starts_with('#'));
            for line in lines.filter(|line| lacking.is_empty() || !line.contains(lacking)) {
                writeln!(out, "{} {}", series(line), second + 1).expect("written");
            }
        }
    }
    out.finish().expect("written");
}

/// Whether both programs are there.
fn installed(test: &str) -> bool {
    [("PROMTOOL", "promtool"), ("PROMETHEUS", "prometheus")]
        .into_iter()
        .all(|(variable, name)| {
            let program = program(variable, name);
            let there = Command::new(&program).arg("--version").output().is_ok();
            if !there {
                skipped(test, &format!("there is no {}", program.display()));
            }
            there
        })
}

/// Titles of panels that found nothing, and wait for no event that did not happen.
fn failed(server: &Prometheus) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, dashboard) in backdrop_dashboards::all() {
        for asked in ask::dashboard(server, &dashboard).expect("answers") {
            if !asked.excused && asked.empty().next().is_some() {
                failed.push(format!("{name}: {}", asked.panel.title));
            }
        }
    }
    failed
}

/// The preview's page.
fn drawn(server: &Prometheus) -> String {
    let dashboards = backdrop_dashboards::all();
    let asked: Vec<_> = dashboards
        .iter()
        .map(|(_, dashboard)| {
            (
                dashboard,
                ask::dashboard(server, dashboard).expect("answers"),
            )
        })
        .collect();
    preview::page("any", server, &asked, 1).expect("a page")
}

#[test]
fn every_panel_finds_the_series_of_a_recording_and_is_drawn() {
    if !installed("recorded") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    record(dir.path(), "");
    let server = Prometheus::over(dir.path(), &dir.path().join("blocks")).expect("a server");
    assert_eq!(server.extent.scrapes, SECONDS * 3);
    assert_eq!(failed(&server), Vec::<String>::new());
    let page = drawn(&server);
    for (_, dashboard) in backdrop_dashboards::all() {
        for panel in &dashboard.panels {
            assert!(page.contains(&panel.title), "{} is not drawn", panel.title);
        }
    }
    let blocks = dir.path().join("blocks");
    drop(server);
    assert!(!blocks.exists(), "the database goes with its server");
}

#[test]
fn the_preview_is_good_to_look_at_and_to_use() {
    if !installed("preview") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    record(dir.path(), "");
    let server = Prometheus::over(dir.path(), &dir.path().join("blocks")).expect("a server");
    browser::check("preview", &[("preview", drawn(&server))]);
}

#[test]
fn a_panel_whose_metric_is_not_there_is_found() {
    if !installed("recorded, a metric less") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    record(dir.path(), "pool_blocks");
    let server = Prometheus::over(dir.path(), &dir.path().join("blocks")).expect("a server");
    assert_eq!(failed(&server), ["memory: Frame pool"]);
}
