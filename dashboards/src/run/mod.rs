//! A chaos run, asked panel by panel: [`recording`] reads what the runner kept of its metrics, [`prometheus`] is a real one that
//! holds them, [`ask`] asks it every query of every dashboard, [`preview`] draws the answers.

pub mod ask;
pub mod preview;
pub mod prometheus;
pub mod recording;

/// Seconds between scrapes, as the data source says it in `grafana/provisioning`.
pub const SCRAPE_S: u64 = 1;

/// Why a run could not be asked.
#[derive(Debug)]
pub struct RunError(String);

impl RunError {
    /// In words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    /// What was done, and what went wrong.
    pub fn while_doing(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RunError {}
