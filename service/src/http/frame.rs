//! `GET /v1/sessions/{session}/frame`: a preview of a session's background as its view shows it.

use super::auth::Caller;
use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use super::session::id_of;
use super::{Service, query_number, query_value};
use crate::codec::Size;
use crate::flyweight::{Entry, Texture};
use crate::frames::{Access, Frame, FrameError, FrameFormat, FrameRequest, Resident, View};
use crate::metrics::ShedReason;
use crate::sessions::{NO_FLYWEIGHT, Session};
use hyper::StatusCode;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use std::sync::Arc;
use std::time::Instant;

const BACKGROUND: HeaderName = HeaderName::from_static("backdrop-background");
const FLYWEIGHT: HeaderName = HeaderName::from_static("backdrop-flyweight");
const VERSION: HeaderName = HeaderName::from_static("backdrop-version");
const CACHE: HeaderName = HeaderName::from_static("backdrop-cache");
const DEGRADED: HeaderName = HeaderName::from_static("backdrop-degraded");

const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
const QUALITY: u8 = 80;

fn by_name(name: &str, quality: u8) -> Option<FrameFormat> {
    match name {
        "jpeg" | "jpg" => Some(FrameFormat::Jpeg { quality }),
        "png" => Some(FrameFormat::Png),
        "rgba" => Some(FrameFormat::Rgba),
        _ => None,
    }
}

fn by_accept(accept: &str, quality: u8) -> Option<FrameFormat> {
    let types = accept
        .split(',')
        .map(|entry| entry.split(';').next().unwrap_or_default().trim());
    types
        .filter_map(|media| match media {
            "image/jpeg" | "image/*" | "*/*" => Some(FrameFormat::Jpeg { quality }),
            "image/png" => Some(FrameFormat::Png),
            "application/octet-stream" => Some(FrameFormat::Rgba),
            _ => None,
        })
        .next()
}

fn format_of(parts: &Parts, query: &str) -> Result<FrameFormat, Problem> {
    let quality = query_number(query, "quality", QUALITY)?;
    if !(1..=100).contains(&quality) {
        return Err(Problem::new(
            Kind::BadRequest,
            "quality must lie between 1 and 100",
        ));
    }
    if let Some(name) = query_value(query, "format") {
        let format = by_name(name, quality);
        return format.ok_or_else(|| {
            Problem::new(Kind::NotAcceptable, "format is one of jpeg, png and rgba")
        });
    }
    match parts.headers.get(ACCEPT) {
        None => Ok(FrameFormat::Jpeg { quality }),
        Some(accept) => by_accept(accept.to_str().unwrap_or_default(), quality).ok_or_else(|| {
            Problem::new(
                Kind::NotAcceptable,
                "accept image/jpeg, image/png or application/octet-stream",
            )
        }),
    }
}

fn size_of(service: &Service, query: &str) -> Result<Size, Problem> {
    let size = Size::new(
        query_number(query, "width", WIDTH)?,
        query_number(query, "height", HEIGHT)?,
    );
    if size.is_empty() || size.pixels() > service.config.frame_pixels_max {
        let most = service.config.frame_pixels_max;
        return Err(Problem::new(
            Kind::OutOfRange,
            format!("ask for a frame of 1 to {most} pixels"),
        ));
    }
    Ok(size)
}

fn view_of(session: &Session) -> View {
    let crop = session.view.crop();
    let crop = [crop.x, crop.y, crop.width, crop.height].map(f64::from);
    let offset = session.view.uv_offset().map(f64::from);
    let alpha = f64::from(session.view.alpha()) / 255.0;
    // What a session stores is in range; rounding at an edge is no reason to refuse a frame.
    View::from_fractions(crop, f64::from(session.view.scale()), offset, alpha).unwrap_or_default()
}

fn problem_of(error: FrameError) -> Problem {
    match error {
        FrameError::Size { side_max, .. } => Problem::new(
            Kind::OutOfRange,
            format!("a frame's longest side is {side_max} pixels"),
        ),
        FrameError::TooLarge { .. } => Problem::new(Kind::OutOfRange, "ask for a smaller frame"),
        FrameError::SourceTooLarge { bytes } => Problem::new(
            Kind::PictureTooLarge,
            format!(
                "the background's pixels need {bytes} bytes, more than this service may ever use: \
                 no size of frame helps"
            ),
        ),
        FrameError::Shed { reason, .. } => match reason {
            ShedReason::Budget => Kind::BudgetExhausted,
            ShedReason::Governor => Kind::MemoryCritical,
            ShedReason::Queue => Kind::QueueFull,
            ShedReason::Connections => Kind::TooManyConnections,
            ShedReason::Draining => Kind::Draining,
        }
        .into(),
        FrameError::Gone => Kind::Gone.into(),
        FrameError::Unknown => Kind::BackgroundNotFound.into(),
        FrameError::Load(cause) => {
            tracing::debug!(%cause, "load failed");
            Kind::LoadFailed.into()
        }
        FrameError::Codec(error) => {
            tracing::debug!(%error, "encoding failed");
            Problem::new(Kind::Internal, "the frame could not be encoded")
        }
        FrameError::Internal(_) => Problem::new(Kind::Internal, "the frame could not be drawn"),
    }
}

/// What a session shows: a texture of its own, or a shared one by index.
struct Shown {
    flyweight: u32,
    owned: Option<Arc<Texture>>,
}

impl Shown {
    /// Taken once, before anything is looked up by it: a switch in between changes neither name nor pixels of this frame.
    fn by(service: &Service, session: &Session) -> Self {
        let exclusive = service.exclusive.as_ref();
        match exclusive.and_then(|exclusive| exclusive.texture(session.id)) {
            Some((flyweight, texture)) => Self {
                flyweight,
                owned: Some(texture),
            },
            None => Self {
                flyweight: session.flyweight,
                owned: None,
            },
        }
    }

    async fn draw(self, service: &Service, request: &FrameRequest) -> Result<Frame, FrameError> {
        let Service {
            frames, flyweights, ..
        } = service;
        match self.owned {
            Some(texture) => {
                let resident = Resident::owned(self.flyweight, texture);
                frames.draw(resident, request).await
            }
            None => frames.preview(flyweights, self.flyweight, request).await,
        }
    }
}

/// Answers a preview.
///
/// # Errors
/// As the table of problems says.
pub async fn preview(
    service: &Service,
    caller: Caller,
    part: &str,
    parts: &Parts,
) -> Result<Answer, Problem> {
    let query = parts.uri.query().unwrap_or_default();
    let id = id_of(part)?;
    let session = service
        .sessions
        .read(id, caller.tenant)
        .map_err(|_| Problem::from(Kind::SessionNotFound))?;
    if session.flyweight == NO_FLYWEIGHT {
        return Err(Kind::NoBackground.into());
    }
    let request = FrameRequest {
        size: size_of(service, query)?,
        format: format_of(parts, query)?,
        view: view_of(&session),
        deadline: Instant::now() + service.config.request_timeout,
    };
    let shown = Shown::by(service, &session);
    // Looked up before the frame: a background removed meanwhile still has its name in the answer.
    let identity = match service.flyweights.entry(shown.flyweight) {
        Entry::Live(identity) => identity,
        Entry::Gone => return Err(Kind::Gone.into()),
        Entry::Unknown => return Err(Kind::BackgroundNotFound.into()),
    };
    let frame = shown.draw(service, &request).await.map_err(problem_of)?;
    let content_type = HeaderValue::from_static(frame.content_type);
    let (index, version, access) = (frame.index, frame.version, frame.access);
    let mut answer = respond::full(StatusCode::OK, content_type, frame.bytes);
    let headers = answer.headers_mut();
    if let Ok(name) = HeaderValue::from_str(&identity.stored.id) {
        headers.insert(BACKGROUND, name);
    }
    headers.insert(FLYWEIGHT, HeaderValue::from(index));
    headers.insert(VERSION, HeaderValue::from(version));
    headers.insert(CACHE, HeaderValue::from_static(access.name()));
    if access == Access::Degraded {
        headers.insert(DEGRADED, HeaderValue::from_static("thumbnail"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_picks_the_first_format_that_can_be_made() {
        let picked = |accept| by_accept(accept, 80);
        assert_eq!(
            picked("text/html, image/png;q=0.9, */*"),
            Some(FrameFormat::Png)
        );
        assert_eq!(picked("*/*"), Some(FrameFormat::Jpeg { quality: 80 }));
        assert_eq!(picked("application/octet-stream"), Some(FrameFormat::Rgba));
        assert_eq!(picked("text/html"), None);
    }
}
