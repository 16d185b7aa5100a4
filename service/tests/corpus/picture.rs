//! What files of the corpus show.

use backdrop_service::codec::Size;

/// Pixels as they are to be seen.
#[derive(Clone)]
pub struct Picture {
    pub size: Size,
    /// RGBA8, row-major.
    pub pixels: Vec<u8>,
}

impl Picture {
    pub fn new(size: Size, pixel: impl Fn(u32, u32) -> [u8; 4]) -> Self {
        let at = (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y)));
        let pixels = at.flat_map(|(x, y)| pixel(x, y)).collect();
        Self { size, pixels }
    }

    /// Smooth, opaque, and another picture after any turn. Its sides are no multiples of a block.
    pub fn slope() -> Self {
        Self::new(Size::new(45, 26), slope)
    }

    pub fn pixel(&self, x: u32, y: u32) -> [u8; 4] {
        let at = (y * self.size.width + x) as usize * 4;
        self.pixels[at..at + 4].try_into().expect("four")
    }

    /// Three of every four bytes.
    pub fn rgb(&self) -> Vec<u8> {
        let (pixels, _) = self.pixels.as_chunks::<4>();
        pixels.iter().flat_map(|p| [p[0], p[1], p[2]]).collect()
    }

    /// Says where `pixels` differ by more than the tolerance.
    pub fn compare(&self, pixels: &[u8], tolerance: u8) -> Result<(), String> {
        if pixels.len() != self.pixels.len() {
            return Err(format!("{} bytes of {}", pixels.len(), self.pixels.len()));
        }
        let far = |(a, b): (&u8, &u8)| a.abs_diff(*b) > tolerance;
        match self.pixels.iter().zip(pixels).position(far) {
            None => Ok(()),
            Some(at) => {
                let (pixel, from) = (at as u32 / 4, at / 4 * 4);
                Err(format!(
                    "{:?} and not {:?} at {}, {}",
                    &pixels[from..from + 4],
                    &self.pixels[from..from + 4],
                    pixel % self.size.width,
                    pixel / self.size.width
                ))
            }
        }
    }
}

/// A pixel of [`Picture::slope`] and of the fixtures.
pub fn slope(x: u32, y: u32) -> [u8; 4] {
    [
        (x * 5).min(255) as u8,
        (y * 7).min(255) as u8,
        (200 - x * 2 - y) as u8,
        255,
    ]
}
