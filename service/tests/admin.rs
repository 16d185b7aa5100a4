//! The admin listener: what it says about memory and accesses, what it does, and what that may cost.

mod support;

use serde_json::json;
use std::io::Write;
use support::*;

#[test]
fn shrinking_evicts_and_the_ledger_stays_true() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client
        .put("/v1/backgrounds/wall", jpeg(1920, 1080, [10, 200, 30]))
        .ok();
    let session = client
        .post("/v1/sessions", json!({"background": "wall"}))
        .ok()
        .json();
    let frame = format!(
        "/v1/sessions/{}/frame",
        session["session"].as_str().expect("an id")
    );
    client.get(&frame).ok();
    // The frame's bytes may arrive before its lease is gone.
    let textures = poll("the end of the lease", || {
        let textures = service.memory()["textures"].clone();
        (textures["pinned_bytes"] == json!(0)).then_some(textures)
    });
    assert_eq!(textures["resident"], json!(1));
    assert!(textures["resident_bytes"].as_u64() >= Some(1920 * 1080 * 4));
    let shrunk = service
        .admin()
        .post("/debug/shrink", json!({"to_bytes": 0}))
        .ok()
        .json();
    assert_eq!(
        (&shrunk["evicted"], &shrunk["held_bytes"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(
        service.metric("backdrop_flyweight_evictions_total{reason=\"requested\"}"),
        1.0
    );
    poll("a sample without drift", || {
        let textures = service.memory()["textures"].clone();
        (textures["ledger_bytes"] == json!(0) && textures["drift_bytes"] == json!(0)).then_some(())
    });
    assert_eq!(client.get(&frame).ok().header("backdrop-cache"), "miss");
    service
        .admin()
        .post("/debug/shrink", json!({}))
        .is_problem(400, "bad_request");
}

#[test]
fn accesses_are_recorded_and_drained() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--access-record", "100"]);
    let mut client = service.client();
    client.put("/v1/backgrounds/wall", png(16, 16, [1; 3])).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "wall"}))
        .ok()
        .json();
    let frame = format!(
        "/v1/sessions/{}/frame?width=16&height=16",
        session["session"].as_str().expect("an id")
    );
    for _ in 0..3 {
        client.get(&frame).ok();
    }
    let record = service.admin().get("/debug/accesses?reset=1").ok().body;
    assert_eq!(
        (&record[..8], record[8..16].iter().sum::<u8>()),
        (&b"BKDA\x01\0\0\0"[..], 0)
    );
    let kinds: Vec<u8> = record[16..]
        .chunks_exact(8)
        .map(|row| row[4])
        .filter(|kind| *kind < 3)
        .collect();
    assert_eq!(kinds, [1, 0, 0], "one miss, then hits");
    assert_eq!(service.admin().get("/debug/accesses").ok().body.len(), 16);
}

#[test]
fn a_long_access_record_is_shed_where_there_is_no_memory_for_it_but_metrics_are_there() {
    const ENTRIES: usize = 2500;
    let dir = scratch();
    let arguments = [
        "--memory-limit",
        "34MiB",
        "--reserve-wait",
        "1ms",
        "--body-timeout",
        "10m",
        "--idle-timeout",
        "20m",
        "--access-record",
        "100000",
    ];
    let service = Service::start(dir.path(), &arguments);
    let mut client = service.client();
    client.put("/v1/backgrounds/wall", png(8, 8, [1; 3])).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "wall"}))
        .ok()
        .json();
    let frame = format!(
        "/v1/sessions/{}/frame?width=1&height=1&format=rgba",
        session["session"].as_str().expect("an id")
    );
    // More than an answer may have for nothing.
    for _ in 0..ENTRIES {
        client.get(&frame).ok();
    }
    let record = service.admin().get("/debug/accesses").ok().body;
    assert!(record.len() > ENTRIES * 8, "{}", record.len());

    // Bodies that never come hold what they stated.
    let mut holding = Vec::new();
    let shed = poll("an exhausted budget", || {
        for length in [500_000, 20_000] {
            let mut client = service.client();
            let kind = [("content-type", BINARY)];
            let head = client.head("POST", "/v1/sessions:batchRead", &kind, Some(length));
            client.stream().write_all(head.as_bytes()).expect("sent");
            holding.push(client);
        }
        let answer = service.admin().get("/debug/accesses?reset=0");
        (answer.status != 200).then_some(answer)
    });
    shed.is_problem(503, "budget_exhausted");
    // Who watches memory is answered when there is none.
    service.admin().get("/metrics").ok();
    drop(holding);
    poll("the record", || {
        let answer = service.admin().get("/debug/accesses?reset=1");
        (answer.status == 200).then(|| assert!(answer.body.len() >= record.len()))
    });
}

#[test]
fn every_pass_that_shrinks_says_so_in_one_structured_event_and_in_a_counter() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--log", "json", "--log-level", "info"]);
    let passes = |service: &Service| {
        ["reached", "short"].map(|result| {
            service.metric(&format!(
                "backdrop_flyweight_shrinks_total{{result=\"{result}\"}}"
            ))
        })
    };
    assert_eq!(passes(&service), [0.0, 0.0]);
    for _ in 0..3 {
        service
            .admin()
            .post("/debug/shrink", json!({"to_bytes": 0}))
            .ok();
    }
    assert_eq!(passes(&service), [3.0, 0.0]);
    let log = service.log();
    let events: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &serde_json::Value| event["fields"]["message"] == json!("textures shrunk"))
        .collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["fields"]["reason"], "requested");
    for field in [
        "reason",
        "evicted",
        "freed_bytes",
        "pinned",
        "archived",
        "skipped",
        "duration_us",
    ] {
        assert!(
            !events[0]["fields"][field].is_null(),
            "{field} of {}",
            events[0]
        );
    }
}

#[test]
fn a_path_that_only_begins_like_one_of_ours_is_not_found() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    for path in [
        "/debug/failpointsx",
        "/debug/memory/",
        "/metricsx",
        "/debug",
    ] {
        service.admin().get(path).is_problem(404, "not_found");
    }
}

#[test]
fn debug_memory_says_what_is_promised_and_what_is_held() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--memory-limit", "512MiB"]);
    let memory = service.memory();
    let number = |path: &str| {
        memory
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .expect(path)
    };
    let reaction = number("/reaction/sample_ms")
        + number("/reaction/decision_ms")
        + number("/reaction/fall_ms");
    let filled = number("/reaction/rate_bytes_per_second") * reaction / 1e3;
    assert!(
        (filled - number("/reaction/room_bytes")).abs() < 1e3,
        "{filled}"
    );
    assert!((number("/reaction/room_bytes") - 0.05 * number("/limit_bytes")).abs() < 1e3);
    // From rest more is promised: until the first pass above Elevated, or between two passes, whichever is less.
    let rest = |figure: &str| number(&format!("/reaction/at_rest/{figure}"));
    let filled = rest("rate_bytes_per_second") * rest("reaction_ms") / 1e3;
    assert!((filled - rest("room_bytes")).abs() < 1e3, "{filled}");
    let above_elevated = number("/limit_bytes") - number("/elevated_bytes");
    assert!(rest("room_bytes") >= above_elevated - 1e3);
    assert!(rest("rate_bytes_per_second") > number("/reaction/rate_bytes_per_second"));
    assert!(number("/working_set_bytes") > 0.0 && number("/reclaim/passes") >= 0.0);
    assert_eq!(
        number("/limit_sample"),
        1.0,
        "the limit is that of the start"
    );
    let arenas = memory["arenas"].as_array().expect("a list");
    assert_eq!(
        arenas
            .iter()
            .map(|arena| arena["name"].as_str())
            .collect::<Vec<_>>(),
        [Some("pixels"), Some("bodies")]
    );
    assert_eq!(memory["transitions"], json!([]));

    // A first session pays for a whole chunk of the table, and a second one shares it.
    let per_session = |memory: &serde_json::Value| memory["sessions"]["bytes_per_session"].clone();
    assert_eq!(per_session(&memory), json!(null));
    service.client().post("/v1/sessions", json!({})).ok();
    let memory = service.memory();
    let held = memory["budget"]["by_purpose"]["sessions"].as_f64();
    assert!(held > Some(1e6), "{held:?}");
    assert_eq!(per_session(&memory).as_f64(), held);
    service.client().post("/v1/sessions", json!({})).ok();
    let halved = per_session(&service.memory()).as_f64();
    assert_eq!(halved, held.map(|held| held / 2.0));
}
