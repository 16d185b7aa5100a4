//! How the expectations stand while a trial runs: what has been seen so far, without the simulator's report, which comes at the end.
//!
//! Nothing here is a verdict. A percentile of several seconds lies between their lowest and their highest: where that is not enough to
//! say on which side of a bound it is, it is unknown.

use backdrop_reports::format::stated;
use backdrop_reports::load::Interval;

use crate::catalogue::{self, Source};
use crate::figures::{self, Figures};
use crate::observed::{Observed, Plan};
use crate::scenario::{Expect, Relation};

/// On which side of its bound a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// There is no sample, or it can still be reached.
    Unknown,
    /// Inside, so far.
    SoFarMet,
    /// Outside, as far as has been seen.
    Missed,
}

/// One expectation now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub stands: Stands,
    /// What was seen and what is demanded.
    pub words: String,
}

/// What has been seen of a figure: its value, or the two that it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    least: f64,
    most: f64,
}

/// Every expectation, by what was observed so far.
#[must_use]
pub fn standings(expects: &[Expect], seen: &Observed, plan: Plan<'_>) -> Vec<Standing> {
    let figures = figures::compute(seen, plan);
    let one = |expect: &Expect| standing(expect, value(expect, seen, plan, &figures));
    expects.iter().map(one).collect()
}

fn standing(expect: &Expect, value: Option<Range>) -> Standing {
    let show = |value| stated(value, &expect.unit, &expect.figure);
    let demanded = format!("{} {}", expect.relation.sign(), show(expect.bound));
    let (stands, words) = match value {
        None => (Stands::Unknown, format!("demanded {demanded}")),
        Some(range) => {
            let holds = |value| expect.relation.holds(value, expect.bound);
            let stands = match (holds(range.least), holds(range.most)) {
                (true, true) => Stands::SoFarMet,
                (false, false) if !can_come(expect, range.most) => Stands::Missed,
                _ => Stands::Unknown,
            };
            let seen = match range.least == range.most {
                true => show(range.least),
                false => format!("{} to {}", show(range.least), show(range.most)),
            };
            (stands, format!("{seen}, demanded {demanded}"))
        }
    };
    Standing {
        name: expect.name.clone(),
        stands,
        words,
    }
}

/// Whether it is a count that may yet grow to what is demanded.
fn can_come(expect: &Expect, seen: f64) -> bool {
    let source = catalogue::find_windowed(&expect.figure).map(|spec| spec.source);
    let grows = !matches!(source, Some(Source::Timing | Source::Answers)) && expect.unit != "ratio";
    let short = seen < expect.bound;
    expect.relation != Relation::Le && grows && short
}

fn value(expect: &Expect, seen: &Observed, plan: Plan<'_>, figures: &Figures) -> Option<Range> {
    if let Some(figure) = figures.get(&expect.figure) {
        // What is still waited for says nothing yet.
        let known = (!figure.at_least).then_some(figure.value)?;
        return Some(Range {
            least: known,
            most: known,
        });
    }
    of_load(&expect.figure, seen.intervals(), plan)
}

/// A figure of the simulator's report, as far as its seconds tell.
fn of_load(figure: &str, intervals: &[Interval], plan: Plan<'_>) -> Option<Range> {
    let (name, window) = match figure.split_once('.') {
        Some((name, window)) => (name, Some(window)),
        None => (figure, None),
    };
    let (from, to) = match window {
        None => (0.0, f64::MAX),
        Some(name) => {
            let window = plan.load.windows.iter().find(|w| w.name == name)?;
            (window.from.as_secs_f64(), window.to.as_secs_f64())
        }
    };
    // A second is named by its end; one that is not in the window as a whole is not of it.
    let within = |i: &&Interval| i.t_s - 1.0 >= from - 0.5 && i.t_s <= to + 0.5;
    let seconds: Vec<&Interval> = intervals.iter().filter(within).collect();
    if seconds.is_empty() {
        return None;
    }
    let all = seconds.len() as f64;
    let sum = |field: fn(&Interval) -> u64| seconds.iter().map(|i| field(i)).sum::<u64>() as f64;
    let exactly = |value: f64| {
        value.is_finite().then_some(Range {
            least: value,
            most: value,
        })
    };
    let between = |field: fn(&Interval) -> u64| {
        let values = || seconds.iter().map(|i| field(i)).filter(|us| *us > 0);
        Some(Range {
            least: values().min()? as f64 / 1e3,
            most: values().max()? as f64 / 1e3,
        })
    };
    let switches =
        || sum(|i| i.switches_ok) + sum(|i| i.switches_shed) + sum(|i| i.switches_failed);
    let previews = || {
        sum(|i| i.previews_ok)
            + sum(|i| i.previews_degraded)
            + sum(|i| i.previews_shed)
            + sum(|i| i.previews_failed)
    };
    match name {
        "switch_rate_per_s" => exactly(sum(|i| i.switches_ok) / all),
        "switch_rate_ratio" => {
            exactly(sum(|i| i.switches_ok) / all / plan.load.planned_switches_per_s())
        }
        "preview_rate_per_s" => exactly(sum(|i| i.previews_ok) / all),
        "switches_failed" => exactly(sum(|i| i.switches_failed)),
        "switches_shed" => exactly(sum(|i| i.switches_shed)),
        "switch_missed_ratio" => {
            exactly((sum(|i| i.switches_failed) + sum(|i| i.switches_shed)) / switches())
        }
        "preview_failed_ratio" => exactly(sum(|i| i.previews_failed) / previews()),
        "preview_whole_ratio" => exactly(sum(|i| i.previews_ok) / previews()),
        "switch_p50_ms" => between(|i| i.switch_p50_us),
        "switch_p99_ms" => between(|i| i.switch_p99_us),
        "preview_p99_ms" => between(|i| i.preview_p99_us),
        "switch_max_ms" => {
            let most = between(|i| i.switch_max_us)?.most;
            exactly(most)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observed::Oracle;
    use crate::scenario::{Load, Scenario, library};

    fn second(t_s: f64, ok: u64, p99_ms: u64) -> Interval {
        Interval {
            t_s,
            switches_ok: ok,
            switch_p99_us: p99_ms * 1000,
            ..Interval::default()
        }
    }

    fn smoke() -> Scenario {
        let mut scenario = library::find("smoke-switch").expect("a scenario");
        scenario.load = Load {
            sessions: 300,
            period: Duration::from_secs(3),
            ..scenario.load
        };
        scenario
    }

    fn stands(figure: &str, relation: Relation, bound: f64, live: Vec<Interval>) -> Stands {
        let scenario = smoke();
        let seen = Observed {
            live,
            oracle: Oracle {
                readable: true,
                service_kills: 1,
                ..Oracle::default()
            },
            ..Observed::default()
        };
        let plan = Plan {
            load: &scenario.load,
            steady: &scenario.steady,
            recovery: None,
        };
        let expect = Expect {
            name: "e".into(),
            text: "t".into(),
            figure: figure.into(),
            relation,
            bound,
            unit: catalogue::find_windowed(figure).expect(figure).unit.into(),
        };
        standings(&[expect], &seen, plan)[0].stands
    }

    fn seconds() -> Vec<Interval> {
        vec![
            second(1.0, 100, 5),
            second(2.0, 90, 20),
            second(6.0, 0, 300),
        ]
    }

    #[test]
    fn a_percentile_is_known_only_where_all_its_seconds_are_on_one_side() {
        let p99 = |figure: &str, bound| stands(figure, Relation::Le, bound, seconds());
        assert_eq!(p99("switch_p99_ms", 300.0), Stands::SoFarMet);
        assert_eq!(p99("switch_p99_ms", 4.0), Stands::Missed);
        assert_eq!(p99("switch_p99_ms", 50.0), Stands::Unknown);
        assert_eq!(p99("switch_p99_ms.calm", 50.0), Stands::SoFarMet);
        assert_eq!(p99("switch_p99_ms.pressed", 50.0), Stands::Missed);
    }

    #[test]
    fn rates_are_of_the_seconds_so_far() {
        let rate = |bound, live| stands("switch_rate_ratio.calm", Relation::Ge, bound, live);
        assert_eq!(rate(0.95, seconds()), Stands::SoFarMet);
        assert_eq!(rate(0.96, seconds()), Stands::Missed);
        assert_eq!(rate(0.95, Vec::new()), Stands::Unknown);
    }

    #[test]
    fn kills_count_at_once_and_what_can_still_come_is_not_missed() {
        let kills = |relation, bound| stands("service_oom_kills", relation, bound, Vec::new());
        assert_eq!(kills(Relation::Le, 0.0), Stands::Missed);
        assert_eq!(kills(Relation::Ge, 2.0), Stands::Unknown);
        assert_eq!(kills(Relation::Ge, 1.0), Stands::SoFarMet);
        let truth = stands("truth_violations", Relation::Eq, 0.0, seconds());
        assert_eq!(truth, Stands::Unknown, "it is looked at in the end");
    }

    #[test]
    fn an_exact_count_that_is_exceeded_is_missed() {
        let mut failing = second(1.0, 100, 5);
        failing.switches_failed = 3;
        let failed = |bound| {
            stands(
                "switches_failed",
                Relation::Eq,
                bound,
                vec![failing.clone()],
            )
        };
        assert_eq!(failed(0.0), Stands::Missed);
        assert_eq!(failed(3.0), Stands::SoFarMet);
    }
}
