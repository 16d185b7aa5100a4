//! Every rule of the verdict, each on a fixture that differs from a held one in one thing.

use backdrop_chaos::scenario::Outcome;
use backdrop_chaos::steady::SteadyState;
use backdrop_chaos::verdict::{self, ControlFacts, ControlSeen, Facts, Simulator};
use backdrop_reports::load::TruthVerdict;
use backdrop_reports::record::{
    Aborted, Evidence, Expectation, Fault, Met, ServiceProcess, Verdict,
};

/// Owned facts, so that a case can change one of them.
#[derive(Clone)]
struct Case {
    failure: Option<String>,
    crash: Option<String>,
    blind_spots: Vec<String>,
    expectations: Vec<Expectation>,
    faults: Vec<Fault>,
    evidence: Evidence,
    simulator: Option<Simulator>,
    late_windows: Vec<(String, f64)>,
    aborted: Option<Aborted>,
    ended_early: Option<String>,
    steady: SteadyState,
    controls: Vec<ControlFacts>,
    allow_emulated: bool,
    interrupted: bool,
}

impl Case {
    fn held() -> Self {
        Self {
            failure: None,
            crash: None,
            blind_spots: Vec::new(),
            expectations: vec![expectation("fast", Met::Yes)],
            faults: vec![Fault {
                name: "hog".into(),
                kind: "memory_hog".into(),
                requested: "100 MiB".into(),
                achieved_ratio: Some(0.99),
                from_s: 1.0,
                to_s: 2.0,
                began: true,
                acted: true,
                proof: "99 MiB".into(),
                undone: true,
            }],
            evidence: Evidence {
                cgroup: "v1".into(),
                swap_off: true,
                undone: true,
                ..Evidence::default()
            },
            late_windows: Vec::new(),
            simulator: Some(Simulator {
                truth: TruthVerdict::Clean,
                late_ratio: 0.0,
                busy_max: 0.5,
            }),
            aborted: None,
            ended_early: None,
            steady: SteadyState::Held,
            controls: vec![control("killed", "killed")],
            allow_emulated: false,
            interrupted: false,
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            failure: self.failure.as_deref(),
            crash: self.crash.as_deref(),
            blind_spots: &self.blind_spots,
            expectations: &self.expectations,
            faults: &self.faults,
            evidence: &self.evidence,
            simulator: self.simulator,
            late_windows: &self.late_windows,
            aborted: self.aborted.as_ref(),
            ended_early: self.ended_early.as_deref(),
            steady: &self.steady,
            controls: &self.controls,
            outvoted: None,
            allow_emulated: self.allow_emulated,
            interrupted: self.interrupted,
        }
    }
}

fn expectation(name: &str, met: Met) -> Expectation {
    Expectation {
        name: name.into(),
        text: "t".into(),
        figure: "switch_p99_ms".into(),
        relation: "<=".into(),
        bound: 10.0,
        unit: "ms".into(),
        observed: (met != Met::Unknown).then_some(3.0),
        samples: u64::from(met != Met::Unknown),
        met,
    }
}

fn control(expected: &str, observed: &str) -> ControlFacts {
    ControlFacts {
        name: "off".into(),
        expected: expected.into(),
        observed: observed.into(),
        as_expected: expected == observed,
        undone: true,
    }
}

#[test]
fn each_rule_by_itself() {
    type Change = fn(&mut Case);
    let cases: &[(&str, Change, Verdict, &str)] = &[
        (
            "held",
            |_| {},
            Verdict::Held,
            "1 control came out as demanded",
        ),
        (
            "runner failed",
            |c| c.failure = Some("no port".into()),
            Verdict::Error,
            "no port",
        ),
        (
            "crashed",
            |c| {
                c.crash = Some("the service ended by itself: signal 11".into());
                c.simulator = None;
                c.expectations[0].met = Met::No;
            },
            Verdict::Deviated,
            "signal 11",
        ),
        (
            "unseen",
            |c| c.blind_spots = vec!["the cgroup was not sampled for 2 s".into()],
            Verdict::Inconclusive,
            "not sampled",
        ),
        (
            "control left something",
            |c| c.controls[0].undone = false,
            Verdict::Inconclusive,
            "not everything of control off",
        ),
        (
            "not met",
            |c| c.expectations[0].met = Met::No,
            Verdict::Deviated,
            "fast",
        ),
        (
            "no sample",
            |c| c.expectations = vec![expectation("fast", Met::Unknown)],
            Verdict::Inconclusive,
            "no sample",
        ),
        (
            "nothing expected",
            |c| c.expectations.clear(),
            Verdict::Inconclusive,
            "nothing was expected",
        ),
        (
            "killed",
            |c| c.evidence.service_oom_kills = 1,
            Verdict::Deviated,
            "the kernel killed the service",
        ),
        (
            "untrue",
            |c| {
                c.simulator = Some(Simulator {
                    truth: TruthVerdict::Violated,
                    late_ratio: 0.0,
                    busy_max: 0.5,
                })
            },
            Verdict::Deviated,
            "contradict",
        ),
        (
            "truth unread",
            |c| {
                c.simulator = Some(Simulator {
                    truth: TruthVerdict::Inconclusive,
                    late_ratio: 0.0,
                    busy_max: 0.5,
                })
            },
            Verdict::Inconclusive,
            "too little",
        ),
        (
            "late",
            |c| {
                c.simulator = Some(Simulator {
                    truth: TruthVerdict::Clean,
                    late_ratio: 0.011,
                    busy_max: 0.5,
                })
            },
            Verdict::Inconclusive,
            "starved",
        ),
        (
            "busy",
            |c| {
                c.simulator = Some(Simulator {
                    truth: TruthVerdict::Clean,
                    late_ratio: 0.01,
                    busy_max: 0.91,
                })
            },
            Verdict::Inconclusive,
            "starved",
        ),
        (
            "load cut short",
            |c| c.ended_early = Some("service away".into()),
            Verdict::Inconclusive,
            "service away",
        ),
        (
            "no report",
            |c| c.simulator = None,
            Verdict::Inconclusive,
            "no report",
        ),
        (
            "fault idle",
            |c| c.faults[0].acted = false,
            Verdict::Inconclusive,
            "did not act",
        ),
        (
            "hog short",
            |c| c.faults[0].achieved_ratio = Some(0.94),
            Verdict::Inconclusive,
            "did not act",
        ),
        (
            "fault stays",
            |c| c.faults[0].undone = false,
            Verdict::Inconclusive,
            "was not undone",
        ),
        (
            "hog killed",
            |c| c.evidence.hog_oom_kills = 1,
            Verdict::Inconclusive,
            "killed the hog",
        ),
        (
            "not steady",
            |c| c.steady = SteadyState::NotHeld("slow".into()),
            Verdict::Inconclusive,
            "slow",
        ),
        (
            "not undone",
            |c| c.evidence.undone = false,
            Verdict::Inconclusive,
            "undone",
        ),
        (
            "swap",
            |c| c.evidence.swap_off = false,
            Verdict::Inconclusive,
            "swap",
        ),
        (
            "emulated",
            |c| c.evidence.cgroup = "emulated".into(),
            Verdict::Inconclusive,
            "emulated",
        ),
        (
            "emulated, allowed",
            |c| {
                c.evidence.cgroup = "emulated".into();
                c.allow_emulated = true;
            },
            Verdict::Held,
            "demanded",
        ),
        (
            "toothless",
            |c| c.controls = vec![control("killed", "held")],
            Verdict::Inconclusive,
            "no teeth",
        ),
        (
            "interrupted",
            |c| c.interrupted = true,
            Verdict::Inconclusive,
            "interrupted",
        ),
        (
            "failure outweighs doubt",
            |c| {
                c.expectations[0].met = Met::No;
                c.controls = vec![control("killed", "held")];
                c.faults[0].acted = false;
            },
            Verdict::Deviated,
            "fast",
        ),
        (
            "doubts are counted",
            |c| {
                c.faults[0].acted = false;
                c.simulator = None;
            },
            Verdict::Inconclusive,
            "1 more doubts",
        ),
    ];
    for (name, change, verdict, reason) in cases {
        let mut case = Case::held();
        change(&mut case);
        let (seen, why) = verdict::judge(&case.facts());
        assert_eq!(seen, *verdict, "{name}: {why}");
        assert!(why.contains(reason), "{name}: {why}");
    }
}

#[test]
fn exit_codes_are_those_of_the_verdict() {
    let codes = [
        Verdict::Held,
        Verdict::Deviated,
        Verdict::Inconclusive,
        Verdict::Error,
    ]
    .map(Verdict::exit);
    assert_eq!(codes, [0, 1, 2, 255]);
}

#[test]
fn a_run_that_left_something_or_was_interrupted_never_held() {
    let held = [("a", Verdict::Held, "fine"), ("b", Verdict::Held, "fine")];
    let left = ["cgroup x is still there".to_owned()];
    assert_eq!(verdict::of_run(&held, false, &[]).0, Verdict::Held);
    let (verdict, reason) = verdict::of_run(&held, false, &left);
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.contains("cgroup x"), "{reason}");
    assert_eq!(verdict::of_run(&held, true, &[]).0, Verdict::Inconclusive);
    let worse = [held[0], ("b", Verdict::Deviated, "lost")];
    let (verdict, reason) = verdict::of_run(&worse, false, &left);
    assert_eq!(verdict, Verdict::Deviated, "{reason}");
    assert!(reason.contains("b: lost") && reason.contains("cgroup x"));
    assert_eq!(verdict::of_run(&[], false, &[]).0, Verdict::Inconclusive);
}

fn observed(case: &Case, proven: bool, shed: f64, expected: &Outcome) -> String {
    observed_at(case, proven.then_some(1.5), shed, expected)
}

fn observed_at(case: &Case, killed_s: Option<f64>, shed: f64, expected: &Outcome) -> String {
    verdict::outcome(
        &ControlSeen {
            facts: case.facts(),
            kill_proven: killed_s.is_some(),
            killed_s,
            entries_shed: shed,
        },
        expected,
    )
    .0
}

#[test]
fn outcomes_of_controls() {
    let killed = {
        let mut case = Case::held();
        case.controls.clear();
        case.evidence.service_oom_kills = 1;
        case.evidence.service_processes = vec![ServiceProcess {
            pid: 7,
            start_ticks: 9,
            end: "x".into(),
        }];
        case
    };
    assert_eq!(observed(&killed, true, 0.0, &Outcome::Killed), "killed");
    assert_eq!(
        observed(&killed, false, 0.0, &Outcome::Killed),
        "inconclusive",
        "a counter without the process"
    );
    assert_eq!(
        observed(&killed, true, 9.0, &Outcome::Sheds),
        "killed",
        "killed is never shedding"
    );
    let emulated = Case {
        evidence: Evidence {
            cgroup: "emulated".into(),
            ..killed.evidence.clone()
        },
        ..killed.clone()
    };
    assert_eq!(
        observed(&emulated, true, 0.0, &Outcome::Killed),
        "killed by emulation"
    );
    let allowed = Case {
        allow_emulated: true,
        ..emulated
    };
    assert_eq!(observed(&allowed, true, 0.0, &Outcome::Killed), "killed");

    let held = Case {
        controls: Vec::new(),
        ..Case::held()
    };
    assert_eq!(observed(&held, false, 0.0, &Outcome::Killed), "held");
    assert_eq!(observed(&held, false, 5.0, &Outcome::Sheds), "sheds");
    assert_eq!(observed(&held, false, 0.0, &Outcome::Sheds), "held");

    let idle = Case {
        faults: vec![Fault {
            acted: false,
            ..held.faults[0].clone()
        }],
        ..held.clone()
    };
    assert_eq!(
        observed(&idle, false, 0.0, &Outcome::Inconclusive),
        "inconclusive"
    );

    let expectations = vec![expectation("other", Met::No), expectation("fast", Met::No)];
    let deviated = Case {
        expectations,
        ..held.clone()
    };
    assert_eq!(
        observed(&deviated, false, 0.0, &Outcome::Deviated("fast".into())),
        "deviated:fast"
    );
    assert_eq!(
        observed(&deviated, false, 0.0, &Outcome::Killed),
        "deviated:other"
    );

    let hog = Case {
        evidence: Evidence {
            hog_oom_kills: 1,
            ..held.evidence.clone()
        },
        ..held.clone()
    };
    assert_eq!(observed(&hog, false, 0.0, &Outcome::Killed), "hog killed");
    let failed = Case {
        failure: Some("x".into()),
        ..killed
    };
    assert_eq!(observed(&failed, true, 0.0, &Outcome::Killed), "error");
}

/// What makes a trial another one than was meant.
type Spoil = fn(&mut Case);

#[test]
fn a_control_that_deviated_shows_nothing_where_the_trial_was_not_the_one_meant() {
    let outcome = |spoil: Spoil| {
        let mut case = Case::held();
        case.controls = Vec::new();
        case.expectations = vec![
            expectation("fast", Met::No),
            expectation("rate", Met::Unknown),
        ];
        spoil(&mut case);
        observed(&case, false, 0.0, &Outcome::Deviated("fast".into()))
    };
    let sound: [(&str, Spoil); 2] = [
        ("as meant", |_| {}),
        ("busy", |c| {
            c.simulator.as_mut().expect("one").late_ratio = 0.5
        }),
    ];
    for (what, spoil) in sound {
        assert_eq!(outcome(spoil), "deviated:fast", "{what}");
    }
    let spoils: [(&str, Spoil); 5] = [
        ("idle fault", |c| c.faults[0].acted = false),
        ("short hog", |c| c.faults[0].achieved_ratio = Some(0.5)),
        ("cut short", |c| c.ended_early = Some("refused".into())),
        ("no report", |c| c.simulator = None),
        ("swap", |c| c.evidence.swap_off = false),
    ];
    for (what, spoil) in spoils {
        assert_eq!(outcome(spoil), "deviated:fast, in doubt", "{what}");
    }
}

#[test]
fn a_kill_shows_something_of_a_fault_only_once_that_began() {
    let mut case = Case::held();
    case.evidence.service_oom_kills = 1;
    let at = |case: &Case, s: f64| observed_at(case, Some(s), 0.0, &Outcome::Killed);
    assert_eq!(at(&case, 0.5), "killed before its fault");
    assert_eq!(at(&case, 1.0), "killed");
    case.faults[0].began = false;
    assert_eq!(at(&case, 1.5), "killed before its fault");
    case.faults.clear();
    assert_eq!(at(&case, -3.0), "killed", "set-up alone may kill it");
}

#[test]
fn a_crash_is_no_outcome_that_a_control_can_ask_for() {
    let crashed = Case {
        crash: Some("the service ended by itself: signal 11".into()),
        expectations: vec![expectation("fast", Met::No)],
        ..Case::held()
    };
    let outcomes = [
        Outcome::Killed,
        Outcome::Sheds,
        Outcome::FaultsIdle,
        Outcome::Deviated("fast".into()),
    ];
    for expected in outcomes {
        assert_eq!(observed(&crashed, false, 5.0, &expected), "crashed");
    }
}

#[test]
fn idle_faults_must_be_why_a_control_is_inconclusive() {
    let idle = |change: fn(&mut Case)| {
        let mut case = Case::held();
        case.controls.clear();
        case.faults[0].acted = false;
        change(&mut case);
        observed(&case, false, 0.0, &Outcome::FaultsIdle)
    };
    let because = "inconclusive:fault-did-not-act";
    assert_eq!(idle(|_| {}), because);
    let nothing_seen = |c: &mut Case| {
        c.expectations[0].met = Met::Unknown;
        c.expectations[0].observed = None;
    };
    assert_eq!(idle(nothing_seen), "inconclusive", "latency needs no fault");
    assert_eq!(
        idle(|c| {
            c.expectations[0].met = Met::Unknown;
            c.expectations[0].observed = None;
            c.expectations[0].figure = "errors_counted_ratio".into();
        }),
        because
    );
    assert_eq!(
        idle(|c| c.simulator = None),
        "inconclusive",
        "for another reason too"
    );
    assert_eq!(idle(|c| c.evidence.undone = false), "inconclusive");
    let not_steady = |c: &mut Case| c.steady = SteadyState::NotHeld("slow".into());
    assert_eq!(idle(not_steady), "inconclusive");
    assert_eq!(
        idle(|c| {
            c.steady = SteadyState::NotHeld("slow".into());
            c.evidence.host_steal_ratio = Some(0.05);
        }),
        because,
        "a busy host explains it"
    );
    assert_eq!(idle(|c| c.faults[0].acted = true), "held");
    assert_eq!(
        idle(|c| {
            let acted = Fault {
                acted: true,
                ..c.faults[0].clone()
            };
            c.faults.push(acted);
        }),
        "inconclusive",
        "one of two acted"
    );
}

#[test]
fn cpus_that_the_hypervisor_took_make_a_missed_bound_in_time_unknown() {
    let mut case = Case::held();
    case.evidence.host_steal_ratio = Some(0.02);
    assert!(verdict::busy_host(case.simulator, &case.evidence));
    assert_eq!(
        verdict::judge(&case.facts()).0,
        Verdict::Held,
        "bounds that were met are met all the same"
    );
    case.expectations[0].met = Met::Unknown;
    case.expectations[0].observed = Some(12.0);
    assert_eq!(verdict::judge(&case.facts()).0, Verdict::Inconclusive);
    let doubts = verdict::doubts(&case.facts());
    assert!(
        doubts.iter().any(|d| d.contains("hypervisor took 2.0 %")),
        "{doubts:?}"
    );
    case.evidence.host_steal_ratio = Some(0.005);
    assert!(!verdict::busy_host(case.simulator, &case.evidence));
}

#[test]
fn a_window_whose_sends_were_late_is_named_where_a_bound_of_it_was_missed() {
    let mut case = Case::held();
    case.late_windows = vec![("calm".into(), 0.013)];
    assert_eq!(verdict::judge(&case.facts()).0, Verdict::Held);
    case.expectations[0].met = Met::Unknown;
    case.expectations[0].observed = Some(184.0);
    assert_eq!(verdict::judge(&case.facts()).0, Verdict::Inconclusive);
    let doubts = verdict::doubts(&case.facts());
    let words = "starved in window calm: 1.3 % of its sends were late";
    assert!(doubts.iter().any(|d| d.contains(words)), "{doubts:?}");
}

fn aborted(faults_off_s: Option<f64>) -> Option<Aborted> {
    Some(Aborted {
        name: "slow".into(),
        figure: "switch_p99_ms".into(),
        unit: "ms".into(),
        above: 500.0,
        seconds: 3,
        observed: 812.0,
        at_s: 12.0,
        faults_off_s,
    })
}

#[test]
fn a_trial_that_was_broken_off_is_never_held_and_both_times_are_told() {
    let mut case = Case::held();
    case.aborted = aborted(Some(12.4));
    let (verdict, reason) = verdict::judge(&case.facts());
    assert_eq!(verdict, Verdict::Inconclusive);
    for part in ["12 s", "12.4 s", "slow", "812 ms", "500 ms", "for 3 s"] {
        assert!(reason.contains(part), "no {part}: {reason}");
    }
    let doubts = verdict::doubts(&case.facts());
    assert_eq!(doubts.len(), 1, "{doubts:?}");
    // An expectation that is missed in it may be missed for that alone.
    case.expectations[0].met = Met::No;
    assert_eq!(verdict::judge(&case.facts()).0, Verdict::Inconclusive);
    assert!(verdict::deviations(&case.facts()).is_empty());
}

#[test]
fn harm_counts_in_a_trial_that_was_broken_off() {
    type Change = fn(&mut Case);
    let harms: [(&str, Change); 3] = [
        ("killed", |c| c.evidence.service_oom_kills = 1),
        ("crash", |c| c.crash = Some("it aborted".into())),
        ("untrue", |c| {
            c.simulator = c.simulator.map(|s| Simulator {
                truth: TruthVerdict::Violated,
                ..s
            });
        }),
    ];
    for (word, harm) in harms {
        let mut case = Case::held();
        case.aborted = aborted(Some(12.4));
        harm(&mut case);
        assert_eq!(verdict::judge(&case.facts()).0, Verdict::Deviated, "{word}");
        assert_eq!(verdict::deviations(&case.facts()), [word]);
    }
}

#[test]
fn faults_that_were_not_off_in_time_are_a_doubt_of_their_own() {
    for off in [None, Some(14.1)] {
        let mut case = Case::held();
        case.aborted = aborted(off);
        let doubts = verdict::doubts(&case.facts());
        assert!(
            doubts.iter().any(|d| d.contains("not off within 2 s")),
            "{doubts:?}"
        );
    }
    let mut case = Case::held();
    case.aborted = aborted(Some(14.0));
    assert_eq!(verdict::doubts(&case.facts()).len(), 1);
}

#[test]
fn deviations_are_named_the_gravest_first() {
    let mut case = Case::held();
    case.crash = Some("it aborted".into());
    case.expectations[0].met = Met::No;
    case.evidence.service_oom_kills = 1;
    assert_eq!(
        verdict::deviations(&case.facts()),
        ["crash", "fast", "killed"]
    );
    assert!(verdict::deviations(&Case::held().facts()).is_empty());
}

#[test]
fn a_searchs_verdict_is_its_worst_plans_and_what_is_left_is_told_beside_what_was_found() {
    let held = ("search-7-1", Verdict::Held, "fine");
    let bad = ("search-7-2", Verdict::Deviated, "lost");
    let unclear = ("search-7-2", Verdict::Inconclusive, "busy");
    let found = || Some("plan 2 deviates".to_owned());
    let left = ["a cgroup".to_owned()];
    let of = verdict::of_search;
    assert_eq!(
        of(&[held, held], None, false, &[]),
        (Verdict::Held, "all 2 plans held".into())
    );
    assert_eq!(
        of(&[held, unclear], None, false, &[]).0,
        Verdict::Inconclusive
    );
    assert_eq!(of(&[held], None, true, &[]).0, Verdict::Inconclusive);
    assert_eq!(
        of(&[held, bad], found(), true, &[]),
        (Verdict::Deviated, "plan 2 deviates".into())
    );
    let broken = (
        "search-7-1",
        Verdict::Error,
        "the run itself failed: no port",
    );
    let (verdict, reason) = of(&[broken, bad], found(), false, &[]);
    assert_eq!(verdict, Verdict::Error);
    assert!(
        reason.contains("no port") && reason.ends_with("plan 2 deviates"),
        "{reason}"
    );
    let (verdict, reason) = of(&[held, bad], found(), false, &left);
    assert_eq!(verdict, Verdict::Deviated);
    assert!(
        reason.contains("plan 2") && reason.contains("a cgroup"),
        "{reason}"
    );
}
