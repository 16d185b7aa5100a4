//! A frame's block from the pool, against a fresh buffer for each frame.

use std::hint::black_box;
use std::io;
use std::time::Duration;

use crate::counters::{Heap, page_faults};
use crate::pool::{at_once, pool, take_and_give};
use crate::rounds::{Contender, nanoseconds};
use crate::support::Figure;
use crate::world::{FULL_HD, MIB};

const PAGE: usize = 4096;
/// Frames that faults and requests are counted over.
const FRAMES: usize = 500;

fn fresh() -> Vec<u8> {
    vec![0; FULL_HD.bytes() as usize]
}

/// One byte of every page: what a renderer would touch, at the least.
fn touch(pixels: &mut [u8]) {
    for page in pixels.chunks_mut(PAGE) {
        page[0] = 1;
    }
    black_box(pixels);
}

pub fn run() -> io::Result<Vec<Figure>> {
    let pool = pool(64 * MIB)?;
    let bytes = FULL_HD.bytes();
    let pooled = |_: usize, ops: usize| {
        for _ in 0..ops {
            let ticket = at_once(pool.acquire(bytes, Duration::ZERO)).expect("room");
            touch(
                ticket
                    .realise()
                    .expect("an idle block")
                    .bytes_mut(bytes as usize),
            );
        }
    };
    let naive = |_: usize, ops: usize| (0..ops).for_each(|_| touch(&mut fresh()));
    let bare = [
        Contender::new(|_, ops| take_and_give(&pool, ops)),
        Contender::new(|_, ops| (0..ops).for_each(|_| drop(black_box(fresh())))),
    ];
    let taken = nanoseconds(&bare, 1);
    let touched = nanoseconds(&[Contender::new(pooled), Contender::new(naive)], 1);
    let count = |work: &dyn Fn(usize, usize)| -> io::Result<(f64, f64)> {
        work(0, 4);
        let (faults, heap) = (page_faults(), Heap::read()?);
        work(0, FRAMES);
        let (requests, _) = Heap::read()?.since(&heap);
        let per = |count: u64| count as f64 / FRAMES as f64;
        Ok((per(page_faults() - faults), per(requests)))
    };
    let ((faults, requests), (naive_faults, naive_requests)) = (count(&pooled)?, count(&naive)?);
    let name = "fresh Vec per frame";
    Ok(vec![
        Figure::new("frame buffer: take and give back", "ns", taken[0]).peer(name, taken[1]),
        Figure::new(
            "frame buffer: the same, each page touched",
            "ns",
            touched[0],
        )
        .peer(name, touched[1]),
        Figure::new("frame buffer: page faults per frame", "faults", faults)
            .peer(name, naive_faults),
        Figure::new(
            "frame buffer: requests to the allocator per frame",
            "requests",
            requests,
        )
        .peer(name, naive_requests),
    ])
}
