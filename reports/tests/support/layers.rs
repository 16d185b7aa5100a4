//! Walks a crate's `src` and holds what each file imports against a table. Shared by the crates that link this one.

use std::path::{Path, PathBuf};

/// A module (`render::chart`), or a folder as a whole (`host::*`), with what it may name by `crate::` or `super::` beside itself.
pub type Row = (&'static str, &'static [&'static str]);

/// What is wrong: a file that is not listed, a row without a file, an import that its row does not have.
pub fn wrong(src: &Path, rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for file in sources(src) {
        let module = module_of(&file, src);
        if module.is_empty() || module == ["main"] {
            continue;
        }
        let name = module.join("::");
        let row = rows.iter().find(|(row, _)| match row.strip_suffix("::*") {
            Some(folder) => module[0] == folder,
            None => *row == name,
        });
        let Some((row, allowed)) = row else {
            wrong.push(format!("{name} is in no row"));
            continue;
        };
        seen.push(*row);
        let text = std::fs::read_to_string(&file).expect("a source file");
        for path in paths(&text, &module) {
            let part = part_of(&path, rows);
            if part != Some(row) && !part.is_some_and(|part| allowed.contains(&part)) {
                wrong.push(format!("{name} may not import {}", path.join("::")));
            }
        }
    }
    let gone = rows.iter().filter(|(row, _)| !seen.contains(row));
    wrong.extend(gone.map(|(row, _)| format!("{row} has no file")));
    wrong
}

/// Every Rust file below.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The names behind `crate`; none for `lib.rs`.
pub fn module_of(file: &Path, src: &Path) -> Vec<String> {
    let relative = file.strip_prefix(src).expect("below src");
    let name = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let bare = relative.with_extension("");
    let mut names: Vec<String> = bare.iter().map(name).collect();
    if names.last().is_some_and(|n| n == "mod" || n == "lib") {
        names.pop();
    }
    names
}

/// The row that a path lies in: the longest that fits.
pub fn part_of(path: &[String], rows: &[Row]) -> Option<&'static str> {
    let path = path.join("::") + "::";
    let fits = |row: &&str| {
        let bare = row.strip_suffix("::*").unwrap_or(row);
        path.starts_with(&format!("{bare}::"))
    };
    let rows = rows.iter().map(|(row, _)| *row);
    rows.filter(fits).max_by_key(|row| row.len())
}

/// The code alone.
pub fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
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
pub fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
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

/// What a name, `a::b` or a list in braces stands for, behind `base`.
pub fn expand(text: &str, base: &[String], found: &mut Vec<Vec<String>>) {
    let text = text.trim_start();
    if let Some(list) = text.strip_prefix('{') {
        branches(list)
            .into_iter()
            .for_each(|branch| expand(branch, base, found));
        return;
    }
    if text.starts_with('*') {
        found.push(base.to_vec());
        return;
    }
    let name = word(text);
    let mut path = base.to_vec();
    match name {
        "" => return,
        "self" => {}
        name => path.push(name.to_owned()),
    }
    match text[name.len()..].strip_prefix("::") {
        // The type of a generic function.
        Some(rest) if rest.starts_with('<') => found.push(path),
        Some(rest) => expand(rest, &path, found),
        None => found.push(path),
    }
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
