//! The service's access record and its replay through an exact LRU.
//!
//! The record (`GET /debug/accesses`) is the order in which textures were asked for; the replay says which hit ratio an exact
//! LRU of the same capacity has on the same order. A hit is an access that found its texture resident or its load under way:
//! it caused no load of its own, and in the replay its texture is already there. Degraded answers and 503s are no hits; in the
//! replay they are ordinary accesses. An access that waited for a load and was refused after all stands in the record twice.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// First bytes of the record.
const MAGIC: &[u8; 4] = b"BKDA";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;

/// What one record says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Pixels were resident.
    Hit,
    /// This caller loads.
    Miss,
    /// Waited for a load in flight.
    Joined,
    /// Answered by the thumbnail.
    Degraded,
    /// Shed or failed.
    Refused,
    /// A texture was evicted.
    Evicted,
    /// A load completed.
    Loaded,
}

impl Kind {
    fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            0 => Self::Hit,
            1 => Self::Miss,
            2 => Self::Joined,
            3 => Self::Degraded,
            4 => Self::Refused,
            5 => Self::Evicted,
            6 => Self::Loaded,
            _ => return None,
        })
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Catalogue index.
    pub flyweight: u32,
    /// What happened.
    pub kind: Kind,
    /// Textures resident after it.
    pub resident: u32,
}

/// A whole record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accesses {
    /// In the order they happened.
    pub records: Vec<Access>,
    /// Records lost because the buffer was full.
    pub dropped: u64,
}

/// Why bytes are no access record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too short or another magic.
    #[error("these bytes are no access record")]
    NotARecord,
    /// Written by another version.
    #[error("access record of version {0}, this build reads {VERSION}")]
    Version(u32),
    /// The last record is cut off.
    #[error("access record ends inside a record")]
    Ragged,
    /// A kind that this build does not know.
    #[error("record {0} is of an unknown kind")]
    Kind(usize),
}

/// Parses `GET /debug/accesses`.
///
/// # Errors
/// Anything that is not such a record, whole.
pub fn parse(bytes: &[u8]) -> Result<Accesses, RecordError> {
    let (header, body) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or(RecordError::NotARecord)?;
    if &header[..4] != MAGIC {
        return Err(RecordError::NotARecord);
    }
    let version = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    let dropped = word(&header[8..]);
    if body.len() % 8 != 0 {
        return Err(RecordError::Ragged);
    }
    let mut records = Vec::with_capacity(body.len() / 8);
    for (i, chunk) in body.chunks_exact(8).enumerate() {
        let bits = word(chunk);
        let kind = Kind::from_bits(bits >> 32 & 0xff).ok_or(RecordError::Kind(i))?;
        records.push(Access {
            flyweight: bits as u32,
            kind,
            resident: (bits >> 40) as u32,
        });
    }
    Ok(Accesses { records, dropped })
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |acc, b| acc << 8 | u64::from(*b))
}

/// What record and replay say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Accesses compared.
    pub accesses: u64,
    /// Textures the replay may hold: the median that was resident since the first eviction.
    pub capacity: usize,
    /// Hit ratio of the record, 0..=1.
    pub recorded: f64,
    /// Hit ratio of the replay, 0..=1.
    pub replayed: f64,
}

/// Compares the record with an exact LRU. None without accesses, without an eviction (no capacity to speak of) or with a gap.
#[must_use]
pub fn compare(accesses: &Accesses) -> Option<Comparison> {
    if accesses.dropped > 0 {
        return None;
    }
    let capacity = capacity(accesses)?;
    let order = asked(&accesses.records);
    if order.is_empty() {
        return None;
    }
    let hits = order.iter().filter(|access| access.hit).count();
    let replayed = replay(order.iter().map(|access| access.flyweight), capacity);
    let total = order.len() as f64;
    Some(Comparison {
        accesses: order.len() as u64,
        capacity,
        recorded: hits as f64 / total,
        replayed: replayed as f64 / total,
    })
}

/// One access, with what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    flyweight: u32,
    hit: bool,
}

/// The accesses in their order. Whoever waits for a load is noted when the access is made, and again if nothing came of it: the
/// refusal is then that of the one who has waited longest.
fn asked(records: &[Access]) -> Vec<Asked> {
    let mut out: Vec<Asked> = Vec::new();
    let mut waiting: HashMap<u32, VecDeque<usize>> = HashMap::new();
    for record in records {
        let flyweight = record.flyweight;
        let hit = match record.kind {
            Kind::Evicted => continue,
            Kind::Loaded => {
                waiting.remove(&flyweight);
                continue;
            }
            Kind::Degraded | Kind::Refused => {
                let waited = waiting.get_mut(&flyweight).and_then(VecDeque::pop_front);
                if let Some(at) = waited {
                    out[at].hit = false;
                    continue;
                }
                false
            }
            Kind::Miss | Kind::Joined => {
                waiting.entry(flyweight).or_default().push_back(out.len());
                record.kind == Kind::Joined
            }
            Kind::Hit => true,
        };
        out.push(Asked { flyweight, hit });
    }
    out
}

/// Median number of resident textures from the first eviction on.
fn capacity(accesses: &Accesses) -> Option<usize> {
    let first = accesses
        .records
        .iter()
        .position(|a| a.kind == Kind::Evicted)?;
    let mut residents: Vec<_> = accesses.records[first..]
        .iter()
        .map(|a| a.resident)
        .collect();
    residents.sort_unstable();
    Some(residents[residents.len() / 2].max(1) as usize)
}

/// Hits of an exact LRU that starts empty.
#[must_use]
pub fn replay(order: impl IntoIterator<Item = u32>, capacity: usize) -> u64 {
    let mut lru = Lru::new(capacity);
    order.into_iter().map(|key| u64::from(lru.touch(key))).sum()
}

/// An exact LRU of keys: a clock, and both directions between keys and their last use.
struct Lru {
    capacity: usize,
    clock: u64,
    used: HashMap<u32, u64>,
    order: BTreeMap<u64, u32>,
}

impl Lru {
    fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            used: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// Whether the key was there; it is the youngest afterwards.
    fn touch(&mut self, key: u32) -> bool {
        self.clock += 1;
        let before = self.used.insert(key, self.clock);
        if let Some(at) = before {
            self.order.remove(&at);
        }
        self.order.insert(self.clock, key);
        if self.order.len() > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The plainest LRU there is: a list, youngest last.
    fn naive(order: &[u32], capacity: usize) -> u64 {
        let mut list: Vec<u32> = Vec::new();
        let mut hits = 0;
        for key in order {
            match list.iter().position(|k| k == key) {
                Some(at) => {
                    list.remove(at);
                    hits += 1;
                }
                None if list.len() == capacity => {
                    list.remove(0);
                }
                None => {}
            }
            list.push(*key);
        }
        hits
    }

    fn bytes(records: &[(u32, u64, u64)], dropped: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        out.extend(dropped.to_le_bytes());
        for (flyweight, kind, resident) in records {
            out.extend((u64::from(*flyweight) | kind << 32 | resident << 40).to_le_bytes());
        }
        out
    }

    proptest! {
        #[test]
        fn replay_equals_the_naive_list(order in prop::collection::vec(0_u32..40, 0..400), capacity in 1_usize..30) {
            prop_assert_eq!(replay(order.iter().copied(), capacity), naive(&order, capacity));
        }
    }

    #[test]
    fn records_parse() {
        let parsed = parse(&bytes(
            &[(7, 1, 0), (7, 6, 1), (7, 0, 1), (9, 3, 0x00ff_ffff)],
            3,
        ))
        .unwrap();
        assert_eq!(parsed.dropped, 3);
        assert_eq!(
            parsed.records[2],
            Access {
                flyweight: 7,
                kind: Kind::Hit,
                resident: 1
            }
        );
        assert_eq!(parsed.records[3].resident, 0x00ff_ffff);
        assert_eq!(parse(b"short"), Err(RecordError::NotARecord));
        let mut ragged = bytes(&[(1, 0, 1)], 0);
        ragged.pop();
        assert_eq!(parse(&ragged), Err(RecordError::Ragged));
        assert_eq!(parse(&bytes(&[(1, 99, 1)], 0)), Err(RecordError::Kind(0)));
    }

    #[test]
    fn a_cache_that_is_an_lru_has_no_gap() {
        // Capacity 2, order a b a c a b: misses a b c b, hits a a; evictions of b (for c) and c (for b).
        let (a, b, c) = (1, 2, 3);
        let records = [
            (a, 1, 1),
            (b, 1, 2),
            (a, 0, 2),
            (b, 5, 1),
            (c, 1, 2),
            (a, 0, 2),
            (c, 5, 1),
            (b, 1, 2),
        ];
        let seen = compare(&parse(&bytes(&records, 0)).unwrap()).unwrap();
        assert_eq!((seen.accesses, seen.capacity), (6, 2));
        assert!((seen.recorded - seen.replayed).abs() < 1e-9);
    }

    #[test]
    fn who_waits_for_a_load_and_is_refused_is_one_access_and_no_hit() {
        let (miss, joined, degraded, refused) = (1, 2, 3, 4);
        let records = [
            (1, miss, 1),
            (1, joined, 1),
            (1, joined, 1),
            (1, degraded, 1),
            (1, refused, 1),
            (1, degraded, 1),
            (2, 5, 1),
            (2, miss, 1),
            (2, joined, 1),
            (2, 6, 1),
            // Its load has landed for those who waited: this one asked anew.
            (2, degraded, 1),
        ];
        let seen = compare(&parse(&bytes(&records, 0)).unwrap()).unwrap();
        assert_eq!(seen.accesses, 6);
        assert!((seen.recorded - 1.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_degraded_answer_is_no_hit_and_a_gap_is_no_evidence() {
        let records = [(1, 1, 1), (1, 6, 1), (2, 5, 1), (1, 3, 1), (1, 0, 1)];
        let seen = compare(&parse(&bytes(&records, 0)).unwrap()).unwrap();
        assert!((seen.recorded - 1.0 / 3.0).abs() < 1e-9);
        assert!((seen.replayed - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(compare(&parse(&bytes(&records, 1)).unwrap()), None);
        assert_eq!(
            compare(&parse(&bytes(&[(1, 1, 1)], 0)).unwrap()),
            None,
            "no eviction, no capacity"
        );
    }
}
