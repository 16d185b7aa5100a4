//! What each crate does of it.

use fast_image_resize as fir;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgba, RgbaImage};
use tiny_skia::{FilterQuality, Mask, PixmapMut, PixmapPaint, PixmapRef, Transform};

use crate::{Folder, HEIGHT, Peer, Set, WIDTH};

// As in `pixels.py`.
const PREVIEW: (u32, u32) = (640, 360);
const LARGE: (u32, u32) = (2560, 1440);
const ZOOM: f32 = 1.25;
const SIGMA: f32 = 40.5;
const QUALITY: u8 = 80;

fn peer<'a>(
    kind: &'static str,
    name: &'static str,
    size: (u32, u32),
    work: impl FnMut(usize, &mut Vec<u8>) + 'a,
) -> Peer<'a> {
    Peer {
        kind,
        name,
        work: Box::new(work),
        // Filled, and so faulted in.
        made: vec![255; size.0 as usize * size.1 as usize * 4],
    }
}

fn borrowed(bytes: &[u8]) -> ImageBuffer<Rgba<u8>, &[u8]> {
    ImageBuffer::from_raw(WIDTH, HEIGHT, bytes).expect("of this size")
}

fn pixmap(bytes: &[u8]) -> PixmapRef<'_> {
    PixmapRef::from_bytes(bytes, WIDTH, HEIGHT).expect("of this size")
}

/// The foreground over what is in `out`, through the mask.
fn skia_blend(set: &Set, mask: &Mask, out: &mut PixmapMut<'_>) {
    let (paint, place) = (PixmapPaint::default(), Transform::identity());
    out.draw_pixmap(0, 0, pixmap(&set.over), &paint, place, Some(mask));
}

fn skia_mask(set: &Set) -> Mask {
    let size = tiny_skia::IntSize::from_wh(WIDTH, HEIGHT).expect("a size");
    Mask::from_vec(set.mask.clone(), size).expect("of this size")
}

/// The foreground with the mask as its alpha, which `image` wants there.
fn masked(set: &Set) -> RgbaImage {
    let mut over = set.over.clone();
    for (pixel, mask) in over.as_chunks_mut::<4>().0.iter_mut().zip(&set.mask) {
        pixel[3] = *mask;
    }
    RgbaImage::from_raw(WIDTH, HEIGHT, over).expect("of this size")
}

fn composites(folder: &Folder) -> Vec<Peer<'_>> {
    let (sets, full) = (&folder.sets, (WIDTH, HEIGHT));
    let masks: Vec<Mask> = sets.iter().map(skia_mask).collect();
    let near_masks = masks.clone();
    let overs: Vec<RgbaImage> = sets.iter().map(masked).collect();
    vec![
        peer("composite", "tiny-skia", full, move |turn, out| {
            out.copy_from_slice(&sets[turn].background);
            let mut out = PixmapMut::from_bytes(out, WIDTH, HEIGHT).expect("of this size");
            skia_blend(&sets[turn], &masks[turn], &mut out);
        }),
        peer(
            "composite",
            "image, masked beforehand",
            full,
            move |turn, out| {
                out.copy_from_slice(&sets[turn].background);
                let under = ImageBuffer::from_raw(WIDTH, HEIGHT, &mut out[..]);
                let mut under: ImageBuffer<Rgba<u8>, &mut [u8]> = under.expect("of this size");
                imageops::overlay(&mut under, &overs[turn], 0, 0);
            },
        ),
        peer("bilinear", "tiny-skia", full, move |turn, out| {
            let mut out = PixmapMut::from_bytes(out, WIDTH, HEIGHT).expect("of this size");
            let paint = PixmapPaint {
                quality: FilterQuality::Bilinear,
                ..PixmapPaint::default()
            };
            let left = -(ZOOM - 1.0) / 2.0 * WIDTH as f32;
            let top = -(ZOOM - 1.0) / 2.0 * HEIGHT as f32;
            let place = Transform::from_row(ZOOM, 0.0, 0.0, ZOOM, left, top);
            out.draw_pixmap(0, 0, pixmap(&sets[turn].background), &paint, place, None);
            skia_blend(&sets[turn], &near_masks[turn], &mut out);
        }),
    ]
}

fn resized<'a>(
    folder: &'a Folder,
    kind: &'static str,
    to: (u32, u32),
    filter: fir::FilterType,
) -> Peer<'a> {
    let mut resizer = fir::Resizer::new();
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(filter))
        .use_alpha(false);
    peer(kind, "fast_image_resize", to, move |turn, out| {
        let rgba = fir::PixelType::U8x4;
        let from = fir::images::ImageRef::new(WIDTH, HEIGHT, &folder.sets[turn].background, rgba);
        let out = fir::images::Image::from_slice_u8(to.0, to.1, out, rgba);
        let (from, mut out) = (from.expect("of this size"), out.expect("of this size"));
        resizer.resize(&from, &mut out, &options).expect("resizes");
    })
}

fn filters(folder: &Folder) -> Vec<Peer<'_>> {
    let sets = &folder.sets;
    let owned = |set: &Set| RgbaImage::from_raw(WIDTH, HEIGHT, set.background.clone());
    let pictures: Option<Vec<RgbaImage>> = sets.iter().map(owned).collect();
    let pictures = pictures.expect("of this size");
    vec![
        peer(
            "blur",
            "image, fast blur",
            (WIDTH, HEIGHT),
            move |turn, out| {
                *out = imageops::fast_blur(&pictures[turn], SIGMA).into_raw();
            },
        ),
        resized(folder, "shrink", PREVIEW, fir::FilterType::Box),
        peer("shrink", "image, thumbnail", PREVIEW, |turn, out| {
            let from = borrowed(&sets[turn].background);
            *out = imageops::thumbnail(&from, PREVIEW.0, PREVIEW.1).into_raw();
        }),
        resized(folder, "enlarge", LARGE, fir::FilterType::Bilinear),
        peer("enlarge", "image", LARGE, |turn, out| {
            let from = borrowed(&sets[turn].background);
            *out = imageops::resize(&from, LARGE.0, LARGE.1, FilterType::Triangle).into_raw();
        }),
    ]
}

fn files(folder: &Folder) -> Vec<Peer<'_>> {
    let full = (WIDTH, HEIGHT);
    let (pixels, _) = folder.picture.as_chunks::<4>();
    let rgb: Vec<u8> = pixels
        .iter()
        .flat_map(|[r, g, b, _]| [*r, *g, *b])
        .collect();
    vec![
        peer("decode", "image", full, |_, out| {
            let format = image::ImageFormat::Jpeg;
            let picture = image::load_from_memory_with_format(&folder.jpeg, format);
            // Three channels, as it makes them.
            *out = picture.expect("decodes").into_bytes();
        }),
        peer(
            "encode",
            "image, without subsampling",
            full,
            move |_, out| {
                out.clear();
                let rgb8 = image::ExtendedColorType::Rgb8;
                image::codecs::jpeg::JpegEncoder::new_with_quality(out, QUALITY)
                    .encode(&rgb, WIDTH, HEIGHT, rgb8)
                    .expect("encodes");
            },
        ),
    ]
}

/// Every peer.
pub fn all(folder: &Folder) -> Vec<Peer<'_>> {
    let parts = [composites(folder), filters(folder), files(folder)];
    parts.into_iter().flatten().collect()
}
