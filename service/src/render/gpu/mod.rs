//! Rendering on a GPU: what is due within a short window is drawn by one dispatch, the session as its third dimension.
//!
//! Integer WGSL, so that what is drawn equals [`super::cpu::reference`] bit for bit; tables of weights are made by the CPU. One thread
//! takes jobs from a bounded queue, writes what they need into mapped buffers and submits; another waits for the device, copies
//! finished frames out and hands them back. Two sets of buffers ([`slot`]) go round between them, so nothing is allocated for a frame.
//! Textures are uploaded once for each version of a background and stay, by least recent use, within a budget ([`atlas`]). They are
//! exact, or blocks of BC7 where the device reads those and they are asked for: a quarter of the memory, and no longer to the bit.
//! Blocks are made on a thread of their own ([`encoder`]), while the CPU draws.
//!
//! A device may be lost at any time. Jobs then come back undrawn, whatever had become of them, for the CPU; the device is opened anew
//! in the background, at growing intervals; its textures come back as they are asked for. As all of [`super`], this part knows no
//! budget and no metrics: a [`Host`] is asked before memory of the machine is taken, and told what happens.

mod atlas;
mod batch;
mod bc7;
mod device;
mod encoder;
mod finish;
mod queue;
mod record;
mod slab;
mod slot;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Foreground;
use super::view::ViewTransform;
use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
use encoder::Encoder;
use queue::Queue;
use worker::Worker;

/// What a texture is known by: pixels never change under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TextureKey {
    /// Which background.
    pub index: u32,
    /// Which version of it.
    pub version: u32,
}

/// How textures lie on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TextureFormat {
    /// As they are: frames are those of the CPU, bit for bit.
    #[default]
    Rgba8,
    /// As BC7 blocks, a byte for each pixel, which the device reads at no cost: frames are near those of the CPU.
    Bc7,
}

impl TextureFormat {
    /// Bytes that a picture takes there.
    #[must_use]
    pub fn bytes(self, size: Size) -> u64 {
        match self {
            Self::Rgba8 => size.bytes(),
            Self::Bc7 => {
                let [across, down] = bc7::blocks(size);
                u64::from(across) * u64::from(down) * slab::BLOCK_BYTES
            }
        }
    }
}

/// A background's pixels, for as long as it exists.
pub trait Background: Send + 'static {
    /// The pixels.
    fn pixels(&self) -> PixelsRef<'_>;
}

/// One frame to be drawn, with all it needs. It is asked on this part's threads, and where it is queued; asking must not block.
pub trait CompositeJob: Send + 'static {
    /// What the background is known by.
    fn texture(&self) -> TextureKey;

    /// The background.
    fn background(&self) -> PixelsRef<'_>;

    /// The background for longer than the frame takes: what a texture is made of that takes its time. `None`: there is none to be had,
    /// and the frame is not drawn unless its texture is there.
    fn keep(&self) -> Option<Box<dyn Background>> {
        None
    }

    /// What of the background is seen; made for its size.
    fn view(&self) -> ViewTransform;

    /// What is laid over it, as large as the frame. Always the same, and asked for more often than drawn.
    fn foreground(&self) -> Option<Foreground<'_>> {
        None
    }

    /// Size of the frame.
    fn size(&self) -> Size;

    /// Where the frame goes, of [`CompositeJob::size`]. Called once, when it is finished.
    fn out(&mut self) -> PixelsMut<'_>;

    /// Whether anybody still waits for it. If not, it may be dropped undrawn, without [`CompositeJob::end`].
    fn is_wanted(&self) -> bool {
        true
    }

    /// It was drawn, from a texture of that format, or was not; then `out` is as it was.
    fn end(self: Box<Self>, drawn: Result<TextureFormat, Refusal>);
}

/// Why a frame is not drawn by the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The queue is full.
    Busy,
    /// The device is lost, or is not back yet.
    Lost,
    /// Frame, foreground or texture are longer than the buffers.
    TooLarge,
    /// There is no memory for its texture.
    NoMemory,
    /// Its texture is not made yet.
    Encoding,
}

/// Adapters that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapters {
    /// Real GPUs.
    Hardware,
    /// Where there are none, also programs that do a GPU's work on the CPU: slower than rendering there, and good for tests.
    Any,
}

impl Adapters {
    fn take(self, info: &AdapterInfo) -> bool {
        match self {
            Self::Hardware => !info.software,
            Self::Any => true,
        }
    }
}

/// What is known of an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name and its driver's.
    pub name: String,
    /// It runs on the CPU.
    pub software: bool,
    /// What is allocated on it is memory of the machine.
    pub shares_memory: bool,
    /// How textures lie on it: as asked for, if it offers that.
    pub textures: TextureFormat,
}

/// How it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Adapters that will do.
    pub adapters: Adapters,
    /// How long the first job of a batch waits for others.
    pub window: Duration,
    /// Frames of one dispatch.
    pub batch_max: usize,
    /// Jobs that may wait; more are refused.
    pub queue_max: usize,
    /// How textures are to lie on the device, if it offers that.
    pub textures: TextureFormat,
    /// Bytes of textures on the device.
    pub texture_bytes_max: u64,
    /// No more than this where the device shares the machine's memory.
    pub shared_texture_bytes_max: u64,
    /// Bytes of the machine's memory through which everything goes to the device and back, with the device's side where it shares it.
    pub staging_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            adapters: Adapters::Hardware,
            window: Duration::from_micros(500),
            batch_max: 64,
            queue_max: 128,
            textures: TextureFormat::default(),
            texture_bytes_max: 512 << 20,
            shared_texture_bytes_max: 512 << 20,
            // On a device with memory of its own: room for a frame of 3840x2160, with foreground and mask, in each of two sets.
            staging_bytes: 160 << 20,
        }
    }
}

/// Why there is no GPU.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// None that will do.
    #[error("no adapter that will do; others found: [{}]", refused.join("; "))]
    NoAdapter {
        /// Those that will not.
        refused: Vec<String>,
    },
    /// It is there and does not work.
    #[error("the adapter cannot be used: {0}")]
    Device(String),
    /// The host gives no memory for the buffers.
    #[error("no memory for buffers of {bytes} bytes")]
    Memory {
        /// What they would take.
        bytes: u64,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the host is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A dispatch of so many frames came back.
    Batch {
        /// How many.
        frames: usize,
    },
    /// A texture was uploaded.
    Uploaded,
    /// A texture was made into blocks, or could not be.
    Encoded {
        /// Whether it was.
        done: bool,
        /// How long that took.
        time: Duration,
    },
    /// Bytes of textures on the device, and of all buffers that are held there and for it.
    Held {
        /// Of textures.
        textures: u64,
        /// Of everything.
        all: u64,
    },
    /// The device is lost.
    Lost,
    /// It was opened anew, or could not be.
    Reopened {
        /// Whether it was.
        done: bool,
    },
}

/// Who owns the machine's memory and counts.
pub trait Host: Send + Sync + 'static {
    /// Memory of the machine that is about to be taken; given back when the value is dropped. `None`: it may not be.
    fn reserve(&self, bytes: u64) -> Option<Box<dyn Send>>;

    /// Something happened.
    fn tell(&self, event: Event);

    /// Called once on the thread that makes textures' blocks, before the first: it may step back behind others.
    fn begin_encoding(&self) {}

    /// Asked after each submission: whether the device is to be destroyed now, as a fault that is injected.
    fn destroy(&self) -> bool {
        false
    }
}

/// A GPU and the threads that serve it. Dropping it gives back what waits, undrawn, and joins them.
#[derive(Debug)]
pub struct Gpu {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
    info: AdapterInfo,
    encoder: Option<Arc<Encoder>>,
    encoding: Option<JoinHandle<()>>,
}

impl Gpu {
    /// Opens an adapter. Loads drivers, which takes a while: not for async workers.
    ///
    /// # Errors
    /// Where there is none that will do and works, or no memory.
    pub fn open(settings: Settings, host: Arc<dyn Host>) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new(settings.queue_max, settings.staging_bytes / 4));
        // Also where this device does not read what is asked for: the next one may.
        let encoder = (settings.textures == TextureFormat::Bc7).then(Arc::<Encoder>::default);
        let worker = Worker::new(
            settings,
            Arc::clone(&host),
            Arc::clone(&queue),
            encoder.clone(),
        );
        let kit = worker.open()?;
        let mut gpu = Self {
            queue: Arc::clone(&queue),
            thread: None,
            info: kit.info().clone(),
            encoder: encoder.clone(),
            encoding: None,
        };
        if let Some(encoder) = encoder {
            let thread = std::thread::Builder::new().name("gpu-encode".to_owned());
            gpu.encoding = Some(thread.spawn(move || encoder.run(&*host, &queue))?);
        }
        let thread = std::thread::Builder::new().name("gpu".to_owned());
        gpu.thread = Some(thread.spawn(move || worker.run(kit))?);
        Ok(gpu)
    }

    /// Queues a job. It comes back here, or to [`CompositeJob::end`] later, if it cannot be drawn.
    ///
    /// # Errors
    /// The job, and why it was not taken: [`Refusal::Busy`] or [`Refusal::Lost`].
    pub fn composite(
        &self,
        job: Box<dyn CompositeJob>,
    ) -> Result<(), (Box<dyn CompositeJob>, Refusal)> {
        self.queue.push(job)
    }

    /// Has textures given up, soon, until they take no more than `bytes`. Those that are asked for come back, if the host gives memory.
    pub fn shrink_textures_to(&self, bytes: u64) {
        self.queue.shrink(bytes);
    }

    /// Which adapter was opened.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.info
    }

    /// Whether jobs are taken: the device is not lost.
    pub fn is_ready(&self) -> bool {
        self.queue.is_open()
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(encoder) = &self.encoder {
            encoder.close();
        }
        for thread in [self.thread.take(), self.encoding.take()]
            .into_iter()
            .flatten()
        {
            if thread.join().is_err() {
                tracing::error!("a thread of the GPU had panicked");
            }
        }
    }
}
