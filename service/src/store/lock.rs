//! The lock on the data directory: one process writes it at a time. Two would give out the same version numbers, and each would
//! remove files of the other's.
//!
//! It is the kernel's lock on an open file, so it ends with the process, however that ends; the file itself says nothing and stays.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::StoreError;

const NAME: &str = "lock";

/// Held for as long as it lives.
#[derive(Debug)]
pub(super) struct DirLock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl DirLock {
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let failed = |cause: std::io::Error| StoreError::Io(format!("{}: {cause}", path.display()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
                dir: dir.display().to_string(),
            }),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }
}
