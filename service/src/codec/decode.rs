//! Files to pixels.
use super::*;
/// Decodes `bytes`, whose header `probe` returned, into `out`.
pub fn decode(bytes: &[u8], header: &Header, out: PixelsMut<'_>) -> Result<(), CodecError> {
    let _ = (bytes, out);
    Err(CodecError::Truncated { format: header.format })
}
