//! What stands behind those participants who have more than an image: a stream of frames, or their own frame blurred.
//!
//! Kept beside the table of sessions, which is of fixed records: most sessions have an image and nothing here. A key names a
//! session and means nothing to this part. The invariants: at most `sources_max` sources and `stream_bytes_max` bytes of their frames,
//! beside which each stream may have one more while that takes the newest one's place; all charged. [`Sources::close`] lets go of all at
//! once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use super::stream::{Picture, Replaced, Stream};
use crate::memory::{Budget, Charge, Purpose, ReserveError};
use crate::metrics::{Metrics, SourceKind};
use crate::render::Radius;

/// What a source takes beside its frames: its entry, its locks and those who are told.
const ENTRY_BYTES: u64 = 512;

/// Settings of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesConfig {
    /// Most sources at once.
    pub sources_max: usize,
    /// Most bytes that frames of streams may take at once. One that takes another's place counts by what it is longer.
    pub stream_bytes_max: u64,
    /// Age from which on a stream's frame is not shown any more, but the image.
    pub stale_after: Duration,
    /// Callers that may wait for frames at once.
    pub waiters_max: usize,
}

impl Default for SourcesConfig {
    fn default() -> Self {
        Self {
            sources_max: 1024,
            stream_bytes_max: 64 << 20,
            stale_after: Duration::from_secs(2),
            waiters_max: 1024,
        }
    }
}

impl SourcesConfig {
    /// Says what is wrong with these settings, if anything.
    pub fn validate(&self) -> Result<(), String> {
        let most = 1 << 20;
        for (name, value) in [
            ("sources-max", self.sources_max),
            ("stream-waiters-max", self.waiters_max),
        ] {
            if value > most {
                return Err(format!("{name} is {value}, and must be at most {most}"));
            }
        }
        Ok(())
    }
}

/// Why a source, or a frame of one, was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceRefusal {
    /// As many as may be are there.
    #[error("there are as many sources as may be")]
    Full,
    /// No memory for it.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// Whom it was for has gone meanwhile.
    #[error("nobody is there to have the source")]
    Gone,
}

/// A source other than an image.
#[derive(Debug, Clone)]
pub enum SourceState {
    /// Frames that the caller pushes.
    Stream(Arc<Stream>),
    /// The participant's own frame, blurred.
    Blur(Radius),
}

impl SourceState {
    const fn kind(&self) -> SourceKind {
        match self {
            Self::Stream(_) => SourceKind::Stream,
            Self::Blur(_) => SourceKind::Processor,
        }
    }

    fn close(&self) {
        if let Self::Stream(stream) = self {
            stream.close();
        }
    }
}

/// What is to be drawn behind a participant now.
#[derive(Debug, Clone)]
pub enum Behind {
    /// The image.
    Image,
    /// A stream's newest frame.
    Stream(Arc<Picture>),
    /// The participant's own frame, blurred.
    Blur(Radius),
}

struct Entry {
    state: SourceState,
    _charge: Charge,
}

/// The table.
pub struct Sources {
    config: SourcesConfig,
    entries: RwLock<HashMap<u64, Entry>>,
    /// As many as there are entries: what most sessions are told by, without the lock.
    count: AtomicUsize,
    stream_bytes: Arc<AtomicU64>,
    waiters: AtomicUsize,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

impl Sources {
    /// An empty table.
    pub fn new(config: SourcesConfig, budget: Arc<Budget>, metrics: Arc<Metrics>) -> Self {
        Self {
            config,
            entries: RwLock::default(),
            count: AtomicUsize::new(0),
            stream_bytes: Arc::default(),
            waiters: AtomicUsize::new(0),
            budget,
            metrics,
        }
    }

    /// Gives `key` a source if `still_there` says that it is of use; the one it had is closed. A stream stays the stream that it is.
    ///
    /// Asked under the lock: of this and a [`Sources::close`] that follows the end of whatever `key` names, none leaves a source behind.
    ///
    /// # Errors
    /// No room, or nobody there; nothing has changed then.
    pub fn set(
        &self,
        key: u64,
        wanted: Option<Radius>,
        still_there: impl FnOnce() -> bool,
    ) -> Result<SourceState, SourceRefusal> {
        let charge = self
            .budget
            .try_reserve_free(Purpose::Streams, ENTRY_BYTES)?;
        let mut entries = self.entries.write();
        if !still_there() {
            return Err(SourceRefusal::Gone);
        }
        let present = entries.get(&key).map(|entry| &entry.state);
        if let (Some(stream @ SourceState::Stream(_)), None) = (present, wanted) {
            return Ok(stream.clone());
        }
        if present.is_none() && entries.len() >= self.config.sources_max {
            return Err(SourceRefusal::Full);
        }
        let state = match wanted {
            Some(radius) => SourceState::Blur(radius),
            None => SourceState::Stream(Arc::default()),
        };
        let entry = Entry {
            state: state.clone(),
            _charge: charge,
        };
        let old = entries.insert(key, entry);
        self.counted(&entries);
        self.gauge(&state, 1);
        drop(entries);
        self.end(old);
        Ok(state)
    }

    /// Ends the source of `key`, if it has one: its frame goes, and whoever waits for one is told.
    pub fn close(&self, key: u64) -> bool {
        // Never by the count: a `set` that found its session there may be about to put its entry in.
        let old = {
            let mut entries = self.entries.write();
            let old = entries.remove(&key);
            self.counted(&entries);
            old
        };
        self.end(old)
    }

    fn counted(&self, entries: &HashMap<u64, Entry>) {
        self.count.store(entries.len(), Ordering::Release);
    }

    /// Outside of the lock: pixels go here.
    fn end(&self, old: Option<Entry>) -> bool {
        let Some(old) = old else {
            return false;
        };
        self.gauge(&old.state, -1);
        old.state.close();
        true
    }

    fn gauge(&self, state: &SourceState, by: i64) {
        self.metrics.sources.live.of(state.kind()).inc_by(by);
    }

    /// The source of `key`, unless it has only an image.
    pub fn state(&self, key: u64) -> Option<SourceState> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let entries = self.entries.read();
        entries.get(&key).map(|entry| entry.state.clone())
    }

    /// What is to be drawn behind `key` now: of a stream without a frame, or with one that is stale, the image.
    pub fn behind(&self, key: u64) -> Behind {
        match self.state(key) {
            None => Behind::Image,
            Some(SourceState::Blur(radius)) => Behind::Blur(radius),
            Some(SourceState::Stream(stream)) => {
                self.fresh(&stream).map_or(Behind::Image, Behind::Stream)
            }
        }
    }

    /// The newest frame of a stream, unless it is stale.
    pub fn fresh(&self, stream: &Stream) -> Option<Arc<Picture>> {
        let newest = stream.newest()?;
        (newest.age() < self.config.stale_after).then_some(newest)
    }

    /// Room for a frame of `stream` of so many bytes among those of all streams, while the returned guard lives; the frame that it
    /// replaces makes room for it while the other one does. `None`: they are too many.
    pub fn room(&self, stream: &Arc<Stream>, bytes: u64) -> Option<(Room, Replacing)> {
        self.try_room(stream, bytes).or_else(|| {
            // What is shown no more need not stay either.
            self.drop_stale();
            self.try_room(stream, bytes)
        })
    }

    /// Lets go of frames that are stale: nothing shows them any more.
    pub fn drop_stale(&self) {
        let streams: Vec<Arc<Stream>> = {
            let entries = self.entries.read();
            let states = entries.values().map(|entry| &entry.state);
            let streams = states.filter_map(|state| match state {
                SourceState::Stream(stream) => Some(Arc::clone(stream)),
                SourceState::Blur(_) => None,
            });
            streams.collect()
        };
        for stream in streams {
            stream.drop_stale(self.config.stale_after);
        }
    }

    fn try_room(&self, stream: &Arc<Stream>, bytes: u64) -> Option<(Room, Replacing)> {
        let most = self.config.stream_bytes_max;
        let replaced = stream.replaced();
        // Counted while it is kept, so this never goes below nothing.
        let credit = replaced.as_ref().map_or(0, Replaced::bytes);
        let add = |held: u64| {
            let sum = held.checked_sub(credit)?.checked_add(bytes)?;
            (sum <= most).then_some(sum)
        };
        let order = Ordering::Relaxed;
        self.stream_bytes.fetch_update(order, order, add).ok()?;
        let of = || Arc::clone(&self.stream_bytes);
        let replacing = Replacing {
            credit,
            of: of(),
            _replaced: replaced,
        };
        Some((Room { bytes, of: of() }, replacing))
    }

    /// Bytes that frames of all streams may take at once.
    pub fn stream_bytes_max(&self) -> u64 {
        self.config.stream_bytes_max
    }

    /// A place among those who wait for frames, while the returned guard lives. `None`: they are too many.
    pub fn waiter(&self) -> Option<Waiter<'_>> {
        if self.waiters.fetch_add(1, Ordering::Relaxed) >= self.config.waiters_max {
            self.waiters.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.metrics.sources.waiters.inc();
        Some(Waiter(self))
    }
}

/// See [`Sources::room`].
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// See [`Sources::room`].
#[derive(Debug)]
pub struct Replacing {
    credit: u64,
    of: Arc<AtomicU64>,
    _replaced: Option<Replaced>,
}

impl Drop for Replacing {
    fn drop(&mut self) {
        // Before the frame goes, which takes its own count along.
        self.of.fetch_add(self.credit, Ordering::Relaxed);
    }
}

/// See [`Sources::waiter`].
pub struct Waiter<'a>(&'a Sources);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.sources.waiters.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetConfig;

    fn table(sources_max: usize) -> Sources {
        let config = SourcesConfig {
            sources_max,
            stream_bytes_max: 100,
            waiters_max: 1,
            ..SourcesConfig::default()
        };
        Sources::new(
            config,
            Budget::new(BudgetConfig::default()),
            Arc::new(Metrics::default()),
        )
    }

    fn live(sources: &Sources, kind: SourceKind) -> i64 {
        sources.metrics.sources.live.of(kind).get()
    }

    #[test]
    fn sources_are_bounded_and_leave_nothing_behind() {
        let sources = table(2);
        let blur = Radius::new(3);
        sources.set(1, None, || true).expect("room");
        sources.set(2, blur, || true).expect("room");
        assert!(matches!(
            sources.set(3, None, || true),
            Err(SourceRefusal::Full)
        ));
        assert!(matches!(
            sources.set(1, blur, || false),
            Err(SourceRefusal::Gone)
        ));
        // One that is there already may become another.
        sources.set(1, blur, || true).expect("its own place");
        assert_eq!(live(&sources, SourceKind::Stream), 0);
        assert_eq!(live(&sources, SourceKind::Processor), 2);
        assert_eq!(sources.budget.used(), 2 * ENTRY_BYTES);
        assert!(sources.close(1) && sources.close(2) && !sources.close(2));
        assert_eq!(sources.budget.used(), 0);
        assert_eq!(live(&sources, SourceKind::Processor), 0);
        assert!(matches!(sources.behind(1), Behind::Image));
    }

    #[test]
    fn a_stream_stays_the_stream_it_is_until_it_becomes_something_else() {
        let sources = table(1);
        let stream = |state| match state {
            Ok(SourceState::Stream(stream)) => stream,
            other => panic!("{other:?}"),
        };
        let first = stream(sources.set(1, None, || true));
        let again = stream(sources.set(1, None, || true));
        assert!(Arc::ptr_eq(&first, &again));
        sources.set(1, Radius::new(3), || true).expect("replaced");
        assert!(first.is_overtaken(u64::MAX), "closed");
    }

    #[test]
    fn a_source_whose_end_comes_while_it_is_set_does_not_stay() {
        let sources = table(1);
        let (closed, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let still_there = || {
                scope.spawn(|| closed.send(sources.close(1)));
                // It waits for the lock; one that did not would have time to find nothing.
                assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
                true
            };
            sources.set(1, None, still_there).expect("room");
        });
        assert_eq!(told.recv(), Ok(true));
        assert!(sources.state(1).is_none());
        assert_eq!(live(&sources, SourceKind::Stream), 0);
    }

    #[test]
    fn bytes_and_waiters_are_bounded_and_given_back() {
        let sources = table(1);
        let room = |bytes| sources.room(&Arc::default(), bytes);
        let held = room(60).expect("room");
        assert!(room(41).is_none() && room(u64::MAX).is_none());
        drop(held);
        assert!(room(100).is_some());
        let waiter = sources.waiter().expect("room");
        assert!(sources.waiter().is_none());
        drop(waiter);
        assert!(sources.waiter().is_some());
    }
}
