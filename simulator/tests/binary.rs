//! The binary as people meet it: exit codes and messages.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output};

fn simulator(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backdrop-simulator"))
        .args(arguments)
        .env_remove("BACKDROP_TOKEN")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_flags_exit_64_and_say_why() {
    for (arguments, word) in [
        (&["mixed", "--duration", "5"][..], "unit"),
        (&["mixed", "--sessions", "0"], "--sessions"),
        (&["mixed", "--url", "ftp://x"], "http://127.0.0.1:7080"),
        (&["mixed", "--token-file", "/nonexistent"], "--token-file"),
        (
            &["mixed", "--timeout", "9000000000000000000s"],
            "--timeout: a day is the longest",
        ),
        (&["nonsense"], "nonsense"),
        (&[], "Usage"),
    ] {
        let output = simulator(arguments);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(word),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

/// Answers one listing of an empty catalogue.
fn empty_catalogue() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let body = r#"{"epoch":"1","backgrounds":[],"next":null}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
    });
    url
}

#[test]
fn a_cause_is_said_once_beside_what_it_concerns() {
    let url = empty_catalogue();
    for (arguments, path, code) in [
        (
            &["mixed", "--url", &url, "--backgrounds", "/nonexistent/a"][..],
            "/nonexistent/a",
            64,
        ),
        (
            &["mixed", "--hlog", "/proc/nonexistent/b"],
            "--hlog /proc/nonexistent/b",
            255,
        ),
        (
            &["mixed", "--events", "/nonexistent/c"],
            "--events /nonexistent/c",
            255,
        ),
        (&["replay", "/nonexistent/e"], "/nonexistent/e", 64),
        (
            &["backgrounds", "--out", "/proc/nonexistent/d"],
            "/proc/nonexistent/d",
            255,
        ),
    ] {
        let output = simulator(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(path), "{text}");
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
    }
}

#[test]
fn nobody_listening_exits_69_and_names_the_url_and_the_mend() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    let output = simulator(&["mixed", "--url", &url]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    for word in [url.as_str(), "just serve", "--url"] {
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

#[test]
fn the_schedules_hash_is_told_without_a_service() {
    let hash = |seed: &str| {
        let output = simulator(&[
            "mixed",
            "--sessions",
            "1000",
            "--seed",
            seed,
            "--schedule-hash",
        ]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!((hash("7").len(), hash("7")), (16, hash("7")));
    assert_ne!(hash("7"), hash("8"));
}

#[test]
fn help_and_version_exit_0() {
    assert!(simulator(&["--help"]).status.success());
    let output = simulator(&["version", "--json"]);
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(version["features"], serde_json::json!([]));
}

#[test]
fn backgrounds_are_drawn_into_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("samples");
    let output = simulator(&[
        "backgrounds",
        "--count",
        "2",
        "--size",
        "640x360",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut names: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["sample-0000.jpg", "sample-0001.jpg"]);
}
