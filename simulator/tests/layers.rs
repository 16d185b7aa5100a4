//! Who may know what: goose stays behind `attack.rs`, `unsafe` in `host.rs`, and the pure parts know no sockets. Of
//! ours the crate imports the record's types alone.

use std::path::{Path, PathBuf};

/// Words that only these files may hold.
const CONFINED: &[(&str, &[&str])] = &[
    ("goose::", &["attack.rs"]),
    ("unsafe {", &["host.rs"]),
    ("libc::", &["host.rs"]),
    ("hyper::client", &["client.rs"]),
    ("println!", &["main.rs"]),
    ("eprint", &["main.rs"]),
];

/// Parts that compute and nothing else.
const PURE: &[&str] = &[
    "schedule.rs",
    "cohort.rs",
    "truth.rs",
    "code.rs",
    "wire.rs",
    "draw.rs",
    "picture.rs",
];
/// What a pure part never names.
const IMPURE: &[&str] = &[
    "tokio::",
    "hyper::",
    "std::fs",
    "std::net",
    "Instant",
    "SystemTime",
    "crate::shared",
    "crate::client",
];

/// The file without comments and tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("a source file");
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Source files below a folder, files of tests left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The part that a file belongs to: a folder's files belong to the file of its name.
fn part(src: &Path, path: &Path) -> String {
    let below = path.strip_prefix(src).expect("below src");
    let first = below.iter().next().expect("a name").to_string_lossy();
    format!("{}.rs", first.trim_end_matches(".rs"))
}

#[test]
fn every_part_knows_only_what_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for path in files(&src) {
        let (name, code) = (part(&src, &path), code(&path));
        for (word, files) in CONFINED {
            if code.contains(word) && !files.contains(&name.as_str()) {
                wrong.push(format!("{} holds {word}", path.display()));
            }
        }
        for word in IMPURE
            .iter()
            .filter(|word| PURE.contains(&name.as_str()) && code.contains(**word))
        {
            wrong.push(format!("{} is pure and holds {word}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// It meets the service over HTTP, and the runner starts it as a process.
#[test]
fn the_simulator_depends_on_reports_alone() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(path).expect("a manifest");
    let ours: Vec<&str> = manifest
        .lines()
        .filter(|line| line.contains("backdrop-") && !line.starts_with("name = "))
        .collect();
    assert_eq!(ours, ["backdrop-reports = { path = \"../reports\" }"]);
}
