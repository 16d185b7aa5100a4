//! The heap profile: who may have one, what it holds, and that the real `pprof` reads it.

mod support;

use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use support::*;

/// Samples the heap from the start, densely enough that no texture's block is missed.
const SAMPLED: [(&str, &str); 1] = [("MALLOC_CONF", "prof:true,lg_prof_sample:12")];
/// Block of a texture of 1920 × 1080.
const BLOCK_BYTES: u64 = 8 << 20;

#[test]
fn a_heap_profile_says_how_to_turn_it_on_and_is_shed_where_there_is_no_memory_for_it() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let off = service.admin().get("/debug/pprof/heap");
    off.is_problem(404, "profiling_off");
    assert!(
        off.text().contains("MALLOC_CONF=prof:true"),
        "{}",
        off.text()
    );
    service
        .client()
        .get("/debug/pprof/heap")
        .is_problem(404, "not_found");
    drop(service);
    let small = ["--memory-limit", "34MiB", "--reserve-wait", "1ms"];
    let service = Service::start_with(dir.path(), &small, &SAMPLED);
    let full = (0..64).any(|_| {
        let made = service
            .client()
            .post("/v1/sessions:batchCreate", json!({"count": 65_536}));
        made.text().contains("shed") || made.status == 503
    });
    assert!(full, "sessions take all the memory that there is");
    let shed = service.admin().get("/debug/pprof/heap");
    shed.is_problem(503, "budget_exhausted");
}

/// Set where the real `pprof` must be found, as in continuous integration: a test that finds none fails then.
const NEEDED: &str = "BACKDROP_NEEDS_PPROF";

/// What Go's `pprof` prints about a profile, be it named by `PPROF`, installed alone or with Go. `None`: there is none.
fn pprof(report: &[&str], profile: &Path) -> Option<String> {
    let named = std::env::var("PPROF").unwrap_or_else(|_| "pprof".to_owned());
    [&[named.as_str()][..], &["go", "tool", "pprof"]]
        .into_iter()
        .find_map(|tool| {
            let mut command = Command::new(tool[0]);
            command.args(&tool[1..]).args(report).arg(profile);
            match command.output() {
                Ok(read) => {
                    let complaint = String::from_utf8_lossy(&read.stderr);
                    assert!(read.status.success(), "{tool:?}: {complaint}");
                    Some(String::from_utf8_lossy(&read.stdout).into_owned())
                }
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => panic!("{tool:?}: {error}"),
            }
        })
}

/// The number at the beginning of a text.
fn leading(text: &str) -> u64 {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    text[..digits.unwrap_or(text.len())]
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[test]
fn pprof_finds_a_texture_and_who_holds_it_in_the_heap_profile() {
    let dir = scratch();
    let service = Service::start_with(dir.path(), &[], &SAMPLED);
    let mut client = service.client();
    client
        .put("/v1/backgrounds/wall", jpeg(1920, 1080, [1, 2, 3]))
        .ok();
    poll("one block of textures", || {
        let ledger = service.memory()["textures"]["ledger_bytes"].clone();
        (ledger == json!(BLOCK_BYTES)).then_some(())
    });
    let profile = service.admin().get("/debug/pprof/heap").ok().body;
    let holds = |text: &str| {
        profile
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(
        holds("inuse_space") && holds("backdrop-service"),
        "{} bytes",
        profile.len()
    );
    let file = dir.path().join("heap.pb");
    std::fs::write(&file, &profile).expect("written");
    let Some(raw) = pprof(&["-raw"], &file) else {
        assert!(
            std::env::var_os(NEEDED).is_none(),
            "{NEEDED} is set, but there is no pprof"
        );
        say_skipped(
            "neither pprof nor go is installed: the profile was checked by its content alone",
        );
        return;
    };

    // Lines of `objects bytes: locations` below the kinds of both.
    let mut lines = raw.lines();
    let kinds = "inuse_objects/count inuse_space/bytes[dflt]";
    assert!(lines.any(|line| line.trim() == kinds), "{raw}");
    let samples: Vec<(u64, u64)> = lines
        .map_while(|line| line.split_once(": "))
        .map(|(counts, _)| {
            let (objects, bytes) = counts.trim().split_once(' ').expect("two counts");
            (leading(objects), leading(bytes.trim()))
        })
        .collect();
    let blocks = samples.iter().filter(|&&one| one == (1, BLOCK_BYTES));
    assert_eq!(blocks.count(), 1, "the texture, whole: {raw}");

    let top = pprof(&["-top", "-unit=bytes"], &file).expect("as before");
    assert!(top.contains("Type: inuse_space"), "{top}");
    let total = top.split_once("B total").expect("a total").0;
    let total = leading(&total[total.rfind(' ').expect("words") + 1..]);
    let sum: u64 = samples.iter().map(|&(_, bytes)| bytes).sum();
    assert_eq!(total, sum, "{top}");
    // Names are not asked for: of some binaries that rust-lld linked, Go 1.19's pprof gives wrong ones to addresses that addr2line and
    // llvm-symbolizer name right.
}
