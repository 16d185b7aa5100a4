//! `summary.md` for a pull request or a CI job page: verdict, table, figures. Always under 1 MiB, the limit of
//! GitHub's job summaries: what does not fit is cut with a line that says so, the verdict never.

use std::fmt::Write as _;

use crate::format::{bytes, show, stated, stated_against};
use crate::record::{Met, RunRecord, ScenarioRecord, Verdict};
use crate::render::mutants;

/// Upper bound of the document, bytes; 1 MiB less room for the closing note.
const SIZE_MAX: usize = 1024 * 1024 - 1024;

/// The whole document, under 1 MiB.
#[must_use]
pub fn render(record: &RunRecord) -> String {
    let mut text = head(record);
    let mut left_out = 0;
    for scenario in &record.scenarios {
        let section = section(record, scenario);
        if text.len() + section.len() > SIZE_MAX {
            left_out += 1;
        } else {
            text.push_str(&section);
        }
    }
    truncate(&mut text, SIZE_MAX);
    if left_out > 0 {
        let are = match left_out {
            1 => "1 scenario is left out here; `index.html` and `run.json` have it".to_owned(),
            n => format!("{n} scenarios are left out here; `index.html` and `run.json` have them"),
        };
        let _ = writeln!(text, "\n*{are}.*");
    }
    text
}

fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("\n\n*cut: `run.json` has the rest.*\n");
    }
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "✅",
        Verdict::Deviated => "❌",
        Verdict::Inconclusive => "❔",
        Verdict::Error => "💥",
    }
}

fn head(record: &RunRecord) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Backdrop chaos: {} {}\n",
        mark(record.verdict),
        record.verdict.word()
    );
    let _ = writeln!(text, "{}\n", cell(&record.reason));
    let _ = writeln!(
        text,
        "| Scenario | Verdict | Why | Controls |\n|---|---|---|---|"
    );
    for s in &record.scenarios {
        let controls: Vec<String> = s
            .controls
            .iter()
            .map(|c| {
                let mark = if c.as_expected {
                    "✓"
                } else {
                    "✗ expected "
                };
                let expected = if c.as_expected {
                    ""
                } else {
                    c.expected.as_str()
                };
                format!("{}: {} {mark}{expected}", c.label(), c.observed)
            })
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} {} | {} | {} |",
            cell(&s.label()),
            mark(s.verdict),
            s.verdict.word(),
            cell(&s.reason),
            cell(&controls.join("; "))
        );
    }
    text.push_str(&mutants(record));
    text.push_str(&search(record));
    let _ = writeln!(text, "\nReplay: {}\n", code(&record.replay));
    let host = &record.host;
    let _ = writeln!(
        text,
        "Seed {}, exit {}, {} to {}. Kernel {}, {}, {} CPUs, {}, cgroup {}. Backdrop {} {}.",
        record.seed,
        record.exit,
        cell(&record.started_at),
        cell(&record.finished_at),
        cell(&host.kernel),
        cell(&host.cpu),
        host.cpus,
        bytes(host.memory_bytes as f64),
        cell(&host.cgroup),
        cell(&record.build.version),
        cell(&record.build.commit)
    );
    for lack in &host.lacks {
        let _ = writeln!(text, "- {}", cell(lack));
    }
    text
}

fn mutants(record: &RunRecord) -> String {
    let rows = mutants::rows(record);
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n| {} |\n|---|---|---|---|---|\n",
        mutants::COLUMNS.join(" | ")
    );
    for row in &rows {
        let cells = row.cells().map(cell);
        let _ = writeln!(text, "| {} {} |", cells.join(" | "), mark(row.verdict));
    }
    text
}

fn search(record: &RunRecord) -> String {
    let Some(search) = &record.search else {
        return String::new();
    };
    let mut text = String::new();
    if let Some(found) = &search.found {
        let _ = writeln!(
            text,
            "\nFound: plan {} deviates by **{}**; {} of its {} faults are enough ({}).\n",
            found.plan,
            cell(&found.cause),
            found.smallest.len(),
            found.drawn.len(),
            found
                .files
                .iter()
                .map(|f| code(f))
                .collect::<Vec<_>>()
                .join(", ")
        );
        for fault in &found.smallest {
            let _ = writeln!(text, "- {}", code(fault));
        }
    }
    let _ = writeln!(
        text,
        "\n| Trial | Step | Faults | Outcome | Why |\n|---|---|---|---|---|"
    );
    for t in &search.trials {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            t.run,
            cell(&t.step),
            t.faults.len(),
            cell(&t.outcome),
            cell(&t.reason)
        );
    }
    text
}

fn section(record: &RunRecord, s: &ScenarioRecord) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\n## {} {}: {}\n",
        mark(s.verdict),
        cell(&s.label()),
        s.verdict.word()
    );
    let _ = writeln!(text, "{}\n\n{}\n", cell(&s.title), cell(&s.reason));
    if !s.expectations.is_empty() {
        let _ = writeln!(
            text,
            "| Expectation | Observed | Bound | Met |\n|---|---:|---:|---|"
        );
    }
    for e in &s.expectations {
        let [observed, bound] = match e.observed {
            Some(seen) => stated_against(seen, e.bound, &e.unit, &e.figure),
            None => ["no sample".into(), stated(e.bound, &e.unit, &e.figure)],
        };
        let met = match e.met {
            Met::Yes => "yes",
            Met::No => "**no**",
            Met::Unknown => "unknown",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} {} | {met} |",
            cell(&e.text),
            cell(&observed),
            cell(&e.relation),
            cell(&bound)
        );
    }
    for c in &s.controls {
        let met = if c.as_expected {
            "as expected"
        } else {
            "**not as expected**"
        };
        let _ = writeln!(
            text,
            "\nControl **{}** ({}): expected *{}*, observed *{}*, {met}. {}",
            cell(&c.label()),
            cell(&c.story),
            cell(&c.expected),
            cell(&c.observed),
            cell(&c.reason)
        );
    }
    for earlier in &s.set_aside {
        let _ = writeln!(
            text,
            "\n- Set aside: {}: *{}*: {}",
            cell(&earlier.trial),
            cell(&earlier.outcome),
            cell(&earlier.reason)
        );
    }
    for doubt in &s.evidence.doubts {
        let _ = writeln!(text, "\n- Doubt: {}", cell(doubt));
    }
    text.push_str(&figures(record, s));
    let _ = writeln!(text, "\nReplay: {}", code(&s.replay));
    text
}

fn figures(record: &RunRecord, s: &ScenarioRecord) -> String {
    if s.figures.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n<details><summary>Figures</summary>\n\n| Figure | Value | Exact |\n|---|---:|---:|\n",
    );
    for (name, value) in &s.figures {
        let shown = show(*value, record.unit_of(name));
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            cell(name),
            shown.short,
            shown.exact
        );
    }
    text.push_str("\n</details>\n");
    text
}

/// Text that cannot break out of its line or table cell, nor become HTML.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' => out.push_str("\\|"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A code span; a command that holds a backtick gets a longer fence.
fn code(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.contains('`') {
        format!("`` {line} ``")
    } else {
        format!("`{line}`")
    }
}
