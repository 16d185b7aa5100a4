//! The frames of one stream: the newest one stands, and whoever waits for it is told.
//!
//! A frame gets its number when it has arrived, before it is decoded: of two that are decoded at once the later one stands, whichever is
//! done first. The invariant: after [`Stream::close`] it holds no frame and takes none; leases that are held keep theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::Pixels;
use crate::codec::{PixelsRef, Size};

/// A frame of a stream, decoded.
#[derive(Debug)]
pub struct Picture {
    /// RGBA8 pixels without padding. Their memory stays charged until the last clone of these bytes is gone.
    bytes: Bytes,
    size: Size,
    sequence: u64,
    arrived: Instant,
}

impl Picture {
    /// `None` unless `bytes` are the pixels of a picture of `size`.
    pub fn new(bytes: Bytes, size: Size, sequence: u64) -> Option<Self> {
        let whole = !size.is_empty() && bytes.len() as u64 == size.bytes();
        whole.then(|| Self {
            bytes,
            size,
            sequence,
            arrived: Instant::now(),
        })
    }

    /// Width and height.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Its number within its stream, from 1.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Time since it became the stream's.
    pub fn age(&self) -> Duration {
        self.arrived.elapsed()
    }
}

impl Pixels for Arc<Picture> {
    fn pixels(&self) -> PixelsRef<'_> {
        PixelsRef::new(&self.bytes, self.size).expect("checked when it was made")
    }
}

/// What those who wait look at.
#[derive(Debug, Clone, Copy, Default)]
struct Announced {
    sequence: u64,
    closed: bool,
}

/// See the file's description.
#[derive(Debug, Default)]
pub struct Stream {
    /// Numbers given out.
    arrived: AtomicU64,
    newest: Mutex<Option<Arc<Picture>>>,
    /// Whether somebody has its newest frame to replace.
    replacing: AtomicBool,
    announced: watch::Sender<Announced>,
}

impl Stream {
    /// The number of a frame that has arrived.
    pub fn arrive(&self) -> u64 {
        self.arrived.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether a frame of this number would not stand: a later one has stood, or the stream is closed. One that has only arrived
    /// says nothing: it may come to nothing, or be overtaken itself.
    pub fn is_overtaken(&self, sequence: u64) -> bool {
        let announced = *self.announced.borrow();
        announced.closed || announced.sequence >= sequence
    }

    /// Makes `picture` the stream's, and tells those who wait; `false` where a later one stands or the stream is closed.
    pub fn show(&self, picture: Picture) -> bool {
        let sequence = picture.sequence;
        let mut newest = self.newest.lock();
        if self.is_overtaken(sequence) {
            return false;
        }
        let old = newest.replace(Arc::new(picture));
        self.announced
            .send_modify(|announced| announced.sequence = sequence);
        drop(newest);
        // Outside of the lock: its pixels go here.
        drop(old);
        true
    }

    /// The newest frame.
    pub fn newest(&self) -> Option<Arc<Picture>> {
        self.newest.lock().clone()
    }

    /// Its newest frame, for one caller at a time that is about to replace it.
    pub(super) fn replaced(self: &Arc<Self>) -> Option<Replaced> {
        let taken = self.replacing.swap(true, Ordering::AcqRel);
        (!taken).then(|| Replaced {
            picture: self.newest(),
            stream: Arc::clone(self),
        })
    }

    /// Lets go of its frame if that is `stale_after` old.
    pub fn drop_stale(&self, stale_after: Duration) {
        let mut newest = self.newest.lock();
        let stale = newest.take_if(|newest| newest.age() >= stale_after);
        drop(newest);
        drop(stale);
    }

    /// Number of the newest frame, 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.announced.borrow().sequence
    }

    /// Waits until there is a frame with a number above `after`; `None` once the stream is closed. Cancel-safe.
    pub async fn newer_than(&self, after: u64) -> Option<u64> {
        let mut receiver = self.announced.subscribe();
        let wanted = |announced: &Announced| announced.closed || announced.sequence > after;
        let announced = receiver.wait_for(wanted).await.ok()?;
        (!announced.closed).then_some(announced.sequence)
    }

    /// Lets go of its frame and of everybody who waits.
    pub fn close(&self) {
        let mut newest = self.newest.lock();
        self.announced
            .send_modify(|announced| announced.closed = true);
        let old = newest.take();
        drop(newest);
        drop(old);
    }
}

/// See [`Stream::replaced`]. It keeps the frame: what is counted for it stays until its successor is.
#[derive(Debug)]
pub(super) struct Replaced {
    picture: Option<Arc<Picture>>,
    stream: Arc<Stream>,
}

impl Replaced {
    /// Bytes of the frame; 0 where there is none.
    pub(super) fn bytes(&self) -> u64 {
        let picture = self.picture.as_ref();
        picture.map_or(0, |picture| picture.size().bytes())
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        drop(self.picture.take());
        self.stream.replacing.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::new(1, 1);

    fn picture(sequence: u64) -> Picture {
        Picture::new(vec![sequence as u8; 4].into(), SIZE, sequence).expect("its size")
    }

    #[test]
    fn the_later_arrival_stands_whichever_was_decoded_first() {
        let stream = Stream::default();
        let (first, second) = (stream.arrive(), stream.arrive());
        assert!(
            !stream.is_overtaken(first),
            "the second may come to nothing"
        );
        assert!(stream.show(picture(second)));
        assert!(stream.is_overtaken(first) && !stream.is_overtaken(second + 1));
        assert!(!stream.show(picture(first)));
        assert_eq!(stream.newest().map(|newest| newest.sequence()), Some(2));
    }

    #[test]
    fn a_picture_has_the_bytes_of_its_size() {
        assert!(Picture::new(vec![0; 5].into(), SIZE, 1).is_none());
        assert!(Picture::new(Bytes::new(), Size::new(0, 1), 1).is_none());
    }

    #[tokio::test]
    async fn who_waits_is_told_of_a_newer_frame_and_of_the_end() {
        let stream = Arc::new(Stream::default());
        let waiter = |after| {
            let stream = Arc::clone(&stream);
            tokio::spawn(async move { stream.newer_than(after).await })
        };
        let (first, second) = (waiter(0), waiter(1));
        assert!(stream.show(picture(stream.arrive())));
        assert_eq!(first.await.expect("told"), Some(1));
        // One who comes late is told of what stands already.
        assert_eq!(stream.newer_than(0).await, Some(1));
        assert!(!second.is_finished());
        let held = stream.newest().expect("a frame");
        stream.close();
        assert_eq!(second.await.expect("told"), None);
        assert!(stream.newest().is_none());
        assert!(!stream.show(picture(stream.arrive())), "it takes none");
        assert_eq!(held.pixels().data(), [1; 4], "what is held stays");
    }
}
