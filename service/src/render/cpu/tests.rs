//! Every kernel of this machine against the reference, bit for bit, and a few pictures whose result is known by hand.

use proptest::prelude::*;

use super::frame::{self, Scene, Scratch};
use super::rows::Store;
use super::{Blur, CpuRenderer, Kernel, Kind, portable, reference};
use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use crate::render::samples::{mask, masks, picture, sizes, views};
use crate::render::view::{ONE, View};
use crate::render::{Foreground, Radius, Renderer, ViewTransform};

/// What all kernels draw, stored in either way, which must be one and the same.
fn draw(data: &[u8], from: Size, view: &ViewTransform, to: Size) -> Vec<u8> {
    composite(data, from, view, None, to, 0)
}

/// [`draw`] with a foreground, into a frame that begins `offset` bytes behind an address with the alignment of streamed stores.
fn composite(
    data: &[u8],
    from: Size,
    view: &ViewTransform,
    foreground: Option<Foreground<'_>>,
    to: Size,
    offset: usize,
) -> Vec<u8> {
    let scene = Scene {
        background: PixelsRef::new(data, from).unwrap(),
        view,
        foreground,
    };
    let bytes = to.bytes() as usize;
    let drawn = |kernel: Kernel, store| {
        let mut buffer = vec![0xAA; bytes + 64];
        let at = buffer.as_ptr().align_offset(32) + offset;
        let out = &mut PixelsMut::new(&mut buffer[at..at + bytes], to).unwrap();
        let scratch = &mut Scratch::default();
        match kernel.0 {
            Kind::Portable => frame::draw_stored(portable::Portable, &scene, scratch, out, store),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => frame::draw_stored(avx2, &scene, scratch, out, store),
        }
        let (before, behind) = (&buffer[..at], &buffer[at + bytes..]);
        assert!(before.iter().chain(behind).all(|&byte| byte == 0xAA));
        buffer[at..at + bytes].to_vec()
    };
    let mut all = Kernel::available()
        .into_iter()
        .flat_map(|kernel| [Store::Cached, Store::Streamed].map(|store| (kernel, store)))
        .map(|(kernel, store)| (kernel.name(), store, drawn(kernel, store)));
    let (_, _, first) = all.next().unwrap();
    for (kernel, store, other) in all {
        assert_eq!(first, other, "{kernel}, {store:?}");
    }
    first
}

fn draw_by_reference(data: &[u8], from: Size, view: &ViewTransform, to: Size) -> Vec<u8> {
    composite_by_reference(data, from, view, None, to)
}

fn composite_by_reference(
    data: &[u8],
    from: Size,
    view: &ViewTransform,
    foreground: Option<Foreground<'_>>,
    to: Size,
) -> Vec<u8> {
    let mut out = vec![0x55; to.bytes() as usize];
    reference::composite(
        PixelsRef::new(data, from).unwrap(),
        view,
        foreground,
        PixelsMut::new(&mut out, to).unwrap(),
    );
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_view_equals_the_reference(from in sizes(40), to in sizes(40), view in views(), seed in any::<u32>()) {
        let data = picture(from, seed);
        let view = view.transform(from);
        prop_assert_eq!(draw(&data, from, &view, to), draw_by_reference(&data, from, &view, to));
    }

    #[test]
    fn full_views_equal_the_reference(from in sizes(90), to in sizes(60), seed in any::<u32>()) {
        let data = picture(from, seed);
        let view = ViewTransform::full(from);
        prop_assert_eq!(draw(&data, from, &view, to), draw_by_reference(&data, from, &view, to));
    }

    #[test]
    fn any_composite_equals_the_reference(
        from in sizes(40),
        to in (1..=300u32, 1..=5u32).prop_map(|(width, height)| Size::new(width, height)),
        view in prop_oneof![Just(None), views().prop_map(Some)],
        runs in masks(),
        paddings in [0usize..70, 0usize..70],
        offset in prop_oneof![Just(0usize), (0..8usize).prop_map(|at| at * 4), 0..32usize],
        seed in any::<u32>(),
    ) {
        // Without a view the background is as large as the frame: pixel to pixel.
        let from = if view.is_some() { from } else { to };
        let view = view.unwrap_or_default().transform(from);
        let strides = [to.width as usize * 4 + paddings[0], to.width as usize + paddings[1]];
        let over = picture(Size::new(strides[0] as u32, to.height), seed.rotate_left(7));
        let mask = mask(strides[1] * to.height as usize, runs, seed);
        let foreground = Foreground::with_strides(to, &over, strides[0], &mask, strides[1]);
        prop_assert!(foreground.is_some());
        let data = picture(from, seed);
        prop_assert_eq!(
            composite(&data, from, &view, foreground, to, offset),
            composite_by_reference(&data, from, &view, foreground, to)
        );
    }

    #[test]
    fn magnified_rows_equal_the_reference(
        from in sizes(24),
        width in 8..=400u32,
        height in 1..=3u32,
        view in views(),
        seed in any::<u32>(),
    ) {
        let (data, to) = (picture(from, seed), Size::new(width, height));
        let view = view.transform(from);
        prop_assert_eq!(draw(&data, from, &view, to), draw_by_reference(&data, from, &view, to));
    }

    #[test]
    fn one_colour_stays_that_colour(from in sizes(300), to in sizes(20), view in views(), colour in any::<[u8; 4]>()) {
        let data = colour.repeat(from.pixels() as usize);
        let view = View { alpha: 255, ..view }.transform(from);
        prop_assert!(draw(&data, from, &view, to).chunks_exact(4).all(|pixel| pixel == colour));
    }
}

proptest! {
    // Its reference looks at every pixel of every box.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_blur_equals_the_reference(size in sizes(40), radius in 1..=Radius::MAX, seed in any::<u32>()) {
        let (data, radius) = (picture(size, seed), Radius::new(radius).unwrap());
        let mut expected = vec![0x55; data.len()];
        let src = PixelsRef::new(&data, size).unwrap();
        reference::blur(src, radius, PixelsMut::new(&mut expected, size).unwrap());
        for kernel in Kernel::available() {
            let mut out = vec![0xAA; data.len()];
            let mut blur = Blur::with_kernel(kernel);
            blur.draw(src, radius, PixelsMut::new(&mut out, size).unwrap());
            prop_assert_eq!(&out, &expected, "{}", kernel.name());
        }
    }
}

/// All there is to a lerp: each kernel takes the same way for every pixel of a row, so one row has every pair of samples.
#[test]
fn every_mask_and_pair_of_samples_equals_the_reference() {
    let size = Size::new(64 * 256, 1);
    let pairs: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_be_bytes).collect();
    let [background, over] =
        [0, 1].map(|at| -> Vec<u8> { pairs.iter().map(|pair| pair[at]).collect() });
    let view = ViewTransform::full(size);
    for mask in 0..=255 {
        let masks = vec![mask; size.pixels() as usize];
        let foreground = Foreground::new(size, &over, &masks);
        let drawn = composite(&background, size, &view, foreground, size, 0);
        let expected: Vec<u8> = pairs
            .iter()
            .map(|&[a, b]| reference::lerp(a, b, mask))
            .collect();
        assert!(drawn == expected, "mask {mask}");
    }
}

#[test]
fn masks_of_nothing_and_of_all_show_either_picture() {
    let (from, size) = (Size::new(9, 5), Size::new(150, 3));
    let (data, over) = (picture(from, 5), picture(size, 6));
    let view = View {
        alpha: 99,
        ..View::default()
    }
    .transform(from);
    let drawn = |mask: u8| {
        let masks = vec![mask; size.pixels() as usize];
        composite(
            &data,
            from,
            &view,
            Foreground::new(size, &over, &masks),
            size,
            0,
        )
    };
    assert_eq!(drawn(0), draw(&data, from, &view, size));
    assert_eq!(drawn(255), over);
}

#[test]
#[should_panic(expected = "as large as the frame")]
fn a_foreground_of_another_size_is_refused() {
    let (size, other) = (Size::new(2, 2), Size::new(4, 1));
    let data = picture(size, 1);
    CpuRenderer::default().composite(
        PixelsRef::new(&data, size).unwrap(),
        &ViewTransform::full(size),
        Foreground::new(other, &data, &[0; 4]),
        PixelsMut::new(&mut [0; 16], size).unwrap(),
    );
}

/// The default renderer streams frames of this size.
#[test]
fn large_frames_equal_small_ones() {
    let (from, to) = (Size::new(300, 200), Size::new(1201, 1001));
    let data = picture(from, 9);
    let view = ViewTransform::full(from);
    let mut out = vec![0; to.bytes() as usize];
    let mut renderer = CpuRenderer::default();
    renderer.resample(
        PixelsRef::new(&data, from).unwrap(),
        &view,
        PixelsMut::new(&mut out, to).unwrap(),
    );
    assert!(out == draw(&data, from, &view, to));
    assert!(renderer.held_bytes() as u64 <= renderer.scratch_bytes(from, &view, to));
}

#[test]
fn strong_minification_equals_the_reference() {
    for (from, to) in [
        (Size::new(1500, 3), Size::new(2, 2)),
        (Size::new(3, 1500), Size::new(2, 1)),
        (Size::new(700, 5), Size::new(21, 5)),
        (Size::new(1, 1), Size::new(1, 1)),
        (Size::new(1, 1), Size::new(37, 19)),
    ] {
        let data = picture(from, 7);
        let view = ViewTransform::full(from);
        assert_eq!(
            draw(&data, from, &view, to),
            draw_by_reference(&data, from, &view, to),
            "{from} to {to}"
        );
    }
}

#[test]
fn a_renderer_reused_for_other_sizes_draws_the_same() {
    let mut renderer = CpuRenderer::default();
    for (from, to) in [
        (Size::new(64, 40), Size::new(9, 9)),
        (Size::new(5, 4), Size::new(30, 2)),
    ] {
        let data = picture(from, 3);
        let view = ViewTransform::full(from);
        let mut out = vec![0; to.bytes() as usize];
        renderer.resample(
            PixelsRef::new(&data, from).unwrap(),
            &view,
            PixelsMut::new(&mut out, to).unwrap(),
        );
        assert_eq!(out, draw(&data, from, &view, to));
    }
}

#[test]
fn one_to_one_is_a_copy_and_crops_cut() {
    let size = Size::new(8, 6);
    let data = picture(size, 11);
    assert_eq!(draw(&data, size, &ViewTransform::full(size), size), data);
    let view = View {
        crop_origin: [ONE / 4, ONE / 2],
        crop_size: [ONE / 2, ONE / 2],
        ..View::default()
    };
    let out = draw(&data, size, &view.transform(size), Size::new(4, 3));
    let src = PixelsRef::new(&data, size).unwrap();
    for y in 0..3 {
        assert_eq!(out[y * 16..][..16], src.row(y as u32 + 3)[8..24]);
    }
}

#[test]
fn halving_averages_four_pixels() {
    let data: Vec<u8> = [
        [0u8, 8, 255, 255],
        [4, 8, 255, 255],
        [8, 16, 0, 255],
        [12, 16, 0, 255],
    ]
    .concat();
    assert_eq!(
        draw(
            &data,
            Size::new(2, 2),
            &ViewTransform::full(Size::new(2, 2)),
            Size::new(1, 1)
        ),
        [6, 12, 128, 255]
    );
}

#[test]
fn doubling_interpolates_and_keeps_the_edges() {
    let data: Vec<u8> = [[0u8, 0, 0, 255], [100, 200, 40, 255]].concat();
    let size = Size::new(2, 1);
    let out = draw(&data, size, &ViewTransform::full(size), Size::new(4, 1));
    assert_eq!(
        out,
        [
            [0, 0, 0, 255],
            [25, 50, 10, 255],
            [75, 150, 30, 255],
            [100, 200, 40, 255]
        ]
        .concat()
    );
}

#[test]
fn beyond_the_picture_its_edge_repeats() {
    let data: Vec<u8> = [[1u8, 1, 1, 255], [9, 9, 9, 255]].concat();
    let size = Size::new(2, 1);
    let view = View {
        uv_offset: [ONE as i32, 0],
        ..View::default()
    };
    assert_eq!(
        draw(&data, size, &view.transform(size), size),
        [[9u8, 9, 9, 255]; 2].concat()
    );
}

#[test]
fn opacity_scales_alpha_only() {
    let data = [10, 20, 30, 200];
    let size = Size::new(1, 1);
    let view = View {
        alpha: 128,
        ..View::default()
    };
    assert_eq!(
        draw(&data, size, &view.transform(size), size),
        [10, 20, 30, 100]
    );
}

/// Signal to noise in decibels of a blurred row against three boxes without any rounding.
fn blur_decibels(samples: &[u8], radius: Radius) -> f64 {
    let size = Size::new(samples.len() as u32, 1);
    let data: Vec<u8> = samples.iter().flat_map(|&sample| [sample; 4]).collect();
    let mut out = vec![0; data.len()];
    let src = PixelsRef::new(&data, size).unwrap();
    Blur::default().draw(src, radius, PixelsMut::new(&mut out, size).unwrap());
    let mut exact: Vec<f64> = samples.iter().map(|&sample| f64::from(sample)).collect();
    let (reach, last) = (i64::from(radius.get()), samples.len() as i64 - 1);
    for _ in 0..3 {
        let before = exact.clone();
        for (at, mean) in (0..).zip(&mut exact) {
            let near = (at - reach..=at + reach).map(|k: i64| before[k.clamp(0, last) as usize]);
            *mean = near.sum::<f64>() / (2 * reach + 1) as f64;
        }
    }
    let errors = out
        .iter()
        .step_by(4)
        .zip(&exact)
        .map(|(&ours, exact)| (f64::from(ours) - exact).powi(2));
    10.0 * (255.0f64.powi(2) / (errors.sum::<f64>() / samples.len() as f64)).log10()
}

#[test]
fn a_blur_is_close_to_one_without_rounding() {
    let noise = picture(Size::new(3000, 1), 21);
    let ramp: Vec<u8> = (0..3000).map(|at| (at / 13) as u8).collect();
    let bars: Vec<u8> = (0..3000)
        .map(|at| if at / 70 % 2 == 0 { 20 } else { 240 })
        .collect();
    for radius in [1, 2, 5, 12, 40, 127] {
        let radius = Radius::new(radius).unwrap();
        for samples in [&noise[..3000], &ramp, &bars] {
            let decibels = blur_decibels(samples, radius);
            assert!(decibels >= 50.0, "{decibels} at {radius:?}");
        }
    }
}
