//! Who may know what: goose stays behind `attack.rs`, `unsafe` in `host.rs`, and the pure parts know no sockets.

use std::path::Path;

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
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_part_knows_only_what_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&src).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let code = code(&path);
        for (word, files) in CONFINED {
            if code.contains(word) && !files.contains(&name.as_str()) {
                wrong.push(format!("{name} holds {word}"));
            }
        }
        for word in IMPURE
            .iter()
            .filter(|word| PURE.contains(&name.as_str()) && code.contains(**word))
        {
            wrong.push(format!("{name} is pure and holds {word}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
