//! One life of the service: its command line, its start, and when it is ready.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::admin::Listener;
use crate::host::{CommandSpec, CpuSet, HostError, Leaf, ServiceProcess, Undo, UndoGuard, UndoLog};
use crate::scenario::Target;

/// The service is to be the kernel's victim, never a hog or the runner.
const OOM_SCORE_ADJ: i32 = 1000;
/// How often readiness is looked for.
const READY_POLL: Duration = Duration::from_millis(20);

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// It could not be started.
    #[error(transparent)]
    Host(#[from] HostError),
    /// No loopback port.
    #[error("no free loopback port: {0}")]
    Port(std::io::Error),
    /// It ended before it was ready.
    #[error("the service ended before it was ready; its log is {log}", log = log.display())]
    Ended {
        /// Log file.
        log: PathBuf,
    },
    /// It was not ready in time.
    #[error("the service was not ready within {within:?}; its log is {log}", log = log.display())]
    NotReady {
        /// Time allowed.
        within: Duration,
        /// Log file.
        log: PathBuf,
    },
}

impl ServiceError {
    /// Whether the service failed, rather than the runner at starting it.
    #[must_use]
    pub fn is_of_the_service(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::NotReady { .. })
    }
}

/// How to start it; the same for every life of one trial.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// Binary.
    pub binary: PathBuf,
    /// Public listener.
    pub listen: SocketAddr,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Data folder.
    pub data: PathBuf,
    /// File it writes when ready.
    pub ready_file: PathBuf,
    /// Log file, appended to by every life.
    pub log: PathBuf,
    /// Flags and environment of the scenario.
    pub target: Target,
}

/// Free ports of loopback. All are held until all are known, so that they differ.
///
/// # Errors
/// There are none.
pub fn free_addresses<const N: usize>() -> Result<[SocketAddr; N], ServiceError> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held: Vec<_> = (0..N)
        .map(bind)
        .collect::<Result<_, _>>()
        .map_err(ServiceError::Port)?;
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (address, listener) in addresses.iter_mut().zip(&held) {
        *address = listener.local_addr().map_err(ServiceError::Port)?;
    }
    Ok(addresses)
}

impl ServiceSpec {
    /// On two free loopback ports, with everything else in this folder.
    ///
    /// # Errors
    /// No free port.
    pub fn new(
        binary: PathBuf,
        dir: &Path,
        data: PathBuf,
        target: Target,
    ) -> Result<Self, ServiceError> {
        let [listen, admin] = free_addresses()?;
        Ok(Self {
            binary,
            listen,
            admin,
            data,
            ready_file: dir.join("ready.json"),
            log: dir.join("service.log"),
            target,
        })
    }

    fn command(&self, leaf: &Leaf, cpus: &CpuSet) -> CommandSpec {
        let mut args: Vec<String> = vec!["serve".into()];
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        flag("--listen", self.listen.to_string());
        flag("--admin", self.admin.to_string());
        flag("--data", self.data.display().to_string());
        flag("--ready-file", self.ready_file.display().to_string());
        flag("--memory-limit", "auto".into());
        args.extend(self.target.args.iter().cloned());
        let mut command = CommandSpec::new(&self.binary);
        command.args = args.into_iter().map(Into::into).collect();
        command.env = self.target.env.clone().into_iter().collect();
        command.stdout = Some(self.log.clone());
        command.stderr = Some(self.log.clone());
        command.cpus = Some(cpus.clone());
        command.leaf = Some(leaf.clone());
        command.oom_score_adj = Some(OOM_SCORE_ADJ);
        command
    }
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub process: ServiceProcess,
    /// Public listener.
    pub public: Listener,
    /// Admin listener.
    pub admin: Listener,
    /// Command line.
    pub command: Vec<String>,
    log: PathBuf,
    guard: Mutex<Option<UndoGuard>>,
}

impl Service {
    /// Starts it in the leaf; it is not ready yet.
    ///
    /// # Errors
    /// The host's.
    pub fn spawn(
        spec: &ServiceSpec,
        leaf: &Leaf,
        cpus: &CpuSet,
        undo: &UndoLog,
    ) -> Result<Self, ServiceError> {
        let _ = std::fs::remove_file(&spec.ready_file);
        let command = spec.command(leaf, cpus);
        let words = command.words();
        let process = ServiceProcess::spawn(&command)?;
        let guard = undo.record(Undo::Process {
            process: process.id(),
            what: "service".into(),
        })?;
        Ok(Self {
            process,
            public: Listener::new(spec.listen),
            admin: Listener::new(spec.admin),
            command: words,
            log: spec.log.clone(),
            guard: Mutex::new(Some(guard)),
        })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended, or is not ready in time.
    pub async fn until_ready(
        &self,
        spec: &ServiceSpec,
        within: Duration,
    ) -> Result<(), ServiceError> {
        let deadline = Instant::now() + within;
        loop {
            if self.process.try_wait().is_some() {
                return Err(ServiceError::Ended {
                    log: self.log.clone(),
                });
            }
            let written = std::fs::metadata(&spec.ready_file).is_ok_and(|m| m.len() > 0);
            if written && self.public.get("/readyz").await.is_ok_and(|a| a.ok()) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ServiceError::NotReady {
                    within,
                    log: self.log.clone(),
                });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The process was waited for, or is killed by its own drop; the guard's undo is then a check that it is gone.
        if self.process.try_wait().is_some()
            && let Some(guard) = self.guard.lock().take()
        {
            let _ = guard.settled();
        }
    }
}
