//! Series from their birth at 0 to the exposition.

use super::*;

#[test]
fn every_label_set_starts_at_zero_and_counts_apart() {
    let metrics = Metrics::default();
    let before = metrics.render().expect("formats");
    assert!(before.contains("backdrop_switches_total{result=\"gone\"} 0\n"));
    assert!(
        before.contains("backdrop_http_requests_total{route=\"batch_switch\",status=\"5xx\"} 0\n")
    );
    let gone = metrics.sessions.switches_total.of(SwitchResult::Gone);
    gone.inc_by(3);
    metrics
        .http
        .requests_total
        .of(Route::BatchSwitch, StatusClass::ServerError)
        .inc();
    let after = metrics.render().expect("formats");
    assert!(after.contains("backdrop_switches_total{result=\"gone\"} 3\n"));
    assert!(
        after.contains("backdrop_http_requests_total{route=\"batch_switch\",status=\"5xx\"} 1\n")
    );
    assert!(
        after.contains("backdrop_http_requests_total{route=\"batch_switch\",status=\"2xx\"} 0\n")
    );
}

#[test]
fn the_exposition_fits_its_bound_whatever_the_values() {
    let text = Metrics::default().render().expect("formats");
    let most = text.len() + text.lines().count() * u64::MAX.to_string().len();
    // The other half is for failpoints, where they are built in.
    assert!(most <= TEXT_BYTES_MAX / 2, "{most}");
    assert_eq!(text.capacity(), TEXT_BYTES_MAX, "it never grew");
}

#[test]
fn labels_keep_the_order_of_their_indices() {
    fn ordered<L: Label>() {
        assert!(
            L::ALL
                .iter()
                .enumerate()
                .all(|(at, value)| value.index() == at),
            "{}",
            L::KEY
        );
    }
    ordered::<Route>();
    ordered::<StatusClass>();
    ordered::<SwitchResult>();
    ordered::<BudgetPurpose>();
}

#[test]
fn set_counters_are_exposed_as_they_were_set() {
    let metrics = Metrics::new(&Build {
        version: "1",
        features: &["failpoints"],
        failpoints: &["a.b.c"],
    });
    metrics.process.set_failpoint_triggers(&[("a.b.c", 7)]);
    metrics.process.set_cpu_seconds(1.5);
    metrics.process.set_page_faults(8, 3);
    let text = metrics.render().expect("formats");
    assert!(text.contains("backdrop_failpoint_triggers_total{failpoint=\"a.b.c\"} 7\n"));
    assert!(text.contains("backdrop_process_cpu_seconds_total 1.5\n"));
    assert!(text.contains("backdrop_process_page_faults_total{kind=\"major\"} 3\n"));
    assert!(text.contains("backdrop_build_info{version=\"1\",features=\"failpoints\"} 1\n"));
}
