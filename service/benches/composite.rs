//! How fast frames are composited and pictures blurred on one thread; composites against the least that their bytes could cost.
//!
//! Every call takes another set of buffers, more of them than a cache holds, as frames of many sessions do.

#![expect(clippy::print_stdout, reason = "the table is the output")]

mod support;
#[path = "support/traffic.rs"]
#[expect(unsafe_code, reason = "the bound stores past the cache")]
mod traffic;

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size};
use backdrop_service::memory::Arena;
use backdrop_service::memory::arena::{Block, HUGE_PAGE};
use backdrop_service::render::cpu::Kernel;
use backdrop_service::render::view::{Fractions, View};
use backdrop_service::render::{Blur, CpuRenderer, Foreground, Radius, Renderer, ViewTransform};
use support::{Figure, measure};

const FULL: Size = Size::new(1920, 1080);
/// Sets of buffers, 27 MB each.
const SETS: usize = 6;

/// One frame's buffers: of huge pages and faulted in, as textures are.
struct Set {
    background: Block,
    over: Block,
    mask: Block,
    out: Block,
}

fn block(arena: &Arc<Arena>, fill: impl Fn(usize) -> u8) -> Block {
    let mut block = arena
        .allocate(8 << 20, HUGE_PAGE)
        .expect("memory for a block");
    for (at, byte) in block.as_mut_slice().iter_mut().enumerate() {
        *byte = fill(at);
    }
    block
}

/// Somebody before a camera: head and shoulders, about a third of the frame, with edges some pixels wide.
fn person(at: usize) -> u8 {
    let (x, y) = ((at % 1920) as f32 - 960.0, (at / 1920) as f32);
    let ellipse = |middle: f32, a: f32, b: f32| {
        let far = ((x / a).powi(2) + ((y - middle) / b).powi(2)).sqrt();
        (1.0 - far) * a.min(b)
    };
    let inside = ellipse(380.0, 190.0, 260.0).max(ellipse(1080.0, 620.0, 430.0));
    (inside * 16.0 + 128.0).clamp(0.0, 255.0) as u8
}

/// No two pixels alike, none hidden and none clear: nothing can be skipped.
fn smooth(at: usize) -> u8 {
    (at * 7 % 253) as u8 + 1
}

fn sets(mask: fn(usize) -> u8) -> io::Result<Vec<Set>> {
    let arena = Arena::new().map_err(io::Error::other)?;
    let set = |number: usize| Set {
        background: block(&arena, |at| (at * 31 + number) as u8),
        over: block(&arena, |at| (at * 17 + number) as u8),
        mask: block(&arena, mask),
        out: block(&arena, |_| 0),
    };
    Ok((0..SETS).map(set).collect())
}

/// Calls `work` with one set after another.
fn rotating(sets: &mut [Set], mut work: impl FnMut(&mut Set)) -> impl FnMut() {
    let mut next = 0;
    move || {
        work(&mut sets[next]);
        next = (next + 1) % sets.len();
    }
}

fn bytes(block: &Block) -> &[u8] {
    &block.as_slice()[..FULL.bytes() as usize]
}

/// Draws a set with `renderer`; without the mask, its foreground is left out.
fn draw(renderer: &mut CpuRenderer, view: &ViewTransform, masked: bool, set: &mut Set) {
    let mask = &set.mask.as_slice()[..FULL.pixels() as usize];
    let over = Foreground::new(FULL, bytes(&set.over), mask).filter(|_| masked);
    let background = PixelsRef::new(bytes(&set.background), FULL).expect("made for this size");
    let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
    let out = PixelsMut::new(out, FULL).expect("made for this size");
    renderer.composite(background, view, over, out);
}

fn drawn<'a>(
    sets: &'a mut [Set],
    kernel: Kernel,
    view: ViewTransform,
    masked: bool,
) -> impl FnMut() + 'a {
    let mut renderer = CpuRenderer::with_kernel(kernel);
    rotating(sets, move |set| draw(&mut renderer, &view, masked, set))
}

fn least(set: &mut Set) {
    let mask = &set.mask.as_slice()[..FULL.pixels() as usize];
    let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
    traffic::xor(
        &set.background.as_slice()[..out.len()],
        &set.over.as_slice()[..out.len()],
        mask,
        out,
    );
}

type Mask = (&'static str, fn(usize) -> u8);
const MASKS: [Mask; 2] = [("mask of a person", person), ("mask without runs", smooth)];

/// A quarter nearer, and not on whole pixels.
fn zoomed() -> ViewTransform {
    let fractions = Fractions {
        crop: [0.0, 0.0, 1.0, 1.0],
        scale: 1.25,
        uv_offset: [0.0; 2],
        alpha: 1.0,
    };
    let view = View::from_fractions(&fractions).expect("a view");
    view.transform(FULL)
}

fn whole() -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, mask) in MASKS {
        let (mut a, mut b) = (sets(mask)?, sets(mask)?);
        let mut ours = drawn(&mut a, Kernel::best(), ViewTransform::full(FULL), true);
        let mut peer = rotating(&mut b, least);
        let (ours, peer) = measure(&mut ours, Some(&mut peer));
        let figure = Figure::new(format!("composite 1080p 1:1, {name}"), "ms", ours);
        // Three quarters of its speed.
        let figure = figure.goal(1.0 / 0.75);
        figures.push(figure.peer("a ^ b ^ mask", peer.unwrap_or(f64::NAN)));
    }
    Ok(figures)
}

fn bilinear() -> io::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, mask) in MASKS {
        let (mut a, mut b) = (sets(mask)?, sets(mask)?);
        let mut ours = drawn(&mut a, Kernel::best(), zoomed(), true);
        let mut peer = drawn(&mut b, Kernel::best(), ViewTransform::full(FULL), true);
        let (ours, peer) = measure(&mut ours, Some(&mut peer));
        let figure = Figure::new(format!("composite 1080p bilinear, {name}"), "ms", ours);
        figures.push(figure.goal(3.2).peer("1:1", peer.unwrap_or(f64::NAN)));
    }
    Ok(figures)
}

fn copying() -> io::Result<Vec<Figure>> {
    let (mut a, mut b) = (sets(person)?, sets(person)?);
    let mut ours = drawn(&mut a, Kernel::best(), ViewTransform::full(FULL), false);
    let mut peer = rotating(&mut b, |set| {
        let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
        out.copy_from_slice(&set.background.as_slice()[..out.len()]);
    });
    let (ours, peer) = measure(&mut ours, Some(&mut peer));
    let figure = Figure::new("copy 1080p 1:1", "ms", ours).goal(1.1);
    Ok(vec![figure.peer("memcpy", peer.unwrap_or(f64::NAN))])
}

fn kernels() -> io::Result<Vec<Figure>> {
    let views = [("1:1", ViewTransform::full(FULL)), ("bilinear", zoomed())];
    let mut figures = Vec::new();
    for (name, view) in views {
        let (mut a, mut b) = (sets(person)?, sets(person)?);
        let mut ours = drawn(&mut a, Kernel::best(), view, true);
        let mut peer = drawn(&mut b, Kernel::PORTABLE, view, true);
        let (ours, peer) = measure(&mut ours, Some(&mut peer));
        let name = format!("composite 1080p {name}, {}", Kernel::best().name());
        let figure = Figure::new(name, "ms", ours);
        figures.push(figure.peer("portable", peer.unwrap_or(f64::NAN)));
    }
    Ok(figures)
}

fn blurring() -> io::Result<Vec<Figure>> {
    let mut sets = sets(smooth)?;
    let mut figure = |pixels: u8| {
        let radius = Radius::new(pixels).expect("a radius");
        let mut blur = Blur::default();
        let mut ours = rotating(&mut sets, |set| {
            let src = PixelsRef::new(bytes(&set.background), FULL).expect("made for this size");
            let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
            let out = PixelsMut::new(out, FULL).expect("made for this size");
            blur.draw(src, radius, out);
        });
        let (ours, _) = measure(&mut ours, None);
        Figure::new(format!("blur 1080p, radius {pixels}"), "ms", ours).goal(7.0)
    };
    Ok(vec![figure(5), figure(40), figure(127)])
}

fn main() -> io::Result<()> {
    support::run(&[
        ("composite", whole),
        ("bilinear", bilinear),
        ("copy", copying),
        ("kernel", kernels),
        ("blur", blurring),
    ])
}
