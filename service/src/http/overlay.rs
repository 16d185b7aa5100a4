//! The forms in which a caller sends a frame of its own, and what becomes of them: pixels, or files whose headers have been read.
//!
//! What they show is `frames`' business. Nothing is decoded here: that is work for a thread of a pool.

use super::Service;
use super::backgrounds::codec_problem;
use super::body::{self, BodyLimits};
use super::multipart;
use super::problem::{Kind, Problem};
use crate::codec::{self, Header, Limits, Size};
use crate::frames::{Overlay, Part};
use crate::memory::budget::Purpose;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;

/// RGBA8 pixels without padding, and after them a mask of one byte for each pixel.
const RGBA_A8: &str = "application/vnd.backdrop.rgba+a8";
/// RGBA8 pixels without padding.
const RGBA: &str = "application/vnd.backdrop.rgba";
const MULTIPART: &str = "multipart/form-data";
const PICTURES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];

/// Form of a body, as its head states it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is none.
    Nothing,
    /// Pixels and a mask.
    Masked,
    /// Pixels.
    Plain,
    /// A picture in a file.
    Picture,
    /// A picture and perhaps its mask, in parts with this boundary between them.
    Parts(String),
}

impl Form {
    /// # Errors
    /// [`Kind::UnsupportedMedia`] for any other, [`Kind::BadRequest`] where the boundary is missing.
    pub(super) fn of(parts: &Parts, body: &Incoming) -> Result<Self, Problem> {
        let stated = parts.headers.get(CONTENT_TYPE);
        match stated.map(|stated| stated.to_str().unwrap_or_default()) {
            None if body.is_end_stream() => Ok(Self::Nothing),
            None => Self::named(""),
            Some(stated) => Self::named(stated),
        }
    }

    fn named(stated: &str) -> Result<Self, Problem> {
        let media = stated.split(';').next().unwrap_or_default().trim();
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        if is(RGBA_A8) {
            Ok(Self::Masked)
        } else if is(RGBA) {
            Ok(Self::Plain)
        } else if PICTURES.iter().any(|known| is(known)) {
            Ok(Self::Picture)
        } else if is(MULTIPART) {
            let boundary = multer::parse_boundary(stated);
            boundary.map(Self::Parts).map_err(|_| {
                Problem::new(Kind::BadRequest, "multipart/form-data names no boundary")
            })
        } else {
            Err(Problem::new(
                Kind::UnsupportedMedia,
                format!(
                    "send {RGBA_A8}, {RGBA}, {MULTIPART} or {}",
                    PICTURES.join(", ")
                ),
            ))
        }
    }
}

/// Width and height as the query names them.
pub(super) type Sides = (Option<u32>, Option<u32>);

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(Kind::BadRequest, detail)
}

/// Takes callers' frames in.
pub(super) struct Reader<'a> {
    pub(super) service: &'a Service,
    /// What bodies are charged as.
    pub(super) purpose: Purpose,
}

impl Reader<'_> {
    fn limits(&self) -> BodyLimits {
        let config = &self.service.config;
        BodyLimits {
            bytes_max: config.body_bytes_max,
            time_max: config.body_timeout,
            reserve_wait: config.reserve_wait,
            purpose: self.purpose,
            parsed_bytes_max: 0,
        }
    }

    fn pictures(&self) -> Limits {
        Limits::with_pixels_max(self.service.config.frame_pixels_max)
    }

    /// Reads a frame and its mask. `None`: there is no body.
    ///
    /// # Errors
    /// As the table of problems says.
    pub(super) async fn overlay(
        &self,
        form: Form,
        sides: Sides,
        body: Incoming,
    ) -> Result<Option<Overlay>, Problem> {
        let (size, foreground, mask) = match form {
            Form::Nothing => return Ok(None),
            Form::Masked => {
                let size = self.raw_size(sides)?;
                let bytes = self.raw(size, 5, body).await?;
                let pixels = size.bytes() as usize;
                let mask = Part::Raw(bytes.slice(pixels..));
                (size, Part::Raw(bytes.slice(..pixels)), Some(mask))
            }
            Form::Plain => {
                let size = self.raw_size(sides)?;
                (size, Part::Raw(self.raw(size, 4, body).await?), None)
            }
            Form::Picture => {
                let (part, size) = self.picture(body).await?;
                (size, part, None)
            }
            Form::Parts(boundary) => self.parts(boundary, body).await?,
        };
        agree(size, sides)?;
        Overlay::new(size, foreground, mask)
            .map(Some)
            .ok_or_else(|| {
                bad(format!(
                    "the mask has not the {size} pixels of the foreground"
                ))
            })
    }

    /// Reads one frame without a mask, and its size.
    ///
    /// # Errors
    /// As the table of problems says.
    pub(super) async fn frame(
        &self,
        form: Form,
        sides: Sides,
        body: Incoming,
    ) -> Result<(Part, Size), Problem> {
        let (part, size) = match form {
            Form::Plain => {
                let size = self.raw_size(sides)?;
                (Part::Raw(self.raw(size, 4, body).await?), size)
            }
            Form::Picture => self.picture(body).await?,
            _ => {
                return Err(Problem::new(
                    Kind::UnsupportedMedia,
                    format!("send {RGBA} or {}", PICTURES.join(", ")),
                ));
            }
        };
        agree(size, sides)?;
        Ok((part, size))
    }

    fn raw_size(&self, sides: Sides) -> Result<Size, Problem> {
        let (Some(width), Some(height)) = sides else {
            return Err(bad("pixels need width and height in the query"));
        };
        let size = Size::new(width, height);
        super::frame::check_size(self.service, size)?;
        Ok(size)
    }

    async fn raw(&self, size: Size, pixel_bytes: u64, body: Incoming) -> Result<Bytes, Problem> {
        let expected = size.pixels().saturating_mul(pixel_bytes);
        let wrong = || {
            bad(format!(
                "a frame of {size} has {expected} bytes in this form"
            ))
        };
        let limits = self.limits();
        let stated = body.size_hint().exact();
        if expected > limits.bytes_max || stated.is_some_and(|stated| stated > limits.bytes_max) {
            return Err(limits.too_large());
        }
        if stated.is_some_and(|stated| stated != expected) {
            return Err(wrong());
        }
        let exact = BodyLimits {
            bytes_max: expected,
            ..limits
        };
        let received = body::read(body, exact, &self.service.intake).await?;
        if received.bytes.len() as u64 != expected {
            return Err(wrong());
        }
        received.charged(limits, &self.service.intake).await
    }

    /// Reads a file, given up as soon as its first bytes say that it is none that is taken.
    async fn picture(&self, body: Incoming) -> Result<(Part, Size), Problem> {
        let (limits, pictures) = (self.limits(), self.pictures());
        let look = |head: &[u8]| codec::peek(head, &pictures).map_err(codec_problem);
        let intake = &self.service.intake;
        let received = body::read_looking(body, limits, intake, &look).await?;
        self.file(received).await
    }

    async fn file(&self, received: body::Received) -> Result<(Part, Size), Problem> {
        let header = self.header(&received.bytes)?;
        let file = received
            .charged(self.limits(), &self.service.intake)
            .await?;
        Ok((Part::File(file, header), header.size))
    }

    fn header(&self, file: &[u8]) -> Result<Header, Problem> {
        codec::probe(file, &self.pictures()).map_err(codec_problem)
    }

    async fn parts(
        &self,
        boundary: String,
        body: Incoming,
    ) -> Result<(Size, Part, Option<Part>), Problem> {
        let pictures = self.pictures();
        let look = |head: &[u8]| codec::peek(head, &pictures).map_err(codec_problem);
        let names = ["foreground", "mask"];
        let (limits, intake) = (self.limits(), &self.service.intake);
        let read = multipart::read(body, boundary, names, limits, intake, &look);
        let [foreground, mask] = read.await?;
        let foreground = foreground.ok_or_else(|| bad("there is no part foreground"))?;
        let (foreground, size) = self.file(foreground).await?;
        let mask = match mask {
            Some(mask) => Some(self.file(mask).await?.0),
            None => None,
        };
        Ok((size, foreground, mask))
    }
}

/// Refuses sides that are given and are others than the frame's.
fn agree(size: Size, (width, height): Sides) -> Result<(), Problem> {
    let differs = |side: Option<u32>, of: u32| side.is_some_and(|side| side != of);
    match differs(width, size.width) || differs(height, size.height) {
        true => Err(bad(format!(
            "the foreground has {size} pixels, not those of width and height"
        ))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_by_their_media_types() {
        let form = |stated| Form::named(stated).map_err(|problem| problem.kind());
        assert_eq!(form("Application/vnd.backdrop.rgba+a8"), Ok(Form::Masked));
        assert_eq!(form("application/vnd.backdrop.rgba"), Ok(Form::Plain));
        assert_eq!(form("image/webp; q=1"), Ok(Form::Picture));
        let parts = form("Multipart/Form-Data; boundary=line");
        assert_eq!(parts, Ok(Form::Parts("line".to_owned())));
        assert_eq!(form("multipart/form-data"), Err(Kind::BadRequest));
        for other in ["", "application/x-www-form-urlencoded", "image/gif"] {
            assert_eq!(form(other), Err(Kind::UnsupportedMedia), "{other}");
        }
    }
}
