//! Headers: what a file claims to be, read without allocating a pixel and without trusting the claim.
//!
//! Each format's own header is walked here, byte by byte, so that a forged size is refused before any decoder has seen the
//! file. The walks know the layout of headers, not of picture data. [`super::decode`] compares its decoder with the result.

use super::thumbnail::THUMBNAIL_SCRATCH_BYTES;
use super::{CodecError, Format, Header, Limits, Orientation, Size, vp8_parts};

/// Decoders hold small tables, state and metadata beside their buffers; measured at below half of this.
const FIXED_SCRATCH: u64 = 768 * 1024;

// An upload's thumbnail is made when its decode is over, under the same reservation.
const _: () = assert!(THUMBNAIL_SCRATCH_BYTES <= FIXED_SCRATCH);

/// JPEG's segment for EXIF among others, and what opens it there (in some WebP files too).
const APP1: u8 = 0xE1;
const EXIF_MARK: &[u8] = b"Exif\0\0";

/// Reads the header of an encoded picture.
///
/// Errors say which rule was broken: an unknown signature, a size over `limits` or of zero, an animation, an unsupported
/// kind, a header that ends early or makes no sense. Nothing is allocated beyond the error itself.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header, CodecError> {
    match Format::detect(bytes) {
        Some(Format::Jpeg) => probe_jpeg(bytes, limits),
        Some(Format::Png) => probe_png(bytes, limits),
        Some(Format::Webp) => probe_webp(bytes, limits),
        None => Err(CodecError::UnknownFormat {
            looks_like_text: looks_like_text(bytes),
        }),
    }
}

/// Bytes within which every signature lies.
const SIGNATURE_BYTES: usize = 12;

/// Judges the beginning of a file as [`probe`] would the whole: an error will not go away with more of it. `false`: the header goes
/// on beyond `head`.
pub fn peek(head: &[u8], limits: &Limits) -> Result<bool, CodecError> {
    if head.len() < SIGNATURE_BYTES {
        return Ok(false);
    }
    match probe(head, limits) {
        Ok(_) => Ok(true),
        Err(CodecError::Truncated { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(256)];
    !head.is_empty()
        && head
            .iter()
            .all(|&b| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7E | 0x80..))
}

/// A cursor that turns reading past the end into [`CodecError::Truncated`].
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    format: Format,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize, format: Format) -> Self {
        Self { bytes, at, format }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(CodecError::Truncated {
            format: self.format,
        })?;
        let part = &self.bytes[self.at..end];
        self.at = end;
        Ok(part)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16_be(&mut self) -> Result<u16, CodecError> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    pub(super) fn u32_be(&mut self) -> Result<u32, CodecError> {
        let b = self.take(4)?;
        Ok(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) fn u32_le(&mut self) -> Result<u32, CodecError> {
        Ok(self.u32_be()?.swap_bytes())
    }

    pub(super) fn malformed(&self, cause: impl Into<String>) -> CodecError {
        CodecError::Malformed {
            format: self.format,
            cause: cause.into(),
        }
    }

    pub(super) fn unsupported(&self, what: impl Into<String>) -> CodecError {
        CodecError::Unsupported {
            format: self.format,
            what: what.into(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The next JPEG marker: any number of 0xFF fill bytes, then its code.
    pub(super) fn marker(&mut self) -> Result<u8, CodecError> {
        if self.u8()? != 0xFF {
            return Err(self.malformed("no marker where one must be"));
        }
        loop {
            match self.u8()? {
                0xFF => {}
                code => return Ok(code),
            }
        }
    }
}

/// What a start-of-frame segment says, as far as memory depends on it.
struct JpegFrame {
    size: Size,
    progressive: bool,
    /// Horizontal and vertical sampling factors, one pair per component.
    sampling: Vec<(u64, u64)>,
}

fn probe_jpeg(bytes: &[u8], limits: &Limits) -> Result<Header, CodecError> {
    let mut walk = Walk::new(bytes, 2, Format::Jpeg);
    let mut frame: Option<JpegFrame> = None;
    let mut exif: Option<Orientation> = None;
    loop {
        match walk.marker()? {
            0x01 | 0xD0..=0xD7 => {}
            0xD8 | 0xD9 => return Err(walk.malformed("start or end of image inside the header")),
            code @ (0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) => {
                if frame.is_some() {
                    return Err(walk.malformed("two frame headers"));
                }
                frame = Some(jpeg_frame(&mut walk, code, limits)?);
            }
            0xDA => {
                let frame = frame.ok_or_else(|| walk.malformed("scan before any frame header"))?;
                let _length = walk.u16_be()?;
                let in_first_scan = walk.u8()?;
                // zune-jpeg 0.5.15 decodes these to other pixels, without an error: its issues 422 and 448.
                if !frame.progressive && usize::from(in_first_scan) < frame.sampling.len() {
                    return Err(walk.unsupported("sequential coding with a scan for each colour"));
                }
                let scratch_bytes = jpeg_scratch(&frame, bytes.len());
                let orientation = exif.unwrap_or_default();
                return Ok(Header::new(
                    Format::Jpeg,
                    frame.size,
                    orientation,
                    scratch_bytes,
                    0,
                ));
            }
            code => {
                let length = walk.u16_be()? as usize;
                if length < 2 {
                    return Err(walk.malformed("segment shorter than its own length"));
                }
                let body = walk.take(length - 2)?;
                if code == APP1 && exif.is_none() {
                    exif = body.strip_prefix(EXIF_MARK).map(Orientation::from_exif);
                }
            }
        }
    }
}

fn jpeg_frame(walk: &mut Walk<'_>, code: u8, limits: &Limits) -> Result<JpegFrame, CodecError> {
    let length = walk.u16_be()?;
    let precision = walk.u8()?;
    let height = u32::from(walk.u16_be()?);
    let width = u32::from(walk.u16_be()?);
    let components = walk.u8()?;
    let size = Size::new(width, height);
    limits.check(Format::Jpeg, size)?;
    match code {
        0xC0..=0xC2 => {}
        0xC9..=0xCB | 0xCD..=0xCF => return Err(walk.unsupported("arithmetic coding")),
        0xC3 => return Err(walk.unsupported("lossless coding")),
        _ => return Err(walk.unsupported("hierarchical coding")),
    }
    if precision != 8 {
        return Err(walk.unsupported(format!("{precision} bits per sample")));
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(walk.unsupported(format!("{components} colour components")));
    }
    if length != 8 + 3 * u16::from(components) {
        return Err(walk.malformed("frame header of the wrong length"));
    }
    let mut sampling = Vec::with_capacity(usize::from(components));
    for _ in 0..components {
        let part = walk.take(3)?;
        let (h, v) = (u64::from(part[1] >> 4), u64::from(part[1] & 15));
        if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
            return Err(walk.malformed("sampling factor outside 1..=4"));
        }
        sampling.push((h, v));
    }
    Ok(JpegFrame {
        size,
        progressive: code == 0xC2,
        sampling,
    })
}

/// Upper bound of zune-jpeg's buffers: 16-bit samples. Progressive files hold every coefficient; any file holds a row of blocks per component with its upsampling copies.
fn jpeg_scratch(frame: &JpegFrame, file_bytes: usize) -> u64 {
    let h_max = frame.sampling.iter().map(|s| s.0).max().unwrap_or(1);
    let v_max = frame.sampling.iter().map(|s| s.1).max().unwrap_or(1);
    let mcus_x = u64::from(frame.size.width).div_ceil(8 * h_max);
    let mcus_y = u64::from(frame.size.height).div_ceil(8 * v_max);
    let mut samples = 0;
    for &(h, v) in &frame.sampling {
        let stride = mcus_x * 8 * h;
        let ratio = (h_max / h).max(1) * (v_max / v).max(1);
        // raw rows, previous and current line, first upsampled line, upsampled rows (twice for odd ratios).
        samples += stride * v * 8 + 2 * stride * v + stride * v * ratio + 2 * stride * ratio * 8;
        if frame.progressive {
            samples += mcus_x * mcus_y * 64 * h * v;
        }
    }
    let upsampling = mcus_x * 8 * h_max * 8;
    // The decoder copies metadata segments (profiles, EXIF, XMP) out of the file, XMP twice.
    2 * (samples + upsampling) + 2 * file_bytes as u64 + FIXED_SCRATCH
}

fn probe_png(bytes: &[u8], limits: &Limits) -> Result<Header, CodecError> {
    let mut walk = Walk::new(bytes, 8, Format::Png);
    let length = walk.u32_be()?;
    if walk.take(4)? != b"IHDR" || length != 13 {
        return Err(walk.malformed("does not start with a 13-byte IHDR"));
    }
    let size = Size::new(walk.u32_be()?, walk.u32_be()?);
    let (depth, colour) = (walk.u8()?, walk.u8()?);
    let _compression_filter_interlace_crc = walk.take(3 + 4)?;
    limits.check(Format::Png, size)?;
    let samples = match (colour, depth) {
        (0, 1 | 2 | 4 | 8 | 16) | (3, 1 | 2 | 4 | 8) => 1,
        (2, 8 | 16) => 3,
        (4, 8 | 16) => 2,
        (6, 8 | 16) => 4,
        _ => return Err(walk.malformed(format!("colour type {colour} with depth {depth}"))),
    };
    // The standard has eXIf before the picture data; one after it is not looked for.
    let mut exif = None;
    loop {
        let length = walk.u32_be()? as usize;
        let name = walk.take(4)?;
        match name {
            b"acTL" => {
                return Err(CodecError::Animated {
                    format: Format::Png,
                });
            }
            b"IDAT" => break,
            b"IEND" => return Err(walk.malformed("no picture data")),
            _ => {
                let body = walk.take(length)?;
                let _crc = walk.u32_be()?;
                if name == b"eXIf" && exif.is_none() {
                    exif = Some(Orientation::from_exif(body));
                }
            }
        }
    }
    let row = (u64::from(size.width) * samples * u64::from(depth)).div_ceil(8) + 1;
    let scratch_bytes = png_rows_bytes(row, size) + png_chunks_bytes(bytes.len()) + FIXED_SCRATCH;
    let orientation = exif.unwrap_or_default();
    Ok(Header::new(
        Format::Png,
        size,
        orientation,
        scratch_bytes,
        0,
    ))
}

/// The png crate keeps up to four rows plus its look-back window, grows that buffer by doubling, and holds one
/// transformed row.
fn png_rows_bytes(row: u64, size: Size) -> u64 {
    let window = (4 * row).max(128 * 1024) + 64 * 1024 + 2 * row;
    3 * window + 2 * u64::from(size.width) * 8
}

/// What chunks other than picture data may take; a file with larger ones is refused by the decoder.
pub(super) fn png_chunks_bytes(file_bytes: usize) -> u64 {
    (file_bytes as u64).min(4 * 1024 * 1024)
}

/// What the RIFF container of a WebP file holds.
#[derive(Default)]
struct WebpChunks {
    canvas: Option<Size>,
    lossy: Option<Size>,
    lossless: Option<Size>,
    alpha: bool,
    exif: Option<Orientation>,
}

fn probe_webp(bytes: &[u8], limits: &Limits) -> Result<Header, CodecError> {
    let mut walk = Walk::new(bytes, 4, Format::Webp);
    let riff = walk.u32_le()? as usize;
    walk.take(4)?;
    let end = riff.saturating_add(8);
    let chunks = webp_chunks(&mut walk, end.min(bytes.len()), limits)?;
    if end > bytes.len() {
        return Err(CodecError::Truncated {
            format: Format::Webp,
        });
    }
    let coded = chunks.lossy.or(chunks.lossless);
    let size = coded.ok_or_else(|| walk.malformed("no picture data"))?;
    if chunks.canvas.is_some_and(|canvas| canvas != size) {
        return Err(walk.malformed("canvas and picture differ in size"));
    }
    let scratch_bytes = webp_scratch(size, &chunks, bytes.len());
    let overrun_bytes = if chunks.lossless.is_some() || chunks.alpha {
        webp_overrun(bytes.len())
    } else {
        0
    };
    Ok(Header::new(
        Format::Webp,
        size,
        chunks.exif.unwrap_or_default(),
        scratch_bytes,
        overrun_bytes,
    ))
}

fn webp_chunks(walk: &mut Walk<'_>, end: usize, limits: &Limits) -> Result<WebpChunks, CodecError> {
    let mut found = WebpChunks::default();
    while walk.at + 8 <= end {
        let name = walk.take(4)?;
        let length = walk.u32_le()? as usize;
        let body_at = walk.at;
        match name {
            b"VP8X" => {
                let flags = walk.u32_le()?;
                let size = webp_canvas(walk)?;
                limits.check(Format::Webp, size)?;
                if flags & 0x02 != 0 {
                    return Err(CodecError::Animated {
                        format: Format::Webp,
                    });
                }
                found.canvas = Some(size);
            }
            // A decoder would take one of two pictures, and not the one that memory was reserved for.
            b"VP8 " | b"VP8L" if found.lossy.or(found.lossless).is_some() => {
                return Err(walk.malformed("two pictures"));
            }
            b"VP8 " => found.lossy = Some(vp8_size(walk, limits)?),
            b"VP8L" => found.lossless = Some(vp8l_size(walk, limits)?),
            b"ANIM" | b"ANMF" => {
                return Err(CodecError::Animated {
                    format: Format::Webp,
                });
            }
            b"ALPH" => found.alpha = true,
            _ => {}
        }
        walk.at = body_at;
        let body = walk.take(length)?;
        if name == b"VP8 " {
            vp8_parts::verify(body)?;
        }
        if name == b"EXIF" && found.exif.is_none() {
            let tiff = body.strip_prefix(EXIF_MARK).unwrap_or(body);
            found.exif = Some(Orientation::from_exif(tiff));
        }
        // Chunks are padded to even lengths; the padding of the last one is missing in some files.
        if length % 2 == 1 && walk.at < end {
            walk.take(1)?;
        }
    }
    Ok(found)
}

fn webp_canvas(walk: &mut Walk<'_>) -> Result<Size, CodecError> {
    let b = walk.take(6)?;
    let side = |b: &[u8]| 1 + u32::from_le_bytes([b[0], b[1], b[2], 0]);
    Ok(Size::new(side(&b[..3]), side(&b[3..])))
}

fn vp8_size(walk: &mut Walk<'_>, limits: &Limits) -> Result<Size, CodecError> {
    let b = walk.take(10)?;
    if b[0] & 1 != 0 || b[3..6] != [0x9D, 0x01, 0x2A] {
        return Err(walk.malformed("VP8 data does not start with a key frame"));
    }
    let side = |lo: u8, hi: u8| u32::from(u16::from_le_bytes([lo, hi]) & 0x3FFF);
    let size = Size::new(side(b[6], b[7]), side(b[8], b[9]));
    limits.check(Format::Webp, size)?;
    Ok(size)
}

fn vp8l_size(walk: &mut Walk<'_>, limits: &Limits) -> Result<Size, CodecError> {
    if walk.u8()? != 0x2F {
        return Err(walk.malformed("VP8L data without its signature"));
    }
    let bits = walk.u32_le()?;
    let size = Size::new(1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF));
    limits.check(Format::Webp, size)?;
    Ok(size)
}

/// Bound of image-webp's buffers. Lossy: planes of whole macroblocks and their records, with alpha five bytes a pixel more.
/// Lossless: a copy of the picture where the file has no alpha, transforms and entropy image, and Huffman tables in
/// proportion to the bytes that describe them. Hostile tables can exceed this share, real encoders stay far below it: what goes beyond
/// is ended by [`super::metered`], within [`webp_overrun`].
fn webp_scratch(size: Size, chunks: &WebpChunks, file_bytes: usize) -> u64 {
    let pixels = size.pixels();
    let file = file_bytes as u64;
    let coded = if chunks.lossy.is_some() {
        let blocks = u64::from(size.width).div_ceil(16) * u64::from(size.height).div_ceil(16);
        let alpha = if chunks.alpha {
            5 * pixels + pixels / 2 + 8 * file
        } else {
            0
        };
        // The last partition is read into a vector that doubles as it grows, and copied from there.
        blocks * (256 + 128 + 64) + alpha + 4 * file
    } else {
        4 * pixels + 2 * pixels + 16 * file
    };
    coded + u64::from(size.width) * 64 + FIXED_SCRATCH
}

/// What a lossless WebP may take between two looks of [`super::metered`]: the tables of a few bytes, and one doubling of the list of
/// table groups. A group is 280 bytes of that list and at least 20 bits of the file, and 65,536 of them are all there can be.
fn webp_overrun(file_bytes: usize) -> u64 {
    const TABLES: u64 = 512 * 1024;
    const LIST_MAX: u64 = 18 << 20;
    TABLES + (256 * file_bytes as u64).min(LIST_MAX)
}
