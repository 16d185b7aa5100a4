//! The exposition of metrics against its golden copy: names, types and label sets, without values. The dashboards are checked
//! against the same copy.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backdrop-simulator --test exposition` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

use backdrop_simulator::metrics::Metrics;

/// Series whose labels hold what varies from build to build.
const VARYING: [(&str, &str); 1] = [(
    "backdrop_simulator_build_info{",
    "backdrop_simulator_build_info{version,scenario}",
)];

/// `# TYPE` lines, and each series with its labels.
fn shape(text: &str) -> String {
    let mut shape = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("# TYPE ") {
            shape.insert(line.to_owned());
        } else if !line.starts_with('#') {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            let varying = VARYING.iter().find(|(start, _)| series.starts_with(start));
            shape.insert(varying.map_or(series, |(_, shape)| shape).to_owned());
        }
    }
    shape.into_iter().map(|line| line + "\n").collect()
}

#[test]
fn the_exposition_is_the_golden_one() {
    let text = Metrics::new("mixed", 7).text();
    assert!(text.ends_with("# EOF\n"));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    let shape = shape(&text);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &shape).expect("written");
    }
    let expected = std::fs::read_to_string(&golden).expect("the golden file");
    assert_eq!(
        shape, expected,
        "run with UPDATE_GOLDEN=1 if the change is meant"
    );
}
