//! Who may import whom: the runner imports the record's types and nothing else of ours; the host side knows no scenario.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            out.extend(sources(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            out.push(entry);
        }
    }
    out
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_runner_depends_on_reports_alone() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let ours: Vec<_> = manifest
        .lines()
        .filter(|l| l.starts_with("backdrop-"))
        .collect();
    assert_eq!(ours, ["backdrop-reports = { path = \"../reports\" }"]);
}

#[test]
fn the_host_side_imports_nothing_beside_itself() {
    for file in sources(&root().join("src/host")) {
        let text = fs::read_to_string(&file).unwrap();
        for (n, line) in text
            .lines()
            .enumerate()
            .filter(|(_, l)| l.contains("crate::"))
        {
            assert!(
                line.contains("crate::host"),
                "{}:{}: {line}",
                file.display(),
                n + 1
            );
        }
    }
}

/// Rules are pure: what is judged is handed in.
#[test]
fn rules_do_no_input_and_no_output() {
    for name in [
        "verdict.rs",
        "expect.rs",
        "figures.rs",
        "steady.rs",
        "lru.rs",
        "catalogue.rs",
        "plan.rs",
        "scenario/check.rs",
    ] {
        let text = fs::read_to_string(root().join("src").join(name)).unwrap();
        for word in [
            "std::fs",
            "std::process",
            "tokio::",
            "SystemTime::now",
            "Instant::now",
        ] {
            assert!(!text.contains(word), "{name} uses {word}");
        }
    }
}
