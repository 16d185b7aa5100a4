//! Files of the service's archive are changed under it, as a bad disk would.
//!
//! There is nothing to undo: the archive lies in the trial's data folder, which goes with the trial.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backdrop_reports::record;
use tokio::time::Instant;

use crate::rig::Stop;
use crate::service::ServiceSpec;

/// Where the service keeps its archive unless it is told otherwise, below its data folder.
const FOLDER: &str = "archive";
/// What whole files of the archive end in; one that is being written ends otherwise.
const SUFFIX: &str = "pixels";
/// Files that are new since the last look are changed at this pace.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Changes every whole file once, until the time is over.
pub(super) async fn corrupt(
    spec: &ServiceSpec,
    (until, stop): (Instant, &Stop),
    fault: &mut record::Fault,
) {
    let folder = spec.data.join(FOLDER);
    let mut changed = HashSet::new();
    let mut failed = None;
    while Instant::now() < until {
        let pass = tokio::task::block_in_place(|| pass(&folder, &mut changed));
        failed = pass.err().or(failed);
        if !stop
            .sleep_until((Instant::now() + LOOK_EVERY).min(until))
            .await
        {
            break;
        }
    }
    fault.acted = !changed.is_empty();
    let why = failed.map_or_else(String::new, |e| format!("; not all could be: {e}"));
    fault.proof = format!(
        "{} files in {} were changed by a byte each{why}",
        changed.len(),
        folder.display()
    );
}

/// Changes what is there and has not been changed. A file that the service removes meanwhile is none.
fn pass(folder: &Path, changed: &mut HashSet<(PathBuf, u64)>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != SUFFIX) {
            continue;
        }
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // A file that takes the place of another has another inode.
        let key = (path, file.metadata()?.ino());
        if !changed.contains(&key) {
            flip(&file)?;
            changed.insert(key);
        }
    }
    Ok(())
}

/// Turns a byte in the middle, which is pixels and no header, and brings it to the disk: readers may go past the page cache.
fn flip(file: &File) -> io::Result<()> {
    let at = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[!byte[0]], at)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_files_are_changed_once_and_replaced_ones_again() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (whole, aside) = (
            dir.path().join("a.pixels"),
            dir.path().join("b.pixels.partial"),
        );
        for path in [&whole, &aside] {
            std::fs::write(path, [7; 100]).expect("written");
        }
        let differing = |path: &Path| {
            let bytes = std::fs::read(path).expect("read");
            bytes.iter().filter(|byte| **byte != 7).count()
        };
        let mut changed = HashSet::new();
        for _ in 0..2 {
            pass(dir.path(), &mut changed).expect("a pass");
            assert_eq!(
                (changed.len(), differing(&whole), differing(&aside)),
                (1, 1, 0)
            );
        }
        // The old inode is kept taken, so that the new file cannot have it.
        let old = File::open(&whole).expect("opened");
        std::fs::rename(&aside, &whole).expect("renamed");
        pass(dir.path(), &mut changed).expect("a pass");
        assert_eq!((changed.len(), differing(&whole)), (2, 1));
        drop(old);
        assert!(pass(&dir.path().join("absent"), &mut changed).is_err());
    }
}
