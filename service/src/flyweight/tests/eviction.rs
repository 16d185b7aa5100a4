//! Eviction and shrinking: exact order, leases spared, the same texture for who asks again, and what is answered meanwhile.

use super::*;

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
            .flyweight
            .evictions_total
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
    assert_eq!(
        (
            world.loads(LoadResult::Shed),
            world.loads(LoadResult::Error)
        ),
        (1, 0),
        "no room is no failure"
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
    assert!(!world.flyweights.evict(index), "it is pinned");
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
    world.flyweights.evict(index);
    drop(lease);
    assert_eq!(
        world.flyweights.resident(),
        0,
        "not asked for again, it went with its last lease"
    );
    assert_eq!(world.access(index).await, Access::Miss);
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
    world.flyweights.evict(indices[0]);
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

/// Pictures over the largest class lie in blocks of their own, which are freed when they are evicted.
const LARGE: Size = Size::new(2048, 1056);

/// Has `count` of them resident, and says what each of them takes.
pub(super) async fn large(world: &World, count: u8) -> u64 {
    let file = stamped(LARGE, 1, 1);
    let mut indices = Vec::new();
    for number in 0..count {
        let id = format!("large{number}");
        let upload = world
            .flyweights
            .upload(&id, file.clone(), Precondition::None);
        indices.push(upload.await.expect("upload").index);
    }
    let flyweights = Arc::clone(&world.flyweights);
    let emptied = crate::memory::aside::run(move || flyweights.shrink_to(0)).await;
    assert_eq!(emptied.map(|report| report.held_bytes), Some(0));
    for index in indices {
        assert_eq!(world.access(index).await, Access::Miss);
    }
    let each = world.arena.ledger_bytes() / u64::from(count);
    assert!(each > 8 * MIB, "no class is as large");
    each
}

/// What is reported as reclaimed is what was freed, and is enough: a reservation tries a few times only.
#[tokio::test]
async fn what_is_reclaimed_past_the_pool_is_what_was_freed() {
    let world = World::of(160);
    let each = large(&world, 7).await;
    let flyweights = Arc::clone(&world.flyweights);
    let asked = 2 * each - 1;
    let freed = crate::memory::aside::run(move || {
        let Flyweights {
            residents, pool, ..
        } = &*flyweights;
        residents.reclaim(pool, asked)
    })
    .await;
    let held = world.arena.ledger_bytes();
    assert_eq!((freed, held), (Some(2 * each), 5 * each));
    assert_eq!(world.flyweights.resident(), 5);

    // More textures are lacking than a reservation has attempts.
    let free = world.budget.ceiling() - world.budget.used();
    let wanted = free + 5 * each;
    let charge = world
        .budget
        .reserve(Purpose::Body, wanted, Duration::ZERO)
        .await;
    assert_eq!(charge.expect("room was made").bytes(), wanted);
    assert_eq!(world.flyweights.resident(), 0);
}

#[tokio::test]
async fn a_pass_counts_what_it_freed_past_the_pool() {
    let world = World::of(48);
    let held = large(&world, 1).await;
    // Where the governor does it, too: a worker of the runtime would put the unmapping aside.
    let flyweights = Arc::clone(&world.flyweights);
    let report = crate::memory::aside::run(move || flyweights.shrink_to(0)).await;
    let report = report.expect("a runtime that goes on");
    assert_eq!(
        (report.evicted, report.evicted_bytes, report.freed_bytes),
        (1, held, held)
    );
    assert_eq!((report.held_bytes, world.arena.ledger_bytes()), (0, 0));
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
    let accesses = &world.metrics.flyweight.accesses_total;
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
            world.loads(LoadResult::Shed),
            world.loads(LoadResult::Error)
        ),
        (1, 0)
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
