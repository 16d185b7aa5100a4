//! Real files, made here, through probe, decode and encode; and files that lie.

use super::*;

fn gradient(size: Size) -> Vec<u8> {
    let mut data = Vec::with_capacity(size.bytes() as usize);
    for y in 0..size.height {
        for x in 0..size.width {
            let of = |at: u32, side: u32| (at * 255 / side.max(2)) as u8;
            data.extend([of(x, size.width), of(y, size.height), 128, 255]);
        }
    }
    data
}

fn jpeg_file(
    size: Size,
    configure: impl FnOnce(&mut jpeg_encoder::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 92);
    configure(&mut encoder);
    let (width, height) = (size.width as u16, size.height as u16);
    encoder
        .encode(
            &gradient(size),
            width,
            height,
            jpeg_encoder::ColorType::Rgba,
        )
        .unwrap();
    file
}

fn png_file(size: Size, colour: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(vec![1, 2, 3, 40, 50, 60]);
        encoder.set_trns(vec![255, 7]);
    }
    encoder
        .write_header()
        .unwrap()
        .write_image_data(data)
        .unwrap();
    file
}

fn webp_file(size: Size, data: &[u8], colour: image_webp::ColorType) -> Vec<u8> {
    let mut file = Vec::new();
    image_webp::WebPEncoder::new(&mut file)
        .encode(data, size.width, size.height, colour)
        .unwrap();
    file
}

fn open(file: &[u8]) -> Result<(Header, Vec<u8>), CodecError> {
    let header = probe(file, &Limits::default())?;
    // Not zeroes: a decoder that leaves pixels alone must show.
    let mut block = vec![0xA5; header.size.bytes() as usize];
    decode(
        file,
        &header,
        PixelsMut::new(&mut block, header.size).unwrap(),
    )?;
    Ok((header, block))
}

fn close(a: &[u8], b: &[u8], tolerance: u8) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= tolerance)
}

#[test]
fn jpegs_of_every_layout_decode() {
    use jpeg_encoder::SamplingFactor as S;
    let size = Size::new(101, 67);
    for sampling in [S::R_4_4_4, S::R_4_2_2, S::R_4_2_0, S::R_4_4_0] {
        for progressive in [false, true] {
            let file = jpeg_file(size, |e| {
                e.set_sampling_factor(sampling);
                e.set_progressive(progressive);
                e.set_restart_interval(3);
            });
            let (header, pixels) = open(&file).unwrap();
            assert_eq!((header.format, header.size), (Format::Jpeg, size));
            assert!(
                close(&pixels, &gradient(size), 24),
                "{sampling:?} {progressive}"
            );
        }
    }
}

#[test]
fn progressive_jpegs_ask_for_their_coefficients() {
    let size = Size::new(640, 480);
    let scratch = |file: &[u8]| probe(file, &Limits::default()).unwrap().scratch_bytes;
    let baseline = scratch(&jpeg_file(size, |_| {}));
    let coefficients = size.pixels() * 2 * 3;
    assert!(baseline < coefficients);
    assert!(scratch(&jpeg_file(size, |e| e.set_progressive(true))) > coefficients);
}

#[test]
fn jpegs_of_other_colours_decode() {
    use jpeg_encoder::ColorType as C;
    for (colour, pixel, expected) in [
        (C::Luma, vec![77], [77, 77, 77, 255]),
        (C::Cmyk, vec![255, 0, 0, 0], [0, 255, 255, 255]),
        // Adobe's way: YCC of the inverted inks (a grey of 127), times K.
        (C::Ycck, vec![128, 128, 128, 128], [64, 64, 64, 255]),
        (C::CmykAsYcck, vec![255, 0, 0, 0], [0, 255, 255, 255]),
    ] {
        let mut file = Vec::new();
        let data = pixel.repeat(256);
        jpeg_encoder::Encoder::new(&mut file, 95)
            .encode(&data, 16, 16, colour)
            .unwrap();
        let (_, pixels) = open(&file).unwrap();
        assert!(
            pixels.iter().skip(3).step_by(4).all(|&a| a == 255),
            "{colour:?}"
        );
        assert!(
            close(&pixels, &expected.repeat(256), 3),
            "{colour:?}: {:?}",
            &pixels[..4]
        );
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_truncated() {
    let size = Size::new(96, 64);
    for progressive in [false, true] {
        let file = jpeg_file(size, |e| e.set_progressive(progressive));
        for end in (3..file.len() - 1)
            .step_by(7)
            .chain([file.len() - 1, file.len() - 2])
        {
            assert_eq!(
                open(&file[..end]),
                Err(CodecError::Truncated {
                    format: Format::Jpeg
                }),
                "cut at {end}"
            );
        }
    }
}

#[test]
fn a_jpeg_that_ends_early_is_an_error_although_it_has_an_end() {
    let size = Size::new(96, 64);
    for interval in [0, 3] {
        let file = jpeg_file(size, |e| e.set_restart_interval(interval));
        let scan = file.windows(2).position(|w| w == [0xFF, 0xDA]).unwrap() + 14;
        for end in scan..file.len() - 3 {
            let mut cut = file[..end].to_vec();
            cut.extend([0xFF, 0xD9]);
            assert!(open(&cut).is_err(), "cut at {end} of {}", file.len());
        }
    }
}

/// The refusal's cause when `segment` stands before the first marker `code` of a small JPEG.
fn jpeg_with(code: u8, segment: &[u8]) -> String {
    let mut file = jpeg_file(Size::new(64, 64), |_| {});
    let at = file.windows(2).position(|w| w == [0xFF, code]).unwrap();
    file.splice(at..at, segment.iter().copied());
    match super::jpeg_scan::verify(&file) {
        Err(CodecError::Malformed { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

/// Each such header of eight bytes would cost a walk over every block there may be.
#[test]
fn a_jpeg_scan_has_one_to_four_components() {
    let none = [0xFF, 0xDA, 0, 6, 0, 0, 63, 0];
    assert_eq!(jpeg_with(0xDA, &none), "0 components, not 1 to 4");
    let mut five = vec![0xFF, 0xDA, 0, 16, 5];
    for component in 1..=5 {
        five.extend([component, 0]);
    }
    five.extend([0, 63, 0]);
    assert_eq!(jpeg_with(0xDA, &five), "5 components, not 1 to 4");
}

#[test]
fn a_jpeg_has_one_frame_header() {
    // The second is larger: scans after it would be walked as those of 60,000 × 60,000 pixels.
    let (high, low) = (0xEA, 0x60);
    let larger = [0xFF, 0xC0, 0, 11, 8, high, low, high, low, 1, 1, 0x11, 0];
    assert_eq!(jpeg_with(0xDA, &larger), "two frame headers");
    let nothing = [0xFF, 0xC0, 0, 8, 8, 0, 8, 0, 8, 0];
    assert_eq!(jpeg_with(0xC0, &nothing), "0 components, not 1 to 4");
}

#[test]
fn bytes_after_the_end_of_a_jpeg_do_not_matter() {
    let mut file = jpeg_file(Size::new(9, 9), |_| {});
    file.extend(b"\xFF\xD8 appended by a phone");
    open(&file).unwrap();
}

#[test]
fn pngs_of_every_colour_type_decode_exactly() {
    use png::{BitDepth as D, ColorType as C};
    let size = Size::new(2, 1);
    for (colour, depth, data, expected) in [
        (
            C::Rgba,
            D::Eight,
            vec![1, 2, 3, 4, 5, 6, 7, 8],
            [1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            C::Rgb,
            D::Eight,
            vec![1, 2, 3, 4, 5, 6],
            [1, 2, 3, 255, 4, 5, 6, 255],
        ),
        (
            C::Grayscale,
            D::Eight,
            vec![9, 200],
            [9, 9, 9, 255, 200, 200, 200, 255],
        ),
        (
            C::GrayscaleAlpha,
            D::Eight,
            vec![9, 10, 200, 11],
            [9, 9, 9, 10, 200, 200, 200, 11],
        ),
        (
            C::Grayscale,
            D::One,
            vec![0b1000_0000],
            [255, 255, 255, 255, 0, 0, 0, 255],
        ),
        (
            C::Indexed,
            D::Eight,
            vec![1, 0],
            [40, 50, 60, 7, 1, 2, 3, 255],
        ),
        (
            C::Rgb,
            D::Sixteen,
            vec![1, 99, 2, 99, 3, 99, 4, 99, 5, 99, 6, 99],
            [1, 2, 3, 255, 4, 5, 6, 255],
        ),
    ] {
        let (header, pixels) = open(&png_file(size, colour, depth, &data)).unwrap();
        assert_eq!((header.format, header.size), (Format::Png, size));
        assert_eq!(pixels, expected, "{colour:?} {depth:?}");
    }
}

#[test]
fn a_png_cut_anywhere_is_an_error() {
    let size = Size::new(40, 30);
    let mut file = Vec::new();
    encode_png(PixelsRef::new(&gradient(size), size).unwrap(), &mut file).unwrap();
    assert_eq!(open(&file).unwrap().1, gradient(size));
    for end in 8..file.len() {
        assert!(open(&file[..end]).is_err(), "cut at {end}");
    }
    let middle = file.len() / 2;
    file[middle] ^= 0x10;
    assert!(open(&file).is_err(), "a flipped bit breaks the checksum");
}

#[test]
fn webp_decodes_exactly_and_cut_files_are_errors() {
    let size = Size::new(33, 21);
    let data = gradient(size);
    let file = webp_file(size, &data, image_webp::ColorType::Rgba8);
    let (header, pixels) = open(&file).unwrap();
    assert_eq!((header.format, header.size), (Format::Webp, size));
    assert_eq!(pixels, data);
    for end in 12..file.len() {
        assert_eq!(
            open(&file[..end]).unwrap_err(),
            CodecError::Truncated {
                format: Format::Webp
            },
            "cut at {end}"
        );
    }
    let packed: Vec<u8> = data.chunks_exact(4).flat_map(|p| p[..3].to_vec()).collect();
    assert_eq!(
        open(&webp_file(size, &packed, image_webp::ColorType::Rgb8))
            .unwrap()
            .1,
        data
    );
    let grey: Vec<u8> = (0..size.pixels()).map(|i| i as u8).collect();
    let pixels = open(&webp_file(size, &grey, image_webp::ColorType::L8))
        .unwrap()
        .1;
    assert_eq!(pixels[4 * 5..][..4], [5, 5, 5, 255]);
}

/// Made by `make.py` beside them: halves of two colours; in the second file the lower half has an alpha of 128.
const LOSSY: [(&[u8], u8); 2] = [
    (include_bytes!("../../tests/fixtures/lossy.webp"), 255),
    (include_bytes!("../../tests/fixtures/lossy-alpha.webp"), 128),
];

#[test]
fn lossy_webp_decodes_with_and_without_alpha_and_cut_files_are_errors() {
    let size = Size::new(1600, 1208);
    for (file, alpha_below) in LOSSY {
        let (header, pixels) = open(file).unwrap();
        assert_eq!((header.format, header.size), (Format::Webp, size));
        let (pixels, _) = pixels.as_chunks::<4>();
        for (at, pixel) in (0u32..).zip(pixels) {
            let (x, y) = (at % size.width, at / size.width);
            let alpha = if y < size.height / 2 {
                255
            } else {
                alpha_below
            };
            assert_eq!(pixel[3], alpha, "at {x}, {y}");
            let expected = if x < size.width / 2 {
                [200, 40, 30]
            } else {
                [20, 60, 180]
            };
            // Colours run into each other where they meet.
            let meeting = x.abs_diff(size.width / 2) < 32;
            assert!(
                meeting || close(&pixel[..3], &expected, 6),
                "{pixel:?} at {x}, {y}"
            );
        }
        for end in (12..file.len()).step_by(97).chain([file.len() - 1]) {
            let truncated = CodecError::Truncated {
                format: Format::Webp,
            };
            assert_eq!(open(&file[..end]), Err(truncated), "cut at {end}");
        }
    }
}

fn patch_jpeg_size(file: &mut [u8], width: u16, height: u16) {
    let at = file.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    file[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    file[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
}

#[test]
fn forged_sizes_are_refused_from_the_header() {
    let limits = Limits::default();
    let too_large = |size| CodecError::TooLarge {
        size,
        pixels_max: 50_000_000,
        side_max: 65_535,
    };
    let huge = Size::new(60_000, 60_000);

    let mut jpeg = jpeg_file(Size::new(8, 8), |_| {});
    patch_jpeg_size(&mut jpeg, 60_000, 60_000);
    assert_eq!(probe(&jpeg, &limits), Err(too_large(huge)));
    patch_jpeg_size(&mut jpeg, 0, 8);
    let size = Size::new(0, 8);
    assert_eq!(
        probe(&jpeg, &limits),
        Err(CodecError::ZeroSize {
            format: Format::Jpeg,
            size
        })
    );

    let mut png = png_file(
        Size::new(1, 1),
        png::ColorType::Grayscale,
        png::BitDepth::Eight,
        &[0],
    );
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    assert_eq!(probe(&png, &limits), Err(too_large(huge)));
    png[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    png[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(
        probe(&png, &limits),
        Err(too_large(Size::new(u32::MAX, u32::MAX)))
    );

    let mut webp = webp_file(Size::new(4, 4), &[0; 16], image_webp::ColorType::L8);
    let at = webp.windows(4).position(|w| w == b"VP8L").unwrap() + 9;
    webp[at..at + 4].copy_from_slice(&(0x3FFFu32 | 0x3FFF << 14).to_le_bytes());
    assert_eq!(
        probe(&webp, &limits),
        Err(too_large(Size::new(16_384, 16_384)))
    );
}

#[test]
fn a_forged_size_within_the_limits_is_an_error_when_decoded() {
    let mut file = jpeg_file(Size::new(64, 64), |_| {});
    patch_jpeg_size(&mut file, 64, 2000);
    assert!(open(&file).is_err());
}

#[test]
fn limits_are_inclusive() {
    let file = png_file(
        Size::new(10, 10),
        png::ColorType::Grayscale,
        png::BitDepth::Eight,
        &[0; 100],
    );
    assert!(probe(&file, &Limits::with_pixels_max(100)).is_ok());
    assert!(matches!(
        probe(&file, &Limits::with_pixels_max(99)),
        Err(CodecError::TooLarge { .. })
    ));
    assert!(Limits::with_pixels_max(0).validate().is_err());
}

#[test]
fn what_is_no_picture_is_told_apart() {
    let limits = Limits::default();
    let text = CodecError::UnknownFormat {
        looks_like_text: true,
    };
    assert_eq!(
        probe(b"hello, this is a text file\n", &limits),
        Err(text.clone())
    );
    assert!(text.to_string().contains("text"));
    assert_eq!(
        probe(&[0, 1, 2, 3], &limits),
        Err(CodecError::UnknownFormat {
            looks_like_text: false
        })
    );
    assert_eq!(
        probe(b"", &limits),
        Err(CodecError::UnknownFormat {
            looks_like_text: false
        })
    );
    assert_eq!(
        probe(b"\xFF\xD8\xFF", &limits),
        Err(CodecError::Truncated {
            format: Format::Jpeg
        })
    );
}

#[test]
fn animations_are_refused() {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 1, 1);
    encoder.set_animated(2, 0).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[0]).unwrap();
    writer.write_image_data(&[1]).unwrap();
    writer.finish().unwrap();
    assert_eq!(
        probe(&file, &Limits::default()),
        Err(CodecError::Animated {
            format: Format::Png
        })
    );

    let mut webp = b"RIFF\x16\0\0\0WEBPVP8X\x0A\0\0\0\x02\0\0\0".to_vec();
    webp.extend([3, 0, 0, 3, 0, 0]);
    assert_eq!(
        probe(&webp, &Limits::default()),
        Err(CodecError::Animated {
            format: Format::Webp
        })
    );
}

#[test]
fn kinds_that_are_not_decoded_are_named() {
    let mut file = jpeg_file(Size::new(8, 8), |_| {});
    let at = file.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    file[at + 1] = 0xC9;
    let unsupported = |what: &str| CodecError::Unsupported {
        format: Format::Jpeg,
        what: what.into(),
    };
    assert_eq!(
        probe(&file, &Limits::default()),
        Err(unsupported("arithmetic coding"))
    );
    file[at + 1] = 0xC1;
    file[at + 4] = 12;
    assert_eq!(
        probe(&file, &Limits::default()),
        Err(unsupported("12 bits per sample"))
    );
}

#[test]
fn encoded_frames_read_back_and_stay_within_their_bounds() {
    let size = Size::new(320, 180);
    let data = gradient(size);
    let pixels = PixelsRef::new(&data, size).unwrap();
    for quality in [0, 30, 80, 95, 255] {
        let mut file = Vec::new();
        encode_jpeg(pixels, quality, &mut file).unwrap();
        assert!(file.len() as u64 <= jpeg_bytes_max(size, quality));
        assert!(
            close(&open(&file).unwrap().1, &data, 40),
            "quality {quality}"
        );
    }
    let mut noise = data.clone();
    let mut state = 1u32;
    for byte in &mut noise {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    let pixels = PixelsRef::new(&noise, size).unwrap();
    for quality in [89, 95] {
        let mut jpeg = Vec::new();
        encode_jpeg(pixels, quality, &mut jpeg).unwrap();
        let bytes = jpeg.len() as u64;
        assert!(
            bytes <= jpeg_bytes_max(size, quality),
            "{bytes} at {quality}"
        );
    }
    let mut png = Vec::new();
    encode_png(pixels, &mut png).unwrap();
    assert!(png.len() as u64 <= png_bytes_max(size), "{}", png.len());
    assert_eq!(open(&png).unwrap().1, noise);
}

#[test]
fn names_and_signatures() {
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("gif"), None);
    assert_eq!(Format::detect(b"GIF89a"), None);
}

proptest::proptest! {
    /// Whatever bytes follow a signature: an answer, never a panic.
    #[test]
    fn garbage_is_answered(kind in 0usize..3, junk in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let heads: [&[u8]; 3] = [b"\xFF\xD8\xFF", b"\x89PNG\r\n\x1a\n\0\0\0\x0DIHDR", b"RIFF\x60\0\0\0WEBPVP8 "];
        let file = [heads[kind], &junk].concat();
        let _ = probe(&file, &Limits::with_pixels_max(10_000)).map(|_| open(&file));
    }

    /// One wrong byte in a real file: a picture or an error, never a panic that escapes.
    #[test]
    fn flipped_bytes_are_answered(at in 0usize..10_000, to in proptest::prelude::any::<u8>(), progressive: bool) {
        let mut file = jpeg_file(Size::new(40, 24), |e| e.set_progressive(progressive));
        let at = at % file.len();
        file[at] = to;
        if probe(&file, &Limits::with_pixels_max(1_000_000)).is_ok() {
            let _ = open(&file);
        }
    }
}
