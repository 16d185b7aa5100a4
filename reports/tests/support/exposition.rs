//! An exposition of metrics against its golden copy (names, types and label sets, without values), its names, its help, and where it
//! begins to count. Shared by the crates that have one.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeSet;
use std::path::Path;

/// `# TYPE` lines, and each series with its labels. One that begins as a row of `varying` says counts as the row's other half: its
/// labels hold what varies from build to build, or from run to run.
fn shape(text: &str, varying: &[(&str, &str)]) -> String {
    let mut shape = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("# TYPE ") {
            shape.insert(line.to_owned());
        } else if !line.starts_with('#') {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            let known = varying.iter().find(|(start, _)| series.starts_with(start));
            shape.insert(known.map_or(series, |(_, shape)| shape).to_owned());
        }
    }
    shape.into_iter().map(|line| line + "\n").collect()
}

/// Fails unless the text is whole and of the shape of `golden`, which `UPDATE_GOLDEN=1` writes anew.
pub fn is_golden(text: &str, golden: &Path, varying: &[(&str, &str)]) {
    assert!(text.ends_with("# EOF\n"));
    let shape = shape(text, varying);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &shape).expect("written");
    }
    let expected = std::fs::read_to_string(golden).expect("the golden file");
    assert_eq!(
        shape, expected,
        "run with UPDATE_GOLDEN=1 if the change is meant"
    );
}

/// Words by which a help text says what to make of a change.
const TELLING: [&str; 2] = ["rise", "more "];

/// Fails unless the help of every counter and histogram says what it means that it rises; a gauge's is a state.
pub fn tells_what_a_rise_means(text: &str) {
    let help = |name: &str| {
        let start = format!("# HELP {name} ");
        text.lines().find_map(|line| line.strip_prefix(&start))
    };
    let rising: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .filter(|(_, kind)| ["counter", "histogram"].contains(kind))
        .map(|(name, _)| name)
        .collect();
    assert!(rising.len() > 3, "{rising:?}");
    let silent: Vec<_> = rising
        .iter()
        .map(|name| (name, help(name).unwrap_or_default()))
        .filter(|(_, help)| !TELLING.iter().any(|word| help.contains(word)))
        .collect();
    assert!(silent.is_empty(), "no word of a rise: {silent:#?}");
}

/// Parts of names that say a unit other than a base unit.
const NO_BASE_UNITS: [&str; 12] = [
    "ms",
    "millis",
    "milliseconds",
    "us",
    "micros",
    "microseconds",
    "minutes",
    "kib",
    "mib",
    "gib",
    "megabytes",
    "percent",
];

/// What distributions are of: times in their base unit, and things that are counted.
const DISTRIBUTED: [&str; 2] = ["_seconds", "_frames"];

/// Fails unless names have base units and ours before them, and every metric a help; distributions say what they are of.
pub fn is_named_for_people(text: &str) {
    let types = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name, kind))
    });
    let mut wrong = Vec::new();
    for (name, kind) in types {
        let of_unit = name
            .split('_')
            .any(|part| NO_BASE_UNITS.contains(&part) || part == "total");
        let helped = text
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("# HELP {name} ")))
            .any(|help| help.split(' ').count() > 2);
        let said = DISTRIBUTED.iter().any(|what| name.ends_with(what));
        let distributed = kind != "histogram" || said;
        if of_unit || !helped || !distributed || !name.starts_with("backdrop_") {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Fails unless all that counts has its series before anything is counted, at 0: the first increment is seen by a rate only then.
pub fn counts_from_zero(text: &str) {
    let mut wrong = Vec::new();
    let types = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        ["counter", "histogram"].contains(&kind).then_some(name)
    });
    for name in types {
        let ends = ["_total", "_sum", "_count", "_bucket"].map(|end| format!("{name}{end}"));
        let samples: Vec<&str> = text
            .lines()
            .filter(|line| {
                ends.iter()
                    .any(|end| line.split(['{', ' ']).next() == Some(end))
            })
            .collect();
        if samples.is_empty() {
            wrong.push(format!("{name} has no series"));
        }
        let counted = |line: &&&str| {
            let value = line
                .rsplit_once(' ')
                .and_then(|(_, value)| value.parse::<f64>().ok());
            value != Some(0.0)
        };
        wrong.extend(
            samples
                .iter()
                .filter(counted)
                .map(|line| (*line).to_owned()),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The series of an exposition, without values.
pub fn series(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect()
}
