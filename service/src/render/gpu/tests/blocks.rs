//! BC7 textures: what is drawn from them, how near it is, what they take, and how they come and go.

use super::*;
use crate::render::gpu::bc7::{
    self,
    tests::{decode, psnr, scenery},
};
use crate::render::view::Window;

/// A GPU with textures of blocks, if there is an adapter that reads them.
fn opened_for_blocks(settings: Settings) -> Option<(Gpu, Arc<Giver>)> {
    let (gpu, host) = opened(Settings {
        textures: TextureFormat::Bc7,
        ..settings
    })?;
    if gpu.adapter().textures == TextureFormat::Bc7 {
        return Some((gpu, host));
    }
    skipped(&OpenError::Device("it reads no BC7".to_owned()));
    None
}

fn of_blocks(scene: Scene) -> Scene {
    Scene {
        format: TextureFormat::Bc7,
        ..scene
    }
}

/// What the reference makes of a scene whose background went through blocks.
fn by_reference_of_blocks(scene: &Scene) -> Vec<u8> {
    let pixels = PixelsRef::new(&scene.background, scene.from).unwrap();
    let blocks = bc7::encode(pixels, || false).unwrap();
    let decoded = Scene {
        background: decode(&blocks, scene.from),
        over: scene.over.clone(),
        ..*scene
    };
    decoded.by_reference()
}

/// Draws scenes until their textures are there: until then each is refused, and told why.
fn drawn_from_blocks(gpu: &Gpu, scenes: &[Arc<Scene>]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    until("textures of blocks", || {
        let drawn = draw(gpu, scenes);
        for refusal in drawn.iter().filter_map(|one| one.as_ref().err()) {
            assert_eq!(*refusal, Refusal::Encoding);
        }
        let frames: Result<Vec<_>, _> = drawn.into_iter().collect();
        frames.map(|frames| all = frames).is_ok()
    });
    all
}

fn held(host: &Giver) -> u64 {
    let events = host.events.lock();
    let textures = |event: &Event| match event {
        Event::Held { textures, .. } => Some(*textures),
        _ => None,
    };
    events.iter().rev().find_map(textures).unwrap_or(0)
}

/// The device reads blocks as the format defines them, and all else is as ever: an oracle to the bit, though the frame is not exact.
#[test]
fn any_batch_equals_the_reference_over_decoded_blocks() {
    let Some((gpu, host)) = opened_for_blocks(settings()) else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    let batches = prop::collection::vec(scene().prop_map(|s| Arc::new(of_blocks(s))), 1..6);
    let ran = runner.run(&batches.no_shrink(), |scenes| {
        for (scene, drawn) in scenes.iter().zip(drawn_from_blocks(&gpu, &scenes)) {
            prop_assert!(drawn == by_reference_of_blocks(scene), "{scene:?}");
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{} on {}", error, gpu.adapter().name));
    assert_eq!(
        host.count(|e| matches!(e, Event::Encoded { done: false, .. })),
        0
    );
}

#[test]
fn a_1080p_background_takes_a_quarter_and_stays_near() {
    let Some((gpu, host)) = opened_for_blocks(settings()) else {
        return;
    };
    let size = Size::new(1920, 1080);
    // A part of it, pixel to pixel: software takes its time for all of it.
    let part = Size::new(411, 230);
    let window = |start: i64, length: u32| Window {
        start: start << 16,
        length: i64::from(length) << 16,
    };
    let scene = Arc::new(of_blocks(Scene {
        background: scenery(size),
        view: ViewTransform {
            x: window(1371, part.width),
            y: window(802, part.height),
            alpha: 255,
        },
        ..Scene::bare(1, size, part)
    }));
    let drawn = drawn_from_blocks(&gpu, std::slice::from_ref(&scene));
    assert_eq!(held(&host), 2_073_600, "480 by 270 blocks of 16 bytes");
    assert_eq!(held(&host) * 4, size.bytes());
    let near = psnr(&drawn[0], &scene.by_reference());
    assert!(near > 40.0, "{near} dB");
    assert!(drawn[0] == by_reference_of_blocks(&scene));
}

/// Slabs of a few rows and of several layers, uploaded in pieces: a texture may begin and end anywhere.
#[test]
fn blocks_go_up_in_pieces_over_rows_and_layers() {
    for (staging_bytes, texture_bytes_max) in [(512 << 10, 4 << 20), (8 << 20, 40 << 20)] {
        let Some((gpu, host)) = opened_for_blocks(Settings {
            staging_bytes,
            texture_bytes_max,
            ..settings()
        }) else {
            return;
        };
        // Of the large ones the fourth begins in the first layer, which has 512 rows of 512 blocks, and ends in the second.
        let from = match texture_bytes_max > 8 << 20 {
            true => Size::new(1100, 1090),
            false => Size::new(500, 333),
        };
        let scene = |number| Scene::bare(number, from, Size::new(70, 41));
        let scenes: Vec<_> = (0..5)
            .map(|number| Arc::new(of_blocks(scene(number))))
            .collect();
        for scene in &scenes {
            let drawn = drawn_from_blocks(&gpu, std::slice::from_ref(scene));
            assert!(drawn[0] == by_reference_of_blocks(scene), "{scene:?}");
        }
        assert!(held(&host) <= texture_bytes_max);
    }
}

#[test]
fn blocks_come_back_after_a_shrink_and_after_a_loss() {
    let Some((gpu, host)) = opened_for_blocks(settings()) else {
        return;
    };
    let scene = of_blocks(Scene::bare(3, Size::new(90, 50), Size::new(64, 64)));
    let scenes = [Arc::new(scene)];
    let wanted = by_reference_of_blocks(&scenes[0]);
    let staging = *host.reserved.lock();
    assert!(drawn_from_blocks(&gpu, &scenes)[0] == wanted);
    assert_eq!(
        host.count(|e| *e == Event::Uploaded),
        1,
        "however often it was asked for"
    );
    if gpu.adapter().shares_memory {
        assert!(*host.reserved.lock() > staging);
    }
    gpu.shrink_textures_to(0);
    until("the end of the textures", || held(&host) == 0);
    until("their memory", || *host.reserved.lock() == staging);
    assert_eq!(draw(&gpu, &scenes), [Err(Refusal::Encoding)]);
    assert!(drawn_from_blocks(&gpu, &scenes)[0] == wanted);

    host.destroys.store(true, Ordering::SeqCst);
    until("a loss", || {
        drop(draw(&gpu, &scenes));
        host.count(|e| *e == Event::Lost) == 1
    });
    until("the device", || gpu.is_ready());
    assert!(drawn_from_blocks(&gpu, &scenes)[0] == wanted);
    drop(gpu);
    assert_eq!(*host.reserved.lock(), 0);
}

#[test]
fn without_memory_for_blocks_frames_are_left_to_the_cpu() {
    let Some((gpu, host)) = opened_for_blocks(settings()) else {
        return;
    };
    host.refuses.store(true, Ordering::SeqCst);
    let scene = Arc::new(of_blocks(Scene::bare(
        3,
        Size::new(90, 50),
        Size::new(64, 64),
    )));
    until("an encode that is dropped", || {
        let refused = [Err(Refusal::Encoding)];
        assert_eq!(draw(&gpu, std::slice::from_ref(&scene)), refused);
        host.count(|e| matches!(e, Event::Encoded { done: false, .. })) > 0
    });
    host.refuses.store(false, Ordering::SeqCst);
    drop(drawn_from_blocks(&gpu, &[scene]));
}

#[test]
fn a_device_that_is_not_asked_for_blocks_stays_exact() {
    let Some((gpu, _)) = opened(settings()) else {
        return;
    };
    assert_eq!(gpu.adapter().textures, TextureFormat::Rgba8);
}
