//! One axis of a resampling as a table: for each output pixel its first source pixel and its weights.
//!
//! Knows the formulas of the specification in `render`, not pixels. Every output pixel has the same number of taps,
//! padded with zero weights, and all of its taps lie inside the source: kernels need neither clamping nor branches.

use crate::render::view::Window;

/// Weights add up to `1 << SHIFT` …
pub const SHIFT: u32 = 8;
/// … or to `1 << SHIFT_LONG` where an output pixel covers more than [`LONG`] source pixels.
pub const SHIFT_LONG: u32 = 14;
/// Most source pixels per output pixel that eight-bit weights serve.
pub const LONG: i64 = 32;

/// The table; see the module.
#[derive(Debug, Default)]
pub struct Axis {
    first: Vec<u32>,
    weights: Vec<u16>,
    taps: usize,
    shift: u32,
    bilinear: bool,
}

impl Axis {
    /// Fills the table for `window` of a source of `side` pixels and `n` output pixels, both at least one.
    pub fn build(&mut self, window: Window, side: u32, n: u32) {
        self.taps = taps(window, side, n);
        self.shift = shift(window, n);
        self.bilinear = window.length <= i64::from(n) << 16;
        self.first.clear();
        self.first.reserve_exact(n as usize);
        self.weights.clear();
        self.weights.reserve_exact(n as usize * self.taps);
        self.weights.resize(n as usize * self.taps, 0);
        for i in 0..n {
            let weights = &mut self.weights[i as usize * self.taps..][..self.taps];
            let first = if self.bilinear {
                bilinear(window, side, n, i, self.shift, weights)
            } else {
                average(window, side, n, i, self.shift, weights)
            };
            self.first.push(first);
        }
    }

    /// Taps of every output pixel.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Bits of a weight.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// True where pixels are magnified, by a factor of one at least: of neighbouring output pixels the first source pixels are the
    /// same or neighbours.
    pub fn bilinear(&self) -> bool {
        self.bilinear
    }

    /// Number of output pixels.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// True before the first [`Axis::build`].
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// First source pixel and weights of output pixel `i`.
    pub fn at(&self, i: usize) -> (usize, &[u16]) {
        (
            self.first[i] as usize,
            &self.weights[i * self.taps..][..self.taps],
        )
    }

    /// First source pixels of all output pixels; they never fall.
    pub fn firsts(&self) -> &[u32] {
        &self.first
    }

    /// Weights of all output pixels, [`Axis::taps`] each.
    pub fn weights(&self) -> &[u16] {
        &self.weights
    }

    /// The source pixels that any output pixel reads.
    pub fn span(&self) -> std::ops::Range<usize> {
        let low = self.first.first().copied().unwrap_or(0) as usize;
        let high = self.first.last().copied().unwrap_or(0) as usize + self.taps;
        low..high
    }

    /// Bytes of the buffers that are kept.
    pub fn held_bytes(&self) -> usize {
        self.first.capacity() * 4 + self.weights.capacity() * 2
    }

    /// Bytes of the table for these sizes.
    pub fn bytes(window: Window, side: u32, n: u32) -> u64 {
        u64::from(n) * (4 + 2 * Self::taps_of(window, side, n) as u64)
    }

    /// Taps of every output pixel for these sizes.
    pub fn taps_of(window: Window, side: u32, n: u32) -> usize {
        taps(window, side, n)
    }
}

fn shift(window: Window, n: u32) -> u32 {
    if window.length > (LONG * i64::from(n)) << 16 {
        SHIFT_LONG
    } else {
        SHIFT
    }
}

fn taps(window: Window, side: u32, n: u32) -> usize {
    let n = i64::from(n);
    let side = side as usize;
    if window.length <= n << 16 {
        return side.min(2);
    }
    // Edges are cut to 1/65536: an interval is at most that much longer than the mean.
    let longest = (window.length + n - 1) / n;
    let aligned =
        window.start & 0xFFFF == 0 && window.length % n == 0 && (window.length / n) & 0xFFFF == 0;
    let covered = if aligned {
        longest >> 16
    } else {
        ((longest + 0xFFFE) >> 16) + 1
    };
    side.min(covered as usize)
}

/// Moves `first` so that all taps lie inside the source; returns it and the tap of `first`.
fn place(first: i64, taps: usize, side: u32) -> (u32, usize) {
    let last = i64::from(side) - taps as i64;
    let placed = first.min(last);
    (placed as u32, (first - placed) as usize)
}

fn bilinear(window: Window, side: u32, n: u32, i: u32, shift: u32, weights: &mut [u16]) -> u32 {
    let centre =
        window.start + (2 * i64::from(i) + 1) * window.length / (2 * i64::from(n)) - (1 << 15);
    let fraction = ((centre & 0xFFFF) >> (16 - shift)) as u16;
    let last = i64::from(side) - 1;
    let low = (centre >> 16).clamp(0, last);
    let high = ((centre >> 16) + 1).clamp(0, last);
    let (first, at) = place(low, weights.len(), side);
    weights[at] += (1 << shift) - fraction;
    weights[at + (high - low) as usize] += fraction;
    first
}

fn average(window: Window, side: u32, n: u32, i: u32, shift: u32, weights: &mut [u16]) -> u32 {
    let edge = |i: u32| window.start + i64::from(i) * window.length / i64::from(n);
    let (from, to) = (edge(i), edge(i + 1));
    let last = i64::from(side) - 1;
    let low = (from >> 16).clamp(0, last);
    let high = ((to - 1) >> 16).clamp(0, last);
    let (first, at) = place(low, weights.len(), side);
    let mut given = 0;
    for k in low..=high {
        let until = if k == high { to } else { (k + 1) << 16 };
        let sum = ((until - from) << shift) / (to - from);
        weights[at + (k - low) as usize] = (sum - given) as u16;
        given = sum;
    }
    first
}
