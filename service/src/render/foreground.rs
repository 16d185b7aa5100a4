//! What is laid over a background: a frame of the caller's and its mask, both borrowed.
//!
//! Unlike textures these come from elsewhere (a camera, a decoder, a segmentation), so their rows may be padded. The invariant,
//! checked when one is made: every row lies inside its bytes.

use crate::codec::pixels::Size;

/// A frame, RGBA8 sRGB with straight alpha, and a mask of one byte per pixel: 0 shows the background, 255 the frame.
#[derive(Debug, Clone, Copy)]
pub struct Foreground<'a> {
    size: Size,
    pixels: Rows<'a>,
    mask: Rows<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    data: &'a [u8],
    stride: usize,
    len: usize,
}

impl<'a> Rows<'a> {
    fn new(data: &'a [u8], stride: usize, len: u64, rows: u32) -> Option<Self> {
        let len = usize::try_from(len).ok()?;
        let before_last = stride.checked_mul((rows as usize).saturating_sub(1))?;
        let fits = stride >= len && data.len() >= before_last.checked_add(len)?;
        fits.then_some(Self { data, stride, len })
    }

    fn row(&self, y: u32) -> &'a [u8] {
        &self.data[y as usize * self.stride..][..self.len]
    }
}

impl<'a> Foreground<'a> {
    /// Rows without padding: `pixels` of `size.bytes()` bytes and `mask` of `size.pixels()`; `None` for any other lengths.
    pub fn new(size: Size, pixels: &'a [u8], mask: &'a [u8]) -> Option<Self> {
        let exact = pixels.len() as u64 == size.bytes() && mask.len() as u64 == size.pixels();
        let width = size.width as usize;
        exact.then(|| Self::with_strides(size, pixels, width * 4, mask, width))?
    }

    /// Rows that begin `pixels_stride` and `mask_stride` bytes after each other; `None` where rows would overlap or the last one
    /// would not lie inside its bytes.
    pub fn with_strides(
        size: Size,
        pixels: &'a [u8],
        pixels_stride: usize,
        mask: &'a [u8],
        mask_stride: usize,
    ) -> Option<Self> {
        let width = u64::from(size.width);
        Some(Self {
            size,
            pixels: Rows::new(pixels, pixels_stride, width * 4, size.height)?,
            mask: Rows::new(mask, mask_stride, width, size.height)?,
        })
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Pixels of row `y`, four bytes each. Panics when `y` is not below the height.
    pub fn pixels_row(&self, y: u32) -> &'a [u8] {
        self.pixels.row(y)
    }

    /// Mask of row `y`, one byte per pixel. Panics when `y` is not below the height.
    pub fn mask_row(&self, y: u32) -> &'a [u8] {
        self.mask.row(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_must_fit() {
        let size = Size::new(3, 2);
        assert!(Foreground::new(size, &[0; 24], &[0; 6]).is_some());
        assert!(Foreground::new(size, &[0; 25], &[0; 6]).is_none());
        assert!(Foreground::new(size, &[0; 24], &[0; 5]).is_none());
        let strided = |pixels: &[u8], a, mask: &[u8], b| {
            Foreground::with_strides(size, pixels, a, mask, b).is_some()
        };
        assert!(strided(&[0; 28], 16, &[0; 8], 5));
        assert!(!strided(&[0; 27], 16, &[0; 8], 5));
        assert!(!strided(&[0; 28], 16, &[0; 7], 5));
        assert!(!strided(&[0; 28], 11, &[0; 8], 5));
        assert!(!strided(&[0; 28], usize::MAX, &[0; 8], 5));
    }

    #[test]
    fn padding_is_stepped_over() {
        let pixels: Vec<u8> = (0..28).collect();
        let size = Size::new(3, 2);
        let foreground = Foreground::with_strides(size, &pixels, 16, &pixels, 5).unwrap();
        assert_eq!(foreground.pixels_row(1), &pixels[16..28]);
        assert_eq!(foreground.mask_row(1), [5, 6, 7]);
    }
}
