//! Recordings of switches as they were sent: planned time, session, background.
//!
//! A text file: a line of JSON that says what it holds, then `at_us user background` for each switch, in about the order of
//! their times. It is written on a thread of its own: a gateway hands over what it sends and never waits. What finds the queue
//! full, or comes after as many as may be recorded, is left out and counted.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schedule::{Planned, Schedule};

const FORMAT: &str = "backdrop-switches";
const VERSION: u32 = 1;
/// Switches of a recording at most: 16 bytes each while it is replayed, 512 MB.
pub const SWITCHES_MAX: u64 = 32_000_000;
/// Requests that may wait to be written.
const QUEUE: usize = 4096;
/// Bytes of a line, its end included; a longer one is no line of a recording.
const LINE_BYTES_MAX: u64 = 512;

/// What a recording holds; its first line.
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
    /// Length of the measured load, microseconds.
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
        if self.sessions == 0 || self.sessions > u64::from(u32::MAX) || self.backgrounds == 0 {
            return Err("it names no sessions or backgrounds, or too many".to_owned());
        }
        Ok(())
    }

    fn permits(&self, planned: &Planned) -> bool {
        u64::from(planned.user) < self.sessions
            && planned.background < self.backgrounds
            && planned.at_us < self.warmup_us.saturating_add(self.duration_us)
    }
}

/// A recording that cannot be replayed.
#[derive(Debug, Error)]
pub enum RecordingError {
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
}

/// What was sent in another run.
#[derive(PartialEq, Eq)]
pub struct Recording {
    /// What it holds.
    pub header: Header,
    /// By time, and at one time by user.
    pub switches: Vec<Planned>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} switches", self.header, self.switches.len())
    }
}

impl Recording {
    /// Reads a whole file.
    ///
    /// # Errors
    /// It cannot be read, a line is not of the format or contradicts the header, or there are more than [`SWITCHES_MAX`].
    pub fn read(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path).map_err(RecordingError::Io)?;
        Recording::parse(BufReader::new(file))
    }

    fn parse(mut input: impl BufRead) -> Result<Self, RecordingError> {
        let wrong = |line, why: &str| RecordingError::Line {
            line,
            why: why.to_owned(),
        };
        let mut text = String::new();
        next_line(&mut input, &mut text, 1)?;
        let header: Header = serde_json::from_str(&text)
            .map_err(|_| wrong(1, "it is not the head of a recording"))?;
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
        Ok(Recording { header, switches })
    }

    /// Hash of its switches.
    pub fn hash(&self) -> u64 {
        Schedule::hash_of(&self.switches)
    }

    /// The switches of each of several neighbouring groups of users; within a group users count from zero.
    pub fn parts(&self, sizes: &[usize]) -> Vec<Vec<Planned>> {
        let firsts: Vec<u32> = sizes
            .iter()
            .scan(0, |next, size| {
                Some(std::mem::replace(next, *next + *size as u32))
            })
            .collect();
        let mut parts = vec![Vec::new(); sizes.len()];
        for planned in &self.switches {
            let part = firsts.partition_point(|first| *first <= planned.user) - 1;
            parts[part].push(Planned {
                user: planned.user - firsts[part],
                ..*planned
            });
        }
        parts
    }
}

/// Reads a line; false at the end.
fn next_line(
    input: &mut impl BufRead,
    text: &mut String,
    line: u64,
) -> Result<bool, RecordingError> {
    text.clear();
    let mut bounded = input.take(LINE_BYTES_MAX);
    let read = bounded.read_line(text).map_err(RecordingError::Io)?;
    if read as u64 == LINE_BYTES_MAX && !text.ends_with('\n') {
        let why = "it is too long for a line of a recording".to_owned();
        return Err(RecordingError::Line { line, why });
    }
    Ok(read > 0)
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

/// What became of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordingFigures {
    /// Switches in the file.
    pub switches: u64,
    /// Switches that were sent and are not in it: there were more than may be recorded, or the disk was too slow.
    pub left_out: u64,
    /// Why it was not written to its end, if it was not.
    pub failure: Option<String>,
}

/// A recording that is being made.
#[derive(Debug)]
pub struct Tape {
    path: PathBuf,
    queue: Mutex<Option<SyncSender<Vec<Planned>>>>,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
    room: AtomicU64,
    switches: AtomicU64,
    left_out: AtomicU64,
}

impl Tape {
    /// Creates the file, for at most `most` switches.
    ///
    /// # Errors
    /// The file, or the thread that writes it.
    pub fn create(path: &Path, header: &Header, most: u64) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "{}", serde_json::to_string(header)?)?;
        let (queue, switches) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || write(&switches, out))?;
        Ok(Tape {
            path: path.to_owned(),
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            room: AtomicU64::new(most),
            switches: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        })
    }

    /// Records what is sent now; never waits.
    pub fn add(&self, switches: Vec<Planned>) {
        let count = switches.len() as u64;
        let fits = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(count)
            });
        if fits.is_err() {
            // Full for good: a recording has a beginning without gaps.
            self.room.store(0, Ordering::Relaxed);
        }
        let queued = fits.is_ok()
            && self
                .queue
                .lock()
                .as_ref()
                .is_some_and(|queue| queue.try_send(switches).is_ok());
        let counter = if queued {
            &self.switches
        } else {
            &self.left_out
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Writes what is queued and closes the file. Blocks until that is done.
    pub fn finish(&self) -> RecordingFigures {
        self.queue.lock().take();
        let failure = match self.writer.lock().take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => None,
            Some(Ok(Err(error))) => Some(error.to_string()),
            Some(Err(_)) => Some("the thread that writes it panicked".to_owned()),
        };
        RecordingFigures {
            switches: self.switches.load(Ordering::Relaxed),
            left_out: self.left_out.load(Ordering::Relaxed),
            failure: failure.map(|why| format!("--record {}: {why}", self.path.display())),
        }
    }
}

fn write(queue: &Receiver<Vec<Planned>>, mut out: BufWriter<File>) -> io::Result<()> {
    crate::host::give_way();
    for switches in queue {
        for planned in switches {
            let Planned {
                at_us,
                user,
                background,
            } = planned;
            writeln!(out, "{at_us} {user} {background}")?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(at_us: u64, user: u32, background: u16) -> Planned {
        Planned {
            at_us,
            user,
            background,
        }
    }

    fn parse(text: &str) -> Result<Recording, String> {
        Recording::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    fn head() -> String {
        serde_json::to_string(&Header::new(10, 4, 1_000, 2_000)).unwrap()
    }

    #[test]
    fn what_was_recorded_is_read_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.switches");
        let header = Header::new(10, 4, 1_000, 2_000);
        let tape = Tape::create(&path, &header, 5).unwrap();
        tape.add(vec![planned(2_999, 9, 3), planned(20, 0, 0)]);
        tape.add(vec![planned(5, 7, 1), planned(5, 2, 1)]);
        // One may be recorded yet, and these are two; what comes after them is left out, too.
        tape.add(vec![planned(30, 1, 1), planned(31, 2, 1)]);
        tape.add(vec![planned(40, 1, 1)]);
        let figures = tape.finish();
        assert_eq!((figures.switches, figures.left_out), (4, 3));
        assert_eq!(figures.failure, None);
        let read = Recording::read(&path).unwrap();
        assert_eq!(read.header, header);
        let sent = [
            planned(5, 2, 1),
            planned(5, 7, 1),
            planned(20, 0, 0),
            planned(2_999, 9, 3),
        ];
        assert_eq!(read.switches, sent);
        let parts = read.parts(&[3, 3, 4]);
        assert_eq!(parts[0], [planned(5, 2, 1), planned(20, 0, 0)]);
        assert!(parts[1].is_empty());
        assert_eq!(parts[2], [planned(5, 1, 1), planned(2_999, 3, 3)]);
    }

    #[test]
    fn a_disk_that_is_full_is_said() {
        let header = Header::new(1, 1, 0, 1);
        let Ok(tape) = Tape::create(Path::new("/dev/full"), &header, 10) else {
            return eprintln!("not seen here: /dev/full cannot be opened");
        };
        tape.add(vec![planned(0, 0, 0)]);
        let failure = tape.finish().failure.unwrap();
        assert!(failure.starts_with("--record /dev/full: "), "{failure}");
    }

    #[test]
    fn what_is_no_recording_names_the_line() {
        let head = head();
        assert_eq!(parse(&format!("{head}\n")).unwrap().switches, []);
        for (text, words) in [
            (String::new(), "line 1: it is not the head"),
            ("1 2 3\n".to_owned(), "line 1: it is not the head"),
            (head.replace("\"version\":1", "\"version\":2"), "version 2"),
            (
                head.replace("\"sessions\":10", "\"sessions\":0"),
                "no sessions",
            ),
            (format!("{head}\n1 2 3\n4 5\n"), "line 3: write"),
            (format!("{head}\n1 2 3 4\n"), "line 2: write"),
            (format!("{head}\n1 10 3\n"), "line 2: time, user"),
            (format!("{head}\n1 9 4\n"), "line 2: time, user"),
            (format!("{head}\n3000 9 3\n"), "line 2: time, user"),
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
