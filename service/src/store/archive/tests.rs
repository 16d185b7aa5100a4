//! The faults of the archive, each made for real on its files: every one ends in a miss, never in other pixels.

use std::fs;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::*;
use crate::codec::{Format, Size};
use crate::store::Tags;

/// A size whose pixels do not fill their last page.
const ODD: Size = Size::new(321, 77);
/// Bytes of its file: a page of header, and 98,868 bytes of pixels in 25 pages.
const ODD_FILE: u64 = 26 * 4096;

fn entry(id: &str, version: u32, size: Size) -> Stored {
    Stored {
        id: id.into(),
        version,
        format: Format::Png,
        size,
        bytes: 1,
        checksum: u64::from(version) << 32 | id.len() as u64,
        thumbnail: Bytes::new(),
        tags: Tags::default(),
    }
}

/// Pixels that say which entry they are of.
fn pixels(entry: &Stored) -> Vec<u8> {
    let mut state = entry.checksum ^ u64::from(entry.id.as_bytes()[0]);
    let step = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..entry.size.bytes()).map(step).collect()
}

/// Memory that starts at a page, as a texture's does.
struct Aligned {
    memory: Vec<u8>,
    length: usize,
}

impl Aligned {
    fn of(length: usize) -> Self {
        let memory = vec![0; length + file::PAGE];
        Self { memory, length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let start = self.memory.as_ptr().align_offset(file::PAGE);
        &mut self.memory[start..start + self.length]
    }
}

struct World {
    archive: Archive,
    metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

/// Beside the program of this test: on a disk, where `/tmp` may lie in memory.
fn scratch() -> tempfile::TempDir {
    let program = std::env::current_exe().expect("a program");
    let beside = program.parent().expect("a folder");
    tempfile::tempdir_in(beside).expect("directory")
}

fn config(dir: &Path, bytes_max: u64) -> ArchiveConfig {
    ArchiveConfig {
        pause: Duration::ZERO,
        ..ArchiveConfig::at(dir, bytes_max)
    }
}

impl World {
    fn of(bytes_max: u64) -> Self {
        Self::on(scratch(), bytes_max)
    }

    fn on(dir: tempfile::TempDir, bytes_max: u64) -> Self {
        let metrics = Arc::new(Metrics::default());
        let archive = Archive::open(config(dir.path(), bytes_max), Arc::clone(&metrics));
        Self {
            archive: archive.expect("archive"),
            metrics,
            dir,
        }
    }

    fn restart(self, bytes_max: u64) -> Self {
        let World { archive, dir, .. } = self;
        drop(archive);
        Self::on(dir, bytes_max)
    }

    fn write(&self, entry: &Stored) -> ArchiveWrite {
        self.archive.write(entry, &pixels(entry), &|| true)
    }

    fn read(&self, entry: &Stored) -> Result<Vec<u8>, ArchiveRead> {
        let mut out = vec![0xEE; entry.size.bytes() as usize];
        match self.archive.read(entry, &mut out) {
            ArchiveRead::Hit => Ok(out),
            miss => Err(miss),
        }
    }

    fn path(&self, entry: &Stored) -> PathBuf {
        self.archive.path(&Name::of(entry).file())
    }

    fn removals(&self, reason: ArchiveRemoval) -> u64 {
        self.metrics.archive.removals_total.of(reason).get()
    }

    /// Names of all files but the lock.
    fn files(&self) -> Vec<String> {
        let listed = fs::read_dir(self.dir.path()).expect("directory");
        let name = |file: io::Result<fs::DirEntry>| {
            let name = file.expect("entry").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = listed.map(name).filter(|name| name != "lock").collect();
        names.sort();
        names
    }
}

#[test]
fn pixels_come_back_as_they_were_whatever_their_size_and_place_in_memory() {
    let world = World::of(1 << 30);
    let sizes = [
        (1, 1),
        (321, 77),
        (32, 32),
        (512, 512),
        (640, 480),
        (1, 1024),
    ];
    for (number, (width, height)) in sizes.into_iter().enumerate() {
        let entry = entry(&format!("b{number}"), 1, Size::new(width, height));
        let wanted = pixels(&entry);
        // Aligned as textures are, which may go past the page cache; and as a vector lies, which may not.
        let (mut source, mut target) = (Aligned::of(wanted.len()), Aligned::of(wanted.len()));
        source.bytes().copy_from_slice(&wanted);
        let written = world.archive.write(&entry, source.bytes(), &|| true);
        assert_eq!(written, ArchiveWrite::Ok, "{width}x{height}");
        assert_eq!(world.archive.read(&entry, target.bytes()), ArchiveRead::Hit);
        assert!(*target.bytes() == wanted[..], "{width}x{height}");
        let mut shifted = vec![0; wanted.len() + 1];
        assert_eq!(
            world.archive.read(&entry, &mut shifted[1..]),
            ArchiveRead::Hit
        );
        assert!(shifted[1..] == wanted[..], "{width}x{height}, not aligned");
        let length = fs::metadata(world.path(&entry)).expect("file").len();
        assert_eq!(length, file::length(&entry));
    }
    assert_eq!(world.archive.entries(), sizes.len());
    let on_disk: u64 = world
        .files()
        .iter()
        .map(|name| {
            fs::metadata(world.dir.path().join(name))
                .expect("file")
                .len()
        })
        .sum();
    assert_eq!(world.archive.bytes(), on_disk);
}

#[test]
fn both_ways_of_transfer_write_the_same_file() {
    let world = World::of(1 << 30);
    let entry = entry("a", 1, Size::new(640, 480));
    let mut memory = Aligned::of(entry.size.bytes() as usize);
    let source = memory.bytes();
    source.copy_from_slice(&pixels(&entry));
    let files = [Transfer::Direct, Transfer::Buffered].map(|transfer| {
        let path = world.dir.path().join(format!("{transfer:?}"));
        match file::write(&path, &entry, source, transfer, &|| true) {
            Ok(whole) => assert!(whole),
            // A file system without O_DIRECT, which `probe` is there to notice.
            Err(_) => assert_eq!(world.archive.transfer, Transfer::Buffered),
        }
        fs::read(path).unwrap_or_default()
    });
    if world.archive.transfer == Transfer::Direct {
        assert!(files[0] == files[1]);
    } else {
        eprintln!("no O_DIRECT here: only the buffered transfer was tested");
    }
    assert_eq!(files[1].len() as u64, file::length(&entry));
}

/// Pages of a file that the page cache holds, where there is a tool that says so.
fn cached(path: &Path) -> Option<String> {
    let mut fincore = std::process::Command::new("fincore");
    let said = fincore.args(["-b", "-n", "-r", "-o", "PAGES"]).arg(path);
    let said = said.output().ok().filter(|said| said.status.success())?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

#[test]
fn a_buffered_transfer_leaves_no_page_cache_behind() {
    let dir = scratch();
    let entry = entry("a", 1, Size::new(1024, 700));
    let (path, plain) = (dir.path().join("a"), dir.path().join("plain"));
    fs::write(&plain, [1; 8192]).expect("written");
    if file::is_memory(dir.path()) || cached(&plain).as_deref() != Some("2") {
        eprintln!("not tested: no disk, or no fincore");
        return;
    }
    let wanted = pixels(&entry);
    file::write(&path, &entry, &wanted, Transfer::Buffered, &|| true).expect("written");
    assert_eq!(cached(&path).as_deref(), Some("0"), "after the write");
    let mut found = vec![0; wanted.len()];
    file::read(&path, &entry, &mut found, Transfer::Buffered).expect("read");
    assert!(found == wanted);
    assert_eq!(cached(&path).as_deref(), Some("0"), "after the read");
}

#[test]
fn a_flipped_bit_anywhere_is_a_counted_miss_and_the_file_goes() {
    let entry = entry("beach", 3, ODD);
    let world = World::of(1 << 30);
    let last = PAGE_BYTES + ODD.bytes() - 1;
    // Magic, form, version, size, checksums, length of the id, id, rest of the header, and pixels from the first to the last.
    let places = [0, 9, 12, 16, 24, 33, 48, 63, 64, 4095, 4096, 60_000, last];
    for at in places {
        assert_eq!(world.write(&entry), ArchiveWrite::Ok);
        let before = world.removals(ArchiveRemoval::Damaged);
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(world.path(&entry))
            .expect("file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("byte");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("flipped");
        assert_eq!(world.read(&entry), Err(ArchiveRead::Corrupt), "at {at}");
        assert_eq!(world.removals(ArchiveRemoval::Damaged), before + 1);
        assert!(!world.archive.holds(&entry) && world.files().is_empty());
        assert_eq!(world.read(&entry), Err(ArchiveRead::Absent));
    }
    assert_eq!(world.write(&entry), ArchiveWrite::Ok);
    assert!(
        world.read(&entry).as_ref() == Ok(&pixels(&entry)),
        "written anew"
    );
}

const PAGE_BYTES: u64 = file::PAGE as u64;

#[test]
fn a_truncated_a_lengthened_and_a_missing_file_are_misses() {
    let entry = entry("beach", 1, ODD);
    let world = World::of(1 << 30);
    let resize = |bytes: u64| {
        assert_eq!(world.write(&entry), ArchiveWrite::Ok);
        let file = fs::File::options().write(true).open(world.path(&entry));
        file.expect("file").set_len(bytes).expect("resized");
    };
    for bytes in [0, 100, PAGE_BYTES, PAGE_BYTES * 2, ODD_FILE - 1] {
        resize(bytes);
        assert_eq!(world.read(&entry), Err(ArchiveRead::Truncated), "{bytes}");
    }
    resize(ODD_FILE + PAGE_BYTES);
    assert_eq!(world.read(&entry), Err(ArchiveRead::Corrupt));
    assert_eq!(world.write(&entry), ArchiveWrite::Ok);
    fs::remove_file(world.path(&entry)).expect("removed");
    assert_eq!(world.read(&entry), Err(ArchiveRead::Absent));
    assert!(!world.archive.holds(&entry));
    assert_eq!((world.archive.entries(), world.archive.bytes()), (0, 0));
}

#[test]
fn a_file_under_another_ones_name_is_never_taken_for_it() {
    let (one, two) = (entry("one", 1, ODD), entry("two", 1, ODD));
    let newer = Stored {
        version: 2,
        ..one.clone()
    };
    let world = World::of(1 << 30);
    for (from, to) in [(&one, &two), (&one, &newer)] {
        for entry in [from, to] {
            world.write(entry);
        }
        // The one whose version was replaced is not there any more; its bytes are.
        let stray = world.dir.path().join("stray");
        file::write(&stray, from, &pixels(from), Transfer::Buffered, &|| true).expect("written");
        fs::rename(stray, world.path(to)).expect("renamed");
        assert_eq!(world.read(to), Err(ArchiveRead::Corrupt));
    }
}

#[test]
fn a_replaced_version_gives_its_place_up_and_never_comes_back() {
    let (old, new) = (entry("beach", 1, ODD), entry("beach", 2, ODD));
    let other_source = Stored {
        checksum: 99,
        ..new.clone()
    };
    let world = World::of(1 << 30);
    assert_eq!(world.write(&old), ArchiveWrite::Ok);
    assert_eq!(world.read(&new), Err(ArchiveRead::Absent));
    assert_eq!(world.write(&new), ArchiveWrite::Ok);
    assert_eq!(world.write(&new), ArchiveWrite::Present);
    assert_eq!(world.read(&old), Err(ArchiveRead::Absent));
    assert_eq!(world.read(&other_source), Err(ArchiveRead::Absent));
    assert_eq!(world.archive.bytes(), ODD_FILE);
    assert_eq!(
        world.write(&old),
        ArchiveWrite::Overtaken,
        "the write of an old version came late"
    );
    assert_eq!(world.files(), [Name::of(&new).file()]);
    world.archive.forget("beach", 1);
    assert!(world.archive.holds(&new), "only up to version 1");
    world.archive.forget("beach", 2);
    assert!(world.files().is_empty());
    assert_eq!(world.removals(ArchiveRemoval::Outdated), 3);
}

#[test]
fn at_the_limit_the_least_recently_used_goes_before_the_next_is_written() {
    let entries = ["a", "b", "c", "d"].map(|id| entry(id, 1, ODD));
    let [a, b, c, d] = &entries;
    let world = World::of(3 * ODD_FILE);
    for entry in [a, b, c] {
        assert_eq!(world.write(entry), ArchiveWrite::Ok);
    }
    assert!(world.read(a).is_ok());
    let at_most = Mutex::new(0);
    let seen = || {
        let bytes =
            |name: &String| fs::metadata(world.dir.path().join(name)).map_or(0, |m| m.len());
        let now: u64 = world.files().iter().map(bytes).sum();
        let mut most = at_most.lock();
        *most = now.max(*most);
        true
    };
    assert_eq!(world.archive.write(d, &pixels(d), &seen), ArchiveWrite::Ok);
    assert!(
        (1..=3 * ODD_FILE).contains(&*at_most.lock()),
        "while it was written too"
    );
    let there = entries.each_ref().map(|entry| world.archive.holds(entry));
    assert_eq!(
        there,
        [true, false, true, true],
        "b was used least recently"
    );
    assert_eq!(world.archive.bytes(), 3 * ODD_FILE);
    assert_eq!(world.removals(ArchiveRemoval::Limit), 1);
    let large = entry("e", 1, Size::new(1024, 1024));
    assert_eq!(world.write(&large), ArchiveWrite::TooLarge);
    assert_eq!(world.archive.entries(), 3, "and nothing went for it");
}

#[test]
fn a_restart_finds_what_was_whole_and_removes_what_was_not() {
    let entries = ["a", "b.c", "d-1"].map(|id| entry(id, 7, ODD));
    let world = World::of(1 << 30);
    for entry in &entries {
        assert_eq!(world.write(entry), ArchiveWrite::Ok);
    }
    let dir = world.dir.path();
    // A crash between write and rename; a crash before the pixels were out; files that are not ours.
    let late = entry("late", 1, ODD);
    let aside = dir.join(Name::of(&late).aside());
    file::write(&aside, &late, &pixels(&late), Transfer::Buffered, &|| true).expect("written");
    fs::write(dir.join(Name::of(&entry("cut", 1, ODD)).file()), [0; 100]).expect("written");
    for foreign in [
        "notes.txt",
        "photo.partial",
        "x.pixels",
        "A.0000000001.0000000000000001.pixels",
    ] {
        fs::write(dir.join(foreign), "mine").expect("written");
    }
    let world = world.restart(1 << 30);
    assert_eq!(world.archive.entries(), 3);
    for entry in &entries {
        assert!(world.read(entry).as_ref() == Ok(&pixels(entry)));
    }
    assert_eq!(world.read(&late), Err(ArchiveRead::Absent));
    assert_eq!(world.removals(ArchiveRemoval::Leftover), 1);
    assert_eq!(world.removals(ArchiveRemoval::Damaged), 1);
    assert_eq!(world.files().len(), 3 + 4, "files of others stay");
    let world = world.restart(2 * ODD_FILE);
    assert_eq!(world.archive.bytes(), 2 * ODD_FILE, "the limit was lowered");
    let live = HashMap::from([("d-1".to_owned(), (7, entries[2].checksum))]);
    world.archive.retain(&live);
    assert_eq!(
        world.archive.entries(),
        usize::from(world.archive.holds(&entries[2]))
    );
    let other = HashMap::from([("d-1".to_owned(), (7, 0))]);
    world.archive.retain(&other);
    assert_eq!((world.archive.entries(), world.archive.bytes()), (0, 0));
}

#[test]
fn of_two_versions_that_a_crash_left_the_newer_counts() {
    let world = World::of(1 << 30);
    let (old, new) = (entry("a", 1, ODD), entry("a", 2, ODD));
    for entry in [&old, &new] {
        let path = world.path(entry);
        file::write(&path, entry, &pixels(entry), Transfer::Buffered, &|| true).expect("written");
    }
    let world = world.restart(1 << 30);
    assert_eq!(world.files(), [Name::of(&new).file()]);
    assert!(world.read(&new).is_ok());
    assert_eq!(world.archive.bytes(), ODD_FILE);
}

#[test]
fn a_write_that_is_called_off_leaves_nothing() {
    let world = World::of(1 << 30);
    let entry = entry("a", 1, Size::new(1024, 1024));
    let left = std::cell::Cell::new(2);
    let go_on = || {
        left.set(left.get() - 1);
        left.get() > 0
    };
    let written = world.archive.write(&entry, &pixels(&entry), &go_on);
    assert_eq!(written, ArchiveWrite::Dropped);
    assert!(world.files().is_empty());
    assert_eq!(world.write(&entry), ArchiveWrite::Ok);
}

#[test]
fn a_disk_that_refuses_is_asked_again_only_after_a_pause() {
    let dir = scratch();
    let metrics = Arc::new(Metrics::default());
    let config = ArchiveConfig {
        pause: Duration::from_secs(3600),
        ..ArchiveConfig::at(dir.path(), 1 << 30)
    };
    let archive = Archive::open(config, metrics).expect("archive");
    let (one, two) = (entry("one", 1, ODD), entry("two", 1, ODD));
    // A directory where the file should be renamed to: the write goes well, its last step does not.
    fs::create_dir(archive.path(&Name::of(&one).file())).expect("directory");
    assert_eq!(
        archive.write(&one, &pixels(&one), &|| true),
        ArchiveWrite::Error
    );
    assert_eq!(
        archive.admits(&two),
        Admission::Refused(ArchiveWrite::Paused)
    );
    assert_eq!(
        archive.write(&two, &pixels(&two), &|| true),
        ArchiveWrite::Paused
    );
    assert!(!archive.path(&Name::of(&one).aside()).exists());
    *archive.paused_until.lock() = Some(Instant::now());
    assert_eq!(
        archive.write(&two, &pixels(&two), &|| true),
        ArchiveWrite::Ok
    );
}

#[test]
fn one_process_at_a_time_has_the_directory() {
    let world = World::of(1 << 30);
    let second = Archive::open(config(world.dir.path(), 1), Arc::default());
    assert!(matches!(second, Err(StoreError::ArchiveInUse { .. })));
}

#[test]
fn names_are_read_as_they_are_written() {
    let name = |id: &str| Name {
        id: id.to_owned(),
        version: 12,
        checksum: 0xab,
    };
    for id in ["a", "a.b", "0.1.2", &"x".repeat(64)] {
        let text = name(id).file();
        assert_eq!(Name::parse(&text), Some(name(id)), "{text}");
        assert!(Name::is_aside(&name(id).aside()) && !Name::is_aside(&text));
    }
    for foreign in [
        "",
        "lock",
        "a.pixels",
        "a.1.2.pixels",
        "../a.0000000012.00000000000000ab.pixels",
        "a.0000000012.00000000000000AB.pixels",
    ] {
        assert_eq!(Name::parse(foreign), None, "{foreign}");
    }
}
