//! PNG files of every colour type, depth and order of rows, by a writer of its own: the `png` crate writes no interlaced files.

use std::io::Write;
use std::sync::LazyLock;

use backdrop_service::codec::Size;
use flate2::{Compression, Crc, write::ZlibEncoder};

use super::{Case, Picture};

/// Colour types by the numbers that stand in a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Colour {
    Grey = 0,
    Rgb = 2,
    Palette = 3,
    GreyAlpha = 4,
    Rgba = 6,
}

impl Colour {
    const fn channels(self) -> usize {
        match self {
            Self::Grey | Self::Palette => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}

/// What a file is made of: a header, chunks before the picture data, the data.
pub struct Writer {
    pub size: Size,
    pub colour: Colour,
    pub depth: u8,
    pub interlaced: bool,
    pub chunks: Vec<(&'static [u8; 4], Vec<u8>)>,
}

pub const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const PALETTE: [[u8; 3]; 2] = [[1, 2, 3], [200, 60, 90]];
const PALETTE_ALPHA: [u8; 2] = [255, 7];

/// Where the passes of an interlaced file begin and how far their pixels are apart: x, y, dx, dy.
const ADAM7: [[u32; 4]; 7] = [
    [0, 0, 8, 8],
    [4, 0, 8, 8],
    [0, 4, 4, 8],
    [2, 0, 4, 4],
    [0, 2, 2, 4],
    [1, 0, 2, 2],
    [0, 1, 1, 2],
];

pub fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(body);
    let mut chunk = (body.len() as u32).to_be_bytes().to_vec();
    chunk.extend([name.as_slice(), body].concat());
    chunk.extend(crc.sum().to_be_bytes());
    chunk
}

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

impl Writer {
    pub fn new(size: Size, colour: Colour, depth: u8) -> Self {
        Self {
            size,
            colour,
            depth,
            interlaced: false,
            chunks: Vec::new(),
        }
    }

    /// The file whose sample of a channel at a place is what `sample` says, in as many bits as the depth has.
    pub fn write(&self, sample: impl Fn(u32, u32, usize) -> u16) -> Vec<u8> {
        self.write_data(&zlib(&self.rows(sample)))
    }

    /// The file around picture data.
    pub fn write_data(&self, data: &[u8]) -> Vec<u8> {
        let mut ihdr = self.size.width.to_be_bytes().to_vec();
        ihdr.extend(self.size.height.to_be_bytes());
        ihdr.extend([self.depth, self.colour as u8, 0, 0, self.interlaced.into()]);
        let mut file = [SIGNATURE, &chunk(b"IHDR", &ihdr)].concat();
        for (name, body) in &self.chunks {
            file.extend(chunk(name, body));
        }
        // Two chunks of it: their border means nothing.
        let (first, second) = data.split_at(data.len() / 2);
        file.extend(chunk(b"IDAT", first));
        file.extend(chunk(b"IDAT", second));
        file.extend(chunk(b"IEND", &[]));
        file
    }

    /// Filtered rows, pass after pass.
    fn rows(&self, sample: impl Fn(u32, u32, usize) -> u16) -> Vec<u8> {
        let whole: &[_] = &[[0, 0, 1, 1]];
        let passes = if self.interlaced { &ADAM7 } else { whole };
        let mut rows = Vec::new();
        for &[left, top, dx, dy] in passes {
            let columns: Vec<u32> = (left..self.size.width).step_by(dx as usize).collect();
            if columns.is_empty() {
                continue;
            }
            let mut above = Vec::new();
            for (at, y) in (top..self.size.height).step_by(dy as usize).enumerate() {
                let row = self.pack(&columns, y, &sample);
                above.resize(row.len(), 0);
                rows.push((at % 5) as u8);
                rows.extend(self.filter(at % 5, &row, &above));
                above = row;
            }
        }
        rows
    }

    fn pack(&self, columns: &[u32], y: u32, sample: &impl Fn(u32, u32, usize) -> u16) -> Vec<u8> {
        let mut row = Vec::new();
        let mut bits = 0;
        for &x in columns {
            for channel in 0..self.colour.channels() {
                let value = sample(x, y, channel);
                match self.depth {
                    16 => row.extend(value.to_be_bytes()),
                    8 => row.push(value as u8),
                    depth => {
                        if bits % 8 == 0 {
                            row.push(0);
                        }
                        let last = row.len() - 1;
                        row[last] |= (value as u8) << (8 - u32::from(depth) - bits % 8);
                        bits += u32::from(depth);
                    }
                }
            }
        }
        row
    }

    /// One of the standard's five filters, by the formulas that stand there.
    fn filter(&self, kind: usize, row: &[u8], above: &[u8]) -> Vec<u8> {
        let step = (self.colour.channels() * usize::from(self.depth)).div_ceil(8);
        let predicted = |at: usize| {
            let before = |of: &[u8]| at.checked_sub(step).map_or(0, |left| i32::from(of[left]));
            let (a, b, c) = (before(row), i32::from(above[at]), before(above));
            let paeth = || {
                let p = a + b - c;
                let by_distance = |&of: &i32| (p - of).abs();
                // The first of the nearest, as the standard wants it.
                [a, b, c].into_iter().min_by_key(by_distance).unwrap_or(0)
            };
            match kind {
                0 => 0,
                1 => a,
                2 => b,
                3 => (a + b) / 2,
                _ => paeth(),
            }
        };
        (0..row.len())
            .map(|at| row[at].wrapping_sub(predicted(at) as u8))
            .collect()
    }
}

/// Some sample for each place, of as many bits.
fn sample(depth: u8) -> impl Fn(u32, u32, usize) -> u16 {
    move |x, y, channel| {
        let value = (x * 0x1357 + y * 0x0BCD + channel as u32 * 0x2F31) as u16;
        value >> (16 - depth)
    }
}

/// What the standard says of a sample of that depth in eight bits. Of sixteen, the upper eight are taken.
fn to_eight(value: u16, depth: u8) -> u8 {
    if depth == 16 {
        return (value >> 8) as u8;
    }
    (u32::from(value) * 255 / ((1 << depth) - 1)) as u8
}

fn all_kinds() -> Vec<(Colour, u8)> {
    let of = |colour, depths: &[u8]| depths.iter().map(|&d| (colour, d)).collect::<Vec<_>>();
    [
        of(Colour::Grey, &[1, 2, 4, 8, 16]),
        of(Colour::Rgb, &[8, 16]),
        of(Colour::Palette, &[1, 2, 4, 8]),
        of(Colour::GreyAlpha, &[8, 16]),
        of(Colour::Rgba, &[8, 16]),
    ]
    .concat()
}

fn kind(colour: Colour, depth: u8, size: Size, interlaced: bool) -> Case {
    let mut writer = Writer::new(size, colour, depth);
    writer.interlaced = interlaced;
    // Of palettes no more entries are used than there are.
    let used = move |x, y, channel| match colour {
        Colour::Palette => (x + y) as u16 % 2,
        _ => sample(depth)(x, y, channel),
    };
    if colour == Colour::Palette {
        writer.chunks.push((b"PLTE", PALETTE.concat()));
        writer.chunks.push((b"tRNS", PALETTE_ALPHA.to_vec()));
    }
    let shown = Picture::new(size, |x, y| {
        let of = |channel| to_eight(used(x, y, channel), depth);
        match colour {
            Colour::Grey => [of(0), of(0), of(0), 255],
            Colour::Rgb => [of(0), of(1), of(2), 255],
            Colour::GreyAlpha => [of(0), of(0), of(0), of(1)],
            Colour::Rgba => [of(0), of(1), of(2), of(3)],
            Colour::Palette => {
                let entry = usize::from(used(x, y, 0));
                let [r, g, b] = PALETTE[entry];
                [r, g, b, PALETTE_ALPHA[entry]]
            }
        }
    });
    let name = format!("PNG {colour:?} {depth} bits, interlaced: {interlaced}, {size}");
    Case::picture(name, writer.write(used), shown, 0)
}

/// One grey, or one colour, that stands for transparent.
fn colour_key(colour: Colour) -> Case {
    let size = Size::new(9, 5);
    let mut writer = Writer::new(size, colour, 8);
    let clear = |x: u32, y: u32| (x + y).is_multiple_of(3);
    let value = |x, y, channel: usize| if clear(x, y) { 40 } else { 90 + channel as u16 };
    writer
        .chunks
        .push((b"tRNS", [0, 40].repeat(colour.channels())));
    let shown = Picture::new(size, |x, y| {
        let of = |channel| match colour {
            Colour::Grey => value(x, y, 0) as u8,
            _ => value(x, y, channel) as u8,
        };
        [of(0), of(1), of(2), if clear(x, y) { 0 } else { 255 }]
    });
    let name = format!("PNG {colour:?} with a transparent colour");
    Case::picture(name, writer.write(value), shown, 0)
}

/// The slope, with these chunks before its data.
pub fn slope_with(chunks: Vec<(&'static [u8; 4], Vec<u8>)>, shown: &Picture) -> Vec<u8> {
    let mut writer = Writer::new(shown.size, Colour::Rgba, 8);
    writer.chunks = chunks;
    writer.write(|x, y, channel| u16::from(shown.pixel(x, y)[channel]))
}

fn profile() -> (&'static [u8; 4], Vec<u8>) {
    let body = [b"any\0\0".as_slice(), &zlib(&[0x5A; 3000])].concat();
    (b"iCCP", body)
}

/// What inflates to as many megabytes.
static ZEROES: LazyLock<Vec<u8>> = LazyLock::new(|| zlib(&vec![0; 64 << 20]));

fn bomb(name: &'static [u8; 4]) -> (&'static [u8; 4], Vec<u8>) {
    (name, [b"any\0\0".as_slice(), &ZEROES].concat())
}

fn claims(size: Size, depth: u8, colour: Colour) -> Vec<u8> {
    Writer::new(size, colour, depth).write_data(&zlib(&[0; 64]))
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (colour, depth) in all_kinds() {
        for interlaced in [false, true] {
            for size in [Size::new(1, 1), Size::new(37, 23), Size::new(3, 400)] {
                cases.push(kind(colour, depth, size, interlaced));
            }
        }
    }
    cases.extend([Colour::Grey, Colour::Rgb].map(colour_key));

    let slope = Picture::slope();
    let with = |chunks| slope_with(chunks, &slope);
    let picture = |name, file| Case::picture(name, file, slope.clone(), 0);
    cases.push(picture("PNG with a profile", with(vec![profile()])));
    cases.push(picture(
        "PNG with a gamma",
        with(vec![(b"gAMA", vec![0, 0, 0, 9])]),
    ));
    cases.push(picture("PNG with a text bomb", with(vec![bomb(b"zTXt")])));
    cases.push(picture(
        "PNG with a profile bomb",
        with(vec![bomb(b"iCCP")]),
    ));
    let trailing = [with(vec![]), b"PK\x05\x06 and more".repeat(40)].concat();
    cases.push(picture("PNG with trailing data", trailing));

    let animated = |name: &'static [u8; 4]| (name, vec![0, 0, 0, 2, 0, 0, 0, 0]);
    let apng = include_bytes!("../fixtures/animated.png");
    cases.push(Case::condemned("APNG by Pillow", apng.to_vec(), "animated"));
    cases.push(Case::condemned(
        "APNG",
        with(vec![animated(b"acTL")]),
        "animated",
    ));
    for (size, why) in [
        (Size::new(60_000, 60_000), "too large"),
        (Size::new(u32::MAX, u32::MAX), "too large"),
        (Size::new(65_536, 1), "too large"),
        (Size::new(0, 9), "zero size"),
        (Size::new(9, 0), "zero size"),
    ] {
        let name = format!("PNG that claims {size}");
        cases.push(Case::condemned(name, claims(size, 8, Colour::Rgba), why));
    }
    let odd = claims(Size::new(8, 8), 3, Colour::Rgb);
    cases.push(Case::condemned("PNG of three bits", odd, "malformed"));
    let no_data = [&with(vec![])[..33], &chunk(b"IEND", &[])].concat();
    cases.push(Case::condemned("PNG without data", no_data, "malformed"));

    let within = claims(Size::new(3000, 2000), 8, Colour::Rgba);
    cases.push(Case::broken("PNG with less data than claimed", within));
    let mut flipped = with(vec![]);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    cases.push(Case::broken("PNG with a flipped bit", flipped));
    let mut no_palette = Writer::new(Size::new(4, 4), Colour::Palette, 8);
    cases.push(Case::broken(
        "PNG without its palette",
        no_palette.write(|_, _, _| 0),
    ));
    no_palette.chunks.push((b"PLTE", PALETTE.concat()));
    let beyond = no_palette.write(|_, _, _| 99);
    cases.push(Case::new(
        "PNG beyond its palette",
        beyond,
        super::Expected::Answered,
    ));
    let endless = Writer::new(Size::new(1, 1), Colour::Rgba, 8).write_data(&ZEROES);
    cases.push(Case::new(
        "PNG with endless data",
        endless,
        super::Expected::Answered,
    ));
    cases
}
