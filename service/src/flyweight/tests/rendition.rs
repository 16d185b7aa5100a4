//! Renditions: kept from the second time on, found exactly, bounded, evicted with the rest, and gone with their version.

use super::*;
use crate::metrics::RenditionResult;

const FRAME: Size = Size::new(320, 180);

fn wanted(size: Size, zoom: i32) -> Wanted {
    Wanted {
        size,
        looked: Looked {
            window: [0, 0, 65_536, 65_536, 0, 0, zoom],
            alpha: 255,
        },
    }
}

fn frame(zoom: i32) -> Wanted {
    wanted(FRAME, zoom * 65_536)
}

fn world(textures: u64, per_background: usize) -> World {
    let mut config = config();
    config.renditions = RenditionsConfig {
        per_background,
        again_within: Duration::from_secs(3600),
        ..RenditionsConfig::default()
    };
    let dir = tempfile::tempdir().expect("directory");
    World::with(config, budget_for(textures), dir)
}

/// Any pixels of that size, which say what they are of.
fn drawn(size: Size, which: u8) -> Vec<u8> {
    [which, 1, 2, 255].repeat(size.pixels() as usize)
}

impl World {
    async fn keeper(&self, index: u32, wanted: &Wanted) -> Option<Keeper> {
        let (lease, _) = self.lease(index).await.expect("lease");
        self.flyweights.keeper(&lease, wanted).await
    }

    /// Draws a frame twice, as its second asker has it drawn.
    async fn keep(&self, index: u32, wanted: &Wanted, which: u8) {
        assert!(self.keeper(index, wanted).await.is_none(), "the first time");
        let keeper = self.keeper(index, wanted).await.expect("the second");
        let pixels = drawn(wanted.size, which);
        keeper.keep(PixelsRef::new(&pixels, wanted.size).expect("size"));
    }

    fn found(&self, index: u32, wanted: &Wanted) -> Option<u8> {
        let lease = self.flyweights.rendition(index, wanted)?;
        assert_eq!(lease.size(), wanted.size);
        let whole = drawn(wanted.size, first_pixel(&lease)[0]);
        assert!(lease.pixels().data() == whole, "torn");
        Some(whole[0])
    }

    fn frames(&self, result: RenditionResult) -> u64 {
        let total = &self.metrics.flyweight.rendition_frames_total;
        total.of(result).get()
    }

    fn renditions(&self) -> i64 {
        self.metrics.flyweight.renditions.get()
    }
}

#[tokio::test]
async fn what_is_asked_for_again_is_kept_and_found_by_exactly_that() {
    let world = world(6, 4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let asked = frame(1);
    world.keep(index, &asked, 9).await;
    assert_eq!(world.found(index, &asked), Some(9));
    // In the same place, and yet not the same frame.
    let mut nearly = asked;
    nearly.looked.window[6] += 1;
    assert_eq!(world.found(index, &nearly), None);
    let smaller = wanted(Size::new(319, 180), 65_536);
    assert_eq!(world.found(index, &smaller), None);
    let mut paler = asked;
    paler.looked.alpha = 254;
    assert_eq!(world.found(index, &paler), None);
    let counted = [RenditionResult::Hit, RenditionResult::Kept].map(|result| world.frames(result));
    assert_eq!((counted, world.renditions()), ([1, 1], 1));
    // The place goes to who asked last, once he asks again.
    world.keep(index, &nearly, 8).await;
    assert_eq!(world.found(index, &nearly), Some(8));
    assert_eq!((world.found(index, &asked), world.renditions()), (None, 1));
}

#[tokio::test]
async fn nothing_is_kept_of_one_look_or_where_it_would_save_nothing_or_when_off() {
    let looked_once = world(6, 4);
    let index = looked_once.upload("beach", [1, 1, 1]).await.index;
    for zoom in 1..=3 {
        assert!(looked_once.keeper(index, &frame(zoom)).await.is_none());
    }
    let whole = wanted(SIZE, 65_536);
    for _ in 0..3 {
        assert!(
            looked_once.keeper(index, &whole).await.is_none(),
            "as large as the texture"
        );
    }
    assert_eq!(
        (looked_once.flyweights.resident(), looked_once.renditions()),
        (1, 0)
    );

    let off = world(6, 0);
    let index = off.upload("beach", [1, 1, 1]).await.index;
    for _ in 0..3 {
        assert!(off.keeper(index, &frame(1)).await.is_none());
        assert_eq!(off.found(index, &frame(1)), None);
    }
}

#[tokio::test]
async fn a_background_has_no_more_places_than_it_may_and_the_longest_unasked_goes() {
    let world = world(8, 2);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let other = world.upload("hills", [2, 1, 1]).await.index;
    world.keep(other, &frame(1), 50).await;
    for which in 1..=2 {
        world.keep(index, &frame(which), which as u8).await;
    }
    assert_eq!(world.found(index, &frame(1)), Some(1), "asked for last now");
    world.keep(index, &frame(3), 3).await;
    let found = [1, 2, 3].map(|which| world.found(index, &frame(which)));
    assert_eq!(found, [Some(1), None, Some(3)]);
    assert_eq!(world.found(other, &frame(1)), Some(50), "its neighbour's");
    assert_eq!(world.renditions(), 3);
    // Two textures, three renditions, and not one block more.
    assert_eq!(world.flyweights.resident(), 5);
    assert_eq!(
        world.budget.used_by(Purpose::Textures),
        5 * TEXTURE + idle_bytes(&world)
    );
}

fn idle_bytes(world: &World) -> u64 {
    world.flyweights.held_bytes() - world.flyweights.resident_bytes()
}

#[tokio::test]
async fn a_rendition_is_evicted_in_its_turn_and_kept_again_in_the_same_slot() {
    let world = world(3, 4);
    let indices = world.upload_many(3).await;
    world.keep(indices[0], &frame(1), 9).await;
    world.access(indices[1]).await;
    assert_eq!(world.found(indices[0], &frame(1)), Some(9));
    // Full: the source itself is the one used longest ago, then the second, then the rendition.
    world.access(indices[2]).await;
    assert_eq!(
        world
            .flyweights
            .try_lease(indices[0])
            .expect("live")
            .map(drop),
        None
    );
    assert_eq!(
        world.found(indices[0], &frame(1)),
        Some(9),
        "it needs no source"
    );
    world.flyweights.shrink_to(0);
    assert_eq!(
        (
            world.flyweights.resident(),
            world.found(indices[0], &frame(1))
        ),
        (0, None)
    );
    let keeper = world
        .keeper(indices[0], &frame(1))
        .await
        .expect("known already");
    let pixels = drawn(FRAME, 7);
    keeper.keep(PixelsRef::new(&pixels, FRAME).expect("size"));
    assert_eq!(world.found(indices[0], &frame(1)), Some(7));
    assert_eq!(world.renditions(), 1);
}

#[tokio::test]
async fn a_replace_takes_all_renditions_along_and_what_is_being_drawn_is_dropped() {
    let world = world(8, 4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    world.keep(index, &frame(1), 1).await;
    world.keep(index, &frame(2), 2).await;
    let held = world.flyweights.rendition(index, &frame(1)).expect("kept");
    assert!(world.keeper(index, &frame(3)).await.is_none());
    let late = world.keeper(index, &frame(3)).await.expect("again");
    world.upload("beach", [2, 2, 2]).await;
    assert_eq!(
        [1, 2].map(|which| world.found(index, &frame(which))),
        [None; 2]
    );
    let pixels = drawn(FRAME, 3);
    late.keep(PixelsRef::new(&pixels, FRAME).expect("size"));
    assert_eq!(world.found(index, &frame(3)), None, "of the old version");
    assert_eq!(world.frames(RenditionResult::Dropped), 1);
    assert_eq!((world.renditions(), world.flyweights.resident()), (0, 0));
    assert_eq!(
        (held.version(), first_pixel(&held)[0]),
        (1, 1),
        "a lease keeps it whole"
    );
    drop(held);
    assert_eq!(
        world.flyweights.resident_bytes() + world.flyweights.pinned_bytes(),
        0
    );
    world.keep(index, &frame(1), 4).await;
    assert_eq!(world.found(index, &frame(1)), Some(4));
}

#[tokio::test]
async fn an_invalidation_and_a_removal_take_them_along_too_and_the_budget_comes_back_to_nothing() {
    let world = world(8, 4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    world.keep(index, &frame(1), 1).await;
    let (before, _) = world.lease(index).await.expect("lease");
    assert!(world.flyweights.invalidate(index));
    assert_eq!(world.found(index, &frame(1)), None);
    for _ in 0..3 {
        let keeper = world.flyweights.keeper(&before, &frame(1)).await;
        assert!(
            keeper.is_none(),
            "nothing is kept of a texture that was closed"
        );
    }
    drop(before);
    world.keep(index, &frame(1), 2).await;
    world.flyweights.remove("beach");
    assert_eq!(
        (world.found(index, &frame(1)), world.renditions()),
        (None, 0)
    );
    let index = world.upload("hills", [3, 1, 1]).await.index;
    world.keep(index, &frame(1), 3).await;
    let World {
        flyweights, budget, ..
    } = world;
    drop(flyweights);
    assert_eq!(budget.used_by(Purpose::Textures), 0);
}

/// Versions are replaced while two threads keep and find: nobody finds one that is older than what he knew before.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_rendition_is_older_than_what_its_finder_knew() {
    const VERSIONS: u32 = 60;
    let world = Arc::new(world(12, 4));
    let index = world.upload("beach", [1, 1, 1]).await.index;
    let look = |world: Arc<World>| async move {
        let mut found = 0;
        loop {
            let known = world.flyweights.check(index).expect("live");
            if let Some(lease) = world.flyweights.rendition(index, &frame(1)) {
                assert!(
                    lease.version() >= known,
                    "{} after {known}",
                    lease.version()
                );
                assert_eq!(
                    u32::from(first_pixel(&lease)[0]),
                    lease.version(),
                    "of another version"
                );
                found += 1;
            } else if let Ok((lease, _)) = world.lease(index).await
                && let Some(keeper) = world.flyweights.keeper(&lease, &frame(1)).await
            {
                let pixels = drawn(FRAME, lease.version() as u8);
                keeper.keep(PixelsRef::new(&pixels, FRAME).expect("size"));
            }
            if known == VERSIONS && found > 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let lookers = [0, 1].map(|_| tokio::spawn(look(Arc::clone(&world))));
    for version in 2..=VERSIONS {
        world.upload("beach", [version as u8, 1, 1]).await;
    }
    for looker in lookers {
        looker.await.expect("no assertion failed");
    }
    assert!(world.frames(RenditionResult::Kept) > 0);
}
