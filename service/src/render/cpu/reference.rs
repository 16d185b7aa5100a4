//! The specification of `render` written down as directly as possible: one pixel at a time, no tables, no fast paths.
//!
//! Slow on purpose. Kernels must agree with it bit for bit.

use crate::codec::pixels::{PixelsMut, PixelsRef};
use crate::render::view::{ViewTransform, Window};

/// Draws like [`crate::render::Renderer::resample`].
pub fn resample(src: PixelsRef<'_>, view: &ViewTransform, mut out: PixelsMut<'_>) {
    let (from, to) = (src.size(), out.size());
    for y in 0..to.height {
        let (rows, shift_y) = weights(view.y, from.height, to.height, y);
        for x in 0..to.width {
            let (columns, shift_x) = weights(view.x, from.width, to.width, x);
            let mut pixel = [0u8; 4];
            for (channel, sample) in pixel.iter_mut().enumerate() {
                let vertical = |column: u32| {
                    let samples = rows
                        .iter()
                        .map(|&(row, w)| w * u64::from(src.pixel(column, row)[channel]));
                    round(samples.sum(), shift_y)
                };
                let samples = columns.iter().map(|&(column, w)| w * vertical(column));
                *sample = round(samples.sum(), shift_x) as u8;
            }
            pixel[3] = ((u32::from(pixel[3]) * u32::from(view.alpha) + 127) / 255) as u8;
            out.row(y)[x as usize * 4..][..4].copy_from_slice(&pixel);
        }
    }
}

fn round(sum: u64, shift: u32) -> u64 {
    (sum + (1 << (shift - 1))) >> shift
}

/// Source pixels of output pixel `i` of `n` with their weights (a pixel may occur twice), and the bits of a weight.
fn weights(window: Window, side: u32, n: u32, i: u32) -> (Vec<(u32, u64)>, u32) {
    let (n, i, last) = (i64::from(n), i64::from(i), i64::from(side) - 1);
    let clamp = |k: i64| k.clamp(0, last) as u32;
    let shift = if window.length > (32 * n) << 16 {
        14
    } else {
        8
    };
    if window.length <= n << 16 {
        let centre = window.start + (2 * i + 1) * window.length / (2 * n) - (1 << 15);
        let k = centre.div_euclid(1 << 16);
        let fraction = (centre.rem_euclid(1 << 16) >> (16 - shift)) as u64;
        return (
            vec![
                (clamp(k), (1 << shift) - fraction),
                (clamp(k + 1), fraction),
            ],
            shift,
        );
    }
    let edge = |i: i64| window.start + i * window.length / n;
    let (from, to) = (edge(i), edge(i + 1));
    let sum = |until: i64| ((until.clamp(from, to) - from) << shift) / (to - from);
    let pixels = clamp(from.div_euclid(1 << 16))..=clamp((to - 1).div_euclid(1 << 16));
    let (low, high) = (*pixels.start(), *pixels.end());
    let weight = |k: u32| {
        let left = if k == low { 0 } else { sum(i64::from(k) << 16) };
        let right = if k == high {
            1 << shift
        } else {
            sum(i64::from(k + 1) << 16)
        };
        (right - left) as u64
    };
    (pixels.map(|k| (k, weight(k))).collect(), shift)
}
