//! *Backdrop: chaos run*: what a run does, and what comes of it, by the runner, the service and the load side by side.

use crate::grafana::Dashboard;
use crate::head;
use crate::layout::{Draft, Layout};
use crate::queries::{
    most, quantile, rate, rate_by, rate_where, select, share, share_of, total, total_by, up,
};
use crate::words::{
    HIT_RATIO, HITS, NO_FAILPOINTS, NO_FAULTS, NO_FRAMES, NO_SWITCHES, STATE_COLOURS, STATES,
};

const SERVICE: &str = r#"leaf="service""#;
const LATENCY: &str = "simulator_latency_seconds";
const OPERATIONS: &str = "simulator_operations_total";

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    let layout = glance(Layout::default());
    let layout = course(layout);
    let layout = memory(layout);
    let layout = service(layout);
    head::CHAOS.over(layout.panels())
}

fn glance(layout: Layout) -> Layout {
    let verdict = |word: &str| total("chaos_scenarios_total", &format!("verdict=\"{word}\""));
    layout
        .row("At a glance")
        .panel(
            Draft::stat("Trials", "short", "Trials begun so far: scenarios, their controls, and attempts that a busy host spoilt.")
                .query("trials", total("chaos_trials_total", "")),
        )
        .panel(
            Draft::stat("Held", "short", "Scenarios that held so far: every expectation met, on evidence, and every control failed as demanded.")
                .query("held", verdict("held")),
        )
        .panel(
            Draft::stat("Deviated", "short", "Scenarios of which an expectation was not met.")
                .query("deviated", verdict("deviated"))
                .thresholds(&[("green", None), ("red", Some(1.0))]),
        )
        .panel(
            Draft::stat("Inconclusive", "short", "Scenarios whose evidence carries no conclusion, or that failed as such.")
                .query("inconclusive", verdict("inconclusive"))
                .query("error", verdict("error"))
                .thresholds(&[("green", None), ("orange", Some(1.0))]),
        )
        .panel(
            Draft::stat("Kills of the service", "short", "Services that the kernel killed for memory so far. Those of controls are demanded.")
                .query("killed", total("chaos_oom_kills_total", SERVICE))
                .thresholds(&[("green", None), ("orange", Some(1.0))]),
        )
        .panel(
            Draft::stat("Idle faults", "short", "Faults that did not act so far. In a scenario's own trial they make it inconclusive; in a control that may be what is demanded.")
                .query("idle", total("chaos_faults_total", r#"outcome="idle""#))
                .thresholds(&[("green", None), ("orange", Some(1.0))]),
        )
}

/// A kill is over before the next scrape: only its beginning is seen.
fn faults() -> String {
    format!(
        "(sum by (kind) ({}) > 0) or (sum by (kind) (changes({}[$__rate_interval])) > 0)",
        select("chaos_faults_active", ""),
        select("chaos_faults_begun_total", "")
    )
}

fn course(layout: Layout) -> Layout {
    layout
        .row("What is done")
        .panel(
            Draft::states("Trials", "Which trial runs: a scenario, or one of its controls behind the dot.")
                .height(6)
                .query("{{trial}}", format!("max by (trial) ({})", select("chaos_trial_running", "")))
                .words(&[("", "text"), ("runs", "blue")])
                .thresholds(&[("blue", None)]),
        )
        .panel(
            Draft::states("Faults", "Which kinds of fault stand, or began just now. What the service shows meanwhile is their doing.")
                .height(6)
                .query("{{kind}}", faults())
                .quiet(NO_FAULTS)
                .words(&[("", "text"), ("acts", "orange"), ("two act", "dark-orange")])
                .thresholds(&[("orange", None)]),
        )
        .panel(
            Draft::states("Who answers", "Whether Prometheus reached service, simulator and runner. A service that was killed is away.")
                .height(6)
                .query("{{job}} {{instance}}", up())
                .words(&[("away", "red"), ("up", "green")])
                .thresholds(&[("red", None), ("green", Some(1.0))]),
        )
}

fn memory(layout: Layout) -> Layout {
    layout
        .row("Memory, by the kernel and by the service")
        .panel(
            Draft::lines(
                "The cell",
                "bytes",
                "What the kernel charges to the limited cgroup, and of it what service and hogs hold that it cannot drop. It kills when \
                 usage cannot stay below the limit.",
            )
            .width(16)
            .height(10)
            .query("usage", total("chaos_memory_usage_bytes", ""))
            .query("{{leaf}} held", total_by("leaf", "chaos_leaf_held_bytes"))
            .query("limit", total("chaos_memory_limit_bytes", ""))
            .dashed("limit", "dark-red"),
        )
        .panel(
            Draft::lines("Leaves", "bytes", "All that is charged to service and hogs, page cache included.")
                .height(10)
                .stacked()
                .query("{{leaf}}", total_by("leaf", "chaos_leaf_usage_bytes")),
        )
        .panel(
            Draft::lines(
                "As the service sees it",
                "bytes",
                "Pressure by the reading of the trial's service, foreign usage under the same limit, and the governor's watermarks.",
            )
            .width(16)
            .query("pressure", most("memory_pressure_bytes", ""))
            .query("foreign", most("memory_foreign_bytes", ""))
            .query("limit", most("memory_limit_bytes", ""))
            .query("critical", most("memory_watermark_bytes", r#"level="critical""#))
            .query("elevated", most("memory_watermark_bytes", r#"level="elevated""#))
            .dashed("limit", "dark-red")
            .dashed("critical", "red")
            .dashed("elevated", "orange"),
        )
        .panel(
            Draft::lines("Kills", "short", "Processes that the kernel killed for memory so far, by leaf.")
                .query("{{leaf}}", total_by("leaf", "chaos_oom_kills_total")),
        )
        .panel(
            Draft::states("Governor state", "Normal, elevated (the cache gives memory back), critical (no new loads).")
                .query("{{instance}}", format!("max by (instance) ({})", select("governor_state", "")))
                .words(&STATES)
                .thresholds(&STATE_COLOURS),
        )
}

fn service(layout: Layout) -> Layout {
    layout
        .row("What comes of it")
        .panel(
            Draft::lines("Switches by result", "ops", "Switches per second as the load counts them.")
                .query("{{result}}", rate_where("result", OPERATIONS, r#"operation="switch""#)),
        )
        .panel(
            Draft::lines("Switch latency", "s", "From a session's planned time to its answer. The line is the goal for p99: 10 ms.")
                .query("p50", quantile("0.5", LATENCY, r#"operation="switch""#))
                .query("p99", quantile("0.99", LATENCY, r#"operation="switch""#))
                .bound(0.01)
                .quiet(NO_SWITCHES)
                .log(),
        )
        .panel(
            Draft::lines("Previews not whole", "percentunit", "Share of previews that were degraded, shed, failed, or got no answer in time.")
                .query("not ok", share_of(OPERATIONS, r#"operation="preview",result!="ok""#, r#"operation="preview""#))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Hit ratio", "percentunit", HIT_RATIO)
                .max(1.0)
                .query("hit ratio", share("flyweight_accesses_total", HITS))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Evictions by reason", "ops", "Textures evicted per second. Pressure means the governor.")
                .query("{{reason}}", rate_by("reason", "flyweight_evictions_total")),
        )
        .panel(
            Draft::lines("Refused for load", "ops", "Requests per second that the service answered with 503, by what was short.")
                .query("{{reason}}", rate_by("reason", "shed_total")),
        )
        .panel(
            Draft::lines("Failpoints", "ops", "Triggers per second of each failpoint. Only a build with the feature `failpoints` has them.")
                .query("{{failpoint}}", rate_by("failpoint", "failpoint_triggers_total"))
                .quiet(NO_FAILPOINTS),
        )
        .panel(
            Draft::lines("Faults over", "short", "Faults that are over so far, by whether they acted.")
                .query("{{outcome}}", total_by("outcome", "chaos_faults_total")),
        )
        .panel(
            Draft::lines("Cores", "cores", "Processor cores of service and simulator.")
                .query("service", rate("process_cpu_seconds_total", ""))
                .query("simulator", rate("simulator_process_cpu_seconds_total", "")),
        )
}
