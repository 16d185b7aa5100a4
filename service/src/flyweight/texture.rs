//! A texture: decoded pixels in a block, with the version they are of.

use super::pool::PoolBlock;
use crate::codec::{PixelsMut, PixelsRef, Size};

/// Pixels, RGBA8 sRGB, row-major, width × height × 4 bytes, no row padding, and the version of the background they show.
#[derive(Debug)]
pub struct Texture {
    block: PoolBlock,
    size: Size,
    version: u32,
}

impl Texture {
    /// Wraps a block of at least `size.bytes()`. Panics on a shorter one.
    pub(super) fn new(block: PoolBlock, size: Size, version: u32) -> Self {
        assert!(
            block.size() >= size.bytes(),
            "block of {} bytes for {size}",
            block.size()
        );
        Self {
            block,
            size,
            version,
        }
    }

    /// The pixels.
    pub fn pixels(&self) -> PixelsRef<'_> {
        let data = self.block.bytes(self.size.bytes() as usize);
        PixelsRef::new(data, self.size)
            .unwrap_or_else(|| unreachable!("the slice was cut to the size"))
    }

    pub(super) fn pixels_mut(&mut self) -> PixelsMut<'_> {
        let data = self.block.bytes_mut(self.size.bytes() as usize);
        PixelsMut::new(data, self.size)
            .unwrap_or_else(|| unreachable!("the slice was cut to the size"))
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Version of the background.
    #[inline]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether its block is the pool's, where it falls idle; any other is freed when it is dropped.
    pub(super) fn is_pooled(&self) -> bool {
        self.block.is_pooled()
    }

    /// Bytes of memory it takes: its block.
    pub fn bytes(&self) -> u64 {
        self.block.size()
    }
}
