//! The page of the scorecard: each row's claim, and what was measured here for it, linked to who measured it.

use std::path::{Path, PathBuf};

use askama::Template;

use crate::error::ReportError;
use crate::format::{Unit, rounded, show, stated};
use crate::record::Better;
use crate::render::facts::Tone;
use crate::render::link::{REPORT_FILE, relative};
use crate::render::page::Shell;
use crate::render::view::{VerdictView, anchor};
use crate::render::words::{NOTHING, better};
use crate::scorecard::found::{Found, Origin};
use crate::scorecard::rows::{Claim, Measure};
use crate::scorecard::{Reading, Row, Scorecard};

/// Where the page lies below the folder of the kept runs.
pub const FILE: &str = "scorecard/index.html";

/// Factors up to this one are noise, as in a comparison of runs.
const SAME: f64 = 1.05;

#[derive(Template)]
#[template(path = "scorecard.html")]
struct Page<'a> {
    found: usize,
    all: usize,
    rows: Vec<RowView>,
    unread: &'a [(PathBuf, String)],
    shell: Shell,
}

struct RowView {
    claim: &'static Claim,
    readings: Vec<ReadingView>,
}

struct ReadingView {
    measure: &'static Measure,
    better: &'static str,
    command: String,
    found: Option<FoundView>,
}

struct FoundView {
    naive: String,
    naive_exact: String,
    /// What the naive way is, or why there is none.
    peer: String,
    ours: String,
    ours_exact: String,
    ratio: String,
    tone: Tone,
    /// Relative to the page.
    path: String,
    /// With its `#`.
    fragment: String,
    origin: String,
    verdict: Option<VerdictView>,
}

/// The whole page, for the folder `home`, which is there: links are relative to it.
///
/// # Errors
/// If the template fails.
pub fn render(scorecard: &Scorecard, home: &Path) -> Result<String, ReportError> {
    let (found, all) = scorecard.counts();
    let row = |row: &Row| RowView {
        claim: row.claim,
        readings: row.readings.iter().map(|r| view(r, home)).collect(),
    };
    let page = Page {
        found,
        all,
        rows: scorecard.rows.iter().map(row).collect(),
        unread: &scorecard.unread,
        shell: Shell::with(std::iter::empty())?,
    };
    page.render().map_err(ReportError::Html)
}

fn view(reading: &Reading, home: &Path) -> ReadingView {
    let measure = reading.measure;
    ReadingView {
        measure,
        better: better(measure.better),
        command: measure.command(),
        found: reading
            .found
            .as_ref()
            .map(|f| seen(f, measure.better, home)),
    }
}

fn seen(found: &Found, better: Better, home: &Path) -> FoundView {
    let short = |value: f64| stated(value, &found.unit, "");
    let exact = |value: f64| show(value, Unit::stated(&found.unit, "")).exact;
    let (ratio, tone) = ratio(found.naive, found.ours, better);
    let (target, fragment, origin, verdict) = match &found.origin {
        Origin::Bench { file } => (file.clone(), String::new(), "bench".to_owned(), None),
        Origin::Run {
            folder,
            id,
            scenario,
            verdict,
        } => {
            let page = folder.join(REPORT_FILE);
            let fragment = format!("#{}", anchor(scenario));
            (
                page,
                fragment,
                format!("{scenario} of {id}"),
                Some((*verdict).into()),
            )
        }
    };
    FoundView {
        naive: found.naive.map_or_else(|| NOTHING.into(), short),
        naive_exact: found.naive.map_or_else(String::new, exact),
        peer: peer(found),
        ours: short(found.ours),
        ours_exact: exact(found.ours),
        ratio,
        tone,
        path: relative(home, &target),
        fragment,
        origin,
        verdict,
    }
}

/// A run without a naive side has none because that does not live to have one; of a benchmark's there is nothing to say.
fn peer(found: &Found) -> String {
    match &found.origin {
        _ if found.naive.is_some() => format!("naive: {}", found.peer),
        Origin::Run { .. } => "the naive service does not live that long".to_owned(),
        Origin::Bench { .. } => String::new(),
    }
}

/// How many times less or more ours is, and how good that is.
fn ratio(naive: Option<f64>, ours: f64, better: Better) -> (String, Tone) {
    let Some(naive) = naive else {
        return (NOTHING.into(), Tone::Plain);
    };
    let less = ours < naive;
    let tone = match better {
        Better::Lower => Tone::good_if(less),
        Better::Higher => Tone::good_if(!less),
        Better::Neither => Tone::Plain,
    };
    let (large, small) = if less { (naive, ours) } else { (ours, naive) };
    match large / small {
        _ if large == small => ("the same".into(), Tone::Plain),
        _ if small == 0.0 && less => ("none left".into(), tone),
        _ if small == 0.0 => ("from none".into(), tone),
        factor if factor.is_finite() && factor > 0.0 => {
            let word = if less { "less" } else { "more" };
            let tone = if factor <= SAME { Tone::Plain } else { tone };
            (format!("{} × {word}", rounded(factor)), tone)
        }
        _ => (NOTHING.into(), Tone::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_says_which_way_and_how_good() {
        let of = |naive, ours, better| ratio(Some(naive), ours, better);
        let (lower, higher) = (Better::Lower, Better::Higher);
        assert_eq!(of(300.0, 1.0, lower), ("300 × less".into(), Tone::Good));
        assert_eq!(of(1.0, 1.5, lower), ("1.5 × more".into(), Tone::Bad));
        assert_eq!(of(41.0, 1_200_000.0, higher).1, Tone::Good);
        assert_eq!(of(2.0, 1.0, higher), ("2 × less".into(), Tone::Bad));
        assert_eq!(of(1.0, 0.0, lower), ("none left".into(), Tone::Good));
        assert_eq!(of(0.0, 1.0, lower), ("from none".into(), Tone::Bad));
        assert_eq!(of(0.0, 0.0, lower), ("the same".into(), Tone::Plain));
        assert_eq!(of(100.0, 98.0, lower).1, Tone::Plain);
        assert_eq!(of(f64::NAN, 1.0, lower).0, NOTHING);
        assert_eq!(ratio(None, 1.0, lower), (NOTHING.into(), Tone::Plain));
    }
}
