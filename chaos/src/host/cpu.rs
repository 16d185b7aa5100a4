//! Which CPUs there are and who runs on which.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::error::HostError;
use super::sys;

/// A set of CPUs; prints and parses as `0,2-3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(Vec<usize>);

/// Highest CPU number that is taken, as in the kernel's own sets.
const CPU_MAX: usize = 1023;

impl CpuSet {
    /// From numbers, sorted and without repeats.
    #[must_use]
    pub fn new(cpus: impl IntoIterator<Item = usize>) -> Self {
        let mut cpus: Vec<_> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self(cpus)
    }

    /// The numbers in order.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.0
    }

    /// CPUs that this process may use.
    pub fn allowed() -> Result<Self, HostError> {
        sys::affinity().map(Self::new).map_err(HostError::io(
            "reading the CPUs of",
            Path::new("/proc/self"),
        ))
    }

    /// Both together.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(&other.0).copied())
    }

    /// Confines a process with all threads it has now; those it starts later inherit it.
    pub fn pin(&self, pid: u32) -> Result<(), HostError> {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let entries = std::fs::read_dir(&tasks).map_err(HostError::io("listing", &tasks))?;
        for entry in entries {
            let name = entry.map_err(HostError::io("listing", &tasks))?.file_name();
            let Some(thread) = name.to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            match sys::set_affinity(thread, &self.0) {
                // A thread may end while we look.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                other => other.map_err(HostError::io("setting the CPUs of", &tasks.join(&name)))?,
            }
        }
        Ok(())
    }

    fn split_at(&self, at: usize) -> (Self, Self) {
        let (left, right) = self.0.split_at(at.min(self.0.len()));
        (Self(left.to_vec()), Self(right.to_vec()))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (n, run) in runs.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match run {
                [one] => write!(f, "{comma}{one}")?,
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let odd = || HostError::Invalid {
            what: text.to_owned(),
            why: format!("CPUs are written like 0,2-3, none above {CPU_MAX}"),
        };
        let mut cpus = Vec::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |s: &str| {
                s.trim()
                    .parse::<usize>()
                    .ok()
                    .filter(|&n| n <= CPU_MAX)
                    .ok_or_else(odd)
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(odd());
            }
            cpus.extend(first..=last);
        }
        Ok(Self::new(cpus))
    }
}

/// Who runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Service.
    pub service: CpuSet,
    /// Simulator; the runner itself goes there too.
    pub simulator: CpuSet,
    /// Hogs: they press the service, not the measurement.
    pub hog: CpuSet,
    /// False when simulator and service have to share a CPU.
    pub apart: bool,
    /// The decision in words, for the record.
    pub words: String,
}

impl Placement {
    /// Splits these CPUs: half for the simulator (8 at most, it needs no more), the rest for service and hogs.
    #[must_use]
    pub fn decide(allowed: &CpuSet) -> Self {
        let count = allowed.cpus().len();
        if count < 2 {
            let words = format!(
                "one CPU ({allowed}): simulator, service and hogs share it, latency figures include each other"
            );
            return Self {
                service: allowed.clone(),
                simulator: allowed.clone(),
                hog: allowed.clone(),
                apart: false,
                words,
            };
        }
        let (simulator, service) = allowed.split_at((count / 2).min(8));
        let words =
            format!("simulator and runner on CPU {simulator}, service and hogs on CPU {service}");
        Self {
            hog: service.clone(),
            service,
            simulator,
            apart: true,
            words,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_prints_as_it_parses() {
        for text in ["0", "0-1", "0,2-4,7", "1,3"] {
            assert_eq!(text.parse::<CpuSet>().expect("parsed").to_string(), text);
        }
        assert_eq!(
            "3,1,2,1".parse::<CpuSet>().expect("parsed").to_string(),
            "1-3"
        );
        for text in ["", "a", "3-1", "0,", "99999", "-1"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn two_cpus_keep_simulator_and_service_apart() {
        let placement = Placement::decide(&CpuSet::new([0, 1]));
        assert_eq!(
            (
                placement.simulator.cpus(),
                placement.service.cpus(),
                placement.hog.cpus()
            ),
            (&[0][..], &[1][..], &[1][..])
        );
        assert!(placement.apart);
        assert_eq!(
            placement.words,
            "simulator and runner on CPU 0, service and hogs on CPU 1"
        );
    }

    #[test]
    fn one_cpu_is_shared_and_said() {
        let placement = Placement::decide(&CpuSet::new([3]));
        assert!(!placement.apart && placement.words.contains("share"));
    }

    #[test]
    fn many_cpus_are_split_without_overlap() {
        for count in 2..64 {
            let placement = Placement::decide(&CpuSet::new(0..count));
            let together = placement
                .simulator
                .cpus()
                .iter()
                .chain(placement.service.cpus())
                .copied();
            assert_eq!(CpuSet::new(together).cpus().len(), count);
            assert_eq!(
                placement.simulator.cpus().len() + placement.service.cpus().len(),
                count
            );
            assert!(!placement.simulator.cpus().is_empty() && !placement.service.cpus().is_empty());
        }
    }

    #[test]
    fn a_child_can_be_pinned() {
        let allowed = CpuSet::allowed().expect("own CPUs");
        let one = CpuSet::new(allowed.cpus().iter().copied().take(1));
        let mut spec = super::super::CommandSpec::new("/bin/sleep");
        spec.args = vec!["1000".into()];
        let child = super::super::ServiceProcess::spawn(&spec).expect("started");
        one.pin(child.id().pid).expect("pinned");
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id().pid)).expect("status");
        let list = status
            .lines()
            .find_map(|l| l.strip_prefix("Cpus_allowed_list:"))
            .map(str::trim);
        assert_eq!(list, Some(one.to_string().as_str()));
    }
}
