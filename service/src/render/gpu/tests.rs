//! The GPU against the reference, bit for bit, on whatever adapter there is; and what becomes of frames when it goes.
//!
//! Without an adapter these tests say so and do nothing; with `BACKDROP_NEEDS_GPU_ADAPTER=1` they fail then.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use parking_lot::Mutex;
use proptest::prelude::*;

mod blocks;

use super::*;
use crate::render::cpu::reference;
use crate::render::samples::{mask, masks, picture, sizes, views};
use crate::render::view::View;

/// A host that gives memory while it may, and counts.
#[derive(Default)]
struct Giver {
    refuses: AtomicBool,
    destroys: AtomicBool,
    reserved: Arc<Mutex<u64>>,
    events: Mutex<Vec<Event>>,
}

struct Reserved(Arc<Mutex<u64>>, u64);

impl Drop for Reserved {
    fn drop(&mut self) {
        *self.0.lock() -= self.1;
    }
}

impl Host for Giver {
    fn reserve(&self, bytes: u64) -> Option<Box<dyn Send>> {
        if self.refuses.load(Ordering::SeqCst) {
            return None;
        }
        *self.reserved.lock() += bytes;
        Some(Box::new(Reserved(Arc::clone(&self.reserved), bytes)))
    }

    fn tell(&self, event: Event) {
        self.events.lock().push(event);
    }

    fn destroy(&self) -> bool {
        self.destroys.swap(false, Ordering::SeqCst)
    }
}

impl Giver {
    fn count(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().iter().filter(|event| is(event)).count()
    }
}

/// An owned foreground.
#[derive(Clone)]
struct Over {
    pixels: Vec<u8>,
    mask: Vec<u8>,
    strides: [usize; 2],
}

struct Scene {
    /// Of the texture that it must be drawn from.
    format: TextureFormat,
    key: TextureKey,
    background: Vec<u8>,
    from: Size,
    view: ViewTransform,
    over: Option<Over>,
    to: Size,
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to, view, .. } = self;
        write!(
            f,
            "{from} to {to}, {view:?}, masked: {}",
            self.over.is_some()
        )
    }
}

impl Scene {
    fn foreground(&self) -> Option<Foreground<'_>> {
        let over = self.over.as_ref()?;
        let [pixels, mask] = over.strides;
        Foreground::with_strides(self.to, &over.pixels, pixels, &over.mask, mask)
    }

    fn by_reference(&self) -> Vec<u8> {
        let mut out = vec![0x55; self.to.bytes() as usize];
        reference::composite(
            PixelsRef::new(&self.background, self.from).unwrap(),
            &self.view,
            self.foreground(),
            PixelsMut::new(&mut out, self.to).unwrap(),
        );
        out
    }

    fn bare(number: u32, from: Size, to: Size) -> Self {
        Self {
            format: TextureFormat::Rgba8,
            key: key(number),
            background: picture(from, number),
            from,
            view: ViewTransform::full(from),
            over: None,
            to,
        }
    }
}

type Answer = (usize, Result<Vec<u8>, Refusal>);

struct Kept(Arc<Scene>);

impl Background for Kept {
    fn pixels(&self) -> PixelsRef<'_> {
        PixelsRef::new(&self.0.background, self.0.from).unwrap()
    }
}

struct Job {
    scene: Arc<Scene>,
    number: usize,
    out: Vec<u8>,
    reply: mpsc::Sender<Answer>,
}

impl CompositeJob for Job {
    fn texture(&self) -> TextureKey {
        self.scene.key
    }

    fn background(&self) -> PixelsRef<'_> {
        PixelsRef::new(&self.scene.background, self.scene.from).unwrap()
    }

    fn view(&self) -> ViewTransform {
        self.scene.view
    }

    fn foreground(&self) -> Option<Foreground<'_>> {
        self.scene.foreground()
    }

    fn size(&self) -> Size {
        self.scene.to
    }

    fn out(&mut self) -> PixelsMut<'_> {
        PixelsMut::new(&mut self.out, self.scene.to).unwrap()
    }

    fn keep(&self) -> Option<Box<dyn Background>> {
        Some(Box::new(Kept(Arc::clone(&self.scene))))
    }

    fn end(self: Box<Self>, drawn: Result<TextureFormat, Refusal>) {
        let Self {
            scene,
            number,
            out,
            reply,
        } = *self;
        let drawn = drawn.inspect(|format| assert_eq!(*format, scene.format));
        drop(reply.send((number, drawn.map(|_| out))));
    }
}

/// A number that no other test has: keys are for ever.
fn key(index: u32) -> TextureKey {
    static VERSIONS: AtomicUsize = AtomicUsize::new(1);
    TextureKey {
        index,
        version: VERSIONS.fetch_add(1, Ordering::Relaxed) as u32,
    }
}

/// Says that the calling test did nothing, past the harness; fails where that may not be.
fn skipped(cause: &OpenError) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    drop(writeln!(std::io::stderr(), "SKIPPED {test}: {cause}"));
    let needed = std::env::var("BACKDROP_NEEDS_GPU_ADAPTER").is_ok_and(|value| value == "1");
    assert!(!needed, "a GPU adapter is needed: {cause}");
}

fn settings() -> Settings {
    Settings {
        adapters: Adapters::Any,
        staging_bytes: 16 << 20,
        texture_bytes_max: 16 << 20,
        ..Settings::default()
    }
}

/// A GPU and its host, if there is an adapter.
fn opened(settings: Settings) -> Option<(Gpu, Arc<Giver>)> {
    let host = Arc::new(Giver::default());
    match Gpu::open(settings, Arc::clone(&host) as Arc<dyn Host>) {
        Ok(gpu) => Some((gpu, host)),
        Err(error @ OpenError::NoAdapter { .. }) => {
            skipped(&error);
            None
        }
        Err(error) => panic!("there is an adapter, and it cannot be opened: {error}"),
    }
}

/// Sends scenes off at once and waits for all of them.
fn draw(gpu: &Gpu, scenes: &[Arc<Scene>]) -> Vec<Result<Vec<u8>, Refusal>> {
    let (reply, answers) = mpsc::channel();
    for (number, scene) in scenes.iter().enumerate() {
        let job = Job {
            scene: Arc::clone(scene),
            number,
            out: vec![0xAA; scene.to.bytes() as usize],
            reply: reply.clone(),
        };
        if let Err((job, refusal)) = gpu.composite(Box::new(job)) {
            job.end(Err(refusal));
        }
    }
    drop(reply);
    let mut answers: Vec<Answer> = answers.iter().collect();
    assert_eq!(answers.len(), scenes.len(), "every job ends once");
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "the interval of a bounded poll")]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} never came");
}

fn scene() -> impl Strategy<Value = Scene> {
    let from = prop_oneof![sizes(40), sizes(200)];
    let to = prop_oneof![
        sizes(40),
        (1..=300u32, 1..=5u32).prop_map(|(width, height)| Size::new(width, height))
    ];
    let over = prop_oneof![
        Just(None),
        (masks(), [0usize..70, 0usize..70], any::<u32>()).prop_map(Some)
    ];
    let view = prop_oneof![
        Just(None),
        Just(Some(View::default())),
        views().prop_map(Some)
    ];
    (from, to, view, over, any::<u32>()).prop_map(|(from, to, view, over, seed)| {
        // Without a view the background is as large as the frame: pixel to pixel.
        let from = if view.is_some() { from } else { to };
        let over = over.map(|(runs, padding, seed)| {
            let strides = [
                to.width as usize * 4 + padding[0],
                to.width as usize + padding[1],
            ];
            Over {
                pixels: picture(Size::new(strides[0] as u32, to.height), seed),
                mask: mask(strides[1] * to.height as usize, runs, seed),
                strides,
            }
        });
        Scene {
            format: TextureFormat::Rgba8,
            key: key(seed),
            background: picture(from, seed),
            from,
            view: view.unwrap_or_default().transform(from),
            over,
            to,
        }
    })
}

#[test]
fn any_batch_equals_the_reference() {
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    let cases = ProptestConfig::with_cases(150);
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let batches = prop::collection::vec(scene().prop_map(Arc::new), 1..12);
    let ran = runner.run(&batches.no_shrink(), |scenes| {
        for (scene, drawn) in scenes.iter().zip(draw(&gpu, &scenes)) {
            let wrong = drawn.as_ref().err();
            prop_assert!(drawn == Ok(scene.by_reference()), "{scene:?}: {wrong:?}");
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{} on {}", error, gpu.adapter().name));
    let together = host.count(|event| matches!(event, Event::Batch { frames } if *frames > 1));
    assert!(together > 0, "nothing was drawn together");
    assert!(gpu.is_ready());
}

/// All there is to a lerp and to an opacity.
#[test]
fn every_mask_and_pair_of_samples_equals_the_reference() {
    let Some((gpu, _)) = opened(settings()) else {
        return;
    };
    let size = Size::new(256, 64);
    let pairs: Vec<[u8; 2]> = (0..=u16::MAX).map(u16::to_be_bytes).collect();
    let sample = |at: usize| -> Vec<u8> { pairs.iter().map(|pair| pair[at]).collect() };
    let key = key(1);
    for masks in (0..=255u8).collect::<Vec<_>>().chunks(32) {
        let scenes: Vec<_> = masks
            .iter()
            .map(|&mask| {
                Arc::new(Scene {
                    format: TextureFormat::Rgba8,
                    key,
                    background: sample(0),
                    from: size,
                    view: ViewTransform {
                        alpha: mask,
                        ..ViewTransform::full(size)
                    },
                    over: Some(Over {
                        pixels: sample(1),
                        mask: vec![mask; size.pixels() as usize],
                        strides: [1024, 256],
                    }),
                    to: size,
                })
            })
            .collect();
        for (scene, drawn) in scenes.iter().zip(draw(&gpu, &scenes)) {
            assert!(drawn == Ok(scene.by_reference()));
        }
    }
}

#[test]
fn strong_minification_equals_the_reference() {
    let Some((gpu, _)) = opened(settings()) else {
        return;
    };
    for (from, to) in [
        (Size::new(1500, 3), Size::new(2, 2)),
        (Size::new(3, 1500), Size::new(2, 1)),
        (Size::new(700, 5), Size::new(21, 5)),
        (Size::new(1, 1), Size::new(37, 19)),
    ] {
        let scene = Arc::new(Scene::bare(7, from, to));
        assert_eq!(
            draw(&gpu, std::slice::from_ref(&scene)),
            [Ok(scene.by_reference())],
            "{from} to {to}"
        );
    }
}

/// Buffers that hold a part of what is due: textures go up in pieces, batches are cut, and what is drawn stays right.
#[test]
fn small_buffers_cut_batches_and_textures() {
    let small = Settings {
        staging_bytes: 192 << 10,
        texture_bytes_max: 1 << 20,
        ..settings()
    };
    let Some((gpu, host)) = opened(small) else {
        return;
    };
    // 160 kB in a slab of 256 KiB, through an upload buffer of a third of that at most.
    let from = Size::new(200, 200);
    let scenes: Vec<_> = (0..24)
        .map(|number| Arc::new(Scene::bare(number, from, Size::new(60, 40))))
        .collect();
    for _ in 0..2 {
        for (scene, drawn) in scenes.iter().zip(draw(&gpu, &scenes)) {
            assert!(drawn == Ok(scene.by_reference()));
        }
    }
    let uploads = host.count(|event| *event == Event::Uploaded);
    assert_eq!(uploads, 48, "four fit, and 24 go round");
    let held = |event: &Event| matches!(event, Event::Held { textures, .. } if *textures > 1 << 20);
    assert_eq!(host.count(held), 0);
}

#[test]
fn a_texture_is_uploaded_once() {
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    let scene = Arc::new(Scene::bare(3, Size::new(64, 64), Size::new(32, 32)));
    for _ in 0..5 {
        assert!(
            draw(&gpu, &[Arc::clone(&scene), Arc::clone(&scene)])
                .iter()
                .all(Result::is_ok)
        );
    }
    assert_eq!(host.count(|event| *event == Event::Uploaded), 1);
    gpu.shrink_textures_to(0);
    until("the end of the textures", || {
        let events = host.events.lock();
        let held = |event: &Event| match event {
            Event::Held { textures, .. } => Some(*textures),
            _ => None,
        };
        events.iter().rev().find_map(held) == Some(0)
    });
    assert_eq!(
        draw(&gpu, &[Arc::clone(&scene)]),
        [Ok(scene.by_reference())]
    );
    assert_eq!(host.count(|event| *event == Event::Uploaded), 2);
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_drawn() {
    let small = Settings {
        staging_bytes: 256 << 10,
        texture_bytes_max: 1 << 20,
        ..settings()
    };
    let Some((gpu, _)) = opened(small) else {
        return;
    };
    let bare = |from, to| Arc::new(Scene::bare(1, from, to));
    let tiny = Size::new(8, 8);
    let drawn = draw(
        &gpu,
        &[
            bare(tiny, Size::new(300, 300)),
            bare(Size::new(300, 300), tiny),
            bare(tiny, tiny),
        ],
    );
    assert_eq!(drawn[0], Err(Refusal::TooLarge), "no room for the frame");
    assert_eq!(drawn[1], Err(Refusal::TooLarge), "no room for the texture");
    assert!(drawn[2].is_ok());
}

#[test]
fn a_full_queue_refuses() {
    let one = Settings {
        queue_max: 1,
        batch_max: 1,
        ..settings()
    };
    let Some((gpu, _)) = opened(one) else {
        return;
    };
    let scene = Arc::new(Scene::bare(2, Size::new(400, 400), Size::new(400, 400)));
    let scenes = vec![scene; 200];
    let drawn = draw(&gpu, &scenes);
    let busy = drawn.iter().filter(|one| **one == Err(Refusal::Busy));
    assert!(busy.count() > 0);
    assert!(drawn.iter().any(Result::is_ok));
}

#[test]
fn memory_is_reserved_first_and_given_back() {
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    let staging = *host.reserved.lock();
    assert!(staging >= (16 << 20) - (1 << 16), "{staging}");
    if gpu.adapter().shares_memory {
        host.refuses.store(true, Ordering::SeqCst);
        let scene = Arc::new(Scene::bare(4, Size::new(9, 9), Size::new(9, 9)));
        assert_eq!(draw(&gpu, &[Arc::clone(&scene)]), [Err(Refusal::NoMemory)]);
        host.refuses.store(false, Ordering::SeqCst);
        assert!(draw(&gpu, &[scene])[0].is_ok());
        assert!(*host.reserved.lock() > staging);
    }
    drop(gpu);
    assert_eq!(*host.reserved.lock(), 0);
    let Err(OpenError::Memory { .. }) = ({
        host.refuses.store(true, Ordering::SeqCst);
        Gpu::open(settings(), Arc::clone(&host) as Arc<dyn Host>)
    }) else {
        panic!("it was opened without memory");
    };
}

#[test]
fn frames_of_a_lost_device_come_back_undrawn_and_it_is_opened_anew() {
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    let scenes: Vec<_> = (0..8)
        .map(|number| Arc::new(Scene::bare(number, Size::new(64, 64), Size::new(50, 50))))
        .collect();
    assert!(draw(&gpu, &scenes).iter().all(Result::is_ok));
    for losses in 1..=3 {
        host.destroys.store(true, Ordering::SeqCst);
        let drawn = draw(&gpu, &scenes);
        assert!(
            drawn.contains(&Err(Refusal::Lost)),
            "what was in flight is not taken for drawn"
        );
        for (scene, drawn) in scenes.iter().zip(drawn) {
            assert!(drawn.is_err() || drawn == Ok(scene.by_reference()));
        }
        until("the device", || {
            let back = host.count(|e| *e == Event::Reopened { done: true });
            gpu.is_ready() && back == losses
        });
        assert_eq!(host.count(|e| *e == Event::Lost), losses);
        // Its textures are gone with it.
        for (scene, drawn) in scenes.iter().zip(draw(&gpu, &scenes)) {
            assert!(drawn == Ok(scene.by_reference()));
        }
        let uploads = host.count(|event| *event == Event::Uploaded);
        assert!(uploads >= 8 * (losses + 1));
    }
    assert_eq!(host.count(|e| *e == Event::Reopened { done: true }), 3);
}

#[test]
fn a_device_that_stays_away_is_asked_for_again() {
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    let scene = Arc::new(Scene::bare(4, Size::new(9, 9), Size::new(9, 9)));
    assert!(draw(&gpu, &[Arc::clone(&scene)])[0].is_ok());
    // Without memory for its buffers it cannot come back.
    host.refuses.store(true, Ordering::SeqCst);
    host.destroys.store(true, Ordering::SeqCst);
    assert_eq!(draw(&gpu, &[Arc::clone(&scene)]), [Err(Refusal::Lost)]);
    until("an attempt that fails", || {
        host.count(|e| *e == Event::Reopened { done: false }) > 0
    });
    assert_eq!(draw(&gpu, &[Arc::clone(&scene)]), [Err(Refusal::Lost)]);
    host.refuses.store(false, Ordering::SeqCst);
    until("the device", || gpu.is_ready());
    assert!(draw(&gpu, &[scene])[0].is_ok());
}

#[test]
fn what_nobody_waits_for_is_not_drawn() {
    struct Unwanted(Arc<AtomicUsize>);
    impl CompositeJob for Unwanted {
        fn texture(&self) -> TextureKey {
            key(1)
        }
        fn background(&self) -> PixelsRef<'_> {
            panic!("nobody wants it");
        }
        fn view(&self) -> ViewTransform {
            panic!("nobody wants it");
        }
        fn size(&self) -> Size {
            panic!("nobody wants it");
        }
        fn out(&mut self) -> PixelsMut<'_> {
            panic!("nobody wants it");
        }
        fn is_wanted(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst);
            false
        }
        fn end(self: Box<Self>, _: Result<TextureFormat, Refusal>) {}
    }
    let Some((gpu, _)) = opened(settings()) else {
        return;
    };
    let asked = Arc::new(AtomicUsize::new(0));
    assert!(
        gpu.composite(Box::new(Unwanted(Arc::clone(&asked))))
            .is_ok()
    );
    until("a look at it", || asked.load(Ordering::SeqCst) > 0);
    let scene = Arc::new(Scene::bare(4, Size::new(9, 9), Size::new(9, 9)));
    assert!(draw(&gpu, &[scene])[0].is_ok());
}

#[test]
fn a_job_that_panics_costs_its_batch_and_no_thread() {
    struct Bad;
    impl CompositeJob for Bad {
        fn texture(&self) -> TextureKey {
            key(1)
        }
        fn background(&self) -> PixelsRef<'_> {
            panic!("planted by a test");
        }
        fn view(&self) -> ViewTransform {
            ViewTransform::full(Size::new(1, 1))
        }
        fn size(&self) -> Size {
            Size::new(1, 1)
        }
        fn out(&mut self) -> PixelsMut<'_> {
            panic!("planted by a test");
        }
        fn end(self: Box<Self>, _: Result<TextureFormat, Refusal>) {}
    }
    let Some((gpu, host)) = opened(settings()) else {
        return;
    };
    assert!(gpu.composite(Box::new(Bad)).is_ok());
    until("the device", || {
        gpu.is_ready() && host.count(|e| *e == Event::Reopened { done: true }) > 0
    });
    let scene = Arc::new(Scene::bare(4, Size::new(9, 9), Size::new(9, 9)));
    assert_eq!(
        draw(&gpu, &[Arc::clone(&scene)]),
        [Ok(scene.by_reference())]
    );
}
