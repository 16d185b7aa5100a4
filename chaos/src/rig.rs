//! What one trial stands on: the cell with its limit and leaves, the service's current life, the sampler, and the notes that
//! faults and trial take while they run. Everything here is undone in [`Rig::take_down`] and checked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backdrop_reports::record;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::exposed::Exposed;
use crate::host::{
    Cell, Ending, Hierarchy, HostError, HostSample, Leaf, LimitChange, LimitWatch, Limits,
    Lowering, Peaks, Placement, Sampler, SamplerConfig, Swap, Undo, UndoGuard, UndoLog,
};
use crate::observed::{Oracle, Probes};
use crate::scenario::Place;
use crate::service::{Service, ServiceError, ServiceSpec};
use crate::units;

/// A moment, in wall-clock milliseconds until the trial knows when its load began.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Kind of the record's event.
    pub kind: &'static str,
    /// In words.
    pub text: String,
}

/// What is written down while the trial runs.
#[derive(Debug, Default)]
pub struct Notes {
    /// Moments in the order they were noted.
    pub moments: Vec<Moment>,
    /// The runner's own findings.
    pub probes: Probes,
    /// The service's lives so far.
    pub processes: Vec<record::ServiceProcess>,
    /// A process of ours died of a kill that the kernel counted.
    pub seen_dying: bool,
    /// Hogs that the kernel killed in a leaf whose counter is the service's, too.
    pub hog_kills_beside: u64,
    /// Hogs that the kernel killed in a leaf of their own below the service's.
    pub hog_kills_below: u64,
    /// How the service ended, or failed to start, without anybody intending it and without a kill for memory.
    pub crash: Option<String>,
}

/// See the module.
pub struct Rig {
    cell: Mutex<Option<Cell>>,
    cell_guard: Mutex<Option<UndoGuard>>,
    /// Path of the limited parent.
    pub cell_path: PathBuf,
    /// Limit as read back.
    pub limit_bytes: u64,
    /// Whether swap is off for the cell, and what shows it.
    pub swap: Swap,
    /// Leaf of the service.
    pub service_leaf: Leaf,
    /// Leaf of memory hogs.
    pub hog_leaf: Leaf,
    /// Who runs where.
    pub placement: Placement,
    /// What must be undone.
    pub undo: UndoLog,
    /// Kernel's limit or a watchdog.
    pub emulated: bool,
    /// This program, which starts hogs as its own subcommand.
    pub program: PathBuf,
    /// What a Prometheus is told.
    pub exposed: Arc<Exposed>,
    sampler: Mutex<Option<Sampler>>,
    service: Mutex<Option<Arc<Service>>>,
    /// Connections that clients of faults have open now.
    pub clients_open: Arc<AtomicU64>,
    /// Raised whenever the current service changes.
    pub changed: Notify,
    /// Number of stops under way, in which the service does not answer and is not missed.
    still: Mutex<u32>,
    /// Number of intended kills under way; while it is not zero an end is no surprise.
    intended: Mutex<u32>,
    /// Notes.
    pub notes: Mutex<Notes>,
}

/// What is left when the rig is gone.
pub struct TakenDown {
    /// Thinned samples.
    pub rows: Vec<HostSample>,
    /// Maxima.
    pub peaks: Peaks,
    /// What could not be undone; empty is good.
    pub failed: Vec<String>,
    /// Kernel's word on kills, read before the cell was removed.
    pub oracle: Oracle,
    /// Kernel's own maximum of the service's leaf, bytes.
    pub kernel_peak: Option<u64>,
}

impl Rig {
    /// Makes cell and leaves and begins to sample.
    ///
    /// # Errors
    /// The host allows no such cell.
    pub fn set_up(
        name: &str,
        limit: u64,
        hierarchy: &Hierarchy,
        placement: Placement,
        undo: UndoLog,
        program: PathBuf,
        exposed: Arc<Exposed>,
    ) -> Result<Self, HostError> {
        let cell_name = format!("{name}-{}", std::process::id());
        let guard = (!hierarchy.is_emulated())
            .then(|| {
                undo.record(Undo::Cgroup {
                    path: hierarchy.cell_path(&cell_name),
                })
            })
            .transpose()?;
        let cell = hierarchy.cell(
            &cell_name,
            Limits {
                memory_bytes: limit,
            },
        )?;
        let (service_leaf, hog_leaf) = (cell.leaf("service")?, cell.leaf("hog")?);
        let limit_bytes = cell.limit()?;
        let sampler = Sampler::start(
            SamplerConfig::default(),
            cell.probe(),
            service_leaf.clone(),
            Some(hog_leaf.clone()),
        )?;
        Ok(Self {
            cell_path: cell.path().to_owned(),
            limit_bytes,
            swap: cell.swap().clone(),
            cell: Mutex::new(Some(cell)),
            cell_guard: Mutex::new(guard),
            service_leaf,
            hog_leaf,
            placement,
            undo,
            emulated: hierarchy.is_emulated(),
            program,
            exposed,
            sampler: Mutex::new(Some(sampler)),
            service: Mutex::new(None),
            clients_open: Arc::default(),
            changed: Notify::new(),
            still: Mutex::new(0),
            intended: Mutex::new(0),
            notes: Mutex::new(Notes::default()),
        })
    }

    /// Starts the service in its leaf and waits until it is ready.
    ///
    /// # Errors
    /// It ended, or was not ready in time.
    pub async fn start_service(
        &self,
        spec: &ServiceSpec,
        ready_within: Duration,
    ) -> Result<Arc<Service>, ServiceError> {
        let service = Arc::new(Service::spawn(
            spec,
            &self.service_leaf,
            &self.placement.service,
            &self.undo,
        )?);
        *self.service.lock() = Some(service.clone());
        if let Some(sampler) = &*self.sampler.lock() {
            sampler.watch(Some(service.process.id()));
        }
        self.note(
            "process",
            format!("service started, pid {}", service.process.id().pid),
        );
        let ready = service.until_ready(spec, ready_within).await;
        self.changed.notify_waiters();
        match ready {
            Ok(()) => {
                self.note("process", "service ready".to_owned());
                Ok(service)
            }
            Err(e) => {
                let _ = service.process.kill();
                let _ =
                    tokio::task::block_in_place(|| service.process.wait(Duration::from_secs(10)));
                self.bury(&service);
                if e.is_of_the_service() {
                    self.crashed(&service, &e.to_string());
                }
                Err(e)
            }
        }
    }

    /// Notes that the service failed by itself, unless it was killed for memory: that is the kernel's word to tell.
    pub fn crashed(&self, service: &Service, what: &str) {
        let ending = service.process.ending();
        if matches!(
            ending,
            Some(Ending::KilledByKernel | Ending::KilledByWatchdog)
        ) {
            return;
        }
        let how = match ending {
            // Our own kill follows a service that was not ready; it says nothing of how that came.
            Some(Ending::KilledByRunner(_)) | None => String::new(),
            Some(ending) => format!(": {}", ending.words()),
        };
        self.notes
            .lock()
            .crash
            .get_or_insert(format!("{what}{how}"));
    }

    /// The current life.
    #[must_use]
    pub fn service(&self) -> Option<Arc<Service>> {
        self.service.lock().clone()
    }

    /// The newest sample.
    #[must_use]
    pub fn latest(&self) -> Option<HostSample> {
        self.sampler.lock().as_ref().and_then(Sampler::latest)
    }

    /// Maxima so far.
    #[must_use]
    pub fn peaks(&self) -> Peaks {
        let sampler = self.sampler.lock();
        sampler.as_ref().map(Sampler::peaks).unwrap_or_default()
    }

    /// Changes the limit of the cell. Blocks, and nobody else gets at the cell meanwhile. It needs no entry in the undo log:
    /// the limit goes with the cell.
    ///
    /// # Errors
    /// The kernel does not take it, in the time allowed.
    pub fn set_limit(
        &self,
        bytes: u64,
        lowering: Lowering,
        watch: &mut dyn LimitWatch,
    ) -> Result<LimitChange, HostError> {
        match &*self.cell.lock() {
            Some(cell) => cell.set_limit_watched(bytes, lowering, watch),
            None => Err(self.cell_is_gone()),
        }
    }

    fn cell_is_gone(&self) -> HostError {
        HostError::Invalid {
            what: self.cell_path.display().to_string(),
            why: "the cell is gone".to_owned(),
        }
    }

    /// The limit in force, bytes; none once the cell is gone.
    #[must_use]
    pub fn limit_now(&self) -> Option<u64> {
        self.cell.lock().as_ref().and_then(|cell| cell.limit().ok())
    }

    /// Notes a moment.
    pub fn note(&self, kind: &'static str, text: String) {
        self.notes.lock().moments.push(Moment {
            unix_ms: units::unix_ms_now(),
            kind,
            text,
        });
    }

    /// Until the answer is dropped, an end of the service is intended.
    pub fn intend_end(&self) -> Intended<'_> {
        *self.intended.lock() += 1;
        Intended(self)
    }

    /// Until the answer is dropped, nobody misses the service's answers.
    pub fn stand_still(&self) -> StandsStill<'_> {
        *self.still.lock() += 1;
        StandsStill(self)
    }

    /// Whether the service is stopped on purpose now.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        *self.still.lock() > 0
    }

    /// The leaf of a hog there, made on first use. For one below the service's leaf it blocks while a limit is being lowered; all others
    /// press meanwhile.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn leaf_of(&self, place: Place) -> Result<Leaf, HostError> {
        match place {
            Place::Sibling => Ok(self.hog_leaf.clone()),
            Place::Service => Ok(self.service_leaf.clone()),
            Place::Child => tokio::task::block_in_place(|| match &*self.cell.lock() {
                Some(cell) => cell.leaf_below(&self.service_leaf, "hog"),
                None => Err(self.cell_is_gone()),
            }),
        }
    }

    /// Notes that the kernel killed a hog there: it is no kill of the service.
    pub fn hog_was_killed(&self, place: Place) {
        let counted_together = match place {
            Place::Sibling => return,
            Place::Service => true,
            Place::Child => !self.service_leaf.counts_apart_from_below(),
        };
        let mut notes = self.notes.lock();
        match counted_together {
            true => notes.hog_kills_beside += 1,
            false => notes.hog_kills_below += 1,
        }
    }

    /// Whether an end of the service is intended now.
    #[must_use]
    pub fn end_is_intended(&self) -> bool {
        *self.intended.lock() > 0
    }

    /// Writes down how a life ended; once per process.
    pub fn bury(&self, service: &Service) {
        let id = service.process.id();
        let ending = service.process.ending();
        let end = ending
            .as_ref()
            .map_or_else(|| "still running".to_owned(), Ending::words);
        let by_kernel = matches!(
            ending,
            Some(Ending::KilledByKernel | Ending::KilledByWatchdog)
        );
        let mut notes = self.notes.lock();
        if notes
            .processes
            .iter()
            .any(|p| p.pid == id.pid && p.start_ticks == id.start_ticks)
        {
            return;
        }
        notes.seen_dying |= by_kernel;
        let kind = if by_kernel { "kernel" } else { "process" };
        let text = format!("service pid {} ended: {end}", id.pid);
        notes.moments.push(Moment {
            unix_ms: units::unix_ms_now(),
            kind,
            text,
        });
        notes.processes.push(record::ServiceProcess {
            pid: id.pid,
            start_ticks: id.start_ticks,
            end,
        });
    }

    /// Ends the service gracefully, and by SIGKILL after `patience`.
    pub fn stop_service(&self, patience: Duration) {
        let Some(service) = self.service.lock().take() else {
            return;
        };
        // One that ended while nobody watched (the simulator gave up first, say) did so by itself all the same.
        let by_us = || matches!(service.process.ending(), Some(Ending::KilledByRunner(_)));
        if service.process.try_wait().is_some() && !by_us() {
            self.crashed(&service, "the service ended by itself");
        }
        let _ = service.process.signal(libc::SIGTERM);
        if service.process.wait(patience).is_none() {
            self.note(
                "undo",
                format!("service did not drain within {patience:?} and was killed"),
            );
            let _ = service.process.kill();
            let _ = service.process.wait(Duration::from_secs(10));
        }
        if let Some(Ending::Signalled(_)) = service.process.ending() {
            self.crashed(&service, "the service crashed while it was stopped");
        }
        self.bury(&service);
    }

    /// Stops sampling, reads the kill counters, removes the cell, and says what could not be undone.
    pub fn take_down(&self) -> TakenDown {
        self.stop_service(Duration::from_secs(10));
        let (rows, peaks) = self
            .sampler
            .lock()
            .take()
            .map(Sampler::stop)
            .unwrap_or_default();
        let oracle = self.oracle();
        let kernel_peak = self.service_leaf.kernel_peak();
        let mut failed = Vec::new();
        if let Some(cell) = self.cell.lock().take() {
            match cell.remove() {
                Ok(removed) => {
                    if !removed.killed.is_empty() {
                        failed.push(format!(
                            "processes were left in the cgroup: {:?}",
                            removed.killed
                        ));
                    }
                    if let Some(Err(e)) = self.cell_guard.lock().take().map(UndoGuard::settled) {
                        failed.push(e.to_string());
                    }
                }
                Err(e) => failed.push(e.to_string()),
            }
        }
        TakenDown {
            rows,
            peaks,
            failed,
            oracle,
            kernel_peak,
        }
    }

    fn oracle(&self) -> Oracle {
        let (service, hog) = (self.service_leaf.kill_count(), self.hog_leaf.kill_count());
        let notes = self.notes.lock();
        Oracle {
            readable: service.is_ok() && hog.is_ok(),
            service_kills: service.unwrap_or(0).saturating_sub(notes.hog_kills_beside),
            hog_kills: hog.unwrap_or(0) + notes.hog_kills_beside + notes.hog_kills_below,
            service_seen_dying: notes.seen_dying,
        }
    }
}

/// While it lives, the service is stopped on purpose.
#[must_use]
pub struct StandsStill<'a>(&'a Rig);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        *self.0.still.lock() -= 1;
    }
}

/// While it lives, an end of the service is intended.
#[must_use]
pub struct Intended<'a>(&'a Rig);

impl Drop for Intended<'_> {
    fn drop(&mut self) {
        *self.0.intended.lock() -= 1;
        self.0.changed.notify_waiters();
    }
}

/// Raised to end something early: a flag that tasks await.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// Raises its [`Stop`]s.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// A pair.
    #[must_use]
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self(Arc::new(sender)), Stop(receiver))
    }

    /// Raises.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was raised.
    #[must_use]
    pub fn raised(&self) -> bool {
        *self.0.borrow()
    }
}

impl Stop {
    /// Whether it is raised.
    #[must_use]
    pub fn raised(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is raised; for ever if nobody can raise it any more.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|raised| *raised).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps; false if it was raised before the time was over.
    pub async fn sleep_until(&self, at: tokio::time::Instant) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(at) => true,
            () = self.wait() => false,
        }
    }
}
