//! The specification of `render` written down as directly as possible: one pixel at a time, no tables, no fast paths.
//!
//! Slow on purpose. Kernels must agree with it bit for bit.

use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use crate::render::view::{ViewTransform, Window};
use crate::render::{Foreground, Radius};

/// Draws like [`crate::render::Renderer::composite`].
pub fn composite(
    background: PixelsRef<'_>,
    view: &ViewTransform,
    foreground: Option<Foreground<'_>>,
    mut out: PixelsMut<'_>,
) {
    let size = out.size();
    for y in 0..size.height {
        for x in 0..size.width {
            let at = x as usize * 4;
            let mut pixel = sample(background, view, size, x, y);
            if let Some(foreground) = foreground {
                let mask = foreground.mask_row(y)[x as usize];
                let over = &foreground.pixels_row(y)[at..at + 4];
                for (sample, &over) in pixel.iter_mut().zip(over) {
                    *sample = lerp(*sample, over, mask);
                }
            }
            out.row(y)[at..at + 4].copy_from_slice(&pixel);
        }
    }
}

/// `a` at 0, `b` at 255, the nearest integer in between.
pub fn lerp(a: u8, b: u8, at: u8) -> u8 {
    let [a, b, at] = [a, b, at].map(u32::from);
    ((a * (255 - at) + b * at + 127) / 255) as u8
}

/// Blurs like [`crate::render::Blur::draw`].
pub fn blur(src: PixelsRef<'_>, radius: Radius, mut out: PixelsMut<'_>) {
    let Size { width, height } = src.size();
    out.data().copy_from_slice(src.data());
    for (dx, dy) in [[(1, 0); 3], [(0, 1); 3]].concat() {
        let before = out.data().to_vec();
        let before = PixelsRef::new(&before, src.size()).expect("a copy of the same size");
        let reach = i64::from(radius.get());
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let mut sums = [0; 4];
            for step in -reach..=reach {
                let column = (i64::from(x) + step * dx).clamp(0, i64::from(width) - 1);
                let row = (i64::from(y) + step * dy).clamp(0, i64::from(height) - 1);
                let pixel = before.pixel(column as u32, row as u32);
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum += u32::from(sample);
                }
            }
            let reach = u32::from(radius.get());
            let pixel = sums.map(|sum| ((sum + reach) / (2 * reach + 1)) as u8);
            out.row(y)[x as usize * 4..][..4].copy_from_slice(&pixel);
        }
    }
}

/// Pixel (`x`, `y`) of the background as a frame of `size` sees it.
fn sample(background: PixelsRef<'_>, view: &ViewTransform, size: Size, x: u32, y: u32) -> [u8; 4] {
    let from = background.size();
    let (rows, shift_y) = weights(view.y, from.height, size.height, y);
    let (columns, shift_x) = weights(view.x, from.width, size.width, x);
    let mut pixel = [0u8; 4];
    for (channel, sample) in pixel.iter_mut().enumerate() {
        let vertical = |column: u32| {
            let samples = rows
                .iter()
                .map(|&(row, w)| w * u64::from(background.pixel(column, row)[channel]));
            round(samples.sum(), shift_y)
        };
        let samples = columns.iter().map(|&(column, w)| w * vertical(column));
        *sample = round(samples.sum(), shift_x) as u8;
    }
    pixel[3] = ((u32::from(pixel[3]) * u32::from(view.alpha) + 127) / 255) as u8;
    pixel
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
