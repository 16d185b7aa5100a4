//! What is laid over a background: a frame of the caller's and its mask, both borrowed.
//!
//! Unlike textures these come from elsewhere (a camera, a decoder, a segmentation), so their rows may be padded. The invariant,
//! checked when one is made: every row lies inside its bytes.

use crate::codec::pixels::Size;

/// A frame, RGBA8 sRGB with straight alpha, and a mask of one byte per pixel: 0 shows the background, 255 the frame.
#[derive(Debug, Clone, Copy)]
pub struct Foreground<'a> {
    size: Size,
    pixels: Plane<'a>,
    mask: Plane<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    len: usize,
}

impl<'a> Plane<'a> {
    fn new(data: &'a [u8], stride: usize, len: u64, rows: u32) -> Option<Self> {
        let len = usize::try_from(len).ok()?;
        let before_last = stride.checked_mul((rows as usize).saturating_sub(1))?;
        let fits = stride >= len && data.len() >= before_last.checked_add(len)?;
        fits.then_some(Self { data, stride, len })
    }

    /// All rows as one, where nothing lies between them.
    fn joined(&self, rows: u32) -> Option<&'a [u8]> {
        (self.stride == self.len).then(|| &self.data[..self.len * rows as usize])
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
            pixels: Plane::new(pixels, pixels_stride, width * 4, size.height)?,
            mask: Plane::new(mask, mask_stride, width, size.height)?,
        })
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// All pixels and all masks, where no row is padded.
    pub fn joined(&self) -> Option<(&'a [u8], &'a [u8])> {
        let rows = self.size.height;
        Some((self.pixels.joined(rows)?, self.mask.joined(rows)?))
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
        assert_eq!(foreground.joined(), None);
        let foreground = Foreground::with_strides(size, &pixels, 12, &pixels, 3).unwrap();
        assert_eq!(foreground.joined(), Some((&pixels[..24], &pixels[..6])));
    }
}
