//! Protections switched off, only in a build with chaos-controls: each does what the chaos runner's controls rely on.

#![cfg(feature = "chaos-controls")]

mod support;

use std::sync::Barrier;
use std::time::Duration;

use backdrop_service::config::{Config, Raw};
use backdrop_service::memory::governor::{Governor, Sample};
use serde_json::json;
use support::*;

const LIMIT: [&str; 4] = ["--sharing", "exclusive", "--memory-limit", "128MiB"];
/// A build for debugging on a busy host takes its time.
const PATIENT: [&str; 4] = ["--request-timeout", "60s", "--idle-timeout", "120s"];

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
    let service = Service::start(dir.path(), &[&LIMIT[..], &PATIENT, &off].concat());
    // 24 textures of 8 MiB are more than the limit: with protections on, most would be shed.
    assert_eq!(reached(&service, 24), 24);
}

#[test]
fn every_protection_that_is_off_is_warned_of_at_start() {
    let warnings = [
        ("--unsafe-disable-budget", "THE BUDGET REFUSES NOTHING"),
        ("--unsafe-disable-governor", "THE GOVERNOR DOES NOTHING"),
        ("--unsafe-volatile-uploads", "UPLOADS ARE NOT DURABLE"),
        ("--unsafe-disable-eviction-order", "EVICTION HAS NO ORDER"),
        (
            "--unsafe-disable-single-flight",
            "EVERY CALLER LOADS FOR ITSELF",
        ),
        (
            "--unsafe-disable-version-check",
            "OVERTAKEN LOADS ARE SHOWN",
        ),
        ("--unsafe-disable-dwell", "THE GOVERNOR HAS NO DWELL TIME"),
        ("--unsafe-disable-body-limit", "BODIES MAY HAVE ANY LENGTH"),
        (
            "--unsafe-disable-queue-bound",
            "ANY NUMBER OF FRAMES MAY WAIT",
        ),
    ];
    let (all_on, all_off) = (scratch(), scratch());
    let log = Service::start(all_on.path(), &[]).log();
    for (_, warning) in warnings {
        assert!(!log.contains(warning), "{log}");
    }
    let log = Service::start(all_off.path(), &warnings.map(|(flag, _)| flag)).log();
    for (flag, warning) in warnings {
        assert!(log.contains(warning), "{flag}: {log}");
    }
}

#[test]
fn the_same_build_sheds_while_its_protections_are_on() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[LIMIT, PATIENT].concat());
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

/// How the frame of a session was come by.
fn access(client: &mut Client, session: &str) -> String {
    let path = format!("/v1/sessions/{session}/frame?width=64&height=32&format=rgba");
    client.get(&path).ok().header("backdrop-cache").to_owned()
}

#[test]
fn without_an_order_what_was_just_used_is_evicted() {
    let after_eviction = |switches: &[&str]| {
        let dir = scratch();
        let gallery = Gallery::open(
            dir.path(),
            &[&["--archive-bytes-max", "0"], switches].concat(),
            3,
        );
        gallery.frame(0);
        poll("an eviction", || {
            gallery.shrink_by(1);
            (gallery
                .service
                .metric("backdrop_flyweight_resident_textures")
                < 3.0)
                .then_some(())
        });
        access(&mut gallery.service.client(), &gallery.sessions[0])
    };
    assert_eq!(after_eviction(&[]), "hit");
    assert_eq!(after_eviction(&["--unsafe-disable-eviction-order"]), "miss");
}

fn session(client: &mut Client, background: &str) -> String {
    let made = client.post("/v1/sessions", json!({ "background": background }));
    made.ok().json()["session"]
        .as_str()
        .expect("an id")
        .to_owned()
}

const DECODING: &str = "backdrop_memory_budget_used_bytes{purpose=\"decode\"}";
const LOADS: &str = "backdrop_flyweight_loads_total{result=\"ok\"}";

/// Whether herds of callers at one cold background ever caused more loads than there were herds.
fn a_herd_loads_twice(switches: &[&str]) -> bool {
    const HERD: usize = 4;
    let dir = scratch();
    let service = Service::start(
        dir.path(),
        &[&["--archive-bytes-max", "0"], &PATIENT[..], switches].concat(),
    );
    let mut writer = service.client();
    // One herd at least overlaps, unless all of its callers take turns by chance: hence many.
    for herd in 1..=10_u8 {
        writer
            .put("/v1/backgrounds/wall", jpeg(1920, 1080, [herd, 20, 200]))
            .ok();
        let session = session(&mut writer, "wall");
        let (before, together) = (service.metric(LOADS), Barrier::new(HERD));
        std::thread::scope(|scope| {
            for _ in 0..HERD {
                scope.spawn(|| {
                    let mut client = service.client();
                    together.wait();
                    access(&mut client, &session);
                });
            }
        });
        if service.metric(LOADS) > before + 1.0 {
            return true;
        }
    }
    false
}

#[test]
fn without_a_single_flight_a_herd_loads_more_than_once() {
    assert!(!a_herd_loads_twice(&[]));
    assert!(a_herd_loads_twice(&["--unsafe-disable-single-flight"]));
}

const OVERTAKEN: &str = "backdrop_flyweight_loads_total{result=\"overtaken\"}";

/// Replaces a large picture by a small one while it is loaded, again and again, until the service threw some of the loads away or a
/// frame that was asked for after the small one was acknowledged is of the large one: whether that was so.
fn an_overtaken_load_is_shown(switches: &[&str]) -> bool {
    let dir = scratch();
    // No archive, so that every load is a decode; no disk, whose pace would decide who wins the race.
    let always = ["--archive-bytes-max", "0", "--decode-threads", "2"];
    let volatile = ["--unsafe-volatile-uploads"];
    let service = Service::start(
        dir.path(),
        &[&always[..], &PATIENT, &volatile, switches].concat(),
    );
    let mut writer = service.client();
    let (large, small) = (jpeg(4000, 3000, [9; 3]), png(8, 8, [1; 3]));
    poll("a load that is overtaken", || {
        writer.put("/v1/backgrounds/wall", &large).ok();
        let session = session(&mut writer, "wall");
        let path = format!("/v1/sessions/{session}/frame?width=64&height=32&format=rgba");
        let loaded = service.metric(LOADS);
        let replaced = std::thread::scope(|scope| {
            // What becomes of this one is of no interest: it may be of either picture, or too late for the files of the first.
            scope.spawn(|| service.client().get(&path));
            poll("a load", || {
                (service.metric(DECODING) > 0.0 || service.metric(LOADS) > loaded).then_some(())
            });
            let replaced = writer.put("/v1/backgrounds/wall", &small).ok().json();
            replaced["version"].to_string()
        });
        let shown = writer.get(&path);
        let stale = shown.status == 200 && shown.header("backdrop-version") != replaced;
        (stale || service.metric(OVERTAKEN) >= 3.0).then_some(stale)
    })
}

#[test]
fn without_the_version_check_a_replaced_picture_is_shown() {
    assert!(!an_overtaken_load_is_shown(&[]));
    assert!(an_overtaken_load_is_shown(&[
        "--unsafe-disable-version-check"
    ]));
}

/// Changes of the governor's state while pressure crosses both edges every 20 ms for a second.
fn changes_at_an_edge(raw: Raw) -> usize {
    let config = Config::resolve(raw).expect("settings");
    let mut governor = Governor::new(config.memory().governor);
    let limit = 1000;
    let changed = (0..50).filter(|step| {
        let pressure = if step % 2 == 0 { 860 } else { 790 };
        let sample = Sample {
            limit,
            pressure,
            own: pressure,
            ..Sample::default()
        };
        let decision = governor.observe(Duration::from_millis(20 * step), &sample);
        decision.transition.is_some()
    });
    changed.count()
}

#[test]
fn without_a_dwell_the_governor_follows_every_crossing() {
    assert_eq!(changes_at_an_edge(Raw::default()), 1);
    let off = Raw {
        unsafe_disable_dwell: Some(true),
        ..Raw::default()
    };
    assert_eq!(changes_at_an_edge(off), 50);
}

#[test]
fn without_a_body_limit_a_body_over_it_is_taken() {
    let put = |switches: &[&str]| {
        let dir = scratch();
        let limit = ["--body-bytes-max", "4KiB"];
        let service = Service::start(dir.path(), &[&limit, switches].concat());
        let picture = jpeg(1920, 1080, [1, 2, 3]);
        assert!(picture.len() > 4096);
        service.client().put("/v1/backgrounds/a", picture).status
    };
    assert_eq!(put(&[]), 413);
    assert_eq!(put(&["--unsafe-disable-body-limit"]), 201);
}

/// Frames shed of many that are asked for at the same moment, where one may wait.
fn shed_at_once(service: &Service, session: &str) -> usize {
    const CALLERS: usize = 12;
    let together = Barrier::new(CALLERS);
    let one = || {
        let mut client = service.client();
        together.wait();
        let path = format!("/v1/sessions/{session}/frame?width=640&height=360&format=jpeg");
        usize::from(client.get(&path).status == 503)
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(one)).collect();
        let shed = callers
            .into_iter()
            .map(|caller| caller.join().expect("an answer"));
        shed.sum()
    })
}

#[test]
fn without_a_bound_of_the_queue_every_frame_waits() {
    let start = |switches: &[&str]| {
        let dir = scratch();
        let bound = ["--render-queue-max", "1", "--render-threads", "1"];
        let service = Service::start(dir.path(), &[&bound, &PATIENT, switches].concat());
        let mut client = service.client();
        client.put("/v1/backgrounds/a", png(64, 64, [1; 3])).ok();
        let session = session(&mut client, "a");
        access(&mut client, &session);
        (dir, service, session)
    };
    let (_dir, service, id) = start(&[]);
    poll("a full queue", || {
        (shed_at_once(&service, &id) > 0).then_some(())
    });
    let (_dir, service, id) = start(&["--unsafe-disable-queue-bound"]);
    for _ in 0..5 {
        assert_eq!(shed_at_once(&service, &id), 0);
    }
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
