//! The search itself, driven by oracles that know what is planted: no service, no clock.

use std::time::Duration;

use backdrop_chaos::scenario::protection::switch_off;
use backdrop_chaos::scenario::write::{Called, with_faults};
use backdrop_chaos::scenario::{
    Amount, BuildKind, FaultKind, FaultPlan, Place, Press, Scenario, library, parse,
};
use backdrop_chaos::search::{
    Answer, Ask, Bounds, DrawError, FAULTS_MAX, Outcome, Space, Step, search,
};

const BOUNDS: Bounds = Bounds {
    cpus: 2,
    kernel_limit: true,
    memory_bytes: 8 << 30,
    disk_bytes: 8 << 30,
    clients: 1 << 20,
};

fn hog(name: &str, percent: u32) -> FaultPlan {
    FaultPlan {
        name: name.to_owned(),
        kind: FaultKind::MemoryHog {
            amount: Amount::Share(f64::from(percent) / 100.0),
            place: Place::Sibling,
            ramp: Duration::from_secs(1),
            pulse: None,
        },
        at: Duration::from_secs(5),
        lasts: Duration::from_secs(8),
    }
}

/// Ten faults of two kinds, of different sizes.
fn ten() -> Vec<FaultPlan> {
    let spin = |n: u32| FaultPlan {
        kind: FaultKind::CpuHog {
            threads: n + 1,
            press: Press::Service,
        },
        ..hog(&format!("f{n}"), 10)
    };
    let fault = |n| match n % 2 {
        0 => hog(&format!("f{n}"), 40 + n),
        _ => spin(n),
    };
    (0..10).map(fault).collect()
}

fn has(faults: &[FaultPlan], name: &str) -> bool {
    faults.iter().any(|f| f.name == name)
}

fn names(faults: &[FaultPlan]) -> Vec<&str> {
    faults.iter().map(|f| f.name.as_str()).collect()
}

fn killed_if(so: bool) -> Answer {
    match so {
        true => Answer::Deviated(vec!["no-kill".to_owned()]),
        false => Answer::Held,
    }
}

/// Searches with the ten faults as every plan; the runs that were asked for are counted apart from what the search says.
async fn searched(
    runs_max: u32,
    mut oracle: impl FnMut(Ask<'_>) -> Answer,
) -> (Outcome, Vec<usize>) {
    let mut asked = Vec::new();
    let outcome = search(
        |_| ten(),
        (runs_max, 3),
        async |ask: Ask<'_>| {
            asked.push(ask.faults.len());
            oracle(ask)
        },
    )
    .await;
    assert_eq!(outcome.runs as usize, asked.len());
    (outcome, asked)
}

#[tokio::test]
async fn one_cause_among_ten_faults_is_found_within_twenty_runs_wherever_it_is() {
    for n in 0..10 {
        let planted = format!("f{n}");
        let (outcome, asked) = searched(20, |ask| killed_if(has(ask.faults, &planted))).await;
        let found = outcome.found.expect("found");
        assert_eq!(found.drawn.len(), 10);
        assert!(
            found.smallest.len() <= 2,
            "{planted}: {:?}",
            names(&found.smallest)
        );
        assert_eq!(names(&found.smallest), [planted.as_str()]);
        assert!(asked.len() <= 20 && asked[0] == 10);
        assert_eq!(found.cause, "no-kill");
    }
}

#[tokio::test]
async fn one_cause_is_found_within_twenty_runs_although_trials_decide_nothing_at_times() {
    for n in 0..10 {
        let planted = format!("f{n}");
        let mut asked = 0;
        let (outcome, _) = searched(20, |ask| {
            asked += 1;
            match asked % 4 {
                2 => Answer::Inconclusive,
                _ => killed_if(has(ask.faults, &planted)),
            }
        })
        .await;
        let found = outcome.found.expect("found");
        assert!(
            found.smallest.len() <= 2,
            "{planted}: {:?}",
            names(&found.smallest)
        );
        assert!(has(&found.smallest, &planted));
    }
}

#[tokio::test]
async fn faults_that_fail_only_together_are_kept_together() {
    for (one, other) in [("f0", "f1"), ("f2", "f9"), ("f4", "f5")] {
        let both = |ask: Ask<'_>| killed_if(has(ask.faults, one) && has(ask.faults, other));
        let (outcome, _) = searched(200, both).await;
        let found = outcome.found.expect("found");
        assert_eq!(names(&found.smallest), [one, other]);
        assert!(found.done);
    }
}

#[tokio::test]
async fn what_is_left_is_as_weak_and_as_short_as_it_can_be() {
    let percent = |f: &FaultPlan| match f.kind {
        FaultKind::MemoryHog {
            amount: Amount::Share(share),
            ..
        } => (share * 100.0).round(),
        _ => 0.0,
    };
    let bad = |f: &FaultPlan| percent(f) >= 31.0 && f.lasts >= Duration::from_secs(4);
    let oracle = |ask: Ask<'_>| {
        let planted = ask.faults.iter().find(|f| f.name == "f4");
        killed_if(planted.is_some_and(bad))
    };
    let (outcome, _) = searched(200, oracle).await;
    let found = outcome.found.expect("found");
    assert_eq!(names(&found.smallest), ["f4"]);
    let smallest = &found.smallest[0];
    assert!(bad(smallest) && percent(smallest) <= 34.0, "{smallest:?}");
    assert!(
        smallest.lasts <= Duration::from_millis(4500),
        "{smallest:?}"
    );
    assert!(found.done);
}

#[tokio::test]
async fn a_plan_that_fails_in_another_way_is_not_the_one_that_is_made_smaller() {
    // Every smaller plan without the cause fails, too, by something else.
    let (outcome, _) = searched(200, |ask| match has(ask.faults, "f3") {
        true => killed_if(true),
        false if ask.faults.is_empty() => Answer::Held,
        false => Answer::Deviated(vec!["rate".to_owned()]),
    })
    .await;
    let found = outcome.found.expect("found");
    assert_eq!(
        (names(&found.smallest), found.cause.as_str()),
        (vec!["f3"], "no-kill")
    );
}

#[tokio::test]
async fn what_fails_without_a_fault_is_no_faults_doing() {
    let (outcome, asked) = searched(20, |_| killed_if(true)).await;
    let found = outcome.found.expect("found");
    assert!(found.smallest.is_empty() && found.done);
    assert_eq!(asked, [10, 0]);
}

#[tokio::test]
async fn what_could_not_be_judged_without_a_fault_is_not_proven() {
    let (outcome, _) = searched(200, |ask| match ask.step {
        Step::NoFault => Answer::Inconclusive,
        _ => killed_if(has(ask.faults, "f3")),
    })
    .await;
    let found = outcome.found.expect("found");
    assert_eq!(names(&found.smallest), ["f3"]);
    assert_eq!((found.done, found.without_fault), (false, None));
    let open = found.open().expect("that is open");
    assert!(open.contains("without any fault"), "{open}");
}

#[tokio::test]
async fn what_is_smaller_and_could_not_be_judged_is_not_proven_to_hold() {
    let (outcome, _) = searched(200, |ask| match ask.step {
        Step::Smaller { .. } => Answer::Inconclusive,
        _ => killed_if(has(ask.faults, "f3")),
    })
    .await;
    let found = outcome.found.expect("found");
    assert_eq!((found.done, found.without_fault), (false, Some(false)));
    let open = found.open().expect("that is open");
    assert!(open.contains("judged"), "{open}");
    let (outcome, _) = searched(200, |ask| killed_if(has(ask.faults, "f3"))).await;
    let found = outcome.found.expect("found");
    assert_eq!((found.done, found.open()), (true, None));
}

#[tokio::test]
async fn a_plan_that_nothing_decides_about_is_tried_three_times_and_no_more() {
    let (outcome, asked) = searched(20, |_| Answer::Inconclusive).await;
    assert_eq!((outcome.found, outcome.held), (None, 0));
    assert_eq!(asked, [10; 3], "every plan is the same one");
    assert!(outcome.unjudged > 0);
}

#[tokio::test]
async fn the_runs_are_bounded_and_the_smallest_so_far_is_kept() {
    // The ninth would be the last: the cause is as weak and as short as anything can be.
    for runs_max in 1..=8 {
        let (outcome, asked) = searched(runs_max, |ask| killed_if(has(ask.faults, "f8"))).await;
        assert!(asked.len() <= runs_max as usize);
        let found = outcome.found.expect("the first plan fails");
        assert!(has(&found.smallest, "f8") && !found.done && !outcome.stopped);
    }
    // A person interrupts the eighth trial.
    let (outcome, asked) = searched(60, |ask| match ask.run {
        8 => Answer::Stopped,
        _ => killed_if(has(ask.faults, "f8")),
    })
    .await;
    let found = outcome.found.expect("found before");
    assert!(
        outcome.stopped && asked.len() == 8,
        "nothing is asked after it"
    );
    assert_eq!(names(&found.smallest), ["f8"]);
}

#[tokio::test]
async fn plans_that_hold_are_drawn_until_the_runs_are_over() {
    let space = space("calm", BOUNDS, 4);
    let mut steps = Vec::new();
    let outcome = search(
        |n| space.draw(7, n),
        (12, 3),
        async |ask: Ask<'_>| {
            steps.push(ask.step.words());
            Answer::Held
        },
    )
    .await;
    assert_eq!(outcome.found, None);
    assert_eq!(outcome.runs as usize, steps.len());
    assert_eq!(outcome.held, 12);
    assert_eq!(steps[0], Step::Drawn(1).words());
}

fn space(base: &str, bounds: Bounds, faults_max: u32) -> Space {
    let base = library::find(base).unwrap_or_else(|e| panic!("{e}"));
    Space::new(&base, bounds, faults_max).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_same_seed_draws_the_same_plans_and_another_one_others() {
    let plans = |seed| -> Vec<_> {
        let space = space("calm", BOUNDS, FAULTS_MAX);
        (1..=20).map(|n| space.draw(seed, n)).collect()
    };
    assert_eq!(plans(7), plans(7));
    assert_ne!(plans(7), plans(8));
    let seven = plans(7);
    assert!(seven.windows(2).any(|w| w[0] != w[1]));
    assert!(seven.iter().any(|plan| plan.len() > 5) && seven.iter().all(|p| !p.is_empty()));
}

/// What was drawn once is drawn by every later version: a seed in an old report must mean the same.
#[test]
fn a_known_seed_draws_a_known_plan() {
    let plan = space("calm", BOUNDS, 4).draw(7, 1);
    let lines: Vec<_> = plan.iter().map(backdrop_chaos::plan::fault).collect();
    assert_eq!(lines, KNOWN);
}

const KNOWN: &[&str] = &[
    "fault f1-connection-flood connection_flood at_us=6500000 for_us=4500000 connections=700",
    "fault f2-cpu-hog cpu_hog at_us=7500000 for_us=6000000 threads=1 press=service",
    "fault f3-oversized-body oversized_body at_us=10500000 for_us=2000000 amount=bytes:201326592",
    "fault f4-page-cache page_cache at_us=12000000 for_us=6500000 amount=share:0.2 place=service",
];

#[test]
fn every_plan_is_a_scenario_file_that_reads_back_as_the_same_plan() {
    for name in ["calm", "decode-faults", "overflow", "smoke-switch"] {
        let base = library::find(name).unwrap();
        let space = space(name, BOUNDS, FAULTS_MAX);
        for number in 1..=100 {
            let faults = space.draw(3, number);
            let again = read_back(&base, &faults);
            assert_eq!(again.faults, faults);
            assert_eq!((&again.target, &again.load), (&base.target, &base.load));
            assert!(again.recovery.is_none() && again.steady == base.steady);
        }
    }
}

/// What a search without a protection draws on: the file says what ran.
#[test]
fn a_base_that_lacks_a_protection_is_written_without_it() {
    for name in ["calm", "overflow", "decode-faults"] {
        let mut base = library::find(name).unwrap();
        let args = base.target.args.len();
        switch_off(&mut base.target, "governor");
        let again = read_back(&base, &[hog("f1", 30)]);
        assert_eq!(again.target, base.target, "{name}");
        assert_eq!(again.target.build, BuildKind::Controls);
        assert_eq!(again.target.args.len(), args + 1);
        assert!(again.target.args[args].ends_with("-governor"));
    }
}

fn read_back(base: &Scenario, faults: &[FaultPlan]) -> Scenario {
    let called = Called {
        name: "again",
        title: "a \"title\"",
        story: "two\nlines",
    };
    let text = with_faults(base, called, faults);
    parse("again.toml", &text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn the_librarys_own_faults_read_back_too_and_what_they_alone_showed_is_not_expected() {
    for (name, _) in library::EMBEDDED {
        let base = library::find(name).unwrap();
        let figures = base.expects.iter().map(|e| e.figure.as_str());
        let of_faults = backdrop_chaos::catalogue::is_of_faults;
        let kept: Vec<_> = figures.filter(|f| !of_faults(f)).collect();
        if kept.is_empty() {
            continue;
        }
        let again = read_back(&base, &base.faults);
        assert_eq!(again.faults, base.faults, "{name}");
        let expected: Vec<_> = again.expects.iter().map(|e| e.figure.as_str()).collect();
        assert_eq!(expected, kept, "{name}");
        let lender = base.controls_of.filter(|_| base.controls.is_empty());
        assert_eq!(again.controls_of, lender.or(Some(base.name)), "{name}");
    }
}

#[test]
fn plans_stay_within_what_host_and_service_can_bear() {
    let base = library::find("calm").unwrap();
    let space = space("calm", BOUNDS, FAULTS_MAX);
    let kind = |f: &FaultPlan| f.kind.word();
    let mut seen = std::collections::BTreeSet::new();
    for number in 1..=400 {
        let faults = space.draw(1, number);
        for fault in &faults {
            seen.insert(kind(fault));
            assert!(
                fault.at >= base.steady.from + Duration::from_secs(3),
                "{fault:?}"
            );
            assert!(
                fault.end() + Duration::from_secs(1) <= base.load.duration,
                "{fault:?}"
            );
            let standing = |f: &&FaultPlan| f.at <= fault.at && fault.at < f.end();
            let taken: f64 = faults.iter().filter(standing).map(taken).sum();
            assert!(taken < 0.51, "{taken} of the limit: {faults:?}");
            let killed = kind(fault) == "kill";
            let others = faults.iter().filter(|f| f.name != fault.name);
            let after =
                |f: &FaultPlan| f.at >= fault.at && f.at < fault.at + Duration::from_secs(5);
            assert!(!killed || !others.clone().any(after), "{faults:?}");
        }
    }
    let plain = [
        "archive_corrupt",
        "burst",
        "connection_flood",
        "cpu_hog",
        "kill",
        "limit_shrink",
        "memory_hog",
        "oversized_body",
        "page_cache",
        "slow_clients",
        "stop",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), plain);
    let poor = Bounds {
        kernel_limit: false,
        memory_bytes: 0,
        ..BOUNDS
    };
    let kinds = |bounds: Bounds| -> std::collections::BTreeSet<_> {
        let space = Space::new(&base, bounds, 4).unwrap();
        let plans = (1..=100).flat_map(|n| space.draw(1, n));
        plans.map(|f| f.kind.word()).collect()
    };
    for absent in ["memory_hog", "burst", "limit_shrink", "page_cache"] {
        assert!(!kinds(poor).contains(absent), "{absent}");
    }
}

#[test]
fn clients_that_stand_at_one_time_are_within_the_open_files() {
    let clients = |f: &FaultPlan| match f.kind {
        FaultKind::SlowClients { clients } => clients,
        FaultKind::ConnectionFlood { connections } => connections,
        _ => 0,
    };
    let drawn = |allowed: u64| -> Vec<_> {
        let bounds = Bounds {
            clients: allowed,
            ..BOUNDS
        };
        let space = space("calm", bounds, FAULTS_MAX);
        (1..=400).map(|number| space.draw(1, number)).collect()
    };
    let most = |plans: &[Vec<FaultPlan>]| {
        let at_once = plans.iter().flat_map(|faults| {
            faults.iter().map(|fault| {
                let standing = |f: &&FaultPlan| f.at <= fault.at && fault.at < f.end();
                faults.iter().filter(standing).map(clients).sum::<u32>()
            })
        });
        at_once.max().unwrap_or(0)
    };
    assert!(most(&drawn(1 << 20)) > 1000, "nothing else bounds them");
    assert_eq!(most(&drawn(768)), 768, "as many as may be, and no more");
    assert!(most(&drawn(99)) <= 99);
    assert_eq!(most(&drawn(19)), 0);
}

fn taken(fault: &FaultPlan) -> f64 {
    match fault.kind {
        FaultKind::MemoryHog {
            amount: Amount::Share(share),
            ..
        }
        | FaultKind::Burst {
            amount: Amount::Share(share),
            ..
        } => share,
        FaultKind::LimitShrink {
            to: Amount::Share(share),
            ..
        } => 1.0 - share,
        _ => 0.0,
    }
}

#[test]
fn a_load_without_room_for_a_fault_says_how_long_it_must_be() {
    let mut base = library::find("calm").unwrap();
    base.load.duration = Duration::from_secs(7);
    let error = Space::new(&base, BOUNDS, 4).expect_err("too short");
    let DrawError::Short { needed, .. } = &error;
    assert_eq!(needed, "8s");
    base.load.duration = Duration::from_secs(8);
    assert!(Space::new(&base, BOUNDS, 4).is_ok());
}
