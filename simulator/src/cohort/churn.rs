//! Sessions of a cohort that leave and join while the others switch.
//!
//! A piece knows its entries by their place among the sessions that exist, so nobody may come or go while a piece that covers it is
//! cut and has not landed: who leaves is chosen among those that no such piece covers, and who joins waits until none does.

use super::{Cohort, Doubt};
use crate::schedule::below;
use crate::truth::Allowed;

/// Sessions that are looked at for each one that may leave.
const LOOKS: usize = 8;

/// A session that has left the cohort; the service still has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// Its place.
    pub index: usize,
    /// Its id.
    pub id: u64,
    /// What it may show: nothing of it is under way.
    pub allowed: Allowed,
    /// What it was told before, newest first.
    pub earlier: [u16; 3],
}

/// A session that the service has and that takes no part yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joiner {
    pub(super) index: usize,
    id: u64,
    /// The background it was created with; `None` for one that had left and was not deleted.
    background: Option<u16>,
}

impl Cohort {
    /// Takes out up to `most` sessions, beginning somewhere by a hash. Watched ones stay.
    pub fn leave(&mut self, most: usize, hash: u64) -> Vec<Leaver> {
        debug_assert!(self.churns, "nobody knows what is queued");
        let len = self.records.len();
        let mut leavers = Vec::new();
        let start = below(hash, len as u64) as usize;
        let candidates = (start..len).chain(0..start);
        for index in candidates.take(most.saturating_mul(LOOKS)) {
            if leavers.len() == most {
                break;
            }
            let watched = |watch: &super::Watch| watch.index as usize == index;
            if self.records[index].id == 0
                || !self.is_clear(index)
                || self.watches.iter().any(watched)
            {
                continue;
            }
            leavers.push(Leaver {
                index,
                id: self.records[index].id,
                allowed: self.allowed(index),
                earlier: self.earlier(index),
            });
            self.records[index].id = 0;
        }
        leavers
    }

    /// A session that left counted so many switches: they are in nobody's counter any more. `None` where it was gone before it could
    /// be read.
    pub fn departed(&mut self, index: usize, switches: Option<u32>) {
        self.ledger.departed += u64::from(switches.unwrap_or_default());
        self.ledger.uncounted |= switches.is_none();
        let record = &mut self.records[index];
        record.acked = super::NO_BACKGROUND;
        record.doubt = Doubt::NONE;
    }

    /// The session takes part as soon as no piece that is under way covers its place. `background` is what it was created with,
    /// `None` where it was there all the time.
    pub fn join(&mut self, index: usize, id: u64, background: Option<u16>) {
        self.joining.push(Joiner {
            index,
            id,
            background,
        });
    }

    /// Lets those join that can.
    pub(super) fn admit(&mut self) {
        if self.joining.is_empty() {
            return;
        }
        for joiner in std::mem::take(&mut self.joining) {
            if self.is_clear(joiner.index) {
                self.seat(joiner);
            } else {
                self.joining.push(joiner);
            }
        }
    }

    /// Lets all join that wait for it: the load is over, and everything has landed.
    pub fn admit_all(&mut self) {
        for joiner in std::mem::take(&mut self.joining) {
            self.seat(joiner);
        }
    }

    fn seat(&mut self, joiner: Joiner) {
        match joiner.background {
            Some(background) => self.born(joiner.index, joiner.id, background),
            None => self.records[joiner.index].id = joiner.id,
        }
    }

    /// No piece that was cut and has not landed covers a session.
    fn is_clear(&self, index: usize) -> bool {
        let len = self.records.len() as u64;
        let flying = self.in_flight.iter().map(|piece| piece.first).min();
        let landed = flying.map_or(self.queued, |first| first.min(self.queued));
        match self.rounds(index).checked_sub(1) {
            None => true,
            Some(round) => round * len + (index as u64) < landed,
        }
    }
}
