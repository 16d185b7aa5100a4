//! The kernel that every machine runs.
//!
//! Safe code, shaped so that the compiler vectorises it: eight-bit weights keep every sum within sixteen bits, row loops
//! have a fixed number of taps. Longer filters take a slower path with wider sums. No table is made here. Its parts are inlined
//! wherever they are called, so that another kernel can have them compiled for its own instructions.

use std::ops::Range;

use super::axis::{Axis, SHIFT};
use super::blur::{ACROSS, BoxFilter, Line};
use super::rows::{Rows, Store};

/// The kernel; see the module.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

impl Rows for Portable {
    fn vertical<'a>(
        self,
        line: &impl Fn(usize) -> &'a [u8],
        weights: &[u16],
        shift: u32,
        row: &mut [u8],
        sums: &mut Vec<u32>,
    ) {
        vertical(line, weights, shift, row, sums);
    }

    fn horizontal(
        self,
        row: &[u8],
        origin: usize,
        x: &Axis,
        pixels: Range<usize>,
        target: &mut [u8],
    ) {
        horizontal(row, origin, x, pixels, target);
    }

    fn fade(self, pixels: &mut [u8], alpha: u8) {
        fade(pixels, alpha);
    }

    fn copy(self, from: &[u8], to: &mut [u8], _: Store) {
        to.copy_from_slice(from);
    }

    fn blend(self, background: &[u8], over: &[u8], mask: &[u8], to: &mut [u8], _: Store) {
        blend(background, over, mask, to);
    }

    fn finish(self) {}
}

/// Weighs the rows that `line` returns into `row`.
#[inline(always)]
pub fn vertical<'a>(
    line: &impl Fn(usize) -> &'a [u8],
    weights: &[u16],
    shift: u32,
    row: &mut [u8],
    sums: &mut Vec<u32>,
) {
    match (weights.len(), shift == SHIFT) {
        (2, true) => mix::<2>(line, weights, row),
        (3, true) => mix::<3>(line, weights, row),
        (4, true) => mix::<4>(line, weights, row),
        (5, true) => mix::<5>(line, weights, row),
        (6, true) => mix::<6>(line, weights, row),
        _ => mix_many(line, weights, shift, row, sums),
    }
}

/// `N` rows at once. 255 · 256 + 128 fits sixteen bits, which is what makes eight samples a register.
#[inline(always)]
fn mix<'a, const N: usize>(line: &impl Fn(usize) -> &'a [u8], weights: &[u16], row: &mut [u8]) {
    let len = row.len();
    let lines: [&[u8]; N] = std::array::from_fn(|tap| &line(tap)[..len]);
    let weights: [u16; N] = std::array::from_fn(|tap| weights[tap]);
    for at in 0..len {
        let mut sum = 1 << (SHIFT - 1);
        for tap in 0..N {
            sum += u16::from(lines[tap][at]) * weights[tap];
        }
        row[at] = (sum >> SHIFT) as u8;
    }
}

#[inline(always)]
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
#[inline(always)]
pub fn horizontal(row: &[u8], origin: usize, x: &Axis, pixels: Range<usize>, target: &mut [u8]) {
    match (x.taps(), x.shift() == SHIFT) {
        (1, true) => gather::<1>(row, origin, x, pixels, target),
        (2, true) => gather::<2>(row, origin, x, pixels, target),
        (3, true) => gather::<3>(row, origin, x, pixels, target),
        (4, true) => gather::<4>(row, origin, x, pixels, target),
        (5, true) => gather::<5>(row, origin, x, pixels, target),
        (6, true) => gather::<6>(row, origin, x, pixels, target),
        _ => gather_many(row, origin, x, pixels, target),
    }
}

#[inline(always)]
fn gather<const N: usize>(
    row: &[u8],
    origin: usize,
    x: &Axis,
    pixels: Range<usize>,
    target: &mut [u8],
) {
    let weights = x.weights()[pixels.start * N..pixels.end * N]
        .as_chunks::<N>()
        .0;
    let taps = x.firsts()[pixels].iter().zip(weights);
    let (row, _) = row.as_chunks::<4>();
    for (pixel, (&first, weights)) in target.as_chunks_mut::<4>().0.iter_mut().zip(taps) {
        let first = first as usize - origin;
        let samples = row[first..first + N].iter().map(|&pixel| spread(pixel));
        let sum: u64 = samples
            .zip(weights)
            .map(|(lanes, &w)| lanes * u64::from(w))
            .sum();
        *pixel = gathered(sum + ROUND);
    }
}

/// The lowest bit of eight in each of four lanes of sixteen bits.
const LANES: u64 = 0x0001_0001_0001_0001;
/// Half of what a shift by eight bits cuts off.
const ROUND: u64 = LANES << 7;

/// A pixel's channels in lanes of sixteen bits, in some order: what is done to all four needs one instruction and no vectors.
#[inline(always)]
fn spread(pixel: [u8; 4]) -> u64 {
    let pixel = u64::from(u32::from_le_bytes(pixel));
    (pixel | pixel << 24) & (LANES * 0xFF)
}

/// The upper eight bits of each lane as a pixel again.
#[inline(always)]
fn gathered(lanes: u64) -> [u8; 4] {
    let lanes = (lanes >> 8) & (LANES * 0xFF);
    ((lanes | lanes >> 24) as u32).to_le_bytes()
}

#[inline(always)]
fn gather_many(row: &[u8], origin: usize, x: &Axis, pixels: Range<usize>, target: &mut [u8]) {
    let (row, _) = row.as_chunks::<4>();
    for (i, pixel) in pixels.zip(target.as_chunks_mut::<4>().0) {
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

/// Pixels whose masks are looked at together.
const BLOCK: usize = 16;

/// Composites a row of `mask.len()` pixels.
#[inline(always)]
pub fn blend(background: &[u8], over: &[u8], mask: &[u8], to: &mut [u8]) {
    let (background, _) = background.as_chunks::<4>();
    let (over, _) = over.as_chunks::<4>();
    let (to, _) = to.as_chunks_mut::<4>();
    for (number, to) in to.chunks_mut(BLOCK).enumerate() {
        let block = number * BLOCK..number * BLOCK + to.len();
        let (background, over, mask) = (
            &background[block.clone()],
            &over[block.clone()],
            &mask[block],
        );
        let all = mask.iter().fold(255, |all, &mask| all & mask);
        let any = mask.iter().fold(0, |any, &mask| any | mask);
        match (any, all) {
            (0, _) => to.copy_from_slice(background),
            (_, 255) => to.copy_from_slice(over),
            _ => {
                for (at, to) in to.iter_mut().enumerate() {
                    *to = lerp(background[at], over[at], mask[at]);
                }
            }
        }
    }
}

/// In lanes of sixteen bits; see the specification.
#[inline(always)]
fn lerp(a: [u8; 4], b: [u8; 4], at: u8) -> [u8; 4] {
    let at = u64::from(at);
    let t = spread(a) * (255 - at) + spread(b) * at + ROUND;
    gathered(t + ((t >> 8) & (LANES * 0xFF)))
}

/// Averages along a strip.
#[inline(always)]
pub fn average(from: &[Line], filter: &BoxFilter, to: &mut [Line]) {
    let reach = filter.reach;
    let last = from.len() - 1;
    // The box of the first step, of which all that lies before the strip is its first line.
    let mut sums = from[0].map(|sample| u16::from(sample) * (reach as u16 + 1) + filter.bias);
    for at in 1..=reach {
        for (sum, &sample) in sums.iter_mut().zip(&from[at.min(last)]) {
            *sum += u16::from(sample);
        }
    }
    for (at, to) in to.iter_mut().enumerate() {
        let enters = &from[last.min(at + reach + 1)];
        let leaves = &from[at.saturating_sub(reach)];
        for (channel, sum) in sums.iter_mut().enumerate() {
            let mean = (u32::from(*sum) * u32::from(filter.factor)) >> 16;
            to[channel] = (mean as u16 >> filter.shift) as u8;
            *sum = sum
                .wrapping_add(u16::from(enters[channel]))
                .wrapping_sub(u16::from(leaves[channel]));
        }
    }
}

/// Rows of `width` bytes into a strip.
#[inline(always)]
pub fn turn_in(rows: &[u8], width: usize, strip: &mut [Line]) {
    // A few steps of all rows at a time: the strip as a whole is larger than the nearest cache.
    for (number, lines) in strip.chunks_mut(ACROSS).enumerate() {
        let from = number * ACROSS * 4;
        for (at, row) in rows.chunks(width).enumerate() {
            let (pixels, _) = row[from..from + lines.len() * 4].as_chunks::<4>();
            for (line, pixel) in lines.iter_mut().zip(pixels) {
                line.as_chunks_mut::<4>().0[at] = *pixel;
            }
        }
    }
}

/// A strip into rows of `width` bytes.
#[inline(always)]
pub fn turn_out(strip: &[Line], rows: &mut [u8], width: usize) {
    for (number, lines) in strip.chunks(ACROSS).enumerate() {
        let from = number * ACROSS * 4;
        for (at, row) in rows.chunks_mut(width).enumerate() {
            let (pixels, _) = row[from..from + lines.len() * 4].as_chunks_mut::<4>();
            for (line, pixel) in lines.iter().zip(pixels) {
                *pixel = line.as_chunks::<4>().0[at];
            }
        }
    }
}

/// Multiplies every alpha by `alpha` / 255.
#[inline(always)]
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
