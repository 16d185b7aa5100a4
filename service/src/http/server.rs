//! The accept loop: connections within their number, each with its limits, all of them told when the service drains.
//!
//! It knows nothing of routes: what answers a request is a function.

use super::admission::{STREAMS_MAX, WINDOW_BYTES};
use super::io::{Ending, IdleTimeout};
use super::limits::HttpConfig;
use super::problem::{Kind, Problem};
use super::respond::Answer;
use crate::metrics::{Metrics, ShedReason};
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections that may be told at once that there are too many; beyond it they are closed without a word.
const REFUSALS_MAX: usize = 64;
/// Time that telling them may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that they send are thrown away so many at a time.
const REFUSAL_SCRATCH_BYTES: usize = 2048;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Wait after an accept failed, which mostly means that descriptors ran out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(20);

const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
retry-after: 1\r\nconnection: close\r\ncontent-length: 137\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Too many connections are open\",\"status\":503,\
\"detail\":\"connect again later\",\"code\":\"too_many_connections\"}\n";

/// Accepts and serves connections until told to drain.
#[derive(Debug)]
pub struct Server {
    config: HttpConfig,
    metrics: Arc<Metrics>,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    builder: Builder<TokioExecutor>,
    counted: bool,
}

/// What keeps connections from being accepted: logged when it begins, changes and ends, since it comes fifty times a second.
#[derive(Debug, Default)]
struct Trouble(Option<std::io::ErrorKind>);

impl Trouble {
    /// Takes note of how an accept ended; whether that was news.
    fn note(&mut self, error: Option<&std::io::Error>) -> bool {
        let now = error.map(std::io::Error::kind);
        let before = std::mem::replace(&mut self.0, now);
        match error {
            _ if before == now => return false,
            Some(error) => tracing::warn!(%error, "connections cannot be accepted"),
            None => tracing::info!("connections are accepted again"),
        }
        true
    }
}

/// Counts one open connection while it lives.
struct Open {
    gauge: Option<Gauge>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(gauge: Option<Gauge>, permit: OwnedSemaphorePermit) -> Self {
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self {
            gauge,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}

fn builder(config: &HttpConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(config.header_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(config.stream_header_bytes_max())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(config.idle_timeout / 3)
        .keep_alive_timeout(config.header_timeout);
    builder
}

impl Server {
    /// A server with these limits.
    #[must_use]
    pub fn new(config: HttpConfig, metrics: Arc<Metrics>) -> Self {
        let connections = Arc::new(Semaphore::new(config.connections_max));
        let builder = builder(&config);
        Self {
            config,
            metrics,
            connections,
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            builder,
            counted: true,
        }
    }

    /// A server whose connections are not in the metric.
    #[must_use]
    pub fn uncounted(config: HttpConfig, metrics: Arc<Metrics>) -> Self {
        Self {
            counted: false,
            ..Self::new(config, metrics)
        }
    }

    /// Serves `listener` with `answer` until `drain` turns true; then stops accepting, lets requests in flight end,
    /// and returns whether all connections closed within the drain's time.
    pub async fn run<F, R>(
        &self,
        listener: TcpListener,
        answer: F,
        mut drain: watch::Receiver<bool>,
    ) -> bool
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let told_later = drain.clone();
        let mut trouble = Trouble::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = told(&mut drain) => break,
                accepted = listener.accept() => accepted,
            };
            trouble.note(accepted.as_ref().err());
            match accepted {
                Ok((stream, _)) => self.admit(stream, answer.clone(), told_later.clone()),
                Err(_) => {
                    self.metrics.http.accept_errors_total.inc();
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
        drop(listener);
        let all = u32::try_from(self.config.connections_max).unwrap_or(u32::MAX);
        tokio::time::timeout(
            self.config.drain_timeout,
            self.connections.acquire_many(all),
        )
        .await
        .is_ok()
    }

    fn admit<F, R>(&self, stream: TcpStream, answer: F, drain: watch::Receiver<bool>)
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            self.metrics
                .http
                .shed_total
                .of(ShedReason::Connections)
                .inc();
            self.refuse(stream);
            return;
        };
        let gauge = self.counted.then(|| self.metrics.http.connections.clone());
        let open = Open::new(gauge, permit);
        // Answers are small: waiting to fill a segment costs more than it saves. Failing to set it is harmless.
        drop(stream.set_nodelay(true));
        let unread = Arc::new(AtomicBool::new(false));
        let ending = Ending {
            unread: Arc::clone(&unread),
            time_max: self.config.linger_timeout,
            bytes_max: self.config.body_bytes_max,
            rewrite: head_problem,
        };
        let io = TokioIo::new(IdleTimeout::new(stream, self.config.idle_timeout, ending));
        let service = service_fn(move |request: Request<Incoming>| {
            let has_body = !request.body().is_end_stream();
            let unread = Arc::clone(&unread);
            let answered = answer(request);
            async move {
                let answer = answered.await;
                if has_body {
                    // Whether it was read does not show; where it was not, the answer is an error.
                    let refused =
                        answer.status().is_client_error() || answer.status().is_server_error();
                    unread.store(refused, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = self.builder.serve_connection(io, service).into_owned();
        tokio::spawn(serve(connection, open, drain));
    }

    fn refuse(&self, mut stream: TcpStream) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else {
            return;
        };
        tokio::spawn(async move {
            let _permit = permit;
            let telling = async {
                stream.write_all(REFUSAL).await?;
                stream.shutdown().await?;
                // Closed with a request unread, the connection would be reset and the answer lost.
                let mut scratch = [0; REFUSAL_SCRATCH_BYTES];
                while stream.read(&mut scratch).await? > 0 {}
                Ok::<_, std::io::Error>(())
            };
            drop(tokio::time::timeout(REFUSAL_TIMEOUT, telling).await);
        });
    }
}

/// What hyper answers to a head that it does not understand has no body, and is nobody's to change before it is written: here its
/// problem takes its place. Answers of ours are told apart by having a body.
fn head_problem(written: &[u8]) -> Option<String> {
    let status = written.strip_prefix(b"HTTP/1.1 4")?.first_chunk::<3>()?;
    let (kind, detail) = match status {
        b"00 " => (Kind::BadRequest, "the request's head is not well-formed"),
        b"14 " => (Kind::AddressTooLong, "ask for a shorter address"),
        b"31 " => (Kind::HeadTooLarge, "send fewer or shorter headers"),
        _ => return None,
    };
    let head = std::str::from_utf8(written).ok()?;
    let bodiless = head.ends_with("\r\n\r\n") && head.contains("\r\ncontent-length: 0\r\n");
    bodiless.then(|| Problem::new(kind, detail).closing_text())
}

/// Waits until the drain is announced, or its announcer is gone.
async fn told(drain: &mut watch::Receiver<bool>) {
    drop(drain.wait_for(|draining| *draining).await);
}

type Connection<S> = hyper_util::server::conn::auto::Connection<
    'static,
    TokioIo<IdleTimeout<TcpStream>>,
    S,
    TokioExecutor,
>;

async fn serve<S>(connection: Connection<S>, open: Open, mut drain: watch::Receiver<bool>)
where
    S: hyper::service::Service<Request<Incoming>, Response = Answer, Error = Infallible>
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    let _open = open;
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told(&mut drain) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_refused_by_hyper_get_their_problem_and_answers_of_ours_are_left_alone() {
        let text = head_problem(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        );
        assert!(text.is_some_and(|text| text.contains("\"code\":\"head_too_large\"")));
        for left_alone in [
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n{}",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(head_problem(left_alone.as_bytes()), None, "{left_alone}");
        }
    }

    #[test]
    fn failures_to_accept_are_news_only_when_they_change() {
        use std::io::{Error, ErrorKind};
        let (one, other) = (
            Error::from(ErrorKind::OutOfMemory),
            Error::from(ErrorKind::ConnectionAborted),
        );
        let mut trouble = Trouble::default();
        let course = [None, Some(&one), Some(&one), Some(&other), None, None];
        let news = course.map(|error| trouble.note(error));
        assert_eq!(news, [false, true, false, true, true, false]);
    }

    #[test]
    fn the_refusal_states_its_own_length() {
        let text = std::str::from_utf8(REFUSAL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let stated = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .expect("a length");
        assert_eq!(stated.parse(), Ok(body.len()));
        let json: serde_json::Value = serde_json::from_str(body).expect("json");
        assert_eq!(json["code"], "too_many_connections");
    }
}
