//! Replaces under load, over HTTP: sessions see a new version at their next render and one version whole, writers with `If-Match`
//! win or lose cleanly, and what a writer was told has happened has happened.

mod support;

use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use support::*;

const READERS: usize = 3;
const VERSIONS: u32 = 12;

/// The picture of a version: one colour, which says which.
fn version_png(version: u32) -> Vec<u8> {
    png(48, 32, [version as u8, !(version as u8), 7])
}

/// The version that a raw frame shows. Panics when it shows two.
fn version_of(frame: &[u8]) -> u32 {
    let (pixels, rest) = frame.as_chunks::<4>();
    let first = pixels[0];
    assert!(
        rest.is_empty() && pixels.iter().all(|pixel| *pixel == first),
        "torn"
    );
    assert_eq!([first[1], first[2]], [!first[0], 7], "no version at all");
    u32::from(first[0])
}

/// Ends what runs beside it, also when it panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn session(client: &mut Client, background: &str) -> String {
    let made = client
        .post("/v1/sessions", json!({"background": background}))
        .ok();
    made.json()["session"].as_str().expect("an id").to_owned()
}

fn frame(client: &mut Client, session: &str) -> Answer {
    client.get(&format!(
        "/v1/sessions/{session}/frame?width=48&height=32&format=rgba"
    ))
}

#[test]
fn sessions_see_the_new_version_at_their_next_render_and_one_version_whole() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut writer = service.client();
    writer.put("/v1/backgrounds/beach", version_png(1)).ok();
    let (acknowledged, done) = (AtomicU32::new(1), AtomicBool::new(false));
    let (frames, fresh) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let _ends = Ends(&done);
                let mut client = service.client();
                let session = session(&mut client, "beach");
                let mut seen = 0;
                while !done.load(Ordering::SeqCst) {
                    let least = acknowledged.load(Ordering::SeqCst).max(seen);
                    let answer = frame(&mut client, &session).ok();
                    // A degraded frame is of the thumbnail, whose colours are not exact.
                    assert_ne!(answer.header("backdrop-cache"), "degraded");
                    let version: u32 = answer
                        .header("backdrop-version")
                        .parse()
                        .expect("a version");
                    assert_eq!(
                        version_of(&answer.body),
                        version,
                        "headers and pixels differ"
                    );
                    assert!(version >= least, "{version} after {least}");
                    fresh.fetch_add(usize::from(version > seen), Ordering::Relaxed);
                    frames.fetch_add(1, Ordering::Relaxed);
                    seen = version;
                }
            });
        }
        // Shrinks all the while: what is rendered next has to be loaded.
        scope.spawn(|| {
            let _ends = Ends(&done);
            let mut admin = service.admin();
            while !done.load(Ordering::SeqCst) {
                admin.post("/debug/shrink", json!({"to_bytes": 0})).ok();
            }
        });
        let _ends = Ends(&done);
        for version in 2..=VERSIONS {
            let before = frames.load(Ordering::Relaxed);
            let answer = writer
                .put("/v1/backgrounds/beach", version_png(version))
                .ok();
            assert_eq!(answer.json()["version"], json!(version));
            acknowledged.store(version, Ordering::SeqCst);
            // Every version is rendered by somebody before the next one comes.
            poll("frames", || {
                (frames.load(Ordering::Relaxed) >= before + 2 * READERS).then_some(())
            });
        }
    });
    let fresh = fresh.load(Ordering::Relaxed);
    assert!(fresh >= VERSIONS as usize, "{fresh} changes were seen");
    let memory = service.memory();
    assert_eq!(memory["textures"]["drift_bytes"], json!(0));
    assert_eq!(memory["textures"]["pinned_bytes"], json!(0));
}

#[test]
fn of_two_writers_with_the_same_etag_one_wins_and_one_is_told() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let mut etag = client
        .put("/v1/backgrounds/beach", version_png(1))
        .ok()
        .header("etag")
        .to_owned();
    for round in 1..=8u32 {
        let condition = [("if-match", etag.as_str())];
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2u32)
                .map(|writer| {
                    let mut client = service.client();
                    let file = version_png(round * 2 + writer);
                    scope.spawn(move || {
                        client.send("PUT", "/v1/backgrounds/beach", &condition, &file)
                    })
                })
                .collect();
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"))
                .collect()
        });
        let won = answers.iter().position(|answer| answer.status == 200);
        let won = won.expect("one wins");
        let lost = &answers[1 - won];
        lost.is_problem(412, "precondition_failed");
        etag = answers[won].header("etag").to_owned();
        assert_eq!(etag, format!("\"v{}\"", round + 1), "one version a round");
        // What is kept is the winner's, whole.
        let kept = client.get("/v1/backgrounds/beach").ok();
        assert_eq!(kept.body, version_png(round * 2 + won as u32));
        assert_eq!(kept.header("etag"), etag);
    }
    client
        .send(
            "DELETE",
            "/v1/backgrounds/beach",
            &[("if-match", "\"v1\"")],
            b"",
        )
        .is_problem(412, "precondition_failed");
    let removed = client.send(
        "DELETE",
        "/v1/backgrounds/beach",
        &[("if-match", &etag)],
        b"",
    );
    assert_eq!(removed.status, 204);
}

/// Unlike an eviction, which nobody notices, a replace or a removal has happened when it is answered, for every connection.
#[test]
fn what_a_writer_was_told_has_happened_has_happened() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let (mut writer, mut reader) = (service.client(), service.client());
    for round in 0..4u32 {
        let first = round * 2 + 1;
        writer.put("/v1/backgrounds/beach", version_png(first)).ok();
        let session = session(&mut reader, "beach");
        assert_eq!(version_of(&frame(&mut reader, &session).ok().body), first);
        writer
            .put("/v1/backgrounds/beach", version_png(first + 1))
            .ok();
        let shown = frame(&mut reader, &session).ok();
        assert_eq!(version_of(&shown.body), first + 1);
        assert_eq!(shown.header("backdrop-cache"), "miss", "not there any more");
        writer
            .send("DELETE", "/v1/backgrounds/beach", &[], b"")
            .ok();
        frame(&mut reader, &session).is_problem(410, "gone");
        let textures = &service.memory()["textures"];
        assert_eq!(
            (&textures["resident"], &textures["pinned_bytes"]),
            (&json!(0), &json!(0))
        );
    }
}

#[test]
fn a_frame_that_the_caller_has_is_not_sent_again_until_view_or_picture_change() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.put("/v1/backgrounds/beach", version_png(1)).ok();
    let session = session(&mut client, "beach");
    let path = format!("/v1/sessions/{session}/frame?width=48&height=32&format=rgba");
    let first = client.get(&path).ok().header("etag").to_owned();
    let known = format!("\"else\", {first}");
    let renders = || service.metric("backdrop_renders_total{result=\"ok\"}");

    let before = renders();
    let again = client.send("GET", &path, &[("if-none-match", &known)], b"");
    assert_eq!((again.status, again.header("etag")), (304, &*first));
    assert!(again.body.is_empty());
    assert_eq!(renders(), before, "nothing was drawn");
    let larger = client.send(
        "GET",
        &path.replace("width=48", "width=64"),
        &[("if-none-match", &known)],
        b"",
    );
    assert_eq!(larger.ok().body.len(), 64 * 32 * 4);

    client
        .send(
            "PATCH",
            &format!("/v1/sessions/{session}/view"),
            &[("content-type", "application/json")],
            json!({"alpha": 0.5}).to_string().as_bytes(),
        )
        .ok();
    let faded = client.send("GET", &path, &[("if-none-match", &known)], b"");
    let faded = faded.ok().header("etag").to_owned();
    assert_ne!(faded, first);

    client.put("/v1/backgrounds/beach", version_png(2)).ok();
    let replaced = client.send("GET", &path, &[("if-none-match", &faded)], b"");
    let replaced = replaced.ok();
    assert_eq!(replaced.header("backdrop-version"), "2");
    assert_ne!(replaced.header("etag"), faded);
}

#[test]
fn qualities_that_draw_the_same_frame_have_the_same_etag() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.put("/v1/backgrounds/beach", version_png(1)).ok();
    let session = session(&mut client, "beach");
    let mut frame = |query: &str| {
        let path = format!("/v1/sessions/{session}/frame?width=48&height=32&{query}");
        let answer = client.get(&path).ok();
        (answer.header("etag").to_owned(), answer.body)
    };
    let (lowest, highest) = (frame("quality=30"), frame("quality=95"));
    assert_eq!(frame("quality=1"), lowest);
    assert_eq!(frame("quality=100"), highest);
    assert_ne!(lowest.0, highest.0);
    assert_ne!(frame("quality=31").0, lowest.0);
    // A PNG has no quality to differ by.
    assert_eq!(
        frame("format=png&quality=1"),
        frame("format=png&quality=95")
    );
}
