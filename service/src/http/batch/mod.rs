//! Batches of sessions: create, read, delete, switch. Answered entry by entry, in the form they were asked in.
//!
//! A switch in binary form is the service's hottest path: records are read where they lie, one buffer is answered,
//! nothing is allocated or logged for an entry. Both forms end in the same functions, so they give the same answers.

pub mod binary;
mod code;
pub mod json;
mod operations;

use super::Service;
use super::admission::{refused, reserve_answer};
use super::auth::Caller;
use super::body::{self, BodyLimits, Received};
use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use super::session;
use crate::memory::budget::{Charge, Purpose, ReserveError};
use crate::sessions::{NO_FLYWEIGHT, SessionId, TenantId};
pub use binary::Operation;
pub use code::Code;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Version};
use json::{Entry, Target};
use tokio::time::Instant;

/// Media type of the compact form.
const BINARY_TYPE: &[u8] = b"application/vnd.backdrop.batch";

/// Bytes of JSON that one entry may take on average.
const JSON_ENTRY_BYTES: u64 = 256;

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
        until: Instant::now() + service.config.request_timeout,
    };
    let answered = if binary {
        binary_batch(&batch, &bytes).await
    } else {
        json_batch(&batch, &bytes).await
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
    /// The end of its time: before anything is done it ends the batch, after that only the entries that are left.
    until: Instant,
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
        let reserved = tokio::time::timeout_at(self.until, reserved)
            .await
            .map_err(|_| Problem::from(Kind::Timeout))?;
        reserved.map_err(|error| match error {
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
        until,
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
                .switch_all(tenant, entries, until, |code| out.push(code as u8))
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
            service.create_all(tenant, entries, until, push).await;
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
        service, operation, ..
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
        Operation::Switch => json_switch(asked, batch.entries.unwrap_or_default()).await,
        Operation::Create => json_create(asked, batch).await,
        Operation::Read => json_read(asked, &batch.entries.unwrap_or_default()),
        Operation::Delete => json_delete(asked, &batch.entries.unwrap_or_default()),
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

async fn json_switch(asked: &Batch<'_>, entries: Vec<Entry<'_>>) -> Vec<u8> {
    let service = asked.service;
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
        .switch_all(asked.tenant, switches, asked.until, |code| codes.push(code))
        .await;
    let applied = codes.iter().filter(|code| **code == Code::Ok).count();
    let mut out = json::open(service.flyweights.epoch(), Operation::Switch, count);
    out.extend_from_slice(b",\"applied\":");
    respond::push_decimal(&mut out, applied as u64);
    json::close_with_codes(&mut out, &codes);
    out
}

async fn json_create(asked: &Batch<'_>, batch: json::Batch<'_>) -> Vec<u8> {
    let service = asked.service;
    // Either a count or a list.
    let total = batch.answers();
    let count = batch.count.unwrap_or(0) as usize;
    let like = service.index_of(&batch.target).map(|index| (0, index));
    let listed = batch.entries.unwrap_or_default();
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
    let entries = std::iter::repeat_n(like, count).chain(listed);
    service
        .create_all(asked.tenant, entries, asked.until, push)
        .await;
    out.push(b']');
    json::close_with_codes(&mut out, &codes);
    out
}

fn json_read(asked: &Batch<'_>, entries: &[Entry<'_>]) -> Vec<u8> {
    let &Batch {
        service, tenant, ..
    } = asked;
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

fn json_delete(asked: &Batch<'_>, entries: &[Entry<'_>]) -> Vec<u8> {
    let &Batch {
        service, tenant, ..
    } = asked;
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
