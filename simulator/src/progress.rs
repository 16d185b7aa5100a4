//! Progress for people, on standard error: a line that is rewritten on a terminal, else one line every five seconds.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use backdrop_reports::load::Interval;

use crate::cli;

/// Seconds between lines where lines are not rewritten.
const PLAIN_EVERY: u64 = 5;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Rewrite,
    Plain,
    Silent,
}

/// Shows what a run does.
#[derive(Debug, Clone)]
pub struct Progress {
    mode: Mode,
    open_line: bool,
    seconds: u64,
}

impl Progress {
    /// As the flag says; `auto` looks at standard error.
    pub fn new(choice: cli::Progress) -> Self {
        let mode = match choice {
            cli::Progress::Auto if std::io::stderr().is_terminal() => Mode::Rewrite,
            cli::Progress::Auto | cli::Progress::Plain => Mode::Plain,
            cli::Progress::None => Mode::Silent,
        };
        Progress {
            mode,
            open_line: false,
            seconds: 0,
        }
    }

    /// A step of its own line.
    pub fn say(&mut self, text: &str) {
        if self.mode != Mode::Silent {
            self.end();
            self.write(&format!("{text}\n"));
        }
    }

    /// Something went wrong that does not end the run: shown in every mode.
    pub fn warn(&mut self, text: &str) {
        self.end();
        self.write(&format!("warning: {text}\n"));
    }

    /// A step that counts; shown on terminals only.
    pub fn counting(&mut self, text: &str) {
        if self.mode == Mode::Rewrite {
            self.write(&format!("\r\x1b[K{text}"));
            self.open_line = true;
        }
    }

    /// One second of load.
    pub fn second(&mut self, interval: &Interval, duration: Duration, sessions: u64) {
        self.seconds += 1;
        let line = line(interval, duration, sessions);
        match self.mode {
            Mode::Rewrite => self.counting(&line),
            Mode::Plain if self.seconds.is_multiple_of(PLAIN_EVERY) => {
                self.write(&format!("{line}\n"))
            }
            Mode::Plain | Mode::Silent => {}
        }
    }

    /// Leaves a rewritten line behind.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.open_line) {
            self.write("\n");
        }
    }

    fn write(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        // A closed standard error must not end a run.
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }
}

fn line(interval: &Interval, duration: Duration, sessions: u64) -> String {
    let mut line = format!(
        "{:>5.0}/{:.0} s  {} sessions  {}/s switches",
        interval.t_s,
        duration.as_secs_f64(),
        grouped(sessions),
        grouped(interval.switches_ok),
    );
    if interval.switches_ok > 0 {
        line.push_str(&format!(
            "  p50 {}  p99 {}  max {}",
            micros(interval.switch_p50_us),
            micros(interval.switch_p99_us),
            micros(interval.switch_max_us)
        ));
    }
    let previews = interval.previews_ok + interval.previews_degraded;
    if previews > 0 {
        line.push_str(&format!(
            "  {previews}/s previews p99 {}",
            micros(interval.preview_p99_us)
        ));
    }
    let shed = interval.switches_shed + interval.previews_shed;
    let failed = interval.switches_failed + interval.previews_failed;
    if shed > 0 {
        line.push_str(&format!("  shed {}", grouped(shed)));
    }
    if failed > 0 {
        line.push_str(&format!("  failed {}", grouped(failed)));
    }
    line
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds with a fitting unit.
pub fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 950, 12_345, 12_345_678].map(micros),
            ["0 µs", "950 µs", "12.3 ms", "12.3 s"]
        );
    }

    #[test]
    fn a_second_names_what_went_wrong_only_when_it_did() {
        let mut interval = Interval {
            t_s: 3.0,
            switches_ok: 1000,
            switch_p99_us: 900,
            ..Interval::default()
        };
        let calm = line(&interval, Duration::from_secs(60), 3000);
        assert!(
            calm.contains("1,000/s switches") && !calm.contains("failed"),
            "{calm}"
        );
        interval.switches_failed = 7;
        assert!(line(&interval, Duration::from_secs(60), 3000).contains("failed 7"));
    }
}
