//! What every benchmark shares: choosing groups by name, medians of side-by-side measurements, the table, and the file
//! `reports/out/bench/figures.json`.
//!
//! It knows nothing of what is measured. A binary that includes it may use a part of it only.

#![allow(
    dead_code,
    reason = "included by several binaries, each of which uses a part"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    ours: f64,
    peer: Option<(String, f64)>,
    unit: &'static str,
    goal: Option<f64>,
    higher_is_better: bool,
}

impl Figure {
    /// Something measured, and our value.
    pub fn new(name: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self {
            name: name.into(),
            ours,
            peer: None,
            unit,
            goal: None,
            higher_is_better: false,
        }
    }

    /// What it is compared with. The benchmark says whether the two were measured in turns.
    #[must_use]
    pub fn peer(mut self, name: impl Into<String>, value: f64) -> Self {
        self.peer = Some((name.into(), value));
        self
    }

    /// The largest ratio of ours to the peer's (or the largest value, without a peer) that is good enough.
    #[must_use]
    pub fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// More is better, and the goal is the least that is good enough.
    #[must_use]
    pub fn higher_is_better(mut self) -> Self {
        self.higher_is_better = true;
        self
    }

    fn ratio(&self) -> Option<f64> {
        let (_, peer) = self.peer.as_ref()?;
        // A peer of zero has no ratio; JSON would have no number for it.
        Some(self.ours / peer).filter(|ratio| ratio.is_finite())
    }

    fn reached(&self) -> Option<bool> {
        let measured = match self.peer {
            Some(_) => self
                .ratio()
                .unwrap_or(if self.ours > 0.0 { f64::INFINITY } else { 1.0 }),
            None => self.ours,
        };
        self.goal.map(|goal| match self.higher_is_better {
            true => measured >= goal,
            false => measured <= goal,
        })
    }

    fn json(&self) -> Value {
        let (peer_name, peer) = self.peer.clone().unzip();
        json!({
            "name": self.name, "ours": self.ours, "peer": peer, "peer_name": peer_name, "unit": self.unit,
            "ratio": self.ratio(), "goal": self.goal, "reached": self.reached(),
        })
    }

    fn line(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".into(), readable);
        let mark = match self.reached() {
            Some(false) => "  NOT REACHED",
            _ => "",
        };
        let goal = match (self.goal, self.higher_is_better) {
            (None, _) => "-".to_owned(),
            (Some(goal), true) => format!("≥ {}", readable(goal)),
            (Some(goal), false) => format!("≤ {}", readable(goal)),
        };
        let (peer_name, peer) = self.peer.clone().unzip();
        format!(
            "{:<58} {:>10} {:<9} {:>10} {:>8} {:>8}  {}{mark}",
            self.name,
            readable(self.ours),
            self.unit,
            number(peer),
            number(self.ratio()),
            goal,
            peer_name.as_deref().unwrap_or("-"),
        )
    }
}

/// Three significant digits or more, no exponent.
fn readable(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.01 || small == 0.0 => format!("{value:.3}"),
        _ => format!("{value:.6}"),
    }
}

/// A group of benchmarks: its name, and what runs it.
pub type Group = (&'static str, fn() -> std::io::Result<Vec<Figure>>);

const HELP: &str = "Runs benchmarks, prints tables and keeps the figures in reports/out/bench/figures.json.

usage: [NAME…]

Only groups whose name contains one of the NAMEs are run; all, if none is given. Progress goes to standard error.
BACKDROP_BENCH_OUT names another file for the figures.
";

/// Runs the groups that the command line chooses, prints a table after each, and keeps its figures.
pub fn run(groups: &[Group]) -> std::io::Result<()> {
    // cargo gives `--bench` to whatever it runs as one.
    let names: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if names.iter().any(|name| name == "--help" || name == "-h") {
        let known: Vec<&str> = groups.iter().map(|(name, _)| *name).collect();
        println!("{HELP}\ngroups here: {}", known.join(", "));
        return Ok(());
    }
    if let Some(option) = names.iter().find(|name| name.starts_with('-')) {
        let cause = format!("there is no option {option}; --help says what there is");
        return Err(std::io::Error::other(cause));
    }
    let chosen =
        |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part.as_str()));
    let chosen: Vec<&Group> = groups.iter().filter(|(name, _)| chosen(name)).collect();
    for (at, (name, measure)) in chosen.iter().enumerate() {
        let started = Instant::now();
        eprintln!("[{}/{}] {name} …", at + 1, chosen.len());
        let figures = measure()?;
        eprintln!(
            "[{}/{}] {name}: {:.1} s",
            at + 1,
            chosen.len(),
            started.elapsed().as_secs_f64()
        );
        report(&figures)?;
    }
    Ok(())
}

/// Time that one figure may take, warm-up apart.
const PER_FIGURE: Duration = Duration::from_millis(1500);
/// Runs of each side at most.
const RUNS_MAX: usize = 400;

fn timed(work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

/// The middle one of what was measured.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians in milliseconds of ours and, in turns with it, of the peer.
pub fn measure(ours: &mut dyn FnMut(), mut peer: Option<&mut dyn FnMut()>) -> (f64, Option<f64>) {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    timed(ours);
    if let Some(peer) = peer.as_deref_mut() {
        timed(peer);
    }
    let start = Instant::now();
    while mine.len() < 3 || (start.elapsed() < PER_FIGURE && mine.len() < RUNS_MAX) {
        mine.push(timed(ours));
        if let Some(peer) = peer.as_deref_mut() {
            theirs.push(timed(peer));
        }
    }
    (median(mine), (!theirs.is_empty()).then(|| median(theirs)))
}

/// The workspace's root: the nearest folder upwards with the recipes in it.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let found = here
        .ancestors()
        .find(|folder| folder.join("justfile").is_file());
    found.map_or(here.clone(), PathBuf::from)
}

fn path() -> PathBuf {
    let out = std::env::var_os("BACKDROP_BENCH_OUT").map(PathBuf::from);
    out.unwrap_or_else(|| root().join("reports/out/bench/figures.json"))
}

/// Prints the table, and puts the figures into the file in place of older ones of the same name.
pub fn report(figures: &[Figure]) -> std::io::Result<()> {
    println!(
        "{:<58} {:>10} {:<9} {:>10} {:>8} {:>8}  peer",
        "figure", "ours", "unit", "peer", "ratio", "goal"
    );
    for figure in figures {
        println!("{}", figure.line());
    }
    let path = path();
    let kept = std::fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Vec<Value>>(&text).ok());
    let mut all = kept.unwrap_or_default();
    all.retain(|old| figures.iter().all(|figure| old["name"] != *figure.name));
    all.extend(figures.iter().map(Figure::json));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, serde_json::to_vec_pretty(&all)?)
}
