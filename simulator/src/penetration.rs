//! Penetration: requests for what is not there, sessions that nobody made and backgrounds that nobody uploaded.
//!
//! Each must be answered by a 404 that says what is missing, whatever else the service has to do; an answer as if it were there is
//! a violation. Asked for at an open rate, beside the load of a run, over connections of their own.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::Method;
use hyper::header::HeaderValue;
use serde::Serialize;

use backdrop_reports::load::Latency;

use crate::client::{Answer, Call, CallError, Lane};
use crate::frame::Due;
use crate::gateway::{Note, RequestLog, status_name};
use crate::record::{Total, histogram, latency_of};
use crate::schedule::{below, mix};
use crate::shared::{Clock, Shared, micros};
use crate::timetable::Timetable;
use crate::truth::Violation;
use crate::wire::{SMALL_ANSWER_BYTES, hex};

/// What requests for what is not there brought in the measured load.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PenetrationFigures {
    /// Requests that were planned.
    pub asked: u64,
    /// Those answered by the 404 that they must be.
    pub clean: u64,
    /// Those that were shed.
    pub shed: u64,
    /// All others, by name.
    pub errors: BTreeMap<&'static str, u64>,
    /// From the planned time to the last byte of a clean answer, or to when it was given up without any.
    pub latency: Latency,
}

/// A request for what is not there.
#[derive(Debug)]
struct Probe {
    what: String,
    call: Call,
    /// Problem code that it must be answered by.
    code: &'static str,
}

struct Flown {
    lane: Lane,
    due: Due,
    probe: Probe,
    result: Result<Answer, CallError>,
}

type Flight = Pin<Box<dyn Future<Output = Flown> + Send>>;

/// The one that asks.
pub struct Intruder {
    shared: Arc<Shared>,
    clock: Clock,
    timetable: Timetable,
    next: u64,
    lanes: Vec<Lane>,
    backlog: VecDeque<Due>,
    flights: FuturesUnordered<Flight>,
    timeout_us: u64,
    figures: PenetrationFigures,
    latency: Total,
}

impl Intruder {
    /// So many requests a second.
    pub fn new(shared: &Arc<Shared>, per_second: f64, clock: Clock) -> Self {
        let timeout = shared.plan.args.timeout;
        let lane = || Lane::new(shared.target.clone(), timeout);
        Intruder {
            clock,
            timetable: Timetable::Stream {
                // A stream of its own beside the previews'.
                seed: mix(shared.plan.args.seed, 0x7065_6e65, 0),
                per_second,
                worker: 0,
                workers: 1,
            },
            next: 0,
            lanes: (0..shared.plan.penetration_lanes())
                .map(|_| lane())
                .collect(),
            backlog: VecDeque::new(),
            flights: FuturesUnordered::new(),
            timeout_us: micros(timeout),
            figures: PenetrationFigures::default(),
            latency: histogram(),
            shared: shared.clone(),
        }
    }

    fn upcoming(&self) -> Due {
        self.timetable.due(self.next)
    }

    /// Asks for everything of the schedule, and hands in the figures.
    pub async fn run(mut self, log: &mut impl RequestLog) {
        let sleep = tokio::time::sleep_until(self.clock.instant(self.upcoming().at_us).into());
        tokio::pin!(sleep);
        let mut ended = false;
        while !ended || !self.flights.is_empty() || !self.backlog.is_empty() {
            tokio::select! {
                biased;
                () = &mut sleep, if !ended => {
                    ended = self.take_due();
                    sleep.as_mut().reset(self.clock.instant(self.upcoming().at_us).into());
                }
                Some(flown) = self.flights.next(), if !self.flights.is_empty() => {
                    let note = self.land(flown);
                    log.note(note).await;
                }
            }
            self.dispatch();
        }
        self.shared.beside.lock().penetration = Some(PenetrationFigures {
            latency: latency_of(&self.latency),
            ..self.figures
        });
    }

    /// Queues what is due; true when the schedule is over.
    fn take_due(&mut self) -> bool {
        let now_us = self.clock.now_us();
        loop {
            let due = self.upcoming();
            if due.at_us >= self.clock.end_us || self.shared.stop.reason().is_some() {
                return true;
            }
            if due.at_us > now_us {
                return false;
            }
            self.next += 1;
            if now_us - due.at_us > self.timeout_us {
                // Given up before it could be asked for: the simulator's doing, not the service's.
                self.book(due, now_us, Outcome::Failed("overslept"));
                continue;
            }
            self.backlog.push_back(due);
        }
    }

    fn dispatch(&mut self) {
        while let Some(&due) = self.backlog.front() {
            let now_us = self.clock.now_us();
            if now_us > due.at_us + self.timeout_us {
                self.backlog.pop_front();
                self.book(due, now_us, Outcome::Unanswered("unsent_timeout"));
                continue;
            }
            let Some(mut lane) = self.lanes.pop() else {
                return;
            };
            self.backlog.pop_front();
            let probe = self.probe(due.number);
            self.flights.push(Box::pin(async move {
                let result = lane.call(probe.call.clone()).await;
                Flown {
                    lane,
                    due,
                    probe,
                    result,
                }
            }));
        }
    }

    /// The request with this number: all kinds in turn.
    fn probe(&self, number: u64) -> Probe {
        let hash = mix(self.shared.plan.args.seed, 0x6162_7365, number);
        // Of all 64-bit numbers one in ten billion names a session of a million.
        let session = hex(hash);
        let background = format!("absent-{session}");
        let gallery = &self.shared.gallery;
        let known = gallery.id(below(hash, gallery.len() as u64) as u16);
        match number % 5 {
            0 => Probe::get(format!("/v1/sessions/{session}"), "session_not_found"),
            1 => Probe::get(
                format!("/v1/sessions/{session}/frame?width=64"),
                "session_not_found",
            ),
            2 => Probe::switch(&session, known, "session_not_found"),
            3 => match self.somebody(hash) {
                Some(present) => Probe::switch(&hex(present), &background, "background_not_found"),
                None => Probe::background(&background),
            },
            _ => Probe::background(&background),
        }
    }

    /// A session that exists.
    fn somebody(&self, hash: u64) -> Option<u64> {
        let cohorts = &self.shared.cohorts;
        let cohort = cohorts[below(hash, cohorts.len() as u64) as usize].lock();
        cohort
            .pick(mix(hash, 1, 3))
            .and_then(|index| cohort.id(index))
    }

    fn land(&mut self, flown: Flown) -> Note {
        let Flown {
            lane,
            due,
            probe,
            result,
        } = flown;
        self.lanes.push(lane);
        let mut note = Note {
            name: "absent",
            took: Duration::ZERO,
            status: None,
            error: None,
        };
        let (outcome, done_us) = match &result {
            Err(error) => {
                if matches!(error, CallError::Connect(_)) {
                    self.shared.suspect();
                }
                (Outcome::Unanswered(error.name()), self.clock.now_us())
            }
            Ok(answer) => {
                note.status = Some(answer.status);
                note.took = answer.done - answer.sent;
                (self.judge(&probe, answer), self.clock.at(answer.done))
            }
        };
        note.error = outcome.error();
        self.book(due, done_us, outcome);
        note
    }

    fn judge(&self, probe: &Probe, answer: &Answer) -> Outcome {
        match answer.status {
            404 => match answer.problem_code() {
                Some(code) if code == probe.code => {
                    self.shared.truth.lock().absent();
                    Outcome::Clean
                }
                Some(code) if code == "session_not_found" => {
                    // A session that was there: the service may have restarted.
                    self.shared.suspect();
                    Outcome::Failed("session_not_found")
                }
                _ => Outcome::Failed("other_404"),
            },
            200..300 => {
                let words = format!(
                    "{} was answered {}, though nobody made it",
                    probe.what, answer.status
                );
                self.shared.truth.lock().violation(Violation::Wrong, &words);
                Outcome::Failed("answered")
            }
            429 | 503 => Outcome::Shed,
            status => Outcome::Failed(status_name(status)),
        }
    }

    fn book(&mut self, due: Due, done_us: u64, outcome: Outcome) {
        if due.at_us < self.clock.load_us {
            return;
        }
        let figures = &mut self.figures;
        figures.asked += 1;
        match outcome {
            Outcome::Clean => figures.clean += 1,
            Outcome::Shed => figures.shed += 1,
            Outcome::Failed(name) | Outcome::Unanswered(name) => {
                *figures.errors.entry(name).or_default() += 1;
            }
        }
        if matches!(outcome, Outcome::Clean | Outcome::Unanswered(_)) {
            let latency_us = done_us.saturating_sub(due.at_us);
            self.latency.saturating_record(latency_us.max(1));
        }
    }
}

/// How a request for what is not there ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Clean,
    Shed,
    /// Answered otherwise, by name.
    Failed(&'static str),
    /// Never answered, by name.
    Unanswered(&'static str),
}

impl Outcome {
    fn error(self) -> Option<&'static str> {
        match self {
            Outcome::Clean => None,
            Outcome::Shed => Some("shed"),
            Outcome::Failed(name) | Outcome::Unanswered(name) => Some(name),
        }
    }
}

impl Probe {
    fn get(path: String, code: &'static str) -> Self {
        Probe {
            call: Call::get(path.parse().unwrap_or_default(), SMALL_ANSWER_BYTES),
            what: format!("GET {path}"),
            code,
        }
    }

    fn background(id: &str) -> Self {
        Probe::get(format!("/v1/backgrounds/{id}"), "background_not_found")
    }

    fn switch(session: &str, background: &str, code: &'static str) -> Self {
        let path = format!("/v1/sessions/{session}/background");
        let body = format!("{{\"background\":\"{background}\"}}");
        let probe = Probe::get(path, code);
        Probe {
            what: format!("a switch of {session} to {background}"),
            call: Call {
                method: Method::PUT,
                content_type: Some(HeaderValue::from_static("application/json")),
                body: body.into(),
                ..probe.call
            },
            code,
        }
    }
}
