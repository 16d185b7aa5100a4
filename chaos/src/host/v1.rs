//! cgroup v1: the memory controller at a mount of its own.
//!
//! Its traits: `memsw` bounds memory and swap together; a limit below usage is refused with EBUSY; TCP buffers are counted
//! apart; the kill counter is in `memory.oom_control` and counts in the victim's own cgroup only.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{CellStats, LeafStats, LimitChange, LimitWatch, Lowering, Swap};
use super::error::HostError;
use super::files::{self, KernelFile};
use super::mounts::{Mount, own_folder};
use super::tree;

/// Time between two tries to lower a limit.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Least that an intermediate limit lies below the one before, bytes.
const STEP_MIN_BYTES: u64 = 1 << 20;

/// Folder under which cells can be made: own cgroup, else the mount's root. Why not goes to `tried`.
pub fn find(mounts: &[Mount], self_cgroup: &str, tried: &mut Vec<String>) -> Option<PathBuf> {
    let is_ours = |m: &&Mount| m.kind == "cgroup" && m.options.iter().any(|o| o == "memory");
    let Some(mount) = mounts.iter().find(is_ours) else {
        tried.push("v1: the memory controller is not mounted".to_owned());
        return None;
    };
    let own = own_folder(mount, self_cgroup, |controllers| {
        controllers.split(',').any(|c| c == "memory")
    });
    let mut bases: Vec<PathBuf> = own.into_iter().filter(|p| p.is_dir()).collect();
    if !bases.contains(&mount.at) {
        bases.push(mount.at.clone());
    }
    bases
        .into_iter()
        .find(|base| match tree::probe(base, look) {
            Ok(()) => true,
            Err(error) => {
                tried.push(format!("v1: {error}"));
                false
            }
        })
}

/// Whether a fresh cgroup has what a cell needs.
fn look(path: &Path) -> Result<(), HostError> {
    let oom = files::read(&path.join("memory.oom_control"))?;
    if files::field(&oom, "oom_kill").is_none() {
        let what = "has no kill counter (kernel before 4.13)".to_owned();
        return Err(HostError::Shape {
            path: path.join("memory.oom_control"),
            what,
        });
    }
    files::write(&path.join("memory.limit_in_bytes"), 64 << 20)
}

/// Makes the parent with its limit; swap is off on return.
pub fn make_cell(path: &Path, limit: u64) -> Result<Swap, HostError> {
    tree::make(path)?;
    let hierarchy = path.join("memory.use_hierarchy");
    // Must come before the first child; kernels since 5.11 know nothing else than 1.
    if hierarchy.exists() && files::read_number(&hierarchy)? == 0 {
        files::write(&hierarchy, 1)?;
    }
    let oom = files::read(&path.join("memory.oom_control"))?;
    if files::field(&oom, "oom_kill_disable") != Some(0) {
        files::write(&path.join("memory.oom_control"), 0)?;
    }
    let file = path.join("memory.limit_in_bytes");
    files::write(&file, limit)?;
    taken(&file, limit)?;
    no_smaller_ancestor(path, limit)?;
    swap_off(path, limit)
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
    let file = path.join("memory.stat");
    let binding =
        files::field(&files::read(&file)?, "hierarchical_memory_limit").unwrap_or(u64::MAX);
    let page = super::sys::page_bytes() as u64;
    if binding >= limit / page * page {
        Ok(())
    } else {
        Err(HostError::SmallerAbove {
            path: file,
            asked: limit,
            got: binding,
        })
    }
}

fn swap_off(path: &Path, limit: u64) -> Result<Swap, HostError> {
    let memsw = path.join("memory.memsw.limit_in_bytes");
    if !memsw.exists() {
        return super::mounts::no_swap_anywhere(
            "the kernel counts no swap (no memory.memsw files)",
        );
    }
    files::write(&memsw, limit)?;
    let got = taken(&memsw, limit)?;
    // Belongs to it, but proves nothing: the limit on both together does.
    let _ = files::write(&path.join("memory.swappiness"), 0);
    Ok(Swap {
        off: true,
        how: format!("memory.memsw.limit_in_bytes reads back {got}, the limit itself"),
    })
}

/// Files of a parent, kept open.
#[derive(Debug)]
pub struct CellFiles {
    usage: KernelFile,
    limit: KernelFile,
}

impl CellFiles {
    pub fn open(path: &Path) -> Result<Self, HostError> {
        Ok(Self {
            usage: KernelFile::open(path.join("memory.usage_in_bytes"))?,
            limit: KernelFile::open(path.join("memory.limit_in_bytes"))?,
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
    oom: KernelFile,
    kernel: Option<KernelFile>,
    /// None where the kernel does not count sockets.
    sockets: Option<KernelFile>,
    peak: Option<KernelFile>,
}

impl LeafFiles {
    pub fn open(path: &Path) -> Result<Self, HostError> {
        Ok(Self {
            usage: KernelFile::open(path.join("memory.usage_in_bytes"))?,
            stat: KernelFile::open(path.join("memory.stat"))?,
            oom: KernelFile::open(path.join("memory.oom_control"))?,
            kernel: KernelFile::open_optional(path.join("memory.kmem.usage_in_bytes"))?,
            sockets: account_sockets(path)?,
            peak: KernelFile::open_optional(path.join("memory.max_usage_in_bytes"))?,
        })
    }

    pub fn counts_sockets(&self) -> bool {
        self.sockets.is_some()
    }

    /// Highest usage that the kernel saw, page cache included, sockets not.
    pub fn peak(&self) -> Option<u64> {
        self.peak.as_ref()?.number().ok()
    }

    pub fn kill_count(&self) -> Result<u64, HostError> {
        self.oom.field("oom_kill")
    }

    pub fn stats(&self) -> Result<LeafStats, HostError> {
        let optional = |file: &Option<KernelFile>| file.as_ref().map_or(Ok(0), KernelFile::number);
        let mut stats = self
            .stat
            .with(|text| parse_stat(text).ok_or_else(|| self.stat.odd("has no rss or cache")))?;
        stats.usage = self.usage.number()?;
        stats.kernel = optional(&self.kernel)?;
        stats.sockets = optional(&self.sockets)?;
        stats.oom_kills = self.kill_count()?;
        Ok(stats)
    }
}

/// Has the kernel count TCP buffers: it does so for a cgroup from the first write to its limit on, even of "no limit", and
/// only for sockets opened after it. So this comes before the first process. None where it cannot.
fn account_sockets(path: &Path) -> Result<Option<KernelFile>, HostError> {
    let limit = path.join("memory.kmem.tcp.limit_in_bytes");
    if files::write(&limit, -1).is_err() {
        return Ok(None);
    }
    KernelFile::open_optional(path.join("memory.kmem.tcp.usage_in_bytes"))
}

/// What `memory.stat` says of the cgroup itself (not of its children, the `total_` fields).
fn parse_stat(text: &str) -> Option<LeafStats> {
    let get = |key| files::field(text, key).unwrap_or(0);
    Some(LeafStats {
        anon: files::field(text, "rss")?,
        file: files::field(text, "cache")?,
        shmem: get("shmem"),
        active_file: get("active_file"),
        inactive_file: get("inactive_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        ..LeafStats::default()
    })
}

/// Changes limit and `memsw` in the order that keeps `memsw` the larger one.
pub fn set_limit(
    path: &Path,
    to: u64,
    lowering: Lowering,
    watch: &mut dyn LimitWatch,
) -> Result<LimitChange, HostError> {
    let begun = Instant::now();
    let to = to / super::sys::page_bytes() as u64 * super::sys::page_bytes() as u64;
    let (limit, memsw) = (
        path.join("memory.limit_in_bytes"),
        path.join("memory.memsw.limit_in_bytes"),
    );
    let from = files::read_number(&limit)?;
    let mut steps = 0;
    if to >= from {
        if memsw.exists() {
            files::write(&memsw, to)?;
            taken(&memsw, to)?;
        }
        files::write(&limit, to)?;
        watch.accepted(to);
    } else {
        steps = lower(path, &limit, to, (begun, lowering), watch)?;
        if memsw.exists() {
            lower(path, &memsw, to, (begun, lowering), &mut ())?;
            taken(&memsw, to)?;
        }
    }
    Ok(LimitChange {
        from,
        to: taken(&limit, to)?,
        steps,
        took: begun.elapsed(),
    })
}

/// Lowers a limit as far as usage allows and follows usage downwards: each limit lies at least `room` above what cannot be
/// reclaimed, because one that is met at once would kill what was about to give way. Steps taken before the last one.
fn lower(
    cell: &Path,
    file: &Path,
    to: u64,
    (begun, lowering): (Instant, Lowering),
    watch: &mut dyn LimitWatch,
) -> Result<u32, HostError> {
    let mut steps = 0;
    loop {
        let current = files::read_number(file)?;
        if current == to {
            return Ok(steps);
        }
        let step = to.max(held(cell)? + lowering.room);
        if step == to || step + STEP_MIN_BYTES <= current {
            match files::write(file, step) {
                Ok(()) => {
                    watch.accepted(files::read_number(file)?);
                    steps += u32::from(step != to);
                    continue;
                }
                // Usage has outrun it: the next try follows.
                Err(error) if error.errno() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        if begun.elapsed() > lowering.patience || watch.given_up() {
            return Err(HostError::LimitHeld {
                path: cell.to_owned(),
                asked: to,
                got: current,
                usage: files::read_number(&cell.join("memory.usage_in_bytes"))?,
            });
        }
        #[expect(clippy::disallowed_methods, reason = "the interval of a bounded retry")]
        std::thread::sleep(RETRY_EVERY);
    }
}

/// Usage of the cell with all below it that the kernel cannot drop, rounded up to pages.
fn held(cell: &Path) -> Result<u64, HostError> {
    let usage = files::read_number(&cell.join("memory.usage_in_bytes"))?;
    let stat = files::read(&cell.join("memory.stat"))?;
    let get = |key| files::field(&stat, key).unwrap_or(0);
    let cache = get("total_active_file") + get("total_inactive_file");
    let droppable = cache.saturating_sub(get("total_dirty") + get("total_writeback"));
    let page = super::sys::page_bytes() as u64;
    Ok(usage.saturating_sub(droppable).next_multiple_of(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_from_the_cgroup_itself_not_its_totals() {
        let text = "cache 8192\nrss 4096\nshmem 100\ndirty 7\nwriteback 8\ninactive_file 5\nactive_file 6\n\
                    hierarchical_memory_limit 9\ntotal_cache 1\ntotal_rss 2\n";
        let stats = parse_stat(text).expect("parsed");
        assert_eq!((stats.anon, stats.file, stats.shmem), (4096, 8192, 100));
        assert_eq!(
            (
                stats.inactive_file,
                stats.active_file,
                stats.dirty,
                stats.writeback
            ),
            (5, 6, 7, 8)
        );
        assert!(parse_stat("total_rss 3\n").is_none());
    }

    #[test]
    fn an_unmounted_controller_is_named() {
        let mut tried = vec![];
        assert!(find(&[], "4:memory:/\n", &mut tried).is_none());
        assert_eq!(tried, ["v1: the memory controller is not mounted"]);
    }
}
