//! The truth checker: what a session or frame showed, against what the service acknowledged.
//!
//! Pure: values in, findings out; no sockets, no clock. A timed-out switch leaves two right answers, a refused one
//! leaves the old. Findings are counted, and the first ones kept in words.

use backdrop_reports::load::{TruthFigures, TruthVerdict};

/// Violations kept in words.
const HISTORY_MAX: usize = 20;
/// Share of unreadable frames from which nothing can be said.
const UNREADABLE_MAX: f64 = 0.01;
/// Share of frames offered and not looked at from which nothing can be said.
const SKIPPED_MAX: f64 = 0.1;
/// Share of sessions read back with an unsettled switch from which nothing can be said. A restart settles them: the
/// sessions are made anew. An outage without one is settled by two acknowledged switches.
const INDETERMINATE_MAX: f64 = 0.01;

/// Backgrounds that a session may rightly show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowed {
    values: Vec<u16>,
    doubtful: bool,
    anything: bool,
}

impl Allowed {
    /// Only the acknowledged background, or none at all.
    pub fn acknowledged(background: Option<u16>) -> Self {
        Allowed {
            values: background.into_iter().collect(),
            doubtful: false,
            anything: false,
        }
    }

    /// A switch to this one is under way.
    pub fn also(&mut self, background: u16) {
        if !self.values.contains(&background) {
            self.values.push(background);
        }
    }

    /// A switch to this one timed out.
    pub fn perhaps(&mut self, background: u16) {
        self.doubtful = true;
        self.also(background);
    }

    /// Several switches timed out: nothing can be said.
    pub fn anything(&mut self) {
        self.doubtful = true;
        self.anything = true;
    }

    /// Whether showing `background` is right.
    pub fn permits(&self, background: u16) -> bool {
        self.anything || self.values.contains(&background)
    }

    /// Whether showing nothing is right.
    pub fn permits_none(&self) -> bool {
        self.anything || self.values.is_empty()
    }

    /// A switch of the session is indeterminate.
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// For messages: the acknowledged one first.
    fn words(&self) -> String {
        match self.values.split_first() {
            _ if self.anything => "anything".to_owned(),
            None => "no background".to_owned(),
            Some((first, [])) => format!("background {first}"),
            Some((first, rest)) => {
                format!("background {first} (or {rest:?}, in flight or timed out)")
            }
        }
    }
}

/// What a session showed when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A background of the simulator's.
    Background(u16),
    /// An index that the simulator does not know.
    Foreign(u32),
    /// No background.
    Nothing,
    /// The service says that there is no such session, in the epoch it was created in.
    Missing,
}

/// Kinds of violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged switch is not there.
    Lost,
    /// An older version than one acknowledged before the request.
    Stale,
    /// A background nobody asked for, or a refused switch that was applied.
    Wrong,
    /// More than one background or version in one frame.
    Torn,
}

/// Judges a session read back; `earlier` are the backgrounds its last rounds asked for, newest first.
pub fn judge_session(allowed: &Allowed, shown: Shown, earlier: &[u16]) -> Option<Violation> {
    match shown {
        Shown::Background(background) if allowed.permits(background) => None,
        Shown::Nothing if allowed.permits_none() => None,
        // The newest request of all, and not acknowledged: it was refused, and is there all the same.
        Shown::Background(background) if earlier.first() == Some(&background) => {
            Some(Violation::Wrong)
        }
        Shown::Background(background) if earlier.contains(&background) => Some(Violation::Lost),
        Shown::Nothing | Shown::Missing => Some(Violation::Lost),
        Shown::Background(_) | Shown::Foreign(_) => Some(Violation::Wrong),
    }
}

/// What the cells of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// All readable cells agree.
    Code {
        /// Background number.
        number: u16,
        /// Upload revision.
        revision: u8,
    },
    /// Cells of different codes.
    Torn {
        /// Two that differ: (number, revision).
        codes: [(u16, u8); 2],
    },
    /// One code, and a whole row or column of cells that shows none.
    Gap {
        /// Background number.
        number: u16,
        /// Upload revision.
        revision: u8,
    },
    /// Too few cells could be read.
    Unreadable,
}

/// What a frame may show.
#[derive(Debug, Clone)]
pub struct FrameExpectation {
    /// Right backgrounds over the time of the request.
    pub allowed: Allowed,
    /// Revision acknowledged before the request was sent, per background number.
    pub revision_min: u8,
    /// Newest revision of which an upload was begun when the answer was there.
    pub revision_max: u8,
    /// Background that the answer's header names.
    pub header: Option<u16>,
    /// Revision that the answer's version header stands for, where it is known.
    pub header_revision: Option<u8>,
}

/// Judges what the pixels of a whole (not degraded) frame say.
pub fn judge_frame(expected: &FrameExpectation, pixels: Pixels) -> Option<Violation> {
    match pixels {
        Pixels::Unreadable => None,
        Pixels::Torn { .. } | Pixels::Gap { .. } => Some(Violation::Torn),
        Pixels::Code { number, .. } if !expected.allowed.permits(number) => Some(Violation::Wrong),
        Pixels::Code { number, .. } if expected.header.is_some_and(|named| named != number) => {
            Some(Violation::Wrong)
        }
        Pixels::Code { revision, .. } if revision < expected.revision_min => Some(Violation::Stale),
        Pixels::Code { revision, .. } if revision > expected.revision_max => Some(Violation::Wrong),
        Pixels::Code { revision, .. } => match expected.header_revision {
            Some(named) if revision < named => Some(Violation::Stale),
            Some(named) if revision > named => Some(Violation::Wrong),
            _ => None,
        },
    }
}

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Truth {
    figures: TruthFigures,
    /// Kinds of evidence that the scenario promises and that must not be empty.
    required: Vec<Evidence>,
    /// Reasons why nothing can be said, beyond the counts.
    doubts: Vec<String>,
    /// Lost and wrong sessions of the read-back at the end.
    at_end: (u64, u64),
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
}

impl Truth {
    /// A checker that is inconclusive without this evidence.
    pub fn requiring(required: Vec<Evidence>) -> Self {
        Truth {
            required,
            ..Truth::default()
        }
    }

    /// Books a session read back; `sampled` while the load ran.
    pub fn session(
        &mut self,
        who: impl FnOnce() -> String,
        allowed: &Allowed,
        shown: Shown,
        earlier: &[u16],
        sampled: bool,
    ) {
        if sampled {
            self.figures.sessions_sampled += 1;
        } else {
            self.figures.sessions_read += 1;
            self.figures.indeterminate += u64::from(allowed.is_doubtful());
        }
        if let Some(violation) = judge_session(allowed, shown, earlier) {
            if !sampled {
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
            let when = if sampled {
                "during the load"
            } else {
                "at the end"
            };
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
                Pixels::Unreadable => String::new(),
            };
            self.violation(
                violation,
                &format!(
                    "{who}: acknowledged {}, revision {} to {}, headers say background {:?} revision {:?}; the frame {seen}",
                    expected.allowed.words(),
                    expected.revision_min,
                    expected.revision_max,
                    expected.header,
                    expected.header_revision,
                ),
            );
        }
    }

    /// Books the comparison of the sessions' counters, which sees also what later switches covered. Sessions found lost
    /// or wrong at the end may be among them and are not counted twice.
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
        let missing = self.required.iter().any(|evidence| match evidence {
            Evidence::Sessions => figures.sessions_read == 0,
            Evidence::Frames => figures.frames_read == 0,
        });
        figures.verdict = if violations > 0 {
            TruthVerdict::Violated
        } else if unreadable || skipped || indeterminate || missing || !self.doubts.is_empty() {
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
        if missing {
            figures
                .history
                .push("inconclusive: a check of this scenario has no samples".to_owned());
        }
        figures.history.extend(
            self.doubts
                .iter()
                .map(|words| format!("inconclusive: {words}")),
        );
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expecting(allowed: &[u16], revisions: (u8, u8)) -> FrameExpectation {
        let mut set = Allowed::acknowledged(None);
        allowed.iter().for_each(|background| set.also(*background));
        FrameExpectation {
            allowed: set,
            revision_min: revisions.0,
            revision_max: revisions.1,
            header: None,
            header_revision: None,
        }
    }

    fn code(number: u16, revision: u8) -> Pixels {
        Pixels::Code { number, revision }
    }

    #[test]
    fn sessions_are_judged_by_what_was_acknowledged() {
        let allowed = Allowed::acknowledged(Some(4));
        assert_eq!(
            judge_session(&allowed, Shown::Background(4), &[4, 3, 2]),
            None
        );
        assert_eq!(
            judge_session(&allowed, Shown::Background(3), &[4, 3, 2]),
            Some(Violation::Lost)
        );
        assert_eq!(
            judge_session(&allowed, Shown::Background(9), &[9, 4, 3]),
            Some(Violation::Wrong)
        );
        assert_eq!(
            judge_session(&allowed, Shown::Background(8), &[4, 3, 2]),
            Some(Violation::Wrong)
        );
        assert_eq!(
            judge_session(&allowed, Shown::Foreign(8), &[]),
            Some(Violation::Wrong)
        );
        assert_eq!(
            judge_session(&allowed, Shown::Missing, &[]),
            Some(Violation::Lost)
        );
        assert_eq!(
            judge_session(&Allowed::acknowledged(None), Shown::Nothing, &[]),
            None
        );
    }

    #[test]
    fn an_indeterminate_switch_leaves_two_right_answers() {
        let mut allowed = Allowed::acknowledged(Some(4));
        allowed.perhaps(5);
        assert_eq!(judge_session(&allowed, Shown::Background(5), &[5, 4]), None);
        assert_eq!(judge_session(&allowed, Shown::Background(4), &[5, 4]), None);
        assert_eq!(
            judge_session(&allowed, Shown::Background(6), &[5, 4]),
            Some(Violation::Wrong)
        );
        allowed.anything();
        assert_eq!(judge_session(&allowed, Shown::Background(6), &[5, 4]), None);
    }

    #[test]
    fn frames_are_judged_by_code_revision_and_header() {
        let mut expected = expecting(&[1, 2], (3, 4));
        assert_eq!(judge_frame(&expected, code(1, 3)), None);
        assert_eq!(judge_frame(&expected, code(2, 4)), None);
        assert_eq!(judge_frame(&expected, code(7, 3)), Some(Violation::Wrong));
        assert_eq!(judge_frame(&expected, code(1, 2)), Some(Violation::Stale));
        assert_eq!(judge_frame(&expected, code(1, 5)), Some(Violation::Wrong));
        assert_eq!(
            judge_frame(
                &expected,
                Pixels::Torn {
                    codes: [(1, 3), (2, 3)]
                }
            ),
            Some(Violation::Torn)
        );
        expected.header = Some(2);
        assert_eq!(judge_frame(&expected, code(1, 3)), Some(Violation::Wrong));
        expected.header = Some(1);
        expected.header_revision = Some(4);
        assert_eq!(judge_frame(&expected, code(1, 3)), Some(Violation::Stale));
    }

    #[test]
    fn verdicts_need_evidence() {
        let mut truth = Truth::requiring(vec![Evidence::Sessions]);
        assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);
        let allowed = Allowed::acknowledged(Some(1));
        truth.session(
            || "s".to_owned(),
            &allowed,
            Shown::Background(1),
            &[],
            false,
        );
        assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
        for _ in 0..98 {
            truth.frame("f", &expecting(&[1], (1, 1)), code(1, 1));
        }
        truth.frame("f", &expecting(&[1], (1, 1)), Pixels::Unreadable);
        truth.frame("f", &expecting(&[1], (1, 1)), Pixels::Unreadable);
        assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);
        truth.session(
            || "s".to_owned(),
            &allowed,
            Shown::Background(2),
            &[],
            false,
        );
        let figures = truth.conclude();
        assert_eq!(figures.verdict, TruthVerdict::Violated);
        assert_eq!(figures.wrong, 1);
        assert!(
            figures.history[0].contains("acknowledged background 1"),
            "{:?}",
            figures.history
        );
    }

    #[test]
    fn too_many_skipped_frames_or_indeterminate_sessions_prove_nothing() {
        let mut truth = Truth::default();
        for _ in 0..9 {
            truth.frame("f", &expecting(&[1], (1, 1)), code(1, 1));
        }
        truth.skipped();
        assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
        truth.skipped();
        assert_eq!(truth.conclude().verdict, TruthVerdict::Inconclusive);

        let mut truth = Truth::default();
        let mut doubtful = Allowed::acknowledged(Some(1));
        doubtful.perhaps(2);
        let sound = Allowed::acknowledged(Some(1));
        let mut read = |allowed: &Allowed| {
            truth.session(String::new, allowed, Shown::Background(1), &[], false);
            truth.conclude().verdict
        };
        assert_eq!(read(&doubtful), TruthVerdict::Inconclusive);
        for _ in 0..98 {
            read(&sound);
        }
        assert_eq!(read(&sound), TruthVerdict::Clean);
        assert_eq!(read(&doubtful), TruthVerdict::Inconclusive);
    }

    #[test]
    fn counters_show_what_later_switches_covered() {
        assert_eq!(Tally::of(10, 2, 10), Tally::of(10, 2, 12));
        assert_eq!(
            (Tally::of(10, 2, 9).missing, Tally::of(10, 2, 13).surplus),
            (1, 1)
        );
        let mut sum = Tally::of(10, 0, 10);
        let mut truth = Truth::default();
        truth.counters(sum);
        assert_eq!(truth.conclude().verdict, TruthVerdict::Clean);
        assert_eq!(truth.conclude().switches_counted, Some(10));

        sum.add(Tally::of(10, 0, 7));
        sum.add(Tally::of(10, 0, 11));
        let mut truth = Truth::default();
        let allowed = Allowed::acknowledged(Some(1));
        // One of the three is seen by itself, too.
        truth.session(String::new, &allowed, Shown::Background(2), &[1, 2], false);
        truth.counters(sum);
        let figures = truth.conclude();
        assert_eq!((figures.lost, figures.wrong), (3, 1));
        assert!(figures.history[1].contains("3 acknowledged switches are not"));
    }

    #[test]
    fn the_history_is_bounded() {
        let mut truth = Truth::default();
        for number in 0..100 {
            truth.violation(Violation::Torn, &number.to_string());
        }
        assert_eq!(truth.conclude().history.len(), HISTORY_MAX);
        assert_eq!(truth.conclude().torn, 100);
    }
}
