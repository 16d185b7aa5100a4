//! Preview users: frames at a fixed open rate, each with a planned time, and the other readers of a run.
//!
//! Which session a preview shows is a hash of its number. What the session may show is watched from before the
//! request leaves until the answer is there.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::client::{Answer, Call, CallError, Lane};
use crate::gateway::{Note, RequestLog, status_name};
use crate::population;
use crate::reader::Frame;
use crate::record::{Class, Operation, Pace, Recorder};
use crate::schedule::mix;
use crate::shared::{Clock, Shared, micros};
use crate::truth::Allowed;

/// Time between samples of sessions.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
const LATE_US: u64 = 5_000;
const SECOND_US: u64 = 1_000_000;

/// A frame that is due.
#[derive(Debug, Clone, Copy)]
struct Due {
    number: u64,
    at_us: u64,
}

struct Flown {
    lane: Lane,
    due: Due,
    gateway: usize,
    index: usize,
    token: u64,
    sent: Instant,
    result: Result<Answer, CallError>,
}

/// One preview user.
pub struct Previewer {
    shared: Arc<Shared>,
    clock: Clock,
    worker: u64,
    workers: u64,
    next: u64,
    lanes: Vec<Lane>,
    backlog: VecDeque<Due>,
    flights: FuturesUnordered<Pin<Box<dyn Future<Output = Flown> + Send>>>,
    recorder: Recorder,
    pace: Pace,
    timeout_us: u64,
    next_flush_us: u64,
}

/// Preview users that a rate needs.
pub fn workers(rate: f64) -> usize {
    if rate > 0.0 {
        (rate / 500.0).ceil().clamp(1.0, 8.0) as usize
    } else {
        0
    }
}

impl Previewer {
    /// Worker `worker` of `workers`, which share the rate and the connections.
    pub fn new(shared: &Arc<Shared>, worker: usize, workers: usize, clock: Clock) -> Self {
        let plan = &shared.plan;
        let lanes = plan.preview_lanes().div_ceil(workers).max(1);
        Previewer {
            clock,
            worker: worker as u64,
            workers: workers as u64,
            next: 0,
            lanes: (0..lanes)
                .map(|_| Lane::new(shared.target.clone(), plan.args.timeout))
                .collect(),
            backlog: VecDeque::new(),
            flights: FuturesUnordered::new(),
            recorder: Recorder::new(Operation::Preview, shared.spans.clone()),
            pace: Pace::default(),
            timeout_us: micros(plan.args.timeout),
            next_flush_us: SECOND_US,
            shared: shared.clone(),
        }
    }

    /// The frame that comes after those taken: evenly spaced, with a seeded jitter of one place.
    fn upcoming(&self) -> Due {
        let number = self.next * self.workers + self.worker;
        let jitter = (mix(self.shared.plan.args.seed, 0x7072_6576, number) >> 11) as f64
            / (1_u64 << 53) as f64;
        Due {
            number,
            at_us: ((number as f64 + jitter) / self.shared.plan.previews_per_second * 1e6) as u64,
        }
    }

    /// Asks for every frame of the schedule, and hands in the figures.
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
        self.shared.collector.finish(self.recorder, &self.pace);
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
                break;
            }
            self.next += 1;
            if due.at_us >= self.clock.load_us {
                let lateness_us = now_us - due.at_us;
                self.pace.wake.saturating_record(lateness_us.max(1));
                self.pace.sends.planned += 1;
                if lateness_us > self.timeout_us {
                    // Given up before it could be asked for: the simulator's doing, not the service's.
                    self.pace.sends.dropped += 1;
                } else {
                    self.pace.sends.late += u64::from(lateness_us > LATE_US);
                }
            }
            if now_us - due.at_us > self.timeout_us {
                self.recorder
                    .book(due.at_us, now_us, Class::Failed("overslept"));
                continue;
            }
            self.backlog.push_back(due);
        }
        if now_us >= self.next_flush_us {
            self.recorder.flush(&self.shared.collector);
            self.next_flush_us = (now_us / SECOND_US + 1) * SECOND_US;
        }
        false
    }

    fn dispatch(&mut self) {
        while let Some(&due) = self.backlog.front() {
            let now_us = self.clock.now_us();
            if now_us > due.at_us + self.timeout_us {
                self.backlog.pop_front();
                self.pace.sends.unsent += self.measured(due);
                self.recorder
                    .book(due.at_us, now_us, Class::Unanswered("unsent_timeout"));
                continue;
            }
            let Some(lane) = self.lanes.pop() else { return };
            self.backlog.pop_front();
            if let Some(lane) = self.send(due, lane) {
                self.lanes.push(lane);
                self.pace.sends.unsent += self.measured(due);
                // Nobody was there to wait for a frame: no latency.
                self.recorder
                    .book(due.at_us, now_us, Class::Failed("no_session"));
            } else {
                self.pace.sends.sent += self.measured(due);
            }
        }
    }

    /// One if the frame belongs to the measured load, else zero.
    fn measured(&self, due: Due) -> u64 {
        u64::from(due.at_us >= self.clock.load_us)
    }

    /// Gives the lane back when there is no session to look at.
    fn send(&mut self, due: Due, mut lane: Lane) -> Option<Lane> {
        let Some((gateway, index, id, token)) = self.choose(due.number) else {
            return Some(lane);
        };
        let (width, height) = self.shared.plan.args.preview_size;
        let path = format!(
            "/v1/sessions/{id:016x}/frame?width={width}&height={height}&format=jpeg&quality=80"
        );
        let call = Call::get(path.parse().unwrap_or_default());
        self.flights.push(Box::pin(async move {
            let sent = Instant::now();
            let result = lane.call(call).await;
            Flown {
                lane,
                due,
                gateway,
                index,
                token,
                sent,
                result,
            }
        }));
        None
    }

    /// A session that exists, watched: gateway, index, id, token.
    fn choose(&self, number: u64) -> Option<(usize, usize, u64, u64)> {
        let hash = mix(self.shared.plan.args.seed, 0x6672_616d, number);
        let gateways = self.shared.cohorts.len();
        let first = crate::schedule::below(hash, gateways as u64) as usize;
        (0..gateways)
            .map(|step| (first + step) % gateways)
            .find_map(|gateway| {
                let mut cohort = self.shared.cohorts[gateway].lock();
                let index = cohort.pick(mix(hash, 1, 2))?;
                let id = cohort.id(index)?;
                Some((gateway, index, id, cohort.watch(index)))
            })
    }

    fn land(&mut self, flown: Flown) -> Note {
        let allowed = self.shared.cohorts[flown.gateway]
            .lock()
            .unwatch(flown.token);
        let mut note = Note {
            name: "frame",
            took: Duration::ZERO,
            status: None,
            error: None,
        };
        let (class, done_us) = match &flown.result {
            Err(error) => {
                if matches!(error, CallError::Connect(_)) {
                    self.shared.suspect();
                }
                let class = match error.may_have_applied() {
                    true => Class::Indeterminate(error.name()),
                    false => Class::Unanswered(error.name()),
                };
                (class, self.clock.now_us())
            }
            Ok(answer) => {
                note.status = Some(answer.status);
                note.took = answer.done - answer.sent;
                let class = self.classify(answer);
                if matches!(class, Class::Ok | Class::Degraded) {
                    self.recorder.served(flown.due.at_us, micros(note.took), 1);
                }
                (class, self.clock.at(answer.done))
            }
        };
        note.error = class.error();
        self.recorder.book(flown.due.at_us, done_us, class);
        if let (Class::Ok, Ok(answer), Some(allowed)) = (class, &flown.result, allowed) {
            self.look_at(&flown, answer, allowed);
        }
        self.lanes.push(flown.lane);
        note
    }

    fn classify(&self, answer: &Answer) -> Class {
        match answer.status {
            200 if is_degraded(answer) => Class::Degraded,
            200 => Class::Ok,
            429 | 503 => Class::Shed,
            404 => {
                self.shared.suspect();
                Class::Failed("session_not_found")
            }
            status => Class::Failed(status_name(status)),
        }
    }

    fn look_at(&self, flown: &Flown, answer: &Answer, allowed: Allowed) {
        let catalogue = self.shared.catalogue();
        let number = |text: &str| text.parse::<u32>().ok();
        self.shared.reader.look_at(Frame {
            who: format!(
                "frame {} of {}",
                flown.due.number,
                population::name(&self.shared, flown.gateway, flown.index)
            ),
            body: answer.body.clone(),
            allowed,
            sent: flown.sent,
            header: answer
                .header("backdrop-flyweight")
                .and_then(number)
                .and_then(|index| catalogue.number(index)),
            version: answer.header("backdrop-version").and_then(number),
        });
    }
}

fn is_degraded(answer: &Answer) -> bool {
    answer.header("backdrop-degraded").is_some()
        || answer.header("backdrop-cache") == Some("degraded")
}

/// Reads a few sessions back, over and over, until the load ends.
pub async fn sample_sessions(shared: &Shared, clock: Clock) {
    let mut lane = Lane::new(shared.target.clone(), shared.plan.args.timeout);
    let mut every = tokio::time::interval_at(clock.instant(0).into(), SAMPLE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut round = 0;
    loop {
        every.tick().await;
        if clock.now_us() >= clock.end_us || shared.stop.reason().is_some() {
            return;
        }
        population::sample(shared, &mut lane, round).await;
        round += 1;
    }
}

/// Uploads a new revision of one background after another until the load ends.
pub async fn update_backgrounds(shared: &Shared, clock: Clock, every: Duration) {
    let mut due_us = clock.load_us + micros(every) / 2;
    let mut round = 0;
    while due_us < clock.end_us {
        // Short naps, so that a stop is seen soon.
        while clock.now_us() < due_us {
            if shared.stop.reason().is_some() {
                return;
            }
            let nap = Duration::from_micros(due_us - clock.now_us().min(due_us))
                .min(Duration::from_millis(200));
            tokio::time::sleep(nap).await;
        }
        let number = mix(shared.plan.args.seed, 0x7570_6461, round) % shared.gallery.len() as u64;
        // A failed update leaves its revision begun: either one is right from then on.
        let _ = population::upload_again(shared, number as u16).await;
        round += 1;
        due_us += micros(every);
    }
}
