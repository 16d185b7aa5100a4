//! Batches of sessions: create, read, delete, switch. Answered entry by entry, in the form they were asked in.
//!
//! A switch in binary form is the service's hottest path: records are read where they lie, one buffer is answered,
//! nothing is allocated or logged for an entry. Both forms end in the same functions, so they give the same answers.

pub mod binary;
pub mod json;

use super::Service;
use super::admission::{refused, reserve_answer};
use super::auth::Caller;
use super::body::{self, BodyLimits, Received};
use super::owned::Refusal;
use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use super::session;
use crate::flyweight::Unavailable;
use crate::memory::budget::{Charge, Purpose, ReserveError};
use crate::metrics::{Label, SwitchResult};
use crate::sessions::{NO_FLYWEIGHT, SessionError, SessionId, TenantId};
pub use binary::Operation;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Version};
use json::{Entry, Target};

/// Media type of the compact form.
const BINARY_TYPE: &[u8] = b"application/vnd.backdrop.batch";

/// Bytes of JSON that one entry may take on average.
const JSON_ENTRY_BYTES: u64 = 256;

/// What became of one entry; the numbers stand in the binary form, the names in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// Stale, unknown, or of another tenant.
    SessionNotFound = 1,
    /// The background was never there.
    FlyweightUnknown = 2,
    /// The background was removed.
    Gone = 3,
    /// No room now.
    Shed = 4,
    /// The entry is of the wrong shape.
    BadEntry = 5,
    /// The service failed.
    Internal = 6,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub const ALL: [Code; 7] = [
        Code::Ok,
        Code::SessionNotFound,
        Code::FlyweightUnknown,
        Code::Gone,
        Code::Shed,
        Code::BadEntry,
        Code::Internal,
    ];

    /// Name in JSON, the same as the metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        SwitchResult::ALL[self as usize].name()
    }
}

impl From<SessionError> for Code {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound => Self::SessionNotFound,
            SessionError::Full | SessionError::Exhausted => Self::Shed,
            SessionError::Injected => Self::Internal,
        }
    }
}

impl From<Unavailable> for Code {
    fn from(error: Unavailable) -> Self {
        match error {
            Unavailable::Unknown => Self::FlyweightUnknown,
            Unavailable::Gone => Self::Gone,
        }
    }
}

/// Counts the codes of a batch, and adds them to the metric at once.
#[derive(Default)]
struct Tally([u64; Code::ALL.len()]);

impl Tally {
    fn add(&mut self, code: Code) {
        self.0[code as usize] += 1;
    }

    fn publish(&self, service: &Service) {
        for (label, count) in SwitchResult::ALL.iter().zip(self.0) {
            if count > 0 {
                service.metrics.sessions.switches_total.of(*label).inc_by(count);
            }
        }
    }
}

/// One entry of a switch, as either form gives it.
type Switch = Result<(SessionId, u32), Code>;

impl Service {
    /// Counts a switch that was asked for alone.
    pub(super) fn count_switch(&self, code: Code) {
        self.metrics
            .sessions.switches_total
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
    pub(super) async fn switch_one(
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

    /// Switches every entry in order, and hands each code out.
    async fn switch_all(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = Switch>,
        mut out: impl FnMut(Code),
    ) {
        let now_s = self.sessions.now_s();
        let mut tally = Tally::default();
        let mut give = |code| {
            tally.add(code);
            out(code);
        };
        if self.exclusive.is_some() {
            let mut shedding = false;
            for entry in entries {
                let switched = match entry {
                    Ok(_) if shedding => Err(Code::Shed.into()),
                    Ok((id, flyweight)) => self.switch_exclusive(tenant, id, flyweight).await,
                    Err(code) => Err(code.into()),
                };
                // What could never fit says nothing of its neighbours.
                shedding |= switched == Err(Code::Shed.into());
                give(switched.map_or_else(Refusal::code, |()| Code::Ok));
            }
        } else {
            for entry in entries {
                give(match entry {
                    Ok((id, flyweight)) => self.switch_entry(tenant, id, flyweight, now_s),
                    Err(code) => code,
                });
            }
        }
        tally.publish(self);
    }

    /// Creates every entry in order, and hands each session and code out.
    async fn create_all(
        &self,
        tenant: TenantId,
        entries: impl Iterator<Item = Result<(u64, u32), Code>>,
        mut out: impl FnMut(Result<SessionId, Code>),
    ) {
        if self.exclusive.is_some() {
            let mut shedding = false;
            for entry in entries {
                let made = match entry {
                    Ok(_) if shedding => Err(Code::Shed.into()),
                    Ok((user, flyweight)) => self.create_exclusive(tenant, user, flyweight).await,
                    Err(code) => Err(code.into()),
                };
                shedding |= made == Err(Code::Shed.into());
                out(made.map_err(Refusal::code));
            }
            return;
        }
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
    pub(super) async fn create_session(
        &self,
        tenant: TenantId,
        user: u64,
        flyweight: u32,
    ) -> Result<SessionId, SessionError> {
        let room = self.room(1).await;
        self.sessions.creation(tenant, room).create(user, flyweight)
    }

    /// Passes a live background, and none at all.
    pub(super) fn check_optional(&self, flyweight: u32) -> Result<(), Code> {
        if flyweight == NO_FLYWEIGHT {
            return Ok(());
        }
        self.flyweights
            .check(flyweight)
            .map(drop)
            .map_err(Code::from)
    }

    /// Flyweight, version and switches of a session; version 0 where it has no live background.
    fn read_entry(&self, tenant: TenantId, id: SessionId) -> Result<(u32, u32, u32), Code> {
        let (flyweight, switches) = self.sessions.peek(id, tenant)?;
        Ok((
            flyweight,
            self.flyweights.check(flyweight).unwrap_or(0),
            switches,
        ))
    }

    pub(super) fn delete_entry(&self, tenant: TenantId, id: SessionId) -> Code {
        match self.sessions.delete(id, tenant) {
            Ok(_) => {
                if let Some(exclusive) = &self.exclusive {
                    exclusive.release(id);
                }
                Code::Ok
            }
            Err(error) => error.into(),
        }
    }

    /// The index that an entry's background has, [`NO_FLYWEIGHT`] for none.
    pub(super) fn index_of(&self, target: &Target<'_>) -> Result<u32, Code> {
        match target {
            Target::Nothing => Ok(NO_FLYWEIGHT),
            Target::Index(index) => Ok(*index),
            Target::Name(name) => self.flyweights.resolve(name).ok_or(Code::FlyweightUnknown),
        }
    }
}

fn is_binary(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == BINARY_TYPE)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let essence = value
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

/// Answers a batch.
///
/// # Errors
/// Only what concerns the whole batch; an entry's fate is its code.
pub async fn answer(
    service: &Service,
    operation: Operation,
    caller: Caller,
    parts: &Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let headers = &parts.headers;
    let entries_max = service.config.batch_entries_max;
    let binary = is_binary(headers);
    if !binary && !is_json(headers) {
        let detail = "send application/json or application/vnd.backdrop.batch";
        return Err(Problem::new(Kind::UnsupportedMedia, detail));
    }
    let entry_bytes = if binary {
        operation.record_bytes() as u64
    } else {
        JSON_ENTRY_BYTES
    };
    let limits = BodyLimits {
        bytes_max: (1024 + entries_max as u64 * entry_bytes).min(service.config.body_bytes_max),
        time_max: service.config.body_timeout,
        reserve_wait: service.config.reserve_wait,
        purpose: Purpose::Body,
        // Binary records are read where they lie, JSON becomes entries first.
        parsed_bytes_max: if binary {
            0
        } else {
            entries_max as u64 * size_of::<Entry<'_>>() as u64
        },
    };
    let Received { bytes, charge } = body::read(body, limits, &service.intake).await?;
    let batch = Batch {
        service,
        operation,
        tenant: caller.tenant,
        version: parts.version,
    };
    let answered = if binary {
        service.in_time(binary_batch(&batch, &bytes)).await
    } else {
        service.in_time(json_batch(&batch, &bytes)).await
    };
    // The bytes go first: nothing lives without its charge.
    drop(bytes);
    drop(charge);
    answered
}

/// What a batch is answered for.
struct Batch<'a> {
    service: &'a Service,
    operation: Operation,
    tenant: TenantId,
    version: Version,
}

impl Batch<'_> {
    /// Reserves the answer before anything is done: a batch that is shed was not applied.
    async fn reserve(&self, answer_bytes_max: usize) -> Result<Option<Charge>, Problem> {
        let reserved = reserve_answer(
            &self.service.budget,
            answer_bytes_max as u64,
            self.version,
            self.service.config.reserve_wait,
        );
        reserved.await.map_err(|error| match error {
            ReserveError::TooLarge { .. } => Problem::new(
                Kind::BatchTooLarge,
                "the answer would need more memory than the service may ever use: send fewer entries",
            ),
            ReserveError::Exhausted { .. } => refused(&error),
        })
    }
}

fn check_epoch(service: &Service, operation: Operation, epoch: u64) -> Result<(), Problem> {
    let present = service.flyweights.epoch();
    if operation.names_flyweights() && epoch != present {
        Err(Problem::stale_epoch(present))
    } else {
        Ok(())
    }
}

async fn binary_batch(asked: &Batch<'_>, body: &[u8]) -> Result<Answer, Problem> {
    let &Batch {
        service,
        operation,
        tenant,
        ..
    } = asked;
    let batch = binary::parse(body, operation, service.config.batch_entries_max)?;
    check_epoch(service, operation, batch.epoch)?;
    let epoch = service.flyweights.epoch();
    let entries = batch.len(operation);
    let charge = asked
        .reserve(binary::answer_bytes(operation, entries))
        .await?;
    let mut out = binary::answer(operation, epoch, entries);
    match operation {
        Operation::Switch => {
            let entries = batch
                .switches()
                .map(|(session, flyweight)| Ok((SessionId(session), flyweight)));
            service
                .switch_all(tenant, entries, |code| out.push(code as u8))
                .await;
        }
        Operation::Create => {
            let entries = batch
                .creations()
                .map(|(user, flyweight)| Ok((u64::from(user), flyweight)));
            let push = |made: Result<SessionId, Code>| match made {
                Ok(id) => binary::push_created(&mut out, id.0, Code::Ok),
                Err(code) => binary::push_created(&mut out, 0, code),
            };
            service.create_all(tenant, entries, push).await;
        }
        Operation::Read => {
            for session in batch.sessions() {
                match service.read_entry(tenant, SessionId(session)) {
                    Ok((flyweight, version, switches)) => {
                        binary::push_read(&mut out, Code::Ok, flyweight, version, switches);
                    }
                    Err(code) => binary::push_read(&mut out, code, NO_FLYWEIGHT, 0, 0),
                }
            }
        }
        Operation::Delete => {
            out.extend(
                batch
                    .sessions()
                    .map(|session| service.delete_entry(tenant, SessionId(session)) as u8),
            );
        }
    }
    let body = respond::charged(out, charge);
    Ok(respond::full(hyper::StatusCode::OK, respond::BATCH, body))
}

async fn json_batch(asked: &Batch<'_>, body: &[u8]) -> Result<Answer, Problem> {
    let &Batch {
        service,
        operation,
        tenant,
        ..
    } = asked;
    let _escaped = asked
        .reserve(json::escaped_bytes_max(body) as usize)
        .await?;
    let batch = json::parse(body, operation, service.config.batch_entries_max)?;
    if let Some(epoch) = batch.epoch {
        check_epoch(service, operation, epoch)?;
    }
    let bytes_max = json::answer_bytes_max(operation, batch.answers());
    let charge = asked.reserve(bytes_max).await?;
    let out = match operation {
        Operation::Switch => json_switch(service, tenant, batch.entries.unwrap_or_default()).await,
        Operation::Create => json_create(service, tenant, batch).await,
        Operation::Read => json_read(service, tenant, &batch.entries.unwrap_or_default()),
        Operation::Delete => json_delete(service, tenant, &batch.entries.unwrap_or_default()),
    };
    debug_assert!(out.capacity() <= bytes_max, "the bound holds");
    Ok(respond::json(respond::charged(out, charge)))
}

fn session_of(entry: &Entry<'_>) -> Result<SessionId, Code> {
    entry
        .session
        .filter(|_| !entry.bad)
        .map(SessionId)
        .ok_or(Code::BadEntry)
}

async fn json_switch(service: &Service, tenant: TenantId, entries: Vec<Entry<'_>>) -> Vec<u8> {
    let count = entries.len();
    let switches = entries.into_iter().map(|entry| {
        let id = session_of(&entry)?;
        if entry.target == Target::Nothing {
            return Err(Code::BadEntry);
        }
        Ok((id, service.index_of(&entry.target)?))
    });
    let mut codes = Vec::with_capacity(count);
    service
        .switch_all(tenant, switches, |code| codes.push(code))
        .await;
    let applied = codes.iter().filter(|code| **code == Code::Ok).count();
    let mut out = json::open(service.flyweights.epoch(), Operation::Switch, count);
    out.extend_from_slice(b",\"applied\":");
    respond::push_decimal(&mut out, applied as u64);
    json::close_with_codes(&mut out, &codes);
    out
}

async fn json_create(service: &Service, tenant: TenantId, batch: json::Batch<'_>) -> Vec<u8> {
    let count = batch.count.unwrap_or(0) as usize;
    let like = service.index_of(&batch.target).map(|index| (0, index));
    let listed = batch.entries.unwrap_or_default();
    let total = count + listed.len();
    let listed = listed.into_iter().map(|entry| {
        let index = if entry.bad {
            Err(Code::BadEntry)
        } else {
            service.index_of(&entry.target)
        };
        index.map(|index| (entry.user, index))
    });
    let mut codes = Vec::with_capacity(total);
    let mut out = json::open(service.flyweights.epoch(), Operation::Create, total);
    out.extend_from_slice(b",\"sessions\":[");
    let push = |made: Result<SessionId, Code>| {
        if !codes.is_empty() {
            out.push(b',');
        }
        match made {
            Ok(id) => {
                out.push(b'"');
                respond::push_hex(&mut out, id.0);
                out.push(b'"');
            }
            Err(_) => out.extend_from_slice(b"null"),
        }
        codes.push(made.err().unwrap_or(Code::Ok));
    };
    service
        .create_all(tenant, std::iter::repeat_n(like, count).chain(listed), push)
        .await;
    out.push(b']');
    json::close_with_codes(&mut out, &codes);
    out
}

fn json_read(service: &Service, tenant: TenantId, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = json::open(service.flyweights.epoch(), Operation::Read, entries.len());
    out.extend_from_slice(b",\"entries\":[");
    for (at, entry) in entries.iter().enumerate() {
        out.extend_from_slice(if at == 0 {
            b"{\"code\":\""
        } else {
            b",{\"code\":\""
        });
        let read =
            session_of(entry).and_then(|id| service.read_entry(tenant, id).map(|read| (id, read)));
        out.extend_from_slice(
            read.map_or_else(|code| code, |_| Code::Ok)
                .name()
                .as_bytes(),
        );
        out.push(b'"');
        if let Ok((id, (flyweight, _, switches))) = read {
            out.extend_from_slice(b",\"session\":\"");
            respond::push_hex(&mut out, id.0);
            out.push(b'"');
            session::push_background(&mut out, service, flyweight);
            out.extend_from_slice(b",\"switches\":");
            respond::push_decimal(&mut out, u64::from(switches));
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
    out
}

fn json_delete(service: &Service, tenant: TenantId, entries: &[Entry<'_>]) -> Vec<u8> {
    let delete =
        |entry| session_of(entry).map_or_else(|code| code, |id| service.delete_entry(tenant, id));
    let codes: Vec<Code> = entries.iter().map(delete).collect();
    let mut out = json::open(service.flyweights.epoch(), Operation::Delete, codes.len());
    json::close_with_codes(&mut out, &codes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_the_metric_name_the_same() {
        assert_eq!(Code::ALL.len(), SwitchResult::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .enumerate()
                .all(|(at, code)| *code as usize == at)
        );
        let names = Code::ALL.map(Code::name);
        assert_eq!(
            names,
            [
                "ok",
                "session_not_found",
                "flyweight_unknown",
                "gone",
                "shed",
                "bad_entry",
                "internal"
            ]
        );
    }

    #[test]
    fn forms_are_told_by_content_type() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(value));
            headers
        };
        assert!(is_binary(&with("application/vnd.backdrop.batch")));
        assert!(is_json(&with("application/json; charset=utf-8")) && is_json(&HeaderMap::new()));
        assert!(!is_json(&with("text/plain")) && !is_binary(&with("application/json")));
    }
}
