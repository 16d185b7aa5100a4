//! The undo log: on disk before the deed, so that whoever finds it can take back what its writer could not.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::HostError;
use super::process::ProcessId;
use super::takeback::take_back;
use super::{files, ours};

/// Open entries at most; a run has a few dozen.
const OPEN_MAX: usize = 10_000;

/// One thing to take back. Taking back twice is harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Kill what is in this cgroup and remove it with its children. Its name must begin with `backdrop-`.
    Cgroup {
        /// Path of the cell.
        path: PathBuf,
    },
    /// Move the processes of this cgroup back and remove it.
    Homecoming {
        /// Where they are; its name must begin with `backdrop-`.
        from: PathBuf,
        /// Where they came from.
        to: PathBuf,
    },
    /// Take the memory controller from the children of this cgroup, unless one of them uses it by now.
    Undelegate {
        /// Which.
        at: PathBuf,
    },
    /// Kill this process if it is still the same.
    Process {
        /// Which.
        process: ProcessId,
        /// What it is, for people.
        what: String,
    },
    /// Let this process go on if it is stopped and still the same.
    Continue {
        /// Which.
        process: ProcessId,
    },
    /// Turn this failpoint off; a service that is gone has none.
    Failpoint {
        /// Admin address, `host:port`.
        admin: String,
        /// Name.
        name: String,
    },
    /// Empty this file of targets for a Prometheus, if it still names this address.
    Targets {
        /// Which.
        path: PathBuf,
        /// What the runner answers at.
        address: String,
    },
    /// Remove this folder with all that is in it; the folder around it must carry our mark ([`super::mark`]).
    Folder {
        /// Which.
        path: PathBuf,
    },
}

/// What is still to be taken back.
impl std::fmt::Display for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cgroup { path } => write!(f, "cgroup {}", path.display()),
            Self::Homecoming { from, to } => write!(
                f,
                "processes of {}, which belong in {}",
                from.display(),
                to.display()
            ),
            Self::Undelegate { at } => write!(f, "memory controller at {}", at.display()),
            Self::Process { process, what } => write!(f, "{what} (pid {})", process.pid),
            Self::Continue { process } => write!(f, "stop of process {}", process.pid),
            Self::Failpoint { admin, name } => write!(f, "failpoint {name} at {admin}"),
            Self::Targets { path, address } => write!(f, "{address} in {}", path.display()),
            Self::Folder { path } => write!(f, "folder {}", path.display()),
        }
    }
}

/// What an undo did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UndoReport {
    /// Taken back and checked, in words.
    pub done: Vec<String>,
    /// Could not be taken back, with the reason.
    pub failed: Vec<String>,
}

impl UndoReport {
    /// Everything was taken back and checked.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.failed.is_empty()
    }
}

/// One line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// First line: whose log it is.
    Runner(ProcessId),
    /// Must be taken back.
    Open {
        number: u64,
        #[serde(flatten)]
        undo: Undo,
    },
    /// Has been taken back.
    Closed { number: u64 },
}

/// The log of one runner. Clones are handles; when the last one goes, everything left is undone and a clean log deleted.
#[derive(Debug, Clone)]
pub struct UndoLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    /// Held while something is taken back: two at once would see each other's half-done work as failure.
    taking_back: Mutex<()>,
}

#[derive(Debug)]
struct State {
    file: File,
    open: BTreeMap<u64, Undo>,
    next: u64,
}

impl State {
    /// Appends one line; durable on return.
    fn append(&mut self, path: &Path, line: &Line) -> Result<(), HostError> {
        let odd = |e: serde_json::Error| HostError::Shape {
            path: path.to_owned(),
            what: e.to_string(),
        };
        let mut bytes = serde_json::to_vec(line).map_err(odd)?;
        bytes.push(b'\n');
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(HostError::io("writing", path))
    }
}

impl UndoLog {
    /// Opens `undo-<pid>-<start ticks>.jsonl` in this folder, which is made. One per process and folder.
    pub fn create(dir: &Path) -> Result<Self, HostError> {
        ours::make_private(dir)?;
        // Children and the reaper may have other working directories.
        let dir = dir
            .canonicalize()
            .map_err(HostError::io("resolving", dir))?;
        let pid = std::process::id();
        let missing = || HostError::Shape {
            path: "/proc/self/stat".into(),
            what: "has no start time".to_owned(),
        };
        let runner = files::process_id(pid).ok_or_else(missing)?;
        let path = dir.join(format!("undo-{pid}-{}.jsonl", runner.start_ticks));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(HostError::io("making", &path))?;
        let mut state = State {
            file,
            open: BTreeMap::new(),
            next: 0,
        };
        state.append(&path, &Line::Runner(runner))?;
        // The folder's own entry must survive a power cut too.
        File::open(&dir)
            .and_then(|d| d.sync_all())
            .map_err(HostError::io("syncing", &dir))?;
        Ok(Self(Arc::new(Inner {
            path,
            state: Mutex::new(state),
            taking_back: Mutex::new(()),
        })))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes it down, durable on return: call it *before* the deed.
    pub fn record(&self, undo: Undo) -> Result<UndoGuard, HostError> {
        let mut state = self.0.state.lock();
        if state.open.len() >= OPEN_MAX {
            let why = format!("{OPEN_MAX} entries are open");
            return Err(HostError::Invalid {
                what: self.0.path.display().to_string(),
                why,
            });
        }
        let number = state.next;
        state.append(
            &self.0.path,
            &Line::Open {
                number,
                undo: undo.clone(),
            },
        )?;
        state.next += 1;
        state.open.insert(number, undo);
        Ok(UndoGuard {
            log: Arc::clone(&self.0),
            number,
        })
    }

    /// Number of open entries.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.state.lock().open.len()
    }

    /// Takes back what is still open, newest first, and checks it. Idempotent. Blocks, for seconds at worst.
    #[must_use]
    pub fn undo_all(&self) -> UndoReport {
        self.0.undo_all()
    }
}

impl Inner {
    fn undo_all(&self) -> UndoReport {
        let numbers: Vec<u64> = self.state.lock().open.keys().rev().copied().collect();
        let mut report = UndoReport::default();
        for number in numbers {
            match self.undo(number) {
                Ok(Some(done)) => report.done.push(done),
                Ok(None) => {}
                Err(error) => report.failed.push(error.to_string()),
            }
        }
        report
    }

    /// Takes one back; none if that has been done already.
    fn undo(&self, number: u64) -> Result<Option<String>, HostError> {
        let _one_at_a_time = self.taking_back.lock();
        let Some(undo) = self.state.lock().open.get(&number).cloned() else {
            return Ok(None);
        };
        let done = take_back(&undo)?;
        self.close(number)?;
        Ok(Some(done))
    }

    fn close(&self, number: u64) -> Result<(), HostError> {
        let mut state = self.state.lock();
        if state.open.remove(&number).is_some() {
            state.append(&self.path, &Line::Closed { number })?;
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let report = self.undo_all();
        if report.clean() {
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::error!(%error, path = %self.path.display(), "the undo log could not be deleted");
            }
        } else {
            tracing::error!(failed = ?report.failed, path = %self.path.display(), "not everything could be undone");
        }
    }
}

/// One open entry; dropping it undoes it.
#[derive(Debug)]
#[must_use = "dropping the guard undoes at once"]
pub struct UndoGuard {
    log: Arc<Inner>,
    number: u64,
}

impl UndoGuard {
    /// Takes it back now and says how that went.
    pub fn undo(self) -> Result<String, HostError> {
        Ok(self
            .log
            .undo(self.number)?
            .unwrap_or_else(|| "had been undone".to_owned()))
    }

    /// Somebody else has taken it back and checked it (a [`super::Cell::remove`], say): strike it off.
    pub fn settled(self) -> Result<(), HostError> {
        self.log.close(self.number)
    }
}

impl Drop for UndoGuard {
    fn drop(&mut self) {
        if let Err(error) = self.log.undo(self.number) {
            tracing::error!(%error, "could not be undone");
        }
    }
}

/// A log that a dead runner left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub path: PathBuf,
    /// Whose.
    pub runner: ProcessId,
    /// What is still open, oldest first.
    pub open: Vec<Undo>,
}

impl Leftover {
    /// Reads one log. A last line cut short is left out: what it announced was not done yet.
    pub fn read(path: &Path) -> Result<Self, HostError> {
        let text = files::read(path)?;
        let odd = |what: String| HostError::Shape {
            path: path.to_owned(),
            what,
        };
        let (mut runner, mut open) = (None, BTreeMap::new());
        for (n, line) in text.lines().enumerate() {
            match serde_json::from_str(line) {
                Ok(Line::Runner(process)) => runner = Some(process),
                Ok(Line::Open { number, undo }) => drop(open.insert(number, undo)),
                Ok(Line::Closed { number }) => drop(open.remove(&number)),
                Err(_) if n + 1 == text.lines().count() && !text.ends_with('\n') => {}
                Err(error) => return Err(odd(format!("line {}: {error}", n + 1))),
            }
        }
        let runner = runner.ok_or_else(|| odd("does not say whose it is".to_owned()))?;
        Ok(Self {
            path: path.to_owned(),
            runner,
            open: open.into_values().collect(),
        })
    }

    /// Takes it all back, newest first; deletes the log if that went clean.
    #[must_use]
    pub fn clean(&self) -> UndoReport {
        let mut report = UndoReport::default();
        for undo in self.open.iter().rev() {
            match take_back(undo) {
                Ok(done) => report.done.push(done),
                Err(error) => report.failed.push(error.to_string()),
            }
        }
        if report.clean() {
            match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    report
                        .failed
                        .push(format!("deleting {}: {error}", self.path.display()));
                }
                _ => {}
            }
        }
        report
    }
}

/// Logs of runners that no longer live. A start refuses while there are any and names `chaos doctor --clean`.
/// A folder that others can write to is an error: what it lists would be killed and removed with our rights.
pub fn leftovers(dir: &Path) -> Result<Vec<Leftover>, HostError> {
    ours::check_private(dir)?;
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        other => other.map_err(HostError::io("listing", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(HostError::io("listing", dir))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(runner) = runner_of(&name) else {
            continue;
        };
        if files::lives(runner) {
            continue;
        }
        found.push(match Leftover::read(&path) {
            // Killed before the first line was complete: nothing had been done.
            Err(HostError::Shape { .. }) if files::read(&path)?.lines().count() <= 1 => Leftover {
                path,
                runner,
                open: vec![],
            },
            other => other?,
        });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The runner from `undo-<pid>-<start ticks>.jsonl`.
fn runner_of(name: &str) -> Option<ProcessId> {
    let (pid, ticks) = name
        .strip_prefix("undo-")?
        .strip_suffix(".jsonl")?
        .split_once('-')?;
    Some(ProcessId {
        pid: pid.parse().ok()?,
        start_ticks: ticks.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(dir: &Path, name: &str) -> (PathBuf, Undo) {
        let path = dir.join(name);
        ours::mark(dir).expect("marked");
        std::fs::create_dir_all(path.join("inner")).expect("folder");
        (path.clone(), Undo::Folder { path })
    }

    #[test]
    fn a_dropped_guard_undoes_and_a_clean_log_is_deleted() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = UndoLog::create(&dir.path().join("log")).expect("log");
        let (path, undo) = folder(dir.path(), "backdrop-data");
        let guard = log.record(undo).expect("recorded");
        assert_eq!(Leftover::read(log.path()).expect("read").open.len(), 1);
        drop(guard);
        assert!(!path.exists());
        assert!(Leftover::read(log.path()).expect("read").open.is_empty());
        let file = log.path().to_owned();
        drop(log);
        assert!(!file.exists());
    }

    #[test]
    fn undo_all_goes_newest_first_and_twice_is_harmless() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = UndoLog::create(dir.path()).expect("log");
        let guards: Vec<_> = ["backdrop-a", "backdrop-b"]
            .map(|n| log.record(folder(dir.path(), n).1).expect("recorded"))
            .into();
        let report = log.undo_all();
        assert!(report.clean());
        assert!(
            report.done[0].contains("backdrop-b") && report.done[1].contains("backdrop-a"),
            "{report:?}"
        );
        assert_eq!((log.undo_all(), log.open()), (UndoReport::default(), 0));
        drop(guards);
    }

    #[test]
    fn what_cannot_be_undone_is_told_and_stays_in_the_log() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = UndoLog::create(dir.path()).expect("log");
        let guard = log
            .record(Undo::Folder { path: "/".into() })
            .expect("recorded");
        let report = log.undo_all();
        assert_eq!(
            (report.done.len(), report.failed.len(), log.open()),
            (0, 1, 1)
        );
        guard.settled().expect("struck off");
        assert_eq!(log.open(), 0);
    }

    #[test]
    fn a_line_cut_short_is_left_out() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let log = UndoLog::create(dir.path()).expect("log");
        let guard = log
            .record(folder(dir.path(), "backdrop-a").1)
            .expect("recorded");
        let text = std::fs::read_to_string(log.path()).expect("text");
        let cut = dir.path().join("undo-1-1.jsonl");
        std::fs::write(&cut, format!("{text}{{\"open\":{{\"num")).expect("written");
        assert_eq!(Leftover::read(&cut).expect("read").open.len(), 1);
        std::fs::write(&cut, format!("nonsense\n{text}")).expect("written");
        assert!(
            Leftover::read(&cut).is_err(),
            "only the last line may be cut"
        );
        drop(guard);
    }

    #[test]
    fn logs_of_the_living_are_no_leftovers_and_those_of_the_dead_are() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert_eq!(leftovers(&dir.path().join("none")).expect("listed"), []);
        let log = UndoLog::create(dir.path()).expect("log");
        assert_eq!(leftovers(dir.path()).expect("listed"), []);
        let (path, undo) = folder(dir.path(), "backdrop-left");
        let me = std::process::id();
        // This pid at another time: a runner that is gone.
        let dead = ProcessId {
            pid: me,
            start_ticks: 1,
        };
        let lines = [Line::Runner(dead), Line::Open { number: 0, undo }]
            .map(|l| serde_json::to_string(&l).expect("line"));
        std::fs::write(
            dir.path().join(format!("undo-{me}-1.jsonl")),
            lines.join("\n") + "\n",
        )
        .expect("written");
        let found = leftovers(dir.path()).expect("listed");
        assert_eq!(found.len(), 1);
        assert!(found[0].clean().clean());
        assert!(!path.exists());
        assert_eq!(leftovers(dir.path()).expect("listed"), []);
        drop(log);
    }
}
