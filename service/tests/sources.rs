//! What stands behind a session, in version 2 of the API: streams, processors, and the image below them, over real HTTP.

mod support;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size};
use backdrop_service::render::view::View;
use backdrop_service::render::{Foreground, Radius, cpu::reference};
use serde_json::{Value, json};
use support::*;

const PLAIN: &str = "application/vnd.backdrop.rgba";
const MASKED: &str = "application/vnd.backdrop.rgba+a8";
const FRAME: Size = Size::new(24, 16);
/// Waiters and fresh frames for as long as a test may take.
const PATIENT: [&str; 6] = [
    "--request-timeout",
    "2m",
    "--idle-timeout",
    "5m",
    "--stream-stale-after",
    "60m",
];

struct Stage {
    service: Service,
    client: Client,
    session: String,
    _dir: tempfile::TempDir,
}

/// Colour of the image.
const IMAGE: [u8; 4] = [9, 8, 7, 255];

impl Stage {
    fn open(arguments: &[&str]) -> Self {
        let dir = scratch();
        let service = Service::start(dir.path(), arguments);
        let mut client = service.client();
        let picture = png(16, 16, [9, 8, 7]);
        client.put("/v1/backgrounds/wall", picture).ok();
        let session = session(&mut client, "wall");
        Self {
            service,
            client,
            session,
            _dir: dir,
        }
    }

    fn source(&self) -> String {
        format!("/v2/sessions/{}/source", self.session)
    }

    fn set(&mut self, source: &Value) -> Answer {
        let path = self.source();
        self.client.put(&path, source.to_string())
    }

    fn push(&mut self, pixels: &[u8]) -> Answer {
        let path = format!("{}/frames?width=24&height=16", self.source());
        let headers = [("content-type", PLAIN)];
        // One that is refused before its body was read may find its connection closed.
        self.service.client().send("POST", &path, &headers, pixels)
    }

    /// The composite with nothing over what stands behind.
    fn behind(&mut self) -> Answer {
        let path = format!(
            "/v1/sessions/{}/frames?width=24&height=16&format=rgba",
            self.session
        );
        self.client.send("POST", &path, &[], b"")
    }

    /// Bytes charged for sources and their frames.
    fn charged(&self) -> u64 {
        let memory = self.service.memory();
        let charged = &memory["budget"]["by_purpose"]["streams"];
        charged.as_u64().expect("a number")
    }

    fn nothing_is_charged(&self) {
        poll("the release", || (self.charged() == 0).then_some(()));
    }
}

fn session(client: &mut Client, background: &str) -> String {
    let created = client.post("/v1/sessions", json!({"background": background}));
    let session = created.ok().json();
    session["session"].as_str().expect("an id").to_owned()
}

fn plain(colour: [u8; 4]) -> Vec<u8> {
    colour.repeat(FRAME.pixels() as usize)
}

fn stream() -> Value {
    json!({"kind": "stream"})
}

#[test]
fn the_newest_frame_of_a_stream_stands_behind() {
    let mut stage = Stage::open(&PATIENT);
    let answer = stage.set(&stream()).ok().json();
    assert_eq!(answer["kind"], "stream");
    assert_eq!(
        (&answer["sequence"], &answer["fresh"]),
        (&json!(0), &json!(false))
    );
    assert_eq!(answer["background"], "wall");
    // Before the first frame it is the image.
    let answer = stage.behind().ok();
    assert_eq!(answer.header("backdrop-source"), "image");
    assert!(answer.body == plain(IMAGE));

    for (number, colour) in [[200, 0, 0, 255], [0, 200, 0, 255], [0, 0, 200, 255]]
        .iter()
        .enumerate()
    {
        let pushed = stage.push(&plain(*colour)).ok().json();
        assert_eq!(pushed, json!({"sequence": number + 1, "shown": true}));
        let answer = stage.behind().ok();
        assert_eq!(answer.header("backdrop-source"), "stream");
        assert_eq!(answer.header("backdrop-sequence"), (number + 1).to_string());
        assert!(answer.body == plain(*colour));
    }
    let path = stage.source();
    let read = stage.client.get(&path).ok().json();
    assert_eq!(
        (&read["sequence"], &read["fresh"]),
        (&json!(3), &json!(true))
    );

    // A file is decoded, into the pixels that it has.
    let path = format!("{}/frames", stage.source());
    let file = png(24, 16, [1, 2, 3]);
    let headers = [("content-type", "image/png")];
    let pushed = stage
        .client
        .send("POST", &path, &headers, &file)
        .ok()
        .json();
    assert_eq!(pushed["sequence"], 4);
    assert!(stage.behind().ok().body == plain([1, 2, 3, 255]));

    // One frame is kept, whatever came before it.
    poll("the release of the others", || {
        (stage.charged() < 2 * FRAME.bytes()).then_some(())
    });
    let frames = "backdrop_stream_frames_total{result=\"ok\"}";
    assert_eq!(stage.service.metric(frames), 4.0);
    assert_eq!(
        stage.service.metric("backdrop_sources{kind=\"stream\"}"),
        1.0
    );

    // Version 1 goes on as it was: its switch changes the image, its preview shows it.
    stage
        .client
        .put("/v1/backgrounds/hall", png(16, 16, [70; 3]))
        .ok();
    let path = format!("/v1/sessions/{}/background", stage.session);
    let switched = stage
        .client
        .put(&path, json!({"background": "hall"}).to_string());
    assert_eq!(switched.ok().json()["background"], "hall");
    let path = format!(
        "/v1/sessions/{}/frame?width=24&height=16&format=rgba",
        stage.session
    );
    assert!(stage.client.get(&path).ok().body == plain([70, 70, 70, 255]));
    assert!(stage.behind().ok().body == plain([1, 2, 3, 255]));

    // An image in its place ends it.
    let answer = stage
        .set(&json!({"kind": "image", "background": "wall"}))
        .ok();
    assert_eq!(answer.json()["kind"], "image");
    assert!(stage.behind().ok().body == plain(IMAGE));
    stage.nothing_is_charged();
    assert_eq!(
        stage.service.metric("backdrop_sources{kind=\"stream\"}"),
        0.0
    );
}

#[test]
fn a_stale_frame_falls_back_to_the_image() {
    let mut stage = Stage::open(&["--stream-stale-after", "1ms"]);
    stage.set(&stream()).ok();
    stage.push(&plain([200, 0, 0, 255])).ok();
    poll("the image", || {
        let answer = stage.behind().ok();
        let is_image = answer.header("backdrop-source") == "image";
        (is_image && answer.body == plain(IMAGE)).then_some(())
    });
    let path = stage.source();
    let read = stage.client.get(&path).ok().json();
    assert_eq!(
        (&read["sequence"], &read["fresh"]),
        (&json!(1), &json!(false))
    );
}

#[test]
fn a_processor_blurs_the_participants_own_frame_as_the_reference_does() {
    let mut stage = Stage::open(&[]);
    let source = json!({"kind": "processor", "processor": "blur", "radius": 5});
    let answer = stage.set(&source).ok().json();
    assert_eq!(
        (&answer["kind"], &answer["radius"]),
        (&json!("processor"), &json!(5))
    );
    assert_eq!(
        stage.service.metric("backdrop_sources{kind=\"processor\"}"),
        1.0
    );

    let byte = |at: u64| (at * 37 % 251) as u8;
    let over: Vec<u8> = (0..FRAME.bytes()).map(byte).collect();
    let mask: Vec<u8> = (0..FRAME.pixels()).map(|at| (at % 3 * 127) as u8).collect();
    let (mut blurred, mut wanted) = (over.clone(), over.clone());
    reference::blur(
        PixelsRef::new(&over, FRAME).expect("its size"),
        Radius::new(5).expect("in range"),
        PixelsMut::new(&mut blurred, FRAME).expect("its size"),
    );
    reference::composite(
        PixelsRef::new(&blurred, FRAME).expect("its size"),
        &View::default().transform(FRAME),
        Foreground::new(FRAME, &over, &mask),
        PixelsMut::new(&mut wanted, FRAME).expect("its size"),
    );
    let path = format!(
        "/v1/sessions/{}/frames?width=24&height=16&format=rgba",
        stage.session
    );
    let body = [over, mask].concat();
    let headers = [("content-type", MASKED)];
    let answer = stage.client.send("POST", &path, &headers, &body).ok();
    assert_eq!(answer.header("backdrop-source"), "processor");
    assert!(answer.body == wanted);

    // There is nothing to blur.
    stage.behind().is_problem(400, "bad_request");
    // It takes no frames, and nobody waits for them.
    stage.push(&plain(IMAGE)).is_problem(409, "not_a_stream");
    let path = format!("{}/frames", stage.source());
    stage.client.get(&path).is_problem(409, "not_a_stream");
    let path = stage.source();
    assert_eq!(stage.client.send("DELETE", &path, &[], b"").status, 204);
    assert!(stage.behind().ok().body == plain(IMAGE));
    stage.nothing_is_charged();
}

#[test]
fn who_waits_is_told_of_the_next_frame_and_of_the_end() {
    let mut stage = Stage::open(&PATIENT);
    stage.set(&stream()).ok();
    let frames = format!("{}/frames", stage.source());
    let waiting = |stage: &Stage, after: u64| {
        let mut client = stage.service.client();
        let path = format!("{frames}?after={after}&wait_ms=120000");
        let waiter = std::thread::spawn(move || client.get(&path));
        poll("a waiter", || {
            (stage.service.metric("backdrop_stream_waiters") == 1.0).then_some(())
        });
        waiter
    };
    // Nothing newer, and no time to wait for it.
    assert_eq!(stage.client.get(&frames).status, 204);
    assert_eq!(stage.client.get(&format!("{frames}?wait_ms=1")).status, 204);

    let waiter = waiting(&stage, 0);
    stage.push(&plain(IMAGE)).ok();
    let told = waiter.join().expect("an answer").ok().json();
    assert_eq!(told, json!({"sequence": 1, "fresh": true}));
    let told = stage.client.get(&frames).ok().json();
    assert_eq!(told["sequence"], 1);

    let waiter = waiting(&stage, 1);
    let path = format!("/v1/sessions/{}", stage.session);
    assert_eq!(stage.client.send("DELETE", &path, &[], b"").status, 204);
    let told = waiter.join().expect("an answer");
    told.is_problem(404, "source_not_found");
    stage.nothing_is_charged();
    assert_eq!(stage.service.metric("backdrop_stream_waiters"), 0.0);
    assert_eq!(
        stage.service.metric("backdrop_sources{kind=\"stream\"}"),
        0.0
    );
}

#[test]
fn sessions_that_end_in_a_batch_leave_no_source_behind() {
    let mut stage = Stage::open(&PATIENT);
    stage.set(&stream()).ok();
    stage.push(&plain(IMAGE)).ok();
    assert!(stage.charged() > 0);
    let body = json!({"sessions": [stage.session]});
    stage.client.post("/v1/sessions:batchDelete", body).ok();
    stage.nothing_is_charged();
    let path = stage.source();
    stage.client.get(&path).is_problem(404, "session_not_found");
}

#[test]
fn sources_waiters_and_bytes_are_bounded() {
    let few = [
        "--sources-max",
        "2",
        "--stream-waiters-max",
        "0",
        "--stream-bytes-max",
        "2KiB",
    ];
    let mut stage = Stage::open(&[&PATIENT[..], &few].concat());
    stage.set(&stream()).ok();
    let source_of = |session: String| format!("/v2/sessions/{session}/source");
    let other = source_of(session(&mut stage.client, "wall"));
    stage.client.put(&other, stream().to_string()).ok();
    let third = source_of(session(&mut stage.client, "wall"));
    let full = stage.client.put(&third, stream().to_string());
    full.is_problem(503, "sources_full");
    assert_eq!(full.header("retry-after"), "1");
    let frames = format!("{}/frames", stage.source());
    stage.client.get(&frames).is_problem(503, "queue_full");

    // One frame has room, and keeps it while it is fresh; one that takes its place needs no more.
    for _ in 0..3 {
        stage.push(&plain(IMAGE)).ok();
    }
    let path = format!("{other}/frames?width=24&height=16");
    let headers = [("content-type", PLAIN)];
    let mut client = stage.service.client();
    let refused = client.send("POST", &path, &headers, &plain(IMAGE));
    refused.is_problem(503, "budget_exhausted");
    let shed = "backdrop_stream_frames_total{result=\"shed\"}";
    assert_eq!(stage.service.metric(shed), 1.0);
    let path = format!("{frames}?width=32&height=32");
    let large = stage.client.send("POST", &path, &headers, &[0; 4096]);
    large.is_problem(413, "picture_too_large");
    let path = stage.source();
    stage.client.send("DELETE", &path, &[], b"").ok();
    stage.client.put(&third, stream().to_string()).ok();
}

#[test]
fn what_is_asked_for_wrongly_is_told() {
    let mut stage = Stage::open(&[]);
    for (body, status, code) in [
        (json!({"kind": "film"}), 400, "bad_request"),
        (json!({"kind": "stream", "rate": 30}), 400, "bad_request"),
        (json!({"kind": "image"}), 400, "bad_request"),
        (
            json!({"kind": "image", "background": "none"}),
            404,
            "background_not_found",
        ),
        (
            json!({"kind": "processor", "processor": "warp", "radius": 5}),
            400,
            "bad_request",
        ),
        (
            json!({"kind": "processor", "processor": "blur", "radius": 0}),
            422,
            "out_of_range",
        ),
        (
            json!({"kind": "processor", "processor": "blur", "radius": 128}),
            422,
            "out_of_range",
        ),
    ] {
        stage.set(&body).is_problem(status, code);
    }
    let path = stage.source();
    assert_eq!(stage.client.get(&path).ok().json()["kind"], "image");
    let deleted = stage.client.send("DELETE", &path, &[], b"");
    deleted.is_problem(404, "source_not_found");
    stage
        .push(&plain(IMAGE))
        .is_problem(404, "source_not_found");

    stage.set(&stream()).ok();
    let frames = format!("{path}/frames");
    let post = |stage: &mut Stage, query: &str, content_type: &str, body: &[u8]| {
        let headers = [("content-type", content_type)];
        let path = format!("{frames}?{query}");
        stage.client = stage.service.client();
        stage.client.send("POST", &path, &headers, body)
    };
    post(&mut stage, "", "text/plain", b"x").is_problem(415, "unsupported_media");
    post(&mut stage, "", "image/png", b"x").is_problem(415, "unsupported_media");
    post(&mut stage, "", PLAIN, &plain(IMAGE)).is_problem(400, "bad_request");
    post(&mut stage, "width=24&height=17", PLAIN, &plain(IMAGE)).is_problem(400, "bad_request");
    post(&mut stage, "width=0&height=0", PLAIN, b"").is_problem(422, "out_of_range");
    let broken = &png(24, 16, [1; 3])[..60];
    post(&mut stage, "", "image/png", broken).is_problem(422, "broken_picture");
    let late = format!("{frames}?wait_ms=5001");
    stage.client.get(&late).is_problem(422, "out_of_range");
    assert_eq!(stage.client.get(&path).ok().json()["sequence"], 0);
    assert!(stage.behind().ok().body == plain(IMAGE));
}

#[test]
fn another_tenants_session_is_a_404() {
    let tokens = [("BACKDROP_TOKENS", "one=acme:catalogue,two=other")];
    let dir = scratch();
    let service = Service::start_with(dir.path(), &[], &tokens);
    let mut client = Client::with_token(service.listen, "one");
    client.put("/v1/backgrounds/wall", png(8, 8, [1; 3])).ok();
    let session = session(&mut client, "wall");
    let path = format!("/v2/sessions/{session}/source");
    client.put(&path, stream().to_string()).ok();
    let mut foreign = Client::with_token(service.listen, "two");
    let frames = format!("{path}/frames");
    foreign.get(&path).is_problem(404, "session_not_found");
    foreign.get(&frames).is_problem(404, "session_not_found");
    let set = foreign.put(&path, stream().to_string());
    set.is_problem(404, "session_not_found");
    for (method, path) in [("DELETE", &path), ("POST", &frames)] {
        let headers = [("content-type", PLAIN)];
        let mut foreign = Client::with_token(service.listen, "two");
        let answer = foreign.send(method, path, &headers, b"");
        answer.is_problem(404, "session_not_found");
    }
    assert_eq!(client.get(&path).ok().json()["kind"], "stream");
}
