//! The search for a plan of faults that the service does not bear: random plans one after the other, and the first that deviates made as
//! small as it can be. A function of an oracle that judges one plan: what a trial is and how it is run is not known here.

mod dial;
mod draw;
mod shrink;
mod trials;

pub use dial::Dial;
pub use draw::{Bounds, DrawError, FAULTS_MAX, Space};

use crate::scenario::FaultPlan;
use trials::{Judged, Trials};

/// What a trial of a plan came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The service bore it.
    Held,
    /// It did not; each way in which, the gravest first.
    Deviated(Vec<String>),
    /// The trial decides nothing.
    Inconclusive,
    /// A person interrupted: there will be no other answer.
    Stopped,
}

/// Why a plan is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// It was drawn; its number, from 1.
    Drawn(u32),
    /// Nothing is done to the service, to see whether it is the faults' doing.
    NoFault,
    /// A plan that fails with fewer faults.
    FewerFaults,
    /// The same with one fault weaker or shorter.
    Smaller {
        /// Which.
        fault: &'a str,
        /// What of it.
        dial: Dial,
    },
}

impl Step<'_> {
    /// For people.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Drawn(number) => format!("plan {number}"),
            Self::NoFault => "no fault".to_owned(),
            Self::FewerFaults => "fewer faults".to_owned(),
            Self::Smaller { fault, dial } => format!("smaller: {} of {fault}", dial.word()),
        }
    }
}

/// One trial that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Number of the trial, from 1.
    pub run: u32,
    /// Why.
    pub step: Step<'a>,
    /// The plan.
    pub faults: &'a [FaultPlan],
}

/// A plan that the service does not bear.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its number.
    pub number: u32,
    /// In which way it failed.
    pub cause: String,
    /// As it was drawn.
    pub drawn: Vec<FaultPlan>,
    /// The smallest that was seen to fail in that way.
    pub smallest: Vec<FaultPlan>,
    /// The runs sufficed to look for nothing smaller, and each smaller plan that was tried could be judged.
    pub done: bool,
    /// Whether it fails with nothing done to the service; none if that is not known.
    pub without_fault: Option<bool>,
    /// None of the trials of a smaller plan decided anything.
    pub unjudged: bool,
}

impl Found {
    /// What keeps it from being proven to be the smallest, in words; none if nothing does.
    #[must_use]
    pub fn open(&self) -> Option<&'static str> {
        if self.done {
            return None;
        }
        Some(match (self.without_fault, self.unjudged) {
            (None, _) => "it is not known whether it fails without any fault",
            (Some(_), true) => "not all that is smaller could be judged",
            (Some(_), false) => "the search ended before all that is smaller was tried",
        })
    }
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Trials.
    pub runs: u32,
    /// Plans that held.
    pub held: u32,
    /// Plans none of whose trials decided anything.
    pub unjudged: u32,
    /// The first that deviated.
    pub found: Option<Found>,
    /// A person interrupted.
    pub stopped: bool,
}

/// Draws plans and has them judged until one deviates, which is then made smaller: `runs_max` trials in all, of a plan that none
/// decides anything about `attempts`, and three at most.
pub async fn search(
    draw: impl Fn(u32) -> Vec<FaultPlan>,
    (runs_max, attempts): (u32, u32),
    oracle: impl AsyncFnMut(Ask<'_>) -> Answer,
) -> Outcome {
    let mut trials = Trials::new((runs_max, attempts), oracle);
    let (mut held, mut unjudged, mut found) = (0, 0, None);
    for number in 1..=runs_max {
        let drawn = draw(number);
        match trials.judge(Step::Drawn(number), &drawn).await {
            Judged::Held => held += 1,
            Judged::Unjudged => unjudged += 1,
            Judged::Over => break,
            Judged::Deviated(causes) => {
                let cause = causes.into_iter().next().unwrap_or_default();
                let shrunk = shrink::shrink(&mut trials, &drawn, &cause).await;
                found = Some(Found {
                    number,
                    cause,
                    drawn,
                    smallest: shrunk.faults,
                    done: shrunk.done,
                    without_fault: shrunk.without_fault,
                    unjudged: shrunk.unjudged,
                });
                break;
            }
        }
    }
    Outcome {
        runs: trials.runs(),
        held,
        unjudged,
        found,
        stopped: trials.stopped(),
    }
}
