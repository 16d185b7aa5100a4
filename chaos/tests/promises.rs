//! What the main scenarios promise: a bound that is loosened, or an expectation that goes, is a change of the product, to be made here too.

use backdrop_chaos::scenario::library;

struct Promise {
    scenario: &'static str,
    expects: &'static [&'static str],
    controls: &'static [&'static str],
}

const PROMISES: &[Promise] = &[
    Promise {
        scenario: "million-switch",
        expects: &[
            "switch_rate_per_s >= 396000",
            "switch_p99_ms.calm <= 10",
            "switch_p99_ms.pressed <= 50",
            "service_peak_mib <= 320",
            "service_oom_kills == 0",
            "lost_switches == 0",
            "truth_violations == 0",
            "read_back_ratio >= 1",
            "sessions_reached >= 1200000",
            "switches_failed.calm == 0",
            "switches_shed.calm == 0",
            "switch_missed_ratio.pressed <= 0.001",
            "bytes_per_session <= 64",
            "frames_read >= 1000",
            "preview_whole_ratio.calm >= 0.99",
            "preview_whole_ratio.pressed >= 0.99",
            "preview_p99_ms.pressed <= 500",
        ],
        controls: &[],
    },
    Promise {
        scenario: "exclusive-control",
        expects: &[
            "service_oom_kills == 0",
            "creations_shed >= 20",
            "sessions_reached >= 1",
            "sessions_reached <= 1000",
        ],
        controls: &["protections-off: killed", "budget-off: killed"],
    },
    Promise {
        scenario: "overflow",
        expects: &[
            "service_oom_kills == 0",
            "pixels_over_limit >= 6",
            "evicted_capacities >= 10",
            "hit_ratio_gap_points <= 2",
            "degraded_or_shed_ratio <= 0.01",
            "preview_whole_ratio.steady >= 0.99",
            "switch_rate_ratio.steady >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["unbounded: killed", "eviction-order-off: deviated:lru"],
    },
    Promise {
        scenario: "memory-hog",
        expects: &[
            "service_oom_kills == 0",
            "memory_given_back_mib >= 100",
            "preview_whole_ratio.pressed >= 0.9",
            "recovery_s <= 12",
            "switch_rate_ratio >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["governor-off: killed"],
    },
    Promise {
        scenario: "decode-faults",
        expects: &[
            "service_oom_kills == 0",
            "errors_counted_ratio >= 0.9",
            "clean_errors_ratio >= 1",
            "preview_failed_ratio.faulty <= 0.4",
            "switches_failed == 0",
            "switch_rate_ratio.faulty >= 0.99",
            "recovery_s <= 6",
            "truth_violations == 0",
        ],
        controls: &["no-failpoints: inconclusive:fault-did-not-act"],
    },
    Promise {
        scenario: "service-killed",
        expects: &[
            "service_oom_kills == 0",
            "outage_s <= 10",
            "uploads_probed == 8",
            "uploads_missing == 0",
            "stale_ids_not_found == 1",
            "recovery_s <= 12",
            "sessions_recreated >= 300000",
            "truth_violations == 0",
        ],
        controls: &["volatile-uploads: deviated:uploads-kept"],
    },
    Promise {
        scenario: "ten-million",
        expects: &[
            "service_oom_kills == 0",
            "lost_switches == 0",
            "truth_violations == 0",
            "read_back_ratio >= 1",
            "sessions_reached >= 10000000",
            "switch_rate_per_s >= 3300000",
            "switches_failed == 0",
            "switches_shed == 0",
            "switch_p99_ms <= 50",
            "connections_max <= 256",
            "bytes_per_session <= 64",
        ],
        controls: &[],
    },
    Promise {
        scenario: "two-thousand",
        expects: &[
            "service_oom_kills == 0",
            "pixels_over_limit >= 15",
            "truth_violations == 0",
            "read_back_ratio >= 1",
            "switch_rate_per_s >= 396000",
            "switches_failed == 0",
            "switches_shed == 0",
            "degraded_or_shed_ratio <= 0.01",
            "preview_whole_ratio.steady >= 0.99",
            "lost_switches == 0",
            "sessions_reached >= 1200000",
        ],
        controls: &[],
    },
    Promise {
        scenario: "soak",
        expects: &[
            "kills_per_hour == 0",
            "service_oom_kills == 0",
            "truth_violations == 0",
            "read_back_ratio >= 1",
            "switch_rate_per_s >= 396000",
            "switches_failed.calm == 0",
            "switches_shed.calm == 0",
            "switch_missed_ratio.pressed <= 0.001",
            "service_peak_mib <= 320",
            "switch_p99_ms.pressed <= 50",
            "preview_whole_ratio.pressed >= 0.99",
            "preview_p99_ms.pressed <= 500",
            "lost_switches == 0",
            "sessions_reached >= 1200000",
            "switch_p99_ms.calm <= 10",
        ],
        controls: &[],
    },
];

#[test]
fn the_main_scenarios_demand_what_they_promise() {
    for promise in PROMISES {
        let scenario = library::find(promise.scenario).expect("it ships");
        let expects: Vec<String> = scenario
            .expects
            .iter()
            .map(|e| format!("{} {} {}", e.figure, e.relation.sign(), e.bound))
            .collect();
        assert_eq!(expects, promise.expects, "{}", promise.scenario);
        let controls: Vec<String> = scenario
            .controls
            .iter()
            .map(|c| format!("{}: {}", c.name, c.expected))
            .collect();
        assert_eq!(controls, promise.controls, "{}", promise.scenario);
    }
}

/// Nothing of the default suite goes unpromised.
#[test]
fn the_default_suite_is_promised_in_full() {
    let suite = library::suite("default").expect("it ships");
    for scenario in suite {
        assert!(
            PROMISES.iter().any(|p| p.scenario == scenario.name),
            "{}",
            scenario.name
        );
    }
}
