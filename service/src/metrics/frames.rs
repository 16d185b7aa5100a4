//! Frames: what became of them, and how long drawing took.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

labels! {
    /// What became of one frame.
    RenderResult("result") { Ok = "ok", Degraded = "degraded", Shed = "shed", Error = "error", }
}

/// Series of frames.
#[derive(Debug)]
pub struct FrameMetrics {
    /// Frames by result.
    pub renders_total: By<RenderResult, Counter>,
    /// Time of render and encode of one frame, without waiting, in seconds.
    pub render_duration_seconds: Histogram,
}

impl FrameMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            renders_total: r.counters("renders", "Frames by result; more degraded: the governor is critical; more shed: the queue is full, or memory short"),
            render_duration_seconds: r.work(
                "render_duration_seconds",
                "Render and encode of one frame, without waiting; a rise means larger frames or a CPU that is shared",
            ),
        }
    }
}
