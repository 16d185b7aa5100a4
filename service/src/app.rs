//! Wiring: the parts are made and joined here, and nowhere else. Parts that must not know each other meet through
//! closures: the governor gets one that shrinks, the frames one that says whether memory is critically short.

use crate::config::{Config, Sharing};
use crate::flyweight::Flyweights;
use crate::frames::gpu::{Gpu, GpuError};
use crate::frames::{Frames, Sources};
use crate::http::Service;
use crate::http::auth::Auth;
use crate::http::body::Intake;
use crate::http::door::Door;
use crate::http::exposition::Expositions;
use crate::http::limits::HttpConfig;
use crate::http::server::Server;
use crate::memory::cgroup::{Probe, ProbeError};
use crate::memory::sampler::MemoryError;
use crate::memory::{Arena, Budget, Hooks, Memory, State, arena};
use crate::metrics::{Build, Metrics};
use crate::sessions::Sessions;
use crate::sessions::exclusive::Exclusive;
use crate::store::archive::Archive;
use crate::store::{Store, StoreError};
use crate::{FEATURES, VERSION, failpoints};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// Connections of the admin listener.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Why the service did not start, or did not end well. None repeats its source: who prints one prints the whole chain.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}{}", mend_of_bind(option, source))]
    Bind {
        /// Address.
        address: SocketAddr,
        /// The option that names it.
        option: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data directory.
    #[error("data directory")]
    Store(#[from] StoreError),
    /// The kernel's memory figures cannot be read.
    #[error("memory")]
    Probe(#[from] ProbeError),
    /// Memory cannot be watched.
    #[error("memory")]
    Memory(#[from] MemoryError),
    /// The arena of pixels cannot be made.
    #[error("arena")]
    Arena(#[from] arena::ArenaError),
    /// There is no GPU where one was asked for.
    #[error("renderer")]
    Gpu(#[from] GpuError),
    /// A thread cannot be started.
    #[error(
        "cannot start the threads that {what}; raise the limit of processes (ulimit -u, pids.max of the cgroup)"
    )]
    Threads {
        /// What they would do.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The signals that end the service cannot be waited for.
    #[error("cannot wait for SIGTERM and SIGINT; raise the limit of open files (ulimit -n)")]
    Signals(#[source] std::io::Error),
    /// The ready file cannot be written, and whoever waits for it would wait for ever.
    #[error(
        "cannot write the ready file {}; give --ready-file a path in a folder that can be written", path.display()
    )]
    ReadyFile {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The folder to import cannot be read.
    #[error("cannot list its files")]
    Pictures(#[source] std::io::Error),
    /// The folder to import has nothing to import.
    #[error(
        "it holds no picture: files that end in .jpg, .jpeg, .png or .webp are taken, of this folder and of none below it"
    )]
    NoPictures,
}

/// What to do about an address that cannot be had, where that is known.
fn mend_of_bind(option: &str, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "; give --{option} another port, or end what listens there (`ss -ltnp` names it)"
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("; give --{option} a port from 1024 up")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("; give --{option} an address of this host")
        }
        _ => String::new(),
    }
}

/// The parts below HTTP, joined. `import` needs no more.
struct Core {
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    pixels: Arc<Arena>,
    flyweights: Arc<Flyweights>,
    memory: Arc<Memory>,
    sources: Arc<Sources>,
    /// Opened when the parts below it are there.
    gpu: Arc<OnceLock<Arc<Gpu>>>,
}

/// What the governor may do: it knows these closures and no part behind them.
fn hooks(
    flyweights: &Arc<Flyweights>,
    sources: &Arc<Sources>,
    gpu: &Arc<OnceLock<Arc<Gpu>>>,
) -> Hooks {
    let (shrinking, trimming) = (Arc::clone(flyweights), Arc::clone(flyweights));
    let (sources, gpu) = (Arc::clone(sources), Arc::clone(gpu));
    Hooks {
        shrink: Box::new(move |bytes| shrinking.shrink_to(bytes).freed_bytes),
        trim: Box::new(move || {
            sources.drop_stale();
            if let Some(gpu) = gpu.get() {
                gpu.trim();
            }
            trimming.trim()
        }),
        purge: Box::new(|| {
            if let Err(error) = arena::purge_all() {
                tracing::warn!(%error, "purge failed");
            }
        }),
    }
}

/// The origin, and before it the archive. That one is a cache: a directory that another process uses is a mistake to be told,
/// but a disk that does not take it keeps nobody from being served.
fn open_store(config: &Config, metrics: &Arc<Metrics>) -> Result<Store, StoreError> {
    let store = Store::open(config.store())?;
    let Some(archive) = config.archive() else {
        return Ok(store);
    };
    match Archive::open(archive, Arc::clone(metrics)) {
        Ok(archive) => Ok(store.with_archive(archive)),
        Err(error @ StoreError::ArchiveInUse { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "no archive: evicted textures will be decoded again");
            Ok(store)
        }
    }
}

impl Core {
    /// Makes the parts and takes in what the data directory holds.
    async fn start(config: &Config, metrics: Arc<Metrics>) -> Result<Self, AppError> {
        let budget = Budget::new(config.budget());
        let pixels = Arena::new()?;
        let store = Arc::new(open_store(config, &metrics)?);
        let flyweights = Flyweights::new(
            config.flyweights(),
            store,
            Arc::clone(&budget),
            Arc::clone(&pixels),
            Arc::clone(&metrics),
        )
        .map_err(|source| AppError::Threads {
            what: "decode and archive",
            source,
        })?;
        let probe = Probe::detect(config.memory_limit)?;
        let sources = Arc::new(Sources::new(
            config.sources.clone(),
            Arc::clone(&budget),
            Arc::clone(&metrics),
        ));
        let gpu = Arc::default();
        let memory = Memory::start(
            config.memory(),
            probe,
            Arc::clone(&budget),
            Arc::clone(&pixels),
            Arc::clone(&metrics),
            hooks(&flyweights, &sources, &gpu),
        )?;
        let recovered = flyweights.recover().await?;
        for (id, error) in &recovered.refused {
            tracing::warn!(id, %error, "stored background not taken in");
        }
        tracing::info!(
            live = recovered.live,
            refused = recovered.refused.len(),
            damaged = recovered.damaged.len(),
            "backgrounds recovered"
        );
        Ok(Self {
            metrics,
            budget,
            pixels,
            flyweights,
            memory: Arc::new(memory),
            sources,
            gpu,
        })
    }

    /// All of it, as serving needs it.
    async fn start_with_gpu(config: &Config, metrics: Arc<Metrics>) -> Result<Self, AppError> {
        let core = Self::start(config, metrics).await?;
        core.open_gpu(config).await?;
        Ok(core)
    }

    /// Opens the GPU that is asked for, if there is one.
    async fn open_gpu(&self, config: &Config) -> Result<(), AppError> {
        let (config, budget, metrics) = (
            config.gpu,
            Arc::clone(&self.budget),
            Arc::clone(&self.metrics),
        );
        let opening = tokio::task::spawn_blocking(move || Gpu::open(&config, &budget, &metrics));
        if let Some(gpu) = opening.await.unwrap_or_else(|defect| Err(defect.into()))? {
            drop(self.gpu.set(Arc::new(gpu)));
        }
        Ok(())
    }
}

fn service(config: &Config, core: Core) -> Result<Service, AppError> {
    let Core {
        metrics,
        budget,
        pixels,
        flyweights,
        memory,
        sources,
        gpu,
    } = core;
    let watched = Arc::clone(&memory);
    let frames = Frames::start(
        config.frames(),
        Arc::clone(&budget),
        Arc::clone(&metrics),
        move || watched.state() == State::Critical,
    )
    .map_err(|source| AppError::Threads {
        what: "render",
        source,
    })?
    .with_gpu(gpu.get().cloned());
    Ok(Service {
        config: config.http.clone(),
        auth: Auth::new(&config.tokens),
        sessions: Sessions::new(config.sessions(), Arc::clone(&budget), Arc::clone(&metrics)),
        pixels,
        intake: Intake {
            budget: Arc::clone(&budget),
            arena: Arena::new()?,
        },
        exclusive: (config.sharing == Sharing::Exclusive).then(Exclusive::default),
        flyweights,
        frames,
        sources,
        memory,
        budget,
        metrics,
        expositions: Expositions::default(),
        leaving: AtomicBool::new(false),
        draining: AtomicBool::new(false),
    })
}

/// Connections that wait to be accepted at most, and no more than the host's `net.core.somaxconn`. With std's 128 the kernel lets go of
/// what comes in one moment beyond that, under SYN cookies without a word to either side.
const WAITING_MAX: u32 = 4096;

async fn bind(
    address: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), AppError> {
    let failed = |source| AppError::Bind {
        address,
        option,
        source,
    };
    let listener = listen(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// As tokio's own `bind`, but for how many may wait.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
}

/// The file that says that the service is ready, and goes with it.
struct ReadyFile {
    path: PathBuf,
    aside: PathBuf,
}

impl ReadyFile {
    /// Writes it aside, so that what is wrong with its folder is told before anybody is told that the service is ready.
    fn prepare(path: &Path, listen: SocketAddr, admin: SocketAddr) -> Result<Self, AppError> {
        let ready = serde_json::json!({
            "pid": std::process::id(),
            "listen": listen.to_string(),
            "admin": admin.to_string(),
            "features": FEATURES,
        });
        let file = Self {
            path: path.to_owned(),
            aside: path.with_extension("partial"),
        };
        let written = std::fs::write(&file.aside, format!("{ready}\n"));
        written.map_err(|source| file.failed(source))?;
        Ok(file)
    }

    /// Renames it into place: a reader never sees half of it.
    fn publish(&self) -> Result<(), AppError> {
        std::fs::rename(&self.aside, &self.path).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> AppError {
        AppError::ReadyFile {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
        drop(std::fs::remove_file(&self.aside));
    }
}

/// Serves until a signal asks for the end, then drains.
///
/// # Errors
/// Whatever keeps the service from starting.
pub async fn serve(config: Config) -> Result<(), AppError> {
    config.show();
    let mut stop = Stop::listen().map_err(AppError::Signals)?;
    let (public, listen) = bind(config.listen, "listen").await?;
    let (private, admin) = bind(config.admin, "admin").await?;
    let metrics = metrics();
    let door = Arc::new(Door::new(Arc::clone(&metrics)));
    let (drain, draining) = watch::channel(false);
    let serving = tokio::spawn(run_public(&config.http, &door, public, draining));
    let (stop_admin, admin_draining) = watch::channel(false);
    let administering = tokio::spawn(run_admin(&config.http, &door, private, admin_draining));
    tracing::info!(%listen, %admin, "starting: probes are answered");
    // Recovery takes its time with many backgrounds, and nothing is in flight yet that would have to be drained.
    let core = tokio::select! {
        biased;
        signal = stop.wait() => {
            tracing::info!(signal, "stopped before it was ready");
            return Ok(());
        }
        core = Core::start_with_gpu(&config, metrics) => core?,
    };
    let service = Arc::new(service(&config, core)?);
    let ready_file = config.ready_file.as_deref();
    let ready_file = ready_file
        .map(|path| ReadyFile::prepare(path, listen, admin))
        .transpose()?;
    door.open(Arc::clone(&service));
    if let Some(file) = &ready_file {
        file.publish()?;
    }
    tracing::info!(%listen, %admin, epoch = service.flyweights.epoch(), features = ?FEATURES, "ready");
    let signal = stop.wait().await;
    if !config.http.lame_duck.is_zero() {
        tracing::info!(signal, time = ?config.http.lame_duck, "not ready any more, serving on for a while");
        service.leaving.store(true, Ordering::Release);
        // A second signal is from somebody who will not wait.
        drop(tokio::time::timeout(config.http.lame_duck, stop.wait()).await);
    }
    tracing::info!(signal, timeout = ?config.http.drain_timeout, "draining");
    service.draining.store(true, Ordering::Release);
    drain.send_replace(true);
    let clean = serving.await.unwrap_or(false);
    stop_admin.send_replace(true);
    administering.abort();
    if clean {
        tracing::info!("drained");
    } else {
        tracing::warn!("requests still in flight were cut off");
    }
    Ok(())
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&Build {
        version: VERSION,
        features: FEATURES,
        failpoints: failpoints::BUILT,
    }))
}

fn run_public(
    config: &HttpConfig,
    door: &Arc<Door>,
    listener: TcpListener,
    drain: watch::Receiver<bool>,
) -> impl Future<Output = bool> + use<> {
    let door = Arc::clone(door);
    let server = Server::new(config.clone(), Arc::clone(door.metrics()));
    let answer = move |request| Arc::clone(&door).answer(request);
    async move { server.run(listener, answer, drain).await }
}

fn run_admin(
    config: &HttpConfig,
    door: &Arc<Door>,
    listener: TcpListener,
    drain: watch::Receiver<bool>,
) -> impl Future<Output = bool> + use<> {
    let door = Arc::clone(door);
    let config = HttpConfig {
        connections_max: ADMIN_CONNECTIONS_MAX,
        ..config.clone()
    };
    // Counted apart: the metric of connections is the public listener's.
    let server = Server::uncounted(config, Arc::clone(door.metrics()));
    let answer = move |request| Arc::clone(&door).answer_admin(request);
    async move { server.run(listener, answer, drain).await }
}

/// The signals that end the service.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// One file of an import, and what became of it.
#[derive(Debug)]
pub struct Imported {
    /// Name of the file.
    pub file: String,
    /// Id and version it has now, or why it was not taken.
    pub outcome: Result<(String, u32), String>,
}

/// The id that a file name gives: lower case, what an id cannot hold as `-`, cut to 64 characters.
fn id_of(stem: &str) -> Option<String> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let mapped: String = stem.chars().map(plain).collect();
    let id: String = mapped
        .trim_start_matches(['.', '_', '-'])
        .chars()
        .take(64)
        .collect();
    crate::store::valid_id(&id).then_some(id)
}

fn pictures(dir: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let known = |path: &Path| {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        ["jpg", "jpeg", "png", "webp"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_file() && known(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Takes the JPEG, PNG and WebP files of `dir` into the data directory, telling `progress` of each.
///
/// # Errors
/// Whatever keeps all of it from being done; what is wrong with one file is its outcome.
pub async fn import(
    config: &Config,
    dir: &Path,
    mut progress: impl FnMut(usize, usize, &Imported),
) -> Result<(), AppError> {
    let paths = pictures(dir).map_err(AppError::Pictures)?;
    if paths.is_empty() {
        return Err(AppError::NoPictures);
    }
    let core = Core::start(config, metrics()).await?;
    let mut taken = std::collections::HashMap::new();
    for (at, path) in paths.iter().enumerate() {
        let file = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let outcome = import_one(config, &core, path, &mut taken).await;
        progress(at + 1, paths.len(), &Imported { file, outcome });
    }
    Ok(())
}

async fn import_one(
    config: &Config,
    core: &Core,
    path: &Path,
    taken: &mut std::collections::HashMap<String, String>,
) -> Result<(String, u32), String> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .ok_or("its name is no text")?;
    let id = id_of(stem).ok_or("its name gives no id")?;
    if let Some(other) = taken.insert(id.clone(), stem.to_owned()) {
        return Err(format!(
            "its name gives the id {id}, as that of {other} does"
        ));
    }
    let bytes = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if bytes > config.http.body_bytes_max {
        return Err(format!("it has {bytes} bytes, more than body-bytes-max"));
    }
    let charge = core
        .budget
        .try_reserve(crate::memory::Purpose::Upload, bytes)
        .map_err(|error| error.to_string())?;
    let image = tokio::fs::read(path)
        .await
        .map_err(|error| error.to_string())?;
    let kept = core
        .flyweights
        .upload(&id, image.into(), crate::flyweight::Precondition::None)
        .await;
    drop(charge);
    kept.map(|registered| (id, registered.version))
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_become_ids() {
        assert_eq!(id_of("Beach At Night").as_deref(), Some("beach-at-night"));
        assert_eq!(id_of("._Ünïcode").as_deref(), Some("n-code"));
        assert_eq!(id_of(&"x".repeat(80)).map(|id| id.len()), Some(64));
        assert_eq!(id_of("---"), None);
    }

    #[tokio::test]
    async fn connections_that_come_in_one_moment_are_all_there_to_be_accepted() {
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("Linux");
        let many = 400.min(most.trim().parse().expect("a number"));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, address) = bind(any, "listen").await.expect("a free port");
        let mut clients = Vec::new();
        let coming_and_accepting = async {
            for _ in 0..many {
                clients.push(
                    tokio::net::TcpStream::connect(address)
                        .await
                        .expect("it is let in"),
                );
            }
            for _ in 0..many {
                listener.accept().await.expect("accepted");
            }
        };
        // What the kernel let go of never comes.
        let hang = std::time::Duration::from_secs(60);
        let all = tokio::time::timeout(hang, coming_and_accepting).await;
        assert!(all.is_ok(), "the kernel let go of some");
    }
}
