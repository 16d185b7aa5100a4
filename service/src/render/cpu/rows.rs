//! What a kernel is: the handful of things that are done to a row of pixels. What they come to is in `render`'s specification.
//!
//! Kernels know rows and tables, no frames: which rows, and which parts of them, is for [`super::frame`] to say.

use std::ops::Range;

use super::axis::Axis;

/// Pixels that a row given to [`Rows::horizontal`] has behind the last one that is needed; what they hold is of no matter.
pub const SLACK: usize = 8;

/// Where finished pixels go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Through the cache, as usual.
    Cached,
    /// Past the cache, where a kernel can.
    Streamed,
}

/// A kernel.
pub trait Rows: Copy {
    /// Weighs the rows that `line` returns for 0, 1, …, as long as `row` each, into `row`. `sums` is a buffer to reuse.
    fn vertical<'a>(
        self,
        line: &impl Fn(usize) -> &'a [u8],
        weights: &[u16],
        shift: u32,
        row: &mut [u8],
        sums: &mut Vec<u32>,
    );

    /// Weighs the pixels of `row`, whose first is source pixel `origin`, into `target`: output `pixels` of the axis.
    fn horizontal(
        self,
        row: &[u8],
        origin: usize,
        x: &Axis,
        pixels: Range<usize>,
        target: &mut [u8],
    );

    /// Multiplies every alpha by `alpha` / 255.
    fn fade(self, pixels: &mut [u8], alpha: u8);

    /// Copies a row to another one of its length.
    fn copy(self, from: &[u8], to: &mut [u8], store: Store);

    /// Composites a row of `mask.len()` pixels.
    fn blend(self, background: &[u8], over: &[u8], mask: &[u8], to: &mut [u8], store: Store);

    /// Comes after the last row: what was streamed is then in order with all that this thread does later.
    fn finish(self);
}
