//! Query strings: what no route knows is refused by name, and what is left out follows from what is given.

mod support;

use serde_json::json;
use support::*;

/// Asserts a refusal that names the parameter and those that are known.
#[track_caller]
fn is_unknown(answer: &Answer, name: &str, known: &str) {
    answer.is_problem(400, "bad_request");
    let detail = answer.json()["detail"].as_str().expect("text").to_owned();
    assert_eq!(
        detail,
        format!("there is no query parameter {name:?}; {known}")
    );
}

/// Width and height of a frame's JPEG.
fn frame_size(client: &mut Client, session: &str, query: &str) -> (usize, usize) {
    let frame = client.get(&format!("{session}/frame?{query}")).ok();
    let (width, height, _) = decode_jpeg(&frame.body);
    (width, height)
}

#[test]
fn a_side_of_a_frame_that_is_left_out_follows_what_is_shown() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--frame-pixels-max", "1000000"]);
    let mut client = service.client();
    client
        .put("/v1/backgrounds/tall", png(300, 600, [9; 3]))
        .ok();
    let session = client
        .post("/v1/sessions", json!({"background": "tall"}))
        .ok()
        .json();
    let session = format!(
        "/v1/sessions/{}",
        session["session"].as_str().expect("an id")
    );
    assert_eq!(frame_size(&mut client, &session, "width=100"), (100, 200));
    assert_eq!(frame_size(&mut client, &session, "height=100"), (50, 100));
    let both = "width=100&height=100";
    assert_eq!(frame_size(&mut client, &session, both), (100, 100));
    assert_eq!(frame_size(&mut client, &session, ""), (640, 360));

    // The upper third: 300 by 200.
    let view = json!({"crop": {"x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0 / 3.0}}).to_string();
    client
        .send("PATCH", &format!("{session}/view"), &[], view.as_bytes())
        .ok();
    assert_eq!(frame_size(&mut client, &session, "width=90"), (90, 60));
    assert_eq!(frame_size(&mut client, &session, "height=60"), (90, 60));

    // The side that follows counts for the bounds like one that was given.
    for outside in ["width=0", "width=1300", "height=900", "width=4294967295"] {
        client
            .get(&format!("{session}/frame?{outside}"))
            .is_problem(422, "out_of_range");
    }
}

#[test]
fn an_unknown_parameter_is_refused_and_named_on_every_route() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let file = png(16, 16, [1; 3]);
    // Refused from its head alone, with the body unread: the connection is closed.
    let put = service
        .client()
        .put("/v1/backgrounds/beach?tag=a&tags=x", &file);
    is_unknown(&put, "tags", "known here: tag");
    client
        .get("/v1/backgrounds/beach")
        .is_problem(404, "background_not_found");
    client.put("/v1/backgrounds/beach?tag=a", &file).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "beach"}))
        .ok()
        .json();
    let session = format!(
        "/v1/sessions/{}",
        session["session"].as_str().expect("an id")
    );
    for (path, name, known) in [
        (
            format!("{session}/frame?height=10&witdh=10"),
            "witdh",
            "known here: width, height, format, quality",
        ),
        (
            "/v1/backgrounds?limits=1".to_owned(),
            "limits",
            "known here: after, limit",
        ),
        (
            "/v1/backgrounds/beach?tag=a".to_owned(),
            "tag",
            "none is taken here",
        ),
        (format!("{session}?x"), "x", "none is taken here"),
    ] {
        is_unknown(&client.get(&path), name, known);
    }
    client
        .get(&format!("{session}/frame?width=16&width=32"))
        .is_problem(400, "bad_request");
    // Whoever asks whether the service is there may add what it likes.
    client.get("/healthz?from=balancer").ok();

    let mut admin = service.admin();
    let known = "known here: reset";
    is_unknown(&admin.get("/debug/accesses?rest=1"), "rest", known);
    is_unknown(&admin.get("/metrics?name=x"), "name", "none is taken here");
    admin
        .get("/debug/accesses?reset=yes")
        .is_problem(400, "bad_request");
    admin.get("/debug/nowhere?x=1").is_problem(404, "not_found");
    admin.get("/debug/accesses?reset=1").ok();
}
