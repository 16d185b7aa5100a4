//! JPEG files of every layout that the encoder writes, libjpeg's through Pillow, and headers altered by hand.

use backdrop_service::codec::Size;
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::{Case, Picture};

/// The file of a picture; `configure` may alter what the encoder does. Quality 95, no subsampling.
pub fn file(picture: &Picture, configure: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let data = picture.rgb();
    file_of(picture.size, &data, ColorType::Rgb, configure)
}

fn file_of(
    size: Size,
    data: &[u8],
    colour: ColorType,
    configure: impl FnOnce(&mut Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 95);
    encoder.set_sampling_factor(SamplingFactor::R_4_4_4);
    configure(&mut encoder);
    let (width, height) = (size.width as u16, size.height as u16);
    encoder
        .encode(data, width, height, colour)
        .expect("encodes");
    file
}

/// Place of the first marker of this code.
pub fn marker(file: &[u8], code: u8) -> usize {
    let at = file.windows(2).position(|pair| pair == [0xFF, code]);
    at.expect("the marker")
}

/// What rounding and the cosine transform may alter at quality 95, and what halved colours may.
pub const FINE: u8 = 8;
const COARSE: u8 = 24;

fn layouts(cases: &mut Vec<Case>) {
    use SamplingFactor as S;
    let slope = Picture::slope();
    for (sampling, tolerance) in [
        (S::R_4_4_4, FINE),
        (S::R_4_4_0, COARSE),
        (S::R_4_2_2, COARSE),
        (S::R_4_2_0, COARSE),
        (S::R_4_1_1, 60),
        (S::R_4_1_0, 60),
    ] {
        for progressive in [false, true] {
            for interval in [0, 2] {
                let file = file(&slope, |encoder| {
                    encoder.set_sampling_factor(sampling);
                    encoder.set_progressive(progressive);
                    encoder.set_restart_interval(interval);
                });
                let name =
                    format!("JPEG {sampling:?}, progressive: {progressive}, restarts: {interval}");
                // The encoder gives each colour a scan of its own where it cannot interleave them.
                let apart = matches!(sampling, S::R_4_1_1 | S::R_4_1_0) && !progressive;
                cases.push(if apart {
                    Case::condemned(name, file, "unsupported")
                } else {
                    Case::picture(name, file, slope.clone(), tolerance)
                });
            }
        }
        // And with tables made for the picture.
        let apart = file(&slope, |encoder| {
            encoder.set_sampling_factor(sampling);
            encoder.set_optimized_huffman_tables(true);
        });
        let name = format!("JPEG {sampling:?}, each colour in a scan of its own");
        cases.push(Case::condemned(name, apart, "unsupported"));
    }
}

fn colours(cases: &mut Vec<Case>) {
    let slope = Picture::slope();
    let (pixels, _) = slope.pixels.as_chunks::<4>();
    let grey: Vec<u8> = pixels.iter().map(|pixel| pixel[0]).collect();
    let shown = Picture::new(slope.size, |x, y| {
        let [v, ..] = slope.pixel(x, y);
        [v, v, v, 255]
    });
    let file = file_of(slope.size, &grey, ColorType::Luma, |_| {});
    cases.push(Case::picture("JPEG grey", file, shown, FINE));

    let inks: Vec<u8> = pixels
        .iter()
        .flat_map(|&[r, g, b, _]| [255 - r, 255 - g, 255 - b, 0])
        .collect();
    for (name, colour) in [
        ("JPEG CMYK", ColorType::Cmyk),
        ("JPEG YCCK", ColorType::CmykAsYcck),
    ] {
        for progressive in [false, true] {
            let file = file_of(slope.size, &inks, colour, |encoder| {
                encoder.set_progressive(progressive);
            });
            let name = format!("{name}, progressive: {progressive}");
            cases.push(Case::picture(name, file, slope.clone(), COARSE));
        }
    }
    let mut unmarked = file_of(slope.size, &inks, ColorType::Cmyk, |_| {});
    let adobe = marker(&unmarked, 0xEE);
    unmarked.drain(adobe..adobe + 16);
    let answered = super::Expected::Answered;
    cases.push(Case::new(
        "JPEG CMYK that does not say so",
        unmarked,
        answered,
    ));
}

/// Made by Pillow, that is by libjpeg-turbo: see `make.py`.
fn others(cases: &mut Vec<Case>) {
    let shown = Picture::new(Size::new(48, 32), super::picture::slope);
    for (name, file) in [
        (
            "JPEG progressive by libjpeg",
            include_bytes!("../fixtures/progressive.jpg").as_slice(),
        ),
        (
            "JPEG with tables of its own by libjpeg",
            include_bytes!("../fixtures/optimised.jpg"),
        ),
        (
            "JPEG CMYK by libjpeg",
            include_bytes!("../fixtures/cmyk.jpg"),
        ),
    ] {
        cases.push(Case::picture(name, file.to_vec(), shown.clone(), COARSE));
    }
}

fn appended(cases: &mut Vec<Case>) {
    let slope = Picture::slope();
    let plain = file(&slope, |_| {});
    let mut zip = plain.clone();
    zip.extend(b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a");
    zip.extend(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\x1F\0\0\0\0\0");
    cases.push(Case::picture(
        "JPEG and ZIP",
        zip.clone(),
        slope.clone(),
        FINE,
    ));
    let from = plain.len();
    let turned = [&zip[from..], &zip[..from]].concat();
    cases.push(Case::condemned("ZIP and JPEG", turned, "unknown format"));
    let profile = file(&slope, |encoder| {
        encoder.add_icc_profile(&[0x5A; 100_000]).expect("fits");
    });
    cases.push(Case::picture(
        "JPEG with a profile",
        profile,
        slope.clone(),
        FINE,
    ));
    let script = file(&slope, |encoder| {
        let text = b"<script>alert(1)</script>".to_vec();
        encoder.add_app_segment(13, text).expect("fits");
    });
    cases.push(Case::picture("JPEG with a script", script, slope, FINE));
}

fn claims(width: u16, height: u16) -> Vec<u8> {
    let mut file = file(&Picture::slope(), |_| {});
    let at = marker(&file, 0xC0);
    file[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    file[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    file
}

fn altered(cases: &mut Vec<Case>) {
    for (width, height, why) in [
        (60_000, 60_000, "too large"),
        (65_535, 65_535, "too large"),
        (0, 9, "zero size"),
        (9, 0, "zero size"),
    ] {
        let name = format!("JPEG that claims {width}x{height}");
        cases.push(Case::condemned(name, claims(width, height), why));
    }
    cases.push(Case::broken(
        "JPEG with less data than claimed",
        claims(45, 4000),
    ));
    let plain = file(&Picture::slope(), |_| {});
    let at = marker(&plain, 0xC0);
    for (code, why) in [
        (0xC3, "unsupported"),
        (0xC5, "unsupported"),
        (0xC9, "unsupported"),
        (0xCB, "unsupported"),
    ] {
        let mut file = plain.clone();
        file[at + 1] = code;
        let name = format!("JPEG with a frame header {code:X}");
        cases.push(Case::condemned(name, file, why));
    }
    let with = |offset: usize, value: u8| {
        let mut file = plain.clone();
        file[at + offset] = value;
        file
    };
    cases.push(Case::condemned(
        "JPEG of 12 bits",
        with(4, 12),
        "unsupported",
    ));
    cases.push(Case::condemned(
        "JPEG of two colours",
        with(9, 2),
        "unsupported",
    ));
    cases.push(Case::condemned(
        "JPEG sampled zero times",
        with(11, 0x01),
        "malformed",
    ));
    cases.push(Case::condemned(
        "JPEG sampled five times",
        with(11, 0x51),
        "malformed",
    ));
    let headless = [&plain[..2], &plain[marker(&plain, 0xDA)..]].concat();
    cases.push(Case::condemned(
        "JPEG without a frame",
        headless,
        "malformed",
    ));
    let twice = [&plain[..at], &plain[at..at + 19], &plain[at..]].concat();
    cases.push(Case::condemned("JPEG with two frames", twice, "malformed"));
    let scan = marker(&plain, 0xDA);
    for (name, drop) in [
        ("JPEG without Huffman tables", 0xC4),
        ("JPEG without quantisation tables", 0xDB),
    ] {
        let mut file = plain.clone();
        while let Some(at) = file[..scan.min(file.len())]
            .windows(2)
            .position(|pair| pair == [0xFF, drop])
        {
            let length = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
            file.drain(at..at + 2 + length);
        }
        cases.push(Case::broken(name, file));
    }
    let half = plain.len() - (plain.len() - scan) / 2;
    let early = [&plain[..half], &[0xFF, 0xD9]].concat();
    cases.push(Case::broken("JPEG that ends early", early));
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    layouts(&mut cases);
    colours(&mut cases);
    others(&mut cases);
    appended(&mut cases);
    altered(&mut cases);
    cases
}
