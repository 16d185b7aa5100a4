//! Chaos runner: the service in a real memory cgroup, faults injected, a verdict that can be believed.
//!
//! `scenario` says what to do, `host` does it to the kernel, `trial` observes one start of the service under load, `figures`
//! turns observations into figures, `expect` and `verdict` judge them (both pure), `runner` strings it all together.

pub mod abort;
pub mod admin;
pub mod catalogue;
pub mod cli;
pub mod context;
pub mod expect;
pub mod explain;
pub mod exposed;
pub mod faults;
pub mod figures;
pub mod host;
pub mod live;
pub mod load;
pub mod lru;
pub mod metrics;
pub mod mutants;
pub mod observed;
pub mod plan;
pub mod probes;
pub mod progress;
pub mod record;
pub mod recording;
pub mod rig;
pub mod runner;
pub mod scenario;
pub mod search;
pub mod service;
pub mod stalls;
pub mod steady;
pub mod targets;
pub mod trial;
pub mod units;
pub mod verdict;
