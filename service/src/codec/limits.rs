//! Bounds on what a header may claim. Knows numbers, no formats.

use super::{CodecError, Format, Size};

/// Most pixels that limits may allow.
pub const PIXELS_MAX: u64 = 1_000_000_000;

/// Limits of a picture that may be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels a picture may have.
    pub pixels_max: u64,
    /// Longest side a picture may have, in pixels. 65,535 is what JPEG can express.
    pub side_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pixels_max: 50_000_000,
            side_max: 65_535,
        }
    }
}

impl Limits {
    /// The default limits with another bound on the number of pixels.
    pub fn with_pixels_max(pixels_max: u64) -> Self {
        Self {
            pixels_max,
            ..Self::default()
        }
    }

    /// Says what is wrong with these limits, if anything.
    pub fn validate(&self) -> Result<(), String> {
        match (self.pixels_max, self.side_max) {
            (0, _) => Err("pixels_max must be at least 1".into()),
            (_, 0) => Err("side_max must be at least 1".into()),
            (pixels, _) if pixels > PIXELS_MAX => {
                Err(format!("pixels_max must be at most {PIXELS_MAX}"))
            }
            _ => Ok(()),
        }
    }

    /// Checks a claimed size.
    pub(crate) fn check(&self, format: Format, size: Size) -> Result<(), CodecError> {
        if size.is_empty() {
            return Err(CodecError::ZeroSize { format, size });
        }
        let side = size.width.max(size.height);
        if side > self.side_max || size.pixels() > self.pixels_max {
            return Err(CodecError::TooLarge {
                size,
                pixels_max: self.pixels_max,
                side_max: self.side_max,
            });
        }
        Ok(())
    }
}
