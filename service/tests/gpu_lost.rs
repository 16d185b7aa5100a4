//! A GPU that is lost under load, only in a build with failpoints: every preview and composite is answered, and right, and the GPU
//! comes back.
//!
//! Without an adapter this says so, and fails with `BACKDROP_NEEDS_GPU_ADAPTER=1`.

#![cfg(feature = "failpoints")]

mod support;

use support::*;

/// Frames that are asked for at once.
const CLIENTS: usize = 6;
/// Losses, one after another.
const LOSSES: usize = 3;

/// Half of a white frame over a session's background, as files and so in two stages.
fn composite(gallery: &Gallery, number: usize) {
    let (width, height) = (64, 32);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().expect("a header");
    let seen = |at| if at % 2 == 0 { 255 } else { 0 };
    let pixels: Vec<u8> = (0..width * height)
        .flat_map(|at| [255, 255, 255, seen(at)])
        .collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    let path = format!(
        "/v1/sessions/{}/frames?deadline_ms=5000&format=rgba",
        gallery.sessions[number]
    );
    let headers = [("content-type", "image/png")];
    let answer = gallery
        .service
        .client()
        .send("POST", &path, &headers, &file)
        .ok();
    let behind = [number as u8, 7, 255 - number as u8, 255];
    let (pixels, _) = answer.body.as_chunks::<4>();
    assert_eq!(pixels.len(), (width * height) as usize);
    for (at, pixel) in pixels.iter().enumerate() {
        let wanted = if at % 2 == 0 { [255; 4] } else { behind };
        assert_eq!(*pixel, wanted, "pixel {at} over background {number}");
    }
}

#[test]
fn frames_are_answered_and_right_while_the_gpu_is_lost_and_after_it_is_back() {
    if !has_gpu_adapter() {
        return;
    }
    let dir = scratch();
    let gallery = Gallery::open(dir.path(), &["--renderer", "gpu", "--gpu-software"], 4);
    let service = &gallery.service;
    assert_eq!(service.metric("backdrop_gpu_ready"), 1.0);
    for losses in 1..=LOSSES {
        service
            .admin()
            .put("/debug/failpoints/render.gpu.lost", "1*return")
            .ok();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let gallery = &gallery;
                // They fail unless every pixel is as it should be.
                scope.spawn(move || match client % 2 {
                    0 => drop(gallery.frame(client % 4)),
                    _ => composite(gallery, client % 4),
                });
            }
        });
        poll("the loss, and the GPU again", || {
            let count = |series: &str| service.metric(series) == losses as f64;
            let both = count("backdrop_gpu_losses_total")
                && count("backdrop_gpu_reopened_total{result=\"ok\"}");
            both.then_some(())
        });
        assert_eq!(service.metric("backdrop_gpu_ready"), 1.0);
    }
    let lost = service.metric("backdrop_gpu_fallbacks_total{reason=\"lost\"}");
    assert!(lost >= LOSSES as f64, "{lost}");
    let before = service.metric("backdrop_frames_drawn_total{renderer=\"gpu\"}");
    gallery.is_as_it_was();
    composite(&gallery, 3);
    let after = service.metric("backdrop_frames_drawn_total{renderer=\"gpu\"}");
    assert_eq!(after - before, 5.0, "its textures are back");
    assert!(!service.log().contains("panicked"), "{}", service.log());
}
