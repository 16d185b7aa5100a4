//! How a change and a value read, in a terminal and in a page alike.

use crate::compare::{Change, Word};
use crate::format::{Unit, show};
use crate::record::Better;
use crate::render::facts::Tone;

/// What stands where there is nothing.
pub const NOTHING: &str = "–";

/// A figure's value, short; a dash without one.
#[must_use]
pub fn value(name: &str, value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.into(), |v| show(v, Unit::of_name(name)).short)
}

/// The same with every digit.
#[must_use]
pub fn exact(name: &str, value: Option<f64>) -> String {
    value.map_or_else(String::new, |v| show(v, Unit::of_name(name)).exact)
}

/// The change in percent, signed; a dash where there is none to tell.
#[must_use]
pub fn percent(change: &Change) -> String {
    let ratio = change.change_ratio;
    // What rounds to nothing has no sign.
    let rounded = ratio.map(|r| (r * 1000.0).round() / 10.0);
    match rounded {
        None => NOTHING.into(),
        Some(0.0) => "0.0 %".into(),
        Some(percent) => format!("{percent:+.1} %"),
    }
}

/// Which way a figure is better, in a word.
#[must_use]
pub fn better(better: Better) -> &'static str {
    match better {
        Better::Lower => "lower is better",
        Better::Higher => "higher is better",
        Better::Neither => "neither is better",
    }
}

/// How good what became of a figure is.
#[must_use]
pub fn tone(word: Word) -> Tone {
    match word {
        Word::Worse => Tone::Bad,
        Word::Better => Tone::Good,
        Word::Unclear => Tone::Doubt,
        Word::Differs | Word::Same => Tone::Plain,
    }
}

/// Values as bars of eight heights, from the least to the most; a dot where there is none. Values that are all alike are low.
#[must_use]
pub fn sparkline(values: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = || values.iter().flatten().copied();
    let low = known().fold(f64::INFINITY, f64::min);
    let span = known().fold(f64::NEG_INFINITY, f64::max) - low;
    let bar = |value: f64| {
        let height = if span > 0.0 {
            (value - low) / span
        } else {
            0.0
        };
        BARS[((height * 8.0) as usize).min(7)]
    };
    values.iter().map(|v| v.map_or('·', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_span_from_least_to_most_and_keep_gaps() {
        let line = sparkline(&[Some(1.0), Some(8.0), None, Some(4.5)]);
        assert_eq!(line, "▁█·▅");
        assert_eq!(sparkline(&[Some(3.0), Some(3.0)]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }
}
