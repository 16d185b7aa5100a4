//! One run at a time: two would disturb each other's figures, and neither would know why.
//!
//! The kernel lets go of the lock when its holder ends, however that comes, so there is nothing to clean up; what the file says is for
//! people alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::HostError;
use super::process::ProcessId;
use super::{files, ours};

/// Name of the file in the folder of the undo logs.
const FILE: &str = "run.lock";

/// Held until it is dropped; its last holder takes the file away.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    file: File,
}

impl RunLock {
    /// Takes the lock of this folder, which is made, for a run that is to be alone.
    ///
    /// # Errors
    /// Another run has it: [`HostError::AnotherRun`]. Or the folder is not ours alone.
    pub fn take(dir: &Path) -> Result<Self, HostError> {
        let path = dir.join(FILE);
        take(&path, File::try_lock)?.map_err(|mut file| another(&mut file))
    }

    /// Takes it together with others for a run beside them, so that one that is to be alone does not begin meanwhile. None where such
    /// a one is under way.
    ///
    /// # Errors
    /// The folder is not ours alone.
    pub fn share(dir: &Path) -> Result<Option<Self>, HostError> {
        take(&dir.join(FILE), File::try_lock_shared).map(Result::ok)
    }
}

/// The lock, or the file if another has it.
fn take(
    path: &Path,
    try_lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<Result<RunLock, File>, HostError> {
    let dir = path.parent().unwrap_or(path);
    loop {
        ours::make_private(dir)?;
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path);
        let mut file = match opened {
            // The last of the others took the folder with it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(HostError::io("opening", path))?,
        };
        match try_lock(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(file)),
            Err(TryLockError::Error(cause)) => {
                return Err(HostError::io("locking", path)(cause));
            }
        }
        // Its last holder took it away between our opening and our locking: what we hold is no longer there.
        if !is_at(&file, path) {
            continue;
        }
        let us = files::process_id(std::process::id());
        let line = us.and_then(|us| serde_json::to_string(&us).ok());
        // Of those who share it, the last to come is named.
        file.set_len(0)
            .and_then(|()| file.write_all(line.unwrap_or_default().as_bytes()))
            .map_err(HostError::io("writing", path))?;
        let path = path.to_owned();
        return Ok(Ok(RunLock { path, file }));
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // While it is still held, so that nobody else's is taken away; those who share it keep it from being held by us alone.
        if self.file.try_lock().is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same =
        |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => same(ours, there),
        _ => false,
    }
}

fn another(file: &mut File) -> HostError {
    let mut text = String::new();
    // What cannot be read, or is not written yet, names nobody.
    let _ = file.read_to_string(&mut text);
    HostError::AnotherRun {
        by: serde_json::from_str::<ProcessId>(&text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_has_the_lock_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = RunLock::take(dir.path()).expect("nobody has it");
        let refused = RunLock::take(dir.path()).expect_err("it is held");
        let HostError::AnotherRun { by: Some(by) } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(*by, files::process_id(std::process::id()).expect("we live"));
        let words = refused.to_string();
        assert!(
            words.contains(&by.pid.to_string()) && words.contains("--beside"),
            "{words}"
        );
        drop(first);
        assert!(!dir.path().join(FILE).exists());
        drop(RunLock::take(dir.path()).expect("free again"));
    }

    #[test]
    fn runs_beside_each_other_keep_one_that_is_to_be_alone_from_beginning() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let share = || RunLock::share(dir.path()).expect("the folder is ours");
        let alone = RunLock::take(dir.path()).expect("nobody has it");
        assert!(share().is_none(), "one beside a run has no lock");
        drop(alone);
        let (one, other) = (share().expect("free"), share().expect("shared"));
        for holder in [one, other] {
            let refused = RunLock::take(dir.path()).expect_err("it is held");
            assert!(
                matches!(refused, HostError::AnotherRun { by: Some(_) }),
                "{refused}"
            );
            drop(holder);
        }
        assert!(!dir.path().join(FILE).exists());
        drop(RunLock::take(dir.path()).expect("free again"));
    }

    #[test]
    fn what_a_dead_runner_left_is_no_lock() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join(FILE), "{\"pid\":1,\"start_ticks\":1}").expect("written");
        drop(RunLock::take(dir.path()).expect("nobody holds it"));
    }
}
