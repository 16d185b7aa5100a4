//! Pixels in, pixels out: a view of a picture, resampled to the size that was asked for.
//!
//! No I/O, no budget, no metrics: the caller brings buffers that are already charged. Of ours only `codec`'s pixel types
//! are known here.
//!
//! # What a resampled pixel is
//! Everything is integer, so that every kernel can be compared bit for bit with [`cpu::reference`].
//!
//! A [`ViewTransform`] is, per axis, a window of the source: `start` and `length` in 1/65536 source pixels, pixel `k`
//! covering `[k·2¹⁶, (k+1)·2¹⁶)`. For `n` output pixels the edges are `e(i) = start + ⌊i·length/n⌋`.
//!
//! * **Minification** (`length > n·2¹⁶`) is an area average: output pixel `i` weighs source pixel `k` by how much of
//!   `[e(i), e(i+1))` it covers. Weights are cut from the running sum `⌊covered·2ᵇ/(e(i+1)−e(i))⌋`, so they add up to `2ᵇ`.
//! * **Magnification** is bilinear around `c(i) = start + ⌊(2i+1)·length/2n⌋ − 2¹⁵`: the pixels `⌊c⌋` and `⌊c⌋+1` get
//!   `2ᵇ − f` and `f`, where `f` is the fraction of `c`, cut to `b` bits.
//! * Outside of the source the nearest edge pixel counts (clamp to edge), whatever moved the window there.
//! * `b` is 8, and 14 where an output pixel covers more than 32 source pixels.
//!
//! The vertical axis goes first, then the horizontal one. After each, a sample is `(Σ weight·sample + 2ᵇ⁻¹) >> b`, eight
//! bits. The four channels are filtered alike, alpha as well (straight, not premultiplied). At last
//! alpha becomes `(alpha·view_alpha + 127) / 255`.

pub mod cpu;
pub mod view;

pub use cpu::CpuRenderer;
pub use view::ViewTransform;

use crate::codec::pixels::{PixelsMut, PixelsRef, Size};

/// Something that can draw a view of a picture. The result is the specification's, bit for bit.
pub trait Renderer {
    /// Draws the window of `src` that `view` names into all of `out`. `view` must have been made for `src`'s size.
    ///
    /// # Panics
    /// When `src` or `out` has no pixels.
    fn resample(&mut self, src: PixelsRef<'_>, view: &ViewTransform, out: PixelsMut<'_>);

    /// Bytes that [`Renderer::resample`] will hold beside its buffers for these sizes.
    fn scratch_bytes(&self, src: Size, view: &ViewTransform, out: Size) -> u64;
}
