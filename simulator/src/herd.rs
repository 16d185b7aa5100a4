//! Herds: many sessions ask at the same moment for previews of one background whose pixels nobody has.
//!
//! A background is made cold by an upload of its next revision, which the public API promises to show from its
//! acknowledgement on; so every frame of a herd is also a check for staleness. A herd whose background could not be made
//! cold before it was due is left out and counted, never sent late. Where the admin listener is known, the service's own
//! count of texture loads is read before and after each herd, while nothing else asks for pixels.

use std::sync::Arc;

use backdrop_reports::load::HerdFigures;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::admin::Admin;
use crate::cli::Herding;
use crate::client::Lane;
use crate::frame::{self, Due, Flight};
use crate::gateway::RequestLog;
use crate::population;
use crate::record::{Class, LATE_US, Operation, Pace, Recorder, Total, histogram, latency_of};
use crate::shared::{Clock, Shared, micros};

/// What all herds of a run brought.
#[derive(Debug)]
pub struct Herds {
    figures: HerdFigures,
    first: Total,
    last: Total,
}

impl Default for Herds {
    fn default() -> Self {
        Herds {
            figures: HerdFigures::default(),
            first: histogram(),
            last: histogram(),
        }
    }
}

impl Herds {
    /// For the report.
    pub fn figures(&self) -> HerdFigures {
        HerdFigures {
            first: latency_of(&self.first),
            last: latency_of(&self.last),
            ..self.figures.clone()
        }
    }

    /// Adds one herd with the service's own count of the loads that it caused.
    fn add(&mut self, asked: u64, herd: &[Member], loads: Option<u64>) {
        let shown = || herd.iter().filter(|member| member.class == Class::Ok);
        let shown_us: Vec<u64> = shown().map(|member| member.latency_us).collect();
        let figures = &mut self.figures;
        figures.herds += 1;
        figures.asked += asked;
        figures.shown += shown_us.len() as u64;
        figures.missed += shown().filter(|member| member.loaded).count() as u64;
        if let Some(loads) = loads {
            figures.counted += 1;
            figures.loads += loads;
            figures.loads_max = figures.loads_max.max(loads);
        }
        if let (Some(first), Some(last)) = (shown_us.iter().min(), shown_us.iter().max()) {
            self.first.saturating_record((*first).max(1));
            self.last.saturating_record((*last).max(1));
        }
    }
}

/// How one member of a herd fared.
#[derive(Debug, Clone, Copy)]
struct Member {
    latency_us: u64,
    class: Class,
    loaded: bool,
}

/// The one that gathers the herds.
pub struct Herder {
    shared: Arc<Shared>,
    clock: Clock,
    herding: Herding,
    admin: Option<Admin>,
    lanes: Vec<Lane>,
    recorder: Recorder,
    pace: Pace,
    asked: u64,
}

impl Herder {
    /// With a connection for each member of a herd.
    pub fn new(shared: &Arc<Shared>, herding: Herding, clock: Clock) -> Self {
        let timeout = shared.plan.args.timeout;
        let lane = || Lane::new(shared.target.clone(), timeout);
        Herder {
            clock,
            herding,
            admin: shared.admin.clone(),
            lanes: (0..herding.size).map(|_| lane()).collect(),
            recorder: Recorder::new(Operation::Preview, shared.spans.clone()),
            pace: Pace::default(),
            asked: 0,
            shared: shared.clone(),
        }
    }

    /// One herd after the other until the load ends. A herd is due in the middle of its turn; before, it is prepared.
    pub async fn run(mut self, log: &mut impl RequestLog) {
        let every_us = micros(self.herding.every);
        for turn in 0.. {
            let due_us = turn * every_us + every_us / 2;
            if due_us >= self.clock.end_us || self.shared.stop.reason().is_some() {
                break;
            }
            self.sleep_until(turn * every_us).await;
            let cold = self.prepare(turn).await;
            let before = self.loads().await;
            if cold && self.clock.now_us() < due_us {
                self.sleep_until(due_us).await;
                let asked = self.lanes.len() as u64;
                let herd = self.charge(turn, due_us, log).await;
                let after = self.loads().await;
                if due_us >= self.clock.load_us {
                    let loads = before.zip(after).map(|(b, a)| a.saturating_sub(b));
                    self.shared.herds.lock().add(asked, &herd, loads);
                }
            } else if due_us >= self.clock.load_us {
                self.shared.herds.lock().figures.skipped += 1;
            }
            self.recorder
                .flush(&self.shared.collector, &self.pace.sends);
        }
        self.shared.collector.finish(self.recorder, &self.pace);
    }

    async fn sleep_until(&self, at_us: u64) {
        tokio::time::sleep_until(self.clock.instant(at_us).into()).await;
    }

    /// The backgrounds of a turn, one or more.
    fn backgrounds(&self, turn: u64) -> impl Iterator<Item = u16> + use<> {
        let (keys, count) = (
            u64::from(self.herding.keys),
            self.shared.gallery.len() as u64,
        );
        (0..keys).map(move |key| ((turn * keys + key) % count) as u16)
    }

    /// Makes the backgrounds of a turn cold; whether all of them are.
    async fn prepare(&self, turn: u64) -> bool {
        let mut cold = true;
        for background in self.backgrounds(turn) {
            let uploaded = population::upload_again(&self.shared, background).await;
            cold &= matches!(uploaded, Ok(true));
        }
        cold
    }

    /// Texture loads that the service has counted; `None` without an admin listener, or where it does not answer.
    async fn loads(&self) -> Option<u64> {
        match &self.admin {
            Some(admin) => admin.counter("backdrop_flyweight_loads_total").await,
            None => None,
        }
    }

    /// Sends the whole herd at once and waits for every answer.
    async fn charge(&mut self, turn: u64, due_us: u64, log: &mut impl RequestLog) -> Vec<Member> {
        let lateness_us = self.clock.now_us().saturating_sub(due_us);
        let size = self.lanes.len() as u64;
        let mut flights = self.send(turn, due_us);
        if due_us >= self.clock.load_us {
            self.pace.wake.saturating_record(lateness_us.max(1));
            let sends = &mut self.pace.sends;
            sends.planned += size;
            sends.sent += flights.len() as u64;
            sends.unsent += size - flights.len() as u64;
            // As a whole: its members were due at the same moment.
            if lateness_us > LATE_US {
                sends.late += size;
                self.recorder.late(due_us, size);
            }
        }
        let mut herd = Vec::with_capacity(flights.len());
        while let Some(flown) = flights.next().await {
            let landed = frame::land(&self.shared, &self.clock, &mut self.recorder, flown);
            self.lanes.push(landed.lane);
            log.note(landed.note).await;
            herd.push(Member {
                latency_us: landed.done_us.saturating_sub(due_us),
                class: landed.class,
                loaded: landed.loaded,
            });
        }
        herd
    }

    fn send(&mut self, turn: u64, due_us: u64) -> FuturesUnordered<Flight> {
        let backgrounds: Vec<u16> = self.backgrounds(turn).collect();
        let flights = FuturesUnordered::new();
        for (member, lane) in std::mem::take(&mut self.lanes).into_iter().enumerate() {
            let due = Due {
                number: self.asked,
                at_us: due_us,
            };
            self.asked += 1;
            let background = backgrounds[member % backgrounds.len()];
            match frame::showing(&self.shared, due.number, background) {
                Some(chosen) => flights.push(frame::ask(&self.shared, lane, due, chosen)),
                None => {
                    // Nobody was there to wait for a frame: no latency.
                    let class = Class::Failed("no_session");
                    self.recorder.book(due_us, due_us, class);
                    self.lanes.push(lane);
                }
            }
        }
        flights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn herds_add_up_and_only_whole_frames_count() {
        let member = |latency_us, class, loaded| Member {
            latency_us,
            class,
            loaded,
        };
        let mut herds = Herds::default();
        let herd = [
            member(30_000, Class::Ok, true),
            member(20_000, Class::Ok, false),
            member(1, Class::Shed, false),
            member(2, Class::Degraded, false),
        ];
        herds.add(5, &herd, Some(1));
        herds.add(5, &herd, Some(3));
        herds.add(5, &[], None);
        let figures = herds.figures();
        assert_eq!((figures.herds, figures.asked, figures.shown), (3, 15, 4));
        assert_eq!((figures.missed, figures.counted), (2, 2));
        assert_eq!((figures.loads, figures.loads_max), (4, 3));
        assert_eq!((figures.first.count, figures.last.count), (2, 2));
        assert!((20_000..20_100).contains(&figures.first.max_us));
        assert!((30_000..30_100).contains(&figures.last.max_us));
    }
}
