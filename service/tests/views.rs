//! That a session's crop, zoom and offset reach the pixels of its frames.
//!
//! Four quadrants of one colour each show where the middle of the picture lies in a frame, and what is shown beyond its edges.

mod support;

use serde_json::{Value, json};
use support::*;

/// Pixels of a side of the picture, and of a frame.
const SIDE: usize = 64;
/// Left and right above, left and right below.
const QUADRANTS: [[u8; 3]; 4] = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30]];
/// So far from a border its two colours may mix: half a pixel of the picture at four times its size, and rounding.
const MIXED: f64 = 3.0;

fn quadrants() -> Vec<u8> {
    let half = SIDE / 2;
    let rows = |left: [u8; 3], right: [u8; 3]| {
        let row = [left.repeat(half), right.repeat(half)].concat();
        row.repeat(half)
    };
    let [a, b, c, d] = QUADRANTS;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    writer
        .write_image_data(&[rows(a, b), rows(c, d)].concat())
        .expect("pixels");
    writer.finish().expect("an end");
    file
}

/// A service with a session that looks at the quadrants; the session's path.
fn looking(service: &Service) -> (Client, String) {
    let mut client = service.client();
    client.put("/v1/backgrounds/four", quadrants()).ok();
    let session = client
        .post("/v1/sessions", json!({"background": "four"}))
        .ok()
        .json();
    let id = session["session"].as_str().expect("an id");
    (client, format!("/v1/sessions/{id}"))
}

/// The frame of a view. `crop` is x, y, width, height.
fn frame(
    client: &mut Client,
    session: &str,
    crop: [f64; 4],
    scale: f64,
    uv_offset: [f64; 2],
) -> Vec<u8> {
    let [x, y, width, height] = crop;
    let view: Value = json!({
        "crop": {"x": x, "y": y, "width": width, "height": height},
        "scale": scale,
        "uv_offset": uv_offset,
    });
    let path = format!("{session}/view");
    client
        .send("PATCH", &path, &[], view.to_string().as_bytes())
        .ok();
    let path = format!("{session}/frame?width={SIDE}&height={SIDE}&format=rgba");
    client.get(&path).ok().body
}

/// Asserts that the middle of the picture lies at this pixel of the frame, which may be outside of it, and that each side of
/// it shows its quadrant alone.
#[track_caller]
fn has_its_middle_at(frame: &[u8], [across, down]: [f64; 2]) {
    assert_eq!(frame.len(), SIDE * SIDE * 4);
    let (pixels, _) = frame.as_chunks::<4>();
    for (at, pixel) in pixels.iter().enumerate() {
        let (x, y) = ((at % SIDE) as f64 + 0.5, (at / SIDE) as f64 + 0.5);
        if (x - across).abs() <= MIXED || (y - down).abs() <= MIXED {
            continue;
        }
        let [r, g, b] = QUADRANTS[usize::from(x > across) + 2 * usize::from(y > down)];
        assert_eq!(*pixel, [r, g, b, 255], "at {x}, {y}");
    }
}

const WHOLE: [f64; 4] = [0.0, 0.0, 1.0, 1.0];

#[test]
fn scale_zooms_about_the_middle_of_the_crop() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let (mut client, session) = looking(&service);
    let whole = frame(&mut client, &session, WHOLE, 1.0, [0.0; 2]);
    has_its_middle_at(&whole, [32.0, 32.0]);

    // Columns 0 to 48 and rows 16 to 64; of them the middle halves: 12 to 36 and 28 to 52.
    let crop = [0.0, 0.25, 0.75, 0.75];
    let nearer = frame(&mut client, &session, crop, 2.0, [0.0; 2]);
    has_its_middle_at(&nearer, [20.0 / 24.0 * 64.0, 4.0 / 24.0 * 64.0]);

    // Columns 0 to 32 become -16 to 48, and rows -32 to 96: edge pixels repeat.
    let left = [0.0, 0.0, 0.5, 1.0];
    let farther = frame(&mut client, &session, left, 0.5, [0.0; 2]);
    has_its_middle_at(&farther, [48.0, 32.0]);
}

#[test]
fn uv_offset_moves_the_window_by_fractions_of_the_picture_and_edges_repeat() {
    let dir = scratch();
    let service = Service::start(dir.path(), &[]);
    let (mut client, session) = looking(&service);

    // Columns 48 to 112 and rows -16 to 48: a picture that came again, or mirrored, would show its left half.
    let moved = frame(&mut client, &session, WHOLE, 1.0, [0.75, -0.25]);
    has_its_middle_at(&moved, [-16.0, 48.0]);

    // Columns 8 to 24 of the crop and rows 16 to 48, moved by 12 and 8: by fractions of the picture, not of the crop.
    let left = [0.0, 0.0, 0.5, 1.0];
    let moved = frame(&mut client, &session, left, 2.0, [0.1875, 0.125]);
    has_its_middle_at(&moved, [48.0, 16.0]);
}
