//! A bounded queue and the threads that take from it. What a job is does not matter here.
//!
//! They run at normal priority: below it, a neighbour that spins on their CPU leaves them too little for the frames that are asked
//! for, while requests come first anyway. The invariant: at most `queue_max` jobs wait, each for a caller that still waits for it. A
//! job holds leases and charges, so those are bounded too, and are given back with the place of a caller that leaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::metrics::ShedReason;

struct Queue<J> {
    /// Jobs by their tickets, which grow.
    jobs: VecDeque<(u64, J)>,
    next_ticket: u64,
    closed: bool,
}

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    filled: Condvar,
    queue_max: usize,
    /// Told how many wait whenever that changes.
    tell: Box<dyn Fn(usize) + Send + Sync>,
}

/// The threads and their queue. Dropping it finishes the jobs in hand, drops the waiting ones and joins the threads.
pub(super) struct Pool<J> {
    shared: Arc<Shared<J>>,
    threads: Vec<JoinHandle<()>>,
}

/// What a pool is made of.
pub(super) struct PoolConfig {
    /// Of its threads, before their numbers.
    pub(super) name: &'static str,
    pub(super) threads: usize,
    pub(super) queue_max: usize,
    /// Told how many jobs wait whenever that changes.
    pub(super) tell: Box<dyn Fn(usize) + Send + Sync>,
}

impl<J: Send + 'static> Pool<J> {
    /// Starts the threads; `worker` makes what one of them does with each job.
    pub(super) fn start<W: FnMut(J) + Send + 'static>(
        config: PoolConfig,
        worker: impl Fn() -> W,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                next_ticket: 0,
                closed: false,
            }),
            filled: Condvar::new(),
            queue_max: config.queue_max,
            tell: config.tell,
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(config.threads),
        };
        for number in 0..config.threads {
            let (shared, mut work) = (Arc::clone(&pool.shared), worker());
            let thread = std::thread::Builder::new().name(format!("{}-{number}", config.name));
            pool.threads.push(thread.spawn(move || {
                while let Some(job) = shared.next() {
                    work(job);
                }
            })?);
        }
        Ok(pool)
    }
}

impl<J> Pool<J> {
    /// Queues a job, or says why not; the job is dropped then.
    pub(super) fn push(&self, job: J) -> Result<Place<'_, J>, ShedReason> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(ShedReason::Draining);
        }
        if queue.jobs.len() >= self.shared.queue_max {
            return Err(ShedReason::Queue);
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.jobs.push_back((ticket, job));
        (self.shared.tell)(queue.jobs.len());
        drop(queue);
        self.shared.filled.notify_one();
        Ok(Place {
            shared: &self.shared,
            ticket,
        })
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }

    /// Whether one more would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= self.shared.queue_max
    }
}

impl<J> Drop for Pool<J> {
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

impl<J> Shared<J> {
    fn next(&self) -> Option<J> {
        let mut queue = self.queue.lock();
        loop {
            if let Some((_, job)) = queue.jobs.pop_front() {
                (self.tell)(queue.jobs.len());
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            self.filled.wait(&mut queue);
        }
    }
}

/// A caller's place in the queue. Dropped before its job's turn has come, the job is not done.
#[must_use = "dropped, the place is given up"]
pub(super) struct Place<'a, J> {
    shared: &'a Shared<J>,
    ticket: u64,
}

impl<J> Drop for Place<'_, J> {
    fn drop(&mut self) {
        let given_up = {
            let mut queue = self.shared.queue.lock();
            let at = queue
                .jobs
                .binary_search_by_key(&self.ticket, |(ticket, _)| *ticket);
            let given_up = at.ok().and_then(|at| queue.jobs.remove(at));
            if given_up.is_some() {
                (self.shared.tell)(queue.jobs.len());
            }
            given_up
        };
        // Outside of the lock: its lease and its charge go here.
        drop(given_up);
    }
}
