//! What is promised about memory holds: a decode's peak stays within its header's `scratch_bytes`, an encode's within its bounds.
//!
//! Measured by jemalloc, which keeps each thread's peak.

#[path = "support/peak.rs"]
mod peak;

use backdrop_service::codec::{self, Limits, PixelsMut, PixelsRef, Size};
use peak::GRAIN;

#[expect(
    clippy::print_stdout,
    reason = "the figures, for whoever asks with --nocapture"
)]
fn check(what: &str, file: &[u8]) {
    let header = codec::probe(file, &Limits::default()).expect("a picture");
    let mut block = vec![0; header.output_bytes() as usize];
    peak::reset();
    let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
    codec::decode(file, &header, out).expect("decodes");
    let (peak, bound) = (peak::bytes(), header.scratch_bytes);
    assert!(
        peak <= bound + GRAIN,
        "{what} of {}: {peak} bytes, promised {bound}",
        header.size
    );
    println!("{what} of {}: {peak} of {bound}", header.size);
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next() / 8 + 100).collect()
}

fn sizes() -> [Size; 4] {
    [
        Size::new(1, 1),
        Size::new(1920, 1080),
        Size::new(6000, 40),
        Size::new(40, 6000),
    ]
}

#[test]
fn jpeg() {
    use jpeg_encoder::{ColorType as C, SamplingFactor as S};
    for size in sizes() {
        for sampling in [
            S::R_4_4_4,
            S::R_4_2_0,
            S::R_4_2_2,
            S::R_4_4_0,
            S::R_4_1_1,
            S::R_4_1_0,
        ] {
            for progressive in [false, true] {
                for (colour, channels) in [(C::Luma, 1), (C::Rgb, 3), (C::Ycck, 4)] {
                    // The encoder gives each colour a scan of its own there, which is refused.
                    let apart = matches!(sampling, S::R_4_1_1 | S::R_4_1_0);
                    if apart && !progressive && colour != C::Luma {
                        continue;
                    }
                    let mut file = Vec::new();
                    let mut encoder = jpeg_encoder::Encoder::new(&mut file, 80);
                    encoder.set_sampling_factor(sampling);
                    encoder.set_progressive(progressive);
                    let data = noise(size.pixels() as usize * channels);
                    encoder
                        .encode(&data, size.width as u16, size.height as u16, colour)
                        .expect("encodes");
                    check(
                        &format!("JPEG {sampling:?} {colour:?}, progressive: {progressive}"),
                        &file,
                    );
                }
            }
        }
    }
}

#[test]
fn png() {
    use png::{BitDepth as D, ColorType as C};
    for size in sizes() {
        for (colour, depth, pixel) in [
            (C::Rgba, D::Eight, 4),
            (C::Rgba, D::Sixteen, 8),
            (C::Rgb, D::Eight, 3),
            (C::Grayscale, D::Sixteen, 2),
            (C::GrayscaleAlpha, D::Eight, 2),
        ] {
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
            encoder.set_color(colour);
            encoder.set_depth(depth);
            encoder.set_compression(png::Compression::Fast);
            let mut writer = encoder.write_header().expect("header");
            writer
                .write_image_data(&noise(size.pixels() as usize * pixel))
                .expect("encodes");
            writer.finish().expect("ends");
            check(&format!("PNG {colour:?} {depth:?}"), &file);
        }
    }
}

#[test]
fn webp() {
    for size in sizes() {
        for (colour, pixel) in [
            (image_webp::ColorType::Rgba8, 4),
            (image_webp::ColorType::Rgb8, 3),
        ] {
            let mut file = Vec::new();
            let data = noise(size.pixels() as usize * pixel);
            let encoder = image_webp::WebPEncoder::new(&mut file);
            encoder
                .encode(&data, size.width, size.height, colour)
                .expect("encodes");
            check(&format!("WebP {colour:?}"), &file);
        }
    }
}

/// How they were made stands in the codec's own tests.
#[test]
fn lossy_webp() {
    check("lossy WebP", include_bytes!("fixtures/lossy.webp"));
    let with_alpha = include_bytes!("fixtures/lossy-alpha.webp");
    check("lossy WebP with alpha", with_alpha);
}

/// Bits as WebP's lossless coding has them: least significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> at & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    /// A code of one symbol.
    fn one_symbol(&mut self, symbol: u32) {
        self.put(0b101, 3);
        self.put(symbol, 8);
    }

    /// 2,048 symbols of 11 bits each, in 66 bits: a decoder's tree of 64 KiB and its table of 4 KiB.
    fn wide_code(&mut self) {
        const LENGTHS_SENT: u32 = 15;
        self.put(0, 1);
        self.put(LENGTHS_SENT - 4, 4);
        for at in 0..LENGTHS_SENT {
            // The fifteenth is that of the length 11: with it alone, lengths take no bits.
            self.put(u32::from(at == LENGTHS_SENT - 1), 3);
        }
        self.put(1, 1);
        self.put(5, 3);
        self.put(2048 - 2, 12);
    }
}

/// A 4×4 picture whose single entropy pixel claims 65,536 groups of such codes: 4 GiB out of 700 KB.
fn hostile_webp() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x2F, 8);
    bits.put(3, 14);
    bits.put(3, 14);
    bits.put(0, 4);
    bits.put(0, 1); // no transform
    bits.put(1, 1); // a colour cache, of 11 bits
    bits.put(11, 4);
    bits.put(1, 1); // groups, in blocks of 4×4
    bits.put(0, 3);
    bits.put(0, 1); // the entropy image has no cache, and one colour
    for symbol in [255, 255, 0, 0, 0] {
        bits.one_symbol(symbol);
    }
    for _ in 0..65_536 {
        bits.wide_code();
        for _ in 0..4 {
            bits.put(0b0001, 4);
        }
    }
    bits.put(0, 32);
    let mut body = bits.bytes;
    body.resize(body.len().next_multiple_of(2), 0);
    let mut file = b"RIFF".to_vec();
    file.extend((body.len() as u32 + 12).to_le_bytes());
    file.extend(b"WEBPVP8L");
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}

#[test]
fn a_hostile_webp_is_ended_where_its_reservation_ends() {
    let file = hostile_webp();
    let header = codec::probe(&file, &Limits::default()).expect("a picture");
    let mut block = vec![0; header.output_bytes() as usize];
    peak::reset();
    let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
    let outcome = codec::decode(&file, &header, out);
    let (peak, bound) = (peak::bytes(), header.scratch_bytes + GRAIN);
    let Err(codec::CodecError::ScratchExceeded { scratch_bytes, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(peak <= bound, "{peak} bytes, promised {bound}");
    assert!(
        peak > scratch_bytes / 2,
        "it is the tables that ended it: {peak} of {scratch_bytes}"
    );
}

#[test]
fn thumbnails() {
    for size in sizes() {
        let data = noise(size.bytes() as usize);
        let pixels = PixelsRef::new(&data, size).expect("made for this size");
        peak::reset();
        codec::thumbnail(pixels).expect("encodes");
        let (peak, bound) = (peak::bytes(), codec::thumbnail::THUMBNAIL_SCRATCH_BYTES);
        assert!(peak <= bound, "{size}: {peak} bytes, promised {bound}");
    }
}

#[test]
fn encoding() {
    let size = Size::new(1280, 720);
    let mut state = 1u32;
    let mut rough = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let worst: Vec<u8> = (0..size.bytes()).map(|_| rough()).collect();
    for data in [worst, vec![90; size.bytes() as usize]] {
        let pixels = PixelsRef::new(&data, size).expect("made for this size");
        peak::reset();
        let mut file = Vec::new();
        codec::encode_png(pixels, &mut file).expect("encodes");
        let (peak, bound) = (
            peak::bytes(),
            codec::png_bytes_max(size) + codec::png_scratch_bytes(size),
        );
        assert!(peak <= bound + GRAIN, "PNG: {peak} bytes, promised {bound}");
        peak::reset();
        let mut file = Vec::with_capacity(codec::webp_bytes_max(size) as usize);
        codec::encode_webp(pixels, &mut file).expect("encodes");
        let (peak, bound) = (
            peak::bytes(),
            codec::webp_bytes_max(size) + codec::webp_scratch_bytes(size),
        );
        assert!(file.len() as u64 <= codec::webp_bytes_max(size));
        assert!(
            peak <= bound + GRAIN,
            "WebP: {peak} bytes, promised {bound}"
        );
        for quality in [80, 95] {
            peak::reset();
            // With room for the bound the output never grows, which would hold old and new copy side by side.
            let bound = codec::jpeg_bytes_max(size, quality);
            let mut file = Vec::with_capacity(bound as usize);
            codec::encode_jpeg(pixels, quality, &mut file).expect("encodes");
            let peak = peak::bytes();
            assert!(
                peak <= bound + GRAIN,
                "JPEG q{quality}: {peak} bytes, promised {bound}, file {}",
                file.len()
            );
        }
    }
}
