//! Expectations against figures. A figure that is not there, or whose clock is not to be trusted, makes an expectation
//! unknown; that is never the same as met.

use backdrop_reports::format::{stated, stated_against};
use backdrop_reports::record::{Expectation, Met};

use crate::catalogue::{self, Source};
use crate::figures::{Figure, Figures};
use crate::scenario::{Expect, Load, Relation};
use crate::stalls::Stalls;

/// What there is to say against the clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'a> {
    /// The simulator was starved, or the hypervisor took the CPUs.
    pub busy_host: bool,
    /// Times at which a CPU stood still.
    pub stalls: &'a Stalls,
    /// Windows in which too much was sent late, by the simulator's own doing, with the share.
    pub late_windows: &'a [(String, f64)],
    /// Has the windows.
    pub load: &'a Load,
}

impl Clock<'_> {
    /// Whether a bound in time that was missed is in doubt.
    fn excuses(&self, expect: &Expect, figure: &Figure, source: Source) -> bool {
        self.busy_host
            || self.sent_late(expect)
            || self.stalls_explain(expect, figure, source).unwrap_or(false)
    }

    /// Whether the figure is of a window in which the simulator itself was too late.
    fn sent_late(&self, expect: &Expect) -> bool {
        let of = expect.figure.split_once('.').map(|(_, window)| window);
        let mut late = self.late_windows.iter();
        late.any(|(name, _)| Some(name.as_str()) == of)
    }

    /// Whether the host's standing still is enough to have brought the figure from well inside its bound to where it is.
    fn stalls_explain(&self, expect: &Expect, figure: &Figure, source: Source) -> Option<bool> {
        let window = self.window(expect);
        let unit_s = match (expect.unit.as_str(), expect.relation) {
            ("ms", Relation::Le) => 1e-3,
            ("s", Relation::Le) => 1.0,
            _ if source == Source::Answers => {
                // Half of the time for an answer: the service is to need less than the other one.
                return Some(
                    self.stalls
                        .excuse(window, self.load.timeout().as_secs_f64() / 2.0)
                        .is_some(),
                );
            }
            (_, Relation::Ge) => {
                let excuse = self.stalls.excuse(window, 0.0)?;
                return Some(excuse.few(expect.bound, figure.value));
            }
            _ => return Some(false),
        };
        let bound_s = expect.bound * unit_s;
        let excuse = self.stalls.excuse(window, bound_s / 2.0)?;
        Some(excuse.late(bound_s, figure.value * unit_s))
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

/// Evaluates every expectation. On a busy host (the simulator starved, the CPUs taken by the hypervisor) a latency
/// or rate that is outside its bound is not the service's fault: unknown. So is a count of failures that would be inside
/// it but for the operations that a clock gave up on; an error that the service answered counts on any host. CPUs that stood still
/// excuse no more than their standing can have caused.
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
    // What is not over yet shows that a bound is missed, and never that it is met.
    let open =
        |figure: &&Figure| figure.at_least && expect.relation.holds(figure.value, expect.bound);
    let figure = figures.get(&expect.figure).filter(|figure| !open(figure));
    let met = match figure {
        Some(figure) if expect.relation.holds(figure.value, expect.bound) => Met::Yes,
        Some(figure) => match by_the_clock(expect, figure) {
            Some(source) if clock.excuses(expect, figure, source) => Met::Unknown,
            _ => Met::No,
        },
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

/// Where the figure comes from, if the clock alone can be why the bound is missed.
fn by_the_clock(expect: &Expect, figure: &Figure) -> Option<Source> {
    let source = catalogue::find_windowed(&expect.figure)?.source;
    let answered = |value| expect.relation.holds(value, expect.bound);
    let so = match source {
        Source::Timing => true,
        Source::Answers => figure.but_for_timeouts.is_some_and(answered),
        _ => false,
    };
    so.then_some(source)
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
    match observed {
        Some(seen) => {
            let [seen, bound] = stated_against(*seen, *bound, unit, figure);
            format!("{figure} is {seen}, demanded {relation} {bound}")
        }
        None => {
            let bound = stated(*bound, unit, figure);
            format!("{figure} has no sample, demanded {relation} {bound}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            late_windows: &[("late".to_owned(), 0.02)],
            load: &load(),
        };
        evaluate(&[expect], &figures, &clock)[0].met
    }

    fn seen(value: f64, but_for_timeouts: Option<f64>) -> Figure {
        Figure {
            value,
            samples: 3,
            at_least: false,
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
            unit: catalogue::find_windowed(figure).unwrap().unit.into(),
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
                late_windows: &[],
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
        assert_eq!(
            met("switch_p99_ms.calm", 50.0, 20_000.0, stall),
            Met::No,
            "more than it explains"
        );
        assert_eq!(
            met("limit_adopted_max_s", 1.0, 3.0, (12.0, 12.4)),
            Met::No,
            "too short for seconds"
        );
    }

    #[test]
    fn sends_that_were_late_discredit_the_times_of_their_window_alone() {
        let met = |figure: &str, relation, bound, value| {
            let expect = expect(figure, relation, bound);
            judged(expect, seen(value, None), false, &Stalls::default())
        };
        let p99 = |figure, value| met(figure, Relation::Le, 50.0, value);
        assert_eq!(p99("switch_p99_ms.late", 127.0), Met::Unknown);
        assert_eq!(p99("switch_p99_ms.late", 9.0), Met::Yes);
        assert_eq!(p99("switch_p99_ms.calm", 127.0), Met::No);
        assert_eq!(p99("switch_p99_ms", 127.0), Met::No);
        let failed = met("preview_failed_ratio.late", Relation::Le, 0.0, 0.5);
        assert_eq!(failed, Met::No, "the service's own answers");
    }

    #[test]
    fn stalls_excuse_a_rate_by_their_share_and_timeouts_only_if_they_are_as_long() {
        let rate = |value: f64, stall: (f64, f64)| {
            let expect = expect("switch_rate_ratio.calm", Relation::Ge, 0.99);
            judged(expect, seen(value, None), false, &Stalls::new([stall]))
        };
        assert_eq!(rate(0.96, (12.0, 12.4)), Met::Unknown);
        assert_eq!(rate(0.90, (12.0, 12.4)), Met::No);
        let failed = |stall: (f64, f64)| {
            let expect = expect("switches_failed.calm", Relation::Eq, 0.0);
            judged(expect, seen(5.0, Some(0.0)), false, &Stalls::new([stall]))
        };
        assert_eq!(failed((12.0, 12.4)), Met::No);
        assert_eq!(failed((12.0, 13.2)), Met::Unknown, "more than half of 2 s");
        let mut patient = load();
        patient.args = ["--timeout", "4s"].map(str::to_owned).to_vec();
        assert_eq!(patient.timeout(), Duration::from_secs(4));
    }

    #[test]
    fn what_was_waited_for_in_vain_misses_a_bound_and_never_meets_one() {
        let met = |waited_s: f64| {
            let figure = Figure {
                at_least: true,
                ..seen(waited_s, None)
            };
            let expect = expect("recovery_s", Relation::Le, 12.0);
            judged(expect, figure, false, &Stalls::default())
        };
        assert_eq!(met(16.0), Met::No);
        assert_eq!(met(9.0), Met::Unknown);
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
