//! Trials of a search: counted against its runs, repeated where one decides nothing, and never run twice for the same plan.

use crate::scenario::FaultPlan;

use super::{Answer, Ask, Step};

/// Trials of a plan at most, while none of them decides anything.
const ATTEMPTS_MAX: u32 = 3;

/// What is known of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    Held,
    Deviated(Vec<String>),
    /// None of its trials decided anything.
    Unjudged,
    /// No trial is left, or a person interrupted.
    Over,
}

pub(super) struct Trials<O> {
    oracle: O,
    runs_max: u32,
    attempts: u32,
    runs: u32,
    stopped: bool,
    known: Vec<(Vec<FaultPlan>, Judged)>,
}

impl<O: AsyncFnMut(Ask<'_>) -> Answer> Trials<O> {
    /// `runs_max` of them, `attempts` of one plan, but not more than three.
    pub(super) fn new((runs_max, attempts): (u32, u32), oracle: O) -> Self {
        Self {
            oracle,
            runs_max,
            attempts: attempts.min(ATTEMPTS_MAX),
            runs: 0,
            stopped: false,
            known: Vec::new(),
        }
    }

    /// Trials so far.
    pub(super) fn runs(&self) -> u32 {
        self.runs
    }

    /// A person interrupted.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    pub(super) async fn judge(&mut self, step: Step<'_>, faults: &[FaultPlan]) -> Judged {
        if let Some((_, judged)) = self.known.iter().find(|(known, _)| known == faults) {
            return judged.clone();
        }
        for _ in 0..self.attempts {
            if self.stopped || self.runs == self.runs_max {
                return Judged::Over;
            }
            self.runs += 1;
            let ask = Ask {
                run: self.runs,
                step,
                faults,
            };
            let judged = match (self.oracle)(ask).await {
                Answer::Held => Judged::Held,
                Answer::Deviated(causes) => Judged::Deviated(causes),
                Answer::Inconclusive => continue,
                Answer::Stopped => {
                    self.stopped = true;
                    return Judged::Over;
                }
            };
            self.known.push((faults.to_vec(), judged.clone()));
            return judged;
        }
        self.known.push((faults.to_vec(), Judged::Unjudged));
        Judged::Unjudged
    }
}
