//! Who may import whom: `main → app → http → {sessions, frames} → flyweight → store → codec`, and `frames → render`.
//!
//! An arrow may be skipped over, never turned round. `render` knows pixel types only. Everybody but `render` may use
//! `metrics`, `failpoints` and the books of `memory`; these know nobody, and the governor knows no sibling.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Parts with what each may import, beside itself.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "app",
        &[
            "config",
            "http",
            "sessions",
            "frames",
            "flyweight",
            "store",
            "codec",
            "memory",
            "metrics",
            "failpoints",
        ],
    ),
    (
        "config",
        &[
            "http",
            "sessions",
            "frames",
            "flyweight",
            "store",
            "codec",
            "memory",
        ],
    ),
    (
        "http",
        &[
            "sessions",
            "frames",
            "flyweight",
            "store",
            "codec",
            "memory",
            "metrics",
            "failpoints",
        ],
    ),
    (
        "sessions",
        &["flyweight", "memory", "metrics", "failpoints"],
    ),
    (
        "frames",
        &[
            "flyweight",
            "store",
            "codec",
            "render",
            "memory",
            "metrics",
            "failpoints",
            "priority",
        ],
    ),
    (
        "flyweight",
        &[
            "store",
            "codec",
            "memory",
            "metrics",
            "failpoints",
            "priority",
        ],
    ),
    ("store", &["codec", "memory", "metrics", "failpoints"]),
    ("codec", &["memory", "metrics", "failpoints"]),
    ("render", &["codec"]),
    ("memory", &["metrics", "failpoints"]),
    ("metrics", &[]),
    ("priority", &[]),
    ("failpoints", &[]),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part that a file belongs to: the first folder or file name below `src`.
fn part_of(path: &Path, src: &Path) -> String {
    let relative = path.strip_prefix(src).expect("below src");
    let first = relative.components().next().expect("a component");
    first
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

/// Parts named behind `crate::`, also inside `crate::{…}`, comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect();
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.insert(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn nobody_imports_against_the_arrows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let parts: BTreeSet<&str> = ALLOWED.iter().map(|(part, _)| *part).collect();
    let mut wrong = Vec::new();
    for file in files {
        let part = part_of(&file, &src);
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == part) else {
            assert!(
                matches!(part.as_str(), "lib" | "main"),
                "{} belongs to no known part",
                file.display()
            );
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("a source file");
        for import in imports(&text)
            .iter()
            .filter(|import| parts.contains(import.as_str()))
        {
            if *import != part && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_says_its_job() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let silent: Vec<_> = files
        .iter()
        .filter(|file| {
            !std::fs::read_to_string(file)
                .expect("a source file")
                .starts_with("//!")
        })
        .collect();
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn finds_imports_in_lists_and_nested() {
    let text = "use crate::{memory::{Budget, Charge}, store};\nuse crate::codec::Size; // crate::http\nlet x = crate::render::ONE;";
    let found: Vec<String> = imports(text).into_iter().collect();
    assert_eq!(found, ["codec", "memory", "render", "store"]);
}
