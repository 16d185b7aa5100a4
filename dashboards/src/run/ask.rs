//! Every query of every panel, asked as Grafana would ask it. One that finds nothing in a whole run is a defect of panel or
//! metric, unless the panel says which event it waits for.

use super::prometheus::{Prometheus, Series};
use super::{RunError, SCRAPE_S};
use crate::grafana::{Dashboard, Panel, Quiet};

/// Points of an answer, about as many as a panel has pixels.
const POINTS_MAX: u64 = 1000;

/// A dashboard's variables as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variables {
    /// Seconds between two points.
    pub step_s: u64,
}

impl Variables {
    /// For a range of so many seconds.
    #[must_use]
    pub fn over(range_s: u64) -> Self {
        Self {
            step_s: range_s.div_ceil(POINTS_MAX).max(1),
        }
    }

    /// The query as Grafana sends it, with every job and instance picked. Its rate interval is four scrapes, and a step and a
    /// scrape where that is more.
    #[must_use]
    pub fn fill(&self, query: &str) -> String {
        let interval = (4 * SCRAPE_S).max(self.step_s + SCRAPE_S);
        query
            .replace("$__rate_interval", &format!("{interval}s"))
            .replace("$job", ".+")
            .replace("$instance", ".+")
    }
}

/// What one query of a panel found.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The query, variables filled in.
    pub query: String,
    /// Series that have a value, with their names in the legend.
    pub series: Vec<(String, Series)>,
}

/// A panel with what its queries found.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The panel.
    pub panel: &'a Panel,
    /// An answer for each query.
    pub answers: Vec<Answer>,
    /// It waits for an event that did not happen.
    pub excused: bool,
}

impl Asked<'_> {
    /// Its queries that found nothing.
    pub fn empty(&self) -> impl Iterator<Item = &Answer> {
        self.answers
            .iter()
            .filter(|answer| answer.series.is_empty())
    }
}

/// Asks every panel of a dashboard; rows have no query and are left out.
///
/// # Errors
/// Prometheus refuses a query or does not answer.
pub fn dashboard<'a>(
    server: &Prometheus,
    dashboard: &'a Dashboard,
) -> Result<Vec<Asked<'a>>, RunError> {
    let range_s = (server.extent.to_ms - server.extent.from_ms) / 1000;
    let variables = Variables::over(range_s);
    let panels = dashboard.panels.iter().filter(|p| !p.targets.is_empty());
    panels
        .map(|panel| {
            let answers = panel.targets.iter().map(|target| {
                let query = variables.fill(&target.expr);
                let found = server.range(&query, variables.step_s)?;
                let series = found
                    .into_iter()
                    .filter(|series| !series.samples.is_empty())
                    .map(|series| (series.named(&target.legend_format), series))
                    .collect();
                Ok(Answer { query, series })
            });
            let mut asked = Asked {
                panel,
                answers: answers.collect::<Result<_, RunError>>()?,
                excused: false,
            };
            if let Some(quiet) = panel.quiet
                && asked.empty().next().is_some()
            {
                asked.excused = excuses(quiet, &server.range(quiet.event, variables.step_s)?);
            }
            Ok(asked)
        })
        .collect()
}

/// Whether the event is known not to have happened.
fn excuses(quiet: Quiet, found: &[Series]) -> bool {
    let mut samples = found.iter().flat_map(|series| &series.samples).peekable();
    let asked = samples.peek().is_some() || quiet.may_be_missing;
    asked && samples.all(|(_, value)| *value == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_finds_nothing_excuses_nothing() {
        let series = |values: &[f64]| Series {
            labels: Vec::new(),
            samples: values.iter().map(|value| (1.0, *value)).collect(),
        };
        let quiet = |may_be_missing| Quiet {
            why: "",
            event: "",
            may_be_missing,
        };
        for (found, strictly, missing) in [
            (vec![], false, true),
            (vec![series(&[])], false, true),
            (vec![series(&[0.0, 0.0])], true, true),
            (vec![series(&[0.0]), series(&[0.0, 1.0])], false, false),
        ] {
            assert_eq!(excuses(quiet(false), &found), strictly, "{found:?}");
            assert_eq!(excuses(quiet(true), &found), missing, "{found:?}");
        }
    }

    #[test]
    fn variables_are_filled_in_as_grafana_does() {
        let minute = Variables::over(60);
        let query = r#"rate(a{job=~"$job",instance=~"$instance"}[$__rate_interval])"#;
        assert_eq!(
            minute.fill(query),
            r#"rate(a{job=~".+",instance=~".+"}[4s])"#
        );
        let hours = Variables::over(10_000);
        assert_eq!(hours.step_s, 10);
        assert_eq!(hours.fill("a[$__rate_interval]"), "a[11s]");
    }
}
