//! `GET /metrics`. Not charged, since whoever watches memory must be answered when none is left to reserve: a text has a constant
//! bound, and so has the number of those that are held at once.

use super::Service;
use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use crate::failpoints;
use bytes::Bytes;
use hyper::StatusCode;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Texts that are held at once, until the last byte of each was sent; more are answered 503. A text takes
/// [`TEXT_BYTES_MAX`](crate::metrics::TEXT_BYTES_MAX), so all of them 2 MiB.
const TEXTS_MAX: usize = 16;

/// Clock ticks of a second in `/proc`: the kernel's ABI fixes `USER_HZ` at 100.
const TICKS_PER_SECOND: f64 = 100.0;

/// Places for texts on their way.
#[derive(Debug)]
pub struct Expositions(Arc<Semaphore>);

impl Default for Expositions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TEXTS_MAX)))
    }
}

/// The right to hold one text.
struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A text in its place.
struct Placed {
    text: String,
    _place: Place,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Expositions {
    fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.0).try_acquire_owned();
        permit.ok().map(|permit| Place { _permit: permit })
    }
}

impl Place {
    /// A body that holds the place until its last clone is gone.
    fn hold(self, text: String) -> Bytes {
        Bytes::from_owner(Placed { text, _place: self })
    }
}

/// What the process has used so far.
#[derive(Debug, PartialEq)]
struct Used {
    minor_faults: u64,
    major_faults: u64,
    /// User and system time.
    cpu_seconds: f64,
}

impl Used {
    /// Reads the text of `/proc/self/stat`. The name in it may hold spaces and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        // The first one here is the third of the manual.
        let fields: Vec<&str> = fields.split_ascii_whitespace().take(13).collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        Some(Self {
            minor_faults: number(10)?,
            major_faults: number(12)?,
            cpu_seconds: (number(14)? + number(15)?) as f64 / TICKS_PER_SECOND,
        })
    }
}

impl Service {
    /// The exposition of all metrics, brought up to date.
    pub(super) fn exposition(&self) -> Result<Answer, Problem> {
        let place = self.expositions.place().ok_or(Kind::QueueFull)?;
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let process = &self.metrics.process;
        if let Some(used) = Used::parse(&stat) {
            process.set_cpu_seconds(used.cpu_seconds);
            process.set_page_faults(used.minor_faults, used.major_faults);
        }
        process.set_failpoint_triggers(&failpoints::triggers());
        self.flyweights.pinned_bytes();
        self.flyweights.publish();
        let text = self
            .metrics
            .render()
            .map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
        let body = place.hold(text);
        Ok(respond::full(StatusCode::OK, respond::OPEN_METRICS, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_until_the_last_of_a_text_is_gone() {
        let expositions = Expositions::default();
        let texts: Vec<Bytes> = (0..TEXTS_MAX)
            .map(|_| expositions.place().expect("a place").hold("text".into()))
            .collect();
        assert!(expositions.place().is_none());
        let part = texts[0].slice(1..2);
        drop(texts);
        let others: Vec<Place> = std::iter::from_fn(|| expositions.place()).collect();
        assert_eq!(others.len(), TEXTS_MAX - 1, "one text is still being sent");
        drop(part);
        assert!(expositions.place().is_some());
    }

    #[test]
    fn cpu_time_and_faults_are_read_past_any_name() {
        let stat = "7 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 4 0 100 0 0";
        let used = Used {
            minor_faults: 7,
            major_faults: 9,
            cpu_seconds: 4.0,
        };
        assert_eq!(Used::parse(stat), Some(used));
        assert_eq!(Used::parse("nonsense"), None);
        assert_eq!(Used::parse("7 (cut off) R 1 2 3"), None);
    }
}
