//! The extrinsic state of a session as geometry: which part of a picture is looked at.
//!
//! [`View`] is what a session has, in fractions of any picture; [`ViewTransform`] is the same for one picture size.
//! Both are integers: no float reaches the sampling. [`Fractions`] is a view in the numbers that people write.

use crate::codec::pixels::Size;

/// One, as a 16.16 fixed-point number.
pub const ONE: u32 = 1 << 16;

/// Smallest and largest zoom, 16.16.
pub const SCALE: std::ops::RangeInclusive<u32> = ONE / 16..=ONE * 16;

/// By how much a crop's end may exceed the picture before it is an error: decimals are rounded.
const SLACK: f64 = 1.0 / ONE as f64;

/// Why numbers are not a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The crop is empty or reaches outside of the picture.
    #[error("crop must lie within 0 to 1 and must not be empty")]
    Crop,
    /// The zoom is out of range or not a number.
    #[error("scale must lie within 0.0625 and 16")]
    Scale,
    /// The offset is out of range or not a number.
    #[error("uv_offset must lie within -1 and 1")]
    UvOffset,
    /// The opacity is out of range or not a number.
    #[error("alpha must lie within 0 and 1")]
    Alpha,
}

/// A view in fractions and factors; a [`View`] holds them in 1/65536, and its opacity in 1/255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fractions {
    /// Left and upper edge, width and height of the crop, as fractions of the picture.
    pub crop: [f64; 4],
    /// Zoom about the middle of the crop, 1/16 to 16.
    pub scale: f64,
    /// Moves the window by this fraction of the picture, right and down, -1 to 1.
    pub uv_offset: [f64; 2],
    /// Opacity, 0 to 1.
    pub alpha: f64,
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
    /// The view nearest to these fractions.
    ///
    /// # Errors
    /// The first value outside of its range, and a crop that would be rounded to nothing.
    pub fn from_fractions(fractions: &Fractions) -> Result<Self, ViewError> {
        let &Fractions {
            crop,
            scale,
            uv_offset,
            alpha,
        } = fractions;
        let fixed = |v: f64| (v * f64::from(ONE)).round() as u32;
        let [x, y, width, height] = crop;
        let inside = |at: f64, len: f64| {
            (0.0..1.0).contains(&at) && len > 0.0 && fixed(len) > 0 && at + len <= 1.0 + SLACK
        };
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
        let view = Self {
            crop_origin: [fixed(x), fixed(y)],
            crop_size: [fixed(width), fixed(height)],
            scale: fixed(scale),
            uv_offset: uv_offset.map(|v| (v * f64::from(ONE)).round() as i32),
            alpha: (alpha * 255.0).round() as u8,
        };
        Ok(view.clamped())
    }

    /// The same in fractions, exact but for the opacity: [`View::from_fractions`] gives this view again.
    pub fn fractions(&self) -> Fractions {
        let fraction = |fixed: u32| f64::from(fixed) / f64::from(ONE);
        let ([x, y], [width, height]) = (self.crop_origin, self.crop_size);
        Fractions {
            crop: [x, y, width, height].map(fraction),
            scale: fraction(self.scale),
            uv_offset: self.uv_offset.map(|v| f64::from(v) / f64::from(ONE)),
            alpha: f64::from(self.alpha) / 255.0,
        }
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
    const WHOLE: Fractions = Fractions {
        crop: [0.0, 0.0, 1.0, 1.0],
        scale: 1.0,
        uv_offset: [0.0; 2],
        alpha: 1.0,
    };

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
        assert_eq!(View::from_fractions(&WHOLE), Ok(View::default()));
    }

    #[test]
    fn a_view_comes_back_from_its_fractions() {
        for view in [
            View::default(),
            View {
                crop_origin: [0, ONE - 1],
                crop_size: [ONE, 1],
                scale: *SCALE.start(),
                uv_offset: [-(ONE as i32), ONE as i32],
                alpha: 0,
            },
            View {
                crop_origin: [12_345, 1],
                crop_size: [54_321 - 12_345, ONE - 1],
                scale: *SCALE.end() - 1,
                uv_offset: [-7, 40_000],
                alpha: 128,
            },
        ] {
            assert_eq!(View::from_fractions(&view.fractions()), Ok(view));
        }
    }

    #[test]
    fn crop_scale_and_offset_move_the_window() {
        let view = View::from_fractions(&Fractions {
            crop: [0.5, 0.25, 0.5, 0.5],
            scale: 2.0,
            uv_offset: [0.125, -0.25],
            alpha: 0.5,
        })
        .unwrap();
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
        let refused = |fractions| View::from_fractions(&fractions).err();
        for crop in [
            [0.0, 0.0, 0.0, 1.0],
            [0.0, 0.0, 1.0, 1e-7],
            [0.6, 0.0, 0.5, 1.0],
            [-0.1, 0.0, 0.5, 1.0],
            [0.0, f64::NAN, 1.0, 1.0],
        ] {
            let bad = Fractions { crop, ..WHOLE };
            assert_eq!(refused(bad), Some(ViewError::Crop), "{crop:?}");
        }
        for scale in [0.0, 16.1, f64::NAN] {
            let bad = Fractions { scale, ..WHOLE };
            assert_eq!(refused(bad), Some(ViewError::Scale), "{scale}");
        }
        let bad = Fractions {
            uv_offset: [0.0, 1.5],
            ..WHOLE
        };
        assert_eq!(refused(bad), Some(ViewError::UvOffset));
        let bad = Fractions {
            alpha: 1.01,
            ..WHOLE
        };
        assert_eq!(refused(bad), Some(ViewError::Alpha));
    }
}
