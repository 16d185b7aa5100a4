//! One HTTP/1.1 connection to the service: connect, send, time out, reconnect.
//!
//! Raw hyper, because a request through a full client costs six times as much. The error says whether the request
//! may have been applied ([`CallError::may_have_applied`]): the truth checker needs nothing more. Knows neither
//! sessions nor schedules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::wire::SMALL_ANSWER_BYTES;

/// Body of every request.
pub type Body = Full<Bytes>;

/// Where the service is and how it is spoken to.
#[derive(Debug)]
pub struct Target {
    url: String,
    address: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    counters: Counters,
}

/// Connections and requests, counted over all lanes.
#[derive(Debug, Default)]
struct Counters {
    opened: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
    requests: AtomicU64,
}

/// A URL or token that cannot be used.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Not `http://host[:port]`.
    #[error(
        "--url {url:?} is not usable: {why}; give the service's address, such as http://127.0.0.1:7080"
    )]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a header value.
    #[error("the token holds characters that a header cannot carry")]
    Token,
}

/// A request without an answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// Nothing listens, or the connection was refused.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection was closed before the request left.
    #[error("the connection was closed before the request was sent")]
    NotSent,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke after the request was sent.
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    /// What answers does not answer like the service: the rest was not read.
    #[error(
        "the answer is longer than the {bytes_max} bytes that this request may be answered with"
    )]
    TooLong {
        /// Bytes that it may have.
        bytes_max: usize,
    },
}

impl CallError {
    /// Whether the service may have applied the request, now or later.
    pub fn may_have_applied(&self) -> bool {
        match self {
            CallError::Connect(_) | CallError::NotSent => false,
            CallError::Timeout | CallError::Broken(_) | CallError::TooLong { .. } => true,
        }
    }

    /// Name in the report.
    pub fn name(&self) -> &'static str {
        match self {
            CallError::Connect(_) | CallError::NotSent => "connection",
            CallError::Timeout => "timeout",
            CallError::Broken(_) => "connection_broken",
            CallError::TooLong { .. } => "answer_too_long",
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// When the request was handed to the connection.
    pub sent: Instant,
    /// When the last byte was there.
    pub done: Instant,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The `code` of a problem+json body.
    pub fn problem_code(&self) -> Option<String> {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        problem["code"].as_str().map(str::to_owned)
    }
}

impl Target {
    /// Checks URL and token.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, TargetError> {
        let wrong = |why| TargetError::Url {
            url: url.to_owned(),
            why,
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it does not parse"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only plain http:// is spoken"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let host = uri.host().ok_or_else(|| wrong("it has no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let authorization = token
            .map(|token| HeaderValue::from_str(&format!("Bearer {token}")))
            .transpose()
            .map_err(|_| TargetError::Token)?;
        Ok(Target {
            url: url.trim_end_matches('/').to_owned(),
            address: format!("{host}:{port}"),
            host: HeaderValue::from_str(&format!("{host}:{port}"))
                .map_err(|_| wrong("its host is no header"))?,
            authorization,
            counters: Counters::default(),
        })
    }

    /// The URL as given.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Requests sent so far.
    pub fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Connections opened so far, and the most open at one time.
    pub fn connections(&self) -> (u64, u64) {
        (
            self.counters.opened.load(Ordering::Relaxed),
            self.counters.open_max.load(Ordering::Relaxed),
        )
    }
}

/// A request before it has a host: method, path, content type, body.
#[derive(Debug, Clone)]
pub struct Call {
    /// Method.
    pub method: hyper::Method,
    /// Path and query.
    pub path: Uri,
    /// Content type of the body; the service answers a batch in the form it was asked in, whatever is accepted.
    pub content_type: Option<HeaderValue>,
    /// The one version that the request is for.
    pub if_match: Option<HeaderValue>,
    /// Body.
    pub body: Bytes,
    /// Bytes that the body of the answer may have; of a longer one nothing is kept.
    pub answer_bytes_max: usize,
}

impl Call {
    /// A `GET` whose answer may have so many bytes.
    pub fn get(path: Uri, answer_bytes_max: usize) -> Self {
        Call {
            method: hyper::Method::GET,
            path,
            content_type: None,
            if_match: None,
            body: Bytes::new(),
            answer_bytes_max,
        }
    }

    /// A `DELETE` of this version and no other.
    pub fn delete(path: Uri, version: HeaderValue) -> Self {
        Call {
            method: hyper::Method::DELETE,
            if_match: Some(version),
            ..Call::get(path, SMALL_ANSWER_BYTES)
        }
    }
}

/// One connection, opened when it is first needed and again after it failed.
#[derive(Debug)]
pub struct Lane {
    target: Arc<Target>,
    timeout: Duration,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    sender: SendRequest<Body>,
    connection: tokio::task::JoinHandle<()>,
    target: Arc<Target>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closes the socket at once: after a timeout nothing may answer on it.
        self.connection.abort();
        self.target.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lane {
    /// A lane that is not connected yet.
    pub fn new(target: Arc<Target>, timeout: Duration) -> Self {
        Lane {
            target,
            timeout,
            link: None,
        }
    }

    /// Sends a request and waits for its whole answer, at most the lane's timeout.
    pub async fn call(&mut self, call: Call) -> Result<Answer, CallError> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let result = match tokio::time::timeout_at(deadline, self.exchange(call)).await {
            Ok(result) => result,
            // A connect that hangs was never sent.
            Err(_) if self.link.is_none() => {
                Err(CallError::Connect(io::ErrorKind::TimedOut.into()))
            }
            Err(_) => Err(CallError::Timeout),
        };
        if result.is_err() {
            self.link = None;
        }
        result
    }

    async fn exchange(&mut self, call: Call) -> Result<Answer, CallError> {
        let bytes_max = call.answer_bytes_max;
        let request = self.request(call);
        // An idle connection that the service closed meanwhile is worth one more try: nothing was sent on it.
        let stale = self
            .link
            .as_ref()
            .is_some_and(|link| link.sender.is_closed());
        if stale {
            self.link = None;
        }
        match self.try_once(request, bytes_max).await {
            Err((CallError::NotSent, Some(request))) => {
                self.link = None;
                let again = self.try_once(request, bytes_max).await;
                again.map_err(|(error, _)| error)
            }
            other => other.map_err(|(error, _)| error),
        }
    }

    fn request(&self, call: Call) -> Request<Body> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.path;
        let headers = request.headers_mut();
        headers.insert(HOST, self.target.host.clone());
        if let Some(authorization) = &self.target.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(content_type) = call.content_type {
            headers.insert(hyper::header::CONTENT_TYPE, content_type);
        }
        if let Some(version) = call.if_match {
            headers.insert(hyper::header::IF_MATCH, version);
        }
        request
    }

    async fn try_once(
        &mut self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<Answer, (CallError, Option<Request<Body>>)> {
        let link = match self.link.take() {
            Some(link) => link,
            None => connect(&self.target).await.map_err(|error| (error, None))?,
        };
        let link = self.link.insert(link);
        if let Err(error) = link.sender.ready().await {
            drop(error);
            return Err((CallError::NotSent, Some(request)));
        }
        self.target
            .counters
            .requests
            .fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let response =
            link.sender
                .try_send_request(request)
                .await
                .map_err(|mut error| match error.take_message() {
                    Some(request) => (CallError::NotSent, Some(request)),
                    None => (CallError::Broken(error.into_error()), None),
                })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body
            .map_err(|error| (cut_off(error, bytes_max), None))?
            .to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            sent,
            done: Instant::now(),
        })
    }
}

/// Why a body was not read to its end: the connection's error, else the limit's.
fn cut_off(error: Box<dyn std::error::Error + Send + Sync>, bytes_max: usize) -> CallError {
    match error.downcast::<hyper::Error>() {
        Ok(error) => CallError::Broken(*error),
        Err(_) => CallError::TooLong { bytes_max },
    }
}

async fn connect(target: &Arc<Target>) -> Result<Link, CallError> {
    let stream = TcpStream::connect(&target.address)
        .await
        .map_err(CallError::Connect)?;
    stream.set_nodelay(true).map_err(CallError::Connect)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(CallError::Broken)?;
    let counters = &target.counters;
    counters.opened.fetch_add(1, Ordering::Relaxed);
    let open = counters.open.fetch_add(1, Ordering::Relaxed) + 1;
    counters.open_max.fetch_max(open, Ordering::Relaxed);
    let connection = tokio::spawn(async move {
        // How it ended reaches the sender as an error of its request.
        let _ = connection.await;
    });
    Ok(Link {
        sender,
        connection,
        target: target.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const TEN_BYTES: [&str; 2] = [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ];

    /// What a lane makes of an answer that may have so many bytes.
    async fn answered(answer: &'static str, bytes_max: usize) -> Result<Answer, CallError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        });
        let target = Arc::new(Target::new(&url, None).unwrap());
        let mut lane = Lane::new(target, Duration::from_secs(10));
        let result = lane
            .call(Call::get(Uri::from_static("/x"), bytes_max))
            .await;
        drop(served.await.unwrap());
        result
    }

    #[tokio::test]
    async fn an_answer_has_as_many_bytes_as_it_may_and_no_more() {
        for text in TEN_BYTES {
            assert_eq!(answered(text, 10).await.unwrap().body, "0123456789");
            let error = answered(text, 9).await.unwrap_err();
            assert!(
                matches!(error, CallError::TooLong { bytes_max: 9 }),
                "{error}"
            );
            assert!(error.may_have_applied() && error.to_string().contains("9 bytes"));
        }
    }

    #[test]
    fn urls_are_checked() {
        assert!(Target::new("http://127.0.0.1:7080", None).is_ok());
        assert!(Target::new("http://127.0.0.1:7080/", Some("s3cret")).is_ok());
        for url in ["https://x", "127.0.0.1:1", "http://x/y", "nonsense"] {
            assert!(
                matches!(Target::new(url, None), Err(TargetError::Url { .. })),
                "{url}"
            );
        }
        assert!(matches!(
            Target::new("http://x", Some("a\nb")),
            Err(TargetError::Token)
        ));
    }
}
