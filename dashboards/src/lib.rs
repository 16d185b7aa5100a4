//! Grafana dashboards as typed Rust. [`grafana`] is the part of Grafana's Classic (v1) schema that we use,
//! [`layout`] places panels, [`service_overview`] is the dashboard. The binary writes the JSON files that are
//! committed beside it; `tests/` checks them and the hand-written Prometheus files.

pub mod grafana;
pub mod layout;
pub mod queries;
pub mod service_overview;

/// The committed files: path relative to this crate, and content.
///
/// # Panics
/// Never: the types hold nothing that JSON cannot.
#[must_use]
pub fn files() -> Vec<(&'static str, String)> {
    vec![(
        "grafana/service-overview.json",
        to_json(&service_overview::dashboard()),
    )]
}

fn to_json(dashboard: &grafana::Dashboard) -> String {
    let mut text = serde_json::to_string_pretty(dashboard).expect("plain data serialises");
    text.push('\n');
    text
}
