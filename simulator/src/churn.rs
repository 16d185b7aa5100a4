//! Churn: sessions leave and others join in their places, while the rest switch.
//!
//! Who leaves is read back first, then deleted, then looked for again: a session must show what it was acknowledged to its end,
//! and an acknowledged deletion must hold. Its switches are counted as read, so that the sum over all sessions still tells what
//! was lost. Times count from the moment that a session was to leave.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use backdrop_reports::load::Latency;

use crate::client::{CallError, Lane};
use crate::cohort::Leaver;
use crate::population::{self, Made, PopulationError};
use crate::record::{Total, histogram, latency_of};
use crate::schedule::mix;
use crate::shared::{Clock, Shared};
use crate::truth::Violation;
use crate::wire::{Answer, Seen, code, code_name};

/// Sessions of one gateway leave this often, the gateways in turn.
const TURN_US: u64 = 100_000;

/// What churn brought in the measured load.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChurnFigures {
    /// Sessions that left: their deletion was acknowledged, or they were found to be gone.
    pub left: u64,
    /// Sessions that joined.
    pub joined: u64,
    /// Deletions and creations that the service refused; who was not let in asks again.
    pub refused: u64,
    /// Deletions and creations without an answer.
    pub failed: u64,
    /// From the planned time to the acknowledged deletion.
    pub leave: Latency,
    /// From the same time to the acknowledged creation of who came instead.
    pub join: Latency,
}

/// One life of a gateway's sessions: what was asked in it says nothing about the next one.
#[derive(Debug, Clone, Copy)]
struct Life {
    gateway: usize,
    epoch: u64,
    incarnation: u32,
}

/// The one that lets sessions leave and join.
pub struct Churner {
    shared: Arc<Shared>,
    clock: Clock,
    per_second: f64,
    lane: Lane,
    /// Places whose session left and has no successor yet, by gateway.
    away: Vec<Vec<usize>>,
    figures: ChurnFigures,
    leave: Total,
    join: Total,
}

impl Churner {
    /// So many sessions a second.
    pub fn new(shared: &Arc<Shared>, per_second: f64, clock: Clock) -> Self {
        Churner {
            clock,
            per_second,
            lane: Lane::new(shared.target.clone(), shared.plan.args.timeout),
            away: vec![Vec::new(); shared.cohorts.len()],
            figures: ChurnFigures::default(),
            leave: histogram(),
            join: histogram(),
            shared: shared.clone(),
        }
    }

    /// One turn after the other until the load ends.
    pub async fn run(mut self) {
        for turn in 0.. {
            let due_us = turn * TURN_US;
            if due_us >= self.clock.end_us || self.shared.stop.reason().is_some() {
                break;
            }
            tokio::time::sleep_until(self.clock.instant(due_us).into()).await;
            let gateway = turn as usize % self.shared.cohorts.len();
            self.turn(turn, gateway, due_us).await;
        }
        self.shared.beside.lock().churn = Some(ChurnFigures {
            leave: latency_of(&self.leave),
            join: latency_of(&self.join),
            ..self.figures
        });
    }

    /// Sessions that are to leave in a turn.
    fn due(&self, turn: u64) -> usize {
        let until = |turn: u64| (turn as f64 * self.per_second * TURN_US as f64 / 1e6) as usize;
        until(turn + 1) - until(turn)
    }

    async fn turn(&mut self, turn: u64, gateway: usize, due_us: u64) {
        let hash = mix(self.shared.plan.args.seed, 0x6368_7572, turn);
        let (leavers, life) = {
            let mut cohort = self.shared.cohorts[gateway].lock();
            let life = Life {
                gateway,
                epoch: cohort.epoch(),
                incarnation: cohort.incarnation(),
            };
            (cohort.leave(self.due(turn), hash), life)
        };
        self.shared.census.lost(leavers.len() as u64);
        let before = self.figures.clone();
        if !leavers.is_empty() {
            self.see_off(life, leavers, due_us).await;
        }
        let places = std::mem::take(&mut self.away[gateway]);
        if !places.is_empty() {
            self.welcome(life, places, due_us).await;
        }
        if due_us < self.clock.load_us {
            self.figures = before;
        }
    }

    /// Reads the leavers back, deletes them and looks for them again.
    async fn see_off(&mut self, life: Life, leavers: Vec<Leaver>, due_us: u64) {
        let ids: Vec<u64> = leavers.iter().map(|leaver| leaver.id).collect();
        let seen = match population::read_ids(&self.shared, &mut self.lane, &ids).await {
            Ok(seen) if seen.epoch == life.epoch => seen,
            _ => {
                // Away, or another life of it: the gateways find out.
                self.shared.suspect();
                return self.stay(life, leavers.iter());
            }
        };
        self.judge(&leavers, &seen);
        let codes = population::delete(&self.shared, &mut self.lane, life.epoch, &ids).await;
        let done_us = self.clock.now_us();
        let after = match self.look_again(&ids).await {
            Ok(after) if after.epoch == life.epoch => after,
            Ok(_) => {
                self.shared.suspect();
                return self.stay(life, leavers.iter());
            }
            Err(error) => {
                let words = format!("sessions that left could not be looked for again: {error}");
                self.shared.truth.lock().doubt(words);
                return self.stay(life, leavers.iter());
            }
        };
        let mut staying = Vec::new();
        for (place, leaver) in leavers.iter().enumerate() {
            let told = codes.as_ref().ok().map(|codes| codes[place]);
            let is_there = after.entries[place].code == code::OK;
            self.shared.truth_of_leaving(leaver, told, is_there);
            match told {
                Some(code::OK | code::SESSION_NOT_FOUND) => {}
                Some(_) => self.figures.refused += 1,
                None => self.figures.failed += 1,
            }
            if told != Some(code::OK) && is_there {
                staying.push(leaver);
                continue;
            }
            self.figures.left += 1;
            if due_us >= self.clock.load_us {
                let took_us = done_us.saturating_sub(due_us);
                self.leave.saturating_record(took_us.max(1));
            }
            self.away[life.gateway].push(leaver.index);
            let mut cohort = self.shared.cohorts[life.gateway].lock();
            if cohort.incarnation() == life.incarnation {
                cohort.departed(leaver.index, seen.entries[place].switches);
            }
        }
        self.stay(life, staying.into_iter());
    }

    /// Who leaves must show what it was acknowledged.
    fn judge(&self, leavers: &[Leaver], seen: &Answer<Seen>) {
        let catalogue = self.shared.catalogue();
        for (leaver, entry) in leavers.iter().zip(&seen.entries) {
            let shown = population::shown(entry, &catalogue);
            let who = || format!("session {:016x}, about to leave", leaver.id);
            let mut truth = self.shared.truth.lock();
            truth.session(who, &leaver.allowed, shown, &leaver.earlier, true);
        }
    }

    /// Reads with patience: without an answer nobody knows who has left.
    async fn look_again(&mut self, ids: &[u64]) -> Result<Answer<Seen>, PopulationError> {
        let since = Instant::now();
        let mut backoff = population::Backoff::default();
        loop {
            let read = population::read_ids(&self.shared, &mut self.lane, ids).await;
            let patient = since.elapsed() < self.shared.plan.args.reconnect_for;
            if read.is_ok() || !patient || self.shared.stop.reason().is_some() {
                return read;
            }
            backoff.wait().await;
        }
    }

    /// These did not leave after all. Where the service has forgotten them meanwhile, they are made anew in a later turn.
    fn stay<'a>(&mut self, life: Life, leavers: impl ExactSizeIterator<Item = &'a Leaver>) {
        let mut cohort = self.shared.cohorts[life.gateway].lock();
        if cohort.incarnation() != life.incarnation {
            self.away[life.gateway].extend(leavers.map(|leaver| leaver.index));
            return;
        }
        self.shared.census.gained(leavers.len() as u64);
        for leaver in leavers {
            cohort.join(leaver.index, leaver.id, None);
        }
    }

    /// Creates sessions in these places.
    async fn welcome(&mut self, life: Life, places: Vec<usize>, due_us: u64) {
        let made = population::create(&self.shared, &mut self.lane, life.gateway, &places).await;
        let done_us = self.clock.now_us();
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                if matches!(error, PopulationError::Away(CallError::Connect(_))) {
                    self.shared.suspect();
                }
                self.figures.failed += places.len() as u64;
                self.away[life.gateway] = places;
                return;
            }
        };
        if !self.seat(life.gateway, &made) {
            self.shared.suspect();
            let ids: Vec<u64> = made.born.iter().map(|newborn| newborn.id).collect();
            let _ = population::delete(&self.shared, &mut self.lane, made.epoch, &ids).await;
            self.away[life.gateway] = places;
            return;
        }
        let joined = made.born.len() as u64;
        if due_us >= self.clock.load_us {
            let took_us = done_us.saturating_sub(due_us);
            self.join.saturating_record_n(took_us.max(1), joined);
        }
        self.figures.joined += joined;
        self.figures.refused += made.left.len() as u64;
        self.shared.census.gained(joined);
        self.away[life.gateway] = made.left;
    }

    /// Lets them join, unless they are of a life of the service that their gateway has not seen yet: it begins with those that it
    /// knows.
    fn seat(&self, gateway: usize, made: &Made) -> bool {
        let mut cohort = self.shared.cohorts[gateway].lock();
        if cohort.epoch() != made.epoch {
            return false;
        }
        for newborn in &made.born {
            cohort.join(newborn.index, newborn.id, Some(newborn.background));
        }
        true
    }
}

impl Shared {
    /// Books what a deletion was answered, against whether the session, which was there before, is there after it.
    fn truth_of_leaving(&self, leaver: &Leaver, told: Option<u8>, is_there: bool) {
        let (violation, words) = match (told, is_there) {
            (Some(code::OK), true) => (Violation::Lost, "was acknowledged, and it is there"),
            (Some(code::SESSION_NOT_FOUND), _) => {
                (Violation::Lost, "found no session, though it was there")
            }
            (Some(code), false) if code != code::OK => {
                (Violation::Wrong, "was refused, and it is gone")
            }
            _ => return,
        };
        let told = told.map_or("nothing", code_name);
        let words = format!(
            "session {:016x}: its deletion {words} (answered {told})",
            leaver.id
        );
        self.truth.lock().violation(violation, &words);
    }
}
