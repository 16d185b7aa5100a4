//! What a person sees while a run goes on: one line a second on a terminal, plain lines now and then elsewhere.
//!
//! Writes to standard error; standard output is for the final table.

use std::io::{IsTerminal, Write};

use backdrop_reports::load::Interval;
use parking_lot::Mutex;

use crate::units::{show_bytes, show_count};

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
    /// Usage of the limited parent.
    pub usage_bytes: u64,
    /// Limit.
    pub limit_bytes: u64,
    /// State of the governor.
    pub governor: &'static str,
    /// Faults that stand.
    pub faults: Vec<String>,
}

impl Line {
    /// The line as it is printed.
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
                let phase = if self.phase.is_empty() {
                    "start"
                } else {
                    &self.phase
                };
                format!(
                    "{} {phase} | {} sessions | {memory} | {}",
                    self.trial,
                    show_count(self.sessions),
                    self.governor
                )
            }
        }
    }
}

/// Prints for a person.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    ticks: Mutex<u32>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            ticks: Mutex::new(0),
        }
    }
}

impl Progress {
    /// A second has passed.
    pub fn tick(&self, line: &Line) {
        let mut ticks = self.ticks.lock();
        *ticks += 1;
        let mut out = std::io::stderr().lock();
        // A terminal that went away is no reason to fail a run.
        let _ = match (self.terminal, ticks.is_multiple_of(PLAIN_EVERY)) {
            // Without wrapping a line that is too long ends at the edge instead of filling the screen.
            (true, _) => {
                write!(out, "\r\x1b[2K\x1b[?7l{}\x1b[?7h", line.text()).and_then(|()| out.flush())
            }
            (false, true) => writeln!(out, "{}", line.text()),
            (false, false) => Ok(()),
        };
    }

    /// Something happened that stays on the screen.
    pub fn note(&self, text: &str) {
        *self.ticks.lock() = 0;
        let mut out = std::io::stderr().lock();
        let clear = if self.terminal { "\r\x1b[2K" } else { "" };
        let _ = writeln!(out, "{clear}{text}");
    }
}
