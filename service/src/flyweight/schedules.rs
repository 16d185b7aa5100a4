//! Slots, flights and residents as a whole under shuttle: the real flyweights, but for the load itself, which the test plays.
//!
//! Each property is tried twice: it holds, and a flaw that is planted on purpose breaks it. The slot word alone is under loom, in
//! `tests/word.rs`; `just schedules` runs both. Schedules are drawn at random, and with few preemptions at depth (PCT). A broken property panics and shuttle prints the schedule
//! that shows it. Where a flaw was planted it is counted instead, and must have been found at least once.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Runner, thread};

use super::boarding::Flying;
use super::sync::{Flaw, Ordering, any_planted, plant};
use super::*;
use crate::codec::{Format, Size};
use crate::memory::budget::BudgetConfig;
use crate::store::{StoreConfig, Tags};

const SIZE: Size = Size::new(8, 2);
const TEXTURE: u64 = 512 << 10;
/// Schedules of each kind for one property.
const SCHEDULES: usize = 400;
/// The same schedules every time; `SHUTTLE_RANDOM_SEED` draws others.
const SEED: u64 = 3;

/// What outlives a schedule. None of it takes part in one: these locks are never held over a switch.
struct Ground {
    store: Arc<Store>,
    arena: Arc<Arena>,
    broken: AtomicUsize,
    _dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().expect("directory");
        Arc::new(Self {
            store: Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store")),
            arena: Arena::new().expect("arena"),
            broken: AtomicUsize::new(0),
            _dir: dir,
        })
    }

    #[track_caller]
    fn holds(&self, condition: bool, what: &str) {
        if condition {
            return;
        }
        assert!(any_planted(), "{what}");
        self.broken.fetch_add(1, Ordering::SeqCst);
    }
}

/// One schedule's flyweights.
struct World {
    ground: Arc<Ground>,
    flyweights: Arc<Flyweights>,
    budget: Arc<Budget>,
    index: u32,
    loads: AtomicU64,
    /// What a load reads; an invalidation follows its change.
    content: AtomicU32,
    fails: bool,
    pilots: parking_lot::Mutex<Vec<thread::JoinHandle<()>>>,
}

fn stored(version: u32) -> Stored {
    Stored {
        id: "beach".into(),
        version,
        format: Format::Png,
        size: SIZE,
        bytes: 0,
        checksum: 0,
        thumbnail: Bytes::new(),
        tags: Tags::default(),
    }
}

/// The value of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing to wait for"),
    }
}

impl World {
    fn new(ground: &Arc<Ground>, fails: bool) -> Arc<Self> {
        let config = FlyweightsConfig {
            backgrounds_max: 1,
            indices_max: 1,
            decode_threads: 1,
            negative_ttl: Duration::from_secs(3600),
            ..FlyweightsConfig::default()
        };
        let budget = Budget::new(BudgetConfig {
            ceiling: 16 * TEXTURE,
            ..BudgetConfig::default()
        });
        let flyweights = Flyweights::new(
            config,
            Arc::clone(&ground.store),
            Arc::clone(&budget),
            Arc::clone(&ground.arena),
            Arc::default(),
        )
        .expect("threads");
        let index = flyweights.insert_or_replace(stored(1)).expect("room").index;
        Arc::new(Self {
            ground: Arc::clone(ground),
            flyweights,
            budget,
            index,
            loads: AtomicU64::new(0),
            content: AtomicU32::new(0),
            fails,
            pilots: parking_lot::Mutex::default(),
        })
    }

    fn slot(&self) -> &'static Slot {
        self.flyweights.catalogue.slot(self.index).expect("there")
    }

    fn replace(&self, version: u32) {
        let shown = self.flyweights.insert_or_replace(stored(version));
        shown.expect("newer");
    }

    /// The load: pixels that say their version and what was read.
    async fn load(&self, identity: Arc<Identity>) -> Result<Texture, LoadError> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let content = self.content.load(Ordering::SeqCst);
        thread::yield_now();
        if self.fails {
            return Err(LoadError::Injected("schedule"));
        }
        let pool = &self.flyweights.pool;
        let ticket = at_once(pool.acquire(SIZE.bytes(), Duration::ZERO))?;
        let version = identity.stored.version;
        let mut texture = Texture::new(ticket.realise()?, SIZE, version);
        let pixel = [version as u8, content as u8, !(version as u8), 255];
        let mut pixels = texture.pixels_mut();
        let (all, _) = pixels.data().as_chunks_mut::<4>();
        all.fill(pixel);
        Ok(texture)
    }

    /// A lease as `Flyweights::lease` comes by it, its flight flown by a thread of its own.
    fn lease(self: &Arc<Self>) -> Result<Lease, LeaseError> {
        let slot = self.slot();
        if let Some(lease) = self.flyweights.pin(slot) {
            return Ok(lease);
        }
        match self.flyweights.board(slot)? {
            Boarded::Resident(lease) => Ok(lease),
            Boarded::Joined(seat) => block_on(seat.wait()),
            Boarded::Opened(seat, flying) => {
                self.fly(flying);
                block_on(seat.wait())
            }
        }
    }

    fn fly(self: &Arc<Self>, flying: Flying) {
        let world = Arc::clone(self);
        let pilot = thread::spawn(move || {
            block_on(flying.run_with(|identity| world.load(identity)));
        });
        self.pilots.lock().push(pilot);
    }

    /// The way of an evicted texture to the archive, but for the write: it may be leased, replaced and removed meanwhile.
    fn archive(&self) {
        let slot = self.slot();
        let Some(archiving) = slot.cell().try_archive() else {
            return;
        };
        let (cell, version) = (archiving.cell(), archiving.get().version());
        thread::yield_now();
        let kept = archiving.get().version() == version;
        self.ground.holds(kept, "a texture changed on its way");
        let left = archiving.release();
        let residents = self.flyweights.residents;
        drop(residents.after_archiving(slot, cell, left, EvictionReason::Capacity));
    }

    /// Version and content that a lease shows; both must be the same in every pixel.
    fn shown(&self, lease: &Lease) -> (u32, u32) {
        let (all, _) = lease.pixels().data().as_chunks::<4>();
        let first = all[0];
        let whole = all.iter().all(|pixel| *pixel == first)
            && first[2] == !first[0]
            && u32::from(first[0]) == lease.version();
        self.ground.holds(whole, "a held texture changed");
        (u32::from(first[0]), u32::from(first[1]))
    }

    /// Leases again and again: no version older than one that was announced, or seen, before; held pixels stay.
    fn read(self: &Arc<Self>, rounds: usize) {
        let mut seen = 0;
        for _ in 0..rounds {
            let announced = self.flyweights.check(self.index).expect("live");
            let identity = self.flyweights.identity(self.index).expect("live");
            self.ground.holds(
                identity.stored.version >= announced,
                "an identity older than the announced version",
            );
            let lease = self.lease().expect("no load fails");
            let (version, _) = self.shown(&lease);
            self.ground
                .holds(version >= announced.max(seen), "an older version");
            seen = version;
            thread::yield_now();
            self.shown(&lease);
        }
    }

    /// After all threads: nothing is pinned, nothing lingers, and what is resident is what the set says.
    fn ends(self: Arc<Self>) {
        loop {
            let pilot = self.pilots.lock().pop();
            match pilot {
                Some(pilot) => pilot.join().expect("a pilot"),
                None => break,
            }
        }
        let ground = Arc::clone(&self.ground);
        ground.holds(self.flyweights.pinned_bytes() == 0, "a pin was left");
        ground.holds(
            self.slot().control.lock().flight.is_none(),
            "a flight was left open",
        );
        let resident = self.flyweights.resident() * TEXTURE;
        ground.holds(
            self.budget.used_by(Purpose::Textures) == resident,
            "a texture that nobody knows of",
        );
        self.flyweights.shrink_to(0);
        ground.holds(self.budget.used() == 0, "bytes were left");
    }
}

/// Runs a property under many schedules; says in how many it was broken.
fn broken(property: impl Fn(&Arc<Ground>) + Send + Sync + 'static) -> usize {
    let (ground, property) = (Ground::new(), Arc::new(property));
    let mut config = shuttle::Config::new();
    // The default is made for less than a whole cache.
    config.stack_size = 512 << 10;
    let body = || {
        let (ground, property) = (Arc::clone(&ground), Arc::clone(&property));
        move || property(&ground)
    };
    let random = RandomScheduler::new_from_seed(SEED, SCHEDULES);
    Runner::new(random, config.clone()).run(body());
    let depth = PctScheduler::new_from_seed(SEED, 3, SCHEDULES);
    Runner::new(depth, config).run(body());
    ground.broken.load(Ordering::SeqCst)
}

fn found(flaw: Flaw, property: impl Fn(&Arc<Ground>) + Send + Sync + 'static) {
    plant(flaw);
    let found = broken(property);
    assert!(found > 0, "{flaw:?} was not found");
}

fn sound(property: impl Fn(&Arc<Ground>) + Send + Sync + 'static) {
    assert_eq!(broken(property), 0);
}

fn spawn(
    world: &Arc<World>,
    act: impl FnOnce(&Arc<World>) + Send + 'static,
) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || act(&world))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("a thread");
    }
}

/// Readers, replaces, evictions and shrinks at once.
fn replaced_under_readers(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    join([
        spawn(&world, |world| world.read(2)),
        spawn(&world, |world| world.read(2)),
        spawn(&world, |world| {
            world.replace(2);
            world.replace(3);
        }),
        spawn(&world, |world| {
            world.flyweights.evict(world.index);
            world.flyweights.shrink_to(0);
            world.flyweights.residents.evict_one();
        }),
    ]);
    world.ends();
}

#[test]
fn versions_only_grow_and_held_textures_stay() {
    sound(replaced_under_readers);
}

#[test]
fn a_version_announced_before_the_old_one_is_barred_is_found() {
    found(Flaw::AnnounceFirst, replaced_under_readers);
}

#[test]
fn a_version_announced_before_its_identity_is_there_is_found() {
    found(Flaw::IdentityLast, replaced_under_readers);
}

/// A load lands, and here comes the replace: who leases after it is shown the new version.
fn replaced_as_it_lands(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    join([
        spawn(&world, |world| world.read(1)),
        spawn(&world, |world| {
            world.replace(2);
            world.read(1);
        }),
    ]);
    world.ends();
}

#[test]
fn a_lease_after_a_replace_is_of_the_new_version() {
    sound(replaced_as_it_lands);
}

#[test]
fn a_flight_that_stays_open_after_it_landed_is_found() {
    found(Flaw::LandOpen, replaced_as_it_lands);
}

#[test]
fn an_old_version_that_unlinks_the_new_one_is_found() {
    found(Flaw::UnlinkAny, replaced_under_readers);
}

#[test]
fn a_condemned_texture_left_behind_is_found() {
    found(Flaw::UnpinBlind, replaced_under_readers);
}

/// Textures on their way to the archive are leased and replaced: nothing is lost of either, and each one's bytes come back once.
fn archived_under_readers(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    world.read(1);
    join([
        spawn(&world, |world| world.read(2)),
        spawn(&world, |world| {
            world.archive();
            world.archive();
        }),
        spawn(&world, |world| {
            world.replace(2);
            thread::yield_now();
            world.flyweights.evict(world.index);
        }),
    ]);
    world.ends();
}

#[test]
fn what_is_on_its_way_to_the_archive_is_there_and_goes_once() {
    sound(archived_under_readers);
}

#[test]
fn a_texture_left_behind_by_the_archiver_is_found() {
    found(Flaw::ArchivedBlind, archived_under_readers);
}

/// Callers of one cold background; one of them leaves.
fn cold_herd(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    join([
        spawn(&world, |world| world.read(1)),
        spawn(&world, |world| world.read(1)),
        spawn(&world, |world| {
            match world.flyweights.board(world.slot()).expect("live") {
                Boarded::Resident(lease) => drop(lease),
                Boarded::Joined(seat) => drop(seat),
                Boarded::Opened(seat, flying) => {
                    world.fly(flying);
                    drop(seat);
                }
            }
        }),
    ]);
    let loads = world.loads.load(Ordering::SeqCst);
    ground.holds(loads == 1, "not one load");
    world.ends();
}

#[test]
fn a_cold_background_is_loaded_once() {
    sound(cold_herd);
}

#[test]
fn a_load_beside_the_one_under_way_is_found() {
    found(Flaw::BoardBlind, cold_herd);
}

/// A load that fails, for several callers: all of them fail, the later ones because it is remembered.
fn failing_herd(ground: &Arc<Ground>) {
    let world = World::new(ground, true);
    let caller = |world: &Arc<World>| {
        let failed = matches!(world.lease(), Err(LeaseError::Load(_)));
        world.ground.holds(failed, "no error");
    };
    join([
        spawn(&world, caller),
        spawn(&world, caller),
        spawn(&world, caller),
    ]);
    let loads = world.loads.load(Ordering::SeqCst);
    ground.holds(loads == 1, "not one load");
    world.ends();
}

#[test]
fn a_failure_is_shared_and_remembered() {
    sound(failing_herd);
}

/// The source changes and is invalidated: from then on nobody is shown what was read before.
fn invalidated_under_readers(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    let invalidated = Arc::new(AtomicU32::new(0));
    let reader = {
        let invalidated = Arc::clone(&invalidated);
        move |world: &Arc<World>| {
            for _ in 0..2 {
                let least = invalidated.load(Ordering::SeqCst);
                let lease = world.lease().expect("no load fails");
                let (_, content) = world.shown(&lease);
                world.ground.holds(content >= least, "read before");
                thread::yield_now();
                world.shown(&lease);
            }
        }
    };
    join([
        spawn(&world, reader.clone()),
        spawn(&world, reader),
        spawn(&world, move |world| {
            for content in 1..=2 {
                world.content.store(content, Ordering::SeqCst);
                world.flyweights.invalidate(world.index);
                invalidated.store(content, Ordering::SeqCst);
                thread::yield_now();
            }
        }),
    ]);
    world.ends();
}

#[test]
fn an_invalidation_is_synchronous() {
    sound(invalidated_under_readers);
}

#[test]
fn an_invalidation_that_spares_the_load_under_way_is_found() {
    found(Flaw::InvalidateBlind, invalidated_under_readers);
}

/// Removed while it is leased and loaded.
fn removed_under_readers(ground: &Arc<Ground>) {
    let world = World::new(ground, false);
    let reader = |world: &Arc<World>| {
        for _ in 0..2 {
            let gone = world.flyweights.check(world.index).is_err();
            match world.lease() {
                Ok(lease) => {
                    world.ground.holds(!gone, "a lease of what is gone");
                    world.shown(&lease);
                    thread::yield_now();
                    world.shown(&lease);
                }
                Err(error) => {
                    let expected = matches!(error, LeaseError::Unavailable(Unavailable::Gone));
                    world.ground.holds(expected, "another error than gone");
                }
            }
        }
    };
    join([
        spawn(&world, reader),
        spawn(&world, reader),
        spawn(&world, |world| {
            world.flyweights.remove("beach");
        }),
    ]);
    world.ends();
}

#[test]
fn what_is_gone_is_never_leased_and_leaves_nothing() {
    sound(removed_under_readers);
}

#[test]
fn a_lease_of_what_was_retired_is_found() {
    found(Flaw::PinRetired, removed_under_readers);
}
