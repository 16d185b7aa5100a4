//! What somebody with curl meets first: sessions, pictures, previews, and who may do what.

mod support;

use serde_json::json;
use support::*;

const RED: [u8; 3] = [200, 30, 30];
const BLUE: [u8; 3] = [30, 30, 200];

fn close(pixel: &[u8], rgb: [u8; 3]) -> bool {
    pixel.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= 6)
}

#[test]
fn lossy_webp_is_taken_and_shown() {
    let dir = scratch();
    let patient = ["--request-timeout", "50s"];
    let service = Service::start(dir.path(), &patient);
    let mut client = service.client();
    for (id, file) in [
        ("lossy", &include_bytes!("fixtures/lossy.webp")[..]),
        ("lossy-alpha", include_bytes!("fixtures/lossy-alpha.webp")),
    ] {
        let path = format!("/v1/backgrounds/{id}");
        let metadata = client.put(&path, file).ok().json();
        assert_eq!(
            (&metadata["width"], &metadata["format"]),
            (&json!(1600), &json!("webp"))
        );
        let read = client.get(&path).ok();
        assert_eq!(read.header("content-type"), "image/webp");
        assert_eq!(read.body, file);
        let session = client
            .post("/v1/sessions", json!({"background": id}))
            .ok()
            .json();
        let session = session["session"].as_str().expect("an id");
        let frame = client
            .get(&format!(
                "/v1/sessions/{session}/frame?width=160&height=120&format=rgba"
            ))
            .ok();
        assert_eq!(frame.header("backdrop-degraded"), "");
        // The left top pixel, opaque in both.
        let far = [200, 40, 30, 255]
            .iter()
            .zip(&frame.body)
            .any(|(wanted, found)| found.abs_diff(*wanted) > 6);
        assert!(!far, "{:?}", &frame.body[..4]);
    }
}

#[test]
fn create_upload_switch_preview_and_see_the_colour() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let session = client.post("/v1/sessions", json!({"user": 7})).ok().json();
    let id = session["session"].as_str().expect("an id").to_owned();
    assert_eq!(
        (session["user"].as_u64(), &session["background"]),
        (Some(7), &json!(null))
    );

    let uploaded = client.put("/v1/backgrounds/red", jpeg(640, 360, RED));
    assert_eq!((uploaded.status, uploaded.header("etag")), (201, "\"v1\""));
    let metadata = uploaded.json();
    assert_eq!(
        (
            &metadata["width"],
            &metadata["format"],
            &metadata["version"]
        ),
        (&json!(640), &json!("jpeg"), &json!(1))
    );
    assert_eq!(
        client
            .put("/v1/backgrounds/blue", png(320, 180, BLUE))
            .status,
        201
    );

    let frame = format!("/v1/sessions/{id}/frame");
    client.get(&frame).is_problem(404, "no_background");
    for (background, rgb) in [("red", RED), ("blue", BLUE)] {
        let switched = client.put(
            &format!("/v1/sessions/{id}/background"),
            json!({"background": background}).to_string(),
        );
        assert_eq!(switched.ok().json()["background"], background);
        let first = client.get(&frame).ok();
        assert_eq!(first.header("content-type"), "image/jpeg");
        assert_eq!(
            (
                first.header("backdrop-background"),
                first.header("backdrop-version")
            ),
            (background, "1")
        );
        assert_eq!(first.header("backdrop-cache"), "miss");
        let (width, height, pixels) = decode_jpeg(&first.body);
        assert_eq!((width, height), (640, 360));
        assert!(
            pixels.chunks_exact(3).all(|pixel| close(pixel, rgb)),
            "{background} has another colour"
        );
        assert_eq!(client.get(&frame).ok().header("backdrop-cache"), "hit");
    }
    let session = client.get(&format!("/v1/sessions/{id}")).ok().json();
    assert_eq!(
        (&session["switches"], &session["version"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        client
            .send("DELETE", &format!("/v1/sessions/{id}"), &[], b"")
            .status,
        204
    );
    client
        .get(&format!("/v1/sessions/{id}"))
        .is_problem(404, "session_not_found");
}

#[test]
fn frames_come_in_every_format_and_follow_the_view() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    // Left half red, right half blue.
    let row: Vec<u8> = [RED.repeat(32), BLUE.repeat(32)].concat();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 64, 32);
    encoder.set_color(png::ColorType::Rgb);
    encoder
        .write_header()
        .expect("a header")
        .write_image_data(&row.repeat(32))
        .expect("pixels");
    client.put("/v1/backgrounds/two", file).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "two"}))
        .ok()
        .json();
    let path = format!(
        "/v1/sessions/{}",
        session["session"].as_str().expect("an id")
    );

    let raw = client
        .get(&format!("{path}/frame?width=64&height=32&format=rgba"))
        .ok();
    assert_eq!(
        (raw.body.len(), &raw.body[..4]),
        (64 * 32 * 4, &[200, 30, 30, 255][..])
    );
    let patch = json!({"crop": {"x": 0.5, "y": 0.0, "width": 0.5, "height": 1.0}, "alpha": 0.5})
        .to_string();
    let view = client
        .send("PATCH", &format!("{path}/view"), &[], patch.as_bytes())
        .ok()
        .json();
    assert_eq!(view["scale"], json!(1));
    let cropped = client
        .get(&format!("{path}/frame?width=32&height=32&format=rgba"))
        .ok();
    assert_eq!(&cropped.body[16 * 4..][..4], &[30, 30, 200, 128]);

    let accept = client
        .send(
            "GET",
            &format!("{path}/frame"),
            &[("accept", "image/png")],
            b"",
        )
        .ok();
    assert!(accept.body.starts_with(b"\x89PNG"));
    client
        .send(
            "GET",
            &format!("{path}/frame"),
            &[("accept", "text/html")],
            b"",
        )
        .is_problem(406, "not_acceptable");
    client
        .get(&format!("{path}/frame?width=0"))
        .is_problem(422, "out_of_range");
    client
        .get(&format!("{path}/frame?width=100000&height=100000"))
        .is_problem(422, "out_of_range");
    client
        .get(&format!("{path}/frame?width=wide"))
        .is_problem(400, "bad_request");
    let bad = json!({"scale": 99.0}).to_string();
    client
        .send("PATCH", &format!("{path}/view"), &[], bad.as_bytes())
        .is_problem(422, "out_of_range");
}

#[test]
fn a_hot_replace_is_seen_at_once_and_versions_only_grow() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.put("/v1/backgrounds/wall", png(32, 32, RED)).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "wall"}))
        .ok()
        .json();
    let frame = format!(
        "/v1/sessions/{}/frame?format=rgba&width=16&height=16",
        session["session"].as_str().expect("an id")
    );
    assert_eq!(&client.get(&frame).ok().body[..3], &RED);

    let replace = |client: &mut Client, tag: &str| {
        client.send(
            "PUT",
            "/v1/backgrounds/wall",
            &[("if-match", tag)],
            &png(32, 32, BLUE),
        )
    };
    replace(&mut client, "\"v9\"").is_problem(412, "precondition_failed");
    let replaced = replace(&mut client, "\"v1\"");
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"v2\""));
    let seen = client.get(&frame).ok();
    assert_eq!(
        (&seen.body[..3], seen.header("backdrop-version")),
        (&BLUE[..], "2")
    );

    assert_eq!(
        client
            .send("DELETE", "/v1/backgrounds/wall", &[], b"")
            .status,
        204
    );
    client
        .get("/v1/backgrounds/wall")
        .is_problem(404, "background_not_found");
    client.get(&frame).is_problem(410, "gone");
    let again = client.put("/v1/backgrounds/wall", png(32, 32, RED));
    assert_eq!((again.status, again.header("etag")), (201, "\"v3\""));
    // The session still names the removed one: an index never names two backgrounds.
    client.get(&frame).is_problem(410, "gone");
}

#[test]
fn backgrounds_are_listed_in_pages_and_read_back() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    let file = png(16, 16, RED);
    for id in ["a", "b", "c"] {
        client.put(&format!("/v1/backgrounds/{id}"), &file).ok();
    }
    let page = client.get("/v1/backgrounds?limit=2").ok().json();
    assert_eq!(
        (page["backgrounds"].as_array().map(Vec::len), &page["next"]),
        (Some(2), &json!("b"))
    );
    assert!(
        page["epoch"]
            .as_str()
            .is_some_and(|epoch| epoch.parse::<u64>().is_ok())
    );
    let rest = client.get("/v1/backgrounds?limit=2&after=b").ok().json();
    assert_eq!(
        (&rest["backgrounds"][0]["id"], &rest["next"]),
        (&json!("c"), &json!(null))
    );
    client
        .get("/v1/backgrounds?limit=0")
        .is_problem(400, "bad_request");

    assert_eq!(client.get("/v1/backgrounds/a").ok().body, file);
    let metadata = client
        .send(
            "GET",
            "/v1/backgrounds/a",
            &[("accept", "application/json")],
            b"",
        )
        .ok()
        .json();
    assert_eq!(metadata["bytes"], json!(file.len()));
    let head = client.send("HEAD", "/v1/backgrounds/a", &[], b"").ok();
    assert_eq!(head.header("content-length"), file.len().to_string());
    assert_eq!(
        client
            .send(
                "GET",
                "/v1/backgrounds/a",
                &[("if-none-match", "\"v1\"")],
                b""
            )
            .status,
        304
    );
    client
        .put("/v1/backgrounds/Not-An-Id", &file)
        .is_problem(400, "bad_request");
}

#[test]
fn tenants_do_not_see_each_other_and_roles_hold() {
    let dir = scratch();
    let tokens = dir.path().join("tokens.toml");
    std::fs::write(
        &tokens,
        "[[token]]\nsecret = \"writer\"\ntenant = \"acme\"\nroles = [\"catalogue\"]\n",
    )
    .expect("written");
    let file = tokens.to_str().expect("text");
    let more = [("BACKDROP_TOKENS", "reader=acme,other=rival")];
    let service = Service::start_with(dir.path(), &["--tokens-file", file], &more);
    let client = |token| Client::with_token(service.listen, token);

    service
        .client()
        .post("/v1/sessions", json!({}))
        .is_problem(401, "unauthorized");
    client("wrong")
        .post("/v1/sessions", json!({}))
        .is_problem(401, "unauthorized");
    client("reader")
        .put("/v1/backgrounds/a", png(8, 8, RED))
        .is_problem(403, "forbidden");
    client("reader")
        .send("DELETE", "/v1/backgrounds/a", &[], b"")
        .is_problem(403, "forbidden");
    assert_eq!(
        client("writer")
            .put("/v1/backgrounds/a", png(8, 8, RED))
            .status,
        201
    );
    client("other").get("/v1/backgrounds/a").ok();

    let session = client("reader")
        .post("/v1/sessions", json!({"background": "a"}))
        .ok()
        .json();
    let id = from_hex(&session["session"]);
    let path = format!("/v1/sessions/{}", hex(id));
    client("writer").get(&path).ok();
    let mut rival = client("other");
    for (method, path, body) in [
        ("GET", path.clone(), ""),
        ("DELETE", path.clone(), ""),
        ("GET", format!("{path}/frame"), ""),
        ("PUT", format!("{path}/background"), r#"{"background":"a"}"#),
        ("PATCH", format!("{path}/view"), r#"{"alpha":0.5}"#),
    ] {
        rival
            .send(method, &path, &[], body.as_bytes())
            .is_problem(404, "session_not_found");
    }
    let switches = json!({"switches": [{"session": hex(id), "background": "a"}]});
    assert_eq!(
        rival
            .post("/v1/sessions:batchSwitch", &switches)
            .ok()
            .json()["codes"],
        json!(["session_not_found"])
    );
    assert_eq!(
        client("reader").get(&path).ok().json()["switches"],
        json!(0)
    );
}

#[test]
fn an_unknown_token_is_refused_also_where_none_is_needed() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    Client::with_token(service.listen, "made-up")
        .get("/v1/backgrounds")
        .is_problem(401, "unauthorized");
    service.client().get("/v1/backgrounds").ok();
}

#[test]
fn unknown_addresses_and_methods_say_so() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let mut client = service.client();
    client.get("/v2/sessions").is_problem(404, "not_found");
    let refused = client.send("DELETE", "/v1/backgrounds", &[], b"");
    refused.is_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), "GET");
    client
        .get("/v1/sessions/zzz")
        .is_problem(404, "session_not_found");
    client
        .post("/v1/sessions", "{nonsense")
        .is_problem(400, "bad_request");
    client
        .post("/v1/sessions", json!({"usr": 1}))
        .is_problem(400, "bad_request");
    client
        .post("/v1/sessions", json!({"background": "nowhere"}))
        .is_problem(404, "background_not_found");
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        client.get(path).ok();
    }
}
