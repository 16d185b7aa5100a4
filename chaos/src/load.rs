//! The simulator as a process: its command line, its live events, its report.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use backdrop_reports::load::{Interval, LOAD_SCHEMA_VERSION, LoadEvent, LoadReport};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::host::{CommandSpec, CpuSet, HostError, ServiceProcess, Undo, UndoGuard, UndoLog};
use crate::rig::Stop;
use crate::scenario::Load;
use crate::units::show_duration;

/// How often the events file is read on.
const EVENTS_POLL: Duration = Duration::from_millis(100);
/// How long the simulator keeps trying to reach a service that went away.
const RECONNECT: Duration = Duration::from_secs(30);
/// Time for drawing, uploading and creating sessions.
pub const SETUP_MAX: Duration = Duration::from_secs(300);
/// Time for reading everything back.
pub const READBACK_MAX: Duration = Duration::from_secs(180);

/// How to start it.
#[derive(Debug, Clone)]
pub struct SimulatorSpec {
    /// Binary.
    pub binary: PathBuf,
    /// Public listener of the service.
    pub url: String,
    /// Its admin listener.
    pub admin: String,
    /// Where it tells a Prometheus.
    pub metrics: SocketAddr,
    /// The load.
    pub load: Load,
    /// Seed.
    pub seed: u64,
    /// Photographs instead of drawings.
    pub backgrounds: Option<PathBuf>,
    /// Where drawings are kept between runs.
    pub cache_dir: PathBuf,
    /// CPUs.
    pub cpus: CpuSet,
    /// Where its files go.
    pub dir: PathBuf,
}

impl SimulatorSpec {
    fn json(&self) -> PathBuf {
        self.dir.join("load.json")
    }

    fn events(&self) -> PathBuf {
        self.dir.join("events.jsonl")
    }

    fn args(&self) -> Vec<String> {
        let load = &self.load;
        let mut args = load_args(load, self.seed);
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        flag("--url", self.url.clone());
        flag("--cache-dir", self.cache_dir.display().to_string());
        flag("--cpus", self.cpus.to_string());
        flag("--setup-timeout", show_duration(SETUP_MAX));
        flag("--reconnect-for", show_duration(RECONNECT));
        flag("--json", self.json().display().to_string());
        flag("--hlog", self.dir.join("load.hlog").display().to_string());
        flag("--events", self.events().display().to_string());
        flag("--metrics-listen", self.metrics.to_string());
        flag("--progress", "none".into());
        // Only herds look at the service's own counters; no other load could.
        if load.scenario == "cold-herd" {
            flag("--admin", self.admin.clone());
        }
        for w in &load.windows {
            flag(
                "--window",
                format!(
                    "{}={}..{}",
                    w.name,
                    show_duration(w.from),
                    show_duration(w.to)
                ),
            );
        }
        if let Some(dir) = &self.backgrounds {
            flag("--backgrounds", dir.display().to_string());
        }
        // The runner looks at catalogue and access record after the load, and the service goes with the trial.
        args.push("--keep-backgrounds".into());
        args.extend(load.args.iter().cloned());
        args
    }
}

/// The load and its schedule, wherever it is sent.
fn load_args(load: &Load, seed: u64) -> Vec<String> {
    let mut args = vec![load.scenario.clone()];
    let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
    flag("--sessions", load.sessions.to_string());
    flag("--period", show_duration(load.period));
    flag("--duration", show_duration(load.duration));
    flag("--gateways", load.gateways.to_string());
    flag(
        "--previews-per-second",
        load.previews_per_second.to_string(),
    );
    flag("--preview-size", load.preview_size.clone());
    flag("--background-count", load.background_count.to_string());
    flag("--zipf", load.zipf.to_string());
    flag("--seed", seed.to_string());
    args
}

/// Hash of the request schedule of a load, as the simulator tells it without sending anything. Blocks for some tenths of a
/// second per million sessions.
///
/// # Errors
/// The simulator could not be asked, or refused the load; in words.
pub fn schedule_hash(simulator: &Path, load: &Load, seed: u64) -> Result<String, String> {
    let output = Command::new(simulator)
        .args(load_args(load, seed))
        .args(&load.args)
        .arg("--schedule-hash")
        .output()
        .map_err(|e| format!("{}: {e}", simulator.display()))?;
    let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && !words.is_empty() {
        return Ok(words);
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!(
        "{} --schedule-hash {}: {why}",
        simulator.display(),
        output.status
    ))
}

/// What is known of a running simulator.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Phase.
    pub phase: String,
    /// First planned send, milliseconds since the Unix epoch; zero before.
    pub started_unix_ms: u64,
    /// Sessions acknowledged in set-up.
    pub sessions: u64,
    /// Seconds of load so far.
    pub intervals: Vec<Interval>,
}

/// A running simulator.
pub struct Simulator {
    process: ServiceProcess,
    guard: Option<UndoGuard>,
    live: Arc<Mutex<Live>>,
    started: watch::Receiver<u64>,
    json: PathBuf,
    log: PathBuf,
    /// Command line.
    pub command: Vec<String>,
}

impl Simulator {
    /// Starts it, and a task that follows its events until `stop` is raised.
    ///
    /// # Errors
    /// The host's.
    pub fn start(spec: &SimulatorSpec, undo: &UndoLog, stop: Stop) -> Result<Self, HostError> {
        let mut command = CommandSpec::new(&spec.binary);
        command.args = spec.args().into_iter().map(Into::into).collect();
        // What an earlier run left there would be taken for this one's.
        for stale in [spec.json(), spec.events()] {
            match std::fs::remove_file(&stale) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(HostError::Io {
                        doing: "removing",
                        path: stale,
                        cause,
                    });
                }
                _ => {}
            }
        }
        let log = spec.dir.join("simulator.log");
        command.stdout = Some(log.clone());
        command.stderr = Some(log.clone());
        command.cpus = Some(spec.cpus.clone());
        let words = command.words();
        let process = ServiceProcess::spawn(&command)?;
        let guard = undo.record(Undo::Process {
            process: process.id(),
            what: "simulator".into(),
        })?;
        let live = Arc::new(Mutex::new(Live::default()));
        let (sender, started) = watch::channel(0);
        tokio::spawn(follow(spec.events(), live.clone(), sender, stop));
        Ok(Self {
            process,
            guard: Some(guard),
            live,
            started,
            json: spec.json(),
            log,
            command: words,
        })
    }

    /// A copy of what is known now.
    #[must_use]
    pub fn live(&self) -> Live {
        self.live.lock().clone()
    }

    /// A handle that outlives a borrow of the simulator.
    #[must_use]
    pub fn live_handle(&self) -> Arc<Mutex<Live>> {
        self.live.clone()
    }

    /// Waits for the first planned send; milliseconds since the Unix epoch.
    pub async fn load_started(&self) -> u64 {
        let mut receiver = self.started.clone();
        let started = receiver.wait_for(|at| *at > 0).await.map(|at| *at);
        match started {
            Ok(at) => at,
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        self.process.ended().await;
    }

    /// Exit code, once it has exited by itself.
    #[must_use]
    pub fn exit(&self) -> Option<i32> {
        match self.process.try_wait() {
            Some(crate::host::End::Exited(code)) => Some(code),
            _ => None,
        }
    }

    /// SIGINT, so that it writes what it has; SIGKILL after `patience`. Blocks.
    pub fn interrupt(&self, patience: Duration) {
        if self.process.try_wait().is_some() {
            return;
        }
        let _ = self.process.signal(libc::SIGINT);
        if self.process.wait(patience).is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait(Duration::from_secs(10));
        }
    }

    /// Its report; none if it did not write one that can be read, with the reason.
    ///
    /// # Errors
    /// In words.
    pub fn report(&self) -> Result<LoadReport, String> {
        read_report(&self.json).map_err(|why| match last_line(&self.log) {
            Some(last) => format!("{last} ({} has more; {why})", self.log.display()),
            None => format!("{why}; {} is empty", self.log.display()),
        })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if self.process.try_wait().is_some()
            && let Some(guard) = self.guard.take()
        {
            let _ = guard.settled();
        }
    }
}

/// Most of a log's end that is looked at for its last line, bytes.
const LOG_TAIL: u64 = 4096;

/// What a process said last, which is why it ended.
fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(LOG_TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let said = |line: &&str| !line.trim().is_empty();
    tail.lines().rfind(said).map(|line| line.trim().to_owned())
}

fn read_report(path: &Path) -> Result<LoadReport, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let report: LoadReport =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    if report.schema_version > LOAD_SCHEMA_VERSION {
        return Err(format!("{}: written by a newer simulator", path.display()));
    }
    Ok(report)
}

/// Reads the events file on and on; a line that is cut off is read again when it is whole.
async fn follow(path: PathBuf, live: Arc<Mutex<Live>>, started: watch::Sender<u64>, stop: Stop) {
    let mut offset = 0;
    loop {
        offset = read_on(&path, offset, |event| take(event, &live, &started));
        if !stop
            .sleep_until(tokio::time::Instant::now() + EVENTS_POLL)
            .await
        {
            read_on(&path, offset, |event| take(event, &live, &started));
            return;
        }
    }
}

fn read_on(path: &Path, from: u64, mut event: impl FnMut(LoadEvent)) -> u64 {
    let Ok(mut file) = std::fs::File::open(path) else {
        return from;
    };
    if file.seek(SeekFrom::Start(from)).is_err() {
        return from;
    }
    let mut reader = BufReader::new(file);
    let (mut offset, mut line) = (from, String::new());
    while let Ok(read) = reader.read_line(&mut line) {
        if read == 0 || !line.ends_with('\n') {
            break;
        }
        offset += read as u64;
        if let Ok(parsed) = serde_json::from_str(&line) {
            event(parsed);
        }
        line.clear();
    }
    offset
}

fn take(event: LoadEvent, live: &Mutex<Live>, started: &watch::Sender<u64>) {
    let mut live = live.lock();
    match event {
        LoadEvent::Phase { phase, unix_ms } => {
            if phase == "load" && live.started_unix_ms == 0 {
                live.started_unix_ms = unix_ms;
                started.send_replace(unix_ms);
            }
            live.phase = phase;
        }
        LoadEvent::Setup { sessions } => live.sessions = live.sessions.max(sessions),
        LoadEvent::Interval(interval) => live.intervals.push(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn events_are_followed_across_cut_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut file = std::fs::File::create(&path).unwrap();
        let live = Mutex::new(Live::default());
        let (started, seen) = watch::channel(0);
        write!(
            file,
            "{{\"event\":\"setup\",\"sessions\":7}}\n{{\"event\":\"phase\",\"pha"
        )
        .unwrap();
        let offset = read_on(&path, 0, |e| take(e, &live, &started));
        assert_eq!((live.lock().sessions, *seen.borrow()), (7, 0));
        writeln!(file, "se\":\"load\",\"unix_ms\":42}}\nnot json").unwrap();
        let end = read_on(&path, offset, |e| take(e, &live, &started));
        assert_eq!((live.lock().phase.as_str(), *seen.borrow()), ("load", 42));
        assert_eq!(end, std::fs::metadata(&path).unwrap().len());
    }
}
