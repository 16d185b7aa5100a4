//! Cohorts on paper: what falls due, what may be shown, what is counted.

use super::*;
use crate::schedule::Popularity;

fn cohort(sessions: usize) -> Cohort {
    let schedule = Schedule {
        seed: 5,
        period_us: 1_000_000,
        popularity: Popularity::new(100, 0.0),
    };
    let mut cohort = Cohort::new(Arc::new(schedule), 0, 1000, sessions).churning();
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
fn periods_that_were_overslept_are_sent_one_after_the_other() {
    let mut cohort = cohort(5);
    let pieces = due(&mut cohort, 3_000_000);
    assert_eq!(pieces.iter().map(|p| p.entries).collect::<Vec<_>>(), [5; 3]);
    cohort.depart(pieces[0], |_, _| {});
    assert!(
        cohort.conflicts(pieces[1]),
        "each session has one under way"
    );
    cohort.land(pieces[0], Landing::Codes(&[0; 5]), |_, _| {});
    assert!(!cohort.conflicts(pieces[1]));
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
            doubtful,
            ..Ledger::default()
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

#[test]
fn nobody_comes_or_goes_under_a_piece_that_covers_them() {
    let mut cohort = cohort(4);
    let piece = due(&mut cohort, 1_000_000)[0];
    assert!(cohort.leave(4, 0).is_empty(), "cut, and not sent");
    cohort.depart(piece, |_, _| {});
    assert!(cohort.leave(4, 0).is_empty(), "under way");
    cohort.land(piece, Landing::Codes(&[0; 4]), |_, _| {});
    assert!(due(&mut cohort, 1_000_000).is_empty());
    let token = cohort.watch(1);
    let left = cohort.leave(2, 0);
    let indices: Vec<usize> = left.iter().map(|leaver| leaver.index).collect();
    assert_eq!(indices, [0, 2], "who is watched stays");
    cohort.unwatch(token);
    cohort.departed(0, Some(1));
    assert_eq!(
        (cohort.ledger().departed, cohort.ledger().uncounted),
        (1, false)
    );
    cohort.departed(0, None);
    assert!(cohort.ledger().uncounted);

    let piece = due(&mut cohort, 2_000_000)[0];
    assert_eq!(piece.entries, 2);
    cohort.depart(piece, |_, _| {});
    cohort.join(0, 77, Some(5));
    cohort.join(2, left[1].id, None);
    assert_eq!((cohort.id(0), cohort.present()), (None, 2));
    cohort.land(piece, Landing::Codes(&[0; 2]), |_, _| {});
    for _ in 0..2 {
        assert!(due(&mut cohort, 2_000_000).is_empty());
    }
    assert_eq!((cohort.id(0), cohort.present()), (Some(77), 4));
    assert!(cohort.allowed(0).permits(5));
    assert_eq!(cohort.allowed(2), left[1].allowed, "as before it left");

    cohort.leave(1, 0);
    cohort.join(0, 78, Some(6));
    assert!(
        cohort.forget().contains(&0),
        "who was about to join is lost, too"
    );
}

/// One random walk: pieces are cut, sent and answered, sessions leave and join.
fn walk(seed: u64) {
    let mut cohort = cohort(40);
    let (mut until_us, mut newest_id) = (0, 1_000);
    let mut backlog = VecDeque::new();
    let mut flying: Vec<(Piece, Vec<(u64, u16)>)> = Vec::new();
    let mut away = Vec::new();
    for step in 0..600 {
        let dice = schedule::mix(seed, 77, step);
        match dice % 5 {
            0 => {
                until_us += (dice >> 8) % 60_000;
                cohort.take_due(until_us, 7, &mut backlog);
            }
            1 => {
                let free = backlog.front().copied().filter(|_| flying.len() < 4);
                if let Some(piece) = free.filter(|piece| !cohort.conflicts(*piece)) {
                    backlog.pop_front();
                    let mut asked = Vec::new();
                    let entries = cohort.depart(piece, |id, number| asked.push((id, number)));
                    assert_eq!(entries, piece.entries, "seed {seed}, step {step}");
                    flying.push((piece, asked));
                }
            }
            2 if !flying.is_empty() => {
                let (piece, asked) = flying.swap_remove((dice >> 8) as usize % flying.len());
                let codes = vec![0; asked.len()];
                let mut landed = 0;
                cohort.land(piece, Landing::Codes(&codes), |_, entry| {
                    assert_eq!(entry, Entry::Acked, "seed {seed}, step {step}");
                    landed += 1;
                });
                assert_eq!(landed, asked.len(), "seed {seed}, step {step}");
                for (id, number) in asked {
                    let shows = cohort.records.iter().find(|record| record.id == id);
                    let shows = shows.map(|record| record.acked);
                    assert_eq!(shows, Some(number), "seed {seed}, step {step}");
                }
            }
            3 => away.extend(cohort.leave(3, dice).into_iter().map(|leaver| leaver.index)),
            _ => {
                if let Some(index) = away.pop() {
                    newest_id += 1;
                    cohort.join(index, newest_id, Some(1));
                }
            }
        }
    }
}

#[test]
fn answers_meet_the_sessions_that_were_asked_for_whoever_comes_and_goes() {
    (0..60).for_each(walk);
}

/// Three sessions that follow this tape: time, user, background.
fn following(sent: &[(u64, u32, u16)]) -> Cohort {
    let sent = sent.iter().map(|&(at_us, user, background)| Planned {
        at_us,
        user,
        background,
    });
    cohort(3).following(sent.collect())
}

#[test]
fn a_tape_is_followed_switch_by_switch() {
    let mut cohort = following(&[(10, 0, 1), (20, 2, 2), (30, 0, 3), (500, 1, 4)]);
    let first = cohort.wanted(0);
    let piece = due(&mut cohort, 100)[0];
    let mut asked = Vec::new();
    assert_eq!(
        cohort.depart(piece, |id, number| asked.push((id, number))),
        3
    );
    assert_eq!(asked, [(1, 1), (3, 2), (1, 3)]);
    let sent: Vec<(u64, u32)> = cohort
        .sent(piece)
        .map(|sent| (sent.at_us, sent.user))
        .collect();
    assert_eq!(sent, [(10, 1000), (20, 1002), (30, 1000)]);
    for number in [first, 1, 3] {
        assert!(cohort.allowed(0).permits(number), "{number}");
    }
    cohort.land(piece, Landing::Codes(&[0; 3]), |_, _| {});
    assert!(cohort.allowed(0).permits(3) && !cohort.allowed(0).permits(1));
    assert_eq!(cohort.earlier(0), [3, 1, cohort.schedule.initial(1000)]);
    assert_eq!(cohort.ledger().acknowledged, 3);
    assert_eq!(due(&mut cohort, 600)[0].entries, 1);
    assert!(due(&mut cohort, u64::MAX).is_empty(), "it has an end");
}

#[test]
fn a_taped_session_has_one_request_under_way() {
    let mut cohort = following(&[(10, 0, 1), (200, 1, 2), (300, 0, 3)]);
    let first = due(&mut cohort, 100)[0];
    let second = due(&mut cohort, 250)[0];
    let third = due(&mut cohort, 350)[0];
    cohort.depart(first, |_, _| {});
    assert!(!cohort.conflicts(second) && cohort.conflicts(third));
    // One that waits too long is given up and never sent; the first one still flies.
    cohort.land(third, Landing::Refused, |_, _| {});
    assert!(cohort.conflicts(third));
    cohort.land(first, Landing::Doubtful, |_, _| {});
    assert!(!cohort.conflicts(third));
    cohort.depart(third, |_, _| {});
    cohort.forget();
    assert!(
        !cohort.conflicts(first),
        "nothing of another life is under way"
    );
}

#[test]
fn a_doubt_is_settled_by_two_answers_and_not_by_two_entries_of_one() {
    let mut cohort = following(&[(10, 0, 1), (110, 0, 2), (120, 0, 3), (210, 0, 1)]);
    let doubtful = due(&mut cohort, 100)[0];
    cohort.depart(doubtful, |_, _| {});
    cohort.land(doubtful, Landing::Doubtful, |_, _| {});
    let twice = due(&mut cohort, 200)[0];
    assert_eq!(cohort.depart(twice, |_, _| {}), 2);
    cohort.land(twice, Landing::Codes(&[0; 2]), |_, _| {});
    assert!(cohort.allowed(0).is_doubtful());
    let once = due(&mut cohort, 300)[0];
    cohort.depart(once, |_, _| {});
    cohort.land(once, Landing::Codes(&[0]), |_, _| {});
    assert!(!cohort.allowed(0).is_doubtful());
}
