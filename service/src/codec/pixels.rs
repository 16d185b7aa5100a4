//! What a picture in memory is: a size and RGBA8 bytes. The only types of ours that `render` knows.
//!
//! Views borrow their bytes; who owns, charges or frees the memory is not known here. The invariant: `data` holds
//! exactly `size.bytes()` bytes, checked when a view is made.

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// A size of `width` by `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }

    /// Number of pixels; cannot overflow.
    pub const fn pixels(self) -> u64 {
        self.width as u64 * self.height as u64
    }

    /// Bytes of an RGBA8 picture of this size; saturates for sizes that no limit lets through.
    pub const fn bytes(self) -> u64 {
        self.pixels().saturating_mul(4)
    }

    /// True when either side is zero.
    pub const fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A borrowed picture. RGBA8 sRGB, straight alpha, row-major, `width * height * 4` bytes, no row padding.
#[derive(Debug, Clone, Copy)]
pub struct PixelsRef<'a> {
    data: &'a [u8],
    size: Size,
}

impl<'a> PixelsRef<'a> {
    /// Wraps `data`; `None` unless it holds exactly `size.bytes()` bytes.
    pub fn new(data: &'a [u8], size: Size) -> Option<Self> {
        (data.len() as u64 == size.bytes()).then_some(Self { data, size })
    }

    /// The bytes, `size().bytes()` of them.
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Row `y` as bytes. Panics when `y` is not below the height.
    pub fn row(&self, y: u32) -> &'a [u8] {
        let stride = self.size.width as usize * 4;
        &self.data[y as usize * stride..][..stride]
    }

    /// One pixel. Panics outside the picture.
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 4] {
        let at = x as usize * 4;
        let row = self.row(y);
        [row[at], row[at + 1], row[at + 2], row[at + 3]]
    }
}

/// A borrowed picture to write to; same layout as [`PixelsRef`].
#[derive(Debug)]
pub struct PixelsMut<'a> {
    data: &'a mut [u8],
    size: Size,
}

impl<'a> PixelsMut<'a> {
    /// Wraps `data`; `None` unless it holds exactly `size.bytes()` bytes.
    pub fn new(data: &'a mut [u8], size: Size) -> Option<Self> {
        (data.len() as u64 == size.bytes()).then_some(Self { data, size })
    }

    /// The bytes.
    pub fn data(&mut self) -> &mut [u8] {
        self.data
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Row `y` as bytes. Panics when `y` is not below the height.
    pub fn row(&mut self, y: u32) -> &mut [u8] {
        let stride = self.size.width as usize * 4;
        &mut self.data[y as usize * stride..][..stride]
    }

    /// The same picture to read from.
    pub fn as_ref(&self) -> PixelsRef<'_> {
        PixelsRef {
            data: self.data,
            size: self.size,
        }
    }
}
