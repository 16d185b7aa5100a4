//! Comparisons, trends and how far a scorecard goes, as lines for a terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::compare::{Comparison, Pair};
use crate::format::Unit;
use crate::history::{Point, Trend};
use crate::record::Verdict;
use crate::render::words::{NOTHING, better, caution, exact, percent, sparkline, value};
use crate::scorecard::Scorecard;
use crate::statistics::median;

/// Runs that a sparkline has at most, the newest ones: a terminal's line.
const SPARKS_MAX: usize = 48;

/// The comparison as a table for each scenario.
#[must_use]
pub fn comparison(c: &Comparison) -> String {
    let mut out = String::new();
    for (which, run) in [("first", &c.a), ("second", &c.b)] {
        let _ = writeln!(
            out,
            "{which:<7} {} {} {} {}",
            run.id,
            run.started_at,
            run.verdict.word(),
            run.commit
        );
    }
    for note in &c.notes {
        let _ = writeln!(out, "note    {note}");
    }
    for pair in &c.scenarios {
        out.push_str(&scenario(pair));
    }
    let _ = writeln!(
        out,
        "\n{}\n{}: {}",
        caution(c),
        c.outcome.word().to_uppercase(),
        c.reason
    );
    out
}

/// How much of a scorecard is measured, and what measures the rest.
#[must_use]
pub fn scorecard(card: &Scorecard) -> String {
    let (found, all) = card.counts();
    let mut out = format!("{found} of {all} figures are measured here\n");
    for (path, why) in &card.unread {
        let _ = writeln!(out, "not opened: {}: {why}", path.display());
    }
    let readings = card.rows.iter().flat_map(|row| &row.readings);
    let missing = readings.filter(|reading| reading.found.is_none());
    let commands: BTreeSet<String> = missing.map(|r| r.measure.command()).collect();
    for command in commands {
        let _ = writeln!(out, "not measured here: {command}");
    }
    out
}

fn scenario(pair: &Pair) -> String {
    let word = |v: &Option<Verdict>| v.map_or(NOTHING, Verdict::word);
    let [before, after] = pair.verdicts.each_ref().map(word);
    let mut out = format!("\n{}: {before} → {after}\n", pair.name);
    for reason in &pair.apart {
        let _ = writeln!(out, "  not compared: {reason}");
    }
    for note in &pair.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    let rows: Vec<[String; 7]> = pair
        .figures
        .iter()
        .map(|f| {
            [
                f.word.word().to_owned(),
                if f.decides { "decides" } else { "hint" }.to_owned(),
                f.name.clone(),
                value(f.unit, f.values[0]),
                value(f.unit, f.values[1]),
                percent(f),
                f.why.clone(),
            ]
        })
        .collect();
    out.push_str(&table(
        &rows,
        [false, false, false, true, true, true, false],
    ));
    out
}

/// Columns as wide as their widest cell, those of numbers to the right.
fn table<const N: usize>(rows: &[[String; N]], right: [bool; N]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (i, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[i] - cell.chars().count());
            let (before, after) = if right[i] {
                (fill, String::new())
            } else {
                (String::new(), fill)
            };
            let _ = write!(line, " {before}{cell}{after} ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The trend: a line per figure over all runs, or a line per run where only one figure was asked for.
#[must_use]
pub fn trend(t: &Trend) -> String {
    let mut out = String::new();
    let (first, last) = (t.runs.first(), t.runs.last());
    let when = |run: Option<&Point>| run.map_or("", |r| r.started_at.as_str()).to_owned();
    let _ = writeln!(
        out,
        "{}: {} runs, {} to {}",
        t.scenario,
        t.runs.len(),
        when(first),
        when(last)
    );
    let breaks = |what: &str, of: fn(&Point) -> bool, out: &mut String| {
        let at: Vec<_> = t
            .runs
            .iter()
            .filter(|r| of(r))
            .map(|r| r.id.as_str())
            .collect();
        if let Some(last) = at.last() {
            let _ = writeln!(
                out,
                "{what} since {last}: what is older is not alike ({} such changes)",
                at.len()
            );
        }
    };
    breaks("another definition", |r| r.redefined, &mut out);
    breaks("another host", |r| r.moved, &mut out);
    breaks("another build", |r| r.rebuilt, &mut out);
    for words in t.spoils().words() {
        let _ = writeln!(out, "left out: {words}");
    }
    if t.older > 0 {
        let _ = writeln!(out, "{} older runs are not looked at", t.older);
    }
    for (path, why) in &t.unread {
        let _ = writeln!(out, "not opened: {}: {why}", path.display());
    }
    out.push('\n');
    let figures = t.figures_in_order();
    match figures.as_slice() {
        [(name, facts)] => {
            let _ = writeln!(
                out,
                "  {name} ({}) {}",
                better(facts.better),
                sparks(&t.column(name))
            );
            out.push_str(&per_run(t, name, facts.unit));
        }
        _ => out.push_str(&per_figure(t)),
    }
    out
}

fn sparks(column: &[Option<f64>]) -> String {
    sparkline(&column[column.len().saturating_sub(SPARKS_MAX)..])
}

fn per_figure(t: &Trend) -> String {
    let mut rows = vec![["figure", "least", "median", "most", "newest", "", ""].map(str::to_owned)];
    for (name, facts) in t.figures_in_order() {
        let unit = facts.unit;
        let column = t.column(name);
        let known: Vec<f64> = column.iter().flatten().copied().collect();
        let least = known.iter().copied().reduce(f64::min);
        let most = known.iter().copied().reduce(f64::max);
        let newest = column.last().copied().flatten();
        rows.push([
            name.clone(),
            value(unit, least),
            value(unit, median(&known)),
            value(unit, most),
            value(unit, newest),
            sparks(&column),
            format!(
                "{}{}",
                if facts.expected { "expected, " } else { "" },
                better(facts.better)
            ),
        ]);
    }
    table(&rows, [false, true, true, true, true, false, false])
}

fn per_run(t: &Trend, name: &str, unit: Unit) -> String {
    let row = |run: &Point| {
        let of = run.values.get(name).copied();
        let repeats = if run.repeats > 1 {
            format!("median of {}", run.repeats)
        } else {
            String::new()
        };
        [
            run.id.clone(),
            run.verdict.word().to_owned(),
            value(unit, of),
            exact(unit, of),
            repeats,
            run.commit.chars().take(12).collect(),
            run.spoils.words().join("; "),
        ]
    };
    let rows: Vec<_> = t.runs.iter().map(row).collect();
    table(&rows, [false, false, true, true, false, false, false])
}
