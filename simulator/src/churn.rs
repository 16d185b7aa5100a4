//! Churn: sessions leave and others join in their places, while the rest switch.
//!
//! Who leaves is read back first, then deleted, then looked for again: a session must show what it was acknowledged to its end,
//! and an acknowledged deletion must hold. Its switches are counted as read, so that the sum over all sessions still tells what
//! was lost. A deletion without an answer may be applied at any time, so it is asked for again until it is known; where it never
//! is, the session takes no further part. Times count from the moment that a session was to leave.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use backdrop_reports::load::Latency;

use crate::client::{CallError, Lane};
use crate::cohort::Leaver;
use crate::population::{self, BATCH_MAX, Backoff, Made, PopulationError, REQUEST_TIMEOUT};
use crate::record::{Total, histogram, latency_of};
use crate::schedule::mix;
use crate::shared::{Clock, Shared, StopReason};
use crate::truth::{Moment, Violation};
use crate::wire::{Answer, Seen, code};

/// Sessions of one gateway leave this often, the gateways in turn.
const TURN_US: u64 = 100_000;

/// What churn brought in the measured load.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChurnFigures {
    /// Sessions that were to leave.
    pub planned: u64,
    /// Those that nobody asked for: the load was over before their turn came, too many had a switch under way, or the service
    /// restarted.
    pub left_out: u64,
    /// Those that left: their deletion was acknowledged.
    pub left: u64,
    /// Sessions that joined in the place of one that left.
    pub joined: u64,
    /// Sessions that were refused: to be read, to leave, or to join. Who may not join asks again, and counts once.
    pub refused: u64,
    /// Sessions of which the same was not answered.
    pub failed: u64,
    /// From the planned time to the acknowledged deletion, or to when an unanswered one was given up.
    pub leave: Latency,
    /// From the same time to the acknowledged creation of who came instead, or to the end of the load where nobody came.
    pub join: Latency,
}

/// A gateway's turn, in one life of its sessions: what was asked in it says nothing about the next one.
#[derive(Debug, Clone, Copy)]
struct Turn {
    gateway: usize,
    epoch: u64,
    incarnation: u32,
    /// When it was due, if that was in the measured load.
    due_us: Option<u64>,
}

/// A place whose session is gone, and that nobody has taken yet.
#[derive(Debug, Clone, Copy)]
struct Vacancy {
    index: usize,
    /// When its session was to leave, if it left in the measured load.
    since_us: Option<u64>,
    /// That nobody could take it was counted.
    counted: bool,
}

/// How the deletion of some sessions ended.
struct Deletion {
    /// A code for each, by the last attempt.
    codes: Result<Vec<u8>, PopulationError>,
    /// An attempt without an answer may have been applied, or may be yet: who is not found was deleted by it.
    perhaps: bool,
}

/// What became of a session that was to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Its deletion was acknowledged.
    Left,
    /// There was none to delete.
    Gone,
    /// Its deletion was refused, or never reached the service.
    Stays,
    /// Nobody knows.
    Unknown,
}

impl Deletion {
    fn fate(&self, place: usize) -> Fate {
        let told = self.codes.as_ref().ok().map(|codes| codes[place]);
        match (told, self.perhaps) {
            (Some(code::OK), _) | (Some(code::SESSION_NOT_FOUND), true) => Fate::Left,
            (Some(code::SESSION_NOT_FOUND), false) => Fate::Gone,
            (_, false) => Fate::Stays,
            (_, true) => Fate::Unknown,
        }
    }
}

/// What is untrue about a session's end. `is_there` is what was seen after it, if anything was. What was missing before is booked
/// already.
fn untruth(
    fate: Fate,
    was_there: bool,
    is_there: Option<bool>,
) -> Option<(Violation, &'static str)> {
    match (fate, is_there) {
        _ if !was_there => None,
        (Fate::Left, Some(true)) => Some((Violation::Lost, "was acknowledged, and it is there")),
        (Fate::Gone, _) => Some((Violation::Lost, "found no session, though it was there")),
        (Fate::Stays, Some(false)) => Some((Violation::Wrong, "was refused, and it is gone")),
        _ => None,
    }
}

/// The one that lets sessions leave and join.
pub struct Churner {
    shared: Arc<Shared>,
    clock: Clock,
    per_second: f64,
    lane: Lane,
    /// For creations, which take their time.
    slow_lane: Lane,
    /// Places whose session is gone and has no successor yet, by gateway.
    away: Vec<Vec<Vacancy>>,
    figures: ChurnFigures,
    leave: Total,
    join: Total,
}

impl Churner {
    /// So many sessions a second.
    pub fn new(shared: &Arc<Shared>, per_second: f64, clock: Clock) -> Self {
        let lane = |timeout| Lane::new(shared.target.clone(), timeout);
        Churner {
            clock,
            per_second,
            lane: lane(shared.plan.args.timeout),
            slow_lane: lane(REQUEST_TIMEOUT),
            away: vec![Vec::new(); shared.cohorts.len()],
            figures: ChurnFigures::default(),
            leave: histogram(),
            join: histogram(),
            shared: shared.clone(),
        }
    }

    /// One turn after the other until the load ends. A turn that is late is taken late; one that would come after the load is left
    /// out.
    pub async fn run(mut self) {
        for turn in 0.. {
            let due_us = turn * TURN_US;
            if due_us >= self.clock.end_us || self.is_over() {
                self.leave_out(turn);
                break;
            }
            tokio::time::sleep_until(self.clock.instant(due_us).into()).await;
            self.turn(turn, due_us).await;
        }
        self.give_up();
        self.shared.beside.lock().churn = Some(ChurnFigures {
            leave: latency_of(&self.leave),
            join: latency_of(&self.join),
            ..self.figures
        });
    }

    fn is_over(&self) -> bool {
        self.clock.now_us() >= self.clock.end_us || self.shared.stop.reason().is_some()
    }

    /// Counts the turns from this one on, which come too late. A load that was stopped had none to come.
    fn leave_out(&mut self, turn: u64) {
        if self.shared.stop.reason().is_some() {
            return;
        }
        for turn in turn..self.clock.end_us.div_ceil(TURN_US) {
            if turn * TURN_US >= self.clock.load_us {
                self.figures.planned += self.due(turn) as u64;
                self.figures.left_out += self.due(turn) as u64;
            }
        }
    }

    /// Who left and has no successor at the end waited for one until then.
    fn give_up(&mut self) {
        if self.shared.stop.reason() == Some(StopReason::Interrupted) {
            return;
        }
        let now_us = self.clock.now_us();
        let waiting = self.away.iter().flatten();
        for since_us in waiting.filter_map(|vacancy| vacancy.since_us) {
            let waited_us = now_us.saturating_sub(since_us);
            self.join.saturating_record(waited_us.max(1));
        }
    }

    /// Sessions that are to leave in a turn.
    fn due(&self, turn: u64) -> usize {
        let until = |turn: u64| (turn as f64 * self.per_second * TURN_US as f64 / 1e6) as usize;
        until(turn + 1) - until(turn)
    }

    async fn turn(&mut self, number: u64, due_us: u64) {
        let gateway = number as usize % self.shared.cohorts.len();
        let due_us = (due_us >= self.clock.load_us).then_some(due_us);
        let hash = mix(self.shared.plan.args.seed, 0x6368_7572, number);
        let planned = self.due(number);
        let mut rest = planned;
        while rest > 0 && !self.is_over() {
            let (leavers, turn) = {
                let mut cohort = self.shared.cohorts[gateway].lock();
                let turn = Turn {
                    gateway,
                    epoch: cohort.epoch(),
                    incarnation: cohort.incarnation(),
                    due_us,
                };
                let hash = hash.wrapping_add((planned - rest) as u64);
                (cohort.leave(rest.min(BATCH_MAX), hash), turn)
            };
            if leavers.is_empty() {
                break;
            }
            rest -= leavers.len();
            self.shared.census.lost(leavers.len() as u64);
            self.see_off(turn, leavers).await;
        }
        if due_us.is_some() {
            self.figures.planned += planned as u64;
            self.figures.left_out += rest as u64;
        }
        self.welcome(gateway).await;
    }

    /// Reads the leavers back, deletes them and looks for them again.
    async fn see_off(&mut self, turn: Turn, leavers: Vec<Leaver>) {
        let ids: Vec<u64> = leavers.iter().map(|leaver| leaver.id).collect();
        let seen = match population::read_ids(&self.shared, &mut self.lane, &ids).await {
            Ok(seen) if seen.epoch == turn.epoch => seen,
            Ok(_) => return self.another_life(turn, &leavers),
            Err(error) => {
                leavers.iter().for_each(|_| self.stayed(turn, &error));
                self.suspect_if_away(&error);
                return self.stay(turn, leavers.iter());
            }
        };
        self.judge(&leavers, &seen);
        let deletion = self.delete(turn, &ids).await;
        let done_us = self.clock.now_us();
        let after = match self.look_again(&ids).await {
            Ok(after) if after.epoch == turn.epoch => Some(after),
            Ok(_) => return self.another_life(turn, &leavers),
            Err(error) => {
                let words = format!("sessions that left could not be looked for again: {error}");
                self.shared.truth.lock().doubt(words);
                None
            }
        };
        let mut staying = Vec::new();
        for (place, leaver) in leavers.iter().enumerate() {
            let fate = deletion.fate(place);
            let is_there = after.as_ref();
            let is_there = is_there.map(|after| after.entries[place].code == code::OK);
            let seen = &seen.entries[place];
            let counted = (seen.code == code::OK).then_some(seen.switches);
            if let Some((violation, words)) = untruth(fate, counted.is_some(), is_there) {
                let words = format!("session {:016x}: its deletion {words}", leaver.id);
                self.shared.truth.lock().violation(violation, &words);
            }
            match (fate, &deletion.codes) {
                (Fate::Left, _) => self.left(turn, done_us, is_there == Some(false)),
                (Fate::Gone, _) => {}
                (Fate::Stays, Ok(_)) => self.figures.refused += u64::from(turn.due_us.is_some()),
                (Fate::Stays, Err(error)) => self.stayed(turn, error),
                (Fate::Unknown, _) => self.unanswered(turn),
            }
            match (fate, is_there) {
                (Fate::Stays, None | Some(true)) => staying.push(leaver),
                (Fate::Unknown, None | Some(true)) => {
                    let words = "the deletion of sessions was never answered".to_owned();
                    self.shared.truth.lock().doubt(words);
                    self.shared.strays.lock().named(turn.epoch, leaver.id);
                    self.depart(turn, leaver, fate, counted);
                }
                _ => self.depart(turn, leaver, fate, counted),
            }
        }
        self.stay(turn, staying.into_iter());
    }

    fn left(&mut self, turn: Turn, done_us: u64, is_gone: bool) {
        self.shared.truth.lock().left(u64::from(is_gone));
        if let Some(due_us) = turn.due_us {
            self.figures.left += 1;
            let took_us = done_us.saturating_sub(due_us);
            self.leave.saturating_record(took_us.max(1));
        }
    }

    /// One stays because of this.
    fn stayed(&mut self, turn: Turn, error: &PopulationError) {
        match error {
            PopulationError::Refused { .. } => {
                self.figures.refused += u64::from(turn.due_us.is_some());
            }
            _ => self.unanswered(turn),
        }
    }

    /// One waited in vain.
    fn unanswered(&mut self, turn: Turn) {
        if let Some(due_us) = turn.due_us {
            self.figures.failed += 1;
            let waited_us = self.clock.now_us().saturating_sub(due_us);
            self.leave.saturating_record(waited_us.max(1));
        }
    }

    /// Its place is free; its counter is nobody's any more.
    fn depart(&mut self, turn: Turn, leaver: &Leaver, fate: Fate, counted: Option<u32>) {
        self.away[turn.gateway].push(Vacancy {
            index: leaver.index,
            since_us: turn.due_us.filter(|_| fate == Fate::Left),
            counted: false,
        });
        let mut cohort = self.shared.cohorts[turn.gateway].lock();
        if cohort.incarnation() == turn.incarnation {
            cohort.departed(leaver.index, counted);
        }
    }

    /// Who leaves must show what it was acknowledged. Where the catalogue is of another life already, nobody can say.
    fn judge(&self, leavers: &[Leaver], seen: &Answer<Seen>) {
        let catalogue = self.shared.catalogue();
        if catalogue.epoch != seen.epoch {
            return;
        }
        for (leaver, entry) in leavers.iter().zip(&seen.entries) {
            let shown = population::shown(entry, &catalogue);
            let who = || format!("session {:016x}, about to leave", leaver.id);
            let mut truth = self.shared.truth.lock();
            truth.session(
                who,
                &leaver.allowed,
                shown,
                &leaver.earlier,
                Moment::Leaving,
            );
        }
    }

    /// Whether to ask once more what has been asked for so long.
    fn is_patient(&self, since: Instant) -> bool {
        since.elapsed() < self.shared.plan.args.reconnect_for && self.shared.stop.reason().is_none()
    }

    /// Asks until it is known who is deleted, or patience ends.
    async fn delete(&mut self, turn: Turn, ids: &[u64]) -> Deletion {
        let since = Instant::now();
        let mut backoff = Backoff::default();
        let mut perhaps = false;
        loop {
            let codes = population::delete(&self.shared, &mut self.lane, turn.epoch, ids).await;
            let is_gone = |code: &u8| matches!(*code, code::OK | code::SESSION_NOT_FOUND);
            let settled = match &codes {
                // Who is refused now may be deleted by an earlier attempt yet.
                Ok(codes) => !perhaps || codes.iter().all(is_gone),
                Err(error) => {
                    self.suspect_if_away(error);
                    perhaps |= error.may_have_applied();
                    !perhaps
                }
            };
            if settled || !self.is_patient(since) {
                return Deletion { codes, perhaps };
            }
            backoff.wait().await;
        }
    }

    /// Reads with patience: without an answer nobody knows who has left.
    async fn look_again(&mut self, ids: &[u64]) -> Result<Answer<Seen>, PopulationError> {
        let since = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let read = population::read_ids(&self.shared, &mut self.lane, ids).await;
            if read.is_ok() || !self.is_patient(since) {
                return read;
            }
            backoff.wait().await;
        }
    }

    /// Only who cannot be connected to may have restarted; one that refuses or is slow is there, and its sessions with it.
    fn suspect_if_away(&self, error: &PopulationError) {
        if matches!(error, PopulationError::Away(CallError::Connect(_))) {
            self.shared.suspect();
        }
    }

    /// The service restarted meanwhile: the gateways find out.
    fn another_life(&mut self, turn: Turn, leavers: &[Leaver]) {
        self.shared.suspect();
        if turn.due_us.is_some() {
            self.figures.left_out += leavers.len() as u64;
        }
        self.stay(turn, leavers.iter());
    }

    /// These did not leave after all. Where the service has forgotten them meanwhile, they are made anew in a later turn.
    fn stay<'a>(&mut self, turn: Turn, leavers: impl ExactSizeIterator<Item = &'a Leaver>) {
        let mut cohort = self.shared.cohorts[turn.gateway].lock();
        if cohort.incarnation() != turn.incarnation {
            self.away[turn.gateway].extend(leavers.map(|leaver| Vacancy {
                index: leaver.index,
                since_us: None,
                counted: false,
            }));
            return;
        }
        self.shared.census.gained(leavers.len() as u64);
        for leaver in leavers {
            cohort.join(leaver.index, leaver.id, None);
        }
    }

    /// Creates sessions in the free places of a gateway.
    async fn welcome(&mut self, gateway: usize) {
        let waiting = std::mem::take(&mut self.away[gateway]);
        let mut parts = waiting.chunks(BATCH_MAX);
        for part in parts.by_ref() {
            let places: Vec<usize> = part.iter().map(|vacancy| vacancy.index).collect();
            let made = population::create(&self.shared, &mut self.slow_lane, gateway, &places);
            match made.await {
                Ok(made) => self.receive(gateway, part, &made).await,
                Err(error) => {
                    self.suspect_if_away(&error);
                    let refused = matches!(error, PopulationError::Refused { .. });
                    self.keep_free(gateway, part, refused);
                    break;
                }
            }
        }
        self.away[gateway].extend(parts.flatten());
    }

    /// Lets those join that were made.
    async fn receive(&mut self, gateway: usize, part: &[Vacancy], made: &Made) {
        let done_us = self.clock.now_us();
        if !self.seat(gateway, made) {
            self.shared.suspect();
            let ids: Vec<u64> = made.born.iter().map(|newborn| newborn.id).collect();
            if population::delete(&self.shared, &mut self.lane, made.epoch, &ids)
                .await
                .is_err()
            {
                let mut strays = self.shared.strays.lock();
                ids.iter().for_each(|id| strays.named(made.epoch, *id));
            }
            self.away[gateway].extend(part);
            return;
        }
        // Both are in the order that was asked in.
        let mut born = made.born.iter().map(|newborn| newborn.index).peekable();
        for vacancy in part {
            if born.next_if_eq(&vacancy.index).is_none() {
                self.keep_free(gateway, &[*vacancy], true);
            } else if let Some(since_us) = vacancy.since_us {
                self.figures.joined += 1;
                let took_us = done_us.saturating_sub(since_us);
                self.join.saturating_record(took_us.max(1));
            }
        }
    }

    /// Nobody could be created for these places; they are asked for again, and counted once.
    fn keep_free(&mut self, gateway: usize, part: &[Vacancy], refused: bool) {
        for vacancy in part {
            let counts = vacancy.since_us.is_some() && !vacancy.counted;
            match refused {
                true => self.figures.refused += u64::from(counts),
                false => self.figures.failed += u64::from(counts),
            }
            self.away[gateway].push(Vacancy {
                counted: true,
                ..*vacancy
            });
        }
    }

    /// Lets them join, unless they are of a life of the service that their gateway has not seen yet: it begins with those that it
    /// knows.
    fn seat(&self, gateway: usize, made: &Made) -> bool {
        let mut cohort = self.shared.cohorts[gateway].lock();
        if cohort.epoch() != made.epoch {
            return false;
        }
        // Before their gateway can lose them again.
        self.shared.census.gained(made.born.len() as u64);
        for newborn in &made.born {
            cohort.join(newborn.index, newborn.id, Some(newborn.background));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(code: Option<u8>, perhaps: bool) -> Fate {
        let codes = code.map(|code| vec![code]);
        let codes = codes.ok_or(PopulationError::Away(CallError::Timeout));
        Deletion { codes, perhaps }.fate(0)
    }

    #[test]
    fn an_answer_tells_less_after_an_attempt_without_one() {
        assert_eq!(fate(Some(code::OK), false), Fate::Left);
        assert_eq!(fate(Some(code::SESSION_NOT_FOUND), false), Fate::Gone);
        assert_eq!(fate(Some(code::SHED), false), Fate::Stays);
        assert_eq!(fate(None, false), Fate::Stays);
        assert_eq!(fate(Some(code::OK), true), Fate::Left);
        assert_eq!(fate(Some(code::SESSION_NOT_FOUND), true), Fate::Left);
        assert_eq!(fate(Some(code::SHED), true), Fate::Unknown);
        assert_eq!(fate(None, true), Fate::Unknown);
    }

    #[test]
    fn what_was_missing_before_it_left_is_booked_once() {
        let violation = |fate, was, is| untruth(fate, was, is).map(|(violation, _)| violation);
        assert_eq!(violation(Fate::Gone, true, None), Some(Violation::Lost));
        assert_eq!(violation(Fate::Gone, false, Some(false)), None);
        assert_eq!(
            violation(Fate::Left, true, Some(true)),
            Some(Violation::Lost)
        );
        assert_eq!(violation(Fate::Left, true, Some(false)), None);
        assert_eq!(violation(Fate::Left, true, None), None);
        assert_eq!(
            violation(Fate::Stays, true, Some(false)),
            Some(Violation::Wrong)
        );
        assert_eq!(violation(Fate::Stays, false, Some(false)), None);
        for is_there in [None, Some(true), Some(false)] {
            assert_eq!(violation(Fate::Unknown, true, is_there), None);
        }
    }
}
