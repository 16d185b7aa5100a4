//! The books over a long random mix of operations and faults: never above the ceiling, always the sum of their purposes, and zero when
//! everything was given back; and the allocator's count of the pixel arena agrees.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backdrop_service::codec::{PixelsRef, Size, encode_png};
use backdrop_service::flyweight::{Flyweights, FlyweightsConfig, Lease, Precondition, Texture};
use backdrop_service::memory::{Arena, Budget, BudgetConfig, Charge, Purpose};
use backdrop_service::metrics::{ArchiveRead, ArchiveWrite, Metrics};
use backdrop_service::store::archive::{Archive, ArchiveConfig};
use backdrop_service::store::{Store, StoreConfig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

const MIB: u64 = 1 << 20;
const OPERATIONS: u64 = 1_000_000;
const TASKS: u64 = 4;
const BACKGROUNDS: u32 = 48;
/// Room for about half of the textures, and for a few decodes.
const CEILING: u64 = 26 * MIB;
/// Of the archive's files, which hold pixels and a little more: room for about half of the textures.
const ARCHIVE_BYTES: u64 = 24 * 13_000;

fn picture(seed: u8) -> Vec<u8> {
    let size = Size::new(64, 48);
    let data = vec![seed; size.bytes() as usize];
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, size).expect("size"), &mut out).expect("png");
    out
}

struct World {
    flyweights: Arc<Flyweights>,
    budget: Arc<Budget>,
    arena: Arc<Arena>,
    metrics: Arc<Metrics>,
    archive: PathBuf,
    indices: Vec<u32>,
    loads: AtomicU64,
    refusals: AtomicU64,
}

async fn world(dir: &Path) -> Arc<World> {
    let budget = Budget::new(BudgetConfig {
        ceiling: CEILING,
        headroom_min: 12 * MIB,
        ..BudgetConfig::default()
    });
    let arena = Arena::new().expect("an arena");
    let config = FlyweightsConfig {
        decode_threads: 1,
        loads_max: 2,
        reserve_wait: Duration::from_millis(2),
        negative_ttl: Duration::from_millis(20),
        ..FlyweightsConfig::default()
    };
    let metrics = Arc::new(Metrics::default());
    let store = Store::open(StoreConfig::at(dir)).expect("a store");
    let archive = dir.join("archive");
    let settings = ArchiveConfig {
        pause: Duration::from_millis(1),
        ..ArchiveConfig::at(&archive, ARCHIVE_BYTES)
    };
    let tier = Archive::open(settings, Arc::clone(&metrics)).expect("an archive");
    let flyweights = Flyweights::new(
        config,
        Arc::new(store.with_archive(tier)),
        Arc::clone(&budget),
        Arc::clone(&arena),
        Arc::clone(&metrics),
    )
    .expect("threads");
    let mut indices = Vec::new();
    for number in 0..BACKGROUNDS {
        let id = format!("b{number:02}");
        let uploaded = flyweights.upload(&id, picture(number as u8).into(), Precondition::None);
        indices.push(uploaded.await.expect("an upload").index);
    }
    Arc::new(World {
        flyweights,
        budget,
        arena,
        metrics,
        archive,
        indices,
        loads: AtomicU64::new(0),
        refusals: AtomicU64::new(0),
    })
}

/// Overwrites the stored pictures of one background, so that its loads fail from now on.
fn spoil(dir: &Path, id: &str) -> usize {
    let mut spoilt = 0;
    for entry in std::fs::read_dir(dir).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            spoilt += spoil(&path, id);
        } else if path.extension().is_some_and(|kind| kind == "image")
            && path.parent().is_some_and(|parent| parent.ends_with(id))
        {
            std::fs::write(&path, b"spoilt").expect("written");
            spoilt += 1;
        }
    }
    spoilt
}

/// Turns a byte of one file of the archive, if there is any.
fn damage(archive: &Path, rng: &mut StdRng) -> bool {
    let files = std::fs::read_dir(archive).expect("the archive").flatten();
    let mut files: Vec<PathBuf> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pixels"))
        .collect();
    files.sort();
    if files.is_empty() {
        return false;
    }
    let path = &files[rng.random_range(0..files.len())];
    // It may have been evicted, or written anew, a moment ago.
    let Ok(mut bytes) = std::fs::read(path) else {
        return false;
    };
    let at = bytes.len() / 2;
    let Some(byte) = bytes.get_mut(at) else {
        return false;
    };
    *byte ^= 1;
    std::fs::write(path, bytes).is_ok()
}

/// What one task holds at a moment, each bounded.
#[derive(Default)]
struct Held {
    charges: VecDeque<Charge>,
    leases: VecDeque<Lease>,
    textures: VecDeque<Texture>,
}

fn keep<T>(held: &mut VecDeque<T>, most: usize, value: T) {
    held.push_back(value);
    if held.len() > most {
        held.pop_front();
    }
}

impl World {
    fn charge(&self, rng: &mut StdRng, held: &mut Held) {
        match rng.random_range(0..5) {
            0..=1 => {
                let purpose = Purpose::ALL[rng.random_range(0..Purpose::COUNT)];
                // Textures and idle blocks are the pool's own.
                let purpose = match purpose {
                    Purpose::Textures | Purpose::PoolIdle => Purpose::Encode,
                    other => other,
                };
                match self
                    .budget
                    .try_reserve(purpose, rng.random_range(0..MIB / 4))
                {
                    Ok(charge) => keep(&mut held.charges, 8, charge),
                    Err(_) => drop(self.refusals.fetch_add(1, Ordering::Relaxed)),
                }
            }
            2 => {
                if let Some(charge) = held.charges.back_mut() {
                    drop(charge.resize(rng.random_range(0..MIB / 2)));
                }
            }
            3 => {
                if let Some(charge) = held.charges.front_mut() {
                    let part = charge.split(rng.random_range(0..MIB / 8));
                    keep(&mut held.charges, 8, part.transfer(Purpose::Body));
                }
            }
            _ => drop(held.charges.pop_front()),
        }
    }

    async fn lease(self: &Arc<Self>, rng: &mut StdRng, held: &mut Held) {
        let index = self.indices[rng.random_range(0..self.indices.len())];
        let patience = Duration::from_micros(rng.random_range(0..4_000));
        let deadline = Instant::now() + patience;
        let leased = if rng.random_bool(0.3) {
            // A caller that goes away.
            tokio::time::timeout(patience / 4, self.flyweights.lease(index, deadline))
                .await
                .ok()
        } else {
            Some(self.flyweights.lease(index, deadline).await)
        };
        if let Some(Ok((lease, _))) = leased {
            self.loads.fetch_add(1, Ordering::Relaxed);
            keep(&mut held.leases, 3, lease);
        }
    }

    async fn rare(self: &Arc<Self>, rng: &mut StdRng, held: &mut Held) {
        let number = rng.random_range(0..BACKGROUNDS);
        let (id, index) = (format!("b{number:02}"), self.indices[number as usize]);
        match rng.random_range(0..100) {
            0..40 => drop(self.flyweights.invalidate(index)),
            40..60 => {
                let flyweights = Arc::clone(&self.flyweights);
                let target = rng.random_range(0..CEILING);
                let pass = tokio::task::spawn_blocking(move || flyweights.shrink_to(target));
                pass.await.expect("a pass");
            }
            60..65 => drop(self.flyweights.trim()),
            65..70 => drop(damage(&self.archive, rng)),
            70..90 => {
                if let Ok(texture) = self.flyweights.load_private(index).await {
                    keep(&mut held.textures, 1, texture);
                }
            }
            90..95 => {
                let image = picture(rng.random()).into();
                drop(self.flyweights.upload(&id, image, Precondition::None).await);
            }
            _ => {
                let broken = picture(1)[..60].to_vec();
                let refused = self
                    .flyweights
                    .upload(&id, broken.into(), Precondition::None);
                assert!(refused.await.is_err());
            }
        }
    }

    fn check(&self) {
        let books = self.budget.report();
        assert!(books.used <= CEILING, "{books:?}");
        assert_eq!(books.used, books.by_purpose.iter().sum::<u64>());
    }

    async fn mix(self: Arc<Self>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut held = Held::default();
        for operation in 0..OPERATIONS / TASKS {
            match rng.random_range(0..10_000) {
                0..5_000 => self.charge(&mut rng, &mut held),
                5_000..9_850 => {
                    let index = self.indices[rng.random_range(0..self.indices.len())];
                    if let Ok(Some(lease)) = self.flyweights.try_lease(index) {
                        keep(&mut held.leases, 3, lease);
                    }
                }
                9_850..9_985 => self.lease(&mut rng, &mut held).await,
                _ => self.rare(&mut rng, &mut held).await,
            }
            if operation % 16 == 0 {
                self.check();
            }
            if operation % 256 == 0 {
                held.leases.clear();
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_operations_and_faults_never_pass_the_budget_and_leave_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = world(dir.path()).await;
    assert!(spoil(dir.path(), "b00") > 0 && spoil(dir.path(), "b01") > 0);
    let tasks: Vec<_> = (0..TASKS)
        .map(|seed| tokio::spawn(Arc::clone(&world).mix(seed)))
        .collect();
    for task in tasks {
        task.await.expect("no operation panics");
    }
    let loads = world.loads.load(Ordering::Relaxed);
    assert!(loads > 500, "only {loads} leases were granted");
    assert!(
        world.refusals.load(Ordering::Relaxed) > 0,
        "the budget was never short"
    );
    let archive = &world.metrics.archive;
    let archived = archive.writes_total.of(ArchiveWrite::Ok).get();
    let reads = |result| archive.reads_total.of(result).get();
    let (read_back, damaged) = (reads(ArchiveRead::Hit), reads(ArchiveRead::Corrupt));
    assert!(
        archived > 100 && read_back > 100 && damaged > 0,
        "{archived} archived, {read_back} read back, {damaged} found damaged"
    );

    let books = world.budget.report();
    assert!(
        books.peak <= CEILING && books.peak > CEILING / 2,
        "{books:?}"
    );
    // All that is left are textures, idle blocks and thumbnails, as soon as loads that nobody waits for have ended.
    for number in 0..BACKGROUNDS {
        let id = format!("b{number:02}");
        let deleted = world.flyweights.delete(&id, Precondition::None).await;
        deleted.expect("it was there");
    }
    let all = world
        .budget
        .reserve(Purpose::Body, CEILING, Duration::from_secs(60))
        .await;
    drop(all.expect("everything was given back"));
    assert_eq!(world.budget.report().by_purpose, [0; Purpose::COUNT]);
    assert_eq!((world.arena.ledger_bytes(), world.arena.blocks()), (0, 0));
    assert_eq!(world.arena.drift_bytes().expect("statistics"), 0);
}
