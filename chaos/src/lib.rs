//! Chaos runner: the service in a real memory cgroup, faults injected, a verdict that can be believed.

pub mod host;
