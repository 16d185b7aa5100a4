//! Frames that are drawn from what was drawn before: the same bytes, under the same names, and no address of their own.

mod support;

use serde_json::json;
use support::*;

/// A picture in which every pixel is another one.
fn picture(seed: u32) -> Vec<u8> {
    const SIDES: (u32, u32) = (640, 400);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDES.0, SIDES.1);
    encoder.set_color(png::ColorType::Rgba);
    let pixel = |at: u32| {
        let value = (at ^ seed).wrapping_mul(0x9E37_79B9);
        [
            value as u8,
            (value >> 8) as u8,
            (value >> 16) as u8,
            128 | (value >> 24) as u8,
        ]
    };
    let pixels: Vec<u8> = (0..SIDES.0 * SIDES.1).flat_map(pixel).collect();
    let mut writer = encoder.write_header().expect("a header");
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    file
}

fn looking(service: &Service) -> (Client, String) {
    let mut client = service.client();
    client.put("/v1/backgrounds/beach", picture(1)).ok();
    let session = client.post("/v1/sessions", json!({"background": "beach"}));
    let id = session.ok().json()["session"]
        .as_str()
        .expect("an id")
        .to_owned();
    (client, format!("/v1/sessions/{id}"))
}

const VIEWS: [(f64, [f64; 2], f64); 4] = [
    (1.0, [0.0, 0.0], 1.0),
    (1.7, [0.13, -0.21], 0.5),
    (0.4, [0.0, 0.9], 1.0),
    (9.3, [-0.4, 0.31], 0.8),
];
const FORMATS: [&str; 3] = ["application/octet-stream", "image/png", "image/jpeg"];
const SIZES: [(u32, u32); 3] = [(320, 200), (319, 199), (17, 333)];

/// Every view in every size and form, each `times` in a row: what was answered.
fn frames(client: &mut Client, session: &str, times: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (scale, uv_offset, alpha) in VIEWS {
        let view = json!({"scale": scale, "uv_offset": uv_offset, "alpha": alpha}).to_string();
        let kind = [("content-type", "application/json")];
        let path = format!("{session}/view");
        client.send("PATCH", &path, &kind, view.as_bytes()).ok();
        for (width, height) in SIZES {
            for format in FORMATS {
                let path = format!("{session}/frame?width={width}&height={height}");
                let mut answers: Vec<Vec<u8>> = (0..times)
                    .map(|_| {
                        client
                            .send("GET", &path, &[("accept", format)], b"")
                            .ok()
                            .body
                    })
                    .collect();
                answers.dedup();
                assert_eq!(answers.len(), 1, "{view} {width}x{height} {format}");
                all.append(&mut answers);
            }
        }
    }
    all
}

fn counted(service: &Service, result: &str) -> f64 {
    service.metric(&format!(
        "backdrop_flyweight_rendition_frames_total{{result=\"{result}\"}}"
    ))
}

#[test]
fn frames_of_renditions_are_those_that_are_drawn_afresh() {
    let (a, b) = (scratch(), scratch());
    let plain = Service::start(a.path(), &[]);
    let (mut client, session) = looking(&plain);
    let expected = frames(&mut client, &session, 1);
    assert_eq!(counted(&plain, "kept"), 0.0);

    let keeping = Service::start(b.path(), &["--renditions-per-background", "64"]);
    let (mut client, session) = looking(&keeping);
    assert!(frames(&mut client, &session, 4) == expected);
    let pictures = (VIEWS.len() * SIZES.len()) as f64;
    assert_eq!(
        counted(&keeping, "kept"),
        pictures,
        "whatever they are encoded as"
    );
    // Of twelve askings for each, two draw it.
    assert_eq!(counted(&keeping, "hit"), pictures * 10.0);

    // Evicted they are drawn again, replaced they are of the new picture.
    let shrunk = keeping
        .admin()
        .post("/debug/shrink", json!({"to_bytes": 0}));
    assert!(shrunk.ok().json()["evicted"].as_u64().expect("a number") > 1);
    assert!(frames(&mut client, &session, 1) == expected);
    client.put("/v1/backgrounds/beach", picture(2)).ok();
    assert_eq!(keeping.metric("backdrop_flyweight_renditions"), 0.0);
    let replaced = frames(&mut client, &session, 4);
    assert!(replaced.iter().zip(&expected).all(|(new, old)| new != old));
    // Two of the sizes round up to the same: the later has taken the other's place.
    let places = (VIEWS.len() * (SIZES.len() - 1)) as f64;
    assert_eq!(keeping.metric("backdrop_flyweight_renditions"), places);
}

#[test]
fn no_session_can_name_a_rendition() {
    let dir = scratch();
    let service = Service::start(dir.path(), &["--renditions-per-background", "4"]);
    let (mut client, session) = looking(&service);
    let frame = format!("{session}/frame?width=320&height=200");
    (0..3).for_each(|_| drop(client.get(&frame).ok()));
    assert_eq!(counted(&service, "hit"), 1.0);
    let listed = client.get("/v1/backgrounds").ok().json();
    assert_eq!(listed["backgrounds"].as_array().map(Vec::len), Some(1));
    let entry = json!({"session": session.rsplit('/').next(), "flyweight": 1_u32 << 31});
    let switched = client.post("/v1/sessions:batchSwitch", json!({"switches": [entry]}));
    assert_eq!(switched.ok().json()["codes"], json!(["flyweight_unknown"]));
}
