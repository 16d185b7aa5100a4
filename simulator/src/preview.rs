//! Preview users: frames by a timetable, each with a planned time, and the other readers of a run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::cli::Scanning;
use crate::client::Lane;
use crate::frame::{self, Due, Flight, Flown};
use crate::gateway::{Note, RequestLog};
use crate::population;
use crate::record::{Class, LATE_US, Operation, Pace, Recorder};
use crate::schedule::mix;
use crate::shared::{Clock, Shared, micros};
use crate::timetable::Timetable;

/// Time between samples of sessions.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
const SECOND_US: u64 = 1_000_000;

/// One preview user.
pub struct Previewer {
    shared: Arc<Shared>,
    clock: Clock,
    timetable: Timetable,
    next: u64,
    lanes: Vec<Lane>,
    backlog: VecDeque<Due>,
    flights: FuturesUnordered<Flight>,
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
    /// Worker `worker` of `workers`, which share the stream of previews and its connections.
    pub fn stream(shared: &Arc<Shared>, worker: usize, workers: usize, clock: Clock) -> Self {
        let plan = &shared.plan;
        let timetable = Timetable::Stream {
            seed: plan.args.seed,
            per_second: plan.previews_per_second,
            worker: worker as u64,
            workers: workers as u64,
        };
        let lanes = plan.preview_lanes().div_ceil(workers).max(1);
        Previewer::new(shared, timetable, lanes, clock)
    }

    /// The one that passes over all backgrounds. The first pass begins with the measured load.
    pub fn scan(shared: &Arc<Shared>, scanning: Scanning, clock: Clock) -> Self {
        let timetable = Timetable::Passes {
            count: shared.gallery.len() as u16,
            per_second: scanning.per_second,
            every_us: micros(scanning.every),
            from_us: clock.load_us,
        };
        Previewer::new(shared, timetable, shared.plan.scan_lanes(), clock)
    }

    fn new(shared: &Arc<Shared>, timetable: Timetable, lanes: usize, clock: Clock) -> Self {
        let timeout = shared.plan.args.timeout;
        Previewer {
            clock,
            timetable,
            next: 0,
            lanes: (0..lanes)
                .map(|_| Lane::new(shared.target.clone(), timeout))
                .collect(),
            backlog: VecDeque::new(),
            flights: FuturesUnordered::new(),
            recorder: Recorder::new(Operation::Preview, shared.spans.clone()),
            pace: Pace::default(),
            timeout_us: micros(timeout),
            next_flush_us: SECOND_US,
            shared: shared.clone(),
        }
    }

    /// The frame that comes after those taken.
    fn upcoming(&self) -> Due {
        self.timetable.due(self.next)
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
                let late = u64::from(lateness_us > LATE_US);
                self.recorder.late(due.at_us, late);
                if lateness_us > self.timeout_us {
                    // Given up before it could be asked for: the simulator's doing, not the service's.
                    self.pace.sends.dropped += 1;
                } else {
                    self.pace.sends.late += late;
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
            self.recorder
                .flush(&self.shared.collector, &self.pace.sends);
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
    fn send(&mut self, due: Due, lane: Lane) -> Option<Lane> {
        let chosen = match self.timetable.background(due.number) {
            None => frame::anybody(&self.shared, due.number),
            Some(background) => frame::showing(&self.shared, due.number, background),
        };
        let Some(chosen) = chosen else {
            return Some(lane);
        };
        self.flights
            .push(frame::ask(&self.shared, lane, due, chosen));
        None
    }

    fn land(&mut self, flown: Flown) -> Note {
        let landed = frame::land(&self.shared, &self.clock, &mut self.recorder, flown);
        let answered = matches!(landed.class, Class::Ok | Class::Degraded);
        if answered && self.timetable.background(landed.due.number).is_some() {
            self.shared.scanned.fetch_add(1, Ordering::Relaxed);
        }
        self.lanes.push(landed.lane);
        landed.note
    }
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
