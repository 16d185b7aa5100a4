//! Blurs: running sums along strips, and rows turned into strips and back.

use std::arch::x86_64::*;

use super::vector::{load, store};
use crate::render::cpu::blur::{BoxFilter, Line};

/// Averages along a strip.
#[target_feature(enable = "avx2")]
pub(super) fn average(from: &[Line], filter: &BoxFilter, to: &mut [Line]) {
    let zero = _mm256_setzero_si256();
    let words = |line: &Line| {
        let (bytes, _) = line.as_chunks::<32>();
        let (a, b) = (load(&bytes[0]), load(&bytes[1]));
        [
            _mm256_unpacklo_epi8(a, zero),
            _mm256_unpackhi_epi8(a, zero),
            _mm256_unpacklo_epi8(b, zero),
            _mm256_unpackhi_epi8(b, zero),
        ]
    };
    let last = from.len() - 1;
    let bias = _mm256_set1_epi16(filter.bias as i16);
    let before = _mm256_set1_epi16(filter.reach as i16 + 1);
    let mut sums =
        words(&from[0]).map(|samples| _mm256_add_epi16(_mm256_mullo_epi16(samples, before), bias));
    for at in 1..=filter.reach {
        for (sum, samples) in sums.iter_mut().zip(words(&from[at.min(last)])) {
            *sum = _mm256_add_epi16(*sum, samples);
        }
    }
    let factor = _mm256_set1_epi16(filter.factor as i16);
    let shift = _mm_cvtsi32_si128(filter.shift as i32);
    for (at, to) in to.iter_mut().enumerate() {
        // Known to be the same every time, the multiplication is taken apart into five instructions.
        let factor = std::hint::black_box(factor);
        let means = sums.map(|sum| _mm256_srl_epi16(_mm256_mulhi_epu16(sum, factor), shift));
        let (bytes, _) = to.as_chunks_mut();
        // SAFETY: these stores have no condition.
        unsafe {
            store::<false>(&mut bytes[0], _mm256_packus_epi16(means[0], means[1]));
            store::<false>(&mut bytes[1], _mm256_packus_epi16(means[2], means[3]));
        }
        let enters = words(&from[last.min(at + filter.reach + 1)]);
        let leaves = words(&from[at.saturating_sub(filter.reach)]);
        for (sum, (enters, leaves)) in sums.iter_mut().zip(enters.into_iter().zip(leaves)) {
            *sum = _mm256_sub_epi16(_mm256_add_epi16(*sum, enters), leaves);
        }
    }
}

/// Pixels of sixteen rows into a strip, eight by eight.
#[target_feature(enable = "avx2")]
pub(super) fn turn_in(rows: &[u8], width: usize, strip: &mut [Line]) {
    let (blocks, rest) = strip.as_chunks_mut::<8>();
    for (number, lines) in blocks.iter_mut().enumerate() {
        for half in 0..2 {
            let row = |at: usize| &rows[(half * 8 + at) * width + number * 32..][..32];
            let columns = turn([0, 1, 2, 3, 4, 5, 6, 7].map(|at| load(&row(at).as_chunks().0[0])));
            for (line, column) in lines.iter_mut().zip(columns) {
                let (bytes, _) = line.as_chunks_mut();
                // SAFETY: this store has no condition.
                unsafe { store::<false>(&mut bytes[half], column) };
            }
        }
    }
    for (line, at) in rest.iter_mut().rev().zip((0..width / 4).rev()) {
        for (pixel, row) in line
            .as_chunks_mut::<4>()
            .0
            .iter_mut()
            .zip(rows.chunks(width))
        {
            *pixel = row.as_chunks().0[at];
        }
    }
}

/// A strip into sixteen rows, eight by eight pixels.
#[target_feature(enable = "avx2")]
pub(super) fn turn_out(strip: &[Line], rows: &mut [u8], width: usize) {
    let (blocks, rest) = strip.as_chunks::<8>();
    for (number, lines) in blocks.iter().enumerate() {
        for half in 0..2 {
            let columns = turn(lines.each_ref().map(|line| load(&line.as_chunks().0[half])));
            for (at, column) in columns.into_iter().enumerate() {
                let row = &mut rows[(half * 8 + at) * width + number * 32..][..32];
                // SAFETY: this store has no condition.
                unsafe { store::<false>(&mut row.as_chunks_mut().0[0], column) };
            }
        }
    }
    for (line, at) in rest.iter().rev().zip((0..width / 4).rev()) {
        for (pixel, row) in line.as_chunks::<4>().0.iter().zip(rows.chunks_mut(width)) {
            row.as_chunks_mut().0[at] = *pixel;
        }
    }
}

/// Eight rows of eight pixels as eight columns.
#[target_feature(enable = "avx2")]
fn turn(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Pairs of rows, then fours of them, each half for itself; then the halves.
    let pairs = |a, b| [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
    let fours = |a, b| [_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)];
    let four = |a, b, c, d| {
        let ([low_ab, high_ab], [low_cd, high_cd]) = (pairs(a, b), pairs(c, d));
        let ([p, q], [r, s]) = (fours(low_ab, low_cd), fours(high_ab, high_cd));
        [p, q, r, s]
    };
    let ([a, b, c, d], [e, f, g, h]) = (four(a, b, c, d), four(e, f, g, h));
    [
        _mm256_permute2x128_si256::<0x20>(a, e),
        _mm256_permute2x128_si256::<0x20>(b, f),
        _mm256_permute2x128_si256::<0x20>(c, g),
        _mm256_permute2x128_si256::<0x20>(d, h),
        _mm256_permute2x128_si256::<0x31>(a, e),
        _mm256_permute2x128_si256::<0x31>(b, f),
        _mm256_permute2x128_si256::<0x31>(c, g),
        _mm256_permute2x128_si256::<0x31>(d, h),
    ]
}
