//! The stand-in as simulator: writes events and a report of a flawless load. With `--lose N` the report owns up to lost switches;
//! with `--starve-once` the run's first report says that half of the sends were late, with `--refuse` it ends before the load;
//! with `--kill-hogs` it kills every hog of its runner soon after its start, with `--stop-hogs` it keeps CPU hogs from running
//! for a second.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backdrop_chaos::units;
use backdrop_reports::load::{
    Interval, LOAD_SCHEMA_VERSION, LoadEvent, LoadReport, SendFigures, TruthVerdict,
};

use super::{flag, has};

/// Between two looks for hogs.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A hog of this age has begun.
const BEGUN: Duration = Duration::from_millis(300);
/// For how long a hog is stopped.
const STOPPED_FOR: Duration = Duration::from_secs(1);

static STOPPED: AtomicBool = AtomicBool::new(false);

#[expect(unsafe_code, reason = "std sets no signal handlers")]
pub fn run(args: &[String]) {
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
    if has(args, "--refuse") {
        eprintln!("error: period: give at least 10ms");
        std::process::exit(64);
    }
    event(&LoadEvent::Setup { sessions });
    let started = units::unix_ms_now();
    event(&LoadEvent::Phase {
        phase: "load".into(),
        unix_ms: started,
    });
    let mut report = flawless(sessions, seconds, rate);
    report.started_unix_ms = started;
    // As the script that starts us tells it beforehand.
    report.schedule_hash = format!("schedule-{}", flag(args, "--seed").unwrap_or_default());
    report.truth.lost = number("--lose");
    if has(args, "--starve-once") && is_first(flag(args, "--json").expect("--json")) {
        report.sends = SendFigures {
            planned: 10_000,
            sent: 10_000,
            late: 5_000,
            late_ratio: 0.5,
            ..SendFigures::default()
        };
    }
    let mut poacher = Poacher::new(has(args, "--kill-hogs"), has(args, "--stop-hogs"));
    for n in 1..=seconds {
        // The load's length is what it is asked for; nothing waits for it by guessing.
        poacher.wait(Duration::from_secs(1));
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

/// Whether no report of this run was asked for before: each trial has a folder of its own beside the others'.
fn is_first(report: &str) -> bool {
    let trials = Path::new(report).ancestors().nth(2).expect("a folder");
    fs::File::create_new(trials.join("first")).is_ok()
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

/// Gets in the way of hogs while it waits.
struct Poacher {
    kills: bool,
    stops: bool,
    /// When each hog was first seen, and whether its turn is over.
    seen: HashMap<i32, (Instant, bool)>,
    /// One that is stopped, and since when.
    held: Option<(i32, Instant)>,
}

impl Poacher {
    fn new(kills: bool, stops: bool) -> Self {
        Self {
            kills,
            stops,
            seen: HashMap::new(),
            held: None,
        }
    }

    fn wait(&mut self, time: Duration) {
        if !self.kills && !self.stops {
            std::thread::park_timeout(time);
            return;
        }
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::park_timeout(LOOK_EVERY);
            self.look();
        }
    }

    fn look(&mut self) {
        if let Some((pid, _)) = self
            .held
            .take_if(|(_, since)| since.elapsed() > STOPPED_FOR)
        {
            signal(pid, libc::SIGCONT);
        }
        for (pid, kind) in hogs() {
            let (since, over) = self.seen.entry(pid).or_insert((Instant::now(), false));
            if *over || since.elapsed() < BEGUN {
                continue;
            }
            *over = true;
            if self.kills {
                signal(pid, libc::SIGKILL);
            } else if kind == "cpu" {
                signal(pid, libc::SIGSTOP);
                self.held = Some((pid, Instant::now()));
            }
        }
    }
}

/// Hogs that our own runner started, with their kind.
fn hogs() -> Vec<(i32, String)> {
    let runner = std::os::unix::process::parent_id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        // Behind the name, which may hold anything: state, parent.
        let after = stat.rsplit(')').next().unwrap_or("");
        let parent = after.split_whitespace().nth(1);
        let words = read("cmdline");
        let mut words = words.split('\0').skip(1);
        if parent == Some(runner.as_str()) && words.next() == Some("hog") {
            found.push((pid, words.next().unwrap_or("").to_owned()));
        }
    }
    found
}

#[expect(unsafe_code, reason = "std sends no signals")]
fn signal(pid: i32, signal: libc::c_int) {
    // SAFETY: no pointers; the pid is that of a child of our runner, seen a moment ago.
    unsafe { libc::kill(pid, signal) };
}
