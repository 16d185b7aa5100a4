//! The exposition of metrics against its golden copy: names, types and label sets, without values.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backdrop-service --test exposition` writes it anew.

#[path = "../../reports/tests/support/exposition.rs"]
mod exposition;
mod support;

use support::*;

/// Series whose labels hold what varies from build to build.
const VARYING: [(&str, &str); 1] = [(
    "backdrop_build_info",
    "backdrop_build_info{version,features}",
)];

#[test]
fn the_exposition_is_the_golden_one() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let answer = service.admin().get("/metrics").ok();
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = answer.text();
    // Only some builds have them.
    let always = |line: &&str| !line.contains("backdrop_failpoint");
    let text: Vec<&str> = text.lines().filter(always).collect();
    let golden = crate_dir().join("tests/golden/metrics.txt");
    exposition::is_golden(&(text.join("\n") + "\n"), &golden, &VARYING);
}

/// Series that one service may cost a Prometheus.
const SERIES_MAX: usize = 500;

#[test]
fn the_service_costs_few_series_with_every_failpoint_built_in() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let text = service.admin().get("/metrics").ok().text();
    let series = |line: &&str| !line.starts_with('#') && !line.starts_with("backdrop_failpoint");
    let always = text.lines().filter(series).count();
    let most = always + backdrop_service::failpoints::ALL.len();
    assert!(always > 100 && most < SERIES_MAX, "{most} series");
}

/// Words by which a help text says what to make of a change.
const TELLING: [&str; 2] = ["rise", "more "];

#[test]
fn the_help_of_a_counter_says_what_a_rise_means() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let text = service.admin().get("/metrics").ok().text();
    let help = |name: &str| {
        let start = format!("# HELP {name} ");
        text.lines().find_map(|line| line.strip_prefix(&start))
    };
    let counters: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    assert!(counters.len() > 10, "{counters:?}");
    for name in counters {
        let help = help(name).unwrap_or_else(|| panic!("{name} has no help"));
        assert!(
            TELLING.iter().any(|word| help.contains(word)),
            "{name}: {help}"
        );
    }
}

#[test]
fn counters_move_with_what_they_count() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.get("/nowhere");
    client.put("/v1/backgrounds/a", png(8, 8, [1; 3])).ok();
    assert_eq!(
        service.metric("backdrop_http_requests_total{route=\"unknown\",status=\"4xx\"}"),
        1.0
    );
    assert_eq!(
        service.metric("backdrop_http_requests_total{route=\"background_put\",status=\"2xx\"}"),
        1.0
    );
    assert_eq!(
        service.metric("backdrop_http_request_duration_seconds_count{route=\"background_put\"}"),
        1.0
    );
    assert_eq!(service.metric("backdrop_uploads_total{result=\"ok\"}"), 1.0);
    assert_eq!(service.metric("backdrop_catalogue_entries"), 1.0);
    assert_eq!(service.metric("backdrop_http_connections"), 1.0);
    assert!(service.metric("backdrop_memory_limit_bytes") > 0.0);
}
