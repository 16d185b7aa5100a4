//! Composites, and the sources that stand behind them: what became of each, how long the work took, who waits.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

labels! {
    /// What became of one composite.
    CompositeResult("result") {
        Ok = "ok", Degraded = "degraded", Shed = "shed", Late = "late", Cancelled = "cancelled", Rejected = "rejected", Error = "error",
    }
    /// Kind of a source that is no image.
    SourceKind("kind") { Stream = "stream", Processor = "processor", }
    /// What became of a frame that was pushed to a stream.
    PushResult("result") { Ok = "ok", Overtaken = "overtaken", Shed = "shed", Rejected = "rejected", }
}

/// Series of composites.
#[derive(Debug)]
pub struct CompositeMetrics {
    /// Composites by result.
    pub results_total: By<CompositeResult, Counter>,
    /// Time of a thread for one composite (for each of its stages, where a GPU draws it), or one frame of a stream, in seconds.
    pub duration_seconds: Histogram,
    /// Composites that wait for a thread.
    pub waiting: Gauge,
}

impl CompositeMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            results_total: r.counters("composites", "Composites by result; more shed: the queue is full, or memory short; more late: deadlines are too near for the load; more cancelled: callers leave before the end"),
            duration_seconds: r.work(
                "composite_duration_seconds",
                "Decode, composite and encode of one frame, without waiting; a rise means larger frames or a CPU that is shared",
            ),
            waiting: r.gauge(
                "composite_queue_frames",
                "Composites that wait for a thread; near its bound, the next ones are shed",
            ),
        }
    }
}

/// Series of sources other than images.
#[derive(Debug)]
pub struct SourceMetrics {
    /// Sources by kind.
    pub live: By<SourceKind, Gauge>,
    /// Frames pushed to streams, by result.
    pub frames_total: By<PushResult, Counter>,
    /// Callers that wait for a stream's next frame.
    pub waiters: Gauge,
}

impl SourceMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            live: r.gauges("sources", "Sources of sessions other than images, by kind"),
            frames_total: r.counters("stream_frames", "Frames pushed to streams by result; more overtaken: they come faster than they are decoded; more shed: the queue is full, or memory short"),
            waiters: r.gauge(
                "stream_waiters",
                "Callers that wait for a stream's next frame",
            ),
        }
    }
}
