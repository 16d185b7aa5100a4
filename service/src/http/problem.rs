//! The one table of errors: status, public message, metric, and whether to log.
//!
//! Handlers return a [`Problem`]; what the caller sees of it stands here and nowhere else. A detail tells the caller
//! what to mend and never what happened inside.

use super::respond::{self, Answer};
use crate::metrics::{Label, Metrics, Route, ShedReason};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;

/// What the table says about one kind of error.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Machine-readable name, stable.
    pub code: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Public message.
    pub title: &'static str,
    /// Counted as shed for this reason; such answers carry `Retry-After`.
    pub shed: Option<ShedReason>,
    /// Whether an operator must read about it.
    pub log: bool,
}

macro_rules! problems {
    ($($name:ident = $status:literal $code:literal $title:literal $(shed $shed:ident)? $(log $log:literal)?;)+) => {
        /// A kind of error that a caller can meet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $(#[doc = $title] $name,)+ }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)+];

            /// The kind's row.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Kind::$name => Row {
                        code: $code,
                        status: $status,
                        title: $title,
                        shed: problems!(@shed $($shed)?),
                        log: problems!(@log $($log)?),
                    },)+
                }
            }
        }
    };
    (@shed) => { None };
    (@shed $shed:ident) => { Some(ShedReason::$shed) };
    (@log) => { false };
    (@log $log:literal) => { $log };
}

problems! {
    BadRequest = 400 "bad_request" "The request cannot be understood";
    BadBatch = 400 "bad_batch" "The batch body is not well-formed";
    Unauthorized = 401 "unauthorized" "The bearer token is missing or unknown";
    Forbidden = 403 "forbidden" "The token lacks the role that this needs";
    NotFound = 404 "not_found" "There is nothing at this address";
    SessionNotFound = 404 "session_not_found" "There is no such session";
    BackgroundNotFound = 404 "background_not_found" "There is no such background";
    NoBackground = 404 "no_background" "The session has no background";
    SourceNotFound = 404 "source_not_found" "The session has no source but its image";
    NotBuiltWithFailpoints = 404 "not_built_with_failpoints" "This build has no failpoints";
    ProfilingOff = 404 "profiling_off" "Heap profiling is not on";
    MethodNotAllowed = 405 "method_not_allowed" "The address does not take this method";
    NotAcceptable = 406 "not_acceptable" "None of the accepted formats can be made";
    BodyTimeout = 408 "body_timeout" "The body did not arrive in time";
    StaleEpoch = 409 "stale_epoch" "The catalogue epoch is not the present one";
    CatalogueFull = 409 "catalogue_full" "The catalogue takes no more backgrounds";
    NotAStream = 409 "not_a_stream" "The session's source takes no frames";
    Gone = 410 "gone" "The background was removed";
    PreconditionFailed = 412 "precondition_failed" "The background has another version";
    BodyTooLarge = 413 "body_too_large" "The body is larger than allowed";
    BatchTooLarge = 413 "batch_too_large" "The batch has more entries than allowed";
    PictureTooLarge = 413 "picture_too_large" "The picture is larger than allowed";
    AddressTooLong = 414 "address_too_long" "The address is longer than allowed";
    UnsupportedMedia = 415 "unsupported_media" "The body is of no kind that is taken here";
    BrokenPicture = 422 "broken_picture" "The picture cannot be decoded";
    OutOfRange = 422 "out_of_range" "A value lies outside its range";
    HeadTooLarge = 431 "head_too_large" "The request's head is larger than allowed";
    Internal = 500 "internal" "The service failed" log true;
    LoadFailed = 502 "load_failed" "The background could not be loaded" log true;
    BudgetExhausted = 503 "budget_exhausted" "No memory can be reserved for this now" shed Budget;
    SessionsFull = 503 "sessions_full" "The table of sessions is full" shed Budget;
    SourcesFull = 503 "sources_full" "There are as many sources as may be" shed Budget;
    MemoryCritical = 503 "memory_critical" "Memory is critically short" shed Governor;
    QueueFull = 503 "queue_full" "Too much work is waiting" shed Queue;
    Timeout = 503 "timeout" "The answer was not ready in time" shed Queue;
    TooManyConnections = 503 "too_many_connections" "Too many connections are open" shed Connections;
    Draining = 503 "draining" "The service is about to stop" shed Draining;
    NotReady = 503 "not_ready" "The service is not ready";
    DeadlineExceeded = 504 "deadline_exceeded" "It was not ready before its deadline and was given up";
    OutcomeUnknown = 504 "outcome_unknown" "It is not known yet whether this was done" log true;
}

/// Seconds that a shed caller is asked to wait.
pub const RETRY_AFTER_SECONDS: &str = "1";

/// An error on its way to the caller.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    /// Present epoch, for a caller with a stale one.
    epoch: Option<u64>,
    /// What happened inside: for the log, never for the caller.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with a sentence that says what to mend.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            epoch: None,
            cause: None,
        }
    }

    /// A failure of the service itself, which the caller can do nothing about.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::from(Kind::Internal).because(cause)
    }

    /// The same with what it stems from, which the log is told and the caller is not.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The caller's epoch is not `epoch`.
    #[must_use]
    pub fn stale_epoch(epoch: u64) -> Self {
        let detail = "list the backgrounds again and use the indices of the new epoch";
        Self {
            kind: Kind::StaleEpoch,
            detail: detail.into(),
            epoch: Some(epoch),
            cause: None,
        }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the caller is told to mend.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer that a caller of `route` gets; counts and logs as the table says. Nothing else logs a request's failure.
    #[must_use]
    pub fn answer(&self, route: Route, metrics: &Metrics) -> Answer {
        let row = self.kind.row();
        let (code, route, detail) = (row.code, route.name(), &self.detail);
        let cause = self.cause.as_deref().map(tracing::field::display);
        if row.log {
            tracing::error!(route, code, %detail, cause, "request failed");
        } else {
            tracing::debug!(route, code, %detail, cause, "request refused");
        }
        if let Some(reason) = row.shed {
            metrics.http.shed_total.of(reason).inc();
        }
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = respond::full(status, respond::PROBLEM_JSON, self.body(&row));
        if row.status == 503 {
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if row.status == 401 {
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }

    /// The whole answer as text, for where no request was understood and the connection ends with it.
    #[must_use]
    pub fn closing_text(&self) -> String {
        let row = self.kind.row();
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = self.body(&row);
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn body(&self, row: &Row) -> String {
        let mut body = format!(
            r#"{{"type":"about:blank","title":{},"status":{},"detail":{},"code":"{}""#,
            respond::json_string(row.title),
            row.status,
            respond::json_string(&self.detail),
            row.code
        );
        if let Some(epoch) = self.epoch {
            let _infallible = write!(body, r#","epoch":"{epoch}""#);
        }
        body.push_str("}\n");
        body
    }
}

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Self::new(kind, kind.row().title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_and_statuses_are_errors() {
        let codes: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.row().code).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(
            Kind::ALL
                .iter()
                .all(|kind| (400..600).contains(&kind.row().status))
        );
    }

    #[test]
    fn a_shed_answer_says_when_to_come_again_and_is_counted() {
        let metrics = Metrics::default();
        let answer = Problem::from(Kind::BudgetExhausted).answer(Route::BackgroundPut, &metrics);
        assert_eq!(answer.headers()[RETRY_AFTER], RETRY_AFTER_SECONDS);
        assert_eq!(metrics.http.shed_total.of(ShedReason::Budget).get(), 1);
    }

    #[test]
    fn a_cause_is_not_told_to_the_caller() {
        let problem = Problem::internal("disk on fire");
        assert!(!problem.body(&problem.kind.row()).contains("fire"));
        assert!(format!("{problem:?}").contains("fire"));
    }

    #[test]
    fn bodies_are_json_also_with_quotes_in_the_detail() {
        for problem in [
            Problem::new(Kind::BadRequest, "a \"b\" \n c"),
            Problem::stale_epoch(7),
        ] {
            let body = problem.body(&problem.kind.row());
            let json: serde_json::Value = serde_json::from_str(&body).expect("json");
            assert_eq!(json["code"], problem.kind.row().code);
            assert_eq!(json["detail"], *problem.detail);
        }
        assert!(
            Problem::stale_epoch(7)
                .body(&Kind::StaleEpoch.row())
                .contains(r#""epoch":"7""#)
        );
    }
}
