//! Backgrounds and their textures: the catalogue, accesses, loads, evictions, and the blocks that textures lie in.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

labels! {
    /// How an access to a texture was answered.
    AccessResult("result") {
        Hit = "hit", Miss = "miss", Joined = "joined", Degraded = "degraded", Shed = "shed", Error = "error",
    }
    /// What became of a load.
    LoadResult("result") { Ok = "ok", Shed = "shed", Error = "error", Overtaken = "overtaken", }
    /// Why a texture left.
    EvictionReason("reason") {
        Capacity = "capacity", Pressure = "pressure", Requested = "requested", Replaced = "replaced", Removed = "removed",
    }
    /// Whether a pass that shrinks the cache came down to its target.
    ShrinkResult("result") { Reached = "reached", Short = "short", }
    /// What became of a frame that may be a rendition: drawn from one, kept as one, or not kept after all.
    RenditionResult("result") { Hit = "hit", Kept = "kept", Dropped = "dropped", }
    /// State of a block of the frame pool.
    BlockState("state") { Idle = "idle", Used = "used", }
    /// Where a block came from.
    AcquireResult("result") { Reused = "reused", Grown = "grown", Direct = "direct", }
    /// Whether a new block's pages could be had all at once.
    PopulateResult("result") { Populated = "populated", Refused = "refused", }
}

/// Series of backgrounds and textures.
#[derive(Debug)]
pub struct FlyweightMetrics {
    /// Live backgrounds of the catalogue.
    pub catalogue_entries: Gauge,
    /// Accesses to textures.
    pub accesses_total: By<AccessResult, Counter>,
    /// Loads of textures.
    pub loads_total: By<LoadResult, Counter>,
    /// Time of one load, in seconds.
    pub load_duration_seconds: Histogram,
    /// Textures evicted.
    pub evictions_total: By<EvictionReason, Counter>,
    /// Bytes of evicted textures.
    pub evicted_bytes_total: Counter,
    /// Passes that shrank the cache under pressure.
    pub shrinks_total: By<ShrinkResult, Counter>,
    /// Textures in memory.
    pub resident_textures: Gauge,
    /// Bytes of the textures in memory.
    pub resident_bytes: Gauge,
    /// Bytes of textures under a lease.
    pub pinned_bytes: Gauge,
    /// Renditions known.
    pub renditions: Gauge,
    /// Frames that renditions served or became.
    pub rendition_frames_total: By<RenditionResult, Counter>,
}

impl FlyweightMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            catalogue_entries: r.gauge("catalogue_entries", "Live backgrounds of the catalogue"),
            accesses_total: r.counters("flyweight_accesses", "Accesses to textures by result; more miss: the cache is smaller than what is asked for; more joined: many ask for what is loading"),
            loads_total: r.counters("flyweight_loads", "Loads of textures by result; more error: sources cannot be read or decoded; more shed: no memory, no room in the queue of decodes, or no time for them; more overtaken: replaced while they loaded"),
            load_duration_seconds: r.work(
                "flyweight_load_duration_seconds",
                "Time of one load, from the flight's start to residency; a rise means larger pictures, a slow disk or a CPU that is shared",
            ),
            evictions_total: r.counters("flyweight_evictions", "Textures evicted by reason; more capacity: the budget is smaller than what is asked for; more pressure: memory is taken from outside"),
            evicted_bytes_total: r.counter("flyweight_evicted_bytes", "Bytes of evicted textures, whatever the reason; a rise means that the cache turns over"),
            shrinks_total: r.counters(
                "flyweight_shrinks",
                "Passes that shrank the cache; a rise means pressure from outside the budget, short that leases kept it from its target",
            ),
            resident_textures: r.gauge("flyweight_resident_textures", "Textures in memory"),
            resident_bytes: r.gauge(
                "flyweight_resident_bytes",
                "Bytes of the textures in memory",
            ),
            pinned_bytes: r.gauge("flyweight_pinned_bytes", "Bytes of textures under a lease, which cannot be evicted; a rise at the same load means slower frames"),
            renditions: r.gauge("flyweight_renditions", "Renditions known; their textures count among the resident ones while they are there"),
            rendition_frames_total: r.counters("flyweight_rendition_frames", "Frames by what a rendition was to them; more dropped: no room to keep them, or backgrounds replaced while they were drawn"),
        }
    }
}

/// Series of the frame pool.
#[derive(Debug)]
pub struct PoolMetrics {
    /// Blocks of the frame pool.
    pub blocks: By<BlockState, Gauge>,
    /// Blocks taken.
    pub acquires_total: By<AcquireResult, Counter>,
    /// New blocks whose pages were asked for.
    pub populates_total: By<PopulateResult, Counter>,
}

impl PoolMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            blocks: r.gauges("pool_blocks", "Blocks of the frame pool by state; idle ones are charged to the budget, too"),
            acquires_total: r.counters("pool_acquires", "Blocks taken by where they came from; more grown: the pool was too small; more direct: pictures beyond the largest block"),
            populates_total: r.counters(
                "pool_populates",
                "New blocks by whether their pages came at once; more refused ones: the first decodes into them fault page by page",
            ),
        }
    }
}
