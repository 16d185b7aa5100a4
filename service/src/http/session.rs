//! One session: create, read, delete, switch, view. Answers in JSON.

use super::Service;
use super::auth::Caller;
use super::batch::Code;
use super::batch::json::Target;
use super::body::{self, BodyLimits, Received};
use super::owned::Refusal;
use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use crate::flyweight::Entry;
use crate::memory::budget::Purpose;
use crate::render::view::View;
use crate::sessions::{NO_FLYWEIGHT, Session, SessionId, ViewPatch};
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;

/// Bytes of a body about one session.
const BODY_BYTES_MAX: u64 = 4096;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody<'a> {
    user: Option<u64>,
    #[serde(borrow)]
    background: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchBody<'a> {
    #[serde(borrow)]
    background: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CropBody {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewBody {
    crop: Option<CropBody>,
    scale: Option<f64>,
    uv_offset: Option<[f64; 2]>,
    alpha: Option<f64>,
}

impl From<ViewBody> for ViewPatch {
    fn from(body: ViewBody) -> Self {
        Self {
            crop: body
                .crop
                .map(|crop| [crop.x, crop.y, crop.width, crop.height]),
            scale: body.scale,
            uv_offset: body.uv_offset,
            alpha: body.alpha,
        }
    }
}

/// The problem that a failed entry is when it was asked for alone.
fn problem_of(code: Code) -> Problem {
    match code {
        Code::SessionNotFound => Kind::SessionNotFound.into(),
        Code::FlyweightUnknown => Kind::BackgroundNotFound.into(),
        Code::Gone => Kind::Gone.into(),
        Code::Shed => Kind::BudgetExhausted.into(),
        Code::BadEntry => Kind::BadRequest.into(),
        Code::Ok | Code::Internal => {
            Problem::new(Kind::Internal, "the operation failed, nothing was applied")
        }
    }
}

/// The same for a session that owns its texture.
fn refusal_problem(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Entry(code) => problem_of(code),
        Refusal::NeverFits => Problem::new(
            Kind::PictureTooLarge,
            "its pixels would need more memory than the service may ever use",
        ),
        Refusal::Fault(cause) => problem_of(Code::Internal).because(cause),
    }
}

/// The id in a path. A text that is no id names no session.
///
/// # Errors
/// [`Kind::SessionNotFound`].
pub fn id_of(part: &str) -> Result<SessionId, Problem> {
    respond::parse_hex(part.as_bytes())
        .map(SessionId)
        .ok_or_else(|| Kind::SessionNotFound.into())
}

pub(super) async fn read_small(service: &Service, body: Incoming) -> Result<Received, Problem> {
    let limits = BodyLimits {
        bytes_max: BODY_BYTES_MAX,
        time_max: service.config.body_timeout,
        reserve_wait: service.config.reserve_wait,
        purpose: Purpose::Body,
        parsed_bytes_max: 0,
    };
    body::read(body, limits, &service.intake).await
}

pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))
}

/// Appends `,"background":…,"flyweight":…,"version":…`: all null (version 0) without a background, the index alone
/// where it was removed.
pub fn push_background(out: &mut Vec<u8>, service: &Service, flyweight: u32) {
    out.extend_from_slice(b",\"background\":");
    let identity = match service.flyweights.entry(flyweight) {
        Entry::Live(identity) => Some(identity),
        Entry::Gone | Entry::Unknown => None,
    };
    match &identity {
        // An id holds nothing that JSON would escape.
        Some(identity) => {
            out.push(b'"');
            out.extend_from_slice(identity.stored.id.as_bytes());
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"flyweight\":");
    if flyweight == NO_FLYWEIGHT {
        out.extend_from_slice(b"null");
    } else {
        respond::push_decimal(out, u64::from(flyweight));
    }
    out.extend_from_slice(b",\"version\":");
    respond::push_decimal(
        out,
        identity.map_or(0, |identity| u64::from(identity.stored.version)),
    );
}

fn push_view(out: &mut Vec<u8>, view: &View) {
    let fractions = view.fractions();
    // As f32, which holds them exactly and takes fewer digits to say so.
    let [x, y, width, height] = fractions.crop.map(|value| value as f32);
    let [u, v] = fractions.uv_offset.map(|value| value as f32);
    let (scale, alpha) = (fractions.scale as f32, fractions.alpha as f32);
    let written = write!(
        out,
        r#"{{"crop":{{"x":{x},"y":{y},"width":{width},"height":{height}}},"scale":{scale},"uv_offset":[{u},{v}],"alpha":{alpha}}}"#,
    );
    debug_assert!(written.is_ok(), "writing to memory does not fail");
}

fn session_json(service: &Service, session: &Session) -> Vec<u8> {
    let mut out = Vec::with_capacity(416);
    out.extend_from_slice(b"{\"session\":\"");
    respond::push_hex(&mut out, session.id.0);
    out.extend_from_slice(b"\",\"user\":");
    respond::push_decimal(&mut out, session.user);
    push_background(&mut out, service, session.flyweight);
    out.extend_from_slice(b",\"switches\":");
    respond::push_decimal(&mut out, u64::from(session.switches));
    out.extend_from_slice(b",\"changed_unix_s\":");
    respond::push_decimal(&mut out, session.changed_unix_s);
    out.extend_from_slice(b",\"epoch\":\"");
    respond::push_decimal(&mut out, service.flyweights.epoch());
    out.extend_from_slice(b"\",\"view\":");
    push_view(&mut out, &session.view);
    out.extend_from_slice(b"}\n");
    out
}

fn read_json(service: &Service, caller: Caller, id: SessionId) -> Result<Vec<u8>, Problem> {
    let session = service
        .sessions
        .read(id, caller.tenant)
        .map_err(|error| problem_of(error.into()))?;
    Ok(session_json(service, &session))
}

/// `POST /v1/sessions`.
///
/// # Errors
/// As the table of problems says.
pub async fn create(service: &Service, caller: Caller, body: Incoming) -> Result<Answer, Problem> {
    let received = read_small(service, body).await?;
    let body: CreateBody<'_> = if received.bytes.is_empty() {
        CreateBody::default()
    } else {
        parse(&received.bytes)?
    };
    let target = body.background.map_or(Target::Nothing, Target::Name);
    let flyweight = service.index_of(&target).map_err(problem_of)?;
    let user = body.user.unwrap_or(0);
    let made = if service.exclusive.is_some() {
        let creating = service.create_exclusive(caller.tenant, user, flyweight);
        let creating = async { creating.await.map_err(refusal_problem) };
        service.in_time(creating).await?
    } else {
        service.check_optional(flyweight).map_err(problem_of)?;
        service
            .create_session(caller.tenant, user, flyweight)
            .await
            .map_err(|error| match error {
                crate::sessions::SessionError::Full => Kind::SessionsFull.into(),
                other => problem_of(other.into()),
            })?
    };
    let json = read_json(service, caller, made)?;
    Ok(respond::full(StatusCode::CREATED, respond::JSON, json))
}

/// `GET /v1/sessions/{session}`.
///
/// # Errors
/// [`Kind::SessionNotFound`].
pub fn read(service: &Service, caller: Caller, part: &str) -> Result<Answer, Problem> {
    Ok(respond::json(read_json(service, caller, id_of(part)?)?))
}

/// `DELETE /v1/sessions/{session}`.
///
/// # Errors
/// [`Kind::SessionNotFound`].
pub fn delete(service: &Service, caller: Caller, part: &str) -> Result<Answer, Problem> {
    match service.delete_entry(caller.tenant, id_of(part)?) {
        Code::Ok => Ok(respond::empty(StatusCode::NO_CONTENT)),
        code => Err(problem_of(code)),
    }
}

/// `PUT /v1/sessions/{session}/background`.
///
/// # Errors
/// As the table of problems says; nothing is applied then.
pub async fn switch(
    service: &Service,
    caller: Caller,
    part: &str,
    body: Incoming,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let received = read_small(service, body).await?;
    let body: SwitchBody<'_> = parse(&received.bytes)?;
    switch_to(service, caller, id, Target::Name(body.background)).await?;
    Ok(respond::json(read_json(service, caller, id)?))
}

/// Gives a session another image, and counts what became of it.
///
/// # Errors
/// As the table of problems says; nothing is applied then.
pub(super) async fn switch_to(
    service: &Service,
    caller: Caller,
    id: SessionId,
    target: Target<'_>,
) -> Result<(), Problem> {
    let switched = match service.index_of(&target) {
        Ok(flyweight) => {
            let switching = service.switch_one(caller.tenant, id, flyweight);
            service.in_time(async { Ok(switching.await) }).await
        }
        Err(code) => Ok(Err(code.into())),
    };
    service.count_switch(match &switched {
        Ok(Ok(())) => Code::Ok,
        Ok(Err(refusal)) => refusal.code(),
        // Out of time, and not applied.
        Err(_) => Code::Shed,
    });
    switched?.map_err(refusal_problem)
}

/// `PATCH /v1/sessions/{session}/view`.
///
/// # Errors
/// As the table of problems says; nothing is applied then.
pub async fn patch_view(
    service: &Service,
    caller: Caller,
    part: &str,
    body: Incoming,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let received = read_small(service, body).await?;
    let patch: ViewPatch = parse::<ViewBody>(&received.bytes)?.into();
    let patched = service.sessions.patch_view(id, caller.tenant, &patch);
    let view = patched
        .map_err(|error| problem_of(error.into()))?
        .map_err(|error| Problem::new(Kind::OutOfRange, error.to_string()))?;
    let mut out = Vec::with_capacity(192);
    push_view(&mut out, &view);
    out.push(b'\n');
    Ok(respond::json(out))
}
