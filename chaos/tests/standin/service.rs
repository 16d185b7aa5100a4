//! The stand-in as service: answers what the runner asks.
//!
//! With `--eat` it takes memory until something stops it, with `--crash` it aborts after a few scrapes, with `--twin` (and no
//! `--alone`) a second process answers on after its death, with `--mute` an armed failpoint is never counted, with `--sticky` it
//! stays armed, and with `--restless` its governor changes its state at every scrape. Without a budget it eats, without a dwell
//! it is restless; it has no other protection to lose.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backdrop_chaos::scenario::protection::switch;
use parking_lot::Mutex;

use super::memory::Memory;
use super::{WORDS, flag, has};

/// First word of the twin's command line.
pub const TWIN: &str = "twin";
/// What a twin waits for a client at most; only one whose runner died waits so long.
const ALONE_MAX: Duration = Duration::from_secs(60);

/// What it is and how it behaves.
#[derive(Debug)]
struct Service {
    crashes: bool,
    restless: bool,
    mute: bool,
    sticky: bool,
    /// None in a build without failpoints.
    failpoints: Option<Mutex<Failpoints>>,
    scrapes: AtomicU32,
    /// Open connections of the public listener.
    open: AtomicU32,
    memory: Memory,
}

#[derive(Debug, Default)]
struct Failpoints {
    /// Name and action.
    armed: Option<(String, String)>,
    triggers: u64,
}

struct Request {
    method: String,
    path: String,
    body: String,
}

type Answer = (&'static str, &'static str, String);

pub fn run(args: &[String]) {
    let service = Arc::new(Service {
        crashes: has(args, "--crash"),
        restless: has(args, "--restless") || has(args, &switch("dwell")),
        mute: has(args, "--mute"),
        sticky: has(args, "--sticky"),
        failpoints: (args[0] == "service-failpoints").then(Mutex::default),
        scrapes: AtomicU32::new(0),
        open: AtomicU32::new(0),
        memory: Memory::of(args),
    });
    for name in ["--listen", "--admin"] {
        let listener = TcpListener::bind(flag(args, name).expect(name)).expect("the port is free");
        if name == "--listen" && has(args, "--twin") && !has(args, "--alone") {
            leave_twin(&listener, Path::new(flag(args, "--data").expect("--data")));
        }
        let service = Arc::clone(&service);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = Arc::clone(&service);
                let counts = u32::from(name == "--listen");
                std::thread::spawn(move || {
                    service.open.fetch_add(counts, Ordering::Relaxed);
                    serve(&stream, |request| service.answer(request));
                    if counts > 0 {
                        // Open until the client has taken all of it.
                        let _ = stream.shutdown(Shutdown::Write);
                        let _ = (&stream).read(&mut [0]);
                    }
                    service.open.fetch_sub(counts, Ordering::Relaxed);
                });
            }
        });
    }
    fs::write(flag(args, "--ready-file").expect("--ready-file"), "{}")
        .expect("the folder is there");
    let eats = has(args, "--eat") || has(args, &switch("budget"));
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        // Pages touched, so that they count.
        match eats && eaten.len() < 64 {
            true => eaten.push(vec![eaten.len() as u8 + 1; 8 << 20]),
            false => std::thread::park(),
        }
    }
}

/// Starts a process that has the same listener and waits for our death. Only the first life on a data folder has one.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn leave_twin(listener: &TcpListener, data: &Path) {
    if File::create_new(data.join("twin")).is_err() {
        return;
    }
    let (reader, held) = std::io::pipe().expect("a pipe");
    // The end that only this process has: it is closed by its death.
    std::mem::forget(held);
    let listener = listener.try_clone().expect("a second handle");
    Command::new(std::env::current_exe().expect("this program"))
        .args(std::env::args().skip(1))
        .env(WORDS, TWIN)
        .stdin(OwnedFd::from(listener))
        .stdout(reader)
        .stderr(Stdio::null())
        .spawn()
        .expect("a twin");
}

/// The twin: once the other one is dead it answers until it was asked whether it is healthy, and gives up the port.
pub fn twin() {
    let inherited = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().expect("inherited");
    let mut death = File::from(inherited(std::io::stdout().as_fd()));
    let _ = death.read(&mut [0]);
    let listener = inherited(std::io::stdin().as_fd());
    let socket = TcpStream::from(listener.try_clone().expect("a second handle"));
    // A socket's own timeout, which accept(2) keeps to as well.
    socket.set_read_timeout(Some(ALONE_MAX)).expect("a timeout");
    let listener = TcpListener::from(listener);
    let mut asked = false;
    while let (false, Ok((stream, _))) = (asked, listener.accept()) {
        serve(&stream, |request| {
            asked = request.path == "/healthz";
            if asked {
                // Before the answer: whoever has it may want the port.
                socket
                    .shutdown(Shutdown::Both)
                    .expect("no longer listening");
            }
            ("200 OK", "text/plain", "ok".into())
        });
    }
}

fn serve(mut stream: &TcpStream, answer: impl FnOnce(&Request) -> Answer) {
    let Some(request) = read(stream) else { return };
    let (status, kind, body) = answer(&request);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n",
        body.len()
    );
    let _ = write!(stream, "{head}connection: close\r\n\r\n{body}");
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    reader.read_line(&mut first).ok()?;
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?);
    let path = path.split('?').next().unwrap_or("").to_owned();
    Some(Request { method, path, body })
}

impl Service {
    fn answer(&self, request: &Request) -> Answer {
        let json = "application/json";
        if let Some(name) = request.path.strip_prefix("/debug/failpoints") {
            return self.failpoint(&request.method, name.trim_start_matches('/'), &request.body);
        }
        match request.path.as_str() {
            "/readyz" | "/healthz" => ("200 OK", "text/plain", "ok".into()),
            "/metrics" => ("200 OK", "text/plain", self.metrics()),
            "/v1/backgrounds" => ("200 OK", json, self.memory.backgrounds()),
            "/v1/sessions" => ("201 Created", json, self.memory.create_session()),
            "/debug/memory" => ("200 OK", json, debug_memory()),
            path => self.kept(path, request),
        }
    }

    /// One background or one session.
    fn kept(&self, path: &str, request: &Request) -> Answer {
        if let Some(id) = path.strip_prefix("/v1/backgrounds/") {
            if request.method == "PUT" {
                let answer = self.memory.put(id, &request.body);
                return ("201 Created", "application/json", answer);
            }
            return match self.memory.background(id) {
                Some(picture) => ("200 OK", "image/jpeg", picture),
                None => problem("404 Not Found", "background_not_found"),
            };
        }
        match path.strip_prefix("/v1/sessions/") {
            Some(id) if self.memory.session(id) => ("200 OK", "application/json", "{}".into()),
            Some(_) => problem("404 Not Found", "session_not_found"),
            None => problem("404 Not Found", "no_route"),
        }
    }

    fn metrics(&self) -> String {
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed);
        if self.crashes && scrapes > 4 {
            std::process::abort();
        }
        let open = self.open.load(Ordering::Relaxed);
        let changes = if self.restless { scrapes } else { 0 };
        let mut text = format!(
            "backdrop_sessions 5\nbackdrop_governor_state 0\nbackdrop_http_connections {open}\n\
             backdrop_governor_transitions_total{{to=\"elevated\"}} {changes}\n"
        );
        if let Some(failpoints) = &self.failpoints {
            let mut failpoints = failpoints.lock();
            // An armed one fires whenever it is looked at.
            let fires = failpoints.armed.is_some() && !self.mute;
            failpoints.triggers += u64::from(fires);
            text.push_str(&format!(
                "backdrop_failpoint_triggers_total{{failpoint=\"any\"}} {}\n",
                failpoints.triggers
            ));
        }
        text
    }

    fn failpoint(&self, method: &str, name: &str, body: &str) -> Answer {
        let Some(failpoints) = &self.failpoints else {
            return problem("404 Not Found", "not_built_with_failpoints");
        };
        let mut failpoints = failpoints.lock();
        match method {
            "PUT" => failpoints.armed = Some((name.to_owned(), body.to_owned())),
            "DELETE" if !self.sticky => failpoints.armed = None,
            _ => {}
        }
        let listed = failpoints.armed.as_ref().map(|(name, action)| {
            let triggers = failpoints.triggers;
            format!(r#"{{"name":"{name}","action":"{action}","triggers":{triggers}}}"#)
        });
        let list = format!(r#"{{"failpoints":[{}]}}"#, listed.unwrap_or_default());
        ("200 OK", "application/json", list)
    }
}

fn problem(status: &'static str, code: &str) -> Answer {
    let body = format!(r#"{{"code":"{code}"}}"#);
    (status, "application/problem+json", body)
}

/// What the runner needs of `/debug/memory`; the limit is the one in force, the reaction bound is not stated.
fn debug_memory() -> String {
    let limit = limit().unwrap_or(0);
    format!(
        r#"{{"limit_bytes":{limit},"usage_bytes":0,"pressure_bytes":0,"foreign_bytes":0,"rss_bytes":0,"elevated_bytes":0,"critical_bytes":0}}"#
    )
}

/// Limit of the cgroup around us, by whichever version of them holds memory; none where there is none.
fn limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = |line: &str| line.rsplit(':').next().map(str::to_owned);
    if let Some(path) = own.lines().find(|l| l.contains(":memory:")).and_then(path) {
        let stat = fs::read_to_string(format!("/sys/fs/cgroup/memory{path}/memory.stat")).ok()?;
        let line = stat
            .lines()
            .find_map(|l| l.strip_prefix("hierarchical_memory_limit "))?;
        return line.trim().parse().ok();
    }
    let leaf = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let cell = Path::new(leaf).parent()?.display().to_string();
    let read = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup{cell}/{name}")).ok();
    ["memory.max", "memory.high"]
        .into_iter()
        .filter_map(read)
        .filter_map(|text| text.trim().parse().ok())
        .min()
}
