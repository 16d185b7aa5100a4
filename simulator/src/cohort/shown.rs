//! What a session may show: now, while somebody looks at it, and what it was told before. Which one is looked at.

use super::{Cohort, NO_BACKGROUND, Record};
use crate::schedule::below;
use crate::truth::Allowed;

/// A reader that watches one session while its request is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    token: u64,
    pub(super) index: u32,
    incarnation: u32,
    /// Every background that the session may show within the watch.
    pub(super) allowed: Allowed,
}

impl Cohort {
    /// What a session may show now, switches under way included.
    pub fn allowed(&self, index: usize) -> Allowed {
        let record = &self.records[index];
        let mut allowed =
            Allowed::acknowledged((record.acked != NO_BACKGROUND).then_some(record.acked));
        match record.doubt.value() {
            Some(_) if record.doubt.is_many() => allowed.anything(),
            Some(background) => allowed.perhaps(background),
            None => {}
        }
        for piece in &self.in_flight {
            for background in self.choices_within(*piece, index) {
                allowed.also(background);
            }
        }
        allowed
    }

    /// Starts to watch a session; switches that depart meanwhile widen what it may show.
    pub fn watch(&mut self, index: usize) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let allowed = self.allowed(index);
        self.watches.push(Watch {
            token,
            index: index as u32,
            incarnation: self.incarnation,
            allowed,
        });
        token
    }

    /// Ends a watch. `None` when the cohort was replaced meanwhile: nothing can be judged.
    pub fn unwatch(&mut self, token: u64) -> Option<Allowed> {
        let at = self.watches.iter().position(|watch| watch.token == token)?;
        let watch = self.watches.swap_remove(at);
        (watch.incarnation == self.incarnation).then_some(watch.allowed)
    }

    /// Backgrounds that the session was told before its current one, newest first: what a lost switch shows.
    pub fn earlier(&self, index: usize) -> [u16; 3] {
        let user = self.user(index);
        if let Some(playback) = &self.playback {
            let told = playback.within(index, 0, self.cursor);
            return [1, 2, 3].map(|back| match told.len().checked_sub(back) {
                Some(place) => playback.at(u64::from(told[place])).background,
                None => self.schedule.initial(user),
            });
        }
        let next = self.rounds(index);
        [1, 2, 3].map(|back| match next.checked_sub(back) {
            Some(round) => self.schedule.background(user, round),
            None => self.schedule.initial(user),
        })
    }

    /// Switches of a session that were cut so far.
    pub(super) fn rounds(&self, index: usize) -> u64 {
        let len = self.records.len() as u64;
        (self.cursor + len - 1 - index as u64) / len
    }

    /// Some session that exists, chosen by a hash; `None` when there is none.
    pub fn pick(&self, hash: u64) -> Option<usize> {
        self.pick_where(hash, |_| true)
    }

    /// Some session that was last acknowledged this background, chosen by a hash.
    pub fn pick_showing(&self, background: u16, hash: u64) -> Option<usize> {
        self.pick_where(hash, |record| record.acked == background)
    }

    fn pick_where(&self, hash: u64, fits: impl Fn(&Record) -> bool) -> Option<usize> {
        let len = self.records.len();
        if len == 0 {
            return None;
        }
        let start = below(hash, len as u64) as usize;
        (start..len)
            .chain(0..start)
            .find(|index| self.records[*index].id != 0 && fits(&self.records[*index]))
    }
}
