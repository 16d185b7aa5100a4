//! A real Prometheus over the blocks of a run: `promtool` makes them, `prometheus` answers queries about them on a free port of
//! loopback, until it is dropped. Both are Debian's package `prometheus`, found by PATH, or by PROMTOOL and PROMETHEUS.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::RunError;
use super::recording::{self, Extent};

/// Time for Prometheus to have opened the blocks.
const READY_MAX: Duration = Duration::from_secs(60);
/// Time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// A series that was not scraped for so long is gone: nobody marks the end of a series in a recording, whose scrapes are whole
/// seconds.
const LOOKBACK: &str = "999ms";

/// What to install where it is missing.
pub const INSTALL: &str =
    "Debian and Ubuntu: apt install prometheus; or name the binaries with PROMTOOL and PROMETHEUS";

/// The program that this variable names, or the one of that name on PATH.
#[must_use]
pub fn program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| name.into(), PathBuf::from)
}

/// `promtool`, to be given arguments.
#[must_use]
pub fn promtool() -> Command {
    Command::new(program("PROMTOOL", "promtool"))
}

/// A server that holds one run.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    /// Blocks, configuration and log.
    folder: PathBuf,
    /// What it holds.
    pub extent: Extent,
}

impl Prometheus {
    /// Makes blocks of the run's recordings in `folder`, which is emptied first, and starts a server on them. The folder goes
    /// with the server.
    ///
    /// # Errors
    /// A program is missing, the run has no recording, or the server is not ready within a minute.
    pub fn over(run: &Path, folder: &Path) -> Result<Self, RunError> {
        let recordings = recording::find(run)?;
        let doing =
            |what: &str, path: &Path| RunError::while_doing(format!("{what} {}", path.display()));
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(doing("emptying", folder))?;
        }
        std::fs::create_dir_all(folder).map_err(doing("making", folder))?;
        let (text, data) = (folder.join("run.om"), folder.join("data"));
        let file = File::create(&text).map_err(doing("writing", &text))?;
        let mut out = BufWriter::new(file);
        let extent = recording::to_open_metrics(&recordings, &mut out)?;
        out.flush().map_err(doing("writing", &text))?;
        let made = promtool()
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&text, &data])
            .output()
            .map_err(RunError::while_doing(format!("promtool ({INSTALL})")))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(RunError::new(format!("promtool makes no blocks: {said}")));
        }
        let _ = std::fs::remove_file(&text);
        Self::start(folder, &data, extent)
    }

    fn start(folder: &Path, data: &Path, extent: Extent) -> Result<Self, RunError> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|held| held.local_addr());
        let address = free.map_err(RunError::while_doing("a free port"))?;
        let configuration = folder.join("prometheus.yml");
        std::fs::write(&configuration, "global: {}\n")
            .map_err(RunError::while_doing(configuration.display()))?;
        let log = folder.join("prometheus.log");
        let file = File::create(&log).map_err(RunError::while_doing(log.display()))?;
        let child = Command::new(program("PROMETHEUS", "prometheus"))
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            // An old run is to be kept, whatever the default says.
            .arg("--storage.tsdb.retention.time=100y")
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--query.lookback-delta={LOOKBACK}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(RunError::while_doing(format!("prometheus ({INSTALL})")))?;
        let mut server = Self {
            child,
            address,
            folder: folder.to_owned(),
            extent,
        };
        server.until_ready().map_err(|what| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().last().unwrap_or_default();
            RunError::new(format!("prometheus {what}: {last}"))
        })?;
        Ok(server)
    }

    fn until_ready(&mut self) -> Result<(), &'static str> {
        let give_up = Instant::now() + READY_MAX;
        while Instant::now() < give_up {
            let ended = self.child.try_wait();
            if !matches!(ended, Ok(None)) {
                return Err("ended");
            }
            if get(self.address, "/-/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Err("is not ready after a minute")
    }

    /// Answers a range query: series with their labels and samples, seconds since the Unix epoch.
    ///
    /// # Errors
    /// It refuses the query, or does not answer.
    pub fn range(&self, query: &str, step_s: u64) -> Result<Vec<Series>, RunError> {
        let path = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={step_s}",
            encoded(query),
            self.extent.from_ms / 1000,
            self.extent.to_ms.div_ceil(1000),
        );
        let (_, body) = get(self.address, &path).map_err(RunError::while_doing(query))?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| RunError::new(format!("{query}: {error}")))?;
        if answer["status"] != "success" {
            return Err(RunError::new(format!("{query}: {}", answer["error"])));
        }
        let results = answer["data"]["result"].as_array();
        Ok(results.into_iter().flatten().map(Series::of).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its database is ours alone, and nobody needs it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Labels by name.
    pub labels: Vec<(String, String)>,
    /// Time, seconds since the Unix epoch, and value; values that are no finite number are left out.
    pub samples: Vec<(f64, f64)>,
}

impl Series {
    fn of(result: &Value) -> Self {
        let labels = result["metric"].as_object().into_iter().flatten();
        let samples = result["values"].as_array().into_iter().flatten();
        Self {
            labels: labels
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or("").to_owned()))
                .collect(),
            samples: samples
                .filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_str()?.parse().ok()?)))
                .filter(|(_, value): &(f64, f64)| value.is_finite())
                .collect(),
        }
    }

    /// A legend such as `{{job}} p99` filled in.
    #[must_use]
    pub fn named(&self, legend: &str) -> String {
        let fill = |text: String, (name, value): &(String, String)| {
            text.replace(&format!("{{{{{name}}}}}"), value)
        };
        self.labels.iter().fold(legend.to_owned(), fill)
    }
}

/// Status and body. The server closes the connection, since HTTP/1.0 knows no other end.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let end = end.ok_or(std::io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((status, answer.split_off(end + 4)))
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legend_is_filled_in_and_nan_is_no_sample() {
        let result = serde_json::json!({
            "metric": {"job": "a", "le": "0.5"},
            "values": [[1.0, "NaN"], [2.0, "3.5"], [3.0, "+Inf"]],
        });
        let series = Series::of(&result);
        assert_eq!(series.samples, [(2.0, 3.5)]);
        assert_eq!(series.named("{{job}} p{{le}}"), "a p0.5");
    }

    #[test]
    fn a_query_survives_its_way() {
        assert_eq!(encoded(r#"a{b=~"c|d"}"#), "a%7Bb%3D%7E%22c%7Cd%22%7D");
    }
}
