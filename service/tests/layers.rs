//! Who may import whom: `main → app → http → {sessions, frames} → flyweight → store → codec`, and `frames → render`.
//!
//! An arrow may be skipped over, never turned round. `render` knows pixel types only, and of it `sessions` knows what a view is.
//! Everybody but `render` may use
//! `metrics`, `failpoints` and the books of `memory` (budget and arena, parts of their own); these know nobody, and the
//! governor knows no sibling. `config` makes what each part is told, and no part knows it.

use std::path::{Path, PathBuf};

/// Parts with what each may import, beside itself. A module that is listed is no part of the one around it.
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

/// The module that a file is, as the names behind `crate`; none for `lib.rs`.
fn module_of(path: &Path, src: &Path) -> Vec<String> {
    let relative = path
        .strip_prefix(src)
        .expect("below src")
        .with_extension("");
    let mut names: Vec<String> = relative
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if names
        .last()
        .is_some_and(|name| name == "mod" || name == "lib")
    {
        names.pop();
    }
    names
}

/// The part that a path of names lies in: the longest that is listed.
fn part_of(names: &[String]) -> Option<&'static str> {
    let path = names.join("::") + "::";
    ALLOWED
        .iter()
        .map(|(part, _)| *part)
        .filter(|part| path.starts_with(&format!("{part}::")))
        .max_by_key(|part| part.len())
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The branches of a list behind its opening brace.
fn branches(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&list[start..at]);
                return found;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Every path that `text` (a name, `a::b`, or a list in braces) stands for, behind `prefix`.
fn expand(text: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        for branch in branches(list) {
            expand(branch, prefix, found);
        }
        return;
    }
    let name = word(text);
    let mut path = prefix.to_vec();
    if !name.is_empty() && name != "self" {
        path.push(name.to_owned());
    }
    match text[name.len()..].strip_prefix("::") {
        Some(rest) => expand(rest, &path, found),
        None => found.push(path),
    }
}

/// The inline module that text behind `before` stands in, if any; formatted code opens and closes it in the first column.
fn inline_module(before: &str) -> Option<&str> {
    let opens = |line: &&str| *line == "}" || (line.contains("mod ") && line.ends_with('{'));
    let last = before
        .lines()
        .rfind(|line| !line.starts_with(' ') && opens(line))?;
    last.split("mod ").nth(1).map(word)
}

/// Every path that a file of `module` names by `crate::` or `super::`, from the crate's root, comments left out.
fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let code = without_comments(text);
    let mut found = Vec::new();
    let mut behind = 0;
    while let Some(at) = ["crate::", "super::"]
        .iter()
        .filter_map(|start| code[behind..].find(start))
        .min()
    {
        let begun = behind + at;
        let before = code[..begun].chars().next_back();
        let mut rest = &code[begun..];
        let mut base = module.to_vec();
        base.extend(inline_module(&code[..begun]).map(str::to_owned));
        while let Some(above) = rest.strip_prefix("super::") {
            base.pop();
            rest = above;
        }
        if let Some(inside) = rest.strip_prefix("crate::") {
            base.clear();
            rest = inside;
        }
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            expand(rest, &base, &mut found);
        }
        behind = code.len() - rest.len();
    }
    found
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
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let module = module_of(&file, &src);
        let Some(part) = part_of(&module) else {
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
            let Some(import) = part_of(meant) else {
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
    let mut files = Vec::new();
    sources(&src(), &mut files);
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
        part_of(&names)
    };
    assert_eq!(part("memory::budget::Charge"), Some("memory::budget"));
    assert_eq!(part("memory::governor::State"), Some("memory"));
    assert_eq!(part("memory"), Some("memory"));
    assert_eq!(part("hyper"), None);
    let reexports = reexports(&src());
    let original = |used: &[&str]| {
        let row = reexports.iter().find(|(known, _)| *known == used);
        row.and_then(|(_, original)| part_of(original))
    };
    assert_eq!(original(&["memory", "Budget"]), Some("memory::budget"));
    assert_eq!(original(&["memory", "State"]), Some("memory"));
    assert_eq!(original(&["codec", "Size"]), Some("codec::pixels"));
}
