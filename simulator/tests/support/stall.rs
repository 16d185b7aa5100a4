//! A stall of known length: for a time nothing passes, and before and after it one request a step.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// When requests may pass. Without a plan, at once.
#[derive(Debug, Default)]
pub struct Stall(Mutex<Option<Turns>>);

#[derive(Debug)]
struct Turns {
    step: Duration,
    after: Duration,
    lasts: Duration,
    /// When nothing passes; known from the first request on.
    shut: Option<(Instant, Instant)>,
    /// When the last one passes that has come so far.
    last: Option<Instant>,
}

impl Stall {
    /// Lets one request pass a step, and none for a while that begins some time after the first one.
    #[allow(dead_code, reason = "each test binary plants its own")]
    pub fn plan(&self, step: Duration, after: Duration, lasts: Duration) {
        *self.0.lock() = Some(Turns {
            step,
            after,
            lasts,
            shut: None,
            last: None,
        });
    }

    /// Waits for its turn: first come, first served.
    pub async fn pass(&self) {
        let turn = self.0.lock().as_mut().map(Turns::take);
        if let Some(turn) = turn {
            tokio::time::sleep_until(turn).await;
        }
    }
}

impl Turns {
    fn take(&mut self) -> Instant {
        let now = Instant::now();
        let (from, to) = *self
            .shut
            .get_or_insert((now + self.after, now + self.after + self.lasts));
        let free = self.last.map_or(now, |last| now.max(last + self.step));
        let turn = if (from..to).contains(&free) { to } else { free };
        self.last = Some(turn);
        turn
    }
}
