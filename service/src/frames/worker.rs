//! What a thread of the previews' pool does with a job.
//!
//! A job whose deadline has passed, or whose caller has gone, is dropped unseen when its turn comes. A thread keeps its
//! buffers, under a charge of its own that grows before they do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::draw::Easel;
use super::gpu::Canvas;
use super::{FrameRequest, Pixels};
use crate::codec::CodecError;
use crate::memory::{Charge, ReserveError};
use crate::metrics::Metrics;

/// What a job draws.
pub(super) enum Material {
    /// Pixels, kept by a lease or an owner.
    Pixels(Box<dyn Pixels>),
    /// What a GPU has drawn already, and what it was drawn of; it is encoded only.
    Drawn(Canvas, Box<dyn Pixels>),
    /// The small JPEG in their place.
    Thumbnail(Bytes),
}

/// Why a job has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its deadline passed, or its caller went away, before it was done.
    Late,
    /// The pool is going down.
    Stopped,
    /// No memory for the thread's buffers.
    Reserve(ReserveError),
    /// A file could not be written or read.
    Codec(CodecError),
    /// There is nothing to blur.
    NoForeground,
    /// A later frame of the same stream stands already.
    Overtaken,
    /// By a failpoint.
    Injected,
    /// A bug; the thread survives.
    Panicked,
}

/// One frame to be made.
pub(super) struct Job {
    pub(super) material: Material,
    pub(super) request: FrameRequest,
    /// For the output; returned within its bytes.
    pub(super) charge: Charge,
    pub(super) reply: oneshot::Sender<Result<Bytes, Failure>>,
}

/// Does a job and answers it.
pub(super) fn work(job: Job, easel: &mut Easel, metrics: &Metrics) {
    if job.reply.is_closed() {
        return;
    }
    let Job {
        material,
        request,
        charge,
        reply,
    } = job;
    let start = Instant::now();
    let result = if request.deadline <= start {
        Err(Failure::Late)
    } else {
        let drawn = catch_unwind(AssertUnwindSafe(|| easel.draw(material, &request, charge)));
        metrics
            .frames
            .render_duration_seconds
            .observe(start.elapsed().as_secs_f64());
        drawn.unwrap_or(Err(Failure::Panicked))
    };
    easel.tidy();
    // The caller may have gone by now; its bytes and their charge go with the result.
    drop(reply.send(result));
}
