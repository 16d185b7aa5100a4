//! The rules on values made by hand.

use super::*;

fn expecting(allowed: &[u16], revisions: (u8, u8)) -> FrameExpectation {
    let mut set = Allowed::acknowledged(None);
    allowed.iter().for_each(|background| set.also(*background));
    FrameExpectation {
        allowed: set,
        revision_min: revisions.0,
        revision_max: revisions.1,
        header: None,
        header_revision: None,
    }
}

fn code(number: u16, revision: u8) -> Pixels {
    Pixels::Code { number, revision }
}

#[test]
fn sessions_are_judged_by_what_was_acknowledged() {
    let allowed = Allowed::acknowledged(Some(4));
    assert_eq!(
        judge_session(&allowed, Shown::Background(4), &[4, 3, 2]),
        None
    );
    assert_eq!(
        judge_session(&allowed, Shown::Background(3), &[4, 3, 2]),
        Some(Violation::Lost)
    );
    assert_eq!(
        judge_session(&allowed, Shown::Background(9), &[9, 4, 3]),
        Some(Violation::Wrong)
    );
    assert_eq!(
        judge_session(&allowed, Shown::Background(8), &[4, 3, 2]),
        Some(Violation::Wrong)
    );
    assert_eq!(
        judge_session(&allowed, Shown::Foreign(8), &[]),
        Some(Violation::Wrong)
    );
    assert_eq!(
        judge_session(&allowed, Shown::Missing, &[]),
        Some(Violation::Lost)
    );
    assert_eq!(
        judge_session(&Allowed::acknowledged(None), Shown::Nothing, &[]),
        None
    );
}

#[test]
fn an_indeterminate_switch_leaves_two_right_answers() {
    let mut allowed = Allowed::acknowledged(Some(4));
    allowed.perhaps(5);
    assert_eq!(judge_session(&allowed, Shown::Background(5), &[5, 4]), None);
    assert_eq!(judge_session(&allowed, Shown::Background(4), &[5, 4]), None);
    assert_eq!(
        judge_session(&allowed, Shown::Background(6), &[5, 4]),
        Some(Violation::Wrong)
    );
    allowed.anything();
    assert_eq!(judge_session(&allowed, Shown::Background(6), &[5, 4]), None);
}

#[test]
fn frames_are_judged_by_code_revision_and_header() {
    let mut expected = expecting(&[1, 2], (3, 4));
    assert_eq!(judge_frame(&expected, code(1, 3)), None);
    assert_eq!(judge_frame(&expected, code(2, 4)), None);
    assert_eq!(judge_frame(&expected, code(7, 3)), Some(Violation::Wrong));
    assert_eq!(judge_frame(&expected, code(1, 2)), Some(Violation::Stale));
    assert_eq!(judge_frame(&expected, code(1, 5)), Some(Violation::Wrong));
    assert_eq!(
        judge_frame(
            &expected,
            Pixels::Torn {
                codes: [(1, 3), (2, 3)]
            }
        ),
        Some(Violation::Torn)
    );
    expected.header = Some(2);
    assert_eq!(judge_frame(&expected, code(1, 3)), Some(Violation::Wrong));
    expected.header = Some(1);
    expected.header_revision = Some(4);
    assert_eq!(judge_frame(&expected, code(1, 3)), Some(Violation::Stale));
}

#[test]
fn verdicts_need_evidence() {
    let mut truth = Truth::requiring(vec![Evidence::Sessions]);
    assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);
    let allowed = Allowed::acknowledged(Some(1));
    truth.session(
        || "s".to_owned(),
        &allowed,
        Shown::Background(1),
        &[],
        Moment::End,
    );
    assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
    for _ in 0..98 {
        truth.frame("f", &expecting(&[1], (1, 1)), code(1, 1));
    }
    truth.frame("f", &expecting(&[1], (1, 1)), Pixels::Unreadable);
    truth.frame("f", &expecting(&[1], (1, 1)), Pixels::Unreadable);
    assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);
    truth.session(
        || "s".to_owned(),
        &allowed,
        Shown::Background(2),
        &[],
        Moment::End,
    );
    let figures = truth.conclude();
    assert_eq!(figures.verdict, TruthVerdict::Violated);
    assert_eq!(figures.wrong, 1);
    assert!(
        figures.history[0].contains("acknowledged background 1"),
        "{:?}",
        figures.history
    );
}

#[test]
fn too_many_skipped_frames_or_indeterminate_sessions_prove_nothing() {
    let mut truth = Truth::default();
    for _ in 0..9 {
        truth.frame("f", &expecting(&[1], (1, 1)), code(1, 1));
    }
    truth.skipped();
    assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
    truth.skipped();
    assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);

    let mut truth = Truth::default();
    let mut doubtful = Allowed::acknowledged(Some(1));
    doubtful.perhaps(2);
    let sound = Allowed::acknowledged(Some(1));
    let mut read = |allowed: &Allowed| {
        truth.session(String::new, allowed, Shown::Background(1), &[], Moment::End);
        truth.conclude().verdict
    };
    assert_eq!(read(&doubtful), TruthVerdict::Inconclusive);
    for _ in 0..98 {
        read(&sound);
    }
    assert_eq!(read(&sound), TruthVerdict::Clean);
    assert_eq!(read(&doubtful), TruthVerdict::Inconclusive);
}

#[test]
fn counters_show_what_later_switches_covered() {
    assert_eq!(Tally::of(10, 2, 10), Tally::of(10, 2, 12));
    assert_eq!(
        (Tally::of(10, 2, 9).missing, Tally::of(10, 2, 13).surplus),
        (1, 1)
    );
    let mut sum = Tally::of(10, 0, 10);
    let mut truth = Truth::default();
    truth.counters(sum);
    assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
    assert_eq!(truth.conclude().switches_counted, Some(10));

    sum.add(Tally::of(10, 0, 7));
    sum.add(Tally::of(10, 0, 11));
    let mut truth = Truth::default();
    let allowed = Allowed::acknowledged(Some(1));
    // One of the three is seen by itself, too.
    truth.session(
        String::new,
        &allowed,
        Shown::Background(2),
        &[1, 2],
        Moment::End,
    );
    truth.counters(sum);
    let figures = truth.conclude();
    assert_eq!((figures.lost, figures.wrong), (3, 1));
    assert!(figures.history[1].contains("3 acknowledged switches are not"));
}

#[test]
fn a_session_that_lost_a_switch_before_it_left_is_counted_once() {
    let allowed = Allowed::acknowledged(Some(1));
    for (moment, lost) in [(Moment::Load, 2), (Moment::Leaving, 1), (Moment::End, 1)] {
        let mut truth = Truth::default();
        truth.session(String::new, &allowed, Shown::Background(2), &[1, 2], moment);
        truth.counters(Tally::of(10, 0, 9));
        assert_eq!(truth.conclude().lost, lost, "{moment:?}");
    }
}

#[test]
fn what_a_scenario_is_for_must_have_happened() {
    let mut truth = Truth::requiring(vec![Evidence::Absent, Evidence::Leavers]);
    let figures = truth.conclude();
    assert_eq!(figures.verdict, TruthVerdict::Inconclusive);
    assert_eq!(figures.history.len(), 2, "{:?}", figures.history);
    truth.absent();
    assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);
    truth.left(1);
    assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
}

#[test]
fn the_history_is_bounded() {
    let mut truth = Truth::default();
    for number in 0..100 {
        truth.violation(Violation::Torn, &number.to_string());
    }
    assert_eq!(truth.conclude().history.len(), HISTORY_MAX);
    assert_eq!(truth.conclude().torn, 100);
}
