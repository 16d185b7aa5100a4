//! One place for one texture, and the one atomic word that guards it.
//!
//! The word holds everything that decides who may touch the texture: whether it is there (`RESIDENT`), being put or taken
//! (`BUSY`), to go with its last pin (`EVICT`, which a new pin takes back), replaced (`RETIRED`, for good), being archived
//! before it goes (`ARCHIVING`), and the number of pins. There is one location, so there is no order between locations to
//! reason about.
//!
//! Invariants: the texture is written and taken only while `BUSY` and not `RESIDENT`, which one thread at a time reaches by
//! compare-and-swap, and never from a pinned or `ARCHIVING` word; it is read only under a pin or by the one who archives;
//! pins exist only on `RESIDENT` words. The only `unsafe` of `flyweight` is here.
//!
//! Cells are leaked: a reader may come to a cell through a pointer that is a moment old, and finds a word that says no. How many
//! there are is bounded by the slots and the versions of one slot that are pinned at the same time.

use std::ptr;

use super::sync::{AtomicPtr, AtomicU64, Flaw, Ordering, UnsafeCell, planted, unless};

const RESIDENT: u64 = 1 << 63;
const BUSY: u64 = 1 << 62;
const EVICT: u64 = 1 << 61;
const RETIRED: u64 = 1 << 60;
const ARCHIVING: u64 = 1 << 59;
const PINS: u64 = (1 << 32) - 1;

/// Room for one `T`. No two cells share a cache line: a slot begins with its own, and others are [`Lone`].
#[derive(Debug)]
#[repr(C)]
pub(super) struct Cell<T> {
    word: AtomicU64,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the word lets one thread at a time write the value, and readers in only while nobody can; `T` itself crosses threads.
unsafe impl<T: Send + Sync> Sync for Cell<T> {}

/// A cell that lies in no slot.
#[repr(align(64))]
struct Lone<T>(Cell<T>);

/// What a look at the word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// A texture is there and may be pinned.
    pub(super) resident: bool,
    /// Pins at the moment.
    pub(super) pins: u32,
    /// It is kept from leaving until it was archived.
    pub(super) archiving: bool,
}

impl<T> Cell<T> {
    /// An empty cell.
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            value: UnsafeCell::new(None),
        }
    }

    /// An empty cell that lives for ever.
    pub(super) fn leaked() -> &'static Self
    where
        T: 'static,
    {
        &Box::leak(Box::new(Lone(Self::new()))).0
    }

    /// Pins the value if it is there. A pin takes back an eviction that was only asked for.
    #[inline]
    pub(super) fn try_pin(&'static self) -> Option<Pin<T>> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & RESIDENT == 0 || (word & RETIRED != 0 && !planted(Flaw::PinRetired)) {
                return None;
            }
            let taken_back = if planted(Flaw::PinKeepsEvict) {
                0
            } else {
                EVICT
            };
            match self.word.compare_exchange_weak(
                word,
                (word + 1) & !taken_back,
                unless(Flaw::PinRelaxed, Ordering::Acquire),
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Pin { cell: self }),
                Err(now) => word = now,
            }
        }
    }

    /// Puts a value in, pinned once. Gives it back when the cell is not empty.
    pub(super) fn install(&'static self, value: T) -> Result<Pin<T>, T> {
        if self
            .word
            .compare_exchange(0, BUSY, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(value);
        }
        // SAFETY: the word went from empty to BUSY by our hand; nobody pins or takes while it is not RESIDENT.
        self.value.with_mut(|place| unsafe { *place = Some(value) });
        let order = unless(Flaw::InstallRelaxed, Ordering::Release);
        self.word.store(RESIDENT | 1, order);
        Ok(Pin { cell: self })
    }

    /// Takes an unpinned value out.
    pub(super) fn try_take(&self) -> Option<T> {
        self.take_if(|word| word & RESIDENT != 0)
    }

    /// Takes an unpinned value out if it was asked to go.
    pub(super) fn try_take_condemned(&self) -> Option<T> {
        self.take_if(|word| word & RESIDENT != 0 && word & (EVICT | RETIRED) != 0)
    }

    fn take_if(&self, wanted: impl Fn(u64) -> bool) -> Option<T> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if !wanted(word)
                || (word & ARCHIVING != 0 && !planted(Flaw::TakeArchiving))
                || (word & PINS != 0 && !planted(Flaw::TakePinned))
            {
                return None;
            }
            match self
                .word
                .compare_exchange_weak(word, BUSY, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // SAFETY: the word went from RESIDENT without pins to BUSY by our hand, so nobody reads and nobody else writes.
        let value = self.value.with_mut(|place| unsafe { (*place).take() });
        let order = unless(Flaw::TakeRelaxed, Ordering::Release);
        self.word.store(0, order);
        value
    }

    /// Asks an unpinned value to go and keeps it for one who archives it first. `None` when it is pinned or going already.
    pub(super) fn try_archive(&'static self) -> Option<Archiving<T>> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & RESIDENT == 0 || word & (PINS | ARCHIVING | EVICT | RETIRED) != 0 {
                return None;
            }
            match self.word.compare_exchange_weak(
                word,
                word | ARCHIVING | EVICT,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Archiving { cell: self }),
                Err(now) => word = now,
            }
        }
    }

    /// Asks the value to go with its last pin. False when nothing is there.
    pub(super) fn condemn(&self) -> bool {
        self.mark(EVICT)
    }

    /// Bars the value from being pinned again, for good. False when nothing is there.
    pub(super) fn retire(&self) -> bool {
        self.mark(RETIRED)
    }

    fn mark(&self, flag: u64) -> bool {
        let marked = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                (word & RESIDENT != 0).then_some(word | flag)
            });
        marked.is_ok()
    }

    /// The word at this moment.
    pub(super) fn look(&self) -> Look {
        let word = self.word.load(Ordering::SeqCst);
        Look {
            resident: word & RESIDENT != 0 && word & RETIRED == 0,
            pins: (word & PINS) as u32,
            archiving: word & ARCHIVING != 0,
        }
    }
}

/// An evicted value that stays until it was archived. It can be pinned meanwhile, which takes the eviction back.
#[derive(Debug)]
pub(super) struct Archiving<T: 'static> {
    cell: &'static Cell<T>,
}

impl<T> Archiving<T> {
    /// The value.
    pub(super) fn get(&self) -> &T {
        // SAFETY: the word is RESIDENT and ARCHIVING by our hand, so nobody writes the value until we let go.
        let value = self.cell.value.with(|place| unsafe { (*place).as_ref() });
        value.unwrap_or_else(|| unreachable!("an archiving cell holds a value"))
    }

    /// The cell.
    pub(super) fn cell(&self) -> &'static Cell<T> {
        self.cell
    }

    /// Whether it is still to go: nobody asked for it since.
    pub(super) fn is_condemned(&self) -> bool {
        self.cell.word.load(Ordering::Relaxed) & EVICT != 0
    }

    /// Lets go and says what is left. `Drop` does the same without saying.
    pub(super) fn release(self) -> Left {
        let left = self.end();
        std::mem::forget(self);
        left
    }

    fn end(&self) -> Left {
        // SeqCst for the same reason as in `unpin`.
        let order = unless(Flaw::ArchivedRelaxed, Ordering::SeqCst);
        let before = self.cell.word.fetch_and(!ARCHIVING, order);
        let asked_to_go = if planted(Flaw::ArchivedBlind) {
            0
        } else {
            before & (EVICT | RETIRED)
        };
        match (before & PINS, asked_to_go) {
            (0, 0) => Left::Unpinned,
            (0, _) => Left::Condemned,
            _ => Left::Pinned,
        }
    }
}

impl<T> Drop for Archiving<T> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A pinned value: it stays where it is until the pin is gone.
#[derive(Debug)]
pub(super) struct Pin<T: 'static> {
    cell: &'static Cell<T>,
}

/// What dropping a pin left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// Other pins.
    Pinned,
    /// No pin; the value stays.
    Unpinned,
    /// No pin, and the value was asked to go: someone should take it.
    Condemned,
}

impl<T> Pin<T> {
    /// The value.
    #[inline]
    pub(super) fn get(&self) -> &T {
        // SAFETY: we hold a pin, so the word is RESIDENT and nobody writes the value until we let go.
        let value = self.cell.value.with(|place| unsafe { (*place).as_ref() });
        value.unwrap_or_else(|| unreachable!("a pinned cell holds a value"))
    }

    /// The cell.
    #[inline]
    pub(super) fn cell(&self) -> &'static Cell<T> {
        self.cell
    }

    /// Lets go and says what is left. `Drop` does the same without saying.
    #[inline]
    pub(super) fn release(self) -> Left {
        let left = self.unpin();
        std::mem::forget(self);
        left
    }

    #[inline]
    fn unpin(&self) -> Left {
        // SeqCst, because who waits for room counts itself first and looks at pins then, and we do it the other way round.
        let order = unless(Flaw::UnpinRelaxed, Ordering::SeqCst);
        let before = self.cell.word.fetch_sub(1, order);
        let asked_to_go = if planted(Flaw::UnpinBlind) {
            0
        } else {
            before & (EVICT | RETIRED)
        };
        match (before & PINS, asked_to_go) {
            (1, 0) => Left::Unpinned,
            (1, _) => Left::Condemned,
            _ => Left::Pinned,
        }
    }
}

impl<T> Clone for Pin<T> {
    /// One more pin of the same value, also when it was retired since: it is still whole.
    fn clone(&self) -> Self {
        self.cell.word.fetch_add(1, Ordering::Relaxed);
        Self { cell: self.cell }
    }
}

impl<T> Drop for Pin<T> {
    fn drop(&mut self) {
        self.unpin();
    }
}

/// The cell that readers go to, replaceable at any time; none at first.
#[derive(Debug)]
pub(super) struct Active<T: 'static>(AtomicPtr<Cell<T>>);

impl<T> Active<T> {
    pub(super) fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn set(&self, cell: Option<&'static Cell<T>>) {
        let cell = cell.map_or(ptr::null(), ptr::from_ref);
        self.0.store(cell.cast_mut(), Ordering::Release);
    }

    #[inline]
    pub(super) fn get(&self) -> Option<&'static Cell<T>> {
        // SAFETY: the pointer is null or came from a `&'static Cell` in `set`, and cells are never freed.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_pin_keeps_the_value_and_takes_an_eviction_back() {
        let cell = Cell::leaked();
        assert!(cell.try_pin().is_none());
        let pin = cell.install(5).expect("empty");
        assert_eq!(cell.install(6).err(), Some(6));
        assert!(cell.condemn());
        assert_eq!(cell.try_take(), None, "pinned");
        let second = cell.try_pin().expect("resurrected");
        assert_eq!(pin.release(), Left::Pinned);
        assert_eq!(*second.get(), 5);
        assert_eq!(
            second.release(),
            Left::Unpinned,
            "the new pin took the eviction back"
        );
        assert_eq!(cell.try_take_condemned(), None);
        assert_eq!(cell.try_take(), Some(5));
        assert!(!cell.condemn() && !cell.retire());
    }

    #[test]
    fn a_retired_value_is_never_pinned_again_but_can_be_shared_on() {
        let cell = Cell::leaked();
        let pin = cell.install("old").expect("empty");
        assert!(cell.retire());
        assert!(cell.try_pin().is_none());
        assert!(!cell.look().resident);
        let copy = pin.clone();
        drop(pin);
        assert_eq!(*copy.get(), "old");
        assert_eq!(copy.release(), Left::Condemned);
        assert_eq!(cell.try_take_condemned(), Some("old"));
        assert!(cell.install("new").is_ok());
    }

    #[test]
    fn an_archiving_value_stays_until_it_is_let_go_and_a_pin_takes_it_back() {
        let cell = Cell::leaked();
        assert!(cell.try_archive().is_none(), "nothing there");
        let pin = cell.install(5).expect("empty");
        assert!(cell.try_archive().is_none(), "pinned");
        drop(pin);
        let archiving = cell.try_archive().expect("unpinned");
        assert!(cell.try_archive().is_none(), "one at a time");
        assert!(cell.look().archiving && archiving.is_condemned());
        assert_eq!(
            (cell.try_take(), cell.try_take_condemned()),
            (None, None),
            "kept"
        );
        let pin = cell.try_pin().expect("leased again");
        assert!(!archiving.is_condemned());
        assert_eq!((*pin.get(), *archiving.get()), (5, 5));
        assert_eq!(archiving.release(), Left::Pinned);
        assert_eq!(pin.release(), Left::Unpinned, "it stays");
        let archiving = cell.try_archive().expect("unpinned");
        let pin = cell.try_pin().expect("leased again");
        assert!(cell.retire());
        assert_eq!(pin.release(), Left::Condemned);
        assert_eq!(cell.try_take_condemned(), None, "its archiver comes last");
        assert_eq!(archiving.release(), Left::Condemned);
        assert_eq!(cell.try_take_condemned(), Some(5));
    }

    /// Readers, an evictor and an installer on one cell: no reader sees a value that is not whole, and none is lost.
    #[test]
    fn values_stay_whole_under_concurrent_eviction() {
        const ROUNDS: usize = 20_000;
        let cell: &'static Cell<Box<[usize; 2]>> = Cell::leaked();
        let (installed, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        if let Some(pin) = cell.try_pin() {
                            let [a, b] = **pin.get();
                            assert_eq!(a, !b);
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let Some(archiving) = cell.try_archive() else {
                        continue;
                    };
                    let [a, b] = **archiving.get();
                    assert_eq!(a, !b);
                    if archiving.release() == Left::Condemned && cell.try_take_condemned().is_some()
                    {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    if let Some(value) = cell.try_take() {
                        assert_eq!(value[0], !value[1]);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    if cell.install(Box::new([round, !round])).is_ok() {
                        installed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let rest = usize::from(cell.try_take().is_some());
        assert_eq!(
            taken.load(Ordering::Relaxed) + rest,
            installed.load(Ordering::Relaxed)
        );
        assert_eq!(
            cell.look(),
            Look {
                resident: false,
                pins: 0,
                archiving: false
            }
        );
    }
}
