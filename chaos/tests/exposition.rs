//! The exposition of metrics against its golden copy: names, types and label sets, without values. The dashboards are checked
//! against the same copy.
//!
//! `UPDATE_GOLDEN=1 cargo test -p backdrop-chaos --test exposition` writes it anew.

use std::path::Path;

use backdrop_chaos::exposed::Exposed;

#[path = "../../reports/tests/support/exposition.rs"]
mod exposition;

/// Series whose labels hold what varies from build to build, or from run to run.
const VARYING: [(&str, &str); 2] = [
    (
        "backdrop_chaos_build_info{",
        "backdrop_chaos_build_info{version}",
    ),
    (
        "backdrop_chaos_trial_running{",
        "backdrop_chaos_trial_running{trial}",
    ),
];

#[test]
fn the_exposition_is_the_golden_one() {
    let exposed = Exposed::default();
    let _running = exposed.trial("any");
    let text = exposed.text();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    exposition::is_golden(&text, &golden, &VARYING);
}

#[test]
fn names_and_help_are_for_people_and_everything_counts_from_zero() {
    let text = Exposed::default().text();
    exposition::is_named_for_people(&text);
    exposition::tells_what_a_rise_means(&text);
    exposition::counts_from_zero(&text);
}
