//! Pixels to files.
use super::*;
/// Appends a JPEG file to `out`.
pub fn encode_jpeg(pixels: PixelsRef<'_>, quality: u8, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let _ = (quality, out);
    Err(CodecError::Encode { format: Format::Jpeg, size: pixels.size(), cause: String::new() })
}
/// Appends a PNG file to `out`.
pub fn encode_png(pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let _ = out;
    Err(CodecError::Encode { format: Format::Png, size: pixels.size(), cause: String::new() })
}
/// A small JPEG of the picture, at most 4 KiB.
pub fn thumbnail(pixels: PixelsRef<'_>) -> Result<Vec<u8>, CodecError> {
    Err(CodecError::Encode { format: Format::Jpeg, size: pixels.size(), cause: String::new() })
}
