//! Where the time of a preview goes: buffers that are kept, against buffers made for each frame.
//!
//! The naive way stands for a server that decodes the picture once for each session, holds that copy, and makes a frame with calls
//! that return a new buffer each, as most imaging libraries do: one to resample, one to encode. Both sides use the same renderer
//! and encoder, and neither decodes within a frame.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size, encode_jpeg};
use backdrop_service::render::{CpuRenderer, Renderer, ViewTransform};

use crate::counters::{Heap, page_faults};
use crate::rounds::in_turns;
use crate::support::Figure;
use crate::world::{FULL_HD, MIB, World, decode, ms_since, photograph};

const PREVIEW: Size = Size::new(640, 360);
const QUALITY: u8 = 80;
/// Turns of each side, and frames of a turn.
const ROUNDS: usize = 5;
const FRAMES: usize = 150;

/// Of one turn: requests to the allocator and page faults per frame, median and 99th percentile of a frame in milliseconds.
fn turn(frame: &mut dyn FnMut()) -> io::Result<[f64; 4]> {
    (0..10).for_each(|_| frame());
    let mut times = Vec::with_capacity(FRAMES);
    let (heap, faults) = (Heap::read()?, page_faults());
    for _ in 0..FRAMES {
        let started = Instant::now();
        frame();
        times.push(ms_since(started));
    }
    let (faults, (requests, _)) = (page_faults() - faults, Heap::read()?.since(&heap));
    times.sort_by(f64::total_cmp);
    let per_frame = |count: u64| count as f64 / FRAMES as f64;
    Ok([
        per_frame(requests),
        per_frame(faults),
        times[FRAMES / 2],
        times[FRAMES * 99 / 100],
    ])
}

fn resample(
    renderer: &mut CpuRenderer,
    picture: PixelsRef<'_>,
    view: &ViewTransform,
    out: &mut [u8],
) {
    let out = PixelsMut::new(out, PREVIEW).expect("made for this size");
    renderer.resample(picture, view, out);
}

fn encode(data: &[u8], file: &mut Vec<u8>) {
    let pixels = PixelsRef::new(data, PREVIEW).expect("made for this size");
    encode_jpeg(pixels, QUALITY, file).expect("encodes");
}

pub fn run() -> io::Result<Vec<Figure>> {
    let world = World::of(32 * MIB)?;
    let index = world.upload(1, FULL_HD)?[0];
    world.warm(&[index])?;
    let all = ViewTransform::full(FULL_HD);
    let mut renderer = CpuRenderer::default();
    let (mut out, mut file) = (vec![0; PREVIEW.bytes() as usize], Vec::new());
    let mut ours = || {
        let lease = world.flyweights.try_lease(index).ok().flatten();
        let lease = lease.expect("resident");
        resample(&mut renderer, lease.pixels(), &all, &mut out);
        file.clear();
        encode(&out, &mut file);
        black_box(&file);
    };
    let own = decode(&photograph(FULL_HD)?)?;
    let mut naive = || {
        let picture = PixelsRef::new(&own, FULL_HD).expect("made for this size");
        let mut out = vec![0; PREVIEW.bytes() as usize];
        resample(&mut CpuRenderer::default(), picture, &all, &mut out);
        let mut file = Vec::new();
        encode(&out, &mut file);
        black_box(&file);
    };
    let (ours, naive) = in_turns(ROUNDS, || turn(&mut ours), || turn(&mut naive))?;
    let figure = |at: usize, name: &str, unit| {
        Figure::new(name, unit, ours[at])
            .peer("own copy per session, fresh buffers per frame", naive[at])
    };
    Ok(vec![
        figure(0, "preview: requests to the allocator", "requests"),
        figure(1, "preview: page faults", "faults"),
        figure(2, "preview: median", "ms"),
        figure(3, "preview: 99th percentile", "ms"),
    ])
}
