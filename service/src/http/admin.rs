//! The admin listener: metrics, memory, the access record, and failpoints where they are built in.
//!
//! Loopback by default and without tokens: whoever reaches it may do all of this.

use super::Service;
use super::admission::{refused, reserve_answer};
use super::body::{self, BodyLimits};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::respond::{self, Answer};
use super::routes::{self, Target};
#[cfg(feature = "failpoints")]
use crate::failpoints;
use crate::flyweight::AccessRecord;
use crate::memory::heap::{self, HeapError};
use crate::memory::{Arena, Purpose, aside};
use crate::metrics::Route;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct MemoryJson {
    limit_bytes: u64,
    /// Sample that first saw this limit.
    limit_sample: u64,
    limit_source: String,
    usage_bytes: u64,
    pressure_bytes: u64,
    working_set_bytes: u64,
    foreign_bytes: u64,
    rss_bytes: u64,
    elevated_bytes: u64,
    critical_bytes: u64,
    baseline_bytes: u64,
    state: &'static str,
    samples: u64,
    reclaims: u64,
    budget: BudgetJson,
    allocator: AllocatorJson,
    textures: TexturesJson,
    arenas: Vec<ArenaJson>,
    sessions: SessionsJson,
    reaction: ReactionJson,
    reclaim: ReclaimJson,
    transitions: Vec<TransitionJson>,
}

/// An arena of its own: what is taken from it by our count and by the allocator's.
#[derive(Serialize)]
struct ArenaJson {
    name: &'static str,
    ledger_bytes: u64,
    allocated_bytes: u64,
    blocks: u64,
}

impl ArenaJson {
    fn of(name: &'static str, arena: &Arena) -> Self {
        let ledger_bytes = arena.ledger_bytes();
        Self {
            name,
            ledger_bytes,
            allocated_bytes: arena.allocated_bytes().unwrap_or(ledger_bytes),
            blocks: arena.blocks(),
        }
    }
}

/// `rate_bytes_per_second × (sample_ms + decision_ms + fall_ms) < room_bytes`: slower growth is caught.
#[derive(Serialize)]
struct ReactionJson {
    room_bytes: u64,
    sample_ms: f64,
    decision_ms: f64,
    fall_ms: f64,
    rate_bytes_per_second: f64,
    at_rest: RestJson,
}

/// `rate_bytes_per_second × reaction_ms < room_bytes`: slower growth that begins in Normal, a dwell after the last change, is survived.
#[derive(Serialize)]
struct RestJson {
    room_bytes: u64,
    reaction_ms: f64,
    rate_bytes_per_second: f64,
}

#[derive(Serialize)]
struct ReclaimJson {
    passes: u64,
    last_ms: f64,
    longest_ms: f64,
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[derive(Serialize)]
struct BudgetJson {
    ceiling_bytes: u64,
    used_bytes: u64,
    peak_bytes: u64,
    by_purpose: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct AllocatorJson {
    allocated_bytes: u64,
    resident_bytes: u64,
}

#[derive(Serialize)]
struct TexturesJson {
    ledger_bytes: u64,
    arena_bytes: u64,
    drift_bytes: i64,
    resident: u64,
    resident_bytes: u64,
    pinned_bytes: u64,
}

#[derive(Serialize)]
struct SessionsJson {
    count: u64,
    capacity: u32,
    /// None without sessions.
    bytes_per_session: Option<f64>,
}

#[derive(Serialize)]
struct TransitionJson {
    at_unix_ms: u64,
    from: &'static str,
    to: &'static str,
    pressure_bytes: u64,
    reason: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShrinkBody {
    to_bytes: Option<u64>,
    by_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ShrinkJson {
    evicted: u64,
    evicted_bytes: u64,
    freed_bytes: u64,
    pinned: u64,
    pinned_bytes: u64,
    archived: u64,
    archived_bytes: u64,
    skipped: u64,
    held_bytes: u64,
    unlink_us: u64,
    duration_us: u64,
}

fn to_json(value: &impl Serialize) -> Result<Answer, Problem> {
    let json = serde_json::to_vec(value).map_err(Problem::internal)?;
    Ok(respond::json(json))
}

async fn read_text(service: &Service, body: Incoming) -> Result<Vec<u8>, Problem> {
    let limits = BodyLimits {
        bytes_max: 4096,
        time_max: service.config.body_timeout,
        reserve_wait: service.config.reserve_wait,
        purpose: Purpose::Body,
        parsed_bytes_max: 0,
    };
    Ok(body::read(body, limits, &service.intake)
        .await?
        .bytes
        .to_vec())
}

/// Where failpoints are configured, and below it each of them.
const FAILPOINTS: &str = "/debug/failpoints";

/// Parameters that the query of a path may have; `None`: there is no such path.
fn parameters(path: &str) -> Option<&'static [&'static str]> {
    match path {
        "/debug/accesses" => Some(&["reset"]),
        "/metrics" | "/debug/memory" | "/debug/pprof/heap" | "/debug/shrink" | "/healthz"
        | "/readyz" => Some(&[]),
        path => failpoint_of(path).map(|_| &[][..]),
    }
}

/// The failpoint that a path names; `Some(None)` is all of them, `None` is no such path.
fn failpoint_of(path: &str) -> Option<Option<&str>> {
    match path.strip_prefix(FAILPOINTS)? {
        "" => Some(None),
        rest => rest.strip_prefix('/').map(Some),
    }
}

/// Whether the access record is to be emptied.
fn reset_of(query: Query<'_>) -> Result<bool, Problem> {
    match query.value("reset")? {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(Problem::new(Kind::BadRequest, "reset is 0 or 1")),
    }
}

impl Service {
    /// Answers one request of the admin listener.
    pub async fn answer_admin(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let handled = Box::pin(self.handle_admin(request)).await;
        let answer = handled.unwrap_or_else(|problem| problem.answer(Route::Admin, &self.metrics));
        self.metrics
            .http
            .requests_total
            .of(Route::Admin, super::class_of(answer.status()))
            .inc();
        answer
    }

    async fn handle_admin(self: &Arc<Self>, request: Request<Incoming>) -> Result<Answer, Problem> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        if let Target::Route(route @ (Route::Health | Route::Ready), _) =
            routes::find(&parts.method, path)
        {
            return self.probe(route);
        }
        let known = parameters(path).ok_or(Kind::NotFound)?;
        let query = Query::of(&parts.uri, known)?;
        if let Some(name) = failpoint_of(path) {
            return failpoint(self, &parts.method, name, body).await;
        }
        match (&parts.method, path) {
            (&Method::GET, "/metrics") => self.exposition(),
            (&Method::GET, "/debug/memory") => to_json(&self.memory_json()),
            (&Method::GET, "/debug/pprof/heap") => self.heap_profile().await,
            (&Method::GET, "/debug/accesses") => {
                let reset = reset_of(query)?;
                self.accesses(parts.version, reset).await
            }
            (&Method::POST, "/debug/shrink") => {
                let body = read_text(self, body).await?;
                self.shrink(&body).await
            }
            _ => Err(Kind::MethodNotAllowed.into()),
        }
    }

    /// Paid for like any other answer: under pressure it is shed, and nothing was reset. What is recorded meanwhile stays.
    async fn accesses(&self, version: Version, reset: bool) -> Result<Answer, Problem> {
        let entries = self.flyweights.accesses_recorded();
        let bytes = AccessRecord::bytes_of(entries) as u64;
        let wait = self.config.reserve_wait;
        let charge = reserve_answer(&self.budget, bytes, version, wait)
            .await
            .map_err(|error| refused(&error))?;
        let flyweights = Arc::clone(&self.flyweights);
        // To copy a long record takes milliseconds: not on a worker. The charge goes along, since it ends without its caller, too.
        let copying = aside::run(move || {
            let record = flyweights.accesses(entries, reset);
            respond::charged(record, charge)
        });
        let copied = copying.await;
        let body = copied.ok_or_else(|| Problem::internal("the record was not copied"))?;
        Ok(respond::full(StatusCode::OK, respond::OCTETS, body))
    }

    /// Paid for like any other answer: under pressure it is shed.
    async fn heap_profile(&self) -> Result<Answer, Problem> {
        if !heap::is_on() {
            return Err(Problem::new(Kind::ProfilingOff, HeapError::Off.to_string()));
        }
        let wait = self.config.reserve_wait;
        let reserving = self
            .budget
            .reserve(Purpose::Body, heap::PROFILE_BYTES_MAX, wait);
        let mut charge = reserving
            .await
            .map_err(|_| Problem::from(Kind::BudgetExhausted))?;
        let made = aside::run(heap::profile).await;
        let profile = made
            .unwrap_or(Err(HeapError::Busy))
            .map_err(|error| match error {
                HeapError::Off => Problem::new(Kind::ProfilingOff, error.to_string()),
                HeapError::Busy => Problem::new(Kind::QueueFull, error.to_string()),
                other => Problem::internal(other),
            })?;
        let kept = charge.bytes().min(profile.capacity() as u64);
        charge.resize(kept).map_err(|error| refused(&error))?;
        let body = respond::charged(profile, Some(charge));
        Ok(respond::full(StatusCode::OK, respond::OCTETS, body))
    }

    fn memory_json(&self) -> MemoryJson {
        let report = self.memory.report();
        let snapshot = report.snapshot;
        let by_purpose = Purpose::ALL
            .iter()
            .map(|purpose| purpose.as_str())
            .zip(report.budget.by_purpose)
            .collect();
        let transitions = report.transitions.iter().map(|transition| TransitionJson {
            at_unix_ms: transition.at_unix_ms,
            from: transition.from.as_str(),
            to: transition.to.as_str(),
            pressure_bytes: transition.pressure,
            reason: transition.reason.as_str(),
        });
        let bound = self.memory.reaction_bound();
        MemoryJson {
            limit_bytes: snapshot.reading.limit,
            limit_sample: snapshot.limit_sample,
            limit_source: report.source,
            usage_bytes: snapshot.reading.usage,
            pressure_bytes: snapshot.reading.pressure,
            working_set_bytes: snapshot.reading.working_set,
            foreign_bytes: snapshot.reading.foreign(),
            rss_bytes: snapshot.reading.rss,
            elevated_bytes: snapshot.elevated,
            critical_bytes: snapshot.critical,
            baseline_bytes: snapshot.baseline,
            state: snapshot.state.as_str(),
            samples: report.samples,
            reclaims: report.reclaims,
            budget: BudgetJson {
                ceiling_bytes: report.budget.ceiling,
                used_bytes: report.budget.used,
                peak_bytes: report.budget.peak,
                by_purpose,
            },
            allocator: AllocatorJson {
                allocated_bytes: snapshot.allocator.allocated,
                resident_bytes: snapshot.allocator.resident,
            },
            textures: TexturesJson {
                ledger_bytes: snapshot.arena_ledger,
                arena_bytes: snapshot.arena_allocated,
                drift_bytes: snapshot.drift(),
                resident: self.flyweights.resident(),
                resident_bytes: self.flyweights.resident_bytes(),
                pinned_bytes: self.flyweights.pinned_bytes(),
            },
            sessions: SessionsJson {
                count: self.sessions.count(),
                capacity: self.sessions.capacity(),
                bytes_per_session: self.sessions.bytes_per_session(),
            },
            arenas: vec![
                ArenaJson::of("pixels", &self.pixels),
                ArenaJson::of("bodies", &self.intake.arena),
            ],
            reaction: ReactionJson {
                room_bytes: bound.room_bytes,
                sample_ms: milliseconds(bound.sample),
                decision_ms: milliseconds(bound.decision),
                fall_ms: milliseconds(bound.fall),
                rate_bytes_per_second: bound.rate_bytes_per_second.floor(),
                at_rest: RestJson {
                    room_bytes: bound.at_rest.room_bytes,
                    reaction_ms: milliseconds(bound.at_rest.reaction),
                    rate_bytes_per_second: bound.at_rest.rate_bytes_per_second.floor(),
                },
            },
            reclaim: ReclaimJson {
                passes: report.passes.count,
                last_ms: milliseconds(report.passes.last),
                longest_ms: milliseconds(report.passes.longest),
            },
            transitions: transitions.collect(),
        }
    }

    async fn shrink(&self, body: &[u8]) -> Result<Answer, Problem> {
        let body: ShrinkBody = serde_json::from_slice(body)
            .map_err(|error| Problem::new(Kind::BadRequest, error.to_string()))?;
        let target = match (body.to_bytes, body.by_bytes) {
            (Some(to), None) => to,
            (None, Some(by)) => self.flyweights.held_bytes().saturating_sub(by),
            _ => {
                return Err(Problem::new(
                    Kind::BadRequest,
                    "give either to_bytes or by_bytes",
                ));
            }
        };
        let flyweights = Arc::clone(&self.flyweights);
        // Freeing takes milliseconds: not on a worker.
        let report = aside::run(move || flyweights.shrink_on_request(target)).await;
        let report = report.ok_or_else(|| Problem::internal("the pass did not end"))?;
        to_json(&ShrinkJson {
            evicted: report.evicted,
            evicted_bytes: report.evicted_bytes,
            freed_bytes: report.freed_bytes,
            pinned: report.pinned,
            pinned_bytes: report.pinned_bytes,
            archived: report.archived,
            archived_bytes: report.archived_bytes,
            skipped: report.skipped,
            held_bytes: report.held_bytes,
            unlink_us: report.unlink.as_micros() as u64,
            duration_us: report.duration.as_micros() as u64,
        })
    }
}

#[cfg(not(feature = "failpoints"))]
async fn failpoint(
    _: &Service,
    _: &Method,
    _: Option<&str>,
    _: Incoming,
) -> Result<Answer, Problem> {
    Err(Problem::new(
        Kind::NotBuiltWithFailpoints,
        "build the service with the feature failpoints",
    ))
}

#[cfg(feature = "failpoints")]
async fn failpoint(
    service: &Service,
    method: &Method,
    name: Option<&str>,
    body: Incoming,
) -> Result<Answer, Problem> {
    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        action: String,
        triggers: u64,
    }
    let refused = |error: failpoints::ConfigureError| match error {
        failpoints::ConfigureError::UnknownName(_) => {
            Problem::new(Kind::NotFound, error.to_string())
        }
        failpoints::ConfigureError::BadAction(_) | failpoints::ConfigureError::NoDelay(_) => {
            Problem::new(Kind::BadRequest, error.to_string())
        }
    };
    match (method, name) {
        (&Method::GET, None) => {
            let actions: BTreeMap<String, String> = failpoints::actions().into_iter().collect();
            let rows = failpoints::triggers().into_iter().map(|(name, triggers)| {
                let action = actions
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| "off".to_owned());
                Row {
                    name,
                    action,
                    triggers,
                }
            });
            to_json(&serde_json::json!({ "failpoints": rows.collect::<Vec<_>>() }))
        }
        (&Method::PUT, Some(name)) => {
            let body = read_text(service, body).await?;
            let action = String::from_utf8_lossy(&body).trim().to_owned();
            failpoints::configure(name, &action).map_err(refused)?;
            tracing::warn!(name, action, "failpoint set");
            Ok(respond::empty(StatusCode::NO_CONTENT))
        }
        (&Method::DELETE, Some(name)) => {
            failpoints::remove(name).map_err(refused)?;
            tracing::warn!(name, "failpoint removed");
            Ok(respond::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(Kind::MethodNotAllowed.into()),
    }
}
