//! What comes in: requests and connections, uploads, and what was shed.

use super::label::{By, Label, labels};
use super::registrar::{Pairs, Registrar};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

labels! {
    /// Route of a request, by what it does.
    Route("route") {
        SessionCreate = "session_create",
        SessionRead = "session_read",
        SessionDelete = "session_delete",
        SessionSwitch = "session_switch",
        SessionView = "session_view",
        SessionFrame = "session_frame",
        SessionComposite = "session_composite",
        SourcePut = "source_put",
        SourceRead = "source_read",
        SourceDelete = "source_delete",
        SourcePush = "source_push",
        SourceWait = "source_wait",
        BatchCreate = "batch_create",
        BatchRead = "batch_read",
        BatchDelete = "batch_delete",
        BatchSwitch = "batch_switch",
        BackgroundPut = "background_put",
        BackgroundRead = "background_read",
        BackgroundDelete = "background_delete",
        BackgroundList = "background_list",
        Health = "health",
        Ready = "ready",
        OpenApi = "openapi",
        Admin = "admin",
        Unknown = "unknown",
    }
    /// Routes whose time somebody waits for, each by itself, and the rest together: a histogram is seventeen series, and a
    /// route more is worth them only if its time is looked at.
    TimedRoute("route") {
        SessionSwitch = "session_switch",
        BatchSwitch = "batch_switch",
        SessionFrame = "session_frame",
        SessionComposite = "session_composite",
        BatchCreate = "batch_create",
        BatchRead = "batch_read",
        BackgroundPut = "background_put",
        Other = "other",
    }
    /// Class of an answer's status.
    StatusClass("status") { Success = "2xx", Redirection = "3xx", ClientError = "4xx", ServerError = "5xx", }
    /// What became of an upload.
    UploadResult("result") { Ok = "ok", Rejected = "rejected", Shed = "shed", Error = "error", }
    /// Why a request was shed.
    ShedReason("reason") {
        Budget = "budget", Governor = "governor", Queue = "queue", Connections = "connections", Draining = "draining",
    }
}

impl Route {
    /// As which its time is told.
    #[must_use]
    pub fn timed(self) -> TimedRoute {
        match self {
            Self::SessionSwitch => TimedRoute::SessionSwitch,
            Self::BatchSwitch => TimedRoute::BatchSwitch,
            Self::SessionFrame => TimedRoute::SessionFrame,
            Self::SessionComposite => TimedRoute::SessionComposite,
            Self::BatchCreate => TimedRoute::BatchCreate,
            Self::BatchRead => TimedRoute::BatchRead,
            Self::BackgroundPut => TimedRoute::BackgroundPut,
            _ => TimedRoute::Other,
        }
    }
}

/// Bounds of the histogram of requests, in seconds.
const REQUEST_BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0,
];

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

/// One counter for each route and status class.
#[derive(Debug)]
pub struct RequestCounters {
    handles: Box<[Counter]>,
}

impl RequestCounters {
    fn new(r: &mut Registrar) -> Self {
        let sets: Vec<Pairs> = Route::ALL
            .iter()
            .flat_map(|route| StatusClass::ALL.iter().map(move |class| (route, class)))
            .map(|(route, class)| {
                vec![(Route::KEY, route.name()), (StatusClass::KEY, class.name())]
            })
            .collect();
        let make = Counter::default as fn() -> Counter;
        let help = "HTTP requests by route and status class; more 5xx: shed or failed here; more 4xx: asked for wrongly";
        Self {
            handles: r.sets("http_requests", help, make, &sets),
        }
    }

    /// The counter of one route and class.
    #[must_use]
    pub fn of(&self, route: Route, status: StatusClass) -> &Counter {
        &self.handles[route.index() * StatusClass::ALL.len() + status.index()]
    }
}

/// Series of the listeners.
#[derive(Debug)]
pub struct HttpMetrics {
    /// Requests by route and class of status.
    pub requests_total: RequestCounters,
    /// Time from the request's head to the answer's head, in seconds.
    pub request_duration_seconds: By<TimedRoute, Histogram>,
    /// Open connections of the public listener.
    pub connections: Gauge,
    /// Connections of either listener that could not be accepted.
    pub accept_errors_total: Counter,
    /// Uploads by result.
    pub uploads_total: By<UploadResult, Counter>,
    /// Requests refused for load, by reason.
    pub shed_total: By<ShedReason, Counter>,
}

impl HttpMetrics {
    pub(super) fn new(r: &mut Registrar) -> Self {
        Self {
            requests_total: RequestCounters::new(r),
            request_duration_seconds: r.by(
                "http_request_duration_seconds",
                "Time from a request's head to its answer's head; a rise without more requests means waiting: for a worker, a texture or memory",
                request_histogram as fn() -> Histogram,
            ),
            connections: r.gauge(
                "http_connections",
                "Open connections of the public listener; a rise at the same load means that clients do not reuse them",
            ),
            accept_errors_total: r.counter(
                "http_accept_errors",
                "Connections that could not be accepted; a rise means that descriptors or memory of the process have run out",
            ),
            uploads_total: r.counters("uploads", "Uploads by result; more rejected: what is sent is no picture or too large; more shed: no memory or governor critical"),
            shed_total: r.counters("shed", "Requests answered 503 by what was short; any rise means more load than memory, workers or connections allow"),
        }
    }
}
