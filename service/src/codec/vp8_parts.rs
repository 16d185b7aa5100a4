//! Are the parts of a lossy WebP's data where its header says? They are walked before the decoder is let at them, which makes room for
//! a part, of 16 MiB at most, before it sees that the file ends.
//!
//! Knows the header of a key frame up to the number of parts (RFC 6386, 7 and 9.2 to 9.5), which is written in the format's arithmetic
//! code. No values of it matter here.

use super::{CodecError, Format, probe::Walk};

/// Bytes before the first part: the frame's tag, a signature, two sides.
const HEAD: usize = 10;

/// Checks that a key frame's data, of which the head was looked at before, has all the bytes of its parts.
///
/// # Errors
/// [`CodecError::Truncated`] where it ends within one.
pub(super) fn verify(data: &[u8]) -> Result<(), CodecError> {
    let mut walk = Walk::new(data, 0, Format::Webp);
    let head = walk.take(HEAD)?;
    let tag = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let first = walk.take((tag >> 5) as usize)?;
    let others = parts(&mut Bits::new(first)) - 1;
    // All but the last have a size.
    let sizes = walk.take(3 * others)?;
    for size in sizes.as_chunks::<3>().0 {
        walk.take(u32::from_le_bytes([size[0], size[1], size[2], 0]) as usize)?;
    }
    Ok(())
}

/// The number of parts beside the first: 1, 2, 4 or 8.
fn parts(bits: &mut Bits<'_>) -> usize {
    let _colour_space_and_clamping = bits.literal(2);
    if bits.flag() {
        segments(bits);
    }
    let _filter_and_its_strength = bits.literal(1 + 6 + 3);
    if bits.flag() && bits.flag() {
        (0..8).for_each(|_| bits.optional(6 + 1));
    }
    1 << bits.literal(2)
}

fn segments(bits: &mut Bits<'_>) {
    let map = bits.flag();
    if bits.flag() {
        let _absolute = bits.flag();
        (0..4).for_each(|_| bits.optional(7 + 1));
        (0..4).for_each(|_| bits.optional(6 + 1));
    }
    if map {
        (0..3).for_each(|_| bits.optional(8));
    }
}

/// The arithmetic code, where both values of a bit are as likely. Zeroes follow its end.
struct Bits<'a> {
    bytes: std::slice::Iter<'a, u8>,
    value: u32,
    range: u32,
    shifted: u32,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut bits = Self {
            bytes: bytes.iter(),
            value: 0,
            range: 255,
            shifted: 0,
        };
        bits.value = bits.byte() << 8 | bits.byte();
        bits
    }

    fn byte(&mut self) -> u32 {
        self.bytes.next().copied().unwrap_or(0).into()
    }

    fn flag(&mut self) -> bool {
        let split = 1 + (((self.range - 1) * 128) >> 8);
        let set = self.value >= split << 8;
        if set {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            self.value <<= 1;
            self.shifted += 1;
            if self.shifted == 8 {
                self.shifted = 0;
                self.value |= self.byte();
            }
        }
        set
    }

    fn literal(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |value, _| value << 1 | u32::from(self.flag()))
    }

    /// A value that is there if a bit before it says so.
    fn optional(&mut self, bits: u32) {
        if self.flag() {
            self.literal(bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first part of a frame with these bits in front, by the coder of the standard's section 7.
    fn coded(bits: &[(u32, u32)]) -> Vec<u8> {
        let (mut out, mut bottom, mut range, mut left) = (Vec::<u8>::new(), 0_u32, 255_u32, 24);
        let mut put = |set: bool| {
            let split = 1 + (((range - 1) * 128) >> 8);
            if set {
                bottom = bottom.wrapping_add(split);
                range -= split;
                if bottom < split {
                    carry(&mut out);
                }
            } else {
                range = split;
            }
            while range < 128 {
                range <<= 1;
                if bottom >> 31 == 1 {
                    carry(&mut out);
                }
                bottom <<= 1;
                left -= 1;
                if left == 0 {
                    out.push((bottom >> 24) as u8);
                    bottom &= (1 << 24) - 1;
                    left = 8;
                }
            }
        };
        for &(value, count) in bits {
            (0..count).rev().for_each(|at| put(value >> at & 1 == 1));
        }
        (0..32).for_each(|_| put(false));
        out
    }

    fn carry(out: &mut [u8]) {
        for byte in out.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }

    /// Segments with every value there, a filter with every adjustment, and two bits for the number of parts.
    fn everything(log2_parts: u32) -> Vec<u8> {
        let mut bits = vec![(0b00, 2), (1, 1), (1, 1), (1, 1), (1, 1)];
        bits.extend([(0b1_0101_0101, 9); 4]);
        bits.extend([(0b1010_1010, 8); 4]);
        bits.extend([(0b1_1100_1100, 9); 3]);
        bits.extend([(0b11_0110_1101, 10), (0b11, 2)]);
        bits.extend([(0b1001_1001, 8); 8]);
        bits.push((log2_parts, 2));
        coded(&bits)
    }

    fn nothing(log2_parts: u32) -> Vec<u8> {
        coded(&[
            (0, 2),
            (0, 1),
            (0b11_1111_1111, 10),
            (0, 1),
            (log2_parts, 2),
        ])
    }

    fn frame(first: &[u8], sizes: &[u32], rest: usize) -> Vec<u8> {
        let mut data = vec![0; HEAD];
        data[..3].copy_from_slice(&((first.len() as u32) << 5).to_le_bytes()[..3]);
        data.extend(first);
        for size in sizes {
            data.extend(&size.to_le_bytes()[..3]);
        }
        data.resize(data.len() + rest, 0xA7);
        data
    }

    #[test]
    fn the_number_of_parts_is_found_behind_whatever_is_there() {
        for log2 in 0..4 {
            for first in [everything(log2), nothing(log2)] {
                assert_eq!(parts(&mut Bits::new(&first)), 1 << log2);
            }
        }
    }

    #[test]
    fn parts_that_the_data_lacks_are_truncated() {
        for first in [everything(2), nothing(2)] {
            assert_eq!(verify(&frame(&first, &[9, 0, 70], 79)), Ok(()));
            for (sizes, rest) in [
                ([9, 0, 70], 78),
                ([0xFF_FFFF, 0, 0], 500),
                ([0, 0, 501], 500),
            ] {
                let data = frame(&first, &sizes, rest);
                let truncated = Err(CodecError::Truncated {
                    format: Format::Webp,
                });
                assert_eq!(verify(&data), truncated, "{sizes:?}");
            }
        }
        let whole = frame(&nothing(0), &[], 0);
        assert_eq!(verify(&whole), Ok(()));
        for end in 0..whole.len() {
            assert!(verify(&whole[..end]).is_err(), "{end}");
        }
    }
}
