//! The dashboard *Backdrop: service overview*: is it serving, does it fit, does the cache do its work, and what was
//! done to it meanwhile.

use serde_json::json;

use crate::grafana::{
    Annotation, Dashboard, Datasource, ListOf, Panel, SCHEMA_VERSION, TimeRange, Variable,
};
use crate::layout::{Draft, Layout};
use crate::queries::{quantile, rate, rate_by, select, share, total, total_by};

const STATES: [(&str, &str); 3] = [
    ("normal", "green"),
    ("elevated", "orange"),
    ("critical", "red"),
];
const SWITCH_ROUTES: &str = r#"route=~"batch_switch|session_switch""#;
const FRAME_ROUTE: &str = r#"route="session_frame""#;
const NOT_OK: &str = r#"result!="ok""#;
/// As chaos and the report have it: an exact LRU that replays the accesses finds what is loading there, too.
const HITS: &str = r#"result=~"hit|joined""#;
const HIT_RATIO: &str = "Share of texture accesses, whatever came of them, that found their texture resident or its load \
                         under way. Degraded answers and 503s are no hits.";

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "backdrop-service".into(),
        title: "Backdrop: service overview".into(),
        description: "Rate, errors and duration of switches and frames; memory against its limit; the flyweight cache; \
                      what chaos runs did meanwhile."
            .into(),
        tags: vec!["backdrop".into()],
        schema_version: SCHEMA_VERSION,
        version: 1,
        editable: true,
        graph_tooltip: 1,
        refresh: "5s".into(),
        time: TimeRange { from: "now-15m".into(), to: "now".into() },
        timezone: "browser".into(),
        templating: ListOf { list: variables() },
        annotations: ListOf { list: annotations() },
        panels: panels(),
    }
}

fn variables() -> Vec<Variable> {
    let query = |name: &str, label: &str, query: &str| Variable {
        name: name.into(),
        label: label.into(),
        kind: "query".into(),
        query: query.into(),
        datasource: Some(Datasource::picked()),
        refresh: 2,
        include_all: true,
        multi: true,
        current: json!({"selected": true, "text": ["All"], "value": ["$__all"]}),
    };
    vec![
        Variable {
            name: "datasource".into(),
            label: "Prometheus".into(),
            kind: "datasource".into(),
            query: "prometheus".into(),
            datasource: None,
            refresh: 1,
            include_all: false,
            multi: false,
            current: json!({}),
        },
        query("job", "Job", "label_values(backdrop_build_info, job)"),
        query(
            "instance",
            "Instance",
            "label_values(backdrop_build_info{job=~\"$job\"}, instance)",
        ),
    ]
}

/// What happened to the service, drawn over every panel. The windows are fixed: annotation queries know no
/// `$__rate_interval`.
fn annotations() -> Vec<Annotation> {
    let query = |name: &str, colour: &str, expr: String, tag_keys: &str, title: &str| Annotation {
        name: name.into(),
        datasource: Datasource::picked(),
        enable: true,
        expr,
        step: "5s".into(),
        icon_color: colour.into(),
        tag_keys: tag_keys.into(),
        title_format: title.into(),
    };
    let grew =
        |metric: &str, matchers: &str| format!("increase({}[15s]) > 0", select(metric, matchers));
    vec![
        query(
            "Chaos: failpoints",
            "purple",
            format!(
                "sum by (failpoint) ({})",
                grew("failpoint_triggers_total", "")
            ),
            "failpoint",
            "failpoint {{failpoint}} fired",
        ),
        query(
            "Chaos: service restarted",
            "red",
            format!(
                "resets({}[15s]) > 0",
                select("process_cpu_seconds_total", "")
            ),
            "instance",
            "{{instance}} was restarted",
        ),
        query(
            "Governor left normal",
            "orange",
            grew("governor_transitions_total", r#"to!="normal""#),
            "to",
            "governor: {{to}}",
        ),
    ]
}

fn panels() -> Vec<Panel> {
    let layout = glance(Layout::default());
    let layout = traffic(layout);
    let layout = memory(layout);
    let layout = cache(layout);
    let layout = archive(layout);
    let layout = process(layout);
    layout.panels()
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
            .thresholds(&[("green", None), ("orange", Some(0.01)), ("red", Some(0.05))]),
        )
        .panel(
            Draft::stat("Hit ratio", "percentunit", HIT_RATIO)
                .query("hit ratio", share("flyweight_accesses_total", HITS)),
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
                .thresholds(&[("green", None), ("orange", Some(1.0)), ("red", Some(2.0))]),
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
            .query("shed", share("switches_total", r#"result="shed""#)),
        )
        .panel(
            Draft::lines("Switch request duration", "s", "Time from a switch request's head to its answer's head.")
                .query("p50", quantile("0.5", "http_request_duration_seconds", SWITCH_ROUTES))
                .query("p99", quantile("0.99", "http_request_duration_seconds", SWITCH_ROUTES))
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
            .query("degraded", share("renders_total", r#"result="degraded""#)),
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
            .log(),
        )
        .panel(
            Draft::lines("Requests by route", "reqps", "HTTP requests per second by route.")
                .query("{{route}}", format!("{} > 0", rate_by("route", "http_requests_total"))),
        )
        .panel(
            Draft::lines("Requests by status", "reqps", "HTTP requests per second by class of status.")
                .query("{{status}}", rate_by("status", "http_requests_total")),
        )
        .panel(
            Draft::lines("Refused for load", "ops", "Requests answered with 503 or 429, by what was short.")
                .query("{{reason}}", rate_by("reason", "shed_total")),
        )
}

fn memory(layout: Layout) -> Layout {
    layout
        .row("Memory")
        .panel(
            Draft::lines(
                "Memory against its limit",
                "bytes",
                "Usage of the cgroup that has the limit, and pressure: usage less the page cache that the kernel can \
                 drop. The kernel kills at the limit; the governor acts at the watermarks.",
            )
            .width(16)
            .height(10)
            .query("usage", total("memory_usage_bytes", ""))
            .query("pressure", total("memory_pressure_bytes", ""))
            .query("rss", total("memory_rss_bytes", ""))
            .query("foreign", total("memory_foreign_bytes", ""))
            .query("limit", total("memory_limit_bytes", ""))
            .query("critical", total("memory_watermark_bytes", r#"level="critical""#))
            .query("elevated", total("memory_watermark_bytes", r#"level="elevated""#))
            .dashed("limit", "dark-red")
            .dashed("critical", "red")
            .dashed("elevated", "orange"),
        )
        .panel(
            Draft::lines(
                "Budget by purpose",
                "bytes",
                "Bytes reserved before they were allocated, by what for, under the budget's ceiling.",
            )
            .height(10)
            .stacked()
            .query("{{purpose}}", total_by("purpose", "memory_budget_used_bytes"))
            .query("ceiling", total("memory_budget_ceiling_bytes", ""))
            .dashed("ceiling", "red"),
        )
        .panel(
            Draft::states("Governor state", "Normal, elevated (the cache gives memory back), critical (no new loads).")
                .query("{{instance}}", format!("max by (instance) ({})", select("governor_state", "")))
                .words(&STATES)
                .thresholds(&[("green", None), ("orange", Some(1.0)), ("red", Some(2.0))]),
        )
        .panel(
            Draft::lines("Governor transitions", "ops", "Transitions per second by the state entered.")
                .query("{{to}}", rate_by("to", "governor_transitions_total")),
        )
        .panel(
            Draft::lines(
                "Budget waits and sheds",
                "ops",
                "Reservations that had to wait, and those refused after their wait.",
            )
            .query("waited", rate("memory_budget_waits_total", ""))
            .query("refused", rate("memory_budget_shed_total", "")),
        )
        .panel(
            Draft::lines(
                "Allocator",
                "bytes",
                "What jemalloc holds and what it gave out, and the drift of the texture ledger from the allocator's \
                 own account, which must be 0.",
            )
            .signed()
            .query("resident", total("memory_allocator_resident_bytes", ""))
            .query("allocated", total("memory_allocator_allocated_bytes", ""))
            .query("drift", total("memory_arena_drift_bytes", "")),
        )
}

fn cache(layout: Layout) -> Layout {
    layout
        .row("Flyweight cache")
        .panel(
            Draft::lines("Hit ratio", "percentunit", HIT_RATIO)
                .max(1.0)
                .query("hit ratio", share("flyweight_accesses_total", HITS)),
        )
        .panel(
            Draft::lines("Accesses by result", "ops", "Texture accesses per second by how they were answered.")
                .query("{{result}}", rate_by("result", "flyweight_accesses_total")),
        )
        .panel(
            Draft::lines("Evictions by reason", "ops", "Textures evicted per second. Pressure means the governor.")
                .query("{{reason}}", rate_by("reason", "flyweight_evictions_total")),
        )
        .panel(
            Draft::lines("Loads by result", "ops", "Textures loaded per second. Overtaken: replaced while it loaded.")
                .query("{{result}}", rate_by("result", "flyweight_loads_total")),
        )
        .panel(
            Draft::lines("Load duration", "s", "Time of one load, from its start until the texture is resident.")
                .query("p50", quantile("0.5", "flyweight_load_duration_seconds", ""))
                .query("p99", quantile("0.99", "flyweight_load_duration_seconds", ""))
                .log(),
        )
        .panel(
            Draft::lines("Evicted bytes", "Bps", "Bytes of evicted textures per second.")
                .query("evicted", rate("flyweight_evicted_bytes_total", "")),
        )
        .panel(
            Draft::lines("Shrink passes", "ops", "Passes that shrank the cache under pressure per second. Short: leases kept it from its target.")
                .query("{{result}}", rate_by("result", "flyweight_shrinks_total")),
        )
        .panel(
            Draft::lines("Resident bytes", "bytes", "Bytes of textures in memory, and of those under a lease.")
                .query("resident", total("flyweight_resident_bytes", ""))
                .query("pinned", total("flyweight_pinned_bytes", "")),
        )
        .panel(
            Draft::lines("Resident textures", "short", "Textures in memory, of the backgrounds in the catalogue.")
                .query("resident", total("flyweight_resident_textures", ""))
                .query("catalogue", total("catalogue_entries", "")),
        )
        .panel(
            Draft::lines("Frame pool", "short", "Blocks of the pool. Idle ones are charged too.")
                .stacked()
                .query("{{state}}", total_by("state", "pool_blocks")),
        )
}

fn archive(layout: Layout) -> Layout {
    layout
        .row("Archive")
        .panel(
            Draft::lines("Archive reads by result", "ops", "Attempts per second to read a texture back; all but hit are decoded instead.")
                .query("{{result}}", rate_by("result", "archive_reads_total")),
        )
        .panel(
            Draft::lines("Archive writes by result", "ops", "Evicted textures per second on their way to the archive, by what became of them.")
                .query("{{result}}", rate_by("result", "archive_writes_total")),
        )
        .panel(
            Draft::lines("Archive removals by reason", "ops", "Files per second that left the archive. Limit: it is smaller than what is asked for.")
                .query("{{reason}}", rate_by("reason", "archive_removals_total")),
        )
        .panel(
            Draft::lines("Archive duration", "s", "Time of one read that brought a texture back, and of one write that ended well.")
                .query("read p50", quantile("0.5", "archive_read_duration_seconds", ""))
                .query("read p99", quantile("0.99", "archive_read_duration_seconds", ""))
                .query("write p99", quantile("0.99", "archive_write_duration_seconds", ""))
                .log(),
        )
        .panel(
            Draft::lines("Archive bytes", "bytes", "Bytes on disk against their limit, and bytes of memory that wait to be written.")
                .query("on disk", total("archive_bytes", ""))
                .query("limit", total("archive_limit_bytes", ""))
                .query("waiting", total("archive_queue_bytes", "")),
        )
        .panel(
            Draft::lines("Archived textures", "short", "Textures on disk, and evicted ones that wait to be written.")
                .query("on disk", total("archive_entries", ""))
                .query("waiting", total("archive_queue_textures", "")),
        )
}

fn process(layout: Layout) -> Layout {
    layout
        .row("Sessions, process and chaos")
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
            Draft::lines("Uploads by result", "ops", "Backgrounds uploaded per second, by result.")
                .query("{{result}}", rate_by("result", "uploads_total")),
        )
        .panel(
            Draft::lines("Pool acquires", "ops", "Blocks taken per second: reused, grown, or straight from the arena.")
                .query("{{result}}", rate_by("result", "pool_acquires_total")),
        )
        .panel(
            Draft::lines(
                "New blocks",
                "ops",
                "New blocks per second, by whether the kernel gave their pages at once. Refused ones fault page by page in their first decode.",
            )
            .query("{{result}}", rate_by("result", "pool_populates_total")),
        )
        .panel(
            Draft::lines(
                "Page faults",
                "ops",
                "Page faults of the service per second. Minor ones that rise with the loads: blocks are not reused. Major ones: pages come from disk.",
            )
            .query("{{kind}}", rate_by("kind", "process_page_faults_total")),
        )
        .panel(
            Draft::lines(
                "Failpoints",
                "ops",
                "Triggers per second of each failpoint. Only a build with the feature `failpoints` has them.",
            )
            .query("{{failpoint}}", rate_by("failpoint", "failpoint_triggers_total")),
        )
}
