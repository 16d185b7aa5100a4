//! *Backdrop: simulator*: the load as its sessions see it.

use crate::grafana::Dashboard;
use crate::head;
use crate::layout::{Draft, Layout};
use crate::queries::{quantile, rate, rate_by, rate_where, select, share_of, total, total_by};
use crate::words::{NO_FRAMES, NO_SWITCHES};

const LATENCY: &str = "simulator_latency_seconds";
const OPERATIONS: &str = "simulator_operations_total";
const SWITCH: &str = r#"operation="switch""#;
const PREVIEW: &str = r#"operation="preview""#;
/// Not in time for reasons of the simulator's own.
const LATE: &str = r#"how=~"late|dropped""#;

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    let layout = glance(Layout::default());
    let layout = load(layout);
    let layout = truth(layout);
    let layout = itself(layout);
    head::SIMULATOR.over(layout.panels())
}

/// Share of planned sends that the simulator itself did not make in time.
fn late() -> String {
    format!(
        "{} / ({} > 0)",
        rate("simulator_sends_missed_total", LATE),
        rate("simulator_sends_planned_total", "")
    )
}

fn glance(layout: Layout) -> Layout {
    layout
        .row("At a glance")
        .panel(
            Draft::stat("Sessions", "short", "Sessions that hold a background, of the loads shown.")
                .query("sessions", total("simulator_sessions", "")),
        )
        .panel(
            Draft::stat("Switches", "ops", "Acknowledged switches per second, one per session.")
                .query("switches", rate(OPERATIONS, r#"operation="switch",result="ok""#)),
        )
        .panel(
            Draft::stat("Switch p99", "s", "99th percentile from the planned time to the answer, the wait for its batch included. The goal is 10 ms.")
                .query("p99", quantile("0.99", LATENCY, SWITCH))
                .quiet(NO_SWITCHES)
                .thresholds(&[("green", None), ("orange", Some(0.01)), ("red", Some(0.05))]),
        )
        .panel(
            Draft::stat("Preview p99", "s", "99th percentile from a preview's planned time to its last byte.")
                .query("p99", quantile("0.99", LATENCY, PREVIEW))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::stat("Late by itself", "percentunit", "Share of planned sends that the simulator was late for or dropped. Above 1 % a run says nothing of the service.")
                .query("late", late())
                .thresholds(&[("green", None), ("orange", Some(0.005)), ("red", Some(0.01))]),
        )
        .panel(
            Draft::stat("Untrue answers", "short", "Lost, stale, wrong and torn answers found so far. Any is a defect of the service.")
                .query("findings", total("simulator_truth_findings_total", ""))
                .thresholds(&[("green", None), ("red", Some(1.0))]),
        )
        .panel(
            Draft::states("Phase", "What the run does: set up, warm up, load, drain, read every session back.")
                .query("{{phase}}", format!("max by (phase) ({}) > 0", select("simulator_phase", "")))
                .words(&[("off", "text"), ("on", "blue")])
                .thresholds(&[("blue", None)]),
        )
}

fn load(layout: Layout) -> Layout {
    layout
        .row("The load: rate, results, latency")
        .panel(
            Draft::lines("Switches by result", "ops", "Switches per second by result. Indeterminate: no answer in time, applied or not.")
                .query("{{result}}", rate_where("result", OPERATIONS, SWITCH)),
        )
        .panel(
            Draft::lines("Switches not acknowledged", "percentunit", "Share of switches that were shed, failed, or got no answer in time.")
                .query("not ok", share_of(OPERATIONS, r#"operation="switch",result!="ok""#, SWITCH))
                .quiet(NO_SWITCHES),
        )
        .panel(
            Draft::lines("Switch latency", "s", "From a session's planned time to its answer. The line is the goal for p99: 10 ms.")
                .query("p50", quantile("0.5", LATENCY, SWITCH))
                .query("p90", quantile("0.9", LATENCY, SWITCH))
                .query("p99", quantile("0.99", LATENCY, SWITCH))
                .query("p99.9", quantile("0.999", LATENCY, SWITCH))
                .bound(0.01)
                .quiet(NO_SWITCHES)
                .log(),
        )
        .panel(
            Draft::lines("Previews by result", "ops", "Preview frames per second by result. Degraded: the thumbnail.")
                .query("{{result}}", rate_where("result", OPERATIONS, PREVIEW)),
        )
        .panel(
            Draft::lines("Previews not whole", "percentunit", "Share of previews that were degraded, shed, failed, or got no answer in time.")
                .query("not ok", share_of(OPERATIONS, r#"operation="preview",result!="ok""#, PREVIEW))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Preview latency", "s", "From a preview's planned time to its last byte.")
                .query("p50", quantile("0.5", LATENCY, PREVIEW))
                .query("p90", quantile("0.9", LATENCY, PREVIEW))
                .query("p99", quantile("0.99", LATENCY, PREVIEW))
                .quiet(NO_FRAMES)
                .log(),
        )
        .panel(
            Draft::lines("Requests", "reqps", "HTTP requests per second, batches as one.")
                .query("requests", rate("simulator_requests_total", "")),
        )
        .panel(
            Draft::lines("Sessions", "short", "Sessions that hold a background, and how many the load wants. A fall: the service forgot them.")
                .query("holding", total("simulator_sessions", ""))
                .query("wanted", total("simulator_sessions_planned", ""))
                .dashed("wanted", "text"),
        )
        .panel(
            Draft::lines("Hot updates", "ops", "Backgrounds replaced per second under the load, each acknowledged.")
                .query("updates", rate("simulator_hot_updates_total", "")),
        )
}

fn truth(layout: Layout) -> Layout {
    layout
        .row("Truth")
        .panel(
            Draft::lines(
                "Untrue answers",
                "short",
                "Found so far. Lost: an acknowledged switch is not there. Stale: an older picture than one acknowledged. Wrong: a \
                 picture nobody asked for. Torn: two pictures in one frame.",
            )
            .width(12)
            .query("{{kind}}", total_by("kind", "simulator_truth_findings_total")),
        )
        .panel(
            Draft::lines("Looked at", "ops", "Sessions and frames per second that the truth checker compared with what was acknowledged. The sessions' peak is the read-back at the end.")
                .width(12)
                .query("{{what}}", rate_by("what", "simulator_truth_checked_total")),
        )
}

fn itself(layout: Layout) -> Layout {
    layout
        .row("The simulator itself")
        .panel(
            Draft::lines("Sends not as planned", "percentunit", "Share of planned sends. Late and dropped: the simulator woke late; above the line, 1 %, it was starved and the run says nothing.")
                .query("late or dropped", late())
                .bound(0.01),
        )
        .panel(
            Draft::lines("Sends missed", "ops", "Sends per second that were not made as planned. Unsent ones are the service's doing: no connection became free in time.")
                .query("{{how}}", rate_by("how", "simulator_sends_missed_total")),
        )
        .panel(
            Draft::lines("Processor", "cores", "Processor cores that the simulator uses.")
                .query("cores", rate("simulator_process_cpu_seconds_total", "")),
        )
        .panel(
            Draft::lines("Memory", "bytes", "Most memory that the simulator has held so far.")
                .query("peak", total("simulator_process_resident_peak_bytes", "")),
        )
        .panel(
            Draft::lines("Connections opened", "ops", "Connections opened per second. During the load there is no reason for any: the service closed one.")
                .query("opened", rate("simulator_connections_opened_total", "")),
        )
        .panel(
            Draft::states("Build and load", "Which build of the simulator runs which load.")
                .height(3)
                .width(8)
                .query("{{version}} {{scenario}}", format!("max by (version, scenario) ({})", select("simulator_build_info", "")))
                .words(&[("", "text"), ("runs", "blue")])
                .thresholds(&[("blue", None)]),
        )
}
