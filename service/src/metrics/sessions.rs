//! Sessions and their switches.

use super::label::{By, labels};
use super::registrar::Registrar;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

labels! {
    /// What became of one session's switch.
    SwitchResult("result") {
        Ok = "ok",
        SessionNotFound = "session_not_found",
        FlyweightUnknown = "flyweight_unknown",
        Gone = "gone",
        Shed = "shed",
        BadEntry = "bad_entry",
        Internal = "internal",
    }
}

/// Series of the table of sessions.
#[derive(Debug)]
pub struct SessionMetrics {
    /// Live sessions.
    pub live: Gauge,
    /// Sessions that the configuration allows.
    pub capacity: Gauge,
    /// Switches of a session's background, single and batch.
    pub switches_total: By<SwitchResult, Counter>,
}

impl SessionMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            live: r.gauge("sessions", "Live sessions; at sessions_capacity new ones are refused"),
            capacity: r.gauge(
                "sessions_capacity",
                "Sessions that the configuration allows",
            ),
            switches_total: r.counters("switches", "Background switches by result, one per session and not per batch; more shed or internal: the service fails them; more of the others: they are asked for wrongly"),
        }
    }
}
