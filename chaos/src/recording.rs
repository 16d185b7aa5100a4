//! What a Prometheus would have seen of a trial: every second the expositions of service, simulator and runner, kept beside the
//! logs. `dashboards` loads them into a real Prometheus, so that every panel can be asked about a run that is over.
//!
//! `metrics.gz` is text under gzip: a line `#scrape {json}` ([`Head`]), then the samples of that exposition without comments.
//! Nothing rests on it: one that cannot be written, or has grown too large, ends with a word in the log, and the trial goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use tokio::time::Instant;

use crate::admin::Listener;
use crate::exposed::Exposed;
use crate::rig::Stop;
use crate::targets::{Job, Target};
use crate::units;

/// Name of the file.
pub const FILE: &str = "metrics.gz";
/// Time between scrapes, as in `dashboards/prometheus/prometheus.yml`.
const PERIOD: Duration = Duration::from_secs(1);
/// Time for an answer.
const TIMEOUT: Duration = Duration::from_millis(900);
/// Largest file, some hours of a run; what comes after is left out.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Largest exposition taken.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What stands before the samples of one scrape.
#[derive(Debug, Serialize)]
struct Head<'a> {
    /// When it was asked for, milliseconds since the Unix epoch.
    unix_ms: u64,
    job: &'static str,
    instance: &'a str,
    trial: &'a str,
    /// 0 where nobody answered.
    up: u8,
}

/// Keeps scrapes of these targets until `stop` is raised.
pub async fn keep(
    dir: PathBuf,
    trial: String,
    targets: Vec<Target>,
    exposed: Arc<Exposed>,
    stop: Stop,
) {
    let mut recording = match Recording::create(&dir.join(FILE)) {
        Ok(recording) => recording,
        Err(error) => {
            tracing::warn!(%error, "no metrics are recorded");
            return;
        }
    };
    let mut at = Instant::now();
    while stop.sleep_until(at).await {
        at += PERIOD;
        for target in &targets {
            let unix_ms = units::unix_ms_now();
            let text = match target.job {
                Job::Chaos => Some(exposed.text()),
                Job::Service | Job::Simulator => scrape(target).await,
            };
            let head = Head {
                unix_ms,
                job: target.job.name(),
                instance: &target.address.to_string(),
                trial: if target.job.is_of_trial() { &trial } else { "" },
                up: u8::from(text.is_some()),
            };
            if let Err(error) = recording.add(&head, &text.unwrap_or_default()) {
                tracing::warn!(%error, "no more metrics are recorded");
                return;
            }
        }
    }
    if let Err(error) = recording.finish() {
        tracing::warn!(%error, "the last metrics are not recorded");
    }
}

async fn scrape(target: &Target) -> Option<String> {
    let listener = Listener {
        addr: target.address,
        timeout: TIMEOUT,
    };
    let answer = listener.get("/metrics").await.ok()?;
    let fits = answer.ok() && answer.body.len() <= TEXT_BYTES_MAX;
    fits.then(|| String::from_utf8_lossy(&answer.body).into_owned())
}

/// A file that grows up to its bound.
struct Recording {
    out: GzEncoder<Bounded<BufWriter<File>>>,
}

impl Recording {
    fn create(path: &Path) -> io::Result<Self> {
        let file = Bounded {
            inner: BufWriter::new(File::create(path)?),
            left: FILE_BYTES_MAX,
        };
        Ok(Self {
            out: GzEncoder::new(file, Compression::fast()),
        })
    }

    fn add(&mut self, head: &Head<'_>, text: &str) -> io::Result<()> {
        writeln!(self.out, "#scrape {}", serde_json::to_string(head)?)?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.out.finish()?.inner.flush()
    }
}

/// Refuses what would make the file too large.
struct Bounded<W> {
    inner: W,
    left: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.inner.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn scrapes_are_kept_without_comments() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(FILE);
        let mut recording = Recording::create(&path).expect("a file");
        let mut head = Head {
            unix_ms: 7,
            job: Job::Service.name(),
            instance: "127.0.0.1:1",
            trial: "a.b",
            up: 1,
        };
        let text = "# HELP a x\n# TYPE a counter\na_total{b=\"c\"} 3\n# EOF\n";
        recording.add(&head, text).expect("written");
        head.up = 0;
        recording.add(&head, "").expect("written");
        recording.finish().expect("written");
        let mut read = String::new();
        let file = File::open(path).expect("the file");
        GzDecoder::new(file)
            .read_to_string(&mut read)
            .expect("gzip");
        let lines: Vec<&str> = read.lines().collect();
        assert_eq!(lines.len(), 3, "{read}");
        assert!(lines[0].starts_with("#scrape {\"unix_ms\":7,\"job\":\"backdrop-service\""));
        assert_eq!(lines[1], "a_total{b=\"c\"} 3");
        assert!(lines[2].ends_with("\"up\":0}"));
    }

    #[test]
    fn a_file_ends_at_its_bound() {
        let mut bounded = Bounded {
            inner: Vec::new(),
            left: 5,
        };
        bounded.write_all(b"abc").expect("it fits");
        let refused = bounded.write_all(b"def").expect_err("it does not");
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(bounded.inner, b"abc");
    }
}
