//! Row 3: immutable metadata that shares what it can, in a catalogue without a global lock, against owned records that are copied
//! to be safe, in a map behind a mutex.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;

use backdrop_service::codec::{Format, Size};
use backdrop_service::store::{Stored, Tags, checksum};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::rounds::{Contender, Random, nanoseconds};
use crate::support::Figure;
use crate::world::{SMALL, World, id, photograph};

/// Entries of the catalogue.
const BACKGROUNDS: usize = 256;
/// A thumbnail's usual size.
const THUMBNAIL: usize = 2_048;
/// Threads that read.
const READERS: usize = 16;

/// The naive record: every part owned, every copy whole.
#[derive(Debug, Clone)]
struct Record {
    id: String,
    version: u32,
    format: String,
    width: u32,
    height: u32,
    bytes: u64,
    checksum: String,
    thumbnail: Vec<u8>,
    tags: Vec<String>,
}

impl Record {
    fn new(id: &str, thumbnail: &[u8]) -> Self {
        Self {
            id: id.to_owned(),
            version: 1,
            format: "jpeg".to_owned(),
            width: 1920,
            height: 1080,
            bytes: 500_000,
            checksum: format!("{:016x}", 42),
            thumbnail: thumbnail.to_vec(),
            tags: vec!["indoor".to_owned()],
        }
    }

    /// A copy to be changed, so that whoever holds the original is safe.
    fn with_tag(&self, tag: &str) -> Self {
        let mut copy = self.clone();
        copy.tags.push(tag.to_owned());
        copy
    }

    fn weight(&self) -> usize {
        let text = self.id.len() + self.format.len() + self.checksum.len() + self.thumbnail.len();
        text + self.tags.len()
            + (self.version + self.width + self.height) as usize
            + self.bytes as usize
    }
}

fn stored(id: &str, thumbnail: &Bytes, tags: &Tags) -> Stored {
    Stored {
        id: id.into(),
        version: 1,
        format: Format::Jpeg,
        size: Size::new(1920, 1080),
        bytes: 500_000,
        checksum: 42,
        thumbnail: thumbnail.clone(),
        tags: tags.clone(),
    }
}

fn construct() -> Figure {
    let raw = vec![7u8; THUMBNAIL];
    let (thumbnail, tags) = (
        Bytes::from(raw.clone()),
        Tags::of(["indoor"]).expect("well formed"),
    );
    let ours = Contender::new(|_, ops| {
        for _ in 0..ops {
            let made = stored(black_box("background-00001"), &thumbnail, &tags);
            black_box(made.with_tag(black_box("warm")).expect("well formed"));
        }
    });
    let naive = Contender::new(|_, ops| {
        for _ in 0..ops {
            let made = Record::new(black_box("background-00001"), &raw);
            black_box(made.with_tag(black_box("warm")));
        }
    });
    let times = nanoseconds(&[ours, naive], 1);
    Figure::new("row 3: construct and one tag", "ns", times[0])
        .peer("owned record, copied whole", times[1])
}

fn reading(world: &World) -> Figure {
    let raw = vec![7u8; THUMBNAIL];
    let ids: Vec<String> = (0..BACKGROUNDS).map(id).collect();
    let records: HashMap<String, Record> = ids
        .iter()
        .map(|id| (id.clone(), Record::new(id, &raw)))
        .collect();
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
            black_box(record.weight());
        }
    });
    let times = nanoseconds(&[ours, naive], READERS);
    let name = format!("row 3: concurrent read, {READERS} threads");
    Figure::new(name, "ns", times[0]).peer("Mutex<HashMap>, copied whole", times[1])
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
        "row 3: a write, a new version shown",
        "ns",
        nanoseconds(&[ours], 1)[0],
    ))
}

pub fn run() -> io::Result<Vec<Figure>> {
    let world = World::of(64 << 20)?;
    world.upload(BACKGROUNDS, SMALL)?;
    Ok(vec![construct(), reading(&world), writing(&world)?])
}
