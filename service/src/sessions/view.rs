//! How a session's view is changed in part, and kept in two words of its record. What a view is stands in `render::view`.

use crate::render::view::{ONE, View, ViewError};

/// A change of some of a view's values, in the numbers of [`crate::render::view::Fractions`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ViewPatch {
    /// New crop: left and upper edge, width and height.
    pub crop: Option<[f64; 4]>,
    /// New zoom.
    pub scale: Option<f64>,
    /// New offset.
    pub uv_offset: Option<[f64; 2]>,
    /// New opacity.
    pub alpha: Option<f64>,
}

impl ViewPatch {
    /// `view` with these values in place of its own.
    ///
    /// # Errors
    /// The first value outside its range; nothing is applied then.
    pub fn apply(&self, view: &View) -> Result<View, ViewError> {
        let mut fractions = view.fractions();
        fractions.crop = self.crop.unwrap_or(fractions.crop);
        fractions.scale = self.scale.unwrap_or(fractions.scale);
        fractions.uv_offset = self.uv_offset.unwrap_or(fractions.uv_offset);
        fractions.alpha = self.alpha.unwrap_or(fractions.alpha);
        View::from_fractions(&fractions)
    }
}

/// Bits of a zoom, which is at least 1 and at most 2²⁰: one less is kept.
const SCALE_BITS: u32 = 20;
/// Bits of an offset, which is moved up by [`ONE`].
const OFFSET_BITS: u32 = 18;

/// The two words that a record keeps: the crop in 4 × 16 bits, its sides one less than they are, and the rest. Both are full.
pub(super) fn to_words(view: &View) -> [u64; 2] {
    let view = view.clamped();
    let [x, y] = view.crop_origin.map(u64::from);
    let [width, height] = view.crop_size.map(|side| u64::from(side - 1));
    let [u, v] = view
        .uv_offset
        .map(|offset| u64::from((offset + ONE as i32) as u32));
    let crop = x | y << 16 | width << 32 | height << 48;
    let rest = u64::from(view.scale - 1)
        | u << SCALE_BITS
        | v << (SCALE_BITS + OFFSET_BITS)
        | u64::from(view.alpha) << (SCALE_BITS + 2 * OFFSET_BITS);
    [crop, rest]
}

/// The view that [`to_words`] made these of.
pub(super) fn from_words([crop, rest]: [u64; 2]) -> View {
    let part = |word: u64, at: u32, bits: u32| (word >> at) as u32 & ((1 << bits) - 1);
    let offset = |at: u32| part(rest, at, OFFSET_BITS) as i32 - ONE as i32;
    View {
        crop_origin: [part(crop, 0, 16), part(crop, 16, 16)],
        crop_size: [part(crop, 32, 16) + 1, part(crop, 48, 16) + 1],
        scale: part(rest, 0, SCALE_BITS) + 1,
        uv_offset: [offset(SCALE_BITS), offset(SCALE_BITS + OFFSET_BITS)],
        alpha: (rest >> (SCALE_BITS + 2 * OFFSET_BITS)) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::view::SCALE;
    use proptest::prelude::*;

    fn views() -> impl Strategy<Value = View> {
        let one = ONE as i32;
        let origins = [0..ONE, 0..ONE];
        let sizes = [1..=ONE, 1..=ONE];
        let offsets = [-one..=one, -one..=one];
        let parts = (origins, sizes, SCALE, offsets, any::<u8>());
        parts.prop_map(|(crop_origin, crop_size, scale, uv_offset, alpha)| {
            let view = View {
                crop_origin,
                crop_size,
                scale,
                uv_offset,
                alpha,
            };
            view.clamped()
        })
    }

    proptest! {
        #[test]
        fn words_keep_every_view(view in views()) {
            prop_assert_eq!(from_words(to_words(&view)), view);
        }

        #[test]
        fn an_empty_patch_changes_nothing(view in views()) {
            prop_assert_eq!(ViewPatch::default().apply(&view), Ok(view));
        }
    }

    #[test]
    fn words_keep_the_ends_of_every_range() {
        let one = ONE as i32;
        let least = View {
            crop_origin: [0, ONE - 1],
            crop_size: [ONE, 1],
            scale: *SCALE.start(),
            uv_offset: [-one, one],
            alpha: 0,
        };
        let most = View {
            crop_origin: [ONE - 1, 0],
            crop_size: [1, ONE],
            scale: *SCALE.end(),
            uv_offset: [one, -one],
            alpha: 255,
        };
        for view in [least, most, View::default()] {
            assert_eq!(from_words(to_words(&view)), view);
        }
    }

    #[test]
    fn a_patch_changes_what_it_names_or_nothing() {
        let patch = ViewPatch {
            scale: Some(1.5),
            alpha: Some(0.5),
            ..ViewPatch::default()
        };
        let patched = patch.apply(&View::default());
        let expected = View {
            scale: ONE * 3 / 2,
            alpha: 128,
            ..View::default()
        };
        assert_eq!(patched, Ok(expected));
        let half_bad = ViewPatch {
            scale: Some(2.0),
            uv_offset: Some([0.0, f64::NAN]),
            ..ViewPatch::default()
        };
        assert_eq!(half_bad.apply(&expected), Err(ViewError::UvOffset));
    }
}
