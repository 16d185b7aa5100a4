//! Who may import whom inside this crate: wire types know nothing of ours, numbers know no record, and only
//! `render` knows how anything looks.

use std::path::Path;

/// Module and the modules of this crate it may name.
const ALLOWED: [(&str, &[&str]); 29] = [
    ("load", &[]),
    ("record", &["load"]),
    ("format", &[]),
    ("error", &[]),
    ("statistics", &[]),
    ("read", &["error", "record"]),
    ("schema", &["error", "record"]),
    ("scrape", &[]),
    ("steal", &[]),
    ("compare", &["format", "record", "statistics"]),
    ("history", &["error", "read", "record", "statistics"]),
    ("render/series", &[]),
    ("render/chart", &["record", "render::series"]),
    (
        "render/charts",
        &["load", "record", "render::chart", "render::series"],
    ),
    ("render/facts", &["format", "record"]),
    (
        "render/view",
        &[
            "format",
            "record",
            "render::chart",
            "render::charts",
            "render::facts",
        ],
    ),
    ("render/page", &["error", "render::chart"]),
    (
        "render/html",
        &[
            "error",
            "format",
            "record",
            "render::facts",
            "render::page",
            "render::view",
        ],
    ),
    ("render/sheet", &["error", "render::chart", "render::page"]),
    ("render/cases", &["format", "record"]),
    ("render/junit", &["error", "record", "render::cases"]),
    (
        "render/ctrf",
        &["error", "format", "record", "render::cases"],
    ),
    ("render/markdown", &["format", "record"]),
    (
        "render/words",
        &["compare", "format", "record", "render::facts"],
    ),
    (
        "render/terminal",
        &[
            "compare",
            "history",
            "record",
            "render::words",
            "statistics",
        ],
    ),
    (
        "render/side_by_side",
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
        "render/trend",
        &[
            "error",
            "format",
            "history",
            "record",
            "render::chart",
            "render::page",
            "render::series",
            "render::view",
            "render::words",
        ],
    ),
    ("render/mod", &["error", "read", "record"]),
    (
        "command",
        &["compare", "error", "history", "read", "render"],
    ),
];

#[test]
fn imports_follow_the_layers() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (module, allowed) in ALLOWED {
        let path = source.join(module).with_extension("rs");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for line in text
            .lines()
            .filter(|line| line.trim_start().starts_with("use crate::"))
        {
            let name = line.trim_start().trim_start_matches("use crate::");
            let fits = |a: &&str| {
                name.strip_prefix(*a)
                    .is_some_and(|rest| rest.starts_with("::") || rest.starts_with(';'))
            };
            assert!(allowed.iter().any(fits), "{module} may not import {name}");
        }
    }
}
