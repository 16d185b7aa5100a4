//! The order of eviction, over a real pool, budget and store: what a scan leaves behind under each policy.

use std::sync::Arc;
use std::time::Duration;

use backdrop_service::codec::{PixelsRef, Size, encode_png};
use backdrop_service::flyweight::{
    Access, Chosen, Eviction, Flyweights, FlyweightsConfig, History, Policy, Precondition,
};
use backdrop_service::memory::arena::Arena;
use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::{AccessResult, Metrics};
use backdrop_service::store::{Store, StoreConfig};

const MIB: u64 = 1 << 20;
/// A texture of this size fills the smallest class, 512 KiB.
const SIZE: Size = Size::new(512, 256);
const FITS: usize = 8;
const HOT: usize = 5;

fn picture() -> Vec<u8> {
    let data = vec![200; SIZE.bytes() as usize];
    let mut file = Vec::new();
    encode_png(PixelsRef::new(&data, SIZE).expect("its size"), &mut file).expect("png");
    file
}

fn flyweights(eviction: Eviction, dir: &tempfile::TempDir) -> (Arc<Flyweights>, Arc<Metrics>) {
    let headroom = 16 * MIB;
    let budget = Budget::new(BudgetConfig {
        // Half a texture more, for thumbnails.
        ceiling: headroom + FITS as u64 * (512 << 10) + (256 << 10),
        headroom_min: headroom,
        ..BudgetConfig::default()
    });
    let config = FlyweightsConfig {
        eviction,
        decode_threads: 1,
        loads_max: 1,
        ..FlyweightsConfig::default()
    };
    let store = Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store"));
    let (arena, metrics) = (Arena::new().expect("arena"), Arc::new(Metrics::default()));
    let flyweights = Flyweights::new(config, store, budget, arena, Arc::clone(&metrics));
    (flyweights.expect("threads"), metrics)
}

/// Asks for some backgrounds many times and for each of many others once, and says how many of the former are still there.
async fn hot_after_a_scan(eviction: Eviction) -> usize {
    let dir = tempfile::tempdir().expect("a directory");
    let (flyweights, _) = flyweights(eviction, &dir);
    let mut indices = Vec::new();
    for number in 0..HOT + 3 * FITS {
        let id = format!("b{number:02}");
        let upload = flyweights.upload(&id, picture().into(), Precondition::None);
        indices.push(upload.await.expect("upload").index);
    }
    let access = async |index: u32| {
        let soon = tokio::time::Instant::now() + Duration::from_secs(60);
        flyweights.lease(index, soon).await.expect("lease");
    };
    let (hot, scanned) = indices.split_at(HOT);
    for _ in 0..10 {
        for &index in hot {
            access(index).await;
        }
    }
    for &index in scanned {
        access(index).await;
    }
    assert_eq!(flyweights.resident(), FITS as u64, "the cache is full");
    let there = |index: &&u32| flyweights.try_lease(**index).expect("live").is_some();
    hot.iter().filter(there).count()
}

#[tokio::test]
async fn hits_are_counted_without_a_counter_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (flyweights, metrics) = flyweights(Eviction::Lru, &dir);
    let upload = flyweights.upload("beach", picture().into(), Precondition::None);
    let index = upload.await.expect("upload").index;
    let hits = || {
        flyweights.publish();
        metrics.flyweight.accesses_total.of(AccessResult::Hit).get()
    };
    assert!(flyweights.try_lease(index).expect("live").is_none());
    assert_eq!(hits(), 0, "nothing was there");
    let soon = || tokio::time::Instant::now() + Duration::from_secs(60);
    flyweights.lease(index, soon()).await.expect("a load");
    assert_eq!(hits(), 0, "a miss is none");
    flyweights.lease(index, soon()).await.expect("a hit");
    assert!(flyweights.try_lease(index).expect("live").is_some());
    assert_eq!(hits(), 2);
    let misses = metrics.flyweight.accesses_total.of(AccessResult::Miss);
    assert_eq!(misses.get(), 1);
}

#[tokio::test]
async fn a_scan_evicts_everything_under_lru_and_only_itself_under_lrfu() {
    assert_eq!(hot_after_a_scan(Eviction::Lru).await, 0);
    assert_eq!(hot_after_a_scan(Eviction::Lrfu).await, HOT);
}

/// The policy itself with nothing around it: histories, a set, and a look at all of them for each eviction.
struct Model {
    policy: Chosen,
    histories: Vec<History>,
    resident: Vec<usize>,
    tick: u64,
}

impl Model {
    fn access(&mut self, key: usize) -> Access {
        self.tick += 1;
        let resident = self.resident.len() as u64;
        self.policy.touch(&self.histories[key], self.tick, resident);
        if self.resident.contains(&key) {
            return Access::Hit;
        }
        if self.resident.len() == FITS {
            let rank = |&at: &usize| {
                (
                    self.policy.rank(&self.histories[self.resident[at]]),
                    self.resident[at],
                )
            };
            let victim = (0..FITS).min_by_key(rank).expect("a full set");
            self.resident.swap_remove(victim);
        }
        self.resident.push(key);
        Access::Miss
    }
}

#[tokio::test]
async fn each_eviction_is_the_one_that_a_look_at_all_textures_would_choose() {
    const BACKGROUNDS: usize = 24;
    for eviction in Eviction::ALL {
        let dir = tempfile::tempdir().expect("a directory");
        let (flyweights, _) = flyweights(eviction, &dir);
        let mut indices = Vec::new();
        for number in 0..BACKGROUNDS {
            let id = format!("b{number:02}");
            let upload = flyweights.upload(&id, picture().into(), Precondition::None);
            indices.push(upload.await.expect("upload").index);
        }
        flyweights.shrink_to(0);
        let mut model = Model {
            policy: eviction.policy(),
            histories: (0..BACKGROUNDS).map(|_| History::default()).collect(),
            resident: Vec::new(),
            tick: 0,
        };
        let mut random = 7u32;
        for step in 0..600 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Low numbers more often than high ones.
            let spread = (random >> 8) as usize % BACKGROUNDS;
            let key = spread * ((random >> 20) as usize % BACKGROUNDS) / BACKGROUNDS;
            let soon = tokio::time::Instant::now() + Duration::from_secs(60);
            let (_, access) = flyweights.lease(indices[key], soon).await.expect("lease");
            assert_eq!(
                access,
                model.access(key),
                "{} at step {step}",
                eviction.name()
            );
        }
    }
}
