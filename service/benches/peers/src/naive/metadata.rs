//! Immutable metadata that shares what it can, in a catalogue without a global lock, against owned records that are copied to be
//! safe, in a map behind a mutex.
//!
//! Both sides hold the same fields with the same contents. Where a changed copy is measured, they were made before the clock starts, so
//! that what differs is the copy alone; where it is constructing, both are made of the same parts, which outlive them.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::codec::{Format, Size};
use backdrop_service::store::{Stored, Tags, checksum};
use parking_lot::Mutex;

use crate::rounds::{Contender, Random, nanoseconds};
use crate::support::Figure;
use crate::world::{SMALL, World, id, photograph};

/// Entries of the catalogue.
const BACKGROUNDS: usize = 256;
/// Threads that read.
const READERS: usize = 16;

/// The naive record: every part owned, every copy whole.
#[allow(dead_code, reason = "most fields are there to be copied")]
#[derive(Debug, Clone)]
struct Record {
    id: String,
    version: u32,
    format: Format,
    size: Size,
    bytes: u64,
    checksum: u64,
    thumbnail: Vec<u8>,
    tags: Vec<String>,
}

impl Record {
    fn of(stored: &Stored) -> Self {
        Self {
            id: stored.id.to_string(),
            version: stored.version,
            format: stored.format,
            size: stored.size,
            bytes: stored.bytes,
            checksum: stored.checksum,
            thumbnail: stored.thumbnail.to_vec(),
            tags: stored
                .tags
                .sorted()
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// A copy to be changed, so that whoever holds the original is safe.
    fn with_tag(&self, tag: &str) -> Self {
        let mut copy = self.clone();
        copy.tags.push(tag.to_owned());
        copy
    }
}

/// A record of its parts, and one tag put on it: what each upload does.
fn construct(world: &World) -> io::Result<Figure> {
    let identity = world.flyweights.identity(0).map_err(io::Error::other)?;
    let parts = &identity.stored;
    let ours = Contender::new(|_, ops| {
        for _ in 0..ops {
            let stored = Stored {
                id: Arc::from(black_box(&*parts.id)),
                thumbnail: parts.thumbnail.clone(),
                tags: Tags::default(),
                ..*parts
            };
            black_box(stored.with_tag(black_box("warm")).expect("well formed"));
        }
    });
    let naive = Contender::new(|_, ops| {
        for _ in 0..ops {
            let record = Record {
                id: black_box(&*parts.id).to_owned(),
                version: parts.version,
                format: parts.format,
                size: parts.size,
                bytes: parts.bytes,
                checksum: parts.checksum,
                thumbnail: parts.thumbnail.to_vec(),
                tags: Vec::new(),
            };
            black_box(record.with_tag(black_box("warm")));
        }
    });
    let times = nanoseconds(&[ours, naive], 1);
    let name = "metadata: constructed, and tagged once";
    Ok(Figure::new(name, "ns", times[0]).peer("owned record, copied whole", times[1]))
}

/// One more tag, on an entry that has one.
fn change(world: &World) -> io::Result<Figure> {
    let identity = world.flyweights.identity(0).map_err(io::Error::other)?;
    let stored = identity.stored.with_tag("indoor");
    let stored = stored.map_err(io::Error::other)?;
    let record = Record::of(&stored);
    let ours = Contender::new(|_, ops| {
        for _ in 0..ops {
            black_box(stored.with_tag(black_box("warm")).expect("well formed"));
        }
    });
    let naive = Contender::new(|_, ops| {
        for _ in 0..ops {
            black_box(record.with_tag(black_box("warm")));
        }
    });
    let times = nanoseconds(&[ours, naive], 1);
    let name = "metadata: a changed copy, one more tag";
    Ok(Figure::new(name, "ns", times[0]).peer("owned record, copied whole", times[1]))
}

fn reading(world: &World) -> io::Result<Figure> {
    let ids: Vec<String> = (0..BACKGROUNDS).map(id).collect();
    let mut records = HashMap::new();
    for (index, id) in (0..).zip(&ids) {
        let identity = world.flyweights.identity(index).map_err(io::Error::other)?;
        records.insert(id.clone(), Record::of(&identity.stored));
    }
    let records = Mutex::new(records);
    let ask = |thread: usize, ops: usize| {
        let mut random = Random(thread as u64);
        let ids = &ids;
        (0..ops).map(move |_| ids[(random.next() % BACKGROUNDS as u64) as usize].as_str())
    };
    let ours = Contender::new(|thread, ops| {
        for id in ask(thread, ops) {
            let index = world.flyweights.resolve(id).expect("it is there");
            let identity = world.flyweights.identity(index).expect("it is live");
            black_box(identity.stored.tags.len() as u64 + identity.stored.bytes);
        }
    });
    let naive = Contender::new(|thread, ops| {
        for id in ask(thread, ops) {
            let record = records.lock().get(id).cloned().expect("it is there");
            let record = black_box(record);
            black_box(record.tags.len() as u64 + record.bytes);
        }
    });
    let times = nanoseconds(&[ours, naive], READERS);
    let name = format!("metadata: concurrent read, {READERS} threads");
    Ok(Figure::new(name, "ns", times[0]).peer("Mutex<HashMap>, copied whole", times[1]))
}

/// The next version of an entry, shown: what a write costs beside the reads.
fn writing(world: &World) -> io::Result<Figure> {
    let image = photograph(SMALL)?;
    let version = std::sync::atomic::AtomicU32::new(2);
    let ours = Contender::new(|_, ops| {
        for at in 0..ops {
            let next = version.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let identity = world
                .flyweights
                .identity((at % BACKGROUNDS) as u32)
                .expect("it is live");
            let shown = world.flyweights.insert_or_replace(Stored {
                version: next,
                checksum: checksum(b""),
                bytes: image.len() as u64,
                ..identity.stored.clone()
            });
            shown.expect("a newer version");
        }
    });
    Ok(Figure::new(
        "metadata: a write, a new version shown",
        "ns",
        nanoseconds(&[ours], 1)[0],
    ))
}

pub fn run() -> io::Result<Vec<Figure>> {
    let world = World::of(64 << 20)?;
    world.upload(BACKGROUNDS, SMALL)?;
    Ok(vec![
        construct(&world)?,
        change(&world)?,
        reading(&world)?,
        writing(&world)?,
    ])
}
