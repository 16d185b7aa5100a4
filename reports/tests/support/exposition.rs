//! An exposition of metrics against its golden copy: names, types and label sets, without values. Shared by the crates that have one.

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
