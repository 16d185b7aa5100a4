//! A flight: one load under way, and everyone who waits for it.
//!
//! The load is a task of its own, so a caller that goes away neither fails nor restarts it. The result stays in the flight as long as
//! a waiter holds it, pinned, so that no texture is evicted between its load and its first use.

use std::sync::OnceLock;

use tokio::sync::Notify;

use super::{Lease, LeaseError};

/// See the file's description.
#[derive(Debug, Default)]
pub(super) struct Flight {
    result: OnceLock<Result<Lease, LeaseError>>,
    done: Notify,
}

impl Flight {
    /// Ends the flight and wakes all who wait. Only the first result counts.
    pub(super) fn complete(&self, result: Result<Lease, LeaseError>) {
        if self.result.set(result).is_ok() {
            self.done.notify_waiters();
        }
    }

    /// Waits for the result. Cancel-safe.
    pub(super) async fn wait(&self) -> Result<Lease, LeaseError> {
        loop {
            // Made before the look, so that an end between look and wait is not missed.
            let done = self.done.notified();
            if let Some(result) = self.result.get() {
                return result.clone();
            }
            done.await;
        }
    }
}
