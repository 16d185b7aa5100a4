//! What a run tells beside its report, read as others read it: the latency log, the events, and the metrics meanwhile.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use backdrop_reports::load::{Interval, Latency, LoadEvent, LoadReport};
use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run;
use backdrop_simulator::shared::Stop;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use support::{Bug, Fake, plan};

fn entries(log: &str) -> Vec<LogEntry<'_>> {
    IntervalLogIterator::new(log.as_bytes())
        .map(|entry| entry.expect("a line of the format"))
        .collect()
}

/// The histograms of one tag, added up.
fn total(log: &str, tag: &str) -> Histogram<u64> {
    let mut total: Histogram<u64> = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
    for entry in entries(log) {
        let LogEntry::Interval(interval) = entry else {
            continue;
        };
        if interval.tag().is_some_and(|found| found.as_str() == tag) {
            let bytes = BASE64_STANDARD
                .decode(interval.encoded_histogram())
                .unwrap();
            let histogram: Histogram<u64> =
                Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            total.add(&histogram).unwrap();
        }
    }
    total
}

/// The latency log holds what the report says, and begins when it says.
fn log_agrees(log: &str, report: &LoadReport) {
    let starts: Vec<Duration> = entries(log)
        .iter()
        .filter_map(|entry| match entry {
            LogEntry::StartTime(at) => Some(*at),
            _ => None,
        })
        .collect();
    assert_eq!(starts, [Duration::from_millis(report.started_unix_ms)]);
    let of_tags: [(&str, &Latency); 2] = [
        ("switch", &report.switches.latency),
        ("preview", &report.previews.latency),
    ];
    for (tag, latency) in of_tags {
        let total = total(log, tag);
        assert!(latency.count > 0, "{tag}");
        assert_eq!(
            (total.len(), total.value_at_quantile(0.5), total.max()),
            (latency.count, latency.p50_us, latency.max_us),
            "{tag}"
        );
    }
}

/// Phases come in their order, seconds while the load runs, and both agree with the report.
fn events_agree(text: &str, report: &LoadReport) {
    let events: Vec<LoadEvent> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut phases: Vec<(&str, u64)> = Vec::new();
    let mut sessions_last = None;
    let mut intervals: Vec<Interval> = Vec::new();
    for event in &events {
        let during = phases.last().map(|(phase, _)| *phase);
        match event {
            LoadEvent::Phase { phase, unix_ms } => phases.push((phase.as_str(), *unix_ms)),
            LoadEvent::Setup { sessions } => {
                assert_eq!(during, Some("setup"));
                sessions_last = Some(*sessions);
            }
            LoadEvent::Interval(interval) => {
                // The last answers come after the last planned send.
                assert!(matches!(during, Some("load" | "drain")), "{during:?}");
                intervals.push(interval.clone());
            }
        }
    }
    let names: Vec<&str> = phases.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(
        names,
        ["setup", "warmup", "load", "drain", "readback", "done"]
    );
    assert_eq!(phases[2].1, report.started_unix_ms);
    assert_eq!(sessions_last, Some(report.sessions.created));
    assert!(!intervals.is_empty());
    assert_eq!(intervals, report.intervals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_log_and_events_agree_with_the_report() {
    let fake = Fake::start(Bug::None).await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (json, hlog, events) = (path("report.json"), path("load.hlog"), path("events.jsonl"));
    // Without a warm-up: of one that ends within a second, the log's first second holds the answers, and the report does not.
    let flags = [
        "--sessions",
        "300",
        "--previews-per-second",
        "60",
        "--duration",
        "2s",
        "--warmup",
        "0s",
        "--json",
        json.as_str(),
        "--hlog",
        hlog.as_str(),
        "--events",
        events.as_str(),
    ];
    let plan = plan(Scenario::Mixed, &fake, &flags);
    run::run(plan, Stop::default()).await.unwrap();
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let report: LoadReport = serde_json::from_str(&read(&json)).unwrap();
    log_agrees(&read(&hlog), &report);
    events_agree(&read(&events), &report);
}

/// A free port; nobody else on this machine is waiting for one just now.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn scrape(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.ends_with("# EOF\n").then_some(answer)
}

/// Value of one series.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prometheus_is_told_what_the_report_says_later() {
    const SWITCHES: &str =
        "backdrop_simulator_operations_total{operation=\"switch\",result=\"ok\"}";
    let fake = Fake::start(Bug::None).await;
    let address = free();
    let listen = address.to_string();
    let flags = [
        "--sessions",
        "300",
        "--previews-per-second",
        "60",
        "--duration",
        "3s",
        "--metrics-listen",
        listen.as_str(),
    ];
    let run = run::run(plan(Scenario::Mixed, &fake, &flags), Stop::default());
    tokio::pin!(run);
    let mut last = String::new();
    let outcome = loop {
        tokio::select! {
            outcome = &mut run => break outcome,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        // A thread of its own answers, whatever the run does.
        let text = tokio::task::spawn_blocking(move || scrape(address)).await;
        last = text.unwrap().unwrap_or(last);
    };
    let report = outcome.unwrap().report;
    let switches = value(&last, SWITCHES).expect("a series");
    assert!(switches > 0.0 && switches <= report.switches.ok as f64);
    let frames = "backdrop_simulator_truth_checked_total{what=\"frame\"}";
    assert_eq!(
        value(&last, "backdrop_simulator_sessions_planned"),
        Some(300.0)
    );
    assert!(value(&last, frames).expect("a series") > 0.0);
    assert!(scrape(address).is_none(), "it ended with the run");
}
