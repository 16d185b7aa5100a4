//! How far a blur reaches. What it does is in `render`'s specification, how in [`super::cpu::blur`].

/// Reach of each of a blur's boxes in pixels, `1..=Radius::MAX`.
///
/// Three boxes come to about a Gaussian whose standard deviation is half a pixel more than the reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Radius(u8);

impl Radius {
    /// The largest one: sums of more samples would not fit sixteen bits.
    pub const MAX: u8 = 127;

    /// `None` for 0, which would be no blur, and above [`Radius::MAX`].
    pub const fn new(pixels: u8) -> Option<Self> {
        match pixels {
            1..=Self::MAX => Some(Self(pixels)),
            _ => None,
        }
    }

    /// Pixels.
    pub const fn get(self) -> u8 {
        self.0
    }
}
