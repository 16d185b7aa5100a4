//! The small service's sessions: made, read, switched and deleted, as honestly as the planted bug allows.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use super::answers::{problem, respond, session_id, stale};
use super::batches::{Batch, CREATE, READ, SWITCH};
use super::{Bug, Fake, State};

/// An index that no background has.
pub const NOBODYS: u32 = 999_999;

#[derive(Debug, Clone, Copy)]
pub struct Session {
    pub user: u32,
    pub flyweight: u32,
    /// Applied.
    switches: u32,
    /// Asked for.
    asked: u32,
    /// Deleted.
    gone: bool,
}

impl Fake {
    /// Answers a batch.
    pub(super) fn batch(&self, batch: &Batch) -> Response<Full<Bytes>> {
        let mut state = self.state.lock();
        let epoch = state.epoch;
        let names_indices = matches!(batch.kind, SWITCH | CREATE);
        if names_indices && batch.epoch.is_some_and(|asked| asked != epoch) {
            return stale(epoch);
        }
        match batch.kind {
            CREATE => self.create(&mut state, batch),
            READ => self.read(&state, batch),
            SWITCH => {
                let apply = |entry: &(u64, u32)| self.apply(&mut state, entry.0, entry.1);
                let codes: Vec<u8> = batch.entries.iter().map(apply).collect();
                batch.answer_codes(epoch, &codes)
            }
            _ => {
                let delete = |entry: &(u64, u32)| self.delete(&mut state, entry.0);
                let codes: Vec<u8> = batch.entries.iter().map(delete).collect();
                batch.answer_codes(epoch, &codes)
            }
        }
    }

    fn create(&self, state: &mut State, batch: &Batch) -> Response<Full<Bytes>> {
        let refuse = |left: u64| left.checked_sub(1);
        let (order, relaxed) = (Ordering::Relaxed, Ordering::Relaxed);
        let refused = self
            .refuse_creations
            .fetch_update(order, relaxed, refuse)
            .is_ok();
        if refused {
            return problem(503, "shed");
        }
        let make = |&(user, flyweight): &(u64, u32)| {
            if state.sessions.len() >= self.sessions_max {
                return (0, 4);
            }
            state.sessions.push(Session {
                user: user as u32,
                flyweight,
                switches: 0,
                asked: 0,
                gone: false,
            });
            (state.generation << 32 | state.sessions.len() as u64, 0)
        };
        let made: Vec<(u64, u8)> = batch.entries.iter().map(make).collect();
        self.created.send_modify(|batches| *batches += 1);
        batch.answer_created(state.epoch, &made)
    }

    fn read(&self, state: &State, batch: &Batch) -> Response<Full<Bytes>> {
        let see = |(id, _): &(u64, u32)| match state.slot(*id) {
            Some(slot) => {
                let session = &state.sessions[slot];
                [0, session.flyweight, 1, session.switches]
            }
            None => [1, 0, 0, 0],
        };
        let seen: Vec<[u32; 4]> = batch.entries.iter().map(see).collect();
        batch.answer_read(state.epoch, &seen)
    }

    pub(super) fn delete(&self, state: &mut State, id: u64) -> u8 {
        let Some(slot) = state.slot(id) else { return 1 };
        if self.bug == Bug::Keeps {
            return 4;
        }
        state.sessions[slot].gone = self.bug != Bug::Lingers;
        self.deleted.fetch_add(1, Ordering::Relaxed);
        0
    }

    /// Switches one session; its code.
    fn apply(&self, state: &mut State, id: u64, flyweight: u32) -> u8 {
        let Some(slot) = state.slot(id) else { return 1 };
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        let planted = count.is_multiple_of(97);
        let session = &mut state.sessions[slot];
        session.asked += 1;
        let covered = session.asked <= 2;
        match self.bug {
            Bug::Sheds if count.is_multiple_of(7) => return 4,
            Bug::Lost | Bug::Covered if planted && (self.bug == Bug::Lost || covered) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return 0;
            }
            Bug::Wrong if planted => session.flyweight = NOBODYS,
            _ => session.flyweight = flyweight,
        }
        session.switches += 1;
        if self.bug == Bug::RefusedButApplied && planted {
            4
        } else {
            0
        }
    }

    /// A switch of one session.
    pub(super) fn single(&self, path: &str, body: &[u8]) -> Response<Full<Bytes>> {
        self.singles.fetch_add(1, Ordering::Relaxed);
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut state = self.state.lock();
        let Some(id) = session_id(path).filter(|id| state.slot(*id).is_some()) else {
            return self.missing("session_not_found");
        };
        let Some(flyweight) = value["background"]
            .as_str()
            .and_then(|id| state.backgrounds.get(id))
            .map(|background| background.flyweight)
        else {
            return self.missing("background_not_found");
        };
        match self.apply(&mut state, id, flyweight) {
            0 => respond(200, json!({"session": format!("{id:016x}")})),
            _ => problem(503, "shed"),
        }
    }
}

impl State {
    /// Place of a session that is there.
    pub(super) fn slot(&self, id: u64) -> Option<usize> {
        let slot = ((id & 0xffff_ffff) as usize).checked_sub(1)?;
        let session = self.sessions.get(slot)?;
        (id >> 32 == self.generation && !session.gone).then_some(slot)
    }
}
