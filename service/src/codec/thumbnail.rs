//! The picture that stays when the pixels have gone: a JPEG of at most 4 KiB.
//!
//! Shrinks by plain area averages of its own, because `codec` must not know `render`. Runs once per upload.

use super::encode::write_jpeg;
use super::{CodecError, PixelsRef, Size};

/// Most bytes of a thumbnail.
pub const THUMBNAIL_BYTES_MAX: usize = 4096;

/// Longest side of a thumbnail, in pixels; fewer where the picture is smaller or does not fit its bytes.
pub const THUMBNAIL_SIDE_MAX: u32 = 160;

/// Memory that [`thumbnail`] takes at most, in bytes.
pub const THUMBNAIL_SCRATCH_BYTES: u64 = 512 * 1024;

/// A small JPEG of the picture, of at most [`THUMBNAIL_BYTES_MAX`] bytes. Lowers quality, then size, until it fits; alpha
/// is dropped.
pub fn thumbnail(pixels: PixelsRef<'_>) -> Result<Vec<u8>, CodecError> {
    let mut side = THUMBNAIL_SIDE_MAX;
    loop {
        let (block, size) = shrink(pixels, fit(pixels.size(), side));
        let small = PixelsRef::new(&block, size).expect("the block was made for this size");
        for quality in [80, 70, 55, 40, 25] {
            let mut file = Vec::with_capacity(THUMBNAIL_BYTES_MAX);
            write_jpeg(small, quality, &mut file)?;
            if file.len() <= THUMBNAIL_BYTES_MAX {
                file.shrink_to_fit();
                return Ok(file);
            }
        }
        // Headers and one block take below a kilobyte, so this ends long before a side of zero.
        side = (side * 3 / 4).max(1);
    }
}

/// The largest size of the same shape whose longer side is at most `side`; never larger than the picture.
fn fit(size: Size, side: u32) -> Size {
    let longest = size.width.max(size.height);
    if longest <= side {
        return size;
    }
    let scaled = |n: u32| ((u64::from(n) * u64::from(side) / u64::from(longest)) as u32).max(1);
    Size::new(scaled(size.width), scaled(size.height))
}

/// Averages of the source pixels that fall into each target pixel, whole pixels only.
fn shrink(pixels: PixelsRef<'_>, size: Size) -> (Vec<u8>, Size) {
    let source = pixels.size();
    let span = |i: u32, n: u32, of: u32| {
        let at = |i: u32| (u64::from(i) * u64::from(of) / u64::from(n)) as u32;
        at(i)..at(i + 1).max(at(i) + 1)
    };
    let mut block = Vec::with_capacity(size.bytes() as usize);
    for y in 0..size.height {
        let rows = span(y, size.height, source.height);
        for x in 0..size.width {
            let columns = span(x, size.width, source.width);
            let mut sums = [0u64; 4];
            for row in rows.clone() {
                let row = &pixels.row(row)[columns.start as usize * 4..columns.end as usize * 4];
                for pixel in row.chunks_exact(4) {
                    for (sum, &sample) in sums.iter_mut().zip(pixel) {
                        *sum += u64::from(sample);
                    }
                }
            }
            let count = u64::from(rows.end - rows.start) * u64::from(columns.end - columns.start);
            block.extend(sums.map(|sum| ((sum + count / 2) / count) as u8));
        }
    }
    (block, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(size: Size) -> Vec<u8> {
        let mut state = 0x9E37_79B9_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..size.bytes()).map(|_| next()).collect()
    }

    #[test]
    fn noise_of_any_shape_fits_four_kilobytes() {
        for size in [
            Size::new(1, 1),
            Size::new(160, 160),
            Size::new(1000, 3),
            Size::new(3, 1000),
            Size::new(400, 300),
        ] {
            let data = noise(size);
            let file = thumbnail(PixelsRef::new(&data, size).unwrap()).unwrap();
            assert!(file.len() <= THUMBNAIL_BYTES_MAX, "{size}: {}", file.len());
            assert!(file.starts_with(&[0xFF, 0xD8]));
        }
    }

    #[test]
    fn shrinking_averages() {
        let data = [0, 10, 20, 255, 100, 30, 40, 255];
        let (block, _) = shrink(
            PixelsRef::new(&data, Size::new(2, 1)).unwrap(),
            Size::new(1, 1),
        );
        assert_eq!(block, [50, 20, 30, 255]);
        assert_eq!(fit(Size::new(1920, 1080), 160), Size::new(160, 90));
        assert_eq!(fit(Size::new(5000, 1), 160), Size::new(160, 1));
    }
}
