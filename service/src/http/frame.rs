//! `GET /v1/sessions/{session}/frame`: a preview of a session's background as its view shows it.

use super::Service;
use super::auth::Caller;
use super::problem::{Kind, Problem};
use super::query::Query;
use super::respond::{self, Answer};
use super::session::id_of;
use crate::codec::Size;
use crate::flyweight::{Entry, Identity, RenditionKey, Texture};
use crate::frames::{Access, Frame, FrameError, FrameFormat, FrameRequest, Resident};
use crate::metrics::ShedReason;
use crate::render::view::View;
use crate::sessions::{NO_FLYWEIGHT, Session};
use hyper::StatusCode;
use hyper::header::{ACCEPT, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use hyper::http::request::Parts;
use std::sync::Arc;
use std::time::Instant;
use xxhash_rust::xxh3::Xxh3;

pub(super) const BACKGROUND: HeaderName = HeaderName::from_static("backdrop-background");
pub(super) const FLYWEIGHT: HeaderName = HeaderName::from_static("backdrop-flyweight");
pub(super) const VERSION: HeaderName = HeaderName::from_static("backdrop-version");
pub(super) const CACHE: HeaderName = HeaderName::from_static("backdrop-cache");
pub(super) const DEGRADED: HeaderName = HeaderName::from_static("backdrop-degraded");

const DEFAULT_SIZE: Size = Size::new(640, 360);
const QUALITY: u8 = 80;

fn by_name(name: &str, quality: u8) -> Option<FrameFormat> {
    match name {
        "jpeg" | "jpg" => Some(FrameFormat::Jpeg { quality }),
        "png" => Some(FrameFormat::Png),
        "webp" => Some(FrameFormat::Webp),
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
            "image/webp" => Some(FrameFormat::Webp),
            "application/octet-stream" => Some(FrameFormat::Rgba),
            _ => None,
        })
        .next()
}

pub(super) fn format_of(parts: &Parts, query: Query<'_>) -> Result<FrameFormat, Problem> {
    let quality = query.number("quality")?.unwrap_or(QUALITY);
    if !(1..=100).contains(&quality) {
        return Err(Problem::new(
            Kind::BadRequest,
            "quality must lie between 1 and 100",
        ));
    }
    if let Some(name) = query.value("format")? {
        let format = by_name(name, quality);
        return format.ok_or_else(|| {
            Problem::new(
                Kind::NotAcceptable,
                "format is one of jpeg, png, webp and rgba",
            )
        });
    }
    match parts.headers.get(ACCEPT) {
        None => Ok(FrameFormat::Jpeg { quality }),
        Some(accept) => by_accept(accept.to_str().unwrap_or_default(), quality).ok_or_else(|| {
            Problem::new(
                Kind::NotAcceptable,
                "accept image/jpeg, image/png, image/webp or application/octet-stream",
            )
        }),
    }
}

/// The side of `asked` pixels beside it, in proportion; at least a pixel, and no more than could be asked for.
fn follow(asked: u32, along: i64, across: i64) -> u32 {
    let (asked, along, across) = (u128::from(asked), along.max(1) as u128, across as u128);
    let side = (asked * across + along / 2) / along;
    u32::try_from(side).unwrap_or(u32::MAX).max(1)
}

/// The size asked for. A side that is left out follows the other one in the proportions of what `view` shows of a picture of
/// `picture`, so that nothing is distorted; without both it is the default.
pub(super) fn size_of(
    (width, height): (Option<u32>, Option<u32>),
    view: &View,
    picture: Size,
) -> Size {
    let shown = view.transform(picture);
    let (across, down) = (shown.x.length, shown.y.length);
    match (width, height) {
        (Some(width), Some(height)) => Size::new(width, height),
        (Some(width), None) => Size::new(width, follow(width, across, down)),
        (None, Some(height)) => Size::new(follow(height, down, across), height),
        (None, None) => DEFAULT_SIZE,
    }
}

pub(super) fn check_size(service: &Service, size: Size) -> Result<(), Problem> {
    let most = service.config.frame_pixels_max;
    if size.is_empty() || size.pixels() > most {
        return Err(Problem::new(
            Kind::OutOfRange,
            format!("ask for a frame of 1 to {most} pixels, this one has {size}"),
        ));
    }
    Ok(())
}

pub(super) fn problem_of(error: FrameError) -> Problem {
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
        FrameError::Late => Kind::DeadlineExceeded.into(),
        FrameError::NoForeground => Problem::new(
            Kind::BadRequest,
            "the session's source blurs the participant's own frame: send one",
        ),
        FrameError::Overtaken => Problem::internal("a frame of a stream is no preview"),
        FrameError::Shed { reason } => match reason {
            ShedReason::Budget => Kind::BudgetExhausted,
            ShedReason::Governor => Kind::MemoryCritical,
            ShedReason::Queue => Kind::QueueFull,
            ShedReason::Connections => Kind::TooManyConnections,
            ShedReason::Draining => Kind::Draining,
        }
        .into(),
        FrameError::Gone => Kind::Gone.into(),
        FrameError::Unknown => Kind::BackgroundNotFound.into(),
        FrameError::Load(cause) => Problem::from(Kind::LoadFailed).because(cause),
        FrameError::Codec(cause) => {
            Problem::new(Kind::Internal, "the frame could not be encoded").because(cause)
        }
        FrameError::Internal(cause) => {
            Problem::new(Kind::Internal, "the frame could not be drawn").because(cause)
        }
    }
}

/// What a session shows: a texture of its own, or a shared one by index.
pub(super) struct Shown {
    pub(super) flyweight: u32,
    pub(super) owned: Option<Arc<Texture>>,
}

impl Shown {
    /// Taken once, before anything is looked up by it: a switch in between changes neither name nor pixels of this frame.
    pub(super) fn by(service: &Service, session: &Session) -> Self {
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

    /// Size of its picture. Replaced before it is drawn by one of other proportions, this frame is that one's, distorted.
    pub(super) fn picture(&self, identity: &Identity) -> Size {
        let owned = self.owned.as_ref().map(|texture| texture.size());
        owned.unwrap_or(identity.stored.size)
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

/// Names what a frame shows, by its rendition's key, the source's checksum, the view, and whether it was drawn from the picture itself or
/// from a compressed texture of it. Weak: another renderer may round otherwise.
fn tag_of(
    identity: &Identity,
    version: u32,
    request: &FrameRequest,
    exact: bool,
) -> Result<HeaderValue, Problem> {
    let stored = &identity.stored;
    let (format, quality) = match request.format {
        FrameFormat::Jpeg { quality } => ("jpeg", quality),
        FrameFormat::Png => ("png", u8::MAX),
        FrameFormat::Webp => ("webp", u8::MAX),
        FrameFormat::Rgba => ("rgba", u8::MAX),
    };
    let Size { width, height } = request.size;
    let id = Arc::clone(&stored.id);
    let key = RenditionKey::new(id, version, width, height, format, quality);
    let view = &request.view;
    let mut hasher = Xxh3::new();
    hasher.update(&key.hash64().to_le_bytes());
    hasher.update(&stored.checksum.to_le_bytes());
    let corners = [view.crop_origin, view.crop_size].concat();
    for number in corners.into_iter().chain([view.scale]) {
        hasher.update(&number.to_le_bytes());
    }
    for offset in view.uv_offset {
        hasher.update(&offset.to_le_bytes());
    }
    hasher.update(&[view.alpha]);
    if !exact {
        hasher.update(b"bc7");
    }
    HeaderValue::from_str(&format!("W/\"{:016x}\"", hasher.digest())).map_err(Problem::internal)
}

/// Whether the caller says that it has this frame already.
fn has_already(parts: &Parts, tag: &HeaderValue) -> bool {
    let known = parts.headers.get(IF_NONE_MATCH);
    let known = known.and_then(|known| known.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|known| known.trim() == *tag))
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
    query: Query<'_>,
) -> Result<Answer, Problem> {
    let id = id_of(part)?;
    let session = service
        .sessions
        .read(id, caller.tenant)
        .map_err(|_| Problem::from(Kind::SessionNotFound))?;
    if session.flyweight == NO_FLYWEIGHT {
        return Err(Kind::NoBackground.into());
    }
    let sides = (query.number("width")?, query.number("height")?);
    let format = format_of(parts, query)?;
    let shown = Shown::by(service, &session);
    // Looked up before the frame: a background removed meanwhile still has its name in the answer.
    let identity = match service.flyweights.entry(shown.flyweight) {
        Entry::Live(identity) => identity,
        Entry::Gone => return Err(Kind::Gone.into()),
        Entry::Unknown => return Err(Kind::BackgroundNotFound.into()),
    };
    let view = session.view;
    let size = size_of(sides, &view, shown.picture(&identity));
    check_size(service, size)?;
    let request = FrameRequest {
        size,
        format,
        view,
        deadline: Instant::now() + service.config.request_timeout,
    };
    // A texture of the session's own may be of an older version than the catalogue's.
    if shown.owned.is_none() {
        // An exact frame is good enough always, another one where another might be drawn.
        let forms = if service.frames.is_exact() { 1 } else { 2 };
        for exact in [true, false].into_iter().take(forms) {
            let tag = tag_of(&identity, identity.stored.version, &request, exact)?;
            if has_already(parts, &tag) {
                let mut answer = respond::empty(StatusCode::NOT_MODIFIED);
                answer.headers_mut().insert(ETAG, tag);
                return Ok(answer);
            }
        }
    }
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
    match access {
        Access::Degraded => {
            headers.insert(DEGRADED, HeaderValue::from_static("thumbnail"));
        }
        // Replaced meanwhile: what is known of the source is of another version than the pixels.
        _ if version != identity.stored.version => {}
        _ => {
            headers.insert(ETAG, tag_of(&identity, version, &request, frame.exact)?);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_left_out_follows_the_proportions_of_what_is_shown() {
        let picture = Size::new(1600, 900);
        let whole = View::default();
        let of = |width, height, view: &View| size_of((width, height), view, picture);
        assert_eq!(of(Some(320), None, &whole), Size::new(320, 180));
        assert_eq!(of(None, Some(180), &whole), Size::new(320, 180));
        assert_eq!(of(Some(320), Some(320), &whole), Size::new(320, 320));
        assert_eq!(of(None, None, &whole), DEFAULT_SIZE);
        // The left quarter of the picture is 400 by 900, whatever it is magnified by.
        let quarter = View {
            crop_size: [1 << 14, 1 << 16],
            scale: 4 << 16,
            uv_offset: [1 << 15, 0],
            ..whole
        };
        assert_eq!(of(Some(40), None, &quarter), Size::new(40, 90));
        assert_eq!(of(None, Some(90), &quarter), Size::new(40, 90));
        // Never nothing, and never more than the bounds can refuse.
        assert_eq!(of(Some(1), None, &whole), Size::new(1, 1));
        assert_eq!(of(Some(0), None, &whole), Size::new(0, 1));
        let most = of(None, Some(u32::MAX), &whole);
        assert_eq!(most, Size::new(u32::MAX, u32::MAX));
    }

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
