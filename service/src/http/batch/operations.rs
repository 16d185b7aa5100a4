//! What is done with an entry: the same whether it came alone or in a batch, in either form, and under either kind of sharing.

use super::super::Service;
use super::super::owned::{Refusal, Turns};
use super::code::Code;
use super::json::Target;
use crate::memory::budget::Charge;
use crate::metrics::{Label, SwitchResult};
use crate::sessions::{NO_FLYWEIGHT, SessionError, SessionId, TenantId};
use tokio::time::Instant;

/// Counts the codes of a batch, and adds them to the metric at once when it ends, also where its caller went away before that.
struct Tally<'a> {
    service: &'a Service,
    codes: [u64; Code::ALL.len()],
}

impl<'a> Tally<'a> {
    fn of(service: &'a Service) -> Self {
        Self {
            service,
            codes: Default::default(),
        }
    }

    fn add(&mut self, code: Code) {
        self.codes[code as usize] += 1;
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        for (label, count) in SwitchResult::ALL.iter().zip(self.codes) {
            if count > 0 {
                self.service
                    .metrics
                    .sessions
                    .switches_total
                    .of(*label)
                    .inc_by(count);
            }
        }
    }
}

/// One entry of a switch, as either form gives it.
type Switch = Result<(SessionId, u32), Code>;

impl Service {
    /// Counts a switch that was asked for alone.
    pub(in crate::http) fn count_switch(&self, code: Code) {
        self.metrics
            .sessions
            .switches_total
            .of(SwitchResult::ALL[code as usize])
            .inc();
    }

    #[inline]
    fn switch_entry(&self, tenant: TenantId, id: SessionId, flyweight: u32, now_s: u32) -> Code {
        if let Err(unavailable) = self.flyweights.check(flyweight) {
            return unavailable.into();
        }
        match self.sessions.switch_at(id, tenant, flyweight, now_s) {
            Ok(_) => Code::Ok,
            Err(error) => error.into(),
        }
    }

    /// Switches one session, under either kind of sharing.
    pub(in crate::http) async fn switch_one(
        &self,
        tenant: TenantId,
        id: SessionId,
        flyweight: u32,
    ) -> Result<(), Refusal> {
        if self.exclusive.is_some() {
            return self.switch_exclusive(tenant, id, flyweight).await;
        }
        match self.switch_entry(tenant, id, flyweight, self.sessions.now_s()) {
            Code::Ok => Ok(()),
            code => Err(code.into()),
        }
    }

    /// Switches every entry in order, and hands each code out. What cannot be done `until` then is shed.
    pub(super) async fn switch_all(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = Switch>,
        until: Instant,
        mut out: impl FnMut(Code),
    ) {
        let mut tally = Tally::of(self);
        let mut give = |code| {
            tally.add(code);
            out(code);
        };
        if self.exclusive.is_some() {
            let mut turns = Turns::until(until);
            for entry in entries {
                let switched = match entry {
                    Ok((id, flyweight)) => {
                        let switching = self.switch_exclusive(tenant, id, flyweight);
                        turns.take(switching).await
                    }
                    Err(code) => Err(code),
                };
                give(switched.err().unwrap_or(Code::Ok));
            }
        } else {
            let now_s = self.sessions.now_s();
            for entry in entries {
                give(match entry {
                    Ok((id, flyweight)) => self.switch_entry(tenant, id, flyweight, now_s),
                    Err(code) => code,
                });
            }
        }
    }

    /// Creates every entry in order, and hands each session and code out. What cannot be done `until` then is shed.
    pub(super) async fn create_all(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = Result<(u64, u32), Code>>,
        until: Instant,
        mut out: impl FnMut(Result<SessionId, Code>),
    ) {
        if self.exclusive.is_some() {
            let mut turns = Turns::until(until);
            for entry in entries {
                out(match entry {
                    Ok((user, flyweight)) => {
                        let creating = self.create_exclusive(tenant, user, flyweight);
                        turns.take(creating).await
                    }
                    Err(code) => Err(code),
                });
            }
            return;
        }
        // Waits for memory for a moment, and before anything is done.
        let room = self.room(entries.size_hint().1.unwrap_or(0)).await;
        let mut creation = self.sessions.creation(tenant, room);
        for entry in entries {
            out(entry.and_then(|(user, flyweight)| {
                self.check_optional(flyweight)?;
                creation.create(user, flyweight).map_err(Code::from)
            }));
        }
    }

    /// Memory for `more` sessions; entries are refused one by one where there is none.
    async fn room(&self, more: usize) -> Option<Charge> {
        self.sessions.room(more, self.config.reserve_wait).await
    }

    /// Creates one session, under either kind of sharing.
    pub(in crate::http) async fn create_session(
        &self,
        tenant: TenantId,
        user: u64,
        flyweight: u32,
    ) -> Result<SessionId, SessionError> {
        let room = self.room(1).await;
        self.sessions.creation(tenant, room).create(user, flyweight)
    }

    /// Passes a live background, and none at all.
    pub(in crate::http) fn check_optional(&self, flyweight: u32) -> Result<(), Code> {
        if flyweight == NO_FLYWEIGHT {
            return Ok(());
        }
        self.flyweights
            .check(flyweight)
            .map(drop)
            .map_err(Code::from)
    }

    /// Flyweight, version and switches of a session; version 0 where it has no live background.
    pub(super) fn read_entry(
        &self,
        tenant: TenantId,
        id: SessionId,
    ) -> Result<(u32, u32, u32), Code> {
        let (flyweight, switches) = self.sessions.peek(id, tenant)?;
        Ok((
            flyweight,
            self.flyweights.check(flyweight).unwrap_or(0),
            switches,
        ))
    }

    pub(in crate::http) fn delete_entry(&self, tenant: TenantId, id: SessionId) -> Code {
        match self.sessions.delete(id, tenant) {
            Ok(_) => {
                if let Some(exclusive) = &self.exclusive {
                    exclusive.release(id);
                }
                self.sources.close(id.0);
                Code::Ok
            }
            Err(error) => error.into(),
        }
    }

    /// The index that an entry's background has, [`NO_FLYWEIGHT`] for none.
    pub(in crate::http) fn index_of(&self, target: &Target<'_>) -> Result<u32, Code> {
        match target {
            Target::Nothing => Ok(NO_FLYWEIGHT),
            Target::Index(index) => Ok(*index),
            Target::Name(name) => self.flyweights.resolve(name).ok_or(Code::FlyweightUnknown),
        }
    }
}
