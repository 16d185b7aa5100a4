//! Threads of their own for work that takes milliseconds of CPU: decoding. They run niced, so that switches stay fast.
//!
//! Two bounds: the threads limit the work, the queue limits the waiting. It knows nothing of what it runs.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::priority;

/// Niceness of the threads.
const NICE: i32 = 5;

/// Why a job did not give a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The queue is full.
    #[error("the decode queue is full")]
    QueueFull,
    /// The job panicked. Decoders work on hostile input; one bad picture must not take the thread with it.
    #[error("the decoder panicked")]
    Panicked,
    /// The threads are stopping.
    #[error("the decode threads are stopping")]
    Stopped,
}

type Job = Box<dyn FnOnce() + Send>;

struct Queue {
    jobs: VecDeque<Job>,
    stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    queue_max: usize,
}

/// See the file's description.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("threads", &self.threads.lock().len())
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts `threads` threads (at least one) with a queue of `queue_max` jobs.
    pub fn start(name: &str, threads: usize, queue_max: usize) -> std::io::Result<Self> {
        let queue = Queue {
            jobs: VecDeque::with_capacity(queue_max.min(1024)),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            ready: Condvar::new(),
            queue_max,
        });
        let workers = Self {
            shared,
            threads: Mutex::default(),
        };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&shared))?;
            workers.threads.lock().push(thread);
        }
        Ok(workers)
    }

    /// Runs `job` on one of the threads. A caller that goes away does not stop a job that has begun.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerError> {
        let (sender, receiver) = oneshot::channel();
        let boxed: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(job)).map_err(|_| WorkerError::Panicked);
            // Nobody may be waiting any more; the result is then dropped here.
            drop(sender.send(outcome));
        });
        {
            let mut queue = self.shared.queue.lock();
            if queue.stopped {
                return Err(WorkerError::Stopped);
            }
            if queue.jobs.len() >= self.shared.queue_max {
                return Err(WorkerError::QueueFull);
            }
            queue.jobs.push_back(boxed);
        }
        self.shared.ready.notify_one();
        receiver.await.unwrap_or(Err(WorkerError::Stopped))
    }
}

fn work(shared: &Shared) {
    // A refusal costs promptness of switches and nothing else.
    let _ = priority::give_way(NICE);
    loop {
        let mut queue = shared.queue.lock();
        let job = loop {
            if queue.stopped {
                return;
            }
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None => shared.ready.wait(&mut queue),
            }
        };
        drop(queue);
        job();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.stopped = true;
            std::mem::take(&mut queue.jobs)
        };
        self.shared.ready.notify_all();
        drop(waiting);
        for thread in self.threads.lock().drain(..) {
            // The last owner may be one of the threads: a job holds what holds us.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                tracing::error!("a decode thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_back_and_a_panic_is_an_error() {
        let workers = Workers::start("test", 2, 8).expect("threads");
        assert_eq!(workers.run(|| 6 * 7).await, Ok(42));
        assert_eq!(
            workers.run(|| -> () { panic!("bad picture") }).await,
            Err(WorkerError::Panicked)
        );
        assert_eq!(workers.run(|| "still there").await, Ok("still there"));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let workers = Arc::new(Workers::start("test", 1, 1).expect("threads"));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let first = tokio::spawn({
            let workers = Arc::clone(&workers);
            async move {
                workers
                    .run(move || {
                        let _ = started.send(());
                        let _ = gate.recv();
                    })
                    .await
            }
        });
        running.await.expect("the first job runs");
        let mut second = Box::pin(workers.run(|| ()));
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(second.as_mut().poll(cx).is_pending())
        })
        .await;
        assert!(polled, "the second waits in the queue");
        assert_eq!(workers.run(|| ()).await, Err(WorkerError::QueueFull));
        go.send(()).expect("gate");
        assert_eq!(first.await.expect("task"), Ok(()));
        assert_eq!(second.await, Ok(()));
    }
}
