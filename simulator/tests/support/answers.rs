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
