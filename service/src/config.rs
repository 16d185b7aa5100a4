//! The service's settings: defaults, file, environment, flags, in that order, resolved into one checked value.
//!
//! Raw settings are all optional and come from either source alike; [`Config`] is what they resolve to. A bad setting is
//! an error that names its cause and its mend, before anything is bound.

mod parts;
pub mod raw;
mod show;
pub mod units;

use crate::codec::limits::PIXELS_MAX;
use crate::flyweight::Eviction;
use crate::frames::SourcesConfig;
use crate::frames::gpu::GpuConfig;
use crate::http::auth::{Role, Token};
use crate::http::limits::{HttpConfig, within};
use crate::memory::MemoryConfig;
pub use raw::Raw;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A setting that cannot work: what is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {mend}")]
pub struct ConfigError {
    cause: String,
    mend: String,
}

impl ConfigError {
    fn new(cause: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            mend: mend.into(),
        }
    }
}

/// Who owns decoded pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All sessions share one texture for each background.
    #[default]
    Flyweight,
    /// Each session owns a texture: the naive control.
    Exclusive,
}

impl Sharing {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Flyweight, Self::Exclusive];

    /// As it is written in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flyweight => "flyweight",
            Self::Exclusive => "exclusive",
        }
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogForm {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Protections that are off; all false except in a `chaos-controls` build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unsafe {
    /// The budget counts but refuses nothing.
    pub disable_budget: bool,
    /// The governor watches but does nothing.
    pub disable_governor: bool,
    /// Uploads are acknowledged before they are durable.
    pub volatile_uploads: bool,
    /// Textures are evicted in the order of their indices, whenever they were used.
    pub disable_eviction_order: bool,
    /// Whoever finds a background cold loads it, even while others do.
    pub disable_single_flight: bool,
    /// A load is shown even if its background was replaced meanwhile.
    pub disable_version_check: bool,
    /// The governor changes its state as often as pressure crosses an edge.
    pub disable_dwell: bool,
    /// A request's body may have any length.
    pub disable_body_limit: bool,
    /// Any number of frames may wait for a render thread.
    pub disable_queue_bound: bool,
}

/// All settings of `serve`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Public address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// The admin listener may be on another address than loopback.
    pub admin_anywhere: bool,
    /// Where uploads live.
    pub data: PathBuf,
    /// Where evicted textures are archived; `archive` below the data directory unless given.
    pub archive: Option<PathBuf>,
    /// Bytes that the archive may take; 0 is off.
    pub archive_bytes_max: u64,
    /// Written once the service is ready.
    pub ready_file: Option<PathBuf>,
    /// Who may call; empty means everybody on loopback.
    pub tokens: Vec<Token>,
    /// Who owns decoded pixels.
    pub sharing: Sharing,
    /// Order in which textures are evicted.
    pub eviction: Eviction,
    /// Frames kept for each background.
    pub renditions_per_background: usize,
    /// Most sessions.
    pub sessions_max: u32,
    /// Most backgrounds.
    pub backgrounds_max: u32,
    /// Memory limit instead of the cgroup's.
    pub memory_limit: Option<u64>,
    /// Time between samples of memory while it presses.
    pub memory_sample_interval: Duration,
    /// Workers of the HTTP runtime.
    pub threads: usize,
    /// Threads that render.
    pub render_threads: usize,
    /// Threads that decode.
    pub decode_threads: usize,
    /// Frames that may wait for a render thread.
    pub render_queue_max: usize,
    /// Threads that composite.
    pub composite_threads: usize,
    /// Composites that may wait for a thread.
    pub composite_queue_max: usize,
    /// Sources other than images.
    pub sources: SourcesConfig,
    /// Who draws frames, and how a GPU is used.
    pub gpu: GpuConfig,
    /// Pixels of an uploaded picture.
    pub image_pixels_max: u64,
    /// Entries of the access record; 0 records nothing.
    pub access_record: usize,
    /// Form of the log.
    pub log: LogForm,
    /// Filter of the log, as `tracing` reads it.
    pub log_level: String,
    /// Bounds of the public listener.
    pub http: HttpConfig,
    /// Protections that are off.
    pub unsafe_switches: Unsafe,
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 7081)),
            admin_anywhere: false,
            data: PathBuf::from(".data"),
            archive: None,
            archive_bytes_max: 1 << 30,
            ready_file: None,
            tokens: Vec::new(),
            sharing: Sharing::default(),
            eviction: Eviction::default(),
            renditions_per_background: 0,
            sessions_max: 2_000_000,
            backgrounds_max: 4096,
            memory_limit: None,
            memory_sample_interval: MemoryConfig::default().fast,
            threads: cpus(),
            render_threads: (cpus() / 2).max(1),
            decode_threads: (cpus() / 2).max(1),
            render_queue_max: 256,
            composite_threads: (cpus() / 2).max(1),
            composite_queue_max: 64,
            sources: SourcesConfig::default(),
            gpu: GpuConfig::default(),
            image_pixels_max: 50_000_000,
            access_record: 0,
            log: LogForm::default(),
            log_level: "info".to_owned(),
            http: HttpConfig::default(),
            unsafe_switches: Unsafe::default(),
        }
    }
}

impl Config {
    /// Reads the file that `flags` names, if any, puts `flags` over it (they already hold the environment), and checks.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn resolve(flags: Raw) -> Result<Self, ConfigError> {
        let raw = match &flags.config {
            Some(path) => flags.clone().over(Raw::read(path)?),
            None => flags,
        };
        let config = raw.apply(Self::default())?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let numbers = [
            (
                "backgrounds-max",
                u64::from(self.backgrounds_max),
                1,
                1 << 20,
            ),
            ("threads", self.threads as u64, 1, 1024),
            ("render-threads", self.render_threads as u64, 1, 1024),
            ("decode-threads", self.decode_threads as u64, 1, 1024),
            ("render-queue-max", self.render_queue_max as u64, 1, 1 << 20),
            ("composite-threads", self.composite_threads as u64, 1, 1024),
            (
                "composite-queue-max",
                self.composite_queue_max as u64,
                1,
                1 << 20,
            ),
            ("access-record", self.access_record as u64, 0, 1 << 30),
            ("image-pixels-max", self.image_pixels_max, 1, PIXELS_MAX),
        ];
        for (name, value, least, most) in numbers {
            within(name, value, least, most)
                .map_err(|cause| ConfigError::new(cause, "change it"))?;
        }
        self.validate_parts()?;
        crate::http::auth::validate(&self.tokens)
            .map_err(|cause| ConfigError::new(cause, "change the tokens"))?;
        if self.tokens.is_empty() && !self.listen.ip().is_loopback() {
            return Err(ConfigError::new(
                format!(
                    "{} is no loopback address and no token is configured, so anybody could write",
                    self.listen
                ),
                "give --tokens-file or BACKDROP_TOKENS, or listen on 127.0.0.1",
            ));
        }
        if !self.admin.ip().is_loopback() && !self.admin_anywhere {
            return Err(ConfigError::new(
                format!(
                    "{} is no loopback address, and whoever reaches the admin listener may use it",
                    self.admin
                ),
                "keep admin on 127.0.0.1, or give --admin-anywhere where the network keeps others out",
            ));
        }
        if self.unsafe_switches != Unsafe::default() && !cfg!(feature = "chaos-controls") {
            return Err(ConfigError::new(
                "this build cannot switch protections off",
                "build it with chaos-controls",
            ));
        }
        Ok(())
    }
}

fn role(name: &str) -> Result<Role, ConfigError> {
    Role::from_name(name).ok_or_else(|| {
        ConfigError::new(
            format!("there is no role {name:?}"),
            "the only role is catalogue",
        )
    })
}

fn token(secret: &str, tenant: &str, roles: &[&str]) -> Result<Token, ConfigError> {
    if secret.trim().is_empty() || tenant.trim().is_empty() {
        return Err(ConfigError::new(
            "a token has an empty secret or tenant",
            "give each token both",
        ));
    }
    let roles = roles
        .iter()
        .map(|name| role(name))
        .collect::<Result<_, _>>()?;
    Ok(Token {
        secret: secret.trim().to_owned(),
        tenant: tenant.trim().to_owned(),
        roles,
    })
}

/// Tokens as `secret=tenant[:role[+role]]`, separated by commas.
fn tokens_of(text: &str) -> Result<Vec<Token>, ConfigError> {
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    if entries.clone().next().is_none() {
        // Taken for none, it would let everybody in.
        return Err(ConfigError::new(
            "BACKDROP_TOKENS is set and has no token".to_owned(),
            "write secret=tenant[:role[+role]], separated by commas, or unset it",
        ));
    }
    entries
        .enumerate()
        .map(|(at, entry)| {
            // The entry holds a secret and is never shown.
            let (secret, rest) = entry.split_once('=').ok_or_else(|| {
                ConfigError::new(
                    format!("token {} of BACKDROP_TOKENS has no =", at + 1),
                    "write secret=tenant[:role[+role]], separated by commas",
                )
            })?;
            let (tenant, roles) = rest.split_once(':').unwrap_or((rest, ""));
            let roles: Vec<&str> = roles.split('+').filter(|name| !name.is_empty()).collect();
            token(secret, tenant, &roles)
        })
        .collect()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<TokenRow>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRow {
    secret: String,
    tenant: String,
    #[serde(default)]
    roles: Vec<String>,
}

fn read_file(path: &Path, what: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(
            format!("{what} {}: {error}", path.display()),
            "check the path",
        )
    })
}

fn tokens_in(path: &Path) -> Result<Vec<Token>, ConfigError> {
    let text = read_file(path, "tokens file")?;
    let file: TokensFile = toml::from_str(&text).map_err(|error| {
        // The message alone: the rendered error quotes the line, and lines hold secrets.
        ConfigError::new(
            format!("tokens file {}: {}", path.display(), error.message()),
            "write [[token]] tables with secret, tenant and roles",
        )
    })?;
    let row = |row: &TokenRow| {
        let roles: Vec<&str> = row.roles.iter().map(String::as_str).collect();
        token(&row.secret, &row.tenant, &roles)
    };
    if file.token.is_empty() {
        // Taken for none, it would let everybody in.
        return Err(ConfigError::new(
            format!("tokens file {} has no token", path.display()),
            "write [[token]] tables with secret, tenant and roles, or leave the file out",
        ));
    }
    file.token.iter().map(row).collect()
}

#[cfg(test)]
mod tests;
