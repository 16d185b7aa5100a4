//! The eight orientations in each format, and EXIF data that makes no sense.

use backdrop_service::codec::Size;
use image_webp::ColorType;

use super::{Case, Picture, jpeg, png, webp};

/// EXIF with this orientation, in either byte order.
fn exif(orientation: u16, little: bool) -> Vec<u8> {
    let entry = [0x0112, 3, 0, 1, orientation, 0];
    if little {
        let mut data = b"II*\0\x08\0\0\0\x01\0".to_vec();
        let [tag, kind, _, count, value, rest] = entry.map(u16::to_le_bytes);
        data.extend([tag, kind, count, [0; 2], value, rest, [0; 2], [0; 2]].concat());
        return data;
    }
    let mut data = b"MM\0*\0\0\0\x08\0\x01".to_vec();
    data.extend(entry.map(u16::to_be_bytes).concat());
    data.extend([0; 4]);
    data
}

/// The picture as a file of that orientation stores it, by the words of the standard: what side of what is seen its first row and its first
/// column are.
fn stored(seen: &Picture, orientation: u16) -> Picture {
    let (first_row, first_column) = match orientation {
        1 => ("top", "left"),
        2 => ("top", "right"),
        3 => ("bottom", "right"),
        4 => ("bottom", "left"),
        5 => ("left", "top"),
        6 => ("right", "top"),
        7 => ("right", "bottom"),
        _ => ("left", "bottom"),
    };
    let Size { width, height } = seen.size;
    let size = match first_row {
        "top" | "bottom" => seen.size,
        _ => Size::new(height, width),
    };
    Picture::new(size, |column, row| {
        let (mut x, mut y) = (0, 0);
        for (side, at) in [(first_row, row), (first_column, column)] {
            match side {
                "top" => y = at,
                "bottom" => y = height - 1 - at,
                "left" => x = at,
                _ => x = width - 1 - at,
            }
        }
        seen.pixel(x, y)
    })
}

fn with_jpeg(stored: &Picture, exif: &[u8]) -> Vec<u8> {
    jpeg::file(stored, |encoder| {
        encoder.add_exif_metadata(exif).expect("fits");
    })
}

fn with_png(stored: &Picture, exif: &[u8]) -> Vec<u8> {
    png::slope_with(vec![(b"eXIf", exif.to_vec())], stored)
}

fn with_webp(stored: &Picture, exif: &[u8]) -> Vec<u8> {
    let coded = webp::coded(&webp::lossless(stored, ColorType::Rgba8));
    let flags = webp::ALPHA | webp::EXIF;
    webp::riff(&[
        webp::canvas(flags, stored.size),
        coded,
        (b"EXIF", exif.to_vec()),
    ])
}

type With = fn(&Picture, &[u8]) -> Vec<u8>;
const FORMATS: [(&str, With, u8); 3] = [
    ("JPEG", with_jpeg, jpeg::FINE),
    ("PNG", with_png, 0),
    ("WebP", with_webp, 0),
];

/// Larger than the squares that a picture is turned by, in both directions.
fn seen() -> Picture {
    Picture::new(Size::new(75, 41), |x, y| {
        [(x * 3) as u8, (y * 6) as u8, (x + y) as u8, 255]
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (format, with, tolerance) in FORMATS {
        for orientation in 1..=8 {
            for little in [true, false] {
                let file = with(&stored(&seen(), orientation), &exif(orientation, little));
                let name = format!("{format} of orientation {orientation}, little: {little}");
                cases.push(Case::picture(name, file, seen(), tolerance));
            }
        }
        let mut cut = exif(6, true);
        cut.truncate(15);
        let nonsense = [
            exif(0, true),
            exif(9, false),
            cut,
            vec![],
            b"II*\0\xFF\xFF\xFF\xFF".to_vec(),
            [b"II*\0\x08\0\0\0\xFF\xFF".as_slice(), &[0xFF; 5000]].concat(),
        ];
        for (at, exif) in nonsense.iter().enumerate() {
            let name = format!("{format} with EXIF nonsense {at}");
            cases.push(Case::picture(name, with(&seen(), exif), seen(), tolerance));
        }
    }
    let turned = include_bytes!("../fixtures/orientation-6.jpg").to_vec();
    let shown = Picture::new(Size::new(48, 32), super::picture::slope);
    cases.push(Case::picture(
        "JPEG of orientation 6 by Pillow",
        turned,
        shown,
        24,
    ));
    // Some writers open the WebP chunk as JPEG's is.
    let marked = [b"Exif\0\0".as_slice(), &exif(3, true)].concat();
    let file = with_webp(&stored(&seen(), 3), &marked);
    cases.push(Case::picture("WebP with marked EXIF", file, seen(), 0));
    // With the sides swapped the limits and the reservation are those of the file.
    let wide = Picture::new(Size::new(3000, 2), |x, y| {
        [(x / 12) as u8, (y * 9) as u8, 7, 255]
    });
    for (format, with, tolerance) in FORMATS {
        let file = with(&stored(&wide, 8), &exif(8, true));
        cases.push(Case::picture(
            format!("{format}, wide"),
            file,
            wide.clone(),
            tolerance * 2,
        ));
    }
    cases
}
