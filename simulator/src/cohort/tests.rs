//! Cohorts on paper: what falls due, what may be shown, what is counted.

use super::*;
use crate::schedule::Popularity;

fn cohort(sessions: usize) -> Cohort {
    let schedule = Schedule {
        seed: 5,
        period_us: 1_000_000,
        popularity: Popularity::new(100, 0.0),
    };
    let mut cohort = Cohort::new(Arc::new(schedule), 0, 1000, sessions);
    for index in 0..sessions {
        let background = cohort.wanted(index);
        cohort.born(index, 1 + index as u64, background);
    }
    cohort
}

fn due(cohort: &mut Cohort, until_us: u64) -> Vec<Piece> {
    let mut out = VecDeque::new();
    cohort.take_due(until_us, 65_536, &mut out);
    out.into()
}

#[test]
fn every_session_falls_due_once_a_period_whatever_the_ticks() {
    let mut cohort = cohort(500);
    let mut total = 0;
    for tick in 1..=600 {
        for piece in due(&mut cohort, tick * 5_000) {
            assert!(cohort.due_us(piece.last - 1) < tick * 5_000);
            assert!(cohort.due_us(piece.first) >= (tick - 1) * 5_000);
            total += piece.entries;
        }
    }
    assert_eq!(total, 3 * 500);
}

#[test]
fn absent_sessions_take_no_part() {
    let mut cohort = cohort(10);
    cohort.records[3].id = 0;
    cohort.records[7].id = 0;
    let pieces = due(&mut cohort, 1_000_000);
    assert_eq!(pieces[0].entries, 8);
    let mut ids = Vec::new();
    assert_eq!(cohort.depart(pieces[0], |id, _| ids.push(id)), 8);
    assert!(!ids.contains(&4) && !ids.contains(&8));
}

#[test]
fn acknowledged_refused_and_doubtful_switches_leave_what_may_be_seen() {
    let mut cohort = cohort(3);
    let before: Vec<u16> = (0..3).map(|index| cohort.wanted(index)).collect();
    let piece = due(&mut cohort, 1_000_000)[0];
    let mut asked = Vec::new();
    cohort.depart(piece, |_, background| asked.push(background));
    assert!(cohort.allowed(1).permits(before[1]) && cohort.allowed(1).permits(asked[1]));
    cohort.land(piece, Landing::Codes(&[0, 4, 0]), |_, _| {});
    assert!(cohort.allowed(0).permits(asked[0]) && !cohort.allowed(0).permits(before[0]));
    assert!(cohort.allowed(1).permits(before[1]) && !cohort.allowed(1).permits(asked[1]));

    let piece = due(&mut cohort, 2_000_000)[0];
    let mut later = Vec::new();
    cohort.depart(piece, |_, background| later.push(background));
    cohort.land(piece, Landing::Doubtful, |_, _| {});
    assert!(cohort.allowed(0).permits(asked[0]) && cohort.allowed(0).permits(later[0]));
    assert!(cohort.allowed(0).is_doubtful());
}

#[test]
fn the_ledger_counts_one_life_of_the_sessions() {
    let mut cohort = cohort(3);
    for (round, landing) in [
        Landing::Codes(&[0, 4, 0]),
        Landing::Doubtful,
        Landing::Refused,
    ]
    .into_iter()
    .enumerate()
    {
        let piece = due(&mut cohort, (round as u64 + 1) * 1_000_000)[0];
        cohort.depart(piece, |_, _| {});
        assert!(cohort.ledger().doubtful >= 3, "those under way");
        cohort.land(piece, landing, |_, _| {});
    }
    let (acknowledged, doubtful) = (2, 3);
    assert_eq!(
        cohort.ledger(),
        Ledger {
            acknowledged,
            doubtful
        }
    );
    cohort.forget();
    assert_eq!(cohort.ledger(), Ledger::default());
}

#[test]
fn a_doubt_survives_one_acknowledgement_and_not_two() {
    let mut cohort = cohort(1);
    for (round, landing) in [
        Landing::Doubtful,
        Landing::Codes(&[0]),
        Landing::Codes(&[0]),
    ]
    .into_iter()
    .enumerate()
    {
        let piece = due(&mut cohort, (round as u64 + 1) * 1_000_000)[0];
        cohort.depart(piece, |_, _| {});
        cohort.land(piece, landing, |_, _| {});
        assert_eq!(cohort.allowed(0).is_doubtful(), round < 2, "round {round}");
    }
}

#[test]
fn several_doubts_permit_anything_until_they_are_settled() {
    let mut doubt = Doubt::NONE.add(1).add(2);
    assert!(doubt.is_many());
    for _ in 0..3 {
        doubt = doubt.acknowledged();
    }
    assert_eq!(doubt, Doubt::NONE);
    assert_eq!(Doubt(5).acknowledged().value(), Some(5));
}

#[test]
fn a_session_never_has_two_switches_under_way() {
    let mut cohort = cohort(10);
    let first = due(&mut cohort, 1_000_000)[0];
    cohort.depart(first, |_, _| {});
    let second = due(&mut cohort, 2_000_000)[0];
    assert!(cohort.conflicts(second));
    cohort.land(first, Landing::Refused, |_, _| {});
    assert!(!cohort.conflicts(second));
}

#[test]
fn a_watch_sees_switches_that_depart_meanwhile_and_dies_with_its_incarnation() {
    let mut cohort = cohort(4);
    let token = cohort.watch(2);
    let piece = due(&mut cohort, 1_000_000)[0];
    let mut asked = Vec::new();
    cohort.depart(piece, |_, background| asked.push(background));
    cohort.land(piece, Landing::Codes(&[0; 4]), |_, _| {});
    let allowed = cohort.unwatch(token).unwrap();
    assert!(allowed.permits(asked[2]));
    let token = cohort.watch(1);
    assert_eq!(cohort.forget().len(), 4);
    assert!(cohort.unwatch(token).is_none());
}

#[test]
fn singles_and_batches_share_the_cohort_without_overlap() {
    let mut cohort = cohort(100).with_singles(10);
    let pieces = due(&mut cohort, 1_000_000);
    let singles = pieces.iter().filter(|piece| piece.single).count();
    let batched: u32 = pieces
        .iter()
        .filter(|piece| !piece.single)
        .map(|piece| piece.entries)
        .sum();
    assert_eq!((singles, batched), (10, 90));
    let mut ids = Vec::new();
    for piece in pieces {
        cohort.depart(piece, |id, _| ids.push(id));
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=100).collect::<Vec<u64>>());
}

#[test]
fn sessions_are_found_by_what_they_show() {
    let mut cohort = cohort(50);
    let wanted = cohort.wanted(17);
    for hash in [0, u64::MAX / 3, u64::MAX] {
        let found = cohort.pick_showing(wanted, hash).expect("one shows it");
        assert_eq!(cohort.wanted(found), wanted);
    }
    assert_eq!(cohort.pick_showing(100, 0), None, "no such background");
    cohort.forget();
    assert_eq!(cohort.pick_showing(wanted, 0), None, "no session is left");
}
