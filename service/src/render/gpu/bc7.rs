//! Pixels to BC7 blocks, on the CPU.
//!
//! The encoder is a library's. Here a picture is cut into rows of blocks, so that one can be given up between two of them, and its
//! edges are repeated where its sides are no multiples of four: nothing is ever sampled beyond them.

use block_compression::{BC7Settings, CompressionVariant, encode::compress_rgba8};

use super::slab::BLOCK_BYTES;
use crate::codec::pixels::{PixelsRef, Size};

/// Blocks across and down.
pub fn blocks(size: Size) -> [u32; 2] {
    [size.width.div_ceil(4), size.height.div_ceil(4)]
}

/// Bytes that [`encode`] takes, beside its output, at most.
pub fn scratch_bytes(size: Size) -> u64 {
    let [across, _] = blocks(size);
    u64::from(across) * 64
}

/// The blocks of a picture, row after row, 16 bytes each; `None` if `stop` says so in between.
pub fn encode(pixels: PixelsRef<'_>, stop: impl Fn() -> bool) -> Option<Vec<u8>> {
    let size = pixels.size();
    let ([across, down], stride) = (blocks(size), size.width as usize * 4);
    let (texels, _) = pixels.data().as_chunks::<4>();
    // The fastest of either kind: until the blocks are there the CPU draws. The next one took thirty times as long for 2 dB, at 1080p.
    let settings = match texels.iter().all(|texel| texel[3] == 255) {
        true => BC7Settings::opaque_ultra_fast(),
        false => BC7Settings::alpha_ultrafast(),
    };
    let variant = CompressionVariant::BC7(settings);
    let row_bytes = across as usize * BLOCK_BYTES as usize;
    let mut encoded = vec![0; row_bytes * down as usize];
    let mut strip = Vec::with_capacity(scratch_bytes(size) as usize);
    for (row, out) in encoded.chunks_exact_mut(row_bytes).enumerate() {
        if stop() {
            return None;
        }
        let lines = (row * 4..row * 4 + 4).map(|y| {
            let y = y.min(size.height as usize - 1);
            &pixels.data()[y * stride..][..stride]
        });
        strip.clear();
        for line in lines {
            strip.extend_from_slice(line);
            for _ in size.width..across * 4 {
                strip.extend_from_within(strip.len() - 4..);
            }
        }
        compress_rgba8(variant, &strip, out, across * 4, 4, across * 16);
    }
    Some(encoded)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::render::samples::picture;
    use block_compression::decode::decompress_blocks_as_rgba8;
    use proptest::prelude::*;

    /// What a device reads of blocks: the format's exact values, and as the kernel takes alpha.
    pub fn decode(blocks: &[u8], size: Size) -> Vec<u8> {
        let [across, down] = super::blocks(size);
        let variant = CompressionVariant::BC7(BC7Settings::opaque_ultra_fast());
        let mut whole = vec![0; across as usize * down as usize * 64];
        decompress_blocks_as_rgba8(variant, across * 4, down * 4, blocks, &mut whole);
        let lines = whole.chunks_exact(across as usize * 16);
        let lines = lines.take(size.height as usize);
        let mut pixels: Vec<u8> = lines
            .flat_map(|line| &line[..size.width as usize * 4])
            .copied()
            .collect();
        for alpha in pixels.iter_mut().skip(3).step_by(4) {
            *alpha = if *alpha == 254 { 255 } else { *alpha };
        }
        pixels
    }

    /// Peak signal against noise, in decibels, over all samples.
    pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        let squares = a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
        10.0 * (255.0_f64.powi(2) * a.len() as f64 / squares.sum::<f64>().max(1e-9)).log10()
    }

    /// A picture as photographs are: soft gradients, edges, and a little noise in all of it.
    pub fn scenery(size: Size) -> Vec<u8> {
        let noise = picture(size, 5);
        let at = |x: u32, y: u32, channel: u32| {
            let (fx, fy) = (f64::from(x) / 97.0, f64::from(y) / 61.0);
            let soft = 128.0 + 70.0 * (fx + f64::from(channel)).sin() * (fy * 1.3).cos();
            let edge = if (x / 80 + y / 45).is_multiple_of(7) {
                35.0
            } else {
                0.0
            };
            let grain = noise[((y * size.width + x) * 4 + channel) as usize] % 5;
            (soft + edge + f64::from(grain)).clamp(0.0, 255.0) as u8
        };
        (0..size.height)
            .flat_map(|y| (0..size.width).map(move |x| (x, y)))
            .flat_map(|(x, y)| [at(x, y, 0), at(x, y, 1), at(x, y, 2), 255])
            .collect()
    }

    #[test]
    fn scenery_stays_near_and_opaque() {
        let size = Size::new(333, 215);
        let pixels = scenery(size);
        let blocks = encode(PixelsRef::new(&pixels, size).unwrap(), || false).unwrap();
        assert_eq!(blocks.len(), 84 * 54 * 16);
        let decoded = decode(&blocks, size);
        let near = psnr(&pixels, &decoded);
        assert!(near > 40.0, "{near} dB");
        assert!(decoded.iter().skip(3).step_by(4).all(|alpha| *alpha == 255));
    }

    #[test]
    fn it_ends_when_it_is_told() {
        let size = Size::new(8, 40);
        let pixels = picture(size, 1);
        let rows = std::cell::Cell::new(0);
        let stop = || {
            rows.set(rows.get() + 1);
            rows.get() > 3
        };
        assert_eq!(encode(PixelsRef::new(&pixels, size).unwrap(), stop), None);
        assert_eq!(rows.get(), 4);
    }

    proptest! {
        /// Whatever is sent: blocks for all of it, and no colour of a single one is lost.
        #[test]
        fn any_picture_is_encoded(
            width in 1u32..40, height in 1u32..24, seed: u32, flat: Option<[u8; 4]>,
        ) {
            let size = Size::new(width, height);
            let pixels = match flat {
                Some(colour) => colour.repeat(size.pixels() as usize),
                None => picture(size, seed),
            };
            let blocks = encode(PixelsRef::new(&pixels, size).unwrap(), || false).unwrap();
            let [across, down] = super::blocks(size);
            prop_assert_eq!(blocks.len() as u64, u64::from(across * down) * BLOCK_BYTES);
            let decoded = decode(&blocks, size);
            prop_assert_eq!(decoded.len(), pixels.len());
            if flat.is_some() {
                let off = pixels.iter().zip(&decoded).map(|(a, b)| a.abs_diff(*b)).max();
                prop_assert!(off <= Some(2), "{off:?}");
            }
        }
    }
}
