//! The lines of the block: progress, load, memory, faults, and each expectation as it stands.

use crate::live::{Standing, Stands};
use crate::units::{show_bytes, show_count};

use super::Line;

/// Cells of a bar.
const BAR: usize = 24;
/// Expectations that are shown; a terminal is low.
const EXPECTATIONS_MAX: usize = 12;

/// Colours of a terminal by what they say.
#[derive(Debug, Clone, Copy)]
enum Tone {
    Good = 32,
    Bad = 31,
    Faint = 2,
    Bold = 1,
}

/// The block.
pub(super) fn lines(line: &Line, colour: bool) -> Vec<String> {
    let paint = |text: &str, tone: Tone| match colour {
        true => format!("\x1b[{}m{text}\x1b[0m", tone as u8),
        false => text.to_owned(),
    };
    let mut out = vec![format!("{}  {}", paint(&line.trial, Tone::Bold), at(line))];
    if let Some(last) = &line.last {
        let failed = last.switches_failed + last.previews_failed;
        let failed = match failed {
            0 => String::new(),
            n => paint(&format!(", {n} failed"), Tone::Bad),
        };
        out.push(format!(
            "  load    {}/s, p99 {:.1} ms; previews {} ok, {} degraded, {} shed{failed}",
            show_count(last.switches_ok),
            last.switch_p99_us as f64 / 1e3,
            last.previews_ok,
            last.previews_degraded,
            last.previews_shed
        ));
    }
    out.push(memory(line));
    out.extend(faults(line).map(|text| format!("  faults  {text}")));
    let shown = line.expectations.iter().take(EXPECTATIONS_MAX);
    out.extend(shown.map(|standing| {
        let (mark, tone) = mark(standing.stands);
        format!(
            "  {} {:<24} {}",
            paint(mark, tone),
            standing.name,
            standing.words
        )
    }));
    let more = line.expectations.len().saturating_sub(EXPECTATIONS_MAX);
    if more > 0 {
        out.push(paint(
            &format!("    and {more} more: {}", rest(line)),
            Tone::Faint,
        ));
    }
    out
}

/// Those that are not shown, counted by how they stand.
fn rest(line: &Line) -> String {
    let rest = || line.expectations.iter().skip(EXPECTATIONS_MAX);
    let count = |stands| rest().filter(|s: &&Standing| s.stands == stands).count();
    format!(
        "{} so far met, {} missed, {} unknown",
        count(Stands::SoFarMet),
        count(Stands::Missed),
        count(Stands::Unknown)
    )
}

fn at(line: &Line) -> String {
    match line.t_s {
        Some(t_s) => {
            let t_s = t_s.max(0.0);
            let share = t_s / line.duration_s.max(1.0);
            let over = if share > 1.0 { ", reading back" } else { "" };
            format!(
                "{} {:.0}/{:.0} s{over}",
                bar(share),
                t_s.min(line.duration_s),
                line.duration_s
            )
        }
        None => format!("{}, {} sessions", line.phase(), show_count(line.sessions)),
    }
}

fn memory(line: &Line) -> String {
    let share = line.usage_bytes as f64 / line.limit_bytes.max(1) as f64;
    let hog = match line.hog_bytes {
        0 => String::new(),
        bytes => format!(", hog {}", show_bytes(bytes)),
    };
    format!(
        "  memory  {} {:.0} % of {}; service {}{hog}; governor {}",
        bar(share),
        share * 100.0,
        show_bytes(line.limit_bytes),
        show_bytes(line.held_bytes),
        line.governor
    )
}

fn faults(line: &Line) -> Option<String> {
    let next = line.next_fault.as_ref();
    let next = next.map(|(name, at_s)| format!("next {name} at {at_s:.0} s"));
    let standing = (!line.faults.is_empty()).then(|| line.faults.join(", "));
    match (standing, next) {
        (Some(now), Some(next)) => Some(format!("{now}; {next}")),
        (now, next) => now.or(next),
    }
}

fn mark(stands: Stands) -> (&'static str, Tone) {
    match stands {
        Stands::Unknown => ("?", Tone::Faint),
        Stands::SoFarMet => ("✓", Tone::Good),
        Stands::Missed => ("✗", Tone::Bad),
    }
}

fn bar(share: f64) -> String {
    let full = ((share.clamp(0.0, 1.0) * BAR as f64).round()) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use backdrop_reports::load::Interval;

    use super::*;

    fn line() -> Line {
        let standing = |name: &str, stands| Standing {
            name: name.into(),
            stands,
            words: "words".into(),
        };
        Line {
            trial: "small".into(),
            phase: "load".into(),
            t_s: Some(5.0),
            duration_s: 10.0,
            sessions: 300,
            last: Some(Interval {
                switches_ok: 1234,
                switch_p99_us: 2500,
                previews_shed: 3,
                ..Interval::default()
            }),
            held_bytes: 64 << 20,
            hog_bytes: 32 << 20,
            usage_bytes: 96 << 20,
            limit_bytes: 128 << 20,
            governor: "elevated",
            faults: vec!["hog".into()],
            next_fault: Some(("spin".into(), 8.0)),
            expectations: vec![
                standing("no-kill", Stands::SoFarMet),
                standing("fast", Stands::Missed),
                standing("truth", Stands::Unknown),
            ],
        }
    }

    #[test]
    fn the_block_shows_progress_pressure_rate_faults_and_expectations() {
        let half = "████████████░░░░░░░░░░░░";
        let three = "██████████████████░░░░░░";
        assert_eq!(
            lines(&line(), false),
            [
                format!("small  {half} 5/10 s"),
                "  load    1,234/s, p99 2.5 ms; previews 0 ok, 0 degraded, 3 shed".to_owned(),
                format!(
                    "  memory  {three} 75 % of 128 MiB; service 64 MiB, hog 32 MiB; governor elevated"
                ),
                "  faults  hog; next spin at 8 s".to_owned(),
                "  ✓ no-kill                  words".to_owned(),
                "  ✗ fast                     words".to_owned(),
                "  ? truth                    words".to_owned(),
            ]
        );
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let plain = lines(&line(), false).join("\n");
        assert!(!plain.contains('\x1b'));
        let painted = lines(&line(), true).join("\n");
        assert!(painted.contains("\x1b[32m✓\x1b[0m") && painted.contains("\x1b[31m✗\x1b[0m"));
    }

    #[test]
    fn many_expectations_are_counted_and_a_setting_up_has_no_load() {
        let mut many = line();
        many.expectations = vec![many.expectations[1].clone(); EXPECTATIONS_MAX + 2];
        let shown = lines(&many, false);
        assert_eq!(shown.len(), 4 + EXPECTATIONS_MAX + 1);
        assert!(shown[shown.len() - 1].ends_with("0 so far met, 2 missed, 0 unknown"));
        let early = Line {
            t_s: None,
            last: None,
            phase: String::new(),
            faults: Vec::new(),
            next_fault: None,
            expectations: Vec::new(),
            ..line()
        };
        let shown = lines(&early, false);
        assert_eq!(shown[0], "small  start, 300 sessions");
        assert_eq!(shown.len(), 2, "{shown:?}");
    }

    #[test]
    fn a_bar_is_never_longer_than_its_frame() {
        for share in [-1.0, 0.0, 0.01, 0.5, 1.0, 7.0, f64::NAN] {
            assert_eq!(bar(share).chars().count(), BAR, "{share}");
        }
    }
}
