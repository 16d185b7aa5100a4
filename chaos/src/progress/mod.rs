//! What a person sees while a run goes on: a block that is redrawn in place on a terminal, plain lines now and then elsewhere.
//!
//! Writes to standard error; standard output is for the final table.

use std::io::Write;

use backdrop_reports::load::Interval;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::live::Standing;
use crate::units::{show_bytes, show_count};

mod block;

/// Seconds between plain lines.
const PLAIN_EVERY: u32 = 5;

/// State of one trial at one second.
#[derive(Debug, Clone)]
pub struct Line {
    /// Trial.
    pub trial: String,
    /// Phase of the simulator.
    pub phase: String,
    /// Seconds since the first planned send.
    pub t_s: Option<f64>,
    /// Length of the load.
    pub duration_s: f64,
    /// Sessions made so far.
    pub sessions: u64,
    /// Newest second of load.
    pub last: Option<Interval>,
    /// Anon + kernel + sockets of the service.
    pub held_bytes: u64,
    /// Memory of the hogs.
    pub hog_bytes: u64,
    /// Usage of the limited parent.
    pub usage_bytes: u64,
    /// Limit in force.
    pub limit_bytes: u64,
    /// State of the governor.
    pub governor: &'static str,
    /// Faults that stand.
    pub faults: Vec<String>,
    /// The next fault, and when it comes, seconds after the first planned send.
    pub next_fault: Option<(String, f64)>,
    /// The expectations as they stand; empty where nobody looks.
    pub expectations: Vec<Standing>,
}

impl Line {
    /// The line as it is printed where nothing can be redrawn.
    #[must_use]
    pub fn text(&self) -> String {
        let memory = format!(
            "{} held, {} / {}",
            show_bytes(self.held_bytes),
            show_bytes(self.usage_bytes),
            show_bytes(self.limit_bytes)
        );
        let faults = if self.faults.is_empty() {
            String::new()
        } else {
            format!(" | {}", self.faults.join(", "))
        };
        match (self.t_s, &self.last) {
            (Some(t_s), Some(last)) => format!(
                "{} {:>3.0}/{:.0} s | {}/s | p99 {:.1} ms | previews {} ok {} degraded {} shed | {memory} | {}{faults}",
                self.trial,
                t_s.max(0.0),
                self.duration_s,
                show_count(last.switches_ok),
                last.switch_p99_us as f64 / 1e3,
                last.previews_ok,
                last.previews_degraded,
                last.previews_shed,
                self.governor,
            ),
            _ => {
                format!(
                    "{} {} | {} sessions | {memory} | {}",
                    self.trial,
                    self.phase(),
                    show_count(self.sessions),
                    self.governor
                )
            }
        }
    }

    fn phase(&self) -> &str {
        match self.phase.as_str() {
            "" => "start",
            phase => phase,
        }
    }
}

/// Prints for a person.
#[derive(Debug)]
pub struct Progress {
    /// None where standard error is no terminal, or one that cannot go back to a line.
    screen: Option<Screen>,
    ticks: Mutex<u32>,
}

/// A block at the end of a terminal. Dropping it takes it away; the cursor is never hidden.
#[derive(Debug)]
struct Screen {
    all: MultiProgress,
    /// One for each line.
    lines: Mutex<Vec<ProgressBar>>,
    colour: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            screen: Screen::new(),
            ticks: Mutex::new(0),
        }
    }
}

impl Progress {
    /// Whether [`Line::expectations`] are shown.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.screen.is_some()
    }

    /// A second has passed.
    pub fn tick(&self, line: &Line) {
        if let Some(screen) = &self.screen {
            screen.draw(&block::lines(line, screen.colour));
            return;
        }
        let mut ticks = self.ticks.lock();
        *ticks += 1;
        if ticks.is_multiple_of(PLAIN_EVERY) {
            // A pipe that was closed is no reason to fail a run.
            let _ = writeln!(std::io::stderr().lock(), "{}", line.text());
        }
    }

    /// What is redrawn is over: it goes.
    pub fn clear(&self) {
        if let Some(screen) = &self.screen {
            screen.draw(&[]);
        }
    }

    /// Something happened that stays on the screen.
    pub fn note(&self, text: &str) {
        *self.ticks.lock() = 0;
        let told = match &self.screen {
            Some(screen) => screen.all.println(text),
            None => writeln!(std::io::stderr().lock(), "{text}"),
        };
        let _ = told;
    }
}

impl Screen {
    fn new() -> Option<Self> {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        // What is hidden swallows even what stays on the screen.
        (!all.is_hidden()).then(|| Self {
            all,
            lines: Mutex::default(),
            // https://no-color.org: set to anything at all.
            colour: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()),
        })
    }

    /// Shows these lines instead of those before; one that is wider than the terminal is cut at its edge.
    fn draw(&self, texts: &[String]) {
        let mut lines = self.lines.lock();
        let kept = texts.len().min(lines.len());
        for gone in lines.drain(kept..) {
            gone.finish_and_clear();
            self.all.remove(&gone);
        }
        while lines.len() < texts.len() {
            let line = self.all.add(ProgressBar::new_spinner());
            // A template without a key that is wrong cannot fail.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                line.set_style(style);
            }
            lines.push(line);
        }
        for (line, text) in lines.iter().zip(texts) {
            line.set_message(text.clone());
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}
