//! Blurring on the CPU: strips of sixteen pixels' width, along either axis, through three running sums.
//!
//! A strip is copied out of the picture, filtered where it stays near, and copied back, so what a blur costs does not depend on its
//! radius. Columns make strips as they lie; rows are turned into them pixel by pixel.

use super::{Kernel, Kind, portable};
use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use crate::render::Radius;

/// Pixels across a strip.
pub const ACROSS: usize = 16;

/// One step along a strip.
pub type Line = [u8; ACROSS * 4];

/// Blurs with one kernel, the machine's best by default; keeps its strips between calls.
#[derive(Debug)]
pub struct Blur {
    kernel: Kernel,
    strip: Vec<Line>,
    spare: Vec<Line>,
}

impl Default for Blur {
    fn default() -> Self {
        Self::with_kernel(Kernel::best())
    }
}

impl Blur {
    /// A blur that uses `kernel`.
    pub fn with_kernel(kernel: Kernel) -> Self {
        Self {
            kernel,
            strip: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Bytes of the strips that are kept.
    pub fn held_bytes(&self) -> usize {
        (self.strip.capacity() + self.spare.capacity()) * size_of::<Line>()
    }

    /// Bytes that [`Blur::draw`] will hold beside its buffers for a picture of this size, at most.
    pub fn scratch_bytes(size: Size) -> u64 {
        2 * u64::from(size.width.max(size.height)) * size_of::<Line>() as u64
    }

    /// Draws `src`, blurred as `render`'s specification says, into `out`.
    ///
    /// # Panics
    /// When the two differ in size.
    pub fn draw(&mut self, src: PixelsRef<'_>, radius: Radius, mut out: PixelsMut<'_>) {
        let size = src.size();
        assert!(size == out.size(), "a blur keeps the size");
        if size.is_empty() {
            return;
        }
        let width = size.width as usize * 4;
        self.lengthen(size.width);
        let bands = src.data().chunks(width * ACROSS);
        for (from, to) in bands.zip(out.data().chunks_mut(width * ACROSS)) {
            self.turn_in(from, width);
            self.filter(radius);
            self.turn_out(to, width);
        }
        self.lengthen(size.height);
        for left in (0..width).step_by(ACROSS * 4) {
            let columns = left..width.min(left + ACROSS * 4);
            let rows = out.data().chunks(width).map(|row| &row[columns.clone()]);
            for (line, row) in self.strip.iter_mut().zip(rows) {
                // A copy of a known length is no call.
                match <&Line>::try_from(row) {
                    Ok(row) => *line = *row,
                    Err(_) => line[..row.len()].copy_from_slice(row),
                }
            }
            self.filter(radius);
            let rows = out.data().chunks_mut(width);
            for (line, row) in self
                .strip
                .iter()
                .zip(rows.map(|row| &mut row[columns.clone()]))
            {
                match <&mut Line>::try_from(&mut *row) {
                    Ok(row) => *row = *line,
                    Err(_) => row.copy_from_slice(&line[..row.len()]),
                }
            }
        }
    }

    /// Makes strips of `len` steps.
    fn lengthen(&mut self, len: u32) {
        for strip in [&mut self.strip, &mut self.spare] {
            strip.reserve_exact((len as usize).saturating_sub(strip.len()));
            strip.resize(len as usize, [0; ACROSS * 4]);
        }
    }

    /// Makes the strip of sixteen rows, or fewer, of `width` bytes.
    fn turn_in(&mut self, rows: &[u8], width: usize) {
        match self.kernel.0 {
            Kind::Portable => portable::turn_in(rows, width, &mut self.strip),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernel) => kernel.turn_in(rows, width, &mut self.strip),
        }
    }

    /// Makes rows of the strip again.
    fn turn_out(&mut self, rows: &mut [u8], width: usize) {
        match self.kernel.0 {
            Kind::Portable => portable::turn_out(&self.strip, rows, width),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernel) => kernel.turn_out(&self.strip, rows, width),
        }
    }

    /// Three boxes along the strip.
    fn filter(&mut self, radius: Radius) {
        let filter = BoxFilter::new(radius);
        for _ in 0..3 {
            match self.kernel.0 {
                Kind::Portable => portable::average(&self.strip, &filter, &mut self.spare),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2(kernel) => kernel.average(&self.strip, &filter, &mut self.spare),
            }
            std::mem::swap(&mut self.strip, &mut self.spare);
        }
    }
}

/// A box's reach, and how a sum of so many samples becomes their mean with sixteen bits: `((sum + bias)·factor) >> 16 >> shift`.
///
/// A division by an odd `d`, by way of `⌈2^(16+s)/d⌉` where that is exact for sixteen bits, and otherwise of `⌊2^(16+s)/d⌋` and one more
/// to divide (Robison, *N-bit unsigned division via N-bit multiply-add*, 2005).
#[derive(Debug)]
pub struct BoxFilter {
    /// Samples on either side.
    pub reach: usize,
    /// Half of the divisor, and perhaps one more.
    pub bias: u16,
    /// About `2^(16 + shift)` over the divisor.
    pub factor: u16,
    /// Binary logarithm of the divisor, rounded down.
    pub shift: u32,
}

impl BoxFilter {
    /// The box of `2·radius + 1` samples.
    pub fn new(radius: Radius) -> Self {
        let reach = u32::from(radius.get());
        let divisor = 2 * reach + 1;
        let shift = divisor.ilog2();
        let factor = (1 << (16 + shift)) / divisor;
        let short = divisor - (1 << (16 + shift)) % divisor;
        let (factor, more) = match short <= 1 << shift {
            true => (factor + 1, 0),
            false => (factor, 1),
        };
        Self {
            reach: reach as usize,
            bias: (reach + more) as u16,
            factor: factor as u16,
            shift,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_rounded_to_the_nearest() {
        for radius in 1..=Radius::MAX {
            let filter = BoxFilter::new(Radius::new(radius).unwrap());
            let divisor = 2 * u32::from(radius) + 1;
            for sum in 0..=255 * divisor {
                let product = (sum + u32::from(filter.bias)) * u32::from(filter.factor);
                let expected = (sum + u32::from(radius)) / divisor;
                assert_eq!(product >> 16 >> filter.shift, expected, "{sum} / {divisor}");
            }
        }
    }
}
