//! What stands behind a session, in version 2 of the API: an image, a stream of frames, or the participant's own frame blurred.
//!
//! `/v2/sessions/{session}/source` sets, reads and ends it; `…/source/frames` takes a stream's frames and tells who waits for the next
//! one. The image is the one of version 1: its switch changes what is behind a stream that has no fresh frame.

use super::Service;
use super::auth::Caller;
use super::batch::json::Target;
use super::overlay::{Form, Reader};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::respond::{self, Answer};
use super::session::{self, id_of};
use super::{admission, composite};
use crate::frames::{FrameError, Radius, SourceRefusal, SourceState, Stream};
use crate::memory::State;
use crate::memory::budget::{Purpose, ReserveError};
use crate::sessions::{Session, SessionId};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum SourceBody<'a> {
    Image {
        #[serde(borrow)]
        background: Cow<'a, str>,
    },
    Stream {},
    Processor {
        processor: Processor,
        radius: u32,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Processor {
    Blur,
}

fn session_of(service: &Service, caller: Caller, id: SessionId) -> Result<Session, Problem> {
    let session = service.sessions.read(id, caller.tenant);
    session.map_err(|_| Kind::SessionNotFound.into())
}

fn radius_of(radius: u32) -> Result<Radius, Problem> {
    let radius = u8::try_from(radius).ok().and_then(Radius::new);
    radius.ok_or_else(|| {
        Problem::new(
            Kind::OutOfRange,
            format!("radius lies between 1 and {}", Radius::MAX),
        )
    })
}

fn refused(service: &Service, refusal: SourceRefusal) -> Problem {
    match refusal {
        SourceRefusal::Full => Kind::SourcesFull.into(),
        SourceRefusal::Gone => Kind::SessionNotFound.into(),
        SourceRefusal::Reserve(ReserveError::Exhausted { .. })
            if service.memory.state() == State::Critical =>
        {
            Kind::MemoryCritical.into()
        }
        SourceRefusal::Reserve(error) => admission::refused(&error),
    }
}

/// `{"session":…,"kind":…,…}`, with the image in any case.
fn source_json(service: &Service, session: &Session, state: Option<&SourceState>) -> Vec<u8> {
    let mut out = Vec::with_capacity(320);
    out.extend_from_slice(b"{\"session\":\"");
    respond::push_hex(&mut out, session.id.0);
    out.extend_from_slice(b"\",\"kind\":");
    match state {
        None => out.extend_from_slice(b"\"image\""),
        Some(SourceState::Stream(stream)) => {
            out.extend_from_slice(b"\"stream\",");
            push_frame(&mut out, service, stream);
        }
        Some(SourceState::Blur(radius)) => {
            out.extend_from_slice(b"\"processor\",\"processor\":\"blur\",\"radius\":");
            respond::push_decimal(&mut out, u64::from(radius.get()));
        }
    }
    session::push_background(&mut out, service, session.flyweight);
    out.extend_from_slice(b"}\n");
    out
}

/// `"sequence":…,"fresh":…` of a stream's newest frame.
fn push_frame(out: &mut Vec<u8>, service: &Service, stream: &Stream) {
    out.extend_from_slice(b"\"sequence\":");
    respond::push_decimal(out, stream.sequence());
    out.extend_from_slice(b",\"fresh\":");
    let fresh = service.sources.fresh(stream).is_some();
    out.extend_from_slice(if fresh { b"true" } else { b"false" });
}

/// `PUT /v2/sessions/{session}/source`.
///
/// # Errors
/// As the table of problems says; nothing is applied then.
pub async fn put(
    service: &Service,
    caller: Caller,
    part: &str,
    body: Incoming,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let received = session::read_small(service, body).await?;
    let state = match session::parse::<SourceBody<'_>>(&received.bytes)? {
        SourceBody::Image { background } => {
            session::switch_to(service, caller, id, Target::Name(background)).await?;
            service.sources.close(id.0);
            None
        }
        SourceBody::Stream {} => Some(set(service, caller, id, None)?),
        SourceBody::Processor {
            processor: Processor::Blur,
            radius,
        } => Some(set(service, caller, id, Some(radius_of(radius)?))?),
    };
    let session = session_of(service, caller, id)?;
    Ok(respond::json(source_json(
        service,
        &session,
        state.as_ref(),
    )))
}

fn set(
    service: &Service,
    caller: Caller,
    id: SessionId,
    radius: Option<Radius>,
) -> Result<SourceState, Problem> {
    let still_there = || service.sessions.peek(id, caller.tenant).is_ok();
    let set = service.sources.set(id.0, radius, still_there);
    set.map_err(|refusal| refused(service, refusal))
}

/// `GET /v2/sessions/{session}/source`.
///
/// # Errors
/// [`Kind::SessionNotFound`].
pub fn read(service: &Service, caller: Caller, part: &str) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let session = session_of(service, caller, id)?;
    let state = service.sources.state(id.0);
    Ok(respond::json(source_json(
        service,
        &session,
        state.as_ref(),
    )))
}

/// `DELETE /v2/sessions/{session}/source`: what is left is the image.
///
/// # Errors
/// [`Kind::SessionNotFound`] and [`Kind::SourceNotFound`].
pub fn delete(service: &Service, caller: Caller, part: &str) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    session_of(service, caller, id)?;
    match service.sources.close(id.0) {
        true => Ok(respond::empty(StatusCode::NO_CONTENT)),
        false => Err(Kind::SourceNotFound.into()),
    }
}

fn stream_of(service: &Service, caller: Caller, id: SessionId) -> Result<Arc<Stream>, Problem> {
    session_of(service, caller, id)?;
    match service.sources.state(id.0) {
        Some(SourceState::Stream(stream)) => Ok(stream),
        Some(SourceState::Blur(_)) => Err(Kind::NotAStream.into()),
        None => Err(Kind::SourceNotFound.into()),
    }
}

/// `POST /v2/sessions/{session}/source/frames`: the newest frame wins.
///
/// # Errors
/// As the table of problems says.
pub async fn push(
    service: &Service,
    caller: Caller,
    part: &str,
    parts: &Parts,
    query: Query<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let stream = stream_of(service, caller, id)?;
    let sides = (query.number("width")?, query.number("height")?);
    let form = Form::of(parts, &body)?;
    // A flood is turned away before its frames are taken in.
    if let Some(reason) = service.frames.refuses_push() {
        return Err(composite::problem_of(FrameError::Shed { reason }));
    }
    let reader = Reader {
        service,
        purpose: Purpose::Streams,
    };
    let (part, size) = reader.frame(form, sides, body).await?;
    super::frame::check_size(service, size)?;
    let deadline = Instant::now() + service.config.request_timeout;
    let pushing = service
        .frames
        .push(&service.sources, &stream, size, part, deadline);
    let pushed = pushing.await.map_err(composite::problem_of)?;
    let (sequence, shown) = (pushed.sequence, pushed.shown);
    let json = format!("{{\"sequence\":{sequence},\"shown\":{shown}}}\n");
    Ok(respond::json(json))
}

/// `GET /v2/sessions/{session}/source/frames`: answers as soon as the stream has a frame with a number above `after`, or 204 after
/// `wait_ms`.
///
/// # Errors
/// As the table of problems says; [`Kind::SourceNotFound`] also when the source ends meanwhile.
pub async fn wait(
    service: &Service,
    caller: Caller,
    part: &str,
    query: Query<'_>,
) -> Result<Answer, Problem> {
    let stream = stream_of(service, caller, id_of(part)?)?;
    let after = query.number("after")?.unwrap_or(0);
    let time = Duration::from_millis(query.number("wait_ms")?.unwrap_or(0));
    // Nothing moves on the connection meanwhile: its own limits are made for this time.
    let most = service.config.request_timeout;
    if time > most {
        return Err(Problem::new(
            Kind::OutOfRange,
            format!("wait_ms is at most {}", most.as_millis()),
        ));
    }
    let waiter = service.sources.waiter();
    let _waiter = waiter.ok_or_else(|| Problem::from(Kind::QueueFull))?;
    match tokio::time::timeout(time, stream.newer_than(after)).await {
        Err(_) => Ok(respond::empty(StatusCode::NO_CONTENT)),
        Ok(None) => Err(Kind::SourceNotFound.into()),
        Ok(Some(_)) => {
            let mut out = b"{".to_vec();
            push_frame(&mut out, service, &stream);
            out.extend_from_slice(b"}\n");
            Ok(respond::json(out))
        }
    }
}
