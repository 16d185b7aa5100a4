//! The archive as the service has it: textures come back from disk as they were, and whatever is wrong with the disk is a
//! counted miss. The faults are made on its real files.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;

const WALLS: u8 = 6;
/// Of six textures, a pass that frees two can spare the other four.
const ARCHIVED: f64 = 4.0;

/// Files of the archive, the lock apart.
fn files(dir: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(dir).expect("the archive");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "pixels"))
        .collect();
    paths.sort();
    paths
}

fn archived(dir: &Path, arguments: &[&str]) -> Gallery {
    let gallery = Gallery::open(dir, arguments, WALLS);
    let pass = gallery.shrink_by(2);
    assert_eq!(
        (&pass["archived"], &pass["evicted"]),
        (&4.into(), &2.into()),
        "{pass}"
    );
    gallery.settle();
    gallery
}

#[test]
fn textures_come_back_from_disk_and_survive_a_kill() {
    let dir = scratch();
    let archive = dir.path().join("data/archive");
    let gallery = archived(dir.path(), &[]);
    assert_eq!(gallery.writes("ok"), ARCHIVED);
    assert_eq!(files(&archive).len(), 4);
    let metric = |name: &str| gallery.service.metric(name);
    assert_eq!(metric("backdrop_archive_entries"), ARCHIVED);
    let on_disk: u64 = files(&archive)
        .iter()
        .map(|path| path.metadata().expect("a file").len())
        .sum();
    assert_eq!(metric("backdrop_archive_bytes"), on_disk as f64);
    gallery.is_as_it_was();
    assert_eq!(gallery.reads("hit"), ARCHIVED);
    assert_eq!(
        metric("backdrop_archive_read_duration_seconds_count"),
        ARCHIVED
    );
    let memory = gallery.service.memory();
    assert_eq!(memory["textures"]["drift_bytes"], 0);
    let frames = gallery.frames.clone();
    gallery.service.kill();
    // As if the kill had come between write and rename.
    let aside = files(&archive)[0].with_extension("pixels.partial");
    std::fs::copy(&files(&archive)[0], &aside).expect("copied");
    let gallery = Gallery::open(dir.path(), &[], WALLS);
    assert!(gallery.frames == frames);
    assert_eq!(
        gallery.reads("hit"),
        ARCHIVED,
        "another epoch, the same pixels"
    );
    assert!(!aside.exists());
}

/// What the tool says, in one line; `None` where there is no such tool.
fn asked(tool: &str, arguments: &[&str], path: &Path) -> Option<String> {
    let output = Command::new(tool).args(arguments).arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Page cache counts against the memory limit that the archive is there to keep.
#[test]
fn neither_writing_nor_reading_leaves_page_cache_behind() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let in_memory =
        asked("stat", &["-f", "-c", "%T"], dir.path()).is_none_or(|kind| kind == "tmpfs");
    let cached = |path: &Path| asked("fincore", &["-b", "-n", "-r", "-o", "PAGES"], path);
    let canary = dir.path().join("canary");
    std::fs::write(&canary, [1; 8192]).expect("written");
    if in_memory || cached(&canary).as_deref() != Some("2") {
        eprintln!("not tested: no disk, or no fincore");
        return;
    }
    let gallery = archived(dir.path(), &[]);
    let archive = dir.path().join("data/archive");
    let none = |when: &str| {
        for path in files(&archive) {
            assert_eq!(
                cached(&path).as_deref(),
                Some("0"),
                "pages of {path:?} {when}"
            );
        }
    };
    none("after the write");
    gallery.is_as_it_was();
    assert_eq!(gallery.reads("hit"), ARCHIVED);
    none("after the read");
}

#[test]
fn corrupt_truncated_and_missing_files_are_counted_misses_and_never_other_pixels() {
    let dir = scratch();
    let gallery = archived(dir.path(), &[]);
    let files = files(&dir.path().join("data/archive"));
    for (at, path) in files.iter().enumerate() {
        let mut bytes = std::fs::read(path).expect("a file");
        match at {
            0 => bytes[20] ^= 1,
            1 => bytes[300_000] ^= 0x80,
            2 => bytes.truncate(300_000),
            _ => {
                std::fs::remove_file(path).expect("removed");
                continue;
            }
        }
        std::fs::write(path, bytes).expect("written");
    }
    gallery.is_as_it_was();
    assert_eq!(gallery.reads("hit"), 0.0);
    assert_eq!(
        (gallery.reads("corrupt"), gallery.reads("truncated")),
        (2.0, 1.0)
    );
    let series = "backdrop_archive_removals_total{reason=\"damaged\"}";
    assert_eq!(gallery.service.metric(series), 3.0);
    let failed = "backdrop_flyweight_loads_total{result=\"error\"}";
    assert_eq!(gallery.service.metric(failed), 0.0);
    gallery.shrink_by(2);
    gallery.settle();
    gallery.is_as_it_was();
    assert!(gallery.reads("hit") >= 1.0, "written anew, and read");
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where mounting is not allowed.
    fn mount(at: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(&at).expect("a directory");
        let options = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_costs_the_archive_and_nothing_else() {
    let dir = scratch();
    // Two files of half a MiB and a page fit, a third does not.
    let Some(small) = Tmpfs::mount(dir.path().join("small"), 1_300_000) else {
        eprintln!("not tested: this user may not mount a tmpfs");
        return;
    };
    let place = small.0.to_string_lossy().into_owned();
    let gallery = archived(dir.path(), &["--archive", &place]);
    let refused = gallery.writes("disk_full") + gallery.writes("paused");
    assert_eq!((gallery.writes("ok"), refused), (2.0, 2.0));
    assert!(
        gallery.writes("disk_full") >= 1.0,
        "by the kernel's own word"
    );
    assert_eq!(files(&small.0).len(), 2);
    let names: Vec<_> = std::fs::read_dir(&small.0).expect("a folder").collect();
    assert_eq!(names.len(), 3, "the lock, and nothing half-written");
    gallery.is_as_it_was();
    assert_eq!(gallery.reads("hit"), 2.0);
    let shed = gallery
        .service
        .metric("backdrop_renders_total{result=\"error\"}");
    assert_eq!(shed, 0.0);
    drop(gallery);
}

#[test]
fn switched_off_it_leaves_no_trace() {
    let dir = scratch();
    let gallery = Gallery::open(dir.path(), &["--archive-bytes-max", "0"], WALLS);
    let pass = gallery.shrink_by(2);
    assert_eq!(
        (&pass["archived"], &pass["evicted"]),
        (&0.into(), &2.into())
    );
    gallery.is_as_it_was();
    assert!(!dir.path().join("data/archive").exists());
    assert_eq!(gallery.service.metric("backdrop_archive_limit_bytes"), 0.0);
    assert_eq!(gallery.reads("absent"), 0.0);
}

#[test]
fn a_replaced_and_a_deleted_background_leave_the_archive() {
    let dir = scratch();
    let gallery = archived(dir.path(), &[]);
    let archive = dir.path().join("data/archive");
    let mut client = gallery.service.client();
    client
        .put("/v1/backgrounds/wall-0", png(512, 256, [200, 1, 1]))
        .ok();
    client
        .send("DELETE", "/v1/backgrounds/wall-1", &[], b"")
        .ok();
    let left: Vec<String> = files(&archive)
        .iter()
        .map(|path| path.file_name().unwrap_or_default().to_string_lossy()[..6].to_owned())
        .collect();
    assert_eq!(left, ["wall-2", "wall-3"]);
    let session = &gallery.sessions[0];
    let path = format!("/v1/sessions/{session}/frame?width=16&height=16&format=rgba");
    let frame = client.get(&path).ok();
    assert_eq!(frame.header("backdrop-version"), "2");
    assert_eq!(frame.body[..4], [200, 1, 1, 255]);
}

#[test]
fn an_archive_that_another_service_uses_is_refused_by_name() {
    let dir = scratch();
    let shared = dir.path().join("shared").to_string_lossy().into_owned();
    let first = dir.path().join("first");
    std::fs::create_dir(&first).expect("a directory");
    let _first = Service::start(&first, &["--archive", &shared]);
    let mut second = command();
    second.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    second.args(["--archive", &shared, "--data"]);
    let refused = second
        .arg(dir.path().join("second"))
        .output()
        .expect("runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned()
        + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("another process uses the archive"), "{said}");
    assert!(said.contains("--archive"), "{said}");
}

#[test]
fn a_place_that_takes_no_archive_keeps_nobody_from_being_served() {
    let dir = scratch();
    let file = dir.path().join("no-directory");
    std::fs::write(&file, "a file").expect("written");
    let place = file.to_string_lossy().into_owned();
    let gallery = Gallery::open(dir.path(), &["--archive", &place], 2);
    gallery.is_as_it_was();
    let log = std::fs::read_to_string(dir.path().join("stderr.log")).expect("a log");
    assert!(log.contains("no archive"), "{log}");
}
