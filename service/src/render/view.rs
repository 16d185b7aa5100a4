//! The extrinsic state of a session as geometry: which part of a picture is looked at.
//!
//! [`View`] is what a session stores, in fractions of any picture; [`ViewTransform`] is the same for one picture size.
//! Both are integers: no float reaches the sampling.

use crate::codec::pixels::Size;

/// One, as a 16.16 fixed-point number.
pub const ONE: u32 = 1 << 16;

/// Smallest and largest zoom, 16.16.
pub const SCALE: std::ops::RangeInclusive<u32> = ONE / 16..=ONE * 16;

/// By how much a crop's end may exceed the picture before it is an error: quantised numbers come back rounded.
const SLACK: f64 = 1.0 / 32_768.0;

/// Why numbers are not a view.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ViewError {
    /// The crop is empty or reaches outside of the picture.
    #[error("crop must lie within 0..1 and have an area")]
    Crop,
    /// The zoom is out of range or not a number.
    #[error("scale must be between 0.0625 and 16")]
    Scale,
    /// The offset is out of range or not a number.
    #[error("uv_offset must be between -1 and 1")]
    UvOffset,
    /// The opacity is out of range or not a number.
    #[error("alpha must be between 0 and 1")]
    Alpha,
}

/// What a session sees of its background, whatever the size of that. All in 16.16 fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// Left and top edge of the crop, as a fraction of the picture, below [`ONE`].
    pub crop_origin: [u32; 2],
    /// Width and height of the crop, as a fraction of the picture, `1..=ONE`.
    pub crop_size: [u32; 2],
    /// Zoom about the middle of the crop: above [`ONE`] shows less of the picture. Within [`SCALE`].
    pub scale: u32,
    /// Moves the window by this fraction of the picture, right and down. Beyond the picture its edge pixels repeat.
    pub uv_offset: [i32; 2],
    /// Opacity: multiplies the alpha channel.
    pub alpha: u8,
}

impl Default for View {
    fn default() -> Self {
        Self {
            crop_origin: [0; 2],
            crop_size: [ONE; 2],
            scale: ONE,
            uv_offset: [0; 2],
            alpha: 255,
        }
    }
}

impl View {
    /// A view from fractions: `crop` is x, y, width, height in 0..1.
    pub fn from_fractions(
        crop: [f64; 4],
        scale: f64,
        uv_offset: [f64; 2],
        alpha: f64,
    ) -> Result<Self, ViewError> {
        let [x, y, width, height] = crop;
        let inside =
            |at: f64, len: f64| (0.0..1.0).contains(&at) && len > 0.0 && at + len <= 1.0 + SLACK;
        if !inside(x, width) || !inside(y, height) {
            return Err(ViewError::Crop);
        }
        if !(0.0625..=16.0).contains(&scale) {
            return Err(ViewError::Scale);
        }
        if !uv_offset.iter().all(|v| (-1.0..=1.0).contains(v)) {
            return Err(ViewError::UvOffset);
        }
        if !(0.0..=1.0).contains(&alpha) {
            return Err(ViewError::Alpha);
        }
        let fixed = |v: f64| (v * f64::from(ONE)).round() as u32;
        let view = Self {
            crop_origin: [fixed(x), fixed(y)],
            crop_size: [fixed(width), fixed(height)],
            scale: fixed(scale),
            uv_offset: uv_offset.map(|v| (v * f64::from(ONE)).round() as i32),
            alpha: (alpha * 255.0).round() as u8,
        };
        Ok(view.clamped())
    }

    /// The nearest view whose numbers are in range. Stored or received integers go through this.
    pub fn clamped(self) -> Self {
        let one = ONE as i32;
        let mut view = self;
        for axis in 0..2 {
            view.crop_origin[axis] = view.crop_origin[axis].min(ONE - 1);
            view.crop_size[axis] = view.crop_size[axis].clamp(1, ONE - view.crop_origin[axis]);
            view.uv_offset[axis] = view.uv_offset[axis].clamp(-one, one);
        }
        view.scale = view.scale.clamp(*SCALE.start(), *SCALE.end());
        view
    }

    /// The window of a picture of `size` that this view looks at.
    pub fn transform(&self, size: Size) -> ViewTransform {
        let view = self.clamped();
        ViewTransform {
            x: view.window(0, size.width),
            y: view.window(1, size.height),
            alpha: view.alpha,
        }
    }

    fn window(&self, axis: usize, side: u32) -> Window {
        let side = i64::from(side);
        let crop = i64::from(self.crop_size[axis]) * side;
        let length = (crop * i64::from(ONE) / i64::from(self.scale)).max(i64::from(ONE));
        let moved = i64::from(self.uv_offset[axis]) * side;
        let start =
            i64::from(self.crop_origin[axis]) * side + (crop - length).div_euclid(2) + moved;
        Window { start, length }
    }
}

/// Part of one axis of a picture, in 1/65536 pixels; may reach outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First position.
    pub start: i64,
    /// Extent, at least one pixel.
    pub length: i64,
}

/// A [`View`] of a picture of one size, in 1/65536 of its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewTransform {
    /// Columns looked at.
    pub x: Window,
    /// Rows looked at.
    pub y: Window,
    /// Multiplies the alpha channel; 255 leaves it.
    pub alpha: u8,
}

impl ViewTransform {
    /// All of a picture of `size`.
    pub fn full(size: Size) -> Self {
        View::default().transform(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PX: i64 = 1 << 16;

    #[test]
    fn the_default_view_is_the_whole_picture() {
        let full = ViewTransform::full(Size::new(1920, 1080));
        assert_eq!(
            full.x,
            Window {
                start: 0,
                length: 1920 * PX
            }
        );
        assert_eq!(
            full.y,
            Window {
                start: 0,
                length: 1080 * PX
            }
        );
        assert_eq!(
            View::from_fractions([0.0, 0.0, 1.0, 1.0], 1.0, [0.0, 0.0], 1.0),
            Ok(View::default())
        );
    }

    #[test]
    fn crop_scale_and_offset_move_the_window() {
        let view = View::from_fractions([0.5, 0.25, 0.5, 0.5], 2.0, [0.125, -0.25], 0.5).unwrap();
        let t = view.transform(Size::new(800, 400));
        assert_eq!(
            t.x,
            Window {
                start: (400 + 100 + 100) * PX,
                length: 200 * PX
            }
        );
        assert_eq!(
            t.y,
            Window {
                start: (100 + 50 - 100) * PX,
                length: 100 * PX
            }
        );
        assert_eq!(t.alpha, 128);
    }

    #[test]
    fn zooming_out_reaches_beyond_the_picture() {
        let view = View {
            scale: ONE / 2,
            ..View::default()
        };
        let t = view.transform(Size::new(10, 10));
        assert_eq!(
            t.x,
            Window {
                start: -5 * PX,
                length: 20 * PX
            }
        );
    }

    #[test]
    fn a_window_is_never_below_one_pixel() {
        let view = View {
            crop_size: [1, 1],
            scale: ONE * 16,
            ..View::default()
        };
        assert_eq!(view.transform(Size::new(1, 1)).x.length, PX);
    }

    #[test]
    fn bad_fractions_are_named() {
        let f = View::from_fractions;
        assert_eq!(
            f([0.0, 0.0, 0.0, 1.0], 1.0, [0.0; 2], 1.0),
            Err(ViewError::Crop)
        );
        assert_eq!(
            f([0.6, 0.0, 0.5, 1.0], 1.0, [0.0; 2], 1.0),
            Err(ViewError::Crop)
        );
        assert_eq!(
            f([0.0, f64::NAN, 1.0, 1.0], 1.0, [0.0; 2], 1.0),
            Err(ViewError::Crop)
        );
        assert_eq!(
            f([0.0, 0.0, 1.0, 1.0], 0.0, [0.0; 2], 1.0),
            Err(ViewError::Scale)
        );
        assert_eq!(
            f([0.0, 0.0, 1.0, 1.0], f64::NAN, [0.0; 2], 1.0),
            Err(ViewError::Scale)
        );
        assert_eq!(
            f([0.0, 0.0, 1.0, 1.0], 1.0, [0.0, 1.5], 1.0),
            Err(ViewError::UvOffset)
        );
        assert_eq!(
            f([0.0, 0.0, 1.0, 1.0], 1.0, [0.0; 2], 1.01),
            Err(ViewError::Alpha)
        );
    }
}
