//! Medians of side-by-side measurements, printed as a table and kept in `reports/out/bench/figures.json`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// One line of the table.
pub struct Figure {
    /// What was measured, with its size.
    pub name: &'static str,
    /// Our median.
    pub ours: f64,
    /// Median of what it is compared with, measured in turns with ours.
    pub peer: Option<f64>,
    /// What that is.
    pub peer_name: Option<&'static str>,
    /// Unit of both.
    pub unit: &'static str,
    /// Largest ratio of ours to peer (or largest value, without a peer) that is good enough.
    pub goal: Option<f64>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.ours / peer)
    }

    fn reached(&self) -> Option<bool> {
        self.goal
            .map(|goal| self.ratio().unwrap_or(self.ours) <= goal)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "ours": self.ours, "peer": self.peer, "peer_name": self.peer_name, "unit": self.unit,
            "ratio": self.ratio(), "goal": self.goal, "reached": self.reached(),
        })
    }
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

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
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

fn path() -> PathBuf {
    let out = std::env::var_os("BACKDROP_BENCH_OUT").map(PathBuf::from);
    out.unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../reports/out/bench/figures.json")
    })
}

/// Prints the table, and puts the figures into the file in place of older ones of the same name.
pub fn report(figures: &[Figure]) -> std::io::Result<()> {
    println!(
        "{:<44} {:>9} {:>9} {:>6} {:>6}  peer",
        "figure", "ours", "peer", "ratio", "goal"
    );
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.3}"));
    for f in figures {
        let mark = f
            .reached()
            .map_or("", |reached| if reached { "" } else { "  NOT REACHED" });
        let (peer, ratio, goal) = (number(f.peer), number(f.ratio()), number(f.goal));
        let of = f.peer_name.unwrap_or("-");
        println!(
            "{:<44} {:>6.3} {} {peer:>9} {ratio:>6} {goal:>6}  {of}{mark}",
            f.name, f.ours, f.unit
        );
    }
    let path = path();
    let kept = std::fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Vec<Value>>(&text).ok());
    let mut all = kept.unwrap_or_default();
    all.retain(|old| figures.iter().all(|f| old["name"] != f.name));
    all.extend(figures.iter().map(Figure::json));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, serde_json::to_vec_pretty(&all)?)
}
