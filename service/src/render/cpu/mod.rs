//! Rendering on the CPU: axis tables, the kernels and the scalar reference they are checked against.
//!
//! [`CpuRenderer`] owns the buffers that a thread reuses from frame to frame; it knows no threads and no queue.

pub mod axis;
pub mod portable;
pub mod reference;

#[cfg(test)]
mod tests;

use axis::Axis;
pub use portable::flatten_over_black;

use super::view::{ViewTransform, Window};
use super::{PixelsMut, PixelsRef, Renderer, Size};

/// Draws with the portable kernel; keeps tables and a row between calls.
#[derive(Debug, Default)]
pub struct CpuRenderer {
    x: Axis,
    y: Axis,
    row: Vec<u8>,
    sums: Vec<u32>,
}

impl CpuRenderer {
    /// Bytes of the buffers that are kept.
    pub fn held_bytes(&self) -> usize {
        self.x.held_bytes() + self.y.held_bytes() + self.row.capacity() + self.sums.capacity() * 4
    }
}

impl Renderer for CpuRenderer {
    fn resample(&mut self, src: PixelsRef<'_>, view: &ViewTransform, mut out: PixelsMut<'_>) {
        assert!(
            !src.size().is_empty() && !out.size().is_empty(),
            "pictures have pixels"
        );
        if let Some(origin) = whole_pixels(src.size(), view, out.size()) {
            copy(src, origin, &mut out);
        } else {
            self.x.build(view.x, src.size().width, out.size().width);
            self.y.build(view.y, src.size().height, out.size().height);
            portable::resample(
                src,
                &self.x,
                &self.y,
                &mut self.row,
                &mut self.sums,
                &mut out,
            );
        }
        if view.alpha < 255 {
            portable::fade(out.data(), view.alpha);
        }
    }

    fn scratch_bytes(&self, src: Size, view: &ViewTransform, out: Size) -> u64 {
        if whole_pixels(src, view, out).is_some() {
            return 0;
        }
        let axes =
            Axis::bytes(view.x, src.width, out.width) + Axis::bytes(view.y, src.height, out.height);
        axes + u64::from(src.width) * (4 + 16)
    }
}

/// The top left pixel of a window that maps pixel to pixel and lies inside the source.
fn whole_pixels(src: Size, view: &ViewTransform, out: Size) -> Option<(u32, u32)> {
    let origin = |window: Window, side: u32, out: u32| {
        let start = window.start >> 16;
        let exact = window.start & 0xFFFF == 0 && window.length == i64::from(out) << 16;
        (exact && start >= 0 && start + i64::from(out) <= i64::from(side)).then_some(start as u32)
    };
    Some((
        origin(view.x, src.width, out.width)?,
        origin(view.y, src.height, out.height)?,
    ))
}

fn copy(src: PixelsRef<'_>, (x, y): (u32, u32), out: &mut PixelsMut<'_>) {
    if src.size() == out.size() {
        out.data().copy_from_slice(src.data());
        return;
    }
    let (from, len) = (x as usize * 4, out.size().width as usize * 4);
    for row in 0..out.size().height {
        out.row(row)
            .copy_from_slice(&src.row(y + row)[from..from + len]);
    }
}
