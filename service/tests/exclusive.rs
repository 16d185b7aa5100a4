//! The naive control: each session owns its texture, and protections make it shed instead of dying.

mod support;

use serde_json::json;
use support::*;

#[test]
fn sessions_that_own_their_pixels_run_out_of_memory_early_and_are_shed() {
    let dir = scratch();
    let service = Service::start(
        dir.path(),
        &["--sharing", "exclusive", "--memory-limit", "128MiB"],
    );
    let mut client = service.client();
    client
        .put("/v1/backgrounds/wall", jpeg(1920, 1080, [10, 20, 200]))
        .ok();
    client
        .put("/v1/backgrounds/tiny", png(8, 8, [200, 1, 1]))
        .ok();
    let made = client
        .post(
            "/v1/sessions:batchCreate",
            json!({"count": 64, "background": "wall"}),
        )
        .ok()
        .json();
    let codes: Vec<&str> = made["codes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|code| code.as_str())
        .collect();
    let reached = codes.iter().filter(|code| **code == "ok").count();
    assert!((1..16).contains(&reached), "{reached} sessions fit");
    assert!(
        codes[reached..].iter().all(|code| *code == "shed"),
        "{codes:?}"
    );
    assert_eq!(service.metric("backdrop_sessions"), reached as f64);

    // Every session owns 8 MiB; a session without a background costs nothing.
    let ledger = service.memory()["textures"]["ledger_bytes"]
        .as_u64()
        .expect("a number");
    assert!(ledger >= reached as u64 * (8 << 20));
    let bare = client.post("/v1/sessions", json!({})).ok().json();
    let bare = bare["session"].as_str().expect("an id");
    let refused = client.put(
        &format!("/v1/sessions/{bare}/background"),
        json!({"background": "wall"}).to_string(),
    );
    refused.is_problem(503, "budget_exhausted");

    // Ending one makes room for another, and a frame shows the session's own pixels.
    let first = made["sessions"][0].as_str().expect("an id");
    client
        .send("DELETE", &format!("/v1/sessions/{first}"), &[], b"")
        .ok();
    client
        .put(
            &format!("/v1/sessions/{bare}/background"),
            json!({"background": "wall"}).to_string(),
        )
        .ok();
    let frame = client
        .get(&format!(
            "/v1/sessions/{bare}/frame?width=16&height=16&format=rgba"
        ))
        .ok();
    assert!(frame.body[2] > 180 && frame.header("backdrop-cache") == "hit");
}

#[test]
fn shared_textures_do_not_grow_with_sessions_under_the_same_limit() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--memory-limit", "128MiB"]);
    let mut client = service.client();
    client
        .put("/v1/backgrounds/wall", jpeg(1920, 1080, [10, 20, 200]))
        .ok();
    let made = client
        .post(
            "/v1/sessions:batchCreate",
            json!({"count": 60000, "background": "wall"}),
        )
        .ok()
        .json();
    assert!(
        made["codes"]
            .as_array()
            .is_some_and(|codes| codes.iter().all(|code| code == "ok"))
    );
    let session = made["sessions"][59_999].as_str().expect("an id");
    client.get(&format!("/v1/sessions/{session}/frame")).ok();
    let memory = service.memory();
    assert!(
        memory["textures"]["ledger_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= 16 << 20)
    );
    assert!(
        memory["sessions"]["bytes_per_session"]
            .as_f64()
            .is_some_and(|bytes| bytes <= 64.0)
    );
}

#[test]
fn pixels_that_can_never_be_owned_are_told_from_those_that_find_no_room() {
    let dir = scratch();
    let patient = ["--memory-limit", "512MiB", "--request-timeout", "50s"];
    let service = Service::start(dir.path(), &patient);
    let mut client = service.client();
    client
        .put("/v1/backgrounds/vast", jpeg(4000, 4000, [9; 3]))
        .ok();
    client
        .put("/v1/backgrounds/tiny", png(8, 8, [200, 1, 1]))
        .ok();
    drop(service);
    let owning = ["--sharing", "exclusive", "--memory-limit", "64MiB"];
    let service = Service::start(dir.path(), &owning);
    let mut client = service.client();
    client
        .post("/v1/sessions", json!({"background": "vast"}))
        .is_problem(413, "picture_too_large");
    let made = client
        .post("/v1/sessions", json!({"background": "tiny"}))
        .ok()
        .json();
    let session = made["session"].as_str().expect("an id");
    client
        .put(
            &format!("/v1/sessions/{session}/background"),
            json!({"background": "vast"}).to_string(),
        )
        .is_problem(413, "picture_too_large");
    // In a batch it has no room, and its neighbours have.
    let body = json!({"sessions": [
        {"background": "vast"}, {"background": "tiny"}, {"background": "vast"}, {"background": "tiny"},
    ]});
    let made = client.post("/v1/sessions:batchCreate", body).ok().json();
    assert_eq!(made["codes"], json!(["shed", "ok", "shed", "ok"]));
}
