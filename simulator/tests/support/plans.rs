//! Plans of short runs against the small service.

use backdrop_simulator::cli::{Cli, Errand, Plan, Scenario};
use backdrop_simulator::run::{self, Outcome};
use backdrop_simulator::shared::Stop;
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
        "--gateways",
        "3",
        "--tick",
        "20ms",
        "--timeout",
        "10s",
        "--progress",
        "none",
    ];
    let shape = [
        "--period",
        "200ms",
        "--background-count",
        "4",
        "--duration",
        "1s",
        "--warmup",
        "100ms",
    ];
    let shape = match scenario {
        // Its recording says them.
        Scenario::Replay => &[][..],
        _ => &shape,
    };
    let words = [&common[..], shape, flags].concat();
    match Cli::parse_from(words).command.errand() {
        Errand::Load(_, args) => Plan::resolve(scenario, *args).unwrap(),
        _ => unreachable!("not a load scenario"),
    }
}

/// Runs a plan, and beside it what happens meanwhile. A run that ends before that is over fails the test, which would else wait
/// for ever for what no load brings any more.
#[allow(dead_code, reason = "each test binary runs its own")]
pub async fn run_beside(plan: Plan, stop: Stop, meanwhile: impl Future<Output = ()>) -> Outcome {
    let mut running = std::pin::pin!(run::run(plan, stop));
    tokio::select! {
        biased;
        () = meanwhile => running.await.unwrap(),
        ended = &mut running => panic!("the run ended too early: {ended:?}"),
    }
}
