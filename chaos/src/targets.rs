//! Tells a Prometheus where the service under test listens: each trial's service takes free ports, so that no fixed address fits.
//!
//! `reports/out/prometheus-targets.json` is in the form of `file_sd_configs`; `dashboards/prometheus/prometheus.yml` reads it. It is
//! empty while no trial runs. Nothing depends on it: where it cannot be written the trial goes on, and the log says so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Name of the file, beside the folders of runs.
pub const FILE: &str = "prometheus-targets.json";

/// A service that is to be scraped, until it is dropped.
#[derive(Debug)]
pub struct Announced {
    path: PathBuf,
}

impl Announced {
    /// Names the admin listener of a trial's service in the file beside the run's folder.
    #[must_use]
    pub fn new(run_dir: &Path, admin: SocketAddr, trial: &str) -> Self {
        let path = run_dir.with_file_name(FILE);
        let target = json!([{"targets": [admin.to_string()], "labels": {"trial": trial}}]);
        write(&path, &target);
        Self { path }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        write(&self.path, &json!([]));
    }
}

/// Whole or not at all: Prometheus reads whenever the file changes.
fn write(path: &Path, targets: &serde_json::Value) {
    let aside = path.with_extension("json.new");
    let written =
        std::fs::write(&aside, targets.to_string()).and_then(|()| std::fs::rename(&aside, path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "Prometheus is not told of the service");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_while_it_is_announced_and_not_after() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || -> serde_json::Value {
            let text = std::fs::read_to_string(dir.path().join(FILE)).expect("the file");
            serde_json::from_str(&text).expect("JSON")
        };
        let admin = SocketAddr::from(([127, 0, 0, 1], 4711));
        let announced = Announced::new(&dir.path().join("run"), admin, "overflow");
        assert_eq!(
            read(),
            json!([{"targets": ["127.0.0.1:4711"], "labels": {"trial": "overflow"}}])
        );
        drop(announced);
        assert_eq!(read(), json!([]));
        let others = std::fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(others, 1, "nothing else is left");
    }
}
