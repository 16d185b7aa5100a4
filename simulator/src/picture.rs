//! Pictures in memory: decode JPEG, PNG and WebP, resample, encode JPEG.
//!
//! Knows pixels and formats; neither codes nor files.

use std::io::Cursor;

use thiserror::Error;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use crate::code::Crop;

/// Pixels that a picture may have; larger ones are refused from their header.
const PIXELS_MAX: usize = 100_000_000;

/// Bytes from the end of a file in which a whole JPEG ends; cameras may write something behind it.
const TAIL_BYTES: usize = 64 << 10;

/// A picture, RGB8 sRGB, row-major, width * height * 3 bytes, no row padding.
#[derive(Debug, Clone)]
pub struct Rgb {
    /// Samples.
    pub data: Vec<u8>,
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Rgb {
    /// A black picture.
    pub fn blank(width: usize, height: usize) -> Self {
        Rgb {
            data: vec![0; width * height * 3],
            width,
            height,
        }
    }
}

/// A picture that cannot be read or written.
#[derive(Debug, Error)]
pub enum PictureError {
    /// Neither JPEG, PNG nor WebP.
    #[error("not a JPEG, PNG or WebP picture")]
    Format,
    /// The file is damaged, or of a kind that is not supported.
    #[error("cannot decode the picture: {0}")]
    Decode(String),
    /// The encoder refused.
    #[error("cannot encode the picture: {0}")]
    Encode(String),
    /// More pixels than are sensible.
    #[error("the picture has {width}x{height} pixels, {PIXELS_MAX} at most are read")]
    TooLarge {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
}

fn decode_error(error: impl std::fmt::Display) -> PictureError {
    PictureError::Decode(error.to_string())
}

/// The decoder's own text has what it only passes on in quotes, as Rust writes a string.
fn jpeg_error(error: DecodeErrors) -> PictureError {
    match error {
        DecodeErrors::Format(text) => decode_error(text),
        DecodeErrors::FormatStatic(text) => decode_error(text),
        other => decode_error(other),
    }
}

fn bounded(width: usize, height: usize) -> Result<(), PictureError> {
    match width.checked_mul(height) {
        Some(pixels) if pixels > 0 && pixels <= PIXELS_MAX => Ok(()),
        _ => Err(PictureError::TooLarge { width, height }),
    }
}

/// Encodes as baseline JPEG.
pub fn encode(picture: &Rgb, quality: u8) -> Result<Vec<u8>, PictureError> {
    let error = |error: jpeg_encoder::EncodingError| PictureError::Encode(error.to_string());
    let side = |extent: usize| {
        u16::try_from(extent).map_err(|_| PictureError::Encode(format!("{extent} pixels a side")))
    };
    let mut out = Vec::with_capacity(picture.data.len() / 8);
    let encoder = jpeg_encoder::Encoder::new(&mut out, quality);
    encoder
        .encode(
            &picture.data,
            side(picture.width)?,
            side(picture.height)?,
            jpeg_encoder::ColorType::Rgb,
        )
        .map_err(error)?;
    Ok(out)
}

/// Whether a JPEG has its end marker (EOI, ITU T.81 B.1.1.3) where a whole one has it. The decoder fills what is missing with grey.
fn is_whole(jpeg: &[u8]) -> bool {
    let tail = &jpeg[jpeg.len().saturating_sub(TAIL_BYTES)..];
    tail.windows(2).any(|marker| marker == [0xff, 0xd9])
}

/// Decodes any of the three formats.
pub fn decode(bytes: &[u8]) -> Result<Rgb, PictureError> {
    match bytes {
        [0xff, 0xd8, ..] if !is_whole(bytes) => {
            Err(PictureError::Decode("it is cut off".to_owned()))
        }
        [0xff, 0xd8, ..] => decode_jpeg(bytes, ColorSpace::RGB).map(|(data, width, height)| Rgb {
            data,
            width,
            height,
        }),
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => decode_webp(bytes),
        _ => Err(PictureError::Format),
    }
}

/// Decodes a JPEG's brightness: samples, width, height.
pub fn decode_luma(bytes: &[u8]) -> Result<(Vec<u8>, usize, usize), PictureError> {
    decode_jpeg(bytes, ColorSpace::Luma)
}

fn decode_jpeg(bytes: &[u8], colours: ColorSpace) -> Result<(Vec<u8>, usize, usize), PictureError> {
    let options = DecoderOptions::new_fast().jpeg_set_out_colorspace(colours);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(jpeg_error)?;
    let info = decoder.info().ok_or(PictureError::Format)?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    bounded(width, height)?;
    let data = decoder.decode().map_err(jpeg_error)?;
    if data.len() != width * height * colours.num_components() {
        return Err(PictureError::Decode(
            "unexpected colour components".to_owned(),
        ));
    }
    Ok((data, width, height))
}

fn decode_png(bytes: &[u8]) -> Result<Rgb, PictureError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(decode_error)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    bounded(width, height)?;
    let size = reader.output_buffer_size().ok_or(PictureError::Format)?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(decode_error)?;
    raw.truncate(frame.buffer_size());
    Ok(Rgb {
        data: to_rgb(&raw, frame.color_type.samples()),
        width,
        height,
    })
}

fn decode_webp(bytes: &[u8]) -> Result<Rgb, PictureError> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(decode_error)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    bounded(width, height)?;
    let size = decoder.output_buffer_size().ok_or(PictureError::Format)?;
    let mut raw = vec![0; size];
    decoder.read_image(&mut raw).map_err(decode_error)?;
    let samples = if decoder.has_alpha() { 4 } else { 3 };
    Ok(Rgb {
        data: to_rgb(&raw, samples),
        width,
        height,
    })
}

/// Drops alpha and spreads grey.
fn to_rgb(raw: &[u8], samples: usize) -> Vec<u8> {
    match samples {
        3 => raw.to_vec(),
        4 => raw
            .chunks_exact(4)
            .flat_map(|px| [px[0], px[1], px[2]])
            .collect(),
        _ => raw
            .chunks_exact(samples)
            .flat_map(|px| [px[0]; 3])
            .collect(),
    }
}

/// The largest centred crop of a picture that has the aspect of `width` × `height`.
pub fn cover(picture: &Rgb, width: usize, height: usize) -> Crop {
    let wanted = width as f64 / height as f64;
    let has = picture.width as f64 / picture.height as f64;
    let (crop_width, crop_height) = if has > wanted {
        (wanted / has, 1.0)
    } else {
        (1.0, has / wanted)
    };
    Crop {
        x: (1.0 - crop_width) / 2.0,
        y: (1.0 - crop_height) / 2.0,
        width: crop_width,
        height: crop_height,
    }
}

/// Scales `crop` of a picture to a new size: box filter downwards, bilinear upwards, one axis after the other.
pub fn resample(picture: &Rgb, crop: Crop, width: usize, height: usize) -> Rgb {
    let columns = taps(picture.width, crop.x, crop.width, width);
    let rows = taps(picture.height, crop.y, crop.height, height);
    let mut narrow = vec![0.0_f32; width * picture.height * 3];
    for y in 0..picture.height {
        let line = &picture.data[y * picture.width * 3..][..picture.width * 3];
        for (x, tap) in columns.iter().enumerate() {
            for (index, weight) in tap {
                for channel in 0..3 {
                    narrow[(y * width + x) * 3 + channel] +=
                        weight * f32::from(line[index * 3 + channel]);
                }
            }
        }
    }
    let mut out = Rgb::blank(width, height);
    let mut line = vec![0.0_f32; width * 3];
    for (y, tap) in rows.iter().enumerate() {
        line.fill(0.0);
        for (index, weight) in tap {
            let source = &narrow[index * width * 3..][..width * 3];
            line.iter_mut()
                .zip(source)
                .for_each(|(sum, value)| *sum += weight * value);
        }
        let target = &mut out.data[y * width * 3..][..width * 3];
        target
            .iter_mut()
            .zip(&line)
            .for_each(|(to, from)| *to = (from + 0.5) as u8);
    }
    out
}

/// Source samples and weights of each target sample along one axis.
fn taps(source: usize, from: f64, part: f64, target: usize) -> Vec<Vec<(usize, f32)>> {
    let step = source as f64 * part / target as f64;
    let radius = step.max(1.0);
    (0..target)
        .map(|index| {
            let centre = source as f64 * from + (index as f64 + 0.5) * step;
            let first = (centre - radius).floor() as i64;
            let last = (centre + radius).ceil() as i64;
            let mut tap: Vec<(usize, f32)> = Vec::with_capacity((last - first) as usize);
            for sample in first..=last {
                let weight = 1.0 - ((sample as f64 + 0.5 - centre) / radius).abs();
                if weight > 0.0 {
                    tap.push((sample.clamp(0, source as i64 - 1) as usize, weight as f32));
                }
            }
            let sum: f32 = tap.iter().map(|(_, weight)| weight).sum();
            tap.iter_mut().for_each(|(_, weight)| *weight /= sum);
            tap
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_picture_stays_plain_through_every_step() {
        let mut picture = Rgb::blank(64, 48);
        picture.data.fill(120);
        let crop = cover(&picture, 1920, 1080);
        let scaled = resample(&picture, crop, 192, 108);
        assert!(scaled.data.iter().all(|value| (119..=121).contains(value)));
        let decoded = decode(&encode(&scaled, 90).unwrap()).unwrap();
        assert_eq!((decoded.width, decoded.height), (192, 108));
        assert!(decoded.data.iter().all(|value| (117..=123).contains(value)));
    }

    #[test]
    fn png_with_alpha_loses_its_alpha() {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        writer.finish().unwrap();
        assert_eq!(decode(&bytes).unwrap().data, [1, 2, 3, 5, 6, 7]);
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(matches!(decode(b"hello"), Err(PictureError::Format)));
        assert!(matches!(
            decode(&[0xff, 0xd8, 0xff]),
            Err(PictureError::Decode(_))
        ));
    }
}
