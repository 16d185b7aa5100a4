//! Threads that read the code off preview frames and paint hot updates, at low priority.
//!
//! Decoding a frame takes a millisecond, drawing a background thirty: on the threads that send, they would delay
//! switches. The queue is bounded; a frame that finds it full is skipped, and counted as such. A reader that dies is a
//! doubt: silence must not look like clean frames.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::catalogue::Revisions;
use crate::code::{self, Crop, Luma};
use crate::gallery::Gallery;
use crate::participant;
use crate::picture;
use crate::truth::{Allowed, FrameExpectation, Pixels, Truth};

const QUEUE: usize = 128;

/// A whole frame with what it may show.
#[derive(Debug)]
pub struct Frame {
    /// Session, for messages.
    pub who: String,
    /// JPEG.
    pub body: Bytes,
    /// Right backgrounds.
    pub allowed: Allowed,
    /// When it was asked for.
    pub sent: Instant,
    /// Background that the header names.
    pub header: Option<u16>,
    /// Version that the header names.
    pub version: Option<u32>,
    /// Whether the participant stands before the background.
    pub composite: bool,
}

enum Job {
    Frame(Frame),
    Paint {
        number: u16,
        revision: u8,
        reply: oneshot::Sender<Option<Vec<u8>>>,
    },
}

/// Handle to the reader threads.
#[derive(Debug)]
pub struct Reader {
    queue: Mutex<Option<SyncSender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    truth: Arc<Mutex<Truth>>,
}

impl Reader {
    /// Starts `threads` threads.
    pub fn start(
        threads: usize,
        truth: Arc<Mutex<Truth>>,
        revisions: Arc<Revisions>,
        gallery: Arc<Gallery>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = (0..threads.max(1))
            .map(|index| {
                let (receiver, truth) = (receiver.clone(), truth.clone());
                let (revisions, gallery) = (revisions.clone(), gallery.clone());
                std::thread::Builder::new()
                    .name(format!("reader-{index}"))
                    .spawn(move || work(&receiver, &truth, &revisions, &gallery))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Reader {
            queue: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            truth,
        })
    }

    /// Hands over a frame.
    pub fn look_at(&self, frame: Frame) {
        let handed = match self.queue.lock().as_ref() {
            Some(queue) => queue.try_send(Job::Frame(frame)),
            None => return,
        };
        match handed {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.truth.lock().skipped(),
            Err(TrySendError::Disconnected(_)) => {
                let mut truth = self.truth.lock();
                truth.skipped();
                truth.doubt("no thread that reads frames is left".to_owned());
            }
        }
    }

    /// Paints another revision of a background; `None` when that failed or the queue is full.
    pub async fn paint(&self, number: u16, revision: u8) -> Option<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Paint {
            number,
            revision,
            reply,
        };
        self.queue.lock().as_ref()?.try_send(job).ok()?;
        answer.await.ok().flatten()
    }

    /// Waits until every frame handed over was looked at, and ends the threads.
    pub fn finish(&self) {
        self.queue.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                let words = "a thread that reads frames panicked: the frames it had are not judged";
                self.truth.lock().doubt(words.to_owned());
            }
        }
    }
}

fn work(
    queue: &Mutex<Receiver<Job>>,
    truth: &Mutex<Truth>,
    revisions: &Revisions,
    gallery: &Gallery,
) {
    crate::host::give_way();
    loop {
        // The lock is held while waiting: the other readers wait for the lock instead of the queue.
        let job = queue.lock().recv();
        match job {
            Ok(Job::Frame(frame)) => look(frame, truth, revisions),
            Ok(Job::Paint {
                number,
                revision,
                reply,
            }) => {
                // Nobody waits any more: nothing to do.
                let painted = catch_unwind(AssertUnwindSafe(|| gallery.revised(number, revision)));
                let _ = reply.send(painted.ok().and_then(Result::ok));
            }
            Err(_) => return,
        }
    }
}

fn look(frame: Frame, truth: &Mutex<Truth>, revisions: &Revisions) {
    // A decoder that panics on what the service sent shows a frame that cannot be read. Only values go in and out.
    let pixels = catch_unwind(AssertUnwindSafe(|| pixels(&frame.body, frame.composite)))
        .unwrap_or(Pixels::Unreadable);
    let (revision_min, revision_max) = match pixels {
        Pixels::Code { number, .. } if revisions.knows(number) => (
            revisions.floor(number, frame.sent),
            revisions.ceiling(number),
        ),
        _ => (0, u8::MAX),
    };
    let header_revision = match (frame.header, frame.version) {
        (Some(number), Some(version)) => revisions.of_version(number, version),
        _ => None,
    };
    let expected = FrameExpectation {
        allowed: frame.allowed,
        revision_min,
        revision_max,
        header: frame.header,
        header_revision,
    };
    truth.lock().frame(&frame.who, &expected, pixels);
}

fn pixels(body: &[u8], composite: bool) -> Pixels {
    match picture::decode_luma(body) {
        Ok((luma, width, height)) => {
            let luma = Luma {
                data: &luma,
                width,
                height,
            };
            match composite {
                true => code::read_around(luma, participant::hides, participant::is_there),
                false => code::read(luma, Crop::FULL),
            }
        }
        Err(_) => Pixels::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backdrop_reports::load::TruthVerdict;

    fn frame() -> Frame {
        Frame {
            who: "frame 1".to_owned(),
            body: Bytes::from_static(b"no picture"),
            allowed: Allowed::acknowledged(Some(1)),
            sent: Instant::now(),
            header: None,
            version: None,
            composite: false,
        }
    }

    fn reader(queue: Option<SyncSender<Job>>, threads: Vec<JoinHandle<()>>) -> Reader {
        Reader {
            queue: Mutex::new(queue),
            threads: Mutex::new(threads),
            truth: Arc::default(),
        }
    }

    #[test]
    fn frames_that_nobody_reads_are_a_doubt() {
        let (sender, receiver) = sync_channel(1);
        drop(receiver);
        let reader = reader(Some(sender), Vec::new());
        reader.look_at(frame());
        let figures = reader.truth.lock().conclude();
        assert_eq!(figures.frames_skipped, 1);
        assert_eq!(figures.verdict, TruthVerdict::Inconclusive);
        assert!(
            figures
                .history
                .iter()
                .any(|words| words.contains("is left"))
        );
    }

    #[test]
    fn a_reader_that_died_is_a_doubt() {
        let died = std::thread::spawn(|| panic!("on purpose"));
        let reader = reader(None, vec![died]);
        reader.finish();
        let figures = reader.truth.lock().conclude();
        assert_eq!(figures.verdict, TruthVerdict::Inconclusive);
        assert!(figures.history[0].contains("panicked"));
    }

    #[test]
    fn what_is_no_picture_is_unreadable() {
        let truth = Mutex::new(Truth::default());
        look(frame(), &truth, &Revisions::new(1));
        assert_eq!(truth.lock().conclude().frames_unreadable, 1);
    }
}
