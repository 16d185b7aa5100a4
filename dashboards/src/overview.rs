//! *Backdrop: overview*: is it serving, does it fit, and what it costs.

use crate::grafana::Dashboard;
use crate::head;
use crate::layout::{Draft, Layout};
use crate::queries::{quantile, rate, rate_by, select, share, total, up};
use crate::words::{
    FRAME_ROUTE, HIT_RATIO, HITS, NO_FAILPOINTS, NO_FRAMES, NO_SWITCHES, NOT_OK, STATE_COLOURS,
    STATES, SWITCH_ROUTES,
};

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    let layout = glance(Layout::default());
    let layout = traffic(layout);
    let layout = requests(layout);
    let layout = process(layout);
    head::OVERVIEW.over(layout.panels())
}

fn glance(layout: Layout) -> Layout {
    layout
        .row("At a glance")
        .panel(
            Draft::stat("Switches", "ops", "Acknowledged background switches per second, single and batch.")
                .query("switches", rate("switches_total", r#"result="ok""#)),
        )
        .panel(
            Draft::stat(
                "Switch request p99",
                "s",
                "99th percentile of the time from a switch request's head to its answer's head. The simulator's \
                 latency also holds the wait in its batch.",
            )
            .query("p99", quantile("0.99", "http_request_duration_seconds", SWITCH_ROUTES))
            .quiet(NO_SWITCHES)
            .thresholds(&[("green", None), ("orange", Some(0.01)), ("red", Some(0.05))]),
        )
        .panel(
            Draft::stat("Hit ratio", "percentunit", HIT_RATIO)
                .query("hit ratio", share("flyweight_accesses_total", HITS))
                .max(1.0)
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::stat(
                "Pressure of limit",
                "percentunit",
                "Memory that the kernel cannot drop, as a share of the limit. The governor acts at 85 % and 95 %.",
            )
            .query(
                "pressure",
                format!("max({} / {})", select("memory_pressure_bytes", ""), select("memory_limit_bytes", "")),
            )
            .thresholds(&[("green", None), ("orange", Some(0.85)), ("red", Some(0.95))]),
        )
        .panel(
            Draft::stat("Governor", "none", "State of the memory governor; the worst of the instances shown.")
                .query("state", format!("max({})", select("governor_state", "")))
                .words(&STATES)
                .thresholds(&STATE_COLOURS),
        )
        .panel(
            Draft::stat("Sessions", "short", "Live sessions of the instances shown.")
                .query("sessions", total("sessions", "")),
        )
}

fn traffic(layout: Layout) -> Layout {
    layout
        .row("Switches and frames: rate, errors, duration")
        .panel(
            Draft::lines("Switches by result", "ops", "Switches per second by result; one per session, not per batch.")
                .query("{{result}}", rate_by("result", "switches_total")),
        )
        .panel(
            Draft::lines(
                "Switch errors",
                "percentunit",
                "Share of switches that were not acknowledged with ok. No line while nobody switches.",
            )
            .query("not ok", share("switches_total", NOT_OK))
            .query("shed", share("switches_total", r#"result="shed""#))
            .quiet(NO_SWITCHES),
        )
        .panel(
            Draft::lines(
                "Switch request duration",
                "s",
                "Time from a switch request's head to its answer's head. The line is what a switch may take in all: 10 ms.",
            )
                .query("p50", quantile("0.5", "http_request_duration_seconds", SWITCH_ROUTES))
                .query("p99", quantile("0.99", "http_request_duration_seconds", SWITCH_ROUTES))
                .bound(0.01)
                .quiet(NO_SWITCHES)
                .log(),
        )
        .panel(
            Draft::lines("Frames by result", "ops", "Frames per second; degraded ones are the thumbnail.")
                .query("{{result}}", rate_by("result", "renders_total")),
        )
        .panel(
            Draft::lines(
                "Frame errors",
                "percentunit",
                "Share of frames that were degraded, shed or failed. No line while nobody asks for frames.",
            )
            .query("not ok", share("renders_total", NOT_OK))
            .query("degraded", share("renders_total", r#"result="degraded""#))
            .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines(
                "Frame duration",
                "s",
                "Render and encode alone, and the whole request with its wait for a worker and a texture.",
            )
            .query("render p50", quantile("0.5", "render_duration_seconds", ""))
            .query("render p99", quantile("0.99", "render_duration_seconds", ""))
            .query("request p99", quantile("0.99", "http_request_duration_seconds", FRAME_ROUTE))
            .quiet(NO_FRAMES)
            .log(),
        )
}

fn requests(layout: Layout) -> Layout {
    layout
        .row("Requests and memory")
        .panel(
            Draft::lines("Requests by route", "reqps", "HTTP requests per second by route.")
                .query("{{route}}", format!("{} > 0", rate_by("route", "http_requests_total"))),
        )
        .panel(
            Draft::lines("Requests by status", "reqps", "HTTP requests per second by class of status.")
                .query("{{status}}", rate_by("status", "http_requests_total")),
        )
        .panel(
            Draft::lines("Refused for load", "ops", "Requests answered with 503, by what was short.")
                .query("{{reason}}", rate_by("reason", "shed_total")),
        )
        .panel(
            Draft::lines(
                "Memory against its limit",
                "bytes",
                "Pressure is what the kernel cannot drop. The governor acts at the watermarks, the kernel kills at the limit.",
            )
            .width(16)
            .query("pressure", total("memory_pressure_bytes", ""))
            .query("limit", total("memory_limit_bytes", ""))
            .query("critical", total("memory_watermark_bytes", r#"level="critical""#))
            .query("elevated", total("memory_watermark_bytes", r#"level="elevated""#))
            .dashed("limit", "dark-red")
            .dashed("critical", "red")
            .dashed("elevated", "orange"),
        )
        .panel(
            Draft::lines("Hit ratio", "percentunit", HIT_RATIO)
                .max(1.0)
                .query("hit ratio", share("flyweight_accesses_total", HITS))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::states("Instances that answer", "Whether Prometheus reached each instance. One that was killed or restarts does not answer.")
                .query("{{instance}}", up())
                .words(&[("away", "red"), ("up", "green")])
                .thresholds(&[("red", None), ("green", Some(1.0))]),
        )
}

fn process(layout: Layout) -> Layout {
    layout
        .row("Sessions and process")
        .panel(
            Draft::lines("Sessions", "short", "Live sessions and how many the configuration allows.")
                .query("sessions", total("sessions", ""))
                .query("capacity", total("sessions_capacity", ""))
                .dashed("capacity", "red"),
        )
        .panel(
            Draft::lines("Processor", "cores", "Processor cores in use by the service, user and system.")
                .query("{{instance}}", format!("rate({}[$__rate_interval])", select("process_cpu_seconds_total", ""))),
        )
        .panel(
            Draft::lines("Connections", "short", "Open connections of the public listener.")
                .query("{{instance}}", select("http_connections", "")),
        )
        .panel(
            Draft::lines(
                "Connections not accepted",
                "ops",
                "Connections per second that could not be accepted: descriptors or memory of the process have run out.",
            )
            .query("{{instance}}", rate_by("instance", "http_accept_errors_total")),
        )
        .panel(
            Draft::lines("Uploads by result", "ops", "Backgrounds uploaded per second, by result.")
                .query("{{result}}", rate_by("result", "uploads_total")),
        )
        .panel(
            Draft::lines(
                "Failpoints",
                "ops",
                "Triggers per second of each failpoint. Only a build with the feature `failpoints` has them.",
            )
            .query("{{failpoint}}", rate_by("failpoint", "failpoint_triggers_total"))
            .quiet(NO_FAILPOINTS),
        )
}
