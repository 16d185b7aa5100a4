//! The public and the admin listener: who may ask what, and in which form it is answered.
//!
//! Handlers translate between bytes and the parts below; they hold no state but [`Service`]. Routing is a match on bytes
//! and the path of a batch of switches has no boxed layer, no log line and no allocation for an entry.

pub mod admin;
pub mod admission;
pub mod auth;
pub mod backgrounds;
pub mod batch;
pub mod body;
pub mod composite;
pub mod door;
pub mod exposition;
pub mod frame;
pub mod io;
pub mod limits;
mod multipart;
mod overlay;
mod owned;
pub mod problem;
pub mod query;
pub mod respond;
pub mod routes;
pub mod server;
pub mod session;
pub mod source;

use crate::flyweight::Flyweights;
use crate::frames::{Frames, Sources};
use crate::memory::{Arena, Budget, Memory};
use crate::metrics::{Metrics, Route, StatusClass};
use crate::sessions::Sessions;
use crate::sessions::exclusive::Exclusive;
use auth::{Auth, Caller};
use batch::Operation;
use body::Intake;
use exposition::Expositions;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use limits::HttpConfig;
use problem::{Kind, Problem};
use query::Query;
use respond::Answer;
use routes::Target;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The API document, as `/openapi.json` serves it.
pub const OPENAPI: &str = include_str!("openapi.json");

/// All that handlers work with. Wired in `app`.
pub struct Service {
    /// Bounds.
    pub config: HttpConfig,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who calls.
    pub auth: Auth,
    /// The table of sessions.
    pub sessions: Sessions,
    /// Textures of sessions that own theirs; none when textures are shared.
    pub exclusive: Option<Exclusive>,
    /// Backgrounds.
    pub flyweights: Arc<Flyweights>,
    /// Frames.
    pub frames: Frames,
    /// What stands behind sessions with more than an image.
    pub sources: Arc<Sources>,
    /// Memory as watched.
    pub memory: Arc<Memory>,
    /// Memory as reserved.
    pub budget: Arc<Budget>,
    /// Where pixels are, for its figures.
    pub pixels: Arc<Arena>,
    /// Where bodies are put.
    pub intake: Intake,
    /// Metrics on their way to whoever asked.
    pub expositions: Expositions,
    /// Set when the service is told to stop and serves on for a while: not ready, but answering.
    pub leaving: AtomicBool,
    /// Set when no more work is taken.
    pub draining: AtomicBool,
}

const fn class_of(status: StatusCode) -> StatusClass {
    match status.as_u16() {
        ..300 => StatusClass::Success,
        300..400 => StatusClass::Redirection,
        400..500 => StatusClass::ClientError,
        500.. => StatusClass::ServerError,
    }
}

impl Service {
    /// Answers one request of the public listener. Its parts have their own times: reading the body, waiting for
    /// memory, drawing a frame, and [`Service::in_time`] for the rest.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let (route, handled) = match routes::find(&parts.method, parts.uri.path()) {
            Target::Route(route, part) => {
                let handled = self.handle(route, part, &parts, body).await;
                (route, handled)
            }
            Target::MethodNotAllowed => (Route::Unknown, Err(Kind::MethodNotAllowed.into())),
            Target::NotFound => (Route::Unknown, Err(Kind::NotFound.into())),
        };
        let answer =
            handled.unwrap_or_else(|problem| self.refuse(&problem, route, parts.uri.path()));
        self.metrics
            .http
            .requests_total
            .of(route, class_of(answer.status()))
            .inc();
        self.metrics
            .http
            .request_duration_seconds
            .of(route.timed())
            .observe(start.elapsed().as_secs_f64());
        answer
    }

    /// Does the work of a request within its time, which starts once the body was read: a slow sender must neither eat
    /// the time of the work nor lend it his own.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        tokio::time::timeout(self.config.request_timeout, work)
            .await
            .unwrap_or_else(|_| Err(Kind::Timeout.into()))
    }

    /// Makes a change of the store within a request's time. While `begin` waits for its turn, that time ends it and nothing was done.
    /// What it returns is under way and cannot be taken back: once the time is over, the caller is told that he does not know.
    async fn change_in_time<T, C: Future<Output = Result<T, Problem>>>(
        &self,
        begin: impl Future<Output = Result<C, Problem>>,
    ) -> Result<T, Problem> {
        let until = tokio::time::Instant::now() + self.config.request_timeout;
        let begun = tokio::time::timeout_at(until, begin).await;
        let change = begun.unwrap_or_else(|_| Err(Kind::Timeout.into()))?;
        tokio::time::timeout_at(until, change)
            .await
            .unwrap_or_else(|_| {
                let detail =
                    "it is still being made durable: read the background to see what became of it";
                Err(Problem::new(Kind::OutcomeUnknown, detail))
            })
    }

    fn refuse(&self, problem: &Problem, route: Route, path: &str) -> Answer {
        let mut answer = problem.answer(route, &self.metrics);
        if problem.kind() == Kind::MethodNotAllowed {
            answer.headers_mut().insert(ALLOW, allowed(path));
        }
        answer
    }

    async fn handle(
        self: &Arc<Self>,
        route: Route,
        part: &str,
        parts: &Parts,
        body: Incoming,
    ) -> Result<Answer, Problem> {
        if routes::is_probe(route) {
            return self.probe(route);
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err(Kind::Draining.into());
        }
        let caller = self.auth.caller(&parts.headers)?;
        let query = Query::of(&parts.uri, routes::parameters(route))?;
        let operation = match route {
            Route::BatchSwitch => Operation::Switch,
            Route::BatchRead => Operation::Read,
            Route::BatchCreate => Operation::Create,
            Route::BatchDelete => Operation::Delete,
            Route::SessionSwitch => return session::switch(self, caller, part, body).await,
            // Larger futures are boxed, so that the hot ones stay small.
            _ => {
                return Box::pin(self.handle_rarer(route, part, parts, query, body, caller)).await;
            }
        };
        batch::answer(self, operation, caller, parts, body).await
    }

    async fn handle_rarer(
        self: &Arc<Self>,
        route: Route,
        part: &str,
        parts: &Parts,
        query: Query<'_>,
        body: Incoming,
        caller: Caller,
    ) -> Result<Answer, Problem> {
        match route {
            Route::SessionCreate => session::create(self, caller, body).await,
            Route::SessionRead => session::read(self, caller, part),
            Route::SessionDelete => session::delete(self, caller, part),
            Route::SessionView => session::patch_view(self, caller, part, body).await,
            // Its deadline is handed down, so that a late frame is told apart by what was late.
            Route::SessionFrame => frame::preview(self, caller, part, parts, query).await,
            Route::SessionComposite => {
                composite::composite(self, caller, part, parts, query, body).await
            }
            Route::SourcePut => source::put(self, caller, part, body).await,
            Route::SourceRead => source::read(self, caller, part),
            Route::SourceDelete => source::delete(self, caller, part),
            Route::SourcePush => source::push(self, caller, part, parts, query, body).await,
            Route::SourceWait => source::wait(self, caller, part, query).await,
            Route::BackgroundPut => backgrounds::put(self, caller, part, parts, query, body).await,
            Route::BackgroundRead => self.in_time(backgrounds::read(self, part, parts)).await,
            Route::BackgroundDelete => {
                backgrounds::delete(self, caller, part, &parts.headers).await
            }
            Route::BackgroundList => self.in_time(backgrounds::list(self, parts, query)).await,
            _ => Err(Kind::NotFound.into()),
        }
    }

    fn probe(&self, route: Route) -> Result<Answer, Problem> {
        match route {
            Route::Ready
                if self.draining.load(Ordering::Relaxed)
                    || self.leaving.load(Ordering::Relaxed) =>
            {
                Err(Problem::new(Kind::NotReady, "the service is draining"))
            }
            Route::OpenApi => Ok(respond::json(OPENAPI)),
            _ => Ok(respond::json(respond::ALIVE)),
        }
    }
}

/// Methods that a path takes, for `Allow`.
fn allowed(path: &str) -> HeaderValue {
    use hyper::Method;
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let taken = methods
        .iter()
        .filter(|method| matches!(routes::find(method, path), Target::Route(..)));
    let names: Vec<&str> = taken.map(Method::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_methods_a_path_takes() {
        assert_eq!(allowed("/v1/backgrounds/a"), "GET, HEAD, PUT, DELETE");
        assert_eq!(allowed("/v1/sessions:batchSwitch"), "POST");
    }
}
