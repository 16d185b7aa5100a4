//! Protections switched off, only in a build with chaos-controls: each does what the chaos runner's controls rely on.

#![cfg(feature = "chaos-controls")]

mod support;

use serde_json::json;
use support::*;

const LIMIT: [&str; 4] = ["--sharing", "exclusive", "--memory-limit", "128MiB"];

fn reached(service: &Service, sessions: usize) -> usize {
    let mut client = service.client();
    client
        .put("/v1/backgrounds/wall", jpeg(1920, 1080, [10, 20, 200]))
        .ok();
    let body = json!({"count": sessions, "background": "wall"});
    let made = client.post("/v1/sessions:batchCreate", body).ok().json();
    let codes = made["codes"].as_array().expect("a list");
    codes.iter().filter(|code| **code == "ok").count()
}

#[test]
fn without_budget_and_governor_nothing_is_shed() {
    let dir = scratch();
    let off = ["--unsafe-disable-budget", "--unsafe-disable-governor"];
    let service = Service::start(dir.path(), &[&LIMIT[..], &off[..]].concat());
    // 24 textures of 8 MiB are more than the limit: with protections on, most would be shed.
    assert_eq!(reached(&service, 24), 24);
    let log = std::fs::read_to_string(dir.path().join("stderr.log")).expect("a log");
    for warning in ["THE BUDGET REFUSES NOTHING", "THE GOVERNOR DOES NOTHING"] {
        assert!(log.contains(warning), "{log}");
    }
}

#[test]
fn the_same_build_sheds_while_its_protections_are_on() {
    let dir = scratch();
    let service = Service::start(dir.path(), &LIMIT);
    assert!(reached(&service, 24) < 16);
}

#[test]
fn volatile_uploads_are_gone_after_a_kill() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--unsafe-volatile-uploads"]);
    service
        .client()
        .put("/v1/backgrounds/a", png(8, 8, [1; 3]))
        .ok();
    service.kill();
    let service = Service::start(dir.path(), &["--unsafe-volatile-uploads"]);
    service
        .client()
        .get("/v1/backgrounds/a")
        .is_problem(404, "background_not_found");
}

#[test]
fn the_build_says_what_it_is() {
    let output = command()
        .args(["version", "--json"])
        .output()
        .expect("runs");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert!(
        json["features"]
            .as_array()
            .is_some_and(|features| features.contains(&json!("chaos-controls")))
    );
}
