//! `POST /v1/sessions/{session}/frames`: the caller's own frame over what stands behind its session.

use super::Service;
use super::auth::Caller;
use super::backgrounds::codec_problem;
use super::frame::{
    self, BACKGROUND, CACHE, DEGRADED, FLYWEIGHT, Shown, VERSION, format_of, size_of,
};
use super::overlay::{Form, Reader};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::respond::{self, Answer};
use super::session::id_of;
use crate::codec::Size;
use crate::flyweight::Entry;
use crate::frames::{
    Access, Backdrop, Behind, Composite, CompositeRequest, FrameError, FrameRequest, Resident,
    Stood,
};
use crate::memory::budget::Purpose;
use crate::sessions::{NO_FLYWEIGHT, Session, SessionId};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use std::time::{Duration, Instant};

const SOURCE: HeaderName = HeaderName::from_static("backdrop-source");
const SEQUENCE: HeaderName = HeaderName::from_static("backdrop-sequence");

/// Time for a composite: what the query asks for, or the default.
fn time_of(service: &Service, query: Query<'_>) -> Result<Duration, Problem> {
    let most = service.config.request_timeout;
    let Some(asked) = query.number::<u64>("deadline_ms")? else {
        return Ok(service.config.composite_deadline.min(most));
    };
    let asked = Duration::from_millis(asked);
    if asked.is_zero() || asked > most {
        return Err(Problem::new(
            Kind::OutOfRange,
            format!("deadline_ms lies between 1 and {}", most.as_millis()),
        ));
    }
    Ok(asked)
}

pub(super) fn problem_of(error: FrameError) -> Problem {
    match error {
        FrameError::TooLarge { bytes } => Problem::new(
            Kind::PictureTooLarge,
            format!("this takes {bytes} bytes, more than the service may ever use for it"),
        ),
        FrameError::Codec(error) => codec_problem(error),
        other => frame::problem_of(other),
    }
}

/// A session, and what stands behind it now.
fn scene(service: &Service, caller: Caller, id: SessionId) -> Result<(Session, Behind), Problem> {
    let session = service.sessions.read(id, caller.tenant);
    let session = session.map_err(|_| Problem::from(Kind::SessionNotFound))?;
    let behind = service.sources.behind(id.0);
    if matches!(behind, Behind::Image) && session.flyweight == NO_FLYWEIGHT {
        return Err(Kind::NoBackground.into());
    }
    Ok((session, behind))
}

/// Size of the session's image.
fn picture(service: &Service, shown: &Shown) -> Result<Size, Problem> {
    match service.flyweights.entry(shown.flyweight) {
        Entry::Live(identity) => Ok(shown.picture(&identity)),
        Entry::Gone => Err(Kind::Gone.into()),
        Entry::Unknown => Err(Kind::BackgroundNotFound.into()),
    }
}

/// Answers a composite.
///
/// # Errors
/// As the table of problems says.
pub async fn composite(
    service: &Service,
    caller: Caller,
    part: &str,
    parts: &Parts,
    query: Query<'_>,
    body: Incoming,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    scene(service, caller, id)?;
    let sides = (query.number("width")?, query.number("height")?);
    let format = format_of(parts, query)?;
    let time = time_of(service, query)?;
    let form = Form::of(parts, &body)?;
    // A flood is turned away before its frames are taken in.
    if !service.frames.admits_composite() {
        return Err(Kind::QueueFull.into());
    }
    let reader = Reader {
        service,
        purpose: Purpose::Body,
    };
    let overlay = reader.overlay(form, sides, body).await?;
    let deadline = Instant::now() + time;
    // As it is now: the body may have taken its time.
    let (session, behind) = scene(service, caller, id)?;
    let shown = Shown::by(service, &session);
    let size = match &overlay {
        Some(overlay) => overlay.size(),
        None => {
            let picture = match &behind {
                Behind::Image => picture(service, &shown)?,
                Behind::Stream(frame) => frame.size(),
                Behind::Blur(_) => return Err(problem_of(FrameError::NoForeground)),
            };
            size_of(sides, &session.view, picture)
        }
    };
    frame::check_size(service, size)?;
    let backdrop = match behind {
        Behind::Stream(picture) => Backdrop::Stream(picture),
        Behind::Blur(radius) => Backdrop::Blur(radius),
        Behind::Image => match shown.owned {
            Some(texture) => Backdrop::Owned(Resident::owned(shown.flyweight, texture)),
            None => Backdrop::Flyweight(shown.flyweight),
        },
    };
    let request = CompositeRequest {
        frame: FrameRequest {
            size,
            format,
            view: session.view,
            deadline,
        },
        overlay,
        backdrop,
    };
    let drawn = service.frames.composite(&service.flyweights, request);
    let Composite {
        bytes,
        content_type,
        stood,
    } = drawn.await.map_err(problem_of)?;
    let content_type = HeaderValue::from_static(content_type);
    let mut answer = respond::full(StatusCode::OK, content_type, bytes);
    describe(service, stood, answer.headers_mut());
    Ok(answer)
}

/// Says what stood behind.
fn describe(service: &Service, stood: Stood, headers: &mut HeaderMap) {
    let name = match stood {
        Stood::Image { .. } => "image",
        Stood::Stream { .. } => "stream",
        Stood::Blur => "processor",
    };
    headers.insert(SOURCE, HeaderValue::from_static(name));
    match stood {
        Stood::Image {
            index,
            version,
            access,
        } => {
            // Removed meanwhile, it has no name any more.
            if let Entry::Live(identity) = service.flyweights.entry(index)
                && let Ok(name) = HeaderValue::from_str(&identity.stored.id)
            {
                headers.insert(BACKGROUND, name);
            }
            headers.insert(FLYWEIGHT, HeaderValue::from(index));
            headers.insert(VERSION, HeaderValue::from(version));
            headers.insert(CACHE, HeaderValue::from_static(access.name()));
            if access == Access::Degraded {
                headers.insert(DEGRADED, HeaderValue::from_static("thumbnail"));
            }
        }
        Stood::Stream { sequence } => {
            headers.insert(SEQUENCE, HeaderValue::from(sequence));
        }
        Stood::Blur => {}
    }
}
