//! The code that backgrounds carry in their pixels: number and revision, repeated in every eighth of height and width.
//!
//! Each of the 8 × 8 cells of a picture holds the same block in its central half: eight by six modules, of which the
//! first and the last row are a fixed checker that gives the threshold, and the four between are 32 bits (number,
//! revision, CRC-8). At 640×360 a module is 5 × 3.75 pixels. Only brightness counts, so chroma subsampling does not
//! matter, and every cell is read by itself, so that a frame of two backgrounds is seen as such, and one of which a
//! band was never drawn.
//!
//! Knows pixels only; what a code ought to be is the truth checker's business.

use crate::truth::Pixels;

/// Cells across and down a picture.
const GRID: usize = 8;
const COLUMNS: usize = 8;
const ROWS: usize = 6;
/// Least difference between the light and the dark modules of a cell, of 255.
const CONTRAST_MIN: f32 = 36.0;
/// Cells narrower or lower than this in the frame are not read.
const CELL_MIN_PX: (f64, f64) = (24.0, 18.0);
/// Brightness that a module is drawn towards, and how much of the picture shines through.
const LIGHT: f32 = 236.0;
const DARK: f32 = 24.0;
const OPACITY: f32 = 0.78;

/// Share of the cells that must be read in a crop, whose outer cells are cut.
const CROP_READ_MIN: f64 = 0.75;
/// The same in a whole frame: at most four of its 64 cells may be missing. Real previews lose none.
const WHOLE_READ_MIN: f64 = 0.9375;

/// What a background says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Background number.
    pub number: u16,
    /// Upload revision.
    pub revision: u8,
}

impl Payload {
    fn bits(self) -> u32 {
        let [high, low] = self.number.to_be_bytes();
        u32::from_be_bytes([high, low, self.revision, crc8(&[high, low, self.revision])])
    }

    fn from_bits(bits: u32) -> Option<Self> {
        let [high, low, revision, crc] = bits.to_be_bytes();
        (crc8(&[high, low, revision]) == crc).then(|| Payload {
            number: u16::from_be_bytes([high, low]),
            revision,
        })
    }
}

/// CRC-8 with polynomial 0x2F (AUTOSAR) and a start value, so that all-dark is no code.
fn crc8(bytes: &[u8]) -> u8 {
    let mut crc = 0xff_u8;
    for byte in bytes {
        crc ^= byte;
        for _ in 0..8 {
            crc = if crc & 0x80 != 0 {
                crc << 1 ^ 0x2f
            } else {
                crc << 1
            };
        }
    }
    crc ^ 0xff
}

/// Whether a module is light.
fn module(bits: u32, column: usize, row: usize) -> bool {
    match row {
        0 => column.is_multiple_of(2),
        5 => !column.is_multiple_of(2),
        _ => bits >> (31 - ((row - 1) * COLUMNS + column)) & 1 == 1,
    }
}

/// A part of a picture, in fractions of its width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crop {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Crop {
    /// The whole picture.
    pub const FULL: Crop = Crop {
        x: 0.0,
        y: 0.0,
        width: 1.0,
        height: 1.0,
    };
}

/// Stamps the code onto `rgb`: 8-bit, row-major, width * height * 3 bytes, no row padding.
///
/// # Panics
/// If `rgb` is not of that length.
pub fn stamp(rgb: &mut [u8], width: usize, height: usize, payload: Payload) {
    assert_eq!(rgb.len(), width * height * 3, "picture and size differ");
    let bits = payload.bits();
    let columns = edges(width, COLUMNS, 4);
    let rows = edges(height, ROWS, 3);
    for (row, top, bottom) in rows {
        for y in top..bottom {
            let line = &mut rgb[y * width * 3..(y + 1) * width * 3];
            for &(column, left, right) in &columns {
                let target = if module(bits, column, row) {
                    LIGHT
                } else {
                    DARK
                };
                for value in &mut line[left * 3..right * 3] {
                    *value = (target * OPACITY + f32::from(*value) * (1.0 - OPACITY)) as u8;
                }
            }
        }
    }
}

/// Pixel ranges of the modules along one axis, for all cells: (module, from, to).
fn edges(extent: usize, modules: usize, margin: usize) -> Vec<(usize, usize, usize)> {
    // A cell is `modules` wide plus `margin` on both sides, which is the block twice over.
    let steps = (modules + 2 * margin) * GRID;
    let at = |step: usize| (step * extent + steps / 2) / steps;
    let mut out = Vec::with_capacity(GRID * modules);
    for cell in 0..GRID {
        for index in 0..modules {
            let step = cell * (modules + 2 * margin) + margin + index;
            out.push((index, at(step), at(step + 1)));
        }
    }
    out
}

/// Brightness of a frame: 8-bit, row-major, width * height bytes.
#[derive(Debug, Clone, Copy)]
pub struct Luma<'a> {
    /// Samples.
    pub data: &'a [u8],
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Luma<'_> {
    /// Mean brightness of the pixels whose centres lie in the rectangle; the nearest one if there is none.
    pub(crate) fn mean(&self, left: f64, top: f64, right: f64, bottom: f64) -> f32 {
        let columns = span(left, right, self.width);
        let mut sum = 0_u32;
        let mut count = 0_u32;
        for y in span(top, bottom, self.height) {
            for x in columns.clone() {
                sum += u32::from(self.data[y * self.width + x]);
                count += 1;
            }
        }
        sum as f32 / count.max(1) as f32
    }
}

fn span(from: f64, to: f64, extent: usize) -> std::ops::Range<usize> {
    let first = (from - 0.5).ceil().max(0.0) as usize;
    let last = ((to - 0.5).floor().max(0.0) as usize + 1).min(extent);
    if first < last {
        return first..last;
    }
    let nearest = (((from + to) / 2.0) as usize).min(extent.saturating_sub(1));
    nearest..nearest + 1
}

/// Reads the code of a frame that shows `crop` of its background.
pub fn read(luma: Luma<'_>, crop: Crop) -> Pixels {
    if luma.data.len() < luma.width * luma.height || luma.width == 0 || luma.height == 0 {
        return Pixels::Unreadable;
    }
    let cells = look(luma, crop);
    conclude(&cells)
}

/// Reads the code of a whole frame in which something else hides cells, given by column and row; `is_there` says whether that is seen.
pub fn read_around(
    luma: Luma<'_>,
    hides: impl Fn(usize, usize) -> bool,
    is_there: impl FnOnce(Luma<'_>) -> bool,
) -> Pixels {
    if luma.data.len() < luma.width * luma.height || luma.width == 0 || luma.height == 0 {
        return Pixels::Unreadable;
    }
    let mut cells = look(luma, Crop::FULL);
    for (row, line) in cells.iter_mut().enumerate() {
        for (column, cell) in line.iter_mut().enumerate() {
            if hides(column, row) {
                *cell = Cell::Covered;
            }
        }
    }
    match conclude(&cells) {
        Pixels::Code { number, revision } if !is_there(luma) => Pixels::Alone { number, revision },
        other => other,
    }
}

fn look(luma: Luma<'_>, crop: Crop) -> Cells {
    let mut cells = [[Cell::Hidden; GRID]; GRID];
    for (row, line) in cells.iter_mut().enumerate() {
        for (column, cell) in line.iter_mut().enumerate() {
            if let Some(block) = Block::in_frame(luma, crop, column, row) {
                *cell = block.read(luma).map_or(Cell::Unread, Cell::Read);
            }
        }
    }
    cells
}

/// What one cell of a frame gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Not wholly in the frame, or too small.
    Hidden,
    /// Behind something that is meant to be there.
    Covered,
    /// No code.
    Unread,
    /// A code.
    Read(Payload),
}

type Cells = [[Cell; GRID]; GRID];

fn conclude(cells: &Cells) -> Pixels {
    let all = || cells.iter().flatten();
    let visible = || all().filter(|cell| !matches!(cell, Cell::Hidden | Cell::Covered));
    let mut found = visible().filter_map(|cell| match cell {
        Cell::Read(payload) => Some(payload),
        _ => None,
    });
    let Some(first) = found.next() else {
        return Pixels::Unreadable;
    };
    if let Some(other) = found.find(|other| *other != first) {
        return Pixels::Torn {
            codes: [
                (first.number, first.revision),
                (other.number, other.revision),
            ],
        };
    }
    let (number, revision) = (first.number, first.revision);
    let entire = all().all(|cell| *cell != Cell::Hidden);
    if entire && has_gap(cells) {
        return Pixels::Gap { number, revision };
    }
    // Too many unread cells: a tear may hide in them.
    let least = if entire {
        WHOLE_READ_MIN
    } else {
        CROP_READ_MIN
    };
    if read_share(visible()) < least {
        return Pixels::Unreadable;
    }
    Pixels::Code { number, revision }
}

fn read_share<'a>(cells: impl Iterator<Item = &'a Cell>) -> f64 {
    let (mut read, mut all) = (0, 0);
    for cell in cells {
        all += 1;
        read += usize::from(matches!(cell, Cell::Read(_)));
    }
    read as f64 / all.max(1) as f64
}

/// Whether whole rows or columns of a whole frame, as far as they can be seen, are unread while the rest reads well: something was not
/// drawn there.
/// In a frame that reads badly all over, such a row says nothing.
fn has_gap(cells: &Cells) -> bool {
    let blank = |cell: &Cell| matches!(cell, Cell::Unread | Cell::Covered);
    let blank_row = |row: usize| cells[row].iter().all(blank);
    let blank_column = |column: usize| cells.iter().all(|line| blank(&line[column]));
    let rows: Vec<usize> = (0..GRID).filter(|row| !blank_row(*row)).collect();
    let columns: Vec<usize> = (0..GRID).filter(|column| !blank_column(*column)).collect();
    let rest = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| &cells[*row][*column]))
        .filter(|cell| **cell != Cell::Covered);
    rows.len() * columns.len() < GRID * GRID && read_share(rest) >= WHOLE_READ_MIN
}

/// One cell's block in frame pixels.
struct Block {
    left: f64,
    top: f64,
    module_width: f64,
    module_height: f64,
}

impl Block {
    /// `None` when the block is not wholly visible, or too small to be read.
    fn in_frame(luma: Luma<'_>, crop: Crop, column: usize, row: usize) -> Option<Self> {
        let scale_x = luma.width as f64 / crop.width;
        let scale_y = luma.height as f64 / crop.height;
        let cell = 1.0 / GRID as f64;
        let left = ((column as f64 + 0.25) * cell - crop.x) * scale_x;
        let top = ((row as f64 + 0.25) * cell - crop.y) * scale_y;
        let (width, height) = (cell * scale_x / 2.0, cell * scale_y / 2.0);
        let visible = left >= 0.0
            && top >= 0.0
            && left + width <= luma.width as f64
            && top + height <= luma.height as f64;
        let large = cell * scale_x >= CELL_MIN_PX.0 && cell * scale_y >= CELL_MIN_PX.1;
        (visible && large).then(|| Block {
            left,
            top,
            module_width: width / COLUMNS as f64,
            module_height: height / ROWS as f64,
        })
    }

    /// Mean of the inner part of a module: its edges carry the neighbours' ringing.
    fn brightness(&self, luma: Luma<'_>, column: usize, row: usize) -> f32 {
        let left = self.left + column as f64 * self.module_width;
        let top = self.top + row as f64 * self.module_height;
        luma.mean(
            left + self.module_width * 0.2,
            top + self.module_height * 0.2,
            left + self.module_width * 0.8,
            top + self.module_height * 0.8,
        )
    }

    fn read(&self, luma: Luma<'_>) -> Option<Payload> {
        let threshold = self.threshold(luma)?;
        let mut bits = 0;
        for row in 1..ROWS - 1 {
            for column in 0..COLUMNS {
                bits = bits << 1 | u32::from(self.brightness(luma, column, row) > threshold);
            }
        }
        Payload::from_bits(bits)
    }

    /// Half-way between the checker's light and dark modules; `None` if they are not a checker.
    fn threshold(&self, luma: Luma<'_>) -> Option<f32> {
        let mut darkest_light = f32::MAX;
        let mut lightest_dark = f32::MIN;
        for row in [0, ROWS - 1] {
            for column in 0..COLUMNS {
                let value = self.brightness(luma, column, row);
                if module(0, column, row) {
                    darkest_light = darkest_light.min(value);
                } else {
                    lightest_dark = lightest_dark.max(value);
                }
            }
        }
        (darkest_light - lightest_dark >= CONTRAST_MIN)
            .then_some((darkest_light + lightest_dark) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{self, Rgb};
    use proptest::prelude::*;

    fn noisy(width: usize, height: usize, seed: u64) -> Rgb {
        let mut picture = Rgb::blank(width, height);
        for (index, value) in picture.data.iter_mut().enumerate() {
            let smooth = ((index / 3 % width) * 255 / width) as u64;
            *value = ((smooth + crate::schedule::mix(seed, 1, index as u64 / 17) % 120) / 2) as u8;
        }
        picture
    }

    fn round_trip(source: &Rgb, crop: Crop, width: usize, height: usize, quality: u8) -> Pixels {
        let frame = picture::resample(source, crop, width, height);
        let bytes = picture::encode(&frame, quality).unwrap();
        let (luma, width, height) = picture::decode_luma(&bytes).unwrap();
        read(
            Luma {
                data: &luma,
                width,
                height,
            },
            crop,
        )
    }

    fn stamped(payload: Payload, seed: u64) -> Rgb {
        let mut source = noisy(960, 540, seed);
        stamp(&mut source.data, 960, 540, payload);
        source
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn survives_scaling_and_jpeg(number: u16, revision: u8, seed: u64, quality in 70_u8..95, width in 480_usize..1000) {
            let source = stamped(Payload { number, revision }, seed);
            let height = width * 9 / 16;
            prop_assert_eq!(round_trip(&source, Crop::FULL, width, height, quality), Pixels::Code { number, revision });
        }

        #[test]
        fn survives_crops(number: u16, revision: u8, x in 0.0_f64..0.5, y in 0.0_f64..0.5, size in 0.3_f64..0.5) {
            let source = stamped(Payload { number, revision }, 9);
            let crop = Crop { x, y, width: size, height: size };
            prop_assert_eq!(round_trip(&source, crop, 640, 360, 80), Pixels::Code { number, revision });
        }

        #[test]
        fn any_payload_survives_its_bits(number: u16, revision: u8) {
            let payload = Payload { number, revision };
            prop_assert_eq!(Payload::from_bits(payload.bits()), Some(payload));
        }

        #[test]
        fn a_flipped_bit_is_no_code(number: u16, revision: u8, bit in 0_u32..32) {
            let bits = Payload { number, revision }.bits();
            prop_assert_eq!(Payload::from_bits(bits ^ 1 << bit), None);
        }
    }

    #[test]
    fn a_frame_of_two_backgrounds_is_torn() {
        let upper = stamped(
            Payload {
                number: 3,
                revision: 1,
            },
            1,
        );
        let mut mixed = stamped(
            Payload {
                number: 4,
                revision: 1,
            },
            2,
        );
        let half = mixed.data.len() / 3;
        mixed.data[..half].copy_from_slice(&upper.data[..half]);
        let seen = round_trip(&mixed, Crop::FULL, 640, 360, 80);
        assert!(
            matches!(
                seen,
                Pixels::Torn {
                    codes: [(3, 1), (4, 1)]
                }
            ),
            "{seen:?}"
        );
    }

    /// A frame of which a part, in fractions, was painted over with one brightness.
    fn painted_over(part: Crop, brightness: u8) -> Pixels {
        let mut source = stamped(
            Payload {
                number: 3,
                revision: 1,
            },
            1,
        );
        let (width, height) = (source.width as f64, source.height as f64);
        for y in (part.y * height) as usize..((part.y + part.height) * height) as usize {
            for x in (part.x * width) as usize..((part.x + part.width) * width) as usize {
                let at = (y * source.width + x) * 3;
                source.data[at..at + 3].fill(brightness);
            }
        }
        round_trip(&source, Crop::FULL, 640, 360, 80)
    }

    #[test]
    fn a_band_that_was_never_drawn_is_a_gap() {
        let gap = Pixels::Gap {
            number: 3,
            revision: 1,
        };
        let bands = [
            (0.0, 0.875, 1.0, 0.125),
            (0.0, 0.5, 1.0, 0.5),
            (0.25, 0.0, 0.125, 1.0),
            (0.0, 0.125, 1.0, 0.875),
        ];
        for (x, y, width, height) in bands {
            let part = Crop {
                x,
                y,
                width,
                height,
            };
            for brightness in [0, 128, 255] {
                assert_eq!(painted_over(part, brightness), gap, "{part:?} {brightness}");
            }
        }
    }

    #[test]
    fn a_spot_is_borne_and_a_large_hole_is_not() {
        let spot = Crop {
            x: 0.25,
            y: 0.25,
            width: 0.25,
            height: 0.125,
        };
        assert!(matches!(painted_over(spot, 0), Pixels::Code { .. }));
        let hole = Crop {
            height: 0.5,
            width: 0.5,
            ..spot
        };
        assert_eq!(painted_over(hole, 0), Pixels::Unreadable);
    }

    #[test]
    fn noise_and_plain_pictures_are_unreadable() {
        assert_eq!(
            round_trip(&noisy(960, 540, 4), Crop::FULL, 640, 360, 80),
            Pixels::Unreadable
        );
        assert_eq!(
            round_trip(&Rgb::blank(960, 540), Crop::FULL, 640, 360, 80),
            Pixels::Unreadable
        );
        let tiny = [0_u8; 4];
        assert_eq!(
            read(
                Luma {
                    data: &tiny,
                    width: 2,
                    height: 2
                },
                Crop::FULL
            ),
            Pixels::Unreadable
        );
    }
}
