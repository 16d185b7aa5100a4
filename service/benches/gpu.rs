//! Frames drawn by a GPU: many in one dispatch beside one by one, and beside the CPU.
//!
//! It says which adapter it ran on. One in software is a CPU that does a GPU's work: its figures are named so, have no goal, and
//! say nothing of a GPU. `gpu` is the one group.

#![expect(clippy::print_stdout, reason = "the table is the output")]

mod support;

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size};
use backdrop_service::render::gpu::{
    Adapters, CompositeJob, Event, Gpu, Host, OpenError, Refusal, Settings, TextureFormat,
    TextureKey,
};
use backdrop_service::render::{CpuRenderer, Foreground, Renderer, ViewTransform};
use support::{Figure, measure};

const FULL: Size = Size::new(1920, 1080);
/// A frame whose pixels cost nothing beside what a call costs.
const SMALL: Size = Size::new(64, 36);
/// Frames at once.
const TOGETHER: usize = 64;

/// The machine's memory is not counted here.
struct Free;

impl Host for Free {
    fn reserve(&self, _bytes: u64) -> Option<Box<dyn Send>> {
        Some(Box::new(()))
    }

    fn tell(&self, _event: Event) {}
}

/// A picture, and a foreground with its mask.
struct Scene {
    key: TextureKey,
    size: Size,
    background: Vec<u8>,
    over: Vec<u8>,
    mask: Vec<u8>,
}

fn scene(index: u32, size: Size) -> Arc<Scene> {
    let bytes = |step: usize| (0..size.bytes() as usize).map(move |at| (at * step) as u8);
    Arc::new(Scene {
        key: TextureKey { index, version: 1 },
        size,
        background: bytes(31).collect(),
        over: bytes(17).collect(),
        mask: bytes(7).take(size.pixels() as usize).collect(),
    })
}

impl Scene {
    fn background(&self) -> PixelsRef<'_> {
        PixelsRef::new(&self.background, self.size).expect("made for this size")
    }

    fn foreground(&self) -> Option<Foreground<'_>> {
        Foreground::new(self.size, &self.over, &self.mask)
    }
}

struct Job {
    scene: Arc<Scene>,
    out: Vec<u8>,
    reply: mpsc::Sender<Result<Vec<u8>, Refusal>>,
}

impl CompositeJob for Job {
    fn texture(&self) -> TextureKey {
        self.scene.key
    }

    fn background(&self) -> PixelsRef<'_> {
        self.scene.background()
    }

    fn view(&self) -> ViewTransform {
        ViewTransform::full(self.scene.size)
    }

    fn foreground(&self) -> Option<Foreground<'_>> {
        self.scene.foreground()
    }

    fn size(&self) -> Size {
        self.scene.size
    }

    fn out(&mut self) -> PixelsMut<'_> {
        PixelsMut::new(&mut self.out, self.scene.size).expect("made for this size")
    }

    fn end(self: Box<Self>, drawn: Result<TextureFormat, Refusal>) {
        let Self { out, reply, .. } = *self;
        drop(reply.send(drawn.map(|_| out)));
    }
}

/// Frames are sent off `at_once`, and the next ones when those are back.
struct Sender {
    gpu: Gpu,
    scene: Arc<Scene>,
    at_once: usize,
    buffers: Vec<Vec<u8>>,
}

impl Sender {
    fn new(gpu: Gpu, scene: Arc<Scene>, frames: usize, at_once: usize) -> Self {
        let buffers = vec![vec![0; scene.size.bytes() as usize]; frames];
        Self {
            gpu,
            scene,
            at_once,
            buffers,
        }
    }

    fn draw(&mut self) {
        let (reply, drawn) = mpsc::channel();
        for out in self.buffers.chunks_mut(self.at_once) {
            for out in &mut *out {
                let job = Job {
                    scene: Arc::clone(&self.scene),
                    out: std::mem::take(out),
                    reply: reply.clone(),
                };
                let refused = self.gpu.composite(Box::new(job)).err();
                assert!(refused.is_none(), "a frame was refused");
            }
            for out in out {
                *out = drawn.recv().expect("an end").expect("a drawn frame");
            }
        }
    }
}

fn open(window: Duration) -> Result<Gpu, OpenError> {
    let settings = Settings {
        adapters: Adapters::Any,
        window,
        batch_max: TOGETHER,
        ..Settings::default()
    };
    Gpu::open(settings, Arc::new(Free))
}

fn group() -> io::Result<Vec<Figure>> {
    let window = Duration::from_micros(200);
    let (together, alone) = match (open(window), open(Duration::ZERO)) {
        (Ok(together), Ok(alone)) => (together, alone),
        (Err(error), _) | (_, Err(error)) => {
            println!("no GPU to measure: {error}");
            return Ok(Vec::new());
        }
    };
    let adapter = together.adapter().clone();
    let what = match adapter.software {
        true => "software in place of a GPU",
        false => "GPU",
    };
    println!("adapter: {} ({what})", adapter.name);
    let mut figures = Vec::new();
    let small = scene(1, SMALL);
    let mut many = Sender::new(together, Arc::clone(&small), TOGETHER, TOGETHER);
    let mut single = Sender::new(alone, small, TOGETHER, 1);
    let (ours, peer) = measure(&mut || many.draw(), Some(&mut || single.draw()));
    let each = |ms: f64| ms * 1e3 / TOGETHER as f64;
    let figure = Figure::new(
        format!("{what}: a frame of 64x36 among {TOGETHER}"),
        "µs",
        each(ours),
    );
    let figure = figure.peer("one by one", each(peer.unwrap_or(f64::NAN)));
    figures.push(match adapter.software {
        true => figure,
        false => figure.goal(0.1),
    });
    drop((many, single));

    let full = scene(2, FULL);
    let gpu = open(window).map_err(io::Error::other)?;
    let frames = 8;
    let mut many = Sender::new(gpu, Arc::clone(&full), frames, frames);
    let mut cpu = CpuRenderer::default();
    let mut out = vec![0; FULL.bytes() as usize];
    let view = ViewTransform::full(FULL);
    let mut by_cpu = || {
        for _ in 0..frames {
            let out = PixelsMut::new(&mut out, FULL).expect("made for this size");
            cpu.composite(full.background(), &view, full.foreground(), out);
        }
    };
    let (ours, peer) = measure(&mut || many.draw(), Some(&mut by_cpu));
    let each = |ms: f64| ms / frames as f64;
    let name = format!("{what}: composite 1080p 1:1, there and back");
    let figure = Figure::new(name, "ms", each(ours));
    figures.push(figure.peer("CPU, one thread", each(peer.unwrap_or(f64::NAN))));
    Ok(figures)
}

fn main() -> io::Result<()> {
    support::run(&[("gpu", group)])
}
