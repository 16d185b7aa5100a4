//! Where cells can be made: which folder hands the memory controller to its children, and what must be changed for one to.
//!
//! What was changed is taken back by its guard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::error::HostError;
use super::super::mounts::{Mount, own_folder};
use super::super::{files, tree};

/// Processes that are moved aside at most; more are somebody's session, not a container's.
const MOVED_MAX: usize = 256;

/// A place for cells, and what was changed to have it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folder under which cells are made.
    pub base: PathBuf,
    /// Processes moved aside to satisfy the rule against processes in inner cgroups.
    pub moved: Option<Arc<Moved>>,
    /// The memory controller was not handed down here before.
    pub asked: Option<Arc<Asked>>,
}

/// Finds a place: own cgroup if it delegates already, its parent, the mount's root, own cgroup after moving aside.
pub fn find(mounts: &[Mount], self_cgroup: &str, tried: &mut Vec<String>) -> Option<Place> {
    let Some(mount) = mounts.iter().find(|m| m.kind == "cgroup2") else {
        tried.push("v2: not mounted".to_owned());
        return None;
    };
    let own = own_folder(mount, self_cgroup, str::is_empty).filter(|p| p.is_dir());
    let own = own.unwrap_or_else(|| mount.at.clone());
    let mut bases = vec![own.clone()];
    if own != mount.at {
        bases.extend(own.parent().map(Path::to_owned));
    }
    if !bases.contains(&mount.at) {
        bases.push(mount.at.clone());
    }
    for base in bases {
        match usable(&base) {
            Ok(asked) => {
                return Some(Place {
                    base,
                    moved: None,
                    asked: asked.map(Arc::new),
                });
            }
            Err(error) => tried.push(format!("v2: {error}")),
        }
    }
    match Moved::aside(&own) {
        Ok(moved) => Some(Place {
            base: own,
            moved: Some(Arc::new(moved)),
            // Bringing the processes home takes the controller back as well.
            asked: None,
        }),
        Err(error) => {
            tried.push(format!("v2: {error}"));
            None
        }
    }
}

/// Whether the file of controllers holds `memory`.
fn lists_memory(path: &Path) -> Result<bool, HostError> {
    Ok(files::read(path)?
        .split_ascii_whitespace()
        .any(|c| c == "memory"))
}

/// Whether children of this folder get the memory controller, asking for it where that disturbs nobody; what was asked for.
pub(super) fn usable(base: &Path) -> Result<Option<Asked>, HostError> {
    let subtree = base.join("cgroup.subtree_control");
    if !lists_memory(&base.join("cgroup.controllers"))? {
        let what =
            "does not have the memory controller (not delegated, or mounted as v1)".to_owned();
        return Err(HostError::Shape {
            path: base.to_owned(),
            what,
        });
    }
    let mut asked = None;
    if !lists_memory(&subtree)? {
        // Refused by the kernel with EBUSY where processes live in it, except in the true root.
        files::write(&subtree, "+memory")?;
        asked = Some(Asked {
            at: base.to_owned(),
        });
    }
    tree::probe(base, look).map(|()| asked)
}

/// The memory controller, handed down to a folder's children for us. Dropping gives it back.
#[derive(Debug)]
pub struct Asked {
    /// The folder.
    pub at: PathBuf,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Err(error) = give_back(&self.at) {
            tracing::error!(%error, "the memory controller is still handed down");
        }
    }
}

/// Takes the memory controller from a folder's children again, unless one of them has come to use it meanwhile: another
/// runner's cell, or a limit that somebody set. Then it stays, which costs nobody anything. Whether it was taken.
pub fn give_back(at: &Path) -> Result<bool, HostError> {
    let subtree = at.join("cgroup.subtree_control");
    if !subtree.exists() || !lists_memory(&subtree)? {
        return Ok(true);
    }
    let entries = std::fs::read_dir(at).map_err(HostError::io("listing", at))?;
    if entries
        .flatten()
        .any(|e| e.path().is_dir() && in_use(&e.path()))
    {
        return Ok(false);
    }
    files::write(&subtree, "-memory").map(|()| true)
}

/// Whether a cgroup hands the controller on or has been given a limit or protection. What cannot be read counts as used.
fn in_use(path: &Path) -> bool {
    let at_default = |(name, default): (&str, u64)| {
        let file = path.join(name);
        !file.exists() || files::read_number(&file).is_ok_and(|n| n == default)
    };
    let defaults = [
        ("memory.max", u64::MAX),
        ("memory.high", u64::MAX),
        ("memory.low", 0),
        ("memory.min", 0),
    ];
    let handed_on = lists_memory(&path.join("cgroup.subtree_control")).unwrap_or(true);
    handed_on || !defaults.into_iter().all(at_default)
}

/// Whether a fresh cgroup has what a cell needs.
fn look(path: &Path) -> Result<(), HostError> {
    files::write(&path.join("memory.max"), 64 << 20)
}

/// Processes moved from a cgroup into a child of it, so that it may delegate. Dropping moves them back.
#[derive(Debug)]
pub struct Moved {
    /// Where they are now.
    pub aside: PathBuf,
    /// Where they were.
    pub home: PathBuf,
}

impl Moved {
    fn aside(home: &Path) -> Result<Self, HostError> {
        if !lists_memory(&home.join("cgroup.controllers"))? {
            let what = "does not have the memory controller".to_owned();
            return Err(HostError::Shape {
                path: home.to_owned(),
                what,
            });
        }
        let pids = tree::pids(home)?;
        if pids.len() > MOVED_MAX {
            let why = format!(
                "{} processes live in it, too many to move aside",
                pids.len()
            );
            return Err(HostError::Invalid {
                what: home.display().to_string(),
                why,
            });
        }
        let moved = Self {
            aside: home.join(format!("{}aside-{}", tree::PREFIX, std::process::id())),
            home: home.to_owned(),
        };
        tree::make(&moved.aside)?;
        // From here on dropping `moved` takes everything back.
        move_all(home, &moved.aside)?;
        if let Some(asked) = usable(home)? {
            // `bring_home` takes it back before the processes may return; twice would be once too often.
            std::mem::forget(asked);
        }
        Ok(moved)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        if let Err(error) = bring_home(&self.aside, &self.home) {
            tracing::error!(%error, "processes moved aside could not be moved back");
        }
    }
}

/// Moves processes until none is left; one that ended meanwhile is fine.
fn move_all(from: &Path, to: &Path) -> Result<(), HostError> {
    let procs = to.join("cgroup.procs");
    for _ in 0..MOVED_MAX {
        let pids = tree::pids(from)?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match files::write(&procs, pid) {
                Err(error) if error.errno() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(HostError::NotUndone {
        what: format!("processes of {}", from.display()),
        why: "new ones keep coming".to_owned(),
    })
}

/// Moves processes back and removes the folder. One that is not there is fine.
pub fn bring_home(aside: &Path, home: &Path) -> Result<(), HostError> {
    if !aside.exists() {
        return Ok(());
    }
    // Processes may only return once their home no longer delegates; other cells in it keep it from that.
    files::write(&home.join("cgroup.subtree_control"), "-memory")?;
    move_all(aside, home)?;
    std::fs::remove_dir(aside).map_err(HostError::io("removing", aside))
}
