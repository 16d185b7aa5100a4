//! Memory that is critically short, as callers meet it: nothing grows, everything else goes on, and it passes.

mod support;

use serde_json::json;
use std::io::Write;
use support::*;

const MIB: u64 = 1 << 20;
/// Most connections that are opened to fill the memory.
const CONNECTIONS_MAX: usize = 500;
/// What each of them sends: a head that does not end, which no charge covers and which stays as long as the connection.
const HEAD_BYTES: usize = 900 << 10;

fn is_critical(service: &Service) -> bool {
    service.memory()["state"] == json!("critical")
}

/// Takes memory that is neither the cache's nor anything's that the service could give back.
fn fill(service: &Service) -> Vec<Client> {
    let mut held = Vec::new();
    let mut head = b"GET /healthz HTTP/1.1\r\nx-long: ".to_vec();
    head.resize(HEAD_BYTES, b'x');
    while !is_critical(service) {
        assert!(held.len() < CONNECTIONS_MAX, "{}", service.memory());
        let mut client = service.client();
        client.stream().write_all(&head).expect("sent");
        held.push(client);
    }
    held
}

#[test]
fn in_critical_uploads_are_refused_switches_go_on_and_frames_are_never_errors() {
    let dir = scratch();
    // Uploaded before, so that no texture is there.
    let service = Service::start(dir.path(), &["--memory-limit", "512MiB"]);
    let mut client = service.client();
    for id in ["wall", "hall"] {
        let picture = png(512, 256, [1, 2, 3]);
        client.put(&format!("/v1/backgrounds/{id}"), picture).ok();
    }
    let least = service.memory()["pressure_bytes"].as_u64();
    let limit = least.expect("a number").max(32 * MIB) * 2;
    drop(service);

    let limit = limit.to_string();
    let patient = [
        "--memory-limit",
        &limit,
        "--header-bytes-max",
        "1MiB",
        "--header-timeout",
        "50m",
        "--idle-timeout",
        "60m",
    ];
    let service = Service::start(dir.path(), &patient);
    let mut client = service.client();
    let session = client
        .post("/v1/sessions", json!({"background": "wall"}))
        .ok()
        .json();
    let session = session["session"].as_str().expect("an id").to_owned();
    let held = fill(&service);

    let refused = service
        .client()
        .put("/v1/backgrounds/more", png(512, 256, [9; 3]));
    refused.is_problem(503, "memory_critical");
    assert_eq!(refused.header("retry-after"), "1");
    let governor = "backdrop_shed_total{reason=\"governor\"}";
    assert_eq!(service.metric(governor), 1.0);

    let switch = json!({"background": "hall"}).to_string();
    let switched = client.put(&format!("/v1/sessions/{session}/background"), switch);
    assert_eq!(switched.ok().json()["background"], json!("hall"));

    let frame = client.get(&format!("/v1/sessions/{session}/frame?width=64&height=32"));
    match frame.status {
        200 => assert_eq!(frame.header("backdrop-degraded"), "thumbnail"),
        // Where not even the thumbnail's frame finds room.
        503 => assert_eq!(frame.header("retry-after"), "1"),
        status => panic!("{status} {}", frame.text()),
    }
    let loads = "backdrop_flyweight_loads_total{result=\"ok\"}";
    assert_eq!(service.metric(loads), 0.0, "nothing was loaded");
    assert!(is_critical(&service), "all of this was in critical");

    drop(held);
    poll("an upload that is taken again", || {
        let again = service
            .client()
            .put("/v1/backgrounds/more", png(512, 256, [9; 3]));
        (again.status == 201).then_some(())
    });
    let frame = format!("/v1/sessions/{session}/frame?width=64&height=32");
    poll("a whole frame", || {
        let frame = client.get(&frame);
        (frame.status == 200 && frame.header("backdrop-degraded").is_empty()).then_some(())
    });
}
