//! What the kernel says about memory: the cgroup (v1 or v2) whose limit applies, its usage and its pressure.
//!
//! Parsers take text and are tested on fixtures; [`Probe`] only finds and re-reads the files. Pressure is usage less the page cache
//! that the kernel can drop at once: usage − (active_file + inactive_file − dirty − writeback). It decides nothing.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// v1 writes "no limit" as the largest page-aligned number; anything in its neighbourhood means none.
const UNLIMITED: u64 = 1 << 60;

/// Version of the cgroup interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The memory controller has a hierarchy of its own.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Where this process's memory cgroup is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Interface.
    pub version: Version,
    /// Directory of the hierarchy's root as it is visible here.
    pub mount: PathBuf,
    /// Directory of the own cgroup, at or below `mount`.
    pub own: PathBuf,
}

/// Usage and reclaimable page cache of one cgroup, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Everything charged to the group and its descendants.
    pub usage: u64,
    /// Page cache in use.
    pub active_file: u64,
    /// Page cache not used lately.
    pub inactive_file: u64,
    /// Of that, waiting to be written.
    pub dirty: u64,
    /// Of that, being written.
    pub writeback: u64,
}

impl Usage {
    /// What the kernel cannot simply drop.
    pub fn pressure(&self) -> u64 {
        let droppable =
            (self.active_file + self.inactive_file).saturating_sub(self.dirty + self.writeback);
        self.usage.saturating_sub(droppable)
    }
}

/// One reading, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Limit in force.
    pub limit: u64,
    /// Usage at the level of the limit.
    pub usage: u64,
    /// Pressure at the level of the limit.
    pub pressure: u64,
    /// Usage less the page cache that was not used lately, as kubelet holds it against a limit. Shown, and used for nothing.
    pub working_set: u64,
    /// Own share of the pressure.
    pub own: u64,
    /// Resident memory of this process.
    pub rss: u64,
}

impl Reading {
    /// Pressure under the same limit that is not ours.
    pub fn foreign(&self) -> u64 {
        self.pressure.saturating_sub(self.own)
    }
}

/// Why memory cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A file that must be there could not be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A file did not hold what it should.
    #[error("{} holds no {field}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        field: &'static str,
    },
}

/// The number after `key` in lines of `key number`.
pub fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        if name.trim_end_matches(':') == key {
            value.split_whitespace().next()?.parse().ok()
        } else {
            None
        }
    })
}

/// A limit file's number; `None` for "max", v1's huge number or nonsense.
pub fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < UNLIMITED)
}

/// Usage from the texts of v1's `memory.usage_in_bytes` and `memory.stat` (hierarchical `total_` figures).
pub fn usage_v1(usage: &str, stat: &str) -> Option<Usage> {
    Some(Usage {
        usage: usage.trim().parse().ok()?,
        active_file: field(stat, "total_active_file")?,
        inactive_file: field(stat, "total_inactive_file")?,
        dirty: field(stat, "total_dirty").unwrap_or(0),
        writeback: field(stat, "total_writeback").unwrap_or(0),
    })
}

/// Usage from the texts of v2's `memory.current` and `memory.stat`.
pub fn usage_v2(current: &str, stat: &str) -> Option<Usage> {
    Some(Usage {
        usage: current.trim().parse().ok()?,
        active_file: field(stat, "active_file")?,
        inactive_file: field(stat, "inactive_file")?,
        dirty: field(stat, "file_dirty").unwrap_or(0),
        writeback: field(stat, "file_writeback").unwrap_or(0),
    })
}

/// Mount point and root of the hierarchy, from `/proc/self/mountinfo`: v1's memory controller if it is mounted, else v2.
pub fn mount(mountinfo: &str) -> Option<(Version, PathBuf, PathBuf)> {
    let mut unified = None;
    for line in mountinfo.lines() {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or_default());
        if kind == "cgroup" && options.split(',').any(|option| option == "memory") {
            return Some((Version::V1, PathBuf::from(point), PathBuf::from(root)));
        }
        if kind == "cgroup2" {
            unified = Some((Version::V2, PathBuf::from(point), PathBuf::from(root)));
        }
    }
    unified
}

/// Path of the own cgroup within the hierarchy, from `/proc/self/cgroup`.
pub fn own_path(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::V1 => controllers
                .split(',')
                .any(|controller| controller == "memory"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        ours.then_some(path)
    })
}

/// Puts the three together: the own directory below the mount point. A path outside the visible root (a container that sees
/// its own cgroup as `/`) falls back to the mount point itself.
pub fn locate(mountinfo: &str, cgroup: &str, exists: impl Fn(&Path) -> bool) -> Option<Location> {
    let (version, mount, root) = mount(mountinfo)?;
    let path = own_path(cgroup, version)?;
    let below = Path::new(path)
        .strip_prefix(&root)
        .map(Path::to_path_buf)
        .unwrap_or_default();
    // A cgroup namespace shows a group above its root as `/..`: nothing there is ours to read.
    let below = if below
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        below
    } else {
        PathBuf::new()
    };
    let own = mount.join(below);
    let own = if exists(&own) { own } else { mount.clone() };
    Some(Location {
        version,
        mount,
        own,
    })
}

/// The level whose limit applies to `own`: of all levels up to the mount point the one with the least limit, the nearest if equal.
pub fn limiting_level(
    location: &Location,
    limit_of: impl Fn(&Path) -> Option<u64>,
) -> Option<(PathBuf, u64)> {
    let mut tightest: Option<(PathBuf, u64)> = None;
    for level in location
        .own
        .ancestors()
        .take_while(|level| level.starts_with(&location.mount))
    {
        if let Some(bytes) = limit_of(level)
            && tightest.as_ref().is_none_or(|(_, least)| bytes < *least)
        {
            tightest = Some((level.to_path_buf(), bytes));
        }
    }
    tightest
}

fn limit_at(version: Version, level: &Path) -> Option<u64> {
    let read = |file: &str| {
        fs::read_to_string(level.join(file))
            .ok()
            .as_deref()
            .and_then(limit)
    };
    match version {
        Version::V1 => read("memory.limit_in_bytes"),
        Version::V2 => match (read("memory.high"), read("memory.max")) {
            (Some(high), Some(max)) => Some(high.min(max)),
            (high, max) => high.or(max),
        },
    }
}

/// v1's own word for the least limit above a group, from the text of its `memory.stat`. It counts levels that a container cannot see.
pub fn hierarchical_limit(stat: &str) -> Option<u64> {
    field(stat, "hierarchical_memory_limit").filter(|&bytes| bytes < UNLIMITED)
}

/// The limit in force and the level whose usage is held against it. A limit above the visible root leaves the root: the most that can
/// be read of what counts against it.
fn in_force(location: &Location) -> Option<(PathBuf, u64)> {
    let walked = limiting_level(location, |level| limit_at(location.version, level));
    let told = match location.version {
        Version::V1 => fs::read_to_string(location.own.join("memory.stat"))
            .ok()
            .as_deref()
            .and_then(hierarchical_limit),
        Version::V2 => None,
    };
    match told {
        Some(bytes) if walked.as_ref().is_none_or(|(_, least)| bytes < *least) => {
            Some((location.mount.clone(), bytes))
        }
        _ => walked,
    }
}

fn text(path: &Path) -> Result<String, ProbeError> {
    fs::read_to_string(path).map_err(|cause| ProbeError::Read {
        path: path.to_path_buf(),
        cause,
    })
}

fn usage_at(version: Version, level: &Path) -> Result<Usage, ProbeError> {
    let stat = text(&level.join("memory.stat"))?;
    let parsed = match version {
        Version::V1 => usage_v1(&text(&level.join("memory.usage_in_bytes"))?, &stat),
        Version::V2 => usage_v2(&text(&level.join("memory.current"))?, &stat),
    };
    parsed.ok_or(ProbeError::Format {
        path: level.join("memory.stat"),
        field: "usage",
    })
}

/// Reads memory figures again and again, wherever they come from.
#[derive(Debug)]
pub struct Probe {
    proc: PathBuf,
    location: Option<Location>,
    level: Option<PathBuf>,
    limit: u64,
    explicit: Option<u64>,
    /// The explicit limit is below the one found: a share of it, which only our own memory is held against.
    alone: bool,
}

impl Probe {
    /// Finds the own cgroup. `explicit` overrides the limit. Below the limit found it is a share of that, for this process alone: what
    /// else runs in the same container counts against the container's limit, not against the share. Otherwise usage is read where
    /// the cgroup's limit is, if it has one.
    pub fn detect(explicit: Option<u64>) -> Result<Self, ProbeError> {
        Self::detect_in(Path::new("/proc"), explicit)
    }

    /// The same with another `/proc`.
    pub fn detect_in(proc: &Path, explicit: Option<u64>) -> Result<Self, ProbeError> {
        let location = match (
            text(&proc.join("self/mountinfo")),
            text(&proc.join("self/cgroup")),
        ) {
            (Ok(mountinfo), Ok(cgroup)) => locate(&mountinfo, &cgroup, Path::exists),
            _ => None,
        };
        let mut probe = Self {
            proc: proc.to_path_buf(),
            location,
            level: None,
            limit: 0,
            explicit,
            alone: false,
        };
        probe.refresh_limit()?;
        Ok(probe)
    }

    /// Limit as of the last refresh, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Where the limit comes from, for the log.
    pub fn source(&self) -> String {
        let level = match (&self.level, &self.location) {
            (Some(level), Some(location)) => {
                format!("cgroup {:?} {}", location.version, level.display())
            }
            _ => "no cgroup limit, memory of the host".to_owned(),
        };
        match self.explicit {
            Some(_) if self.alone => {
                format!("set explicitly, for this process alone; within {level}")
            }
            Some(_) => format!("set explicitly; usage of {level}"),
            None => level,
        }
    }

    /// Looks again which limit applies: limits move while we run.
    pub fn refresh_limit(&mut self) -> Result<(), ProbeError> {
        let found = self.location.as_ref().and_then(in_force);
        let host = self.host_total()?;
        let (level, limit) = match found {
            Some((level, bytes)) if bytes <= host => (Some(level), bytes),
            _ => (None, host),
        };
        self.level = level;
        self.alone = self.explicit.is_some_and(|bytes| bytes < limit);
        self.limit = self.explicit.unwrap_or(limit);
        Ok(())
    }

    fn host_total(&self) -> Result<u64, ProbeError> {
        let path = self.proc.join("meminfo");
        field(&text(&path)?, "MemTotal")
            .map(|kib| kib << 10)
            .ok_or(ProbeError::Format {
                path,
                field: "MemTotal",
            })
    }

    /// One reading.
    pub fn read(&self) -> Result<Reading, ProbeError> {
        let rss = self.rss()?;
        let (Some(location), Some(level), false) = (&self.location, &self.level, self.alone) else {
            return Ok(Reading {
                limit: self.limit,
                usage: rss.total,
                pressure: rss.unreclaimable(),
                working_set: rss.total,
                own: rss.unreclaimable(),
                rss: rss.total,
            });
        };
        let at_limit = usage_at(location.version, level)?;
        let pressure = at_limit.pressure();
        // Alone in the limited group the kernel's figure is ours only as far as our own pages explain it: a neighbour in the
        // same group is foreign. Sockets and other kernel memory then count as foreign too, which errs on the safe side.
        let own = match location.own == *level {
            true => rss.unreclaimable().min(pressure),
            false => usage_at(location.version, &location.own)?
                .pressure()
                .min(pressure),
        };
        Ok(Reading {
            limit: self.limit,
            usage: at_limit.usage,
            pressure,
            working_set: at_limit.usage.saturating_sub(at_limit.inactive_file),
            own,
            rss: rss.total,
        })
    }

    fn rss(&self) -> Result<Rss, ProbeError> {
        let path = self.proc.join("self/status");
        Rss::parse(&text(&path)?).ok_or(ProbeError::Format {
            path,
            field: "VmRSS",
        })
    }
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rss {
    /// All of it.
    pub total: u64,
    /// Mapped files, which the kernel can drop.
    pub file: u64,
}

impl Rss {
    /// From the text of `/proc/<pid>/status`.
    pub fn parse(status: &str) -> Option<Self> {
        Some(Self {
            total: field(status, "VmRSS")? << 10,
            file: field(status, "RssFile").unwrap_or(0) << 10,
        })
    }

    /// What the kernel cannot drop.
    pub fn unreclaimable(&self) -> u64 {
        self.total.saturating_sub(self.file)
    }
}

#[cfg(test)]
pub(super) mod drawn {
    //! Hosts for tests.

    use super::*;

    /// A host drawn into a directory: `/proc` and a v1 or v2 hierarchy.
    pub(in crate::memory) struct Host(tempfile::TempDir);

    impl Host {
        pub(in crate::memory) fn new(version: Version) -> Self {
            let host = Host(tempfile::tempdir().expect("directory"));
            let mount = host.0.path().join("cg").display().to_string();
            host.write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 5 kB\n");
            host.write(
                "proc/self/status",
                "Name:\tx\nVmRSS:\t      60 kB\nRssFile:\t      20 kB\n",
            );
            let (mounts, cgroup) = match version {
                Version::V1 => (
                    format!("1 2 0:3 / {mount} rw - cgroup cgroup rw,memory\n"),
                    "4:memory:/run/service\n",
                ),
                Version::V2 => (
                    format!("1 2 0:3 / {mount} rw - cgroup2 cgroup2 rw\n"),
                    "0::/run/service\n",
                ),
            };
            host.write("proc/self/mountinfo", &mounts);
            host.write("proc/self/cgroup", cgroup);
            host
        }

        pub(in crate::memory) fn write(&self, path: &str, content: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("directories");
            fs::write(path, content).expect("file");
        }

        pub(in crate::memory) fn probe(&self, explicit: Option<u64>) -> Probe {
            Probe::detect_in(&self.0.path().join("proc"), explicit).expect("probe")
        }
    }
}

#[cfg(test)]
mod tests;
