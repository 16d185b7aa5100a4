//! What an archive spares a caller: the lease of an evicted texture that lies in one, against that of one that is decoded anew. Both
//! sides lease as a request does, from a service's core with uploads on the same disk, and each lease evicts another texture first.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backdrop_service::flyweight::ArchivingConfig;
use backdrop_service::metrics::Metrics;
use backdrop_service::store::archive::{Archive, ArchiveConfig};
use backdrop_service::store::{Store, StoreConfig};

use crate::rounds::in_turns;
use crate::support::{Figure, median};
use crate::world::{FULL_HD, MIB, World, ms_since};

/// Textures that fit, and backgrounds; asked for one after the other, none is still there when its turn comes again.
const FITS: u64 = 16;
const BACKGROUNDS: usize = 32;
const ROUNDS: usize = 5;
/// Passes over all backgrounds until each is archived: a texture for which the queue has no place waits for the next one.
const PASSES_MAX: usize = 50;

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// A folder beside this program, which lies on a disk where `/tmp` may not.
fn folder() -> io::Result<tempfile::TempDir> {
    let program = std::env::current_exe()?;
    let beside = program.parent().unwrap_or(&program);
    tempfile::tempdir_in(beside)
}

fn store(folder: &tempfile::TempDir) -> io::Result<Store> {
    Store::open(StoreConfig::at(folder.path().join("uploads"))).map_err(failed)
}

fn with_archive(folder: &tempfile::TempDir) -> io::Result<(World, Vec<u32>)> {
    let metrics = Arc::new(Metrics::default());
    let room = BACKGROUNDS as u64 * 9 * MIB;
    let config = ArchiveConfig::at(folder.path().join("archive"), room);
    let archive = Archive::open(config, Arc::clone(&metrics)).map_err(failed)?;
    let store = store(folder)?.with_archive(archive);
    let world = World::over(store, FITS * 8 * MIB, metrics, ArchivingConfig::default())?;
    let indices = world.upload(BACKGROUNDS, FULL_HD)?;
    let written = || world.metric("backdrop_archive_writes_total{result=\"ok\"}");
    for _ in 0..PASSES_MAX {
        for &index in &indices {
            drop(world.lease(index)?);
            pause();
        }
        if written()? >= BACKGROUNDS as f64 {
            return Ok((world, indices));
        }
    }
    Err(failed(format!("{} textures archived", written()?)))
}

/// Time for the archive's thread to write one, before the next eviction.
#[allow(
    clippy::disallowed_methods,
    reason = "before anything is measured, and bounded"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Median of a lease of each, in milliseconds.
fn leases(world: &World, indices: &[u32]) -> io::Result<[f64; 1]> {
    let mut times = Vec::with_capacity(indices.len());
    for &index in indices {
        let started = Instant::now();
        let lease = world.lease(index)?;
        times.push(ms_since(started));
        drop(lease);
    }
    Ok([median(times)])
}

pub fn archive() -> io::Result<Vec<Figure>> {
    let (ours, theirs) = (folder()?, folder()?);
    let (archived, indices) = with_archive(&ours)?;
    let metrics = Arc::new(Metrics::default());
    let room = FITS * 8 * MIB;
    let bare = World::over(store(&theirs)?, room, metrics, ArchivingConfig::default())?;
    let others = bare.upload(BACKGROUNDS, FULL_HD)?;
    bare.warm(&others)?;
    let read = || archived.metric("backdrop_archive_reads_total{result=\"hit\"}");
    let before = read()?;
    let ([ms], [decoded_ms]) = in_turns(
        ROUNDS,
        || leases(&archived, &indices),
        || leases(&bare, &others),
    )?;
    let share = (read()? - before) / (ROUNDS * BACKGROUNDS) as f64;
    Ok(vec![
        Figure::new("lease of an archived 1080p texture", "ms", ms)
            .goal(1.0)
            .peer("lease that decodes it", decoded_ms),
        // The time is that of a read only if this is all of them.
        Figure::new("leases of archived textures that were read", "share", share)
            .higher_is_better()
            .goal(1.0),
    ])
}
