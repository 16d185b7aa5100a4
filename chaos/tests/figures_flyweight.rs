//! Figures of the scenarios on cache and governor, from fixtures: herds, scans, updates, limits, bursts, page cache, leases.

use std::time::Duration;

use backdrop_chaos::catalogue;
use backdrop_chaos::figures::{Figures, compute};
use backdrop_chaos::host::{HostSample, LeafStats};
use backdrop_chaos::metrics::Scrape;
use backdrop_chaos::observed::{
    BurstSeen, LimitSeen, LimitStep, Observed, OversizedSeen, Plan, Probes,
};
use backdrop_chaos::scenario::{Steady, library};
use backdrop_reports::load::{HerdFigures, Latency, LoadReport, ScanFigures};

const MIB: u64 = 1 << 20;

fn figures(seen: &Observed) -> Figures {
    let scenario = library::find("cold-herd").unwrap();
    let plan = Plan {
        load: &scenario.load,
        steady: &Steady::default(),
        recovery: None,
    };
    compute(seen, plan)
}

fn value(figures: &Figures, name: &str) -> Option<f64> {
    assert!(catalogue::find(name).is_some(), "{name} is in no catalogue");
    figures.get(name).map(|f| f.value)
}

fn row(t_s: u64) -> HostSample {
    HostSample {
        t: Duration::from_secs(t_s),
        unix_ms: 1000 * t_s,
        limit: 512 * MIB,
        usage: 0,
        service: LeafStats::default(),
        hog: LeafStats::default(),
        service_held_max: 0,
        hog_usage_max: 0,
        service_cpu_s: None,
    }
}

#[test]
fn herds_scans_and_updates_come_from_the_load_and_only_where_there_were_any() {
    let mut seen = Observed {
        load: Some(LoadReport::default()),
        ..Observed::default()
    };
    let none = figures(&seen);
    for name in ["herds", "herd_loads_max", "herd_first_ms", "scan_passes"] {
        assert_eq!(value(&none, name), None);
    }
    let report = seen.load.as_mut().unwrap();
    report.updates = 7;
    report.scan = Some(ScanFigures {
        frames: 400,
        passes: 2.5,
    });
    let latency = |p50_us| Latency {
        count: 3,
        p50_us,
        ..Latency::default()
    };
    report.herds = Some(HerdFigures {
        herds: 3,
        asked: 300,
        shown: 297,
        counted: 3,
        loads: 4,
        loads_max: 2,
        first: latency(20_000),
        last: latency(90_000),
        ..HerdFigures::default()
    });
    let all = figures(&seen);
    for (name, expected) in [
        ("updates", 7.0),
        ("scan_passes", 2.5),
        ("herds", 3.0),
        ("herd_shown_ratio", 0.99),
        ("herd_loads_max", 2.0),
        ("herd_first_ms", 20.0),
        ("herd_last_ms", 90.0),
    ] {
        assert_eq!(value(&all, name), Some(expected), "{name}");
    }
    // One herd that was not counted may be the one that loaded twice.
    seen.load.as_mut().unwrap().herds.as_mut().unwrap().counted = 2;
    assert_eq!(value(&figures(&seen), "herd_loads_max"), None);
}

#[test]
fn limit_burst_cache_and_leases_have_figures_of_their_own() {
    let scrape = |pinned, resident, degraded, shed| Scrape {
        pinned_bytes: Some(pinned),
        textures_bytes: Some(resident),
        degraded: Some(degraded),
        accesses_shed: Some(shed),
        ..Scrape::default()
    };
    let mut rows = vec![row(0), row(1)];
    rows[0].hog.active_file = 50 * MIB;
    rows[0].service.active_file = 2 * MIB;
    rows[0].usage = 256 * MIB;
    (rows[1].usage, rows[1].limit) = (200 * MIB, 250 * MIB);
    let step = |mib, adopted_s| LimitStep {
        limit: mib * MIB,
        adopted_s,
    };
    let seen = Observed {
        rows,
        scrapes: vec![
            scrape(0.0, 0.0, 0.0, 0.0),
            scrape(96.0 * MIB as f64, 120.0 * MIB as f64, 3.0, 1.0),
            scrape(50.0, 100.0, 5.0, 2.0),
        ],
        probes: Probes {
            limit: Some(LimitSeen {
                from: 512 * MIB,
                asked: 256 * MIB,
                reached: 260 * MIB,
                steps: vec![step(384, 0.1), step(260, 0.4)],
            }),
            burst: Some(BurstSeen {
                rate: 300.0 * MIB as f64,
                bound: Some(400.0 * MIB as f64),
            }),
            ..Probes::default()
        },
        ..Observed::default()
    };
    let all = figures(&seen);
    for (name, expected) in [
        ("page_cache_peak_mib", 52.0),
        ("usage_share_max", 0.8),
        ("limit_steps", 2.0),
        ("limit_missed_mib", 4.0),
        ("limit_adopted_max_s", 0.4),
        ("burst_rate_mib_s", 300.0),
        ("burst_over_bound", 0.75),
        ("pinned_share_max", 0.8),
        ("pinned_peak_mib", 96.0),
        ("loads_refused", 7.0),
    ] {
        assert_eq!(value(&all, name), Some(expected), "{name}");
    }
    let none = figures(&Observed::default());
    for name in [
        "limit_adopted_max_s",
        "burst_over_bound",
        "pinned_share_max",
    ] {
        assert_eq!(value(&none, name), None, "{name}");
    }
}

#[test]
fn failed_writes_of_the_archive_are_compared_with_those_made_to_fail() {
    let scrape = |errors, injected, hits, damaged| Scrape {
        archive_write_errors: Some(errors),
        archive_failures_injected: injected,
        archive_hits: Some(hits),
        archive_damaged: Some(damaged),
        ..Scrape::default()
    };
    let mut seen = Observed {
        scrapes: vec![
            scrape(0.0, Some(0.0), 5.0, 0.0),
            scrape(9.0, Some(10.0), 25.0, 3.0),
        ],
        ..Observed::default()
    };
    let all = figures(&seen);
    for (name, expected) in [
        ("archive_errors_counted_ratio", 0.9),
        ("archive_write_errors", 9.0),
        ("archive_hits", 20.0),
        ("archive_damaged", 3.0),
    ] {
        assert_eq!(value(&all, name), Some(expected), "{name}");
    }
    // Where nothing was made to fail there is nothing to compare with.
    seen.scrapes[1].archive_failures_injected = Some(0.0);
    assert_eq!(value(&figures(&seen), "archive_errors_counted_ratio"), None);
}

#[test]
fn what_mutants_are_caught_by_has_figures() {
    let scrape = |unix_ms, transitions, overtaken| Scrape {
        unix_ms,
        governor_transitions: Some(transitions),
        loads_overtaken: Some(overtaken),
        ..Scrape::default()
    };
    let mut seen = Observed {
        scrapes: vec![scrape(5_000, 2.0, 1.0), scrape(20_000, 12.0, 8.0)],
        ..Observed::default()
    };
    seen.probes.oversized = Some(OversizedSeen {
        offered: 6,
        answered: 4,
        refused: 3,
    });
    let all = figures(&seen);
    for (name, expected) in [
        ("governor_transitions_per_min", 40.0),
        ("loads_overtaken", 7.0),
        ("oversized_refused_ratio", 0.75),
    ] {
        assert_eq!(value(&all, name), Some(expected), "{name}");
    }
    // One scrape spans no time, and uploads that nobody answered say nothing of a limit.
    seen.scrapes.truncate(1);
    seen.probes.oversized = Some(OversizedSeen {
        offered: 6,
        ..OversizedSeen::default()
    });
    let none = figures(&seen);
    for name in ["governor_transitions_per_min", "oversized_refused_ratio"] {
        assert_eq!(value(&none, name), None, "{name}");
    }
}
