//! The service's OpenMetrics text, and the few series of it that the runner keeps per scrape.
//!
//! Parses just what `prometheus-client` writes: `name{label="value",...} number`. Histogram buckets are skipped.

use std::collections::HashMap;

/// Prefix of every metric of the service.
const PREFIX: &str = "backdrop_";

/// Names and values.
type Labels = Vec<(String, String)>;

/// One exposition, parsed.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    series: Vec<Series>,
    index: HashMap<String, Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Series {
    labels: Labels,
    value: f64,
}

impl Exposition {
    /// Parses; lines that are no samples are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some((name, labels, value)) = sample(line) else {
                continue;
            };
            let Some(name) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if name.ends_with("_bucket") {
                continue;
            }
            out.index
                .entry(name.to_owned())
                .or_default()
                .push(out.series.len());
            out.series.push(Series { labels, value });
        }
        out
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Series> {
        self.index
            .get(name)
            .into_iter()
            .flatten()
            .map(|i| &self.series[*i])
    }

    /// Sum over all label sets; none if there is no such metric.
    #[must_use]
    pub fn sum(&self, name: &str) -> Option<f64> {
        self.index
            .contains_key(name)
            .then(|| self.of(name).map(|s| s.value).sum())
    }

    /// Sum over the label sets in which `label` is one of `values`; none if there is no such metric.
    #[must_use]
    pub fn sum_where(&self, name: &str, label: &str, values: &[&str]) -> Option<f64> {
        let fits = |s: &&Series| {
            s.labels
                .iter()
                .any(|(l, v)| l == label && values.contains(&v.as_str()))
        };
        self.index
            .contains_key(name)
            .then(|| self.of(name).filter(fits).map(|s| s.value).sum())
    }
}

fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let (head, rest) = match line.find('{') {
        Some(open) => {
            let close = line.rfind('}')?;
            let labels = line.get(open + 1..close)?;
            (&line[..open], Some((labels, &line[close + 1..])))
        }
        None => (line, None),
    };
    match rest {
        Some((labels, value)) => Some((
            head,
            parse_labels(labels),
            value.split_whitespace().next()?.parse().ok()?,
        )),
        None => {
            let mut words = head.split_whitespace();
            Some((words.next()?, Vec::new(), words.next()?.parse().ok()?))
        }
    }
}

/// `a="b",c="d"`; a quote inside a value is escaped.
fn parse_labels(text: &str) -> Labels {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut end = 0;
        let bytes = after.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let end = end.min(bytes.len());
        let value = after.get(..end).unwrap_or(after);
        out.push((label.trim_start_matches(',').to_owned(), value.to_owned()));
        rest = after.get(end + 1..).unwrap_or("");
    }
    out
}

macro_rules! scrape {
    ($($(#[doc = $doc:literal])* $field:ident = |$e:ident| $value:expr;)*) => {
        /// What the runner keeps of one scrape; none where the service does not have the metric.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Scrape {
            /// Milliseconds since the Unix epoch at which the answer was there.
            pub unix_ms: u64,
            $($(#[doc = $doc])* pub $field: Option<f64>,)*
        }

        impl Scrape {
            /// Takes what it needs.
            #[must_use]
            pub fn of(unix_ms: u64, exposition: &Exposition) -> Self {
                Self { unix_ms, $($field: { let $e = exposition; $value },)* }
            }

            /// Every figure with its name.
            #[cfg(test)]
            fn figures(&self) -> Vec<(&'static str, Option<f64>)> {
                vec![$((stringify!($field), self.$field),)*]
            }
        }
    };
}

scrape! {
    /// Pressure as the governor sees it, bytes.
    pressure_bytes = |e| e.sum("memory_pressure_bytes");
    /// Elevated watermark, bytes.
    elevated_bytes = |e| e.sum_where("memory_watermark_bytes", "level", &["elevated"]);
    /// Critical watermark, bytes.
    critical_bytes = |e| e.sum_where("memory_watermark_bytes", "level", &["critical"]);
    /// Budget's ceiling, bytes.
    budget_ceiling_bytes = |e| e.sum("memory_budget_ceiling_bytes");
    /// Charged to the budget, bytes.
    budget_used_bytes = |e| e.sum("memory_budget_used_bytes");
    /// Resident to jemalloc, bytes.
    allocator_resident_bytes = |e| e.sum("memory_allocator_resident_bytes");
    /// Resident textures, bytes.
    textures_bytes = |e| e.sum("flyweight_resident_bytes");
    /// Texture bytes that leases hold.
    pinned_bytes = |e| e.sum("flyweight_pinned_bytes");
    /// Resident textures.
    textures = |e| e.sum("flyweight_resident_textures");
    /// 0 normal, 1 elevated, 2 critical.
    governor_state = |e| e.sum("governor_state");
    /// Changes of state.
    governor_transitions = |e| e.sum("governor_transitions_total");
    /// Textures evicted for capacity or pressure.
    evictions = |e| e.sum_where("flyweight_evictions_total", "reason", &["capacity", "pressure", "requested"]);
    /// Bytes evicted.
    evicted_bytes = |e| e.sum("flyweight_evicted_bytes_total");
    /// Accesses that found pixels or a load in flight.
    hits = |e| e.sum_where("flyweight_accesses_total", "result", &["hit", "joined"]);
    /// Accesses that had to load.
    misses = |e| e.sum_where("flyweight_accesses_total", "result", &["miss"]);
    /// Accesses answered by the thumbnail.
    degraded = |e| e.sum_where("flyweight_accesses_total", "result", &["degraded"]);
    /// Accesses shed.
    accesses_shed = |e| e.sum_where("flyweight_accesses_total", "result", &["shed"]);
    /// Accesses failed.
    accesses_failed = |e| e.sum_where("flyweight_accesses_total", "result", &["error"]);
    /// Loads finished, whatever came of them.
    loads = |e| e.sum("flyweight_loads_total");
    /// Loads failed.
    load_errors = |e| e.sum_where("flyweight_loads_total", "result", &["error"]);
    /// Loads thrown away, since their background was replaced meanwhile.
    loads_overtaken = |e| e.sum_where("flyweight_loads_total", "result", &["overtaken"]);
    /// Open connections of the public listener.
    connections = |e| e.sum("http_connections");
    /// Connections turned away, since there were too many.
    connections_shed = |e| e.sum_where("shed_total", "reason", &["connections"]);
    /// Requests shed.
    shed = |e| e.sum("shed_total");
    /// Distance between ledger and allocator, bytes.
    drift_bytes = |e| e.sum("memory_arena_drift_bytes");
    /// Textures read back from the archive.
    archive_hits = |e| e.sum_where("archive_reads_total", "result", &["hit"]);
    /// Reads of the archive that found a damaged file.
    archive_damaged = |e| e.sum_where("archive_reads_total", "result", &["corrupt", "truncated"]);
    /// Writes of the archive that failed.
    archive_write_errors = |e| e.sum_where("archive_writes_total", "result", &["disk_full", "error"]);
    /// Frames that a GPU drew.
    gpu_frames = |e| e.sum_where("frames_drawn_total", "renderer", &["gpu"]);
    /// Losses of the GPU's device.
    gpu_losses = |e| e.sum("gpu_losses_total");
    /// Times that it was opened anew.
    gpu_returns = |e| e.sum_where("gpu_reopened_total", "result", &["ok"]);
    /// Failpoint triggers.
    failpoint_triggers = |e| e.sum("failpoint_triggers_total");
    /// Failpoint triggers that made a load fail.
    load_failures_injected = |e| e.sum_where(
        "failpoint_triggers_total", "failpoint", &["store.load.error", "codec.decode.error"]
    );
    /// Failpoint triggers that made a write of the archive fail.
    archive_failures_injected = |e| e.sum_where(
        "failpoint_triggers_total", "failpoint", &["store.archive.disk_full", "store.archive.write_error"]
    );
}

impl Scrape {
    /// All accesses to textures, whatever came of them: what hits are a share of. None without the metric.
    #[must_use]
    pub fn accesses(&self) -> Option<f64> {
        let others = [
            self.misses,
            self.degraded,
            self.accesses_shed,
            self.accesses_failed,
        ];
        self.hits
            .map(|hits| hits + others.into_iter().flatten().sum::<f64>())
    }
}

/// Increase of a counter over scrapes; a fall is a restart, after which it counts from zero. None without two samples: one alone
/// says nothing of what happened.
pub fn increase<'a>(
    scrapes: impl IntoIterator<Item = &'a Scrape>,
    field: impl Fn(&Scrape) -> Option<f64>,
) -> Option<f64> {
    let mut values = scrapes.into_iter().filter_map(field);
    let mut before = values.next()?;
    let mut sum = None;
    for value in values {
        let rise = if value >= before {
            value - before
        } else {
            value
        };
        sum = Some(sum.unwrap_or(0.0) + rise);
        before = value;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP backdrop_shed_total x.\n# TYPE backdrop_shed counter\n\
        backdrop_shed_total{reason=\"budget\"} 3\nbackdrop_shed_total{reason=\"gov\\\"er\"} 4.5\n\
        backdrop_sessions 12\nbackdrop_render_duration_seconds_bucket{le=\"0.1\"} 9\n\
        backdrop_flyweight_accesses_total{result=\"hit\"} 10\nbackdrop_flyweight_accesses_total{result=\"joined\"} 2\n\
        backdrop_flyweight_accesses_total{result=\"miss\"} 5\nother 1\nbackdrop_odd}{ 1\n# EOF\n";

    #[test]
    fn exposition_parses() {
        let e = Exposition::parse(TEXT);
        assert_eq!(e.sum("shed_total"), Some(7.5));
        assert_eq!(e.sum_where("shed_total", "reason", &["budget"]), Some(3.0));
        assert_eq!(e.sum("render_duration_seconds_bucket"), None);
        assert_eq!(e.sum("absent"), None);
        let s = Scrape::of(7, &e);
        assert_eq!(
            (s.hits, s.misses, s.pressure_bytes),
            (Some(12.0), Some(5.0), None)
        );
        assert_eq!(s.accesses(), Some(17.0));
    }

    /// What the service writes, with 1 for every value; it is of a build without failpoints.
    fn golden() -> Exposition {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../service/tests/golden/metrics.txt"
        );
        let shape = std::fs::read_to_string(path).unwrap();
        let lines: Vec<String> = shape.lines().map(|line| format!("{line} 1\n")).collect();
        Exposition::parse(&lines.concat())
    }

    #[test]
    fn every_figure_is_found_in_what_the_service_writes() {
        const OF_FAILPOINTS: [&str; 3] = [
            "failpoint_triggers",
            "load_failures_injected",
            "archive_failures_injected",
        ];
        let scrape = Scrape::of(7, &golden());
        let figures = scrape.figures();
        for name in OF_FAILPOINTS {
            assert!(figures.contains(&(name, None)), "{name} is no such figure");
        }
        // Zero is what a metric without the label gives.
        let missing: Vec<_> = figures
            .into_iter()
            .filter(|(name, _)| !OF_FAILPOINTS.contains(name))
            .filter(|(_, value)| value.is_none_or(|value| value < 1.0))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        // One for each label that a figure takes together.
        let of_labels = [
            ("evictions", scrape.evictions, 3.0),
            ("hits", scrape.hits, 2.0),
            ("archive_damaged", scrape.archive_damaged, 2.0),
            ("archive_write_errors", scrape.archive_write_errors, 2.0),
        ];
        for (name, value, labels) in of_labels {
            assert_eq!(value, Some(labels), "{name}");
        }
    }

    #[test]
    fn increase_survives_a_restart() {
        let at = |v: Option<f64>| Scrape {
            shed: v,
            ..Scrape::default()
        };
        let scrapes = [
            at(Some(5.0)),
            at(Some(8.0)),
            at(None),
            at(Some(2.0)),
            at(Some(3.0)),
        ];
        assert_eq!(increase(&scrapes, |s| s.shed), Some(6.0));
        assert_eq!(increase(&scrapes, |s| s.hits), None);
        assert_eq!(increase(&scrapes[..1], |s| s.shed), None, "of one sample");
    }
}
