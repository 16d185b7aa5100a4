//! The service's metrics: the registry, and one typed handle for each series, by the part that counts.
//!
//! Every label set is closed and created at 0, so that a rate query sees the first increment, and a handle is resolved
//! once: counting is one atomic addition. It imports no other part; what is only known at scrape time (CPU seconds,
//! triggers of failpoints) is set by the caller of [`Metrics::render`].

mod archive;
mod composites;
mod flyweight;
mod frames;
mod gpu;
mod http;
mod label;
mod memory;
mod process;
mod registrar;
mod sessions;

pub use archive::{ArchiveMetrics, ArchiveRead, ArchiveRemoval, ArchiveWrite};
pub use composites::{CompositeMetrics, CompositeResult, PushResult, SourceKind, SourceMetrics};
pub use flyweight::{
    AccessResult, AcquireResult, BlockState, EvictionReason, FlyweightMetrics, LoadResult,
    PoolMetrics, PopulateResult, RenditionResult, ShrinkResult,
};
pub use frames::{FrameMetrics, RenderResult};
pub use gpu::{Drawer, GpuEncoded, GpuFallback, GpuMetrics, GpuReopened};
pub use http::{
    HttpMetrics, RequestCounters, Route, ShedReason, StatusClass, TimedRoute, UploadResult,
};
pub use label::{By, Label};
pub use memory::{
    BudgetMetrics, BudgetPurpose, GovernorMetrics, GovernorState, MemoryMetrics, Watermark,
};
pub use process::{PageFault, ProcessMetrics};
pub use sessions::{SessionMetrics, SwitchResult};

use prometheus_client::registry::Registry;
use registrar::Registrar;

/// Most bytes of the exposition: series are fixed at the start, so only the digits of their values vary.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

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

/// All series, in the order in which a request passes the parts.
pub struct Metrics {
    registry: Registry,
    /// `backdrop_http_*`, `backdrop_uploads_*` and `backdrop_shed_*`.
    pub http: HttpMetrics,
    /// `backdrop_sessions*` and `backdrop_switches_*`.
    pub sessions: SessionMetrics,
    /// `backdrop_render*`.
    pub frames: FrameMetrics,
    /// `backdrop_composite*`.
    pub composites: CompositeMetrics,
    /// `backdrop_sources` and `backdrop_stream_*`.
    pub sources: SourceMetrics,
    /// `backdrop_frames_drawn_total` and `backdrop_gpu_*`.
    pub gpu: GpuMetrics,
    /// `backdrop_flyweight_*` and `backdrop_catalogue_*`.
    pub flyweight: FlyweightMetrics,
    /// `backdrop_pool_*`.
    pub pool: PoolMetrics,
    /// `backdrop_archive_*`.
    pub archive: ArchiveMetrics,
    /// `backdrop_memory_*`, but for the next two.
    pub memory: MemoryMetrics,
    /// `backdrop_memory_budget_*`.
    pub budget: BudgetMetrics,
    /// `backdrop_governor_*` and `backdrop_memory_watermark_bytes`.
    pub governor: GovernorMetrics,
    /// `backdrop_process_*`, `backdrop_failpoint_*` and `backdrop_build_info`.
    pub process: ProcessMetrics,
}

impl Metrics {
    /// Registers everything, every label set at 0.
    #[must_use]
    pub fn new(build: &Build) -> Self {
        let mut r = Registrar {
            registry: Registry::with_prefix("backdrop"),
        };
        Self {
            http: HttpMetrics::new(&mut r),
            sessions: SessionMetrics::new(&mut r),
            frames: FrameMetrics::new(&mut r),
            composites: CompositeMetrics::new(&mut r),
            sources: SourceMetrics::new(&mut r),
            gpu: GpuMetrics::new(&mut r),
            flyweight: FlyweightMetrics::new(&mut r),
            pool: PoolMetrics::new(&mut r),
            archive: ArchiveMetrics::new(&mut r),
            memory: MemoryMetrics::new(&mut r),
            budget: BudgetMetrics::new(&mut r),
            governor: GovernorMetrics::new(&mut r),
            process: ProcessMetrics::new(&mut r, build),
            registry: r.registry,
        }
    }

    /// The exposition in OpenMetrics text.
    ///
    /// # Errors
    /// Only what formatting into a `String` can return.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(TEXT_BYTES_MAX);
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
mod tests;
