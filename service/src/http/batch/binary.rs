//! The compact batch form: a 16-byte header and little-endian records, read where they lie.
//!
//! Header: `BKDP`, format 1, kind, two zero bytes, catalogue epoch. An answer's kind has its highest bit set. Nothing
//! here knows what a switch does; reading a record is two loads.

use super::Code;
use crate::http::problem::{Kind, Problem};

const MAGIC: &[u8; 4] = b"BKDP";
const FORMAT: u8 = 1;
const ANSWER: u8 = 0x80;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 16;

/// What a batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Records of u64 session and u32 flyweight; answered by a code each.
    Switch = 1,
    /// Records of u64 session; answered by u32 code, flyweight, version and switches each.
    Read = 2,
    /// Records of u32 user and u32 flyweight; answered by u64 session and u32 code each.
    Create = 3,
    /// Records of u64 session; answered by a code each.
    Delete = 4,
}

impl Operation {
    /// Bytes of one record.
    #[must_use]
    pub const fn record_bytes(self) -> usize {
        match self {
            Self::Switch => 12,
            Self::Read | Self::Create | Self::Delete => 8,
        }
    }

    /// Bytes of the answer to one record.
    #[must_use]
    pub const fn answer_bytes(self) -> usize {
        match self {
            Self::Switch | Self::Delete => 1,
            Self::Read => 16,
            Self::Create => 12,
        }
    }

    /// Whether the batch names flyweights by index, so that its epoch must be the present one.
    #[must_use]
    pub const fn names_flyweights(self) -> bool {
        matches!(self, Self::Switch | Self::Create)
    }
}

/// A checked body.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Epoch that the caller's indices belong to.
    pub epoch: u64,
    records: &'a [u8],
}

fn bad(detail: &'static str) -> Problem {
    Problem::new(Kind::BadBatch, detail)
}

/// Checks header and length.
///
/// # Errors
/// 400 for a header or length that does not fit the operation, 413 for too many records.
pub fn parse(body: &[u8], operation: Operation, entries_max: usize) -> Result<Batch<'_>, Problem> {
    let Some((header, records)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Err(bad("the body is shorter than its 16-byte header"));
    };
    if header[..4] != *MAGIC || header[4] != FORMAT {
        return Err(bad("the body must open with BKDP and format 1"));
    }
    if header[5] != operation as u8 || header[6..8] != [0, 0] {
        return Err(bad(
            "the header's kind does not fit the address, or its reserved bytes are not zero",
        ));
    }
    if records.len() % operation.record_bytes() != 0 {
        return Err(bad(
            "the records do not fill the body: their length is not a multiple of one record",
        ));
    }
    if records.len() / operation.record_bytes() > entries_max {
        return Err(Problem::new(
            Kind::BatchTooLarge,
            format!("send at most {entries_max} entries at once"),
        ));
    }
    let epoch = u64::from_le_bytes(std::array::from_fn(|at| header[8 + at]));
    Ok(Batch { epoch, records })
}

fn u64_at(record: &[u8; 12], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| record[at + byte]))
}

impl<'a> Batch<'a> {
    /// Number of records.
    #[must_use]
    pub const fn len(self, operation: Operation) -> usize {
        self.records.len() / operation.record_bytes()
    }

    /// Session and flyweight of each switch.
    pub fn switches(self) -> impl ExactSizeIterator<Item = (u64, u32)> + Send + 'a {
        let (records, _) = self.records.as_chunks::<12>();
        records.iter().map(|record| {
            let flyweight = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
            (u64_at(record, 0), flyweight)
        })
    }

    /// Session of each record.
    pub fn sessions(self) -> impl ExactSizeIterator<Item = u64> + Send + 'a {
        let (records, _) = self.records.as_chunks::<8>();
        records.iter().map(|record| u64::from_le_bytes(*record))
    }

    /// User and flyweight of each creation.
    pub fn creations(self) -> impl ExactSizeIterator<Item = (u32, u32)> + Send + 'a {
        self.sessions()
            .map(|word| (word as u32, (word >> 32) as u32))
    }
}

/// Bytes of the answer to `entries`.
#[must_use]
pub const fn answer_bytes(operation: Operation, entries: usize) -> usize {
    HEADER_BYTES + entries * operation.answer_bytes()
}

/// The buffer of an answer, header written, with room for `entries`.
#[must_use]
pub fn answer(operation: Operation, epoch: u64, entries: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer_bytes(operation, entries));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[FORMAT, operation as u8 | ANSWER, 0, 0]);
    out.extend_from_slice(&epoch.to_le_bytes());
    out
}

/// Appends the answer to one creation.
pub fn push_created(out: &mut Vec<u8>, session: u64, code: Code) {
    out.extend_from_slice(&session.to_le_bytes());
    out.extend_from_slice(&u32::from(code as u8).to_le_bytes());
}

/// Appends the answer to one read.
pub fn push_read(out: &mut Vec<u8>, code: Code, flyweight: u32, version: u32, switches: u32) {
    for value in [u32::from(code as u8), flyweight, version, switches] {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq};
    use proptest::sample::Index;

    fn body(operation: Operation, records: &[u8]) -> Vec<u8> {
        let mut body = answer(operation, 77, 0);
        body[5] = operation as u8;
        body.extend_from_slice(records);
        body
    }

    fn kind_of(body: &[u8], operation: Operation) -> Option<Kind> {
        parse(body, operation, 2)
            .err()
            .map(|problem| problem.kind())
    }

    #[test]
    fn reads_records_where_they_lie() {
        let mut records = Vec::new();
        for (session, flyweight) in [(0x0102_0304_0506_0708_u64, 9_u32), (u64::MAX, u32::MAX)] {
            records.extend_from_slice(&session.to_le_bytes());
            records.extend_from_slice(&flyweight.to_le_bytes());
        }
        let body = body(Operation::Switch, &records);
        let batch = parse(&body, Operation::Switch, 2).expect("well-formed");
        assert_eq!(batch.epoch, 77);
        let read: Vec<_> = batch.switches().collect();
        assert_eq!(read, [(0x0102_0304_0506_0708, 9), (u64::MAX, u32::MAX)]);
    }

    #[test]
    fn creations_are_user_then_flyweight() {
        let body = body(Operation::Create, &[5, 0, 0, 0, 255, 255, 255, 255]);
        let batch = parse(&body, Operation::Create, 1).expect("well-formed");
        assert_eq!(batch.creations().collect::<Vec<_>>(), [(5, u32::MAX)]);
    }

    #[test]
    fn refuses_short_ragged_foreign_and_oversize_bodies() {
        let good = body(Operation::Switch, &[0; 24]);
        assert_eq!(kind_of(&good, Operation::Switch), None);
        assert_eq!(kind_of(&good, Operation::Delete), Some(Kind::BadBatch));
        assert_eq!(
            kind_of(&good[..15], Operation::Switch),
            Some(Kind::BadBatch)
        );
        assert_eq!(
            kind_of(&good[..39], Operation::Switch),
            Some(Kind::BadBatch)
        );
        assert_eq!(
            kind_of(&body(Operation::Switch, &[0; 36]), Operation::Switch),
            Some(Kind::BatchTooLarge)
        );
        for at in [0, 3, 4, 5, 6, 7] {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            assert_eq!(
                kind_of(&bad, Operation::Switch),
                Some(Kind::BadBatch),
                "byte {at}"
            );
        }
    }

    fn operations() -> impl Strategy<Value = Operation> {
        proptest::sample::select(vec![
            Operation::Switch,
            Operation::Read,
            Operation::Create,
            Operation::Delete,
        ])
    }

    proptest::proptest! {
        /// Bodies that are whole or nearly so: random ones do not get past the first four bytes.
        #[test]
        fn a_mutated_body_is_read_within_its_bounds_or_refused(
            operation in operations(),
            records in vec(any::<[u8; 12]>(), 0..12),
            mutations in vec((any::<Index>(), any::<u8>()), 0..3),
            cut in 0..4_usize,
        ) {
            let records: Vec<u8> = records.iter().flat_map(|record| &record[..operation.record_bytes()]).copied().collect();
            let whole = body(operation, &records);
            let mut mutated = whole.clone();
            for (at, byte) in mutations {
                let at = at.index(mutated.len());
                mutated[at] = byte;
            }
            mutated.truncate(whole.len() - cut);
            let entries = records.len() / operation.record_bytes();
            match parse(&mutated, operation, 8) {
                Ok(batch) => {
                    prop_assert!(entries <= 8 && batch.len(operation) <= entries);
                    let read = match operation {
                        Operation::Switch => batch.switches().count(),
                        Operation::Create => batch.creations().count(),
                        Operation::Read | Operation::Delete => batch.sessions().count(),
                    };
                    prop_assert_eq!(read, batch.len(operation));
                }
                Err(_) => prop_assert!(entries > 8 || mutated != whole),
            }
        }
    }
}
