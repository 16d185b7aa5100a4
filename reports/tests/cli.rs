//! The `report` binary as a person meets it.

mod support;

use std::process::{Command, Output};

use backdrop_reports::render::write_all;

fn report(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn renders_in_place_and_elsewhere() {
    let out = tempfile::tempdir().expect("a folder");
    let run = out.path().join("run");
    write_all(&support::deviated(), &run).expect("written");
    std::fs::remove_file(run.join("index.html")).expect("removed");
    let again = report(&["render", run.to_str().expect("utf-8")]);
    assert!(
        again.status.success() && said(&again).starts_with("deviated: "),
        "{}",
        said(&again)
    );
    assert!(run.join("index.html").is_file());
    let there = out.path().join("there");
    let json = run.join("run.json");
    let elsewhere = report(&[
        "render",
        json.to_str().expect("utf-8"),
        "--out",
        there.to_str().expect("utf-8"),
    ]);
    assert!(elsewhere.status.success(), "{}", said(&elsewhere));
    assert_eq!(
        std::fs::read(there.join("run.json")).expect("copied"),
        std::fs::read(json).expect("there")
    );
    assert_eq!(
        std::fs::read_link(out.path().join("latest"))
            .expect("a link")
            .to_str(),
        Some("run")
    );
}

#[test]
fn a_missing_or_broken_record_is_named() {
    let out = tempfile::tempdir().expect("a folder");
    let dir = out.path().to_str().expect("utf-8");
    let file = out.path().join("bad.json");
    std::fs::write(&file, "{\"schema_version\": 1, \"id\": 5}").expect("written");
    let bad = file.to_str().expect("utf-8");
    for (arguments, code, words) in [
        (
            vec!["render", "/nowhere/run.json"],
            66,
            "cannot read /nowhere/run.json",
        ),
        (vec!["render", dir], 66, "holds no run.json"),
        (vec!["render", bad], 65, "is not a run record"),
        (vec!["render"], 64, "RUN_DIR_OR_JSON"),
        (vec!["--help"], 0, "reports/out/latest"),
    ] {
        let output = report(&arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(
            said(&output).contains(words),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn prints_the_schema() {
    assert_eq!(
        said(&report(&["schema"])),
        include_str!("../schema/run-v2.json")
    );
}

/// The pages stay in the target folder, for people to look at.
#[test]
fn a_page_on_disk_says_its_verdict_and_is_written_anew_over_an_old_one() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    for (name, record) in [("held", support::run()), ("deviated", support::deviated())] {
        let run = dir.join(name);
        std::fs::create_dir_all(&run).expect("a folder");
        std::fs::write(run.join("index.html"), "old").expect("an old page");
        write_all(&record, &run).expect("written");
        let page = std::fs::read_to_string(run.join("index.html")).expect("a page");
        assert!(page.contains(&format!("<section class=\"hero {name}\"")));
    }
}
