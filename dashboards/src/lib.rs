//! Grafana dashboards as typed Rust. [`grafana`] is the part of Grafana's Classic (v1) schema that we use, [`queries`] writes
//! PromQL, [`layout`] places panels, [`head`] is what all dashboards share, and each of the others is one dashboard.
//!
//! The binary writes the JSON files that are committed beside it. [`run`] asks every panel about a chaos run, in a real
//! Prometheus, and draws the answers. `tests/` checks the files and the hand-written ones of Prometheus.

pub mod chaos;
pub mod grafana;
pub mod head;
pub mod layout;
pub mod memory;
pub mod overview;
pub mod queries;
pub mod render;
pub mod run;
pub mod simulator;
pub mod words;

/// Every dashboard with its name, in the order of the links.
#[must_use]
pub fn all() -> [(&'static str, grafana::Dashboard); 5] {
    [
        (head::OVERVIEW.name, overview::dashboard()),
        (head::MEMORY.name, memory::dashboard()),
        (head::RENDER.name, render::dashboard()),
        (head::SIMULATOR.name, simulator::dashboard()),
        (head::CHAOS.name, chaos::dashboard()),
    ]
}

/// The committed files: path relative to this crate, and content.
///
/// # Panics
/// Never: the types hold nothing that JSON cannot.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let file = |(name, dashboard): (&str, grafana::Dashboard)| {
        let mut text = serde_json::to_string_pretty(&dashboard).expect("plain data serialises");
        text.push('\n');
        (format!("grafana/dashboards/{name}.json"), text)
    };
    all().map(file).into()
}
