//! Service time beside an independent client's, on the same service at the same rate.
//!
//! What is compared is the time from a request's send to the last byte of its answer. Both send single switches of the same sessions at
//! a fixed rate, turn by turn; how late the simulator woke is its own affair and is printed apart. `just cross-check` runs it, since it
//! needs `oha` and a built service.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Requests a second, by both.
const RATE: u64 = 12_000;
/// Connections, of both.
const CONNECTIONS: u64 = 16;
const ROUNDS: usize = 3;
const ROUND: &str = "8s";
/// Sessions that the other client switches, one after the other.
const SESSIONS: usize = 512;
/// How far the medians may lie apart.
const APART: f64 = 0.10;

/// A service that ends with the test.
struct Service {
    process: Child,
    public: SocketAddr,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A port that nobody has at the moment.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

impl Service {
    #[expect(
        clippy::disallowed_methods,
        reason = "a process that begins to listen tells nobody"
    )]
    fn start(binary: &Path, data: &Path) -> Self {
        let (public, admin) = (free(), free());
        let process = Command::new(binary)
            .args(["serve", "--listen", &public.to_string()])
            .args(["--admin", &admin.to_string()])
            .args(["--memory-limit", "1GiB", "--log-level", "warn"])
            .arg("--data")
            .arg(data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let service = Self { process, public };
        for _ in 0..200 {
            if TcpStream::connect(public).is_ok() {
                return service;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the service does not listen");
    }

    /// One request on a connection of its own: the answer's body, which must be of a success.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.public).expect("connected");
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).expect("a timeout");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\n\r\n",
            self.public,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answered");
        let words = String::from_utf8_lossy(&answer);
        assert!(words.starts_with("HTTP/1.1 20"), "{method} {path}: {words}");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        answer.split_off(end.expect("a head") + 4)
    }
}

/// The simulator's service time and lateness, p50 in microseconds.
fn ours(service: &Service, dir: &Path) -> (f64, f64) {
    let out = dir.join("ours.json");
    let status = Command::new(env!("CARGO_BIN_EXE_backdrop-simulator"))
        .args([
            "switch-single",
            "--url",
            &format!("http://{}", service.public),
        ])
        .args(["--sessions", &RATE.to_string(), "--period", "1s"])
        .args([
            "--duration",
            ROUND,
            "--connections",
            &CONNECTIONS.to_string(),
        ])
        .args(["--progress", "none"])
        .arg("--json")
        .arg(&out)
        .stdout(Stdio::null())
        .status()
        .expect("the simulator");
    assert!(status.success(), "the simulator: {status}");
    let text = std::fs::read_to_string(&out).expect("its results");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let p50 = |of: &Value| of["p50_us"].as_f64().expect("a median");
    let sent = report["switches"]["rate_per_s"].as_f64().expect("a rate");
    assert!(sent > 0.98 * RATE as f64, "only {sent}/s");
    (
        p50(&report["switches"]["service_time"]),
        p50(&report["wake_lateness"]),
    )
}

/// The other client's, p50 in microseconds.
fn theirs(oha: &Path, urls: &Path) -> f64 {
    let done = Command::new(oha)
        .args(["--no-tui", "--output-format", "json", "-z", ROUND])
        .args(["-q", &RATE.to_string(), "-c", &CONNECTIONS.to_string()])
        .args(["-m", "PUT", "-T", "application/json"])
        .args(["-d", &json!({"background": "wall"}).to_string()])
        .arg("--urls-from-file")
        .arg(urls)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", oha.display()));
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "oha: {complaint}");
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(report["summary"]["successRate"], 1.0, "{report}");
    let sent = report["summary"]["requestsPerSec"].as_f64();
    let sent = sent.expect("a rate");
    assert!(sent > 0.98 * RATE as f64, "only {sent}/s");
    report["latencyPercentiles"]["p50"].as_f64().expect("p50") * 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[ignore = "a measurement that needs oha and a built service: `just cross-check`"]
#[test]
fn service_time_is_what_an_independent_client_measures() {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let binary = named("BACKDROP_SERVICE").expect("BACKDROP_SERVICE names the service's binary");
    let oha = named("OHA").unwrap_or_else(|| PathBuf::from("oha"));
    let dir = tempfile::tempdir().expect("a directory");
    let service = Service::start(&binary, &dir.path().join("data"));

    let drawn = dir.path().join("drawn");
    let status = Command::new(env!("CARGO_BIN_EXE_backdrop-simulator"))
        .args(["backgrounds", "--count", "1", "--size", "640x360"])
        .arg("--out")
        .arg(&drawn)
        .stdout(Stdio::null())
        .status()
        .expect("the simulator");
    assert!(status.success());
    let picture = std::fs::read(drawn.join("sample-0000.jpg")).expect("a picture");
    service.ask("PUT", "/v1/backgrounds/wall", "image/jpeg", &picture);
    let mut list = String::new();
    for _ in 0..SESSIONS {
        let session = service.ask("POST", "/v1/sessions", "application/json", b"{}");
        let session: Value = serde_json::from_slice(&session).expect("JSON");
        let id = session["session"].as_str().expect("an id");
        let public = service.public;
        writeln!(list, "http://{public}/v1/sessions/{id}/background").expect("a string");
    }
    let urls = dir.path().join("urls");
    std::fs::write(&urls, list).expect("written");

    let (mut mine, mut others, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let (served, woke) = ours(&service, dir.path());
        let other = theirs(&oha, &urls);
        eprintln!("round {round}: {served:.0} µs, oha {other:.0} µs, woken {woke:.0} µs late");
        mine.push(served);
        others.push(other);
        late.push(woke);
    }
    let (mine, others, late) = (median(mine), median(others), median(late));
    let apart = mine / others - 1.0;
    eprintln!(
        "service time p50 at {RATE}/s: {mine:.0} µs, oha {others:.0} µs ({:+.1} %); wake lateness p50 {late:.0} µs, apart",
        apart * 100.0
    );
    assert!(
        apart.abs() <= APART,
        "more than {:.0} % apart",
        APART * 100.0
    );
}
