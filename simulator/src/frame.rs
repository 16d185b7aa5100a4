//! One frame, a preview or a composite: which session it shows, its request, and what the answer is booked and judged as.
//!
//! What the session may show is watched from before the request leaves until the answer is there. Knows no schedule:
//! when a frame is due is its caller's business.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::{Answer, Call, CallError, Lane};
use crate::gateway::{Note, status_name};
use crate::population;
use crate::reader::Frame;
use crate::record::{Class, Recorder};
use crate::schedule::{below, mix};
use crate::shared::{Clock, Shared, micros};
use crate::truth::{Allowed, Violation};
use crate::wire::SMALL_ANSWER_BYTES;

/// A frame that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its place in the schedule, which the session is chosen by.
    pub number: u64,
    /// Microseconds after the clock's origin.
    pub at_us: u64,
}

/// A session that exists, watched until its frame has landed.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    gateway: usize,
    index: usize,
    id: u64,
    token: u64,
}

/// Some session, by a hash of the frame's number.
pub fn anybody(shared: &Shared, number: u64) -> Option<Chosen> {
    choose(shared, number, |cohort, hash| cohort.pick(hash))
}

/// A session that was last acknowledged this background, by a hash of the frame's number.
pub fn showing(shared: &Shared, number: u64, background: u16) -> Option<Chosen> {
    choose(shared, number, |cohort, hash| {
        cohort.pick_showing(background, hash)
    })
}

fn choose(
    shared: &Shared,
    number: u64,
    pick: impl Fn(&crate::cohort::Cohort, u64) -> Option<usize>,
) -> Option<Chosen> {
    let hash = mix(shared.plan.args.seed, 0x6672_616d, number);
    let gateways = shared.cohorts.len();
    let first = below(hash, gateways as u64) as usize;
    (0..gateways)
        .map(|step| (first + step) % gateways)
        .find_map(|gateway| {
            let mut cohort = shared.cohorts[gateway].lock();
            let index = pick(&cohort, mix(hash, 1, 2))?;
            let id = cohort.id(index)?;
            let token = cohort.watch(index);
            Some(Chosen {
                gateway,
                index,
                id,
                token,
            })
        })
}

/// A request that came back.
pub struct Flown {
    lane: Lane,
    due: Due,
    chosen: Chosen,
    sent: Instant,
    result: Result<Answer, CallError>,
}

/// A request under way.
pub type Flight = Pin<Box<dyn Future<Output = Flown> + Send>>;

/// Asks for a frame of the chosen session.
pub fn ask(shared: &Shared, mut lane: Lane, due: Due, chosen: Chosen) -> Flight {
    let (width, height) = shared.plan.args.preview_size;
    let most = bytes_max(width, height);
    let call = match &shared.participant {
        Some(participant) => participant.call(chosen.id, due.number, most),
        None => {
            let path = format!(
                "/v1/sessions/{:016x}/frame?width={width}&height={height}&format=jpeg&quality=80",
                chosen.id
            );
            Call::get(path.parse().unwrap_or_default(), most)
        }
    };
    Box::pin(async move {
        let sent = Instant::now();
        let result = lane.call(call).await;
        Flown {
            lane,
            due,
            chosen,
            sent,
            result,
        }
    })
}

/// Bytes that a JPEG of this size may have: as many as its pixels, and its tables. At quality 80 it takes a tenth of that.
fn bytes_max(width: u32, height: u32) -> usize {
    SMALL_ANSWER_BYTES + 3 * width as usize * height as usize
}

/// What became of a frame.
pub struct Landed {
    /// The connection, free again.
    pub lane: Lane,
    /// When it was due.
    pub due: Due,
    /// For goose.
    pub note: Note,
    /// How it ended.
    pub class: Class,
    /// When it was over, microseconds after the clock's origin.
    pub done_us: u64,
    /// The service says that this caller loaded the texture.
    pub loaded: bool,
}

/// Books an answer and hands a whole frame to the readers.
pub fn land(shared: &Arc<Shared>, clock: &Clock, recorder: &mut Recorder, flown: Flown) -> Landed {
    let allowed = shared.cohorts[flown.chosen.gateway]
        .lock()
        .unwatch(flown.chosen.token);
    let mut note = Note {
        name: "frame",
        took: Duration::ZERO,
        status: None,
        error: None,
    };
    let (class, done_us) = match &flown.result {
        Err(error) => {
            if matches!(error, CallError::Connect(_)) {
                shared.suspect();
            }
            let class = match error.may_have_applied() {
                true => Class::Indeterminate(error.name()),
                false => Class::Unanswered(error.name()),
            };
            (class, clock.now_us())
        }
        Ok(answer) => {
            note.status = Some(answer.status);
            note.took = answer.done - answer.sent;
            let class = classify(shared, answer);
            if matches!(class, Class::Ok | Class::Degraded) {
                recorder.served(flown.due.at_us, micros(note.took), 1);
            }
            (class, clock.at(answer.done))
        }
    };
    note.error = class.error();
    recorder.book(flown.due.at_us, done_us, class);
    if let (Class::Ok, Ok(answer), Some(allowed)) = (class, &flown.result, allowed) {
        look_at(shared, &flown, answer, allowed);
    }
    let loaded = flown
        .result
        .as_ref()
        .is_ok_and(|answer| answer.header("backdrop-cache") == Some("miss"));
    Landed {
        lane: flown.lane,
        due: flown.due,
        note,
        class,
        done_us,
        loaded,
    }
}

fn classify(shared: &Shared, answer: &Answer) -> Class {
    match answer.status {
        200 if is_degraded(answer) => Class::Degraded,
        200 => Class::Ok,
        429 | 503 => Class::Shed,
        404 => {
            shared.suspect();
            Class::Failed("session_not_found")
        }
        status => Class::Failed(status_name(status)),
    }
}

fn is_degraded(answer: &Answer) -> bool {
    answer.header("backdrop-degraded").is_some()
        || answer.header("backdrop-cache") == Some("degraded")
}

fn look_at(shared: &Shared, flown: &Flown, answer: &Answer, allowed: Allowed) {
    let catalogue = shared.catalogue();
    let number = |text: &str| text.parse::<u32>().ok();
    let header = answer
        .header("backdrop-flyweight")
        .and_then(number)
        .and_then(|index| catalogue.number(index));
    let version = answer.header("backdrop-version").and_then(number);
    let who = format!(
        "frame {} of {}",
        flown.due.number,
        population::name(shared, flown.chosen.gateway, flown.chosen.index)
    );
    if let (Some(background), Some(version)) = (header, version)
        && let Some(newer) = shared
            .revisions
            .saw(background, version, flown.sent, answer.done)
    {
        let words = format!(
            "{who}: version {version} of background {background}, though version {newer} was shown before it was asked for"
        );
        shared.truth.lock().violation(Violation::Stale, &words);
    }
    shared.reader.look_at(Frame {
        who,
        body: answer.body.clone(),
        allowed,
        sent: flown.sent,
        header,
        version,
        composite: shared.participant.is_some(),
    });
}
