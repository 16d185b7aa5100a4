//! The runner's own view of the service's metrics, and what it missed of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Scrape;
use crate::rig::{Rig, Stop};
use crate::service::Service;

/// Time between scrapes.
const PERIOD: Duration = Duration::from_millis(250);
/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time without a scrape while the service ran.
const GAP_MAX: Duration = Duration::from_secs(5);

/// How well was watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched {
    /// Scrapes that a running service did not answer.
    pub failed: u64,
    /// Longest time without one while it ran.
    pub gap_max: Duration,
}

impl Watched {
    /// What may have been missed.
    pub fn blind_spot(&self) -> Option<String> {
        (self.gap_max > GAP_MAX).then(|| {
            format!(
                "the service's metrics were not read for {:.1} s ({} scrapes failed): what happened in between was not seen",
                self.gap_max.as_secs_f64(),
                self.failed
            )
        })
    }
}

/// Scrapes the current service until `stop` is raised, and notes the governor's changes.
pub async fn watch(rig: Arc<Rig>, scrapes: Arc<Mutex<Vec<Scrape>>>, stop: Stop) -> Watched {
    let mut seen = Watched::default();
    let mut state = None;
    // Process, and when it was seen last; nobody is missed while no service runs.
    let mut last: Option<(u32, Instant)> = None;
    while stop.sleep_until(Instant::now() + PERIOD).await {
        if let Some(now) = rig.latest() {
            rig.exposed.sample(&now);
        }
        let Some(service) = running(&rig) else {
            last = None;
            continue;
        };
        let pid = service.process.id().pid;
        let since = match last {
            Some((of, at)) if of == pid => at,
            _ => Instant::now(),
        };
        let mut admin = service.admin;
        admin.timeout = TIMEOUT;
        let answer = admin.scrape().await;
        if answer.is_err() && running(&rig).is_none() {
            last = None;
            continue;
        }
        seen.gap_max = seen.gap_max.max(since.elapsed());
        let Ok(scrape) = answer else {
            seen.failed += 1;
            last = Some((pid, since));
            continue;
        };
        last = Some((pid, Instant::now()));
        if scrape.governor_state != state && state.is_some() {
            rig.note("governor", governor_word(scrape.governor_state).to_owned());
        }
        state = scrape.governor_state;
        scrapes.lock().push(scrape);
    }
    seen
}

fn running(rig: &Rig) -> Option<Arc<Service>> {
    rig.service()
        .filter(|service| service.process.try_wait().is_none() && !rig.stands_still())
}

/// The governor's state in a word.
pub fn governor_word(state: Option<f64>) -> &'static str {
    match state {
        Some(0.0) => "normal",
        Some(1.0) => "elevated",
        Some(2.0) => "critical",
        _ => "unknown",
    }
}
