//! Keys of renditions: backgrounds resampled for a size, a format and a quality.
//!
//! A key is *normalised*, so that requests that differ by less than anyone sees share one rendition. Sizes are rounded **up**
//! to 16 px and the frame is cut back to what was asked: rounding down would scale a smaller picture up again, and it splits
//! neighbours such as 767 and 768 that rounding up joins. The background's id and version are part of the key and of its hash:
//! two backgrounds never share a rendition, and an update never serves an old one.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::codec::encode::QUALITY;

/// Sizes are multiples of this, at least one of it.
pub const STEP: u32 = 16;

/// A normalised key. Made by [`RenditionKey::new`] only, so that no other form exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionKey {
    background: Arc<str>,
    version: u32,
    width: u32,
    height: u32,
    format: Box<str>,
    quality: u8,
}

/// The next multiple of [`STEP`], at least one of it.
pub(super) fn round_up(side: u32) -> u32 {
    side.clamp(1, u32::MAX - STEP).next_multiple_of(STEP)
}

impl RenditionKey {
    /// Normalises: size up to a multiple of 16 px, format in lower case, quality within 30 to 95.
    pub fn new(
        background: Arc<str>,
        version: u32,
        width: u32,
        height: u32,
        format: &str,
        quality: u8,
    ) -> Self {
        Self {
            background,
            version,
            width: round_up(width),
            height: round_up(height),
            format: format.to_ascii_lowercase().into(),
            quality: quality.clamp(*QUALITY.start(), *QUALITY.end()),
        }
    }

    /// Id of the background.
    pub fn background(&self) -> &str {
        &self.background
    }

    /// Version of the background.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Width and height in pixels, multiples of 16.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Format, in lower case.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Quality, 30 to 95.
    pub fn quality(&self) -> u8 {
        self.quality
    }

    /// XXH3-64 over every field. Stable across processes, so that it may name files.
    pub fn hash64(&self) -> u64 {
        let mut hasher = Xxh3::new();
        // Lengths go before the texts: ("ab", "c") and ("a", "bc") must differ.
        for text in [&*self.background, &*self.format] {
            hasher.update(&(text.len() as u32).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        for number in [
            self.version,
            self.width,
            self.height,
            u32::from(self.quality),
        ] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.digest()
    }
}

impl Hash for RenditionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(
        id: &str,
        version: u32,
        width: u32,
        height: u32,
        format: &str,
        quality: u8,
    ) -> RenditionKey {
        RenditionKey::new(id.into(), version, width, height, format, quality)
    }

    #[test]
    fn neighbours_share_a_rendition_and_the_next_step_does_not() {
        let at = |width| key("beach", 1, width, 432, "jpeg", 80);
        assert_eq!(at(767), at(768));
        assert_eq!(at(767).hash64(), at(768).hash64());
        assert_eq!(at(753), at(768));
        assert_ne!(at(768), at(769));
        assert_ne!(at(752), at(753));
    }

    #[test]
    fn sizes_never_fall_below_what_was_asked() {
        assert_eq!(key("a", 1, 0, 1, "png", 80).size(), (16, 16));
        assert_eq!(key("a", 1, 16, 17, "png", 80).size(), (16, 32));
        assert_eq!(key("a", 1, u32::MAX, 1080, "png", 80).size().0 % STEP, 0);
    }

    #[test]
    fn format_and_quality_are_normalised() {
        assert_eq!(
            key("a", 1, 64, 64, "JPEG", 3),
            key("a", 1, 64, 64, "jpeg", 30)
        );
        assert_eq!(
            key("a", 1, 64, 64, "Png", 100),
            key("a", 1, 64, 64, "png", 95)
        );
        assert_ne!(
            key("a", 1, 64, 64, "png", 80),
            key("a", 1, 64, 64, "png", 81)
        );
    }

    #[test]
    fn the_hash_covers_id_and_version() {
        let base = key("beach", 1, 640, 360, "jpeg", 80).hash64();
        assert_ne!(base, key("beaches", 1, 640, 360, "jpeg", 80).hash64());
        assert_ne!(base, key("beach", 2, 640, 360, "jpeg", 80).hash64());
        assert_ne!(
            key("ab", 1, 16, 16, "c", 80).hash64(),
            key("a", 1, 16, 16, "bc", 80).hash64()
        );
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(width in 0u32..100_000, height in 0u32..100_000, quality: u8, format in "[a-zA-Z]{1,5}") {
            let once = key("x", 1, width, height, &format, quality);
            let twice = key("x", 1, once.size().0, once.size().1, once.format(), once.quality());
            prop_assert_eq!(&once, &twice);
            prop_assert!(once.size().0 >= width && once.size().0 < width.max(1) + STEP);
        }
    }
}
