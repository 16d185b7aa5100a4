//! Composites, and copies past the cache.

use std::arch::x86_64::*;

use super::vector::{load, store};
use crate::render::cpu::portable;

/// Blocks of 32 pixels that are asked for before they are needed.
const AHEAD: usize = 8;

/// Copies as many bytes as there are.
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn copy<const STREAM: bool>(from: &[u8], to: &mut [u8]) {
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
pub(super) unsafe fn blend<const STREAM: bool>(
    background: &[u8],
    over: &[u8],
    mask: &[u8],
    to: &mut [u8],
) {
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
