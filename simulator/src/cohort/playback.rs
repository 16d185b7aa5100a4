//! The order of switches of a cohort that follows a tape instead of a period: which session each ordinal is, when it is due
//! and what it asks for. Knows neither ids nor answers.

use crate::schedule::Planned;

/// Switches of one gateway's sessions, by time.
#[derive(Debug)]
pub(super) struct Playback {
    sent: Vec<Planned>,
    /// Ordinals by session, and within a session by time.
    ordinals: Vec<u32>,
    /// Where each session's begin, and where the last one's end.
    starts: Vec<u32>,
    /// A bit for each session that has a switch under way.
    under_way: Vec<u64>,
}

impl Playback {
    /// `sent` is sorted by time; its users count from zero and are below `sessions`.
    pub fn new(sent: Vec<Planned>, sessions: usize) -> Self {
        let mut starts = vec![0_u32; sessions + 1];
        for entry in &sent {
            starts[entry.user as usize + 1] += 1;
        }
        for session in 0..sessions {
            starts[session + 1] += starts[session];
        }
        let mut next = starts.clone();
        let mut ordinals = vec![0; sent.len()];
        for (ordinal, entry) in sent.iter().enumerate() {
            let place = &mut next[entry.user as usize];
            ordinals[*place as usize] = ordinal as u32;
            *place += 1;
        }
        Playback {
            sent,
            ordinals,
            starts,
            under_way: vec![0; sessions.div_ceil(64)],
        }
    }

    pub fn at(&self, ordinal: u64) -> Planned {
        self.sent[ordinal as usize]
    }

    /// First ordinal due at or after `at_us`.
    pub fn ordinal_at(&self, at_us: u64) -> u64 {
        self.sent.partition_point(|sent| sent.at_us < at_us) as u64
    }

    /// Ordinals of a session, by time.
    pub fn of(&self, index: usize) -> &[u32] {
        &self.ordinals[self.starts[index] as usize..self.starts[index + 1] as usize]
    }

    /// Those of them in `first..last`.
    pub fn within(&self, index: usize, first: u64, last: u64) -> &[u32] {
        let all = self.of(index);
        let below = |bound: u64| all.partition_point(|ordinal| u64::from(*ordinal) < bound);
        &all[below(first)..below(last)]
    }

    pub fn is_under_way(&self, index: usize) -> bool {
        self.under_way[index / 64] >> (index % 64) & 1 != 0
    }

    pub fn departs(&mut self, first: u64, last: u64) {
        for sent in &self.sent[first as usize..last as usize] {
            self.under_way[sent.user as usize / 64] |= 1 << (sent.user % 64);
        }
    }

    pub fn lands(&mut self, first: u64, last: u64) {
        for sent in &self.sent[first as usize..last as usize] {
            self.under_way[sent.user as usize / 64] &= !(1 << (sent.user % 64));
        }
    }

    pub fn forget(&mut self) {
        self.under_way.fill(0);
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&self.sent[..])
            + size_of_val(&self.ordinals[..])
            + size_of_val(&self.starts[..])
            + size_of_val(&self.under_way[..])
    }
}
