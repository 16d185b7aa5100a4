//! An interrupted run reports what it measured. A binary of its own: goose's stop switch is global to a process.

mod support;

use backdrop_simulator::cli::Scenario;
use backdrop_simulator::shared::{Stop, StopReason};
use support::{Bug, Fake, plan, run_beside, under_load};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_reports_what_it_measured() {
    let fake = Fake::start(Bug::None).await;
    let json = tempfile::tempdir().unwrap();
    let path = json.path().join("report.json");
    let flags = [
        "--sessions",
        "300",
        "--duration",
        "60s",
        "--json",
        path.to_str().unwrap(),
    ];
    let plan = plan(Scenario::Mixed, &fake, &flags);
    let stop = Stop::default();
    let outcome = run_beside(plan, stop.clone(), async {
        under_load(&fake).await;
        stop.set(StopReason::Interrupted);
    })
    .await;
    assert_eq!(outcome.exit, 130);
    assert_eq!(outcome.report.ended_early.as_deref(), Some("interrupted"));
    let written = std::fs::read_to_string(path).unwrap();
    // As text: the last digit of a rate may not survive being read.
    let report = serde_json::to_string_pretty(&outcome.report).unwrap();
    assert_eq!(written, report);
    assert!(outcome.report.duration_s < 60.0);
    assert!(fake.backgrounds().is_empty(), "{:?}", fake.backgrounds());
}
