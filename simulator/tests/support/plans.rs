//! Plans of short runs against the small service.

use backdrop_simulator::cli::{Cli, Errand, Plan, Scenario};
use clap::Parser;

use super::Fake;

/// One cache for all runs of this binary: samples are drawn once.
fn cache() -> String {
    format!("{}/backgrounds", env!("CARGO_TARGET_TMPDIR"))
}

/// A short run against the fake service; `flags` win.
pub fn plan(scenario: Scenario, fake: &Fake, flags: &[&str]) -> Plan {
    let (url, cache) = (fake.url(), cache());
    let common = [
        "backdrop-simulator",
        scenario.name(),
        "--url",
        &url,
        "--cache-dir",
        &cache,
        "--background-count",
        "4",
        "--period",
        "200ms",
        "--duration",
        "1s",
        "--warmup",
        "100ms",
        "--gateways",
        "3",
        "--tick",
        "20ms",
        "--timeout",
        "10s",
        "--progress",
        "none",
    ];
    let words = [&common[..], flags].concat();
    match Cli::parse_from(words).command.errand() {
        Errand::Load(_, args) => Plan::resolve(scenario, *args).unwrap(),
        _ => unreachable!("not a load scenario"),
    }
}
