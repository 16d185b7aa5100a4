//! A GPU that is lost under load, only in a build with failpoints: every frame is answered, and right, and the GPU comes back.
//!
//! Without an adapter this says so, and fails with `BACKDROP_NEEDS_GPU_ADAPTER=1`.

#![cfg(feature = "failpoints")]

mod support;

use support::*;

/// Frames that are asked for at once.
const CLIENTS: usize = 6;
/// Losses, one after another.
const LOSSES: usize = 3;

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
                // It fails unless every pixel is that of its background.
                scope.spawn(move || drop(gallery.frame(client % 4)));
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
    let after = service.metric("backdrop_frames_drawn_total{renderer=\"gpu\"}");
    assert_eq!(after - before, 4.0, "its textures are back");
    assert!(!service.log().contains("panicked"), "{}", service.log());
}
