//! The primitives of the concurrent core, in one place, so that a schedule checker can put its own in their stead.
//!
//! In the unit tests of the features `loom` and `shuttle` they are the checker's; everywhere else, in every build of the library
//! and the binary, they are std's atomics and parking_lot's lock, and [`planted`] is a constant `false`. loom sees the slot word
//! alone (weak memory, every interleaving); shuttle sees the locks as well (larger interleavings, sequentially consistent).
//! It knows nothing of what is built of these.

#[cfg(not(all(test, feature = "loom")))]
use std::sync::Arc;
pub(super) use std::sync::atomic::Ordering;

#[cfg(all(test, feature = "loom"))]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicPtr, AtomicU64},
};
#[cfg(not(all(test, feature = "shuttle", not(feature = "loom"))))]
pub(super) use parking_lot::Mutex;
#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
pub(super) use shuttle::sync::atomic::{AtomicPtr, AtomicU64};
#[cfg(not(all(test, any(feature = "loom", feature = "shuttle"))))]
pub(super) use std::sync::atomic::{AtomicPtr, AtomicU64};

/// std's cell in the form of loom's: the value is reached in a closure, whose extent loom checks.
#[cfg(not(all(test, feature = "loom")))]
#[derive(Debug)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(all(test, feature = "loom")))]
impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Where the value is, for reading.
    pub(super) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Where the value is, for writing.
    pub(super) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// shuttle's lock in the form of parking_lot's, which knows no poison.
#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
#[derive(Debug, Default)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
impl<T> Mutex<T> {
    pub(super) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0
            .lock()
            .unwrap_or_else(shuttle::sync::PoisonError::into_inner)
    }
}

/// A value that readers take whole while a writer puts another one in its place: arc-swap's, into which no checker sees. Under
/// shuttle it is a lock, each use of which other threads may come before and after; loom's models have none of it.
#[cfg(not(all(test, any(feature = "loom", feature = "shuttle"))))]
#[derive(Debug)]
pub(super) struct Swap<T>(arc_swap::ArcSwapOption<T>);

#[cfg(not(all(test, any(feature = "loom", feature = "shuttle"))))]
impl<T> Default for Swap<T> {
    fn default() -> Self {
        Self(arc_swap::ArcSwapOption::empty())
    }
}

#[cfg(not(all(test, any(feature = "loom", feature = "shuttle"))))]
impl<T> Swap<T> {
    pub(super) fn load(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }

    pub(super) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(value)
    }

    /// What `look` makes of the value, which is not counted for it.
    pub(super) fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.0.load().as_deref())
    }
}

#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
#[derive(Debug)]
pub(super) struct Swap<T>(Mutex<Option<Arc<T>>>);

#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
impl<T> Default for Swap<T> {
    fn default() -> Self {
        Self(Mutex(shuttle::sync::Mutex::new(None)))
    }
}

#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
impl<T> Swap<T> {
    pub(super) fn load(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    pub(super) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.0.lock(), value)
    }

    pub(super) fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.load().as_deref())
    }
}

/// Flaws that a schedule test plants, to show that its property would find them: a check that cannot fail proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A pin does not see the installed value's bytes.
    PinRelaxed,
    /// Reads under a pin are not done before the value is taken.
    UnpinRelaxed,
    /// An installed value is announced before it is written.
    InstallRelaxed,
    /// The next install does not see that the value was taken.
    TakeRelaxed,
    /// A value is taken from under its pins.
    TakePinned,
    /// A new pin does not take an eviction back.
    PinKeepsEvict,
    /// A retired value can be pinned.
    PinRetired,
    /// The last pin does not say that its value was asked to go.
    UnpinBlind,
    /// A value is taken from under the one who archives it.
    TakeArchiving,
    /// Reads of the one who archives are not done before the value is taken.
    ArchivedRelaxed,
    /// The one who archives does not say that its value was asked to go.
    ArchivedBlind,
    /// A new version is announced before the old texture is barred.
    AnnounceFirst,
    /// A new version is announced before what it is can be looked up.
    IdentityLast,
    /// A load is started beside the one that is under way.
    BoardBlind,
    /// A flight can be boarded after its texture was put in.
    LandOpen,
    /// An invalidation lets a load that is under way put its texture in.
    InvalidateBlind,
    /// The end of an old version takes the new one out of the set of residents.
    UnlinkAny,
}

#[cfg(all(test, any(feature = "loom", feature = "shuttle")))]
thread_local! {
    // Both checkers run all threads of a model on the thread of its test.
    static PLANTED: std::cell::Cell<Option<Flaw>> = const { std::cell::Cell::new(None) };
}

/// Plants a flaw in what this thread's model does.
#[cfg(all(test, any(feature = "loom", feature = "shuttle")))]
pub(super) fn plant(flaw: Flaw) {
    PLANTED.set(Some(flaw));
}

/// Whether any flaw is planted.
#[cfg(all(test, feature = "shuttle", not(feature = "loom")))]
pub(super) fn any_planted() -> bool {
    PLANTED.get().is_some()
}

/// Whether this flaw is planted.
#[cfg(all(test, any(feature = "loom", feature = "shuttle")))]
pub(super) fn planted(flaw: Flaw) -> bool {
    PLANTED.get() == Some(flaw)
}

/// Whether this flaw is planted: never, outside of schedule tests.
#[cfg(not(all(test, any(feature = "loom", feature = "shuttle"))))]
pub(super) const fn planted(_: Flaw) -> bool {
    false
}

/// `order`, or none at all where `flaw` is planted.
pub(super) fn unless(flaw: Flaw, order: Ordering) -> Ordering {
    if planted(flaw) {
        Ordering::Relaxed
    } else {
        order
    }
}
