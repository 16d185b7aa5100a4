//! Resampling: rows and pixels weighed by the axes' tables.

use std::arch::x86_64::*;
use std::ops::Range;

use super::vector::{both_lanes, four, load, store};
use crate::render::cpu::axis::{Axis, SHIFT};
use crate::render::cpu::portable;

/// Two rows into `row`, of which `b` has `weight` and `a` what is left.
#[target_feature(enable = "avx2")]
pub(super) fn mix_lines(a: &[u8], b: &[u8], weight: u16, row: &mut [u8]) {
    let factor = _mm256_mullo_epi16(_mm256_set1_epi16(weight as i16), _mm256_set1_epi16(-128));
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks(), b.as_chunks());
    let (row, rest) = row.as_chunks_mut();
    for ((row, a), b) in row.iter_mut().zip(a).zip(b) {
        let mixed = mix(load(a), load(b), factor, factor);
        // SAFETY: this store has no condition.
        unsafe { store::<false>(row, mixed) };
    }
    let weights = [(1 << SHIFT) - weight, weight];
    let lines = [a_rest, b_rest];
    portable::vertical(&|tap| lines[tap], &weights, SHIFT, rest, &mut Vec::new());
}

/// Output `pixels` of a magnifying axis into `target`.
///
/// Eight output pixels span nine source pixels at most: they are picked out of two vectors, one pixel apart.
#[target_feature(enable = "avx2")]
pub(super) fn bilinear(
    row: &[u8],
    origin: usize,
    x: &Axis,
    pixels: Range<usize>,
    target: &mut [u8],
) {
    // Of each pixel's pair of weights the second one, four times.
    let low = [2, 3, 2, 3, 2, 3, 2, 3, 6, 7, 6, 7, 6, 7, 6, 7];
    let high = low.map(|at| at + 8);
    let (low, high) = (both_lanes(&low), both_lanes(&high));
    let (firsts, _) = x.firsts()[pixels.clone()].as_chunks::<8>();
    let (weights, _) = x.weights()[pixels.start * 2..pixels.end * 2].as_chunks::<16>();
    let (targets, rest) = target.as_chunks_mut();
    for ((target, firsts), weights) in targets.iter_mut().zip(firsts).zip(weights) {
        let near = &row[(firsts[0] as usize - origin) * 4..][..36];
        let (a, _) = near.as_chunks();
        let (b, _) = near[4..].as_chunks();
        let steps = _mm256_sub_epi32(load(firsts), _mm256_set1_epi32(firsts[0] as i32));
        let a = _mm256_permutevar8x32_epi32(load(&a[0]), steps);
        let b = _mm256_permutevar8x32_epi32(load(&b[0]), steps);
        let factors = _mm256_mullo_epi16(load(weights), _mm256_set1_epi16(-128));
        let (low, high) = (
            _mm256_shuffle_epi8(factors, low),
            _mm256_shuffle_epi8(factors, high),
        );
        // SAFETY: this store has no condition.
        unsafe { store::<false>(target, mix(a, b, low, high)) };
    }
    let rest_pixels = pixels.end - rest.len() / 4..pixels.end;
    portable::horizontal(row, origin, x, rest_pixels, rest);
}

/// `(a·(256 − w) + b·w + 128) >> 8` of bytes. The factors are `-128·w` for the bytes that `unpacklo` and `unpackhi` take.
///
/// It is `a + (((b − a)·w + 128) >> 8)`, and `mulhrs(x, y)` is `(x·y + 2¹⁴) >> 15`. With the signs turned `w` may be 256.
#[target_feature(enable = "avx2")]
fn mix(a: __m256i, b: __m256i, low: __m256i, high: __m256i) -> __m256i {
    let zero = _mm256_setzero_si256();
    let half = |a, b, factor| {
        let moved = _mm256_mulhrs_epi16(_mm256_sub_epi16(a, b), factor);
        _mm256_add_epi16(a, moved)
    };
    _mm256_packus_epi16(
        half(
            _mm256_unpacklo_epi8(a, zero),
            _mm256_unpacklo_epi8(b, zero),
            low,
        ),
        half(
            _mm256_unpackhi_epi8(a, zero),
            _mm256_unpackhi_epi8(b, zero),
            high,
        ),
    )
}

/// Output `pixels` of any axis into `target`, four pixels after each other, four taps at once: in so many `GROUPS`, or as many as
/// are needed where it is 0.
#[target_feature(enable = "avx2")]
pub(super) fn weighted<const GROUPS: usize>(
    row: &[u8],
    origin: usize,
    x: &Axis,
    pixels: Range<usize>,
    target: &mut [u8],
) {
    let (taps, weights, shift) = (x.taps(), x.weights(), x.shift());
    let groups = match GROUPS {
        0 => taps.div_ceil(4),
        groups => groups,
    };
    // Behind the weights of an output pixel are those of the next one.
    let own: [u16; 4] = std::array::from_fn(|tap| match groups * 4 - 4 + tap < taps {
        true => u16::MAX,
        false => 0,
    });
    let own = four(&own);
    // Red and green of four pixels to the lower half, blue and alpha to the upper one, each as a word.
    let red = [0, -1, 4, -1, 8, -1, 12, -1];
    let channel = |at: i8| red.map(|from: i8| if from < 0 { from } else { from + at });
    let order: [[i8; 8]; 4] = [channel(0), channel(1), channel(2), channel(3)];
    let [r, g, b, a] = order.map(|channel| i64::from_le_bytes(channel.map(|at| at as u8)));
    let order = _mm256_setr_epi64x(r, g, b, a);
    let sums = |pixel: usize| {
        let weights = &weights[pixel * taps..][..groups * 4];
        let samples = &row[(x.firsts()[pixel] as usize - origin) * 4..][..groups * 16];
        let (weights, _) = weights.as_chunks();
        let (samples, _) = samples.as_chunks();
        let mut sum = _mm256_setzero_si256();
        for (group, (samples, weights)) in samples.iter().zip(weights).enumerate() {
            let samples = _mm256_shuffle_epi8(both_lanes(samples), order);
            let weights = match group + 1 == groups {
                true => _mm256_and_si256(four(weights), own),
                false => four(weights),
            };
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(samples, weights));
        }
        sum
    };
    let half = _mm256_set1_epi32(1 << (shift - 1));
    let shift = _mm_cvtsi32_si128(shift as i32);
    let rounded = |a, b| {
        let sum = _mm256_add_epi32(_mm256_hadd_epi32(a, b), half);
        _mm256_srl_epi32(sum, shift)
    };
    let (targets, _) = target.as_chunks_mut::<16>();
    let mut pixel = pixels.start;
    for target in targets {
        if (pixel + 3) * taps + groups * 4 > weights.len() {
            break;
        }
        let words = _mm256_packus_epi32(
            rounded(sums(pixel), sums(pixel + 1)),
            rounded(sums(pixel + 2), sums(pixel + 3)),
        );
        let bytes = _mm256_packus_epi16(words, words);
        let (low, high) = (
            _mm256_castsi256_si128(bytes),
            _mm256_extracti128_si256::<1>(bytes),
        );
        let four = _mm_unpacklo_epi16(low, high);
        // SAFETY: the reference that the pointer comes from is writable for 16 bytes, and the store needs no alignment.
        unsafe { _mm_storeu_si128(target.as_mut_ptr().cast(), four) };
        pixel += 4;
    }
    let rest = &mut target[(pixel - pixels.start) * 4..];
    portable::horizontal(row, origin, x, pixel..pixels.end, rest);
}
