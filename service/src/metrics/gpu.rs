//! Who draws frames, and the GPU: batches, memory, losses.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::atomic::AtomicU64;

labels! {
    /// Who drew a frame.
    Drawer("renderer") { Cpu = "cpu", Gpu = "gpu", }
    /// Why a frame was drawn by the CPU where there is a GPU.
    GpuFallback("reason") { Busy = "busy", Lost = "lost", TooLarge = "too_large", Memory = "memory", Late = "late", Encoding = "encoding", }
    /// What became of a texture that was to be made into blocks.
    GpuEncoded("result") { Ok = "ok", Dropped = "dropped", }
    /// What came of opening a lost GPU anew.
    GpuReopened("result") { Ok = "ok", Error = "error", }
}

/// Bounds of a batch's number of frames.
const BATCH_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Series of renderers.
#[derive(Debug)]
pub struct GpuMetrics {
    /// Frames, previews and composites, by who drew them.
    pub frames_drawn_total: By<Drawer, Counter>,
    /// 1 while a GPU takes frames.
    pub ready: Gauge,
    /// Frames of one dispatch.
    pub batch_frames: Histogram,
    /// Frames that the CPU drew in place of a GPU.
    pub fallbacks_total: By<GpuFallback, Counter>,
    /// Textures that were uploaded.
    pub uploads_total: Counter,
    /// Frames drawn from compressed textures.
    pub inexact_frames_total: Counter,
    /// Textures that were made into blocks.
    pub encodes_total: By<GpuEncoded, Counter>,
    /// Time that took, in seconds.
    pub encode_seconds_total: Counter<f64, AtomicU64>,
    /// Losses of the device.
    pub losses_total: Counter,
    /// Attempts to open a lost device anew.
    pub reopened_total: By<GpuReopened, Counter>,
    /// Bytes of textures on the device.
    pub texture_bytes: Gauge,
    /// Bytes of all buffers on the device and for it.
    pub held_bytes: Gauge,
}

impl GpuMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            frames_drawn_total: r.counters("frames_drawn", "Previews and composites by who drew them; more of cpu beside gpu: the GPU refuses them, or is lost"),
            ready: r.gauge("gpu_ready", "1 while a GPU takes frames; 0 without one, and while it is lost"),
            batch_frames: r.one(
                "gpu_batch_frames",
                "Frames of one dispatch that came back; a rise means that more of them are due at once",
                Histogram::new(BATCH_BUCKETS),
            ),
            fallbacks_total: r.counters("gpu_fallbacks", "Frames that the CPU drew in place of the GPU; more busy: its queue is full, more lost: its device went away, more late: composites would miss their deadlines, more encoding: textures are new to it or displace each other"),
            uploads_total: r.counter("gpu_uploads", "Textures uploaded to the GPU; a rise with steady sessions means that they displace each other there"),
            inexact_frames_total: r.counter("gpu_inexact_frames", "Frames drawn from BC7 textures, near what the CPU draws and not to the bit; a rise means that these were asked for, and are used"),
            encodes_total: r.counters("gpu_encodes", "Textures made into BC7 blocks by result; more dropped: no memory for them"),
            encode_seconds_total: r.one(
                "gpu_encode_seconds",
                "Time of a thread for making BC7 blocks; a rise by nearly a second each second means that textures come faster, or displace each other",
                Counter::default(),
            ),
            losses_total: r.counter("gpu_losses", "Losses of the GPU's device; a rise means a driver or a device that fails"),
            reopened_total: r.counters("gpu_reopened", "Attempts to open a lost GPU anew; more errors: it stays away"),
            texture_bytes: r.gauge("gpu_texture_bytes", "Bytes of textures on the GPU"),
            held_bytes: r.gauge("gpu_held_bytes", "Bytes of all buffers on the GPU and for it, whether they hold anything or not"),
        }
    }
}
