//! The loads on the cache: herds, hot updates and scans, against an honest service and against planted bugs.

mod support;

use backdrop_reports::load::{LoadReport, TruthFigures, TruthVerdict};
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run;
use backdrop_simulator::shared::Stop;
use support::{Bug, Fake, plan};

const HERD: u64 = 12;

async fn load(scenario: Scenario, fake: &Fake, flags: &[&str]) -> LoadReport {
    let flags = [&["--sessions", "200", "--gateways", "2"], flags].concat();
    let outcome = run::run(plan(scenario, fake, &flags), Stop::default()).await;
    outcome.unwrap().report
}

async fn herds(bug: Bug, flags: &[&str]) -> LoadReport {
    let fake = Fake::start(bug).await;
    let url = fake.url();
    let common = [
        "--herd-size",
        "12",
        // Half of the time between two herds is there to paint and upload: an unoptimised painter on a busy machine needs seconds.
        "--herd-every",
        "8s",
        "--duration",
        "9s",
        "--admin",
        &url,
    ];
    load(Scenario::ColdHerd, &fake, &[&common, flags].concat()).await
}

async fn updates(bug: Bug) -> LoadReport {
    let fake = Fake::start(bug).await;
    let flags = [
        "--previews-per-second",
        "60",
        "--hot-update-every",
        "300ms",
        "--duration",
        "2s",
    ];
    load(Scenario::HotUpdate, &fake, &flags).await
}

fn clean(truth: &TruthFigures) {
    assert_eq!(truth.verdict, TruthVerdict::Clean, "{truth:#?}");
}

fn says(truth: &TruthFigures, words: &str) {
    assert_eq!(truth.verdict, TruthVerdict::Violated, "{truth:#?}");
    let said = truth.history.iter().any(|line| line.contains(words));
    assert!(said, "{words:?} not in {truth:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_on_a_cold_background_is_one_load() {
    let report = herds(Bug::None, &[]).await;
    clean(&report.truth);
    let herds = report.herds.unwrap();
    assert!(herds.herds > 0, "{herds:?}");
    assert_eq!(
        (herds.asked, herds.shown),
        (herds.herds * HERD, herds.asked)
    );
    assert_eq!((herds.counted, herds.loads), (herds.herds, herds.herds));
    assert_eq!((herds.missed, herds.loads_max), (herds.herds, 1));
    assert_eq!(
        (herds.first.count, herds.last.count),
        (herds.herds, herds.herds)
    );
    assert!(herds.first.max_us <= herds.last.max_us);
    // What was left out was neither planned nor sent.
    assert_eq!(report.previews.planned, herds.asked);
    assert_eq!(report.preview_sends.sent, herds.asked);
    assert_eq!(report.switches.planned, 0);
    assert!(report.truth.frames_read > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_over_several_backgrounds_is_as_many_loads() {
    let herds = herds(Bug::None, &["--herd-keys", "2"]).await.herds.unwrap();
    assert!(herds.herds > 0, "{herds:?}");
    assert_eq!((herds.loads, herds.loads_max), (2 * herds.herds, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_loads_for_every_caller_is_seen() {
    let report = herds(Bug::EachLoads, &[]).await;
    let herds = report.herds.unwrap();
    assert_eq!((herds.loads_max, herds.missed), (HERD, herds.shown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_that_is_shown_the_replaced_picture_is_seen() {
    let report = herds(Bug::Stale, &[]).await;
    assert!(report.truth.stale >= HERD, "{:#?}", report.truth);
    says(&report.truth, "stale");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_backgrounds_are_shown_from_their_acknowledgement_on() {
    let report = updates(Bug::None).await;
    clean(&report.truth);
    assert!(report.updates > 0 && report.truth.frames_read > 0);
    assert_eq!(report.switches.ok, report.switches.planned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_comes_and_goes_is_seen() {
    says(
        &updates(Bug::Flaps).await.truth,
        "was shown before it was asked for",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_keeps_the_version_is_seen() {
    says(
        &updates(Bug::StandsStill).await.truth,
        "was acknowledged as version",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_passes_over_every_background() {
    let flags = [
        "--background-count",
        "4",
        "--scan-every",
        "500ms",
        "--scan-per-second",
        "20",
        "--previews-per-second",
        "20",
    ];
    let fake = Fake::start(Bug::None).await;
    let report = load(Scenario::Scan, &fake, &flags).await;
    clean(&report.truth);
    let scan = report.scan.unwrap();
    // Two passes begin within the second, and an honest service answers all of both.
    assert_eq!((scan.frames, scan.passes), (8, 2.0));
    assert!(report.previews.planned > 8);
    assert_eq!(report.switches.planned, 0);
    let still = load(Scenario::Scan, &fake, &["--scan-every", "0s"]).await;
    assert_eq!(still.scan, None);

    let fake = Fake::start(Bug::Torn).await;
    let report = load(Scenario::Scan, &fake, &flags).await;
    assert!(report.truth.torn > 0, "{:#?}", report.truth);
    assert!(*fake.frames.borrow() > 0);
}
