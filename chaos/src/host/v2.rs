//! cgroup v2: one tree, controllers delegated level by level, no processes in a cgroup that delegates.
//!
//! Its traits: `memory.swap.max` forbids swap outright; a `memory.max` below usage kills at once, so lowering goes by
//! `memory.high`; `memory.events.local` counts the kills among a cgroup's own processes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cgroup::{CellStats, LeafStats, LimitChange, LimitWatch, Lowering, Swap};
use super::error::HostError;
use super::files::{self, KernelFile};
use super::tree;

mod place;
#[cfg(test)]
mod tests;

pub use place::{Place, bring_home, find, give_back};

/// Time between two looks at usage while a limit is lowered.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
                return Err(HostError::SmallerAbove {
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
    max: KernelFile,
    /// The lower one while a limit comes down.
    high: Option<KernelFile>,
}

impl CellFiles {
    pub fn open(path: &Path) -> Result<Self, HostError> {
        Ok(Self {
            usage: KernelFile::open(path.join("memory.current"))?,
            max: KernelFile::open(path.join("memory.max"))?,
            high: KernelFile::open_optional(path.join("memory.high"))?,
        })
    }

    pub fn stats(&self) -> Result<CellStats, HostError> {
        let high = self
            .high
            .as_ref()
            .map_or(Ok(u64::MAX), KernelFile::number)?;
        Ok(CellStats {
            limit: self.max.number()?.min(high),
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

/// Changes the limit. Lowering: `memory.high` first, which throttles and reclaims but never kills; then, once it is adopted,
/// `memory.max`.
pub fn set_limit(
    path: &Path,
    to: u64,
    lowering: Lowering,
    watch: &mut dyn LimitWatch,
) -> Result<LimitChange, HostError> {
    let begun = Instant::now();
    let (max, high) = (path.join("memory.max"), path.join("memory.high"));
    let from = files::read_number(&max)?;
    let mut steps = 0;
    if to < from {
        files::write(&high, to)?;
        watch.accepted(to);
        let fell = wait_for_usage(path, to, (begun, lowering), watch);
        let written = match fell {
            Ok(true) => files::write(&max, to),
            _ => Ok(()),
        };
        // Left in place it would throttle the service at its own limit, whatever came of the other one.
        files::write(&high, "max")?;
        written?;
        if !fell? {
            let usage = files::read_number(&path.join("memory.current"))?;
            return Err(HostError::LimitHeld {
                path: path.to_owned(),
                asked: to,
                got: from,
                usage,
            });
        }
        steps = 1;
    } else {
        files::write(&max, to)?;
        watch.accepted(to);
    }
    Ok(LimitChange {
        from,
        to: taken(&max, to)?,
        steps,
        took: begun.elapsed(),
    })
}

/// Whether usage fell to `room` below the new limit, and who lives under it has seen it, in time.
fn wait_for_usage(
    path: &Path,
    below: u64,
    (begun, lowering): (Instant, Lowering),
    watch: &dyn LimitWatch,
) -> Result<bool, HostError> {
    let current = KernelFile::open(path.join("memory.current"))?;
    let stat = KernelFile::open_optional(path.join("memory.stat"))?;
    loop {
        let droppable = stat.as_ref().map_or(Ok(0), droppable)?;
        let held = current.number()?.saturating_sub(droppable);
        if held + lowering.room <= below && watch.adopted(below) {
            return Ok(true);
        }
        if begun.elapsed() > lowering.patience || watch.given_up() {
            return Ok(false);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the interval of a bounded poll of the kernel"
        )]
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Page cache that the kernel can drop at once.
fn droppable(stat: &KernelFile) -> Result<u64, HostError> {
    stat.with(|text| {
        let get = |key| files::field(text, key).unwrap_or(0);
        let cache = get("active_file") + get("inactive_file");
        Ok(cache.saturating_sub(get("file_dirty") + get("file_writeback")))
    })
}
