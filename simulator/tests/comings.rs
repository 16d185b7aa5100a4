//! Sessions that come and go, what was never there, and what was recorded: churn, penetration, replay.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use backdrop_reports::load::{TruthFigures, TruthVerdict};
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::recording::Recording;
use backdrop_simulator::run::{self, Outcome};
use backdrop_simulator::shared::Stop;
use support::{Bug, Fake, plan, run_beside, under_load};

async fn load(scenario: Scenario, fake: &Fake, flags: &[&str]) -> Outcome {
    let plan = plan(scenario, fake, flags);
    run::run(plan, Stop::default()).await.unwrap()
}

async fn churn(fake: &Fake, flags: &[&str]) -> Outcome {
    let common = [
        "--sessions",
        "300",
        "--churn-per-second",
        "100",
        "--previews-per-second",
        "60",
    ];
    load(Scenario::Churn, fake, &[&common[..], flags].concat()).await
}

async fn penetration(bug: Bug) -> (Outcome, u64) {
    let fake = Fake::start(bug).await;
    let flags = ["--sessions", "300", "--absent-per-second", "200"];
    let outcome = load(Scenario::Penetration, &fake, &flags).await;
    (outcome, fake.singles.load(Ordering::Relaxed))
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
async fn who_leaves_is_gone_and_who_joins_switches() {
    let fake = Fake::start(Bug::None).await;
    let outcome = churn(&fake, &[]).await;
    let (report, churn) = (&outcome.report, outcome.beside.churn.unwrap());
    clean(&report.truth);
    assert!(churn.left > 0 && churn.left <= 100, "{churn:?}");
    assert_eq!(
        (churn.joined, churn.refused, churn.failed),
        (churn.left, 0, 0)
    );
    assert_eq!(
        (churn.leave.count, churn.join.count),
        (churn.left, churn.joined)
    );
    assert_eq!(report.switches.ok, report.switches.planned);
    // Who left has no switches until its successor is there.
    assert!((1000..=1500).contains(&report.switches.planned));
    assert_eq!(report.truth.sessions_read, 300);
    // Those of the sessions that left are among them.
    assert!(report.truth.switches_counted >= Some(report.switches.ok));
    let deleted = fake.deleted.load(Ordering::Relaxed);
    assert!(
        deleted >= 300 + churn.left,
        "nothing is left behind: {deleted}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_outlives_its_deletion_is_seen() {
    let fake = Fake::start(Bug::Lingers).await;
    let outcome = churn(&fake, &[]).await;
    says(&outcome.report.truth, "was acknowledged, and it is there");
    assert_eq!(outcome.exit, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_leave_stays_and_switches_on() {
    let fake = Fake::start(Bug::Keeps).await;
    let outcome = churn(&fake, &[]).await;
    let churn = outcome.beside.churn.unwrap();
    clean(&outcome.report.truth);
    assert!(churn.refused > 0, "{churn:?}");
    assert_eq!((churn.left, churn.joined), (0, 0));
    assert_eq!(outcome.report.truth.sessions_read, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_switches_of_sessions_that_left_are_seen() {
    let fake = Fake::start(Bug::Covered).await;
    let outcome = churn(&fake, &["--churn-per-second", "1000"]).await;
    let dropped = fake.dropped.load(Ordering::Relaxed);
    assert!(dropped > 0);
    let truth = &outcome.report.truth;
    assert!(truth.lost >= dropped, "{dropped} of {truth:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_churn_is_survived_and_judged() {
    let fake = Fake::start(Bug::None).await;
    let flags = [
        "--sessions",
        "300",
        "--duration",
        "2s",
        "--churn-per-second",
        "100",
        "--previews-per-second",
        "60",
    ];
    let plan = plan(Scenario::Churn, &fake, &flags);
    let outcome = run_beside(plan, Stop::default(), async {
        under_load(&fake).await;
        fake.restart();
    });
    let report = outcome.await.report;
    clean(&report.truth);
    assert!(report.sessions.recreated > 0);
    assert_eq!(report.truth.sessions_read, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_a_clean_404_of_each_kind() {
    let (outcome, singles) = penetration(Bug::None).await;
    let absent = outcome.beside.penetration.unwrap();
    clean(&outcome.report.truth);
    assert!((199..=201).contains(&absent.asked), "{absent:?}");
    assert_eq!((absent.clean, absent.shed), (absent.asked, 0), "{absent:?}");
    assert_eq!(absent.errors, BTreeMap::new());
    assert_eq!(absent.latency.count, absent.asked);
    // Two of five are switches, those of the warm-up too.
    assert!(singles >= absent.asked * 2 / 5 - 1, "{singles}");
    // None of them counts as a switch of the load.
    assert_eq!(outcome.report.switches.planned, 1500);
    assert_eq!(outcome.report.switches.ok, 1500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_made_and_is_answered_is_seen() {
    let (outcome, _) = penetration(Bug::Invents).await;
    let absent = outcome.beside.penetration.unwrap();
    says(&outcome.report.truth, "though nobody made it");
    assert_eq!(absent.clean, 0);
    assert_eq!(absent.errors, BTreeMap::from([("answered", absent.asked)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_instead_of_a_404_is_counted_as_one() {
    let (outcome, _) = penetration(Bug::Breaks).await;
    let absent = outcome.beside.penetration.unwrap();
    assert_eq!(absent.clean, 0);
    assert_eq!(absent.errors, BTreeMap::from([("http_500", absent.asked)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.switches");
    let file = path.to_str().unwrap();
    let fake = Fake::start(Bug::None).await;
    let first = load(
        Scenario::SwitchStorm,
        &fake,
        &["--sessions", "300", "--record", file, "--zipf", "0.9"],
    )
    .await;
    let recorded = first.beside.recording.unwrap();
    assert_eq!((recorded.left_out, recorded.failure), (0, None));
    let recording = Recording::read(&path).unwrap();
    assert_eq!(recording.switches.len() as u64, recorded.switches);
    let measured = recording.switches.iter();
    let measured = measured.filter(|planned| planned.at_us >= recording.header.warmup_us);
    assert_eq!(measured.count() as u64, first.report.switches.planned);

    // Other gateways and another seed: what is sent is what was recorded.
    let replayed = dir.path().join("again.json");
    let flags = [
        "--gateways",
        "2",
        "--seed",
        "9",
        "--json",
        replayed.to_str().unwrap(),
        file,
    ];
    let again = load(Scenario::Replay, &fake, &flags).await;
    clean(&again.report.truth);
    assert_eq!(again.report.sessions.created, 300);
    assert_eq!(again.report.switches.planned, first.report.switches.planned);
    assert_eq!(again.report.switches.ok, again.report.switches.planned);
    assert!(again.report.truth.switches_counted >= Some(again.report.switches.ok));
    assert_ne!(again.report.schedule_hash, first.report.schedule_hash);
    assert_eq!(
        again.report.schedule_hash,
        format!("{:016x}", recording.hash())
    );
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(replayed).unwrap()).unwrap();
    assert_eq!(json["scenario"], "replay");
    // Sixteen bytes a session, and the recording with an index of it.
    assert!(json["simulator"]["bytes_per_session"].as_f64() > Some(16.0));

    let fake = Fake::start(Bug::Lost).await;
    let lost = load(Scenario::Replay, &fake, &[file]).await;
    assert!(lost.report.truth.lost > 0, "{:#?}", lost.report.truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_ends_where_it_must_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.switches");
    let file = path.to_str().unwrap();
    let fake = Fake::start(Bug::None).await;
    let flags = ["--sessions", "300", "--record", file, "--record-max", "200"];
    let outcome = load(Scenario::SwitchStorm, &fake, &flags).await;
    let recorded = outcome.beside.recording.unwrap();
    assert!(
        recorded.switches <= 200 && recorded.left_out > 0,
        "{recorded:?}"
    );
    let recording = Recording::read(&path).unwrap();
    assert_eq!(recording.switches.len() as u64, recorded.switches);
}
