//! The fuzzer's checks over its seeds and their neighbours: what libFuzzer is not there for in every run, on a stable compiler.

#[path = "../fuzz/src/lib.rs"]
mod checks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Places of a file at which it is cut and altered, at most.
const PLACES: usize = 96;

type Check = fn(&[u8]) -> bool;

/// The files of a folder in the order of their names.
fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).expect("the folder is checked in");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").display().to_string();
        (name, std::fs::read(&path).expect("readable"))
    };
    let mut files: Vec<_> = entries.map(read).collect();
    files.sort();
    files
}

fn run(check: Check, what: &str, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| check(bytes))).unwrap_or_else(|_| panic!("{what}"))
}

/// Cuts the file, alters single bytes of it, and goes on with another of the files; how many of these are accepted.
fn neighbours(check: Check, name: &str, file: &[u8], others: &[(String, Vec<u8>)]) -> usize {
    let mut accepted = 0;
    let step = file.len().div_ceil(PLACES).max(1);
    for at in (0..file.len()).step_by(step) {
        accepted += usize::from(run(check, &format!("{name} cut at {at}"), &file[..at]));
        for mask in [0x01, 0x80, 0xFF] {
            let mut altered = file.to_vec();
            altered[at] ^= mask;
            let what = format!("{name}, byte {at} ^ {mask:#x}");
            accepted += usize::from(run(check, &what, &altered));
        }
    }
    for (other, bytes) in others {
        let mixed = [&file[..file.len() / 2], &bytes[bytes.len() / 2..]].concat();
        accepted += usize::from(run(check, &format!("{name}, then {other}"), &mixed));
    }
    accepted
}

/// Seeds are all accepted, so that each has its way through the whole check; of their neighbours some are and some are not.
fn holds(check: Check, folder: &str, seeds_min: usize) {
    let seeds = files(folder);
    assert!(seeds.len() >= seeds_min, "{} seeds", seeds.len());
    let mut accepted = 0;
    for (name, seed) in &seeds {
        assert!(run(check, name, seed), "{name} is refused");
        accepted += neighbours(check, name, seed, &seeds);
    }
    assert!(accepted > 0, "no neighbour of any seed is accepted");
}

#[test]
fn uploads() {
    holds(checks::decode::check, "fuzz/seeds/decode", 12);
}

/// Animations, pictures beyond the fuzzer's limits, and what is no picture are answered too.
#[test]
fn files_of_other_tests() {
    for (name, file) in files("tests/fixtures") {
        run(checks::decode::check, &name, &file);
        neighbours(checks::decode::check, &name, &file, &[]);
    }
}

#[test]
fn batches_in_json() {
    holds(checks::batch_json::check, "fuzz/seeds/batch_json", 4);
}

#[test]
fn batches_in_the_compact_form() {
    holds(checks::batch_binary::check, "fuzz/seeds/batch_binary", 4);
}
