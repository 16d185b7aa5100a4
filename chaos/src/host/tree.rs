//! Folders of the cgroup filesystem: making them, emptying them of processes, taking them away.
//!
//! The same for v1 and v2. Refuses to touch a folder that is not ours by name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::Removed;
use super::error::HostError;
use super::{files, sys};

/// What every folder of ours begins with.
pub const PREFIX: &str = "backdrop-";

/// Time that killing and removing may take.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// Time between two tries: exiting processes leave their cgroup a little after their end.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// Makes one folder; an existing one is an error, as it would be somebody else's.
pub fn make(path: &Path) -> Result<(), HostError> {
    fs::create_dir(path).map_err(HostError::io("making", path))
}

/// Tries whether a child can be made here, by making one, handing it to `look` and removing it.
pub fn probe(
    base: &Path,
    look: impl FnOnce(&Path) -> Result<(), HostError>,
) -> Result<(), HostError> {
    let path = base.join(format!("{PREFIX}probe-{}-{}", std::process::id(), serial()));
    make(&path)?;
    let found = look(&path);
    let removed = fs::remove_dir(&path).map_err(HostError::io("removing", &path));
    found.and(removed)
}

/// A number that no other caller in this process has.
pub fn serial() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Processes directly in this cgroup. Zero stands for one outside our pid namespace and is left out.
pub fn pids(path: &Path) -> Result<Vec<u32>, HostError> {
    let text = files::read(&path.join("cgroup.procs"))?;
    Ok(text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|&pid| pid != 0)
        .collect())
}

/// Kills all that is inside, removes the folder with its children and checks that it is gone. One that is not there is fine.
pub fn remove(path: &Path) -> Result<Removed, HostError> {
    let ours = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !ours {
        return Err(HostError::Invalid {
            what: path.display().to_string(),
            why: format!("its name does not begin with {PREFIX}"),
        });
    }
    let begun = Instant::now();
    let mut killed = Vec::new();
    loop {
        let outcome = remove_once(path, &mut killed);
        if !path.exists() {
            killed.sort_unstable();
            killed.dedup();
            return Ok(Removed {
                path: path.to_owned(),
                killed,
            });
        }
        if begun.elapsed() > REMOVE_WITHIN {
            let why = outcome
                .err()
                .map_or_else(|| "unknown".to_owned(), |e| e.to_string());
            return Err(HostError::NotUndone {
                what: format!("cgroup {}", path.display()),
                why,
            });
        }
        #[expect(clippy::disallowed_methods, reason = "the interval of a bounded retry")]
        std::thread::sleep(RETRY_EVERY);
    }
}

fn remove_once(path: &Path, killed: &mut Vec<u32>) -> io::Result<()> {
    for child in children(path)? {
        // One stubborn child must not keep us from killing in the next one.
        let _ = remove_once(&child, killed);
    }
    for pid in pids(path).unwrap_or_default() {
        if pid != std::process::id() && sys::kill(pid, libc::SIGKILL).is_ok() {
            killed.push(pid);
        }
    }
    fs::remove_dir(path)
}

fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let other = dir.path().join("session.slice");
        fs::create_dir(&other).expect("folder");
        assert!(matches!(remove(&other), Err(HostError::Invalid { .. })));
        assert!(other.exists());
    }

    #[test]
    fn what_is_not_there_counts_as_removed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let removed = remove(&dir.path().join("backdrop-never-made")).expect("removed");
        assert!(removed.killed.is_empty());
    }
}
