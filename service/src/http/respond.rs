//! Building answers: content types made once, bodies that are one buffer.

use crate::memory::Charge;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// Every answer's body is one buffer; hyper sets the length from it.
pub type Answer = Response<Full<Bytes>>;

/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// `application/problem+json`.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The binary batch form.
pub const BATCH: HeaderValue = HeaderValue::from_static("application/vnd.backdrop.batch");
/// Raw bytes.
pub const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// What a probe is told that finds all well.
pub const ALIVE: &str = "{\"status\":\"ok\"}\n";
/// The exposition of metrics.
pub const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// A body whose charge ends with its last clone: for an answer, once the last byte was sent.
pub fn charged<B>(bytes: B, charge: Option<Charge>) -> Bytes
where
    B: AsRef<[u8]> + Into<Bytes> + Send + 'static,
{
    match charge {
        Some(charge) => charge.cover(bytes),
        // Without a charge there is nothing to end: no second allocation for it.
        None => bytes.into(),
    }
}

/// An answer of one buffer.
pub fn full(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// A JSON answer with status 200.
pub fn json(body: impl Into<Bytes>) -> Answer {
    full(StatusCode::OK, JSON, body)
}

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// `text` as a JSON string, quotes included.
#[must_use]
pub fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Appends `value` as 16 lowercase hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits: [u8; 16] = std::array::from_fn(|at| DIGITS[(value >> (60 - 4 * at)) as usize & 15]);
    out.extend_from_slice(&digits);
}

/// Reads exactly 16 lowercase hexadecimal digits.
#[must_use]
pub fn parse_hex(text: &[u8]) -> Option<u64> {
    if text.len() != 16 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

/// Appends a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_there_and_back_and_is_strict() {
        for value in [0, 1, 0xdead_beef, u64::MAX] {
            let mut text = Vec::new();
            push_hex(&mut text, value);
            assert_eq!(text, format!("{value:016x}").into_bytes());
            assert_eq!(parse_hex(&text), Some(value));
        }
        for bad in [
            "",
            "1",
            "00000000000000000",
            "000000000000000G",
            "00000000DEADBEEF",
            "+000000000000001",
        ] {
            assert_eq!(parse_hex(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn decimals_read_as_format_writes_them() {
        for value in [0, 9, 10, 12_345, u64::MAX] {
            let mut text = Vec::new();
            push_decimal(&mut text, value);
            assert_eq!(text, value.to_string().into_bytes());
        }
    }
}
