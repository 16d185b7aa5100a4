//! The service's metrics: the registry, and one typed handle for each series.
//!
//! Every label set is closed and created at 0, so that a rate query sees the first increment, and a handle is resolved
//! once: counting is one atomic addition. It imports no other part; what is only known at scrape time (CPU seconds,
//! allocator figures) is set by the caller of [`Metrics::render`].

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// One value out of a label's closed set.
pub trait Label: Copy + 'static {
    /// The label's key.
    const KEY: &'static str;
    /// Every value, in the order of their indices.
    const ALL: &'static [Self];
    /// The value as it is exposed.
    fn name(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident($key:literal) { $($variant:ident = $value:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = concat!("`", $value, "`")] $variant,)+ }
        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn name(self) -> &'static str { match self { $(Self::$variant => $value,)+ } }
            fn index(self) -> usize { self as usize }
        }
    )+};
}

labels! {
    /// Route of a request, by what it does.
    Route("route") {
        SessionCreate = "session_create",
        SessionRead = "session_read",
        SessionDelete = "session_delete",
        SessionSwitch = "session_switch",
        SessionView = "session_view",
        SessionFrame = "session_frame",
        BatchCreate = "batch_create",
        BatchRead = "batch_read",
        BatchDelete = "batch_delete",
        BatchSwitch = "batch_switch",
        BackgroundPut = "background_put",
        BackgroundRead = "background_read",
        BackgroundDelete = "background_delete",
        BackgroundList = "background_list",
        Health = "health",
        Ready = "ready",
        OpenApi = "openapi",
        Admin = "admin",
        Unknown = "unknown",
    }
    /// Class of an answer's status.
    StatusClass("status") { Success = "2xx", Redirection = "3xx", ClientError = "4xx", ServerError = "5xx", }
    /// What became of one session's switch.
    SwitchResult("result") {
        Ok = "ok",
        SessionNotFound = "session_not_found",
        FlyweightUnknown = "flyweight_unknown",
        Gone = "gone",
        Shed = "shed",
        BadEntry = "bad_entry",
        Internal = "internal",
    }
    /// What became of one frame.
    RenderResult("result") { Ok = "ok", Degraded = "degraded", Shed = "shed", Error = "error", }
    /// How an access to a texture was answered.
    AccessResult("result") {
        Hit = "hit", Miss = "miss", Joined = "joined", Degraded = "degraded", Shed = "shed", Error = "error",
    }
    /// What became of a load.
    LoadResult("result") { Ok = "ok", Error = "error", Overtaken = "overtaken", }
    /// Why a texture left.
    EvictionReason("reason") {
        Capacity = "capacity", Pressure = "pressure", Replaced = "replaced", Removed = "removed",
    }
    /// What became of an attempt to read a texture back from the archive; all but `hit` go on to the decoder.
    ArchiveRead("result") {
        Hit = "hit",
        Absent = "absent",
        Truncated = "truncated",
        Corrupt = "corrupt",
        Error = "error",
        Timeout = "timeout",
        Busy = "busy",
    }
    /// What became of an evicted texture on its way to the archive; all but `ok` and `present` leave it unarchived.
    ArchiveWrite("result") {
        Ok = "ok",
        Present = "present",
        DiskFull = "disk_full",
        Error = "error",
        Paused = "paused",
        TooLarge = "too_large",
        QueueFull = "queue_full",
        Dropped = "dropped",
        TakenBack = "taken_back",
        Overtaken = "overtaken",
    }
    /// Why a file left the archive.
    ArchiveRemoval("reason") { Limit = "limit", Outdated = "outdated", Damaged = "damaged", Leftover = "leftover", }
    /// Whether a pass that shrinks the cache came down to its target.
    ShrinkResult("result") { Reached = "reached", Short = "short", }
    /// State of a block of the frame pool.
    BlockState("state") { Idle = "idle", Used = "used", }
    /// Where a block came from.
    AcquireResult("result") { Reused = "reused", Grown = "grown", Direct = "direct", }
    /// Whether a new block's pages could be had all at once.
    PopulateResult("result") { Populated = "populated", Refused = "refused", }
    /// What the kernel did for a page.
    PageFault("kind") { Minor = "minor", Major = "major", }
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
    }
    /// State that the governor entered.
    GovernorState("to") { Normal = "normal", Elevated = "elevated", Critical = "critical", }
    /// What became of an upload.
    UploadResult("result") { Ok = "ok", Rejected = "rejected", Shed = "shed", Error = "error", }
    /// Why a request was shed.
    ShedReason("reason") {
        Budget = "budget", Governor = "governor", Queue = "queue", Connections = "connections", Draining = "draining",
    }
}

type Pairs = Vec<(&'static str, &'static str)>;

/// One handle for each value of a label.
#[derive(Debug)]
pub struct By<L, M> {
    handles: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    /// The handle of one label value.
    #[must_use]
    pub fn of(&self, label: L) -> &M {
        &self.handles[label.index()]
    }
}

/// One counter for each route and status class.
#[derive(Debug)]
pub struct RequestCounters {
    handles: Box<[Counter]>,
}

impl RequestCounters {
    /// The counter of one route and class.
    #[must_use]
    pub fn of(&self, route: Route, status: StatusClass) -> &Counter {
        &self.handles[route.index() * StatusClass::ALL.len() + status.index()]
    }
}

/// What a build says about itself in its metrics.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Version of the service.
    pub version: &'static str,
    /// Features that change behaviour, joined in `build_info`.
    pub features: &'static [&'static str],
    /// Names of the failpoints that this build has.
    pub failpoints: &'static [&'static str],
}

/// All series; fields are named like the metrics, without the prefix `backdrop_`.
pub struct Metrics {
    registry: Registry,
    failpoint_counters: Vec<(&'static str, Counter)>,
    /// Requests by route and class of status.
    pub http_requests_total: RequestCounters,
    /// Time from the request's head to the answer's head, in seconds.
    pub http_request_duration_seconds: By<Route, Histogram>,
    /// Open connections of the public listener.
    pub http_connections: Gauge,
    /// Switches of a session's background, single and batch.
    pub switches_total: By<SwitchResult, Counter>,
    /// Live sessions.
    pub sessions: Gauge,
    /// Sessions that the configuration allows.
    pub sessions_capacity: Gauge,
    /// Frames by result.
    pub renders_total: By<RenderResult, Counter>,
    /// Time of render and encode of one frame, without waiting, in seconds.
    pub render_duration_seconds: Histogram,
    /// Accesses to textures.
    pub flyweight_accesses_total: By<AccessResult, Counter>,
    /// Loads of textures.
    pub flyweight_loads_total: By<LoadResult, Counter>,
    /// Time of one load, in seconds.
    pub flyweight_load_duration_seconds: Histogram,
    /// Textures evicted.
    pub flyweight_evictions_total: By<EvictionReason, Counter>,
    /// Bytes of evicted textures.
    pub flyweight_evicted_bytes_total: Counter,
    /// Passes that shrank the cache under pressure.
    pub flyweight_shrinks_total: By<ShrinkResult, Counter>,
    /// Textures in memory.
    pub flyweight_resident_textures: Gauge,
    /// Bytes of the textures in memory.
    pub flyweight_resident_bytes: Gauge,
    /// Bytes of textures under a lease.
    pub flyweight_pinned_bytes: Gauge,
    /// Attempts to read a texture back from the archive.
    pub archive_reads_total: By<ArchiveRead, Counter>,
    /// Evicted textures on their way to the archive.
    pub archive_writes_total: By<ArchiveWrite, Counter>,
    /// Files that left the archive.
    pub archive_removals_total: By<ArchiveRemoval, Counter>,
    /// Time of one read that brought a texture back, checksum included, in seconds.
    pub archive_read_duration_seconds: Histogram,
    /// Time of one write that ended well, in seconds.
    pub archive_write_duration_seconds: Histogram,
    /// Bytes of the archive's files.
    pub archive_bytes: Gauge,
    /// Bytes that the archive may take; 0 when it is off.
    pub archive_limit_bytes: Gauge,
    /// Textures in the archive.
    pub archive_entries: Gauge,
    /// Evicted textures that wait to be written, the one being written included.
    pub archive_queue_textures: Gauge,
    /// Bytes of memory that they still hold.
    pub archive_queue_bytes: Gauge,
    /// Live backgrounds of the catalogue.
    pub catalogue_entries: Gauge,
    /// Blocks of the frame pool.
    pub pool_blocks: By<BlockState, Gauge>,
    /// Blocks taken.
    pub pool_acquires_total: By<AcquireResult, Counter>,
    /// New blocks whose pages were asked for.
    pub pool_populates_total: By<PopulateResult, Counter>,
    /// Memory limit that the governor works with.
    pub memory_limit_bytes: Gauge,
    /// Memory usage of the cgroup with the limit.
    pub memory_usage_bytes: Gauge,
    /// Usage less the page cache that the kernel can drop.
    pub memory_pressure_bytes: Gauge,
    /// Usage of others below the same limit.
    pub memory_foreign_bytes: Gauge,
    /// Resident set of the process.
    pub memory_rss_bytes: Gauge,
    /// Resident bytes by jemalloc's account.
    pub memory_allocator_resident_bytes: Gauge,
    /// Allocated bytes by jemalloc's account.
    pub memory_allocator_allocated_bytes: Gauge,
    /// The governor's watermarks.
    pub memory_watermark_bytes: By<Watermark, Gauge>,
    /// Ceiling of the budget.
    pub memory_budget_ceiling_bytes: Gauge,
    /// Bytes reserved, by purpose.
    pub memory_budget_used_bytes: By<BudgetPurpose, Gauge>,
    /// Reservations that had to wait.
    pub memory_budget_waits_total: Counter,
    /// Reservations that were refused.
    pub memory_budget_shed_total: Counter,
    /// Difference between the ledger of textures and the allocator's statistics of their arena.
    pub memory_arena_drift_bytes: Gauge,
    /// 0 normal, 1 elevated, 2 critical.
    pub governor_state: Gauge,
    /// Transitions by the state entered.
    pub governor_transitions_total: By<GovernorState, Counter>,
    /// Uploads by result.
    pub uploads_total: By<UploadResult, Counter>,
    /// Requests refused for load, by reason.
    pub shed_total: By<ShedReason, Counter>,
    /// Page faults of the process.
    pub process_page_faults_total: By<PageFault, Counter>,
    /// CPU time of the process, user and system.
    pub process_cpu_seconds_total: Counter<f64, AtomicU64>,
}

/// Bounds of the histogram of requests, in seconds.
const REQUEST_BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0,
];
/// Bounds of the histograms of renders and loads, in seconds.
const WORK_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

fn work_histogram() -> Histogram {
    Histogram::new(WORK_BUCKETS)
}

/// Registers metrics under one registry.
struct Registrar {
    registry: Registry,
}

impl Registrar {
    fn one<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.one(name, help, Counter::default())
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.one(name, help, Gauge::default())
    }

    fn sets<M, C>(&mut self, name: &str, help: &str, constructor: C, sets: &[Pairs]) -> Box<[M]>
    where
        M: Clone,
        C: MetricConstructor<M> + Clone,
        Family<Pairs, M, C>: Metric,
    {
        let family = Family::<Pairs, M, C>::new_with_constructor(constructor);
        let handles = sets
            .iter()
            .map(|set| family.get_or_create_owned(set))
            .collect();
        self.registry.register(name, help, family);
        handles
    }

    fn by<L: Label, M, C>(&mut self, name: &str, help: &str, constructor: C) -> By<L, M>
    where
        M: Clone,
        C: MetricConstructor<M> + Clone,
        Family<Pairs, M, C>: Metric,
    {
        let sets: Vec<Pairs> = L::ALL
            .iter()
            .map(|value| vec![(L::KEY, value.name())])
            .collect();
        By {
            handles: self.sets(name, help, constructor, &sets),
            label: PhantomData,
        }
    }

    fn counters<L: Label>(&mut self, name: &str, help: &str) -> By<L, Counter> {
        self.by(name, help, Counter::default as fn() -> Counter)
    }

    fn gauges<L: Label>(&mut self, name: &str, help: &str) -> By<L, Gauge> {
        self.by(name, help, Gauge::default as fn() -> Gauge)
    }

    fn requests(&mut self) -> RequestCounters {
        let sets: Vec<Pairs> = Route::ALL
            .iter()
            .flat_map(|route| StatusClass::ALL.iter().map(move |class| (route, class)))
            .map(|(route, class)| {
                vec![(Route::KEY, route.name()), (StatusClass::KEY, class.name())]
            })
            .collect();
        let make = Counter::default as fn() -> Counter;
        RequestCounters {
            handles: self.sets(
                "http_requests",
                "HTTP requests by route and status class",
                make,
                &sets,
            ),
        }
    }

    fn failpoints(&mut self, names: &[&'static str]) -> Vec<(&'static str, Counter)> {
        if names.is_empty() {
            return Vec::new();
        }
        let sets: Vec<Pairs> = names
            .iter()
            .map(|name| vec![("failpoint", *name)])
            .collect();
        let make = Counter::default as fn() -> Counter;
        let handles = self.sets(
            "failpoint_triggers",
            "Times that each failpoint fired",
            make,
            &sets,
        );
        names.iter().copied().zip(handles).collect()
    }

    fn build_info(&mut self, build: &Build) {
        let labels = [
            ("version", build.version.to_owned()),
            ("features", build.features.join(",")),
        ];
        let family = Family::<Vec<(&'static str, String)>, Gauge>::default();
        family.get_or_create(&labels.to_vec()).set(1);
        self.registry
            .register("build_info", "Version and features of this build", family);
    }
}

impl Metrics {
    /// Registers everything, every label set at 0.
    #[must_use]
    pub fn new(build: &Build) -> Self {
        let mut r = Registrar {
            registry: Registry::with_prefix("backdrop"),
        };
        r.build_info(build);
        let request = request_histogram as fn() -> Histogram;
        Self {
            failpoint_counters: r.failpoints(build.failpoints),
            http_requests_total: r.requests(),
            http_request_duration_seconds: r.by(
                "http_request_duration_seconds",
                "Time to the answer's head",
                request,
            ),
            http_connections: r.gauge(
                "http_connections",
                "Open connections of the public listener",
            ),
            switches_total: r.counters("switches", "Background switches by result"),
            sessions: r.gauge("sessions", "Live sessions"),
            sessions_capacity: r.gauge(
                "sessions_capacity",
                "Sessions that the configuration allows",
            ),
            renders_total: r.counters("renders", "Frames by result"),
            render_duration_seconds: r.one(
                "render_duration_seconds",
                "Render and encode of one frame, without waiting",
                work_histogram(),
            ),
            flyweight_accesses_total: r
                .counters("flyweight_accesses", "Accesses to textures by result"),
            flyweight_loads_total: r.counters("flyweight_loads", "Loads of textures by result"),
            flyweight_load_duration_seconds: r.one(
                "flyweight_load_duration_seconds",
                "Time of one load, from the flight's start to residency",
                work_histogram(),
            ),
            flyweight_evictions_total: r
                .counters("flyweight_evictions", "Textures evicted by reason"),
            flyweight_evicted_bytes_total: r
                .counter("flyweight_evicted_bytes", "Bytes of evicted textures"),
            flyweight_shrinks_total: r.counters(
                "flyweight_shrinks",
                "Passes that shrank the cache; a rise means pressure from outside the budget, short that leases kept it from its target",
            ),
            flyweight_resident_textures: r
                .gauge("flyweight_resident_textures", "Textures in memory"),
            flyweight_resident_bytes: r.gauge(
                "flyweight_resident_bytes",
                "Bytes of the textures in memory",
            ),
            flyweight_pinned_bytes: r
                .gauge("flyweight_pinned_bytes", "Bytes of textures under a lease"),
            archive_reads_total: r.counters(
                "archive_reads",
                "Attempts to read a texture back from the archive by result; more truncated, corrupt or error: its disk fails; more timeout or busy: it is slow",
            ),
            archive_writes_total: r.counters(
                "archive_writes",
                "Evicted textures on their way to the archive by result; more disk_full or error: nothing new is archived; more queue_full: evictions outrun the disk",
            ),
            archive_removals_total: r.counters(
                "archive_removals",
                "Files that left the archive by reason; a steady rise of limit: it is smaller than what is asked for",
            ),
            archive_read_duration_seconds: r.one(
                "archive_read_duration_seconds",
                "One read that brought a texture back, checksum included",
                work_histogram(),
            ),
            archive_write_duration_seconds: r.one(
                "archive_write_duration_seconds",
                "One write of a texture that ended well",
                work_histogram(),
            ),
            archive_bytes: r.gauge("archive_bytes", "Bytes of the archive's files"),
            archive_limit_bytes: r.gauge(
                "archive_limit_bytes",
                "Bytes that the archive may take, 0 when it is off",
            ),
            archive_entries: r.gauge("archive_entries", "Textures in the archive"),
            archive_queue_textures: r.gauge(
                "archive_queue_textures",
                "Evicted textures that wait to be written, the one being written included",
            ),
            archive_queue_bytes: r.gauge(
                "archive_queue_bytes",
                "Bytes of memory that textures on their way to the archive still hold",
            ),
            catalogue_entries: r.gauge("catalogue_entries", "Live backgrounds of the catalogue"),
            pool_blocks: r.gauges("pool_blocks", "Blocks of the frame pool by state"),
            pool_acquires_total: r
                .counters("pool_acquires", "Blocks taken by where they came from"),
            pool_populates_total: r.counters(
                "pool_populates",
                "New blocks by whether their pages came at once; refused ones fault page by page, in the first decode",
            ),
            memory_limit_bytes: r.gauge(
                "memory_limit_bytes",
                "Memory limit that the governor works with",
            ),
            memory_usage_bytes: r.gauge(
                "memory_usage_bytes",
                "Memory usage of the cgroup with the limit",
            ),
            memory_pressure_bytes: r.gauge(
                "memory_pressure_bytes",
                "Usage less the page cache that can be dropped",
            ),
            memory_foreign_bytes: r.gauge(
                "memory_foreign_bytes",
                "Usage of others below the same limit",
            ),
            memory_rss_bytes: r.gauge("memory_rss_bytes", "Resident set of the process"),
            memory_allocator_resident_bytes: r.gauge(
                "memory_allocator_resident_bytes",
                "Resident bytes by the allocator's account",
            ),
            memory_allocator_allocated_bytes: r.gauge(
                "memory_allocator_allocated_bytes",
                "Allocated bytes by the allocator's account",
            ),
            memory_watermark_bytes: r.gauges("memory_watermark_bytes", "The governor's watermarks"),
            memory_budget_ceiling_bytes: r
                .gauge("memory_budget_ceiling_bytes", "Ceiling of the budget"),
            memory_budget_used_bytes: r
                .gauges("memory_budget_used_bytes", "Bytes reserved by purpose"),
            memory_budget_waits_total: r
                .counter("memory_budget_waits", "Reservations that had to wait"),
            memory_budget_shed_total: r
                .counter("memory_budget_shed", "Reservations that were refused"),
            memory_arena_drift_bytes: r.gauge(
                "memory_arena_drift_bytes",
                "Ledger of textures less the allocator's account of their arena",
            ),
            governor_state: r.gauge("governor_state", "0 normal, 1 elevated, 2 critical"),
            governor_transitions_total: r
                .counters("governor_transitions", "Transitions by the state entered"),
            uploads_total: r.counters("uploads", "Uploads by result"),
            shed_total: r.counters("shed", "Requests refused for load by reason"),
            process_page_faults_total: r.counters(
                "process_page_faults",
                "Page faults of the process; a rise of minor ones with the loads means that blocks are not reused, of major ones that pages come from disk",
            ),
            process_cpu_seconds_total: r.one(
                "process_cpu_seconds",
                "CPU time of the process, user and system",
                Counter::default(),
            ),
            registry: r.registry,
        }
    }

    /// Sets the counters of the failpoints, which count on their own.
    pub fn set_failpoint_triggers(&self, triggers: &[(&'static str, u64)]) {
        for (name, counter) in &self.failpoint_counters {
            if let Some((_, count)) = triggers.iter().find(|(known, _)| known == name) {
                counter.inner().store(*count, Ordering::Relaxed);
            }
        }
    }

    /// Sets the CPU time that the process has used so far.
    pub fn set_process_cpu_seconds(&self, seconds: f64) {
        self.process_cpu_seconds_total
            .inner()
            .store(seconds.to_bits(), Ordering::Relaxed);
    }

    /// Sets the page faults that the process has had so far.
    pub fn set_process_page_faults(&self, minor: u64, major: u64) {
        for (kind, count) in [(PageFault::Minor, minor), (PageFault::Major, major)] {
            let counter = self.process_page_faults_total.of(kind);
            counter.inner().store(count, Ordering::Relaxed);
        }
    }

    /// The exposition in OpenMetrics text.
    ///
    /// # Errors
    /// Only what formatting into a `String` can return.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(64 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    /// The metrics of a build without features, as tests want them.
    fn default() -> Self {
        Self::new(&Build {
            version: "0.0.0",
            features: &[],
            failpoints: &[],
        })
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_set_starts_at_zero_and_counts_apart() {
        let metrics = Metrics::default();
        let before = metrics.render().expect("formats");
        assert!(before.contains("backdrop_switches_total{result=\"gone\"} 0\n"));
        assert!(
            before.contains(
                "backdrop_http_requests_total{route=\"batch_switch\",status=\"5xx\"} 0\n"
            )
        );
        metrics.switches_total.of(SwitchResult::Gone).inc_by(3);
        metrics
            .http_requests_total
            .of(Route::BatchSwitch, StatusClass::ServerError)
            .inc();
        let after = metrics.render().expect("formats");
        assert!(after.contains("backdrop_switches_total{result=\"gone\"} 3\n"));
        assert!(
            after.contains(
                "backdrop_http_requests_total{route=\"batch_switch\",status=\"5xx\"} 1\n"
            )
        );
        assert!(
            after.contains(
                "backdrop_http_requests_total{route=\"batch_switch\",status=\"2xx\"} 0\n"
            )
        );
    }

    #[test]
    fn labels_keep_the_order_of_their_indices() {
        assert!(
            Route::ALL
                .iter()
                .enumerate()
                .all(|(at, route)| route.index() == at)
        );
        assert!(
            SwitchResult::ALL
                .iter()
                .enumerate()
                .all(|(at, result)| result.index() == at)
        );
    }

    #[test]
    fn set_counters_are_exposed_as_they_were_set() {
        let metrics = Metrics::new(&Build {
            version: "1",
            features: &["failpoints"],
            failpoints: &["a.b.c"],
        });
        metrics.set_failpoint_triggers(&[("a.b.c", 7)]);
        metrics.set_process_cpu_seconds(1.5);
        metrics.set_process_page_faults(8, 3);
        let text = metrics.render().expect("formats");
        assert!(text.contains("backdrop_failpoint_triggers_total{failpoint=\"a.b.c\"} 7\n"));
        assert!(text.contains("backdrop_process_cpu_seconds_total 1.5\n"));
        assert!(text.contains("backdrop_process_page_faults_total{kind=\"major\"} 3\n"));
        assert!(text.contains("backdrop_build_info{version=\"1\",features=\"failpoints\"} 1\n"));
    }
}
