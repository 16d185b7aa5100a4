//! Sessions that come and go, what was never there, and what was recorded: churn, penetration, replay.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backdrop_reports::load::{TruthFigures, TruthVerdict};
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run::{self, Outcome};
use backdrop_simulator::shared::Stop;
use backdrop_simulator::tape::Tape;
use support::{Bug, Fake, Faults, plan, run_beside, under_load};

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
    assert!(churn.left > 0, "{churn:?}");
    assert_eq!((churn.planned, churn.left + churn.left_out), (100, 100));
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
    let truth = &outcome.report.truth;
    assert!(churn.refused > 0, "{churn:?}");
    assert_eq!((churn.left, churn.joined), (0, 0));
    assert_eq!(truth.sessions_read, 300);
    // Where nobody may leave, nothing was seen of leaving.
    assert_eq!(truth.history, ["inconclusive: no session left"]);
    assert_eq!(outcome.exit, 2);
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

async fn faulty(bug: Bug, faults: Faults) -> Arc<Fake> {
    Fake::with_faults(bug, usize::MAX, faults).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_reads_is_there_and_loses_nothing() {
    let faults = Faults {
        refused_reads: AtomicU64::new(6),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let outcome = churn(&fake, &["--duration", "2s"]).await;
    let switches = &outcome.report.switches;
    clean(&outcome.report.truth);
    assert_eq!(switches.errors, BTreeMap::new());
    assert_eq!(switches.ok, switches.planned);
    let churn = outcome.beside.churn.unwrap();
    assert!(churn.refused > 0 && churn.left > 0, "{churn:?}");
    assert_eq!(churn.failed, 0);
    let told = churn.left + churn.refused + churn.left_out;
    assert_eq!(churn.planned, told, "{churn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_without_an_answer_is_asked_for_again() {
    let faults = Faults {
        mute_deletions: AtomicU64::new(4),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let outcome = churn(&fake, &["--warmup", "0s"]).await;
    clean(&outcome.report.truth);
    assert_eq!(outcome.report.truth.sessions_read, 300);
    let churn = outcome.beside.churn.unwrap();
    assert_eq!((churn.refused, churn.failed), (0, 0), "{churn:?}");
    assert_eq!(churn.joined, churn.left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_is_never_answered_is_a_doubt_and_no_loss() {
    let faults = Faults {
        mute_deletions: AtomicU64::new(u64::MAX),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let flags = ["--warmup", "0s", "--reconnect-for", "300ms"];
    let outcome = churn(&fake, &flags).await;
    let truth = &outcome.report.truth;
    assert_eq!((truth.lost, truth.wrong), (0, 0), "{truth:#?}");
    assert_eq!(truth.verdict, TruthVerdict::Inconclusive);
    let words = "inconclusive: the deletion of sessions was never answered";
    assert!(truth.history.iter().any(|line| line == words), "{truth:#?}");
    let churn = outcome.beside.churn.unwrap();
    // Whoever may be deleted yet takes no further part; others joined in their places.
    assert_eq!((churn.left, truth.sessions_read), (0, 300), "{churn:?}");
    assert!(churn.failed > 0 && churn.leave.count == churn.failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_deleted_stays_away_where_nobody_can_look() {
    let fake = Fake::start(Bug::HidesTheGone).await;
    let outcome = churn(&fake, &["--warmup", "0s", "--reconnect-for", "300ms"]).await;
    let truth = &outcome.report.truth;
    assert_eq!((truth.lost, truth.wrong), (0, 0), "{truth:#?}");
    assert_eq!(truth.verdict, TruthVerdict::Inconclusive);
    assert_eq!(truth.sessions_read, 300);
    let switches = &outcome.report.switches;
    assert_eq!(switches.ok, switches.planned, "{:?}", switches.errors);
    assert!(outcome.beside.churn.unwrap().left > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_that_come_too_late_are_left_out_and_counted() {
    let faults = Faults {
        slow_deletions: Some(Duration::from_millis(400)),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let outcome = churn(&fake, &["--warmup", "0s"]).await;
    clean(&outcome.report.truth);
    let churn = outcome.beside.churn.unwrap();
    // Each of ten turns would take longer than it may.
    assert!(churn.left > 0 && churn.left_out >= 50, "{churn:?}");
    assert_eq!((churn.planned, churn.left + churn.left_out), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_in_another_life_is_not_judged_by_the_next_ones_catalogue() {
    let faults = Faults {
        restart_in_read: AtomicBool::new(true),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let outcome = churn(&fake, &["--duration", "3s", "--warmup", "0s"]).await;
    clean(&outcome.report.truth);
    assert!(outcome.report.sessions.recreated > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_may_take_longer_than_a_switch() {
    let faults = Faults {
        slow_creation: Some(Duration::from_millis(3_500)),
        ..Faults::default()
    };
    let fake = faulty(Bug::None, faults).await;
    let outcome = churn(&fake, &["--warmup", "0s", "--timeout", "3s"]).await;
    clean(&outcome.report.truth);
    assert_eq!(outcome.report.truth.sessions_read, 300);
    let churn = outcome.beside.churn.unwrap();
    assert_eq!((churn.failed, churn.joined), (0, churn.left), "{churn:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_as_may_be_asked_for_at_once_leave_together() {
    let fake = Fake::start(Bug::None).await;
    let flags = [
        "--sessions",
        "13000",
        "--gateways",
        "1",
        "--churn-per-second",
        "120000",
        "--period",
        "10s",
        "--duration",
        "300ms",
        "--warmup",
        "0s",
    ];
    let outcome = churn(&fake, &flags).await;
    clean(&outcome.report.truth);
    assert!(outcome.beside.churn.unwrap().left >= 10_000);
    assert_eq!(fake.batch_max.load(Ordering::Relaxed), 10_000);
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
    let words = "inconclusive: nothing that is not there was answered by a clean 404";
    assert_eq!(outcome.report.truth.history, [words]);
    assert_eq!(outcome.exit, 2);
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
    let tape = Tape::read(&path).unwrap();
    assert_eq!(tape.count, recorded.switches);
    let measured = tape.switches().iter();
    let measured = measured.filter(|planned| planned.at_us >= tape.header.warmup_us);
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
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(replayed).unwrap()).unwrap();
    assert_eq!(json["scenario"], "replay");
    // Sixteen bytes a session, twenty a switch, and four more a session to find its switches.
    let bytes = json["simulator"]["bytes_per_session"].as_f64().unwrap();
    let taped = 20.0 * tape.count as f64 / 300.0;
    assert!(bytes >= 20.0 + taped, "{bytes}, {taped}");

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
    let flags = [
        "--sessions",
        "300",
        "--warmup",
        "0s",
        "--record",
        file,
        "--record-max",
        "700",
    ];
    let outcome = load(Scenario::SwitchStorm, &fake, &flags).await;
    let recorded = outcome.beside.recording.unwrap();
    assert!(
        recorded.switches <= 700 && recorded.left_out > 0,
        "{recorded:?}"
    );
    assert_eq!(Tape::read(&path).unwrap().count, recorded.switches);

    // A run that never begins leaves it alone.
    let mut away = plan(Scenario::SwitchStorm, &fake, &flags);
    away.args.url = "http://127.0.0.1:1".to_owned();
    run::run(away, Stop::default()).await.unwrap_err();
    assert_eq!(Tape::read(&path).unwrap().count, recorded.switches);
}
