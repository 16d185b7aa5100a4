//! Loads: one per cold background, for callers that stay and callers that leave, with errors that are shared and remembered.

use std::collections::HashMap;

use super::*;
use crate::flyweight::flight::Flight;

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

/// A runtime that shuts down drops a new task within `spawn`; the end of its flight must not wait for a lock that its caller holds.
#[test]
fn a_load_that_the_runtime_refuses_ends_its_flight() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let (world, index) = runtime.block_on(async {
        let world = World::of(4);
        let index = world.upload_many(1).await[0];
        (world, index)
    });
    let (handle, far) = (runtime.handle().clone(), soon());
    // With its end awaited: a worker that has not heard of it yet would take the task.
    runtime.shutdown_timeout(Duration::from_secs(60));
    let (done, outcome) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _inside = handle.enter();
        let lease = std::pin::pin!(world.flyweights.lease(index, far));
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        let ended = matches!(
            lease.poll(context),
            std::task::Poll::Ready(Err(LeaseError::Load(_)))
        );
        let slot = world.flyweights.catalogue.slot(index).expect("slot");
        let closed = slot.control.lock().flight.is_none();
        done.send((ended, closed)).expect("the test waits");
    });
    let outcome = outcome.recv_timeout(Duration::from_secs(60));
    assert_eq!(outcome, Ok((true, true)), "an answer at all, and an error");
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
    assert!(matches!(late, Boarded::Joined(_)));
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
