//! A memory cgroup with a limit, made and taken away: v1, v2 or, where neither can be had, an emulation flagged as such.
//!
//! A [`Cell`] is a parent with the limit; processes live in its [`Leaf`]s, so that service and hog share the limit while the
//! kernel counts their kills apart. Knows no process but those it has to kill to take a cell away.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::emulated::{EmulatedCell, EmulatedLeaf, EmulatedProbe};
use super::error::HostError;
use super::undo::Undo;
use super::{files, mounts, tree, v1, v2};

/// What a person can do where no cgroup can be made.
const MEND: &str = "run as root (sudo), or in a delegated scope: \
    `systemd-run --user --scope -p Delegate=yes COMMAND`; in a container mount /sys/fs/cgroup writable; \
    or accept weaker evidence with --allow-emulated";

/// Leaves of a cell at most.
const LEAVES_MAX: usize = 16;

/// Limits of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all leaves together, bytes; rounded down to pages by the kernel.
    pub memory_bytes: u64,
}

/// Whether the limit can be evaded into swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    /// Nothing of the cell can go to swap, read back.
    pub off: bool,
    /// What shows it, in words.
    pub how: String,
}

/// Figures of a cell as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CellStats {
    /// Limit in force, bytes.
    pub limit: u64,
    /// All that is charged, reclaimable page cache included, bytes.
    pub usage: u64,
}

/// How a limit was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// Limit before, bytes.
    pub from: u64,
    /// Limit now, read back, bytes.
    pub to: u64,
    /// Intermediate limits that were set because usage stood above the target.
    pub steps: u32,
    /// How long it took.
    pub took: Duration,
}

/// Told how a limit comes down, so that what lives under it can be watched adopting it.
pub trait LimitWatch {
    /// The kernel took this limit, bytes.
    fn accepted(&mut self, limit: u64);
    /// Whether what lives under the limit has seen this one, bytes.
    fn adopted(&self, limit: u64) -> bool;
    /// Whether the limit is no longer wanted: lowering it ends where it is.
    fn given_up(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl LimitWatch for () {
    fn accepted(&mut self, _: u64) {}
    fn adopted(&self, _: u64) -> bool {
        true
    }
}

/// How a limit is lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lowering {
    /// For how long it is tried.
    pub patience: Duration,
    /// Never closer above what cannot be reclaimed than this, bytes: memory that is promised and not yet touched must fit.
    pub room: u64,
}

impl Lowering {
    /// With room for whatever a process may touch between two looks.
    #[must_use]
    pub fn within(patience: Duration) -> Self {
        Self {
            patience,
            room: 1 << 20,
        }
    }
}

/// What taking a cell away did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Path that no longer exists.
    pub path: PathBuf,
    /// Processes that were still inside and were killed.
    pub killed: Vec<u32>,
}

/// Figures of a leaf, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeafStats {
    /// All that is charged, page cache included; on v1 without TCP buffers.
    pub usage: u64,
    /// Anonymous pages.
    pub anon: u64,
    /// Page cache, shared memory included.
    pub file: u64,
    /// Shared memory (part of `file`), which cannot be dropped.
    pub shmem: u64,
    /// Page cache in recent use.
    pub active_file: u64,
    /// Page cache not in recent use.
    pub inactive_file: u64,
    /// Page cache that must be written before it can be dropped.
    pub dirty: u64,
    /// Page cache being written.
    pub writeback: u64,
    /// Kernel memory: stacks, page tables, slab.
    pub kernel: u64,
    /// Socket buffers.
    pub sockets: u64,
    /// Processes of this leaf that the kernel killed for memory.
    pub oom_kills: u64,
}

impl LeafStats {
    /// What the kernel cannot take back: anon + kernel + sockets, bytes.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.anon + self.kernel + self.sockets
    }
}

/// Where cells can be made. On v2 it may have moved processes aside; dropping the last clone moves them back, so it must
/// outlive its cells.
#[derive(Debug, Clone)]
pub struct Hierarchy(Place);

#[derive(Debug, Clone)]
enum Place {
    V1(PathBuf),
    V2(v2::Place),
    Emulated,
}

impl Hierarchy {
    /// Finds a place where a memory cgroup with a limit can be made, by making one. Never emulated.
    pub fn detect() -> Result<Self, HostError> {
        let mounts = mounts::parse(&files::read(Path::new("/proc/self/mountinfo"))?);
        let own = files::read(Path::new("/proc/self/cgroup"))?;
        let mut tried = Vec::new();
        if let Some(base) = v1::find(&mounts, &own, &mut tried) {
            return Ok(Self(Place::V1(base)));
        }
        if let Some(place) = v2::find(&mounts, &own, &mut tried) {
            return Ok(Self(Place::V2(place)));
        }
        Err(HostError::NoHierarchy {
            tried,
            mend: MEND.to_owned(),
        })
    }

    /// The stand-in: a watchdog that samples resident memory and kills. Its kills are not the kernel's.
    #[must_use]
    pub fn emulated() -> Self {
        Self(Place::Emulated)
    }

    /// `v1`, `v2` or `emulated`, as in the run record.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.0 {
            Place::V1(_) => "v1",
            Place::V2(_) => "v2",
            Place::Emulated => "emulated",
        }
    }

    /// True where the kernel does not enforce the limit.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        matches!(self.0, Place::Emulated)
    }

    /// Folder under which cells are made; empty when emulated.
    #[must_use]
    pub fn base(&self) -> &Path {
        match &self.0 {
            Place::V1(base) => base,
            Place::V2(place) => &place.base,
            Place::Emulated => Path::new(""),
        }
    }

    /// What finding the place has changed and the undo log should know; mostly nothing.
    #[must_use]
    pub fn debt(&self) -> Option<Undo> {
        match &self.0 {
            Place::V2(v2::Place {
                moved: Some(moved), ..
            }) => Some(Undo::Homecoming {
                from: moved.aside.clone(),
                to: moved.home.clone(),
            }),
            Place::V2(v2::Place {
                asked: Some(asked), ..
            }) => Some(Undo::Undelegate {
                at: asked.at.clone(),
            }),
            _ => None,
        }
    }

    /// Where a cell of this name would be, to be written down before it is made.
    #[must_use]
    pub fn cell_path(&self, name: &str) -> PathBuf {
        self.base().join(format!("{}{name}", tree::PREFIX))
    }

    /// Makes a cell `backdrop-<name>` with this limit and swap off, both read back. The name must be unique on the host:
    /// letters, digits, `-` and `_`.
    pub fn cell(&self, name: &str, limits: Limits) -> Result<Cell, HostError> {
        check_name(name)?;
        let path = self.cell_path(name);
        let limit = limits.memory_bytes;
        if self.is_emulated() {
            return Cell::emulated(path, limit);
        }
        let made = match &self.0 {
            Place::V1(_) => v1::make_cell(&path, limit)
                .and_then(|swap| Ok((swap, ProbeKind::V1(v1::CellFiles::open(&path)?)))),
            _ => v2::make_cell(&path, limit)
                .and_then(|swap| Ok((swap, ProbeKind::V2(v2::CellFiles::open(&path)?)))),
        };
        match made {
            Ok((swap, probe)) => Ok(Cell::real(path, swap, probe)),
            Err(error) => {
                // A folder that was there before is somebody else's and stays.
                if error.errno() != Some(libc::EEXIST) {
                    tree::remove(&path)?;
                }
                Err(error)
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= 100 && name.chars().all(fits) {
        return Ok(());
    }
    let why = "a cgroup is named with 1 to 100 letters, digits, - and _".to_owned();
    Err(HostError::Invalid {
        what: name.to_owned(),
        why,
    })
}

/// A parent cgroup with a limit. Dropping it kills what is left inside and removes it.
#[derive(Debug)]
pub struct Cell {
    path: PathBuf,
    swap: Swap,
    probe: CellProbe,
    emulated: Option<EmulatedCell>,
    leaves: Mutex<BTreeMap<String, Leaf>>,
    removed: bool,
}

/// A cheap handle for reading a cell's figures while somebody else owns the cell.
#[derive(Debug, Clone)]
pub struct CellProbe(Arc<ProbeKind>);

#[derive(Debug)]
enum ProbeKind {
    V1(v1::CellFiles),
    V2(v2::CellFiles),
    Emulated(EmulatedProbe),
}

impl CellProbe {
    /// Figures now.
    pub fn stats(&self) -> Result<CellStats, HostError> {
        match &*self.0 {
            ProbeKind::V1(files) => files.stats(),
            ProbeKind::V2(files) => files.stats(),
            ProbeKind::Emulated(probe) => Ok(probe.stats()),
        }
    }
}

impl Cell {
    fn real(path: PathBuf, swap: Swap, probe: ProbeKind) -> Self {
        let probe = CellProbe(Arc::new(probe));
        Self {
            path,
            swap,
            probe,
            emulated: None,
            leaves: Mutex::default(),
            removed: false,
        }
    }

    fn emulated(path: PathBuf, limit: u64) -> Result<Self, HostError> {
        let emulated = EmulatedCell::new(limit)?;
        let swap = Swap {
            off: false,
            how: "emulated: resident memory is watched, swap is not".to_owned(),
        };
        let mut cell = Self::real(path, swap, ProbeKind::Emulated(emulated.probe()));
        cell.emulated = Some(emulated);
        Ok(cell)
    }

    /// Path of the limited parent; a made-up one when emulated.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether swap is off, and what shows it.
    #[must_use]
    pub fn swap(&self) -> &Swap {
        &self.swap
    }

    /// The leaf of this name (`service`, `hog`), made on first use.
    pub fn leaf(&self, name: &str) -> Result<Leaf, HostError> {
        check_name(name)?;
        let mut leaves = self.leaves.lock();
        if let Some(leaf) = leaves.get(name) {
            return Ok(leaf.clone());
        }
        if leaves.len() >= LEAVES_MAX {
            return Err(HostError::Invalid {
                what: name.to_owned(),
                why: format!("a cell has {LEAVES_MAX} leaves at most"),
            });
        }
        let leaf = self.make_leaf(name)?;
        leaves.insert(name.to_owned(), leaf.clone());
        Ok(leaf)
    }

    fn make_leaf(&self, name: &str) -> Result<Leaf, HostError> {
        let path = self.path.join(name);
        let kind = match (&*self.probe.0, &self.emulated) {
            (_, Some(emulated)) => LeafKind::Emulated(emulated.leaf()),
            (ProbeKind::V1(_), None) => {
                tree::make(&path)?;
                LeafKind::V1(v1::LeafFiles::open(&path)?)
            }
            _ => {
                tree::make(&path)?;
                LeafKind::V2(v2::LeafFiles::open(&path)?)
            }
        };
        Ok(Leaf(Arc::new(LeafInner {
            name: name.to_owned(),
            path,
            kind,
        })))
    }

    /// A leaf of this name below another one, made on first use; on v2 without figures of its own, since one that holds processes can
    /// hand no controller on: there it reads those of the other one, which is charged with what is in it.
    pub fn leaf_below(&self, above: &Leaf, name: &str) -> Result<Leaf, HostError> {
        check_name(name)?;
        let key = format!("{}/{name}", above.name());
        let mut leaves = self.leaves.lock();
        if let Some(leaf) = leaves.get(&key) {
            return Ok(leaf.clone());
        }
        let path = above.path().join(name);
        let kind = match &above.0.kind {
            LeafKind::V1(_) => {
                tree::make(&path)?;
                LeafKind::V1(v1::LeafFiles::open(&path)?)
            }
            LeafKind::V2(_) => {
                tree::make(&path)?;
                LeafKind::V2(v2::LeafFiles::open(above.path())?)
            }
            LeafKind::Emulated(leaf) => LeafKind::Emulated(Arc::clone(leaf)),
        };
        let leaf = Leaf(Arc::new(LeafInner {
            name: key.clone(),
            path,
            kind,
        }));
        leaves.insert(key, leaf.clone());
        Ok(leaf)
    }

    /// Handle for sampling.
    #[must_use]
    pub fn probe(&self) -> CellProbe {
        self.probe.clone()
    }

    /// Figures now.
    pub fn stats(&self) -> Result<CellStats, HostError> {
        self.probe.stats()
    }

    /// Limit as the kernel reads it back, bytes.
    pub fn limit(&self) -> Result<u64, HostError> {
        Ok(self.stats()?.limit)
    }

    /// Changes the limit; lowering below usage is done in steps, for at most `patience`. Blocks.
    pub fn set_limit(&self, bytes: u64, patience: Duration) -> Result<LimitChange, HostError> {
        self.set_limit_watched(bytes, Lowering::within(patience), &mut ())
    }

    /// The same, with somebody watching. Blocks.
    pub fn set_limit_watched(
        &self,
        bytes: u64,
        lowering: Lowering,
        watch: &mut dyn LimitWatch,
    ) -> Result<LimitChange, HostError> {
        match &*self.probe.0 {
            ProbeKind::V1(_) => v1::set_limit(&self.path, bytes, lowering, watch),
            ProbeKind::V2(_) => v2::set_limit(&self.path, bytes, lowering, watch),
            ProbeKind::Emulated(_) => {
                let from = self
                    .emulated
                    .as_ref()
                    .map_or(bytes, |cell| cell.set_limit(bytes));
                watch.accepted(bytes);
                Ok(LimitChange {
                    from,
                    to: bytes,
                    steps: 0,
                    took: Duration::ZERO,
                })
            }
        }
    }

    /// Kills what is left inside, removes leaves and parent, and checks that they are gone.
    pub fn remove(mut self) -> Result<Removed, HostError> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<Removed, HostError> {
        let removed = match &mut self.emulated {
            Some(emulated) => Removed {
                path: self.path.clone(),
                killed: emulated.end(),
            },
            None => tree::remove(&self.path)?,
        };
        self.removed = true;
        Ok(removed)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        if let Err(error) = self.take_away() {
            tracing::error!(%error, "a cgroup is left behind");
        }
    }
}

/// A cgroup inside a cell that holds processes. Clones are handles to the same leaf.
#[derive(Debug, Clone)]
pub struct Leaf(Arc<LeafInner>);

#[derive(Debug)]
struct LeafInner {
    name: String,
    path: PathBuf,
    kind: LeafKind,
}

#[derive(Debug)]
enum LeafKind {
    V1(v1::LeafFiles),
    V2(v2::LeafFiles),
    Emulated(Arc<EmulatedLeaf>),
}

impl Leaf {
    /// Its name in the cell.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its folder; a made-up one when emulated.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// True where a watchdog stands in for the kernel.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        matches!(self.0.kind, LeafKind::Emulated(_))
    }

    /// The file that takes process ids; none when emulated.
    #[must_use]
    pub fn procs_file(&self) -> Option<PathBuf> {
        (!self.is_emulated()).then(|| self.0.path.join("cgroup.procs"))
    }

    /// The same, open for a child to enter by.
    pub(super) fn entrance(&self) -> Result<Option<File>, HostError> {
        let Some(path) = self.procs_file() else {
            return Ok(None);
        };
        OpenOptions::new()
            .write(true)
            .open(&path)
            .map(Some)
            .map_err(HostError::io("opening", &path))
    }

    /// Moves a process in, with all its threads.
    pub fn attach(&self, pid: u32) -> Result<(), HostError> {
        match (&self.0.kind, self.procs_file()) {
            (LeafKind::Emulated(leaf), _) => leaf.attach(pid),
            (_, Some(procs)) => files::write(&procs, pid),
            (_, None) => Ok(()),
        }
    }

    /// Processes inside now.
    pub fn pids(&self) -> Result<Vec<u32>, HostError> {
        match &self.0.kind {
            LeafKind::Emulated(leaf) => Ok(leaf.pids()),
            _ => tree::pids(&self.0.path),
        }
    }

    /// Processes of this leaf that the kernel (the watchdog, when emulated) killed for memory since the cell was made.
    pub fn kill_count(&self) -> Result<u64, HostError> {
        match &self.0.kind {
            LeafKind::V1(files) => files.kill_count(),
            LeafKind::V2(files) => files.kill_count(),
            LeafKind::Emulated(leaf) => Ok(leaf.kill_count()),
        }
    }

    /// Whether what is in a leaf below has counters of its own.
    #[must_use]
    pub fn counts_apart_from_below(&self) -> bool {
        matches!(self.0.kind, LeafKind::V1(_))
    }

    /// Whether socket buffers are among its figures.
    #[must_use]
    pub fn counts_sockets(&self) -> bool {
        match &self.0.kind {
            LeafKind::V1(files) => files.counts_sockets(),
            LeafKind::V2(_) => true,
            LeafKind::Emulated(_) => false,
        }
    }

    /// Highest usage that the kernel itself saw, page cache included (on v1 without sockets), bytes. None where it keeps none.
    #[must_use]
    pub fn kernel_peak(&self) -> Option<u64> {
        match &self.0.kind {
            LeafKind::V1(files) => files.peak(),
            LeafKind::V2(files) => files.peak(),
            LeafKind::Emulated(_) => None,
        }
    }

    /// Figures now.
    pub fn stats(&self) -> Result<LeafStats, HostError> {
        match &self.0.kind {
            LeafKind::V1(files) => files.stats(),
            LeafKind::V2(files) => files.stats(),
            LeafKind::Emulated(leaf) => Ok(leaf.stats()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for name in ["", "..", "a/b", "a b", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("million-switch_7").is_ok());
    }

    #[test]
    fn the_emulation_is_flagged_and_counts_what_it_kills() {
        let hierarchy = Hierarchy::emulated();
        assert!(hierarchy.is_emulated() && hierarchy.debt().is_none());
        let cell = hierarchy
            .cell(
                "emulated",
                Limits {
                    memory_bytes: 1 << 20,
                },
            )
            .expect("cell");
        assert!(!cell.swap().off && cell.leaf("service").expect("leaf").procs_file().is_none());
        assert_eq!(
            cell.set_limit(2 << 20, Duration::ZERO).expect("limit").from,
            1 << 20
        );
        assert_eq!(cell.limit().expect("limit"), 2 << 20);
    }
}
