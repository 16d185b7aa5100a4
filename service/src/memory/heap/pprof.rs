//! From the allocator's dump to a `profile.proto`, the form that `pprof` reads. Text in, bytes out.
//!
//! The dump (`heap_v2`) holds for each backtrace the samples that are still in use; each stands for as many objects as its chance of
//! being picked was small (<https://jemalloc.net/jemalloc.3.html>, `opt.lg_prof_sample`). The encoding follows the field numbers
//! of <https://github.com/google/pprof/blob/main/proto/profile.proto>; names are left to `pprof`, which finds them in the binary.

use std::collections::HashMap;
use std::time::Duration;

use super::HeapError;

/// One backtrace with what it holds.
struct Sample {
    /// Return addresses, the innermost first.
    stack: Vec<u64>,
    objects: u64,
    bytes: u64,
}

/// A range of addresses that a file was mapped to.
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    file: String,
}

/// Appends fields of a protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn packed(&mut self, field: u64, values: impl Iterator<Item = u64>) {
        let mut packed = Message::default();
        values.for_each(|value| packed.varint(value));
        self.bytes(field, &packed.0);
    }
}

/// Strings by number; the first is empty, as the form demands.
struct Strings {
    numbers: HashMap<String, u64>,
    table: Vec<String>,
}

impl Strings {
    fn new() -> Self {
        Self {
            numbers: HashMap::from([(String::new(), 0)]),
            table: vec![String::new()],
        }
    }

    fn number(&mut self, text: &str) -> u64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.table.len() as u64;
        self.table.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }
}

/// Makes the profile of a dump, taken at `now` since the Unix epoch.
pub(super) fn from_dump(text: &str, now: Duration) -> Result<Vec<u8>, HeapError> {
    let period = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("heap_v2/")?.parse().ok())
        .ok_or(HeapError::Format("header heap_v2"))?;
    let (samples, maps) = text
        .split_once("MAPPED_LIBRARIES:")
        .ok_or(HeapError::Format("list of mappings"))?;
    let mappings: Vec<Mapping> = maps.lines().filter_map(mapping).collect();
    Ok(encode(&samples_of(samples, period), &mappings, period, now))
}

/// `t*: objects: bytes [objects so far: bytes so far]` below each `@ address address …`.
fn samples_of(text: &str, period: u64) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut stack: Option<Vec<u64>> = None;
    for line in text.lines() {
        if let Some(addresses) = line.strip_prefix("@ ") {
            let addresses = addresses.split_whitespace();
            stack = Some(addresses.filter_map(hexadecimal).collect());
        } else if let Some(counts) = line.trim_start().strip_prefix("t*:")
            && let Some(stack) = stack.take()
        {
            let counts = counts.split('[').next().unwrap_or_default();
            let mut counts = counts.split(':').map(|count| count.trim().parse::<u64>());
            if let (Some(Ok(objects)), Some(Ok(bytes))) = (counts.next(), counts.next())
                && objects > 0
            {
                let (objects, bytes) = unsampled(objects, bytes, period);
                samples.push(Sample {
                    stack,
                    objects,
                    bytes,
                });
            }
        }
    }
    samples
}

/// What the samples stand for: an allocation of `size` bytes is picked with the chance 1 − e^(−size / period).
fn unsampled(objects: u64, bytes: u64, period: u64) -> (u64, u64) {
    if bytes == 0 || period < 2 {
        return (objects, bytes);
    }
    let size = bytes as f64 / objects as f64;
    let chance = -f64::exp_m1(-size / period as f64);
    let scaled = |count: u64| (count as f64 / chance).round() as u64;
    (scaled(objects), scaled(bytes))
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// A line of `/proc/self/maps`, if a file's code is mapped there.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.contains('x');
    let offset = hexadecimal(fields.next()?)?;
    let file = fields.nth(2)?;
    (executable && file.starts_with('/')).then_some(Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        offset,
        file: file.to_owned(),
    })
}

fn encode(samples: &[Sample], mappings: &[Mapping], period: u64, now: Duration) -> Vec<u8> {
    let mut strings = Strings::new();
    let mut profile = Message::default();
    let kind = |strings: &mut Strings, name: &str, unit: &str| {
        let mut kind = Message::default();
        kind.number(1, strings.number(name));
        kind.number(2, strings.number(unit));
        kind.0
    };
    profile.bytes(1, &kind(&mut strings, "inuse_objects", "count"));
    profile.bytes(1, &kind(&mut strings, "inuse_space", "bytes"));
    let mut locations: HashMap<u64, u64> = HashMap::new();
    for sample in samples {
        let mut message = Message::default();
        let stack = sample.stack.iter().enumerate().map(|(depth, &address)| {
            // A return address lies behind the call, which may be the last instruction of its line.
            let address = if depth == 0 { address } else { address - 1 };
            let next = locations.len() as u64 + 1;
            *locations.entry(address).or_insert(next)
        });
        message.packed(1, stack);
        message.packed(2, [sample.objects, sample.bytes].into_iter());
        profile.bytes(2, &message.0);
    }
    for (number, mapping) in mappings.iter().enumerate() {
        let mut message = Message::default();
        message.number(1, number as u64 + 1);
        message.number(2, mapping.start);
        message.number(3, mapping.end);
        message.number(4, mapping.offset);
        message.number(5, strings.number(&mapping.file));
        profile.bytes(3, &message.0);
    }
    for (address, number) in locations {
        let mut message = Message::default();
        message.number(1, number);
        let within = |mapping: &Mapping| (mapping.start..mapping.end).contains(&address);
        let mapped = mappings.iter().position(within);
        message.number(2, mapped.map_or(0, |mapping| mapping as u64 + 1));
        message.number(3, address);
        profile.bytes(4, &message.0);
    }
    let space = kind(&mut strings, "space", "bytes");
    let default = strings.number("inuse_space");
    for text in &strings.table {
        profile.bytes(6, text.as_bytes());
    }
    profile.number(9, now.as_nanos() as u64);
    profile.bytes(11, &space);
    profile.number(12, period);
    profile.number(14, default);
    profile.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "heap_v2/524288\n  t*: 3: 1048600 [0: 0]\n  t1: 3: 1048600 [0: 0]\n\
        @ 0x1010 0x2021 0x9000\n  t*: 1: 1048576 [0: 0]\n  t1: 1: 1048576 [0: 0]\n\
        @ 0x1010 0x2031\n  t*: 2: 24 [0: 0]\n  t1: 2: 24 [0: 0]\n\
        @ 0x1011\n  t*: 0: 0 [5: 99]\n\nMAPPED_LIBRARIES:\n\
        00001000-00002000 r-xp 00000400 fe:00 12 /usr/bin/service\n\
        00002000-00003000 r-xp 00000000 fe:00 13 /usr/lib/libc.so\n\
        00004000-00005000 rw-p 00000000 00:00 0 [heap]\n";

    /// Reads a message back: fields in order, numbers and bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = varint(&mut bytes);
            let content = if key & 7 == 2 {
                let (content, rest) = bytes.split_at(value as usize);
                bytes = rest;
                content
            } else {
                &[]
            };
            found.push((key >> 3, value, content));
        }
        found
    }

    #[test]
    fn a_dump_becomes_samples_locations_and_mappings_that_fit_together() {
        let profile = from_dump(DUMP, Duration::from_nanos(77)).expect("a profile");
        let fields = fields(&profile);
        let count = |field| {
            fields
                .iter()
                .filter(|(number, ..)| *number == field)
                .count()
        };
        assert_eq!([1, 2, 3, 4, 11].map(count), [2, 2, 2, 4, 1]);
        let strings: Vec<&[u8]> = fields.iter().filter(|f| f.0 == 6).map(|f| f.2).collect();
        assert_eq!(strings[0], b"");
        assert!(
            strings.contains(&&b"/usr/bin/service"[..]) && strings.contains(&&b"inuse_space"[..])
        );
        assert!(fields.contains(&(9, 77, &[])) && fields.contains(&(12, 524_288, &[])));
        let locations: Vec<_> = fields
            .iter()
            .filter(|f| f.0 == 4)
            .map(|f| super::tests::fields(f.2))
            .collect();
        let of = |address: u64| {
            let found = locations
                .iter()
                .find(|fields| fields.contains(&(3, address, &[])));
            found
                .expect("a location")
                .iter()
                .find(|f| f.0 == 2)
                .map(|f| f.1)
        };
        // Callers by their call, the unmapped without a mapping.
        assert_eq!(
            [of(0x1010), of(0x2020), of(0x2030), of(0x8fff)],
            [Some(1), Some(2), Some(2), None]
        );
    }

    #[test]
    fn small_allocations_stand_for_many() {
        let (objects, bytes) = unsampled(2, 24, 524_288);
        assert!((bytes as f64 / 1_048_576.0 - 1.0).abs() < 0.01, "{bytes}");
        assert_eq!(objects, bytes / 12);
        let (objects, bytes) = unsampled(1, 8 << 20, 524_288);
        assert_eq!(objects, 1, "sixteen intervals long: it is always sampled");
        assert!(bytes.abs_diff(8 << 20) <= 1, "{bytes}");
        assert_eq!(unsampled(3, 0, 524_288), (3, 0));
    }

    #[test]
    fn what_is_no_dump_is_refused() {
        for text in [
            "",
            "heap profile: 1: 2",
            "heap_v2/x\nMAPPED_LIBRARIES:",
            "heap_v2/8\n",
        ] {
            assert!(from_dump(text, Duration::ZERO).is_err(), "{text}");
        }
    }
}
