//! The rules of flyweights, each as a test, over a real store, pool, budget and codec.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant as TokioInstant;

use super::*;
use crate::codec::{PixelsRef, Size, encode_png};
use crate::memory::budget::{BudgetConfig, ReserveError};
use crate::metrics::Label;
use crate::store::{StoreConfig, StoreError};

const MIB: u64 = 1 << 20;
/// A texture of 512×256 fills the smallest class, 512 KiB.
const SIZE: Size = Size::new(512, 256);
const TEXTURE: u64 = 512 << 10;

/// A picture of one colour, as PNG: the colour says which background and version it is.
fn picture(colour: [u8; 3]) -> Bytes {
    let pixel = [colour[0], colour[1], colour[2], 255];
    let data: Vec<u8> = pixel
        .iter()
        .copied()
        .cycle()
        .take(SIZE.bytes() as usize)
        .collect();
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, SIZE).expect("size"), &mut out).expect("png");
    out.into()
}

struct World {
    flyweights: Arc<Flyweights>,
    budget: Arc<Budget>,
    arena: Arc<Arena>,
    metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

fn config() -> FlyweightsConfig {
    FlyweightsConfig {
        decode_threads: 1,
        loads_max: 2,
        access_record: 100_000,
        reserve_wait: Duration::from_millis(50),
        ..Default::default()
    }
}

/// Kept free for decodes; a PNG of this size takes more scratch than pixels.
const HEADROOM: u64 = 16 * MIB;

fn budget_for(textures: u64) -> BudgetConfig {
    // Half a texture more, for thumbnails.
    let ceiling = textures * TEXTURE + TEXTURE / 2 + HEADROOM;
    BudgetConfig {
        ceiling,
        headroom_min: HEADROOM,
        ..BudgetConfig::default()
    }
}

impl World {
    fn with(config: FlyweightsConfig, budget: BudgetConfig, dir: tempfile::TempDir) -> Self {
        let budget = Budget::new(budget);
        let (arena, metrics) = (Arena::new().expect("arena"), Arc::new(Metrics::default()));
        let store = Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store"));
        let flyweights = Flyweights::new(
            config,
            store,
            Arc::clone(&budget),
            Arc::clone(&arena),
            Arc::clone(&metrics),
        )
        .expect("threads");
        Self {
            flyweights,
            budget,
            arena,
            metrics,
            dir,
        }
    }

    /// Room for exactly `textures` textures.
    fn of(textures: u64) -> Self {
        Self::with(
            config(),
            budget_for(textures),
            tempfile::tempdir().expect("directory"),
        )
    }

    async fn upload(&self, id: &str, colour: [u8; 3]) -> Registered {
        self.flyweights
            .upload(id, picture(colour), Precondition::None)
            .await
            .expect("upload")
    }

    async fn upload_many(&self, count: u8) -> Vec<u32> {
        let mut indices = Vec::new();
        for number in 0..count {
            indices.push(
                self.upload(&format!("b{number:03}"), [number, 0, 1])
                    .await
                    .index,
            );
        }
        self.flyweights.shrink_to(0);
        self.flyweights.accesses(true);
        indices
    }

    async fn lease(&self, index: u32) -> Result<(Lease, Access), LeaseError> {
        self.flyweights.lease(index, soon()).await
    }

    async fn access(&self, index: u32) -> Access {
        self.lease(index).await.expect("lease").1
    }

    fn events(&self) -> Vec<(u32, u8, u64)> {
        let bytes = self.flyweights.accesses(false);
        let (entries, _) = bytes[16..].as_chunks::<8>();
        let unpack = |entry: &[u8; 8]| u64::from_le_bytes(*entry);
        entries
            .iter()
            .map(unpack)
            .map(|entry| (entry as u32, (entry >> 32) as u8, entry >> 40))
            .collect()
    }

    fn loads(&self, result: LoadResult) -> u64 {
        self.metrics.flyweight_loads_total.of(result).get()
    }
}

fn soon() -> TokioInstant {
    TokioInstant::now() + Duration::from_secs(30)
}

fn first_pixel(lease: &Lease) -> [u8; 4] {
    lease.pixels().pixel(0, 0)
}

#[tokio::test]
async fn a_cold_background_is_loaded_and_then_hit() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    let (lease, access) = world.lease(index).await.expect("lease");
    assert_eq!(
        (access, lease.version(), lease.size(), lease.index()),
        (Access::Miss, 1, SIZE, index)
    );
    assert_eq!(first_pixel(&lease), [0, 0, 1, 255]);
    assert_eq!(world.access(index).await, Access::Hit);
    assert!(world.flyweights.try_lease(index).expect("live").is_some());
    assert_eq!(world.flyweights.pinned_bytes(), TEXTURE);
    drop(lease);
    assert_eq!(world.flyweights.pinned_bytes(), 0);
    assert_eq!(world.arena.drift_bytes().expect("statistics"), 0);
    assert_eq!(world.budget.used_by(Purpose::Textures), TEXTURE);
    assert_eq!(
        (
            world.budget.used_by(Purpose::Decode),
            world.budget.used_by(Purpose::Upload)
        ),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_on_one_cold_background_is_one_load() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    let herd: Vec<_> = (0..500)
        .map(|_| {
            let flyweights = Arc::clone(&world.flyweights);
            tokio::spawn(async move {
                flyweights
                    .lease(index, soon())
                    .await
                    .map(|(lease, access)| (lease.version(), access))
            })
        })
        .collect();
    let mut by_access = HashMap::new();
    for member in herd {
        let (version, access) = member.await.expect("task").expect("lease");
        assert_eq!(version, 1);
        *by_access.entry(access).or_insert(0) += 1;
    }
    assert_eq!(by_access[&Access::Miss], 1);
    assert_eq!(world.loads(LoadResult::Ok), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_neither_fails_nor_restarts_the_load() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    let mut first = Box::pin(world.flyweights.lease(index, soon()));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending()))
            .await;
    assert!(pending);
    drop(first);
    let (lease, access) = world.lease(index).await.expect("lease");
    assert_ne!(access, Access::Miss);
    assert_eq!(first_pixel(&lease), [0, 0, 1, 255]);
    assert_eq!(world.loads(LoadResult::Ok), 1);
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_not_the_load() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    // A whole second ago: a deadline of this very millisecond would give the load until the next tick of tokio's clock.
    let past = TokioInstant::now() - Duration::from_secs(1);
    let late = world.flyweights.lease(index, past).await;
    assert!(matches!(late, Err(LeaseError::Deadline)));
    assert_ne!(world.access(index).await, Access::Miss);
    assert_eq!(world.loads(LoadResult::Ok), 1);
}

#[tokio::test]
async fn an_error_is_shared_and_then_remembered_until_it_expires_or_a_replace() {
    let config = FlyweightsConfig {
        negative_ttl: Duration::from_secs(3600),
        ..config()
    };
    let world = World::with(
        config,
        budget_for(8),
        tempfile::tempdir().expect("directory"),
    );
    let index = world.upload_many(1).await[0];
    let file = world.dir.path().join("backgrounds/b000/0000000001.image");
    let image = std::fs::read(&file).expect("image");
    std::fs::write(&file, b"not the picture").expect("write");
    let (one, other) = tokio::join!(world.lease(index), world.lease(index));
    for outcome in [one, other] {
        assert!(
            matches!(outcome, Err(LeaseError::Load(ref cause)) if matches!(**cause, LoadError::Store(StoreError::Corrupt { .. })))
        );
    }
    assert_eq!(world.loads(LoadResult::Error), 1, "shared by both");
    std::fs::write(&file, image).expect("write");
    assert!(world.lease(index).await.is_err(), "remembered");
    assert_eq!(world.loads(LoadResult::Error), 1);
    world.upload("b000", [9, 9, 9]).await;
    assert_eq!(
        world.access(index).await,
        Access::Miss,
        "a new version is not blamed for the old one"
    );
}

#[tokio::test]
async fn a_negative_entry_has_a_time_to_live() {
    let config = FlyweightsConfig {
        negative_ttl: Duration::ZERO,
        ..config()
    };
    let world = World::with(
        config,
        budget_for(8),
        tempfile::tempdir().expect("directory"),
    );
    let index = world.upload_many(1).await[0];
    let file = world.dir.path().join("backgrounds/b000/0000000001.image");
    let image = std::fs::read(&file).expect("image");
    std::fs::remove_file(&file).expect("remove");
    assert!(world.lease(index).await.is_err());
    std::fs::write(&file, image).expect("write");
    assert!(world.lease(index).await.is_ok());
}

#[tokio::test]
async fn eviction_is_exact_lru_and_only_as_much_as_needed() {
    let world = World::of(3);
    let indices = world.upload_many(5).await;
    for &index in &indices[..3] {
        assert_eq!(world.access(index).await, Access::Miss);
    }
    assert_eq!(world.access(indices[0]).await, Access::Hit);
    assert_eq!(world.access(indices[3]).await, Access::Miss);
    assert_eq!(world.flyweights.resident(), 3);
    assert!(
        world
            .flyweights
            .try_lease(indices[1])
            .expect("live")
            .is_none(),
        "the least recently used went"
    );
    assert_eq!(world.access(indices[0]).await, Access::Hit);
    assert_eq!(
        world
            .metrics
            .flyweight_evictions_total
            .of(EvictionReason::Capacity)
            .get(),
        1
    );
}

#[tokio::test]
async fn what_is_leased_is_never_evicted_and_a_load_waits_for_it() {
    let world = World::of(2);
    let indices = world.upload_many(3).await;
    let (first, _) = world.lease(indices[0]).await.expect("lease");
    let (second, _) = world.lease(indices[1]).await.expect("lease");
    assert!(
        matches!(world.lease(indices[2]).await, Err(LeaseError::Exhausted)),
        "both are pinned"
    );
    let waiting = tokio::spawn({
        let flyweights = Arc::clone(&world.flyweights);
        let index = indices[2];
        async move {
            flyweights
                .lease(index, soon())
                .await
                .map(|(lease, _)| first_pixel(&lease))
        }
    });
    while world.budget.report().waits < 2 {
        tokio::task::yield_now().await;
    }
    drop(first);
    assert_eq!(waiting.await.expect("task").expect("lease"), [2, 0, 1, 255]);
    assert_eq!(first_pixel(&second), [1, 0, 1, 255]);
}

#[tokio::test]
async fn an_evicted_texture_that_is_still_leased_comes_back_as_the_same_one() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    let (lease, _) = world.lease(index).await.expect("lease");
    assert!(!world.flyweights.invalidate(index), "it is pinned");
    let (again, access) = world.lease(index).await.expect("lease");
    assert_eq!(access, Access::Hit);
    assert!(
        std::ptr::eq(lease.pixels().data(), again.pixels().data()),
        "the same pixels"
    );
    drop((lease, again));
    assert_eq!(
        world.access(index).await,
        Access::Hit,
        "asking for it took the eviction back"
    );
    let (lease, _) = world.lease(index).await.expect("lease");
    world.flyweights.invalidate(index);
    drop(lease);
    assert_eq!(
        world.flyweights.resident(),
        0,
        "not asked for again, it went with its last lease"
    );
    assert_eq!(world.access(index).await, Access::Miss);
}

#[tokio::test]
async fn a_replace_shows_at_once_and_a_held_lease_keeps_the_old_one_whole() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let (old, _) = world.lease(index).await.expect("lease");
    let replaced = world.upload("beach", [2, 2, 2]).await;
    assert_eq!(
        replaced,
        Registered {
            index,
            version: 2,
            created: false
        }
    );
    let (new, access) = world.lease(index).await.expect("lease");
    assert_eq!(
        (access, new.version(), first_pixel(&new)),
        (Access::Miss, 2, [2, 2, 2, 255])
    );
    assert_eq!((old.version(), first_pixel(&old)), (1, [1, 1, 1, 255]));
    assert!(
        old.pixels()
            .data()
            .iter()
            .all(|&byte| byte == 1 || byte == 255),
        "whole"
    );
    let used = world.budget.used_by(Purpose::Textures);
    drop(old);
    assert_eq!(world.budget.used_by(Purpose::Textures), used - TEXTURE);
    assert_eq!(
        world
            .metrics
            .flyweight_evictions_total
            .of(EvictionReason::Replaced)
            .get(),
        1
    );
    assert_eq!(world.flyweights.resident(), 1);
}

#[tokio::test]
async fn a_load_that_was_overtaken_is_discarded() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let slot = world.flyweights.catalogue.slot(index).expect("slot");
    let old = world
        .flyweights
        .loader
        .load(&slot.identity().expect("live").stored)
        .await
        .expect("load");
    world.upload("beach", [2, 2, 2]).await;
    assert!(
        world
            .flyweights
            .land(slot, &Arc::default(), 1, Ok(old))
            .is_none(),
        "an old version is never put in"
    );
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!(lease.version(), 2);
}

/// A flight over a slot, as `lease` starts it, whose load the test plays.
fn played_flight(world: &World, index: u32) -> (&'static Slot, Arc<Flight>, Seat) {
    let slot = world.flyweights.catalogue.slot(index).expect("slot");
    let flight = Arc::new(Flight::default());
    slot.control.lock().flight = Some(Arc::clone(&flight));
    let seat = flight.board();
    (slot, flight, seat)
}

async fn loaded(world: &World, slot: &Slot) -> Result<Texture, LoadError> {
    let identity = slot.identity().expect("live");
    world.flyweights.loader.load(&identity.stored).await
}

#[tokio::test]
async fn a_lease_after_a_replace_never_joins_the_flight_of_the_old_version() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let (slot, flight, seat) = played_flight(&world, index);
    let texture = loaded(&world, slot).await;
    let landed = world.flyweights.land(slot, &flight, 1, texture);
    // The flight has its texture and its passengers do not know yet; here comes the replace.
    world.upload("beach", [2, 2, 2]).await;
    let (lease, access) = world.lease(index).await.expect("lease");
    assert_eq!((lease.version(), access), (2, Access::Miss));
    flight.complete(landed.expect("not overtaken"));
    let early = seat.wait().await.expect("lease");
    assert_eq!(early.version(), 1, "who boarded before the replace");
}

#[tokio::test]
async fn who_joins_a_flight_after_a_replace_is_brought_the_new_version() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let (slot, flight, seat) = played_flight(&world, index);
    let old = loaded(&world, slot).await;
    world.upload("beach", [2, 2, 2]).await;
    let late = world.flyweights.board(slot).expect("boards");
    assert!(matches!(late, Boarded::Flight(_, Access::Joined)));
    assert!(world.flyweights.land(slot, &flight, 1, old).is_none());
    let new = loaded(&world, slot).await;
    let landed = world.flyweights.land(slot, &flight, 2, new);
    flight.complete(landed.expect("not overtaken"));
    assert_eq!(seat.wait().await.expect("lease").version(), 2);
}

#[tokio::test]
async fn a_failure_is_remembered_for_the_version_that_failed_only() {
    let config = FlyweightsConfig {
        negative_ttl: Duration::from_secs(3600),
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    let world = World::with(config, budget_for(8), dir);
    let failure = || Err(LoadError::Worker(WorkerError::Stopped));
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let (slot, flight, _seat) = played_flight(&world, index);
    world.upload("beach", [2, 2, 2]).await;
    assert!(
        world.flyweights.land(slot, &flight, 1, failure()).is_none(),
        "what failed is not there any more"
    );
    assert!(slot.control.lock().negative.is_none());
    let landed = world.flyweights.land(slot, &flight, 2, failure());
    assert!(matches!(landed, Some(Err(LeaseError::Load(_)))));
    assert!(slot.control.lock().flight.is_none(), "closed with it");
    assert!(world.lease(index).await.is_err(), "remembered");
    world.upload("beach", [3, 3, 3]).await;
    assert_eq!(world.lease(index).await.expect("lease").0.version(), 3);
}

#[tokio::test]
async fn a_flight_that_has_ended_pins_nothing() {
    let world = World::of(4);
    let index = world.upload_many(1).await[0];
    let (lease, _) = world.lease(index).await.expect("lease");
    let flight = Arc::new(Flight::default());
    let (one, other, gone) = (flight.board(), flight.board(), flight.board());
    flight.complete(Ok(lease));
    drop(gone);
    drop(one.wait().await);
    assert_eq!(world.flyweights.pinned_bytes(), TEXTURE, "for the other");
    drop(other.wait().await);
    assert_eq!(world.flyweights.pinned_bytes(), 0);
    let (lease, _) = world.lease(index).await.expect("lease");
    let deserted = Arc::new(Flight::default());
    drop(deserted.board());
    deserted.complete(Ok(lease));
    assert_eq!(world.flyweights.pinned_bytes(), 0);
}

#[tokio::test]
async fn a_version_can_be_loaded_until_the_catalogue_has_turned_over() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let store = &world.flyweights.loader.store;
    let image = picture([2, 2, 2]);
    let next = Stored {
        version: 2,
        bytes: image.len() as u64,
        checksum: crate::store::checksum(&image),
        ..world
            .flyweights
            .identity(index)
            .expect("live")
            .stored
            .clone()
    };
    // Half-way through a replace, and half-way through a removal.
    store.put(&next, image).await.expect("put");
    assert_eq!(world.lease(index).await.expect("cold").0.version(), 1);
    store.bury("beach", 1).await.expect("tombstone");
    world.flyweights.shrink_to(0);
    assert_eq!(world.lease(index).await.expect("cold").0.version(), 1);
}

#[tokio::test]
async fn a_replace_and_a_removal_leave_no_old_files() {
    let world = World::of(4);
    world.upload("beach", [1, 1, 1]).await;
    world.upload("beach", [2, 2, 2]).await;
    let files = || {
        let listed = std::fs::read_dir(world.dir.path().join("backgrounds/beach"));
        let names = listed.expect("directory").map(|file| {
            let name = file.expect("entry").file_name();
            name.to_string_lossy().into_owned()
        });
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(files().iter().eq(["0000000002.image", "0000000002.json"]));
    let removed = world.flyweights.delete("beach", Precondition::None).await;
    removed.expect("delete");
    assert!(files().iter().eq(["tombstone-0000000002"]));
}

#[tokio::test]
async fn one_of_two_uploads_gets_the_last_place_and_has_it_after_a_restart() {
    let config = FlyweightsConfig {
        backgrounds_max: 1,
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    let world = World::with(config.clone(), budget_for(8), dir);
    let place = world.flyweights.catalogue.next_version("a").expect("room");
    let refused = world
        .flyweights
        .upload("b", picture([1, 2, 3]), Precondition::None)
        .await;
    assert!(matches!(
        refused,
        Err(UploadError::Catalogue(CatalogueError::Full(1)))
    ));
    drop(place);
    world.upload("b", [1, 2, 3]).await;
    assert!(!world.dir.path().join("backgrounds/a").exists());
    let World {
        flyweights, dir, ..
    } = world;
    drop(flyweights);
    let world = World::with(config, budget_for(8), dir);
    let report = world.flyweights.recover().await.expect("recovery");
    assert_eq!((report.live, report.refused.len()), (1, 0));
    assert!(world.flyweights.resolve("b").is_some());
}

#[tokio::test]
async fn what_could_not_be_kept_is_taken_back_with_its_place() {
    let config = FlyweightsConfig {
        backgrounds_max: 1,
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    // A directory where the sidecar should be: the image is written, its sidecar cannot be.
    let root = dir.path().join("backgrounds");
    std::fs::create_dir_all(root.join("a/0000000001.json")).expect("directory");
    let world = World::with(config, budget_for(8), dir);
    let failed = world
        .flyweights
        .upload("a", picture([1, 2, 3]), Precondition::None)
        .await;
    assert!(matches!(failed, Err(UploadError::Store(_))), "{failed:?}");
    assert!(!root.join("a/0000000001.image").exists());
    world.upload("b", [1, 2, 3]).await;
}

#[tokio::test]
async fn removed_is_gone_for_ever_and_a_new_one_gets_another_index_and_a_higher_version() {
    let world = World::of(4);
    let first = world.upload("beach", [1, 1, 1]).await;
    let (lease, _) = world.lease(first.index).await.expect("lease");
    assert_eq!(
        world
            .flyweights
            .delete("beach", Precondition::Version(7))
            .await
            .ok(),
        None
    );
    assert_eq!(
        world
            .flyweights
            .delete("beach", Precondition::None)
            .await
            .ok(),
        Some(first.index)
    );
    assert_eq!(world.flyweights.check(first.index), Err(Unavailable::Gone));
    assert!(matches!(world.flyweights.entry(first.index), Entry::Gone));
    assert!(matches!(
        world.lease(first.index).await,
        Err(LeaseError::Unavailable(Unavailable::Gone))
    ));
    assert_eq!(
        first_pixel(&lease),
        [1, 1, 1, 255],
        "a held lease outlives the background"
    );
    drop(lease);
    assert_eq!(
        (
            world.flyweights.resident(),
            world.flyweights.resolve("beach")
        ),
        (0, None)
    );
    let second = world.upload("beach", [2, 2, 2]).await;
    assert_eq!((second.created, second.version), (true, 2));
    assert_ne!(second.index, first.index);
    assert_eq!(world.flyweights.check(999_999), Err(Unavailable::Unknown));
    assert!(matches!(
        world.flyweights.delete("nothing", Precondition::None).await,
        Err(RemoveError::NotFound)
    ));
}

#[tokio::test]
async fn a_restart_finds_everything_under_a_new_epoch_and_versions_go_on() {
    let world = World::of(4);
    world.upload("beach", [1, 1, 1]).await;
    world.upload("beach", [2, 2, 2]).await;
    world.upload("forest", [3, 3, 3]).await;
    world.upload("gone", [4, 4, 4]).await;
    world
        .flyweights
        .delete("gone", Precondition::None)
        .await
        .expect("delete");
    let World {
        flyweights, dir, ..
    } = world;
    let epoch = flyweights.epoch();
    drop(flyweights);
    let world = World::with(config(), budget_for(8), dir);
    let report = world.flyweights.recover().await.expect("recovery");
    assert_eq!(
        (report.live, report.refused.len(), report.damaged.len()),
        (2, 0, 0)
    );
    assert_ne!(world.flyweights.epoch(), epoch);
    let index = world.flyweights.resolve("beach").expect("there");
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!((lease.version(), first_pixel(&lease)), (2, [2, 2, 2, 255]));
    assert_eq!(world.upload("beach", [5, 5, 5]).await.version, 3);
    assert_eq!(world.upload("gone", [6, 6, 6]).await.version, 2);
    let ids: Vec<String> = world
        .flyweights
        .list(None, 10)
        .iter()
        .map(|identity| identity.stored.id.to_string())
        .collect();
    assert_eq!(ids, ["beach", "forest", "gone"]);
    assert_eq!(
        &*world.flyweights.list(Some("beach"), 1)[0].stored.id,
        "forest"
    );
}

#[tokio::test]
async fn bounds_and_preconditions_of_uploads() {
    let config = FlyweightsConfig {
        backgrounds_max: 2,
        indices_max: 3,
        ..config()
    };
    let world = World::with(
        config,
        budget_for(8),
        tempfile::tempdir().expect("directory"),
    );
    let upload = |id: &'static str, wanted| world.flyweights.upload(id, picture([1, 2, 3]), wanted);
    assert!(matches!(
        upload("../x", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::BadId(_)))
    ));
    assert!(matches!(
        upload("a", Precondition::Exists).await,
        Err(UploadError::Precondition { current: None })
    ));
    assert!(upload("a", Precondition::Absent).await.is_ok());
    assert!(matches!(
        upload("a", Precondition::Absent).await,
        Err(UploadError::Precondition { current: Some(1) })
    ));
    assert!(upload("a", Precondition::Version(1)).await.is_ok());
    assert!(matches!(
        upload("a", Precondition::Version(1)).await,
        Err(UploadError::Precondition { current: Some(2) })
    ));
    assert!(upload("b", Precondition::None).await.is_ok());
    assert!(matches!(
        upload("c", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::Full(2)))
    ));
    world
        .flyweights
        .delete("b", Precondition::None)
        .await
        .expect("delete");
    assert!(upload("b", Precondition::None).await.is_ok());
    world
        .flyweights
        .delete("b", Precondition::None)
        .await
        .expect("delete");
    assert!(matches!(
        upload("b", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::IndicesSpent(3)))
    ));
    let text = world
        .flyweights
        .upload(
            "a",
            Bytes::from_static(b"hello, this is text"),
            Precondition::None,
        )
        .await;
    assert!(matches!(text, Err(UploadError::Load(LoadError::Codec(_)))));
    let torn = picture([1, 2, 3]).slice(..60);
    assert!(matches!(
        world.flyweights.upload("a", torn, Precondition::None).await,
        Err(UploadError::Load(LoadError::Codec(_)))
    ));
    assert_eq!(
        (
            world.budget.used_by(Purpose::Upload),
            world.budget.used_by(Purpose::Textures)
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn shrinking_follows_the_order_spares_leases_and_frees_idle_blocks_first() {
    let world = World::of(6);
    let indices = world.upload_many(5).await;
    for &index in &indices {
        world.access(index).await;
    }
    let (lease, _) = world.lease(indices[0]).await.expect("lease");
    let first = world.flyweights.shrink_to(3 * TEXTURE);
    assert_eq!(
        (
            first.evicted,
            first.evicted_bytes,
            first.freed_bytes,
            first.pinned
        ),
        (2, 2 * TEXTURE, 2 * TEXTURE, 1)
    );
    assert_eq!(world.arena.ledger_bytes(), 3 * TEXTURE);
    let there: Vec<bool> = indices
        .iter()
        .map(|&index| world.flyweights.try_lease(index).expect("live").is_some())
        .collect();
    assert_eq!(
        there,
        [true, false, false, true, true],
        "oldest first, the leased one spared"
    );
    let all = world.flyweights.shrink_to(0);
    assert_eq!((all.evicted, all.pinned, all.held_bytes), (2, 1, TEXTURE));
    assert_eq!(first_pixel(&lease), [0, 0, 1, 255]);
    drop(lease);
    world.flyweights.invalidate(indices[0]);
    let idle = world.flyweights.shrink_to(0);
    assert_eq!(
        (
            idle.evicted,
            idle.freed_bytes,
            world.budget.used_by(Purpose::PoolIdle)
        ),
        (0, TEXTURE, 0),
        "only the idle block was left"
    );
    assert_eq!(world.arena.drift_bytes().expect("statistics"), 0);
}

#[tokio::test]
async fn in_critical_nothing_is_loaded_but_what_is_there_is_served_and_the_rest_is_degraded() {
    let world = World::of(4);
    let indices = world.upload_many(2).await;
    world.access(indices[0]).await;
    world.budget.set_growth_open(false);
    assert_eq!(world.access(indices[0]).await, Access::Hit);
    assert!(matches!(
        world.lease(indices[1]).await,
        Err(LeaseError::Exhausted)
    ));
    let degraded = world
        .flyweights
        .source(indices[1], soon(), true)
        .await
        .expect("thumbnail");
    assert!(
        matches!(&degraded, Source::Thumbnail(identity) if !identity.stored.thumbnail.is_empty())
    );
    assert!(
        world
            .flyweights
            .source(indices[1], soon(), false)
            .await
            .is_err()
    );
    let accesses = &world.metrics.flyweight_accesses_total;
    assert_eq!(
        (
            accesses.of(AccessResult::Degraded).get(),
            accesses.of(AccessResult::Shed).get()
        ),
        (1, 2)
    );
    world.budget.set_growth_open(true);
    assert!(matches!(
        world.flyweights.source(indices[1], soon(), true).await,
        Ok(Source::Texture(_, Access::Miss))
    ));
    let kinds: Vec<u8> = world
        .events()
        .into_iter()
        .map(|(_, kind, _)| kind)
        .collect();
    assert_eq!(kinds, [1, 6, 0, 4, 3, 4, 1, 6]);
}

#[tokio::test]
async fn a_private_texture_is_shared_with_nobody_and_goes_when_dropped() {
    let world = World::of(2);
    let index = world.upload_many(1).await[0];
    let one = world.flyweights.load_private(index).await.expect("load");
    let other = world.flyweights.load_private(index).await.expect("load");
    assert!(!std::ptr::eq(one.pixels().data(), other.pixels().data()));
    assert!(
        matches!(
            world.flyweights.load_private(index).await,
            Err(LeaseError::Exhausted)
        ),
        "shed, not evicted"
    );
    assert_eq!(
        (
            world.flyweights.resident(),
            world.budget.used_by(Purpose::Textures)
        ),
        (0, 2 * TEXTURE)
    );
    drop((one, other));
    assert_eq!(world.budget.used_by(Purpose::Textures), 0);
}

#[tokio::test]
async fn what_can_never_fit_is_told_apart() {
    let budget = BudgetConfig {
        ceiling: MIB / 4,
        ..BudgetConfig::default()
    };
    let budget = Budget::new(budget);
    let dir = tempfile::tempdir().expect("directory");
    let store = Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store"));
    let arena = Arena::new().expect("arena");
    let flyweights = Flyweights::new(config(), store, budget, arena, Arc::new(Metrics::default()))
        .expect("threads");
    let refused = flyweights
        .upload("a", picture([1, 1, 1]), Precondition::None)
        .await;
    assert!(
        matches!(
            refused,
            Err(UploadError::Load(LoadError::Reserve(
                ReserveError::TooLarge { .. }
            )))
        ),
        "{refused:?}"
    );
}

/// Lookups go on while the whole cache is shrunk again and again, and see whole pictures only.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn leases_stay_whole_while_everything_is_shrunk_and_replaced() {
    let world = Arc::new(World::of(6));
    let indices = world.upload_many(4).await;
    let stop = Arc::new(AtomicBool::new(false));
    let shrinker = std::thread::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                world.flyweights.shrink_to(TEXTURE);
            }
        }
    });
    let leases = Arc::new(AtomicUsize::new(0));
    let acknowledged: Arc<[AtomicU32; 4]> = Arc::new([const { AtomicU32::new(1) }; 4]);
    let readers: Vec<_> = (0..4usize)
        .map(|reader| {
            let (world, indices, leases) =
                (Arc::clone(&world), indices.clone(), Arc::clone(&leases));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                for round in 0..60usize {
                    let number = (reader + round) % indices.len();
                    let least = acknowledged[number].load(Ordering::SeqCst);
                    let lease = match world.lease(indices[number]).await {
                        Ok((lease, _)) => lease,
                        // Too many pinned at once, or replaced again and again: nothing else may happen.
                        Err(LeaseError::Exhausted | LeaseError::Overtaken) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    assert!(lease.version() >= least, "older than acknowledged");
                    let colour = first_pixel(&lease);
                    assert_eq!(
                        (colour[0] as usize, colour[3]),
                        (number, 255),
                        "another background's pixels"
                    );
                    assert_eq!(
                        u32::from(colour[2]),
                        lease.version(),
                        "another version's pixels"
                    );
                    let (pixels, _) = lease.pixels().data().as_chunks::<4>();
                    assert!(pixels.iter().all(|pixel| *pixel == colour), "torn");
                    leases.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for version in 2..6u8 {
        for number in 0..4u8 {
            let shown = world
                .upload(&format!("b{number:03}"), [number, 0, version])
                .await;
            acknowledged[usize::from(number)].store(shown.version, Ordering::SeqCst);
        }
    }
    for reader in readers {
        reader.await.expect("reader");
    }
    stop.store(true, Ordering::Relaxed);
    shrinker.join().expect("shrinker");
    assert!(leases.load(Ordering::Relaxed) > 0);
    world.flyweights.shrink_to(0);
    assert_eq!(
        (
            world.flyweights.resident(),
            world.arena.ledger_bytes(),
            world.flyweights.pinned_bytes()
        ),
        (0, 0, 0)
    );
    assert_eq!(world.arena.drift_bytes().expect("statistics"), 0);
    assert_eq!(
        world.budget.used(),
        world.budget.used_by(Purpose::Thumbnails)
    );
}

/// Replays the record against an exact LRU of the recorded capacity.
fn replay(events: &[(u32, u8, u64)], capacity: usize) -> (usize, usize) {
    let (mut order, mut hits, mut accesses) = (Vec::<u32>::new(), 0, 0);
    for &(flyweight, _, _) in events.iter().filter(|(_, kind, _)| *kind <= 2) {
        accesses += 1;
        match order.iter().position(|&held| held == flyweight) {
            Some(at) => {
                hits += 1;
                order.remove(at);
            }
            None if order.len() == capacity => drop(order.remove(0)),
            None => {}
        }
        order.push(flyweight);
    }
    (hits, accesses)
}

#[test]
fn over_a_skewed_load_hits_equal_an_exact_lru_replay_of_the_record() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let world = World::of(5);
        let indices = world.upload_many(20).await;
        let mut state = 7u64;
        for _ in 0..600 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 33) as f64 / (1u64 << 31) as f64;
            let number = ((uniform * uniform * uniform) * indices.len() as f64) as usize;
            world.access(indices[number.min(indices.len() - 1)]).await;
        }
        let events = world.events();
        let capacity = events
            .iter()
            .map(|&(_, _, resident)| resident)
            .max()
            .expect("events") as usize;
        assert_eq!(capacity, 5);
        let hits = events.iter().filter(|(_, kind, _)| *kind == 0).count();
        assert_eq!((hits, 600), replay(&events, capacity));
        assert!(hits > 200, "a skewed load has hits");
    });
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Access(usize),
    Upload(usize),
    Delete(usize),
    Invalidate(usize),
    Shrink(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..4;
    prop_oneof![
        6 => which.clone().prop_map(Op::Access),
        2 => which.clone().prop_map(Op::Upload),
        1 => which.clone().prop_map(Op::Delete),
        1 => which.prop_map(Op::Invalidate),
        1 => (0u64..4).prop_map(|textures| Op::Shrink(textures * TEXTURE)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Against a plain map of id to version: what is leased is always the present version's picture.
    #[test]
    fn any_sequence_shows_the_latest_upload(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let world = World::of(2);
            let mut model: HashMap<usize, (u32, u32)> = HashMap::new();
            let mut versions = [0u32; 4];
            for op in ops {
                match op {
                    Op::Upload(which) => {
                        versions[which] += 1;
                        let registered = world.upload(&format!("b{which}"), [which as u8, 5, versions[which] as u8]).await;
                        prop_assert_eq!(registered.version, versions[which]);
                        model.insert(which, (registered.index, registered.version));
                    }
                    Op::Delete(which) => {
                        let removed = world.flyweights.delete(&format!("b{which}"), Precondition::None).await.ok();
                        prop_assert_eq!(removed, model.remove(&which).map(|(index, _)| index));
                    }
                    Op::Access(which) => if let Some(&(index, version)) = model.get(&which) {
                        let (lease, _) = world.lease(index).await.expect("lease");
                        prop_assert_eq!((lease.version(), first_pixel(&lease)), (version, [which as u8, 5, version as u8, 255]));
                    },
                    Op::Invalidate(which) => if let Some(&(index, _)) = model.get(&which) {
                        world.flyweights.invalidate(index);
                    },
                    Op::Shrink(bytes) => prop_assert!(world.flyweights.shrink_to(bytes).held_bytes <= bytes),
                }
                prop_assert!(world.flyweights.resident() <= 2);
                prop_assert_eq!(world.arena.ledger_bytes(), world.budget.used_by(Purpose::Textures) + world.budget.used_by(Purpose::PoolIdle));
            }
            Ok(())
        })?;
    }
}

#[test]
fn events_and_access_labels_agree() {
    assert_eq!(AccessResult::ALL.len(), 6);
    for (access, name) in [
        (Access::Hit, "hit"),
        (Access::Miss, "miss"),
        (Access::Joined, "joined"),
    ] {
        assert_eq!((access.as_str(), access.result().name()), (name, name));
    }
}
