//! Who may import whom inside this crate: wire types know nothing of ours, numbers know no record, and only
//! `render` knows how anything looks.

use std::path::Path;

#[path = "support/layers.rs"]
mod layers;

const ALLOWED: &[layers::Row] = &[
    ("load", &[]),
    ("record", &["format", "load"]),
    ("format", &[]),
    ("error", &[]),
    ("statistics", &[]),
    ("read", &["error", "record"]),
    ("schema", &["error", "record"]),
    ("scrape", &[]),
    ("steal", &[]),
    ("alike", &["format", "record"]),
    ("compare", &["alike", "format", "record", "statistics"]),
    (
        "history",
        &["alike", "error", "format", "read", "record", "statistics"],
    ),
    ("scorecard::rows", &["record"]),
    ("scorecard::found", &["record"]),
    ("scorecard::bench", &["scorecard::found", "scorecard::rows"]),
    (
        "scorecard::runs",
        &[
            "alike",
            "record",
            "scorecard::found",
            "scorecard::rows",
            "statistics",
        ],
    ),
    (
        "scorecard",
        &[
            "error",
            "history",
            "read",
            "scorecard::bench",
            "scorecard::found",
            "scorecard::rows",
            "scorecard::runs",
        ],
    ),
    ("render::series", &[]),
    ("render::chart", &["record", "render::series"]),
    (
        "render::charts",
        &["load", "record", "render::chart", "render::series"],
    ),
    ("render::facts", &["format", "record"]),
    (
        "render::view",
        &[
            "format",
            "record",
            "render::chart",
            "render::charts",
            "render::facts",
            "render::mutants",
        ],
    ),
    ("render::page", &["error", "render::chart"]),
    ("render::link", &[]),
    (
        "render::html",
        &[
            "error",
            "format",
            "record",
            "render::facts",
            "render::mutants",
            "render::page",
            "render::view",
        ],
    ),
    ("render::mutants", &["record"]),
    ("render::sheet", &["error", "render::chart", "render::page"]),
    ("render::cases", &["format", "record"]),
    ("render::junit", &["error", "record", "render::cases"]),
    (
        "render::ctrf",
        &["error", "format", "record", "render::cases"],
    ),
    ("render::markdown", &["format", "record", "render::mutants"]),
    (
        "render::words",
        &["compare", "format", "record", "render::facts"],
    ),
    (
        "render::terminal",
        &[
            "compare",
            "format",
            "history",
            "record",
            "render::words",
            "scorecard",
            "statistics",
        ],
    ),
    (
        "render::side_by_side",
        &[
            "compare",
            "error",
            "record",
            "render::chart",
            "render::charts",
            "render::page",
            "render::view",
            "render::words",
        ],
    ),
    (
        "render::trend",
        &[
            "error",
            "format",
            "history",
            "record",
            "render::chart",
            "render::link",
            "render::page",
            "render::series",
            "render::view",
            "render::words",
        ],
    ),
    (
        "render::scorecard",
        &[
            "error",
            "format",
            "record",
            "render::facts",
            "render::link",
            "render::page",
            "render::view",
            "render::words",
            "scorecard",
            "scorecard::found",
            "scorecard::rows",
        ],
    ),
    ("render", &["error", "read", "record"]),
    (
        "command",
        &[
            "compare",
            "error",
            "history",
            "read",
            "render",
            "render::link",
            "render::scorecard",
            "render::side_by_side",
            "render::terminal",
            "render::trend",
            "scorecard",
        ],
    ),
];

#[test]
fn imports_follow_the_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let wrong = layers::wrong(&source, ALLOWED);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_breaks_the_layers_is_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("lib.rs", "pub mod low; pub mod high; pub mod new;");
    write(
        "low.rs",
        "// crate::high in a comment\nfn f() { let x = crate::high::ONE; }",
    );
    write(
        "high/mod.rs",
        "use crate::{low::{self, Two}, new};\nmod tests {\n    use super::*;\n}\n",
    );
    write("high/part.rs", "use super::Three;\nuse super::super::low;");
    write("new.rs", "");
    let rows: &[layers::Row] = &[("low", &[]), ("high::*", &["low"]), ("gone", &[])];
    let mut found = layers::wrong(dir.path(), rows);
    found.sort();
    assert_eq!(
        found,
        [
            "gone has no file",
            "high may not import new",
            "low may not import high::ONE",
            "new is in no row",
        ]
    );
}
