//! Reads headers and nothing more.
use super::*;
/// Header only.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, CodecError> {
    let _ = limits;
    let _ = Format::detect(bytes);
    Err(CodecError::UnknownFormat { looks_like_text: false })
}
