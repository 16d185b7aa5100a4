//! The kernel that every machine runs: vertical pass into one row, horizontal pass out of it.
//!
//! Safe code, shaped so that the compiler vectorises it: eight-bit weights keep every sum within sixteen bits, row loops
//! have a fixed number of taps. Longer filters take a slower path with wider sums. No table is made here.

use super::axis::{Axis, SHIFT};
use crate::codec::pixels::{PixelsMut, PixelsRef};

/// Draws `src` through the two tables into `out`. `row` and `sums` are buffers to reuse.
pub fn resample(
    src: PixelsRef<'_>,
    x: &Axis,
    y: &Axis,
    row: &mut Vec<u8>,
    sums: &mut Vec<u32>,
    out: &mut PixelsMut<'_>,
) {
    let span = x.span();
    let bytes = span.start * 4..span.end * 4;
    row.clear();
    row.resize(bytes.len(), 0);
    for i in 0..y.len() {
        let (first, weights) = y.at(i);
        let line = |tap: usize| &src.row((first + tap) as u32)[bytes.clone()];
        let target = out.row(i as u32);
        match weights.iter().position(|&w| u32::from(w) == 1 << y.shift()) {
            // One row alone: nothing to mix.
            Some(tap) => horizontal(line(tap), span.start, x, target),
            None => {
                vertical(&line, weights, y.shift(), row, sums);
                horizontal(row, span.start, x, target);
            }
        }
    }
}

/// Weighs the rows that `line` returns into `row`.
fn vertical<'a>(
    line: &impl Fn(usize) -> &'a [u8],
    weights: &[u16],
    shift: u32,
    row: &mut [u8],
    sums: &mut Vec<u32>,
) {
    match *weights {
        [a, b] if shift == SHIFT => mix([line(0), line(1)], [a, b], row),
        [a, b, c] if shift == SHIFT => mix([line(0), line(1), line(2)], [a, b, c], row),
        [a, b, c, d] if shift == SHIFT => {
            mix([line(0), line(1), line(2), line(3)], [a, b, c, d], row)
        }
        _ => mix_many(line, weights, shift, row, sums),
    }
}

/// `N` rows at once. 255 · 256 + 128 fits sixteen bits, which is what makes eight samples a register.
#[inline(always)]
fn mix<const N: usize>(lines: [&[u8]; N], weights: [u16; N], row: &mut [u8]) {
    let len = row.len();
    let lines = lines.map(|line| &line[..len]);
    for at in 0..len {
        let mut sum = 1 << (SHIFT - 1);
        for tap in 0..N {
            sum += u16::from(lines[tap][at]) * weights[tap];
        }
        row[at] = (sum >> SHIFT) as u8;
    }
}

fn mix_many<'a>(
    line: &impl Fn(usize) -> &'a [u8],
    weights: &[u16],
    shift: u32,
    row: &mut [u8],
    sums: &mut Vec<u32>,
) {
    sums.clear();
    sums.resize(row.len(), 1 << (shift - 1));
    for (tap, &weight) in weights
        .iter()
        .enumerate()
        .filter(|&(_, &weight)| weight != 0)
    {
        for (sum, &sample) in sums.iter_mut().zip(line(tap)) {
            *sum += u32::from(sample) * u32::from(weight);
        }
    }
    for (sample, sum) in row.iter_mut().zip(sums.iter()) {
        *sample = (sum >> shift) as u8;
    }
}

/// Weighs the pixels of `row`, whose first is source pixel `origin`, into `target`.
fn horizontal(row: &[u8], origin: usize, x: &Axis, target: &mut [u8]) {
    match (x.taps(), x.shift() == SHIFT) {
        (1, true) => gather::<1>(row, origin, x, target),
        (2, true) => gather::<2>(row, origin, x, target),
        (3, true) => gather::<3>(row, origin, x, target),
        (4, true) => gather::<4>(row, origin, x, target),
        (5, true) => gather::<5>(row, origin, x, target),
        (6, true) => gather::<6>(row, origin, x, target),
        _ => gather_many(row, origin, x, target),
    }
}

fn gather<const N: usize>(row: &[u8], origin: usize, x: &Axis, target: &mut [u8]) {
    let taps = x.firsts().iter().zip(x.weights().as_chunks::<N>().0);
    let (row, _) = row.as_chunks::<4>();
    for (pixel, (&first, weights)) in target.as_chunks_mut::<4>().0.iter_mut().zip(taps) {
        let first = first as usize - origin;
        let samples = &row[first..first + N];
        let mut sums = [1u16 << (SHIFT - 1); 4];
        for tap in 0..N {
            for channel in 0..4 {
                sums[channel] += u16::from(samples[tap][channel]) * weights[tap];
            }
        }
        *pixel = sums.map(|sum| (sum >> SHIFT) as u8);
    }
}

fn gather_many(row: &[u8], origin: usize, x: &Axis, target: &mut [u8]) {
    let (row, _) = row.as_chunks::<4>();
    for (i, pixel) in target.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let (first, weights) = x.at(i);
        let mut sums = [1u32 << (x.shift() - 1); 4];
        for (sample, &weight) in row[first - origin..].iter().zip(weights) {
            for channel in 0..4 {
                sums[channel] += u32::from(sample[channel]) * u32::from(weight);
            }
        }
        *pixel = sums.map(|sum| (sum >> x.shift()) as u8);
    }
}

/// Multiplies every alpha by `alpha` / 255.
pub fn fade(pixels: &mut [u8], alpha: u8) {
    for pixel in pixels.as_chunks_mut::<4>().0 {
        pixel[3] = ((u32::from(pixel[3]) * u32::from(alpha) + 127) / 255) as u8;
    }
}

/// Multiplies colours by their alpha and makes them opaque: what remains over black.
pub fn flatten_over_black(pixels: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<4>();
    if pixels.iter().fold(255, |all, pixel| all & pixel[3]) == 255 {
        return;
    }
    for pixel in pixels {
        let alpha = u32::from(pixel[3]);
        let over = |sample: u8| ((u32::from(sample) * alpha + 127) / 255) as u8;
        *pixel = [over(pixel[0]), over(pixel[1]), over(pixel[2]), 255];
    }
}
