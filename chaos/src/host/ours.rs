//! Folders that undoing relies on: ours alone, and marked. What an undo log names is killed and removed with our rights, so
//! neither the log nor the folder it names may be something that another user could have put there.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::HostError;
use super::sys;

/// Variable that names another folder for the undo logs, in full: for whoever keeps runs apart on purpose, as tests do.
const STATE: &str = "BACKDROP_CHAOS_STATE";

/// File that marks a folder whose subfolders we may remove.
const MARK: &str = ".backdrop-chaos";

/// Folder of the undo logs: one per user of the host, so that a run started anywhere finds what another left; another one where
/// `BACKDROP_CHAOS_STATE` names it.
#[must_use]
pub fn state_dir() -> PathBuf {
    let named = std::env::var_os(STATE).map(PathBuf::from);
    if let Some(dir) = named.filter(|dir| dir.is_absolute()) {
        return dir;
    }
    let user = sys::effective_user();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    choose_state_dir(
        user,
        Path::new("/run"),
        runtime.as_deref(),
        &std::env::temp_dir(),
    )
}

/// The first that is there: a predictable name in a folder for all (the last) is safe only because it is checked on use.
fn choose_state_dir(user: u32, run: &Path, runtime: Option<&Path>, temp: &Path) -> PathBuf {
    let name = "backdrop-chaos";
    match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        _ if user == 0 && run.is_dir() => run.join(name),
        Some(dir) if user != 0 => dir.join(name),
        _ => temp.join(format!("{name}-{user}")),
    }
}

/// Makes a folder that only we can look into; one that is there already must be such.
pub fn make_private(dir: &Path) -> Result<(), HostError> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(HostError::io("making", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => check_private(dir),
        other => other.map_err(HostError::io("making", dir)),
    }
}

/// That a folder is ours, no link, and closed to others. One that does not exist is fine.
///
/// # Errors
/// It is not.
pub fn check_private(dir: &Path) -> Result<(), HostError> {
    let found = match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(HostError::io("looking at", dir))?,
    };
    let untrusted = |why: &str| HostError::Untrusted {
        path: dir.to_owned(),
        why: why.to_owned(),
    };
    if !found.is_dir() {
        return Err(untrusted("it is no folder but a link or a file"));
    }
    if !is_ours(&found) {
        return Err(untrusted("it belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(untrusted("others may write to it"));
    }
    Ok(())
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == sys::effective_user()
}

/// Marks a folder, which is made if need be, as one whose subfolders we may remove.
///
/// # Errors
/// It cannot be made, or is not ours.
pub fn mark(dir: &Path) -> Result<(), HostError> {
    std::fs::create_dir_all(dir).map_err(HostError::io("making", dir))?;
    let mark = dir.join(MARK);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&mark);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => drop(other.map_err(HostError::io("making", &mark))?),
    }
    check_mark(dir)
}

/// That a folder is ours and carries our mark.
pub fn check_mark(dir: &Path) -> Result<(), HostError> {
    let ours = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| is_ours(&m));
    let file = std::fs::symlink_metadata(dir.join(MARK)).is_ok_and(|m| m.is_file());
    let folder = std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir());
    if file && folder && ours(dir) && ours(&dir.join(MARK)) {
        return Ok(());
    }
    Err(HostError::Untrusted {
        path: dir.to_owned(),
        why: format!("it has no mark of ours ({MARK})"),
    })
}

/// Removes a folder of ours in which nothing but the mark is left, or not even that yet; otherwise nothing happens.
pub fn unmark_empty(dir: &Path) {
    let only_mark = std::fs::read_dir(dir).is_ok_and(|entries| {
        entries
            .map(|e| e.map_or_else(|_| true, |e| e.file_name() != MARK))
            .all(|other| !other)
    });
    if only_mark {
        // Best effort: an empty folder that stays harms nobody.
        let _ = std::fs::remove_file(dir.join(MARK));
        let _ = std::fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_state_folder_is_made_closed_and_links_and_open_ones_are_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let state = dir.path().join("state");
        assert!(check_private(&state).is_ok(), "not there yet");
        make_private(&state).expect("made");
        let mode = std::fs::metadata(&state).expect("there").mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(make_private(&state).is_ok(), "there already, and ours");
        let link = dir.path().join("link");
        symlink(&state, &link).expect("link");
        assert!(make_private(&link).is_err());
        std::fs::set_permissions(&state, Permissions::from_mode(0o777)).expect("opened");
        let error = make_private(&state).expect_err("open");
        assert!(error.to_string().contains("others may write"), "{error}");
    }

    #[test]
    fn root_uses_run_and_others_their_own_runtime_folder() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (here, none) = (dir.path(), dir.path().join("none"));
        let temp = Path::new("/tmp");
        assert_eq!(
            choose_state_dir(0, here, None, temp),
            here.join("backdrop-chaos")
        );
        assert_eq!(
            choose_state_dir(7, temp, Some(here), temp),
            here.join("backdrop-chaos")
        );
        for runtime in [None, Some(none.as_path())] {
            assert_eq!(
                choose_state_dir(7, here, runtime, temp),
                Path::new("/tmp/backdrop-chaos-7")
            );
        }
    }
}
