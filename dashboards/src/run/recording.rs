//! What the chaos runner kept of a run's metrics (`logs/*/metrics.gz`), as OpenMetrics text with times: the form in which
//! `promtool` makes blocks of a database. The labels that a Prometheus adds when it scrapes are added here: job, instance, trial.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use super::RunError;

/// Name of a recording in the folder of a trial's logs.
const FILE: &str = "metrics.gz";
/// What a scrape begins with.
const HEAD: &str = "#scrape ";

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
    /// Time of the first scrape, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Time of the last.
    pub to_ms: u64,
    /// Scrapes.
    pub scrapes: u64,
    /// Samples.
    pub samples: u64,
}

/// The recordings of a run, in the order of the trials' names.
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
    found.sort();
    if found.is_empty() {
        return Err(RunError::new(format!(
            "{} has no {FILE} below logs: only newer runs record their metrics",
            run.display()
        )));
    }
    Ok(found)
}

/// Writes these recordings as one OpenMetrics text.
///
/// # Errors
/// A file cannot be read or written, or is no recording. One that was cut off, as of a killed runner, counts as far as it goes.
pub fn to_open_metrics(recordings: &[PathBuf], out: &mut impl Write) -> Result<Extent, RunError> {
    let mut extent = Extent {
        from_ms: u64::MAX,
        to_ms: 0,
        scrapes: 0,
        samples: 0,
    };
    for path in recordings {
        let file = File::open(path)
            .map_err(RunError::while_doing(format!("reading {}", path.display())))?;
        one(BufReader::new(MultiGzDecoder::new(file)), out, &mut extent)
            .map_err(|error| RunError::new(format!("{}: {error}", path.display())))?;
    }
    writeln!(out, "# EOF").map_err(RunError::while_doing("writing"))?;
    if extent.samples == 0 {
        return Err(RunError::new("the recordings hold no sample"));
    }
    Ok(extent)
}

fn one(mut text: impl BufRead, out: &mut impl Write, extent: &mut Extent) -> Result<(), RunError> {
    let mut labels = None;
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
            extent.scrapes += 1;
            extent.from_ms = extent.from_ms.min(head.unix_ms);
            extent.to_ms = extent.to_ms.max(head.unix_ms);
            let added = Added::of(&head);
            let up = writeln!(out, "up{{{}}} {} {}", added.labels, head.up, added.time);
            labels = Some(added);
            up
        } else {
            let Some(added) = &labels else {
                return Err(RunError::new("it does not begin with a scrape"));
            };
            added.write(whole, out)
        };
        written.map_err(RunError::while_doing("writing"))?;
        extent.samples += 1;
    }
}

/// What a Prometheus adds to a sample.
struct Added {
    labels: String,
    /// Seconds since the Unix epoch.
    time: String,
}

impl Added {
    fn of(head: &Head) -> Self {
        let mut labels = format!("job=\"{}\",instance=\"{}\"", head.job, head.instance);
        if !head.trial.is_empty() {
            labels.push_str(&format!(",trial=\"{}\"", head.trial));
        }
        Self {
            labels,
            time: format!("{}.{:03}", head.unix_ms / 1000, head.unix_ms % 1000),
        }
    }

    /// `name{own} value` or `name value`.
    fn write(&self, sample: &str, out: &mut impl Write) -> std::io::Result<()> {
        let Self { labels, time } = self;
        match sample.split_once('{') {
            Some((name, rest)) => {
                let (own, value) = rest.rsplit_once('}').unwrap_or(("", rest));
                let comma = if own.is_empty() { "" } else { "," };
                writeln!(out, "{name}{{{own}{comma}{labels}}}{value} {time}")
            }
            None => {
                let (name, value) = sample.split_once(' ').unwrap_or((sample, "NaN"));
                writeln!(out, "{name}{{{labels}}} {value} {time}")
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
        let mut extent = Extent {
            from_ms: u64::MAX,
            to_ms: 0,
            scrapes: 0,
            samples: 0,
        };
        one(text.as_bytes(), &mut out, &mut extent)?;
        Ok((String::from_utf8(out).expect("text"), extent))
    }

    #[test]
    fn samples_get_their_labels_and_times() {
        let (text, extent) = read(TEXT).expect("a recording");
        assert_eq!(
            text,
            "up{job=\"j\",instance=\"i:1\",trial=\"t\"} 1 1700000000.007\n\
             a_total{b=\"c\",job=\"j\",instance=\"i:1\",trial=\"t\"} 3 1700000000.007\n\
             d{job=\"j\",instance=\"i:1\",trial=\"t\"} 4.5 1700000000.007\n\
             up{job=\"k\",instance=\"i:2\"} 0 1700000001.000\n"
        );
        assert_eq!((extent.scrapes, extent.samples), (2, 4));
        assert_eq!(
            (extent.from_ms, extent.to_ms),
            (1_700_000_000_007, 1_700_000_001_000)
        );
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
