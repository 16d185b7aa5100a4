//! The exposition of metrics against its golden copy: names, types and label sets, without values.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backdrop-service --test exposition` writes it anew.

#[path = "../../reports/tests/support/exposition.rs"]
mod exposition;
mod support;

use backdrop_service::metrics::{Build, Metrics};
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

#[test]
fn names_and_help_are_for_people_and_everything_counts_from_zero() {
    let metrics = Metrics::new(&Build {
        version: "0.0.0",
        features: &[],
        failpoints: backdrop_service::failpoints::ALL,
    });
    let text = metrics.render().expect("formats");
    exposition::is_named_for_people(&text);
    exposition::tells_what_a_rise_means(&text);
    exposition::counts_from_zero(&text);
}

#[test]
fn work_makes_no_series() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let fresh = service.admin().get("/metrics").ok().text();
    let mut client = service.client();
    client.put("/v1/backgrounds/a", png(8, 8, [1; 3])).ok();
    assert_ne!(client.put("/v1/backgrounds/b", b"no picture").status, 200);
    let session = client.post("/v1/sessions", r#"{"user": 1, "background": "a"}"#);
    let id = session.ok().json()["session"].clone();
    let frame = format!("/v1/sessions/{}/frame?width=8", id.as_str().expect("an id"));
    client.get(&frame).ok();
    client.get("/nowhere");
    let worked = service.admin().get("/metrics").ok().text();
    assert!(worked.contains("backdrop_renders_total{result=\"ok\"} 1\n"));
    assert_eq!(exposition::series(&fresh), exposition::series(&worked));
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
