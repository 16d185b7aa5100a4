//! The truth checker: what a session or frame showed, against what the service acknowledged.
//!
//! Pure: values in, findings out; no sockets, no clock. A timed-out switch leaves two right answers, a refused one
//! leaves the old. Findings are counted, and the first ones kept in words.

use backdrop_reports::load::{TruthFigures, TruthVerdict};

mod judge;
#[cfg(test)]
mod tests;

pub use judge::{Allowed, FrameExpectation, Pixels, Shown, Violation, judge_frame, judge_session};

/// Violations kept in words.
const HISTORY_MAX: usize = 20;
/// Share of unreadable frames from which nothing can be said.
const UNREADABLE_MAX: f64 = 0.01;
/// Share of frames offered and not looked at from which nothing can be said.
const SKIPPED_MAX: f64 = 0.1;
/// Share of sessions read back with an unsettled switch from which nothing can be said. A restart settles them: the
/// sessions are made anew. An outage without one is settled by two acknowledged switches.
const INDETERMINATE_MAX: f64 = 0.01;

/// A value for messages.
fn or_none(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Truth {
    figures: TruthFigures,
    /// Kinds of evidence that the scenario promises and that must not be empty.
    required: Vec<Evidence>,
    /// Reasons why nothing can be said, beyond the counts.
    doubts: Vec<String>,
    /// Sessions that were lost or wrong when they were last read.
    at_end: (u64, u64),
    /// Clean 404s of what is not there.
    absent: u64,
    /// Sessions that left.
    left: u64,
}

/// What the switch counters of some sessions add up to, against what was acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acknowledged switches.
    pub acknowledged: u64,
    /// Acknowledged, and not in the counters.
    pub missing: u64,
    /// In the counters, and neither acknowledged nor in doubt.
    pub surplus: u64,
}

impl Tally {
    /// Compares the sum of some sessions' counters with their switches; `doubtful` ones may be in it or not.
    pub fn of(acknowledged: u64, doubtful: u64, counted: u64) -> Self {
        Tally {
            acknowledged,
            missing: acknowledged.saturating_sub(counted),
            surplus: counted.saturating_sub(acknowledged + doubtful),
        }
    }

    /// Adds other sessions; a shortage of these is not made good by a surplus of those.
    pub fn add(&mut self, other: Tally) {
        self.acknowledged += other.acknowledged;
        self.missing += other.missing;
        self.surplus += other.surplus;
    }
}

/// Evidence that a scenario must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Sessions read back at the end.
    Sessions,
    /// Frames whose code was read.
    Frames,
    /// Clean 404s of what is not there.
    Absent,
    /// Sessions that left.
    Leavers,
}

impl Evidence {
    /// What has no samples.
    fn words(self) -> &'static str {
        match self {
            Evidence::Sessions => "no session was read back",
            Evidence::Frames => "no frame was read",
            Evidence::Absent => "nothing that is not there was answered by a clean 404",
            Evidence::Leavers => "no session left",
        }
    }
}

/// When a session was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// While the load ran.
    Load,
    /// Before it left, for the last time.
    Leaving,
    /// At the end, for the last time.
    End,
}

impl Moment {
    fn words(self) -> &'static str {
        match self {
            Moment::Load => "during the load",
            Moment::Leaving => "before it left",
            Moment::End => "at the end",
        }
    }
}

impl Truth {
    /// A checker that is inconclusive without this evidence.
    pub fn requiring(required: Vec<Evidence>) -> Self {
        Truth {
            required,
            ..Truth::default()
        }
    }

    /// Books a session read back.
    pub fn session(
        &mut self,
        who: impl FnOnce() -> String,
        allowed: &Allowed,
        shown: Shown,
        earlier: &[u16],
        moment: Moment,
    ) {
        if moment == Moment::End {
            self.figures.sessions_read += 1;
            self.figures.indeterminate += u64::from(allowed.is_doubtful());
        } else {
            self.figures.sessions_sampled += 1;
        }
        if let Some(violation) = judge_session(allowed, shown, earlier) {
            if moment != Moment::Load {
                self.at_end.0 += u64::from(violation == Violation::Lost);
                self.at_end.1 += u64::from(violation == Violation::Wrong);
            }
            let seen = match shown {
                Shown::Background(number) => format!("showed background {number}"),
                Shown::Foreign(index) => {
                    format!("showed index {index}, which is no background of this run")
                }
                Shown::Nothing => "showed no background".to_owned(),
                Shown::Missing => "was answered session_not_found".to_owned(),
            };
            let when = moment.words();
            self.violation(
                violation,
                &format!(
                    "{}: acknowledged {}; {when} it {seen}",
                    who(),
                    allowed.words()
                ),
            );
        }
    }

    /// Books a frame whose pixels were looked at.
    pub fn frame(&mut self, who: &str, expected: &FrameExpectation, pixels: Pixels) {
        match pixels {
            Pixels::Unreadable => self.figures.frames_unreadable += 1,
            _ => self.figures.frames_read += 1,
        }
        if let Some(violation) = judge_frame(expected, pixels) {
            let seen = match pixels {
                Pixels::Code { number, revision } => {
                    format!("shows background {number} revision {revision}")
                }
                Pixels::Torn {
                    codes: [(a, ar), (b, br)],
                } => {
                    format!(
                        "shows background {a} revision {ar} and background {b} revision {br} at once"
                    )
                }
                Pixels::Gap { number, revision } => {
                    format!("shows background {number} revision {revision} and a band of nothing")
                }
                Pixels::Alone { number, revision } => {
                    format!(
                        "shows background {number} revision {revision} without the participant that was sent"
                    )
                }
                Pixels::Unreadable => String::new(),
            };
            self.violation(
                violation,
                &format!(
                    "{who}: acknowledged {}, revision {} to {}, headers say background {} revision {}; the frame {seen}",
                    expected.allowed.words(),
                    expected.revision_min,
                    expected.revision_max,
                    or_none(expected.header),
                    or_none(expected.header_revision),
                ),
            );
        }
    }

    /// Books the comparison of the sessions' counters, which sees also what later switches covered. Sessions found lost
    /// or wrong when they were last read may be among them and are not counted twice.
    pub fn counters(&mut self, tally: Tally) {
        self.figures.switches_counted = Some(tally.acknowledged);
        let (lost, wrong) = self.at_end;
        if tally.missing > 0 {
            let words = format!(
                "{} acknowledged switches are not in the sessions' counters (of {})",
                tally.missing, tally.acknowledged
            );
            self.violations(Violation::Lost, tally.missing.saturating_sub(lost), &words);
        }
        if tally.surplus > 0 {
            let words = format!(
                "the sessions' counters have {} switches more than were acknowledged or in doubt",
                tally.surplus
            );
            self.violations(
                Violation::Wrong,
                tally.surplus.saturating_sub(wrong),
                &words,
            );
        }
    }

    /// Books a violation that was found elsewhere.
    pub fn violation(&mut self, violation: Violation, words: &str) {
        self.violations(violation, 1, words);
    }

    fn violations(&mut self, violation: Violation, count: u64, words: &str) {
        let (counter, name) = match violation {
            Violation::Lost => (&mut self.figures.lost, "lost"),
            Violation::Stale => (&mut self.figures.stale, "stale"),
            Violation::Wrong => (&mut self.figures.wrong, "wrong"),
            Violation::Torn => (&mut self.figures.torn, "torn"),
        };
        *counter += count;
        if self.figures.history.len() < HISTORY_MAX {
            self.figures.history.push(format!("{name}: {words}"));
        }
    }

    /// What is not there was answered by the 404 that it must be.
    pub fn absent(&mut self) {
        self.absent += 1;
    }

    /// So many sessions were read back, deleted and found gone.
    pub fn left(&mut self, sessions: u64) {
        self.left += sessions;
    }

    /// A frame was not looked at, because the readers were busy.
    pub fn skipped(&mut self) {
        self.figures.frames_skipped += 1;
    }

    /// Something that must be readable could not be read.
    pub fn doubt(&mut self, words: String) {
        if self.doubts.len() < HISTORY_MAX && !self.doubts.contains(&words) {
            self.doubts.push(words);
        }
    }

    /// The counts so far, without verdict and history.
    pub fn counts(&self) -> TruthFigures {
        TruthFigures {
            history: Vec::new(),
            ..self.figures.clone()
        }
    }

    /// The figures with their verdict.
    pub fn conclude(&self) -> TruthFigures {
        let mut figures = self.figures.clone();
        let violations = figures.lost + figures.stale + figures.wrong + figures.torn;
        let frames = figures.frames_read + figures.frames_unreadable;
        let unreadable =
            frames > 0 && figures.frames_unreadable as f64 > UNREADABLE_MAX * frames as f64;
        let offered = frames + figures.frames_skipped;
        let skipped = figures.frames_skipped as f64 > SKIPPED_MAX * offered as f64;
        let indeterminate =
            figures.indeterminate as f64 > INDETERMINATE_MAX * figures.sessions_read as f64;
        let missing: Vec<&str> = self
            .required
            .iter()
            .filter(|evidence| match evidence {
                Evidence::Sessions => figures.sessions_read == 0,
                Evidence::Frames => figures.frames_read == 0,
                Evidence::Absent => self.absent == 0,
                Evidence::Leavers => self.left == 0,
            })
            .map(|evidence| evidence.words())
            .collect();
        figures.verdict = if violations > 0 {
            TruthVerdict::Violated
        } else if unreadable
            || skipped
            || indeterminate
            || !missing.is_empty()
            || !self.doubts.is_empty()
        {
            TruthVerdict::Inconclusive
        } else {
            TruthVerdict::Clean
        };
        if unreadable {
            figures.history.push(format!(
                "inconclusive: {} of {frames} frames unreadable",
                figures.frames_unreadable
            ));
        }
        if skipped {
            figures.history.push(format!(
                "inconclusive: {} of {offered} frames were not looked at: the readers were busy",
                figures.frames_skipped
            ));
        }
        if indeterminate {
            figures.history.push(format!(
                "inconclusive: {} of {} sessions have a switch that timed out and is not settled",
                figures.indeterminate, figures.sessions_read
            ));
        }
        let doubts = self.doubts.iter().map(String::as_str);
        figures.history.extend(
            missing
                .into_iter()
                .chain(doubts)
                .map(|words| format!("inconclusive: {words}")),
        );
        figures
    }
}
