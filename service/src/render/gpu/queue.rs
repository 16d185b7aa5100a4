//! Jobs on their way to the GPU's thread: a bounded queue, and what else that thread is told.
//!
//! Foregrounds are much to copy, frame by frame: of a turn, jobs that have one get no more than a set of buffers holds, so that the
//! others never wait for more than that. The invariant: a job that was taken is either handed to the thread or ended.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::encoder::Encoded;
use super::{CompositeJob, Refusal};

/// Turns for which jobs with a foreground may wait; more are refused.
const MASKED_TURNS: u64 = 2;

/// Bytes of a job's foreground and mask; `None` without one.
fn masked_bytes(job: &dyn CompositeJob) -> Option<u64> {
    let size = job.foreground()?.size();
    Some(size.bytes() + size.pixels())
}

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
    /// Without a foreground.
    bare: Jobs,
    /// With one.
    masked: Jobs,
    /// Of all of those.
    masked_bytes: u64,
    /// The last turn had none of those: if some wait, the next one has.
    masked_next: bool,
    phase: Phase,
    shrink: Option<u64>,
    /// A texture's blocks; there is never a second one.
    encoded: Option<Encoded>,
}

/// What the thread is to do next.
pub enum Turn {
    /// Draw these, one at least.
    Draw(Jobs),
    /// Bring textures down to so many bytes.
    Shrink(u64),
    /// Take in these blocks.
    TakeIn(Encoded),
    /// End.
    Close,
}

/// The queue; see the module.
pub struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    queue_max: usize,
    /// Bytes of foregrounds of a turn, unless one alone has more.
    masked_bytes_max: u64,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("queue_max", &self.queue_max)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Open and empty. `masked_bytes_max` of foregrounds go into a turn.
    pub fn new(queue_max: usize, masked_bytes_max: u64) -> Self {
        let state = State {
            bare: Jobs::default(),
            masked: Jobs::default(),
            masked_bytes: 0,
            masked_next: true,
            phase: Phase::Open,
            shrink: None,
            encoded: None,
        };
        Self {
            state: Mutex::new(state),
            filled: Condvar::new(),
            queue_max,
            masked_bytes_max,
        }
    }

    pub fn push(&self, job: Box<dyn CompositeJob>) -> Result<(), (Box<dyn CompositeJob>, Refusal)> {
        let masked = masked_bytes(&*job);
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Err((job, Refusal::Lost));
        }
        let jobs = state.bare.0.len() + state.masked.0.len();
        let masked_max = self.masked_bytes_max * MASKED_TURNS;
        let has_room = masked.is_none_or(|bytes| {
            state.masked.0.is_empty() || state.masked_bytes + bytes <= masked_max
        });
        if jobs >= self.queue_max || !has_room {
            return Err((job, Refusal::Busy));
        }
        match masked {
            Some(bytes) => {
                state.masked_bytes += bytes;
                state.masked.0.push_back(job);
            }
            None => state.bare.0.push_back(job),
        }
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Brings blocks for the device, unless there is none.
    pub fn bring(&self, encoded: Encoded) {
        let mut state = self.state.lock();
        let replaced = match state.phase {
            Phase::Open => state.encoded.replace(encoded),
            Phase::Lost | Phase::Closed => Some(encoded),
        };
        drop(state);
        self.filled.notify_one();
        drop(replaced);
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
                Phase::Open => None,
                Phase::Lost | Phase::Closed => {
                    state.masked_bytes = 0;
                    let State { bare, masked, .. } = &mut *state;
                    Some(([bare, masked].map(std::mem::take), state.encoded.take()))
                }
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
            if let Some(encoded) = state.encoded.take() {
                return Turn::TakeIn(encoded);
            }
            let due = state.bare.0.len() + self.masked_due(&state);
            if due == 0 {
                self.filled.wait(&mut state);
                continue;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + window);
            if due >= batch_max
                || window.is_zero()
                || self.filled.wait_until(&mut state, until).timed_out()
            {
                return Turn::Draw(self.take(&mut state, batch_max));
            }
        }
    }

    /// Jobs with a foreground that a turn may have now.
    fn masked_due(&self, state: &State) -> usize {
        let mut bytes = 0;
        let sizes = state.masked.0.iter().map(|job| masked_bytes(&**job));
        let fit = sizes.take_while(|size| {
            bytes += size.unwrap_or(0);
            bytes <= self.masked_bytes_max
        });
        fit.count().max(1).min(state.masked.0.len())
    }

    /// The jobs of a turn, those with a foreground last. Neither kind keeps the other out of two turns in a row.
    fn take(&self, state: &mut State, batch_max: usize) -> Jobs {
        let due = self.masked_due(state);
        let kept_free = if state.masked_next { due } else { 0 };
        let bare = state.bare.0.len().min(batch_max.saturating_sub(kept_free));
        let masked = due.min(batch_max - bare);
        state.masked_next = masked == 0;
        let mut jobs: VecDeque<_> = state.bare.0.drain(..bare).collect();
        jobs.extend(state.masked.0.drain(..masked));
        let taken = jobs.iter().filter_map(|job| masked_bytes(&**job));
        state.masked_bytes -= taken.sum::<u64>();
        Jobs(jobs)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pixels::{PixelsMut, PixelsRef, Size};
    use crate::render::Foreground;
    use crate::render::gpu::{TextureFormat, TextureKey};
    use crate::render::view::ViewTransform;

    const SIZE: Size = Size::new(4, 4);
    /// Of one foreground with its mask.
    const MASKED: u64 = 80;

    struct Job {
        number: usize,
        masked: bool,
    }

    impl CompositeJob for Job {
        fn texture(&self) -> TextureKey {
            TextureKey {
                index: self.number as u32,
                version: 1,
            }
        }
        fn background(&self) -> PixelsRef<'_> {
            unreachable!("it is not drawn")
        }
        fn view(&self) -> ViewTransform {
            unreachable!("it is not drawn")
        }
        fn foreground(&self) -> Option<Foreground<'_>> {
            self.masked
                .then(|| Foreground::new(SIZE, &[0; 64], &[0; 16]))?
        }
        fn size(&self) -> Size {
            SIZE
        }
        fn out(&mut self) -> PixelsMut<'_> {
            unreachable!("it is not drawn")
        }
        fn end(self: Box<Self>, _: Result<TextureFormat, Refusal>) {}
    }

    fn push(queue: &Queue, number: usize, masked: bool) -> Result<(), Refusal> {
        let pushed = queue.push(Box::new(Job { number, masked }));
        pushed.map_err(|(_, refusal)| refusal)
    }

    fn turn(queue: &Queue, batch_max: usize) -> Vec<u32> {
        match queue.turn(Duration::ZERO, batch_max) {
            Turn::Draw(jobs) => jobs.0.iter().map(|job| job.texture().index).collect(),
            _ => panic!("there are jobs"),
        }
    }

    #[test]
    fn foregrounds_get_a_part_of_each_turn_and_of_what_waits() {
        let queue = Queue::new(100, 2 * MASKED);
        for number in 0..6 {
            let taken = push(&queue, number, true);
            assert_eq!(
                taken,
                if number < 4 {
                    Ok(())
                } else {
                    Err(Refusal::Busy)
                }
            );
        }
        for number in 10..13 {
            assert_eq!(push(&queue, number, false), Ok(()), "these have room");
        }
        assert_eq!(turn(&queue, 64), [10, 11, 12, 0, 1]);
        assert_eq!(push(&queue, 20, true), Ok(()), "there is room again");
        assert_eq!(push(&queue, 21, false), Ok(()));
        assert_eq!(turn(&queue, 64), [21, 2, 3]);
        assert_eq!(turn(&queue, 64), [20]);
        assert_eq!(queue.state.lock().masked_bytes, 0);
    }

    #[test]
    fn neither_kind_keeps_the_other_waiting_for_ever() {
        let queue = Queue::new(100, 64 * MASKED);
        for number in 0..4 {
            push(&queue, number, true).ok();
            push(&queue, 10 + number, false).ok();
        }
        let turns: Vec<u32> = (0..8).flat_map(|_| turn(&queue, 1)).collect();
        assert_eq!(turns, [0, 10, 1, 11, 2, 12, 3, 13]);
    }

    #[test]
    fn one_that_is_larger_than_a_turns_part_goes_alone() {
        let queue = Queue::new(100, MASKED / 2);
        assert_eq!(push(&queue, 0, true), Ok(()));
        assert_eq!(push(&queue, 1, true), Err(Refusal::Busy));
        assert_eq!(turn(&queue, 64), [0]);
        assert_eq!(push(&queue, 1, true), Ok(()));
        queue.suspend();
        assert_eq!(push(&queue, 2, true), Err(Refusal::Lost));
        queue.reopen();
        assert_eq!(queue.state.lock().masked_bytes, 0);
    }

    #[test]
    fn in_all_no_more_wait_than_may() {
        let queue = Queue::new(2, 64 * MASKED);
        assert_eq!(push(&queue, 0, true), Ok(()));
        assert_eq!(push(&queue, 1, false), Ok(()));
        assert_eq!(push(&queue, 2, true), Err(Refusal::Busy));
        assert_eq!(push(&queue, 3, false), Err(Refusal::Busy));
    }
}
