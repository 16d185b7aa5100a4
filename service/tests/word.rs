//! The slot word and its value under loom: every interleaving of two or three threads, with what weak memory may show.
//! `just schedules` runs it, and shuttle over the rest of the core.
//!
//! It takes the cell's file, not the library: a model's stack is too small for the library's allocator.
//!
//! The pointer to a slot's present cell is left out (all threads have the cell), and so are the locks: what may be done to a cell
//! at all times is what has to hold here. loom itself finds a value that is read while it is written.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread::{self, JoinHandle};

use cell::{Archiving, Cell, Left, Pin};
use sync::{Flaw, Ordering, plant};

#[path = "../src/flyweight/cell.rs"]
#[allow(
    dead_code,
    unsafe_code,
    reason = "the cell as it is; the library uses all of it"
)]
mod cell;
#[path = "../src/flyweight/sync.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the cell needs a part of it; the library uses all of it"
)]
mod sync;

/// A value in two halves, which counts how many of it there are.
struct Value {
    halves: [usize; 2],
    alive: Arc<AtomicUsize>,
}

impl Value {
    fn new(number: usize, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self {
            halves: [number, !number],
            alive: Arc::clone(alive),
        }
    }

    fn number(&self) -> usize {
        assert_eq!(self.halves[0], !self.halves[1], "torn");
        self.halves[0]
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

type Word = &'static Cell<Value>;

/// A cell with value 1, unpinned, and the count of values.
fn resident() -> (Word, Arc<AtomicUsize>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let cell = Cell::leaked();
    drop(cell.install(Value::new(1, &alive)).ok().expect("empty"));
    (cell, alive)
}

/// Values that go when who was asked to takes along what was only waiting for that: none or one.
fn after(left: Left, cell: Word) -> usize {
    let gone = match left {
        Left::Condemned => cell.try_take_condemned(),
        Left::Pinned | Left::Unpinned => None,
    };
    usize::from(gone.is_some())
}

/// As a lease does it: the last pin of a value that was asked to go takes it along.
fn let_go(pin: Pin<Value>) -> usize {
    let cell = pin.cell();
    after(pin.release(), cell)
}

/// As the archiver does it: read, then taken along unless it was leased since.
fn archive(archiving: Archiving<Value>) -> usize {
    let cell = archiving.cell();
    assert_eq!(archiving.get().number(), 1);
    after(archiving.release(), cell)
}

/// As a replace does it: barred, and gone at once unless somebody holds it.
fn replace(cell: Word) -> usize {
    let gone = if cell.retire() {
        cell.try_take_condemned()
    } else {
        None
    };
    usize::from(gone.is_some())
}

/// As an eviction does it: at once, or with the last pin.
fn evict(cell: Word) {
    if cell.condemn() {
        drop(cell.try_take_condemned());
    }
}

/// Panics say their message and no more: a backtrace does not fit the small stacks that models run on.
fn brief_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

/// A thread on a stack that a panic's message fits on.
fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = thread::Builder::new().stack_size(1 << 20);
    thread.spawn(body).expect("a thread")
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    brief_panics();
    let model = std::sync::Arc::new(model);
    let mut builder = loom::model::Builder::new();
    // Three preemptions show every flaw below; without a bound three threads take minutes.
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let model = std::sync::Arc::clone(&model);
        spawn(move || model()).join().expect("the model");
    });
}

/// A reader finds nothing, or a whole value; an evictor and an installer come in between.
fn reader_evictor_installer() {
    check(|| {
        let (cell, alive) = resident();
        let reader = spawn(move || {
            let pin = cell.try_pin();
            pin.map(|pin| {
                let number = pin.get().number();
                let_go(pin);
                number
            })
        });
        let evictor = spawn(move || drop(cell.try_take()));
        if let Ok(pin) = cell.install(Value::new(2, &alive)) {
            assert_eq!(pin.get().number(), 2);
            let_go(pin);
        }
        let seen = reader.join().expect("reader");
        assert!(matches!(seen, None | Some(1 | 2)));
        evictor.join().expect("evictor");
        drop(cell.try_take());
        assert_eq!(alive.load(Ordering::SeqCst), 0, "lost or kept");
    });
}

#[test]
fn values_are_whole_and_none_is_lost() {
    reader_evictor_installer();
}

#[test]
#[should_panic]
fn a_pin_that_does_not_acquire_is_found() {
    plant(Flaw::PinRelaxed);
    reader_evictor_installer();
}

#[test]
#[should_panic]
fn a_release_that_does_not_release_is_found() {
    plant(Flaw::UnpinRelaxed);
    reader_evictor_installer();
}

#[test]
#[should_panic]
fn an_install_that_does_not_release_is_found() {
    plant(Flaw::InstallRelaxed);
    reader_evictor_installer();
}

#[test]
#[should_panic]
fn a_take_that_does_not_release_is_found() {
    plant(Flaw::TakeRelaxed);
    reader_evictor_installer();
}

#[test]
#[should_panic]
fn a_take_from_under_a_pin_is_found() {
    plant(Flaw::TakePinned);
    reader_evictor_installer();
}

/// Evicted while it is pinned, it goes with its last pin, whoever that is.
fn last_pin_takes_it_along() {
    check(|| {
        let (cell, alive) = resident();
        let first = cell.try_pin().expect("there");
        let second = first.clone();
        let other = spawn(move || let_go(second));
        let evictor = spawn(move || evict(cell));
        let_go(first);
        other.join().expect("other");
        evictor.join().expect("evictor");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "left behind");
        assert!(!cell.look().resident);
    });
}

#[test]
fn an_evicted_value_goes_with_its_last_pin() {
    last_pin_takes_it_along();
}

#[test]
#[should_panic(expected = "left behind")]
fn a_last_pin_that_says_nothing_is_found() {
    plant(Flaw::UnpinBlind);
    last_pin_takes_it_along();
}

/// Asked for again while it is pinned, the same value stays: the new pin takes the eviction back.
fn resurrection() {
    check(|| {
        let (cell, alive) = resident();
        let first = cell.try_pin().expect("there");
        assert!(cell.condemn());
        let other = spawn(move || let_go(first));
        let again = cell.try_pin();
        let resurrected = again.is_some();
        if let Some(pin) = again {
            assert_eq!(pin.get().number(), 1);
            let_go(pin);
        }
        other.join().expect("other");
        let there = cell.look().resident;
        assert_eq!(there, resurrected, "asked for again, or gone");
        assert_eq!(alive.load(Ordering::SeqCst), usize::from(there));
        drop(cell.try_take());
    });
}

#[test]
fn a_pin_takes_an_eviction_back() {
    resurrection();
}

#[test]
#[should_panic(expected = "asked for again, or gone")]
fn a_pin_that_leaves_the_eviction_standing_is_found() {
    plant(Flaw::PinKeepsEvict);
    resurrection();
}

/// Barred, then announced: whoever knows of the announcement pins nothing of before, and held pins stay whole.
fn barred_before_announced() {
    check(|| {
        let (cell, alive) = resident();
        let announced = Arc::new(AtomicBool::new(false));
        let held = cell.try_pin().expect("there");
        let reader = spawn({
            let announced = Arc::clone(&announced);
            move || {
                let knows = announced.load(Ordering::Acquire);
                if let Some(pin) = cell.try_pin() {
                    assert!(!knows, "pinned what was barred");
                    assert_eq!(pin.get().number(), 1);
                    let_go(pin);
                }
            }
        });
        assert!(cell.retire());
        announced.store(true, Ordering::Release);
        assert_eq!(held.get().number(), 1);
        let_go(held);
        reader.join().expect("reader");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "gone with its last pin");
    });
}

#[test]
fn who_knows_of_the_new_one_never_pins_the_old_one() {
    barred_before_announced();
}

#[test]
#[should_panic(expected = "pinned what was barred")]
fn a_pin_of_what_was_retired_is_found() {
    plant(Flaw::PinRetired);
    barred_before_announced();
}

/// Two that evict, two values after one another: each is taken once.
#[test]
fn each_value_is_taken_once() {
    check(|| {
        let (cell, alive) = resident();
        let other = spawn(move || usize::from(cell.try_take().is_some()));
        let mut taken = usize::from(cell.try_take().is_some());
        let installed = cell.install(Value::new(2, &alive));
        let second = installed.map(let_go).is_ok();
        taken += other.join().expect("other");
        taken += usize::from(cell.try_take().is_some());
        assert_eq!(taken, 1 + usize::from(second));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

/// Leased while it is on its way to the archive, the same value stays, whichever of the two ends first: the lease takes the eviction
/// back, and neither its end nor the archiver's takes it along.
fn archived_and_leased() {
    check(|| {
        let (cell, alive) = resident();
        let archiving = cell.try_archive().expect("unpinned");
        let reader = spawn(move || {
            let pin = cell.try_pin()?;
            assert_eq!(pin.get().number(), 1);
            Some(let_go(pin))
        });
        let gone = archive(archiving);
        let leased = reader.join().expect("reader");
        let there = cell.look().resident;
        assert_eq!(there, leased.is_some(), "asked for again, or gone");
        assert_eq!(gone + leased.unwrap_or(0) + usize::from(there), 1);
        assert_eq!(alive.load(Ordering::SeqCst), usize::from(there));
        assert!(!cell.look().archiving);
        // Its next turn to go is as any other's.
        assert_eq!(cell.try_archive().map_or(0, archive), usize::from(there));
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_lease_takes_back_what_is_on_its_way_to_the_archive() {
    archived_and_leased();
}

#[test]
#[should_panic(expected = "asked for again, or gone")]
fn a_lease_that_does_not_take_it_back_is_found() {
    plant(Flaw::PinKeepsEvict);
    archived_and_leased();
}

/// Archived, leased and replaced at once: it goes once, whole until then, with whoever lets go last; and leaves an empty place.
fn archived_leased_and_barred() {
    check(|| {
        let (cell, alive) = resident();
        let archiving = cell.try_archive().expect("unpinned");
        let reader = spawn(move || {
            cell.try_pin().map_or(0, |pin| {
                assert_eq!(pin.get().number(), 1);
                let_go(pin)
            })
        });
        let replacer = spawn(move || replace(cell));
        let mut gone = archive(archiving);
        gone += reader.join().expect("reader");
        gone += replacer.join().expect("replacer");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "left behind");
        assert_eq!(gone, 1, "its bytes come back once");
        let next = cell.install(Value::new(2, &alive)).ok();
        assert_eq!(next.map(|pin| pin.get().number()), Some(2), "not empty");
        drop(cell.try_take());
    });
}

#[test]
fn what_is_archived_leased_and_barred_goes_once() {
    archived_leased_and_barred();
}

#[test]
#[should_panic]
fn a_take_from_under_the_archiver_is_found() {
    plant(Flaw::TakeArchiving);
    archived_leased_and_barred();
}

#[test]
#[should_panic]
fn an_archiver_that_does_not_release_is_found() {
    plant(Flaw::ArchivedRelaxed);
    archived_leased_and_barred();
}

#[test]
#[should_panic(expected = "left behind")]
fn an_archiver_that_says_nothing_is_found() {
    plant(Flaw::ArchivedBlind);
    archived_leased_and_barred();
}

/// An eviction for room and one for the archive at once: one of them has it.
#[test]
fn an_eviction_and_an_archiving_take_it_once() {
    check(|| {
        let (cell, alive) = resident();
        let evictor = spawn(move || usize::from(cell.try_take().is_some()));
        let mut gone = cell.try_archive().map_or(0, archive);
        gone += evictor.join().expect("evictor");
        assert_eq!((gone, alive.load(Ordering::SeqCst)), (1, 0));
    });
}
