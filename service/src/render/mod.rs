//! Pixels in, pixels out: a view of a picture, and what is laid over it, drawn at the size that was asked for.
//!
//! No I/O, no budget, no metrics: the caller brings buffers that are already charged. Of ours only `codec`'s pixel types
//! are known here.
//!
//! # Specification
//! `out = lerp(background(view), foreground, mask)`. Everything is integer, so that every kernel, on whatever device, can be
//! compared bit for bit with [`cpu::reference`].
//!
//! ## Background
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
//! alpha becomes `⌊(alpha·view_alpha + 127) / 255⌋`.
//!
//! ## Composite
//! A [`Foreground`] is as large as the frame: RGBA8, straight alpha, and a mask of one byte per pixel, which says how much of it
//! shows. Each of the four channels, alpha as well, is
//! `⌊(background·(255 − mask) + foreground·mask + 127) / 255⌋`: the nearest integer. So a mask of 0 is the background and 255 the
//! foreground, bit for bit, and a kernel need not look at the other one. Without a foreground every mask is 0.
//!
//! ## Blur
//! A blur of radius `r` averages `2r + 1` pixels with equal weights, three times along each row and then three times along each
//! column; outside of the picture its edge pixel counts. After every time a sample is `⌊(Σ sample + r) / (2r + 1)⌋`, the nearest
//! integer, eight bits; all four channels alike.
//!
//! ## What a device needs
//! Weights are whole numbers up to `2ᵇ` and sums stay below `2²²`: 32 bits without sign will do for whatever happens to a pixel.
//! More is needed for edges and centres only, which are two tables per frame ([`cpu::axis`]) and made on the CPU for every device.
//! A kernel is free in its order of work wherever the integers come out the same; `⌊(v + 127) / 255⌋` of such a product sum, for
//! one, is `(t + (t >> 8)) >> 8` with `t = v + 128`.

pub mod blur;
pub mod cpu;
pub mod foreground;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(test)]
mod samples;
pub mod view;

pub use blur::Radius;
pub use cpu::{Blur, CpuRenderer};
pub use foreground::Foreground;
pub use view::ViewTransform;

use crate::codec::pixels::{PixelsMut, PixelsRef, Size};

/// Something that can draw frames. The result is the specification's, bit for bit.
pub trait Renderer {
    /// Draws the window of `background` that `view` names into all of `out`, and `foreground` over it. `view` must have been made
    /// for the background's size.
    ///
    /// # Panics
    /// When `background` or `out` has no pixels, or the foreground has another size than `out`.
    fn composite(
        &mut self,
        background: PixelsRef<'_>,
        view: &ViewTransform,
        foreground: Option<Foreground<'_>>,
        out: PixelsMut<'_>,
    );

    /// [`Renderer::composite`] without a foreground.
    ///
    /// # Panics
    /// As that does.
    fn resample(&mut self, background: PixelsRef<'_>, view: &ViewTransform, out: PixelsMut<'_>) {
        self.composite(background, view, None, out);
    }

    /// Bytes that [`Renderer::composite`] will hold beside its buffers for these sizes, at most.
    fn scratch_bytes(&self, background: Size, view: &ViewTransform, out: Size) -> u64;
}
