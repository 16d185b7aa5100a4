//! Memory: what the kernel and the allocator say, what the budget's books hold, and what the governor makes of it.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

labels! {
    /// A watermark of the governor.
    Watermark("level") { Elevated = "elevated", Critical = "critical", }
    /// What budget bytes are reserved for.
    BudgetPurpose("purpose") {
        Textures = "textures",
        PoolIdle = "pool_idle",
        Decode = "decode",
        Upload = "upload",
        Encode = "encode",
        Render = "render",
        Sessions = "sessions",
        Body = "body",
        Thumbnails = "thumbnails",
        Streams = "streams",
        Gpu = "gpu_staging",
    }
    /// State that the governor entered.
    GovernorState("to") { Normal = "normal", Elevated = "elevated", Critical = "critical", }
}

/// Series of memory as it is watched.
#[derive(Debug)]
pub struct MemoryMetrics {
    /// Memory limit that the governor works with.
    pub limit_bytes: Gauge,
    /// Memory usage of the cgroup with the limit.
    pub usage_bytes: Gauge,
    /// Usage less the page cache that the kernel can drop.
    pub pressure_bytes: Gauge,
    /// Usage of others below the same limit.
    pub foreign_bytes: Gauge,
    /// Resident set of the process.
    pub rss_bytes: Gauge,
    /// Resident bytes by jemalloc's account.
    pub allocator_resident_bytes: Gauge,
    /// Allocated bytes by jemalloc's account.
    pub allocator_allocated_bytes: Gauge,
    /// The allocator's account of the arena of textures less their ledger.
    pub arena_drift_bytes: Gauge,
}

impl MemoryMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            limit_bytes: r.gauge(
                "memory_limit_bytes",
                "Memory limit that the governor works with",
            ),
            usage_bytes: r.gauge(
                "memory_usage_bytes",
                "Memory usage of the cgroup with the limit",
            ),
            pressure_bytes: r.gauge(
                "memory_pressure_bytes",
                "Usage less the page cache that can be dropped: what the governor goes by; beyond the watermarks it acts",
            ),
            foreign_bytes: r.gauge(
                "memory_foreign_bytes",
                "Usage of others below the same limit; a rise is what the cache has to make room for",
            ),
            rss_bytes: r.gauge("memory_rss_bytes", "Resident set of the process"),
            allocator_resident_bytes: r.gauge(
                "memory_allocator_resident_bytes",
                "Resident bytes by the allocator's account",
            ),
            allocator_allocated_bytes: r.gauge(
                "memory_allocator_allocated_bytes",
                "Allocated bytes by the allocator's account",
            ),
            arena_drift_bytes: r.gauge(
                "memory_arena_drift_bytes",
                "Allocator's account of the arena of textures less their ledger; anything but 0 that lasts is a defect",
            ),
        }
    }
}

/// Series of the budget's books.
#[derive(Debug)]
pub struct BudgetMetrics {
    /// Ceiling of the budget.
    pub ceiling_bytes: Gauge,
    /// Bytes reserved, by purpose.
    pub used_bytes: By<BudgetPurpose, Gauge>,
    /// Reservations that had to wait.
    pub waits_total: Counter,
    /// Reservations that were refused.
    pub shed_total: Counter,
}

impl BudgetMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            ceiling_bytes: r.gauge("memory_budget_ceiling_bytes", "Ceiling of the budget; a fall means pressure from outside, or a lowered limit"),
            used_bytes: r.gauges("memory_budget_used_bytes", "Bytes reserved by purpose"),
            waits_total: r.counter("memory_budget_waits", "Reservations that had to wait; a rise means that evictions only just keep up"),
            shed_total: r.counter("memory_budget_shed", "Reservations that were refused after their wait; a rise means that requests are answered 503"),
        }
    }
}

/// Series of the governor.
#[derive(Debug)]
pub struct GovernorMetrics {
    /// The governor's watermarks.
    pub watermark_bytes: By<Watermark, Gauge>,
    /// 0 normal, 1 elevated, 2 critical.
    pub state: Gauge,
    /// Transitions by the state entered.
    pub transitions_total: By<GovernorState, Counter>,
}

impl GovernorMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            watermark_bytes: r.gauges("memory_watermark_bytes", "The governor's watermarks"),
            state: r.gauge("governor_state", "0 normal, 1 elevated, 2 critical"),
            transitions_total: r
                .counters("governor_transitions", "Transitions by the state entered; more elevated or critical: memory is taken from outside the budget"),
        }
    }
}
