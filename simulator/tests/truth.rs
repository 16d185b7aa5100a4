//! Whole runs against a service that lies: each planted bug must turn the truth checker red, honesty must not.

mod support;

use std::sync::atomic::Ordering;

use backdrop_reports::load::TruthVerdict;
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run::{self, Outcome};
use backdrop_simulator::shared::Stop;
use support::{Bug, Fake, plan, run_beside, under_load};

async fn storm(fake: &Fake, flags: &[&str]) -> Outcome {
    let flags = [&["--sessions", "300"], flags].concat();
    run::run(plan(Scenario::SwitchStorm, fake, &flags), Stop::default())
        .await
        .unwrap()
}

async fn mixed(fake: &Fake, flags: &[&str]) -> Outcome {
    let flags = [
        &[
            "--sessions",
            "300",
            "--previews-per-second",
            "60",
            "--hot-update-every",
            "300ms",
        ],
        flags,
    ]
    .concat();
    run::run(plan(Scenario::Mixed, fake, &flags), Stop::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_service_is_clean() {
    let fake = Fake::start(Bug::None).await;
    let outcome = mixed(&fake, &["--window", "early=0s..400ms"]).await;
    let report = &outcome.report;
    assert_eq!(
        report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        report.truth
    );
    assert_eq!(report.truth.sessions_read, 300);
    assert!(report.truth.frames_read > 0 && report.truth.sessions_sampled > 0);
    assert_eq!(report.sessions.created, 300);
    assert_eq!(report.sessions.reached, 300);
    assert_eq!(
        report.switches.ok, report.switches.planned,
        "{:?}",
        report.switches.errors
    );
    assert_eq!(report.switches.planned, 1500);
    assert_eq!(report.switches.latency.count, 1500);
    // Those of the warm-up count, too.
    assert!(report.truth.switches_counted >= Some(1500));
    // Counted by whole ticks, the first of which began in the warm-up.
    assert!(report.sends.planned >= 1500);
    assert_eq!(report.sends.sent, report.sends.planned);
    assert_eq!((report.sends.dropped, report.sends.unsent), (0, 0));
    assert!(report.preview_sends.planned > 0);
    assert_eq!(report.windows[0].switches.planned, 600);
    assert!(report.goose.requests > 0 && report.goose.failures == 0);
    assert!(fake.singles.load(Ordering::Relaxed) > 0);
    assert_eq!(
        fake.deleted.load(Ordering::Relaxed),
        300,
        "nothing is left behind"
    );
    // Four at set-up, the rest while the load ran.
    assert!(fake.uploads.load(Ordering::Relaxed) > 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_previews_are_clean() {
    let fake = Fake::start(Bug::None).await;
    let flags = ["--sessions", "100", "--previews-per-second", "60"];
    let outcome = run::run(plan(Scenario::Preview, &fake, &flags), Stop::default())
        .await
        .unwrap();
    let report = &outcome.report;
    assert_eq!(
        report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        report.truth
    );
    assert_eq!(outcome.exit, 0);
    // By the timetable: one in each sixtieth of the second, with a jitter of one place.
    assert!((59..=61).contains(&report.previews.planned));
    assert_eq!(report.previews.ok, report.previews.planned);
    assert_eq!(report.previews.latency.count, report.previews.planned);
    assert!(report.truth.frames_read > 0);
    assert_eq!(
        (report.switches.planned, report.truth.sessions_read),
        (0, 100)
    );
}

async fn composites(bug: Bug) -> Outcome {
    let fake = Fake::start(bug).await;
    let flags = ["--sessions", "100", "--previews-per-second", "20"];
    run::run(plan(Scenario::Composite, &fake, &flags), Stop::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_composites_are_clean_in_both_forms() {
    let outcome = composites(Bug::None).await;
    let report = &outcome.report;
    assert_eq!(
        report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        report.truth
    );
    assert!((19..=21).contains(&report.previews.planned));
    assert_eq!(report.previews.ok, report.previews.planned);
    assert!(report.truth.frames_read > 1);
    assert_eq!(report.switches.planned, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn composites_without_their_participant_are_found() {
    let truth = composites(Bug::Unmanned).await.report.truth;
    assert_eq!(truth.verdict, TruthVerdict::Violated);
    assert_eq!(truth.torn, truth.frames_read);
    assert!(
        truth.history[0].contains("without the participant"),
        "{:?}",
        truth.history
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_in_json_are_judged_alike() {
    let fake = Fake::start(Bug::None).await;
    let outcome = storm(&fake, &["--wire", "json"]).await;
    let report = &outcome.report;
    assert_eq!(
        report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        report.truth
    );
    assert_eq!((report.switches.planned, report.switches.ok), (1500, 1500));
    assert!(report.truth.switches_counted >= Some(1500));
    assert_eq!(report.truth.sessions_read, 300);
    assert_eq!(fake.deleted.load(Ordering::Relaxed), 300);

    let fake = Fake::start(Bug::Covered).await;
    let outcome = storm(&fake, &["--wire", "json"]).await;
    assert!(outcome.report.truth.lost >= fake.dropped.load(Ordering::Relaxed));
    assert_eq!(outcome.exit, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_switches_are_seen() {
    let fake = Fake::start(Bug::Lost).await;
    let outcome = storm(&fake, &[]).await;
    assert_eq!(outcome.report.truth.verdict, TruthVerdict::Violated);
    assert!(outcome.report.truth.lost > 0, "{:#?}", outcome.report.truth);
    assert!(outcome.report.truth.history[0].contains("acknowledged"));
    assert_eq!(outcome.exit, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_switches_that_later_ones_cover_are_seen() {
    let fake = Fake::start(Bug::Covered).await;
    let outcome = storm(&fake, &[]).await;
    let truth = &outcome.report.truth;
    let dropped = fake.dropped.load(Ordering::Relaxed);
    assert!(dropped > 0);
    assert!(truth.lost >= dropped, "{truth:#?}");
    let line = format!("{dropped} acknowledged switches are not in the sessions' counters");
    assert!(
        truth.history.iter().any(|words| words.contains(&line)),
        "{truth:#?}"
    );
    assert_eq!(outcome.exit, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_backgrounds_are_seen() {
    let fake = Fake::start(Bug::Wrong).await;
    let outcome = storm(&fake, &[]).await;
    assert_eq!(outcome.report.truth.verdict, TruthVerdict::Violated);
    let (truth, planted) = (&outcome.report.truth, fake.wrong_sessions());
    assert!(planted > 0);
    // Samples while the load ran may have seen more.
    assert!(truth.wrong >= planted, "{truth:#?}");
    assert_eq!(
        (truth.lost, truth.stale, truth.torn),
        (0, 0, 0),
        "{truth:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_switches_that_were_applied_are_seen() {
    let fake = Fake::start(Bug::RefusedButApplied).await;
    let outcome = storm(&fake, &[]).await;
    assert!(outcome.report.switches.shed > 0);
    assert!(
        outcome.report.truth.wrong > 0,
        "{:#?}",
        outcome.report.truth
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_switches_that_were_not_applied_are_right() {
    let fake = Fake::start(Bug::Sheds).await;
    let outcome = storm(&fake, &[]).await;
    assert!(outcome.report.switches.shed > 0 && outcome.report.switches.ok > 0);
    assert_eq!(
        outcome.report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        outcome.report.truth
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_frames_are_seen() {
    let fake = Fake::start(Bug::Torn).await;
    let outcome = mixed(&fake, &[]).await;
    assert!(outcome.report.truth.torn > 0, "{:#?}", outcome.report.truth);
    assert_eq!(outcome.exit, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_a_code_prove_nothing() {
    let fake = Fake::start(Bug::Blank).await;
    let outcome = mixed(&fake, &[]).await;
    assert_eq!(outcome.report.truth.verdict, TruthVerdict::Inconclusive);
    assert!(outcome.report.truth.frames_unreadable > 0);
    assert_eq!(outcome.exit, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn degraded_frames_are_counted_and_not_judged() {
    let fake = Fake::start(Bug::Degraded).await;
    let flags = ["--sessions", "100", "--previews-per-second", "60"];
    let outcome = run::run(plan(Scenario::Preview, &fake, &flags), Stop::default())
        .await
        .unwrap();
    assert!(outcome.report.previews.degraded > 0);
    assert_eq!(outcome.report.previews.ok, 0);
    // No frame was whole: the check has no samples.
    assert_eq!(outcome.report.truth.verdict, TruthVerdict::Inconclusive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_switches_are_judged_alike() {
    let fake = Fake::start(Bug::None).await;
    let flags = ["--sessions", "60"];
    let outcome = run::run(plan(Scenario::SwitchSingle, &fake, &flags), Stop::default())
        .await
        .unwrap();
    assert_eq!(
        outcome.report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        outcome.report.truth
    );
    assert_eq!(outcome.report.switches.ok, 300);
    assert_eq!(outcome.report.http.batch_entries_max, 1);
    assert!(fake.singles.load(Ordering::Relaxed) >= 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_refuses_sessions_is_an_error_unless_allowed() {
    let fake = Fake::with_room(Bug::None, 120).await;
    let refused = run::run(
        plan(Scenario::SwitchStorm, &fake, &["--sessions", "300"]),
        Stop::default(),
    )
    .await;
    assert!(refused.unwrap_err().to_string().contains("120 of 300"));

    let fake = Fake::with_room(Bug::None, 120).await;
    let outcome = storm(&fake, &["--allow-partial-sessions"]).await;
    let sessions = &outcome.report.sessions;
    assert_eq!(
        (sessions.created, sessions.refused, sessions.reached),
        (120, 180, 120)
    );
    assert_eq!(sessions.shed, 180);
    // Every gateway has its share of what there was room for.
    for gateway in 0..3 {
        let users = gateway * 100..(gateway + 1) * 100;
        let made = fake
            .users()
            .into_iter()
            .filter(|user| users.contains(user))
            .count();
        assert!((30..=50).contains(&made), "{made} of gateway {gateway}");
    }
    assert_eq!(outcome.report.truth.sessions_read, 120);
    assert_eq!(
        outcome.report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        outcome.report.truth
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_survived_and_judged() {
    let fake = Fake::start(Bug::None).await;
    let plan = plan(
        Scenario::Mixed,
        &fake,
        &[
            "--sessions",
            "300",
            "--duration",
            "2s",
            "--hot-update-every",
            "0s",
        ],
    );
    let outcome = run_beside(plan, Stop::default(), async {
        under_load(&fake).await;
        // Under pressure from its own start: what it refuses is asked for again.
        fake.refuse_creations.store(4, Ordering::Relaxed);
        fake.restart();
    });
    let report = outcome.await.report;
    assert_eq!(report.sessions.recreated, 300, "{:#?}", report.sessions);
    assert_eq!(report.sessions.refused, 0, "{:#?}", report.sessions);
    // Only the switches of the new life are in the sessions' counters.
    let counted = report.truth.switches_counted;
    assert!(counted.is_some_and(|counted| counted <= report.switches.ok));
    assert!(report.switches.failed > 0);
    assert_eq!(
        report.truth.verdict,
        TruthVerdict::Clean,
        "{:#?}",
        report.truth
    );
    assert_eq!(report.truth.sessions_read, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_takes_no_sessions_back_is_given_up_on_and_not_called_away() {
    let fake = Fake::start(Bug::None).await;
    let flags = ["--sessions", "300", "--reconnect-for", "300ms"];
    let plan = plan(Scenario::Mixed, &fake, &flags);
    let outcome = run_beside(plan, Stop::default(), async {
        under_load(&fake).await;
        fake.refuse_creations.store(u64::MAX, Ordering::Relaxed);
        fake.restart();
    });
    let report = outcome.await.report;
    let sessions = &report.sessions;
    assert_eq!((sessions.refused, sessions.shed), (300, 300));
    assert_eq!(report.ended_early, None);
    // No session is left to be read.
    assert_eq!(report.truth.verdict, TruthVerdict::Inconclusive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_schedule_hash() {
    let fake = Fake::start(Bug::None).await;
    let first = storm(&fake, &["--seed", "7"]).await;
    let second = storm(&fake, &["--seed", "7"]).await;
    let other = storm(&fake, &["--seed", "8"]).await;
    assert_eq!(first.report.schedule_hash, second.report.schedule_hash);
    assert_ne!(first.report.schedule_hash, other.report.schedule_hash);
    assert_eq!(
        first.report.switches.planned,
        second.report.switches.planned
    );
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "blocks the runtime on purpose: that is the starvation"
)]
async fn a_starved_run_is_inconclusive() {
    let fake = Fake::start(Bug::None).await;
    // On this runtime's only thread: whatever is due waits until the hog yields, longer than a send may be late.
    let hog = tokio::spawn(async {
        loop {
            std::thread::sleep(std::time::Duration::from_millis(30));
            tokio::task::yield_now().await;
        }
    });
    let outcome = storm(&fake, &["--tick", "5ms"]).await;
    hog.abort();
    assert!(outcome.report.starved, "{:?}", outcome.report.sends);
    assert!(outcome.report.sends.late > 0);
    assert_ne!(
        outcome.report.truth.verdict,
        TruthVerdict::Violated,
        "{:#?}",
        outcome.report.truth
    );
    assert_eq!(outcome.exit, 2);
}
