//! Conditions under which a trial is broken off, looked at once a second. Rules only: what was seen in a second is handed in.

use backdrop_reports::load::Interval;
use backdrop_reports::record::Aborted;

use crate::scenario::{Abort, LiveFigure};

/// What is known of the last second; nothing where there is no sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    /// Kills in the service's leaf so far.
    pub kills: Option<f64>,
    /// Usage of the limited parent by the limit in force, 0..=1.
    pub usage_ratio: Option<f64>,
    /// Memory of the host that is in use, by all of it, 0..=1.
    pub host_memory_ratio: Option<f64>,
    /// Share of the CPUs' time that the hypervisor took, 0..=1.
    pub host_steal_ratio: Option<f64>,
    /// Operations that failed or had no answer in time, by all.
    pub failed_ratio: Option<f64>,
    /// Operations that the service shed, by all.
    pub shed_ratio: Option<f64>,
    /// 99th percentile of switches, milliseconds.
    pub switch_p99_ms: Option<f64>,
    /// 99th percentile of previews, milliseconds.
    pub preview_p99_ms: Option<f64>,
}

impl Second {
    /// With what the load says of it.
    #[must_use]
    pub fn of_load(self, i: &Interval) -> Self {
        let failed = i.switches_failed + i.previews_failed;
        let shed = i.switches_shed + i.previews_shed;
        let well = i.switches_ok + i.previews_ok + i.previews_degraded;
        let all = failed + shed + well;
        let share = |part: u64| (all > 0).then(|| part as f64 / all as f64);
        let ms = |us: u64| (us > 0).then_some(us as f64 / 1e3);
        Self {
            failed_ratio: share(failed),
            shed_ratio: share(shed),
            switch_p99_ms: ms(i.switch_p99_us),
            preview_p99_ms: ms(i.preview_p99_us),
            ..self
        }
    }

    fn get(&self, figure: LiveFigure) -> Option<f64> {
        match figure {
            LiveFigure::Kills => self.kills,
            LiveFigure::FailedRatio => self.failed_ratio,
            LiveFigure::ShedRatio => self.shed_ratio,
            LiveFigure::SwitchP99Ms => self.switch_p99_ms,
            LiveFigure::PreviewP99Ms => self.preview_p99_ms,
            LiveFigure::UsageRatio => self.usage_ratio,
            LiveFigure::HostMemoryRatio => self.host_memory_ratio,
            LiveFigure::HostStealRatio => self.host_steal_ratio,
        }
    }
}

/// Conditions, and for how long each has been met.
#[derive(Debug)]
pub struct Conditions {
    aborts: Vec<Abort>,
    seconds: Vec<u32>,
}

impl Conditions {
    /// None of them met so far.
    #[must_use]
    pub fn new(aborts: &[Abort]) -> Self {
        Self {
            aborts: aborts.to_vec(),
            seconds: vec![0; aborts.len()],
        }
    }

    /// One more look, at `t_s` after the first planned send: at the host, and at the seconds of load that ended since the last look, in
    /// their order. A look that comes late finds several of them, and each counts.
    pub fn look(&mut self, t_s: f64, host: Second, load: &[Interval]) -> Option<Aborted> {
        let Some((newest, earlier)) = load.split_last() else {
            return self.second(t_s, &host);
        };
        let mut earlier = earlier.iter();
        earlier
            .find_map(|interval| self.second(t_s, &Second::default().of_load(interval)))
            .or_else(|| self.second(t_s, &host.of_load(newest)))
    }

    /// One more second, at `t_s` after the first planned send: what breaks the trial off, if anything does. A second without a sample
    /// neither counts nor ends what was counted.
    pub fn second(&mut self, t_s: f64, now: &Second) -> Option<Aborted> {
        let mut fired = None;
        for (abort, seconds) in self.aborts.iter().zip(&mut self.seconds) {
            let Some(observed) = now.get(abort.figure) else {
                continue;
            };
            *seconds = if observed > abort.above {
                *seconds + 1
            } else {
                0
            };
            if *seconds >= abort.seconds && fired.is_none() {
                fired = Some(Aborted {
                    name: abort.name.clone(),
                    figure: abort.figure.word().to_owned(),
                    unit: abort.figure.unit().to_owned(),
                    above: abort.above,
                    seconds: abort.seconds,
                    observed,
                    at_s: t_s,
                    faults_off_s: None,
                });
            }
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abort(name: &str, figure: LiveFigure, above: f64, seconds: u32) -> Abort {
        Abort {
            name: name.into(),
            figure,
            above,
            seconds,
        }
    }

    fn slow(ms: u64) -> Second {
        Second::default().of_load(&Interval {
            switches_ok: 90,
            switches_failed: 10,
            switch_p99_us: ms * 1000,
            ..Interval::default()
        })
    }

    #[test]
    fn a_condition_must_be_met_for_all_of_its_seconds_in_a_row() {
        let slow_ones = [abort("slow", LiveFigure::SwitchP99Ms, 100.0, 3)];
        let mut conditions = Conditions::new(&slow_ones);
        let mut at = |t_s: f64, ms| conditions.second(t_s, &slow(ms));
        assert_eq!(at(1.0, 101), None);
        assert_eq!(at(2.0, 300), None);
        assert_eq!(at(3.0, 100), None, "not above");
        assert_eq!(at(4.0, 300), None);
        assert_eq!(at(5.0, 300), None);
        let fired = at(6.0, 250).expect("three in a row");
        assert_eq!((fired.at_s, fired.observed), (6.0, 250.0));
        assert_eq!((fired.name.as_str(), fired.above), ("slow", 100.0));
        assert_eq!(fired.faults_off_s, None, "that is for later");
    }

    #[test]
    fn a_second_without_a_sample_neither_counts_nor_ends_it() {
        let killed = [abort("killed", LiveFigure::Kills, 0.0, 2)];
        let mut conditions = Conditions::new(&killed);
        let kills = |kills| Second {
            kills,
            ..Second::default()
        };
        assert_eq!(conditions.second(1.0, &kills(Some(1.0))), None);
        assert_eq!(conditions.second(2.0, &kills(None)), None);
        assert!(conditions.second(3.0, &kills(Some(1.0))).is_some());
    }

    #[test]
    fn a_late_look_counts_every_second_of_load_in_order_and_the_host_once() {
        let interval = |ms: u64| Interval {
            switches_ok: 100,
            switch_p99_us: ms * 1000,
            ..Interval::default()
        };
        let full = Second {
            usage_ratio: Some(0.99),
            ..Second::default()
        };
        let aborts = [
            abort("slow", LiveFigure::SwitchP99Ms, 100.0, 3),
            abort("full", LiveFigure::UsageRatio, 0.9, 3),
        ];
        let mut conditions = Conditions::new(&aborts);
        let three = [300, 300, 90].map(interval);
        assert_eq!(conditions.look(3.5, full, &three), None, "the last was not");
        let after = [300, 300, 300, 90].map(interval);
        let fired = conditions.look(7.5, full, &after).expect("three in a row");
        assert_eq!((fired.name.as_str(), fired.at_s), ("slow", 7.5));
        let mut conditions = Conditions::new(&aborts);
        let quick = [1, 1, 1].map(interval);
        for t_s in [3.0, 6.0] {
            assert_eq!(conditions.look(t_s, full, &quick), None, "{t_s}");
        }
        let fired = conditions.look(7.0, full, &[]).expect("three looks");
        assert_eq!(fired.name, "full");
    }

    #[test]
    fn each_figure_is_read_and_the_first_condition_of_the_file_is_told() {
        let now = Second {
            kills: Some(1.0),
            usage_ratio: Some(0.99),
            host_memory_ratio: Some(0.97),
            host_steal_ratio: Some(0.5),
            ..Second::default()
        };
        let now = now.of_load(&Interval {
            switches_ok: 2,
            switches_failed: 1,
            previews_shed: 1,
            switch_p99_us: 5000,
            preview_p99_us: 9000,
            ..Interval::default()
        });
        for figure in LiveFigure::ALL {
            let value = now.get(figure).expect("it has a sample");
            let mut under = Conditions::new(&[abort("a", figure, value * 0.9, 1)]);
            assert!(under.second(1.0, &now).is_some(), "{figure:?}");
            let mut at = Conditions::new(&[abort("a", figure, value, 1)]);
            assert_eq!(at.second(1.0, &now), None, "{figure:?} is not above");
            assert_eq!(Second::default().get(figure), None);
        }
        let both = [
            abort("first", LiveFigure::FailedRatio, 0.1, 1),
            abort("second", LiveFigure::Kills, 0.0, 1),
        ];
        let fired = Conditions::new(&both).second(7.0, &now).expect("both");
        assert_eq!((fired.name.as_str(), fired.observed), ("first", 0.25));
    }

    #[test]
    fn a_load_without_operations_has_no_shares() {
        let idle = Second::default().of_load(&Interval::default());
        assert_eq!(idle, Second::default());
    }
}
