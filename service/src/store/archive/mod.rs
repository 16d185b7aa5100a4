//! The archive: decoded pixels on local disk, so that a texture that was evicted comes back by a read instead of a decode.
//!
//! A cache and nothing else. Whatever is wrong with it (a full disk, a corrupt or truncated file, a slow disk, a crash between
//! write and rename) ends in a miss with a reason, and the caller decodes. It knows pixels as bytes and a size, neither blocks
//! nor leases, and it does no I/O on its own: who calls chooses the thread.
//!
//! Invariants: a file is read as what it was written for or not at all, since id, version, checksum of the source and size stand in
//! its header and a checksum covers its pixels; it is renamed into place only when it is whole; the files never take more than
//! the limit, the one being written included; neither writing nor reading leaves page cache behind (see [`file`]).

mod file;
mod index;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::lock::DirLock;
use super::{StoreError, Stored};
use crate::failpoints;
use crate::metrics::{ArchiveRead, ArchiveRemoval, ArchiveWrite, Metrics};
use file::{Flaw, Name, Transfer};
use index::{Held, Index};

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// Directory of the files, this process's alone. Files of other names in it are left as they are.
    pub dir: PathBuf,
    /// Bytes that the files may take.
    pub bytes_max: u64,
    /// How long nothing is written after a write failed: a full disk is not asked again for every texture.
    pub pause: Duration,
}

impl ArchiveConfig {
    /// Defaults for a directory and a limit.
    pub fn at(dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        Self {
            dir: dir.into(),
            bytes_max,
            pause: Duration::from_secs(1),
        }
    }
}

/// Whether a texture should be written, without touching the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is not there and would fit.
    Wanted,
    /// Not now or not ever, for this reason.
    Refused(ArchiveWrite),
}

/// See the file's description.
#[derive(Debug)]
pub struct Archive {
    config: ArchiveConfig,
    transfer: Transfer,
    index: Mutex<Index>,
    paused_until: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
    _lock: DirLock,
}

impl Archive {
    /// Opens the directory, makes it if it is not there, and takes in the whole files of an earlier life, as far as the limit
    /// allows. What a crash left half-written is removed.
    pub fn open(config: ArchiveConfig, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let failed =
            |cause: io::Error| StoreError::Io(format!("archive {}: {cause}", config.dir.display()));
        std::fs::create_dir_all(&config.dir).map_err(failed)?;
        let lock = DirLock::take(&config.dir).map_err(|error| match error {
            StoreError::InUse { dir } => StoreError::ArchiveInUse { dir },
            other => other,
        })?;
        if file::is_memory(&config.dir) {
            tracing::warn!(
                dir = %config.dir.display(),
                "the archive lies in memory (tmpfs): it costs what it is there to save"
            );
        }
        let archive = Self {
            transfer: Transfer::probe(&config.dir),
            config,
            index: Mutex::default(),
            paused_until: Mutex::default(),
            metrics,
            _lock: lock,
        };
        archive
            .metrics
            .archive
            .limit_bytes
            .set(archive.config.bytes_max as i64);
        archive.scan().map_err(|cause| {
            StoreError::Io(format!("archive {}: {cause}", archive.config.dir.display()))
        })?;
        tracing::info!(
            dir = %archive.config.dir.display(),
            transfer = ?archive.transfer,
            entries = archive.entries(),
            bytes = archive.bytes(),
            bytes_max = archive.config.bytes_max,
            "archive opened"
        );
        Ok(archive)
    }

    /// Textures in it.
    pub fn entries(&self) -> usize {
        self.index.lock().len()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.index.lock().bytes()
    }

    /// Whether the pixels of this very version of this very source are there. No I/O.
    pub fn holds(&self, entry: &Stored) -> bool {
        self.index.lock().find(entry).is_some()
    }

    /// Whether [`Archive::write`] is worth a try. No I/O.
    pub fn admits(&self, entry: &Stored) -> Admission {
        if file::length(entry) > self.config.bytes_max {
            return Admission::Refused(ArchiveWrite::TooLarge);
        }
        if self.holds(entry) {
            return Admission::Refused(ArchiveWrite::Present);
        }
        if self.is_paused() {
            return Admission::Refused(ArchiveWrite::Paused);
        }
        Admission::Wanted
    }

    fn is_paused(&self) -> bool {
        let mut until = self.paused_until.lock();
        if until.is_some_and(|until| Instant::now() >= until) {
            *until = None;
        }
        until.is_some()
    }

    /// Writes the pixels of `entry`, making room by removing what was used least recently. `go_on` is asked between pieces;
    /// when it says no, the rest is not written. Blocks for as long as the disk takes. One caller at a time.
    pub fn write(&self, entry: &Stored, pixels: &[u8], go_on: &dyn Fn() -> bool) -> ArchiveWrite {
        if let Admission::Refused(reason) = self.admits(entry) {
            return reason;
        }
        let started = Instant::now();
        let result = match self.try_write(entry, pixels, go_on) {
            Ok(result) => result,
            Err(cause) => {
                *self.paused_until.lock() = Some(Instant::now() + self.config.pause);
                tracing::warn!(id = &*entry.id, version = entry.version, %cause, pause = ?self.config.pause, "archive write failed");
                match cause.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        ArchiveWrite::DiskFull
                    }
                    _ => ArchiveWrite::Error,
                }
            }
        };
        if result == ArchiveWrite::Ok {
            self.metrics
                .archive
                .write_duration_seconds
                .observe(started.elapsed().as_secs_f64());
        }
        result
    }

    fn try_write(
        &self,
        entry: &Stored,
        pixels: &[u8],
        go_on: &dyn Fn() -> bool,
    ) -> io::Result<ArchiveWrite> {
        let bytes = file::length(entry);
        self.shrink_to(self.config.bytes_max - bytes);
        failpoints::delay_blocking(failpoints::STORE_ARCHIVE_SLOW);
        if failpoints::hit(failpoints::STORE_ARCHIVE_DISK_FULL) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if failpoints::hit(failpoints::STORE_ARCHIVE_WRITE_ERROR) {
            return Err(io::Error::other("injected by a failpoint"));
        }
        let name = Name::of(entry);
        let (aside, path) = (self.path(&name.aside()), self.path(&name.file()));
        let written = file::write(&aside, entry, pixels, self.transfer, go_on).and_then(|whole| {
            if whole {
                std::fs::rename(&aside, &path).map(|()| whole)
            } else {
                Ok(whole)
            }
        });
        if !matches!(written, Ok(true)) {
            // What is not whole takes no place. If even this fails, the next write of the same name or the next start removes it.
            drop(std::fs::remove_file(&aside));
        }
        if !written? {
            return Ok(ArchiveWrite::Dropped);
        }
        let replaced = self.index.lock().insert(entry, bytes);
        match replaced {
            Ok(older) => {
                if let Some(older) = older {
                    self.unlink(&Name::new(&entry.id, &older), ArchiveRemoval::Outdated);
                }
                self.publish();
                Ok(ArchiveWrite::Ok)
            }
            Err(_newer) => {
                self.unlink(&name, ArchiveRemoval::Outdated);
                Ok(ArchiveWrite::Overtaken)
            }
        }
    }

    /// Reads the pixels of `entry` into `pixels`, which must be exactly as long as they are. On anything but `Hit` what `pixels`
    /// holds is undefined; a file that was found damaged is removed. Blocks for as long as the disk takes.
    pub fn read(&self, entry: &Stored, pixels: &mut [u8]) -> ArchiveRead {
        let Some(born) = self.index.lock().find(entry).map(|held| held.born) else {
            return ArchiveRead::Absent;
        };
        let started = Instant::now();
        failpoints::delay_blocking(failpoints::STORE_ARCHIVE_SLOW);
        let read = if failpoints::hit(failpoints::STORE_ARCHIVE_READ_ERROR) {
            Err(Flaw::Io(io::Error::other("injected by a failpoint")))
        } else {
            let path = self.path(&Name::of(entry).file());
            file::read(&path, entry, pixels, self.transfer)
        };
        match read {
            Ok(()) => {
                self.index.lock().touch(&entry.id, born);
                self.metrics
                    .archive
                    .read_duration_seconds
                    .observe(started.elapsed().as_secs_f64());
                ArchiveRead::Hit
            }
            Err(flaw) => {
                self.give_up(entry, born, &flaw);
                flaw.result()
            }
        }
    }

    /// Removes a file that cannot be read: the next eviction writes it anew.
    fn give_up(&self, entry: &Stored, born: u64, flaw: &Flaw) {
        tracing::warn!(id = &*entry.id, version = entry.version, %flaw, "archived texture cannot be read");
        // The file first: as long as the index holds it, nobody writes it anew.
        self.unlink(&Name::of(entry), ArchiveRemoval::Damaged);
        self.index.lock().remove_born(&entry.id, born);
        self.publish();
    }

    /// Removes what is held of `id` up to `version`: it was replaced or deleted.
    pub fn forget(&self, id: &str, version: u32) {
        let removed = {
            let mut index = self.index.lock();
            let outdated = index.held(id).is_some_and(|held| held.version <= version);
            outdated.then(|| index.remove(id)).flatten()
        };
        if let Some(held) = removed {
            self.unlink(&Name::new(id, &held), ArchiveRemoval::Outdated);
            self.publish();
        }
    }

    /// Removes all but the versions in `live`, which gives version and checksum of the source by id.
    pub fn retain(&self, live: &HashMap<String, (u32, u64)>) {
        let doomed = self
            .index
            .lock()
            .take_unless(|id, held| live.get(id) == Some(&(held.version, held.checksum)));
        for (id, held) in &doomed {
            self.unlink(&Name::new(id, held), ArchiveRemoval::Outdated);
        }
        self.publish();
    }

    /// Removes what was used least recently until at most `bytes` are held.
    fn shrink_to(&self, bytes: u64) {
        loop {
            let oldest = {
                let mut index = self.index.lock();
                let over = index.bytes() > bytes;
                over.then(|| index.take_oldest()).flatten()
            };
            let Some((id, held)) = oldest else {
                return self.publish();
            };
            self.unlink(&Name::new(&id, &held), ArchiveRemoval::Limit);
        }
    }

    /// Builds the index anew from what lies in the directory. The order of use is not kept: the order of writing stands for it.
    fn scan(&self) -> io::Result<()> {
        let mut found: Vec<(SystemTime, Name, u64)> = Vec::new();
        for entry in std::fs::read_dir(&self.config.dir)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else {
                continue;
            };
            if Name::is_aside(text) {
                self.remove(text, ArchiveRemoval::Leftover);
                continue;
            }
            let Some(name) = Name::parse(text) else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) if meta.is_file() && file::is_plausible(meta.len()) => {
                    let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.push((written, name, meta.len()));
                }
                Ok(meta) if meta.is_file() => self.remove(text, ArchiveRemoval::Damaged),
                _ => {}
            }
        }
        found.sort_by_key(|(written, ..)| *written);
        for (_, name, bytes) in found {
            let outdated = match self.index.lock().adopt(&name, bytes) {
                Ok(older) => older.map(|older| Name::new(&name.id, &older)),
                Err(_newer) => Some(name),
            };
            if let Some(name) = outdated {
                self.unlink(&name, ArchiveRemoval::Outdated);
            }
        }
        self.shrink_to(self.config.bytes_max);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.config.dir).join(name)
    }

    fn unlink(&self, name: &Name, reason: ArchiveRemoval) {
        self.remove(&name.file(), reason);
    }

    /// Best effort: what stays takes place that the index does not know of, until the next start.
    fn remove(&self, name: &str, reason: ArchiveRemoval) {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => {
                self.metrics.archive.removals_total.of(reason).inc();
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => tracing::warn!(name, %cause, "archived file cannot be removed"),
        }
    }

    fn publish(&self) {
        let index = self.index.lock();
        self.metrics.archive.bytes.set(index.bytes() as i64);
        self.metrics.archive.entries.set(index.len() as i64);
    }
}

impl Name {
    fn new(id: &str, held: &Held) -> Self {
        Self {
            id: id.to_owned(),
            version: held.version,
            checksum: held.checksum,
        }
    }
}
