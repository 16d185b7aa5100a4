//! The kernel against the reference, bit for bit, and a few pictures whose result is known by hand.

use proptest::prelude::*;

use super::{CpuRenderer, reference};
use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use crate::render::view::{ONE, View};
use crate::render::{Renderer, ViewTransform};

fn picture(size: Size, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size.bytes()).map(|_| next()).collect()
}

fn draw(data: &[u8], from: Size, view: &ViewTransform, to: Size) -> Vec<u8> {
    let mut out = vec![0xAA; to.bytes() as usize];
    let src = PixelsRef::new(data, from).unwrap();
    CpuRenderer::default().resample(src, view, PixelsMut::new(&mut out, to).unwrap());
    out
}

fn draw_by_reference(data: &[u8], from: Size, view: &ViewTransform, to: Size) -> Vec<u8> {
    let mut out = vec![0x55; to.bytes() as usize];
    reference::resample(
        PixelsRef::new(data, from).unwrap(),
        view,
        PixelsMut::new(&mut out, to).unwrap(),
    );
    out
}

fn sizes(max: u32) -> impl Strategy<Value = Size> {
    (1..=max, 1..=max).prop_map(|(width, height)| Size::new(width, height))
}

fn views() -> impl Strategy<Value = View> {
    let crops = (0..ONE, 0..ONE, 1..=ONE, 1..=ONE);
    let one = ONE as i32;
    let scales = prop_oneof![Just(ONE), ONE / 16..=ONE * 16];
    (
        crops,
        scales,
        -one..=one,
        -one..=one,
        prop_oneof![Just(255u8), any::<u8>()],
    )
        .prop_map(|((x, y, width, height), scale, u, v, alpha)| {
            View {
                crop_origin: [x, y],
                crop_size: [width, height],
                scale,
                uv_offset: [u, v],
                alpha,
            }
            .clamped()
        })
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
    fn one_colour_stays_that_colour(from in sizes(300), to in sizes(20), view in views(), colour in any::<[u8; 4]>()) {
        let data = colour.repeat(from.pixels() as usize);
        let view = View { alpha: 255, ..view }.transform(from);
        prop_assert!(draw(&data, from, &view, to).chunks_exact(4).all(|pixel| pixel == colour));
    }
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
