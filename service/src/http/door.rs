//! What stands behind the listeners: nothing while the parts are still being made, then the service.
//!
//! Recovery takes its time with many backgrounds. Whoever asks meanwhile gets an answer: that the process is there, that it is not
//! ready, and for everything else when to come again.

use super::problem::{Kind, Problem};
use super::respond::{self, Answer};
use super::routes::{self, Target};
use super::{Service, class_of};
use crate::metrics::{Metrics, Route};
use hyper::Request;
use hyper::body::Incoming;
use std::sync::{Arc, OnceLock};

/// See the file's description.
pub struct Door {
    service: OnceLock<Arc<Service>>,
    metrics: Arc<Metrics>,
}

impl Door {
    /// A closed one.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            service: OnceLock::new(),
            metrics,
        }
    }

    /// Counters of either side of it.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Opens it: from here on `service` answers, and `/readyz` says so.
    pub fn open(&self, service: Arc<Service>) {
        assert!(self.service.set(service).is_ok(), "a start ends once");
    }

    /// Answers one request of the public listener.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        match self.service.get() {
            Some(service) => Arc::clone(service).answer(request).await,
            None => self.starting(&request, None),
        }
    }

    /// Answers one request of the admin listener.
    pub async fn answer_admin(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        match self.service.get() {
            Some(service) => Arc::clone(service).answer_admin(request).await,
            None => self.starting(&request, Some(Route::Admin)),
        }
    }

    fn starting(&self, request: &Request<Incoming>, counted_as: Option<Route>) -> Answer {
        let found = match routes::find(request.method(), request.uri().path()) {
            Target::Route(route, _) => route,
            Target::MethodNotAllowed | Target::NotFound => Route::Unknown,
        };
        let route = counted_as.unwrap_or(found);
        let answer = if found == Route::Health {
            respond::json(respond::ALIVE)
        } else {
            Problem::new(Kind::NotReady, "the service is starting").answer(route, &self.metrics)
        };
        let requests = &self.metrics.http.requests_total;
        requests.of(route, class_of(answer.status())).inc();
        answer
    }
}
