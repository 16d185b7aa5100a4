//! Batches of sessions as the small service reads and answers them: in records or in JSON, whichever it was asked in.

use backdrop_simulator::wire::{BINARY, NO_FLYWEIGHT, code_name};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use super::answers::respond;

/// Byte of a kind of batch in its header.
pub const SWITCH: u8 = 1;
pub const READ: u8 = 2;
pub const CREATE: u8 = 3;
pub const DELETE: u8 = 4;

/// The kind of batch that a path asks for.
pub fn kind_of(path: &str) -> Option<u8> {
    match path.strip_prefix("/v1/sessions:batch")? {
        "Switch" => Some(SWITCH),
        "Read" => Some(READ),
        "Create" => Some(CREATE),
        "Delete" => Some(DELETE),
        _ => None,
    }
}

/// What was asked for, whatever the form.
pub struct Batch {
    pub kind: u8,
    /// Epoch that the indices belong to, where it was said.
    pub epoch: Option<u64>,
    /// Session, or the user of one to create, and index.
    pub entries: Vec<(u64, u32)>,
    json: bool,
}

impl Batch {
    pub fn parse(kind: u8, content_type: &[u8], body: &[u8]) -> Self {
        match content_type == BINARY.as_bytes() {
            true => Batch::of_records(kind, body),
            false => Batch::of_json(kind, body),
        }
    }

    fn of_records(kind: u8, body: &[u8]) -> Self {
        let (head, records) = body.split_at(16);
        assert_eq!(&head[..6], [b"BKDP\x01", &[kind][..]].concat());
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
        let long = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let entry = |record: &[u8]| match kind {
            SWITCH => (long(&record[..8]), word(&record[8..])),
            CREATE => (u64::from(word(&record[..4])), word(&record[4..])),
            _ => (long(record), NO_FLYWEIGHT),
        };
        let size = if kind == SWITCH { 12 } else { 8 };
        Batch {
            kind,
            epoch: Some(long(&head[8..])),
            entries: records.chunks_exact(size).map(entry).collect(),
            json: false,
        }
    }

    fn of_json(kind: u8, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap();
        let list = if kind == SWITCH {
            "switches"
        } else {
            "sessions"
        };
        let id = |value: &Value| u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
        let flyweight = |value: &Value| {
            let index = value["flyweight"].as_u64();
            index.map_or(NO_FLYWEIGHT, |index| index as u32)
        };
        let entry = |value: &Value| match kind {
            SWITCH => (id(&value["session"]), flyweight(value)),
            CREATE => (value["user"].as_u64().unwrap(), flyweight(value)),
            _ => (id(value), NO_FLYWEIGHT),
        };
        Batch {
            kind,
            epoch: value["epoch"].as_str().map(|text| text.parse().unwrap()),
            entries: value[list].as_array().unwrap().iter().map(entry).collect(),
            json: true,
        }
    }

    /// A code for each entry.
    pub fn answer_codes(&self, epoch: u64, codes: &[u8]) -> Response<Full<Bytes>> {
        match self.json {
            true => json_answer(epoch, json!({"codes": names(codes)})),
            false => self.records(epoch, codes),
        }
    }

    /// A session and a code for each entry.
    pub fn answer_created(&self, epoch: u64, made: &[(u64, u8)]) -> Response<Full<Bytes>> {
        if self.json {
            let id = |(id, code): &(u64, u8)| match code {
                0 => json!(format!("{id:016x}")),
                _ => Value::Null,
            };
            let ids: Vec<Value> = made.iter().map(id).collect();
            let codes: Vec<u8> = made.iter().map(|(_, code)| *code).collect();
            return json_answer(epoch, json!({"sessions": ids, "codes": names(&codes)}));
        }
        let record = |(id, code): &(u64, u8)| {
            let code = u32::from(*code).to_le_bytes();
            [&id.to_le_bytes()[..], &code[..]].concat()
        };
        self.records(epoch, &made.iter().flat_map(record).collect::<Vec<u8>>())
    }

    /// Code, index, version and switches for each entry.
    pub fn answer_read(&self, epoch: u64, seen: &[[u32; 4]]) -> Response<Full<Bytes>> {
        if self.json {
            let entry = |[code, flyweight, version, switches]: &[u32; 4]| match code {
                0 => {
                    json!({"code": "ok", "flyweight": flyweight, "version": version, "switches": switches})
                }
                code => json!({"code": code_name(*code as u8)}),
            };
            let entries: Vec<Value> = seen.iter().map(entry).collect();
            return json_answer(epoch, json!({"entries": entries}));
        }
        let words = seen.iter().flatten();
        let records: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        self.records(epoch, &records)
    }

    fn records(&self, epoch: u64, records: &[u8]) -> Response<Full<Bytes>> {
        let mut out = b"BKDP\x01".to_vec();
        out.extend_from_slice(&[self.kind | 0x80, 0, 0]);
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(records);
        Response::new(Full::new(Bytes::from(out)))
    }
}

fn names(codes: &[u8]) -> Vec<&'static str> {
    codes.iter().map(|code| code_name(*code)).collect()
}

fn json_answer(epoch: u64, mut value: Value) -> Response<Full<Bytes>> {
    value["epoch"] = json!(epoch.to_string());
    respond(200, value)
}
