//! The kernel for x86-64 CPUs with AVX2: 32 bytes at once, and stores that go past the cache.
//!
//! All unsafe code of `render` is here: loads and stores of vectors, and the steps from code for any CPU into code for this one.
//! What has no vectors of its own (short rests, opacity, sums of three rows and more) is the portable kernel's code, compiled for AVX2.

mod blend;
mod strip;
mod taps;
mod vector;

use std::arch::x86_64::{__m256i, _mm_sfence};
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
        unsafe { strip::average(from, filter, to) }
    }

    /// Rows of `width` bytes into a strip.
    pub fn turn_in(self, rows: &[u8], width: usize, strip: &mut [Line]) {
        if rows.len() != width * ACROSS {
            return portable::turn_in(rows, width, strip);
        }
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { strip::turn_in(rows, width, strip) }
    }

    /// A strip into rows of `width` bytes.
    pub fn turn_out(self, strip: &[Line], rows: &mut [u8], width: usize) {
        if rows.len() != width * ACROSS {
            return portable::turn_out(strip, rows, width);
        }
        // SAFETY: `self` exists, so the CPU has AVX2.
        unsafe { strip::turn_out(strip, rows, width) }
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
                [_, weight] if shift == SHIFT => taps::mix_lines(line(0), line(1), weight, row),
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
                (2, SHIFT) if x.bilinear() => taps::bilinear(row, origin, x, pixels, target),
                (..=4, _) => taps::weighted::<1>(row, origin, x, pixels, target),
                (5..=8, _) => taps::weighted::<2>(row, origin, x, pixels, target),
                _ => taps::weighted::<0>(row, origin, x, pixels, target),
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
        unsafe { blend::copy::<true>(from, to) }
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
                Some(_) => blend::blend::<true>(background, over, mask, to),
                None => blend::blend::<false>(background, over, mask, to),
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
    (store == Store::Streamed && head.is_multiple_of(4) && head <= to.len()).then_some(head)
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
fn fade(pixels: &mut [u8], alpha: u8) {
    portable::fade(pixels, alpha);
}
