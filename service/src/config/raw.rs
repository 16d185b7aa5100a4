//! Settings as given, all optional: the same names as flags, as environment variables and as keys of the file.

use super::units::{ByteSize, Limit, Span};
use super::{Config, ConfigError, LogForm, Sharing, Unsafe, read_file, tokens_in, tokens_of};
use crate::flyweight::Eviction;
use crate::frames::SourcesConfig;
use crate::frames::gpu::{GpuConfig, GpuTextures, RendererChoice};
use crate::http::limits::HttpConfig;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A body limit that is none: no body has a TiB, and sums with it do not overflow.
const ANY_BODY_BYTES: u64 = 1 << 40;

macro_rules! raw {
    ($($(#[doc = $doc:literal])+ $(#[cfg($cfg:meta)])? $name:ident: $type:ty = $env:literal $(($($arg:tt)+))?;)+) => {
        /// Settings as given; flags and environment are read by clap, a file by serde.
        #[derive(Clone, Default, clap::Args, serde::Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Raw {
            $($(#[doc = $doc])+ $(#[cfg($cfg)])?
            #[arg(long, env = $env $(, $($arg)+)?)]
            pub $name: Option<$type>,)+
        }

        impl Raw {
            /// These settings, and `below` where they say nothing.
            #[must_use]
            pub fn over(self, below: Self) -> Self {
                Self { $($(#[cfg($cfg)])? $name: self.$name.or(below.$name),)+ }
            }
        }
    };
}

raw! {
    /// TOML file with these settings, keys named like the flags
    config: PathBuf = "BACKDROP_CONFIG" (value_name = "FILE");
    /// Public address; port 0 takes a free one [default: 127.0.0.1:7080]
    listen: SocketAddr = "BACKDROP_LISTEN" (value_name = "ADDRESS");
    /// Address of metrics and debug pages [default: 127.0.0.1:7081]
    admin: SocketAddr = "BACKDROP_ADMIN" (value_name = "ADDRESS");
    /// Let the admin listener, which asks for no token, listen on another address than loopback
    admin_anywhere: bool = "BACKDROP_ADMIN_ANYWHERE" (num_args = 0..=1, default_missing_value = "true");
    /// Directory of uploads [default: .data]
    data: PathBuf = "BACKDROP_DATA" (value_name = "DIR");
    /// Directory of the archive of evicted textures, on a local disk [default: archive below the data directory]
    archive: PathBuf = "BACKDROP_ARCHIVE" (value_name = "DIR");
    /// Bytes of disk that the archive may take; 0 is off [default: 1GiB]
    archive_bytes_max: ByteSize = "BACKDROP_ARCHIVE_BYTES_MAX" (value_name = "SIZE");
    /// Write pid, addresses and features here as JSON once ready
    ready_file: PathBuf = "BACKDROP_READY_FILE" (value_name = "FILE");
    /// TOML file with [[token]] tables of secret, tenant and roles
    tokens_file: PathBuf = "BACKDROP_TOKENS_FILE" (value_name = "FILE");
    /// Tokens as secret=tenant[:role[+role]], separated by commas
    tokens: String = "BACKDROP_TOKENS" (hide = true, hide_env_values = true);
    /// Who owns decoded pixels: flyweight or exclusive (the naive control) [default: flyweight]
    sharing: String = "BACKDROP_SHARING" (value_name = "KIND");
    /// Order of eviction: lru, or lrfu, which counts frequency too and survives scans [default: lru]
    eviction: String = "BACKDROP_EVICTION" (value_name = "POLICY");
    /// Frames kept for each background and drawn by a copy when they are asked for again; 0 keeps none [default: 0]
    renditions_per_background: usize = "BACKDROP_RENDITIONS_PER_BACKGROUND" (value_name = "N");
    /// Most sessions [default: 2000000]
    sessions_max: u32 = "BACKDROP_SESSIONS_MAX" (value_name = "N");
    /// Most backgrounds [default: 4096]
    backgrounds_max: u32 = "BACKDROP_BACKGROUNDS_MAX" (value_name = "N");
    /// Memory limit: auto (the cgroup's or the host's) or a size such as 384MiB [default: auto]
    memory_limit: Limit = "BACKDROP_MEMORY_LIMIT" (value_name = "SIZE");
    /// Time between looks at memory while it presses, 1ms to 1s; the longer, the slower the growth that is survived [default: 10ms]
    memory_sample_interval: Span = "BACKDROP_MEMORY_SAMPLE_INTERVAL" (value_name = "TIME");
    /// Workers of the HTTP runtime [default: number of CPUs]
    threads: usize = "BACKDROP_THREADS" (value_name = "N");
    /// Threads that render [default: half the CPUs]
    render_threads: usize = "BACKDROP_RENDER_THREADS" (value_name = "N");
    /// Threads that decode [default: half the CPUs]
    decode_threads: usize = "BACKDROP_DECODE_THREADS" (value_name = "N");
    /// Frames that may wait for a render thread [default: 256]
    render_queue_max: usize = "BACKDROP_RENDER_QUEUE_MAX" (value_name = "N");
    /// Threads that decode, composite and encode frames of callers [default: half the CPUs]
    composite_threads: usize = "BACKDROP_COMPOSITE_THREADS" (value_name = "N");
    /// Composites that may wait for a thread [default: 64]
    composite_queue_max: usize = "BACKDROP_COMPOSITE_QUEUE_MAX" (value_name = "N");
    /// Time for a composite whose caller names none with deadline_ms; request-timeout bounds both [default: 1s]
    composite_deadline: Span = "BACKDROP_COMPOSITE_DEADLINE" (value_name = "TIME");
    /// Sessions that may have a source other than an image at once [default: 1024]
    sources_max: usize = "BACKDROP_SOURCES_MAX" (value_name = "N");
    /// Bytes that the newest frames of all streams may take at once [default: 64MiB]
    stream_bytes_max: ByteSize = "BACKDROP_STREAM_BYTES_MAX" (value_name = "SIZE");
    /// Age from which on a stream's frame is not shown any more, but the image [default: 2s]
    stream_stale_after: Span = "BACKDROP_STREAM_STALE_AFTER" (value_name = "TIME");
    /// Callers that may wait for frames of streams at once [default: 1024]
    stream_waiters_max: usize = "BACKDROP_STREAM_WAITERS_MAX" (value_name = "N");
    /// Who draws frames: auto (a GPU if there is one, else the CPU), cpu, or gpu [default: auto]
    renderer: String = "BACKDROP_RENDERER" (value_name = "KIND");
    /// Where there is no real GPU, let one in software do, such as Mesa's lavapipe: slower than the CPU's own renderer, for tests
    gpu_software: bool = "BACKDROP_GPU_SOFTWARE" (num_args = 0..=1, default_missing_value = "true");
    /// How textures lie on the GPU: rgba (exact), or bc7 (a quarter of the memory; frames are near those of the CPU, not equal, and have
    /// an ETag of their own) [default: rgba]
    gpu_textures: String = "BACKDROP_GPU_TEXTURES" (value_name = "FORMAT");
    /// Time that the first frame of a GPU's batch waits for others, up to 10ms [default: 500us]
    gpu_window: Span = "BACKDROP_GPU_WINDOW" (value_name = "TIME");
    /// Frames of one GPU dispatch [default: 64]
    gpu_batch_max: usize = "BACKDROP_GPU_BATCH_MAX" (value_name = "N");
    /// Bytes of textures on the GPU; where it shares the memory a quarter of the budget at most [default: 512MiB]
    gpu_texture_bytes_max: ByteSize = "BACKDROP_GPU_TEXTURE_BYTES_MAX" (value_name = "SIZE");
    /// Bytes of memory through which frames go to the GPU and back; a quarter of the budget at most [default: 160MiB]
    gpu_staging_bytes: ByteSize = "BACKDROP_GPU_STAGING_BYTES" (value_name = "SIZE");
    /// Form of the log: text or json [default: text]
    log: String = "BACKDROP_LOG" (value_name = "FORM");
    /// Filter of the log, as tracing reads it [default: info]
    log_level: String = "BACKDROP_LOG_LEVEL" (value_name = "FILTER");
    /// Time on SIGTERM to serve as before with /readyz at 503, so that balancers turn away first [default: 0s]
    lame_duck: Span = "BACKDROP_LAME_DUCK" (value_name = "TIME");
    /// Time for requests in flight to end on SIGTERM [default: 10s]
    drain_timeout: Span = "BACKDROP_DRAIN_TIMEOUT" (value_name = "TIME");
    /// Accesses to textures to record for /debug/accesses; 0 records none [default: 0]
    access_record: usize = "BACKDROP_ACCESS_RECORD" (value_name = "ENTRIES");
    /// Open connections; more are answered 503 and closed [default: 4096]
    connections_max: usize = "BACKDROP_CONNECTIONS_MAX" (value_name = "N");
    /// Entries of one batch [default: 65536]
    batch_entries_max: usize = "BACKDROP_BATCH_ENTRIES_MAX" (value_name = "N");
    /// Bytes of one body [default: 64MiB]
    body_bytes_max: ByteSize = "BACKDROP_BODY_BYTES_MAX" (value_name = "SIZE");
    /// Bytes of a request's head, on HTTP/2 a quarter, and of the buffer that bodies are read with [default: 16KiB]
    header_bytes_max: ByteSize = "BACKDROP_HEADER_BYTES_MAX" (value_name = "SIZE");
    /// Pixels of an uploaded picture [default: 50000000]
    image_pixels_max: u64 = "BACKDROP_IMAGE_PIXELS_MAX" (value_name = "N");
    /// Pixels of a frame [default: 8294400]
    frame_pixels_max: u64 = "BACKDROP_FRAME_PIXELS_MAX" (value_name = "N");
    /// Time for a request's head to arrive [default: 10s]
    header_timeout: Span = "BACKDROP_HEADER_TIMEOUT" (value_name = "TIME");
    /// Time for a request's body to arrive [default: 30s]
    body_timeout: Span = "BACKDROP_BODY_TIMEOUT" (value_name = "TIME");
    /// Time for everything after the body [default: 5s]
    request_timeout: Span = "BACKDROP_REQUEST_TIMEOUT" (value_name = "TIME");
    /// Time without any progress of a connection [default: 90s]
    idle_timeout: Span = "BACKDROP_IDLE_TIMEOUT" (value_name = "TIME");
    /// Time for a refused sender to take note of its answer before the connection is reset [default: 2s]
    linger_timeout: Span = "BACKDROP_LINGER_TIMEOUT" (value_name = "TIME");
    /// Time that a memory reservation may wait before the request is shed; a load waits four times that [default: 250ms]
    reserve_wait: Span = "BACKDROP_RESERVE_WAIT" (value_name = "TIME");
    /// Let the budget count but refuse nothing: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_budget: bool = "BACKDROP_UNSAFE_DISABLE_BUDGET" (num_args = 0..=1, default_missing_value = "true");
    /// Let the governor watch but do nothing: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_governor: bool = "BACKDROP_UNSAFE_DISABLE_GOVERNOR" (num_args = 0..=1, default_missing_value = "true");
    /// Acknowledge uploads before they are durable: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_volatile_uploads: bool = "BACKDROP_UNSAFE_VOLATILE_UPLOADS" (num_args = 0..=1, default_missing_value = "true");
    /// Evict in the order of indices, whatever was used last: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_eviction_order: bool = "BACKDROP_UNSAFE_DISABLE_EVICTION_ORDER" (num_args = 0..=1, default_missing_value = "true");
    /// Load a cold background once for each caller: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_single_flight: bool = "BACKDROP_UNSAFE_DISABLE_SINGLE_FLIGHT" (num_args = 0..=1, default_missing_value = "true");
    /// Show a load that a replace overtook: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_version_check: bool = "BACKDROP_UNSAFE_DISABLE_VERSION_CHECK" (num_args = 0..=1, default_missing_value = "true");
    /// Let the governor change its state without a dwell time: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_dwell: bool = "BACKDROP_UNSAFE_DISABLE_DWELL" (num_args = 0..=1, default_missing_value = "true");
    /// Take bodies of any length: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_body_limit: bool = "BACKDROP_UNSAFE_DISABLE_BODY_LIMIT" (num_args = 0..=1, default_missing_value = "true");
    /// Let any number of frames wait: for a chaos control only
    #[cfg(feature = "chaos-controls")]
    unsafe_disable_queue_bound: bool = "BACKDROP_UNSAFE_DISABLE_QUEUE_BOUND" (num_args = 0..=1, default_missing_value = "true");
}

impl std::fmt::Debug for Raw {
    /// Says nothing of the settings: one of them is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}

fn put<T, U>(place: &mut U, value: Option<T>, map: impl FnOnce(T) -> U) {
    if let Some(value) = value {
        *place = map(value);
    }
}

fn choice<T>(
    name: &str,
    value: Option<&str>,
    choices: &[(&str, T)],
    default: T,
) -> Result<T, ConfigError>
where
    T: Copy,
{
    let Some(value) = value else {
        return Ok(default);
    };
    choices
        .iter()
        .find(|(known, _)| *known == value)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
            ConfigError::new(
                format!("{name} cannot be {value:?}"),
                format!("choose one of {}", known.join(", ")),
            )
        })
}

impl Raw {
    /// Reads settings from a TOML file.
    ///
    /// # Errors
    /// An unreadable file, an unknown key, or a value of the wrong type.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_file(path, "config file")?;
        toml::from_str(&text).map_err(|error| {
            ConfigError::new(
                format!("config file {}: {}", path.display(), error.message()),
                "correct the file",
            )
        })
    }

    /// Puts these settings over `config`.
    pub(super) fn apply(self, mut config: Config) -> Result<Config, ConfigError> {
        let sharings = Sharing::ALL.map(|sharing| (sharing.name(), sharing));
        config.sharing = choice(
            "sharing",
            self.sharing.as_deref(),
            &sharings,
            config.sharing,
        )?;
        let evictions = Eviction::ALL.map(|eviction| (eviction.name(), eviction));
        config.eviction = choice(
            "eviction",
            self.eviction.as_deref(),
            &evictions,
            config.eviction,
        )?;
        put(
            &mut config.renditions_per_background,
            self.renditions_per_background,
            |most| most,
        );
        let forms = [("text", LogForm::Text), ("json", LogForm::Json)];
        config.log = choice("log", self.log.as_deref(), &forms, config.log)?;
        put(
            &mut config.tokens,
            self.tokens.as_deref().map(tokens_of).transpose()?,
            |tokens| tokens,
        );
        if let Some(path) = &self.tokens_file {
            config.tokens.extend(tokens_in(path)?);
        }
        config.unsafe_switches = self.unsafe_switches();
        put(&mut config.listen, self.listen, |listen| listen);
        put(&mut config.admin, self.admin, |admin| admin);
        put(&mut config.admin_anywhere, self.admin_anywhere, |is| is);
        put(&mut config.data, self.data.clone(), |data| data);
        config.archive.clone_from(&self.archive);
        put(
            &mut config.archive_bytes_max,
            self.archive_bytes_max,
            |ByteSize(bytes)| bytes,
        );
        config.ready_file.clone_from(&self.ready_file);
        put(&mut config.sessions_max, self.sessions_max, |n| n);
        put(&mut config.backgrounds_max, self.backgrounds_max, |n| n);
        put(
            &mut config.memory_limit,
            self.memory_limit,
            |Limit(limit)| limit,
        );
        put(
            &mut config.memory_sample_interval,
            self.memory_sample_interval,
            |Span(time)| time,
        );
        put(&mut config.threads, self.threads, |n| n);
        put(&mut config.render_threads, self.render_threads, |n| n);
        put(&mut config.decode_threads, self.decode_threads, |n| n);
        put(&mut config.render_queue_max, self.render_queue_max, |n| n);
        put(&mut config.composite_threads, self.composite_threads, |n| n);
        put(
            &mut config.composite_queue_max,
            self.composite_queue_max,
            |n| n,
        );
        self.apply_sources(&mut config.sources);
        self.apply_gpu(&mut config.gpu)?;
        put(&mut config.log_level, self.log_level.clone(), |level| level);
        put(&mut config.access_record, self.access_record, |n| n);
        put(&mut config.image_pixels_max, self.image_pixels_max, |n| n);
        self.apply_http(&mut config.http);
        if config.unsafe_switches.disable_body_limit {
            config.http.body_bytes_max = ANY_BODY_BYTES;
        }
        Ok(config)
    }

    fn apply_sources(&self, sources: &mut SourcesConfig) {
        put(&mut sources.sources_max, self.sources_max, |n| n);
        put(
            &mut sources.stream_bytes_max,
            self.stream_bytes_max,
            |ByteSize(bytes)| bytes,
        );
        put(
            &mut sources.stale_after,
            self.stream_stale_after,
            |Span(time)| time,
        );
        put(&mut sources.waiters_max, self.stream_waiters_max, |n| n);
    }

    fn apply_gpu(&self, gpu: &mut GpuConfig) -> Result<(), ConfigError> {
        let renderers = RendererChoice::ALL.map(|renderer| (renderer.name(), renderer));
        let asked = self.renderer.as_deref();
        gpu.renderer = choice("renderer", asked, &renderers, gpu.renderer)?;
        put(&mut gpu.software, self.gpu_software, |is| is);
        let textures = GpuTextures::ALL.map(|textures| (textures.name(), textures));
        let asked = self.gpu_textures.as_deref();
        gpu.textures = choice("gpu-textures", asked, &textures, gpu.textures)?;
        put(&mut gpu.window, self.gpu_window, |Span(time)| time);
        put(&mut gpu.batch_max, self.gpu_batch_max, |n| n);
        put(
            &mut gpu.texture_bytes_max,
            self.gpu_texture_bytes_max,
            |ByteSize(bytes)| bytes,
        );
        put(
            &mut gpu.staging_bytes,
            self.gpu_staging_bytes,
            |ByteSize(bytes)| bytes,
        );
        Ok(())
    }

    fn apply_http(self, http: &mut HttpConfig) {
        put(&mut http.connections_max, self.connections_max, |n| n);
        put(&mut http.batch_entries_max, self.batch_entries_max, |n| n);
        put(
            &mut http.body_bytes_max,
            self.body_bytes_max,
            |ByteSize(bytes)| bytes,
        );
        put(
            &mut http.header_bytes_max,
            self.header_bytes_max,
            |ByteSize(bytes)| bytes as usize,
        );
        put(&mut http.frame_pixels_max, self.frame_pixels_max, |n| n);
        put(
            &mut http.header_timeout,
            self.header_timeout,
            |Span(time)| time,
        );
        put(&mut http.body_timeout, self.body_timeout, |Span(time)| time);
        put(
            &mut http.request_timeout,
            self.request_timeout,
            |Span(time)| time,
        );
        put(&mut http.idle_timeout, self.idle_timeout, |Span(time)| time);
        put(
            &mut http.linger_timeout,
            self.linger_timeout,
            |Span(time)| time,
        );
        put(
            &mut http.composite_deadline,
            self.composite_deadline,
            |Span(time)| time,
        );
        put(&mut http.lame_duck, self.lame_duck, |Span(time)| time);
        put(&mut http.reserve_wait, self.reserve_wait, |Span(time)| time);
        put(&mut http.drain_timeout, self.drain_timeout, |Span(time)| {
            time
        });
    }

    #[cfg(feature = "chaos-controls")]
    fn unsafe_switches(&self) -> Unsafe {
        Unsafe {
            disable_budget: self.unsafe_disable_budget.unwrap_or(false),
            disable_governor: self.unsafe_disable_governor.unwrap_or(false),
            volatile_uploads: self.unsafe_volatile_uploads.unwrap_or(false),
            disable_eviction_order: self.unsafe_disable_eviction_order.unwrap_or(false),
            disable_single_flight: self.unsafe_disable_single_flight.unwrap_or(false),
            disable_version_check: self.unsafe_disable_version_check.unwrap_or(false),
            disable_dwell: self.unsafe_disable_dwell.unwrap_or(false),
            disable_body_limit: self.unsafe_disable_body_limit.unwrap_or(false),
            disable_queue_bound: self.unsafe_disable_queue_bound.unwrap_or(false),
        }
    }

    #[cfg(not(feature = "chaos-controls"))]
    fn unsafe_switches(&self) -> Unsafe {
        Unsafe::default()
    }
}
