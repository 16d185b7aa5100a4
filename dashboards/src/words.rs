//! Words and colours that several dashboards use for the same thing, and the events that panels wait for.

use crate::grafana::Quiet;

/// States of the governor: their words and colours, by value.
pub const STATES: [(&str, &str); 3] = [
    ("normal", "green"),
    ("elevated", "orange"),
    ("critical", "red"),
];
/// Colours of the same.
pub const STATE_COLOURS: [(&str, Option<f64>); 3] =
    [("green", None), ("orange", Some(1.0)), ("red", Some(2.0))];
/// Everything that is not `ok`.
pub const NOT_OK: &str = r#"result!="ok""#;
/// Requests that switch.
pub const SWITCH_ROUTES: &str = r#"route=~"batch_switch|session_switch""#;
/// Requests for a frame.
pub const FRAME_ROUTE: &str = r#"route="session_frame""#;
/// Requests for a composite.
pub const COMPOSITE_ROUTE: &str = r#"route="session_composite""#;
/// As chaos and the report have it: an exact LRU that replays the accesses finds what is loading there, too.
pub const HITS: &str = r#"result=~"hit|joined""#;
/// What the hit ratio is.
pub const HIT_RATIO: &str = "Share of texture accesses, whatever came of them, that found their texture resident or its load \
                             under way. Degraded answers and 503s are no hits.";
/// Why a panel of switches may be empty.
pub const NO_SWITCHES: Quiet = Quiet {
    why: "nobody switched in that run",
    event: r#"sum(backdrop_switches_total{result="ok"})"#,
    may_be_missing: false,
};
/// Why a panel of frames may be empty.
pub const NO_FRAMES: Quiet = Quiet {
    why: "nobody asked for a frame in that run",
    event: r#"sum(backdrop_renders_total{result="ok"})"#,
    may_be_missing: false,
};
/// Why a panel of composites may be empty.
pub const NO_COMPOSITES: Quiet = Quiet {
    why: "nobody asked for a composite in that run",
    event: r#"sum(backdrop_composites_total{result="ok"})"#,
    may_be_missing: false,
};
/// Why a panel of batches may be empty.
pub const NO_GPU_FRAMES: Quiet = Quiet {
    why: "no GPU drew in that run",
    event: r#"sum(backdrop_frames_drawn_total{renderer="gpu"})"#,
    may_be_missing: true,
};
/// Why a panel of failpoints may be empty.
pub const NO_FAILPOINTS: Quiet = Quiet {
    why: "no service of that run was built with failpoints",
    event: "sum(backdrop_failpoint_triggers_total)",
    may_be_missing: true,
};
/// Why a panel of reads from the archive may be empty.
pub const NO_ARCHIVE_HITS: Quiet = Quiet {
    why: "no texture was read back from the archive in that run",
    event: r#"sum(backdrop_archive_reads_total{result="hit"})"#,
    may_be_missing: false,
};
/// Why a panel of faults may be empty.
pub const NO_FAULTS: Quiet = Quiet {
    why: "no fault acted in that run",
    event: "sum(backdrop_chaos_faults_begun_total)",
    may_be_missing: false,
};
