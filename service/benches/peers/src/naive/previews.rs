//! Row 14: where the time of a preview goes: buffers that are kept, against buffers made for each frame.

use std::hint::black_box;
use std::io;
use std::time::Instant;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size, encode_jpeg};
use backdrop_service::render::{CpuRenderer, Renderer, ViewTransform};

use crate::counters::{Heap, page_faults};
use crate::support::Figure;
use crate::world::{FULL_HD, MIB, World, ms_since};

const PREVIEW: Size = Size::new(640, 360);
const FRAMES: usize = 300;

/// What was counted over the frames of one way.
struct Counted {
    requests: f64,
    faults: f64,
    median_ms: f64,
    p99_ms: f64,
}

fn count(mut frame: impl FnMut()) -> io::Result<Counted> {
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
    Ok(Counted {
        requests: requests as f64 / FRAMES as f64,
        faults: faults as f64 / FRAMES as f64,
        median_ms: times[FRAMES / 2],
        p99_ms: times[FRAMES * 99 / 100],
    })
}

fn reference(data: &[u8]) -> PixelsRef<'_> {
    PixelsRef::new(data, PREVIEW).expect("made for this size")
}

pub fn run() -> io::Result<Vec<Figure>> {
    let world = World::of(32 * MIB)?;
    let index = world.upload(1, FULL_HD)?[0];
    world.warm(&[index])?;
    let all = ViewTransform::full(FULL_HD);
    let mut renderer = CpuRenderer::default();
    let (mut out, mut file) = (vec![0; PREVIEW.bytes() as usize], Vec::new());
    let ours = count(|| {
        let lease = world
            .flyweights
            .try_lease(index)
            .ok()
            .flatten()
            .expect("resident");
        file.clear();
        let pixels = PixelsMut::new(&mut out, PREVIEW).expect("made for this size");
        renderer.resample(lease.pixels(), &all, pixels);
        encode_jpeg(reference(&out), 80, black_box(&mut file)).expect("encodes");
    })?;
    // The naive way copies the picture to work on it, and makes its buffers anew.
    let naive = count(|| {
        let lease = world
            .flyweights
            .try_lease(index)
            .ok()
            .flatten()
            .expect("resident");
        let rows = (0..FULL_HD.height).map(|y| lease.pixels().row(y));
        let own = rows.collect::<Vec<_>>().concat();
        drop(lease);
        let picture = PixelsRef::new(&own, FULL_HD).expect("made for this size");
        let (mut out, mut file) = (vec![0; PREVIEW.bytes() as usize], Vec::new());
        let pixels = PixelsMut::new(&mut out, PREVIEW).expect("made for this size");
        CpuRenderer::default().resample(picture, &all, pixels);
        encode_jpeg(reference(&out), 80, &mut file).expect("encodes");
        black_box(file);
    })?;
    let name = "fresh buffers and an own copy per frame";
    Ok(vec![
        Figure::new(
            "row 14: requests to the allocator per preview",
            "requests",
            ours.requests,
        )
        .peer(name, naive.requests),
        Figure::new("row 14: page faults per preview", "faults", ours.faults)
            .peer(name, naive.faults),
        Figure::new("row 14: preview, median", "ms", ours.median_ms).peer(name, naive.median_ms),
        Figure::new("row 14: preview, 99th percentile", "ms", ours.p99_ms).peer(name, naive.p99_ms),
    ])
}
