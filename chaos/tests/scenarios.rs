//! Scenario files: every embedded one parses and explains, and what is wrong in one is named with its place.

use backdrop_chaos::explain;
use backdrop_chaos::scenario::library::{self, EMBEDDED, SUITES};
use backdrop_chaos::scenario::{
    Amount, BuildKind, FaultKind, Outcome, Place, Rate, SchemaError, parse,
};

#[test]
fn every_embedded_scenario_parses_and_explains() {
    for (name, _) in EMBEDDED {
        let scenario = library::find(name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(&scenario.name, name, "file and name differ");
        let words = explain::scenario(&scenario);
        let rests = ["preview", "composite", "cold-herd", "scan"]
            .contains(&scenario.load.scenario.as_str());
        assert_eq!(words.contains("each switching every"), !rests, "{name}");
        for part in ["Target:", "Load:", "Expectations:", "Controls:"] {
            assert!(words.contains(part), "{name} does not explain {part}");
        }
        for expect in &scenario.expects {
            assert!(
                words.contains(&expect.text),
                "{name} does not explain {}",
                expect.name
            );
        }
        if let Some(other) = &scenario.controls_of {
            let other = library::find(other).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(
                !other.controls.is_empty(),
                "{name} leans on {} which has no controls",
                other.name
            );
        }
    }
}

#[test]
fn suites_name_scenarios_that_exist_and_the_list_names_all() {
    let list = library::list().unwrap();
    for suite in SUITES {
        assert_eq!(
            library::suite(suite.name).unwrap().len(),
            suite.scenarios.len()
        );
    }
    assert!(EMBEDDED.iter().all(|(name, _)| list.contains(name)));
    let error = library::find("million-swich").unwrap_err().to_string();
    assert!(error.contains("million-switch"), "{error}");
    assert!(
        library::suite("nope")
            .unwrap_err()
            .to_string()
            .contains("default, flyweight, protections, smoke")
    );
}

#[test]
fn figures_come_from_builds_without_failpoints_except_where_they_are_the_point() {
    for (name, _) in EMBEDDED {
        let scenario = library::find(name).unwrap();
        let expected = if [
            "decode-faults",
            "pinned-flood",
            "archive-disk-full",
            "gpu-lost",
        ]
        .contains(name)
        {
            BuildKind::Failpoints
        } else {
            BuildKind::Plain
        };
        assert_eq!(scenario.target.build, expected, "{name}");
        assert!(
            scenario
                .target
                .args
                .iter()
                .all(|a| !a.starts_with("--unsafe-")),
            "{name}"
        );
    }
}

#[test]
fn overrides_of_a_control_apply_on_top_of_the_scenario() {
    let scenario = library::find("service-killed").unwrap();
    let control = &scenario.controls[0];
    assert_eq!(
        control.expected,
        Outcome::Deviated("uploads-kept".to_owned())
    );
    assert_eq!(control.target.memory_limit, scenario.target.memory_limit);
    assert!(control.load.sessions < scenario.load.sessions);
    assert_eq!(control.load.period, scenario.load.period);
    let exclusive = library::find("exclusive-control").unwrap();
    let args = &exclusive.controls[0].target.args;
    assert_eq!(
        args[..2],
        ["--sharing", "exclusive"],
        "the control keeps the scenario's flags"
    );
    assert_eq!(args.len(), 4);
}

const GOOD: &str = r#"name = "good"
title = "t"
story = "s"

[target]
build = "plain"
memory_limit = "128MiB"

[load]
scenario = "mixed"
sessions = 1000
duration = "20s"
windows = { calm = "0s..10s" }

[[fault]]
name = "hog"
kind = "memory_hog"
amount = "50%"
at = "5s"
for = "10s"

[[expect]]
name = "fast"
text = "x"
figure = "switch_p99_ms.calm"
relation = "<="
bound = 10
unit = "ms"

[[control]]
name = "off"
story = "s"
expected = "killed"
"#;

/// Replaces `from` in the good file and returns the complaint.
fn complaint(from: &str, to: &str) -> SchemaError {
    assert!(GOOD.contains(from), "{from}");
    parse("x.toml", &GOOD.replacen(from, to, 1)).expect_err(to)
}

#[test]
fn the_good_file_is_good() {
    parse("x.toml", GOOD).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn complaints_name_file_line_column_and_what_would_be_right() {
    // (replaced, replacement, line, column, part of the message, part of the mend)
    let cases = [
        (
            "name = \"good\"",
            "name = \"Not Good\"",
            1,
            8,
            "no name of a scenario",
            "lower-case",
        ),
        (
            "build = \"plain\"",
            "build = \"fast\"",
            6,
            9,
            "no build",
            "`plain`, `failpoints` or `controls`",
        ),
        ("\"128MiB\"", "\"128 megs\"", 7, 16, "no size", "384MiB"),
        ("\"128MiB\"", "\"1MiB\"", 7, 16, "32 MiB", "32MiB"),
        (
            "\"mixed\"",
            "\"storm\"",
            10,
            12,
            "no load",
            "`switch-storm`",
        ),
        (
            "sessions = 1000",
            "sessions = 0",
            11,
            12,
            "out of range",
            "1 to",
        ),
        ("\"20s\"", "\"20\"", 12, 12, "no duration", "60s"),
        (
            "\"0s..10s\"",
            "\"0s..30s\"",
            13,
            20,
            "ends after the load",
            "20s",
        ),
        (
            "\"memory_hog\"",
            "\"memory\"",
            17,
            8,
            "no kind of fault",
            "`memory_hog`",
        ),
        (
            "amount = \"50%\"",
            "amount = \"500%\"",
            18,
            10,
            "no share",
            "99%",
        ),
        (
            "amount = \"50%\"",
            "action = \"return\"",
            18,
            10,
            "does not take `action`",
            "`amount`",
        ),
        (
            "amount = \"50%\"\n",
            "",
            15,
            1,
            "`amount` is missing",
            "128MiB",
        ),
        (
            "at = \"5s\"",
            "at = \"15s\"",
            19,
            6,
            "ends after the load",
            "at most 20s",
        ),
        (
            "switch_p99_ms.calm",
            "switch_p98_ms",
            25,
            10,
            "no figure `switch_p98_ms`",
            "`switch_p99_ms`",
        ),
        (
            "switch_p99_ms.calm",
            "switch_p99_ms.pressed",
            25,
            10,
            "no window `pressed`",
            "`calm`",
        ),
        (
            "switch_p99_ms.calm",
            "service_oom_kills.calm",
            25,
            10,
            "no windows",
            "service_oom_kills",
        ),
        (
            "\"<=\"",
            "\"<\"",
            26,
            12,
            "no relation",
            "`<=`, `>=` or `==`",
        ),
        (
            "unit = \"ms\"",
            "unit = \"s\"",
            28,
            8,
            "is not in `s`",
            "unit = \"ms\"",
        ),
        ("\"killed\"", "\"dies\"", 33, 12, "no outcome", "`killed`"),
        (
            "\"killed\"",
            "\"deviated:fas\"",
            33,
            12,
            "no expectation `fas`",
            "`fast`",
        ),
        (
            "figure = \"switch_p99_ms.calm\"\nrelation = \"<=\"\nbound = 10\nunit = \"ms\"",
            "figure = \"recovery_s\"\nrelation = \"<=\"\nbound = 10\nunit = \"s\"",
            25,
            10,
            "does not say what recovered means",
            "[recovery]",
        ),
        (
            "duration = \"20s\"",
            "duration = \"20s\"\nperiod = \"0s\"",
            13,
            10,
            "out of range",
            "10ms to 1h",
        ),
        (
            "duration = \"20s\"",
            "duration = \"20s\"\nzipf = 11",
            13,
            8,
            "out of range",
            "0 to 10",
        ),
        (
            "duration = \"20s\"",
            "duration = \"20s\"\npreviews_per_second = 2e6",
            13,
            23,
            "out of range",
            "0 to 1000000",
        ),
        (
            "[target]",
            "controls_of = \"million-switch\"\n\n[target]",
            5,
            15,
            "no controls of its own",
            "`exclusive-control`",
        ),
        (
            "[target]",
            "controls_of = \"billion-switch\"\n\n[target]",
            5,
            15,
            "billion-switch",
            "`exclusive-control`",
        ),
    ];
    for (from, to, line, column, message, mend) in cases {
        let e = complaint(from, to);
        assert_eq!(e.file, "x.toml");
        assert!(e.message.contains(message), "{to}: {e}");
        assert!(e.mend.contains(mend), "{to}: {e}");
        assert_eq!((e.line, e.column), (line, column), "{to}: {e}");
        let printed = e.to_string();
        assert!(
            printed.starts_with(&format!("x.toml:{}:{}: ", e.line, e.column)),
            "{printed}"
        );
        assert!(printed.contains(&e.source_line), "{printed}");
    }
}

/// The good file with another fault in the place of its own.
fn with_fault(keys: &str) -> String {
    let own = "kind = \"memory_hog\"\namount = \"50%\"\n";
    assert!(GOOD.contains(own));
    GOOD.replace(own, keys)
}

#[test]
fn faults_of_memory_and_limit_take_their_own_keys() {
    for (keys, kind) in [
        (
            "kind = \"burst\"\namount = \"floor\"\ntextures = 2\nrate = \"0.8x\"\n",
            FaultKind::Burst {
                amount: Amount::Floor { textures: 2 },
                rate: Rate::Bound(0.8),
            },
        ),
        (
            "kind = \"burst\"\namount = \"64MiB\"\nrate = \"600MiB\"\n",
            FaultKind::Burst {
                amount: Amount::Bytes(64 << 20),
                rate: Rate::Bytes(600 << 20),
            },
        ),
        (
            "kind = \"page_cache\"\namount = \"40%\"\nplacement = \"service\"\n",
            FaultKind::PageCache {
                amount: Amount::Share(0.4),
                place: Place::Service,
            },
        ),
        (
            "kind = \"limit_shrink\"\nto = \"64MiB\"\nsteps = 3\n",
            FaultKind::LimitShrink {
                to: Amount::Bytes(64 << 20),
                steps: 3,
            },
        ),
    ] {
        let scenario = parse("x.toml", &with_fault(keys)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scenario.faults[0].kind, kind);
        let words = explain::scenario(&scenario);
        assert!(words.contains("from 5s to 15s"), "{words}");
    }
}

#[test]
fn complaints_about_faults_name_the_line_and_what_would_be_right() {
    // (keys, line, part of the message, part of the mend)
    for (keys, line, message, mend) in [
        (
            "kind = \"burst\"\namount = \"50%\"\n",
            15,
            "`rate` is missing",
            "0.8x",
        ),
        (
            "kind = \"burst\"\namount = \"50%\"\nrate = \"fast\"\n",
            19,
            "no rate",
            "`600MiB`",
        ),
        (
            "kind = \"burst\"\namount = \"50%\"\nrate = \"-1x\"\n",
            19,
            "no rate",
            "`0.8x`",
        ),
        (
            "kind = \"burst\"\namount = \"50%\"\nrate = \"1x\"\nramp = \"2s\"\n",
            20,
            "does not take `ramp`",
            "`rate`",
        ),
        (
            "kind = \"page_cache\"\n",
            15,
            "`amount` is missing",
            "128MiB",
        ),
        (
            "kind = \"page_cache\"\namount = \"50%\"\nplacement = \"anywhere\"\n",
            19,
            "no place of page cache",
            "`sibling` or `service`",
        ),
        ("kind = \"limit_shrink\"\n", 15, "`to` is missing", "60%"),
        (
            "kind = \"limit_shrink\"\nto = \"floor\"\n",
            18,
            "no amount of memory",
            "`50%`",
        ),
        (
            "kind = \"limit_shrink\"\nto = \"50%\"\nsteps = 0\n",
            19,
            "out of range",
            "1 to 64",
        ),
        (
            "kind = \"limit_shrink\"\nto = \"50%\"\namount = \"50%\"\n",
            19,
            "does not take `amount`",
            "`to` or `steps`",
        ),
    ] {
        let e = parse("x.toml", &with_fault(keys)).expect_err(keys);
        assert!(e.message.contains(message), "{keys}: {e}");
        assert!(e.mend.contains(mend), "{keys}: {e}");
        assert_eq!(e.line, line, "{keys}: {e}");
    }
}

#[test]
fn a_control_may_have_faults_of_its_own() {
    let own = "faults = []\n[[control.fault]]\nname = \"cache\"\nkind = \"page_cache\"\n\
               amount = \"10%\"\nat = \"5s\"\nfor = \"2s\"\n";
    let text = format!("{GOOD}{own}");
    let scenario = parse("x.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    let names: Vec<_> = scenario.controls[0]
        .faults
        .iter()
        .map(|f| &f.name)
        .collect();
    assert_eq!(names, ["cache"]);
    let words = explain::scenario(&scenario);
    for part in [
        "without the scenario's faults",
        "with cache: active page cache",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let taken = text
        .replace("faults = []\n", "")
        .replace("\"cache\"", "\"hog\"");
    let e = parse("x.toml", &taken).expect_err("two faults of one name");
    assert!(e.message.contains("keeps has this name"), "{e}");
    assert_eq!(e.line, 35, "{e}");
}

#[test]
fn every_scenario_of_the_cache_names_what_its_controls_must_come_to() {
    let outcomes = [
        ("cold-herd", vec!["deviated:one-load", "deviated:one-load"]),
        ("hot-update", vec!["deviated:truth"]),
        ("scan", vec!["killed"]),
        ("pinned-flood", vec!["deviated:loads-refused", "killed"]),
        ("limit-shrink", vec!["deviated:limit-reached"]),
        ("page-cache", vec!["deviated:stays-normal"]),
        ("burst", vec!["killed"]),
        ("archive-disk-full", vec!["deviated:writes-fail"]),
        ("archive-corrupt", vec!["deviated:damage-found"]),
    ];
    let suite = library::suite("flyweight").unwrap();
    assert_eq!(suite.len(), outcomes.len());
    for (scenario, (name, expected)) in suite.iter().zip(outcomes) {
        assert_eq!(scenario.name, name);
        let demanded: Vec<_> = scenario
            .controls
            .iter()
            .map(|c| c.expected.to_string())
            .collect();
        assert_eq!(demanded, expected, "{name}");
    }
}

#[test]
fn a_control_may_ask_for_the_cause_of_being_inconclusive() {
    let text = GOOD.replace("\"killed\"", "\"inconclusive:fault-did-not-act\"");
    let scenario = parse("x.toml", &text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(scenario.controls[0].expected, Outcome::FaultsIdle);
    let decode = library::find("decode-faults").unwrap();
    assert_eq!(decode.controls[0].expected, Outcome::FaultsIdle);
}

/// A switch that was refused or never answered must not hide behind a good rate and a good latency.
#[test]
fn the_large_loads_bound_switches_that_were_missed() {
    for name in ["million-switch", "soak", "two-thousand", "ten-million"] {
        let scenario = library::find(name).unwrap();
        for figure in ["switches_failed", "switches_shed"] {
            assert!(
                scenario
                    .expects
                    .iter()
                    .any(|e| e.figure.split('.').next() == Some(figure) && e.bound == 0.0),
                "{name} expects nothing of {figure}"
            );
        }
    }
}

#[test]
fn unknown_keys_and_broken_toml_are_placed_too() {
    let e = complaint("title = \"t\"", "titel = \"t\"");
    assert_eq!(e.line, 2, "{e}");
    assert!(e.message.contains("titel"), "{e}");
    let e = complaint("duration = \"20s\"", "duration = \"20s\"\nthreads = 3");
    assert_eq!(e.line, 13, "{e}");
    assert!(
        e.message.contains("threads") && e.message.contains("expected"),
        "{e}"
    );
    let e = complaint("[load]", "[load");
    assert_eq!(e.line, 9, "{e}");
}

#[test]
fn a_scenario_needs_an_expectation_a_control_and_honest_switches() {
    let without = |from: &str| GOOD[..GOOD.find(from).unwrap()].to_owned();
    let e = parse("x.toml", &without("[[expect]]")).unwrap_err();
    assert!(e.message.contains("without an expectation"), "{e}");
    let e = parse("x.toml", &without("[[control]]")).unwrap_err();
    assert!(e.message.contains("no teeth"), "{e}");
    let unsafe_plain = format!("{GOOD}[control.target]\nargs = [\"--unsafe-disable-budget\"]\n");
    let e = parse("x.toml", &unsafe_plain).unwrap_err();
    assert!(e.message.contains("`controls` build"), "{e}");
}

#[test]
fn every_failpoint_of_the_service_and_no_other_may_be_asked_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../service/src/failpoints.rs");
    let text = std::fs::read_to_string(path).unwrap();
    let names = text.lines().filter_map(|line| {
        let (_, name) = line.strip_prefix("pub const ")?.split_once(": &str = \"")?;
        name.strip_suffix("\";")
    });
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    let scenario = |name: &str| {
        let keys = format!("kind = \"failpoint\"\nfailpoint = \"{name}\"\naction = \"off\"\n");
        parse(
            "x.toml",
            &with_fault(&keys).replace("\"plain\"", "\"failpoints\""),
        )
    };
    for name in &names {
        scenario(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let mend = scenario("store.load.nothing")
        .expect_err("no such one")
        .mend;
    for name in names {
        assert!(mend.contains(&format!("`{name}`")), "{mend}");
    }
}
