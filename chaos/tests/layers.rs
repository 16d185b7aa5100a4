//! Who may import whom: the runner links `reports` and nothing else of ours; the host side imports nothing beside itself.

use std::fs;
use std::path::PathBuf;

#[path = "../../reports/tests/support/layers.rs"]
mod layers;

const ALLOWED: &[layers::Row] = &[
    ("abort", &["scenario::*"]),
    ("admin", &["lru", "metrics", "units"]),
    ("catalogue::*", &[]),
    ("cli", &["host::*", "scenario::*"]),
    (
        "context",
        &[
            "exposed",
            "host::*",
            "progress::*",
            "rig",
            "scenario::*",
            "targets",
        ],
    ),
    (
        "expect",
        &["catalogue::*", "figures", "scenario::*", "stalls"],
    ),
    (
        "explain",
        &["catalogue::*", "scenario::*", "units", "verdict"],
    ),
    ("exposed", &["host::*", "scenario::*"]),
    (
        "faults::*",
        &[
            "admin",
            "host::*",
            "observed",
            "probes",
            "rig",
            "scenario::*",
            "service",
            "units",
            "verdict",
        ],
    ),
    (
        "figures",
        &[
            "catalogue::*",
            "host::*",
            "lru",
            "metrics",
            "observed",
            "steady",
        ],
    ),
    ("host::*", &[]),
    (
        "live",
        &["catalogue::*", "figures", "observed", "scenario::*"],
    ),
    ("load", &["host::*", "rig", "scenario::*", "units"]),
    ("lru", &[]),
    ("metrics", &[]),
    ("mutants", &["scenario::*", "verdict"]),
    (
        "observed",
        &["host::*", "lru", "metrics", "scenario::*", "stalls"],
    ),
    ("plan", &["scenario::*"]),
    ("probes", &["admin", "observed", "rig"]),
    ("progress::*", &["live", "units"]),
    (
        "record",
        &[
            "expect", "figures", "host::*", "metrics", "observed", "trial::*", "units",
        ],
    ),
    (
        "recording",
        &["admin", "exposed", "rig", "targets", "units"],
    ),
    (
        "rig",
        &[
            "exposed",
            "host::*",
            "observed",
            "scenario::*",
            "service",
            "units",
        ],
    ),
    (
        "runner::*",
        &[
            "catalogue::*",
            "cli",
            "context",
            "expect",
            "exposed",
            "figures",
            "host::*",
            "load",
            "mutants",
            "observed",
            "plan",
            "progress::*",
            "record",
            "rig",
            "scenario::*",
            "search::*",
            "stalls",
            "steady",
            "targets",
            "trial::*",
            "units",
            "verdict",
        ],
    ),
    ("scenario::*", &["catalogue::*", "units"]),
    ("search::*", &["scenario::*", "steady", "units"]),
    ("service", &["admin", "host::*", "scenario::*"]),
    ("stalls", &["host::*"]),
    ("steady", &["figures", "metrics", "observed"]),
    ("targets", &["host::*"]),
    (
        "trial::*",
        &[
            "abort",
            "context",
            "faults::*",
            "host::*",
            "live",
            "load",
            "metrics",
            "observed",
            "probes",
            "progress::*",
            "recording",
            "rig",
            "scenario::*",
            "service",
            "stalls",
            "targets",
            "units",
            "verdict",
        ],
    ),
    ("units", &[]),
    (
        "verdict",
        &["catalogue::*", "expect", "scenario::*", "steady", "units"],
    ),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn imports_follow_the_layers() {
    let wrong = layers::wrong(&root().join("src"), ALLOWED);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_runner_depends_on_reports_alone() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let ours: Vec<_> = manifest
        .lines()
        .filter(|l| l.starts_with("backdrop-"))
        .collect();
    assert_eq!(ours, ["backdrop-reports = { path = \"../reports\" }"]);
}

/// Rules are pure: what is judged is handed in.
#[test]
fn rules_do_no_input_and_no_output() {
    for name in [
        "verdict.rs",
        "abort.rs",
        "scenario/check_abort.rs",
        "expect.rs",
        "figures.rs",
        "steady.rs",
        "live.rs",
        "lru.rs",
        "stalls.rs",
        "catalogue.rs",
        "catalogue/table.rs",
        "plan.rs",
        "scenario/check.rs",
        "scenario/check_controls.rs",
        "scenario/check_faults.rs",
        "search/dial.rs",
        "search/draw.rs",
        "search/mod.rs",
        "search/shrink.rs",
        "search/trials.rs",
    ] {
        let text = fs::read_to_string(root().join("src").join(name)).unwrap();
        for word in [
            "std::fs",
            "std::process",
            "tokio::",
            "SystemTime::now",
            "Instant::now",
        ] {
            assert!(!text.contains(word), "{name} uses {word}");
        }
    }
}
