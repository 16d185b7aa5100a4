//! Figures from fixtures: each from the right source, and none without a sample.

use std::time::Duration;

use backdrop_chaos::catalogue;
use backdrop_chaos::figures::{Figures, compute};
use backdrop_chaos::host::{HostSample, LeafStats, Peaks};
use backdrop_chaos::lru::{Access, Accesses, Kind};
use backdrop_chaos::metrics::Scrape;
use backdrop_chaos::observed::{Observed, Oracle, Plan, Probes, Uploads};
use backdrop_chaos::scenario::{Load, Recovery, Scenario, Steady, library};
use backdrop_chaos::steady::{SteadyState, before_faults};
use backdrop_chaos::{faults, record};
use backdrop_reports::load::{
    Interval, Latency, LoadReport, OperationFigures, TruthVerdict, WindowFigures,
};

const MIB: u64 = 1 << 20;
const START: u64 = 1_000_000;

fn scenario() -> Scenario {
    library::find("memory-hog").unwrap()
}

fn load() -> Load {
    Load {
        sessions: 3000,
        period: Duration::from_secs(3),
        ..scenario().load
    }
}

fn figures(seen: &Observed, recovery: Option<&Recovery>) -> Figures {
    let steady = Steady {
        from: Duration::ZERO,
        ..Steady::default()
    };
    compute(
        seen,
        Plan {
            load: &load(),
            steady: &steady,
            recovery,
        },
    )
}

fn value(figures: &Figures, name: &str) -> Option<f64> {
    let known = catalogue::find_windowed(name);
    assert!(known.is_some(), "{name} is in no catalogue");
    figures.get(name).map(|f| f.value)
}

fn second(t_s: f64, ok: u64, p99_ms: u64) -> Interval {
    Interval {
        t_s,
        switches_ok: ok,
        switch_p99_us: p99_ms * 1000,
        previews_ok: 10,
        ..Interval::default()
    }
}

fn row(t_s: i64, anon_mib: u64, cpu_s: f64) -> HostSample {
    let service = LeafStats {
        anon: anon_mib * MIB,
        kernel: MIB,
        sockets: MIB,
        ..LeafStats::default()
    };
    HostSample {
        t: Duration::ZERO,
        unix_ms: START.checked_add_signed(t_s * 1000).unwrap(),
        limit: 512 * MIB,
        usage: 0,
        service,
        hog: LeafStats::default(),
        service_held_max: service.held(),
        hog_usage_max: 0,
        service_cpu_s: Some(cpu_s),
    }
}

fn report() -> LoadReport {
    let latency = Latency {
        count: 100,
        p99_us: 4200,
        ..Latency::default()
    };
    let switches = OperationFigures {
        planned: 10_000,
        ok: 9_990,
        shed: 7,
        failed: 2,
        indeterminate: 1,
        errors: [("http_500", 1), ("unsent_timeout", 1), ("timeout", 1)]
            .map(|(name, n)| (name.to_owned(), n))
            .into(),
        rate_per_s: 999.0,
        latency,
        ..OperationFigures::default()
    };
    let previews = OperationFigures {
        planned: 200,
        ok: 150,
        degraded: 20,
        shed: 10,
        failed: 20,
        ..OperationFigures::default()
    };
    let mut report = LoadReport {
        started_unix_ms: START,
        duration_s: 10.0,
        ..LoadReport::default()
    };
    report.windows = vec![WindowFigures {
        name: "before".into(),
        switches: OperationFigures {
            rate_per_s: 1000.0,
            ..switches.clone()
        },
        ..WindowFigures::default()
    }];
    report.switches = switches;
    report.previews = previews;
    report.sessions.created = 3000;
    report.sessions.reached = 3000;
    // Of those refused, three were shed.
    report.sessions.refused = 5;
    report.sessions.shed = 3;
    report.truth.verdict = TruthVerdict::Clean;
    report.truth.sessions_read = 2990;
    report.truth.indeterminate = 10;
    report
}

#[test]
fn nothing_observed_is_no_figure() {
    assert!(figures(&Observed::default(), None).is_empty());
}

#[test]
fn kernel_figures_need_a_readable_oracle_and_samples() {
    let mut seen = Observed {
        started_unix_ms: START,
        rows: vec![row(0, 100, 1.0), row(5, 150, 2.0), row(10, 120, 3.0)],
        peaks: Peaks {
            samples: 1000,
            service_held: 200 * MIB,
            ..Peaks::default()
        },
        load: Some(report()),
        ..Observed::default()
    };
    assert_eq!(value(&figures(&seen, None), "service_oom_kills"), None);
    seen.oracle = Oracle {
        readable: true,
        service_kills: 2,
        ..Oracle::default()
    };
    let f = figures(&seen, None);
    assert_eq!(value(&f, "service_oom_kills"), Some(2.0));
    assert_eq!(value(&f, "kills_per_hour"), Some(720.0));
    assert_eq!(value(&f, "service_peak_mib"), Some(200.0));
    assert_eq!(f["service_peak_mib"].samples, 1000);
    assert_eq!(value(&f, "service_cores"), Some(0.2));
}

#[test]
fn load_figures_and_windows() {
    let f = figures(
        &Observed {
            load: Some(report()),
            ..Observed::default()
        },
        None,
    );
    assert_eq!(value(&f, "switch_p99_ms"), Some(4.2));
    assert_eq!(value(&f, "switch_rate_ratio"), Some(0.999));
    assert_eq!(value(&f, "switch_rate_per_s.before"), Some(1000.0));
    assert_eq!(value(&f, "preview_failed_ratio"), Some(0.1));
    assert_eq!(value(&f, "preview_whole_ratio"), Some(0.75));
    // Those whose last switch is indeterminate were read too, and count once.
    assert_eq!(value(&f, "read_back_ratio"), Some(2990.0 / 3000.0));
    assert_eq!(value(&f, "switches_failed"), Some(3.0));
    assert_eq!(f["switches_failed"].but_for_timeouts, Some(1.0));
    assert_eq!(value(&f, "switch_missed_ratio"), Some(0.001));
    assert_eq!(value(&f, "sessions_reached"), Some(3000.0));
    assert_eq!(value(&f, "entries_shed"), Some(10.0));
    assert_eq!(value(&f, "switch_p99_ms.after"), None);
}

#[test]
fn previews_short_of_whole_are_counted_in_steady_state_only() {
    let short = |t_s, degraded| Interval {
        t_s,
        previews_ok: 98,
        previews_degraded: degraded,
        ..Interval::default()
    };
    let seen = Observed {
        live: vec![short(1.0, 50), short(2.0, 2), short(3.0, 2)],
        ..Observed::default()
    };
    let steady = Steady {
        from: Duration::from_secs(1),
        ..Steady::default()
    };
    let f = compute(
        &seen,
        Plan {
            load: &load(),
            steady: &steady,
            recovery: None,
        },
    );
    assert_eq!(value(&f, "degraded_or_shed_ratio"), Some(0.02));
}

#[test]
fn service_figures_are_increases() {
    let scrape = |evictions, textures| Scrape {
        evictions: Some(evictions),
        textures: Some(textures),
        drift_bytes: Some(-2.0 * MIB as f64),
        governor_state: Some(1.0),
        ..Scrape::default()
    };
    let seen = Observed {
        scrapes: vec![scrape(0.0, 90.0), scrape(100.0, 40.0), scrape(400.0, 40.0)],
        ..Observed::default()
    };
    let f = figures(&seen, None);
    assert_eq!(value(&f, "evictions"), Some(400.0));
    assert_eq!(value(&f, "evicted_capacities"), Some(10.0));
    assert_eq!(value(&f, "ledger_drift_max_mib"), Some(2.0));
    assert_eq!(value(&f, "governor_worst_state"), Some(1.0));
    assert_eq!(
        value(&f, "load_errors"),
        None,
        "the service has no such metric"
    );
}

#[test]
fn a_gpu_that_never_drew_a_frame_has_no_figures() {
    let scrape = |frames: f64, losses: f64| Scrape {
        gpu_frames: Some(frames),
        gpu_losses: Some(losses),
        gpu_returns: Some(losses),
        ..Scrape::default()
    };
    let of = |scrapes: [Scrape; 2]| {
        let seen = Observed {
            scrapes: scrapes.into(),
            ..Observed::default()
        };
        let f = figures(&seen, None);
        ["gpu_frames", "gpu_losses", "gpu_returned_ratio"].map(|name| value(&f, name))
    };
    // The series are there from the start, with an adapter and without.
    assert_eq!(of([scrape(0.0, 0.0), scrape(0.0, 0.0)]), [None; 3]);
    let left_alone = of([scrape(0.0, 0.0), scrape(300.0, 0.0)]);
    assert_eq!(left_alone, [Some(300.0), Some(0.0), None]);
    let lost = of([scrape(10.0, 0.0), scrape(300.0, 4.0)]);
    assert_eq!(lost, [Some(290.0), Some(4.0), Some(1.0)]);
}

#[test]
fn probes_become_figures_only_when_they_were_made() {
    let access = |flyweight, kind| Access {
        flyweight,
        kind,
        resident: 1,
    };
    let accesses = Accesses {
        records: vec![
            access(1, Kind::Miss),
            access(1, Kind::Hit),
            access(1, Kind::Evicted),
            access(2, Kind::Miss),
        ],
        dropped: 0,
    };
    let probes = Probes {
        uploads: Some(Uploads {
            probed: 8,
            checked: 24,
            missing: 1,
        }),
        stale_ids: Some((32, 32)),
        errors: Some((0, 0)),
        accesses: Some(accesses),
        catalogue_pixel_bytes: Some(600),
        ..Probes::default()
    };
    let f = figures(
        &Observed {
            probes,
            limit_bytes: 100,
            ..Observed::default()
        },
        None,
    );
    assert_eq!(value(&f, "uploads_missing"), Some(1.0));
    assert_eq!(value(&f, "stale_ids_not_found"), Some(1.0));
    assert_eq!(
        value(&f, "clean_errors_ratio"),
        None,
        "no error was seen, so none was seen clean"
    );
    assert_eq!(value(&f, "hit_ratio_gap_points"), Some(0.0));
    assert_eq!(value(&f, "pixels_over_limit"), Some(6.0));
    assert_eq!(value(&f, "outage_s"), None);
}

#[test]
fn of_fewer_uploads_than_were_tried_nothing_is_concluded() {
    let probes = Probes {
        uploads: Some(Uploads {
            probed: 7,
            checked: 23,
            missing: 0,
        }),
        ..Probes::default()
    };
    let f = figures(
        &Observed {
            probes,
            ..Observed::default()
        },
        None,
    );
    assert_eq!(value(&f, "uploads_probed"), Some(7.0));
    assert_eq!(value(&f, "uploads_missing"), None);
}

#[test]
fn sockets_and_the_kernels_own_peak_need_a_kernel_that_counts_them() {
    let mut seen = Observed {
        rows: vec![row(0, 100, 1.0)],
        ..Observed::default()
    };
    let f = figures(&seen, None);
    assert_eq!(value(&f, "sockets_peak_mib"), None);
    assert_eq!(value(&f, "kernel_peak_mib"), None);
    (seen.sockets_counted, seen.kernel_peak_bytes) = (true, Some(120 * MIB));
    let f = figures(&seen, None);
    assert_eq!(value(&f, "sockets_peak_mib"), Some(1.0));
    assert_eq!(value(&f, "kernel_peak_mib"), Some(120.0));
}

fn faulted(after: &[(u64, u64)]) -> Observed {
    let mut fault = faults::planned(&scenario().faults[0]);
    (fault.from_s, fault.to_s) = (5.0, 10.0);
    let mut live: Vec<_> = (1..=5).map(|t| second(f64::from(t), 1000, 2)).collect();
    live.extend((6..=10).map(|t| second(f64::from(t), 100, 90)));
    live.extend(
        after
            .iter()
            .zip(11_u32..)
            .map(|((ok, p99), t)| second(f64::from(t), *ok, *p99)),
    );
    let scrapes = (1..30)
        .map(|t| Scrape {
            unix_ms: START + t * 1000,
            textures_bytes: Some(100.0),
            hits: Some(t as f64 * 10.0),
            misses: Some(0.0),
            ..Scrape::default()
        })
        .collect();
    Observed {
        started_unix_ms: START,
        live,
        scrapes,
        faults: vec![fault],
        ..Observed::default()
    }
}

fn bands() -> Recovery {
    Recovery {
        after: "hog".into(),
        rate_ratio: 0.9,
        p99_ms: 10.0,
        hit_ratio_points: Some(5.0),
        working_set_ratio: Some(0.8),
    }
}

#[test]
fn recovery_is_the_first_of_three_good_seconds() {
    let recovery =
        |after: &[(u64, u64)]| value(&figures(&faulted(after), Some(&bands())), "recovery_s");
    let good = (1000, 2);
    assert_eq!(recovery(&[good; 5]), Some(1.0));
    assert_eq!(
        recovery(&[(500, 2), (1000, 50), good, good, good]),
        Some(3.0)
    );
    assert_eq!(recovery(&[good, good, (0, 2), good, good, good]), Some(4.0));
    assert_eq!(
        recovery(&[good, good, (0, 2), good, good]),
        Some(3.0),
        "never three in a row: at least until the last bad one"
    );
    assert_eq!(recovery(&[(0, 2); 5]), Some(5.0), "all bad");
    assert_eq!(recovery(&[good, good]), None, "too few to say");
    let open =
        |after: &[(u64, u64)]| figures(&faulted(after), Some(&bands()))["recovery_s"].at_least;
    assert!(open(&[(0, 2); 5]) && !open(&[good; 5]));
    let sized = |bytes| {
        let mut seen = faulted(&[good; 5]);
        seen.scrapes
            .iter_mut()
            .filter(|s| s.unix_ms > START + 5000)
            .for_each(|s| s.textures_bytes = bytes);
        value(&figures(&seen, Some(&bands())), "recovery_s")
    };
    assert_eq!(sized(Some(50.0)), Some(5.0), "the working set stays small");
    assert_eq!(sized(None), None, "it was not seen");
    let mut idle = faulted(&[good; 5]);
    idle.scrapes
        .iter_mut()
        .filter(|s| s.unix_ms > START + 10_000)
        .for_each(|s| s.hits = Some(100.0));
    assert_eq!(
        value(&figures(&idle, Some(&bands())), "recovery_s"),
        None,
        "seconds in which nothing was accessed hit nothing"
    );
    assert_eq!(
        value(&figures(&faulted(&[good; 5]), None), "recovery_s"),
        None,
        "no bands, no recovery"
    );
}

#[test]
fn steady_state_is_judged_before_the_first_fault() {
    let steady = Steady {
        from: Duration::ZERO,
        rate_ratio: 0.95,
        p99_ms: Some(5.0),
    };
    let load = load();
    let judge = |seen: &Observed| {
        before_faults(
            seen,
            Plan {
                load: &load,
                steady: &steady,
                recovery: None,
            },
        )
    };
    let seen = faulted(&[]);
    assert_eq!(judge(&seen), SteadyState::Held);
    assert_eq!(
        judge(&Observed {
            faults: Vec::new(),
            ..seen.clone()
        }),
        SteadyState::NotNeeded
    );
    let changed = |change: fn(&mut Interval)| {
        let mut seen = seen.clone();
        seen.live.iter_mut().for_each(change);
        judge(&seen)
    };
    assert!(matches!(
        changed(|i| i.switches_ok = 900),
        SteadyState::NotHeld(_)
    ));
    assert!(matches!(
        changed(|i| i.switch_p99_us = 9000),
        SteadyState::NotHeld(_)
    ));
    assert!(matches!(
        changed(|i| i.previews_failed = 1),
        SteadyState::NotHeld(_)
    ));
    assert!(matches!(
        judge(&Observed {
            live: Vec::new(),
            ..seen.clone()
        }),
        SteadyState::NotHeld(_)
    ));
}

#[test]
fn a_timeline_holds_scrapes_for_a_while_and_keeps_maxima() {
    let mut rows: Vec<_> = (0..4000)
        .map(|i| HostSample {
            unix_ms: START + i * 10,
            ..row(0, 1, 0.0)
        })
        .collect();
    rows[1].service.anon = 77;
    rows[1].service.oom_kills = 1;
    let scrape = Scrape {
        unix_ms: START + 20,
        textures_bytes: Some(5.0),
        ..Scrape::default()
    };
    let seen = Observed {
        started_unix_ms: START,
        rows,
        scrapes: vec![scrape],
        ..Observed::default()
    };
    let timeline = record::timeline(&seen);
    assert_eq!(timeline.t_s.len(), 2000);
    assert!(timeline.series.values().all(|c| c.len() == 2000));
    assert_eq!(timeline.series["oom_kills"][0], Some(1.0));
    let textures = &timeline.series["textures_bytes"];
    assert_eq!(
        (textures[0], textures[1], textures[1999]),
        (None, Some(5.0), None)
    );
}
