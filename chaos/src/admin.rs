//! The runner's own HTTP: public and admin listener of the service, one short connection per request, every one bounded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::lru::{self, Accesses};
use crate::metrics::{Exposition, Scrape};
use crate::units;

/// Largest answer taken; an access record of 8 million entries fits.
const ANSWER_BYTES_MAX: usize = 96 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("{addr}: {what}")]
    Connection {
        /// Peer.
        addr: SocketAddr,
        /// In words.
        what: String,
    },
    /// No answer in time.
    #[error("{addr}: no answer to {path} within {within:?}")]
    Timeout {
        /// Peer.
        addr: SocketAddr,
        /// Path asked for.
        path: String,
        /// Time allowed.
        within: Duration,
    },
    /// An answer that is not what was asked for.
    #[error("{path} answered {status}: {what}")]
    Answer {
        /// Path asked for.
        path: String,
        /// Status.
        status: u16,
        /// In words.
        what: String,
    },
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Content type, empty without one.
    pub content_type: String,
    /// Body.
    pub body: Bytes,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
}

impl Answer {
    /// 2xx.
    #[must_use]
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Code of a problem+json; none if the answer is none or has none.
    #[must_use]
    pub fn problem_code(&self) -> Option<String> {
        if !self.content_type.starts_with("application/problem+json") {
            return None;
        }
        serde_json::from_slice::<Problem>(&self.body)
            .ok()
            .map(|p| p.code)
            .filter(|c| !c.is_empty())
    }
}

/// One listener of the service.
#[derive(Debug, Clone, Copy)]
pub struct Listener {
    /// Address.
    pub addr: SocketAddr,
    /// Time allowed for a request, connection included.
    pub timeout: Duration,
}

impl Listener {
    /// A listener with the usual bound.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            timeout: Duration::from_secs(5),
        }
    }

    /// GET.
    ///
    /// # Errors
    /// No answer in time; an answer of any status is none.
    pub async fn get(&self, path: &str) -> Result<Answer, HttpError> {
        self.send(Method::GET, path, "", Bytes::new()).await
    }

    /// Any request.
    ///
    /// # Errors
    /// No answer in time; an answer of any status is none.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let request = self.exchange(method, path, content_type, body);
        tokio::time::timeout(self.timeout, request)
            .await
            .unwrap_or_else(|_| {
                Err(HttpError::Timeout {
                    addr: self.addr,
                    path: path.to_owned(),
                    within: self.timeout,
                })
            })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let broken = |e: &dyn std::fmt::Display| HttpError::Connection {
            addr: self.addr,
            what: e.to_string(),
        };
        let stream = TcpStream::connect(self.addr)
            .await
            .map_err(|e| broken(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| broken(&e))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.addr.to_string());
        request = request.header("connection", "close");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Full::new(body)).map_err(|e| broken(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = answer.status().as_u16();
        let content_type = answer
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| broken(&e))?
            .to_bytes();
        driver.abort();
        Ok(Answer {
            status,
            content_type,
            body,
        })
    }

    async fn expect_ok(&self, path: &str) -> Result<Bytes, HttpError> {
        let answer = self.get(path).await?;
        if answer.ok() {
            return Ok(answer.body);
        }
        let what = answer
            .problem_code()
            .unwrap_or_else(|| "no problem+json".to_owned());
        Err(HttpError::Answer {
            path: path.to_owned(),
            status: answer.status,
            what,
        })
    }

    async fn json<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, HttpError> {
        let body = self.expect_ok(path).await?;
        serde_json::from_slice(&body).map_err(|e| HttpError::Answer {
            path: path.to_owned(),
            status: 200,
            what: e.to_string(),
        })
    }

    /// Scrapes `/metrics`.
    ///
    /// # Errors
    /// No answer, or not 2xx.
    pub async fn scrape(&self) -> Result<Scrape, HttpError> {
        let body = self.expect_ok("/metrics").await?;
        Ok(Scrape::of(
            units::unix_ms_now(),
            &Exposition::parse(&String::from_utf8_lossy(&body)),
        ))
    }

    /// `/debug/memory`.
    ///
    /// # Errors
    /// No answer, not 2xx, or another form.
    pub async fn memory(&self) -> Result<MemoryReport, HttpError> {
        self.json("/debug/memory").await
    }

    /// `/debug/accesses`, whole.
    ///
    /// # Errors
    /// No answer, not 2xx, or no access record.
    pub async fn accesses(&self) -> Result<Accesses, HttpError> {
        let path = "/debug/accesses";
        let body = self.expect_ok(path).await?;
        lru::parse(&body).map_err(|e| HttpError::Answer {
            path: path.to_owned(),
            status: 200,
            what: e.to_string(),
        })
    }

    async fn failpoints(&self) -> Result<Vec<Failpoint>, HttpError> {
        match self.json("/debug/failpoints").await? {
            Failpoints::List(failpoints) | Failpoints::Object { failpoints } => Ok(failpoints),
        }
    }

    /// How often the failpoint of this name fired since the service started.
    ///
    /// # Errors
    /// No answer, not 2xx, or another form.
    pub async fn failpoint_triggers(&self, name: &str) -> Result<u64, HttpError> {
        Ok(self
            .failpoints()
            .await?
            .iter()
            .find(|f| f.name == name)
            .map_or(0, |f| f.triggers))
    }

    /// Whether the failpoint of this name would do anything.
    ///
    /// # Errors
    /// No answer, not 2xx, or another form.
    pub async fn failpoint_active(&self, name: &str) -> Result<bool, HttpError> {
        let idle = |action: &str| action.is_empty() || action == "off";
        Ok(self
            .failpoints()
            .await?
            .iter()
            .any(|f| f.name == name && !idle(f.action.as_deref().unwrap_or(""))))
    }

    /// All backgrounds of the catalogue, page by page.
    ///
    /// # Errors
    /// No answer, not 2xx, or another form.
    pub async fn backgrounds(&self) -> Result<Vec<Background>, HttpError> {
        let mut all: Vec<Background> = Vec::new();
        let mut path = "/v1/backgrounds?limit=1000".to_owned();
        for _ in 0..PAGES_MAX {
            let page: Page = self.json(&path).await?;
            all.extend(page.backgrounds);
            match page.next {
                Some(next) => path = format!("/v1/backgrounds?limit=1000&after={next}"),
                None => return Ok(all),
            }
        }
        Err(HttpError::Answer {
            path,
            status: 200,
            what: format!("the listing has no end: {PAGES_MAX} pages were read"),
        })
    }
}

#[derive(Debug, Deserialize)]
struct Failpoint {
    name: String,
    action: Option<String>,
    #[serde(default)]
    triggers: u64,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Failpoints {
    List(Vec<Failpoint>),
    Object { failpoints: Vec<Failpoint> },
}

/// Pages of the catalogue that are read: no catalogue has so many.
const PAGES_MAX: usize = 1000;

#[derive(Debug, Deserialize)]
struct Page {
    backgrounds: Vec<Background>,
    next: Option<String>,
}

/// One entry of the catalogue as the runner needs it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Background {
    /// Id.
    pub id: String,
    /// Version.
    pub version: u64,
    /// Pixels.
    pub width: u64,
    /// Pixels.
    pub height: u64,
    /// Of the source bytes.
    pub checksum: String,
}

/// What the runner needs of `/debug/memory`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct MemoryReport {
    /// Limit the service sees.
    pub limit_bytes: u64,
    /// Usage at the limit's cgroup.
    pub usage_bytes: u64,
    /// Usage less droppable page cache.
    pub pressure_bytes: u64,
    /// Share of others.
    pub foreign_bytes: u64,
    /// Resident set.
    pub rss_bytes: u64,
    /// Watermark.
    pub elevated_bytes: u64,
    /// Watermark.
    pub critical_bytes: u64,
    /// What is in use beside the budget and cannot be given back.
    #[serde(default)]
    pub baseline_bytes: u64,
    /// Fastest growth of foreign usage that it promises to survive; none where the service does not say.
    #[serde(default)]
    pub reaction: Option<ReactionReport>,
    /// Budget.
    #[serde(default)]
    pub budget: BudgetReport,
    /// Textures.
    #[serde(default)]
    pub textures: TexturesReport,
    /// Session table.
    #[serde(default)]
    pub sessions: SessionsReport,
}

impl MemoryReport {
    /// The fastest growth of foreign usage that the service promises to survive when it begins at rest, bytes per second.
    #[must_use]
    pub fn reaction_bound(&self) -> Option<f64> {
        let at_rest = self.reaction.as_ref().and_then(|r| r.at_rest.as_ref());
        let bound = at_rest.map(|at_rest| at_rest.rate_bytes_per_second);
        bound.filter(|bound| *bound > 0.0)
    }

    /// What the budget holds for sessions, for each one there is; none without sessions.
    #[must_use]
    pub fn bytes_per_session(&self) -> Option<f64> {
        let charged = *self.budget.by_purpose.get("sessions")?;
        (self.sessions.count > 0).then(|| charged as f64 / self.sessions.count as f64)
    }
}

/// Reaction bound of `/debug/memory`. Beside what it says of growth that begins at rest, as a fault does, it has a lower one for growth
/// at any time.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ReactionReport {
    /// With the governor at rest.
    #[serde(default)]
    pub at_rest: Option<RestReport>,
}

/// Reaction bound while the governor is at rest.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RestReport {
    /// Bytes per second.
    pub rate_bytes_per_second: f64,
}

/// Budget of `/debug/memory`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct BudgetReport {
    /// Most that may be charged now.
    #[serde(default)]
    pub ceiling_bytes: u64,
    /// Bytes charged for each purpose.
    #[serde(default)]
    pub by_purpose: BTreeMap<String, u64>,
}

/// Textures of `/debug/memory`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TexturesReport {
    /// Bytes in the ledger.
    #[serde(default)]
    pub ledger_bytes: u64,
    /// Resident textures.
    #[serde(default)]
    pub resident: u64,
}

/// Session table of `/debug/memory`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SessionsReport {
    /// Sessions.
    #[serde(default)]
    pub count: u64,
}
