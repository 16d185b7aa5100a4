//! One chart as the page's script draws it: columns on one x axis, shaded windows, marks. The script knows no
//! metric; everything it must know is said here.

use serde::{Serialize, Serializer};

use crate::record::{Event, Fault, Trial};
use crate::render::series::{Column, POINTS_MAX, decimate};

/// Most rows of window names; what does not fit is left to the table of faults.
const LABEL_ROWS_MAX: usize = 3;

/// What the x axis counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XAxis {
    /// Seconds after the first planned send.
    Time,
    /// 1 / (1 - quantile), logarithmic: 10 is the 90th percentile, 1,000 the 99.9th.
    Tail,
    /// Runs, by their place in the labels.
    Run,
}

/// What the y axis counts, hence how values read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum YAxis {
    /// Bytes.
    Bytes,
    /// Microseconds, logarithmic.
    Micros,
    /// Events per second.
    PerSecond,
    /// 0..=1, shown as percent.
    Ratio,
    /// Governor state 0, 1, 2.
    State,
    /// Nothing: each series is a lane, named at its side, drawn where it has a value. See [`Chart::lanes`].
    Lanes,
    /// Processor cores.
    Cores,
    /// Seconds.
    Seconds,
    /// Bytes per second.
    BytesPerSecond,
    /// Anything else, as a number.
    Count,
}

/// What a series stands for, hence its colour and line; the style sheet has the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The main quantity, filled below.
    Main,
    /// A second quantity.
    Second,
    /// A third quantity.
    Third,
    /// A fourth quantity.
    Fourth,
    /// A fifth quantity.
    Fifth,
    /// The memory hog, filled.
    Hog,
    /// What the kernel enforces.
    Limit,
    /// Critical watermark, or what went wrong.
    Critical,
    /// Elevated watermark, or what was degraded.
    Elevated,
    /// The budget's ceiling.
    Ceiling,
    /// The allocator's resident memory, a thin line.
    Allocator,
    /// What the budget has handed out, a thin line.
    Budget,
    /// Background information.
    Faint,
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    /// Name in the legend.
    pub label: String,
    /// Colour and line.
    pub role: Role,
    /// Drawn at first; otherwise only offered in the legend.
    pub shown: bool,
    /// One value per x; `None` is a gap.
    #[serde(serialize_with = "compact")]
    pub values: Column,
}

impl Series {
    /// A series that is drawn at first.
    pub fn new(label: impl Into<String>, role: Role, values: Column) -> Self {
        Self {
            label: label.into(),
            role,
            shown: true,
            values,
        }
    }

    /// A series that is only offered.
    pub fn offered(label: impl Into<String>, role: Role, values: Column) -> Self {
        Self {
            shown: false,
            ..Self::new(label, role, values)
        }
    }

    fn has_data(&self) -> bool {
        self.values.iter().any(Option::is_some)
    }
}

/// A shaded window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Band {
    /// Start, in x.
    pub from: f64,
    /// End, in x.
    pub to: f64,
    /// Name of the fault.
    pub label: String,
}

/// A vertical line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// Where, in x.
    pub at: f64,
    /// What happened.
    pub label: String,
    /// The kernel killed something here.
    pub kill: bool,
}

/// One chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// Unique in the page; the element it is drawn into.
    pub id: String,
    /// Heading.
    #[serde(skip)]
    pub title: String,
    /// How to read it.
    #[serde(skip)]
    pub caption: String,
    /// Takes the whole width.
    #[serde(skip)]
    pub wide: bool,
    /// Why there is nothing to draw; `None` if there is.
    #[serde(skip)]
    pub empty: Option<String>,
    /// What x counts.
    pub x_axis: XAxis,
    /// What y counts.
    pub y_axis: YAxis,
    /// Top of the y axis, if not the data's.
    pub y_max: Option<f64>,
    /// Ends of the x axis, if not the data's.
    pub x_range: Option<(f64, f64)>,
    /// What stands at 0, 1, 2 and so on of the x axis, where that counts runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub x_labels: Vec<String>,
    /// Points of a series are joined across `None`: the axis is shared, not sampled.
    pub joined: bool,
    /// x values, ascending.
    #[serde(serialize_with = "compact_times")]
    pub x: Vec<f64>,
    /// Lines.
    pub series: Vec<Series>,
    /// Rows above the plot for the names of the windows.
    pub label_rows: usize,
    /// Shaded windows.
    pub bands: Vec<Band>,
    /// Vertical lines.
    pub marks: Vec<Mark>,
}

impl Chart {
    /// A chart over time with the trial's fault windows and kills; series without any value are left out, long
    /// ones thinned out. Without a series left the chart says `empty`.
    #[must_use]
    pub fn over_time(
        id: String,
        y_axis: YAxis,
        trial: &Trial,
        x: &[f64],
        series: Vec<Series>,
        empty: &str,
    ) -> Self {
        let mut chart = Self::bare(id, XAxis::Time, y_axis, x, series, empty);
        if chart.empty.is_none() {
            chart.bands = trial
                .faults
                .iter()
                .filter(|f| f.to_s > f.from_s)
                .map(band)
                .collect();
            if y_axis != YAxis::State {
                chart.label_rows = chart.bands.len().min(LABEL_ROWS_MAX);
            }
            chart.marks = marks(trial);
        }
        chart
    }

    /// A chart without windows and marks.
    #[must_use]
    pub fn bare(
        id: String,
        x_axis: XAxis,
        y_axis: YAxis,
        x: &[f64],
        mut series: Vec<Series>,
        empty: &str,
    ) -> Self {
        series.retain(Series::has_data);
        let mut columns: Vec<Column> = series
            .iter_mut()
            .map(|s| std::mem::take(&mut s.values))
            .collect();
        columns.iter_mut().for_each(|c| c.resize(x.len(), None));
        let (x, columns) = decimate(x, &columns, POINTS_MAX);
        for (s, values) in series.iter_mut().zip(columns) {
            s.values = values;
        }
        Self {
            id,
            title: String::new(),
            caption: String::new(),
            wide: false,
            empty: series.is_empty().then(|| empty.to_owned()),
            x_axis,
            y_axis,
            y_max: None,
            x_range: None,
            x_labels: Vec::new(),
            joined: false,
            x,
            series,
            label_rows: 0,
            bands: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// A chart over runs, oldest first, each with its label.
    #[must_use]
    pub fn over_runs(
        id: String,
        y_axis: YAxis,
        labels: Vec<String>,
        series: Vec<Series>,
        empty: &str,
    ) -> Self {
        let x: Vec<f64> = (0..labels.len()).map(|place| place as f64).collect();
        Self {
            x_range: Some((-0.5, labels.len() as f64 - 0.5)),
            x_labels: labels,
            joined: true,
            ..Self::bare(id, XAxis::Run, y_axis, &x, series, empty)
        }
    }

    /// A chart over time of what stood when: each series has a lane of its own, the first on top, whatever its values are.
    #[must_use]
    pub fn lanes(id: String, x: &[f64], series: Vec<Series>, empty: &str) -> Self {
        let mut chart = Self::bare(id, XAxis::Time, YAxis::Lanes, x, series, empty);
        for (lane, series) in chart.series.iter_mut().enumerate() {
            for value in series.values.iter_mut().flatten() {
                *value = (lane + 1) as f64;
            }
        }
        chart
    }

    /// With a heading and how to read it.
    #[must_use]
    pub fn titled(mut self, title: &str, caption: &str) -> Self {
        self.title = title.to_owned();
        self.caption = caption.to_owned();
        self
    }

    /// Over the whole width.
    #[must_use]
    pub fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Largest value of any series; zero without one.
    #[must_use]
    pub fn value_max(&self) -> f64 {
        self.series
            .iter()
            .flat_map(|s| &s.values)
            .filter_map(|v| *v)
            .fold(0.0, f64::max)
    }
}

fn band(fault: &Fault) -> Band {
    Band {
        from: fault.from_s,
        to: fault.to_s,
        label: fault.name.clone(),
    }
}

/// Kills from the events, momentary faults from the faults, and starts and ends of the process while the load ran:
/// those of set-up and shutdown are no news.
fn marks(trial: &Trial) -> Vec<Mark> {
    let load_end = trial
        .load
        .as_ref()
        .map_or(f64::INFINITY, |load| load.duration_s);
    let news =
        |e: &&Event| e.kind == "kernel" || e.kind == "process" && (0.0..load_end).contains(&e.t_s);
    let events = trial.events.iter().filter(news);
    let events = events.map(|e| Mark {
        at: e.t_s,
        label: e.text.clone(),
        kill: e.kind == "kernel",
    });
    let faults = trial.faults.iter().filter(|f| f.to_s <= f.from_s);
    let faults = faults.map(|f| Mark {
        at: f.from_s,
        label: f.name.clone(),
        kill: false,
    });
    events.chain(faults).collect()
}

/// Whole numbers without a fraction, others with at most six digits behind the point: half the page's size.
fn compact<S: Serializer>(values: &Column, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|v| v.and_then(|v| number(v, 1e6))))
}

/// Times to a millisecond.
fn compact_times<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(|v| number(*v, 1e3)))
}

fn number(value: f64, precision: f64) -> Option<serde_json::Number> {
    let rounded = (value * precision).round() / precision;
    if rounded.fract() == 0.0 && rounded.abs() < 9e15 {
        return Some(serde_json::Number::from(rounded as i64));
    }
    serde_json::Number::from_f64(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_numbered_without_those_that_are_empty() {
        let series =
            |label: &str, values: &[Option<f64>]| Series::new(label, Role::Main, values.to_vec());
        let chart = Chart::lanes(
            "a".into(),
            &[0.0, 1.0],
            vec![
                series("never", &[None, None]),
                series("first", &[Some(1.0), None]),
                series("then", &[None, Some(7.0)]),
            ],
            "",
        );
        let lanes: Vec<_> = chart
            .series
            .iter()
            .map(|s| (s.label.as_str(), s.values.as_slice()))
            .collect();
        assert_eq!(
            lanes,
            [
                ("first", &[Some(1.0), None][..]),
                ("then", &[None, Some(2.0)][..])
            ]
        );
    }
}
