//! Tells a Prometheus where to scrape during a run: each trial takes free ports, so that no fixed address fits.
//!
//! `reports/out/prometheus-targets.json` is in the form of `file_sd_configs`; `dashboards/prometheus/prometheus.yml` reads it. It
//! holds the runner, and service and simulator of the trial that runs; it is empty when the run is over. Nothing depends on it:
//! where it cannot be written the run goes on, and the log says so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Name of the file, beside the folders of runs.
pub const FILE: &str = "prometheus-targets.json";

/// Who is scraped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The service under test.
    Service,
    /// The load on it.
    Simulator,
    /// The runner itself.
    Chaos,
}

impl Job {
    /// The label `job`, which dashboards select by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "backdrop-service",
            Self::Simulator => "backdrop-simulator",
            Self::Chaos => "backdrop-chaos",
        }
    }

    /// Whether it begins and ends with a trial, whose name its series carry.
    #[must_use]
    pub fn is_of_trial(self) -> bool {
        self != Self::Chaos
    }
}

/// One address to scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Who.
    pub job: Job,
    /// Where its `/metrics` is.
    pub address: SocketAddr,
}

/// The file, until it is dropped.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    /// The runner's own.
    chaos: Option<Target>,
}

impl Board {
    /// Names the runner, if it listens, in the file beside the run's folder.
    #[must_use]
    pub fn new(run_dir: &Path, chaos: Option<SocketAddr>) -> Self {
        let board = Self {
            path: run_dir.with_file_name(FILE),
            chaos: chaos.map(|address| Target {
                job: Job::Chaos,
                address,
            }),
        };
        board.write(&[], "");
        board
    }

    /// Names the targets of a trial beside the runner, until the answer is dropped.
    pub fn announce(&self, targets: &[Target], trial: &str) -> Announced<'_> {
        self.write(targets, trial);
        Announced(self)
    }

    /// The runner, and these.
    #[must_use]
    pub fn with(&self, targets: &[Target]) -> Vec<Target> {
        self.chaos.iter().chain(targets).copied().collect()
    }

    fn write(&self, targets: &[Target], trial: &str) {
        let entries = self.with(targets).into_iter().map(|target| {
            let mut labels = json!({"job": target.job.name()});
            if target.job.is_of_trial() {
                labels["trial"] = trial.into();
            }
            json!({"targets": [target.address.to_string()], "labels": labels})
        });
        write(&self.path, &entries.collect());
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        write(&self.path, &json!([]));
    }
}

/// A trial that is to be scraped.
#[must_use]
pub struct Announced<'a>(&'a Board);

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.0.write(&[], "");
    }
}

/// Whole or not at all: Prometheus reads whenever the file changes.
fn write(path: &Path, targets: &Value) {
    let aside = path.with_extension("json.new");
    let written =
        std::fs::write(&aside, targets.to_string()).and_then(|()| std::fs::rename(&aside, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "Prometheus is not told what to scrape");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_is_named_and_nobody_after() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || -> Value {
            let text = std::fs::read_to_string(dir.path().join(FILE)).expect("the file");
            serde_json::from_str(&text).expect("JSON")
        };
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let board = Board::new(&dir.path().join("run"), Some(at(1)));
        let runner = json!({"targets": ["127.0.0.1:1"], "labels": {"job": "backdrop-chaos"}});
        assert_eq!(read(), json!([runner]));
        let service = Target {
            job: Job::Service,
            address: at(2),
        };
        let announced = board.announce(&[service], "overflow");
        let labels = json!({"job": "backdrop-service", "trial": "overflow"});
        assert_eq!(
            read(),
            json!([runner, {"targets": ["127.0.0.1:2"], "labels": labels}])
        );
        drop(announced);
        assert_eq!(read(), json!([runner]));
        drop(board);
        assert_eq!(read(), json!([]));
        let others = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(others, 1, "nothing else is left");
    }
}
