//! What one frame is made of: source, lease, view, layers, render, encode.
//!
//! Leases are taken on the async side, where waiting for a load costs nothing; the CPU work runs on pools of its own, one for previews
//! (see [`worker`]) and one for composites (see [`composite`]), so that no tokio worker ever renders. Memory is reserved first: a
//! preview's output before it is queued, a thread's buffers before they grow. The charge of the output travels with the frame's bytes and
//! ends when they do.
//!
//! When pixels cannot be had (memory is critical, the load found no room or takes too long) the source answers with the
//! always-resident thumbnail; it is drawn in their place, and the frame says so. This part knows neither sessions nor HTTP.
//!
//! Where there is a GPU (see [`gpu`]) pixels are drawn there before a frame is queued, and the pool encodes; what it does not draw,
//! the pool does. Of composites it draws those over an image.

pub mod composite;
mod draw;
pub mod gpu;
pub mod layers;
mod pool;
pub mod source;
pub mod sources;
pub mod stream;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use composite::{Backdrop, Composite, CompositeRequest, Pushed, Stood};
pub use layers::{Overlay, Part};
pub use source::{Access, Pixels, Resident, Source, SourceError, Textures, Thumbnail};
pub use sources::{Behind, SourceRefusal, SourceState, Sources, SourcesConfig};
pub use stream::{Picture, Stream};

pub use crate::render::Radius;

use crate::codec::{self, CodecError, Size};
use crate::failpoints;
use crate::memory::{Budget, Charge, Purpose, ReserveError};
use crate::metrics::{Drawer, Metrics, RenderResult, ShedReason};
use crate::render::view::View;
use draw::Easel;
use gpu::{Gpu, Order, Painted};
use pool::{Pool, PoolConfig};
use worker::{Job, Material};

/// Settings of this part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FramesConfig {
    /// Threads that draw and encode previews.
    pub threads: usize,
    /// Previews that may wait for a thread; the next one is shed.
    pub queue_max: usize,
    /// Threads that decode, composite and encode.
    pub composite_threads: usize,
    /// Composites that may wait for a thread; the next one is shed.
    pub composite_queue_max: usize,
    /// Longest side of a frame, in pixels.
    pub side_max: u32,
    /// Longest wait for memory before a frame is shed.
    pub reserve_wait: Duration,
    /// Buffers that a thread keeps between previews, in bytes; what a larger frame took is given back after it. Never more than a
    /// sixteenth of the budget's ceiling.
    pub keep_bytes: u64,
    /// The same between composites, which need several.
    pub composite_keep_bytes: u64,
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self {
            threads: half_the_cpus(),
            queue_max: 256,
            composite_threads: half_the_cpus(),
            composite_queue_max: 64,
            side_max: 4096,
            reserve_wait: Duration::from_millis(250),
            keep_bytes: 4 << 20,
            composite_keep_bytes: 16 << 20,
        }
    }
}

fn half_the_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

impl FramesConfig {
    /// Most frames that a queue can be told to hold.
    pub const QUEUE_MAX: usize = 1 << 20;

    /// Says what is wrong with these settings, if anything.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("threads", self.threads as u64, 1, 1024),
            (
                "queue_max",
                self.queue_max as u64,
                1,
                Self::QUEUE_MAX as u64,
            ),
            ("composite_threads", self.composite_threads as u64, 1, 1024),
            (
                "composite_queue_max",
                self.composite_queue_max as u64,
                1,
                Self::QUEUE_MAX as u64,
            ),
            ("side_max", u64::from(self.side_max), 1, 65_535),
        ];
        for (name, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                return Err(format!(
                    "frames: {name} must be between {low} and {high}, not {value}"
                ));
            }
        }
        Ok(())
    }
}

/// What a frame is delivered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameFormat {
    /// Baseline JPEG, over black where the view is transparent.
    Jpeg {
        /// 30 to 95; others are clamped.
        quality: u8,
    },
    /// PNG with alpha.
    Png,
    /// Lossless WebP with alpha.
    Webp,
    /// Raw RGBA8, rows from the top, no padding.
    Rgba,
}

impl FrameFormat {
    /// Media type of the bytes.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Rgba => "application/octet-stream",
        }
    }

    /// Upper bound of the encoded bytes.
    fn bytes_max(self, size: Size) -> u64 {
        match self {
            Self::Jpeg { quality } => codec::jpeg_bytes_max(size, quality),
            Self::Png => codec::png_bytes_max(size),
            Self::Webp => codec::webp_bytes_max(size),
            Self::Rgba => size.bytes(),
        }
    }

    /// Upper bound of what encoding takes beside its output.
    fn scratch_bytes(self, size: Size) -> u64 {
        match self {
            Self::Png => codec::png_scratch_bytes(size),
            Self::Webp => codec::webp_scratch_bytes(size),
            Self::Jpeg { .. } | Self::Rgba => 0,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRequest {
    /// Size of the frame.
    pub size: Size,
    /// How it is delivered.
    pub format: FrameFormat,
    /// Which part of the background.
    pub view: View,
    /// When the answer is of no use any more. Waiting of every kind counts.
    pub deadline: Instant,
}

/// A finished frame.
#[derive(Debug)]
pub struct Frame {
    /// The encoded picture. Its memory stays charged until the last clone of these bytes is gone.
    pub bytes: Bytes,
    /// Media type of `bytes`.
    pub content_type: &'static str,
    /// Size of the picture.
    pub size: Size,
    /// Flyweight that was drawn.
    pub index: u32,
    /// Version of its pixels.
    pub version: u32,
    /// How the pixels were come by.
    pub access: Access,
    /// Whether its pixels are to the bit what the specification says, and not near that (see [`gpu::GpuTextures`]).
    pub exact: bool,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The size is zero or over the limit.
    #[error("a frame of {size} is outside of 1x1 to {side_max}x{side_max}")]
    Size {
        /// What was asked for.
        size: Size,
        /// Longest side.
        side_max: u32,
    },
    /// The frame takes more memory than the service could ever give: a smaller one may do.
    #[error("the frame needs {bytes} bytes, more than can ever be reserved")]
    TooLarge {
        /// What it would take.
        bytes: u64,
    },
    /// The background's pixels take more memory than the service could ever give, whatever the frame's size.
    #[error("the background's pixels need {bytes} bytes, more than can ever be reserved")]
    SourceTooLarge {
        /// What they would take.
        bytes: u64,
    },
    /// Not done when its deadline passed.
    #[error("the frame was not ready in time")]
    Late,
    /// The participant's own frame is to be blurred, and there is none.
    #[error("there is no frame to blur")]
    NoForeground,
    /// A later frame of the stream stood before this one was decoded.
    #[error("a later frame stands already")]
    Overtaken,
    /// Not now: come back later.
    #[error("shed ({reason:?})")]
    Shed {
        /// What was short.
        reason: ShedReason,
    },
    /// The flyweight was removed.
    #[error("the background is gone")]
    Gone,
    /// There is no such flyweight.
    #[error("no such background")]
    Unknown,
    /// The source could not be loaded.
    #[error("the background cannot be loaded: {0}")]
    Load(String),
    /// The picture could not be encoded, or its thumbnail not decoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A thread of the pool failed.
    #[error("rendering failed: {0}")]
    Internal(&'static str),
}

impl FrameError {
    /// Whether it stems from what was asked for, not from the service.
    fn is_the_callers(&self) -> bool {
        matches!(
            self,
            Self::Size { .. }
                | Self::TooLarge { .. }
                | Self::SourceTooLarge { .. }
                | Self::Gone
                | Self::Unknown
                | Self::NoForeground
                | Self::Overtaken
        )
    }
}

/// A job went into the GPU's threads and did not come back.
const LOST_BY_GPU: FrameError = FrameError::Internal("the GPU's thread lost a frame");

/// Says whether memory is critically short.
type Critical = dyn Fn() -> bool + Send + Sync;

/// The part itself: hand it textures and requests, get frames.
pub struct Frames {
    config: FramesConfig,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    critical: Box<Critical>,
    pool: Pool<Job>,
    composites: Pool<composite::Task>,
    gpu: Option<Arc<Gpu>>,
}

impl Frames {
    /// Starts the threads. `critical` says whether a refusal is put down to critically short memory; it must be cheap.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(
        config: FramesConfig,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        critical: impl Fn() -> bool + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let pool = Pool::start(
            PoolConfig {
                name: "render",
                threads: config.threads,
                queue_max: config.queue_max,
                tell: Box::new(|_| ()),
            },
            || {
                let mut easel = Easel::new(Arc::clone(&budget), config.keep_bytes);
                let metrics = Arc::clone(&metrics);
                move |job| worker::work(job, &mut easel, &metrics)
            },
        )?;
        let told = Arc::clone(&metrics);
        let composites = Pool::start(
            PoolConfig {
                name: "composite",
                threads: config.composite_threads,
                queue_max: config.composite_queue_max,
                tell: Box::new(move |waiting| {
                    told.composites.waiting.set(waiting as i64);
                }),
            },
            || {
                let (budget, metrics) = (Arc::clone(&budget), Arc::clone(&metrics));
                let mut easel = Easel::new(Arc::clone(&budget), config.composite_keep_bytes);
                move |task: composite::Task| task.run(&mut easel, &budget, &metrics)
            },
        )?;
        Ok(Self {
            config,
            budget,
            metrics,
            critical: Box::new(critical),
            pool,
            composites,
            gpu: None,
        })
    }

    /// The same with a GPU, if there is one, that draws what it can.
    #[must_use]
    pub fn with_gpu(self, gpu: Option<Arc<Gpu>>) -> Self {
        Self { gpu, ..self }
    }

    /// A frame of flyweight `index`: from its texture, loaded if need be, or from its thumbnail.
    pub async fn preview(
        &self,
        textures: &impl Textures,
        index: u32,
        request: &FrameRequest,
    ) -> Result<Frame, FrameError> {
        let outcome = self.preview_uncounted(textures, index, request).await;
        self.count(outcome)
    }

    /// A frame of pixels that the caller holds, such as a session's own texture.
    pub async fn draw(
        &self,
        resident: Resident,
        request: &FrameRequest,
    ) -> Result<Frame, FrameError> {
        let outcome = match self.check(request) {
            Ok(()) => self.queue(Drawing::of(resident), request).await,
            Err(error) => Err(error),
        };
        self.count(outcome)
    }

    async fn preview_uncounted(
        &self,
        textures: &impl Textures,
        index: u32,
        request: &FrameRequest,
    ) -> Result<Frame, FrameError> {
        self.check(request)?;
        let deadline = self.load_deadline(request);
        match textures.frame(index, request, deadline).await {
            Ok(Source::Resident(resident)) => self.queue(Drawing::of(resident), request).await,
            Ok(Source::Thumbnail(thumbnail)) => {
                self.queue(Drawing::degraded(index, thumbnail), request)
                    .await
            }
            Err(error) => Err(self.without_source(error)),
        }
    }

    /// Why there is no frame where there are no pixels.
    fn without_source(&self, error: SourceError) -> FrameError {
        match error {
            SourceError::Exhausted => self.shed(self.shortage()),
            SourceError::Late => self.shed(ShedReason::Queue),
            SourceError::Gone => FrameError::Gone,
            SourceError::Unknown => FrameError::Unknown,
            SourceError::TooLarge { bytes } => FrameError::SourceTooLarge { bytes },
            SourceError::Load(cause) => FrameError::Load(cause),
        }
    }

    /// A load may take three quarters of the time, so that the thumbnail can still be drawn in its place.
    fn load_deadline(&self, request: &FrameRequest) -> Instant {
        let now = Instant::now();
        now + request.deadline.saturating_duration_since(now) * 3 / 4
    }

    fn check(&self, request: &FrameRequest) -> Result<(), FrameError> {
        let (size, side_max) = (request.size, self.config.side_max);
        if size.is_empty() || size.width.max(size.height) > side_max {
            return Err(FrameError::Size { size, side_max });
        }
        Ok(())
    }

    /// Reserves the output, queues the work and waits for it until the deadline.
    async fn queue(&self, drawing: Drawing, request: &FrameRequest) -> Result<Frame, FrameError> {
        let texture = (drawing.index, drawing.version);
        let work = async {
            failpoints::delay(failpoints::FRAMES_RENDER_DELAY).await;
            let material = self.paint(drawing.material, texture, request).await?;
            let (drawer, exact) = match &material {
                Material::Drawn(canvas, _) => (Drawer::Gpu, canvas.exact),
                Material::Pixels(_) | Material::Thumbnail(_) => (Drawer::Cpu, true),
            };
            let charge = self.reserve_output(request).await?;
            let (reply, answer) = tokio::sync::oneshot::channel();
            let job = Job {
                material,
                request: *request,
                charge,
                reply,
            };
            let place = self.pool.push(job);
            let _place = place.map_err(|reason| self.shed(reason))?;
            let bytes = answer
                .await
                .unwrap_or(Err(worker::Failure::Stopped))
                .map_err(|failure| self.failed(failure))?;
            self.metrics.gpu.frames_drawn_total.of(drawer).inc();
            Ok::<_, FrameError>((bytes, exact))
        };
        let deadline = tokio::time::Instant::from_std(request.deadline);
        let late = |_| self.shed(ShedReason::Queue);
        let (bytes, exact) = tokio::time::timeout_at(deadline, work)
            .await
            .map_err(late)??;
        Ok(Frame {
            bytes,
            content_type: request.format.content_type(),
            size: request.size,
            index: drawing.index,
            version: drawing.version,
            access: drawing.access,
            exact,
        })
    }

    /// Whether every frame is to the bit what the specification says; else each says whether it is.
    pub fn is_exact(&self) -> bool {
        self.gpu.as_ref().is_none_or(|gpu| gpu.is_exact())
    }

    /// Has the GPU draw pixels, where there is one and it takes them; what it does not draw comes back as it is.
    async fn paint(
        &self,
        material: Material,
        texture: (u32, u32),
        request: &FrameRequest,
    ) -> Result<Material, FrameError> {
        let (gpu, pixels) = match (&self.gpu, material) {
            // A frame that was kept is no texture: the GPU has its textures by flyweight and version.
            (Some(gpu), Material::Pixels(pixels)) if !pixels.is_frame() => (gpu, pixels),
            (_, material) => return Ok(material),
        };
        let (bytes, wait) = (request.size.bytes(), self.config.reserve_wait);
        let Ok(charge) = self.budget.reserve(Purpose::Render, bytes, wait).await else {
            // A thread of the pool may have a canvas already.
            return Ok(Material::Pixels(pixels));
        };
        let order = Order {
            pixels,
            texture,
            overlay: None,
            view: request.view,
            size: request.size,
            charge,
        };
        let Painted { pixels, canvas, .. } = gpu.draw(order).await.ok_or(LOST_BY_GPU)?;
        Ok(match canvas {
            Some(canvas) => Material::Drawn(canvas, pixels),
            None => Material::Pixels(pixels),
        })
    }

    async fn reserve_output(&self, request: &FrameRequest) -> Result<Charge, FrameError> {
        let bytes = request.format.bytes_max(request.size);
        let reserved = self
            .budget
            .reserve(Purpose::Encode, bytes, self.config.reserve_wait)
            .await;
        reserved.map_err(|refusal| match refusal {
            ReserveError::TooLarge { requested, .. } => FrameError::TooLarge { bytes: requested },
            ReserveError::Exhausted { .. } => self.shed(ShedReason::Budget),
        })
    }

    fn failed(&self, failure: worker::Failure) -> FrameError {
        match failure {
            worker::Failure::Late => self.shed(ShedReason::Queue),
            worker::Failure::Stopped => self.shed(ShedReason::Draining),
            worker::Failure::Reserve(ReserveError::TooLarge { requested, .. }) => {
                FrameError::TooLarge { bytes: requested }
            }
            worker::Failure::Reserve(ReserveError::Exhausted { .. }) => {
                self.shed(ShedReason::Budget)
            }
            worker::Failure::Codec(error) => FrameError::Codec(error),
            worker::Failure::NoForeground => FrameError::NoForeground,
            worker::Failure::Overtaken => FrameError::Overtaken,
            worker::Failure::Injected => FrameError::Internal("injected"),
            worker::Failure::Panicked => FrameError::Internal("a render panicked"),
        }
    }

    fn shortage(&self) -> ShedReason {
        if (self.critical)() {
            ShedReason::Governor
        } else {
            ShedReason::Budget
        }
    }

    fn shed(&self, reason: ShedReason) -> FrameError {
        FrameError::Shed { reason }
    }

    fn count(&self, outcome: Result<Frame, FrameError>) -> Result<Frame, FrameError> {
        let result = match &outcome {
            Ok(frame) if frame.access == Access::Degraded => Some(RenderResult::Degraded),
            Ok(_) => Some(RenderResult::Ok),
            Err(FrameError::Shed { .. }) => Some(RenderResult::Shed),
            // The caller's mistakes are no renders.
            Err(error) if error.is_the_callers() => None,
            Err(_) => Some(RenderResult::Error),
        };
        if let Some(result) = result {
            self.metrics.frames.renders_total.of(result).inc();
        }
        outcome
    }
}

/// What is drawn, and what the frame will say about it.
struct Drawing {
    material: Material,
    index: u32,
    version: u32,
    access: Access,
}

impl Drawing {
    fn of(resident: Resident) -> Self {
        let Resident {
            pixels,
            index,
            version,
            access,
        } = resident;
        Self {
            material: Material::Pixels(pixels),
            index,
            version,
            access,
        }
    }

    fn degraded(index: u32, thumbnail: Thumbnail) -> Self {
        let Thumbnail { bytes, version } = thumbnail;
        Self {
            material: Material::Thumbnail(bytes),
            index,
            version,
            access: Access::Degraded,
        }
    }
}
