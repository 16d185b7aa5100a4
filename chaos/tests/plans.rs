//! Plans: the same seed and scenario give the same bytes, whatever decides what happens gives others.

use std::time::Duration;

use backdrop_chaos::catalogue::{self, FIGURES};
use backdrop_chaos::plan::{differences, of, steps};
use backdrop_chaos::scenario::{FaultKind, Relation, Scenario, library, parse};
use backdrop_reports::record::Better;

fn hash(scenario: &Scenario, seed: u64) -> String {
    of(scenario, seed, "abc".into(), false).hash
}

fn memory_hog() -> Scenario {
    library::find("memory-hog").unwrap()
}

#[test]
fn the_same_scenario_and_seed_give_the_same_plan_byte_for_byte() {
    for (name, text) in library::EMBEDDED {
        let (one, other) = (
            library::find(name).unwrap(),
            parse("elsewhere.toml", text).unwrap(),
        );
        let plan = of(&one, 7, "abc".into(), false);
        assert_eq!(plan, of(&other, 7, "abc".into(), false), "{name}");
        assert!(plan.hash.len() == 64 && plan.hash.chars().all(|c| c.is_ascii_hexdigit()));
        assert_ne!(plan.hash, hash(&one, 8), "{name}: another seed");
        assert_ne!(
            plan.hash,
            of(&one, 7, "abd".into(), false).hash,
            "{name}: another schedule"
        );
        assert_eq!(plan.steps, steps(&one, false), "steps know no seed");
    }
}

/// A changed value means that old records no longer compare with new ones: say so in the changelog.
#[test]
fn the_lines_of_a_known_plan_never_change() {
    assert_eq!(
        steps(&memory_hog(), false),
        [
            "scenario memory-hog",
            "target build=plain memory_limit_bytes=536870912 args=[] env={}",
            "load switch-storm sessions=300000 period_us=3000000 duration_us=40000000 gateways=8 previews_per_second=40 preview_size=640x360 background_count=100 zipf=0.6 args=[]",
            "backgrounds drawn",
            "window before from_us=0 to_us=15000000",
            "window pressed from_us=15000000 to_us=24000000",
            "fault hog memory_hog at_us=15000000 for_us=9000000 amount=floor:8 ramp_us=4000000",
            "steady from_us=5000000 rate_ratio=0.95 p99_ms=none",
            "recovery after=hog rate_ratio=0.95 p99_ms=25 hit_ratio_points=15 working_set_ratio=0.8",
        ]
    );
}

#[test]
fn whatever_decides_what_happens_is_in_the_hash_and_words_are_not() {
    let plain = memory_hog();
    type Change = (&'static str, fn(&mut Scenario));
    let changes: [Change; 8] = [
        ("limit", |s| s.target.memory_limit += 1),
        ("flag", |s| s.target.args.push("--x".into())),
        ("sessions", |s| s.load.sessions += 1),
        ("flag of the load", |s| s.load.args.push("--tick".into())),
        ("time of a fault", |s| {
            s.faults[0].at += Duration::from_millis(1)
        }),
        ("amount of a fault", |s| {
            if let FaultKind::MemoryHog { ramp, .. } = &mut s.faults[0].kind {
                *ramp += Duration::from_millis(1);
            }
        }),
        ("steady state", |s| s.steady.rate_ratio = 0.9),
        ("bands of recovery", |s| {
            s.recovery.as_mut().unwrap().p99_ms = 26.0
        }),
    ];
    for (what, change) in changes {
        let mut other = plain.clone();
        change(&mut other);
        assert_ne!(hash(&plain, 7), hash(&other, 7), "{what}");
        let told = differences(
            &of(&plain, 7, "a".into(), false),
            &of(&other, 7, "a".into(), false),
        );
        assert!(
            told.len() == 2 && told[0].starts_with("only then: "),
            "{what}: {told:?}"
        );
    }
    assert_ne!(
        hash(&plain, 7),
        of(&plain, 7, "abc".into(), true).hash,
        "photographs"
    );
    let mut retold = plain.clone();
    retold.story = "another story".into();
    retold.expects[0].bound = 1.0;
    retold.controls.clear();
    assert_eq!(hash(&plain, 7), hash(&retold, 7));
    let seeds = differences(
        &of(&plain, 7, "a".into(), false),
        &of(&plain, 8, "a".into(), false),
    );
    assert!(
        seeds.len() == 1 && seeds[0].starts_with("plan "),
        "{seeds:?}"
    );
}

#[test]
fn texts_cannot_pass_for_other_steps() {
    let (mut one, mut two) = (memory_hog(), memory_hog());
    one.target.args = vec!["a b".into()];
    two.target.args = vec!["a".into(), "b".into()];
    assert_ne!(hash(&one, 7), hash(&two, 7));
    one.target.args = vec!["a\"] env={}\nfault x kill".into()];
    assert_eq!(steps(&one, false)[1].lines().count(), 1);
}

/// Expectations of the scenarios that ship agree with the catalogue: none demands that a figure be bad. But the naive service is
/// there to show how few sessions it reaches.
#[test]
fn the_catalogue_and_the_scenarios_agree_which_way_is_better() {
    for (name, _) in library::EMBEDDED {
        for expect in library::find(name).unwrap().expects {
            if name.contains("exclusive") && expect.figure == "sessions_reached" {
                continue;
            }
            let figure = catalogue::find_windowed(&expect.figure).unwrap();
            let fits = match (figure.better, expect.relation) {
                (Better::Lower, Relation::Ge) | (Better::Higher, Relation::Le) => {
                    expect.bound == 0.0
                }
                _ => true,
            };
            assert!(fits, "{name}: {} {:?}", expect.figure, expect.relation);
        }
    }
    for better in [Better::Lower, Better::Higher, Better::Neither] {
        assert!(FIGURES.iter().any(|f| f.better == better));
    }
}
