//! A run record as a real run leaves it: two scenarios, faults, gaps in the samples, a control that was killed.

use std::collections::BTreeMap;

use backdrop_reports::load::{
    Interval, LOAD_SCHEMA_VERSION, Latency, LoadReport, OperationFigures, SendFigures,
    SessionFigures, TruthFigures, TruthVerdict, WindowFigures,
};
use backdrop_reports::record::{
    Better, Binary, Build, Control, Definition, Event, Evidence, Expectation, Fault, FigureFacts,
    Host, Met, Plan, RECORD_SCHEMA_VERSION, RunOptions, RunRecord, ScenarioRecord, ServiceProcess,
    SetAside, Timeline, Trial, Verdict,
};

const MIB: f64 = 1024.0 * 1024.0;
const LIMIT: f64 = 384.0 * MIB;
/// As long as one is on a host that groups its processes: nothing in it to break a line at.
const CGROUP: &str = "/sys/fs/cgroup/memory/agent_slice/d0d953d580f58e7c2c4185edc76e1e68aa41c3f0/backdrop-million-switch-4242";

/// A run in which everything held.
pub fn run() -> RunRecord {
    RunRecord {
        schema_version: RECORD_SCHEMA_VERSION,
        id: "20261122T193400Z-42".into(),
        started_at: "2026-11-22T19:34:00Z".into(),
        finished_at: "2026-11-22T19:40:12Z".into(),
        seed: 42,
        suite: "default".into(),
        replay: "just chaos run --suite default --seed 42".into(),
        verdict: Verdict::Held,
        exit: 0,
        reason: "2 of 2 scenarios held on evidence, and each control did what was expected of it."
            .into(),
        scenarios: vec![million_switch(), overflow()],
        host: Host {
            kernel: "6.8.0-45-generic".into(),
            cpu: "AMD EPYC 7B13".into(),
            cpus: 2,
            memory_bytes: 8_342_000_000,
            cgroup: "v1".into(),
            root: true,
            lacks: vec![
                "no GPU adapter: frames were rendered by the CPU, which changes no verdict".into(),
            ],
        },
        build: Build {
            version: "0.1.0".into(),
            commit: "0fa7a90c".into(),
            binaries: vec![
                binary("target/chaos/backdrop-service", &[]),
                binary(
                    "target/chaos/backdrop-service-controls",
                    &["chaos-controls"],
                ),
            ],
        },
        options: RunOptions::default(),
        replay_of: None,
        search: None,
        definitions: [definition("million-switch"), definition("overflow")].into(),
        figures: facts(&[
            ("service_oom_kills", "kills", Better::Lower, false),
            ("switch_p99_us", "us", Better::Lower, true),
            ("pressed_p99_us", "us", Better::Lower, true),
            ("switch_rate_per_s", "1/s", Better::Higher, true),
            ("peak_bytes", "bytes", Better::Lower, false),
            ("bytes_per_session", "B", Better::Lower, false),
            ("hit_ratio", "ratio", Better::Higher, false),
            ("recovery_s", "s", Better::Lower, true),
            ("hit_ratio_gap_points", "points", Better::Lower, false),
            ("capacities_evicted", "ratio", Better::Neither, false),
        ]),
    }
}

fn definition(name: &str) -> (String, Definition) {
    let definition = Definition {
        origin: format!("chaos/scenarios/{name}.toml"),
        text: format!("name = \"{name}\"\n"),
    };
    (name.into(), definition)
}

fn facts(all: &[(&str, &str, Better, bool)]) -> BTreeMap<String, FigureFacts> {
    let one = |(name, unit, better, timed): &(&str, &str, Better, bool)| {
        let facts = FigureFacts {
            unit: (*unit).into(),
            better: *better,
            timed: *timed,
        };
        ((*name).to_owned(), facts)
    };
    all.iter().map(one).collect()
}

fn plan(name: &str) -> Plan {
    Plan {
        hash: "c0ffee".repeat(10) + "0000",
        schedule_hash: "5be1a2d09c".into(),
        steps: vec![
            format!("scenario {name}"),
            "fault memory-hog memory_hog bytes=157286400 ramp_ms=8000 at_ms=30000 for_ms=28000"
                .into(),
        ],
    }
}

/// The same run with its second scenario deviated.
#[allow(dead_code, reason = "each test binary uses its own part")]
pub fn deviated() -> RunRecord {
    let mut run = run();
    let overflow = &mut run.scenarios[1];
    overflow.verdict = Verdict::Deviated;
    overflow.reason =
        "expectation hit_ratio_gap was not met: 3.4 points, at most 2 were allowed".into();
    overflow.expectations[0].met = Met::No;
    overflow.expectations[0].observed = Some(3.4);
    run.verdict = Verdict::Deviated;
    run.exit = 1;
    run.reason = "overflow deviated: expectation hit_ratio_gap was not met".into();
    run
}

fn binary(path: &str, features: &[&str]) -> Binary {
    let features = features.iter().map(|f| (*f).to_owned()).collect();
    Binary {
        path: path.into(),
        features,
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
    }
}

fn million_switch() -> ScenarioRecord {
    let trial = pressed_trial();
    ScenarioRecord {
        name: "million-switch".into(),
        repeat: 1,
        title: "1.2 million sessions switch every 3 s inside 384 MiB".into(),
        story: "The load of the article: every session has its own due time, 400,000 switches a second for 60 s. In the \
                second half a CPU hog and a memory hog press as well."
            .into(),
        verdict: Verdict::Held,
        reason: "5 of 5 expectations met; the service was not killed; the control was.".into(),
        replay: "just chaos run million-switch --seed 42".into(),
        set_aside: vec![SetAside {
            trial: "million-switch".into(),
            outcome: "inconclusive".into(),
            reason: "the simulator was starved: 3.0 % of its sends were late or dropped".into(),
            logs: vec!["logs/million-switch/service.log".into()],
        }],
        plan: plan("million-switch"),
        expectations: vec![
            expectation("service_oom_kills", "the kernel kills nothing", "==", 0.0, "", Some(0.0)),
            expectation("switch_p99_us", "switch p99, unpressed half", "<=", 10_000.0, "us", Some(1_460.0)),
            expectation("pressed_p99_us", "switch p99, pressed half", "<=", 60_000.0, "us", Some(18_240.0)),
            expectation("switch_rate_per_s", "the rate is reached", ">=", 396_000.0, "/s", Some(399_987.4)),
            expectation("peak_bytes", "peak of anon + kernel + sockets", "<=", 320.0 * MIB, "bytes", Some(213_278_720.0)),
        ],
        controls: vec![control()],
        evidence: evidence(&[(4242, "exited 0")]),
        figures: figures(&[
            ("service_oom_kills", 0.0),
            ("switch_p99_us", 1_460.0),
            ("pressed_p99_us", 18_240.0),
            ("switch_rate_per_s", 399_987.4),
            ("peak_bytes", 213_278_720.0),
            ("bytes_per_session", 56.2),
            ("hit_ratio", 0.9994),
            ("recovery_s", 1.2),
        ]),
        trial,
    }
}

fn overflow() -> ScenarioRecord {
    let mut trial = pressed_trial();
    trial.timeline.series.remove("hog_bytes");
    trial.faults.clear();
    trial.faults.push(Fault {
        name: "slow-loads".into(),
        kind: "failpoint".into(),
        requested: "store.load.delay 5%return(200)".into(),
        achieved_ratio: Some(0.98),
        from_s: 20.0,
        to_s: 40.0,
        began: true,
        acted: true,
        proof: "failpoint_triggers_total grew by 412".into(),
        undone: true,
    });
    ScenarioRecord {
        name: "overflow".into(),
        repeat: 1,
        title: "400 backgrounds, six times what fits".into(),
        story: "Previews force loads; LRU eviction must keep the hit ratio of an exact replay."
            .into(),
        verdict: Verdict::Held,
        reason: "2 of 2 expectations met.".into(),
        replay: "just chaos run overflow --seed 42".into(),
        set_aside: Vec::new(),
        plan: plan("overflow"),
        expectations: vec![
            expectation(
                "hit_ratio_gap_points",
                "hit ratio against an exact LRU replay",
                "<=",
                2.0,
                "points",
                Some(0.4),
            ),
            expectation(
                "capacities_evicted",
                "capacities evicted",
                ">=",
                10.0,
                "",
                Some(11.7),
            ),
        ],
        controls: Vec::new(),
        evidence: evidence(&[(5151, "exited 0")]),
        figures: figures(&[("hit_ratio_gap_points", 0.4), ("capacities_evicted", 11.7)]),
        trial,
    }
}

fn control() -> Control {
    let mut trial = Trial {
        started_unix_ms: 1_795_000_100_000,
        duration_s: 9.0,
        service_command: words(
            "backdrop-service-controls serve --sharing exclusive --unsafe-disable-budget",
        ),
        simulator_command: words(
            "backdrop-simulator switch-storm --sessions 1200000 --allow-partial-sessions",
        ),
        logs: vec!["million-switch/exclusive-control/service.log".into()],
        events: vec![event(
            4.6,
            "kernel",
            "the kernel killed the service (oom_kill 1, pid 4301)",
        )],
        ..Trial::default()
    };
    let times: Vec<f64> = (-20..60).map(|i| f64::from(i) * 0.1).collect();
    let anon = |t: f64| (t < 4.6).then(|| (60.0 + (t + 2.0) * 48.0).min(381.0) * MIB);
    trial.timeline = timeline(
        &times,
        &[("limit_bytes", &|_| Some(LIMIT)), ("anon_bytes", &anon)],
    );
    Control {
        name: "exclusive-control".into(),
        lent_by: None,
        story: "Each session owns its decoded texture; budget and governor off.".into(),
        protection: None,
        expected: "killed".into(),
        observed: "killed".into(),
        as_expected: true,
        reason: "oom_kill of the service's leaf rose by 1 after 6.6 s; 41 of 1,200,000 sessions were reached".into(),
        trial,
        evidence: Evidence { service_oom_kills: 1, ..evidence(&[(4301, "signal 9 by the kernel's OOM killer")]) },
        figures: figures(&[("sessions_reached", 41.0)]),
    }
}

fn pressed_trial() -> Trial {
    let times: Vec<f64> = (-50..610).map(|i| f64::from(i) * 0.1).collect();
    let pressed = |t: f64| (30.0..58.0).contains(&t);
    let noise = |t: f64| (t * 7.3).sin() * 1.6 + (t * 2.1).cos();
    // The allocator could not be read for two seconds: a gap, not zero.
    let anon = |t: f64| {
        let growth = ((t + 5.0) / 8.0).min(1.0) * 160.0;
        (!(12.0..14.0).contains(&t))
            .then(|| (24.0 + growth + noise(t) - if pressed(t) { 22.0 } else { 0.0 }) * MIB)
    };
    let hog = |t: f64| {
        Some(if pressed(t) {
            ((t - 30.0) * 18.0).min(150.0) * MIB
        } else {
            0.0
        })
    };
    let usage = |t: f64| anon(t).map(|a| a + 19.0 * MIB + hog(t).unwrap_or(0.0));
    let state = |t: f64| {
        Some(if pressed(t) && t > 38.0 {
            if t < 41.0 { 2.0 } else { 1.0 }
        } else {
            0.0
        })
    };
    let count = |per_s: f64| move |t: f64| Some(((t + 5.0) * per_s).round());
    let evictions = |t: f64| {
        Some(if t < 36.0 {
            0.0
        } else {
            ((t.min(44.0) - 36.0) * 6.0).floor()
        })
    };
    let timeline = timeline(
        &times,
        &[
            ("limit_bytes", &|_| Some(LIMIT)),
            ("elevated_bytes", &|_| Some(LIMIT * 0.85)),
            ("critical_bytes", &|_| Some(LIMIT * 0.95)),
            ("budget_ceiling_bytes", &|t| {
                Some(if pressed(t) && t > 38.0 { 210.0 } else { 280.0 } * MIB)
            }),
            ("anon_bytes", &anon),
            ("kernel_bytes", &|_| Some(11.0 * MIB)),
            ("sockets_bytes", &|_| None),
            ("usage_bytes", &usage),
            ("pressure_bytes", &usage),
            ("textures_bytes", &|t| {
                Some(if pressed(t) { 96.0 } else { 128.0 } * MIB)
            }),
            ("hog_bytes", &hog),
            ("governor_state", &state),
            ("service_cpu_s", &|t| Some(((t + 5.0) * 0.34).max(0.0))),
            ("evictions_total", &evictions),
            ("hits_total", &count(50.0)),
            ("misses_total", &count(0.4)),
            ("degraded_total", &count(0.0)),
            ("accesses_total", &count(50.5)),
            ("allocator_resident_bytes", &usage),
            ("budget_used_bytes", &|t| {
                Some(if pressed(t) { 170.0 } else { 200.0 } * MIB)
            }),
            ("shed_total", &count(0.0)),
        ],
    );
    Trial {
        started_unix_ms: 1_795_000_000_000,
        duration_s: 71.0,
        service_command: words("backdrop-service serve --memory-limit auto"),
        simulator_command: words(
            "backdrop-simulator switch-storm --sessions 1200000 --window unpressed=0s..30s",
        ),
        faults: vec![
            Fault {
                name: "memory-hog".into(),
                kind: "memory_hog".into(),
                requested: "150 MiB in a sibling leaf, ramp 8 s".into(),
                achieved_ratio: Some(1.0),
                from_s: 30.0,
                to_s: 58.0,
                began: true,
                acted: true,
                proof: format!("150 MiB of 150 MiB asked for (100 %), in {CGROUP}/hog"),
                undone: true,
            },
            Fault {
                name: "cpu-hog".into(),
                kind: "cpu_hog".into(),
                requested: "one core beside the service".into(),
                achieved_ratio: Some(0.97),
                from_s: 32.0,
                to_s: 58.0,
                began: true,
                acted: true,
                proof: "24.9 s of CPU time used".into(),
                undone: true,
            },
        ],
        timeline,
        load: Some(load(pressed)),
        aborted: None,
        events: vec![
            event(30.0, "fault", "memory-hog began"),
            event(38.1, "governor", "normal → critical at 366 MiB"),
            event(41.0, "governor", "critical → elevated at 338 MiB"),
            event(58.4, "undo", "every fault undone and checked"),
            event(
                59.0,
                "fault",
                &format!("memory-hog: 150 MiB of 150 MiB, in {CGROUP}/hog"),
            ),
        ],
        logs: vec![
            "million-switch/service.log".into(),
            "million-switch/simulator.json".into(),
        ],
    }
}

fn load(pressed: impl Fn(f64) -> bool) -> LoadReport {
    let interval = |s: u32| {
        let t_s = f64::from(s);
        let hard = pressed(t_s);
        let stalled = s == 39;
        let jitter = u64::from(s * 37 % 23);
        Interval {
            t_s,
            switches_ok: if stalled { 0 } else { 399_000 + jitter * 61 },
            switch_p50_us: if hard { 2_900 } else { 610 } + jitter,
            switch_p99_us: if hard { 14_000 } else { 1_390 } + jitter * 40,
            switch_max_us: if hard { 31_000 } else { 5_200 } + jitter * 210,
            previews_ok: 50,
            previews_degraded: u64::from(hard && s.is_multiple_of(9)),
            preview_p99_us: 41_000 + jitter * 500,
            ..Interval::default()
        }
    };
    LoadReport {
        schema_version: LOAD_SCHEMA_VERSION,
        scenario: "switch-storm".into(),
        seed: 42,
        schedule_hash: "5be1a2d09c".into(),
        started_unix_ms: 1_795_000_000_000,
        duration_s: 60.0,
        sessions: SessionFigures {
            requested: 1_200_000,
            created: 1_200_000,
            reached: 1_200_000,
            ..Default::default()
        },
        switches: operations(24_000_000, 4_100.0),
        previews: operations(3_000, 40_000.0),
        sends: SendFigures {
            planned: 24_000_000,
            sent: 24_000_000,
            late: 2_400,
            dropped: 0,
            unsent: 0,
            late_ratio: 0.0001,
        },
        truth: TruthFigures {
            verdict: TruthVerdict::Clean,
            sessions_read: 1_200_000,
            sessions_sampled: 52_000,
            frames_read: 2_998,
            ..TruthFigures::default()
        },
        windows: vec![
            WindowFigures {
                name: "unpressed".into(),
                to_s: 30.0,
                switches: operations(12_000_000, 700.0),
                ..Default::default()
            },
            WindowFigures {
                name: "pressed".into(),
                from_s: 30.0,
                to_s: 60.0,
                switches: operations(12_000_000, 3_900.0),
                ..Default::default()
            },
        ],
        intervals: (1..=60).map(interval).collect(),
        ..LoadReport::default()
    }
}

fn operations(count: u64, p50_us: f64) -> OperationFigures {
    let quantile = |step: i32| {
        let tail = 2f64.powi(step);
        (
            1.0 - 1.0 / tail,
            (p50_us * (1.0 + f64::from(step) * 0.35)) as u64,
        )
    };
    let steps = (count as f64).log2() as i32;
    let mut spectrum: Vec<(f64, u64)> = (0..steps).map(quantile).collect();
    let max_us = (p50_us * 11.0) as u64;
    spectrum.push((1.0, max_us));
    OperationFigures {
        planned: count,
        ok: count,
        rate_per_s: count as f64 / 60.0,
        latency: Latency {
            count,
            mean_us: p50_us * 1.1,
            p50_us: p50_us as u64,
            max_us,
            ..Latency::default()
        },
        spectrum,
        ..OperationFigures::default()
    }
}

type Sample<'a> = &'a dyn Fn(f64) -> Option<f64>;

fn timeline(times: &[f64], columns: &[(&str, Sample<'_>)]) -> Timeline {
    let column = |(name, value): &(&str, Sample<'_>)| {
        (
            (*name).to_owned(),
            times.iter().map(|t| value(*t)).collect(),
        )
    };
    Timeline {
        t_s: times.to_vec(),
        series: columns.iter().map(column).collect(),
    }
}

fn expectation(
    name: &str,
    text: &str,
    relation: &str,
    bound: f64,
    unit: &str,
    observed: Option<f64>,
) -> Expectation {
    Expectation {
        name: name.into(),
        text: text.into(),
        figure: name.into(),
        relation: relation.into(),
        bound,
        unit: unit.into(),
        observed,
        samples: 660,
        met: Met::Yes,
    }
}

fn evidence(processes: &[(u32, &str)]) -> Evidence {
    let process = |(pid, end): &(u32, &str)| ServiceProcess {
        pid: *pid,
        start_ticks: 918_273,
        end: (*end).into(),
    };
    Evidence {
        cgroup: "v1".into(),
        cgroup_path: CGROUP.into(),
        limit_bytes: LIMIT as u64,
        swap_off: true,
        swap: "memory.memsw.limit_in_bytes reads back 402653184, the limit itself".into(),
        service_processes: processes.iter().map(process).collect(),
        late_ratio: Some(0.0001),
        simulator_busy_max: Some(0.62),
        faults_acted: true,
        undone: true,
        cpu_placement: "simulator on CPU 0, service and hogs on CPU 1".into(),
        ..Evidence::default()
    }
}

fn event(t_s: f64, kind: &str, text: &str) -> Event {
    Event {
        t_s,
        kind: kind.into(),
        text: text.into(),
    }
}

fn figures(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}
