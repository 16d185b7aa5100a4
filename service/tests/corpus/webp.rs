//! WebP files, lossless by the `image-webp` crate, lossy and everything else of libwebp's by Pillow, in containers made here.

use backdrop_service::codec::Size;
use image_webp::{ColorType, WebPEncoder};

use super::{Case, Picture};

/// A chunk of a container.
pub type Part = (&'static [u8; 4], Vec<u8>);

/// The container of these chunks.
pub fn riff(parts: &[Part]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, part) in parts {
        body.extend_from_slice(*name);
        body.extend((part.len() as u32).to_le_bytes());
        body.extend_from_slice(part);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    let length = (body.len() as u32).to_le_bytes();
    [b"RIFF", &length[..], &body].concat()
}

/// The chunk that says what else there is.
pub fn canvas(flags: u8, size: Size) -> Part {
    let side = |side: u32| (side.wrapping_sub(1)).to_le_bytes()[..3].to_vec();
    let body = [vec![flags, 0, 0, 0], side(size.width), side(size.height)].concat();
    (b"VP8X", body)
}

pub const ALPHA: u8 = 0x10;
pub const PROFILE: u8 = 0x20;
pub const EXIF: u8 = 0x08;
const ANIMATED: u8 = 0x02;

/// The only chunk of a simple file.
pub fn coded(file: &[u8]) -> Part {
    let length = u32::from_le_bytes(file[16..20].try_into().expect("four")) as usize;
    let name = match &file[12..16] {
        b"VP8L" => b"VP8L",
        b"VP8 " => b"VP8 ",
        other => panic!("{other:?}"),
    };
    (name, file[20..20 + length].to_vec())
}

pub fn lossless(picture: &Picture, colour: ColorType) -> Vec<u8> {
    let mut file = Vec::new();
    let data = match colour {
        ColorType::Rgba8 => picture.pixels.clone(),
        _ => picture.rgb(),
    };
    WebPEncoder::new(&mut file)
        .encode(&data, picture.size.width, picture.size.height, colour)
        .expect("encodes");
    file
}

/// The fixtures' picture, and it with less alpha to the right.
fn shown(alpha: bool) -> Picture {
    Picture::new(Size::new(48, 32), |x, y| {
        let [r, g, b, _] = super::picture::slope(x, y);
        [r, g, b, if alpha { (255 - x * 3) as u8 } else { 255 }]
    })
}

fn pictures(cases: &mut Vec<Case>) {
    let slope = Picture::slope();
    for colour in [ColorType::Rgb8, ColorType::Rgba8] {
        let file = lossless(&slope, colour);
        cases.push(Case::picture(
            format!("WebP {colour:?}"),
            file,
            slope.clone(),
            0,
        ));
    }
    for (name, file, alpha, tolerance) in [
        (
            "WebP lossless by libwebp",
            include_bytes!("../fixtures/lossless.webp").as_slice(),
            true,
            0,
        ),
        (
            "WebP lossy by libwebp",
            include_bytes!("../fixtures/lossy-small.webp"),
            false,
            24,
        ),
        (
            "WebP lossy with alpha by libwebp",
            include_bytes!("../fixtures/lossy-small-alpha.webp"),
            true,
            24,
        ),
    ] {
        cases.push(Case::picture(name, file.to_vec(), shown(alpha), tolerance));
    }
    let four = Picture::new(Size::new(48, 32), |x, y| {
        [
            [10, 20, 30, 255],
            [200, 30, 40, 255],
            [9, 220, 80, 255],
            [250, 250, 250, 255],
        ][(x / 5 + y / 3) as usize % 4]
    });
    let indexed = include_bytes!("../fixtures/palette.webp").to_vec();
    cases.push(Case::picture(
        "WebP of four colours by libwebp",
        indexed,
        four,
        0,
    ));
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    pictures(&mut cases);
    let slope = Picture::slope();
    let plain = lossless(&slope, ColorType::Rgba8);
    let vp8l = coded(&plain);
    let picture = |name, parts: &[Part]| Case::picture(name, riff(parts), slope.clone(), 0);
    let profile: Part = (b"ICCP", vec![0x5A; 3001]);
    cases.push(picture(
        "WebP with a profile",
        &[canvas(ALPHA | PROFILE, slope.size), profile, vp8l.clone()],
    ));
    let trailing = [plain.clone(), b"PK\x05\x06".repeat(60)].concat();
    cases.push(Case::picture(
        "WebP with trailing data",
        trailing,
        slope.clone(),
        0,
    ));

    let animated = include_bytes!("../fixtures/animated.webp").to_vec();
    cases.push(Case::condemned(
        "animated WebP by Pillow",
        animated,
        "animated",
    ));
    let head = canvas(ANIMATED, slope.size);
    cases.push(Case::condemned(
        "animated WebP",
        riff(&[head, vp8l.clone()]),
        "animated",
    ));
    for name in [b"ANIM", b"ANMF"] {
        let parts = [canvas(0, slope.size), (name, vec![0; 24]), vp8l.clone()];
        let name = "WebP with an animation it does not own up to";
        cases.push(Case::condemned(name, riff(&parts), "animated"));
    }
    let mut huge = vp8l.clone();
    huge.1[1..5].copy_from_slice(&(0x3FFF_u32 | 0x3FFF << 14).to_le_bytes());
    cases.push(Case::condemned(
        "WebP that claims 16384x16384",
        riff(&[huge]),
        "too large",
    ));
    let vast = Size::new(1 << 24, 1 << 24);
    let parts = [canvas(0, vast), vp8l.clone()];
    cases.push(Case::condemned(
        "WebP with a vast canvas",
        riff(&parts),
        "too large",
    ));
    let mut lossy = coded(include_bytes!("../fixtures/lossy-small.webp"));
    let parts = [canvas(0, Size::new(48, 32)), lossy.clone(), vp8l.clone()];
    cases.push(Case::condemned(
        "WebP of two pictures",
        riff(&parts),
        "malformed",
    ));
    let parts = [canvas(0, Size::new(47, 32)), lossy.clone()];
    cases.push(Case::condemned(
        "WebP off its canvas",
        riff(&parts),
        "malformed",
    ));
    cases.push(Case::condemned(
        "WebP of nothing",
        riff(&[profile_only()]),
        "malformed",
    ));
    let mut long = lossy.clone();
    long.1[2] = 0xFF;
    let name = "lossy WebP with a longer first part than there is";
    cases.push(Case::condemned(name, riff(&[long]), "truncated"));
    // Found by fuzzing: a part of 16 MiB, in a file of some hundred bytes.
    let mut parts = include_bytes!("../fixtures/lossy-small-alpha.webp").to_vec();
    parts[87] ^= 0xFF;
    let name = "lossy WebP with a longer part than there is";
    cases.push(Case::condemned(name, parts, "truncated"));
    lossy.1[6..10].copy_from_slice(&[0xFF, 0x3F, 0xFF, 0x3F]);
    let parts = [lossy.clone()];
    cases.push(Case::condemned(
        "lossy WebP that claims 16383x16383",
        riff(&parts),
        "too large",
    ));
    lossy.1[6..10].copy_from_slice(&[0, 0, 9, 0]);
    cases.push(Case::condemned(
        "lossy WebP without width",
        riff(&[lossy.clone()]),
        "zero size",
    ));
    lossy.1[0] |= 1;
    cases.push(Case::condemned(
        "WebP that is no key frame",
        riff(&[lossy]),
        "malformed",
    ));

    let mut short = vp8l.clone();
    short.1[1..5].copy_from_slice(&(2999_u32 | 1999 << 14 | 1 << 28).to_le_bytes());
    cases.push(Case::broken(
        "WebP with less data than claimed",
        riff(&[short]),
    ));
    let mut noise = vp8l;
    noise.1[5..].fill(0xA7);
    cases.push(Case::broken("WebP of noise", riff(&[noise])));
    cases
}

fn profile_only() -> Part {
    (b"ICCP", vec![0; 9])
}
