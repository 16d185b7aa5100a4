//! The end of a run: its [`LoadReport`] and the table that people read.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use backdrop_reports::load::{
    GooseFigures, HerdFigures, HttpFigures, LOAD_SCHEMA_VERSION, Latency, LoadReport,
    OperationFigures, ProcessFigures, ScanFigures, SendFigures, SessionFigures, TruthVerdict,
    WindowFigures,
};
use serde::Serialize;

use crate::churn::ChurnFigures;
use crate::host;
use crate::monitor::Monitored;
use crate::penetration::PenetrationFigures;
use crate::progress::{grouped, micros as words};
use crate::record::{Operation, Total, latency_of};
use crate::shared::{Clock, Shared, StopReason, micros};
use crate::tape::TapeFigures;

/// Share of stolen CPU time from which it is named as the cause of late sends.
const STEAL_NAMED_MIN: f64 = 0.01;

/// What the load phase left beside the shared state.
#[derive(Debug, Default)]
pub struct Load {
    /// Goose's view.
    pub goose: GooseFigures,
    /// The monitor's.
    pub monitored: Monitored,
    /// Idle CPUs were kept from sleeping.
    pub cpus_awake: bool,
    /// HTTP requests and connections of the measured load.
    pub requests: u64,
    /// Connections opened, and the most open at one time.
    pub connections: (u64, u64),
    /// Hash of the schedule.
    pub schedule_hash: u64,
}

/// What this program tells beside the [`LoadReport`] that all of them know.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Beside {
    /// Sessions that left and joined; none where the scenario has no churn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<ChurnFigures>,
    /// Requests for what is not there; none where the scenario has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penetration: Option<PenetrationFigures>,
    /// What was recorded; none without `--record`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<TapeFigures>,
}

/// Both, as one object of JSON.
#[derive(Debug, Serialize)]
pub struct Whole<'a> {
    #[serde(flatten)]
    report: &'a LoadReport,
    #[serde(flatten)]
    beside: &'a Beside,
}

impl<'a> Whole<'a> {
    /// Of these.
    pub fn of(report: &'a LoadReport, beside: &'a Beside) -> Self {
        Whole { report, beside }
    }
}

/// Puts the report together.
pub fn build(shared: &Shared, load: Load) -> LoadReport {
    let plan = &shared.plan;
    let clock = shared.gate.clock();
    let mut report = LoadReport {
        schema_version: LOAD_SCHEMA_VERSION,
        scenario: plan.scenario.name().to_owned(),
        seed: plan.args.seed,
        schedule_hash: format!("{:016x}", load.schedule_hash),
        started_unix_ms: clock.map_or(0, |clock| clock.origin_unix_ms + clock.load_us / 1000),
        sessions: SessionFigures {
            requested: plan.sessions,
            created: shared.census.created.load(Ordering::Relaxed),
            refused: shared.census.refused.load(Ordering::Relaxed),
            shed: shared.census.shed.load(Ordering::Relaxed),
            recreated: shared.census.recreated.load(Ordering::Relaxed),
            reached: shared.census.reached(),
        },
        goose: load.goose,
        truth: shared.truth.lock().conclude(),
        simulator: process(shared, &load.monitored, load.cpus_awake),
        ended_early: shared.stop.reason().map(|reason| match reason {
            StopReason::Interrupted => "interrupted".to_owned(),
            StopReason::ServiceGone => format!(
                "the service at {} was away for longer than {:?}",
                shared.target.url(),
                plan.args.reconnect_for
            ),
        }),
        ..LoadReport::default()
    };
    report.updates = shared.updates.load(Ordering::Relaxed);
    report.herds = plan.herding.map(|_| shared.herds.lock().figures());
    report.scan = plan.scanning.map(|_| scan(shared));
    if let Some(clock) = clock {
        measured(shared, &clock, &load.monitored, &mut report);
        report.http.requests = load.requests;
        report.http.requests_per_s =
            load.requests as f64 / (report.duration_s + plan.warmup.as_secs_f64()).max(1e-3);
    }
    (report.http.connections_opened, report.http.connections_max) = load.connections;
    report.intervals = load.monitored.intervals;
    report
}

fn scan(shared: &Shared) -> ScanFigures {
    let frames = shared.scanned.load(Ordering::Relaxed);
    ScanFigures {
        frames,
        passes: frames as f64 / shared.gallery.len().max(1) as f64,
    }
}

fn measured(shared: &Shared, clock: &Clock, monitored: &Monitored, report: &mut LoadReport) {
    // A load that was ended early is as long as it was.
    let end_us = match shared.stop.reason() {
        Some(_) => (clock.load_us + micros(monitored.wall)).min(clock.end_us),
        None => clock.end_us,
    };
    report.duration_s = end_us.saturating_sub(clock.load_us) as f64 / 1e6;
    shared.collector.with_finished(|finished| {
        report.switches = finished.figures(Operation::Switch, clock.load_us, clock.end_us);
        report.previews = finished.figures(Operation::Preview, clock.load_us, clock.end_us);
        for figures in [&mut report.switches, &mut report.previews] {
            figures.rate_per_s =
                (figures.ok + figures.degraded) as f64 / report.duration_s.max(1e-3);
        }
        report.wake_lateness = latency_of(&finished.wake);
        report.sends = finished.sends.clone();
        report.preview_sends = finished.preview_sends.clone();
        report.http = HttpFigures {
            batch_entries_p50: median(&finished.batches),
            batch_entries_max: if finished.batches.is_empty() {
                0
            } else {
                finished.batches.max()
            },
            ..HttpFigures::default()
        };
        report.windows = shared
            .plan
            .args
            .windows
            .iter()
            .map(|window| {
                let (from, to) = (
                    clock.load_us + micros(window.from),
                    clock.load_us + micros(window.to),
                );
                WindowFigures {
                    name: window.name.clone(),
                    from_s: window.from.as_secs_f64(),
                    to_s: window.to.as_secs_f64(),
                    switches: finished.figures(Operation::Switch, from, to),
                    previews: finished.figures(Operation::Preview, from, to),
                }
            })
            .collect();
    });
    report.starved = report.paced_sends().too_late();
}

fn median(histogram: &Total) -> u64 {
    if histogram.is_empty() {
        0
    } else {
        histogram.value_at_quantile(0.5)
    }
}

fn process(shared: &Shared, monitored: &Monitored, cpus_awake: bool) -> ProcessFigures {
    let cohorts = shared.cohorts.iter();
    let bytes: usize = cohorts.map(|cohort| cohort.lock().bytes()).sum();
    let wall = monitored.wall.as_secs_f64();
    ProcessFigures {
        cpu_s: monitored.cpu.as_secs_f64(),
        cores_mean: if wall > 0.0 {
            monitored.cpu.as_secs_f64() / wall
        } else {
            0.0
        },
        busy_max: monitored.busy_max,
        rss_peak_bytes: host::rss_peak_bytes(),
        bytes_per_session: bytes as f64 / shared.plan.sessions as f64,
        host_steal_ratio: monitored.steal,
        cpus_awake,
    }
}

/// Exit code of a report: 0 clean, 1 violated, 2 inconclusive; 69 and 130 for a load that was ended early.
pub fn exit_code(report: &LoadReport, stop: Option<StopReason>) -> u8 {
    match (stop, report.truth.verdict) {
        (Some(StopReason::Interrupted), _) => 130,
        (Some(StopReason::ServiceGone), _) => 69,
        (None, TruthVerdict::Violated) => 1,
        (None, TruthVerdict::Inconclusive) => 2,
        (None, TruthVerdict::Clean) if report.starved => 2,
        (None, TruthVerdict::Clean) => 0,
    }
}

/// The table at the end of a run.
pub fn table(report: &LoadReport, beside: &Beside) -> String {
    let mut out = String::new();
    row(
        &mut out,
        "scenario",
        &format!(
            "{}, seed {}, schedule {}",
            report.scenario, report.seed, report.schedule_hash
        ),
    );
    row(&mut out, "load", &format!("{:.1} s", report.duration_s));
    row(&mut out, "sessions", &sessions(&report.sessions));
    operation(&mut out, "switches", &report.switches);
    operation(&mut out, "previews", &report.previews);
    for window in &report.windows {
        row(
            &mut out,
            &format!("window {}", window.name),
            &format!("{:.1} to {:.1} s", window.from_s, window.to_s),
        );
        operation(&mut out, "  switches", &window.switches);
        operation(&mut out, "  previews", &window.previews);
    }
    if let Some(herds) = &report.herds {
        herd(&mut out, herds);
    }
    if let Some(scan) = &report.scan {
        let text = format!(
            "{:.1} over all backgrounds, {} frames answered",
            scan.passes,
            grouped(scan.frames)
        );
        row(&mut out, "passes", &text);
    }
    if report.updates > 0 {
        let text = format!("{} acknowledged", grouped(report.updates));
        row(&mut out, "updates", &text);
    }
    told_beside(&mut out, beside);
    row(&mut out, "http", &http(&report.http));
    if report.goose.requests > 0 {
        let goose = &report.goose;
        let text = format!(
            "{} requests, {} failed, p50 {:.2} ms, p99 {:.2} ms from the send",
            grouped(goose.requests),
            grouped(goose.failures),
            goose.p50_ms,
            goose.p99_ms
        );
        row(&mut out, "goose", &text);
    }
    row(&mut out, "simulator", &simulator(report));
    for (name, figures) in [
        ("  switch sends", &report.sends),
        ("  preview sends", &report.preview_sends),
    ] {
        if figures.planned > 0 {
            row(&mut out, name, &sends(figures));
        }
    }
    if report.starved {
        row(&mut out, "  STARVED", &starvation(report));
    }
    truth(&mut out, report);
    out
}

fn row(out: &mut String, name: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{name:<18} {text}");
}

fn sessions(figures: &SessionFigures) -> String {
    let mut text = format!(
        "{} of {} created",
        grouped(figures.created),
        grouped(figures.requested)
    );
    if figures.refused > 0 {
        let (refused, shed) = (grouped(figures.refused), grouped(figures.shed));
        let _ = write!(text, ", {refused} refused ({shed} of them shed)");
    }
    if figures.recreated > 0 {
        let _ = write!(text, ", {} made anew", grouped(figures.recreated));
    }
    if figures.reached < figures.requested {
        let _ = write!(text, ", {} reached", grouped(figures.reached));
    }
    text
}

fn operation(out: &mut String, name: &str, figures: &OperationFigures) {
    if figures.planned == 0 {
        return;
    }
    let mut text = format!(
        "{}/s, {} of {} acknowledged",
        grouped(figures.rate_per_s.round() as u64),
        grouped(figures.ok),
        grouped(figures.planned)
    );
    let others = [
        (figures.degraded, "degraded"),
        (figures.shed, "shed"),
        (figures.failed, "failed"),
        (figures.indeterminate, "indeterminate"),
    ];
    for (count, what) in others {
        if count > 0 {
            let _ = write!(text, ", {} {what}", grouped(count));
        }
    }
    row(out, name, &text);
    row(out, "  latency", &latency(&figures.latency));
    row(out, "  service time", &latency(&figures.service_time));
    errors(out, figures.errors.iter());
}

fn herd(out: &mut String, herds: &HerdFigures) {
    let mut text = format!(
        "{} with {} frames, {} of them shown",
        grouped(herds.herds),
        grouped(herds.asked),
        grouped(herds.shown)
    );
    if herds.skipped > 0 {
        let _ = write!(text, ", {} left out", grouped(herds.skipped));
    }
    row(out, "herds", &text);
    let loads = match herds.counted {
        0 => "not counted: --admin names the listener that does".to_owned(),
        counted => format!(
            "{:.2} a herd by the service's count, {} at most",
            herds.loads as f64 / counted as f64,
            herds.loads_max
        ),
    };
    row(out, "  texture loads", &loads);
    row(out, "  first frame", &latency(&herds.first));
    row(out, "  last frame", &latency(&herds.last));
}

fn told_beside(out: &mut String, beside: &Beside) {
    if let Some(churn) = &beside.churn {
        let text = format!(
            "{} of {} left, {} joined, {} refused, {} unanswered, {} left out",
            grouped(churn.left),
            grouped(churn.planned),
            grouped(churn.joined),
            grouped(churn.refused),
            grouped(churn.failed),
            grouped(churn.left_out)
        );
        row(out, "churn", &text);
        row(out, "  to leave", &latency(&churn.leave));
        row(out, "  to join", &latency(&churn.join));
    }
    if let Some(absent) = &beside.penetration {
        let mut text = format!(
            "{} of {} answered by a clean 404",
            grouped(absent.clean),
            grouped(absent.asked)
        );
        if absent.shed > 0 {
            let _ = write!(text, ", {} shed", grouped(absent.shed));
        }
        row(out, "not there", &text);
        row(out, "  latency", &latency(&absent.latency));
        errors(out, absent.errors.iter());
    }
    if let Some(recording) = &beside.recording {
        let text = format!(
            "{} switches, {} left out",
            grouped(recording.switches),
            grouped(recording.left_out)
        );
        row(out, "recorded", &text);
        if let Some(why) = &recording.failure {
            row(out, "  not to its end", why);
        }
    }
}

fn errors<'a>(out: &mut String, errors: impl Iterator<Item = (impl std::fmt::Display, &'a u64)>) {
    let words: Vec<String> = errors
        .map(|(name, n)| format!("{name} {}", grouped(*n)))
        .collect();
    if !words.is_empty() {
        row(out, "  errors", &words.join(", "));
    }
}

fn latency(latency: &Latency) -> String {
    if latency.count == 0 {
        return "no samples".to_owned();
    }
    format!(
        "p50 {:>9}  p90 {:>9}  p99 {:>9}  p99.9 {:>9}  max {:>9}",
        words(latency.p50_us),
        words(latency.p90_us),
        words(latency.p99_us),
        words(latency.p999_us),
        words(latency.max_us)
    )
}

fn http(figures: &HttpFigures) -> String {
    format!(
        "{:.0} requests/s, batches of {} (median) to {} entries, {} connections at most, {} opened",
        figures.requests_per_s,
        grouped(figures.batch_entries_p50),
        grouped(figures.batch_entries_max),
        figures.connections_max,
        figures.connections_opened
    )
}

fn simulator(report: &LoadReport) -> String {
    let process = &report.simulator;
    let mut text = format!(
        "{:.2} cores, {:.0} MiB, of them {:.1} bytes a session, woke late by p99 {}",
        process.cores_mean,
        process.rss_peak_bytes as f64 / f64::from(1 << 20),
        process.bytes_per_session,
        words(report.wake_lateness.p99_us),
    );
    if let Some(ratio) = process.host_steal_ratio {
        let _ = write!(
            text,
            ", the hypervisor took {:.1} % of its CPUs",
            ratio * 100.0
        );
    }
    text.push_str(match process.cpus_awake {
        true => ", CPUs were kept awake",
        false => ", CPUs could sleep",
    });
    text
}

fn sends(figures: &SendFigures) -> String {
    format!(
        "{} planned, {} late, {} dropped by the simulator, {} held up by the service and never sent",
        grouped(figures.planned),
        grouped(figures.late),
        grouped(figures.dropped),
        grouped(figures.unsent),
    )
}

fn starvation(report: &LoadReport) -> String {
    let stolen = report
        .simulator
        .host_steal_ratio
        .filter(|ratio| *ratio > STEAL_NAMED_MIN);
    let cause = match stolen {
        Some(ratio) => format!(
            ": the hypervisor gave {:.1} % of its CPUs' time to others",
            ratio * 100.0
        ),
        None => String::new(),
    };
    format!(
        "{:.1} % of its sends came too late, {:.0} % may, so its figures say nothing{cause}; take a quieter host, fewer sessions or a longer period",
        report.paced_sends().judged_late_ratio() * 100.0,
        SendFigures::LATE_RATIO_MAX * 100.0
    )
}

fn truth(out: &mut String, report: &LoadReport) {
    let truth = &report.truth;
    let verdict = match truth.verdict {
        TruthVerdict::Clean => "clean",
        TruthVerdict::Violated => "VIOLATED",
        TruthVerdict::Inconclusive => "inconclusive",
    };
    let text = format!(
        "{verdict}: {} sessions read back ({} indeterminate), {} sampled; {} frames read, {} unreadable, {} skipped",
        grouped(truth.sessions_read),
        grouped(truth.indeterminate),
        grouped(truth.sessions_sampled),
        grouped(truth.frames_read),
        grouped(truth.frames_unreadable),
        grouped(truth.frames_skipped)
    );
    row(out, "truth", &text);
    let text = match truth.switches_counted {
        Some(count) => format!(
            "{} acknowledged switches compared with the sessions' counters",
            grouped(count)
        ),
        None => "not compared with the acknowledged switches".to_owned(),
    };
    row(out, "  counters", &text);
    if truth.verdict == TruthVerdict::Violated {
        let text = format!(
            "{} lost, {} stale, {} wrong, {} torn",
            truth.lost, truth.stale, truth.wrong, truth.torn
        );
        row(out, "  violations", &text);
    }
    for line in &truth.history {
        row(out, "", line);
    }
    if let Some(why) = &report.ended_early {
        row(out, "ended early", why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_truth_starvation_and_the_way_it_ended() {
        let mut report = LoadReport::default();
        assert_eq!(exit_code(&report, None), 2);
        report.truth.verdict = TruthVerdict::Clean;
        assert_eq!(exit_code(&report, None), 0);
        assert_eq!(exit_code(&report, Some(StopReason::Interrupted)), 130);
        assert_eq!(exit_code(&report, Some(StopReason::ServiceGone)), 69);
        report.starved = true;
        assert_eq!(exit_code(&report, None), 2);
        report.truth.verdict = TruthVerdict::Violated;
        assert_eq!(exit_code(&report, None), 1);
    }

    #[test]
    fn previews_say_whether_the_simulator_starved_where_nothing_switches() {
        let mut report = LoadReport::default();
        report.preview_sends.planned = 2_000;
        report.preview_sends.late_ratio = 0.5;
        assert!(report.paced_sends().too_late());
        report.sends.planned = 2_000;
        assert!(!report.paced_sends().too_late());
    }

    #[test]
    fn a_starved_run_names_stolen_time_as_its_cause() {
        let mut report = LoadReport {
            starved: true,
            ..LoadReport::default()
        };
        report.simulator.host_steal_ratio = Some(0.004);
        assert!(!table(&report, &Beside::default()).contains("to others"));
        report.simulator.host_steal_ratio = Some(0.25);
        let text = table(&report, &Beside::default());
        for word in [
            "took 25.0 % of its CPUs",
            "gave 25.0 % of its CPUs' time to others",
        ] {
            assert!(text.contains(word), "{word} not in\n{text}");
        }
    }

    #[test]
    fn the_table_names_rate_latency_and_verdict() {
        let mut report = LoadReport::default();
        report.switches.planned = 10;
        report.switches.ok = 9;
        report.switches.rate_per_s = 1234.6;
        report.switches.errors.insert("timeout".to_owned(), 1);
        report.truth.verdict = TruthVerdict::Violated;
        report.truth.lost = 1;
        let text = table(&report, &Beside::default());
        for word in ["1,235/s", "timeout 1", "VIOLATED", "1 lost"] {
            assert!(text.contains(word), "{word} not in\n{text}");
        }
    }
}
