//! What a run leaves behind in the service: nothing that it brought.

mod support;

use std::sync::atomic::Ordering;

use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run;
use backdrop_simulator::shared::{Stop, StopReason};
use support::{Bug, Fake, plan, run_beside, under_load};

async fn storm(fake: &Fake, flags: &[&str]) {
    let flags = [&["--sessions", "60"], flags].concat();
    let plan = plan(Scenario::SwitchStorm, fake, &flags);
    run::run(plan, Stop::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_takes_its_backgrounds_away_and_no_others() {
    let fake = Fake::start(Bug::None).await;
    storm(&fake, &[]).await;
    assert_eq!(fake.uploads.load(Ordering::Relaxed), 4);
    assert!(fake.backgrounds().is_empty(), "{:?}", fake.backgrounds());

    let kept = ["sample-0000", "sample-0001"];
    storm(&fake, &["--background-count", "2", "--keep-backgrounds"]).await;
    assert_eq!(fake.backgrounds(), kept);
    storm(&fake, &[]).await;
    assert_eq!(fake.backgrounds(), kept, "they were there before");
    assert_eq!(fake.uploads.load(Ordering::Relaxed), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_the_service_keeps_are_told_of() {
    let fake = Fake::start(Bug::Keeps).await;
    let url = fake.url();
    let cache = format!("{}/backgrounds", env!("CARGO_TARGET_TMPDIR"));
    let run = move |wire: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_backdrop-simulator"))
            .args(["switch-storm", "--url", &url, "--cache-dir", &cache])
            .args(["--background-count", "4", "--sessions", "60"])
            .args(["--period", "200ms", "--duration", "500ms", "--warmup", "0s"])
            .args(["--progress", "none", "--wire", wire])
            .env_remove("BACKDROP_TOKEN")
            .output()
            .unwrap()
    };
    let runs = tokio::task::spawn_blocking(move || ["binary", "json"].map(run));
    for output in runs.await.unwrap() {
        let text = String::from_utf8_lossy(&output.stderr);
        let warning = "warning: 60 of the sessions that this run created are still in the service";
        assert_eq!(text.lines().collect::<Vec<_>>(), [warning]);
    }
    assert_eq!(fake.deleted.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_whose_creation_was_not_answered_are_told_of() {
    let fake = Fake::start(Bug::None).await;
    fake.faults.mute_creations.store(1, Ordering::Relaxed);
    let url = fake.url();
    let cache = format!("{}/backgrounds", env!("CARGO_TARGET_TMPDIR"));
    let run = move || {
        std::process::Command::new(env!("CARGO_BIN_EXE_backdrop-simulator"))
            .args(["switch-storm", "--url", &url, "--cache-dir", &cache])
            .args(["--background-count", "4", "--sessions", "60"])
            .args(["--progress", "none"])
            .env_remove("BACKDROP_TOKEN")
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let warning = "warning: 1 sessions more may be there: their creation was not answered";
    assert!(text.lines().any(|line| line == warning), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_replaced_meanwhile_is_theirs() {
    let fake = Fake::start(Bug::None).await;
    let flags = [
        "--sessions",
        "60",
        "--hot-update-every",
        "0s",
        "--duration",
        "3s",
    ];
    let plan = plan(Scenario::Mixed, &fake, &flags);
    run_beside(plan, Stop::default(), async {
        under_load(&fake).await;
        fake.replace("sample-0002");
    })
    .await;
    assert_eq!(fake.backgrounds(), ["sample-0002"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_replaced_by_the_run_itself_goes_too() {
    let fake = Fake::start(Bug::None).await;
    let flags = ["--sessions", "60", "--hot-update-every", "100ms"];
    let plan = plan(Scenario::Mixed, &fake, &flags);
    let report = run::run(plan, Stop::default()).await.unwrap().report;
    assert!(report.updates > 0);
    assert!(fake.backgrounds().is_empty(), "{:?}", fake.backgrounds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_interrupts_the_uploads_is_left_with_none() {
    let fake = Fake::start(Bug::None).await;
    // Two for each of the connections: every first one is done when the stop is seen.
    let plan = plan(Scenario::SwitchStorm, &fake, &["--background-count", "8"]);
    let stop = Stop::default();
    stop.set(StopReason::Interrupted);
    let error = run::run(plan, stop).await.unwrap_err();
    assert_eq!(error.exit_code(), 130, "{error}");
    let uploaded = fake.uploads.load(Ordering::Relaxed);
    assert!((1..8).contains(&uploaded), "{uploaded}");
    assert!(fake.backgrounds().is_empty(), "{:?}", fake.backgrounds());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_go_on_leaves_nothing_either() {
    let fake = Fake::with_room(Bug::None, 10).await;
    let flags = ["--sessions", "60"];
    let plan = plan(Scenario::SwitchStorm, &fake, &flags);
    let error = run::run(plan, Stop::default()).await.unwrap_err();
    assert!(error.to_string().contains("could be created"), "{error}");
    assert_eq!(fake.deleted.load(Ordering::Relaxed), 10);
    assert!(fake.backgrounds().is_empty(), "{:?}", fake.backgrounds());
}
