//! Start, restart and end: what is durable, what is stale, and what a bad setting says.

mod support;

use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use support::*;

fn run(arguments: &[&str]) -> Output {
    command()
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn acknowledged_uploads_survive_a_kill_and_old_ids_are_clean_404s() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let file = png(32, 32, [1, 2, 3]);
    client.put("/v1/backgrounds/kept", &file).ok();
    client.put("/v1/backgrounds/twice", &file).ok();
    client
        .put("/v1/backgrounds/twice", png(32, 32, [9; 3]))
        .ok();
    client.put("/v1/backgrounds/removed", &file).ok();
    client
        .send("DELETE", "/v1/backgrounds/removed", &[], b"")
        .ok();
    let session = client
        .post("/v1/sessions", json!({"background": "kept"}))
        .ok()
        .json();
    let before = client.get("/v1/backgrounds").ok().json();
    service.kill();

    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let after = client.get("/v1/backgrounds").ok().json();
    assert_ne!(before["epoch"], after["epoch"]);
    let known = |page: &serde_json::Value| -> Vec<serde_json::Value> {
        let rows = page["backgrounds"].as_array().expect("a list");
        rows.iter()
            .map(|row| json!([row["id"], row["version"], row["checksum"]]))
            .collect()
    };
    assert_eq!(known(&before), known(&after));
    assert_eq!(client.get("/v1/backgrounds/kept").ok().body, file);
    let old = session["session"].as_str().expect("an id");
    client
        .get(&format!("/v1/sessions/{old}"))
        .is_problem(404, "session_not_found");
    // Fill the same slot again: the old id still names nothing.
    client.post("/v1/sessions", json!({})).ok();
    client
        .get(&format!("/v1/sessions/{old}"))
        .is_problem(404, "session_not_found");
    let again = client.put("/v1/backgrounds/removed", &file).ok();
    assert_eq!(again.json()["version"], json!(2));
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_exits_zero() {
    let dir = scratch();
    let mut service = Service::start(dir.path(), &[]);
    let mut idle = service.client();
    idle.get("/readyz").ok();
    // A request whose body is half sent when the signal comes. That its handler asks for the body proves that it runs.
    let mut busy = service.client();
    let file = png(16, 16, [5; 3]);
    let expect = [("expect", "100-continue")];
    let length = Some(file.len() as u64);
    let head = busy.head("PUT", "/v1/backgrounds/late", &expect, length);
    busy.stream().write_all(head.as_bytes()).expect("sent");
    assert_eq!(busy.read(true).expect("a go-ahead").status, 100);
    busy.stream().write_all(&file[..10]).expect("sent");

    service.signal("TERM");
    poll("the listener's end", || {
        std::net::TcpStream::connect(service.listen).err()
    });
    busy.stream().write_all(&file[10..]).expect("sent");
    assert_eq!(busy.read(false).expect("an answer").status, 201);
    assert_eq!(service.wait().code(), Some(0));

    let service = Service::start(dir.path(), &[]);
    assert_eq!(service.client().get("/v1/backgrounds/late").ok().body, file);
}

#[test]
fn a_lame_duck_says_that_it_is_not_ready_and_serves_on_until_told_twice() {
    let dir = scratch();
    let mut service = Service::start(dir.path(), &["--lame-duck", "60m"]);
    let mut client = service.client();
    client.send("HEAD", "/readyz", &[], b"").ok();
    service.signal("TERM");
    poll("the 503", || {
        (service.client().get("/readyz").status == 503).then_some(())
    });
    client.get("/readyz").is_problem(503, "not_ready");
    assert_eq!(client.send("HEAD", "/readyz", &[], b"").status, 503);
    service.admin().get("/readyz").is_problem(503, "not_ready");
    client.get("/healthz").ok();
    client.put("/v1/backgrounds/late", png(16, 16, [5; 3])).ok();
    client
        .post("/v1/sessions", json!({"background": "late"}))
        .ok();
    drop(client);
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn import_takes_good_files_reports_bad_ones_and_fails_then() {
    let dir = scratch();
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).expect("a folder");
    let put =
        |name: &str, bytes: &[u8]| std::fs::write(pictures.join(name), bytes).expect("written");
    put("Beach At Night.PNG", &png(16, 16, [1; 3]));
    put("forest.jpg", &jpeg(16, 16, [2; 3]));
    put("lossy.webp", include_bytes!("fixtures/lossy.webp"));
    put("notes.txt", b"not a picture");
    let data = dir.path().join("data");
    let import = || {
        run(&[
            "import",
            "--log-level",
            "warn",
            "--data",
            data.to_str().expect("text"),
            pictures.to_str().expect("text"),
        ])
    };
    let empty = run(&[
        "import",
        "--data",
        data.to_str().expect("text"),
        dir.path().to_str().expect("text"),
    ]);
    assert_eq!(empty.status.code(), Some(1));
    let told = stderr(&empty);
    assert!(
        told.contains("holds no picture") && told.contains(".webp"),
        "{told}"
    );
    assert!(!data.exists(), "nothing is begun for it");
    let good = import();
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    put("torn.jpeg", &jpeg(64, 64, [3; 3])[..300]);
    let bad = import();
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).contains("torn.jpeg"), "{}", stderr(&bad));

    let service = Service::start(dir.path(), &[]);
    let page = service.client().get("/v1/backgrounds").ok().json();
    let ids: Vec<_> = page["backgrounds"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["id"].clone())
        .collect();
    assert_eq!(json!(ids), json!(["beach-at-night", "forest", "lossy"]));
}

#[test]
fn a_bad_setting_exits_64_and_says_what_to_do() {
    for (arguments, hint) in [
        (&["serve", "--listen", "0.0.0.0:0"][..], "--tokens-file"),
        (&["serve", "--sessions-max", "0"], "sessions-max"),
        (&["serve", "--sharing", "both"], "flyweight"),
        (&["serve", "--memory-limit", "lots"], "lots"),
        (
            &["serve", "--config", "/nonexistent/file.toml"],
            "/nonexistent/file.toml",
        ),
        (&["serve", "--no-such-flag"], "--no-such-flag"),
        (&["serve", "--memory-limit", "1MiB"], "memory-limit"),
        (
            &["serve", "--image-pixels-max", "1000000001"],
            "image-pixels-max",
        ),
        (&["serve", "--render-threads", "0"], "threads"),
        (&[], "Usage"),
    ] {
        let output = run(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(hint),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

/// Each text is what the system says of it: once, however many errors it came through.
#[test]
fn what_keeps_a_start_from_succeeding_is_said_once() {
    let dir = scratch();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    let data = file.join("data");
    let data = data.to_str().expect("text");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let free = "127.0.0.1:0";
    std::fs::write(dir.path().join("one.png"), b"").expect("written");
    let pictures = dir.path().to_str().expect("text");
    for (arguments, code, text) in [
        (
            &["serve", "--listen", free, "--admin", free, "--data", data][..],
            1,
            "os error 20",
        ),
        (&["import", pictures, "--data", data], 1, "os error 20"),
        (&["serve", "--listen", &address], 1, "os error 98"),
        (
            &["serve", "--listen", &address],
            1,
            "give --listen another port",
        ),
        (
            &["serve", "--listen", free, "--admin", &address],
            1,
            "give --admin another port",
        ),
        (&["serve", "--log-level", "info=loud"], 64, "level filter"),
    ] {
        let output = run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert_eq!(said.matches(text).count(), 1, "{arguments:?}: {said}");
    }
    // Told before anybody is told that the service is ready, with the path and what to do.
    let nowhere = dir.path().join("nowhere/ready.json");
    let nowhere = nowhere.to_str().expect("text");
    let fresh = dir.path().join("fresh");
    let fresh = fresh.to_str().expect("text");
    let output = run(&[
        "serve",
        "--listen",
        free,
        "--admin",
        free,
        "--data",
        fresh,
        "--ready-file",
        nowhere,
        "--log",
        "json",
    ]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("os error 2").count(), 1, "{said}");
    let told = format!("cannot write the ready file {nowhere}; give --ready-file");
    assert!(said.contains(&told), "{said}");
    assert!(!said.contains("\"ready\""), "{said}");
    let silent = run(&["serve", "--listen", &address, "--log-level", "off"]);
    assert_eq!(stderr(&silent).lines().count(), 1, "{}", stderr(&silent));
}

#[test]
fn a_bad_setting_is_found_before_anything_is_bound() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&["serve", "--listen", &address, "--memory-limit", "1MiB"]);
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
}

/// Whether the process has a handler of its own for SIGTERM.
fn handles_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> 14 & 1 == 1)
}

/// A data directory whose recovery does not end before somebody opens the pipe that this returns: opening one that nobody writes to
/// waits.
fn stuck_data(dir: &std::path::Path) -> PathBuf {
    let stuck = dir.join("data/backgrounds/stuck");
    std::fs::create_dir_all(&stuck).expect("a folder");
    let pipe = stuck.join("0000000001.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    pipe
}

#[test]
fn while_it_starts_probes_are_answered_and_all_else_is_told_to_come_again() {
    let dir = scratch();
    let pipe = stuck_data(dir.path());
    let log = dir.path().join("stderr.log");
    let mut child = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--log", "json", "--data"])
        .arg(dir.path().join("data"))
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).expect("a log"))
        .spawn()
        .expect("starts");
    let line = poll("its addresses", || {
        let log = std::fs::read_to_string(&log).expect("a log");
        let mut lines = log.lines();
        lines
            .find(|line| line.contains("starting: probes"))
            .map(str::to_owned)
    });
    let line: serde_json::Value = serde_json::from_str(&line).expect("json");
    let [listen, admin] = ["listen", "admin"].map(|key| {
        let address = line["fields"][key].as_str().expect("an address");
        address.parse().expect("an address")
    });
    for address in [listen, admin] {
        let mut client = Client::new(address);
        client.get("/healthz").ok();
        client.send("HEAD", "/healthz", &[], b"").ok();
        let refused = client.get("/readyz");
        refused.is_problem(503, "not_ready");
        assert!(refused.text().contains("starting"), "{}", refused.text());
        assert_eq!(client.send("HEAD", "/readyz", &[], b"").status, 503);
        let early = client.get("/v1/backgrounds");
        early.is_problem(503, "not_ready");
        assert_eq!(early.header("retry-after"), "1");
    }
    let mut waiting = Client::new(listen);
    let upload = waiting.put("/v1/backgrounds/early", png(16, 16, [5; 3]));
    upload.is_problem(503, "not_ready");
    // Whoever reads it finds nothing, and passes over it.
    drop(
        std::fs::File::options()
            .write(true)
            .open(pipe)
            .expect("read"),
    );
    for address in [listen, admin] {
        poll("its readiness", || {
            (Client::new(address).get("/readyz").status == 200).then_some(())
        });
        Client::new(address).send("HEAD", "/readyz", &[], b"").ok();
    }
    let mut client = Client::new(listen);
    client.put("/v1/backgrounds/late", png(16, 16, [5; 3])).ok();
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn sigterm_during_recovery_ends_it() {
    let dir = scratch();
    stuck_data(dir.path());
    let ready = dir.path().join("ready.json");
    let mut child = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--drain-timeout", "100ms", "--data"])
        .arg(dir.path().join("data"))
        .arg("--ready-file")
        .arg(&ready)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    poll("the handler", || handles_sigterm(child.id()).then_some(()));
    let sent = std::process::Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status();
    assert!(sent.expect("kill runs").success());
    let ended = poll("the end", || child.try_wait().expect("a child"));
    assert_eq!(ended.code(), Some(0), "not killed by the signal");
    assert!(!ready.exists());
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let dir = scratch();
    let file = dir.path().join("service.toml");
    std::fs::write(&file, "sessions-max = 5\nbackgrounds-max = 7\n").expect("written");
    // The level is a flag: the helper sets its variable to less than what a start says.
    let arguments = [
        "--config",
        file.to_str().expect("text"),
        "--sessions-max",
        "9",
        "--log-level",
        "info",
    ];
    let mut service = Service::start_with(dir.path(), &arguments, &[("BACKDROP_LOG", "json")]);
    assert_eq!(service.metric("backdrop_sessions_capacity"), 9.0);
    let mut client = service.client();
    let picture = png(8, 8, [1; 3]);
    for number in 0..7 {
        client
            .put(&format!("/v1/backgrounds/wall-{number}"), &picture)
            .ok();
    }
    client
        .put("/v1/backgrounds/wall-7", &picture)
        .is_problem(409, "catalogue_full");

    drop(client);
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
    let log = service.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["fields"]["message"] == "ready"),
        "{log}"
    );
    assert!(lines.iter().all(|line| line["level"].is_string()), "{log}");
    assert!(
        lines
            .iter()
            .any(|line| line["fields"]["sessions_max"] == json!(9)),
        "{log}"
    );
}

#[test]
fn version_is_readable_by_machines() {
    let output = run(&["version", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let failpoints = json["features"]
        .as_array()
        .expect("a list")
        .contains(&json!("failpoints"));
    assert_eq!(failpoints, cfg!(feature = "failpoints"));
}

#[cfg(not(feature = "chaos-controls"))]
#[test]
fn protections_cannot_be_switched_off_in_this_build() {
    let output = run(&["serve", "--unsafe-disable-budget"]);
    assert_eq!(output.status.code(), Some(64));
}

#[cfg(not(feature = "failpoints"))]
#[test]
fn failpoints_are_refused_in_this_build() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    service
        .admin()
        .get("/debug/failpoints")
        .is_problem(404, "not_built_with_failpoints");
    service
        .admin()
        .put("/debug/failpoints/store.load.error", "return")
        .is_problem(404, "not_built_with_failpoints");
}
