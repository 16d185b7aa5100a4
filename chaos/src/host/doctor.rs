//! What this host can do, what it lacks, and how to mend it.

use backdrop_reports::record::Host;

use super::cgroup::Hierarchy;
use super::error::HostError;

/// Whether a check is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// Fine.
    Good,
    /// Runs are possible but weaker.
    Weak,
    /// Runs are not possible, or prove nothing.
    Bad,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Short name.
    pub name: &'static str,
    /// Content or not.
    pub state: CheckState,
    /// What was found, in words.
    pub found: String,
    /// What to do about it; empty when good.
    pub mend: String,
}

/// Looks at everything a run needs.
#[must_use]
pub fn doctor() -> Vec<Check> {
    vec![]
}

/// The host as the run record has it. `hierarchy` is what the run uses, or why none could be had.
#[must_use]
pub fn host_facts(hierarchy: Result<&Hierarchy, &HostError>) -> Host {
    let _ = hierarchy;
    Host::default()
}
