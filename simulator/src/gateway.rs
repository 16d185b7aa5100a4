//! One gateway: a tick loop that sends what fell due, over a few connections, and books every answer.
//!
//! The loop never waits for an answer: with all connections busy, due switches queue and their latency grows from
//! their planned time, so a stall of the service is seen as latency and never as load that was not offered. What
//! waited longer than the timeout is given up, and counted. Knows neither goose nor wall-clock time.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hyper::header::HeaderValue;
use hyper::{Method, Uri};

use crate::catalogue::Catalogue;
use crate::client::{Answer, Call, CallError, Lane};
use crate::cohort::{Entry, Landing, Piece};
use crate::population;
use crate::record::{Class, LATE_US, Operation, Pace, Recorder};
use crate::shared::{Clock, Shared, StopReason, micros};
use crate::wire::{SMALL_ANSWER_BYTES, code, code_name};

/// Switches of one batch.
const ENTRIES_MAX: u64 = 16_384;
/// A cohort that does not switch looks for restarts this often.
const IDLE_TICK_US: u64 = 100_000;
const SECOND_US: u64 = 1_000_000;

/// One request as goose counts it.
#[derive(Debug, Clone, Copy)]
pub struct Note {
    /// Name in goose's metrics.
    pub name: &'static str,
    /// From the send to the last byte.
    pub took: Duration,
    /// Status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: Option<&'static str>,
}

/// Where every request is noted; goose's side of the run.
pub trait RequestLog: Send {
    /// Notes one request.
    fn note(&mut self, note: Note) -> impl Future<Output = ()> + Send;
}

type Flight = Pin<Box<dyn Future<Output = Flown> + Send>>;

/// A request that came back.
struct Flown {
    lane: Lane,
    piece: Piece,
    entries: u32,
    result: Result<Answer, CallError>,
}

/// One gateway at work.
pub struct Gateway {
    shared: Arc<Shared>,
    index: usize,
    clock: Clock,
    lanes: Vec<Lane>,
    flights: FuturesUnordered<Flight>,
    backlog: VecDeque<Piece>,
    recovery: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    recorder: Recorder,
    pace: Pace,
    body: BytesMut,
    codes: Vec<u8>,
    records: Vec<(u64, u32)>,
    batch_path: Uri,
    content_type: HeaderValue,
    timeout_us: u64,
    tick_us: u64,
    offset_us: u64,
    ticks: u64,
    ended: bool,
    next_flush_us: u64,
    trouble_seen: u64,
}

impl Gateway {
    /// The gateway of cohort `index`.
    pub fn new(shared: &Arc<Shared>, index: usize, clock: Clock) -> Self {
        let plan = &shared.plan;
        let tick_us = match shared.cohorts[index].lock().is_resting() {
            true => IDLE_TICK_US,
            false => micros(plan.args.tick),
        };
        Gateway {
            index,
            clock,
            lanes: (0..plan.connections)
                .map(|_| Lane::new(shared.target.clone(), plan.args.timeout))
                .collect(),
            flights: FuturesUnordered::new(),
            backlog: VecDeque::new(),
            recovery: None,
            recorder: Recorder::new(Operation::Switch, shared.spans.clone()),
            pace: Pace::default(),
            body: BytesMut::new(),
            codes: Vec::new(),
            records: Vec::new(),
            batch_path: Uri::from_static("/v1/sessions:batchSwitch"),
            content_type: HeaderValue::from_static(plan.args.wire.content_type()),
            timeout_us: micros(plan.args.timeout),
            tick_us,
            // Gateways tick one after the other, so that the service sees a steady stream and not salvos.
            offset_us: tick_us * (index as u64 + 1) / plan.gateways as u64,
            ticks: 0,
            ended: false,
            next_flush_us: SECOND_US,
            trouble_seen: shared.trouble.load(Ordering::Acquire),
            shared: shared.clone(),
        }
    }

    /// Sends the whole schedule, books every answer, hands in the figures.
    pub async fn run(mut self, log: &mut impl RequestLog) {
        let sleep = tokio::time::sleep_until(self.wake_at());
        tokio::pin!(sleep);
        while !self.is_done() {
            tokio::select! {
                biased;
                () = &mut sleep, if !self.ended => {
                    self.tick();
                    sleep.as_mut().reset(self.wake_at());
                }
                Some(flown) = self.flights.next(), if !self.flights.is_empty() => {
                    let note = self.land(flown);
                    log.note(note).await;
                }
                () = recovery(&mut self.recovery), if self.recovery.is_some() => self.recovery = None,
            }
            self.dispatch();
        }
        self.shared.collector.finish(self.recorder, &self.pace);
    }

    fn is_done(&self) -> bool {
        self.ended && self.flights.is_empty() && self.backlog.is_empty() && self.recovery.is_none()
    }

    /// End of a tick, microseconds after the origin; the last one ends with the load.
    fn tick_end(&self, tick: u64) -> u64 {
        (tick * self.tick_us + self.offset_us).min(self.clock.end_us)
    }

    fn wake_at(&self) -> tokio::time::Instant {
        self.clock.instant(self.tick_end(self.ticks)).into()
    }

    /// Takes everything that fell due up to the last tick that has ended.
    fn tick(&mut self) {
        let now_us = self.clock.now_us();
        let due_us = self.tick_end(self.ticks);
        let lateness_us = now_us.saturating_sub(due_us);
        // Ticks that were overslept are sent together with this one, as one batch.
        self.ticks = self
            .ticks
            .max(now_us.saturating_sub(self.offset_us) / self.tick_us)
            + 1;
        let until_us = self.tick_end(self.ticks - 1);
        let before = self.backlog.len();
        let taken = self.shared.cohorts[self.index].lock().take_due(
            until_us,
            ENTRIES_MAX,
            &mut self.backlog,
        );
        if until_us > self.clock.load_us {
            self.pace.wake.saturating_record(lateness_us.max(1));
            self.pace.sends.planned += taken;
            if lateness_us > LATE_US {
                self.pace.sends.late += taken;
                self.recorder.late(due_us, taken);
            }
            for piece in self.backlog.range(before..) {
                self.pace
                    .batches
                    .saturating_record(u64::from(piece.entries));
            }
        }
        self.housekeeping(now_us);
        self.ended = until_us >= self.clock.end_us;
    }

    fn housekeeping(&mut self, now_us: u64) {
        if now_us >= self.next_flush_us {
            self.recorder
                .flush(&self.shared.collector, &self.pace.sends);
            self.next_flush_us = (now_us / SECOND_US + 1) * SECOND_US;
        }
        let trouble = self.shared.trouble.load(Ordering::Acquire);
        if trouble != self.trouble_seen {
            self.trouble_seen = trouble;
            self.start_recovery();
        }
        if let Some(reason) = self.shared.stop.reason() {
            self.stop(reason);
        }
    }

    /// Ends the schedule here: what is queued is never sent.
    fn stop(&mut self, reason: StopReason) {
        self.clock.end_us = 0;
        while let Some(piece) = self.backlog.pop_front() {
            match reason {
                // The user's doing: nobody waited for these.
                StopReason::Interrupted => self.fail(piece, Class::Failed("stopped")),
                StopReason::ServiceGone => self.give_up(piece, "stopped"),
            }
        }
    }

    fn start_recovery(&mut self) {
        if self.recovery.is_none() {
            let (shared, index) = (self.shared.clone(), self.index);
            self.recovery = Some(Box::pin(async move {
                population::recover(&shared, index).await
            }));
        }
    }

    /// Sends what is queued while connections are free.
    fn dispatch(&mut self) {
        while let Some(&piece) = self.backlog.front() {
            if self.recovery.is_some() {
                // Nothing listens, or nobody knows the sessions: counted as failed, certainly not applied.
                self.backlog.pop_front();
                self.give_up(piece, "connection");
                continue;
            }
            if self.clock.now_us() > piece.tick_us + self.timeout_us {
                self.backlog.pop_front();
                self.give_up(piece, "unsent_timeout");
                continue;
            }
            if self.lanes.is_empty() || self.shared.cohorts[self.index].lock().conflicts(piece) {
                return;
            }
            self.backlog.pop_front();
            self.send(piece);
        }
    }

    fn send(&mut self, piece: Piece) {
        let catalogue = self.shared.catalogue();
        let (call, entries) = if piece.single {
            self.single(piece)
        } else {
            self.batch(piece, &catalogue)
        };
        let Some(mut lane) = (if entries == 0 { None } else { self.lanes.pop() }) else {
            // Its sessions were replaced since it was cut.
            self.give_up(piece, "session_replaced");
            return;
        };
        if piece.tick_us > self.clock.load_us {
            self.pace.sends.sent += u64::from(entries);
        }
        if let Some(taping) = &self.shared.taping {
            let sent = self.shared.cohorts[self.index].lock().sent(piece).collect();
            taping.add(sent);
        }
        self.flights.push(Box::pin(async move {
            let result = lane.call(call).await;
            Flown {
                lane,
                piece,
                entries,
                result,
            }
        }));
    }

    fn batch(&mut self, piece: Piece, catalogue: &Catalogue) -> (Call, u32) {
        let wire = self.shared.plan.args.wire;
        self.records.clear();
        let records = &mut self.records;
        let entries = self.shared.cohorts[self.index]
            .lock()
            .depart(piece, |id, background| {
                records.push((id, catalogue.flyweight(background)))
            });
        self.body.reserve(16 + 12 * self.records.len());
        wire.switch(
            catalogue.epoch,
            self.records.iter().copied(),
            &mut self.body,
        );
        let call = Call {
            method: Method::POST,
            path: self.batch_path.clone(),
            content_type: Some(self.content_type.clone()),
            if_match: None,
            body: self.body.split().freeze(),
            answer_bytes_max: wire.answer_bytes_max(entries as usize),
        };
        (call, entries)
    }

    fn single(&self, piece: Piece) -> (Call, u32) {
        let mut target = (0, 0);
        let entries = self.shared.cohorts[self.index]
            .lock()
            .depart(piece, |id, background| target = (id, background));
        let path = format!("/v1/sessions/{:016x}/background", target.0);
        let body = format!(
            "{{\"background\":\"{}\"}}",
            self.shared.gallery.id(target.1)
        );
        let call = Call {
            method: Method::PUT,
            path: path.parse().unwrap_or_default(),
            content_type: Some(HeaderValue::from_static("application/json")),
            if_match: None,
            body: body.into(),
            answer_bytes_max: SMALL_ANSWER_BYTES,
        };
        (call, entries)
    }

    /// Books a piece that the service kept from being sent: it counts what it waited.
    fn give_up(&mut self, piece: Piece, why: &'static str) {
        if piece.tick_us > self.clock.load_us {
            self.pace.sends.unsent += u64::from(piece.entries);
        }
        self.fail(piece, Class::Unanswered(why));
    }

    /// Books a piece that was never sent.
    fn fail(&mut self, piece: Piece, class: Class) {
        let now_us = self.clock.now_us();
        let recorder = &mut self.recorder;
        self.shared.cohorts[self.index]
            .lock()
            .land(piece, Landing::Refused, |due_us, _| {
                recorder.book(due_us, now_us, class)
            });
    }

    fn land(&mut self, flown: Flown) -> Note {
        let Flown {
            lane,
            piece,
            entries,
            result,
        } = flown;
        self.lanes.push(lane);
        let name = if piece.single {
            "switch"
        } else {
            "batchSwitch"
        };
        let mut note = Note {
            name,
            took: Duration::ZERO,
            status: None,
            error: None,
        };
        let mut done_us = self.clock.now_us();
        let verdict = match &result {
            Err(error) => {
                if matches!(error, CallError::Connect(_)) {
                    self.start_recovery();
                }
                Verdict::unanswered(error)
            }
            Ok(answer) => {
                note.status = Some(answer.status);
                note.took = answer.done - answer.sent;
                done_us = self.clock.at(answer.done);
                self.judge(piece, entries, answer)
            }
        };
        note.error = verdict.error();
        if matches!(verdict, Verdict::Answered) {
            self.recorder
                .served(self.clock_due(piece), micros(note.took), entries);
        }
        self.book(piece, done_us, verdict);
        note
    }

    fn clock_due(&self, piece: Piece) -> u64 {
        self.shared.cohorts[self.index].lock().due_us(piece.first)
    }

    /// What an answer means for the entries of its piece; codes go to `self.codes`.
    fn judge(&mut self, piece: Piece, entries: u32, answer: &Answer) -> Verdict {
        self.codes.clear();
        match answer.status {
            200 if piece.single => {
                self.codes.push(code::OK);
                Verdict::Answered
            }
            200 => {
                let wire = self.shared.plan.args.wire;
                match wire.switch_answer(&answer.body, entries as usize, &mut self.codes) {
                    Ok(_) => Verdict::Answered,
                    Err(_) => Verdict::Doubtful(Class::Unclear("bad_answer")),
                }
            }
            429 | 503 => Verdict::Refused(Class::Shed),
            409 => {
                self.start_recovery();
                Verdict::Refused(Class::Failed("stale_epoch"))
            }
            404 => {
                self.start_recovery();
                Verdict::Refused(Class::Failed("session_not_found"))
            }
            status if status >= 500 => Verdict::Doubtful(Class::Unclear(status_name(status))),
            status => Verdict::Refused(Class::Failed(status_name(status))),
        }
    }

    fn book(&mut self, piece: Piece, done_us: u64, verdict: Verdict) {
        let (landing, class) = match verdict {
            Verdict::Answered => (
                Landing::Codes(&self.codes),
                Class::Indeterminate("session_replaced"),
            ),
            Verdict::Refused(class) => (Landing::Refused, class),
            Verdict::Doubtful(class) => (Landing::Doubtful, class),
        };
        let recorder = &mut self.recorder;
        self.shared.cohorts[self.index]
            .lock()
            .land(piece, landing, |due_us, entry| {
                let class = match entry {
                    Entry::Acked => Class::Ok,
                    Entry::Code(code::SHED) => Class::Shed,
                    Entry::Code(code) => Class::Failed(code_name(code)),
                    Entry::AsPiece => class,
                };
                recorder.book(due_us, done_us, class);
            });
    }
}

async fn recovery(slot: &mut Option<Pin<Box<dyn Future<Output = ()> + Send>>>) {
    match slot {
        Some(recovery) => recovery.await,
        None => std::future::pending().await,
    }
}

/// What an answer, or none, means for a whole piece.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Codes say.
    Answered,
    /// Certainly not applied.
    Refused(Class),
    /// Perhaps applied.
    Doubtful(Class),
}

impl Verdict {
    fn unanswered(error: &CallError) -> Self {
        if error.may_have_applied() {
            Verdict::Doubtful(Class::Indeterminate(error.name()))
        } else {
            Verdict::Refused(Class::Unanswered(error.name()))
        }
    }

    fn error(self) -> Option<&'static str> {
        match self {
            Verdict::Answered => None,
            Verdict::Refused(class) | Verdict::Doubtful(class) => class.error(),
        }
    }
}

/// Name of a status in the report.
#[expect(
    clippy::match_overlapping_arm,
    reason = "statuses of their own first, then the rest of their class"
)]
pub fn status_name(status: u16) -> &'static str {
    match status {
        400 => "http_400",
        401 => "http_401",
        403 => "http_403",
        404 => "http_404",
        408 => "http_408",
        413 => "http_413",
        415 => "http_415",
        500 => "http_500",
        502 => "http_502",
        504 => "http_504",
        400..500 => "http_4xx",
        500.. => "http_5xx",
        _ => "http_other",
    }
}
