//! The readable batch form. Parsing is lenient entry by entry: an entry of the wrong shape, or with a key that is not its
//! operation's, is one bad entry and never fails its neighbours; only a body that is no JSON object with the expected list, or that
//! has another key, fails as a whole.
//!
//! Entries are read in one pass into compact values that borrow from the body, at most as many as are allowed.

use super::{Code, Operation};
use crate::http::problem::{Kind, Problem};
use crate::http::respond::parse_hex;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use std::borrow::Cow;
use std::fmt;

/// A value whose type is judged later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Loose<'a> {
    /// Absent or null.
    #[default]
    Nothing,
    /// A string.
    Text(Cow<'a, str>),
    /// A number without sign and fraction.
    Number(u64),
    /// Anything else.
    Other,
}

/// Longest text that is copied out of a body.
const COPIED_BYTES_MAX: usize = 64;

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Loose::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        // A text with escapes, which must be copied. No name or id is as long as this, so nothing longer is.
        Ok(if text.len() <= COPIED_BYTES_MAX {
            Loose::Text(Cow::Owned(text.to_owned()))
        } else {
            Loose::Other
        })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Loose::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Loose::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Loose::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Loose::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Other)
    }
}

impl<'de> Deserialize<'de> for Loose<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

/// The background that an entry names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target<'a> {
    /// None.
    #[default]
    Nothing,
    /// By index.
    Index(u32),
    /// By id.
    Name(Cow<'a, str>),
}

/// One entry, as far as it was well-formed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry<'a> {
    /// Session, if the entry has one that reads as an id.
    pub session: Option<u64>,
    /// Background.
    pub target: Target<'a>,
    /// User; 0 where none is given.
    pub user: u64,
    /// Something was of the wrong type.
    pub bad: bool,
}

impl<'a> Entry<'a> {
    fn set_session(&mut self, value: &Loose<'a>) {
        match value {
            Loose::Text(text) => match parse_hex(text.as_bytes()) {
                Some(session) => self.session = Some(session),
                None => self.bad = true,
            },
            Loose::Nothing => {}
            Loose::Number(_) | Loose::Other => self.bad = true,
        }
    }

    fn bad() -> Self {
        Self {
            bad: true,
            ..Self::default()
        }
    }

    /// A key that `operation` has no use for would be something that its sender wanted, and that was dropped.
    fn set(&mut self, operation: Operation, key: &Loose<'a>, value: Loose<'a>) {
        let key = match key {
            Loose::Text(key) if entry_keys(operation).contains(&&**key) => &**key,
            _ => {
                self.bad = true;
                return;
            }
        };
        match (key, value) {
            ("session", value) => self.set_session(&value),
            (_, Loose::Nothing) => {}
            ("background", Loose::Text(name)) => self.target = Target::Name(name),
            ("flyweight", Loose::Number(index)) => match u32::try_from(index) {
                Ok(index) => self.target = Target::Index(index),
                Err(_) => self.bad = true,
            },
            ("user", Loose::Number(user)) => self.user = user,
            _ => self.bad = true,
        }
    }
}

/// Keys that an entry may have.
const fn entry_keys(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Switch => &["session", "background", "flyweight"],
        Operation::Create => &["user", "background", "flyweight"],
        Operation::Read | Operation::Delete => &["session"],
    }
}

/// Reads one entry of an operation.
#[derive(Clone, Copy)]
struct EntrySeed(Operation);

impl<'de> DeserializeSeed<'de> for EntrySeed {
    type Value = Entry<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed {
    type Value = Entry<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry")
    }

    /// A session's id alone. One that is to be made has none yet.
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let session = parse_hex(text.as_bytes());
        Ok(Entry {
            session,
            bad: session.is_none() || self.0 == Operation::Create,
            ..Entry::default()
        })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Entry::bad())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Entry::bad())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Entry::bad())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Entry::bad())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Entry::bad())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::bad())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entry = Entry::default();
        while let Some((key, value)) = map.next_entry::<Loose<'de>, Loose<'de>>()? {
            entry.set(self.0, &key, value);
        }
        Ok(entry)
    }
}

/// A parsed body.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// Epoch that the caller's indices belong to, if it says so.
    pub epoch: Option<u64>,
    /// Number of like sessions to create.
    pub count: Option<u64>,
    /// Background of the sessions that `count` creates.
    pub target: Target<'a>,
    /// The entries, where there is no `count`.
    pub entries: Option<Vec<Entry<'a>>>,
}

impl Batch<'_> {
    /// Number of entries that will be answered.
    #[must_use]
    pub fn answers(&self) -> usize {
        let listed = self.entries.as_ref().map(Vec::len);
        listed.unwrap_or(self.count.unwrap_or(0) as usize)
    }
}

/// Marks the error of a list that is too long, since a visitor can only fail with a message.
const TOO_MANY: &str = "too many entries";

/// Reads a list of at most `max` entries into a vector that has room for all of them from the start: one that grew would hold its
/// entries twice while it moves.
struct EntriesSeed {
    entry: EntrySeed,
    max: usize,
    /// No fewer than the list has.
    room: usize,
}

impl<'de> DeserializeSeed<'de> for EntriesSeed {
    type Value = Vec<Entry<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed {
    type Value = Vec<Entry<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(self.room);
        while let Some(entry) = seq.next_element_seed(self.entry)? {
            if entries.len() == self.max {
                return Err(A::Error::custom(TOO_MANY));
            }
            entries.push(entry);
        }
        Ok(entries)
    }
}

struct BatchVisitor {
    operation: Operation,
    list: &'static str,
    entries_max: usize,
    room: usize,
}

fn number(value: &Loose<'_>) -> Option<u64> {
    match value {
        Loose::Number(number) => Some(*number),
        Loose::Text(text) => text.parse().ok(),
        Loose::Nothing | Loose::Other => None,
    }
}

impl BatchVisitor {
    /// Keys that a body may have beside its list.
    const fn keys(&self) -> &'static [&'static str] {
        match self.operation {
            Operation::Create => &["epoch", "count", "background", "flyweight"],
            Operation::Switch | Operation::Read | Operation::Delete => &["epoch"],
        }
    }

    fn unknown<E: Error>(&self) -> E {
        let known = self.keys().join(", ");
        E::custom(format!("a key is none of {}, {known}", self.list))
    }

    fn set<'a>(batch: &mut Batch<'a>, key: &str, value: Loose<'a>) -> Result<(), &'static str> {
        match (key, value) {
            (_, Loose::Nothing) => {}
            ("epoch", value) => {
                batch.epoch = Some(number(&value).ok_or("epoch must be a decimal string")?)
            }
            ("count", Loose::Number(count)) => batch.count = Some(count),
            ("background", Loose::Text(name)) => batch.target = Target::Name(name),
            ("flyweight", Loose::Number(index)) => {
                batch.target =
                    Target::Index(u32::try_from(index).map_err(|_| "flyweight must fit 32 bits")?);
            }
            _ => return Err("count, background or flyweight is of the wrong type"),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with the list {:?}", self.list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut batch = Batch::default();
        while let Some(key) = map.next_key::<Loose<'de>>()? {
            match key {
                // A second one would double what parsing may take.
                Loose::Text(key) if key == self.list && batch.entries.is_some() => {
                    return Err(A::Error::custom("the list is there twice"));
                }
                Loose::Text(key) if key == self.list => {
                    let seed = EntriesSeed {
                        entry: EntrySeed(self.operation),
                        max: self.entries_max,
                        room: self.room,
                    };
                    batch.entries = Some(map.next_value_seed(seed)?);
                }
                Loose::Text(key) if self.keys().contains(&&*key) => {
                    Self::set(&mut batch, &key, map.next_value()?).map_err(A::Error::custom)?
                }
                // Not repeated in the answer: it may be as long as a body.
                _ => return Err(self.unknown()),
            }
        }
        Ok(batch)
    }
}

/// Name of an operation's list of entries.
const fn list_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Switch => "switches",
        Operation::Read | Operation::Create | Operation::Delete => "sessions",
    }
}

/// Most entries that a body can list: there is a comma between two.
fn entries_within(body: &[u8], entries_max: usize) -> usize {
    let commas = body.iter().filter(|byte| **byte == b',').count();
    (commas + 1).min(entries_max)
}

/// Most bytes that parsing takes beside the list: the parser collects a text with escapes in a buffer that doubles as it grows, and
/// short ones are copied from there. Nothing that this service names has any.
#[must_use]
pub fn escaped_bytes_max(body: &[u8]) -> u64 {
    if body.contains(&b'\\') {
        4 * body.len() as u64
    } else {
        0
    }
}

/// Reads a body.
///
/// # Errors
/// 400 for what is no JSON of the expected shape, 413 for too many entries.
pub fn parse(body: &[u8], operation: Operation, entries_max: usize) -> Result<Batch<'_>, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let visitor = BatchVisitor {
        operation,
        list: list_of(operation),
        entries_max,
        room: entries_within(body, entries_max),
    };
    let parsed = deserializer
        .deserialize_map(visitor)
        .and_then(|batch| deserializer.end().map(|()| batch));
    let batch = parsed.map_err(|error| {
        let detail = error.to_string();
        let kind = if detail.starts_with(TOO_MANY) {
            Kind::BatchTooLarge
        } else {
            Kind::BadBatch
        };
        Problem::new(kind, detail)
    })?;
    let bad = |detail: String| Err(Problem::new(Kind::BadBatch, detail));
    match (&batch.entries, batch.count) {
        (None, None) => return bad(format!("the list {:?} is missing", list_of(operation))),
        (Some(_), Some(_)) => {
            return bad(format!(
                "give either count or the list {:?}",
                list_of(operation)
            ));
        }
        (Some(_), None) if batch.target != Target::Nothing => {
            return bad("the background beside a list is nobody's: give it to each entry".into());
        }
        _ => {}
    }
    if batch.count.is_some_and(|count| count > entries_max as u64) {
        return Err(Problem::new(
            Kind::BatchTooLarge,
            format!("ask for at most {entries_max} sessions at once"),
        ));
    }
    Ok(batch)
}

/// Most bytes of an answer without entries.
const ANSWER_BYTES: usize = 128;

/// Most bytes of one code: the longest name, quotes, comma.
const CODE_BYTES: usize = 20;

/// Most bytes that the answer to one entry takes.
const fn entry_bytes_max(operation: Operation) -> usize {
    match operation {
        Operation::Switch | Operation::Delete => CODE_BYTES,
        // An id of 16 digits, quotes, comma.
        Operation::Create => CODE_BYTES + 19,
        // Names, a background's id of 64 characters and three numbers of ten digits.
        Operation::Read => 208,
    }
}

/// Most bytes that the answer to `entries` takes while it is built: its text, and the codes before they are written.
#[must_use]
pub const fn answer_bytes_max(operation: Operation, entries: usize) -> usize {
    ANSWER_BYTES + entries * (entry_bytes_max(operation) + size_of::<Code>())
}

/// Opens an answer, `{"epoch":"…"`, with room for all of it: it never grows, so the bound is also what is allocated.
#[must_use]
pub fn open(epoch: u64, operation: Operation, entries: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ANSWER_BYTES + entries * entry_bytes_max(operation));
    out.extend_from_slice(b"{\"epoch\":\"");
    crate::http::respond::push_decimal(&mut out, epoch);
    out.push(b'"');
    out
}

/// Appends `,"codes":[…]` and closes the object.
pub fn close_with_codes(out: &mut Vec<u8>, codes: &[Code]) {
    out.extend_from_slice(b",\"codes\":[");
    for (at, code) in codes.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(code.name().as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"]}\n");
}

#[cfg(test)]
mod tests;
