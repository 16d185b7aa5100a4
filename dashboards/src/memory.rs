//! *Backdrop: memory and flyweight*: does it fit, and does the cache do its work.

use crate::grafana::Dashboard;
use crate::head;
use crate::layout::{Draft, Layout};
use crate::queries::{quantile, rate, rate_by, select, share, total, total_by};
use crate::words::{HIT_RATIO, HITS, NO_ARCHIVE_HITS, NO_FRAMES, STATE_COLOURS, STATES};

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    let layout = memory(Layout::default());
    let layout = cache(layout);
    let layout = blocks(layout);
    let layout = archive(layout);
    head::MEMORY.over(layout.panels())
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
                .thresholds(&STATE_COLOURS),
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
                .query("hit ratio", share("flyweight_accesses_total", HITS))
                .quiet(NO_FRAMES),
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
            Draft::lines("Evicted bytes", "binBps", "Bytes of evicted textures per second.")
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
}

fn blocks(layout: Layout) -> Layout {
    layout
        .row("Blocks that textures lie in")
        .panel(
            Draft::lines("Frame pool", "short", "Blocks of the pool. Idle ones are charged too.")
                .stacked()
                .query("{{state}}", total_by("state", "pool_blocks")),
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
                .quiet(NO_ARCHIVE_HITS)
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
