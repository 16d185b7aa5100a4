//! The participant of the load `composite`: a frame and a mask that every request sends, and whether it is there in what comes back.
//!
//! The figure takes the middle two of the eight columns of cells that a background's code is repeated in (see [`crate::code`]), from
//! the fourth row down. All other cells show the background, so that its code is read around the figure. Within it a light band stands
//! over a dark one, which no background has there. It travels in two forms by turns: raw pixels, which cost the service no decode,
//! and files in parts, which do.

use std::ops::Range;

use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderValue;

use crate::client::Call;
use crate::code::Luma;
use crate::picture::{self, PictureError, Rgb};

/// Columns and rows of cells that the figure hides, of eight each.
const COLUMNS: Range<usize> = 3..5;
const ROWS: Range<usize> = 3..8;
const CELLS: usize = 8;
/// Brightness of the figure's upper and lower half.
const LIGHT: u8 = 215;
const DARK: u8 = 40;
/// What compression may make of them.
const TOLERANCE: f32 = 24.0;
/// Share of the figure's edge, of a cell, where the mask rises: half of it shows the background.
const EDGE: f64 = 0.125;
/// Samples across and down a band.
const SAMPLES: usize = 6;
const QUALITY: u8 = 90;
const BOUNDARY: &str = "backdrop-simulator";

/// See the file's description.
#[derive(Debug)]
pub struct Participant {
    width: usize,
    height: usize,
    raw: Bytes,
    parts: Bytes,
}

/// Whether the figure hides this cell.
pub fn hides(column: usize, row: usize) -> bool {
    COLUMNS.contains(&column) && ROWS.contains(&row)
}

impl Participant {
    /// One that sends frames of this size.
    ///
    /// # Errors
    /// A size that cannot be encoded.
    pub fn new((width, height): (u32, u32)) -> Result<Self, PictureError> {
        let (width, height) = (width as usize, height as usize);
        let mut raw = Vec::with_capacity(width * height * 5);
        let mut frame = Rgb::blank(width, height);
        let mut mask = Rgb::blank(width, height);
        let mut alphas = Vec::with_capacity(width * height);
        for at in 0..width * height {
            let (x, y) = (at % width, at / width);
            let cell = |position: usize, extent: usize| {
                (position as f64 + 0.5) / extent as f64 * CELLS as f64
            };
            let (x, y) = (cell(x, width), cell(y, height));
            let light = if y < middle() { LIGHT } else { DARK };
            let alpha = alpha(x, y);
            raw.extend_from_slice(&[light, light, light, 255]);
            alphas.push(alpha);
            frame.data[3 * at..3 * at + 3].fill(light);
            mask.data[3 * at..3 * at + 3].fill(alpha);
        }
        raw.extend_from_slice(&alphas);
        let mut parts = Vec::new();
        for (name, part) in [("foreground", &frame), ("mask", &mask)] {
            let head = format!(
                "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{name}.jpg\"\r\ncontent-type: image/jpeg\r\n\r\n"
            );
            parts.extend_from_slice(head.as_bytes());
            parts.extend_from_slice(&picture::encode(part, QUALITY)?);
            parts.extend_from_slice(b"\r\n");
        }
        parts.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        Ok(Self {
            width,
            height,
            raw: raw.into(),
            parts: parts.into(),
        })
    }

    /// The request for composite `number`, of a session.
    pub fn call(&self, session: u64, number: u64, answer_bytes_max: usize) -> Call {
        let (content_type, body) = match number.is_multiple_of(2) {
            true => ("application/vnd.backdrop.rgba+a8".to_owned(), &self.raw),
            false => (
                format!("multipart/form-data; boundary={BOUNDARY}"),
                &self.parts,
            ),
        };
        let (width, height) = (self.width, self.height);
        let path: Uri = format!(
            "/v1/sessions/{session:016x}/frames?width={width}&height={height}&format=jpeg&quality=80"
        )
        .parse()
        .unwrap_or_default();
        Call {
            method: hyper::Method::POST,
            content_type: HeaderValue::try_from(content_type).ok(),
            body: body.clone(),
            ..Call::get(path, answer_bytes_max)
        }
    }
}

/// Where the light band ends, in cells.
fn middle() -> f64 {
    (ROWS.start + ROWS.end) as f64 / 2.0
}

/// Mask at a point, in cells: nothing outside of the figure, rising to all of it from its edge.
fn alpha(x: f64, y: f64) -> u8 {
    let inside = (x - COLUMNS.start as f64)
        .min(COLUMNS.end as f64 - x)
        .min(y - ROWS.start as f64);
    ((inside / EDGE).clamp(0.0, 1.0) * 255.0).round() as u8
}

/// Whether the figure stands in a frame, whole.
pub fn is_there(luma: Luma<'_>) -> bool {
    let (left, right) = (COLUMNS.start as f64 + 0.25, COLUMNS.end as f64 - 0.25);
    let top = ROWS.start as f64;
    let bands = [
        (top + 0.25, middle() - 0.25, LIGHT),
        (middle() + 0.25, ROWS.end as f64 - 0.25, DARK),
    ];
    bands.iter().all(|&(top, bottom, light)| {
        (0..SAMPLES * SAMPLES).all(|at| {
            let (column, row) = ((at % SAMPLES) as f64, (at / SAMPLES) as f64);
            let wide = (right - left) / SAMPLES as f64;
            let high = (bottom - top) / SAMPLES as f64;
            let x = |step: f64| (left + (column + step) * wide) / CELLS as f64 * luma.width as f64;
            let y = |step: f64| (top + (row + step) * high) / CELLS as f64 * luma.height as f64;
            let seen = luma.mean(x(0.0), y(0.0), x(1.0), y(1.0));
            (seen - f32::from(light)).abs() <= TOLERANCE
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{self, Payload};
    use crate::truth::Pixels;

    const SIZE: (usize, usize) = (640, 360);
    const PAYLOAD: Payload = Payload {
        number: 7,
        revision: 2,
    };

    /// What a service answers that does this with background, frame and mask.
    fn answered(mix: impl Fn(u8, u8, u8) -> u8) -> Pixels {
        let (width, height) = SIZE;
        let mut picture = Rgb::blank(width, height);
        picture.data.fill(110);
        code::stamp(&mut picture.data, width, height, PAYLOAD);
        let participant = Participant::new((width as u32, height as u32)).expect("a participant");
        let (frame, mask) = participant.raw.split_at(width * height * 4);
        for (at, value) in picture.data.iter_mut().enumerate() {
            *value = mix(*value, frame[at / 3 * 4], mask[at / 3]);
        }
        let file = picture::encode(&picture, 80).expect("encodes");
        let (data, width, height) = picture::decode_luma(&file).expect("decodes");
        let luma = Luma {
            data: &data,
            width,
            height,
        };
        code::read_around(luma, hides, is_there)
    }

    fn lerp(background: u8, frame: u8, mask: u8) -> u8 {
        let [b, f, m] = [background, frame, mask].map(u32::from);
        ((b * (255 - m) + f * m + 127) / 255) as u8
    }

    #[test]
    fn the_code_is_read_around_the_figure() {
        let code = Pixels::Code {
            number: 7,
            revision: 2,
        };
        assert_eq!(answered(lerp), code);
    }

    #[test]
    fn a_frame_without_the_figure_is_no_composite() {
        let alone = Pixels::Alone {
            number: 7,
            revision: 2,
        };
        assert_eq!(answered(|background, _, _| background), alone);
        // Nor is one in which it is half there, or the other way round.
        assert_eq!(answered(|b, f, m| lerp(b, f, m / 2)), alone);
        assert_eq!(answered(|b, f, m| lerp(b, 255 - f, m)), alone);
        let swapped = answered(|b, f, m| lerp(b, f, 255 - m));
        assert_eq!(swapped, Pixels::Unreadable, "no code is left");
    }

    #[test]
    fn both_forms_are_sent_by_turns() {
        let participant = Participant::new((64, 48)).expect("a participant");
        let raw = participant.call(1, 0, 9);
        assert_eq!(raw.body.len(), 64 * 48 * 5);
        assert_eq!(raw.path.path(), "/v1/sessions/0000000000000001/frames");
        let parts = participant.call(1, 1, 9);
        assert!(parts.body.starts_with(b"--backdrop-simulator\r\n"));
        assert_ne!(raw.content_type, parts.content_type);
    }
}
