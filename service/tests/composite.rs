//! A caller's own frame over its session's background, over real HTTP: every form in, every format out, every refusal.
//!
//! What is lossless is compared with the scalar reference, pixel by pixel.

mod support;

use backdrop_service::codec::{PixelsMut, PixelsRef, Size};
use backdrop_service::render::view::View;
use backdrop_service::render::{Foreground, cpu::reference};
use serde_json::json;
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::*;

const MASKED: &str = "application/vnd.backdrop.rgba+a8";
const PLAIN: &str = "application/vnd.backdrop.rgba";
/// Of the session's background.
const PICTURE: Size = Size::new(64, 36);
/// Of the caller's frames.
const FRAME: Size = Size::new(40, 30);

fn noise(bytes: u64, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn png_of(pixels: &[u8], size: Size, colour: png::ColorType) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.width, size.height);
    encoder.set_color(colour);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(pixels).expect("pixels");
    writer.finish().expect("an end");
    file
}

fn opaque(mut pixels: Vec<u8>) -> Vec<u8> {
    pixels.iter_mut().skip(3).step_by(4).for_each(|a| *a = 255);
    pixels
}

fn background() -> Vec<u8> {
    opaque(noise(PICTURE.bytes(), 1))
}

fn frame() -> Vec<u8> {
    noise(FRAME.bytes(), 2)
}

/// With runs that hide and runs that show, as masks have.
fn mask() -> Vec<u8> {
    let mut mask = noise(FRAME.pixels(), 3);
    mask[100..400].fill(0);
    mask[600..900].fill(255);
    mask
}

fn masked() -> Vec<u8> {
    [frame(), mask()].concat()
}

/// What the reference makes of a frame over the background.
fn expected(view: View, over: Option<(&[u8], &[u8])>, size: Size) -> Vec<u8> {
    let background = background();
    let mut out = vec![0; size.bytes() as usize];
    reference::composite(
        PixelsRef::new(&background, PICTURE).expect("its size"),
        &view.transform(PICTURE),
        over.map(|(over, mask)| Foreground::new(size, over, mask).expect("its size")),
        PixelsMut::new(&mut out, size).expect("its size"),
    );
    out
}

struct Stage {
    service: Service,
    client: Client,
    session: String,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn open(arguments: &[&str]) -> Self {
        let dir = scratch();
        let service = Service::start(dir.path(), arguments);
        let mut client = service.client();
        let picture = png_of(&background(), PICTURE, png::ColorType::Rgba);
        client.put("/v1/backgrounds/wall", picture).ok();
        let session = client.post("/v1/sessions", json!({"background": "wall"}));
        let session = session.ok().json()["session"]
            .as_str()
            .expect("an id")
            .to_owned();
        Self {
            service,
            client,
            session,
            _dir: dir,
        }
    }

    fn path(&self, query: &str) -> String {
        format!("/v1/sessions/{}/frames?{query}", self.session)
    }

    fn post(&mut self, query: &str, content_type: &str, accept: &str, body: &[u8]) -> Answer {
        let path = self.path(query);
        let headers = [("content-type", content_type), ("accept", accept)];
        let stated = if content_type.is_empty() {
            &headers[1..]
        } else {
            &headers
        };
        self.client.send("POST", &path, stated, body)
    }

    fn raw(&mut self, accept: &str) -> Answer {
        self.post("width=40&height=30", MASKED, accept, &masked())
    }

    fn composites(&self, result: &str) -> f64 {
        let series = format!("backdrop_composites_total{{result=\"{result}\"}}");
        self.service.metric(&series)
    }

    fn drawn_by(&self, renderer: &str) -> f64 {
        let series = format!("backdrop_frames_drawn_total{{renderer=\"{renderer}\"}}");
        self.service.metric(&series)
    }

    /// Waits until nothing of any request is charged any more.
    fn is_given_back(&self) {
        poll("the release", || {
            let charged = &self.service.memory()["budget"]["by_purpose"];
            let mut purposes = ["body", "encode", "decode", "upload"].into_iter();
            let given_back = purposes.all(|purpose| charged[purpose] == json!(0));
            given_back.then_some(())
        });
    }
}

fn multipart(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file) in parts {
        let head = format!(
            "--line\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"{name}.png\"\r\ncontent-type: image/png\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--line--\r\n");
    body
}

const PARTS: &str = "multipart/form-data; boundary=line";

fn decode_png(file: &[u8]) -> Vec<u8> {
    let decoder = png::Decoder::new(std::io::Cursor::new(file));
    let mut reader = decoder.read_info().expect("a header");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    reader.next_frame(&mut pixels).expect("pixels");
    pixels
}

fn decode_webp(file: &[u8]) -> Vec<u8> {
    let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(file)).expect("a header");
    let mut pixels = vec![0; decoder.output_buffer_size().expect("a size")];
    decoder.read_image(&mut pixels).expect("pixels");
    pixels
}

/// Draws by a GPU, one in software if there is no other.
const BY_GPU: [&str; 7] = [
    "--renderer",
    "gpu",
    "--gpu-software",
    // Its driver compiles the kernel with the first frame.
    "--composite-deadline",
    "50s",
    "--request-timeout",
    "50s",
];

#[test]
fn every_lossless_format_is_bit_equal_to_the_reference_in_every_view() {
    let mut stage = Stage::open(&[]);
    compares_every_lossless_format(&mut stage);
    assert_eq!(stage.drawn_by("cpu"), 8.0);
}

#[test]
fn a_gpu_composites_every_form_and_format_to_the_bit() {
    if !has_gpu_adapter() {
        return;
    }
    let mut stage = Stage::open(&BY_GPU);
    compares_every_lossless_format(&mut stage);
    compares_files(&mut stage);
    assert_eq!(stage.drawn_by("cpu"), 0.0);
    assert_eq!(stage.drawn_by("gpu"), stage.composites("ok"));
    assert_eq!(stage.service.metric("backdrop_gpu_uploads_total"), 1.0);
    let file = heavy();
    let answer = stage.post("", "image/png", "image/jpeg", &file[..file.len() / 2]);
    answer.is_problem(422, "broken_picture");
    let answer = stage.post("deadline_ms=1", "image/png", "image/webp", &file);
    answer.is_problem(504, "deadline_exceeded");
    stage.is_given_back();
}

/// What stands behind one frame only is not worth its way to the device.
#[test]
fn beside_a_gpu_streams_and_blurs_are_composited_by_the_cpu() {
    if !has_gpu_adapter() {
        return;
    }
    let mut stage = Stage::open(&BY_GPU);
    let path = format!("/v2/sessions/{}/source", stage.session);
    let blur = json!({"kind": "processor", "processor": "blur", "radius": 9});
    let json = [("content-type", "application/json")];
    let body = blur.to_string();
    stage.client.send("PUT", &path, &json, body.as_bytes()).ok();
    let answer = stage.raw("application/octet-stream").ok();
    assert_eq!(answer.header("backdrop-source"), "processor");
    assert_eq!((stage.drawn_by("cpu"), stage.drawn_by("gpu")), (1.0, 0.0));
}

fn compares_every_lossless_format(stage: &mut Stage) {
    let view_path = format!("/v1/sessions/{}/view", stage.session);
    let whole = View::default();
    let near = View {
        crop_origin: [1 << 14, 0],
        crop_size: [1 << 15, 1 << 16],
        scale: 3 << 15,
        uv_offset: [1 << 12, -(1 << 13)],
        alpha: 128,
    };
    let fractions = json!({
        "crop": {"x": 0.25, "y": 0, "width": 0.5, "height": 1},
        "scale": 1.5, "uv_offset": [0.0625, -0.125], "alpha": 0.502,
    });
    for view in [whole, near] {
        if view == near {
            let patch = fractions.to_string();
            stage
                .client
                .send("PATCH", &view_path, &[], patch.as_bytes())
                .ok();
        }
        let (over, mask) = (frame(), mask());
        let wanted = expected(view, Some((&over, &mask)), FRAME);
        let answer = stage.raw("application/octet-stream").ok();
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert!(answer.body == wanted, "raw");
        assert_eq!(answer.header("backdrop-source"), "image");
        assert_eq!(answer.header("backdrop-background"), "wall");
        assert_eq!(answer.header("backdrop-version"), "1");
        let answer = stage.raw("image/png").ok();
        assert_eq!(answer.header("content-type"), "image/png");
        assert!(decode_png(&answer.body) == wanted, "PNG");
        let answer = stage.raw("image/webp").ok();
        assert_eq!(answer.header("content-type"), "image/webp");
        assert!(decode_webp(&answer.body) == wanted, "WebP");
        let answer = stage.raw("image/jpeg").ok();
        let (width, height, _) = decode_jpeg(&answer.body);
        assert_eq!((width, height), (40, 30));
    }
    assert_eq!(stage.composites("ok"), 8.0);
    let restored = json!({
        "crop": {"x": 0, "y": 0, "width": 1, "height": 1},
        "scale": 1, "uv_offset": [0, 0], "alpha": 1,
    });
    let patch = restored.to_string();
    stage
        .client
        .send("PATCH", &view_path, &[], patch.as_bytes())
        .ok();
    stage.is_given_back();
}

#[test]
fn a_session_that_owns_its_pixels_is_composited_from_them() {
    let mut stage = Stage::open(&["--sharing", "exclusive"]);
    // What the catalogue shows by now is not what the session was given.
    let other = png_of(&noise(PICTURE.bytes(), 9), PICTURE, png::ColorType::Rgba);
    stage.client.put("/v1/backgrounds/wall", other).ok();
    let answer = stage.raw("application/octet-stream").ok();
    let wanted = expected(View::default(), Some((&frame(), &mask())), FRAME);
    assert!(answer.body == wanted);
    assert_eq!(answer.header("backdrop-version"), "1");
}

#[test]
fn files_in_parts_and_alone_are_what_their_pixels_are() {
    compares_files(&mut Stage::open(&[]));
}

fn compares_files(stage: &mut Stage) {
    let (over, mask) = (frame(), mask());
    let over_file = png_of(&over, FRAME, png::ColorType::Rgba);
    let mask_file = png_of(&mask, FRAME, png::ColorType::Grayscale);
    let raw = "application/octet-stream";
    let both = multipart(&[("foreground", &over_file), ("mask", &mask_file)]);
    let wanted = expected(View::default(), Some((&over, &mask)), FRAME);
    let answer = stage.post("", PARTS, raw, &both).ok();
    assert!(answer.body == wanted, "in parts");
    let turned = multipart(&[("mask", &mask_file), ("foreground", &over_file)]);
    let answer = stage.post("width=40&height=30", PARTS, raw, &turned).ok();
    assert!(answer.body == wanted, "in the other order");

    // Without a mask the frame's own alpha is the mask, and its pixels are opaque.
    let own: Vec<u8> = over.iter().skip(3).step_by(4).copied().collect();
    let wanted = expected(View::default(), Some((&opaque(over.clone()), &own)), FRAME);
    let one = multipart(&[("foreground", &over_file)]);
    for (content_type, query, body) in [
        (PARTS, "", &one),
        ("image/png", "", &over_file),
        (PLAIN, "width=40&height=30", &over),
    ] {
        let answer = stage.post(query, content_type, raw, body).ok();
        assert!(answer.body == wanted, "{content_type}");
    }

    // Without a frame it is the background alone.
    let answer = stage.post("width=50&height=20", "", raw, b"").ok();
    assert!(answer.body == expected(View::default(), None, Size::new(50, 20)));
    stage.is_given_back();
}

#[test]
fn a_body_without_a_length_is_taken_piece_by_piece() {
    let mut stage = Stage::open(&[]);
    let (over, mask) = (frame(), mask());
    let both = multipart(&[
        ("foreground", &png_of(&over, FRAME, png::ColorType::Rgba)),
        ("mask", &png_of(&mask, FRAME, png::ColorType::Grayscale)),
    ]);
    let wanted = expected(View::default(), Some((&over, &mask)), FRAME);
    // Pieces of one byte split every boundary and every head.
    for (content_type, body, piece) in [
        (PARTS, &both, 1),
        (PARTS, &both, 700),
        (MASKED, &masked(), 99),
    ] {
        let path = stage.path(if content_type == MASKED {
            "width=40&height=30"
        } else {
            ""
        });
        let headers = [
            ("transfer-encoding", "chunked"),
            ("content-type", content_type),
            ("accept", "application/octet-stream"),
        ];
        let head = stage.client.head("POST", &path, &headers, None);
        let mut sent = head.into_bytes();
        for piece in body.chunks(piece) {
            sent.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            sent.extend_from_slice(piece);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\n\r\n");
        stage.client.stream().write_all(&sent).expect("sent");
        let answer = stage.client.read(false).expect("an answer").ok();
        assert!(answer.body == wanted, "{content_type} in pieces of {piece}");
    }
    stage.is_given_back();
}

/// Query, media type, what is accepted and the body; status and code of the answer.
type Case<'a> = (&'a str, &'a str, &'a str, &'a [u8], u16, &'a str);

#[test]
fn what_is_asked_for_wrongly_is_told() {
    let mut stage = Stage::open(&["--body-bytes-max", "1MiB"]);
    let raw = "application/octet-stream";
    let sized = "width=40&height=30";
    let over_file = png_of(&frame(), FRAME, png::ColorType::Rgba);
    let small = png_of(&[9; 4], Size::new(2, 2), png::ColorType::Grayscale);
    let other_mask = multipart(&[("foreground", &over_file), ("mask", &small)]);
    let unnamed = multipart(&[("foreground", &over_file), ("cover", &small)]);
    let twice = multipart(&[("foreground", &small), ("foreground", &small)]);
    let maskless = multipart(&[("mask", &small)]);
    let broken = multipart(&[("foreground", &over_file[..over_file.len() / 2])]);
    let bomb = multipart(&[("foreground", &claimed_png(60_000, 60_000))]);
    let text = multipart(&[("foreground", b"no picture at all, but text")]);
    let cut = &other_mask[..other_mask.len() / 2];
    let endless = [&b"--line\r\nx: "[..], &vec![b'y'; 200_000]].concat();
    let pixels = masked();
    let cases: &[Case<'_>] = &[
        (sized, MASKED, "text/html", &pixels, 406, "not_acceptable"),
        (sized, "text/plain", raw, &pixels, 415, "unsupported_media"),
        (sized, "", raw, &pixels, 415, "unsupported_media"),
        ("", MASKED, raw, &pixels, 400, "bad_request"),
        ("width=40", MASKED, raw, &pixels, 400, "bad_request"),
        (
            "width=41&height=30",
            MASKED,
            raw,
            &pixels,
            400,
            "bad_request",
        ),
        (sized, PLAIN, raw, &pixels, 400, "bad_request"),
        (
            "width=0&height=30",
            MASKED,
            raw,
            &pixels,
            422,
            "out_of_range",
        ),
        (
            "width=9000&height=9000",
            MASKED,
            raw,
            &pixels,
            422,
            "out_of_range",
        ),
        (
            "width=1000&height=1000",
            MASKED,
            raw,
            &pixels,
            413,
            "body_too_large",
        ),
        (
            &format!("{sized}&deadline_ms=0"),
            MASKED,
            raw,
            &pixels,
            422,
            "out_of_range",
        ),
        (
            &format!("{sized}&deadline_ms=5001"),
            MASKED,
            raw,
            &pixels,
            422,
            "out_of_range",
        ),
        (
            &format!("{sized}&deadline=5"),
            MASKED,
            raw,
            &pixels,
            400,
            "bad_request",
        ),
        (
            "",
            "multipart/form-data",
            raw,
            &other_mask,
            400,
            "bad_request",
        ),
        ("", PARTS, raw, &other_mask, 400, "bad_request"),
        ("", PARTS, raw, &unnamed, 400, "bad_request"),
        ("", PARTS, raw, &twice, 400, "bad_request"),
        ("", PARTS, raw, &maskless, 400, "bad_request"),
        ("", PARTS, raw, cut, 400, "bad_request"),
        ("", PARTS, raw, &endless, 400, "bad_request"),
        (
            "width=41",
            PARTS,
            raw,
            &multipart(&[("foreground", &over_file)]),
            400,
            "bad_request",
        ),
        ("", PARTS, raw, &broken, 422, "broken_picture"),
        ("", PARTS, raw, &bomb, 413, "picture_too_large"),
        ("", PARTS, raw, &text, 415, "unsupported_media"),
        (
            "",
            "image/png",
            raw,
            &over_file[..over_file.len() - 9],
            422,
            "broken_picture",
        ),
    ];
    for (query, content_type, accept, body, status, code) in cases {
        // A refused sender may find its connection closed.
        stage.client = stage.service.client();
        let answer = stage.post(query, content_type, accept, body);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (*status, Some(*code)),
            "{content_type} {query} {}",
            answer.text()
        );
        answer.is_problem(*status, code);
    }
    stage.client = stage.service.client();
    stage
        .client
        .get(&stage.path(""))
        .is_problem(405, "method_not_allowed");
    let huge = vec![0; (1 << 20) + 1];
    stage.client = stage.service.client();
    stage
        .post("", PARTS, raw, &huge)
        .is_problem(413, "body_too_large");
    stage.is_given_back();
}

#[test]
fn sessions_that_are_not_there_or_have_nothing_behind_them_are_404() {
    let tokens = [("BACKDROP_TOKENS", "one=acme:catalogue,two=other")];
    let dir = scratch();
    let service = Service::start_with(dir.path(), &[], &tokens);
    let mut client = Client::with_token(service.listen, "one");
    client
        .put("/v1/backgrounds/wall", png(8, 8, [1, 2, 3]))
        .ok();
    let created = client.post("/v1/sessions", json!({"background": "wall"}));
    let session = created.ok().json()["session"]
        .as_str()
        .expect("an id")
        .to_owned();
    let path = format!("/v1/sessions/{session}/frames?width=1&height=1");
    let headers = [("content-type", PLAIN)];
    client.send("POST", &path, &headers, &[0; 4]).ok();
    let mut foreign = Client::with_token(service.listen, "two");
    let answer = foreign.send("POST", &path, &headers, &[0; 4]);
    answer.is_problem(404, "session_not_found");
    let bare = client.post("/v1/sessions", json!({})).ok().json();
    let bare = bare["session"].as_str().expect("an id");
    let bare = format!("/v1/sessions/{bare}/frames?width=1&height=1");
    let answer = client.send("POST", &bare, &headers, &[0; 4]);
    answer.is_problem(404, "no_background");
    // One that is refused before its body was read may find its connection closed.
    let mut client = Client::with_token(service.listen, "one");
    client
        .send("DELETE", &format!("/v1/sessions/{session}"), &[], b"")
        .ok();
    let answer = client.send("POST", &path, &headers, &[0; 4]);
    answer.is_problem(404, "session_not_found");
}

/// A frame that takes a thread far longer than a millisecond.
fn heavy() -> Vec<u8> {
    let size = Size::new(1920, 1080);
    png_of(&noise(size.bytes(), 4), size, png::ColorType::Rgba)
}

#[test]
fn a_deadline_that_passes_is_a_504_and_leaves_nothing_behind() {
    let mut stage = Stage::open(&[]);
    let body = heavy();
    let answer = stage.post("deadline_ms=1", "image/png", "image/webp", &body);
    answer.is_problem(504, "deadline_exceeded");
    assert_eq!(stage.composites("late"), 1.0);
    stage.raw("image/png").ok();
    stage.is_given_back();

    let mut stage = Stage::open(&["--composite-deadline", "1ms"]);
    let answer = stage.post("", "image/png", "image/webp", &body);
    answer.is_problem(504, "deadline_exceeded");
    let answer = stage.post("deadline_ms=5000", MASKED, "image/png", &[]);
    answer.is_problem(400, "bad_request");
}

#[test]
fn of_many_at_once_those_that_find_the_queue_full_are_shed() {
    const CALLERS: usize = 12;
    let few = ["--composite-threads", "1", "--composite-queue-max", "1"];
    let patient = ["--composite-deadline", "5s"];
    let stage = Stage::open(&[few, [patient[0], patient[1], "--render-threads", "1"]].concat());
    let body = heavy();
    let refused = AtomicUsize::new(0);
    let statuses = || {
        let together = Barrier::new(CALLERS);
        let one = || {
            let mut client = stage.service.client();
            together.wait();
            let headers = [("content-type", "image/png")];
            let answer = client.send("POST", &stage.path(""), &headers, &body);
            if answer.status == 503 {
                answer.is_problem(503, "queue_full");
                assert_eq!(answer.header("retry-after"), "1");
                refused.fetch_add(1, Ordering::SeqCst);
            }
            answer.status
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(one)).collect();
            let join = |caller: std::thread::ScopedJoinHandle<'_, u16>| caller.join();
            let statuses = callers.into_iter().map(join);
            statuses
                .map(|status| status.expect("an answer"))
                .collect::<Vec<u16>>()
        })
    };
    poll("a full queue", || {
        let statuses = statuses();
        (statuses.contains(&503) && statuses.contains(&200)).then_some(())
    });
    assert!(stage.composites("ok") > 0.0);
    // Each is counted, at the door or after its frame was taken in.
    assert_eq!(
        stage.composites("shed"),
        refused.load(Ordering::SeqCst) as f64
    );
    assert_eq!(stage.service.metric("backdrop_composite_queue_frames"), 0.0);
    stage.is_given_back();
}

#[test]
fn a_caller_that_leaves_is_not_worked_for() {
    let stage = Stage::open(&["--composite-threads", "1", "--composite-deadline", "5s"]);
    let body = heavy();
    poll("a composite that nobody waits for any more", || {
        for _ in 0..4 {
            let mut client = stage.service.client();
            let head = client.head(
                "POST",
                &stage.path("format=webp"),
                &[("content-type", "image/png")],
                Some(body.len() as u64),
            );
            client.stream().write_all(head.as_bytes()).expect("sent");
            client.stream().write_all(&body).expect("sent");
        }
        (stage.composites("cancelled") > 0.0).then_some(())
    });
    stage.is_given_back();
    assert_eq!(stage.service.metric("backdrop_composite_queue_frames"), 0.0);
}

#[test]
fn what_could_never_fit_is_a_413() {
    let mut stage = Stage::open(&["--memory-limit", "96MiB"]);
    let raw = "application/octet-stream";
    let size = Size::new(3840, 2160);
    let file = png_of(&vec![7; size.bytes() as usize], size, png::ColorType::Rgba);
    let answer = stage.post("format=png", "image/png", raw, &file);
    answer.is_problem(413, "picture_too_large");
    stage.raw(raw).ok();
    stage.is_given_back();
}
