//! The protections of the service that can be switched off, and their switches.

use super::{BuildKind, Target};

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

/// Has the service run without a protection, in the build that can.
pub fn switch_off(target: &mut Target, protection: &str) {
    target.build = BuildKind::Controls;
    target.args.push(switch(protection));
}

/// Whether a flag of the service turns something off.
#[must_use]
pub fn is_switch(arg: &str) -> bool {
    arg.starts_with("--unsafe-")
}
