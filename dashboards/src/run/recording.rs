//! What the chaos runner kept of a run's metrics (`logs/*/metrics.gz`), as OpenMetrics text with times: the form in which
//! `promtool` makes blocks of a database. The labels that a Prometheus adds when it scrapes are added here: job, instance, trial.
//!
//! A Prometheus marks the end of a series when it can no longer scrape it, and this text has no such mark. So every scrape is put on
//! a whole second, no two of a job on the same one, and a reader that looks back for less than a second sees each service only as
//! long as it was there: the sum over services that follow each other is never that of two.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::{RunError, SCRAPE_S};

/// Name of a recording in the folder of a trial's logs.
const FILE: &str = "metrics.gz";
/// What a scrape begins with.
const HEAD: &str = "#scrape ";
/// Time between two scrapes.
const PERIOD_MS: u64 = SCRAPE_S * 1000;

/// What stands before the samples of one scrape.
#[derive(Debug, Deserialize)]
struct Head {
    unix_ms: u64,
    job: String,
    instance: String,
    /// Empty for who does not belong to one trial.
    trial: String,
    up: u8,
}

/// What was turned into text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Time of the first scrape, milliseconds since the Unix epoch, whole seconds.
    pub from_ms: u64,
    /// Time of the last, likewise.
    pub to_ms: u64,
    /// Scrapes that were kept.
    pub scrapes: u64,
    /// Samples.
    pub samples: u64,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            from_ms: u64::MAX,
            to_ms: 0,
            scrapes: 0,
            samples: 0,
        }
    }
}

impl Extent {
    fn with(&mut self, second: u64) {
        self.scrapes += 1;
        self.from_ms = self.from_ms.min(second * 1000);
        self.to_ms = self.to_ms.max(second * 1000);
    }
}

/// The recordings of a run, in the order in which they began: the runner's own series goes on through all of them, and a database
/// takes no sample that is older than the last one.
///
/// # Errors
/// There are none: the run is of an older runner, or is no run.
pub fn find(run: &Path) -> Result<Vec<PathBuf>, RunError> {
    let logs = run.join("logs");
    let entries = std::fs::read_dir(&logs)
        .map_err(RunError::while_doing(format!("reading {}", logs.display())))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().join(FILE))
        .filter(|path| path.is_file())
        .collect();
    found.sort_by_cached_key(|path| (began(path), path.clone()));
    if found.is_empty() {
        return Err(RunError::new(format!(
            "{} has no {FILE} below logs: only newer runs record their metrics",
            run.display()
        )));
    }
    Ok(found)
}

/// Time of a recording's first scrape. None if it has none: what there is wrong with it is said when it is read.
fn began(path: &Path) -> Option<u64> {
    let mut first = String::new();
    let file = File::open(path).ok()?;
    let mut text = BufReader::new(MultiGzDecoder::new(file));
    text.read_line(&mut first).ok()?;
    let head: Head = serde_json::from_str(first.strip_prefix(HEAD)?).ok()?;
    Some(head.unix_ms)
}

/// Writes these recordings as one OpenMetrics text.
///
/// # Errors
/// A file cannot be read or written, or is no recording. One that was cut off, as of a killed runner, counts as far as it goes.
pub fn to_open_metrics(recordings: &[PathBuf], out: &mut impl Write) -> Result<Extent, RunError> {
    let mut seconds = Seconds::default();
    let mut extent = Extent::default();
    for (at, path) in recordings.iter().enumerate() {
        let file = File::open(path)
            .map_err(RunError::while_doing(format!("reading {}", path.display())))?;
        seconds.next_recording(recordings[at + 1..].iter().find_map(|path| began(path)));
        let text = BufReader::new(MultiGzDecoder::new(file));
        one(text, out, &mut extent, &mut seconds)
            .map_err(|error| RunError::new(format!("{}: {error}", path.display())))?;
    }
    writeln!(out, "# EOF").map_err(RunError::while_doing("writing"))?;
    if extent.samples == 0 {
        return Err(RunError::new("the recordings hold no sample"));
    }
    Ok(extent)
}

/// On which second each scrape is put.
#[derive(Debug, Default)]
struct Seconds {
    /// Time of this recording's first scrape, from which all of its own are counted: they are a period apart, more or less.
    first_ms: Option<u64>,
    /// Second on which the next recording begins.
    next: Option<u64>,
    /// Newest second of each job.
    newest: BTreeMap<String, u64>,
    /// Jobs that this recording has a scrape of.
    seen: BTreeSet<String>,
}

impl Seconds {
    /// Begins another recording; `next_ms` is when the one after it begins.
    fn next_recording(&mut self, next_ms: Option<u64>) {
        self.first_ms = None;
        self.next = next_ms.map(|ms| ms / PERIOD_MS);
        self.seen.clear();
    }

    /// Seconds since the Unix epoch. None if the second is another one's: an earlier scrape's of the same job, or, as long as this
    /// recording has one of the job at all, the next recording's.
    fn of(&mut self, head: &Head) -> Option<u64> {
        let first_ms = *self.first_ms.get_or_insert(head.unix_ms);
        let periods = (head.unix_ms.saturating_sub(first_ms) + PERIOD_MS / 2) / PERIOD_MS;
        let second = first_ms / PERIOD_MS + periods;
        let taken = self
            .newest
            .get(&head.job)
            .is_some_and(|newest| second <= *newest);
        let left = self.next.is_some_and(|next| second >= next);
        if taken || left && self.seen.contains(&head.job) {
            return None;
        }
        self.newest.insert(head.job.clone(), second);
        self.seen.insert(head.job.clone());
        Some(second)
    }
}

fn one(
    mut text: impl BufRead,
    out: &mut impl Write,
    extent: &mut Extent,
    seconds: &mut Seconds,
) -> Result<(), RunError> {
    // None before the first scrape, and nothing in it while one is left out.
    let mut labels: Option<Option<Added>> = None;
    let mut line = String::new();
    loop {
        line.clear();
        match text.read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(RunError::while_doing("reading")(error)),
        }
        let Some(whole) = line.strip_suffix('\n') else {
            return Ok(());
        };
        let written = if let Some(head) = whole.strip_prefix(HEAD) {
            let head: Head = serde_json::from_str(head)
                .map_err(|error| RunError::new(format!("{head}: {error}")))?;
            let added = seconds.of(&head).map(|second| Added::of(&head, second));
            let Some(added) = &*labels.insert(added) else {
                continue;
            };
            extent.with(added.second);
            let Added { labels, second } = added;
            writeln!(out, "up{{{labels}}} {} {second}", head.up)
        } else {
            match &labels {
                None => return Err(RunError::new("it does not begin with a scrape")),
                Some(None) => continue,
                Some(Some(added)) => added.write(whole, out),
            }
        };
        written.map_err(RunError::while_doing("writing"))?;
        extent.samples += 1;
    }
}

/// What a Prometheus adds to a sample.
struct Added {
    labels: String,
    /// Seconds since the Unix epoch.
    second: u64,
}

impl Added {
    fn of(head: &Head, second: u64) -> Self {
        let mut labels = format!("job=\"{}\",instance=\"{}\"", head.job, head.instance);
        if !head.trial.is_empty() {
            labels.push_str(&format!(",trial=\"{}\"", head.trial));
        }
        Self { labels, second }
    }

    /// `name{own} value` or `name value`.
    fn write(&self, sample: &str, out: &mut impl Write) -> std::io::Result<()> {
        let Self { labels, second } = self;
        match sample.split_once('{') {
            Some((name, rest)) => {
                let (own, value) = rest.rsplit_once('}').unwrap_or(("", rest));
                let comma = if own.is_empty() { "" } else { "," };
                writeln!(out, "{name}{{{own}{comma}{labels}}}{value} {second}")
            }
            None => {
                let (name, value) = sample.split_once(' ').unwrap_or((sample, "NaN"));
                writeln!(out, "{name}{{{labels}}} {value} {second}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#scrape {\"unix_ms\":1700000000007,\"job\":\"j\",\"instance\":\"i:1\",\"trial\":\"t\",\"up\":1}\n\
                        a_total{b=\"c\"} 3\nd 4.5\n\
                        #scrape {\"unix_ms\":1700000001000,\"job\":\"k\",\"instance\":\"i:2\",\"trial\":\"\",\"up\":0}\n";

    fn read(text: &str) -> Result<(String, Extent), RunError> {
        let mut out = Vec::new();
        let mut extent = Extent::default();
        one(
            text.as_bytes(),
            &mut out,
            &mut extent,
            &mut Seconds::default(),
        )?;
        Ok((String::from_utf8(out).expect("text"), extent))
    }

    #[test]
    fn samples_get_their_labels_and_times() {
        let (text, extent) = read(TEXT).expect("a recording");
        assert_eq!(
            text,
            "up{job=\"j\",instance=\"i:1\",trial=\"t\"} 1 1700000000\n\
             a_total{b=\"c\",job=\"j\",instance=\"i:1\",trial=\"t\"} 3 1700000000\n\
             d{job=\"j\",instance=\"i:1\",trial=\"t\"} 4.5 1700000000\n\
             up{job=\"k\",instance=\"i:2\"} 0 1700000001\n"
        );
        assert_eq!((extent.scrapes, extent.samples), (2, 4));
        assert_eq!(
            (extent.from_ms, extent.to_ms),
            (1_700_000_000_000, 1_700_000_001_000)
        );
    }

    #[test]
    fn no_second_has_two_scrapes_of_a_job_and_none_is_lost_to_a_late_one() {
        let scrapes = |seconds: &mut Seconds, times: &[(u64, &str)]| -> Vec<Option<u64>> {
            let head = |&(ms, job): &(u64, &str)| Head {
                unix_ms: 1_000_000 + ms,
                job: job.into(),
                instance: String::new(),
                trial: String::new(),
                up: 1,
            };
            let placed = times.iter().map(|at| seconds.of(&head(at)));
            placed.map(|second| Some(second? - 1000)).collect()
        };
        let mut seconds = Seconds::default();
        // A little late, a little early, one missing: each on the second that it was meant for.
        seconds.next_recording(Some(1_006_400));
        let first = [
            (990, "s"),
            (2_010, "s"),
            (2_985, "s"),
            (5_000, "s"),
            (5_990, "s"),
            (6_300, "s"),
        ];
        assert_eq!(
            scrapes(&mut seconds, &first),
            [Some(0), Some(1), Some(2), Some(4), Some(5), None]
        );
        // Two recordings that begin in one second; the second one's first scrape of the other job has nobody in its way.
        seconds.next_recording(Some(1_006_900));
        assert_eq!(
            scrapes(&mut seconds, &[(6_400, "s"), (6_410, "t")]),
            [Some(6), Some(6)]
        );
        seconds.next_recording(None);
        assert_eq!(
            scrapes(&mut seconds, &[(6_900, "s"), (7_900, "s"), (7_910, "t")]),
            [None, Some(7), Some(7)]
        );
    }

    #[test]
    fn recordings_come_in_the_order_in_which_they_began() {
        let dir = tempfile::tempdir().expect("directory");
        let record = |trial: &str, text: &str| {
            let logs = dir.path().join("logs").join(trial);
            std::fs::create_dir_all(&logs).expect("directory");
            let file = File::create(logs.join(FILE)).expect("file");
            let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            out.write_all(text.as_bytes()).expect("write");
            out.finish().expect("write");
        };
        record("a-later", &TEXT.replace("17000000", "17000001"));
        record("b-earlier", TEXT);
        record("c-nothing", "");
        let found = find(dir.path()).expect("recordings");
        let trials: Vec<_> = found
            .iter()
            .map(|path| path.parent().and_then(Path::file_name).expect("a trial"))
            .collect();
        assert_eq!(trials, ["c-nothing", "b-earlier", "a-later"]);
    }

    #[test]
    fn what_was_cut_off_counts_up_to_the_last_whole_line() {
        let (text, _) = read(&TEXT[..TEXT.find("d 4.5").expect("there") + 3]).expect("a recording");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        assert!(read("a 1\n").is_err());
        assert!(read("#scrape {}\n").is_err());
    }
}
