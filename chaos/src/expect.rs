//! Expectations against figures. A figure that is not there, or whose clock is not to be trusted, makes an expectation
//! unknown; that is never the same as met.

use std::time::Duration;

use backdrop_reports::record::{Expectation, Met};

use crate::catalogue::{self, Source};
use crate::figures::{Figure, Figures};
use crate::scenario::{Expect, Load};
use crate::stalls::Stalls;
use crate::units;

/// What there is to say against the clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'a> {
    /// The simulator was starved, or the hypervisor took the CPUs.
    pub busy_host: bool,
    /// Times at which a CPU stood still.
    pub stalls: &'a Stalls,
    /// Has the windows.
    pub load: &'a Load,
}

impl Clock<'_> {
    /// Whether a bound in time that was missed is in doubt.
    fn excuses(&self, expect: &Expect) -> bool {
        self.busy_host || self.stalls.excuse(self.window(expect), least_stall(expect))
    }

    /// What the figure is of, seconds of load.
    fn window(&self, expect: &Expect) -> (f64, f64) {
        let name = expect.figure.split_once('.').map(|(_, window)| window);
        let windows = &self.load.windows;
        let window = name.and_then(|name| windows.iter().find(|w| w.name == name));
        window.map_or((0.0, self.load.duration.as_secs_f64()), |w| {
            (w.from.as_secs_f64(), w.to.as_secs_f64())
        })
    }
}

/// The shortest stall that can carry an operation from well inside a bound over it.
fn least_stall(expect: &Expect) -> Duration {
    match expect.unit.as_str() {
        "ms" => Duration::try_from_secs_f64(expect.bound / 2e3).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Evaluates every expectation. On a busy host (the simulator starved, the CPUs taken by the hypervisor or standing still) a latency
/// or rate that is outside its bound is not the service's fault: unknown. So is a count of failures that would be inside
/// it but for the operations that a clock gave up on; an error that the service answered counts on any host.
#[must_use]
pub fn evaluate(expects: &[Expect], figures: &Figures, clock: &Clock<'_>) -> Vec<Expectation> {
    expects.iter().map(|e| one(e, figures, clock)).collect()
}

/// Whether an expectation is unknown for the clock's sake.
#[must_use]
pub fn excused(expectation: &Expectation) -> bool {
    expectation.met == Met::Unknown && expectation.observed.is_some()
}

fn one(expect: &Expect, figures: &Figures, clock: &Clock<'_>) -> Expectation {
    let figure = figures.get(&expect.figure);
    let met = match figure {
        Some(figure) if expect.relation.holds(figure.value, expect.bound) => Met::Yes,
        Some(figure) if by_the_clock(expect, figure) && clock.excuses(expect) => Met::Unknown,
        Some(_) => Met::No,
        None => Met::Unknown,
    };
    Expectation {
        name: expect.name.clone(),
        text: expect.text.clone(),
        figure: expect.figure.clone(),
        relation: expect.relation.sign().to_owned(),
        bound: expect.bound,
        unit: expect.unit.clone(),
        observed: figure.map(|f| f.value),
        samples: figure.map_or(0, |f| f.samples),
        met,
    }
}

/// Whether the clock alone can be why the bound is missed.
fn by_the_clock(expect: &Expect, figure: &Figure) -> bool {
    match catalogue::find_windowed(&expect.figure).map(|f| f.source) {
        Some(Source::Timing) => true,
        Some(Source::Answers) => figure
            .but_for_timeouts
            .is_some_and(|value| expect.relation.holds(value, expect.bound)),
        _ => false,
    }
}

/// `switch_p99_ms is 12.3 ms, demanded <= 10 ms`.
#[must_use]
pub fn words(expectation: &Expectation) -> String {
    let Expectation {
        figure,
        relation,
        bound,
        unit,
        observed,
        ..
    } = expectation;
    let bound = units::show_figure(*bound);
    match observed {
        Some(value) => format!(
            "{figure} is {} {unit}, demanded {relation} {bound} {unit}",
            units::show_figure(*value)
        ),
        None => format!("{figure} has no sample, demanded {relation} {bound} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Relation, Window};

    fn load() -> Load {
        let s = Duration::from_secs;
        Load {
            scenario: "mixed".into(),
            sessions: 1,
            period: s(1),
            duration: s(40),
            gateways: 1,
            previews_per_second: 0.0,
            preview_size: "640x360".into(),
            background_count: 1,
            zipf: 0.0,
            windows: vec![Window {
                name: "calm".into(),
                from: s(0),
                to: s(20),
            }],
            args: Vec::new(),
        }
    }

    fn judged(expect: Expect, figure: Figure, busy_host: bool, stalls: &Stalls) -> Met {
        let figures = [(expect.figure.clone(), figure)].into_iter().collect();
        let clock = Clock {
            busy_host,
            stalls,
            load: &load(),
        };
        evaluate(&[expect], &figures, &clock)[0].met
    }

    fn seen(value: f64, but_for_timeouts: Option<f64>) -> Figure {
        Figure {
            value,
            samples: 3,
            but_for_timeouts,
        }
    }

    fn expect(figure: &str, relation: Relation, bound: f64) -> Expect {
        Expect {
            name: "e".into(),
            text: "t".into(),
            figure: figure.into(),
            relation,
            bound,
            unit: "ms".into(),
        }
    }

    fn met(
        figure: &str,
        relation: Relation,
        bound: f64,
        value: Option<f64>,
        busy_host: bool,
    ) -> Met {
        let expect = expect(figure, relation, bound);
        let Some(value) = value else {
            let clock = Clock {
                busy_host,
                stalls: &Stalls::default(),
                load: &load(),
            };
            return evaluate(&[expect], &Figures::default(), &clock)[0].met;
        };
        judged(expect, seen(value, None), busy_host, &Stalls::default())
    }

    #[test]
    fn met_needs_a_sample_and_the_relation() {
        assert_eq!(
            met("switch_p99_ms", Relation::Le, 10.0, Some(10.0), false),
            Met::Yes
        );
        assert_eq!(
            met("switch_p99_ms", Relation::Le, 10.0, Some(10.1), false),
            Met::No
        );
        assert_eq!(
            met("switch_rate_per_s", Relation::Ge, 10.0, Some(9.0), false),
            Met::No
        );
        assert_eq!(
            met("lost_switches", Relation::Eq, 0.0, Some(0.0), false),
            Met::Yes
        );
        assert_eq!(
            met("lost_switches", Relation::Eq, 0.0, None, false),
            Met::Unknown
        );
    }

    #[test]
    fn on_a_busy_host_timeouts_are_unknown_and_answered_failures_deviate() {
        let met = |failed: f64, answered: f64, busy: bool| {
            let expect = expect("switches_failed.pressed", Relation::Eq, 0.0);
            judged(
                expect,
                seen(failed, Some(answered)),
                busy,
                &Stalls::default(),
            )
        };
        assert_eq!(met(5.0, 0.0, false), Met::No, "a quiet host has no excuse");
        assert_eq!(met(5.0, 0.0, true), Met::Unknown);
        assert_eq!(met(5.0, 1.0, true), Met::No, "one was answered badly");
        assert_eq!(met(0.0, 0.0, true), Met::Yes);
    }

    #[test]
    fn a_host_that_stood_still_discredits_a_bound_in_time_of_that_window() {
        let met = |figure: &str, bound: f64, value: f64, stall: (f64, f64)| {
            let expect = expect(figure, Relation::Le, bound);
            judged(expect, seen(value, None), false, &Stalls::new([stall]))
        };
        let stall = (12.0, 12.2);
        assert_eq!(met("switch_p99_ms.calm", 50.0, 127.0, stall), Met::Unknown);
        assert_eq!(met("switch_p99_ms.calm", 50.0, 9.0, stall), Met::Yes);
        assert_eq!(
            met("switch_p99_ms", 50.0, 127.0, stall),
            Met::No,
            "of a longer time"
        );
        assert_eq!(
            met("switch_p99_ms.calm", 500.0, 600.0, stall),
            Met::No,
            "too short"
        );
        let later = (32.0, 32.2);
        assert_eq!(met("switch_p99_ms.calm", 50.0, 127.0, later), Met::No);
        assert_eq!(met("lost_switches", 0.0, 1.0, (0.0, 20.0)), Met::No);
    }

    #[test]
    fn a_busy_host_discredits_failures_in_time_only() {
        assert_eq!(
            met("switch_p99_ms.calm", Relation::Le, 10.0, Some(99.0), true),
            Met::Unknown
        );
        assert_eq!(
            met("lost_switches", Relation::Eq, 0.0, Some(3.0), true),
            Met::No
        );
        assert_eq!(
            met("service_oom_kills", Relation::Eq, 0.0, Some(1.0), true),
            Met::No
        );
    }
}
