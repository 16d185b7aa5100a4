//! The pool that draws: a bounded queue and a fixed number of threads. They run at normal priority: below it, a
//! neighbour that spins on their CPU leaves them too little for the frames that are asked for, while requests come first anyway.
//!
//! A job whose deadline has passed, or whose caller has gone, is dropped unseen when its turn comes. A thread keeps its
//! buffers, under a charge of its own that grows before they do. The invariant: at most `queue_max` jobs wait, and each
//! holds its lease and its output's charge, so both are bounded too.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::draw::Easel;
use super::gpu::Canvas;
use super::{FrameRequest, FramesConfig, Pixels};
use crate::codec::CodecError;
use crate::memory::{Budget, Charge, ReserveError};
use crate::metrics::{Metrics, ShedReason};

/// What a job draws.
pub(super) enum Material {
    /// Pixels, kept by a lease or an owner.
    Pixels(Box<dyn Pixels>),
    /// What a GPU has drawn already; it is encoded only.
    Drawn(Canvas),
    /// The small JPEG in their place.
    Thumbnail(Bytes),
}

/// Why a job has no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// Its deadline passed while it waited.
    Late,
    /// The pool is going down.
    Stopped,
    /// No memory for the thread's buffers.
    Reserve(ReserveError),
    /// A file could not be written or read.
    Codec(CodecError),
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

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    queue_max: usize,
}

/// The threads and their queue. Dropping it finishes the frames in hand, drops the waiting ones and joins the threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(
        config: &FramesConfig,
        budget: &Arc<Budget>,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let queue_max = config.queue_max;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            queue_max,
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(config.threads),
        };
        for number in 0..config.threads {
            let shared = Arc::clone(&pool.shared);
            let easel = Easel::new(Arc::clone(budget), config.keep_bytes);
            let metrics = Arc::clone(metrics);
            let thread = std::thread::Builder::new().name(format!("render-{number}"));
            pool.threads
                .push(thread.spawn(move || run(&shared, easel, &metrics))?);
        }
        Ok(pool)
    }

    /// Queues a job, or says why not; the job is dropped then.
    pub(super) fn push(&self, job: Job) -> Result<(), ShedReason> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(ShedReason::Draining);
        }
        if queue.jobs.len() >= self.shared.queue_max {
            return Err(ShedReason::Queue);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }
}

#[cfg(test)]
impl Pool {
    /// Jobs that no thread has taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let abandoned = {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.jobs)
        };
        self.shared.filled.notify_all();
        // Outside of the lock: leases and charges go here.
        drop(abandoned);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a render thread had panicked");
            }
        }
    }
}

fn next(shared: &Shared) -> Option<Job> {
    let mut queue = shared.queue.lock();
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            return Some(job);
        }
        if queue.closed {
            return None;
        }
        shared.filled.wait(&mut queue);
    }
}

fn run(shared: &Shared, mut easel: Easel, metrics: &Metrics) {
    while let Some(job) = next(shared) {
        if job.reply.is_closed() {
            continue;
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
}
