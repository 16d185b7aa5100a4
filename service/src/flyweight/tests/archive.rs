//! Textures on their way to the archive and back: what counts as freed, who gets them back, and what faults come to.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::flyweight::archiver::Archiver;
use crate::metrics::{ArchiveRead, ArchiveRemoval, ArchiveWrite};
use crate::store::archive::{Archive, ArchiveConfig};

/// Room for all textures of these tests.
const AMPLE: u64 = 64 * MIB;
/// Bytes of one texture's file.
const FILE: u64 = TEXTURE + 4096;

fn archive_dir(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("archive")
}

/// Room for exactly `textures` textures, and behind them an archive. The queue has room for two.
fn archived_in(
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

fn slow_to_give_up() -> FlyweightsConfig {
    FlyweightsConfig {
        archiving: ArchivingConfig {
            queue_bytes_max: 2 * TEXTURE,
            read_timeout: Duration::from_secs(30),
            ..ArchivingConfig::default()
        },
        ..config()
    }
}

fn archived(textures: u64) -> World {
    let dir = tempfile::tempdir().expect("directory");
    archived_in(dir, slow_to_give_up(), textures, AMPLE)
}

impl World {
    fn archiver(&self) -> Arc<Archiver> {
        let archiver = self.flyweights.residents.archiver.read();
        Arc::clone(archiver.as_ref().expect("an archive"))
    }

    fn archive(&self) -> Arc<Archive> {
        let archive = self.flyweights.loader.store.archive();
        Arc::clone(archive.expect("an archive"))
    }

    fn reads(&self, result: ArchiveRead) -> u64 {
        self.metrics.archive.reads_total.of(result).get()
    }

    fn writes(&self, result: ArchiveWrite) -> u64 {
        self.metrics.archive.writes_total.of(result).get()
    }

    fn queued(&self) -> i64 {
        self.metrics.archive.queue_textures.get()
    }

    fn evicted(&self, reason: EvictionReason) -> u64 {
        self.metrics.flyweight.evictions_total.of(reason).get()
    }

    /// Has the textures of `indices` archived and evicted.
    async fn archive_all(&self, indices: &[u32]) {
        for &index in indices {
            let slot = self.flyweights.catalogue.slot(index).expect("slot");
            drop(self.lease(index).await.expect("lease"));
            let residents = self.flyweights.residents;
            assert!(residents.archives(slot, TEXTURE, EvictionReason::Pressure));
            self.archiver().settle();
        }
    }

    /// The file of a background's present version in the archive.
    fn archive_file(&self, index: u32) -> PathBuf {
        let identity = self.flyweights.identity(index).expect("live");
        let stored = &identity.stored;
        archive_dir(&self.dir).join(format!(
            "{}.{:010}.{:016x}.pixels",
            stored.id, stored.version, stored.checksum
        ))
    }

    /// Nothing is held, by whatever count.
    fn is_empty_at_the_end(&self) {
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

/// A picture that does not fill its last page, every pixel another.
fn gradient(width: u32, height: u32) -> Bytes {
    let size = Size::new(width, height);
    let data: Vec<u8> = (0..size.pixels() as u32)
        .flat_map(|at| {
            let [a, b, c, _] = at.wrapping_mul(2_654_435_761).to_le_bytes();
            [a, b, c, 255]
        })
        .collect();
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, size).expect("size"), &mut out).expect("png");
    out.into()
}

#[tokio::test]
async fn what_the_archive_gives_back_equals_the_decode() {
    let world = archived(4);
    for (number, (width, height)) in [(333, 77), (512, 256), (1, 1)].into_iter().enumerate() {
        let id = format!("b{number}");
        let upload = world
            .flyweights
            .upload(&id, gradient(width, height), Precondition::None)
            .await;
        let index = upload.expect("upload").index;
        let (lease, _) = world.lease(index).await.expect("lease");
        let decoded = lease.pixels().data().to_vec();
        drop(lease);
        world.archive_all(&[index]).await;
        let (read, access) = world.lease(index).await.expect("lease");
        assert_eq!(
            (access, read.size()),
            (Access::Miss, Size::new(width, height))
        );
        assert!(read.pixels().data() == decoded, "{width}x{height}");
        assert_eq!(world.reads(ArchiveRead::Hit), number as u64 + 1);
    }
    world.is_empty_at_the_end();
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
            slot.cell().is_some_and(|cell| cell.look().resident)
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
async fn damaged_files_end_in_a_decode_and_are_written_anew() {
    let world = archived(4);
    let indices = world.upload_many(3).await;
    world.archive_all(&indices).await;
    let [flipped, cut, gone] = [0, 1, 2].map(|at: usize| world.archive_file(indices[at]));
    let mut bytes = std::fs::read(&flipped).expect("file");
    bytes[100_000] ^= 1;
    std::fs::write(&flipped, bytes).expect("written");
    let file = std::fs::File::options().write(true).open(&cut);
    file.expect("file").set_len(200_000).expect("cut");
    std::fs::remove_file(&gone).expect("removed");
    for (at, &index) in indices.iter().enumerate() {
        let (lease, access) = world.lease(index).await.expect("lease");
        assert_eq!(access, Access::Miss);
        let pixels = lease.pixels().data().as_chunks::<4>().0;
        assert!(pixels.iter().all(|pixel| *pixel == [at as u8, 0, 1, 255]));
    }
    let misses = [ArchiveRead::Corrupt, ArchiveRead::Truncated];
    assert_eq!(misses.map(|miss| world.reads(miss)), [1, 1]);
    // Three first loads, and the file that had gone.
    assert_eq!(world.reads(ArchiveRead::Absent), 3 + 1);
    assert_eq!(world.loads(LoadResult::Error), 0);
    let removals = &world.metrics.archive.removals_total;
    assert_eq!(removals.of(ArchiveRemoval::Damaged).get(), 2);
    world.archive_all(&indices).await;
    for &index in &indices {
        world.access(index).await;
    }
    assert_eq!(world.reads(ArchiveRead::Hit), 3);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_read_that_takes_too_long_is_given_up_and_its_block_comes_back() {
    let dir = tempfile::tempdir().expect("directory");
    let impatient = FlyweightsConfig {
        archiving: ArchivingConfig {
            read_timeout: Duration::from_nanos(1),
            readers: 1,
            ..ArchivingConfig::default()
        },
        ..config()
    };
    let world = archived_in(dir, impatient, 4, AMPLE);
    let indices = world.upload_many(1).await;
    world.archive_all(&indices).await;
    // tokio looks at the read before it looks at the clock, so that a read may still come in time; hardly ever each time.
    let mut rounds = 0;
    while world.reads(ArchiveRead::Timeout) == 0 {
        rounds += 1;
        assert!(rounds < 1000, "no read was ever given up");
        let (lease, _) = world
            .lease(indices[0])
            .await
            .expect("a timeout is no error");
        assert_eq!(first_pixel(&lease), [0, 0, 1, 255]);
        drop(lease);
        world.flyweights.invalidate(indices[0]);
    }
    // The thread that read on has its turn until it ends; then everything is given back.
    while world.budget.used_by(Purpose::Textures) > 0 {
        tokio::task::yield_now().await;
    }
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn the_archive_has_its_own_limit_and_order() {
    let dir = tempfile::tempdir().expect("directory");
    let world = archived_in(dir, slow_to_give_up(), 4, 2 * FILE);
    let indices = world.upload_many(3).await;
    world.archive_all(&indices[..2]).await;
    world.access(indices[0]).await;
    world.flyweights.invalidate(indices[0]);
    world.archive_all(&indices[2..]).await;
    let there = |at: usize| world.archive_file(indices[at]).exists();
    assert_eq!([0, 1, 2].map(there), [true, false, true]);
    assert_eq!(world.archive().bytes(), 2 * FILE);
    assert_eq!(world.metrics.archive.bytes.get() as u64, 2 * FILE);
    world.is_empty_at_the_end();
}

#[tokio::test]
async fn a_restart_reads_what_was_archived_and_prunes_what_is_no_longer_in_the_catalogue() {
    let world = archived(4);
    let indices = world.upload_many(3).await;
    world.archive_all(&indices).await;
    let (kept, pruned) = (
        world.archive_file(indices[0]),
        world.archive_file(indices[1]),
    );
    let World {
        flyweights, dir, ..
    } = world;
    drop(flyweights);
    // While the service was down, one background's source went.
    let backgrounds = dir.path().join("backgrounds");
    std::fs::remove_dir_all(backgrounds.join("b001")).expect("removed");
    let world = archived_in(dir, slow_to_give_up(), 4, AMPLE);
    assert_eq!(world.archive().entries(), 3);
    let report = world.flyweights.recover().await.expect("recovery");
    assert_eq!((report.live, world.archive().entries()), (2, 2));
    assert!(kept.exists() && !pruned.exists());
    let index = world.flyweights.resolve("b000").expect("live");
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!(first_pixel(&lease), [0, 0, 1, 255]);
    assert_eq!(
        (
            world.reads(ArchiveRead::Hit),
            world.reads(ArchiveRead::Absent)
        ),
        (1, 0),
        "in the first life of the process it was decoded, in this one read"
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
