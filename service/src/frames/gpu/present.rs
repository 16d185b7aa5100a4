//! Frames drawn by `render::gpu`, whose memory is charged here and whose doings are counted here.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Canvas, GpuConfig, GpuError, GpuTextures, Order, Painted, RendererChoice};
use crate::codec::{PixelsMut, PixelsRef, Size};
use crate::failpoints;
use crate::frames::{Overlay, Pixels};
use crate::memory::{Budget, Charge, Purpose};
use crate::metrics::{GpuEncoded, GpuFallback, GpuReopened, Metrics};
use crate::priority;
use crate::render::Foreground;
use crate::render::gpu::{
    self, Adapters, Background, CompositeJob, Event, Host, OpenError, Refusal, Settings,
    TextureFormat, TextureKey,
};
use crate::render::view::ViewTransform;

/// What drivers of real GPUs open: Linux's own, NVIDIA's, that of Windows' subsystem, and two of phones' chips. Where there is none
/// of it there is no such GPU, and loading drivers would only load those in software, which bring a compiler of tens of megabytes.
const NODES: [&str; 5] = [
    "/dev/dri",
    "/dev/nvidiactl",
    "/dev/dxg",
    "/dev/mali0",
    "/dev/kgsl-3d0",
];
/// Of the budget's ceiling, what buffers for the GPU may take at most, and as much its textures where they are memory of the machine.
const BUDGET_SHARE: u64 = 4;
/// Below this there is no point in it.
const STAGING_MIN: u64 = 8 << 20;
/// Batches whose frames may wait; more are drawn by the CPU meanwhile.
const BATCHES_WAITING: usize = 2;

/// What the niceness of the thread is raised by that makes textures' blocks: more than decoders', since nobody waits for it.
const ENCODE_NICE: i32 = 10;

/// The GPU, if there is one that was asked for.
#[derive(Debug)]
pub struct Gpu {
    inner: gpu::Gpu,
    metrics: Arc<Metrics>,
}

/// Charges and counts for the renderer.
struct Books {
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl Host for Books {
    fn reserve(&self, bytes: u64) -> Option<Box<dyn Send>> {
        let charge = self.budget.try_reserve(Purpose::Gpu, bytes).ok()?;
        Some(Box::new(charge))
    }

    fn tell(&self, event: Event) {
        let metrics = &self.metrics.gpu;
        match event {
            Event::Batch { frames } => metrics.batch_frames.observe(frames as f64),
            Event::Uploaded => {
                metrics.uploads_total.inc();
            }
            Event::Encoded { done, time } => {
                let result = if done {
                    GpuEncoded::Ok
                } else {
                    GpuEncoded::Dropped
                };
                metrics.encodes_total.of(result).inc();
                metrics.encode_seconds_total.inc_by(time.as_secs_f64());
            }
            Event::Held { textures, all } => {
                metrics.texture_bytes.set(textures as i64);
                metrics.held_bytes.set(all as i64);
            }
            Event::Lost => {
                metrics.ready.set(0);
                metrics.losses_total.inc();
            }
            Event::Reopened { done } => {
                let result = if done {
                    GpuReopened::Ok
                } else {
                    GpuReopened::Error
                };
                metrics.reopened_total.of(result).inc();
                metrics.ready.set(i64::from(done));
            }
        }
    }

    fn begin_encoding(&self) {
        // Refused, it competes with the threads that draw.
        let _ = priority::give_way(ENCODE_NICE);
    }

    fn destroy(&self) -> bool {
        failpoints::hit(failpoints::RENDER_GPU_LOST)
    }
}

fn fallback(refusal: Refusal) -> GpuFallback {
    match refusal {
        Refusal::Busy => GpuFallback::Busy,
        Refusal::Lost => GpuFallback::Lost,
        Refusal::TooLarge => GpuFallback::TooLarge,
        Refusal::NoMemory => GpuFallback::Memory,
        Refusal::Encoding => GpuFallback::Encoding,
    }
}

/// Pixels that a texture is made of, while frames go on.
struct Shared(Box<dyn Pixels>);

impl Background for Shared {
    fn pixels(&self) -> PixelsRef<'_> {
        self.0.pixels()
    }
}

/// What a job gives back.
struct Answer {
    pixels: Box<dyn Pixels>,
    overlay: Option<Overlay>,
    drawn: Result<Canvas, Refusal>,
}

/// One frame on its way through the GPU.
struct Painting {
    pixels: Box<dyn Pixels>,
    texture: TextureKey,
    overlay: Option<Overlay>,
    view: ViewTransform,
    size: Size,
    canvas: Vec<u8>,
    charge: Charge,
    reply: oneshot::Sender<Answer>,
}

impl CompositeJob for Painting {
    fn texture(&self) -> TextureKey {
        self.texture
    }

    fn background(&self) -> PixelsRef<'_> {
        self.pixels.pixels()
    }

    fn keep(&self) -> Option<Box<dyn Background>> {
        Some(Box::new(Shared(self.pixels.share()?)))
    }

    fn view(&self) -> ViewTransform {
        self.view
    }

    fn foreground(&self) -> Option<Foreground<'_>> {
        self.overlay.as_ref().and_then(Overlay::laid)
    }

    fn size(&self) -> Size {
        self.size
    }

    fn out(&mut self) -> PixelsMut<'_> {
        // Charged since it was queued, and taken only now that there is something for it.
        self.canvas = vec![0; self.size.bytes() as usize];
        PixelsMut::new(&mut self.canvas, self.size).expect("made for this size")
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn end(self: Box<Self>, drawn: Result<TextureFormat, Refusal>) {
        let Self {
            pixels,
            overlay,
            canvas,
            charge,
            reply,
            ..
        } = *self;
        let drawn = drawn.map(|format| Canvas {
            pixels: canvas,
            exact: format == TextureFormat::Rgba8,
            charge,
        });
        let answer = Answer {
            pixels,
            overlay,
            drawn,
        };
        drop(reply.send(answer));
    }
}

impl Gpu {
    /// Opens the GPU that `config` asks for. `None` where none is, or where it may be missing: the log says so, once. Loads drivers,
    /// which takes a while: not for async workers.
    ///
    /// # Errors
    /// Where one must be there and is not.
    pub fn open(
        config: &GpuConfig,
        budget: &Arc<Budget>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, GpuError> {
        let adapters = match (config.renderer, config.software) {
            (RendererChoice::Cpu, _) => return Ok(None),
            (RendererChoice::Auto, false) if !NODES.iter().any(|node| Path::new(node).exists()) => {
                tracing::info!(
                    cause = "none has a device in /dev",
                    "no GPU: frames are drawn by the CPU"
                );
                return Ok(None);
            }
            (_, false) => Adapters::Hardware,
            (_, true) => Adapters::Any,
        };
        match Self::open_one(config, adapters, budget, metrics) {
            Ok(gpu) => {
                let adapter = gpu.inner.adapter();
                tracing::info!(
                    adapter = adapter.name,
                    software = adapter.software,
                    exact = gpu.is_exact(),
                    "frames are drawn by a GPU"
                );
                if config.textures == GpuTextures::Bc7 && gpu.is_exact() {
                    tracing::warn!("this GPU does not read BC7: its textures are rgba");
                }
                Ok(Some(gpu))
            }
            Err(cause) if config.renderer == RendererChoice::Auto => {
                tracing::info!(%cause, "no GPU: frames are drawn by the CPU");
                Ok(None)
            }
            Err(cause) => Err(GpuError {
                cause: cause.to_string(),
            }),
        }
    }

    fn open_one(
        config: &GpuConfig,
        adapters: Adapters,
        budget: &Arc<Budget>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let share = budget.ceiling() / BUDGET_SHARE;
        let staging_bytes = config.staging_bytes.min(share);
        if staging_bytes < STAGING_MIN.min(config.staging_bytes) {
            return Err(OpenError::Memory { bytes: STAGING_MIN });
        }
        let settings = Settings {
            adapters,
            window: config.window,
            batch_max: config.batch_max,
            queue_max: config.batch_max * BATCHES_WAITING,
            textures: match config.textures {
                GpuTextures::Rgba => TextureFormat::Rgba8,
                GpuTextures::Bc7 => TextureFormat::Bc7,
            },
            texture_bytes_max: config.texture_bytes_max,
            shared_texture_bytes_max: share,
            staging_bytes,
        };
        let books = Books {
            budget: Arc::clone(budget),
            metrics: Arc::clone(metrics),
        };
        let inner = gpu::Gpu::open(settings, Arc::new(books))?;
        metrics.gpu.ready.set(1);
        Ok(Self {
            inner,
            metrics: Arc::clone(metrics),
        })
    }

    /// Memory is short: where the GPU's textures are memory of the machine they go. Those that are asked for come back.
    pub fn trim(&self) {
        if self.inner.adapter().shares_memory {
            self.inner.shrink_textures_to(0);
        }
    }

    /// Whether all that it draws is what the CPU would have drawn.
    pub(in crate::frames) fn is_exact(&self) -> bool {
        self.inner.adapter().textures == TextureFormat::Rgba8
    }

    /// Whether it has no device at the moment, so that a frame need not be made ready for it; one is counted as drawn by the CPU then.
    pub(in crate::frames) fn is_lost(&self) -> bool {
        let lost = !self.inner.is_ready();
        if lost {
            self.count(Refusal::Lost);
        }
        lost
    }

    fn count(&self, refusal: Refusal) {
        self.metrics.gpu.fallbacks_total.of(fallback(refusal)).inc();
    }

    /// Counts a frame that the CPU draws since it did not come in time.
    pub(in crate::frames) fn was_late(&self) {
        self.metrics.gpu.fallbacks_total.of(GpuFallback::Late).inc();
    }

    /// Draws a frame; `None` if all that it is made of is lost to a defect.
    pub(in crate::frames) async fn draw(&self, order: Order) -> Option<Painted> {
        let Order {
            pixels,
            texture: (index, version),
            overlay,
            view,
            size,
            charge,
        } = order;
        debug_assert!(
            overlay.as_ref().is_none_or(|over| over.laid().is_some()),
            "an overlay that is not laid would not be seen"
        );
        let view = view.transform(pixels.pixels().size());
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Painting {
            pixels,
            texture: TextureKey { index, version },
            overlay,
            view,
            size,
            canvas: Vec::new(),
            charge,
            reply,
        });
        if let Err((job, refusal)) = self.inner.composite(job) {
            job.end(Err(refusal));
        }
        let Answer {
            pixels,
            overlay,
            drawn,
        } = answer.await.ok()?;
        let canvas = drawn.map_err(|refusal| self.count(refusal)).ok();
        if canvas.as_ref().is_some_and(|canvas| !canvas.exact) {
            self.metrics.gpu.inexact_frames_total.inc();
        }
        Some(Painted {
            pixels,
            overlay,
            canvas,
        })
    }
}
