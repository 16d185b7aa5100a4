//! What hostile and clumsy callers meet: a clear problem, and memory that stays flat.

mod support;

use serde_json::json;
use std::io::{Read, Write};
use support::*;

/// What a refusal may add to the resident set: buffers, and noise of the allocator.
const FLAT_BYTES: u64 = 16 << 20;

/// The resident set in a sample that began after this call.
fn rss_bytes(service: &Service) -> u64 {
    let samples = |memory: &serde_json::Value| memory["samples"].as_u64().expect("a number");
    let before = samples(&service.memory());
    poll("a sample", || {
        let memory = service.memory();
        // The next one may have begun already.
        (samples(&memory) >= before + 2).then(|| memory["rss_bytes"].as_u64().expect("a number"))
    })
}

/// Bytes reserved now and at most so far.
fn budget(service: &Service) -> (u64, u64) {
    let memory = service.memory();
    let bytes = |key: &str| memory["budget"][key].as_u64().expect("a number");
    (bytes("used_bytes"), bytes("peak_bytes"))
}

#[test]
fn pictures_that_are_none_are_refused_before_pixels_are_allocated() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let (before, rss) = (budget(&service), rss_bytes(&service));
    let path = "/v1/backgrounds/x";
    client
        .put(path, claimed_png(60_000, 60_000))
        .is_problem(413, "picture_too_large");
    client
        .put(path, "just some text")
        .is_problem(415, "unsupported_media");
    client.put(path, "").is_problem(415, "unsupported_media");
    client
        .put(path, claimed_png(0, 10))
        .is_problem(422, "broken_picture");
    assert_eq!(budget(&service), before, "nothing was reserved for them");
    assert!(rss_bytes(&service) < rss + FLAT_BYTES);

    let whole = jpeg(512, 512, [90, 80, 70]);
    for keep in [whole.len() / 2, whole.len() - 2, 100] {
        client
            .put(path, &whole[..keep])
            .is_problem(422, "broken_picture");
    }
    let mut file = png(64, 64, [1; 3]);
    let middle = file.len() / 2;
    file[middle] ^= 0xff;
    client.put(path, file).is_problem(422, "broken_picture");
    // Blocks of the frame pool may stay, idle; what a decode took does not.
    poll("the release", || {
        let charged = &service.memory()["budget"]["by_purpose"];
        let none = json!(0);
        let all = ["upload", "decode", "body", "textures"]
            .iter()
            .all(|purpose| charged[*purpose] == none);
        all.then_some(())
    });
    assert!(
        rss_bytes(&service) < rss + FLAT_BYTES,
        "nor after broken ones"
    );
    client.get(path).is_problem(404, "background_not_found");
    assert_eq!(
        service.metric("backdrop_uploads_total{result=\"rejected\"}"),
        8.0
    );
    assert_eq!(
        client.get("/v1/backgrounds").ok().json()["backgrounds"],
        json!([])
    );
}

#[test]
fn a_gigabyte_is_refused_from_its_head_and_memory_stays_flat() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let (before, rss) = (budget(&service), rss_bytes(&service));
    let mut client = service.client();
    let head = client.head("PUT", "/v1/backgrounds/big", &[], Some(1 << 30));
    client.stream().write_all(head.as_bytes()).expect("sent");
    client
        .read(false)
        .expect("an answer")
        .is_problem(413, "body_too_large");
    assert_eq!(budget(&service), before);
    assert!(rss_bytes(&service) < rss + FLAT_BYTES);
}

#[test]
fn a_body_without_a_length_is_refused_where_it_passes_the_limit() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--body-bytes-max", "1MiB"]);
    let rss = rss_bytes(&service);
    let mut client = service.client();
    let head = client.head(
        "PUT",
        "/v1/backgrounds/big",
        &[("transfer-encoding", "chunked")],
        None,
    );
    client.stream().write_all(head.as_bytes()).expect("sent");
    client
        .stream()
        .write_all(&chunk(&claimed_png(64, 64)[..41]))
        .expect("sent");
    let chunk = chunk(&[7; 0x10000]);
    for _ in 0..64 {
        // The service stops reading at its limit; a write may fail then, the answer is there.
        if client.stream().write_all(&chunk).is_err() {
            break;
        }
    }
    client
        .read(false)
        .expect("an answer")
        .is_problem(413, "body_too_large");
    assert!(budget(&service).1 < 16 << 20);
    assert!(rss_bytes(&service) < rss + FLAT_BYTES);
}

#[test]
fn a_caller_that_asks_first_is_told_no_before_it_sends_a_gigabyte() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let before = budget(&service);
    let mut client = service.client();
    let expect = [("expect", "100-continue")];
    let head = client.head("PUT", "/v1/backgrounds/big", &expect, Some(1 << 30));
    client.stream().write_all(head.as_bytes()).expect("sent");
    client
        .read(false)
        .expect("a final answer and no 100")
        .is_problem(413, "body_too_large");
    assert_eq!(budget(&service), before);
}

#[test]
fn strangers_and_stale_ids_by_the_thousand_leave_memory_flat() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let made = client.post("/v1/sessions", json!({"user": 1})).json();
    let session = made["session"].as_str().expect("an id").to_owned();
    let path = format!("/v1/sessions/{session}");
    client.send("DELETE", &path, &[], b"").ok();
    let (before, rss) = (budget(&service).0, rss_bytes(&service));
    for number in 0..2_000u64 {
        client.get(&path).is_problem(404, "session_not_found");
        client
            .get(&format!("/v1/sessions/{:016x}", number << 32 | number))
            .is_problem(404, "session_not_found");
    }
    assert_eq!(budget(&service).0, before);
    assert!(rss_bytes(&service) < rss + FLAT_BYTES);
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Highest resident set so far.
fn rss_peak_bytes(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid)).expect("alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("a number") << 10
}

#[test]
fn a_long_body_without_a_length_takes_its_own_bytes_and_no_more() {
    const MIB: usize = 1 << 20;
    const BODY: usize = 48 * MIB;
    let dir = scratch();
    let service = Service::start(dir.path(), &["--memory-limit", "512MiB"]);
    let (before, rss) = (budget(&service), rss_peak_bytes(&service));
    let mut client = service.client();
    let chunked = [("transfer-encoding", "chunked")];
    let head = client.head("PUT", "/v1/backgrounds/long", &chunked, None);
    client.stream().write_all(head.as_bytes()).expect("sent");
    // A header that is fine, then picture data without end.
    let mut start = claimed_png(64, 64)[..33].to_vec();
    start.extend_from_slice(&(BODY as u32).to_be_bytes());
    start.extend_from_slice(b"IDAT");
    client.stream().write_all(&chunk(&start)).expect("sent");
    let filler = chunk(&vec![7; MIB]);
    for _ in 0..BODY / MIB {
        client.stream().write_all(&filler).expect("sent");
    }
    client.stream().write_all(b"0\r\n\r\n").expect("sent");
    client
        .read(false)
        .expect("an answer")
        .is_problem(422, "broken_picture");
    let most = (BODY + 10 * MIB) as u64;
    let (peak, rss_peak) = (budget(&service).1, rss_peak_bytes(&service));
    assert!(peak - before.0 < most, "charged {peak}");
    assert!(
        rss_peak - rss < most + FLAT_BYTES,
        "held {}",
        rss_peak - rss
    );
    // Its pages leave with it: nothing remains that no charge covers.
    poll("the release", || {
        (budget(&service).0 <= before.0 + (8 << 20)).then_some(())
    });
    let resident = rss_bytes(&service);
    assert!(resident < rss + 2 * FLAT_BYTES, "{resident} after {rss}");
}

#[test]
fn what_is_no_picture_is_refused_from_its_first_bytes() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    for (start, status, code) in [
        (
            b"no picture at all, but text".to_vec(),
            415,
            "unsupported_media",
        ),
        (
            claimed_png(60_000, 60_000)[..41].to_vec(),
            413,
            "picture_too_large",
        ),
    ] {
        let mut client = service.client();
        let chunked = [("transfer-encoding", "chunked")];
        let head = client.head("PUT", "/v1/backgrounds/no", &chunked, None);
        client.stream().write_all(head.as_bytes()).expect("sent");
        client.stream().write_all(&chunk(&start)).expect("sent");
        // It is not over, and the answer is there.
        client
            .read(false)
            .expect("an answer")
            .is_problem(status, code);
    }
    assert_eq!(
        service.metric("backdrop_uploads_total{result=\"rejected\"}"),
        2.0
    );
}

#[test]
fn a_sender_that_reads_only_after_all_is_sent_still_gets_its_answer() {
    const BODY: usize = 8 << 20;
    let dir = scratch();
    let service = Service::start(dir.path(), &["--body-bytes-max", "4MiB"]);
    for _ in 0..8 {
        let mut client = service.client();
        let head = client.head("PUT", "/v1/backgrounds/big", &[], Some(BODY as u64));
        client.stream().write_all(head.as_bytes()).expect("sent");
        // What the service neither reads nor throws away must fit the sockets' buffers, or this would wait.
        let body = vec![7; 3 << 20];
        client.stream().write_all(&body).expect("not reset");
        client
            .read(false)
            .expect("an answer")
            .is_problem(413, "body_too_large");
    }
}

#[test]
fn heads_that_cannot_be_understood_get_a_problem_too() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client
        .stream()
        .write_all(b"GET /healthz\r\n\r\n")
        .expect("sent");
    client
        .read(false)
        .expect("an answer")
        .is_problem(400, "bad_request");
    let mut client = service.client();
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    drop(client.stream().write_all(long.as_bytes()));
    let answer = client.read(false).expect("an answer");
    assert!([414, 431].contains(&answer.status), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

#[test]
fn a_background_that_can_never_fit_is_told_apart_from_a_frame_that_is_too_large() {
    let dir = scratch();
    // Time enough to decode it on a busy machine in an unoptimised build.
    let patient = ["--memory-limit", "512MiB", "--request-timeout", "50s"];
    let service = Service::start(dir.path(), &patient);
    service
        .client()
        .put("/v1/backgrounds/vast", jpeg(4000, 4000, [9; 3]))
        .ok();
    drop(service);
    let service = Service::start(dir.path(), &["--memory-limit", "64MiB"]);
    let mut client = service.client();
    let session = client
        .post("/v1/sessions", json!({"background": "vast"}))
        .ok()
        .json();
    let session = session["session"].as_str().expect("an id");
    let frame = format!("/v1/sessions/{session}/frame?width=16&height=16");
    client.get(&frame).is_problem(413, "picture_too_large");
    // Nor is there any use in sending it again.
    client
        .put("/v1/backgrounds/again", jpeg(4000, 4000, [9; 3]))
        .is_problem(413, "picture_too_large");
}

fn body_bytes(service: &Service) -> u64 {
    let charged = &service.memory()["budget"]["by_purpose"]["body"];
    charged.as_u64().expect("a number")
}

#[test]
fn an_answer_is_charged_until_it_was_read() {
    // The answer is some thirty megabytes: far more than sockets may hold.
    const ENTRIES: usize = 262_144;
    let dir = scratch();
    let entries_max = ENTRIES.to_string();
    let service = Service::start(dir.path(), &["--batch-entries-max", &entries_max]);
    let mut client = service.client();
    let made = client.post("/v1/sessions:batchCreate", json!({"count": ENTRIES}));
    let ids = made.ok().json()["sessions"].clone();
    let body = json!({"sessions": ids}).to_string();
    let kind = [("content-type", "application/json")];
    let path = "/v1/sessions:batchRead";
    let head = client.head("POST", path, &kind, Some(body.len() as u64));
    client.stream().write_all(head.as_bytes()).expect("sent");
    client.stream().write_all(body.as_bytes()).expect("sent");
    // Nobody reads.
    let answer_bytes_min = ENTRIES as u64 * 100;
    client.stream().peek(&mut [0]).expect("it has begun");
    assert!(body_bytes(&service) > answer_bytes_min);
    let entries = client.read(false).expect("an answer").ok().json();
    assert_eq!(entries["entries"].as_array().map(Vec::len), Some(ENTRIES));
    poll("the end of the charge", || {
        (body_bytes(&service) == 0).then_some(())
    });
}

#[test]
fn a_small_body_that_trickles_in_is_charged() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let body = json!({"user": 7}).to_string();
    let head = client.head("POST", "/v1/sessions", &[], Some(body.len() as u64));
    client.stream().write_all(head.as_bytes()).expect("sent");
    let (first, rest) = body.as_bytes().split_at(4);
    client.stream().write_all(first).expect("sent");
    poll("the charge", || {
        (body_bytes(&service) == body.len() as u64).then_some(())
    });
    client.stream().write_all(rest).expect("sent");
    assert_eq!(client.read(false).expect("an answer").status, 201);
    poll("the end of the charge", || {
        (body_bytes(&service) == 0).then_some(())
    });
}

#[test]
fn a_short_request_for_a_huge_answer_is_refused_before_anything_is_done() {
    let dir = scratch();
    let limits = [
        "--memory-limit",
        "128MiB",
        "--batch-entries-max",
        "16777216",
    ];
    let service = Service::start(dir.path(), &limits);
    let (before, rss) = (budget(&service), rss_bytes(&service));
    let mut client = service.client();
    let body = json!({"count": 16_777_216});
    client
        .post("/v1/sessions:batchCreate", body)
        .is_problem(413, "batch_too_large");
    assert_eq!(budget(&service), before);
    assert!(rss_bytes(&service) < rss + FLAT_BYTES);
    assert_eq!(service.metric("backdrop_sessions"), 0.0);
}

/// What comes until the service closes the connection; fails where the test's own timeout ends the wait.
#[track_caller]
fn closed(client: &mut Client) -> Vec<u8> {
    let mut rest = Vec::new();
    if let Err(error) = client.stream().read_to_end(&mut rest) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    rest
}

#[test]
fn a_slow_body_and_a_slow_head_time_out() {
    let dir = scratch();
    let arguments = [
        "--body-timeout",
        "100ms",
        "--header-timeout",
        "100ms",
        "--request-timeout",
        "5s",
    ];
    let service = Service::start(dir.path(), &arguments);
    let mut body = service.client();
    let head = body.head("PUT", "/v1/backgrounds/slow", &[], Some(1000));
    body.stream().write_all(head.as_bytes()).expect("sent");
    body.read(false)
        .expect("an answer")
        .is_problem(408, "body_timeout");

    let mut head = service.client();
    head.stream().write_all(b"GET /healthz HTT").expect("sent");
    // With or without a last answer.
    closed(&mut head);
    service.client().get("/healthz").ok();
}

#[test]
fn a_peer_that_sends_a_single_byte_is_cut_off() {
    let dir = scratch();
    let times = [
        "--idle-timeout",
        "300ms",
        "--body-timeout",
        "100ms",
        "--request-timeout",
        "100ms",
        "--reserve-wait",
        "100ms",
    ];
    let service = Service::start(dir.path(), &times);
    let mut peer = service.client();
    peer.stream().write_all(b"P").expect("sent");
    assert!(closed(&mut peer).is_empty());
}

#[test]
fn too_many_connections_are_told_so_and_closed() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--connections-max", "2"]);
    let mut held = [service.client(), service.client()];
    for client in &mut held {
        client.get("/healthz").ok();
    }
    let mut third = service.client();
    third
        .read(false)
        .expect("an answer")
        .is_problem(503, "too_many_connections");
    assert_eq!(third.stream().read(&mut [0]).expect("the end"), 0);
    assert_eq!(
        service.metric("backdrop_shed_total{reason=\"connections\"}"),
        1.0
    );
    drop(held);
    poll("a free place", || {
        let mut client = service.client();
        client
            .stream()
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .ok()?;
        client
            .read(false)
            .ok()
            .filter(|answer| answer.status == 200)
    });
}

#[test]
fn a_huge_head_is_refused() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let many: Vec<_> = (0..200).map(|at| (format!("x-{at}"), "v")).collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    client
        .send("GET", "/healthz", &many, b"")
        .is_problem(431, "head_too_large");
}
