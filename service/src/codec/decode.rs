//! Files to pixels: strict, straight into the caller's block.
//!
//! Knows the three decoders and how to make each strict; does not know limits (the [`Header`] passed them) or who pays
//! for the memory. Decoders that deliver fewer than four channels write to the front of the block, which is then widened
//! in place from its end, so that no second picture exists.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::metered::{Metered, OutOfScratch};
use super::{CodecError, Format, Header, PixelsMut, PixelsRef, Size, jpeg_scan};

/// Decodes `bytes` into `out` as RGBA8, where `header` is what [`super::probe`] returned for the same bytes. For files
/// from outside: complete or an error.
///
/// Allocates at most `header.scratch_bytes` beside `out`. On an error the content of `out` is unspecified.
///
/// # Panics
/// When `out` is not of the header's size.
pub fn decode(bytes: &[u8], header: &Header, out: PixelsMut<'_>) -> Result<(), CodecError> {
    if header.format == Format::Jpeg {
        jpeg_scan::verify(bytes)?;
    }
    decode_trusted(bytes, header, out)
}

/// [`decode`] for files that it has accepted before and that have not changed since: leaves out the walk over a JPEG's
/// blocks, a third of its time.
///
/// # Panics
/// When `out` is not of the header's size.
pub fn decode_trusted(
    bytes: &[u8],
    header: &Header,
    mut out: PixelsMut<'_>,
) -> Result<(), CodecError> {
    assert_eq!(
        out.size(),
        header.size,
        "the block must be of the probed size"
    );
    let work = AssertUnwindSafe(|| upright(bytes, header, &mut out));
    // A decoder's bug must cost one upload, not the thread of a pool.
    catch_unwind(work).unwrap_or_else(|_| Err(malformed(header.format, "the decoder panicked")))
}

/// Decodes and turns: where it lies if it can be, else out of a block of its own.
fn upright(bytes: &[u8], header: &Header, out: &mut PixelsMut<'_>) -> Result<(), CodecError> {
    if !header.orientation.swaps_sides() {
        decode_stored(bytes, header, out.data())?;
        header.orientation.turn_in_place(out);
        return Ok(());
    }
    let mut stored = vec![0; header.output_bytes() as usize];
    decode_stored(bytes, header, &mut stored)?;
    let stored = PixelsRef::new(&stored, header.stored_size());
    let stored = stored.expect("a turned picture has as many pixels");
    header.orientation.turn(stored, out);
    Ok(())
}

fn decode_stored(bytes: &[u8], header: &Header, out: &mut [u8]) -> Result<(), CodecError> {
    match header.format {
        Format::Jpeg => decode_jpeg(bytes, header.stored_size(), out),
        Format::Png => decode_png(bytes, header, out),
        Format::Webp => decode_webp(bytes, header, out),
    }
}

fn malformed(format: Format, cause: impl std::fmt::Display) -> CodecError {
    CodecError::Malformed {
        format,
        cause: cause.to_string(),
    }
}

fn jpeg_decoder(
    bytes: &[u8],
    size: Size,
    colours: ColorSpace,
) -> Result<zune_jpeg::JpegDecoder<ZCursor<&[u8]>>, CodecError> {
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(size.width as usize)
        .set_max_height(size.height as usize)
        .jpeg_set_out_colorspace(colours);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(jpeg_error)?;
    Ok(decoder)
}

fn decode_jpeg(bytes: &[u8], size: Size, out: &mut [u8]) -> Result<(), CodecError> {
    let mut decoder = jpeg_decoder(bytes, size, ColorSpace::RGBA)?;
    if decoder.dimensions() != Some((size.width as usize, size.height as usize)) {
        return Err(malformed(
            Format::Jpeg,
            "the size differs from the probed one",
        ));
    }
    let stored = decoder.input_colorspace();
    let by_way_of_rgb = match decoder.info().map_or(0, |info| info.components) {
        3 => stored.is_some_and(|space| space != ColorSpace::YCbCr),
        // zune-jpeg 0.5.15 writes these as RGBA with the strides of RGB.
        components => components == 4,
    };
    if by_way_of_rgb {
        drop(decoder);
        // A new one: the kernel of the conversion is chosen while it reads the headers.
        let mut decoder = jpeg_decoder(bytes, size, ColorSpace::RGB)?;
        let packed = &mut out[..size.pixels() as usize * 3];
        decoder.decode_into(packed).map_err(jpeg_error)?;
        widen_rgb(out);
        return Ok(());
    }
    // Blocks come from a pool: a file that makes the decoder stop early must not show what they held.
    let last_row = out.len() - size.width as usize * 4;
    set_alpha(&mut out[last_row..], 0);
    decoder.decode_into(out).map_err(jpeg_error)?;
    if out[last_row..]
        .iter()
        .skip(3)
        .step_by(4)
        .any(|&alpha| alpha != 255)
    {
        return Err(CodecError::Truncated {
            format: Format::Jpeg,
        });
    }
    Ok(())
}

fn set_alpha(pixels: &mut [u8], alpha: u8) {
    for pixel in pixels.as_chunks_mut::<4>().0 {
        pixel[3] = alpha;
    }
}

fn jpeg_error(error: zune_jpeg::errors::DecodeErrors) -> CodecError {
    use zune_jpeg::errors::DecodeErrors as E;
    let format = Format::Jpeg;
    match error {
        E::ExhaustedData | E::IoErrors(_) | E::FormatStatic("Premature end of buffer") => {
            CodecError::Truncated { format }
        }
        E::Unsupported(what) => CodecError::Unsupported {
            format,
            what: format!("{what:?}"),
        },
        other => malformed(format, other),
    }
}

fn decode_png(bytes: &[u8], header: &Header, out: &mut [u8]) -> Result<(), CodecError> {
    let limits = png::Limits {
        bytes: header.decoder_bytes as usize,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(
        png::Transformations::normalize_to_color8() | png::Transformations::ALPHA,
    );
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let error = |e| png_error(e, header);
    let mut reader = decoder.read_info().map_err(error)?;
    let info = reader.info();
    let stored = header.stored_size();
    if (info.width, info.height) != (stored.width, stored.height) {
        return Err(malformed(
            Format::Png,
            "the size differs from the probed one",
        ));
    }
    if info.animation_control.is_some() {
        return Err(CodecError::Animated {
            format: Format::Png,
        });
    }
    let needed = reader.output_buffer_size().filter(|&n| n <= out.len());
    let needed = needed.ok_or_else(|| malformed(Format::Png, "rows do not fit the picture"))?;
    let frame = reader.next_frame(&mut out[..needed]).map_err(error)?;
    // The checksum and the end of the last chunk count too.
    reader.finish().map_err(error)?;
    match (frame.color_type, frame.bit_depth) {
        (png::ColorType::Rgba, png::BitDepth::Eight) => {}
        (png::ColorType::Rgb, png::BitDepth::Eight) => widen_rgb(out),
        (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight) => widen_grey_alpha(out),
        (png::ColorType::Grayscale, png::BitDepth::Eight) => widen_grey(out),
        other => return Err(malformed(Format::Png, format!("decoded to {other:?}"))),
    }
    Ok(())
}

fn png_error(error: png::DecodingError, header: &Header) -> CodecError {
    let format = Format::Png;
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            CodecError::Truncated { format }
        }
        png::DecodingError::LimitsExceeded => CodecError::ScratchExceeded {
            format,
            scratch_bytes: header.decoder_bytes,
        },
        other => malformed(format, other),
    }
}

fn decode_webp(bytes: &[u8], header: &Header, out: &mut [u8]) -> Result<(), CodecError> {
    let error = |e| webp_error(e, header);
    let metered = Metered::new(bytes, header.decoder_bytes);
    let mut decoder = image_webp::WebPDecoder::new(metered).map_err(error)?;
    let stored = header.stored_size();
    if decoder.dimensions() != (stored.width, stored.height) {
        return Err(malformed(
            Format::Webp,
            "the size differs from the probed one",
        ));
    }
    if decoder.is_animated() {
        return Err(CodecError::Animated {
            format: Format::Webp,
        });
    }
    let needed = decoder.output_buffer_size().filter(|&n| n <= out.len());
    let needed = needed.ok_or_else(|| malformed(Format::Webp, "rows do not fit the picture"))?;
    decoder.read_image(&mut out[..needed]).map_err(error)?;
    if !decoder.has_alpha() {
        widen_rgb(out);
    }
    Ok(())
}

fn webp_error(error: image_webp::DecodingError, header: &Header) -> CodecError {
    use image_webp::DecodingError as E;
    let format = Format::Webp;
    match error {
        E::IoError(e) if e.get_ref().is_some_and(|cause| cause.is::<OutOfScratch>()) => {
            CodecError::ScratchExceeded {
                format,
                scratch_bytes: header.decoder_bytes,
            }
        }
        E::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            CodecError::Truncated { format }
        }
        E::UnsupportedFeature(what) => CodecError::Unsupported { format, what },
        other => malformed(format, other),
    }
}

/// Spreads packed RGB at the front of `out` to opaque RGBA, from the end so that nothing is overwritten unread.
fn widen_rgb(out: &mut [u8]) {
    for i in (0..out.len() / 4).rev() {
        let [r, g, b] = [out[i * 3], out[i * 3 + 1], out[i * 3 + 2]];
        out[i * 4..i * 4 + 4].copy_from_slice(&[r, g, b, 255]);
    }
}

/// The same for two bytes a pixel, grey and alpha.
fn widen_grey_alpha(out: &mut [u8]) {
    for i in (0..out.len() / 4).rev() {
        let [grey, alpha] = [out[i * 2], out[i * 2 + 1]];
        out[i * 4..i * 4 + 4].copy_from_slice(&[grey, grey, grey, alpha]);
    }
}

/// The same for one byte a pixel.
fn widen_grey(out: &mut [u8]) {
    for i in (0..out.len() / 4).rev() {
        let grey = out[i];
        out[i * 4..i * 4 + 4].copy_from_slice(&[grey, grey, grey, 255]);
    }
}
