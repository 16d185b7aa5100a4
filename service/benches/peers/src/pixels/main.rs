//! Pixels beside their peers, on the same buffers, on one thread, in one run: composite, blur, resize, decode and encode.
//!
//! The peers work in two processes of their own, `pixels.py` and `rust`, which take their turns with us and time themselves. Every
//! peer's picture is compared with ours before it is measured: what is not the same work has no figure, and the run ends as an error.
//! A peer that is not there is named.

mod folder;
mod kinds;
mod ours;
mod process;
#[path = "../../../support/mod.rs"]
mod support;

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use folder::{Folder, SETS};
use kinds::{KINDS, Kind};
use ours::Ours;
use process::{Peer, Process};
use support::{Figure, median};

/// Time for one pair.
const PER_PAIR: Duration = Duration::from_millis(1200);
const TURNS_MAX: usize = 300;
const TURNS_MIN: usize = 5;

const HELP: &str = "Measures pixels beside the libraries that do the same, and keeps the figures in reports/out/bench/figures.json.

usage: [NAME…]

Only what contains one of the NAMEs is measured; all, if none is given. What is compared goes to standard error.
BACKDROP_BENCH_OUT names another file for the figures, BACKDROP_PYTHON an interpreter with the packages of requirements.txt, and
BACKDROP_RUST_PEERS the program of the package in rust/. `just bench-peers` sees to both.
";

fn in_turns(ours: &mut Ours<'_>, key: &str, peer: &Peer<'_>) -> io::Result<(f64, f64)> {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SETS {
        ours.run(key);
    }
    peer.run()?;
    let start = Instant::now();
    while mine.len() < TURNS_MIN || (start.elapsed() < PER_PAIR && mine.len() < TURNS_MAX) {
        mine.push(ours.run(key));
        theirs.push(peer.run()?);
    }
    Ok((median(mine), median(theirs)))
}

/// Why there is no figure of a peer, if it has not done the same work.
fn difference(kind: &Kind, ours: &mut Ours<'_>, peer: &Peer<'_>) -> io::Result<Option<String>> {
    let (shown, mine) = (peer.show()?, ours.show(kind.key));
    let alike = match kind.key {
        // Both against the picture that they were made of.
        "encode" => {
            let of = |file: &[u8]| kinds::alike(ours.picture(), &ours::decoded(file));
            let (size, their_size) = (mine.len() / 1000, shown.len() / 1000);
            eprintln!("  ours: {size} kB, {}", of(&mine));
            eprintln!("  {}: {their_size} kB, {}", peer.name, of(&shown));
            of(&shown)
        }
        _ => {
            let alike = kinds::alike(&mine, &shown);
            eprintln!("  {}: {alike}", peer.name);
            alike
        }
    };
    let least = kind.likeness;
    Ok((alike.decibels < least).then(|| format!("{alike}, where {least} dB is the same work")))
}

fn compared(kind: &Kind, ours: &mut Ours<'_>, peer: &Peer<'_>) -> io::Result<Figure> {
    if let Some(difference) = difference(kind, ours, peer)? {
        return Err(io::Error::other(difference));
    }
    let (mine, theirs) = in_turns(ours, kind.key, peer)?;
    let name = format!("{}, beside {}", kind.name, peer.name);
    let figure = Figure::new(name, "ms", mine).peer(peer.name, theirs);
    Ok(match kinds::goal(kind.key, peer.name) {
        Some(goal) => figure.goal(goal),
        None => figure,
    })
}

/// What is asked for on the command line; `None`: only how to ask.
fn asked() -> io::Result<Option<Vec<&'static Kind>>> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let known = KINDS.each_ref().map(|kind| kind.key).join(", ");
    if names.iter().any(|name| name == "--help" || name == "-h") {
        println!("{HELP}\nnames here: {known}");
        return Ok(None);
    }
    let chosen =
        |kind: &&Kind| names.is_empty() || names.iter().any(|name| kind.key.contains(&**name));
    let kinds: Vec<&Kind> = KINDS.iter().filter(chosen).collect();
    match kinds.is_empty() {
        true => Err(io::Error::other(format!(
            "nothing of that name; there is {known}"
        ))),
        false => Ok(Some(kinds)),
    }
}

/// The processes of the peers, as far as they can be had. What cannot is said.
fn started(folder: &Folder) -> Vec<Process> {
    let named = |name, other: &str| std::env::var_os(name).unwrap_or_else(|| other.into());
    let mut python = Command::new(named("BACKDROP_PYTHON", "python3"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("pixels.py"));
    let rust = Command::new(named("BACKDROP_RUST_PEERS", "rust-peers"));
    let mut processes = Vec::new();
    for (name, command) in [("what Python reaches", python), ("what is Rust", rust)] {
        match Process::start(command, folder) {
            Ok(process) => processes.push(process),
            Err(why) => eprintln!("NOT MEASURED: {name} is not there ({why})"),
        }
    }
    for (name, why) in processes.iter().flat_map(Process::missing) {
        eprintln!("NOT MEASURED: {name} is not there ({why})");
    }
    for (name, version) in processes.iter().flat_map(Process::versions) {
        eprintln!("{name} {version}");
    }
    processes
}

fn main() -> io::Result<()> {
    let Some(kinds) = asked()? else {
        return Ok(());
    };
    let folder = Folder::create()?;
    let processes = started(&folder);
    let mut sets = folder.sets()?;
    let mut ours = Ours::new(&mut sets, folder.picture(), folder.jpeg());
    let mut failed = Vec::new();
    for kind in kinds {
        eprintln!("{} …", kind.name);
        let mut figures = Vec::new();
        for peer in processes.iter().flat_map(|process| process.peers(kind.key)) {
            match compared(kind, &mut ours, &peer) {
                Ok(figure) => figures.push(figure),
                Err(why) => {
                    let what = format!("{}, {}", kind.name, peer.name);
                    eprintln!("NOT MEASURED: {what}: {why}");
                    failed.push(what);
                }
            }
        }
        support::report(&figures)?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(format!("without {}", failed.join("; ")))),
    }
}
