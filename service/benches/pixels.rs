//! How fast pixels are made: decode, resample, encode, and a whole preview, on one thread; and written to the archive.

#![expect(clippy::print_stdout, reason = "the table is the output")]

mod support;

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::codec::{self, Format, Header, Limits, PixelsMut, PixelsRef, Size};
use backdrop_service::memory::Arena;
use backdrop_service::memory::arena::{Block, HUGE_PAGE};
use backdrop_service::metrics::ArchiveWrite;
use backdrop_service::render::{CpuRenderer, Renderer, ViewTransform};
use backdrop_service::store::archive::{Archive, ArchiveConfig};
use backdrop_service::store::{Stored, Tags};
use support::{Figure, measure};
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

const FULL: Size = Size::new(1920, 1080);
const PREVIEW: Size = Size::new(640, 360);

/// Something like a photograph: slopes, edges, some noise. About half a megabyte as JPEG.
fn picture(size: Size) -> Vec<u8> {
    let mut state = 1u32;
    let mut data = Vec::with_capacity(size.bytes() as usize);
    for y in 0..size.height {
        for x in 0..size.width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as f32;
            let (u, v) = (x as f32 / 60.0, y as f32 / 45.0);
            let wave = 50.0 * (u.sin() * v.cos())
                + if (x / 96 + y / 80) % 3 == 0 {
                    40.0
                } else {
                    0.0
                };
            let slope = 90.0 * y as f32 / size.height as f32;
            data.extend(
                [
                    wave + slope + noise + 60.0,
                    slope + noise + 70.0,
                    150.0 - wave + noise,
                ]
                .map(|v| v as u8),
            );
            data.push(255);
        }
    }
    data
}

fn view(data: &[u8], size: Size) -> PixelsRef<'_> {
    PixelsRef::new(data, size).expect("made for this size")
}

fn block(data: &mut [u8], size: Size) -> PixelsMut<'_> {
    PixelsMut::new(data, size).expect("made for this size")
}

fn resampling() -> io::Result<Vec<Figure>> {
    let full = picture(FULL);
    let sizes = [
        ("resample 1080p to 640x360", PREVIEW),
        ("resample 1080p to 1280x720", Size::new(1280, 720)),
        ("resample 1080p to 2560x1440", Size::new(2560, 1440)),
    ];
    let figure = |(name, to): (&str, Size)| {
        let mut renderer = CpuRenderer::default();
        let mut out = vec![0; to.bytes() as usize];
        let all = ViewTransform::full(FULL);
        let mut ours =
            || renderer.resample(view(&full, FULL), &all, block(black_box(&mut out), to));
        Figure::new(name, "ms", measure(&mut ours, None).0)
    };
    Ok(sizes.into_iter().map(figure).collect())
}

fn encoding() -> io::Result<Vec<Figure>> {
    let sizes = [
        ("encode 640x360 JPEG q80", PREVIEW),
        ("encode 1080p JPEG q80", FULL),
    ];
    let figure = |(name, size): (&str, Size)| {
        let data = picture(size);
        let mut file = Vec::new();
        let mut ours = || {
            file.clear();
            codec::encode_jpeg(view(&data, size), 80, black_box(&mut file)).expect("encodes");
        };
        Figure::new(name, "ms", measure(&mut ours, None).0)
    };
    Ok(sizes.into_iter().map(figure).collect())
}

fn previewing() -> io::Result<Vec<Figure>> {
    let full = picture(FULL);
    let mut renderer = CpuRenderer::default();
    let mut out = vec![0; PREVIEW.bytes() as usize];
    let mut file = Vec::new();
    let all = ViewTransform::full(FULL);
    let mut ours = || {
        file.clear();
        renderer.resample(view(&full, FULL), &all, block(&mut out, PREVIEW));
        codec::encode_jpeg(view(&out, PREVIEW), 80, black_box(&mut file)).expect("encodes");
    };
    let (ours, _) = measure(&mut ours, None);
    Ok(vec![
        Figure::new("preview 1080p to 640x360 JPEG q80", "ms", ours).goal(8.0),
    ])
}

type Decode = fn(&[u8], &Header, PixelsMut<'_>) -> Result<(), codec::CodecError>;

fn decoding() -> io::Result<Vec<Figure>> {
    let mut file = Vec::new();
    codec::encode_jpeg(view(&picture(FULL), FULL), 85, &mut file).map_err(io::Error::other)?;
    eprintln!("1080p JPEG of {} kB", file.len() / 1000);
    let header = codec::probe(&file, &Limits::default()).map_err(io::Error::other)?;
    let ways: [(&str, Decode, f64); 2] = [
        (
            "decode 1080p JPEG, from the store",
            codec::decode_trusted,
            1.1,
        ),
        ("decode 1080p JPEG, an upload", codec::decode, 1.6),
    ];
    let figure = |(name, decode, goal): (&str, Decode, f64)| {
        let mut a = vec![0; header.output_bytes() as usize];
        let mut b = a.clone();
        let mut ours =
            || decode(&file, &header, block(black_box(&mut a), header.size)).expect("decodes");
        let mut peer = || {
            let options = DecoderOptions::new_fast().jpeg_set_out_colorspace(ColorSpace::RGBA);
            let mut decoder =
                zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(&file[..]), options);
            decoder.decode_into(black_box(&mut b)).expect("decodes");
        };
        let (ours, peer) = measure(&mut ours, Some(&mut peer));
        let figure = Figure::new(name, "ms", ours).goal(goal);
        figure.peer("zune-jpeg alone", peer.unwrap_or(f64::NAN))
    };
    Ok(ways.into_iter().map(figure).collect())
}

/// Textures that the archive holds before the oldest goes: more than a disk's own cache usually holds.
const ARCHIVED: u32 = 32;

/// A place for pixels as textures have it: aligned, of huge pages, faulted in.
fn texture_block(arena: &Arc<Arena>) -> Block {
    let mut block = arena
        .allocate(8 << 20, HUGE_PAGE)
        .expect("memory for a block");
    block.populate();
    block
}

/// What the archive's own thread does for an evicted texture, past the page cache. What a caller has of it is `archive` of the peers.
fn archiving() -> io::Result<Vec<Figure>> {
    let full = picture(FULL);
    // Below the folder of the build, which lies on a disk where `/tmp` may not.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let archive = Archive::open(
        ArchiveConfig::at(dir.path(), u64::from(ARCHIVED) * (9 << 20)),
        Arc::default(),
    )
    .map_err(io::Error::other)?;
    let arena = Arena::new().map_err(io::Error::other)?;
    let mut source = texture_block(&arena);
    let bytes = FULL.bytes() as usize;
    source.as_mut_slice()[..bytes].copy_from_slice(&full);
    let entry = |number: u32| Stored {
        id: format!("b{}", number % ARCHIVED).into(),
        version: number / ARCHIVED + 1,
        format: Format::Jpeg,
        size: FULL,
        bytes: FULL.bytes(),
        checksum: u64::from(number),
        thumbnail: bytes::Bytes::new(),
        tags: Tags::default(),
    };
    let mut number = 0;
    let mut write = || {
        let pixels = &source.as_slice()[..bytes];
        let written = archive.write(&entry(number), pixels, &|| true);
        assert_eq!(written, ArchiveWrite::Ok);
        number += 1;
    };
    let (written, _) = measure(&mut write, None);
    Ok(vec![Figure::new(
        "write 1080p to the archive",
        "ms",
        written,
    )])
}

fn main() -> io::Result<()> {
    support::run(&[
        ("resample", resampling),
        ("encode", encoding),
        ("preview", previewing),
        ("decode", decoding),
        ("archive", archiving),
    ])
}
