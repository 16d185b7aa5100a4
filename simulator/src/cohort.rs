//! The sessions of one gateway: ids, phases, and what each was last acknowledged.
//!
//! Sixteen bytes a session. The `n`-th switch of a cohort (its *ordinal*) belongs to session `n % len` in round
//! `n / len`, and sessions are sorted by phase, so what falls due in a tick is one contiguous range of ordinals,
//! and a request in flight is two numbers. The invariant that keeps truth decidable: a session never has two
//! switches in flight at once ([`Cohort::conflicts`]). Where a tape is followed, it says whose an ordinal is.
//!
//! Knows no clock, sockets or catalogue.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::schedule::{self, Planned, Schedule};

mod churn;
mod doubt;
mod playback;
mod shown;
#[cfg(test)]
mod tests;

use churn::Joiner;
pub use churn::Leaver;
use doubt::Doubt;
use playback::Playback;
use shown::Watch;

/// Background number of a session that has none.
pub const NO_BACKGROUND: u16 = u16::MAX;
/// Background numbers stay below this: the fifteen bits that a [`Doubt`] leaves.
pub const BACKGROUNDS_MAX: u16 = 0x7ff0;

/// One session. `id` 0 is a session that the service does not have.
#[derive(Debug, Clone, Copy)]
struct Record {
    id: u64,
    phase_us: u32,
    acked: u16,
    doubt: Doubt,
}

const _: () = assert!(size_of::<Record>() == 16);

/// A range of due switches that travels as one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First ordinal.
    pub first: u64,
    /// One past the last ordinal.
    pub last: u64,
    /// Switches in it: ordinals whose session exists.
    pub entries: u32,
    /// A `PUT` of one session instead of a batch.
    pub single: bool,
    /// End of its tick, microseconds after the schedule's origin.
    pub tick_us: u64,
    incarnation: u32,
}

/// How the entries of a piece ended.
#[derive(Debug, Clone, Copy)]
pub enum Landing<'a> {
    /// Answered: one code per entry, 0 is ok.
    Codes(&'a [u8]),
    /// Certainly not applied.
    Refused,
    /// Perhaps applied.
    Doubtful,
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Acknowledged.
    Acked,
    /// Answered with this code, not applied.
    Code(u8),
    /// As the whole piece.
    AsPiece,
}

/// Switches of a cohort's sessions since they were last created: what the sessions' own counters must add up to.
/// One for the cohort, because a counter per session would cost as much again as what is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Acknowledged.
    pub acknowledged: u64,
    /// Perhaps applied.
    pub doubtful: u64,
    /// Counted by sessions that left: read back before they were deleted.
    pub departed: u64,
    /// One was gone before its counter was read: they do not add up.
    pub uncounted: bool,
}

/// The sessions of one gateway.
#[derive(Debug)]
pub struct Cohort {
    schedule: Arc<Schedule>,
    first_user: u64,
    records: Vec<Record>,
    cursor: u64,
    in_flight: Vec<Piece>,
    watches: Vec<Watch>,
    next_token: u64,
    incarnation: u32,
    /// 0: batches only; 1: singles only; k: every k-th session switches alone.
    singles_every: u32,
    switching: bool,
    /// Switches follow this and not the period.
    playback: Option<Playback>,
    /// Sessions leave and join.
    churns: bool,
    /// First ordinal that was cut and had not departed when something was last cut; known where sessions leave and join.
    queued: u64,
    epoch: u64,
    /// Sessions that must be made anew and are not yet.
    owed: Vec<usize>,
    joining: Vec<Joiner>,
    ledger: Ledger,
}

impl Cohort {
    /// A cohort of `sessions` that do not exist yet. `gateway` seeds its phases.
    pub fn new(schedule: Arc<Schedule>, gateway: u64, first_user: u64, sessions: usize) -> Self {
        let records = schedule
            .phases(gateway, sessions)
            .into_iter()
            .map(|phase_us| Record {
                id: 0,
                phase_us,
                acked: NO_BACKGROUND,
                doubt: Doubt::NONE,
            })
            .collect();
        Cohort {
            schedule,
            first_user,
            records,
            cursor: 0,
            in_flight: Vec::new(),
            watches: Vec::new(),
            next_token: 0,
            incarnation: 0,
            singles_every: 0,
            switching: true,
            playback: None,
            churns: false,
            queued: 0,
            epoch: 0,
            owed: Vec::new(),
            joining: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// Every `every`-th session switches by a request of its own; 0 for none, 1 for all.
    pub fn with_singles(mut self, every: u32) -> Self {
        self.singles_every = every;
        self
    }

    /// Its sessions switch as it was taped, by time; users count from the cohort's first one.
    pub fn following(mut self, sent: Vec<Planned>) -> Self {
        self.playback = Some(Playback::new(sent, self.records.len()));
        self
    }

    /// Its sessions leave and join while the others switch.
    pub fn churning(mut self) -> Self {
        self.churns = true;
        self
    }

    /// A cohort whose sessions never switch: previews only.
    pub fn resting(mut self) -> Self {
        self.switching = false;
        self
    }

    /// Its sessions never switch.
    pub fn is_resting(&self) -> bool {
        !self.switching
    }

    /// Catalogue epoch that its sessions were created in.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its sessions live in this epoch.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Sessions asked for.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// No sessions were asked for.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// User number of a session.
    pub fn user(&self, index: usize) -> u64 {
        self.first_user + index as u64
    }

    /// Session id, `None` where the service has no such session.
    pub fn id(&self, index: usize) -> Option<u64> {
        self.records
            .get(index)
            .map(|record| record.id)
            .filter(|id| *id != 0)
    }

    /// Sessions that exist.
    pub fn present(&self) -> u64 {
        self.records.iter().filter(|record| record.id != 0).count() as u64
    }

    /// Bytes of all that is known of its sessions.
    pub fn bytes(&self) -> usize {
        let playback = self.playback.as_ref().map_or(0, Playback::bytes);
        self.records.capacity() * size_of::<Record>()
            + self.in_flight.capacity() * size_of::<Piece>()
            + self.watches.capacity() * size_of::<Watch>()
            + self.owed.capacity() * size_of::<usize>()
            + self.joining.capacity() * size_of::<Joiner>()
            + playback
    }

    /// Counts replacements of the whole cohort.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The session exists from now on and shows `background`.
    pub fn born(&mut self, index: usize, id: u64, background: u16) {
        let record = &mut self.records[index];
        record.id = id;
        record.acked = background;
        record.doubt = Doubt::NONE;
    }

    /// The background a session should be made anew with: what it was last acknowledged, else its first.
    pub fn wanted(&self, index: usize) -> u16 {
        match self.records[index].acked {
            NO_BACKGROUND => self.schedule.initial(self.user(index)),
            acked => acked,
        }
    }

    /// Every index in the order that sessions are made in: a part of them is spread over the period.
    pub fn birth_order(&self) -> impl Iterator<Item = usize> + use<> {
        schedule::spread(self.records.len())
    }

    /// Switches since the sessions were last created; those under way may have been applied.
    pub fn ledger(&self) -> Ledger {
        let under_way: u64 = self.in_flight.iter().map(|p| u64::from(p.entries)).sum();
        Ledger {
            doubtful: self.ledger.doubtful + under_way,
            ..self.ledger
        }
    }

    /// Forgets every id: the service lost its sessions. Answers still under way count no more.
    pub fn forget(&mut self) -> Vec<usize> {
        self.incarnation += 1;
        self.in_flight.clear();
        self.watches.clear();
        self.ledger = Ledger::default();
        if let Some(playback) = &mut self.playback {
            playback.forget();
        }
        let mut lost: Vec<usize> = self.joining.drain(..).map(|joiner| joiner.index).collect();
        for index in self.birth_order() {
            let record = &mut self.records[index];
            if record.id != 0 {
                record.id = 0;
                record.doubt = Doubt::NONE;
                lost.push(index);
            }
        }
        lost
    }

    /// These sessions are still to be made anew.
    pub fn owe(&mut self, indices: &[usize]) {
        self.owed.extend_from_slice(indices);
    }

    /// Takes up to `most` sessions that are still to be made anew. None may be left when switches are sent again:
    /// a session born while a piece is in flight would shift the entries of its answer.
    pub fn owed(&mut self, most: usize) -> Vec<usize> {
        let rest = self.owed.len().saturating_sub(most);
        self.owed.split_off(rest)
    }

    /// When an ordinal is due, microseconds after the schedule's origin.
    pub fn due_us(&self, ordinal: u64) -> u64 {
        if let Some(playback) = &self.playback {
            return playback.at(ordinal).at_us;
        }
        let len = self.records.len() as u64;
        let phase = self.records[(ordinal % len) as usize].phase_us;
        (ordinal / len) * u64::from(self.schedule.period_us) + u64::from(phase)
    }

    /// First ordinal due at or after `at_us`.
    fn ordinal_at(&self, at_us: u64) -> u64 {
        if let Some(playback) = &self.playback {
            return playback.ordinal_at(at_us);
        }
        let period = u64::from(self.schedule.period_us);
        let within = (at_us % period) as u32;
        let index = self
            .records
            .partition_point(|record| record.phase_us < within) as u64;
        (at_us / period) * self.records.len() as u64 + index
    }

    /// Cuts what fell due before `until_us` into pieces of at most `entries_max`, and of a round at most: a session is once in a
    /// piece, unless a tape has it there several times. Returns the entries taken.
    pub fn take_due(&mut self, until_us: u64, entries_max: u64, out: &mut VecDeque<Piece>) -> u64 {
        if self.records.is_empty() || !self.switching {
            return 0;
        }
        self.admit();
        let end = self.ordinal_at(until_us).max(self.cursor);
        let entries_max = match &self.playback {
            Some(_) => entries_max,
            None => entries_max.min(self.records.len() as u64),
        };
        let mut taken = 0;
        while self.cursor < end {
            let first = self.cursor;
            let last = end.min(first + entries_max);
            self.cursor = last;
            taken += self.cut(first, last, until_us, out);
        }
        if self.churns {
            // What departs until the next time only raises it. Single ones lie before the piece they were cut from.
            let queued = out.iter().map(|piece| piece.first).min();
            self.queued = queued.unwrap_or(self.cursor);
        }
        taken
    }

    fn cut(&self, first: u64, last: u64, tick_us: u64, out: &mut VecDeque<Piece>) -> u64 {
        let mut piece = Piece {
            first,
            last,
            entries: 0,
            single: false,
            tick_us,
            incarnation: self.incarnation,
        };
        let mut singles = 0;
        for ordinal in first..last {
            let index = self.index(ordinal);
            if self.records[index].id == 0 {
                continue;
            }
            if self.is_single(index) {
                singles += 1;
                out.push_back(Piece {
                    first: ordinal,
                    last: ordinal + 1,
                    entries: 1,
                    single: true,
                    ..piece
                });
            } else {
                piece.entries += 1;
            }
        }
        if piece.entries > 0 {
            out.push_back(piece);
        }
        singles + u64::from(piece.entries)
    }

    fn index(&self, ordinal: u64) -> usize {
        if let Some(playback) = &self.playback {
            return playback.at(ordinal).user as usize;
        }
        (ordinal % self.records.len() as u64) as usize
    }

    fn is_single(&self, index: usize) -> bool {
        self.singles_every != 0 && (index as u64).is_multiple_of(u64::from(self.singles_every))
    }

    /// Ordinals of a piece whose session exists and travels in it.
    fn members(&self, piece: Piece) -> impl Iterator<Item = (u64, usize)> + '_ {
        (piece.first..piece.last)
            .map(|ordinal| (ordinal, self.index(ordinal)))
            .filter(move |(_, index)| {
                self.records[*index].id != 0 && self.is_single(*index) == piece.single
            })
    }

    fn choice(&self, ordinal: u64, index: usize) -> u16 {
        if let Some(playback) = &self.playback {
            return playback.at(ordinal).background;
        }
        let round = ordinal / self.records.len() as u64;
        self.schedule.background(self.user(index), round)
    }

    /// Whether an earlier switch of one of its sessions is still under way.
    pub fn conflicts(&self, piece: Piece) -> bool {
        if let Some(playback) = &self.playback {
            return !self.in_flight.is_empty()
                && self
                    .members(piece)
                    .any(|(_, index)| playback.is_under_way(index));
        }
        let len = self.records.len() as u64;
        self.in_flight
            .iter()
            .any(|other| other.first + len < piece.last)
    }

    /// Marks a piece as under way and hands its entries (session id, background number) to `entry`.
    /// Returns how many; zero when the cohort was replaced since the piece was cut.
    pub fn depart(&mut self, piece: Piece, mut entry: impl FnMut(u64, u16)) -> u32 {
        if piece.incarnation != self.incarnation {
            return 0;
        }
        let mut count = 0;
        for (ordinal, index) in self.members(piece) {
            entry(self.records[index].id, self.choice(ordinal, index));
            count += 1;
        }
        for at in 0..self.watches.len() {
            for background in self.choices_within(piece, self.watches[at].index as usize) {
                self.watches[at].allowed.also(background);
            }
        }
        if let Some(playback) = &mut self.playback {
            playback.departs(piece.first, piece.last);
        }
        self.in_flight.push(piece);
        count
    }

    /// Planned time, user and background of each entry of a piece.
    pub fn sent(&self, piece: Piece) -> impl Iterator<Item = Planned> + '_ {
        self.members(piece).map(|(ordinal, index)| Planned {
            at_us: self.due_us(ordinal),
            user: self.user(index) as u32,
            background: self.choice(ordinal, index),
        })
    }

    /// What a piece switches the session to, if it is in it; a tape may have it there several times.
    fn choices_within(&self, piece: Piece, index: usize) -> Vec<u16> {
        if self.is_single(index) != piece.single {
            return Vec::new();
        }
        if let Some(playback) = &self.playback {
            let within = playback.within(index, piece.first, piece.last).iter();
            return within
                .map(|ordinal| playback.at(u64::from(*ordinal)).background)
                .collect();
        }
        let len = self.records.len() as u64;
        let at = index as u64;
        let round = piece.first.saturating_sub(at).div_ceil(len);
        let ordinal = round * len + at;
        (piece.first..piece.last)
            .contains(&ordinal)
            .then(|| self.choice(ordinal, index))
            .into_iter()
            .collect()
    }

    /// Books a landed piece; `sink` gets (due time, what became of it) per entry.
    pub fn land(&mut self, piece: Piece, landing: Landing<'_>, mut sink: impl FnMut(u64, Entry)) {
        if piece.incarnation != self.incarnation {
            for ordinal in piece.first..piece.first + u64::from(piece.entries) {
                sink(self.due_us(ordinal), Entry::AsPiece);
            }
            return;
        }
        let flying = self.in_flight.len();
        self.in_flight.retain(|other| other != &piece);
        // One that was never sent lands, too: it must not land for an earlier one of the same sessions, which still flies.
        let flew = self.in_flight.len() < flying;
        if let Some(playback) = self.playback.as_mut().filter(|_| flew) {
            playback.lands(piece.first, piece.last);
        }
        let mut position = 0;
        for ordinal in piece.first..piece.last {
            let index = self.index(ordinal);
            if self.records[index].id == 0 || self.is_single(index) != piece.single {
                continue;
            }
            let entry = self.settle(piece, ordinal, landing, position);
            position += 1;
            sink(self.due_us(ordinal), entry);
        }
    }

    /// Whether a piece holds no earlier switch of the session of one of its ordinals.
    fn is_first_within(&self, piece: Piece, ordinal: u64, index: usize) -> bool {
        self.playback.as_ref().is_none_or(|playback| {
            let within = playback.within(index, piece.first, ordinal);
            within.is_empty()
        })
    }

    fn settle(
        &mut self,
        piece: Piece,
        ordinal: u64,
        landing: Landing<'_>,
        position: usize,
    ) -> Entry {
        let index = self.index(ordinal);
        match landing {
            Landing::Codes(codes) => match codes.get(position) {
                Some(0) => {
                    let background = self.choice(ordinal, index);
                    // A doubt is settled by two answers, not by two entries of one.
                    let settles = self.records[index].doubt != Doubt::NONE
                        && self.is_first_within(piece, ordinal, index);
                    let record = &mut self.records[index];
                    record.acked = background;
                    if settles {
                        record.doubt = record.doubt.acknowledged();
                    }
                    self.ledger.acknowledged += 1;
                    Entry::Acked
                }
                Some(code) => Entry::Code(*code),
                None => {
                    self.ledger.doubtful += 1;
                    Entry::AsPiece
                }
            },
            Landing::Refused => Entry::AsPiece,
            Landing::Doubtful => {
                let background = self.choice(ordinal, index);
                let record = &mut self.records[index];
                record.doubt = record.doubt.add(background);
                self.ledger.doubtful += 1;
                Entry::AsPiece
            }
        }
    }
}
