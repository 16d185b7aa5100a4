//! Every panel of every dashboard, drawn from a run's answers by the report's chart code into one offline page: for who reviews
//! the dashboards without a Grafana. It shows what a panel shows, not how Grafana does: stacked series are plain lines here, and
//! every number over time is a chart.

use backdrop_reports::render::chart::{Band, Chart, Role, Series as Line, XAxis, YAxis};
use backdrop_reports::render::sheet::{Group, Part, Sheet};

use super::RunError;
use super::ask::{Answer, Asked};
use super::prometheus::{Prometheus, Series};
use crate::grafana::{Dashboard, Panel};
use crate::queries::FAULTS;

/// Most rows of window names above a chart.
const LABEL_ROWS_MAX: usize = 2;
/// A gap of more steps than this ends a window.
const GAP_STEPS: f64 = 1.5;

/// Roles of series in their order, where their names say nothing.
const ROLES: [Role; 8] = [
    Role::Main,
    Role::Second,
    Role::Third,
    Role::Hog,
    Role::Allocator,
    Role::Fourth,
    Role::Fifth,
    Role::Budget,
];

/// The time that the charts share.
struct Time {
    /// First point, seconds since the Unix epoch.
    from: f64,
    /// Points, seconds after the first.
    x: Vec<f64>,
    step: f64,
    bands: Vec<Band>,
}

/// The page of a run. `asked` are the dashboards, each with the answers to its panels.
///
/// # Errors
/// Prometheus does not say when faults stood, or the page cannot be made.
pub fn page(
    run: &str,
    server: &Prometheus,
    asked: &[(&Dashboard, Vec<Asked<'_>>)],
    step_s: u64,
) -> Result<String, RunError> {
    let time = Time::of(server, step_s)?;
    let parts = asked.iter().map(|(dashboard, panels)| Part {
        anchor: dashboard.uid.trim_start_matches("backdrop-").to_owned(),
        title: dashboard.title.trim_start_matches("Backdrop: ").to_owned(),
        text: dashboard.description.clone(),
        groups: groups(dashboard, panels, &time),
    });
    let lead = format!(
        "Run {run}: what a Prometheus that scraped it every second answers to each panel, drawn by the report's charts. Stacked \
         series are plain lines here."
    );
    let title = "The dashboards over one run".to_owned();
    Sheet::new(title, lead, parts.collect())
        .and_then(|sheet| sheet.html())
        .map_err(|error| RunError::new(error.to_string()))
}

impl Time {
    fn of(server: &Prometheus, step_s: u64) -> Result<Self, RunError> {
        let from = (server.extent.from_ms / 1000) as f64;
        let to = server.extent.to_ms.div_ceil(1000) as f64;
        let step = step_s as f64;
        let points = ((to - from) / step) as usize + 1;
        let faults = server.range(FAULTS, step_s)?;
        Ok(Self {
            from,
            x: (0..points).map(|n| n as f64 * step).collect(),
            step,
            bands: faults.iter().flat_map(|f| bands(f, from, step)).collect(),
        })
    }

    /// One value for each point.
    fn column(&self, series: &Series, of: impl Fn(f64) -> Option<f64>) -> Vec<Option<f64>> {
        let mut column = vec![None; self.x.len()];
        for (at, value) in &series.samples {
            let n = ((at - self.from) / self.step).round();
            if let Some(place) = column.get_mut(n as usize) {
                *place = of(*value);
            }
        }
        column
    }
}

/// Where a series has samples: from the first of each row of them to the last.
fn bands(series: &Series, from: f64, step: f64) -> Vec<Band> {
    let label = series.named("{{kind}}");
    let mut bands: Vec<Band> = Vec::new();
    for (at, _) in &series.samples {
        let at = at - from;
        match bands.last_mut() {
            Some(band) if at - band.to <= GAP_STEPS * step => band.to = at,
            _ => bands.push(Band {
                from: at,
                to: at,
                label: label.clone(),
            }),
        }
    }
    bands
}

/// Panels by the row that they stand under.
fn groups(dashboard: &Dashboard, asked: &[Asked<'_>], time: &Time) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for panel in &dashboard.panels {
        if panel.kind == "row" {
            groups.push(Group {
                title: panel.title.clone(),
                charts: Vec::new(),
            });
        } else if let Some(found) = asked.iter().find(|asked| asked.panel.id == panel.id)
            && let Some(group) = groups.last_mut()
        {
            let id = format!(
                "{}-{}",
                dashboard.uid.trim_start_matches("backdrop-"),
                panel.id
            );
            group.charts.push(chart(id, found, time));
        }
    }
    groups
}

fn chart(id: String, asked: &Asked<'_>, time: &Time) -> Chart {
    let panel = asked.panel;
    let axis = axis(panel);
    let mut found: Vec<&(String, Series)> = asked
        .answers
        .iter()
        .flat_map(|answer: &Answer| &answer.series)
        .collect();
    // A band of states has no height.
    let lanes = panel.kind == "state-timeline" && axis != YAxis::State;
    if lanes {
        found.sort_by(|(_, a), (_, b)| began(a).total_cmp(&began(b)));
    }
    let line = |(n, (name, series)): (usize, &&(String, Series))| {
        let values = match axis {
            _ if lanes => time.column(series, |value| (value > 0.0).then_some(value)),
            // A logarithmic axis has no place for zero.
            YAxis::Micros => time.column(series, |s| (s > 0.0).then_some(s * 1e6)),
            _ => time.column(series, Some),
        };
        let role = if lanes { Role::Main } else { role(name, n) };
        Line::new(name.clone(), role, values)
    };
    let lines = found.iter().enumerate().map(line).collect();
    let why = panel.quiet.filter(|_| asked.excused).map_or_else(
        || "Nothing.".to_owned(),
        |quiet| format!("Nothing: {}.", quiet.why),
    );
    let chart = if lanes {
        Chart::lanes(id, &time.x, lines, &why)
    } else {
        Chart::bare(id, XAxis::Time, axis, &time.x, lines, &why)
    };
    let mut chart = chart.titled(&panel.title, &panel.description);
    chart.wide = panel.grid_pos.w >= 16;
    chart.x_range = time.x.last().map(|last| (0.0, last.max(1.0)));
    if chart.empty.is_none() {
        chart.bands.clone_from(&time.bands);
        if axis != YAxis::State {
            chart.label_rows = time.bands.len().min(LABEL_ROWS_MAX);
        }
    }
    chart
}

/// When it first stood for something, seconds since the Unix epoch.
fn began(series: &Series) -> f64 {
    let first = series.samples.iter().find(|(_, value)| *value > 0.0);
    first.map_or(f64::INFINITY, |(at, _)| *at)
}

/// What the panel's unit counts.
fn axis(panel: &Panel) -> YAxis {
    let defaults = panel.field_config.as_ref().map(|config| &config.defaults);
    let words = defaults.map_or(0, |defaults| {
        let of =
            |mapping: &serde_json::Value| mapping["options"].as_object().map_or(0, |o| o.len());
        defaults.mappings.iter().map(of).sum()
    });
    match defaults.map_or("", |defaults| defaults.unit.as_str()) {
        "bytes" => YAxis::Bytes,
        "binBps" => YAxis::BytesPerSecond,
        "s" => YAxis::Micros,
        "percentunit" => YAxis::Ratio,
        "ops" | "reqps" => YAxis::PerSecond,
        "cores" => YAxis::Cores,
        // Of what has words, only the governor has three.
        "none" if words == 3 && panel.title.starts_with("Governor") => YAxis::State,
        _ => YAxis::Count,
    }
}

fn role(name: &str, at: usize) -> Role {
    match name {
        "limit" => Role::Limit,
        "critical" => Role::Critical,
        "elevated" => Role::Elevated,
        "ceiling" => Role::Ceiling,
        "capacity" | "wanted" => Role::Faint,
        _ => ROLES[at % ROLES.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: &[(f64, f64)]) -> Series {
        Series {
            labels: vec![("kind".into(), "memory_hog".into())],
            samples: samples.to_vec(),
        }
    }

    #[test]
    fn samples_in_a_row_are_one_window() {
        let found = bands(&series(&[(12.0, 1.0), (13.0, 1.0), (20.0, 1.0)]), 10.0, 1.0);
        let ends: Vec<(f64, f64)> = found.iter().map(|b| (b.from, b.to)).collect();
        assert_eq!(ends, [(2.0, 3.0), (10.0, 10.0)]);
        assert_eq!(found[0].label, "memory_hog");
    }

    #[test]
    fn a_column_has_a_gap_where_nothing_was_answered() {
        let time = Time {
            from: 10.0,
            x: vec![0.0, 1.0, 2.0],
            step: 1.0,
            bands: Vec::new(),
        };
        let column = time.column(&series(&[(10.0, 5.0), (12.0, 7.0), (99.0, 1.0)]), Some);
        assert_eq!(column, [Some(5.0), None, Some(7.0)]);
    }
}
