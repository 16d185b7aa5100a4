//! The scenarios that ship with the runner, and the suites made of them.

use std::borrow::Cow;
use std::path::Path;

use super::check::raw;
use super::{Scenario, ScenarioError, parse};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every embedded scenario.
        pub const EMBEDDED: &[(&str, &str)] =
            &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/", $name, ".toml")))),*];
    };
}

embedded!(
    "million-switch",
    "exclusive-control",
    "overflow",
    "memory-hog",
    "decode-faults",
    "service-killed",
    "cold-herd",
    "hot-update",
    "scan",
    "pinned-flood",
    "limit-shrink",
    "page-cache",
    "burst",
    "archive-disk-full",
    "archive-corrupt",
    "overtaken-load",
    "edge-hover",
    "oversized-body",
    "render-flood",
    "gpu-lost",
    "ten-million",
    "two-thousand",
    "soak",
    "calm",
    "smoke-switch",
    "smoke-exclusive",
    "smoke-hog",
);

/// A named list of scenarios.
#[derive(Debug)]
pub struct Suite {
    /// Name for `--suite`.
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// Scenarios in the order they run.
    pub scenarios: &'static [&'static str],
}

/// Every suite.
pub const SUITES: &[Suite] = &[
    Suite {
        name: "default",
        title: "what `run` does when nothing is named; about seven minutes",
        scenarios: &[
            "million-switch",
            "exclusive-control",
            "overflow",
            "memory-hog",
            "decode-faults",
            "service-killed",
        ],
    },
    Suite {
        name: "flyweight",
        title: "the cache and the governor in depth; about thirteen minutes",
        scenarios: &[
            "cold-herd",
            "hot-update",
            "scan",
            "pinned-flood",
            "limit-shrink",
            "page-cache",
            "burst",
            "archive-disk-full",
            "archive-corrupt",
        ],
    },
    Suite {
        name: "protections",
        title: "what the version check, the dwell and the bounds of bodies and queues are for; about four minutes",
        scenarios: &[
            "overtaken-load",
            "edge-hover",
            "oversized-body",
            "render-flood",
        ],
    },
    Suite {
        name: "smoke",
        title: "small copies of the first scenarios, for continuous integration; about a minute and a half",
        scenarios: &["smoke-switch", "smoke-exclusive", "smoke-hog"],
    },
];

/// An embedded scenario, or the file at that path.
///
/// # Errors
/// Neither there, or wrong.
pub fn find(name: &str) -> Result<Scenario, ScenarioError> {
    let (file, text) = text_of(name)?;
    Ok(parse(&file, &text)?)
}

/// How many controls a scenario has of its own. That alone is read of it, so that two which name each other end.
pub(super) fn own_controls(name: &str) -> Result<usize, ScenarioError> {
    let (file, text) = text_of(name)?;
    Ok(raw(&file, &text)?.control.len())
}

/// A scenario as written, and the file that its complaints name.
fn text_of(name: &str) -> Result<(String, Cow<'static, str>), ScenarioError> {
    if let Some((name, text)) = EMBEDDED.iter().find(|(n, _)| *n == name) {
        return Ok((embedded_origin(name), Cow::Borrowed(text)));
    }
    let path = Path::new(name);
    if path.extension().is_some_and(|e| e == "toml") {
        let read = |cause| ScenarioError::Read {
            path: path.to_owned(),
            cause,
        };
        let text = std::fs::read_to_string(path).map_err(read)?;
        return Ok((name.to_owned(), Cow::Owned(text)));
    }
    let known: Vec<_> = EMBEDDED.iter().map(|(n, _)| *n).collect();
    Err(ScenarioError::Unknown {
        name: name.to_owned(),
        known: known.join(", "),
    })
}

/// What a scenario's file holds now, by its name and where it came from; none if it is gone.
#[must_use]
pub fn text_now(name: &str, origin: &str) -> Option<String> {
    match EMBEDDED.iter().find(|(n, _)| *n == name) {
        Some((_, text)) if ships(name, origin) => Some((*text).to_owned()),
        _ => std::fs::read_to_string(origin).ok(),
    }
}

/// Whether a scenario of this name ships with the runner.
#[must_use]
pub fn is_embedded(name: &str) -> bool {
    EMBEDDED.iter().any(|(n, _)| *n == name)
}

/// Whether the scenario of this name that came from there is the one that ships with the runner.
#[must_use]
pub fn ships(name: &str, origin: &str) -> bool {
    is_embedded(name) && embedded_origin(name) == origin
}

fn embedded_origin(name: &str) -> String {
    format!("chaos/scenarios/{name}.toml")
}

/// The scenarios of a suite.
///
/// # Errors
/// No such suite.
pub fn suite(name: &str) -> Result<Vec<Scenario>, ScenarioError> {
    let Some(suite) = SUITES.iter().find(|s| s.name == name) else {
        let known: Vec<_> = SUITES.iter().map(|s| s.name).collect();
        return Err(ScenarioError::UnknownSuite {
            name: name.to_owned(),
            known: known.join(", "),
        });
    };
    suite.scenarios.iter().map(|n| find(n)).collect()
}

/// Every scenario file of a folder, by name.
///
/// # Errors
/// The folder cannot be read, holds none, or one of them is wrong.
pub fn folder(dir: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let read = |cause| ScenarioError::Read {
        path: dir.to_owned(),
        cause,
    };
    let entries = std::fs::read_dir(dir).map_err(read)?;
    let paths = entries.map(|entry| Ok(entry.map_err(read)?.path()));
    let mut paths = paths.collect::<Result<Vec<_>, ScenarioError>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    if paths.is_empty() {
        return Err(ScenarioError::NoneThere {
            path: dir.to_owned(),
        });
    }
    let named = |path: &std::path::PathBuf| find(&path.display().to_string());
    paths.iter().map(named).collect()
}

/// All scenarios and suites, for `list`.
///
/// # Errors
/// An embedded scenario is wrong.
pub fn list() -> Result<String, ScenarioError> {
    let mut out = String::new();
    for (name, _) in EMBEDDED {
        out.push_str(&format!("{name:<18} {}\n", find(name)?.title));
    }
    out.push('\n');
    for suite in SUITES {
        out.push_str(&format!(
            "suite {:<12} {}\n                   {}\n",
            suite.name,
            suite.title,
            suite.scenarios.join(", ")
        ));
    }
    Ok(out)
}
