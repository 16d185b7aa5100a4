//! Who may import whom: `main → app → http → {sessions, frames} → flyweight → store → codec`, and `frames → render`.
//!
//! An arrow may be skipped over, never turned round. `render` knows pixel types only, and of it `sessions` knows what a view is.
//! Everybody but `render` may use
//! `metrics`, `failpoints` and the books of `memory` (budget and arena, parts of their own); these know nobody, and the
//! governor knows no sibling. `config` makes what each part is told, and no part knows it.

use std::path::{Path, PathBuf};

#[path = "../../reports/tests/support/layers.rs"]
#[allow(
    dead_code,
    reason = "what modules give out under their own name is looked through here"
)]
mod layers;

use layers::{expand, module_of, part_of, paths, sources, without_comments};

/// Parts with what each may import, beside itself. A module that is listed is no part of the one around it.
const ALLOWED: &[layers::Row] = &[
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
            "codec::pixels",
            "memory",
            "memory::budget",
            "memory::arena",
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
            "memory::budget",
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
            "codec::pixels",
            "render::view",
            "memory",
            "memory::budget",
            "memory::arena",
            "memory::aside",
            "metrics",
            "failpoints",
        ],
    ),
    (
        "sessions",
        &[
            "flyweight",
            "render::view",
            "memory::budget",
            "metrics",
            "failpoints",
        ],
    ),
    (
        "frames",
        &[
            "flyweight",
            "store",
            "codec",
            "codec::pixels",
            "render",
            "render::view",
            "memory::budget",
            "memory::arena",
            "memory::aside",
            "memory::thread",
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
            "codec::pixels",
            "memory::budget",
            "memory::arena",
            "memory::aside",
            "metrics",
            "failpoints",
            "priority",
        ],
    ),
    (
        "store",
        &[
            "codec",
            "codec::pixels",
            "memory::budget",
            "metrics",
            "failpoints",
        ],
    ),
    (
        "codec",
        &[
            "codec::pixels",
            "memory::budget",
            "memory::thread",
            "metrics",
            "failpoints",
        ],
    ),
    ("codec::pixels", &[]),
    ("render", &["render::view", "codec::pixels"]),
    ("render::view", &["codec::pixels"]),
    (
        "memory",
        &["memory::budget", "memory::arena", "metrics", "failpoints"],
    ),
    (
        "memory::budget",
        &["memory::aside", "metrics", "failpoints"],
    ),
    ("memory::arena", &["metrics", "failpoints"]),
    ("memory::aside", &[]),
    ("memory::thread", &[]),
    ("metrics", &[]),
    ("priority", &[]),
    ("failpoints", &[]),
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// What `mod.rs` files give out under their own name: path as it is used, and path as it is.
fn reexports(src: &Path) -> Vec<(Vec<String>, Vec<String>)> {
    let mut found = Vec::new();
    for outer in ["memory", "codec", "render"] {
        let text = std::fs::read_to_string(src.join(outer).join("mod.rs")).expect("a module");
        let code = without_comments(&text);
        for (at, start) in code.match_indices("pub use ") {
            let mut originals = Vec::new();
            expand(
                &code[at + start.len()..],
                &[outer.to_owned()],
                &mut originals,
            );
            for original in originals {
                let name = original.last().expect("a name").clone();
                found.push((vec![outer.to_owned(), name], original));
            }
        }
    }
    found
}

#[test]
fn nobody_imports_against_the_arrows() {
    let src = src();
    let reexports = reexports(&src);
    let files = sources(&src);
    let mut wrong = Vec::new();
    for file in files {
        let module = module_of(&file, &src);
        let Some(part) = part_of(&module, ALLOWED) else {
            assert!(
                module.is_empty() || module == ["main"],
                "{} belongs to no known part",
                file.display()
            );
            continue;
        };
        let row = ALLOWED.iter().find(|(known, _)| *known == part);
        let (_, allowed) = row.expect("it is listed");
        let text = std::fs::read_to_string(&file).expect("a source file");
        for path in paths(&text, &module) {
            let meant = reexports
                .iter()
                .find(|(used, _)| path.starts_with(used))
                .map_or(&path, |(_, original)| original);
            let Some(import) = part_of(meant, ALLOWED) else {
                continue;
            };
            if import != part && !allowed.contains(&import) {
                wrong.push(format!(
                    "{} imports {} of {import}",
                    file.display(),
                    path.join("::")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_says_its_job() {
    let files = sources(&src());
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
fn finds_imports_in_lists_nested_and_by_way_of_super() {
    let text = "use crate::{memory::{self, Budget, governor::State}, store};\n\
        use crate::codec::Size; // crate::http\n\
        let x = crate::render::ONE;\n\
        use super::super::frames::Frame;\n\
        use super::near;\n\
        mod tests {\n    use super::*;\n    use super::super::other;\n}\n\
        use super::far;";
    let module = ["sessions".to_owned(), "exclusive".to_owned()];
    let found: Vec<String> = paths(text, &module)
        .iter()
        .map(|path| path.join("::"))
        .collect();
    assert_eq!(
        found,
        [
            "memory",
            "memory::Budget",
            "memory::governor::State",
            "store",
            "codec::Size",
            "render::ONE",
            "frames::Frame",
            "sessions::near",
            "sessions::exclusive",
            "sessions::other",
            "sessions::far"
        ]
    );
}

#[test]
fn tells_parts_and_what_a_module_gives_out_apart() {
    let part = |path: &str| {
        let names: Vec<String> = path.split("::").map(str::to_owned).collect();
        part_of(&names, ALLOWED)
    };
    assert_eq!(part("memory::budget::Charge"), Some("memory::budget"));
    assert_eq!(part("memory::governor::State"), Some("memory"));
    assert_eq!(part("memory"), Some("memory"));
    assert_eq!(part("hyper"), None);
    let reexports = reexports(&src());
    let original = |used: &[&str]| {
        let row = reexports.iter().find(|(known, _)| *known == used);
        row.and_then(|(_, original)| part_of(original, ALLOWED))
    };
    assert_eq!(original(&["memory", "Budget"]), Some("memory::budget"));
    assert_eq!(original(&["memory", "State"]), Some("memory"));
    assert_eq!(original(&["codec", "Size"]), Some("codec::pixels"));
}
