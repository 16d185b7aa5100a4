//! The kernel for x86-64 CPUs with AVX2: 32 bytes at once, and stores that go past the cache.
//!
//! All unsafe code of `render` is here: loads and stores of vectors, and the steps from code for any CPU into code for this one.
//! What has no vectors of its own (short rests, area averages) is the portable kernel's code, compiled for AVX2.

use std::arch::x86_64::*;
use std::ops::Range;

use super::axis::{Axis, SHIFT};
use super::blur::{ACROSS, BoxFilter, Line};
use super::portable;
use super::rows::{Rows, Store};

/// The kernel. One exists only where the CPU has AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The kernel, where the CPU (and the system) can run it.
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// Averages along a strip.
    pub fn average(self, from: &[Line], filter: &BoxFilter, to: &mut [Line]) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { average(from, filter, to) }
    }

    /// Rows of `width` bytes into a strip.
    pub fn turn_in(self, rows: &[u8], width: usize, strip: &mut [Line]) {
        if rows.len() != width * ACROSS {
            return portable::turn_in(rows, width, strip);
        }
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { turn_in(rows, width, strip) }
    }

    /// A strip into rows of `width` bytes.
    pub fn turn_out(self, strip: &[Line], rows: &mut [u8], width: usize) {
        if rows.len() != width * ACROSS {
            return portable::turn_out(strip, rows, width);
        }
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { turn_out(strip, rows, width) }
    }
}

impl Rows for Avx2 {
    fn vertical<'a>(
        self,
        line: &impl Fn(usize) -> &'a [u8],
        weights: &[u16],
        shift: u32,
        row: &mut [u8],
        sums: &mut Vec<u32>,
    ) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe {
            match *weights {
                [_, weight] if shift == SHIFT => mix_lines(line(0), line(1), weight, row),
                _ => vertical(line, weights, shift, row, sums),
            }
        }
    }

    fn horizontal(
        self,
        row: &[u8],
        origin: usize,
        x: &Axis,
        pixels: Range<usize>,
        target: &mut [u8],
    ) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe {
            match (x.taps(), x.shift()) {
                (2, SHIFT) if x.bilinear() => bilinear(row, origin, x, pixels, target),
                (..=4, _) => weighted::<1>(row, origin, x, pixels, target),
                (5..=8, _) => weighted::<2>(row, origin, x, pixels, target),
                _ => weighted::<0>(row, origin, x, pixels, target),
            }
        }
    }

    fn fade(self, pixels: &mut [u8], alpha: u8) {
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { fade(pixels, alpha) }
    }

    fn copy(self, from: &[u8], to: &mut [u8], store: Store) {
        let Some(head) = streamed(to, store) else {
            return to.copy_from_slice(from);
        };
        let (from_head, from) = from.split_at(head);
        let (to_head, to) = to.split_at_mut(head);
        to_head.copy_from_slice(from_head);
        // SAFETY: `self` exists, so the CPU has AVX2, and `to` begins where `streamed` said.
        unsafe { copy::<true>(from, to) }
    }

    fn blend(self, background: &[u8], over: &[u8], mask: &[u8], to: &mut [u8], store: Store) {
        let head = streamed(to, store);
        let (background_head, background) = background.split_at(head.unwrap_or(0));
        let (over_head, over) = over.split_at(head.unwrap_or(0));
        let (mask_head, mask) = mask.split_at(head.unwrap_or(0) / 4);
        let (to_head, to) = to.split_at_mut(head.unwrap_or(0));
        portable::blend(background_head, over_head, mask_head, to_head);
        // SAFETY: `self` exists, so the CPU has AVX2, and with a head `to` begins where `streamed` said.
        unsafe {
            match head {
                Some(_) => blend::<true>(background, over, mask, to),
                None => blend::<false>(background, over, mask, to),
            }
        }
    }

    fn finish(self) {
        // SAFETY: every x86-64 CPU has the instruction; it only orders stores.
        unsafe { _mm_sfence() }
    }
}

/// Bytes before the first address in `to` that can be streamed to; none if `to` shall not be streamed to, or has no such address
/// between two pixels.
fn streamed(to: &[u8], store: Store) -> Option<usize> {
    let head = to.as_ptr().align_offset(size_of::<__m256i>());
    (store == Store::Streamed && head % 4 == 0 && head <= to.len()).then_some(head)
}

#[target_feature(enable = "avx2")]
fn vertical<'a>(
    line: &impl Fn(usize) -> &'a [u8],
    weights: &[u16],
    shift: u32,
    row: &mut [u8],
    sums: &mut Vec<u32>,
) {
    portable::vertical(line, weights, shift, row, sums);
}

#[target_feature(enable = "avx2")]
fn average(from: &[Line], filter: &BoxFilter, to: &mut [Line]) {
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
fn turn_in(rows: &[u8], width: usize, strip: &mut [Line]) {
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
fn turn_out(strip: &[Line], rows: &mut [u8], width: usize) {
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

#[target_feature(enable = "avx2")]
fn fade(pixels: &mut [u8], alpha: u8) {
    portable::fade(pixels, alpha);
}

/// Two rows into `row`, of which `b` has `weight` and `a` what is left.
#[target_feature(enable = "avx2")]
fn mix_lines(a: &[u8], b: &[u8], weight: u16, row: &mut [u8]) {
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
fn bilinear(row: &[u8], origin: usize, x: &Axis, pixels: Range<usize>, target: &mut [u8]) {
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
fn weighted<const GROUPS: usize>(
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

/// Copies as many bytes as there are.
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
unsafe fn copy<const STREAM: bool>(from: &[u8], to: &mut [u8]) {
    let (from, from_rest) = from.as_chunks();
    let (to, to_rest) = to.as_chunks_mut();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: `to` is a whole number of steps of 32 bytes away from its beginning, for which the caller vouches.
        unsafe { store::<STREAM>(to, load(from)) };
    }
    to_rest.copy_from_slice(from_rest);
}

/// Composites a row.
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
unsafe fn blend<const STREAM: bool>(background: &[u8], over: &[u8], mask: &[u8], to: &mut [u8]) {
    let (masks, mask) = mask.as_chunks::<32>();
    let (backgrounds, background) = background.as_chunks::<128>();
    let (overs, over) = over.as_chunks::<128>();
    let (blocks, to) = to.as_chunks_mut::<128>();
    let ones = _mm256_set1_epi8(-1);
    for (at, to) in blocks.iter_mut().enumerate() {
        if let Some(mask) = masks.get(at + AHEAD) {
            let all = load(mask);
            if _mm256_testc_si256(all, ones) == 0 {
                prefetch(&backgrounds[at + AHEAD]);
            }
            if _mm256_testz_si256(all, all) == 0 {
                prefetch(&overs[at + AHEAD]);
            }
        }
        let (background, over, mask) = (&backgrounds[at], &overs[at], &masks[at]);
        let all = load(mask);
        // SAFETY: `to` is a whole number of steps of 128 bytes away from its beginning, for which the caller vouches.
        unsafe {
            if _mm256_testz_si256(all, all) != 0 {
                copy::<STREAM>(background, to);
            } else if _mm256_testc_si256(all, ones) != 0 {
                copy::<STREAM>(over, to);
            } else {
                blend_block::<STREAM>(background, over, mask, to);
            }
        }
    }
    portable::blend(background, over, mask, to);
}

/// Composites 32 pixels.
///
/// `maddubs` takes bytes with and without a sign: of the samples 128 is taken away, and with `m + (255 − m) = 255` no sum
/// leaves sixteen bits. Adding 2¹⁵ gives `t` of the specification, and `(t·257) >> 16` is its `(t + (t >> 8)) >> 8`.
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
unsafe fn blend_block<const STREAM: bool>(
    background: &[u8; 128],
    over: &[u8; 128],
    mask: &[u8; 32],
    to: &mut [u8; 128],
) {
    let repeat = _mm256_setr_epi8(
        0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7,
        7, 7,
    );
    let middle = _mm256_set1_epi8(-128);
    let half = |weights, samples| {
        let sum = _mm256_maddubs_epi16(weights, samples);
        let t = _mm256_add_epi16(sum, _mm256_set1_epi16(i16::MIN));
        _mm256_mulhi_epu16(t, _mm256_set1_epi16(257))
    };
    let (backgrounds, _) = background.as_chunks();
    let (overs, _) = over.as_chunks();
    let (masks, _) = mask.as_chunks();
    let (blocks, _) = to.as_chunks_mut();
    for (((background, over), mask), to) in backgrounds.iter().zip(overs).zip(masks).zip(blocks) {
        let background = _mm256_xor_si256(load(background), middle);
        let over = _mm256_xor_si256(load(over), middle);
        let mask = _mm256_set1_epi64x(i64::from_le_bytes(*mask));
        let mask = _mm256_shuffle_epi8(mask, repeat);
        let rest = _mm256_xor_si256(mask, _mm256_set1_epi8(-1));
        let low = half(
            _mm256_unpacklo_epi8(mask, rest),
            _mm256_unpacklo_epi8(over, background),
        );
        let high = half(
            _mm256_unpackhi_epi8(mask, rest),
            _mm256_unpackhi_epi8(over, background),
        );
        // SAFETY: `to` is a whole number of steps of 32 bytes away from its beginning, for which the caller vouches.
        unsafe { store::<STREAM>(to, _mm256_packus_epi16(low, high)) };
    }
}

/// Blocks of 32 pixels that are asked for before they are needed.
const AHEAD: usize = 8;

/// Asks for a block of pixels to be brought near.
#[target_feature(enable = "avx2")]
fn prefetch(block: &[u8; 128]) {
    let block: *const i8 = block.as_ptr().cast();
    // SAFETY: a prefetch may name any address; this one is within the block.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(block);
        _mm_prefetch::<_MM_HINT_T0>(block.add(64));
    }
}

/// The same sixteen bytes in both halves.
#[target_feature(enable = "avx2")]
fn both_lanes(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: a reference is readable, this one for 16 bytes, and the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// The same four words in all quarters.
#[target_feature(enable = "avx2")]
fn four(words: &[u16; 4]) -> __m256i {
    // SAFETY: a reference is readable, this one for 8 bytes, and the read needs no alignment.
    _mm256_set1_epi64x(unsafe { words.as_ptr().cast::<i64>().read_unaligned() })
}

/// 32 bytes without padding, of which any are valid.
trait Vector {}
impl Vector for [u8; 32] {}
impl Vector for [u16; 16] {}
impl Vector for [u32; 8] {}

#[target_feature(enable = "avx2")]
fn load<T: Vector>(from: &T) -> __m256i {
    const { assert!(size_of::<T>() == size_of::<__m256i>()) };
    // SAFETY: a reference is readable, this one for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

/// Stores 32 bytes. This thread sees what it streamed in order with all else; others do after [`Avx2::finish`].
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
unsafe fn store<const STREAM: bool>(to: &mut [u8; 32], value: __m256i) {
    let to: *mut __m256i = to.as_mut_ptr().cast();
    // SAFETY: what the pointer comes from is writable for 32 bytes. Only streaming needs an alignment, for which the caller vouches.
    unsafe {
        match STREAM {
            true => _mm256_stream_si256(to, value),
            false => _mm256_storeu_si256(to, value),
        }
    }
}
