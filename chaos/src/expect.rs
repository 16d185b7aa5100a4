//! Expectations against figures. A figure that is not there, or whose clock is not to be trusted, makes an expectation
//! unknown; that is never the same as met.

use backdrop_reports::record::{Expectation, Met};

use crate::catalogue::{self, Source};
use crate::figures::{Figure, Figures};
use crate::scenario::Expect;
use crate::units;

/// Evaluates every expectation. On a busy host (the simulator starved, the CPUs taken by the hypervisor) a latency
/// or rate that is outside its bound is not the service's fault: unknown. So is a count of failures that would be inside
/// it but for the operations that a clock gave up on; an error that the service answered counts on any host.
#[must_use]
pub fn evaluate(expects: &[Expect], figures: &Figures, busy_host: bool) -> Vec<Expectation> {
    expects.iter().map(|e| one(e, figures, busy_host)).collect()
}

fn one(expect: &Expect, figures: &Figures, busy_host: bool) -> Expectation {
    let figure = figures.get(&expect.figure);
    let met = match figure {
        Some(figure) if expect.relation.holds(figure.value, expect.bound) => Met::Yes,
        Some(figure) if busy_host && by_the_clock(expect, figure) => Met::Unknown,
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
    use crate::scenario::Relation;

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
        let figures = value
            .map(|value| (figure.to_owned(), seen(value, None)))
            .into_iter()
            .collect();
        evaluate(&[expect(figure, relation, bound)], &figures, busy_host)[0].met
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
            let figures = [(expect.figure.clone(), seen(failed, Some(answered)))];
            evaluate(&[expect], &figures.into_iter().collect(), busy)[0].met
        };
        assert_eq!(met(5.0, 0.0, false), Met::No, "a quiet host has no excuse");
        assert_eq!(met(5.0, 0.0, true), Met::Unknown);
        assert_eq!(met(5.0, 1.0, true), Met::No, "one was answered badly");
        assert_eq!(met(0.0, 0.0, true), Met::Yes);
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
