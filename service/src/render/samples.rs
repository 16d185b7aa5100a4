//! Pictures, masks and views at random, for the tests of every renderer.

use proptest::prelude::*;

use super::view::{ONE, View};
use crate::codec::pixels::Size;

/// Noise.
pub fn picture(size: Size, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size.bytes()).map(|_| next()).collect()
}

/// How masks are made: runs of hidden, clear and mixed pixels of about these lengths.
pub fn masks() -> impl Strategy<Value = [usize; 3]> {
    let lengths = [0usize..200, 0usize..200, 0usize..40];
    (lengths, any::<bool>()).prop_map(|(lengths, short)| match short {
        true => lengths.map(|length| length / 16),
        false => lengths,
    })
}

/// Bytes of a mask; all mixed where every run is of length 0.
pub fn mask(len: usize, runs: [usize; 3], seed: u32) -> Vec<u8> {
    let noise = picture(Size::new(len as u32, 1), seed ^ 0x5A5A);
    let kinds = [0, 1, 2].map(|kind| std::iter::repeat_n(kind, runs[kind]));
    let pattern: Vec<usize> = kinds.into_iter().flatten().collect();
    (0..len)
        .map(|at| match pattern.get(at % pattern.len().max(1)) {
            Some(0) => 255,
            Some(1) => 0,
            _ => noise[at * 4],
        })
        .collect()
}

/// From one pixel on, up to `max` on each side.
pub fn sizes(max: u32) -> impl Strategy<Value = Size> {
    (1..=max, 1..=max).prop_map(|(width, height)| Size::new(width, height))
}

/// Any view, every other one opaque.
pub fn views() -> impl Strategy<Value = View> {
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
