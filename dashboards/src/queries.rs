//! PromQL in the shapes that the panels need, with the dashboard's job and instance filled in. A metric is named without
//! `backdrop_`.

/// Matchers that every selector has.
const SELECTED: &str = r#"job=~"$job",instance=~"$instance""#;

/// Kinds of fault that stand, or began within a moment: a kill is over before the next scrape. The window is fixed, since annotation
/// queries know no `$__rate_interval`.
pub const FAULTS: &str = "(sum by (kind) (backdrop_chaos_faults_active) > 0) or \
                          (sum by (kind) (changes(backdrop_chaos_faults_begun_total[3s])) > 0)";

/// `metric{job, instance, matchers}`.
#[must_use]
pub fn select(metric: &str, matchers: &str) -> String {
    let comma = if matchers.is_empty() { "" } else { "," };
    format!("backdrop_{metric}{{{SELECTED}{comma}{matchers}}}")
}

/// Whether Prometheus reached each instance: 1 or 0.
#[must_use]
pub fn up() -> String {
    format!("min by (job, instance) (up{{{SELECTED}}})")
}

/// Sum over instances.
#[must_use]
pub fn total(metric: &str, matchers: &str) -> String {
    format!("sum({})", select(metric, matchers))
}

/// The most of any instance: of services that follow each other, as trials of a run do, the sum is for a moment that of two.
#[must_use]
pub fn most(metric: &str, matchers: &str) -> String {
    format!("max({})", select(metric, matchers))
}

/// Sum over instances for each value of a label.
#[must_use]
pub fn total_by(label: &str, metric: &str) -> String {
    format!("sum by ({label}) ({})", select(metric, ""))
}

/// Growth per second of a counter.
#[must_use]
pub fn rate(metric: &str, matchers: &str) -> String {
    format!("sum(rate({}[$__rate_interval]))", select(metric, matchers))
}

/// Growth per second of a counter for each value of a label.
#[must_use]
pub fn rate_by(label: &str, metric: &str) -> String {
    rate_where(label, metric, "")
}

/// The same with matchers.
#[must_use]
pub fn rate_where(label: &str, metric: &str, matchers: &str) -> String {
    format!(
        "sum by ({label}) (rate({}[$__rate_interval]))",
        select(metric, matchers)
    )
}

/// Share of a counter's growth that has the matchers; nothing while it does not grow at all.
#[must_use]
pub fn share(metric: &str, matchers: &str) -> String {
    share_of(metric, matchers, "")
}

/// The same of the growth that has the matchers of `whole`.
#[must_use]
pub fn share_of(metric: &str, matchers: &str, whole: &str) -> String {
    format!("{} / ({} > 0)", rate(metric, matchers), rate(metric, whole))
}

/// Quantile of a histogram of seconds.
#[must_use]
pub fn quantile(quantile: &str, metric: &str, matchers: &str) -> String {
    let buckets = select(&format!("{metric}_bucket"), matchers);
    format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[$__rate_interval])))")
}

/// Mean of a histogram of seconds; nothing while nothing is observed.
#[must_use]
pub fn mean(metric: &str, matchers: &str) -> String {
    let (sum, count) = (format!("{metric}_sum"), format!("{metric}_count"));
    format!(
        "{} / ({} > 0)",
        rate(&sum, matchers),
        rate(&count, matchers)
    )
}
