//! Reading and writing the small text files by which the kernel talks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::HostError;
use super::process::ProcessId;
use super::sys;

/// Longest kernel file that is read, bytes; `memory.stat` has about 2,000.
const FILE_BYTES_MAX: usize = 16 * 1024;

/// A kernel file kept open, so that a sample costs one `pread`.
#[derive(Debug)]
pub struct KernelFile {
    path: PathBuf,
    file: File,
}

impl KernelFile {
    /// Opens it for reading.
    pub fn open(path: PathBuf) -> Result<Self, HostError> {
        let file = File::open(&path).map_err(HostError::io("opening", &path))?;
        Ok(Self { path, file })
    }

    /// Opens it if it exists.
    pub fn open_optional(path: PathBuf) -> Result<Option<Self>, HostError> {
        if path.exists() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Hands its present text to `take`.
    pub fn with<T>(&self, take: impl FnOnce(&str) -> Result<T, HostError>) -> Result<T, HostError> {
        let mut buffer = [0; FILE_BYTES_MAX];
        let mut filled = 0;
        // A kernel file comes whole in one read; a second one sees its end.
        while filled < buffer.len() {
            let n = self
                .file
                .read_at(&mut buffer[filled..], filled as u64)
                .map_err(HostError::io("reading", &self.path))?;
            if n == 0 {
                break;
            }
            filled += n;
        }
        let text = std::str::from_utf8(&buffer[..filled]).map_err(|_| self.odd("is not text"))?;
        take(text)
    }

    /// The number that is its whole content; `max` and -1 are [`u64::MAX`].
    pub fn number(&self) -> Result<u64, HostError> {
        self.with(|text| {
            number(text).ok_or_else(|| self.odd(&format!("holds no number but {:?}", text.trim())))
        })
    }

    /// The number beside `key` in a file of `key value` lines.
    pub fn field(&self, key: &str) -> Result<u64, HostError> {
        self.with(|text| field(text, key).ok_or_else(|| self.odd(&format!("has no field {key}"))))
    }

    /// An error about its content.
    pub fn odd(&self, what: &str) -> HostError {
        HostError::Shape {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }
}

/// A number as kernel files have it; `max` and negative ones (no limit) are [`u64::MAX`].
pub fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        text if text.starts_with('-') => text.parse::<i64>().ok().map(|_| u64::MAX),
        text => text.parse().ok(),
    }
}

/// The number beside `key` among lines of `key value`.
pub fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// The whole text.
pub fn read(path: &Path) -> Result<String, HostError> {
    std::fs::read_to_string(path).map_err(HostError::io("reading", path))
}

/// The number that is the whole content.
pub fn read_number(path: &Path) -> Result<u64, HostError> {
    KernelFile::open(path.to_owned())?.number()
}

/// Writes a value in one call, without creating the file.
pub fn write(path: &Path, value: impl ToString) -> Result<(), HostError> {
    let value = value.to_string();
    let open = || OpenOptions::new().write(true).open(path);
    // One write: the kernel takes each as a command.
    let outcome = open().and_then(|mut file| match file.write(value.as_bytes()) {
        Ok(n) if n < value.len() => Err(io::ErrorKind::WriteZero.into()),
        other => other.map(drop),
    });
    outcome.map_err(HostError::io("writing", path))
}

/// Fields of /proc/PID/stat after the command's name, which may itself hold spaces and brackets: `[0]` is the state.
fn stat_fields(text: &str) -> Option<Vec<&str>> {
    Some(text.rsplit_once(')')?.1.split_ascii_whitespace().collect())
}

/// Start time of a process, clock ticks after boot; none if there is no such process.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_fields(&text)?.get(19)?.parse().ok()
}

/// State letter of a process; none if there is no such process.
pub fn state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_fields(&text)?.first()?.chars().next()
}

/// User and system time, seconds, from the text of /proc/PID/stat.
pub fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields = stat_fields(stat)?;
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / sys::ticks_per_second() as f64)
}

/// Ticks of all CPUs together since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    all: u64,
    /// Neither used nor taken by a hypervisor.
    free: u64,
}

impl CpuTimes {
    /// From `/proc/stat`: user, nice, system, idle, iowait, irq, softirq and steal; guests are part of user.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_ascii_whitespace()
            .take(8)
            .map_while(|n| n.parse().ok())
            .collect();
        let at = |n: usize| ticks.get(n).copied().unwrap_or(0);
        (ticks.len() >= 4).then(|| Self {
            all: ticks.iter().sum(),
            free: at(3) + at(4) + at(7),
        })
    }

    /// Share that was used since then, 0..=1.
    pub fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let free = self.free.saturating_sub(before.free).min(all);
        (all - free) as f64 / all.max(1) as f64
    }
}

/// What the CPUs did so far; none where the kernel does not say.
pub fn cpu_times() -> Option<CpuTimes> {
    CpuTimes::parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The process that has this pid now.
pub fn process_id(pid: u32) -> Option<ProcessId> {
    start_ticks(pid).map(|start_ticks| ProcessId { pid, start_ticks })
}

/// Whether this very process exists and has not ended.
pub fn lives(process: ProcessId) -> bool {
    start_ticks(process.pid) == Some(process.start_ticks)
        && !matches!(state(process.pid), None | Some('Z' | 'X'))
}

/// A field of /proc/PID/status in bytes.
pub fn status_bytes(pid: u32, key: &str) -> Option<u64> {
    kib_field(
        &std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?,
        key,
    )
}

/// A field `Key:   123 kB` in bytes.
pub fn kib_field(text: &str, key: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hypervisor_takes_is_not_used() {
        let at = |text: &str| CpuTimes::parse(text).expect("times");
        let before = at("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n");
        let after = at("cpu  140 0 60 820 60 0 0 20 7 0\n");
        assert!((after.busy_since(before) - 0.5).abs() < 1e-9);
        assert_eq!(before.busy_since(after), 0.0, "a clock that went back");
        assert_eq!(CpuTimes::parse("intr 5"), None);
    }

    #[test]
    fn numbers_without_a_limit_are_the_largest() {
        assert_eq!(number("max\n"), Some(u64::MAX));
        assert_eq!(number("-1\n"), Some(u64::MAX));
        assert_eq!(number("402653184\n"), Some(402_653_184));
        assert_eq!(number("none"), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "inactive_file 5\nfile 7\noom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "file"), Some(7));
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "oom"), None);
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 4242 1000 10";
        assert_eq!(
            stat_fields(stat)
                .and_then(|f| f.get(19).map(ToString::to_string))
                .as_deref(),
            Some("4242")
        );
        assert_eq!(
            cpu_seconds(stat),
            Some(300.0 / sys::ticks_per_second() as f64)
        );
    }

    #[test]
    fn this_process_lives_and_its_pid_at_another_time_does_not() {
        let me = process_id(std::process::id()).expect("own stat");
        assert!(lives(me));
        assert!(!lives(ProcessId {
            start_ticks: me.start_ticks + 1,
            ..me
        }));
    }
}
