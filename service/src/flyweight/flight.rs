//! A flight: one load under way, and everyone who waits for it.
//!
//! The load is a task of its own, so a caller that goes away neither fails nor restarts it. The result stays in the flight as long as
//! somebody has a seat on it, pinned, so that no texture is evicted between its load and its first use. Invariant: it stays no
//! longer; when the last seat is given up the flight holds no lease, whoever else may still know the flight.

use std::sync::Arc;

use tokio::sync::Notify;

use super::sync::Mutex;
use super::{Lease, LeaseError};

type Outcome = Result<Lease, LeaseError>;

/// See the file's description.
#[derive(Debug, Default)]
pub(super) struct Flight {
    state: Mutex<State>,
    done: Notify,
}

#[derive(Debug, Default)]
struct State {
    seats: usize,
    outcome: Option<Outcome>,
}

impl Flight {
    /// A seat for one who waits. Nobody may board a flight that has ended.
    pub(super) fn board(self: &Arc<Self>) -> Seat {
        self.state.lock().seats += 1;
        Seat {
            flight: Arc::clone(self),
        }
    }

    /// Ends the flight and wakes all who wait.
    pub(super) fn complete(&self, outcome: Outcome) {
        let mut state = self.state.lock();
        if state.seats > 0 {
            state.outcome = Some(outcome);
            drop(state);
            self.done.notify_waiters();
        }
    }
}

/// One who waits for a flight.
#[derive(Debug)]
pub(super) struct Seat {
    flight: Arc<Flight>,
}

impl Seat {
    /// Waits for the outcome. Cancel-safe.
    pub(super) async fn wait(self) -> Outcome {
        loop {
            // Made before the look, so that an end between look and wait is not missed.
            let done = self.flight.done.notified();
            if let Some(outcome) = self.look() {
                return outcome;
            }
            done.await;
        }
    }

    fn look(&self) -> Option<Outcome> {
        self.flight.state.lock().outcome.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.flight.state.lock();
        state.seats -= 1;
        let left = match state.seats {
            0 => state.outcome.take(),
            _ => None,
        };
        drop(state);
        // Outside the lock: the last lease of a condemned texture takes it along.
        drop(left);
    }
}
