//! Stale frames are seen. A binary of its own: the load lasts until enough of them were served, and goose's stop switch is
//! global to a process.

mod support;

use backdrop_reports::load::TruthVerdict;
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::shared::{Stop, StopReason};
use support::{Bug, Fake, plan, run_beside};

/// More than can be asked for between an upload and its acknowledgement, which are rightly of either revision.
const STALE_FRAMES: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_frames_are_seen() {
    let fake = Fake::start(Bug::Stale).await;
    let flags = [
        "--sessions",
        "300",
        "--duration",
        "120s",
        // Few enough for one unoptimised reader, which paints the updates, too.
        "--previews-per-second",
        "20",
        "--hot-update-every",
        "500ms",
    ];
    let stop = Stop::default();
    let plan = plan(Scenario::Mixed, &fake, &flags);
    let outcome = run_beside(plan, stop.clone(), async {
        let mut served = fake.stale_frames.subscribe();
        served.wait_for(|n| *n >= STALE_FRAMES).await.unwrap();
        stop.set(StopReason::Interrupted);
    });
    let truth = outcome.await.report.truth;
    assert!(truth.stale > 0, "{truth:#?}");
    assert_eq!(truth.verdict, TruthVerdict::Violated);
}
