//! The smallest plan that still fails: the fewest faults first, by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", `ddmin`), then each fault as weak and as short as it can be, by bisection.

use crate::scenario::FaultPlan;

use super::dial::Dial;
use super::trials::{Judged, Trials};
use super::{Answer, Ask, Step};

/// A plan that fails, made smaller as far as the runs went.
pub(super) struct Shrunk {
    pub(super) faults: Vec<FaultPlan>,
    /// Nothing smaller that was looked for is left to try, and each of it could be judged.
    pub(super) done: bool,
    /// Whether it fails with nothing done to the service; none if that is not known.
    pub(super) without_fault: Option<bool>,
    /// None of the trials of something smaller decided anything.
    pub(super) unjudged: bool,
}

/// A smaller plan that is to be tried, and whether it still fails in the same way. None if no more can be tried.
struct Shrink<'a, O> {
    trials: &'a mut Trials<O>,
    cause: &'a str,
    without_fault: Option<bool>,
    unjudged: bool,
}

/// Makes a plan that failed by `cause` smaller while it still fails by it.
pub(super) async fn shrink<O: AsyncFnMut(Ask<'_>) -> Answer>(
    trials: &mut Trials<O>,
    faults: &[FaultPlan],
    cause: &str,
) -> Shrunk {
    let mut smallest = faults.to_vec();
    let mut shrink = Shrink {
        trials,
        cause,
        without_fault: None,
        unjudged: false,
    };
    let tried =
        shrink.fewest(&mut smallest).await.is_some() && shrink.least(&mut smallest).await.is_some();
    Shrunk {
        done: tried && !shrink.unjudged,
        without_fault: shrink.without_fault,
        unjudged: shrink.unjudged,
        faults: smallest,
    }
}

impl<O: AsyncFnMut(Ask<'_>) -> Answer> Shrink<'_, O> {
    async fn fails(&mut self, step: Step<'_>, faults: &[FaultPlan]) -> Option<bool> {
        let fails = match self.trials.judge(step, faults).await {
            Judged::Deviated(causes) => causes.iter().any(|c| c == self.cause),
            Judged::Held => false,
            Judged::Unjudged => {
                // What decides nothing makes nothing smaller, and proves nothing to be the smallest.
                self.unjudged = true;
                return Some(false);
            }
            Judged::Over => return None,
        };
        if step == Step::NoFault {
            self.without_fault = Some(fails);
        }
        Some(fails)
    }

    /// The fewest faults: parts of the plan, and the plan without a part, in ever finer parts.
    async fn fewest(&mut self, faults: &mut Vec<FaultPlan>) -> Option<()> {
        // Whatever fails with nothing done to it is no fault's doing.
        if self.fails(Step::NoFault, &[]).await? {
            faults.clear();
            return Some(());
        }
        let mut parts = 2;
        while faults.len() >= 2 {
            let size = faults.len().div_ceil(parts);
            let cuts: Vec<_> = (0..faults.len()).step_by(size).collect();
            let within = |at: usize| at..(at + size).min(faults.len());
            let alone = cuts.iter().map(|at| faults[within(*at)].to_vec());
            let without = cuts.iter().map(|at| {
                let part = within(*at);
                let rest = faults.iter().enumerate();
                let rest = rest.filter(|(n, _)| !part.contains(n));
                rest.map(|(_, fault)| fault.clone()).collect::<Vec<_>>()
            });
            // Of two parts each is the plan without the other.
            let without = without.filter(|_| cuts.len() > 2);
            let candidates: Vec<_> = alone
                .map(|part| (part, 2))
                .chain(without.map(|rest| (rest, parts - 1)))
                .collect();
            let mut smaller = None;
            for (candidate, finer) in candidates {
                if self.fails(Step::FewerFaults, &candidate).await? {
                    smaller = Some((candidate, finer));
                    break;
                }
            }
            match smaller {
                Some((candidate, finer)) => {
                    *faults = candidate;
                    parts = finer.max(2);
                }
                None if size == 1 => return Some(()),
                None => parts = (2 * parts).min(faults.len()),
            }
        }
        Some(())
    }

    /// Each fault as weak and as short as it can be, one dial after the other.
    async fn least(&mut self, faults: &mut [FaultPlan]) -> Option<()> {
        for at in 0..faults.len() {
            for dial in Dial::ALL {
                self.turn_down(faults, at, dial).await?;
            }
        }
        Some(())
    }

    async fn turn_down(&mut self, faults: &mut [FaultPlan], at: usize, dial: Dial) -> Option<()> {
        let Some((mut fails_at, least)) = dial.range(&faults[at]) else {
            return Some(());
        };
        let mut holds_at = least;
        let mut value = least;
        while fails_at > least && value < fails_at {
            let mut candidate = faults.to_vec();
            candidate[at] = dial.turned(&faults[at], value);
            let step = Step::Smaller {
                fault: &faults[at].name,
                dial,
            };
            if self.fails(step, &candidate).await? {
                fails_at = value;
                faults[at] = candidate.swap_remove(at);
            } else {
                holds_at = value;
            }
            // A tenth is near enough: each step is a trial.
            if fails_at.saturating_sub(holds_at) <= (fails_at / 10).max(1) {
                break;
            }
            value = holds_at.midpoint(fails_at);
        }
        Some(())
    }
}
