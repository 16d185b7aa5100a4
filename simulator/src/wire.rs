//! Batch bodies of the service's HTTP: the compact binary form and its JSON twin, both directions.
//!
//! Knows bytes only: no sessions' history, no sockets. A body that does not have exactly the length its header
//! promises is an error, never a shorter batch.

use serde_json::{Value, json};
use thiserror::Error;

/// Content type of the binary form.
pub const BINARY: &str = "application/vnd.backdrop.batch";
/// Bytes that an answer about one thing may have: metadata of a background, what became of a session, any problem.
pub const SMALL_ANSWER_BYTES: usize = 64 << 10;
/// `flyweight` of a session that shows no background.
pub const NO_FLYWEIGHT: u32 = u32::MAX;

const MAGIC: &[u8; 4] = b"BKDP";
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 16;
const ANSWER: u8 = 0x80;

/// Which form batches take on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wire {
    /// Little-endian records after a 16-byte header.
    Binary,
    /// JSON.
    Json,
}

/// What a batch asks for; the discriminant is its byte in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Switch backgrounds.
    Switch = 1,
    /// Read sessions.
    Read = 2,
    /// Create sessions.
    Create = 3,
    /// Delete sessions.
    Delete = 4,
}

/// Per-entry answer codes.
pub mod code {
    /// Done.
    pub const OK: u8 = 0;
    /// Stale, unknown or foreign session.
    pub const SESSION_NOT_FOUND: u8 = 1;
    /// No such index in this epoch.
    pub const FLYWEIGHT_UNKNOWN: u8 = 2;
    /// The background was deleted.
    pub const GONE: u8 = 3;
    /// Refused under pressure.
    pub const SHED: u8 = 4;
    /// The entry makes no sense.
    pub const BAD_ENTRY: u8 = 5;
    /// The service failed on this entry.
    pub const INTERNAL: u8 = 6;
}

const CODE_NAMES: [&str; 7] = [
    "ok",
    "session_not_found",
    "flyweight_unknown",
    "gone",
    "shed",
    "bad_entry",
    "internal",
];

/// The name of an entry code; unknown ones are all `unknown_code`.
pub fn code_name(code: u8) -> &'static str {
    CODE_NAMES
        .get(usize::from(code))
        .copied()
        .unwrap_or("unknown_code")
}

fn code_of(name: &str) -> u8 {
    CODE_NAMES
        .iter()
        .position(|known| *known == name)
        .map_or(u8::MAX, |index| index as u8)
}

/// A session to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Create {
    /// User number.
    pub user: u32,
    /// First background's index, or [`NO_FLYWEIGHT`].
    pub flyweight: u32,
}

/// One created session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// Session id; meaningless unless `code` is ok.
    pub session: u64,
    /// Entry code.
    pub code: u8,
}

/// One session read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Entry code.
    pub code: u8,
    /// Index shown, or [`NO_FLYWEIGHT`].
    pub flyweight: u32,
    /// Version shown.
    pub version: u32,
    /// Switches the service counts.
    pub switches: u32,
}

/// Entries of an answer with the epoch they are true in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// Catalogue epoch of the service.
    pub epoch: u64,
    /// One per entry asked for, in order.
    pub entries: Vec<T>,
}

/// An answer that is not what was asked for.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// Header or structure is not the contract's.
    #[error("malformed batch answer: {0}")]
    Malformed(&'static str),
    /// Another number of entries than were sent.
    #[error("batch answer has {got} entries, {expected} were sent")]
    Count {
        /// Entries sent.
        expected: usize,
        /// Entries answered.
        got: usize,
    },
}

impl Wire {
    /// `Content-Type` of bodies in this form; it also decides the form of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Wire::Binary => BINARY,
            Wire::Json => "application/json",
        }
    }

    /// Bytes that the answer to a batch of so many entries may have, of whatever kind it is.
    pub fn answer_bytes_max(self, entries: usize) -> usize {
        let entry_bytes = match self {
            // A session that is read: four words.
            Wire::Binary => 16,
            // The same in words, the background's id among them.
            Wire::Json => 512,
        };
        SMALL_ANSWER_BYTES + entries * entry_bytes
    }

    /// Appends a batch switch to `out`.
    pub fn switch(
        self,
        epoch: u64,
        entries: impl Iterator<Item = (u64, u32)>,
        out: &mut bytes::BytesMut,
    ) {
        match self {
            Wire::Binary => {
                header(out, Kind::Switch as u8, epoch);
                for (session, flyweight) in entries {
                    let mut record = [0_u8; 12];
                    record[..8].copy_from_slice(&session.to_le_bytes());
                    record[8..].copy_from_slice(&flyweight.to_le_bytes());
                    out.extend_from_slice(&record);
                }
            }
            Wire::Json => {
                let switches: Vec<Value> = entries
                    .map(|(session, flyweight)| json!({"session": hex(session), "flyweight": flyweight}))
                    .collect();
                put_json(
                    out,
                    &json!({"epoch": epoch.to_string(), "switches": switches}),
                );
            }
        }
    }

    /// Appends a batch create to `out`.
    pub fn create(self, epoch: u64, entries: &[Create], out: &mut bytes::BytesMut) {
        match self {
            Wire::Binary => {
                header(out, Kind::Create as u8, epoch);
                for entry in entries {
                    out.extend_from_slice(&entry.user.to_le_bytes());
                    out.extend_from_slice(&entry.flyweight.to_le_bytes());
                }
            }
            Wire::Json => {
                let sessions: Vec<Value> = entries
                    .iter()
                    .map(|entry| {
                        let mut value = json!({"user": entry.user});
                        if entry.flyweight != NO_FLYWEIGHT {
                            value["flyweight"] = json!(entry.flyweight);
                        }
                        value
                    })
                    .collect();
                put_json(
                    out,
                    &json!({"epoch": epoch.to_string(), "sessions": sessions}),
                );
            }
        }
    }

    /// Appends a batch read to `out`.
    pub fn read(self, epoch: u64, sessions: &[u64], out: &mut bytes::BytesMut) {
        self.sessions(Kind::Read, epoch, sessions, out);
    }

    /// Appends a batch delete to `out`.
    pub fn delete(self, epoch: u64, sessions: &[u64], out: &mut bytes::BytesMut) {
        self.sessions(Kind::Delete, epoch, sessions, out);
    }

    fn sessions(self, kind: Kind, epoch: u64, sessions: &[u64], out: &mut bytes::BytesMut) {
        match self {
            Wire::Binary => {
                header(out, kind as u8, epoch);
                for session in sessions {
                    out.extend_from_slice(&session.to_le_bytes());
                }
            }
            Wire::Json => {
                let ids: Vec<String> = sessions.iter().map(|id| hex(*id)).collect();
                put_json(out, &json!({"sessions": ids}));
            }
        }
    }

    /// Reads the answer to a batch switch of `expected` entries: one code each, appended to `codes`.
    pub fn switch_answer(
        self,
        body: &[u8],
        expected: usize,
        codes: &mut Vec<u8>,
    ) -> Result<u64, WireError> {
        self.codes_answer(Kind::Switch, body, expected, codes)
    }

    /// Reads the answer to a batch delete of `expected` entries: one code each.
    pub fn delete_answer(self, body: &[u8], expected: usize) -> Result<Vec<u8>, WireError> {
        let mut codes = Vec::with_capacity(expected);
        self.codes_answer(Kind::Delete, body, expected, &mut codes)?;
        Ok(codes)
    }

    fn codes_answer(
        self,
        kind: Kind,
        body: &[u8],
        expected: usize,
        codes: &mut Vec<u8>,
    ) -> Result<u64, WireError> {
        match self {
            Wire::Binary => {
                let (epoch, records) = records(body, kind, 1, expected)?;
                codes.extend_from_slice(records);
                Ok(epoch)
            }
            Wire::Json => {
                let (epoch, value) = parse_json(body)?;
                let before = codes.len();
                codes.extend(list(&value, "codes")?.iter().map(json_code));
                counted(expected, codes.len() - before)?;
                Ok(epoch)
            }
        }
    }

    /// Reads the answer to a batch create of `expected` entries.
    pub fn create_answer(self, body: &[u8], expected: usize) -> Result<Answer<Created>, WireError> {
        match self {
            Wire::Binary => {
                let (epoch, records) = records(body, Kind::Create, 12, expected)?;
                let entries = records
                    .as_chunks::<12>()
                    .0
                    .iter()
                    .map(|record| Created {
                        session: u64_at(record, 0),
                        code: byte(u32_at(record, 8)),
                    })
                    .collect();
                Ok(Answer { epoch, entries })
            }
            Wire::Json => {
                let (epoch, value) = parse_json(body)?;
                let ids = list(&value, "sessions")?;
                let codes = list(&value, "codes")?;
                counted(expected, ids.len().min(codes.len()))?;
                let entries = ids
                    .iter()
                    .zip(codes)
                    .map(|(id, code)| Created {
                        session: id.as_str().and_then(parse_hex).unwrap_or(0),
                        code: json_code(code),
                    })
                    .collect();
                Ok(Answer { epoch, entries })
            }
        }
    }

    /// Reads the answer to a batch read of `expected` entries.
    pub fn read_answer(self, body: &[u8], expected: usize) -> Result<Answer<Seen>, WireError> {
        match self {
            Wire::Binary => {
                let (epoch, records) = records(body, Kind::Read, 16, expected)?;
                let entries = records
                    .as_chunks::<16>()
                    .0
                    .iter()
                    .map(|record| Seen {
                        code: byte(u32_at(record, 0)),
                        flyweight: u32_at(record, 4),
                        version: u32_at(record, 8),
                        switches: u32_at(record, 12),
                    })
                    .collect();
                Ok(Answer { epoch, entries })
            }
            Wire::Json => {
                let (epoch, value) = parse_json(body)?;
                let entries = list(&value, "entries")?;
                counted(expected, entries.len())?;
                Ok(Answer {
                    epoch,
                    entries: entries.iter().map(json_seen).collect(),
                })
            }
        }
    }
}

/// A session id as JSON and URLs have it.
pub fn hex(session: u64) -> String {
    format!("{session:016x}")
}

/// The id behind [`hex`]'s form.
pub fn parse_hex(text: &str) -> Option<u64> {
    (text.len() == 16)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

fn header(out: &mut bytes::BytesMut, kind: u8, epoch: u64) {
    let mut head = [0_u8; HEADER_BYTES];
    head[..4].copy_from_slice(MAGIC);
    head[4] = FORMAT;
    head[5] = kind;
    head[8..].copy_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&head);
}

fn put_json(out: &mut bytes::BytesMut, value: &Value) {
    out.extend_from_slice(value.to_string().as_bytes());
}

/// Header checked, then exactly `expected` records of `size` bytes.
fn records(
    body: &[u8],
    kind: Kind,
    size: usize,
    expected: usize,
) -> Result<(u64, &[u8]), WireError> {
    let (head, rest) = body
        .split_at_checked(HEADER_BYTES)
        .ok_or(WireError::Malformed("shorter than its header"))?;
    if &head[..4] != MAGIC || head[4] != FORMAT {
        return Err(WireError::Malformed("wrong magic or format"));
    }
    if head[5] != kind as u8 | ANSWER {
        return Err(WireError::Malformed("answer of another kind"));
    }
    if !rest.len().is_multiple_of(size) {
        return Err(WireError::Malformed("ragged records"));
    }
    counted(expected, rest.len() / size)?;
    Ok((u64_at(head, 8), rest))
}

fn counted(expected: usize, got: usize) -> Result<(), WireError> {
    if expected == got {
        Ok(())
    } else {
        Err(WireError::Count { expected, got })
    }
}

fn parse_json(body: &[u8]) -> Result<(u64, Value), WireError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|_| WireError::Malformed("not JSON"))?;
    let epoch = value["epoch"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or(WireError::Malformed("no epoch"))?;
    Ok((epoch, value))
}

fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>, WireError> {
    value[field]
        .as_array()
        .ok_or(WireError::Malformed("a list is missing"))
}

fn json_code(value: &Value) -> u8 {
    value.as_str().map_or(u8::MAX, code_of)
}

fn json_seen(entry: &Value) -> Seen {
    let number = |field: &str, none| {
        entry[field]
            .as_u64()
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(none)
    };
    Seen {
        code: json_code(&entry["code"]),
        flyweight: number("flyweight", NO_FLYWEIGHT),
        version: number("version", 0),
        switches: number("switches", 0),
    }
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | u64::from(u32_at(record, at + 4)) << 32
}

fn byte(code: u32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn answer(kind: Kind, epoch: u64, records: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        header(&mut out, kind as u8 | ANSWER, epoch);
        out.extend_from_slice(records);
        out.to_vec()
    }

    proptest! {
        #[test]
        fn binary_switch_carries_every_entry(epoch: u64, entries in prop::collection::vec((any::<u64>(), any::<u32>()), 0..50)) {
            let mut out = BytesMut::new();
            Wire::Binary.switch(epoch, entries.iter().copied(), &mut out);
            prop_assert_eq!(out.len(), 16 + 12 * entries.len());
            prop_assert_eq!(u64_at(&out, 8), epoch);
            for (record, (session, flyweight)) in out[16..].chunks_exact(12).zip(&entries) {
                prop_assert_eq!(u64_at(record, 0), *session);
                prop_assert_eq!(u32_at(record, 8), *flyweight);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>, expected in 0_usize..20) {
            for wire in [Wire::Binary, Wire::Json] {
                let _ = wire.switch_answer(&body, expected, &mut Vec::new());
                let _ = wire.create_answer(&body, expected);
                let _ = wire.read_answer(&body, expected);
                let _ = wire.delete_answer(&body, expected);
            }
        }

        #[test]
        fn read_answers_round_trip(epoch: u64, entries in prop::collection::vec((0_u32..7, any::<u32>(), any::<u32>(), any::<u32>()), 0..20)) {
            let mut records = Vec::new();
            for (code, flyweight, version, switches) in &entries {
                for word in [code, flyweight, version, switches] {
                    records.extend_from_slice(&word.to_le_bytes());
                }
            }
            let got = Wire::Binary.read_answer(&answer(Kind::Read, epoch, &records), entries.len()).unwrap();
            prop_assert_eq!(got.epoch, epoch);
            for (seen, entry) in got.entries.iter().zip(&entries) {
                prop_assert_eq!((u32::from(seen.code), seen.flyweight, seen.version, seen.switches), *entry);
            }
        }
    }

    #[test]
    fn json_twins_say_the_same() {
        let body = br#"{"epoch":"18446744073709551615","applied":1,"codes":["ok","gone"]}"#;
        let mut codes = Vec::new();
        assert_eq!(Wire::Json.switch_answer(body, 2, &mut codes), Ok(u64::MAX));
        assert_eq!(codes, [code::OK, code::GONE]);
        let body = br#"{"epoch":"7","sessions":["00000000000000ff",null],"codes":["ok","shed"]}"#;
        let made = Wire::Json.create_answer(body, 2).unwrap();
        assert_eq!(
            made.entries[0],
            Created {
                session: 255,
                code: code::OK
            }
        );
        assert_eq!(made.entries[1].code, code::SHED);
    }

    #[test]
    fn deletions_are_answered_by_a_code_each() {
        let body = answer(Kind::Delete, 1, &[0, 1, 4]);
        assert_eq!(Wire::Binary.delete_answer(&body, 3), Ok(vec![0, 1, 4]));
        let switched = answer(Kind::Switch, 1, &[0, 1, 4]);
        assert!(Wire::Binary.delete_answer(&switched, 3).is_err());
        let body = br#"{"epoch":"7","codes":["ok","shed"]}"#;
        let codes = vec![code::OK, code::SHED];
        assert_eq!(Wire::Json.delete_answer(body, 2), Ok(codes));
    }

    #[test]
    fn short_ragged_and_miscounted_answers_are_errors() {
        let good = answer(Kind::Switch, 1, &[0, 0]);
        assert!(
            Wire::Binary
                .switch_answer(&good[..10], 2, &mut Vec::new())
                .is_err()
        );
        assert_eq!(
            Wire::Binary.switch_answer(&good, 3, &mut Vec::new()),
            Err(WireError::Count {
                expected: 3,
                got: 2
            })
        );
        let ragged = answer(Kind::Create, 1, &[0; 13]);
        assert_eq!(
            Wire::Binary.create_answer(&ragged, 1),
            Err(WireError::Malformed("ragged records"))
        );
    }
}
