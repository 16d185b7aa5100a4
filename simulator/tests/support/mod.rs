//! A small service in memory that speaks the same HTTP, and can be told to lie: what turns the truth checker red.
//!
//! One tokio task per connection; state behind one lock. It knows a background by the code in its pixels, and draws
//! frames with that code itself.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backdrop_simulator::code::{self, Crop, Luma};
use backdrop_simulator::picture;
use backdrop_simulator::truth::Pixels;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

mod answers;
mod batches;
mod faults;
mod plans;
mod sessions;
mod stall;

#[allow(unused_imports, reason = "each test binary runs its own")]
pub use faults::Faults;
#[allow(unused_imports, reason = "each test binary runs its own")]
pub use plans::{plan, run_beside};

use answers::{describe, draw, problem, respond, session_id};
use batches::Batch;
use sessions::{NOBODYS, Session};
use stall::Stall;

/// Waits until the load has begun: the first frames were served.
#[allow(dead_code, reason = "each test binary waits for its own")]
pub async fn under_load(fake: &Fake) {
    let mut frames = fake.frames.subscribe();
    frames.wait_for(|served| *served >= 5).await.unwrap();
}

/// What the service does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each test binary plants its own")]
pub enum Bug {
    /// Nothing.
    None,
    /// Every 97th acknowledged switch is not applied.
    Lost,
    /// The same, but only where a later switch of the session covers it: no session shows it at the end.
    Covered,
    /// Frames keep showing the first revision of a background.
    Stale,
    /// Every 97th switch goes to a background that nobody asked for.
    Wrong,
    /// Every 5th frame is half of another background.
    Torn,
    /// Every 97th switch is refused with `shed`, and applied all the same.
    RefusedButApplied,
    /// Every 7th switch is refused with `shed`, rightly.
    Sheds,
    /// Frames are the plain thumbnail, and say so.
    Degraded,
    /// Frames carry no code.
    Blank,
    /// Composites are the background alone.
    Unmanned,
    /// While an upload is under way, frames show its version and the one before it in turn.
    Flaps,
    /// A replaced background keeps its version.
    StandsStill,
    /// Every frame of a cold background loads it anew.
    EachLoads,
    /// No session is deleted: that is answered with `shed`.
    Keeps,
    /// Sessions whose deletion was acknowledged live on.
    Lingers,
    /// A read that names a session which is not there is refused with 503.
    HidesTheGone,
    /// What is not there is answered all the same: a session, a background.
    Invents,
    /// What is not there is a failure of the service.
    Breaks,
    /// Each page of the listing leads to the first one.
    PagesBack,
    /// The listing never ends.
    PagesForever,
}

#[derive(Debug, Clone)]
struct Background {
    flyweight: u32,
    version: u32,
    checksum: String,
    number: u16,
    revision: u8,
    first_revision: u8,
    /// Nobody has asked for it since it was uploaded.
    cold: bool,
    /// Version and revision that an upload under way replaces.
    replaced: Option<(u32, u8)>,
}

/// Frames that an upload under way waits for, where they flap.
const FLAPS: u64 = 12;

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    sessions: Vec<Session>,
    generation: u64,
    /// Sessions whose deletion was not answered and is not applied yet.
    late: Vec<u64>,
    /// Sessions were read since.
    looked: bool,
    backgrounds: BTreeMap<String, Background>,
    /// Backgrounds that there ever were.
    created: u32,
    frames: HashMap<(u16, u8, Option<u16>), Bytes>,
}

/// The service.
#[derive(Debug)]
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    state: Mutex<State>,
    bug: Bug,
    sessions_max: usize,
    counter: AtomicU64,
    /// Batches of creations that are refused with 503 from now on.
    pub refuse_creations: AtomicU64,
    /// Switches that a planted bug acknowledged and did not apply.
    pub dropped: AtomicU64,
    /// Frames served of an older revision than the newest.
    pub stale_frames: watch::Sender<u64>,
    /// Frames asked for.
    pub frames: watch::Sender<u64>,
    /// Single switches served.
    pub singles: AtomicU64,
    /// Uploads accepted.
    pub uploads: AtomicU64,
    /// Sessions deleted.
    pub deleted: AtomicU64,
    /// Textures loaded.
    pub loads: AtomicU64,
    /// Frames served while an upload of their background was under way.
    flaps: watch::Sender<u64>,
    /// Holds single switches up, where it is told to.
    pub stall: Stall,
    /// What else is told to go wrong.
    pub faults: Faults,
    /// Batches of creations.
    created: watch::Sender<u64>,
    /// Largest batch that switched nothing.
    pub batch_max: AtomicU64,
}

impl Fake {
    /// Starts it on a free port.
    pub async fn start(bug: Bug) -> Arc<Self> {
        Fake::with_room(bug, usize::MAX).await
    }

    /// Starts it with room for so many sessions.
    pub async fn with_room(bug: Bug, sessions_max: usize) -> Arc<Self> {
        Fake::with_faults(bug, sessions_max, Faults::default()).await
    }

    /// Starts it with room for so many sessions, and with faults.
    pub async fn with_faults(bug: Bug, sessions_max: usize, faults: Faults) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Fake {
            address: listener.local_addr().unwrap(),
            state: Mutex::new(State {
                epoch: 0xdead_beef,
                generation: 1,
                ..State::default()
            }),
            bug,
            sessions_max,
            counter: AtomicU64::new(0),
            refuse_creations: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            stale_frames: watch::Sender::new(0),
            frames: watch::Sender::new(0),
            singles: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            flaps: watch::Sender::new(0),
            stall: Stall::default(),
            faults,
            created: watch::Sender::new(0),
            batch_max: AtomicU64::new(0),
        });
        let accepting = fake.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let fake = accepting.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let fake = fake.clone();
                        async move { faults::sent(fake.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        fake
    }

    /// Address for `--url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Another life: sessions are gone, backgrounds stay, indices move, the epoch is new.
    #[allow(dead_code, reason = "each test binary plants its own")]
    pub fn restart(&self) {
        let mut state = self.state.lock();
        state.epoch += 1;
        state.generation += 1;
        state.sessions.clear();
        state.late.clear();
        state
            .backgrounds
            .values_mut()
            .for_each(|background| background.flyweight += 1000);
    }

    /// Ids of the backgrounds in the catalogue.
    #[allow(dead_code, reason = "each test binary looks at its own")]
    pub fn backgrounds(&self) -> Vec<String> {
        self.state.lock().backgrounds.keys().cloned().collect()
    }

    /// Somebody else uploads another version of the same picture.
    #[allow(dead_code, reason = "each test binary plants its own")]
    pub fn replace(&self, id: &str) {
        let mut state = self.state.lock();
        state.backgrounds.get_mut(id).unwrap().version += 1;
    }

    /// User numbers of the sessions.
    #[allow(dead_code, reason = "each test binary looks at its own")]
    pub fn users(&self) -> Vec<u32> {
        self.state.lock().sessions.iter().map(|s| s.user).collect()
    }

    /// Sessions that show what nobody asked for.
    #[allow(dead_code, reason = "each test binary looks at its own")]
    pub fn wrong_sessions(&self) -> u64 {
        let state = self.state.lock();
        let wrong = state.sessions.iter().filter(|s| s.flyweight == NOBODYS);
        wrong.count() as u64
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return problem(400, "bad_body");
        };
        let body = body.to_bytes();
        let path = head.uri.path().to_owned();
        if let Some(kind) = batches::kind_of(&path) {
            let form = head.headers.get("content-type");
            let form = form.map_or(&b""[..], |value| value.as_bytes());
            return self.faulty(&Batch::parse(kind, form, &body)).await;
        }
        match (&head.method, path.as_str()) {
            (&Method::GET, "/v1/backgrounds") => self.list(head.uri.query().unwrap_or_default()),
            (&Method::PUT, path) if path.ends_with("/background") => {
                self.stall.pass().await;
                self.single(path, &body)
            }
            (&Method::PUT, path) => {
                let id = path.trim_start_matches("/v1/backgrounds/");
                let answer = self.upload(id, &body);
                self.flap(id).await;
                answer
            }
            (&Method::DELETE, path) => {
                let version = head.headers.get("if-match").and_then(|v| v.to_str().ok());
                self.remove(path.trim_start_matches("/v1/backgrounds/"), version)
            }
            (&Method::GET, "/metrics") => self.metrics(),
            (&Method::GET, path) if path.ends_with("/frame") => self.frame(path),
            (&Method::POST, path) if path.ends_with("/frames") => {
                let mut answer = self.frame(path);
                if answer.status().is_success() && self.bug != Bug::Unmanned {
                    let frame = answer.body_mut().collect().await.unwrap().to_bytes();
                    *answer.body_mut() = Full::new(answers::overlaid(&frame, &body));
                }
                answer
            }
            (&Method::GET, path) => self.describe(path),
            _ => problem(404, "no_route"),
        }
    }

    fn list(&self, query: &str) -> Response<Full<Bytes>> {
        let parameter = |name: &str| {
            query.split('&').find_map(|pair| {
                pair.strip_prefix(name)?
                    .strip_prefix('=')
                    .map(str::to_owned)
            })
        };
        let after = parameter("after").unwrap_or_default();
        // Pages of three at most, so that paging is walked.
        let state = self.state.lock();
        let page: Vec<Value> = state
            .backgrounds
            .iter()
            .filter(|(id, _)| **id > after)
            .take(3)
            .map(|(id, background)| describe(id, background, state.epoch))
            .collect();
        let last = page.last().map(|value| value["id"].clone());
        let more = last.as_ref().is_some_and(|last| {
            state
                .backgrounds
                .keys()
                .next_back()
                .is_some_and(|newest| *last != newest.as_str())
        });
        let next = match self.bug {
            Bug::PagesBack => json!("a"),
            Bug::PagesForever => {
                let page = self.counter.fetch_add(1, Ordering::Relaxed);
                json!(format!("page-{page:09}"))
            }
            _ if more => last.unwrap_or_default(),
            _ => Value::Null,
        };
        respond(
            200,
            json!({"epoch": state.epoch.to_string(), "backgrounds": page, "next": next}),
        )
    }

    fn upload(&self, id: &str, body: &Bytes) -> Response<Full<Bytes>> {
        let Ok((luma, width, height)) = picture::decode_luma(body) else {
            return problem(400, "not_an_image");
        };
        let seen = code::read(
            Luma {
                data: &luma,
                width,
                height,
            },
            Crop::FULL,
        );
        let Pixels::Code { number, revision } = seen else {
            return problem(400, "no_code");
        };
        self.uploads.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        let epoch = state.epoch;
        let new = !state.backgrounds.contains_key(id);
        state.created += u32::from(new);
        let fresh = 6 + state.created;
        let background = state
            .backgrounds
            .entry(id.to_owned())
            .or_insert(Background {
                flyweight: fresh,
                version: 0,
                checksum: String::new(),
                number,
                revision,
                first_revision: revision,
                cold: true,
                replaced: None,
            });
        if self.bug == Bug::Flaps && background.version > 0 {
            background.replaced = Some((background.version, background.revision));
        }
        background.cold = true;
        if self.bug != Bug::StandsStill || background.version == 0 {
            background.version += 1;
        }
        background.revision = revision;
        background.checksum = format!("{:016x}", xxh3_64(body));
        respond(if new { 201 } else { 200 }, describe(id, background, epoch))
    }

    fn remove(&self, id: &str, version: Option<&str>) -> Response<Full<Bytes>> {
        let mut state = self.state.lock();
        let Some(present) = state.backgrounds.get(id).map(|found| found.version) else {
            return problem(404, "background_not_found");
        };
        if version != Some(format!("\"v{present}\"").as_str()) {
            return problem(412, "precondition_failed");
        }
        state.backgrounds.remove(id);
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }

    /// Keeps an upload under way until frames of its background have flapped; the wait is bounded, as the load may end.
    async fn flap(&self, id: &str) {
        let flaps = || self.state.lock().backgrounds.get(id)?.replaced;
        if flaps().is_some() {
            let mut served = self.flaps.subscribe();
            let enough = *served.borrow() + FLAPS;
            let wait = served.wait_for(|n| *n >= enough);
            let _ = tokio::time::timeout(Duration::from_secs(2), wait).await;
        }
        if let Some(background) = self.state.lock().backgrounds.get_mut(id) {
            background.replaced = None;
        }
    }

    /// One session or background.
    fn describe(&self, path: &str) -> Response<Full<Bytes>> {
        let state = self.state.lock();
        if path.starts_with("/v1/sessions/") {
            let known = session_id(path).and_then(|id| state.slot(id));
            return match known {
                Some(slot) => respond(200, json!({"user": state.sessions[slot].user})),
                None => self.missing("session_not_found"),
            };
        }
        let id = path.trim_start_matches("/v1/backgrounds/");
        match state.backgrounds.get(id) {
            Some(background) => respond(200, describe(id, background, state.epoch)),
            None => self.missing("background_not_found"),
        }
    }

    /// There is no such thing, as honestly as the planted bug allows.
    fn missing(&self, code: &str) -> Response<Full<Bytes>> {
        match self.bug {
            Bug::Invents => respond(200, json!({})),
            Bug::Breaks => problem(500, "internal"),
            _ => problem(404, code),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let loads = self.loads.load(Ordering::Relaxed);
        let text = format!("backdrop_flyweight_loads_total{{result=\"ok\"}} {loads}\n# EOF\n");
        Response::new(Full::new(Bytes::from(text)))
    }

    fn frame(&self, path: &str) -> Response<Full<Bytes>> {
        let count = *self.frames.borrow();
        self.frames.send_modify(|served| *served += 1);
        let mut state = self.state.lock();
        let Some(slot) = session_id(path).and_then(|id| state.slot(id)) else {
            return self.missing("session_not_found");
        };
        let flyweight = state.sessions[slot].flyweight;
        let Some(found) = state
            .backgrounds
            .values_mut()
            .find(|other| other.flyweight == flyweight)
        else {
            return problem(404, "no_background");
        };
        let loads = found.cold || self.bug == Bug::EachLoads;
        found.cold = false;
        self.loads.fetch_add(u64::from(loads), Ordering::Relaxed);
        let background = found.clone();
        let (mut version, mut revision) = (background.version, background.revision);
        if self.bug == Bug::Stale {
            revision = background.first_revision;
        }
        if let Some(before) = background.replaced {
            self.flaps.send_modify(|served| *served += 1);
            if self.flaps.borrow().is_multiple_of(2) {
                (version, revision) = before;
            }
        }
        if revision < background.revision {
            self.stale_frames.send_modify(|served| *served += 1);
        }
        let other =
            (self.bug == Bug::Torn && count.is_multiple_of(5)).then_some(background.number + 1);
        let number = if self.bug == Bug::Blank {
            u16::MAX
        } else {
            background.number
        };
        let body = state
            .frames
            .entry((number, revision, other))
            .or_insert_with(|| draw(number, revision, other))
            .clone();
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert("backdrop-flyweight", flyweight.into());
        headers.insert("backdrop-version", version.into());
        let cache = match loads {
            _ if self.bug == Bug::Degraded => "degraded",
            true => "miss",
            false => "hit",
        };
        headers.insert("backdrop-cache", cache.parse().unwrap());
        response
    }
}
