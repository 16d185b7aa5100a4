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
    Promise {
        scenario: "cold-herd",
        expects: &[
            "service_oom_kills == 0",
            "herds >= 10",
            "herd_loads_max == 1",
            "herd_shown_ratio >= 0.99",
            "herd_first_ms <= 150",
            "truth_violations == 0",
        ],
        controls: &[
            "four-keys: deviated:one-load",
            "single-flight-off: deviated:one-load",
        ],
    },
    Promise {
        scenario: "hot-update",
        expects: &[
            "service_oom_kills == 0",
            "updates >= 50",
            "frames_read >= 1000",
            "truth_violations == 0",
            "preview_whole_ratio >= 0.98",
            "switch_rate_ratio >= 0.99",
            "switches_failed == 0",
        ],
        controls: &["own-copies: deviated:truth"],
    },
    Promise {
        scenario: "scan",
        expects: &[
            "service_oom_kills == 0",
            "scan_passes >= 3",
            "evictions >= 300",
            "hit_ratio_gap_points <= 2",
            "preview_whole_ratio >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["unbounded: killed"],
    },
    Promise {
        scenario: "pinned-flood",
        expects: &[
            "service_oom_kills == 0",
            "pinned_share_max >= 0.95",
            "loads_refused >= 50",
            "preview_failed_ratio.flooded <= 0.05",
            "switches_failed == 0",
            "switch_rate_ratio.flooded >= 0.99",
            "recovery_s <= 6",
            "truth_violations == 0",
        ],
        controls: &["nothing-held: deviated:loads-refused", "unbounded: killed"],
    },
    Promise {
        scenario: "limit-shrink",
        expects: &[
            "service_oom_kills == 0",
            "limit_steps >= 4",
            "limit_missed_mib <= 0",
            "limit_adopted_max_s <= 1",
            "memory_given_back_mib >= 100",
            "preview_whole_ratio.lowered >= 0.9",
            "switch_rate_ratio >= 0.99",
            "recovery_s <= 12",
            "truth_violations == 0",
        ],
        controls: &["protections-off: deviated:limit-reached"],
    },
    Promise {
        scenario: "page-cache",
        expects: &[
            "service_oom_kills == 0",
            "usage_share_max >= 0.86",
            "governor_transitions == 0",
            "evictions == 0",
            "shed_by_service == 0",
            "preview_whole_ratio.cached >= 0.99",
            "switch_rate_ratio.cached >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["anonymous: deviated:stays-normal"],
    },
    Promise {
        scenario: "archive-disk-full",
        expects: &[
            "service_oom_kills == 0",
            "archive_hits >= 20",
            "archive_write_errors >= 5",
            "archive_errors_counted_ratio >= 0.9",
            "preview_whole_ratio.faulty >= 0.98",
            "switch_rate_ratio.faulty >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["room-enough: deviated:writes-fail"],
    },
    Promise {
        scenario: "archive-corrupt",
        expects: &[
            "service_oom_kills == 0",
            "archive_hits >= 20",
            "archive_damaged >= 10",
            "preview_whole_ratio.faulty >= 0.98",
            "switch_rate_ratio.faulty >= 0.99",
            "truth_violations == 0",
        ],
        controls: &["undamaged: deviated:damage-found"],
    },
    Promise {
        scenario: "burst",
        expects: &[
            "service_oom_kills == 0",
            "burst_over_bound >= 0.76",
            "memory_given_back_mib >= 150",
            "switch_rate_ratio >= 0.99",
            "recovery_s <= 12",
            "truth_violations == 0",
        ],
        controls: &["three-times: killed"],
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

/// Nothing of the suites on which users lean goes unpromised.
#[test]
fn the_suites_are_promised_in_full() {
    for suite in ["default", "flyweight"] {
        for scenario in library::suite(suite).expect("it ships") {
            assert!(
                PROMISES.iter().any(|p| p.scenario == scenario.name),
                "{}",
                scenario.name
            );
        }
    }
}
