//! Draws sample backgrounds: a gradient, soft discs, a band and fine noise, different for every number.
//!
//! A picture is a function of its number alone, so that every run and every machine draws the same ones.

use crate::code::{self, Payload};
use crate::picture::Rgb;
use crate::schedule::mix;

/// Pixels of a sample background.
pub const SIZE: (usize, usize) = (1920, 1080);
/// JPEG quality of samples and stamped copies.
pub const QUALITY: u8 = 85;

const DISCS: usize = 7;

struct Disc {
    x: i32,
    y: i32,
    radius: i32,
    colour: [i32; 3],
}

/// Draws background `payload.number` with its code.
pub fn sample(payload: Payload, width: usize, height: usize) -> Rgb {
    let hash = |index: u64| mix(0x6261_636b_6472_6f70, u64::from(payload.number), index);
    let mut picture = Rgb::blank(width, height);
    let corners = [0, 1, 2].map(|index| hue(hash(index)));
    let discs: Vec<Disc> = (0..DISCS as u64)
        .map(|index| disc(&hash, 10 + index * 5, width, height))
        .collect();
    let mut noise = hash(99) | 1;
    for y in 0..height {
        let line = &mut picture.data[y * width * 3..][..width * 3];
        gradient(line, &corners, y, width, height, &mut noise);
        for disc in &discs {
            blend(line, disc, y as i32);
        }
    }
    code::stamp(&mut picture.data, width, height, payload);
    picture
}

fn disc(hash: &impl Fn(u64) -> u64, at: u64, width: usize, height: usize) -> Disc {
    let smaller = width.min(height) as u64;
    Disc {
        x: (hash(at) % width as u64) as i32,
        y: (hash(at + 1) % height as u64) as i32,
        radius: (smaller / 12 + hash(at + 2) % (smaller / 4 + 1)) as i32,
        colour: hue(hash(at + 3)),
    }
}

/// A colour neither too dark nor too light, saturated enough to be told apart.
fn hue(hash: u64) -> [i32; 3] {
    let angle = (hash % 1536) as i32;
    let ramp = |shift: i32| {
        let place = (angle + shift).rem_euclid(1536);
        ((place - 768).abs() - 256).clamp(0, 256)
    };
    [0, 512, 1024].map(|shift| 40 + ramp(shift) * 150 / 256 + (hash >> 32 & 31) as i32)
}

/// Three colours over the picture, with a little noise against banding.
fn gradient(
    line: &mut [u8],
    corners: &[[i32; 3]; 3],
    y: usize,
    width: usize,
    height: usize,
    noise: &mut u64,
) {
    let down = (y * 256 / height) as i32;
    let left = [0, 1, 2].map(|c| (corners[0][c] * (256 - down) + corners[1][c] * down) << 8);
    let right = [0, 1, 2].map(|c| (corners[2][c] * (256 - down) + corners[0][c] * down) << 8);
    let step = [0, 1, 2].map(|c| (right[c] - left[c]) / width as i32);
    let mut value = left;
    for pixel in line.as_chunks_mut::<3>().0 {
        *noise ^= *noise << 13;
        *noise ^= *noise >> 7;
        *noise ^= *noise << 17;
        let grain = (*noise & 7) as i32 - 4;
        for c in 0..3 {
            pixel[c] = ((value[c] >> 16) + grain).clamp(0, 255) as u8;
            value[c] += step[c];
        }
    }
}

/// Half-transparent, as wide as the disc is at this line.
fn blend(line: &mut [u8], disc: &Disc, y: i32) {
    let off = y - disc.y;
    let reach = disc.radius * disc.radius - off * off;
    if reach <= 0 {
        return;
    }
    let half = f64::from(reach).sqrt() as i32;
    let width = (line.len() / 3) as i32;
    let from = (disc.x - half).clamp(0, width) as usize;
    let to = (disc.x + half).clamp(0, width) as usize;
    for pixel in line[from * 3..to * 3].as_chunks_mut::<3>().0 {
        for (value, colour) in pixel.iter_mut().zip(disc.colour) {
            *value = ((i32::from(*value) + colour) / 2) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Crop, Luma, read};
    use crate::picture;
    use crate::truth::Pixels;

    #[test]
    fn samples_are_distinct_reproducible_and_readable() {
        let draw = |number, revision| sample(Payload { number, revision }, 640, 360);
        assert_eq!(draw(3, 1).data, draw(3, 1).data);
        assert_ne!(draw(3, 1).data, draw(4, 1).data);
        for number in [0, 1, 255, 256, 2047] {
            let bytes = picture::encode(&draw(number, 2), QUALITY).unwrap();
            let (luma, width, height) = picture::decode_luma(&bytes).unwrap();
            let seen = read(
                Luma {
                    data: &luma,
                    width,
                    height,
                },
                Crop::FULL,
            );
            assert_eq!(
                seen,
                Pixels::Code {
                    number,
                    revision: 2
                }
            );
        }
    }
}
