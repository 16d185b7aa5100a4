//! cgroup v2: one tree, controllers delegated level by level, no processes in a cgroup that delegates.
//!
//! Its traits: `memory.swap.max` forbids swap outright; a `memory.max` below usage kills at once, so lowering goes by
//! `memory.high`; `memory.events.local` counts the kills among a cgroup's own processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cgroup::{CellStats, LeafStats, LimitChange, Swap};
use super::error::HostError;
use super::files::{self, KernelFile};
use super::mounts::{Mount, own_folder};
use super::tree;

/// Time between two looks at usage while a limit is lowered.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
fn usable(base: &Path) -> Result<Option<Asked>, HostError> {
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

/// Makes the parent with its limit; swap is off on return.
pub fn make_cell(path: &Path, limit: u64) -> Result<Swap, HostError> {
    tree::make(path)?;
    let max = path.join("memory.max");
    files::write(&max, limit)?;
    taken(&max, limit)?;
    no_smaller_ancestor(path, limit)?;
    files::write(&path.join("cgroup.subtree_control"), "+memory")?;
    let swap = path.join("memory.swap.max");
    if !swap.exists() {
        return super::mounts::no_swap_anywhere("the kernel has no memory.swap.max");
    }
    files::write(&swap, 0)?;
    match files::read_number(&swap)? {
        0 => Ok(Swap {
            off: true,
            how: "memory.swap.max reads back 0".to_owned(),
        }),
        got => Err(HostError::NotTaken {
            path: swap,
            asked: 0,
            got,
        }),
    }
}

/// Reads a limit back; the kernel rounds down to pages.
fn taken(file: &Path, asked: u64) -> Result<u64, HostError> {
    let got = files::read_number(file)?;
    let page = super::sys::page_bytes() as u64;
    if got == asked / page * page {
        Ok(got)
    } else {
        Err(HostError::NotTaken {
            path: file.to_owned(),
            asked,
            got,
        })
    }
}

/// The limit that binds is the smallest above; a smaller one further up would be the real one.
fn no_smaller_ancestor(path: &Path, limit: u64) -> Result<(), HostError> {
    for above in path.ancestors().skip(1) {
        for name in ["memory.max", "memory.high"] {
            let file = above.join(name);
            // The root and everything outside the filesystem have none.
            let got = if file.exists() {
                files::read_number(&file)?
            } else {
                u64::MAX
            };
            if got < limit {
                return Err(HostError::NotTaken {
                    path: file,
                    asked: limit,
                    got,
                });
            }
        }
    }
    Ok(())
}

/// Files of a parent, kept open.
#[derive(Debug)]
pub struct CellFiles {
    usage: KernelFile,
    limit: KernelFile,
}

impl CellFiles {
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let (usage, limit) = (path.join("memory.current"), path.join("memory.max"));
        Ok(Self {
            usage: KernelFile::open(usage)?,
            limit: KernelFile::open(limit)?,
        })
    }

    pub fn stats(&self) -> Result<CellStats, HostError> {
        Ok(CellStats {
            limit: self.limit.number()?,
            usage: self.usage.number()?,
        })
    }
}

/// Files of a leaf, kept open.
#[derive(Debug)]
pub struct LeafFiles {
    usage: KernelFile,
    stat: KernelFile,
    events: KernelFile,
    /// Since Linux 5.19.
    peak: Option<KernelFile>,
}

impl LeafFiles {
    pub fn open(path: &Path) -> Result<Self, HostError> {
        let local = path.join("memory.events.local");
        // Kernels before 5.2 have only the hierarchical file, which is the same for a cgroup without children.
        let events = if local.exists() {
            local
        } else {
            path.join("memory.events")
        };
        Ok(Self {
            usage: KernelFile::open(path.join("memory.current"))?,
            stat: KernelFile::open(path.join("memory.stat"))?,
            events: KernelFile::open(events)?,
            peak: KernelFile::open_optional(path.join("memory.peak"))?,
        })
    }

    /// Highest usage that the kernel saw, page cache and sockets included.
    pub fn peak(&self) -> Option<u64> {
        self.peak.as_ref()?.number().ok()
    }

    pub fn kill_count(&self) -> Result<u64, HostError> {
        self.events.field("oom_kill")
    }

    pub fn stats(&self) -> Result<LeafStats, HostError> {
        let mut stats = self
            .stat
            .with(|text| parse_stat(text).ok_or_else(|| self.stat.odd("has no anon or file")))?;
        stats.usage = self.usage.number()?;
        stats.oom_kills = self.kill_count()?;
        Ok(stats)
    }
}

fn parse_stat(text: &str) -> Option<LeafStats> {
    let get = |key| files::field(text, key).unwrap_or(0);
    // `kernel` came with 5.18; before it its parts are told one by one.
    let parts = || {
        ["kernel_stack", "pagetables", "percpu", "vmalloc", "slab"]
            .into_iter()
            .map(get)
            .sum()
    };
    Some(LeafStats {
        anon: files::field(text, "anon")?,
        file: files::field(text, "file")?,
        shmem: get("shmem"),
        active_file: get("active_file"),
        inactive_file: get("inactive_file"),
        dirty: get("file_dirty"),
        writeback: get("file_writeback"),
        kernel: files::field(text, "kernel").unwrap_or_else(parts),
        sockets: get("sock"),
        ..LeafStats::default()
    })
}

/// Changes the limit. Lowering: `memory.high` first, which throttles and reclaims but never kills, then `memory.max`.
pub fn set_limit(path: &Path, to: u64, patience: Duration) -> Result<LimitChange, HostError> {
    let begun = Instant::now();
    let (max, high) = (path.join("memory.max"), path.join("memory.high"));
    let from = files::read_number(&max)?;
    let mut steps = 0;
    if to < from {
        files::write(&high, to)?;
        let fell = wait_for_usage(path, to, begun, patience);
        if let Ok(true) = fell {
            steps = 1;
            files::write(&max, to)?;
        }
        // Left in place it would throttle the service at its own limit.
        files::write(&high, "max")?;
        if !fell? {
            let usage = files::read_number(&path.join("memory.current"))?;
            return Err(HostError::LimitHeld {
                path: path.to_owned(),
                asked: to,
                got: from,
                usage,
            });
        }
    } else {
        files::write(&max, to)?;
    }
    Ok(LimitChange {
        from,
        to: taken(&max, to)?,
        steps,
        took: begun.elapsed(),
    })
}

fn wait_for_usage(
    path: &Path,
    below: u64,
    begun: Instant,
    patience: Duration,
) -> Result<bool, HostError> {
    let current = KernelFile::open(path.join("memory.current"))?;
    loop {
        if current.number()? <= below {
            return Ok(true);
        }
        if begun.elapsed() > patience {
            return Ok(false);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval of a bounded poll of the kernel"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with the files of a cgroup; what the kernel would add to new folders is not there.
    fn folder(path: &Path, controllers: &str, subtree: &str, procs: &str) {
        fs::create_dir_all(path).expect("folder");
        for (name, text) in [
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", subtree),
            ("cgroup.procs", procs),
        ] {
            fs::write(path.join(name), text).expect("file");
        }
    }

    fn mount(at: &Path) -> Mount {
        Mount {
            root: "/".to_owned(),
            at: at.to_owned(),
            kind: "cgroup2".to_owned(),
            options: vec![],
        }
    }

    #[test]
    fn a_tree_without_the_memory_controller_says_so_of_each_place() {
        let dir = tempfile::tempdir().expect("temporary folder");
        folder(dir.path(), "cpu pids", "cpu", "");
        folder(&dir.path().join("a/b"), "cpu", "", "1\n");
        folder(&dir.path().join("a"), "cpu", "cpu", "");
        let mut tried = vec![];
        assert!(find(&[mount(dir.path())], "0::/a/b\n", &mut tried).is_none());
        assert_eq!(tried.len(), 4, "{tried:?}");
        assert!(
            tried.iter().all(|t| t.contains("memory controller")),
            "{tried:?}"
        );
    }

    #[test]
    fn asking_for_the_controller_writes_the_subtree_file() {
        let dir = tempfile::tempdir().expect("temporary folder");
        folder(dir.path(), "cpu memory", "cpu", "");
        // The probe fails for want of a kernel that fills the new folder: what was asked before stands in the plain file, which
        // does not answer by listing the controller, so that giving back finds nothing to give.
        let error = usable(dir.path()).expect_err("no kernel here");
        assert!(error.to_string().contains("memory.max"), "{error}");
        assert_eq!(
            fs::read_to_string(dir.path().join("cgroup.subtree_control")).expect("file"),
            "+memory"
        );
        let left: Vec<_> = fs::read_dir(dir.path())
            .expect("list")
            .filter_map(Result::ok)
            .filter(|e| e.path().is_dir())
            .collect();
        assert!(left.is_empty(), "the probe's folder is gone: {left:?}");
    }

    #[test]
    fn the_controller_is_given_back_unless_somebody_uses_it() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let subtree = dir.path().join("cgroup.subtree_control");
        let child = dir.path().join("child");
        folder(dir.path(), "memory", "memory ", "");
        folder(&child, "memory", "", "");
        fs::write(child.join("memory.max"), "1000").expect("file");
        assert!(!give_back(dir.path()).expect("looked"), "a limit is set");
        fs::write(child.join("memory.max"), "max").expect("file");
        fs::write(child.join("cgroup.subtree_control"), "memory").expect("file");
        assert!(!give_back(dir.path()).expect("looked"), "handed on");
        fs::write(child.join("cgroup.subtree_control"), "").expect("file");
        assert!(give_back(dir.path()).expect("given back"));
        assert_eq!(fs::read_to_string(subtree).expect("file"), "-memory");
    }

    #[test]
    fn a_smaller_limit_further_up_is_found() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cell = dir.path().join("outer/cell");
        fs::create_dir_all(&cell).expect("folder");
        fs::write(dir.path().join("outer/memory.max"), "1000000\n").expect("file");
        fs::write(dir.path().join("outer/memory.high"), "max\n").expect("file");
        assert!(no_smaller_ancestor(&cell, 900_000).is_ok());
        assert!(matches!(
            no_smaller_ancestor(&cell, 2_000_000),
            Err(HostError::NotTaken { got: 1_000_000, .. })
        ));
    }

    #[test]
    fn figures_of_a_leaf() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let stat = "anon 10\nfile 20\nkernel 30\nkernel_stack 1\nsock 4\nshmem 2\nfile_dirty 5\nfile_writeback 6\n\
                    inactive_file 7\nactive_file 8\n";
        for (name, text) in [
            ("memory.current", "64\n"),
            ("memory.stat", stat),
            (
                "memory.events.local",
                "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
            ),
            ("memory.events", "oom_kill 77\n"),
        ] {
            fs::write(dir.path().join(name), text).expect("file");
        }
        let stats = LeafFiles::open(dir.path())
            .and_then(|f| f.stats())
            .expect("figures");
        let expected = LeafStats {
            usage: 64,
            anon: 10,
            file: 20,
            shmem: 2,
            active_file: 8,
            inactive_file: 7,
            dirty: 5,
            writeback: 6,
            kernel: 30,
            sockets: 4,
            oom_kills: 1,
        };
        assert_eq!(stats, expected);
        assert_eq!(stats.held(), 44);
    }

    #[test]
    fn before_the_kernel_field_its_parts_are_added_up() {
        let stats =
            parse_stat("anon 1\nfile 2\nkernel_stack 3\nslab 4\npagetables 5\n").expect("parsed");
        assert_eq!(stats.kernel, 12);
    }

    #[test]
    fn lowering_leaves_high_open_and_max_set() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (name, text) in [
            ("memory.max", "8192000"),
            ("memory.high", "max"),
            ("memory.current", "4096"),
        ] {
            fs::write(dir.path().join(name), text).expect("file");
        }
        // Plain files keep the tail of a longer text: equal lengths avoid that.
        let change = set_limit(dir.path(), 4_096_000, Duration::ZERO).expect("lowered");
        assert_eq!(
            (change.from, change.to, change.steps),
            (8_192_000, 4_096_000, 1)
        );
        assert!(
            fs::read_to_string(dir.path().join("memory.high"))
                .expect("file")
                .starts_with("max")
        );
    }

    #[test]
    fn a_limit_below_usage_is_not_forced() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (name, text) in [
            ("memory.max", "8192000"),
            ("memory.high", "max"),
            ("memory.current", "6000000"),
        ] {
            fs::write(dir.path().join(name), text).expect("file");
        }
        let error = set_limit(dir.path(), 4_096_000, Duration::ZERO).expect_err("held");
        assert!(
            matches!(
                error,
                HostError::LimitHeld {
                    usage: 6_000_000,
                    got: 8_192_000,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("memory.max")).expect("file"),
            "8192000"
        );
    }
}
