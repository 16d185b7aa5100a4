//! Hot replace and invalidation: shown at once, and held leases stay whole.

use super::*;

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
            .flyweight
            .evictions_total
            .of(EvictionReason::Replaced)
            .get(),
        1
    );
    assert_eq!(world.flyweights.resident(), 1);
}

#[tokio::test]
async fn what_a_lease_of_an_old_version_pins_is_counted_as_pinned() {
    let world = World::of(6);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let (old, _) = world.lease(index).await.expect("lease");
    world.upload("beach", [2, 2, 2]).await;
    assert_eq!(
        (world.flyweights.resident(), world.flyweights.pinned_bytes()),
        (0, TEXTURE)
    );
    let (new, _) = world.lease(index).await.expect("lease");
    let again = old.clone();
    assert_eq!(world.flyweights.pinned_bytes(), 2 * TEXTURE);
    let report = world.flyweights.shrink_to(0);
    assert_eq!(
        (report.pinned, report.pinned_bytes, report.held_bytes),
        (2, 2 * TEXTURE, 2 * TEXTURE)
    );
    drop(old);
    assert_eq!(world.flyweights.pinned_bytes(), 2 * TEXTURE);
    drop(again);
    assert_eq!(world.flyweights.pinned_bytes(), TEXTURE);
    drop(new);
    assert_eq!(
        (world.flyweights.resident(), world.flyweights.pinned_bytes()),
        (1, 0)
    );
}

#[tokio::test]
async fn an_invalidation_is_synchronous_and_a_held_lease_stays_whole() {
    let world = World::of(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    assert!(!world.flyweights.invalidate(index), "nothing was there");
    let (held, _) = world.lease(index).await.expect("lease");
    assert!(world.flyweights.invalidate(index));
    assert_eq!(world.flyweights.resident(), 0);
    assert!(
        world.flyweights.try_lease(index).expect("live").is_none(),
        "barred at once, leased or not"
    );
    let (fresh, access) = world.lease(index).await.expect("lease");
    assert_eq!((access, fresh.version()), (Access::Miss, 1));
    assert!(
        !std::ptr::eq(held.pixels().data(), fresh.pixels().data()),
        "loaded anew"
    );
    assert!(
        held.pixels()
            .data()
            .iter()
            .all(|&byte| byte == 1 || byte == 255)
    );
    drop((held, fresh));
    assert!(world.flyweights.invalidate(index));
    assert_eq!(world.budget.used_by(Purpose::Textures), 0);
}

#[tokio::test]
async fn an_invalidation_overtakes_the_load_that_is_under_way_and_forgets_failures() {
    let config = FlyweightsConfig {
        negative_ttl: Duration::from_secs(3600),
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    let world = World::with(config, budget_for(8), dir);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let slot = world.flyweights.catalogue.slot(index).expect("slot");
    let (identity, generation) = slot.to_load().expect("live");
    let early = world.flyweights.loader.load(&identity.stored).await;
    world.flyweights.invalidate(index);
    assert!(
        world
            .flyweights
            .land(slot, &Arc::default(), generation, early)
            .is_none(),
        "read before the invalidation"
    );
    let file = world.dir.path().join("backgrounds/beach/0000000001.image");
    let image = std::fs::read(&file).expect("image");
    std::fs::write(&file, b"not the picture").expect("write");
    assert!(world.lease(index).await.is_err());
    std::fs::write(&file, image).expect("write");
    assert!(world.lease(index).await.is_err(), "remembered");
    world.flyweights.invalidate(index);
    assert_eq!(world.access(index).await, Access::Miss);
}

/// Leases that are never returned take every place of a slot in the end: then a load is refused, once, not tried again and again.
#[tokio::test]
async fn when_old_leases_take_every_place_a_load_is_refused_and_not_repeated() {
    let world = World::of(80);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let mut held = Vec::new();
    let refused = loop {
        match world.lease(index).await {
            Ok((lease, _)) => held.push(lease),
            Err(error) => break error,
        }
        assert!(held.len() < 80, "places are bounded");
        world.flyweights.invalidate(index);
    };
    assert!(matches!(refused, LeaseError::Exhausted), "{refused:?}");
    assert_eq!(
        (
            world.loads(LoadResult::Ok) as usize,
            world.loads(LoadResult::Shed),
            world.loads(LoadResult::Error),
            world.loads(LoadResult::Overtaken)
        ),
        (held.len(), 1, 0, 0)
    );
    held.pop();
    assert_eq!(world.access(index).await, Access::Miss);
    held.clear();
    world.flyweights.shrink_to(0);
    assert_eq!(world.arena.ledger_bytes(), 0);
}
