//! Flags in, plans or complaints out.

use super::*;
use crate::schedule::Planned;
use crate::tape::{Header, Taping};

fn plan(scenario: Scenario, flags: &[&str]) -> Result<Plan, String> {
    let words = [&["backdrop-simulator", scenario.name()], flags].concat();
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    match cli.command.errand() {
        Errand::Load(named, args) if named == scenario => {
            Plan::resolve(scenario, *args).map_err(|error| error.to_string())
        }
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn defaults_suit_each_scenario() {
    let storm = plan(Scenario::SwitchStorm, &[]).unwrap();
    assert_eq!(
        (storm.sessions, storm.gateways, storm.singles_every),
        (1_200_000, 16, 0)
    );
    assert!((storm.switches_per_second() - 400_000.0).abs() < 1e-6);
    let mixed = plan(
        Scenario::Mixed,
        &["--sessions", "100000", "--duration", "30s"],
    )
    .unwrap();
    assert_eq!(mixed.singles_every, 67);
    assert_eq!(mixed.hot_update_every, Some(Duration::from_secs(5)));
    assert!(mixed.previews_per_second > 0.0);
    let many = plan(
        Scenario::SwitchStorm,
        &["--gateways", "64", "--sessions", "10000000"],
    )
    .unwrap();
    assert!(many.connections_max() <= 256);
}

#[test]
fn flags_are_parsed() {
    let plan = plan(
        Scenario::Preview,
        &[
            "--window",
            "calm=0s..500ms",
            "--window",
            "rest=500ms..1s",
            "--duration",
            "9s",
            "--duration",
            "1s",
            "--cpus",
            "0,2-3",
            "--preview-size",
            "320x180",
        ],
    )
    .unwrap();
    assert_eq!(plan.duration, Duration::from_secs(1), "the last one wins");
    assert_eq!(plan.args.windows.len(), 2);
    assert_eq!(plan.args.windows[0].to, Duration::from_millis(500));
    assert_eq!(plan.args.cpus, Some(CpuList(vec![0, 2, 3])));
    assert_eq!(plan.args.preview_size, (320, 180));
}

#[test]
fn what_cannot_be_run_says_so() {
    for (flags, word) in [
        (&["--duration", "5"][..], "unit"),
        (&["--duration", "5 parsecs"], "unit"),
        (&["--sessions", "0"], "sessions"),
        (&["--window", "late=50s..90s"], "ends after"),
        (&["--window", "odd=9s..3s"], "must end after"),
        (&["--preview-size", "big"], "640x360"),
        (&["--cpus", "3-1"], "list of CPUs"),
        (&["--zipf", "-1"], "unexpected argument"),
        (&["--gateways", "0"], "gateways"),
        (&["--metrics-listen", "0.0.0.0:9000"], "loopback"),
        (&["--metrics-listen", "9000"], "socket address"),
        (&["--wire", "xml"], "binary"),
        (&["--record-max", "0"], "record-max"),
        (&["--record-max", "32000001"], "record-max"),
        (&["--churn-per-second", "0"], "churn-per-second"),
        (&["--absent-per-second", "nan"], "absent-per-second"),
        (&["--nonsense"], "nonsense"),
    ] {
        let error = plan(Scenario::Mixed, flags).unwrap_err();
        assert!(error.contains(word), "{flags:?}: {error}");
    }
}

#[test]
fn every_time_has_an_end() {
    for flag in [
        "--duration",
        "--warmup",
        "--timeout",
        "--setup-timeout",
        "--reconnect-for",
        "--hot-update-every",
        "--herd-every",
        "--scan-every",
        "--period",
        "--tick",
    ] {
        assert!(
            plan(Scenario::Mixed, &[flag, "86401s"])
                .unwrap_err()
                .contains(&format!("{flag}:")),
            "{flag}"
        );
    }
    assert!(plan(Scenario::Mixed, &["--duration", "24h", "--warmup", "24h"]).is_ok());
}

#[test]
fn churn_penetration_and_replay_are_planned() {
    let churn = plan(Scenario::Churn, &["--churn-per-second", "7"]).unwrap();
    assert_eq!(
        (churn.sessions, churn.churn_per_second),
        (100_000, Some(7.0))
    );
    assert_eq!((churn.absent_per_second, churn.singles_every), (None, 0));
    let absent = plan(Scenario::Penetration, &[]).unwrap();
    assert_eq!(absent.absent_per_second, Some(500.0));
    assert_eq!(
        absent.connections_max(),
        plan(Scenario::Churn, &[]).unwrap().connections_max() + absent.penetration_lanes()
    );

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.switches");
    let file = path.to_str().unwrap();
    let taping = Taping::create(&path, &Header::new(10, 3, 1_000_000, 9_000_000), 10).unwrap();
    // Full after five seconds of the nine.
    let (at_us, user, background) = (5_999_999, 0, 0);
    taping.add(vec![
        Planned {
            at_us,
            user,
            background
        };
        10
    ]);
    assert_eq!(taping.finish().switches, 10);
    let replay = plan(Scenario::Replay, &[file, "--gateways", "64"]).unwrap();
    assert_eq!((replay.sessions, replay.gateways), (10, 10));
    assert_eq!(replay.background_count, 3);
    assert_eq!(replay.warmup, Duration::from_secs(1));
    assert_eq!(replay.duration, Duration::from_secs(5));
    let cut = plan(Scenario::Replay, &[file, "--duration", "2s"]).unwrap();
    assert_eq!(cut.duration, Duration::from_secs(2));
    for (flags, word) in [
        (&[file, "--duration", "6s"][..], "ends after 5s"),
        (&[file, "--sessions", "10"], "the recording says it"),
        (&[file, "--warmup", "0s"], "the recording says it"),
        (&[file, "--period", "3s"], "--period: leave it away"),
        (&["/nonexistent"], "/nonexistent: No such file"),
        (&[], "FILE"),
    ] {
        let error = plan(Scenario::Replay, flags).unwrap_err();
        assert!(error.contains(word), "{flags:?}: {error}");
    }
}

#[test]
fn herds_and_scans_are_planned_and_bounded() {
    let herd = plan(Scenario::ColdHerd, &["--herd-keys", "4"]).unwrap();
    assert_eq!(herd.herding.map(|h| (h.size, h.keys)), Some((256, 4)));
    assert_eq!((herd.switches_per_second(), herd.looks()), (0.0, true));
    assert!(herd.connections_max() > 256);
    let scan = plan(Scenario::Scan, &["--background-count", "400"]).unwrap();
    assert_eq!((scan.zipf, scan.scanning.is_some()), (0.9, true));
    let still = plan(Scenario::Scan, &["--scan-every", "0s"]).unwrap();
    assert_eq!(still.scanning, None);
    let hot = plan(Scenario::HotUpdate, &[]).unwrap();
    assert_eq!(hot.hot_update_every, Some(Duration::from_millis(500)));
    for (scenario, flags, word) in [
        (Scenario::ColdHerd, &["--herd-size", "0"][..], "herd-size"),
        (Scenario::ColdHerd, &["--herd-keys", "17"], "herd-keys"),
        (Scenario::ColdHerd, &["--herd-every", "1ms"], "herd-every"),
        (Scenario::ColdHerd, &["--no-upload"], "upload"),
        (Scenario::Scan, &["--scan-per-second", "0"], "scan-per"),
        (Scenario::Scan, &["--background-count", "600"], "12.0 s"),
        (Scenario::HotUpdate, &["--previews-per-second", "0"], "rate"),
    ] {
        let error = plan(scenario, flags).unwrap_err();
        assert!(error.contains(word), "{flags:?}: {error}");
    }
}

#[test]
fn the_schedules_hash_is_of_the_whole_load() {
    use crate::run::schedule_hash;
    let hash = |scenario, flags: &[&str]| {
        let few = ["--sessions", "100"];
        schedule_hash(&plan(scenario, &[&few, flags].concat()).unwrap())
    };
    let same: &[&[&str]] = &[
        &["--json", "elsewhere.json"],
        &["--url", "http://127.0.0.1:1"],
        &["--reconnect-for", "1s", "--cpus-may-sleep"],
    ];
    let others: &[&[&str]] = &[
        &["--seed", "2"],
        &["--period", "4s"],
        &["--tick", "5ms"],
        &["--warmup", "3s"],
        &["--duration", "59s"],
        &["--timeout", "3s"],
        &["--connections", "2"],
        &["--gateways", "15"],
        &["--previews-per-second", "21"],
        &["--preview-size", "320x180"],
        &["--preview-connections", "15"],
        &["--hot-update-every", "6s"],
        &["--hot-update-every", "0s"],
        &["--singles-per-second", "0"],
        &["--wire", "json"],
    ];
    let mixed = hash(Scenario::Mixed, &[]);
    for flags in same {
        assert_eq!(hash(Scenario::Mixed, flags), mixed, "{flags:?}");
    }
    for flags in others {
        assert_ne!(hash(Scenario::Mixed, flags), mixed, "{flags:?}");
    }
    for (scenario, flags) in [
        (Scenario::ColdHerd, &["--herd-size", "99"]),
        (Scenario::ColdHerd, &["--herd-every", "3s"]),
        (Scenario::ColdHerd, &["--herd-keys", "2"]),
        (Scenario::Scan, &["--scan-every", "11s"]),
        (Scenario::Scan, &["--scan-per-second", "51"]),
        (Scenario::Churn, &["--churn-per-second", "999"]),
        (Scenario::Penetration, &["--absent-per-second", "499"]),
    ] {
        assert_ne!(hash(scenario, flags), hash(scenario, &[]), "{flags:?}");
    }
}
