//! The access record: what was asked for, in the true order, so that a cache's hit ratio can be checked against an exact replay.
//!
//! Off unless configured, since it puts a lock on every access. Memory is taken once; a full record stops and counts what it drops.

use parking_lot::Mutex;

use super::Access;

/// Kind of an entry, as it stands in its bits 32 to 40.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// The texture was there.
    Hit = 0,
    /// It was not, and this caller's load brings it.
    Miss = 1,
    /// It was not, and another caller's load brings it.
    Joined = 2,
    /// Answered with the thumbnail.
    Degraded = 3,
    /// Not answered.
    Failed = 4,
    /// A texture left.
    Evicted = 5,
    /// A load ended, its texture is there.
    Loaded = 6,
}

impl From<Access> for Event {
    fn from(access: Access) -> Self {
        match access {
            Access::Hit => Event::Hit,
            Access::Miss => Event::Miss,
            Access::Joined => Event::Joined,
        }
    }
}

/// Version of the binary form.
const VERSION: u32 = 1;
/// Bytes of it before the entries.
const HEADER_BYTES: usize = 16;
const RESIDENT_MAX: u64 = (1 << 24) - 1;

#[derive(Debug)]
struct Entries {
    entries: Vec<u64>,
    dropped: u64,
    tick: u64,
}

/// A bounded list of entries of 8 bytes: flyweight in bits 0 to 32, [`Event`] in 32 to 40, textures resident after it in 40 to 64.
#[derive(Debug)]
pub struct AccessRecord {
    capacity: usize,
    entries: Mutex<Entries>,
}

impl AccessRecord {
    /// Room for `capacity` entries, taken now.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Mutex::new(Entries {
                entries: Vec::with_capacity(capacity),
                dropped: 0,
                tick: 0,
            }),
        }
    }

    /// Appends, and returns a number that rises in the order of the record.
    pub fn push(&self, flyweight: u32, event: Event, resident: u64) -> u64 {
        let entry = u64::from(flyweight) | (event as u64) << 32 | resident.min(RESIDENT_MAX) << 40;
        let mut list = self.entries.lock();
        list.tick += 1;
        if list.entries.len() < self.capacity {
            list.entries.push(entry);
        } else {
            list.dropped += 1;
        }
        list.tick
    }

    /// Entries that it holds now.
    pub fn count(&self) -> usize {
        self.entries.lock().entries.len()
    }

    /// Bytes that [`AccessRecord::export`] makes of `entries`.
    pub const fn bytes_of(entries: usize) -> usize {
        HEADER_BYTES + entries * size_of::<u64>()
    }

    /// `BKDA`, u32 version, u64 dropped, then the first entries, `entries_max` at most, all little-endian. `reset` takes these out of
    /// the record; what was dropped came after the last one, and is told with that.
    pub fn export(&self, entries_max: usize, reset: bool) -> Vec<u8> {
        let mut list = self.entries.lock();
        let count = list.entries.len().min(entries_max);
        let dropped = match count == list.entries.len() {
            true => list.dropped,
            false => 0,
        };
        let mut out = Vec::with_capacity(Self::bytes_of(count));
        out.extend_from_slice(b"BKDA");
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&dropped.to_le_bytes());
        let first = &list.entries[..count];
        out.extend(first.iter().flat_map(|entry| entry.to_le_bytes()));
        if reset {
            list.entries.drain(..count);
            list.dropped -= dropped;
        }
        out
    }

    /// The form of a record that is off.
    pub fn export_empty() -> Vec<u8> {
        Self::new(0).export(0, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_packed_bounded_and_drained() {
        let record = AccessRecord::new(2);
        assert_eq!(record.push(7, Event::Miss, 3), 1);
        assert_eq!(record.push(8, Event::Loaded, 1 << 30), 2);
        assert_eq!(
            record.push(9, Event::Hit, 4),
            3,
            "ticks go on when the record is full"
        );
        assert_eq!(record.count(), 2);
        let bytes = record.export(usize::MAX, true);
        assert_eq!((&bytes[..4], bytes.len()), (&b"BKDA"[..], 16 + 16));
        assert_eq!(bytes.len(), AccessRecord::bytes_of(2));
        assert_eq!(bytes[8..16], 1u64.to_le_bytes(), "one dropped");
        assert_eq!(bytes[16..24], (7u64 | 1 << 32 | 3 << 40).to_le_bytes());
        assert_eq!(
            bytes[24..32],
            (8u64 | 6 << 32 | RESIDENT_MAX << 40).to_le_bytes()
        );
        assert_eq!(
            record.export(usize::MAX, false),
            AccessRecord::export_empty()
        );
    }

    #[test]
    fn what_exceeds_the_room_of_an_export_stays_with_what_was_dropped_after_it() {
        let record = AccessRecord::new(3);
        for flyweight in 0..5 {
            record.push(flyweight, Event::Hit, 1);
        }
        let read = |entries_max, reset| {
            let bytes = record.export(entries_max, reset);
            let flyweights: Vec<u8> = bytes[16..].chunks_exact(8).map(|entry| entry[0]).collect();
            (bytes[8], flyweights)
        };
        assert_eq!(read(3, false), (2, vec![0, 1, 2]));
        assert_eq!(read(2, true), (0, vec![0, 1]));
        assert_eq!(read(2, true), (2, vec![2]));
        assert_eq!(read(2, true), (0, vec![]));
    }
}
