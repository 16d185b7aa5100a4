//! One frame, row by row, with any kernel: which pixels are needed, and in which buffer they are made.
//!
//! A background is drawn only where its mask lets it be seen. No table and no buffer grows once the rows begin.

use std::ops::Range;

use super::axis::Axis;
use super::rows::{Rows, SLACK, Store};
use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use crate::render::Foreground;
use crate::render::view::{ViewTransform, Window};

/// Frames from this size on are stored past the cache, where they would only push out what they are made of, and where each of their
/// lines would be read before it is written. On a Zen 3 that takes a fifth to two fifths off a composite alone and costs nothing if all
/// of it is read again at once; half this size and read again, it costs up to four fifths more.
const STREAM_BYTES_MIN: u64 = 2 << 20;

/// Pixels that are hidden together or not at all.
const RUN: usize = 64;

/// Buffers that are kept from frame to frame.
#[derive(Debug, Default)]
pub struct Scratch {
    x: Axis,
    y: Axis,
    /// A row between the two passes.
    row: Vec<u8>,
    /// A row of the background as the frame sees it.
    line: Vec<u8>,
    sums: Vec<u32>,
}

impl Scratch {
    /// Bytes of the buffers.
    pub fn held_bytes(&self) -> usize {
        let rows = self.row.capacity() + self.line.capacity();
        self.x.held_bytes() + self.y.held_bytes() + rows + self.sums.capacity() * 4
    }

    /// Bytes that a frame of these sizes needs at most.
    pub fn bytes(background: Size, view: &ViewTransform, out: Size) -> u64 {
        let line = u64::from(out.width) * 4;
        if whole_pixels(background, view, out).is_some() {
            return line;
        }
        let x = Axis::bytes(view.x, background.width, out.width);
        let y = Axis::bytes(view.y, background.height, out.height);
        x + y + line + u64::from(background.width) * (4 + 16) + SLACK as u64 * 4
    }
}

/// What one frame is made of.
pub struct Scene<'a> {
    /// Picture behind all.
    pub background: PixelsRef<'a>,
    /// What of it is seen.
    pub view: &'a ViewTransform,
    /// What is laid over it.
    pub foreground: Option<Foreground<'a>>,
}

/// Draws `scene` into all of `out`.
pub fn draw<K: Rows>(kernel: K, scene: &Scene<'_>, scratch: &mut Scratch, out: &mut PixelsMut<'_>) {
    let store = match out.size().bytes() >= STREAM_BYTES_MIN {
        true => Store::Streamed,
        false => Store::Cached,
    };
    draw_stored(kernel, scene, scratch, out, store);
}

/// [`draw`], with the choice of how to store left to the caller.
pub fn draw_stored<K: Rows>(
    kernel: K,
    scene: &Scene<'_>,
    scratch: &mut Scratch,
    out: &mut PixelsMut<'_>,
    store: Store,
) {
    let whole = whole_pixels(scene.background.size(), scene.view, out.size());
    if !draw_joined(kernel, scene, out, store) {
        draw_rows(kernel, scene, whole, scratch, out, store);
    }
    if store == Store::Streamed {
        kernel.finish();
    }
}

/// Draws the frame as one long row, if it is nothing else; kernels like them long.
fn draw_joined<K: Rows>(
    kernel: K,
    scene: &Scene<'_>,
    out: &mut PixelsMut<'_>,
    store: Store,
) -> bool {
    let same =
        scene.background.size() == out.size() && *scene.view == ViewTransform::full(out.size());
    let background = scene.background.data();
    match scene.foreground.map(|foreground| foreground.joined()) {
        _ if !same => return false,
        None => kernel.copy(background, out.data(), store),
        Some(None) => return false,
        Some(Some((over, mask))) => kernel.blend(background, over, mask, out.data(), store),
    }
    true
}

fn draw_rows<K: Rows>(
    kernel: K,
    scene: &Scene<'_>,
    whole: Option<(u32, u32)>,
    scratch: &mut Scratch,
    out: &mut PixelsMut<'_>,
    store: Store,
) {
    let size = out.size();
    if whole.is_none() {
        prepare(scene, scratch, size);
    }
    let mut line = std::mem::take(&mut scratch.line);
    fit(&mut line, size.width as usize * 4);
    for y in 0..size.height {
        let over = scene
            .foreground
            .map(|foreground| (foreground.pixels_row(y), foreground.mask_row(y)));
        let target = out.row(y);
        let mask = over.map(|(_, mask)| mask);
        let background = match whole.map(|origin| cut(scene.background, origin, size, y)) {
            Some(row) if scene.view.alpha == 255 => row,
            seen => {
                // Nothing comes over it, so there is no need for a line of its own.
                let direct = over.is_none() && store == Store::Cached;
                let into = if direct { &mut *target } else { &mut line[..] };
                match seen {
                    Some(row) => into.copy_from_slice(row),
                    None => resample(kernel, scene.background, scratch, y, mask, into),
                }
                if scene.view.alpha < 255 {
                    kernel.fade(into, scene.view.alpha);
                }
                if direct {
                    continue;
                }
                &line
            }
        };
        match over {
            None => kernel.copy(background, target, store),
            Some((pixels, mask)) => kernel.blend(background, pixels, mask, target, store),
        }
    }
    scratch.line = line;
}

/// Makes the tables, and room for a row.
fn prepare(scene: &Scene<'_>, scratch: &mut Scratch, size: Size) {
    let (from, view) = (scene.background.size(), scene.view);
    scratch.x.build(view.x, from.width, size.width);
    scratch.y.build(view.y, from.height, size.height);
    fit(&mut scratch.row, (scratch.x.span().len() + SLACK) * 4);
}

/// Makes a buffer exactly as long; grows to that and no further.
fn fit(buffer: &mut Vec<u8>, len: usize) {
    buffer.reserve_exact(len.saturating_sub(buffer.len()));
    buffer.resize(len, 0);
}

/// Draws row `y` of the frame's background into `target`, where `mask` lets it be seen; elsewhere anything may remain.
fn resample<K: Rows>(
    kernel: K,
    background: PixelsRef<'_>,
    scratch: &mut Scratch,
    y: u32,
    mask: Option<&[u8]>,
    target: &mut [u8],
) {
    let Scratch {
        x,
        y: rows,
        row,
        sums,
        ..
    } = scratch;
    let (first, weights) = rows.at(y as usize);
    let mut run = |pixels: Range<usize>| {
        let from = x.at(pixels.start).0;
        let bytes = from * 4..(x.at(pixels.end - 1).0 + x.taps()) * 4;
        let (row, _) = row.split_at_mut(bytes.len() + SLACK * 4);
        let mixed = &mut row[..bytes.len()];
        let line = |tap: usize| &background.row((first + tap) as u32)[bytes.clone()];
        match weights
            .iter()
            .position(|&w| u32::from(w) == 1 << rows.shift())
        {
            // One row alone: nothing to mix.
            Some(tap) => mixed.copy_from_slice(line(tap)),
            None => kernel.vertical(&line, weights, rows.shift(), mixed, sums),
        }
        let target = &mut target[pixels.start * 4..pixels.end * 4];
        kernel.horizontal(row, from, x, pixels, target);
    };
    match mask {
        None => run(0..x.len()),
        Some(mask) => visible(mask, run),
    }
}

/// Calls `draw` for each run of pixels in which some of the background may be seen.
fn visible(mask: &[u8], mut draw: impl FnMut(Range<usize>)) {
    let mut start = None;
    for (number, run) in mask.chunks(RUN).enumerate() {
        let hidden = run.iter().fold(255, |all, &mask| all & mask) == 255;
        match (start, hidden) {
            (None, false) => start = Some(number * RUN),
            (Some(from), true) => {
                draw(from..number * RUN);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        draw(from..mask.len());
    }
}

/// The top left pixel of a window that maps pixel to pixel and lies inside the source.
pub fn whole_pixels(src: Size, view: &ViewTransform, out: Size) -> Option<(u32, u32)> {
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

/// Row `y` of what a window sees that begins at `left` and `top` and maps pixel to pixel.
fn cut(background: PixelsRef<'_>, (left, top): (u32, u32), size: Size, y: u32) -> &[u8] {
    &background.row(top + y)[left as usize * 4..][..size.width as usize * 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_a_mask_lets_be_seen() {
        let runs = |mask: &[u8]| {
            let mut found = Vec::new();
            visible(mask, |run| found.push(run));
            found
        };
        let mut mask = vec![255; 5 * RUN + 3];
        assert!(runs(&mask).is_empty());
        mask[RUN] = 254;
        mask[3 * RUN - 1] = 0;
        mask[5 * RUN + 1] = 7;
        assert_eq!(runs(&mask), [RUN..3 * RUN, 5 * RUN..5 * RUN + 3]);
        assert_eq!(runs(&[0]), std::slice::from_ref(&(0..1)));
    }
}
