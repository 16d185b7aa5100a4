//! Everything at once: leases, loads that fail, callers that leave, shrinks, evictions, invalidations, replaces and removals, on
//! several threads, bounded by a number of operations. A witness counts what must never be: held textures that change, two
//! instances of one version, versions that go back, and bytes that stay.
//!
//! Pixels carry background, version and row, so that a witness can tell. That it does tell is a test of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;

const IDS: usize = 6;
/// This one's source is broken and mended all the while.
const BROKEN: usize = 5;
/// This one is invalidated as well: a second instance beside one that is held is then as it should be.
const INVALIDATED: usize = 4;
const SMALL: Size = Size::new(16, 8);
const ROUNDS: u64 = 400;

/// What must never be, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Faults {
    /// A held texture changed or vanished.
    lost: u64,
    /// Pixels of another background or version than the lease says.
    foreign: u64,
    /// Two instances of one version at the same time.
    duplicates: u64,
    /// A version older than one that its caller knew of.
    older: u64,
}

/// Sees every lease that is held, and where its pixels lie.
#[derive(Debug, Default)]
struct Witness {
    held: Mutex<HashMap<(u32, u32), (usize, usize)>>,
    faults: Mutex<Faults>,
}

/// What a lease shows.
#[derive(Clone, Copy)]
struct Shown<'a> {
    index: u32,
    version: u32,
    pixels: PixelsRef<'a>,
}

impl<'a> Shown<'a> {
    fn of(lease: &'a Lease) -> Self {
        Self {
            index: lease.index(),
            version: lease.version(),
            pixels: lease.pixels(),
        }
    }
}

impl Witness {
    /// A lease of background `which` begins; its caller knows of version `least`.
    fn begins(&self, shown: Shown<'_>, which: usize, least: u32) {
        let mut faults = self.faults.lock();
        faults.older += u64::from(shown.version < least);
        let says = stamp(shown.pixels);
        faults.foreign += u64::from(says != Some((which as u8, shown.version as u8)));
        let place = shown.pixels.data().as_ptr() as usize;
        let mut held = self.held.lock();
        let (first, count) = held
            .entry((shown.index, shown.version))
            .or_insert((place, 0));
        faults.duplicates += u64::from(*first != place && which != INVALIDATED);
        *count += 1;
    }

    /// It is still held.
    fn holds(&self, shown: Shown<'_>, which: usize) {
        let says = stamp(shown.pixels);
        let lost = says != Some((which as u8, shown.version as u8));
        self.faults.lock().lost += u64::from(lost);
    }

    /// It is about to end. As long as one lease of a version is held, all are of the same instance.
    fn ends(&self, shown: Shown<'_>) {
        let key = (shown.index, shown.version);
        let mut held = self.held.lock();
        let count = held.get_mut(&key).map(|(_, count)| {
            *count -= 1;
            *count
        });
        if count == Some(0) {
            held.remove(&key);
        }
    }
}

#[test]
fn the_witness_sees_each_fault() {
    let decoded = |which, version| -> Vec<u8> {
        let row = |y: u32| [which, version, y as u8, 255].repeat(SMALL.width as usize);
        (0..SMALL.height).flat_map(row).collect()
    };
    let shown = |data| Shown {
        index: 7,
        version: 2,
        pixels: PixelsRef::new(data, SMALL).expect("size"),
    };
    let (sound, copy, old) = (decoded(3, 2), decoded(3, 2), decoded(3, 1));
    let mut torn = sound.clone();
    torn[SMALL.width as usize * 4] ^= 1;
    let witness = Witness::default();
    witness.begins(shown(&sound), 3, 2);
    witness.holds(shown(&sound), 3);
    assert_eq!(*witness.faults.lock(), Faults::default());
    witness.begins(shown(&copy), 3, 2);
    witness.ends(shown(&copy));
    witness.holds(shown(&torn), 3);
    witness.holds(shown(&old), 3);
    witness.ends(shown(&sound));
    witness.begins(shown(&old), 3, 3);
    let expected = Faults {
        lost: 2,
        foreign: 1,
        duplicates: 1,
        older: 1,
    };
    assert_eq!(*witness.faults.lock(), expected);
}

/// What everybody shares.
struct Stage {
    world: World,
    witness: Witness,
    /// Versions whose upload was acknowledged.
    acknowledged: [AtomicU32; IDS],
    leases: AtomicUsize,
    failed: AtomicUsize,
    left: AtomicUsize,
    shed: AtomicUsize,
}

/// A sequence of numbers that looks random and comes again with its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn id(which: usize) -> String {
    format!("b{which}")
}

impl Stage {
    fn index(&self, which: usize) -> Option<u32> {
        self.world.flyweights.resolve(&id(which))
    }

    async fn upload(&self, which: usize, version: u8) {
        let image = stamped(SMALL, which as u8, version);
        // Leases may take all the room for a moment: tried again then.
        for _ in 0..1000 {
            let uploaded = self
                .world
                .flyweights
                .upload(&id(which), image.clone(), Precondition::None)
                .await;
            match uploaded {
                Ok(registered) => {
                    assert_eq!(registered.version, u32::from(version));
                    self.acknowledged[which].fetch_max(registered.version, Ordering::SeqCst);
                    return;
                }
                Err(UploadError::Load(error)) if error.is_overload() => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never room for an upload");
    }

    /// Leases in every way there is, and looks at all that is held.
    async fn lessee(self: Arc<Self>, seed: u64) {
        let mut dice = Dice(seed);
        let mut known = [0u32; IDS];
        for _ in 0..ROUNDS {
            let which = dice.roll(IDS as u64) as usize;
            let least = known[which].max(self.acknowledged[which].load(Ordering::SeqCst));
            let Some(index) = self.index(which) else {
                tokio::task::yield_now().await;
                continue;
            };
            let Some(lease) = self.lease(index, which, &mut dice).await else {
                continue;
            };
            self.leases.fetch_add(1, Ordering::Relaxed);
            self.witness.begins(Shown::of(&lease), which, least);
            known[which] = lease.version();
            for _ in 0..dice.roll(4) {
                tokio::task::yield_now().await;
                self.witness.holds(Shown::of(&lease), which);
            }
            let lease = if dice.roll(4) == 0 {
                lease.clone()
            } else {
                lease
            };
            self.witness.holds(Shown::of(&lease), which);
            self.witness.ends(Shown::of(&lease));
        }
    }

    async fn lease(&self, index: u32, which: usize, dice: &mut Dice) -> Option<Lease> {
        let flyweights = &self.world.flyweights;
        let outcome = match dice.roll(8) {
            0 => return flyweights.try_lease(index).ok().flatten(),
            1 => {
                let mut leaving = Box::pin(flyweights.lease(index, soon()));
                let polled = std::future::poll_fn(|cx| {
                    std::task::Poll::Ready(leaving.as_mut().poll(cx).is_pending())
                });
                self.left
                    .fetch_add(usize::from(polled.await), Ordering::Relaxed);
                return None;
            }
            2 => {
                flyweights
                    .lease(index, TokioInstant::now() - Duration::from_secs(1))
                    .await
            }
            _ => flyweights.lease(index, soon()).await,
        };
        match outcome {
            Ok((lease, _)) => return Some(lease),
            Err(LeaseError::Load(_)) if which == BROKEN => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            Err(LeaseError::Unavailable(Unavailable::Gone)) => {}
            Err(error) if error.is_overload() => {
                self.shed.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{error}"),
        }
        None
    }

    /// Takes textures away from under everybody.
    fn reaper(&self, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..ROUNDS {
            match dice.roll(4) {
                0 => {
                    self.world.flyweights.shrink_to(dice.roll(4) * TEXTURE);
                }
                1 => {
                    let index = self.index(INVALIDATED).expect("never removed");
                    self.world.flyweights.invalidate(index);
                }
                _ => {
                    if let Some(index) = self.index(dice.roll(IDS as u64) as usize) {
                        self.world.flyweights.evict(index);
                    }
                }
            }
            std::thread::yield_now();
        }
    }

    /// Replaces some and removes others.
    async fn writer(self: Arc<Self>) {
        for version in 2..=20u8 {
            for which in [0, 1] {
                self.upload(which, version).await;
            }
            if version % 4 == 0 {
                let removed = self
                    .world
                    .flyweights
                    .delete(&id(2), Precondition::None)
                    .await;
                removed.expect("there");
                self.upload(2, version / 4 + 1).await;
            }
        }
    }

    /// Breaks and mends a source under its readers, until it was seen broken: while others hold the whole budget no load begins.
    async fn breaker(self: Arc<Self>) {
        let file = format!("backgrounds/{}/0000000001.image", id(BROKEN));
        let file = self.world.dir.path().join(file);
        let (sound, aside) = (
            stamped(SMALL, BROKEN as u8, 1),
            file.with_extension("aside"),
        );
        let index = self.index(BROKEN).expect("there");
        for round in 0.. {
            if round >= 60 && round % 2 == 0 && self.failed.load(Ordering::Relaxed) > 0 {
                break;
            }
            assert!(round < 100_000, "no load of the broken source was tried");
            let bytes: &[u8] = if round % 2 == 0 {
                b"no picture"
            } else {
                &sound
            };
            std::fs::write(&aside, bytes).expect("write");
            std::fs::rename(&aside, &file).expect("rename");
            self.world.flyweights.evict(index);
            match self.world.lease(index).await {
                Err(LeaseError::Load(_)) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                Err(error) if error.is_overload() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Until no load is under way any more, those of callers that left included.
    async fn settle(&self) {
        let flying = || {
            let mut slots = self.world.flyweights.catalogue.slots();
            slots.any(|slot| slot.control.lock().flight.is_some())
        };
        while flying() || self.world.budget.used_by(Purpose::Decode) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_doubled_aged_or_leaked_when_all_happens_at_once() {
    let config = FlyweightsConfig {
        negative_ttl: Duration::from_millis(1),
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    let stage = Arc::new(Stage {
        world: World::with(config, budget_for(5), dir),
        witness: Witness::default(),
        acknowledged: Default::default(),
        leases: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
        left: AtomicUsize::new(0),
        shed: AtomicUsize::new(0),
    });
    for which in 0..IDS {
        stage.upload(which, 1).await;
    }
    let reapers: Vec<_> = (0..2)
        .map(|seed| {
            let stage = Arc::clone(&stage);
            std::thread::spawn(move || stage.reaper(90 + seed))
        })
        .collect();
    let mut tasks = vec![
        tokio::spawn(Arc::clone(&stage).writer()),
        tokio::spawn(Arc::clone(&stage).breaker()),
    ];
    tasks.extend((0..5).map(|seed| tokio::spawn(Arc::clone(&stage).lessee(seed))));
    for task in tasks {
        task.await.expect("no panic");
    }
    for reaper in reapers {
        reaper.join().expect("no panic");
    }
    stage.settle().await;
    assert_eq!(*stage.witness.faults.lock(), Faults::default());
    let happened =
        [&stage.leases, &stage.failed, &stage.left].map(|count| count.load(Ordering::Relaxed));
    assert!(happened.iter().all(|&count| count > 0), "{happened:?}");
    without_leaks(&stage.world);
    let Stage { world, .. } = Arc::into_inner(stage).expect("all others ended");
    let World {
        flyweights, budget, ..
    } = world;
    // The task of the last flight lets go after it has ended it.
    while Arc::strong_count(&flyweights) > 1 {
        tokio::task::yield_now().await;
    }
    drop(flyweights);
    assert_eq!(budget.used(), 0, "thumbnails went with their identities");
}

fn without_leaks(world: &World) {
    world.flyweights.shrink_to(0);
    assert_eq!(
        (
            world.flyweights.resident(),
            world.flyweights.resident_bytes(),
            world.flyweights.pinned_bytes()
        ),
        (0, 0, 0)
    );
    assert_eq!(
        (
            world.arena.ledger_bytes(),
            world.arena.drift_bytes().expect("statistics")
        ),
        (0, 0)
    );
    assert_eq!(
        world.budget.used(),
        world.budget.used_by(Purpose::Thumbnails)
    );
}
