//! The thread that makes blocks of textures, one after the other, for a device that reads them.
//!
//! A frame whose texture is not there leaves its background here and is drawn by the CPU; so are those that come before the blocks are
//! on the device. Few may wait, since each keeps a background; one that finds no place is left by a later frame. The invariant: of one
//! texture there is never a second encode before the first one's blocks are on the device, or gone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::queue::Queue;
use super::{Background, CompositeJob, Event, Host, TextureFormat, TextureKey, bc7};
use crate::codec::pixels::Size;

/// Backgrounds that may wait.
const WAITING_MAX: usize = 2;

/// A texture's blocks, on their way to the device.
pub struct Encoded {
    pub key: TextureKey,
    pub size: Size,
    pub blocks: Vec<u8>,
    /// What they are counted in.
    _memory: Box<dyn Send>,
    _turn: Turn,
}

/// The thread works for one texture at a time, until this goes.
struct Turn(Arc<Encoder>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.state.lock().busy = None;
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(TextureKey, Box<dyn Background>)>,
    /// The one that is being made, or is on its way.
    busy: Option<TextureKey>,
    closed: bool,
}

/// What waits, and what the thread is told.
#[derive(Default)]
pub struct Encoder {
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// Has the texture of a job made, unless that is under way or too many wait.
    pub fn ask(&self, job: &dyn CompositeJob) {
        let key = job.texture();
        let mut state = self.state.lock();
        let known = state.busy == Some(key) || state.waiting.iter().any(|(other, _)| *other == key);
        if known || state.closed || state.waiting.len() >= WAITING_MAX {
            return;
        }
        if let Some(background) = job.keep() {
            state.waiting.push_back((key, background));
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Ends the thread, within a row of blocks.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.changed.notify_all();
        // Outside of the lock: leases go here.
        drop(waiting);
    }

    fn next(&self) -> Option<(TextureKey, Box<dyn Background>)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.busy.is_none()
                && let Some((key, background)) = state.waiting.pop_front()
            {
                state.busy = Some(key);
                return Some((key, background));
            }
            self.changed.wait(&mut state);
        }
    }

    /// The thread's work, until the end.
    pub fn run(self: Arc<Self>, host: &dyn Host, queue: &Queue) {
        host.begin_encoding();
        while let Some((key, background)) = self.next() {
            let turn = Turn(Arc::clone(&self));
            let start = Instant::now();
            // One that panics costs this texture, whose frames the CPU draws.
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&*background, host)));
            drop(background);
            let made = made.unwrap_or(None);
            host.tell(Event::Encoded {
                done: made.is_some(),
                time: start.elapsed(),
            });
            if let Some((size, blocks, memory)) = made {
                queue.bring(Encoded {
                    key,
                    size,
                    blocks,
                    _memory: memory,
                    _turn: turn,
                });
            }
        }
    }

    fn make(
        &self,
        background: &dyn Background,
        host: &dyn Host,
    ) -> Option<(Size, Vec<u8>, Box<dyn Send>)> {
        let pixels = background.pixels();
        let size = pixels.size();
        let bytes = TextureFormat::Bc7.bytes(size) + bc7::scratch_bytes(size);
        let memory = host.reserve(bytes)?;
        let blocks = bc7::encode(pixels, || self.state.lock().closed)?;
        Some((size, blocks, memory))
    }
}
