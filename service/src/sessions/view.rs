//! The extrinsic state of a session: how it looks at its background. Quantised, so that it is exact and 16 bytes.
//!
//! Crop edges are 16-bit fractions of the picture, scale is fixed point with 8 fractional bits, the offset is a signed
//! 15-bit fraction and alpha has 8 bits. What these numbers do to pixels is `render`'s business.

/// One of the values lies outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Not inside the picture, or empty.
    #[error("crop must lie within 0 to 1 and must not be empty")]
    Crop,
    /// Outside of 1/16 to 16.
    #[error("scale must lie within 0.0625 and 16")]
    Scale,
    /// Outside of -1 to 1.
    #[error("uv_offset must lie within -1 and 1")]
    UvOffset,
    /// Outside of 0 to 1.
    #[error("alpha must lie within 0 and 1")]
    Alpha,
}

/// Part of the picture that is shown, as fractions of its width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

/// A change of some of a view's values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ViewPatch {
    /// New crop.
    pub crop: Option<Crop>,
    /// New magnification.
    pub scale: Option<f32>,
    /// New offset.
    pub uv_offset: Option<[f32; 2]>,
    /// New opacity.
    pub alpha: Option<f32>,
}

/// A quantised view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    crop: [u16; 4],
    scale: u16,
    uv_offset: [i16; 2],
    alpha: u8,
}

const FRACTION: f32 = 65_535.0;
const OFFSET: f32 = 32_767.0;
const SCALE_ONE: f32 = 256.0;
const SCALE_MIN: f32 = 1.0 / 16.0;
const SCALE_MAX: f32 = 16.0;
/// What rounding of decimal input may exceed an edge by.
const SLACK: f32 = 1.0 / FRACTION;

impl Default for View {
    /// The whole picture, unscaled, opaque.
    fn default() -> Self {
        Self {
            crop: [0, 0, u16::MAX, u16::MAX],
            scale: SCALE_ONE as u16,
            uv_offset: [0, 0],
            alpha: u8::MAX,
        }
    }
}

fn fraction(value: f32) -> u16 {
    (value.clamp(0.0, 1.0) * FRACTION).round() as u16
}

fn quantise_crop(crop: Crop) -> Result<[u16; 4], ViewError> {
    let inside =
        |start: f32, length: f32| start >= 0.0 && length > 0.0 && start + length <= 1.0 + SLACK;
    if !inside(crop.x, crop.width) || !inside(crop.y, crop.height) {
        return Err(ViewError::Crop);
    }
    let (x, y) = (fraction(crop.x), fraction(crop.y));
    let width = fraction(crop.width).min(u16::MAX - x);
    let height = fraction(crop.height).min(u16::MAX - y);
    if width == 0 || height == 0 {
        Err(ViewError::Crop)
    } else {
        Ok([x, y, width, height])
    }
}

impl View {
    /// This view with a patch applied.
    ///
    /// # Errors
    /// The first value outside its range; nothing is applied then.
    pub fn patched(mut self, patch: &ViewPatch) -> Result<Self, ViewError> {
        if let Some(crop) = patch.crop {
            self.crop = quantise_crop(crop)?;
        }
        if let Some(scale) = patch.scale {
            if !(SCALE_MIN..=SCALE_MAX).contains(&scale) {
                return Err(ViewError::Scale);
            }
            self.scale = (scale * SCALE_ONE).round() as u16;
        }
        if let Some(offset) = patch.uv_offset {
            if offset.iter().any(|value| !(-1.0..=1.0).contains(value)) {
                return Err(ViewError::UvOffset);
            }
            self.uv_offset = offset.map(|value| (value * OFFSET).round() as i16);
        }
        if let Some(alpha) = patch.alpha {
            if !(0.0..=1.0).contains(&alpha) {
                return Err(ViewError::Alpha);
            }
            self.alpha = (alpha * 255.0).round() as u8;
        }
        Ok(self)
    }

    /// Part of the picture that is shown.
    #[must_use]
    pub fn crop(&self) -> Crop {
        let [x, y, width, height] = self.crop.map(|value| f32::from(value) / FRACTION);
        Crop {
            x,
            y,
            width,
            height,
        }
    }

    /// Magnification.
    #[must_use]
    pub fn scale(&self) -> f32 {
        f32::from(self.scale) / SCALE_ONE
    }

    /// Offset in fractions of the picture.
    #[must_use]
    pub fn uv_offset(&self) -> [f32; 2] {
        self.uv_offset.map(|value| f32::from(value) / OFFSET)
    }

    /// Opacity, 255 is opaque.
    #[must_use]
    pub fn alpha(&self) -> u8 {
        self.alpha
    }

    /// The two words that a record stores.
    pub(super) fn to_words(self) -> [u64; 2] {
        let [x, y, width, height] = self.crop.map(u64::from);
        let [u, v] = self.uv_offset.map(|value| u64::from(value as u16));
        let crop = x | y << 16 | width << 32 | height << 48;
        let rest = u64::from(self.scale) | u << 16 | v << 32 | u64::from(self.alpha) << 48;
        [crop, rest]
    }

    pub(super) fn from_words([crop, rest]: [u64; 2]) -> Self {
        let part = |word: u64, at: u32| (word >> at) as u16;
        Self {
            crop: [
                part(crop, 0),
                part(crop, 16),
                part(crop, 32),
                part(crop, 48),
            ],
            scale: part(rest, 0),
            uv_offset: [part(rest, 16) as i16, part(rest, 32) as i16],
            alpha: part(rest, 48) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_every_value() {
        let patch = ViewPatch {
            crop: Some(Crop {
                x: 0.1,
                y: 0.2,
                width: 0.5,
                height: 0.8,
            }),
            scale: Some(1.5),
            uv_offset: Some([-0.25, 1.0]),
            alpha: Some(0.5),
        };
        let view = View::default().patched(&patch).expect("in range");
        assert_eq!(View::from_words(view.to_words()), view);
        assert!((view.crop().height - 0.8).abs() < 1e-4);
        assert!((view.uv_offset()[0] + 0.25).abs() < 1e-4);
        assert_eq!((view.scale(), view.alpha()), (1.5, 128));
    }

    #[test]
    fn refuses_what_is_out_of_range_or_not_a_number() {
        let crop = |x, width| ViewPatch {
            crop: Some(Crop {
                x,
                y: 0.0,
                width,
                height: 1.0,
            }),
            ..Default::default()
        };
        for bad in [
            crop(-0.1, 0.5),
            crop(0.6, 0.5),
            crop(0.0, 0.0),
            crop(f32::NAN, 0.5),
            crop(0.0, 1e-7),
        ] {
            assert_eq!(View::default().patched(&bad), Err(ViewError::Crop));
        }
        let scale = ViewPatch {
            scale: Some(f32::NAN),
            ..Default::default()
        };
        assert_eq!(View::default().patched(&scale), Err(ViewError::Scale));
        let alpha = ViewPatch {
            alpha: Some(1.1),
            ..Default::default()
        };
        assert_eq!(View::default().patched(&alpha), Err(ViewError::Alpha));
    }

    #[test]
    fn the_whole_picture_is_exact() {
        let whole = ViewPatch {
            crop: Some(Crop {
                x: 0.0,
                y: 0.0,
                width: 1.0,
                height: 1.0,
            }),
            ..Default::default()
        };
        assert_eq!(View::default().patched(&whole), Ok(View::default()));
    }
}
