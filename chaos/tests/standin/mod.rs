//! A stand-in for service and simulator, by the name it is started under: just enough of both for the runner's own tests.
//!
//! As service it answers what the runner asks, and with `--eat` takes memory until something stops it, with `--crash`
//! aborts after a few scrapes. As simulator it writes
//! events and a report of a flawless load; with `--lose N` the report owns up to lost switches.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use backdrop_chaos::units;
use backdrop_reports::load::{Interval, LOAD_SCHEMA_VERSION, LoadEvent, LoadReport, TruthVerdict};

static CRASHES: AtomicBool = AtomicBool::new(false);
static SCRAPES: AtomicU32 = AtomicU32::new(0);
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Variable that carries the command line, one word a line.
const WORDS: &str = "BACKDROP_STANDIN";

/// Writes scripts under the names of all binaries into a folder. Each becomes this test binary, which runs the one ignored
/// test `test` that calls [`run`].
pub fn install(dir: &Path, test: &str) {
    let exe = std::env::current_exe().unwrap();
    let binaries = [
        ("service", ""),
        ("service-failpoints", "\"failpoints\""),
        ("service-controls", "\"chaos-controls\""),
        ("simulator", ""),
    ];
    for (name, features) in binaries {
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = version ] && echo '{{\"version\":\"0\",\"features\":[{features}]}}' && exit\n\
             {WORDS}=$(printf '%s\\n' {name} \"$@\")\nexport {WORDS}\nexec '{}' --exact {test} --ignored --nocapture\n",
            exe.display()
        );
        let path = dir.join(format!("backdrop-{name}"));
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Stands in for the binary whose command line the environment carries; nothing without one.
pub fn run() {
    let Ok(words) = std::env::var(WORDS) else {
        return;
    };
    let args: Vec<String> = words.lines().map(str::to_owned).collect();
    if args[0] == "simulator" {
        simulator(&args);
    } else {
        service(&args);
    }
}

fn flag<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    args.iter()
        .position(|a| a == name)
        .and_then(|i| args.get(i + 1))
        .map(String::as_str)
}

fn service(args: &[String]) {
    for name in ["--listen", "--admin"] {
        let listener = TcpListener::bind(flag(args, name).expect(name)).expect("the port is free");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(&stream));
            }
        });
    }
    fs::write(flag(args, "--ready-file").expect("--ready-file"), "{}")
        .expect("the folder is there");
    CRASHES.store(args.iter().any(|a| a == "--crash"), Ordering::Relaxed);
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        // Pages touched, so that they count.
        match args.iter().any(|a| a == "--eat") && eaten.len() < 64 {
            true => eaten.push(vec![eaten.len() as u8 + 1; 8 << 20]),
            false => std::thread::park(),
        }
    }
}

fn answer(mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length, mut line) = (String::new(), 0, String::new());
    let _ = reader.read_line(&mut first);
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let _ = reader.take(length).read_to_end(&mut Vec::new());
    let path = first.split(' ').nth(1).unwrap_or("");
    if path == "/metrics"
        && CRASHES.load(Ordering::Relaxed)
        && SCRAPES.fetch_add(1, Ordering::Relaxed) > 4
    {
        std::process::abort();
    }
    let memory;
    let (status, kind, body) = match path.split('?').next().unwrap_or("") {
        "/readyz" => ("200 OK", "text/plain", "ok"),
        "/metrics" => (
            "200 OK",
            "text/plain",
            "backdrop_sessions 5\nbackdrop_governor_state 0\n",
        ),
        "/v1/backgrounds" => (
            "200 OK",
            "application/json",
            r#"{"epoch":"1","backgrounds":[],"next":null}"#,
        ),
        "/debug/memory" => {
            memory = debug_memory();
            ("200 OK", "application/json", memory.as_str())
        }
        _ => (
            "404 Not Found",
            "application/problem+json",
            r#"{"code":"not_built_with_failpoints"}"#,
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n",
        body.len()
    );
    let _ = write!(stream, "{head}connection: close\r\n\r\n{body}");
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

#[expect(unsafe_code, reason = "std sets no signal handlers")]
fn simulator(args: &[String]) {
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe { libc::signal(libc::SIGINT, stopped as *const () as libc::sighandler_t) };
    let number = |name| {
        flag(args, name)
            .and_then(|v| v.trim_end_matches('s').parse().ok())
            .unwrap_or(0)
    };
    let (sessions, seconds): (u64, u64) = (number("--sessions"), number("--duration"));
    let rate = sessions / number("--period").max(1);
    let mut events =
        fs::File::create(flag(args, "--events").expect("--events")).expect("the folder is there");
    let mut event = |e: &LoadEvent| {
        let _ = writeln!(
            events,
            "{}",
            serde_json::to_string(e).expect("an event is plain")
        );
    };
    event(&LoadEvent::Setup { sessions });
    let started = units::unix_ms_now();
    event(&LoadEvent::Phase {
        phase: "load".into(),
        unix_ms: started,
    });
    let mut report = flawless(sessions, seconds, rate);
    report.started_unix_ms = started;
    report.truth.lost = number("--lose");
    for n in 1..=seconds {
        // The load's length is what it is asked for; nothing waits for it by guessing.
        std::thread::park_timeout(Duration::from_secs(1));
        if STOPPED.load(Ordering::Relaxed) {
            break;
        }
        let second = Interval {
            t_s: n as f64,
            switches_ok: rate,
            switch_p99_us: 1000,
            ..Interval::default()
        };
        event(&LoadEvent::Interval(second.clone()));
        report.intervals.push(second);
    }
    let json = serde_json::to_string(&report).expect("a report is plain");
    fs::write(flag(args, "--json").expect("--json"), json).expect("the folder is there");
}

extern "C" fn stopped(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

fn flawless(sessions: u64, seconds: u64, rate: u64) -> LoadReport {
    let mut report = LoadReport {
        schema_version: LOAD_SCHEMA_VERSION,
        duration_s: seconds as f64,
        ..LoadReport::default()
    };
    report.sessions.created = sessions;
    report.sessions.reached = sessions;
    report.switches.planned = rate * seconds;
    report.switches.ok = rate * seconds;
    report.switches.rate_per_s = rate as f64;
    report.truth.verdict = TruthVerdict::Clean;
    report.truth.sessions_read = sessions;
    report
}
