//! Tapes: switches as they were sent, with planned time, session and background.
//!
//! A text file: a line of JSON that says what it holds, then `at_us user background` for each switch, in about the order of
//! their times. It is written on a thread of its own: a gateway hands over what it sends and never waits. Where the queue is full,
//! or as many are kept as may be, the tape ends: it has no gaps, and what is left out is counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cohort::BACKGROUNDS_MAX;
use crate::schedule::{Planned, Schedule};

const FORMAT: &str = "backdrop-switches";
const VERSION: u32 = 1;
/// Switches of a tape at most. While it is replayed each takes 20 bytes, 640 MB together: itself and its place in the order of its
/// session. Before that, while they are shared out to the gateways, up to 48.
pub const SWITCHES_MAX: u64 = 32_000_000;
/// Requests that may wait to be written.
const QUEUE: usize = 4096;
/// Bytes that are written at a time.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes of a line, its end included; a longer one is no line of a tape.
const LINE_BYTES_MAX: u64 = 512;
/// Longest time that a tape may name, a day: what a flag may say, too.
const TIME_MAX_US: u64 = 24 * 3_600_000_000;
/// The end of a tape is rounded up to this.
const END_STEP_US: u64 = 100_000;

/// What a tape holds; its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: String,
    version: u32,
    /// Sessions of the run; users count from zero.
    pub sessions: u64,
    /// Backgrounds of the run; they are numbered from zero.
    pub backgrounds: u16,
    /// Length of the load before the measured one, microseconds. All times count from its start.
    pub warmup_us: u64,
    /// Length of the measured load, microseconds. The tape may end before it: [`Tape::duration`].
    pub duration_us: u64,
}

impl Header {
    /// The header of a run.
    pub fn new(sessions: u64, backgrounds: u16, warmup_us: u64, duration_us: u64) -> Self {
        Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            sessions,
            backgrounds,
            warmup_us,
            duration_us,
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT || self.version != VERSION {
            return Err(format!(
                "it is of format {:?} version {}, not {FORMAT:?} version {VERSION}",
                self.format, self.version
            ));
        }
        if self.sessions == 0
            || self.sessions > u64::from(u32::MAX)
            || self.backgrounds == 0
            || self.backgrounds > BACKGROUNDS_MAX
        {
            return Err("it names no sessions or backgrounds, or too many".to_owned());
        }
        if self.warmup_us.max(self.duration_us) > TIME_MAX_US {
            return Err("it names a time of more than a day".to_owned());
        }
        Ok(())
    }

    fn permits(&self, planned: &Planned) -> bool {
        u64::from(planned.user) < self.sessions
            && planned.background < self.backgrounds
            && planned.at_us < self.warmup_us + self.duration_us
    }
}

/// A tape that cannot be replayed.
#[derive(Debug, Error)]
pub enum TapeError {
    /// The file.
    #[error("{0}")]
    Io(io::Error),
    /// A line, counted from one.
    #[error("line {line}: {why}")]
    Line {
        /// Which.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It ends before anything of it would be measured.
    #[error("it holds no switch after its warm-up: nothing of it would be measured")]
    Empty,
}

/// What was sent in another run.
#[derive(Clone, PartialEq, Eq)]
pub struct Tape {
    /// What it holds.
    pub header: Header,
    /// Switches that it holds.
    pub count: u64,
    /// Hash of its switches.
    pub hash: u64,
    end_us: u64,
    /// By time, and at one time by user; empty once they were shared out.
    switches: Vec<Planned>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} switches", self.header, self.count)
    }
}

impl Tape {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It cannot be read, a line is not of the format or contradicts the header, there are more than [`SWITCHES_MAX`] switches, or
    /// none after the warm-up.
    pub fn read(path: &Path) -> Result<Self, TapeError> {
        let file = File::open(path).map_err(TapeError::Io)?;
        Tape::parse(BufReader::new(file))
    }

    fn parse(mut input: impl BufRead) -> Result<Self, TapeError> {
        let wrong = |line, why: &str| TapeError::Line {
            line,
            why: why.to_owned(),
        };
        let mut text = String::new();
        next_line(&mut input, &mut text, 1)?;
        let header: Header =
            serde_json::from_str(&text).map_err(|_| wrong(1, "it is not the head of a tape"))?;
        header.check().map_err(|why| wrong(1, &why))?;
        let mut switches = Vec::new();
        for line in 2.. {
            if !next_line(&mut input, &mut text, line)? {
                break;
            }
            let planned =
                planned(&text).ok_or_else(|| wrong(line, "write `at_us user background`"))?;
            if !header.permits(&planned) {
                return Err(wrong(
                    line,
                    "time, user or background is beyond what the head says",
                ));
            }
            if switches.len() as u64 == SWITCHES_MAX {
                return Err(wrong(line, "too many switches: 32 million may be replayed"));
            }
            switches.push(planned);
        }
        switches.sort_unstable_by_key(|planned: &Planned| (planned.at_us, planned.user));
        // One that was filled, or that a slow disk ended, holds less than its head says.
        let last_us = switches.last().map(|planned| planned.at_us);
        let last_us = last_us
            .filter(|at_us| *at_us >= header.warmup_us)
            .ok_or(TapeError::Empty)?;
        Ok(Tape {
            end_us: (last_us + 1 - header.warmup_us).next_multiple_of(END_STEP_US),
            count: switches.len() as u64,
            hash: Schedule::hash_of(&switches),
            header,
            switches,
        })
    }

    /// Length of the measured load that it holds: to its last switch, in tenths of a second.
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.end_us.min(self.header.duration_us))
    }

    /// Its switches by time, until they are shared out.
    pub fn switches(&self) -> &[Planned] {
        &self.switches
    }

    /// Takes out the switches of each of several neighbouring groups of users; within a group users count from zero.
    pub fn share_out(&mut self, sizes: &[usize]) -> Vec<Vec<Planned>> {
        let firsts: Vec<u32> = sizes
            .iter()
            .scan(0, |next, size| {
                Some(std::mem::replace(next, *next + *size as u32))
            })
            .collect();
        let part_of = |user| firsts.partition_point(|first| *first <= user) - 1;
        let switches = std::mem::take(&mut self.switches);
        let mut counts = vec![0; sizes.len()];
        for planned in &switches {
            counts[part_of(planned.user)] += 1;
        }
        // Of the exact size: a vector that grows takes up to twice as much.
        let mut parts: Vec<Vec<Planned>> = counts.into_iter().map(Vec::with_capacity).collect();
        for planned in switches {
            let part = part_of(planned.user);
            parts[part].push(Planned {
                user: planned.user - firsts[part],
                ..planned
            });
        }
        parts
    }
}

/// Reads a line; false at the end.
fn next_line(input: &mut impl BufRead, text: &mut String, line: u64) -> Result<bool, TapeError> {
    text.clear();
    let mut bounded = input.take(LINE_BYTES_MAX);
    let read = bounded.read_line(text).map_err(TapeError::Io)?;
    if read == 0 || text.ends_with('\n') {
        return Ok(read > 0);
    }
    let why = match read as u64 {
        LINE_BYTES_MAX => "it is too long for a line of a tape",
        // Half a number is a number, too.
        _ => "it is cut off",
    };
    Err(TapeError::Line {
        line,
        why: why.to_owned(),
    })
}

fn planned(text: &str) -> Option<Planned> {
    let mut words = text.split_ascii_whitespace();
    let planned = Planned {
        at_us: words.next()?.parse().ok()?,
        user: words.next()?.parse().ok()?,
        background: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(planned)
}

/// What became of a tape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TapeFigures {
    /// Switches in the file.
    pub switches: u64,
    /// Switches that were sent and are not in it: there were more than may be recorded, or the disk was too slow.
    pub left_out: u64,
    /// Why it was not written to its end, if it was not.
    pub failure: Option<String>,
}

/// A tape that is being made.
#[derive(Debug)]
pub struct Taping {
    path: PathBuf,
    /// None once it has ended.
    open: Mutex<Option<Open>>,
    writer: Mutex<Option<JoinHandle<Written>>>,
    queued: AtomicU64,
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Open {
    queue: SyncSender<Vec<Planned>>,
    room: u64,
}

/// Switches that are in the file, and why there are no more, if there are not.
type Written = (u64, io::Result<()>);

impl Taping {
    /// Creates the file, and its folder if need be, for at most `most` switches.
    ///
    /// # Errors
    /// The file, or the thread that writes it.
    pub fn create(path: &Path, header: &Header, most: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::create(path)?;
        writeln!(file, "{}", serde_json::to_string(header)?)?;
        Taping::onto(file, path, most, QUEUE)
    }

    fn onto(
        out: impl Write + Send + 'static,
        path: &Path,
        most: u64,
        queue: usize,
    ) -> io::Result<Self> {
        let (queue, switches) = sync_channel(queue);
        let writer = std::thread::Builder::new()
            .name("tape".to_owned())
            .spawn(move || write(&switches, out))?;
        Ok(Taping {
            path: path.to_owned(),
            open: Mutex::new(Some(Open { queue, room: most })),
            writer: Mutex::new(Some(writer)),
            queued: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        })
    }

    /// Keeps what is sent now; never waits for the disk.
    pub fn add(&self, switches: Vec<Planned>) {
        let count = switches.len() as u64;
        let mut slot = self.open.lock();
        let kept = slot.as_mut().is_some_and(|open| {
            let room = open.room.checked_sub(count);
            open.room = room.unwrap_or_default();
            room.is_some() && open.queue.try_send(switches).is_ok()
        });
        let counter = if kept {
            &self.queued
        } else {
            // It ends here: what came later would leave a gap.
            slot.take();
            &self.left_out
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Writes what is queued and closes the file. Blocks until that is done.
    pub fn finish(&self) -> TapeFigures {
        self.open.lock().take();
        let queued = self.queued.load(Ordering::Relaxed);
        let (switches, failure) = match self.writer.lock().take().map(JoinHandle::join) {
            None => (queued, None),
            Some(Ok((written, result))) => (written, result.err().map(|error| error.to_string())),
            Some(Err(_)) => (0, Some("the thread that writes it panicked".to_owned())),
        };
        TapeFigures {
            switches,
            left_out: self.left_out.load(Ordering::Relaxed) + queued.saturating_sub(switches),
            failure: failure.map(|why| format!("--record {}: {why}", self.path.display())),
        }
    }
}

fn write(queue: &Receiver<Vec<Planned>>, mut out: impl Write) -> Written {
    crate::host::give_way();
    let mut text = Vec::with_capacity(2 * WRITE_BYTES);
    let (mut written, mut pending) = (0, 0);
    let mut pour = |text: &mut Vec<u8>, pending: &mut u64| -> io::Result<()> {
        out.write_all(text)?;
        written += std::mem::take(pending);
        text.clear();
        Ok(())
    };
    let mut copy = || -> io::Result<()> {
        for switches in queue {
            for planned in switches {
                let Planned {
                    at_us,
                    user,
                    background,
                } = planned;
                writeln!(text, "{at_us} {user} {background}")?;
                pending += 1;
                if text.len() >= WRITE_BYTES {
                    pour(&mut text, &mut pending)?;
                }
            }
        }
        pour(&mut text, &mut pending)
    };
    let result = copy();
    (written, result)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn planned(at_us: u64, user: u32, background: u16) -> Planned {
        Planned {
            at_us,
            user,
            background,
        }
    }

    fn parse(text: &str) -> Result<Tape, String> {
        Tape::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn head() -> String {
        serde_json::to_string(&Header::new(10, 4, 1_000, 2_000)).unwrap()
    }

    #[test]
    fn what_was_taped_is_read_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a folder/run.switches");
        let header = Header::new(10, 4, 1_000, 2_000);
        let taping = Taping::create(&path, &header, 5).unwrap();
        taping.add(vec![planned(2_999, 9, 3), planned(20, 0, 0)]);
        taping.add(vec![planned(5, 7, 1), planned(5, 2, 1)]);
        // One may be kept yet, and these are two; what comes after them is left out, too.
        taping.add(vec![planned(30, 1, 1), planned(31, 2, 1)]);
        taping.add(vec![planned(40, 1, 1)]);
        let figures = taping.finish();
        assert_eq!((figures.switches, figures.left_out), (4, 3));
        assert_eq!(figures.failure, None);
        let mut read = Tape::read(&path).unwrap();
        assert_eq!((&read.header, read.count), (&header, 4));
        let sent = [
            planned(5, 2, 1),
            planned(5, 7, 1),
            planned(20, 0, 0),
            planned(2_999, 9, 3),
        ];
        assert_eq!(read.switches(), sent);
        let parts = read.share_out(&[3, 3, 4]);
        assert_eq!(parts[0], [planned(5, 2, 1), planned(20, 0, 0)]);
        assert!(parts[1].is_empty());
        assert_eq!(parts[2], [planned(5, 1, 1), planned(2_999, 3, 3)]);
        assert!(parts.iter().all(|part| part.len() == part.capacity()));
        assert!(read.switches().is_empty(), "they are nowhere twice");
    }

    /// A disk that tells when it is written to, and waits until it may.
    struct SlowDisk {
        busy: Sender<()>,
        go: Receiver<()>,
        text: Sender<Vec<u8>>,
    }

    impl Write for SlowDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.busy.send(());
            let _ = self.go.recv();
            let _ = self.text.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_disk_ends_a_tape_and_leaves_no_gap() {
        let (busy, is_busy) = channel();
        let (gone, go) = channel();
        let (text, texts) = channel();
        let disk = SlowDisk { busy, go, text };
        let taping = Taping::onto(disk, Path::new("slow"), u64::MAX, 1).unwrap();
        // Several times what is written at once.
        let many = WRITE_BYTES;
        taping.add(vec![planned(1, 1, 1); many]);
        is_busy.recv().unwrap();
        taping.add(vec![planned(2, 2, 2)]);
        // The queue is full.
        taping.add(vec![planned(3, 3, 3)]);
        drop(gone);
        taping.add(vec![planned(4, 4, 4)]);
        let figures = taping.finish();
        assert_eq!((figures.switches, figures.left_out), (many as u64 + 1, 2));
        let text: Vec<u8> = texts.iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with("1 1 1\n2 2 2\n"));
    }

    #[test]
    fn a_disk_that_is_full_is_said() {
        struct FullDisk;
        impl Write for FullDisk {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let taping = Taping::onto(FullDisk, Path::new("full"), 10, QUEUE).unwrap();
        taping.add(vec![planned(0, 0, 0)]);
        let figures = taping.finish();
        assert_eq!((figures.switches, figures.left_out), (0, 1));
        let failure = figures.failure.unwrap();
        assert!(failure.starts_with("--record full: "), "{failure}");
    }

    #[test]
    fn a_tape_ends_with_its_last_switch() {
        let head = serde_json::to_string(&Header::new(10, 4, 1_000_000, 60_000_000)).unwrap();
        let ends = |at_us: u64| {
            let tape = parse(&format!("{head}\n{at_us} 1 1\n5 1 1\n"))?;
            Ok::<_, String>(tape.duration().as_millis())
        };
        assert_eq!(ends(1_000_000), Ok(100));
        assert_eq!(ends(25_999_999), Ok(25_000));
        assert_eq!(ends(26_000_000), Ok(25_100));
        assert_eq!(ends(60_999_999), Ok(60_000));
        let error = ends(999_999).unwrap_err();
        assert!(error.contains("nothing of it would be measured"), "{error}");
    }

    #[test]
    fn what_is_no_tape_names_the_line() {
        let head = head();
        for (text, words) in [
            (String::new(), "line 1: it is not the head"),
            ("1 2 3\n".to_owned(), "line 1: it is not the head"),
            (format!("{head}\n"), "holds no switch"),
            (
                head.replace("\"version\":1", "\"version\":2") + "\n",
                "version 2",
            ),
            (
                head.replace("\"sessions\":10", "\"sessions\":0") + "\n",
                "no sessions",
            ),
            (
                head.replace("\"backgrounds\":4", "\"backgrounds\":65000") + "\n",
                "too many",
            ),
            (
                head.replace("1000", "86400000001") + "\n",
                "more than a day",
            ),
            (format!("{head}\n1 2 3\n4 5\n"), "line 3: write"),
            (format!("{head}\n1 2 3 4\n"), "line 2: write"),
            (format!("{head}\n1 10 3\n"), "line 2: time, user"),
            (format!("{head}\n1 9 4\n"), "line 2: time, user"),
            (format!("{head}\n3000 9 3\n"), "line 2: time, user"),
            (format!("{head}\n1 2 3\n1001 2 3"), "line 3: it is cut off"),
            (
                format!("{head}\n{}", "1".repeat(600)),
                "line 2: it is too long",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
