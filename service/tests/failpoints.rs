//! Injected faults, only in a build with failpoints: clean errors, counted triggers, and recovery.

#![cfg(feature = "failpoints")]

mod support;

use serde_json::json;
use support::*;

fn set(service: &Service, name: &str, action: &str) {
    service
        .admin()
        .put(&format!("/debug/failpoints/{name}"), action)
        .ok();
}

fn clear(service: &Service, name: &str) {
    service
        .admin()
        .send("DELETE", &format!("/debug/failpoints/{name}"), &[], b"")
        .ok();
}

fn triggers(service: &Service, name: &str) -> f64 {
    service.metric(&format!(
        "backdrop_failpoint_triggers_total{{failpoint=\"{name}\"}}"
    ))
}

struct Stage {
    _dir: tempfile::TempDir,
    service: Service,
    client: Client,
    session: String,
}

fn stage() -> Stage {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.put("/v1/backgrounds/a", png(16, 16, [1; 3])).ok();
    client.put("/v1/backgrounds/b", png(16, 16, [2; 3])).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "a"}))
        .ok()
        .json();
    let session = session["session"].as_str().expect("an id").to_owned();
    Stage {
        _dir: dir,
        service,
        client,
        session,
    }
}

#[test]
fn the_list_names_every_point_and_bad_actions_are_refused() {
    let Stage { service, _dir, .. } = stage();
    set(&service, "store.load.error", "10%return");
    let list = service.admin().get("/debug/failpoints").ok().json();
    let rows = list["failpoints"].as_array().expect("a list");
    assert_eq!(rows.len(), backdrop_service::failpoints::ALL.len());
    let row = rows
        .iter()
        .find(|row| row["name"] == "store.load.error")
        .expect("listed");
    assert_eq!(
        (&row["action"], &row["triggers"]),
        (&json!("10%return"), &json!(0))
    );
    let mut admin = service.admin();
    admin
        .put("/debug/failpoints/store.load.error", "panic")
        .is_problem(400, "bad_request");
    admin
        .put("/debug/failpoints/no.such.point", "return")
        .is_problem(404, "not_found");
}

#[test]
fn a_refused_switch_is_not_applied() {
    let Stage {
        service,
        mut client,
        session,
        _dir,
    } = stage();
    set(&service, "sessions.switch.error", "return");
    let body = json!({"switches": [{"session": session, "background": "b"}]});
    assert_eq!(
        client.post("/v1/sessions:batchSwitch", &body).ok().json()["codes"],
        json!(["internal"])
    );
    let switch = json!({"background": "b"}).to_string();
    client
        .put(&format!("/v1/sessions/{session}/background"), &switch)
        .is_problem(500, "internal");
    assert_eq!(triggers(&service, "sessions.switch.error"), 2.0);
    let read = client.get(&format!("/v1/sessions/{session}")).ok().json();
    assert_eq!(
        (&read["background"], &read["switches"]),
        (&json!("a"), &json!(0))
    );
    clear(&service, "sessions.switch.error");
    client
        .put(&format!("/v1/sessions/{session}/background"), switch)
        .ok();
}

#[test]
fn failing_loads_are_clean_errors_and_sessions_keep_switching() {
    let Stage {
        service,
        mut client,
        session,
        _dir,
    } = stage();
    let frame = format!("/v1/sessions/{session}/frame?width=16&height=16");
    for (point, status, code) in [
        ("store.load.error", 502, "load_failed"),
        ("codec.decode.error", 502, "load_failed"),
        ("frames.render.error", 500, "internal"),
    ] {
        service
            .admin()
            .post("/debug/shrink", json!({"to_bytes": 0}))
            .ok();
        set(&service, point, "return");
        client.get(&frame).is_problem(status, code);
        assert!(triggers(&service, point) >= 1.0);
        let body = json!({"switches": [{"session": session, "background": "a"}]});
        assert_eq!(
            client.post("/v1/sessions:batchSwitch", &body).ok().json()["applied"],
            json!(1)
        );
        clear(&service, point);
        // The error is remembered for a while, then loads succeed again.
        poll("recovery", || {
            (client.get(&frame).status == 200).then_some(())
        });
    }
}

#[test]
fn a_failed_request_is_logged_once_with_its_route_and_cause_and_the_caller_is_told_neither() {
    let Stage {
        service,
        mut client,
        session,
        _dir,
    } = stage();
    service
        .admin()
        .post("/debug/shrink", json!({"to_bytes": 0}))
        .ok();
    set(&service, "store.load.error", "return");
    let failed = client.get(&format!("/v1/sessions/{session}/frame?width=16&height=16"));
    failed.is_problem(502, "load_failed");
    assert!(!failed.text().contains("store.load.error"));
    let log = service.log();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("injected by failpoint store.load.error"))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("session_frame"), "{log}");
}

#[test]
fn an_exhausted_budget_sheds_uploads_with_retry_after() {
    let Stage {
        service,
        mut client,
        _dir,
        ..
    } = stage();
    set(&service, "memory.reserve.exhausted", "return");
    let refused = client.put("/v1/backgrounds/c", jpeg(1920, 1080, [9; 3]));
    refused.is_problem(503, "budget_exhausted");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(triggers(&service, "memory.reserve.exhausted") >= 1.0);
    assert_eq!(
        service.metric("backdrop_uploads_total{result=\"shed\"}"),
        1.0
    );
    clear(&service, "memory.reserve.exhausted");
    // The refusal closed the first connection: the body was never read.
    service
        .client()
        .put("/v1/backgrounds/c", jpeg(1920, 1080, [9; 3]))
        .ok();
}

fn shed(service: &Service) -> f64 {
    let sums = ["budget", "governor", "queue", "connections", "draining"]
        .map(|reason| service.metric(&format!("backdrop_shed_total{{reason=\"{reason}\"}}")));
    sums.iter().sum()
}

/// The delay is far longer than a request may take: no speed of the machine decides what is answered.
#[test]
fn a_change_that_a_slow_disk_outlasts_is_of_unknown_outcome_and_one_that_waits_for_it_is_not_done()
{
    let dir = scratch();
    let service = Service::start(dir.path(), &["--request-timeout", "2s"]);
    let mut client = service.client();
    let (first, second) = (png(16, 16, [1; 3]), png(16, 16, [2; 3]));
    client.put("/v1/backgrounds/a", &first).ok();
    set(&service, "store.write.delay", "1*return(10000)");
    client
        .put("/v1/backgrounds/a", &second)
        .is_problem(504, "outcome_unknown");
    assert_eq!(triggers(&service, "store.write.delay"), 1.0);
    assert_eq!(shed(&service), 0.0, "it was not refused");
    let errors = "backdrop_uploads_total{result=\"error\"}";
    assert_eq!(service.metric(errors), 1.0);
    // Those that follow wait for its turn to end. They are refused, and nothing of theirs is ever done.
    let third = client.put("/v1/backgrounds/a", png(16, 16, [3; 3]));
    third.is_problem(503, "timeout");
    assert_eq!(third.header("retry-after"), "1");
    let removal = client.send("DELETE", "/v1/backgrounds/a", &[], b"");
    removal.is_problem(503, "timeout");
    assert_eq!(shed(&service), 2.0);
    let shown = poll("the upload's end", || {
        let shown = client.get("/v1/backgrounds/a").ok();
        (shown.body != first).then_some(shown)
    });
    assert_eq!((&shown.body, shown.header("etag")), (&second, "\"v2\""));

    set(&service, "store.write.delay", "1*return(5000)");
    client
        .send("DELETE", "/v1/backgrounds/a", &[], b"")
        .is_problem(504, "outcome_unknown");
    poll("the removal's end", || {
        (client.get("/v1/backgrounds/a").status == 404).then_some(())
    });
}

/// Loads of the entries behind the first take far longer than a batch may.
#[test]
fn a_batch_whose_time_is_over_says_what_was_applied_and_sheds_the_rest() {
    let dir = scratch();
    let naive = ["--sharing", "exclusive", "--request-timeout", "2s"];
    let service = Service::start(dir.path(), &naive);
    let mut client = service.client();
    client.put("/v1/backgrounds/a", png(16, 16, [1; 3])).ok();
    let made = client
        .post("/v1/sessions:batchCreate", json!({"count": 3}))
        .ok()
        .json();
    let sessions = made["sessions"].as_array().expect("a list");
    set(&service, "store.load.delay", "1*off->return(60000)");
    let entry = |session| json!({"session": session, "background": "a"});
    let entries: Vec<_> = sessions.iter().map(entry).collect();
    let answer = client
        .post("/v1/sessions:batchSwitch", json!({"switches": entries}))
        .ok()
        .json();
    assert_eq!(answer["codes"], json!(["ok", "shed", "shed"]));
    assert_eq!(answer["applied"], json!(1));
    let read = json!({"sessions": sessions});
    let read = client.post("/v1/sessions:batchRead", read).ok().json();
    let switches = |at: usize| read["entries"][at]["switches"].clone();
    assert_eq!([0, 1, 2].map(switches), [json!(1), json!(0), json!(0)]);
    let counted =
        |result| service.metric(&format!("backdrop_switches_total{{result=\"{result}\"}}"));
    assert_eq!((counted("ok"), counted("shed")), (1.0, 2.0));

    set(&service, "store.load.delay", "1*off->return(60000)");
    let made = client
        .post(
            "/v1/sessions:batchCreate",
            json!({"count": 3, "background": "a"}),
        )
        .ok()
        .json();
    assert_eq!(made["codes"], json!(["ok", "shed", "shed"]));
    assert!(made["sessions"][0].is_string() && made["sessions"][1].is_null());
    assert_eq!(service.metric("backdrop_sessions"), 4.0);

    // One that was asked for alone, too, is counted.
    let session = sessions[1].as_str().expect("an id");
    client
        .put(
            &format!("/v1/sessions/{session}/background"),
            json!({"background": "a"}).to_string(),
        )
        .is_problem(503, "timeout");
    assert_eq!(counted("shed"), 3.0);
}

#[test]
fn delays_are_waited_out() {
    let Stage {
        service,
        mut client,
        session,
        _dir,
    } = stage();
    for point in [
        "store.load.delay",
        "codec.decode.delay",
        "frames.render.delay",
        "frames.composite.delay",
        "flyweight.evict.delay",
    ] {
        set(&service, point, "return(5)");
    }
    client
        .get(&format!("/v1/sessions/{session}/frame?width=16&height=16"))
        .ok();
    let path = format!("/v1/sessions/{session}/frames?width=16&height=16");
    client.send("POST", &path, &[], b"").ok();
    service
        .admin()
        .post("/debug/shrink", json!({"to_bytes": 0}))
        .ok();
    for point in [
        "store.load.delay",
        "codec.decode.delay",
        "frames.render.delay",
        "frames.composite.delay",
        "flyweight.evict.delay",
    ] {
        assert!(triggers(&service, point) >= 1.0, "{point} never fired");
    }
}

/// Six half-MiB textures of which a pass can spare four for the archive.
fn gallery(dir: &std::path::Path) -> Gallery {
    Gallery::open(dir, &[], 6)
}

#[test]
fn a_disk_that_fails_on_writing_costs_the_archive_only() {
    for (point, result) in [
        ("store.archive.write_error", "error"),
        ("store.archive.disk_full", "disk_full"),
    ] {
        let dir = scratch();
        let gallery = gallery(dir.path());
        set(&gallery.service, point, "return");
        gallery.shrink_by(2);
        gallery.settle();
        assert!(gallery.writes(result) >= 1.0, "{point}");
        assert_eq!(triggers(&gallery.service, point), gallery.writes(result));
        assert_eq!(gallery.service.metric("backdrop_archive_entries"), 0.0);
        clear(&gallery.service, point);
        gallery.is_as_it_was();
        // When the pause is over, evicted textures are archived again.
        poll("an archived texture", || {
            gallery.shrink_by(2);
            gallery.settle();
            gallery.is_as_it_was();
            (gallery.writes("ok") > 0.0).then_some(())
        });
    }
}

#[test]
fn reads_of_the_archive_that_fail_or_take_too_long_end_in_a_decode() {
    for (point, action, result) in [
        ("store.archive.read_error", "return", "error"),
        ("store.archive.slow", "return(2000)", "timeout"),
    ] {
        let dir = scratch();
        let gallery = gallery(dir.path());
        gallery.shrink_by(2);
        gallery.settle();
        assert_eq!(gallery.writes("ok"), 4.0);
        set(&gallery.service, point, action);
        gallery.is_as_it_was();
        assert!(gallery.reads(result) >= 1.0, "{point}");
        assert!(triggers(&gallery.service, point) >= 1.0);
        let failed = "backdrop_flyweight_loads_total{result=\"error\"}";
        assert_eq!(gallery.service.metric(failed), 0.0);
        clear(&gallery.service, point);
        // A read that was given up keeps its turn and its block until the disk answers, and no longer.
        poll("every block given back", || {
            gallery
                .service
                .admin()
                .post("/debug/shrink", json!({"to_bytes": 0}))
                .ok();
            (gallery.service.memory()["textures"]["ledger_bytes"] == 0).then_some(())
        });
        gallery.is_as_it_was();
    }
}
