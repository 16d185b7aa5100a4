//! The rules by which one session or one frame is judged: values in, a violation or none out. Counts nothing.

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
    pub(super) fn words(&self) -> String {
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
    /// More than one background or version in one frame, or not all that belongs into it.
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
    /// One code, and nothing of what was to be laid over it.
    Alone {
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
        Pixels::Torn { .. } | Pixels::Gap { .. } | Pixels::Alone { .. } => Some(Violation::Torn),
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
