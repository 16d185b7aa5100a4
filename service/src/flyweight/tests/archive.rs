//! Textures on their way to the archive: what counts as freed, who gets them back, and what is written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::eviction::large;
use super::*;
use crate::flyweight::archiver::Archiver;
use crate::metrics::{ArchiveRead, ArchiveWrite};
use crate::store::archive::{Archive, ArchiveConfig};

/// Room for all textures of these tests.
pub(super) const AMPLE: u64 = 64 * MIB;
/// Bytes of one texture's file.
pub(super) const FILE: u64 = TEXTURE + 4096;

fn archive_dir(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("archive")
}

/// Room for exactly `textures` textures, and behind them an archive. The queue has room for two.
pub(super) fn archived_in(
    dir: tempfile::TempDir,
    config: FlyweightsConfig,
    textures: u64,
    bytes_max: u64,
) -> World {
    let budget = Budget::new(budget_for(textures));
    let (arena, metrics) = (Arena::new().expect("arena"), Arc::new(Metrics::default()));
    let settings = ArchiveConfig {
        pause: Duration::ZERO,
        ..ArchiveConfig::at(archive_dir(&dir), bytes_max)
    };
    let archive = Archive::open(settings, Arc::clone(&metrics)).expect("archive");
    let store = Store::open(StoreConfig::at(dir.path())).expect("store");
    let flyweights = Flyweights::new(
        config,
        Arc::new(store.with_archive(archive)),
        Arc::clone(&budget),
        Arc::clone(&arena),
        Arc::clone(&metrics),
    )
    .expect("threads");
    World {
        flyweights,
        budget,
        arena,
        metrics,
        dir,
    }
}

pub(super) fn slow_to_give_up() -> FlyweightsConfig {
    FlyweightsConfig {
        archiving: ArchivingConfig {
            queue_bytes_max: 2 * TEXTURE,
            read_timeout: Duration::from_secs(30),
            ..ArchivingConfig::default()
        },
        ..config()
    }
}

pub(super) fn archived(textures: u64) -> World {
    let dir = tempfile::tempdir().expect("directory");
    archived_in(dir, slow_to_give_up(), textures, AMPLE)
}

impl World {
    pub(super) fn archiver(&self) -> Arc<Archiver> {
        let archiver = self.flyweights.residents.archiver.read();
        Arc::clone(archiver.as_ref().expect("an archive"))
    }

    pub(super) fn archive(&self) -> Arc<Archive> {
        let archive = self.flyweights.loader.store.archive();
        Arc::clone(archive.expect("an archive"))
    }

    pub(super) fn reads(&self, result: ArchiveRead) -> u64 {
        self.metrics.archive.reads_total.of(result).get()
    }

    pub(super) fn writes(&self, result: ArchiveWrite) -> u64 {
        self.metrics.archive.writes_total.of(result).get()
    }

    pub(super) fn queued(&self) -> i64 {
        self.metrics.archive.queue_textures.get()
    }

    pub(super) fn evicted(&self, reason: EvictionReason) -> u64 {
        self.metrics.flyweight.evictions_total.of(reason).get()
    }

    /// Has the textures of `indices` archived and evicted.
    pub(super) async fn archive_all(&self, indices: &[u32]) {
        for &index in indices {
            let slot = self.flyweights.catalogue.slot(index).expect("slot");
            drop(self.lease(index).await.expect("lease"));
            let residents = self.flyweights.residents;
            assert!(residents.archives(slot, TEXTURE, EvictionReason::Pressure));
            self.archiver().settle();
        }
    }

    /// The file of a background's present version in the archive.
    pub(super) fn archive_file(&self, index: u32) -> PathBuf {
        let identity = self.flyweights.identity(index).expect("live");
        let stored = &identity.stored;
        archive_dir(&self.dir).join(format!(
            "{}.{:010}.{:016x}.pixels",
            stored.id, stored.version, stored.checksum
        ))
    }

    /// Nothing is held, by whatever count.
    pub(super) fn is_empty_at_the_end(&self) {
        self.archiver().settle();
        self.flyweights.shrink_to(0);
        assert_eq!(
            (
                self.flyweights.resident(),
                self.flyweights.pinned_bytes(),
                self.queued(),
                self.metrics.archive.queue_bytes.get()
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(self.arena.ledger_bytes(), 0);
        assert_eq!(self.arena.drift_bytes().expect("statistics"), 0);
        assert_eq!(self.budget.used(), self.budget.used_by(Purpose::Thumbnails));
    }
}

#[tokio::test]
async fn an_evicted_texture_is_archived_and_counts_as_gone_when_it_is_gone() {
    let world = archived(3);
    let indices = world.upload_many(4).await;
    world.archiver().pause(true);
    for &index in &indices[..3] {
        world.access(index).await;
    }
    let (first, _) = world.lease(indices[3]).await.expect("lease");
    assert_eq!(
        (world.queued(), world.evicted(EvictionReason::Capacity)),
        (1, 1),
        "the one whose turn it was waits, the next one went for the room"
    );
    let there = |at: usize| {
        world
            .flyweights
            .try_lease(indices[at])
            .expect("live")
            .is_some()
    };
    assert_eq!(world.flyweights.resident(), 3);
    assert_eq!(world.budget.used_by(Purpose::Textures), 3 * TEXTURE);
    assert_eq!(
        world.flyweights.pinned_bytes(),
        TEXTURE,
        "a queue is no lease"
    );
    assert!(!there(1), "dropped");
    drop(first);
    world.archiver().pause(false);
    world.archiver().settle();
    assert_eq!(world.evicted(EvictionReason::Capacity), 2);
    assert!(!there(0), "written, and gone");
    assert_eq!(world.budget.used_by(Purpose::PoolIdle), TEXTURE);
    assert_eq!(
        (world.writes(ArchiveWrite::Ok), world.archive().bytes()),
        (1, FILE)
    );
    world.access(indices[0]).await;
    world.access(indices[1]).await;
    assert_eq!(
        (world.reads(ArchiveRead::Hit), world.loads(LoadResult::Ok)),
        (1, 6),
        "the archived one was read, the other decoded"
    );
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_lease_takes_a_queued_texture_back_without_a_load() {
    let world = archived(4);
    let indices = world.upload_many(2).await;
    world.archiver().pause(true);
    let (lease, _) = world.lease(indices[0]).await.expect("lease");
    let place = lease.pixels().data().as_ptr();
    drop(lease);
    let slot = world.flyweights.catalogue.slot(indices[0]).expect("slot");
    let residents = world.flyweights.residents;
    assert!(residents.archives(slot, TEXTURE, EvictionReason::Capacity));
    let (again, access) = world.lease(indices[0]).await.expect("lease");
    assert_eq!(access, Access::Hit);
    assert!(std::ptr::eq(again.pixels().data().as_ptr(), place));
    world.archiver().pause(false);
    world.archiver().settle();
    assert_eq!(
        (world.writes(ArchiveWrite::TakenBack), world.queued()),
        (1, 0)
    );
    drop(again);
    assert_eq!(world.access(indices[0]).await, Access::Hit, "it stays");
    assert_eq!(world.loads(LoadResult::Ok), 1);
    assert_eq!(world.evicted(EvictionReason::Capacity), 0);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn with_a_full_queue_textures_go_unarchived() {
    let world = archived(6);
    let indices = world.upload_many(5).await;
    world.archiver().pause(true);
    for &index in &indices {
        world.access(index).await;
    }
    let residents = world.flyweights.residents;
    for round in 0..2 {
        assert_eq!(residents.evict_one(), Some(0), "its block falls idle");
        assert_eq!(world.queued(), round + 1);
    }
    assert_eq!(world.flyweights.resident(), 3, "two wait, two went");
    assert!(residents.evict_one().is_some());
    assert_eq!((world.queued(), world.flyweights.resident()), (2, 2));
    assert_eq!(world.writes(ArchiveWrite::QueueFull), 1);
    // Nothing else is left: the ones that wait give their memory, too.
    let last = [(); 3].map(|()| residents.evict_one().is_some());
    assert_eq!(last, [true, true, false]);
    assert_eq!(world.writes(ArchiveWrite::Dropped), 2);
    world.archiver().pause(false);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_pass_archives_only_what_it_can_spare_and_says_so() {
    let world = archived(8);
    let indices = world.upload_many(6).await;
    world.archiver().pause(true);
    for &index in &indices {
        world.access(index).await;
    }
    let held = world.flyweights.held_bytes();
    assert_eq!(held, 6 * TEXTURE);
    let some = world.flyweights.shrink_to(4 * TEXTURE);
    assert_eq!(
        (
            some.archived,
            some.archived_bytes,
            some.evicted,
            some.freed_bytes
        ),
        (2, 2 * TEXTURE, 2, 2 * TEXTURE),
        "what waits is not counted as freed"
    );
    assert_eq!(some.held_bytes, 4 * TEXTURE);
    let there: Vec<bool> = indices
        .iter()
        .map(|&index| {
            let slot = world.flyweights.catalogue.slot(index).expect("slot");
            slot.cell().look().resident
        })
        .collect();
    assert_eq!(there, [true, true, false, false, true, true]);
    let all = world.flyweights.shrink_to(0);
    assert_eq!(
        (all.archived, all.evicted, all.held_bytes),
        (0, 4, 0),
        "the target counts more than the archive"
    );
    assert_eq!(world.writes(ArchiveWrite::Dropped), 2);
    world.archiver().pause(false);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn in_critical_nothing_is_archived_and_the_queue_is_dropped() {
    let world = archived(8);
    let indices = world.upload_many(6).await;
    world.archiver().pause(true);
    for &index in &indices {
        world.access(index).await;
    }
    world.flyweights.shrink_to(5 * TEXTURE);
    assert_eq!(world.queued(), 2);
    world.budget.set_growth_open(false);
    let report = world.flyweights.shrink_to(2 * TEXTURE);
    assert_eq!((world.queued(), report.archived), (0, 0));
    assert_eq!((report.evicted, report.held_bytes), (3, 2 * TEXTURE));
    assert!(world.flyweights.residents.evict_one().is_some());
    assert_eq!(world.queued(), 0);
    world.budget.set_growth_open(true);
    world.archiver().pause(false);
    world.is_empty_at_the_end();
}

/// What fits no block of the pool is freed as it is withdrawn: no idle block stands for it.
#[tokio::test]
async fn a_large_texture_that_is_withdrawn_counts_as_freed() {
    let dir = tempfile::tempdir().expect("directory");
    let roomy = FlyweightsConfig {
        archiving: ArchivingConfig {
            queue_bytes_max: 64 * MIB,
            queue_share: 2,
            ..ArchivingConfig::default()
        },
        ..config()
    };
    let world = archived_in(dir, roomy, 80, AMPLE);
    let held = large(&world, 1).await;
    world.archiver().pause(true);
    let index = world.flyweights.resolve("large0").expect("live");
    let slot = world.flyweights.catalogue.slot(index).expect("slot");
    let residents = world.flyweights.residents;
    assert!(residents.archives(slot, held, EvictionReason::Capacity));
    world.budget.set_growth_open(false);
    let flyweights = Arc::clone(&world.flyweights);
    let report = crate::memory::aside::run(move || flyweights.shrink_to(0)).await;
    let report = report.expect("a runtime that goes on");
    assert_eq!(
        (report.evicted, report.freed_bytes, report.held_bytes),
        (1, held, 0)
    );
    world.budget.set_growth_open(true);
    world.archiver().pause(false);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_reservation_is_not_told_of_bytes_that_only_wait() {
    let world = archived(4);
    let indices = world.upload_many(4).await;
    world.archiver().pause(true);
    for &index in &indices {
        world.access(index).await;
    }
    let (residents, pool) = (world.flyweights.residents, &world.flyweights.pool);
    let before = world.budget.used();
    let freed = residents.reclaim(pool, TEXTURE);
    assert_eq!((freed, world.queued()), (TEXTURE, 1));
    assert_eq!(before - world.budget.used(), freed);
    world.archiver().pause(false);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn what_is_archived_already_is_not_written_again() {
    let world = archived(2);
    let indices = world.upload_many(3).await;
    world.archive_all(&indices).await;
    assert_eq!(world.writes(ArchiveWrite::Ok), 3);
    for round in 0..9 {
        world.access(indices[round % 3]).await;
    }
    assert_eq!(world.writes(ArchiveWrite::Ok), 3);
    assert_eq!(world.writes(ArchiveWrite::Present), 7);
    assert_eq!(world.reads(ArchiveRead::Hit), 9);
    assert_eq!(world.queued(), 0);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_replace_is_never_answered_from_the_archive_and_takes_the_old_file_along() {
    let world = archived(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    world.archive_all(&[index]).await;
    let old = world.archive_file(index);
    assert!(old.exists());
    world.upload("beach", [2, 2, 2]).await;
    assert!(!old.exists());
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!((lease.version(), first_pixel(&lease)), (2, [2, 2, 2, 255]));
    assert_eq!(world.reads(ArchiveRead::Hit), 0);
    drop(lease);
    world.archive_all(&[index]).await;
    let removed = world.flyweights.delete("beach", Precondition::None).await;
    removed.expect("delete");
    assert_eq!((world.archive().entries(), world.archive().bytes()), (0, 0));
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_texture_that_is_replaced_while_it_waits_is_not_written() {
    let world = archived(4);
    let index = world.upload("beach", [1, 1, 1]).await.index;
    drop(world.lease(index).await.expect("lease"));
    world.archiver().pause(true);
    let slot = world.flyweights.catalogue.slot(index).expect("slot");
    let residents = world.flyweights.residents;
    assert!(residents.archives(slot, TEXTURE, EvictionReason::Capacity));
    world.upload("beach", [2, 2, 2]).await;
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!(first_pixel(&lease), [2, 2, 2, 255], "beside the old one");
    world.archiver().pause(false);
    world.archiver().settle();
    assert_eq!(world.writes(ArchiveWrite::Overtaken), 1);
    assert_eq!(world.archive().entries(), 0);
    assert_eq!(world.budget.used_by(Purpose::Textures), TEXTURE);
    assert_eq!(
        (
            world.evicted(EvictionReason::Replaced),
            world.evicted(EvictionReason::Capacity)
        ),
        (1, 0)
    );
    drop(lease);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn without_an_archive_evictions_are_what_they_were() {
    let world = World::of(2);
    let indices = world.upload_many(3).await;
    for &index in &indices {
        world.access(index).await;
    }
    assert_eq!(world.evicted(EvictionReason::Capacity), 1);
    let writes = &world.metrics.archive.writes_total;
    let reads = &world.metrics.archive.reads_total;
    assert!(
        ArchiveWrite::ALL
            .iter()
            .all(|result| writes.of(*result).get() == 0)
    );
    assert!(
        ArchiveRead::ALL
            .iter()
            .all(|result| reads.of(*result).get() == 0)
    );
}

/// Leases, replaces and passes against a cache that is too small, with the archive behind it: every pixel is of the version
/// that the lease says, and nothing is left at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn leases_stay_whole_while_everything_is_archived_shrunk_and_replaced() {
    const BACKGROUNDS: usize = 6;
    let world = Arc::new(archived(4));
    let indices = world.upload_many(BACKGROUNDS as u8).await;
    let stop = Arc::new(AtomicBool::new(false));
    let shrinker = std::thread::spawn({
        let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                world.flyweights.shrink_to(2 * TEXTURE);
            }
        }
    });
    let readers: Vec<_> = (0..3usize)
        .map(|reader| {
            let (world, indices) = (Arc::clone(&world), indices.clone());
            tokio::spawn(async move {
                for round in 0..80usize {
                    let number = (reader + round * 5) % BACKGROUNDS;
                    let lease = match world.lease(indices[number]).await {
                        Ok((lease, _)) => lease,
                        // Too many pinned at once, or replaced again and again: nothing else may happen.
                        Err(LeaseError::Exhausted | LeaseError::Overtaken) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    let wanted = [number as u8, 0, lease.version() as u8, 255];
                    let pixels = lease.pixels().data().as_chunks::<4>().0;
                    assert!(pixels.iter().all(|pixel| *pixel == wanted), "other pixels");
                }
            })
        })
        .collect();
    for version in 2..5u8 {
        for number in 0..BACKGROUNDS as u8 {
            world
                .upload(&format!("b{number:03}"), [number, 0, version])
                .await;
        }
    }
    for reader in readers {
        reader.await.expect("reader");
    }
    stop.store(true, Ordering::Relaxed);
    shrinker.join().expect("shrinker");
    world.is_empty_at_the_end();
    let archive = world.archive();
    let live = archive.entries();
    assert!(live <= BACKGROUNDS, "one version of each at most");
    let files = std::fs::read_dir(archive_dir(&world.dir)).expect("directory");
    assert_eq!(files.count(), live + 1, "and the lock");
}
