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
}

impl Probe {
    /// Finds the own cgroup. `explicit` overrides the limit (usage is then still read where the cgroup's limit is, if it has one).
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
            Some(_) => format!("set explicitly; usage of {level}"),
            None => level,
        }
    }

    /// Looks again which limit applies: limits move while we run.
    pub fn refresh_limit(&mut self) -> Result<(), ProbeError> {
        let found = self.location.as_ref().and_then(|location| {
            limiting_level(location, |level| limit_at(location.version, level))
        });
        let host = self.host_total()?;
        let (level, limit) = match found {
            Some((level, bytes)) if bytes <= host => (Some(level), bytes),
            _ => (None, host),
        };
        self.level = level;
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
        let (Some(location), Some(level)) = (&self.location, &self.level) else {
            return Ok(Reading {
                limit: self.limit,
                usage: rss.total,
                pressure: rss.unreclaimable(),
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
mod tests {
    use super::drawn::Host;
    use super::*;

    const MOUNTS_V1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const MOUNTS_V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const MOUNTS_CONTAINER: &str =
        "900 800 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
    const CGROUP_V1: &str = "9:name=systemd:/\n4:memory:/bench/run/service\n0::/\n";
    const CGROUP_V2: &str = "0::/user.slice/bench/service\n";
    const STAT_V1: &str = "cache 100\nactive_file 1\ninactive_file 2\nhierarchical_memory_limit 402653184\n\
        total_cache 5000\ntotal_dirty 100\ntotal_writeback 50\ntotal_inactive_file 3000\ntotal_active_file 1000\n";
    const STAT_V2: &str = "anon 7000\nfile 4000\nkernel 10\nfile_dirty 100\nfile_writeback 50\ninactive_file 3000\nactive_file 1000\n";

    #[test]
    fn pressure_leaves_out_clean_page_cache_only() {
        let v1 = usage_v1("10000\n", STAT_V1).expect("v1");
        assert_eq!(v1.pressure(), 10_000 - (4_000 - 150));
        let v2 = usage_v2("10000\n", STAT_V2).expect("v2");
        assert_eq!(v1, v2);
        let racing = Usage {
            usage: 100,
            active_file: 500,
            ..Usage::default()
        };
        assert_eq!(
            racing.pressure(),
            0,
            "counters read at different moments are clamped"
        );
        let dirty = Usage {
            usage: 100,
            active_file: 10,
            dirty: 50,
            ..Usage::default()
        };
        assert_eq!(dirty.pressure(), 100);
    }

    #[test]
    fn limits_that_are_none() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("402653184\n"), Some(402_653_184));
        assert_eq!(limit("garbage"), None);
    }

    #[test]
    fn finds_the_own_group_in_v1_v2_and_a_container() {
        let v1 = locate(MOUNTS_V1, CGROUP_V1, |_| true).expect("v1");
        assert_eq!(
            (v1.version, v1.own),
            (
                Version::V1,
                PathBuf::from("/sys/fs/cgroup/memory/bench/run/service")
            )
        );
        let v2 = locate(MOUNTS_V2, CGROUP_V2, |_| true).expect("v2");
        assert_eq!(
            (v2.version, v2.own),
            (
                Version::V2,
                PathBuf::from("/sys/fs/cgroup/user.slice/bench/service")
            )
        );
        let hidden =
            locate(MOUNTS_CONTAINER, "4:memory:/docker/abc/leaf\n", |_| true).expect("container");
        assert_eq!(hidden.own, PathBuf::from("/sys/fs/cgroup/memory/leaf"));
        let foreign =
            locate(MOUNTS_CONTAINER, "4:memory:/elsewhere\n", |_| true).expect("container");
        assert_eq!(foreign.own, foreign.mount);
        let gone =
            locate(MOUNTS_V1, CGROUP_V1, |path| path.ends_with("memory")).expect("vanished group");
        assert_eq!(gone.own, gone.mount);
        assert_eq!(locate("", "", |_| true), None);
    }

    #[test]
    fn the_tightest_level_applies_and_the_nearest_of_equals() {
        let location = locate(MOUNTS_V1, CGROUP_V1, |_| true).expect("location");
        let limits = |own: Option<u64>, run: Option<u64>, bench: Option<u64>| {
            limiting_level(&location, move |level| {
                match level.file_name().and_then(|name| name.to_str()) {
                    Some("service") => own,
                    Some("run") => run,
                    Some("bench") => bench,
                    _ => None,
                }
            })
            .map(|(level, bytes)| {
                (
                    level
                        .file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                    bytes,
                )
            })
        };
        assert_eq!(limits(None, None, None), None);
        assert_eq!(
            limits(None, Some(384), Some(1000)),
            Some(("run".into(), 384))
        );
        assert_eq!(
            limits(Some(500), Some(384), None),
            Some(("run".into(), 384))
        );
        assert_eq!(
            limits(Some(384), Some(384), None),
            Some(("service".into(), 384))
        );
        assert_eq!(
            limits(None, Some(500), Some(384)),
            Some(("bench".into(), 384))
        );
    }

    #[test]
    fn v1_reads_foreign_usage_and_follows_a_moving_limit() {
        let host = Host::new(Version::V1);
        host.write("cg/run/memory.limit_in_bytes", "400000\n");
        host.write("cg/run/memory.usage_in_bytes", "300000\n");
        host.write(
            "cg/run/memory.stat",
            "total_active_file 0\ntotal_inactive_file 100000\ntotal_dirty 0\ntotal_writeback 0\n",
        );
        host.write(
            "cg/run/service/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        host.write("cg/run/service/memory.usage_in_bytes", "150000\n");
        host.write(
            "cg/run/service/memory.stat",
            "total_active_file 30000\ntotal_inactive_file 0\ntotal_dirty 0\ntotal_writeback 0\n",
        );
        let mut probe = host.probe(None);
        let reading = probe.read().expect("reading");
        assert_eq!(
            reading,
            Reading {
                limit: 400_000,
                usage: 300_000,
                pressure: 200_000,
                own: 120_000,
                rss: 60 << 10
            }
        );
        assert_eq!(reading.foreign(), 80_000);
        host.write("cg/run/memory.limit_in_bytes", "250000\n");
        probe.refresh_limit().expect("limit");
        assert_eq!(probe.limit(), 250_000);
        let mut explicit = host.probe(Some(123_456));
        explicit.refresh_limit().expect("limit");
        assert_eq!(explicit.read().expect("reading").limit, 123_456);
        assert_eq!(explicit.read().expect("reading").pressure, 200_000);
    }

    #[test]
    fn v2_takes_the_lower_of_high_and_max() {
        let host = Host::new(Version::V2);
        host.write("cg/run/memory.high", "300000\n");
        host.write("cg/run/memory.max", "400000\n");
        host.write("cg/run/memory.current", "200000\n");
        host.write("cg/run/memory.stat", STAT_V2);
        host.write("cg/run/service/memory.max", "max\n");
        host.write("cg/run/service/memory.current", "200000\n");
        host.write("cg/run/service/memory.stat", STAT_V2);
        let reading = host.probe(None).read().expect("reading");
        assert_eq!((reading.limit, reading.foreign()), (300_000, 0));
        host.write("cg/run/memory.high", "max\n");
        assert_eq!(host.probe(None).limit(), 400_000);
    }

    #[test]
    fn without_a_limit_the_host_counts_and_in_its_own_group_the_neighbour_is_foreign() {
        let host = Host::new(Version::V1);
        let reading = host.probe(None).read().expect("reading");
        assert_eq!(
            (reading.limit, reading.own, reading.foreign()),
            (1000 << 10, 40 << 10, 0)
        );
        host.write("cg/run/service/memory.limit_in_bytes", "400000\n");
        host.write("cg/run/service/memory.usage_in_bytes", "300000\n");
        host.write("cg/run/service/memory.stat", STAT_V1);
        let reading = host.probe(None).read().expect("reading");
        assert_eq!(reading.own, 40 << 10);
        assert_eq!(reading.foreign(), reading.pressure - (40 << 10));
    }

    #[test]
    fn this_host_can_be_read() {
        let probe = Probe::detect(None).expect("probe");
        let reading = probe.read().expect("reading");
        assert!(reading.rss > 0 && reading.limit > reading.rss);
        assert!(!probe.source().is_empty());
    }
}
