//! Textures on their way back from the archive: whole or not at all, within its limit, and over a restart.

use super::archive::{AMPLE, FILE, archived, archived_in, slow_to_give_up};
use super::*;
use crate::metrics::{ArchiveRead, ArchiveRemoval};

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
