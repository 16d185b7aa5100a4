//! The protections of the service that can be switched off, and their switches.

/// Each that a mutant may lack, in the order of the mutation suite's table.
pub const PROTECTIONS: [&str; 8] = [
    "budget",
    "governor",
    "eviction-order",
    "single-flight",
    "version-check",
    "dwell",
    "body-limit",
    "queue-bound",
];

/// The service's flag that turns a protection off.
#[must_use]
pub fn switch(protection: &str) -> String {
    format!("--unsafe-disable-{protection}")
}

/// Whether a flag of the service turns something off.
#[must_use]
pub fn is_switch(arg: &str) -> bool {
    arg.starts_with("--unsafe-")
}
