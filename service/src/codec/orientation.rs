//! EXIF orientation: which way up a picture is shown, and the turn that makes it so.
//!
//! Knows the one tag of the TIFF structure that EXIF is, and pixels; not where a format keeps its EXIF. Metadata is advice: what
//! makes no sense is as if it were not there, since a camera's bug is no reason to refuse its picture.

use super::{PixelsMut, PixelsRef, Size};

/// Tag 0x0112. The names say what the file's first row and first column are to who looks at the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    TopLeft,
    /// 2: mirrored.
    TopRight,
    /// 3: upside down.
    BottomRight,
    /// 4: upside down and mirrored.
    BottomLeft,
    /// 5: rows are columns.
    LeftTop,
    /// 6: to be turned clockwise by a quarter.
    RightTop,
    /// 7: rows are columns, both reversed.
    RightBottom,
    /// 8: to be turned counter-clockwise by a quarter.
    LeftBottom,
}

const TAG: u16 = 0x0112;
const TYPE_SHORT: u16 = 3;
/// Bytes of an entry of a TIFF directory, and where its value stands in it.
const ENTRY: usize = 12;
const VALUE_AT: usize = 8;

/// Sides of the squares that a picture is turned by: both of their faces fit the first-level cache.
const TILE: usize = 32;

impl Orientation {
    /// The orientation that EXIF data claims, from its byte order mark on. As stored where there is none or nonsense.
    pub(super) fn from_exif(tiff: &[u8]) -> Self {
        Self::find(tiff).unwrap_or_default()
    }

    fn find(tiff: &[u8]) -> Option<Self> {
        let little = match tiff.get(..4)? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let u16_at = |at: usize| {
            let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
            Some(if little {
                u16::from_le_bytes(bytes)
            } else {
                u16::from_be_bytes(bytes)
            })
        };
        let (high, low) = if little { (6, 4) } else { (4, 6) };
        let directory = (usize::from(u16_at(high)?) << 16) | usize::from(u16_at(low)?);
        let entries = usize::from(u16_at(directory)?);
        (0..entries)
            .map(|i| directory + 2 + i * ENTRY)
            .take_while(|&at| at + ENTRY <= tiff.len())
            .find(|&at| u16_at(at) == Some(TAG) && u16_at(at + 2) == Some(TYPE_SHORT))
            .and_then(|at| Self::from_value(u16_at(at + VALUE_AT)?))
    }

    fn from_value(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::TopLeft,
            2 => Self::TopRight,
            3 => Self::BottomRight,
            4 => Self::BottomLeft,
            5 => Self::LeftTop,
            6 => Self::RightTop,
            7 => Self::RightBottom,
            8 => Self::LeftBottom,
            _ => return None,
        })
    }

    /// Whether a stored row is a column of the picture: such a turn needs the picture twice.
    pub const fn swaps_sides(self) -> bool {
        matches!(
            self,
            Self::LeftTop | Self::RightTop | Self::RightBottom | Self::LeftBottom
        )
    }

    /// The size of the picture for its stored size, and the reverse.
    pub const fn applied_to(self, size: Size) -> Size {
        if self.swaps_sides() {
            Size::new(size.height, size.width)
        } else {
            size
        }
    }

    /// Turns a stored picture where it lies. Those that swap sides are left alone: see [`Orientation::turn`].
    pub(super) fn turn_in_place(self, pixels: &mut PixelsMut<'_>) {
        let width = pixels.size().width as usize;
        let (all, _) = pixels.data().as_chunks_mut::<4>();
        match self {
            Self::TopRight => all.chunks_exact_mut(width).for_each(<[_]>::reverse),
            Self::BottomRight => all.reverse(),
            Self::BottomLeft => {
                let mut rows = all.chunks_exact_mut(width);
                while let (Some(top), Some(bottom)) = (rows.next(), rows.next_back()) {
                    top.swap_with_slice(bottom);
                }
            }
            _ => {}
        }
    }

    /// Writes the stored picture `from` to `to` as it is to be seen, for the orientations that swap sides.
    ///
    /// # Panics
    /// When `to` does not have the sides of `from`, swapped.
    pub(super) fn turn(self, from: PixelsRef<'_>, to: &mut PixelsMut<'_>) {
        assert!(self.swaps_sides() && to.size() == self.applied_to(from.size()));
        let stored = from.size();
        let (stored_width, stored_height) = (stored.width as usize, stored.height as usize);
        let (first_row_right, first_column_bottom) = (
            matches!(self, Self::RightTop | Self::RightBottom),
            matches!(self, Self::LeftBottom | Self::RightBottom),
        );
        let (source, _) = from.data().as_chunks::<4>();
        let (target, _) = to.data().as_chunks_mut::<4>();
        // The picture is as wide as the file is high.
        let (width, height) = (stored_height, stored_width);
        for top in (0..height).step_by(TILE) {
            for left in (0..width).step_by(TILE) {
                for y in top..(top + TILE).min(height) {
                    let column = if first_column_bottom {
                        height - 1 - y
                    } else {
                        y
                    };
                    let right = (left + TILE).min(width);
                    for (x, pixel) in (left..right).zip(&mut target[y * width + left..]) {
                        let row = if first_row_right { width - 1 - x } else { x };
                        *pixel = source[row * stored_width + column];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(little: bool, entries: &[(u16, u16, u16)]) -> Vec<u8> {
        let two = |n: u16| {
            if little {
                n.to_le_bytes()
            } else {
                n.to_be_bytes()
            }
        };
        let four = |n: u32| {
            if little {
                n.to_le_bytes()
            } else {
                n.to_be_bytes()
            }
        };
        let mut tiff = if little { b"II*\0" } else { b"MM\0*" }.to_vec();
        tiff.extend(four(8));
        tiff.extend(two(entries.len() as u16));
        for &(tag, kind, value) in entries {
            tiff.extend([two(tag), two(kind)].concat());
            tiff.extend(four(1));
            tiff.extend([two(value), [0; 2]].concat());
        }
        tiff
    }

    #[test]
    fn the_tag_is_found_in_both_byte_orders_and_behind_others() {
        for little in [true, false] {
            let tiff = exif(little, &[(0x010F, 2, 9), (TAG, TYPE_SHORT, 6)]);
            assert_eq!(Orientation::from_exif(&tiff), Orientation::RightTop);
        }
    }

    #[test]
    fn nonsense_is_as_stored() {
        let whole = exif(true, &[(TAG, TYPE_SHORT, 6)]);
        for end in 0..whole.len() {
            assert_eq!(
                Orientation::from_exif(&whole[..end]),
                Orientation::TopLeft,
                "{end}"
            );
        }
        let mut far = whole.clone();
        far[4..8].fill(0xFF);
        let wrong = [
            far,
            exif(true, &[(TAG, TYPE_SHORT, 0)]),
            exif(true, &[(TAG, TYPE_SHORT, 9)]),
            exif(true, &[(TAG, 4, 6)]),
            b"XX*\0".to_vec(),
        ];
        for tiff in wrong {
            assert_eq!(Orientation::from_exif(&tiff), Orientation::TopLeft);
        }
    }
}
