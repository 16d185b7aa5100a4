//! Pixels to files: JPEG, PNG and lossless WebP.
//!
//! Appends to a buffer of the caller, who has reserved it; [`jpeg_bytes_max`], [`png_bytes_max`] and [`webp_bytes_max`] say
//! how much that may become. JPEG has no alpha: the alpha channel is dropped, so a caller that wants a backdrop flattens first.

use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder};

use super::{CodecError, Format, PixelsRef, Size};

/// Qualities outside of this range are clamped to it.
pub const QUALITY: std::ops::RangeInclusive<u8> = 30..=95;

/// Upper bound of a JPEG file of `size`. Noise, the worst picture there is, takes 3.1 bytes a pixel at the highest quality
/// (no chroma subsampling from 90 on) and 1.2 below 90.
pub const fn jpeg_bytes_max(size: Size, quality: u8) -> u64 {
    let padded =
        (size.width as u64).next_multiple_of(16) * (size.height as u64).next_multiple_of(16);
    let per_pixel = if quality >= 90 { 5 } else { 3 };
    padded * per_pixel + 4096
}

/// Upper bound of a PNG file of `size`: stored rows with their filter byte, and the framing of chunks.
pub const fn png_bytes_max(size: Size) -> u64 {
    let raw = size.bytes() + size.height as u64;
    raw + raw / 16 + 4096
}

/// Most bytes that [`encode_png`] takes beside its output: the png crate compresses into a buffer of its own, and into a second
/// one where that came out larger than stored rows; both grow by doubling.
pub const fn png_scratch_bytes(size: Size) -> u64 {
    4 * png_bytes_max(size)
}

/// Upper bound of a lossless WebP file of `size`. Its codes are Huffman's, which are never longer than codes of fixed length: 8 bits
/// for each of three channels and 9 for green, whose alphabet holds the lengths of runs too. Code tables and framing take 2 KiB.
pub const fn webp_bytes_max(size: Size) -> u64 {
    let raw = size.bytes();
    raw + raw / 16 + 4096
}

/// Most bytes that [`encode_webp`] takes beside its output: image-webp works on a copy of the pixels and writes into a buffer of its
/// own, which grows by doubling.
pub const fn webp_scratch_bytes(size: Size) -> u64 {
    size.bytes() + 3 * webp_bytes_max(size)
}

/// Appends a baseline JPEG file to `out`. `quality` is clamped to [`QUALITY`]; alpha is dropped.
pub fn encode_jpeg(
    pixels: PixelsRef<'_>,
    quality: u8,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let quality = quality.clamp(*QUALITY.start(), *QUALITY.end());
    write_jpeg(pixels, quality, out)
}

/// [`encode_jpeg`] without the clamp, for thumbnails that must shrink below it.
pub(super) fn write_jpeg(
    pixels: PixelsRef<'_>,
    quality: u8,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let size = pixels.size();
    let refused = |cause: String| CodecError::Encode {
        format: Format::Jpeg,
        size,
        cause,
    };
    let (Ok(width), Ok(height)) = (u16::try_from(size.width), u16::try_from(size.height)) else {
        return Err(refused("a side exceeds 65535".into()));
    };
    let mut encoder = Encoder::new(out, quality);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(pixels.data(), width, height, ColorType::Rgba)
        .map_err(|e| refused(e.to_string()))
}

/// Appends a PNG file (RGBA, 8 bits) to `out`, with the fast settings: a preview is sent once.
pub fn encode_png(pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let size = pixels.size();
    let refused = |e: png::EncodingError| CodecError::Encode {
        format: Format::Png,
        size,
        cause: e.to_string(),
    };
    let mut encoder = png::Encoder::new(out, size.width, size.height);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(refused)?;
    writer.write_image_data(pixels.data()).map_err(refused)?;
    writer.finish().map_err(refused)
}

/// Appends a lossless WebP file (RGBA, 8 bits) to `out`. No side may exceed 16384 pixels.
pub fn encode_webp(pixels: PixelsRef<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let size = pixels.size();
    let encoder = image_webp::WebPEncoder::new(out);
    let colours = image_webp::ColorType::Rgba8;
    let encoded = encoder.encode(pixels.data(), size.width, size.height, colours);
    encoded.map_err(|e| CodecError::Encode {
        format: Format::Webp,
        size,
        cause: e.to_string(),
    })
}
