//! Latency from the planned time, against a stall whose effect can be worked out.
//!
//! A service that answers nothing for `S` seconds and then works off its queue at `D` requests a second, while `R` come in each
//! second at planned times, answers a request planned `t` seconds into the stall `S - t (1 - R / D)` seconds after its plan: it
//! waits for the rest of the stall, and then for the `R t` requests before it. All are planned evenly over the run of `T` seconds,
//! so the share of them that waits longer than `y` is `(S - y) / (1 - R / D) / T`, and quantile `q` lies at
//! `S - (1 - q) T (1 - R / D)`, as long as that is above zero and the queue is empty before the run ends.

mod support;

use std::time::Duration;

use backdrop_simulator::cli::Scenario;
use backdrop_simulator::run;
use backdrop_simulator::shared::Stop;
use support::{Bug, Fake, plan};

const RUN_S: f64 = 15.0;
const STALL_S: f64 = 10.0;
/// Requests a second: 800 sessions, each once in two seconds.
const PLANNED_PER_S: f64 = 400.0;
/// Requests a second that the stand-in answers at most; a third of what waits comes in while it is worked off.
const ANSWERED_PER_S: f64 = 1600.0;

/// When a quantile of all requests is answered after its planned time, microseconds.
fn analytic_us(quantile: f64) -> f64 {
    let drain = 1.0 - PLANNED_PER_S / ANSWERED_PER_S;
    (STALL_S - (1.0 - quantile) * RUN_S * drain) * 1e6
}

#[test]
fn the_queue_is_worked_off_before_the_run_ends() {
    let drain = 1.0 - PLANNED_PER_S / ANSWERED_PER_S;
    assert!(1.0 + STALL_S / drain < RUN_S);
    assert!(analytic_us(0.5) > 0.0);
}

#[ignore = "a measurement of fifteen real seconds: `just stall`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_stall_is_measured_as_it_was() {
    let fake = Fake::start(Bug::None).await;
    let step = Duration::from_secs_f64(1.0 / ANSWERED_PER_S);
    // The load begins with the first switch; the stall begins a second later.
    let (after, lasts) = (Duration::from_secs(1), Duration::from_secs_f64(STALL_S));
    fake.stall.plan(step, after, lasts);
    let flags = [
        "--sessions",
        "800",
        "--period",
        "2s",
        "--duration",
        "15s",
        "--warmup",
        "0s",
        // Longer than anybody waits: nothing is given up.
        "--timeout",
        "14s",
        "--gateways",
        "2",
        // Enough waits at the stand-in for it never to run dry while it works its queue off.
        "--connections",
        "64",
        "--tick",
        "4ms",
    ];
    let plan = plan(Scenario::SwitchSingle, &fake, &flags);
    let report = run::run(plan, Stop::default()).await.unwrap().report;
    let switches = &report.switches;
    assert_eq!(
        (switches.planned, switches.ok),
        (6_000, 6_000),
        "{:?}",
        switches.errors
    );
    let goose = &report.goose;
    let mut wrong = Vec::new();
    for (name, quantile, measured_us, goose_ms) in [
        ("p50", 0.5, switches.latency.p50_us, Some(goose.p50_ms)),
        ("p99", 0.99, switches.latency.p99_us, Some(goose.p99_ms)),
        ("p99.9", 0.999, switches.latency.p999_us, None),
    ] {
        let analytic_us = analytic_us(quantile);
        let ratio = measured_us as f64 / analytic_us;
        let goose = goose_ms.map_or(String::new(), |ms| format!(", goose {:.3} s", ms / 1e3));
        eprintln!(
            "{name:<5} measured {:.3} s, analytic {:.3} s ({ratio:.4}){goose}",
            measured_us as f64 / 1e6,
            analytic_us / 1e6,
        );
        if !(0.95..=1.05).contains(&ratio) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} of {switches:#?}");
}
