//! Jobs on their way to the GPU's thread: a bounded queue, and what else that thread is told.
//!
//! The invariant: a job that was taken is either handed to the thread or ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{CompositeJob, Refusal};

/// Jobs that are ended, undrawn, if nobody takes them out.
#[derive(Default)]
pub struct Jobs(pub VecDeque<Box<dyn CompositeJob>>);

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in self.0.drain(..) {
            job.end(Err(Refusal::Lost));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Jobs are taken.
    Open,
    /// There is no device at the moment.
    Lost,
    /// The end.
    Closed,
}

struct State {
    jobs: Jobs,
    phase: Phase,
    shrink: Option<u64>,
}

/// What the thread is to do next.
pub enum Turn {
    /// Draw these, one at least.
    Draw(Jobs),
    /// Bring textures down to so many bytes.
    Shrink(u64),
    /// End.
    Close,
}

/// The queue; see the module.
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    queue_max: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("queue_max", &self.queue_max)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Open and empty.
    pub fn new(queue_max: usize) -> Self {
        let state = State {
            jobs: Jobs::default(),
            phase: Phase::Open,
            shrink: None,
        };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            queue_max,
        }
    }

    pub fn push(&self, job: Box<dyn CompositeJob>) -> Result<(), (Box<dyn CompositeJob>, Refusal)> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Err((job, Refusal::Lost));
        }
        if state.jobs.0.len() >= self.queue_max {
            return Err((job, Refusal::Busy));
        }
        state.jobs.0.push_back(job);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    pub fn shrink(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.shrink = Some(state.shrink.map_or(bytes, |asked| asked.min(bytes)));
        drop(state);
        self.filled.notify_one();
    }

    pub fn is_open(&self) -> bool {
        self.state.lock().phase == Phase::Open
    }

    /// No job is taken any more; those that wait are ended.
    pub fn close(&self) {
        self.turn_to(Phase::Closed);
        self.filled.notify_all();
    }

    /// Jobs are refused until [`Queue::reopen`]; those that wait are ended.
    pub fn suspend(&self) {
        self.turn_to(Phase::Lost);
    }

    /// Jobs are taken again.
    pub fn reopen(&self) {
        self.turn_to(Phase::Open);
    }

    fn turn_to(&self, phase: Phase) {
        let waiting = {
            let mut state = self.state.lock();
            if state.phase == Phase::Closed {
                return;
            }
            state.phase = phase;
            match phase {
                Phase::Open => Jobs::default(),
                Phase::Lost | Phase::Closed => std::mem::take(&mut state.jobs),
            }
        };
        // Outside of the lock: whoever is told may ask for more.
        drop(waiting);
    }

    /// Waits for something to do. Jobs wait for each other until `window` has passed since the first one was seen, or there are
    /// `batch_max`.
    pub fn turn(&self, window: Duration, batch_max: usize) -> Turn {
        let mut state = self.state.lock();
        let mut until = None;
        loop {
            if state.phase == Phase::Closed {
                return Turn::Close;
            }
            if let Some(bytes) = state.shrink.take() {
                return Turn::Shrink(bytes);
            }
            let waiting = state.jobs.0.len();
            if waiting == 0 {
                self.filled.wait(&mut state);
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + window);
            if waiting >= batch_max
                || window.is_zero()
                || self.filled.wait_until(&mut state, until).timed_out()
            {
                let count = state.jobs.0.len().min(batch_max);
                return Turn::Draw(Jobs(state.jobs.0.drain(..count).collect()));
            }
        }
    }

    /// Waits `time`, or for the end: true then.
    pub fn closes_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while state.phase != Phase::Closed {
            if self.filled.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.phase == Phase::Closed
    }
}
