//! What the small service answers, byte by byte: frames, metadata, problems.

use backdrop_simulator::code::{self, Payload};
use backdrop_simulator::picture::{self, Rgb};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::Background;

/// A frame with this code; number 0xffff is a blank one, `other` the background of its lower half.
pub fn draw(number: u16, revision: u8, other: Option<u16>) -> Bytes {
    let (width, height) = (640, 360);
    let mut frame = Rgb::blank(width, height);
    frame.data.fill(110);
    if number != u16::MAX {
        code::stamp(&mut frame.data, width, height, Payload { number, revision });
    }
    if let Some(number) = other {
        let mut lower = Rgb::blank(width, height);
        code::stamp(&mut lower.data, width, height, Payload { number, revision });
        let half = frame.data.len() / 2;
        frame.data[half..].copy_from_slice(&lower.data[half..]);
    }
    Bytes::from(picture::encode(&frame, 80).unwrap())
}

/// A frame with what a composite's request sent laid over it: raw pixels with their mask, or two files in parts.
pub fn overlaid(frame: &[u8], sent: &[u8]) -> Bytes {
    let mut frame = picture::decode(frame).unwrap();
    let pixels = frame.width * frame.height;
    let (over, mask): (Vec<u8>, Vec<u8>) = match sent.len() == pixels * 5 {
        true => {
            let (over, mask) = sent.split_at(pixels * 4);
            (over.iter().step_by(4).copied().collect(), mask.to_vec())
        }
        false => {
            let mut parts = files(sent).map(|file| picture::decode_luma(file).unwrap().0);
            (parts.next().unwrap(), parts.next().unwrap())
        }
    };
    for (at, value) in frame.data.iter_mut().enumerate() {
        let [b, f, m] = [*value, over[at / 3], mask[at / 3]].map(u32::from);
        *value = ((b * (255 - m) + f * m + 127) / 255) as u8;
    }
    Bytes::from(picture::encode(&frame, 80).unwrap())
}

/// The files of a body in parts, each behind its head and before the next boundary.
fn files(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let boundary = &body[..body.iter().position(|byte| *byte == b'\r').unwrap()];
    let starts =
        |what: &'static [u8]| (0..body.len()).filter(move |at| body[*at..].starts_with(what));
    let ends = (1..body.len()).filter(move |at| body[*at..].starts_with(boundary));
    starts(b"\r\n\r\n")
        .zip(ends)
        .map(|(head, end)| &body[head + 4..end - 2])
}

pub fn describe(id: &str, background: &Background, epoch: u64) -> Value {
    json!({
        "id": id, "flyweight": background.flyweight, "version": background.version, "width": 1920, "height": 1080,
        "format": "jpeg", "bytes": 1, "checksum": background.checksum, "epoch": epoch.to_string(),
    })
}

pub fn session_id(path: &str) -> Option<u64> {
    u64::from_str_radix(path.strip_prefix("/v1/sessions/")?.split('/').next()?, 16).ok()
}

pub fn respond(status: u16, value: Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub fn problem(status: u16, code: &str) -> Response<Full<Bytes>> {
    respond(status, json!({"status": status, "code": code}))
}

pub fn stale(epoch: u64) -> Response<Full<Bytes>> {
    respond(
        409,
        json!({"status": 409, "code": "stale_epoch", "epoch": epoch.to_string()}),
    )
}
