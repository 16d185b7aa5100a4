//! Composites from fake textures: what is drawn, who waits where, who is told what, and what is given back.

use super::*;
use crate::metrics::{CompositeResult, PushResult};
use crate::render::cpu::reference;
use crate::render::{Blur, Foreground};

const FRAME: Size = Size::new(32, 18);

fn noise(bytes: u64, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn overlay() -> Overlay {
    let part = |bytes, seed| Part::Raw(noise(bytes, seed).into());
    let mask = part(FRAME.pixels(), 2);
    Overlay::new(FRAME, part(FRAME.bytes(), 1), Some(mask)).unwrap()
}

fn asked(backdrop: Backdrop) -> CompositeRequest {
    CompositeRequest {
        frame: request(FrameFormat::Rgba),
        overlay: Some(overlay()),
        backdrop,
    }
}

fn owned(pixels: Plain) -> CompositeRequest {
    asked(Backdrop::Owned(resident(pixels)))
}

fn count(bench: &Bench, result: CompositeResult) -> u64 {
    bench.metrics.composites.results_total.of(result).get()
}

/// What the reference makes of the overlay over `background`.
fn expected(background: &[u8], size: Size, view: View) -> Vec<u8> {
    let (over, mask) = (noise(FRAME.bytes(), 1), noise(FRAME.pixels(), 2));
    let mut out = vec![0; FRAME.bytes() as usize];
    reference::composite(
        PixelsRef::new(background, size).unwrap(),
        &view.transform(size),
        Foreground::new(FRAME, &over, &mask),
        PixelsMut::new(&mut out, FRAME).unwrap(),
    );
    out
}

async fn drawn(bench: &Bench, request: CompositeRequest) -> Result<Composite, FrameError> {
    bench.frames.composite(&Shelf::default(), request).await
}

#[tokio::test]
async fn an_overlay_lies_over_the_texture() {
    let bench = bench(false);
    let background = COLOUR.repeat(SIZE.pixels() as usize);
    let composite = drawn(&bench, asked(Backdrop::Flyweight(7))).await.unwrap();
    assert!(composite.bytes == expected(&background, SIZE, View::default()));
    let stood = Stood::Image {
        index: 7,
        version: 3,
        access: Access::Miss,
    };
    assert_eq!(composite.stood, stood);
    assert_eq!(count(&bench, CompositeResult::Ok), 1);
    drop(composite);
    let Bench { frames, budget, .. } = bench;
    drop(frames);
    assert_eq!(budget.used(), 0, "threads give their buffers back");
}

#[tokio::test]
async fn a_stream_is_seen_by_the_view_and_a_blur_is_not() {
    let bench = bench(false);
    let size = Size::new(40, 30);
    let pixels = noise(size.bytes(), 3);
    let picture = Picture::new(pixels.clone().into(), size, 9).unwrap();
    let view = View {
        scale: 3 << 15,
        alpha: 90,
        ..View::default()
    };
    let with_view = |backdrop| {
        let mut request = asked(backdrop);
        request.frame.view = view;
        request
    };
    let composite = drawn(&bench, with_view(Backdrop::Stream(Arc::new(picture)))).await;
    let composite = composite.unwrap();
    assert!(composite.bytes == expected(&pixels, size, view));
    assert_eq!(composite.stood, Stood::Stream { sequence: 9 });

    let radius = Radius::new(5).unwrap();
    let composite = drawn(&bench, with_view(Backdrop::Blur(radius))).await;
    let over = noise(FRAME.bytes(), 1);
    let mut blurred = over.clone();
    Blur::default().draw(
        PixelsRef::new(&over, FRAME).unwrap(),
        radius,
        PixelsMut::new(&mut blurred, FRAME).unwrap(),
    );
    assert!(composite.unwrap().bytes == expected(&blurred, FRAME, View::default()));

    let nothing = CompositeRequest {
        overlay: None,
        ..asked(Backdrop::Blur(radius))
    };
    let refused = drawn(&bench, nothing).await;
    assert!(matches!(refused, Err(FrameError::NoForeground)));
    assert_eq!(count(&bench, CompositeResult::Rejected), 1);
}

#[tokio::test]
async fn a_thumbnail_takes_the_place_of_a_texture_that_has_no_room() {
    let bench = bench(true);
    let shelf = Shelf {
        refuse: Some(SourceError::Exhausted),
        thumbnail: Some(thumbnail()),
    };
    let request = asked(Backdrop::Flyweight(7));
    let composite = bench.frames.composite(&shelf, request).await.unwrap();
    let (size, pixels) = decoded(&thumbnail());
    assert!(composite.bytes == expected(&pixels, size, View::default()));
    assert_eq!(count(&bench, CompositeResult::Degraded), 1);

    let shelf = Shelf {
        refuse: Some(SourceError::Exhausted),
        thumbnail: None,
    };
    let request = asked(Backdrop::Flyweight(7));
    let refused = bench.frames.composite(&shelf, request).await;
    assert!(matches!(
        refused,
        Err(FrameError::Shed {
            reason: ShedReason::Governor
        })
    ));
}

/// A composite that keeps its thread while it looks at its pixels for the first time.
struct Busy {
    gate: mpsc::Sender<()>,
    /// Looks at its pixels: at their size first, then to draw them.
    looks: Arc<AtomicUsize>,
    /// Where looks announce themselves, though only the first one is awaited.
    _announced: mpsc::Receiver<()>,
    task: tokio::task::JoinHandle<Result<Composite, FrameError>>,
}

impl Busy {
    async fn keep(bench: &Arc<Bench>) -> Self {
        let (gate, closed) = mpsc::channel();
        let (entered, inside) = mpsc::sync_channel(2);
        let looks = Arc::default();
        let pixels = Plain {
            gate: Some(parking_lot::Mutex::new(closed)),
            entered: Some(entered),
            ..plain(&looks)
        };
        let task = {
            let bench = Arc::clone(bench);
            tokio::spawn(async move { drawn(&bench, owned(pixels)).await })
        };
        let first = tokio::task::spawn_blocking(move || {
            inside.recv().unwrap();
            inside
        });
        Self {
            gate,
            looks,
            _announced: first.await.unwrap(),
            task,
        }
    }

    /// Lets it go on, to its end.
    async fn open(self) {
        for _ in 0..2 {
            self.gate.send(()).unwrap();
        }
        self.task.await.unwrap().unwrap();
        assert_eq!(self.looks.load(Ordering::SeqCst), 2);
    }

    /// Leaves it, and then lets it go on: there is nothing to hold a second look up.
    async fn leave(self) -> Arc<AtomicUsize> {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.gate.send(()).unwrap();
        self.looks
    }
}

fn narrow(queue_max: usize) -> Arc<Bench> {
    let config = FramesConfig {
        threads: 1,
        composite_threads: 1,
        composite_queue_max: queue_max,
        ..FramesConfig::default()
    };
    Arc::new(bench_with(false, BudgetConfig::default(), config))
}

#[tokio::test]
async fn the_queue_is_bounded_and_leaves_previews_alone() {
    let bench = narrow(1);
    let busy = Busy::keep(&bench).await;
    let seen: Arc<AtomicUsize> = Arc::default();
    let waiting = {
        let (bench, pixels) = (Arc::clone(&bench), plain(&Arc::default()));
        tokio::spawn(async move { drawn(&bench, owned(pixels)).await })
    };
    while !bench.frames.composites.is_full() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.metrics.composites.waiting.get(), 1);
    let refused = drawn(&bench, owned(plain(&seen))).await;
    assert!(matches!(
        refused,
        Err(FrameError::Shed {
            reason: ShedReason::Queue
        })
    ));
    assert_eq!(count(&bench, CompositeResult::Shed), 1);
    // At the door they are counted, too.
    assert!(!bench.frames.admits_composite());
    assert_eq!(count(&bench, CompositeResult::Shed), 2);
    assert_eq!(bench.frames.refuses_push(), Some(ShedReason::Queue));
    assert_eq!(pushed(&bench, PushResult::Shed), 1);
    let ask = request(FrameFormat::Rgba);
    let preview = bench.frames.preview(&Shelf::default(), 7, &ask).await;
    assert!(preview.is_ok(), "drawn by other threads");
    busy.open().await;
    waiting.await.unwrap().unwrap();
    assert!(bench.frames.admits_composite() && bench.frames.refuses_push().is_none());
    assert_eq!(count(&bench, CompositeResult::Shed), 2);
    assert_eq!(pushed(&bench, PushResult::Shed), 1);
    assert_eq!(bench.metrics.composites.waiting.get(), 0);
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn who_leaves_or_comes_too_late_gives_the_place_back_undrawn() {
    let bench = narrow(1);
    let busy = Busy::keep(&bench).await;
    let seen: Arc<AtomicUsize> = Arc::default();
    let mut late = owned(plain(&seen));
    late.frame.deadline = Instant::now();
    assert!(matches!(drawn(&bench, late).await, Err(FrameError::Late)));
    assert!(
        !bench.frames.composites.is_full(),
        "while the thread is busy"
    );

    let leaving = {
        let (bench, pixels) = (Arc::clone(&bench), plain(&seen));
        tokio::spawn(async move { drawn(&bench, owned(pixels)).await })
    };
    while !bench.frames.composites.is_full() {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert!(!bench.frames.composites.is_full());
    assert_eq!(count(&bench, CompositeResult::Late), 1);
    assert_eq!(count(&bench, CompositeResult::Cancelled), 1);
    busy.open().await;
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_finished() {
    let bench = narrow(1);
    let busy = Busy::keep(&bench).await;
    let looks = busy.leave().await;
    drawn(&bench, owned(plain(&Arc::default()))).await.unwrap();
    assert_eq!(looks.load(Ordering::SeqCst), 1, "its pixels were not drawn");
    assert_eq!(count(&bench, CompositeResult::Ok), 1);
    assert_eq!(count(&bench, CompositeResult::Cancelled), 1);
}

#[tokio::test]
async fn a_composite_that_can_never_fit_is_told_apart() {
    let budget = BudgetConfig {
        ceiling: 64 << 10,
        ..BudgetConfig::default()
    };
    let bench = bench_with(false, budget, FramesConfig::default());
    let mut large = owned(plain(&Arc::default()));
    large.overlay = None;
    large.frame.size = Size::new(400, 400);
    let refused = drawn(&bench, large).await;
    assert!(matches!(refused, Err(FrameError::TooLarge { .. })));

    let mut small = owned(plain(&Arc::default()));
    small.frame.format = FrameFormat::Rgba;
    let held = bench
        .budget
        .try_reserve(Purpose::Body, (64 << 10) - 100)
        .unwrap();
    let refused = drawn(&bench, small).await;
    assert!(matches!(
        refused,
        Err(FrameError::Shed {
            reason: ShedReason::Budget
        })
    ));
    drop(held);
    assert!(drawn(&bench, owned(plain(&Arc::default()))).await.is_ok());
}

fn file(seed: u32) -> Part {
    let pixels = noise(FRAME.bytes(), seed);
    let mut file = Vec::new();
    codec::encode_png(PixelsRef::new(&pixels, FRAME).unwrap(), &mut file).unwrap();
    let header = codec::probe(&file, &Limits::default()).unwrap();
    Part::File(file.into(), header)
}

fn pushed(bench: &Bench, result: PushResult) -> u64 {
    bench.metrics.sources.frames_total.of(result).get()
}

fn sources(bench: &Bench, config: SourcesConfig) -> Sources {
    Sources::new(
        config,
        Arc::clone(&bench.budget),
        Arc::clone(&bench.metrics),
    )
}

fn stream_of(sources: &Sources) -> Arc<Stream> {
    stream_at(sources, 1)
}

fn stream_at(sources: &Sources, key: u64) -> Arc<Stream> {
    match sources.set(key, None, || true).unwrap() {
        SourceState::Stream(stream) => stream,
        SourceState::Blur(_) => panic!("a stream was asked for"),
    }
}

#[tokio::test]
async fn a_pushed_file_is_decoded_charged_and_gone_when_its_stream_ends() {
    let bench = bench(false);
    let sources = sources(&bench, SourcesConfig::default());
    let stream = stream_of(&sources);
    let soon = Instant::now() + Duration::from_secs(600);
    let push = bench.frames.push(&sources, &stream, FRAME, file(5), soon);
    let first = push.await.unwrap();
    assert!(first.shown && first.sequence == 1);
    let Behind::Stream(picture) = sources.behind(1) else {
        panic!("a fresh frame");
    };
    assert!(picture.pixels().data() == noise(FRAME.bytes(), 5));
    let with_entry = bench.budget.used_by(Purpose::Streams);
    assert!(with_entry >= FRAME.bytes());

    let part = Part::Raw(noise(FRAME.bytes(), 6).into());
    let second = bench.frames.push(&sources, &stream, FRAME, part, soon);
    assert_eq!(second.await.unwrap().sequence, 2);
    drop(picture);
    sources.close(1);
    // Pixels go where a thread may be kept for them.
    while bench.budget.used_by(Purpose::Streams) > 0 {
        tokio::task::yield_now().await;
    }
    let part = Part::Raw(noise(FRAME.bytes(), 7).into());
    let after = bench.frames.push(&sources, &stream, FRAME, part, soon);
    assert!(!after.await.unwrap().shown, "the stream is closed");
    assert_eq!(pushed(&bench, PushResult::Ok), 2);
    assert_eq!(pushed(&bench, PushResult::Overtaken), 1);
}

#[tokio::test]
async fn a_frame_that_is_overtaken_while_it_waits_is_not_decoded() {
    let bench = narrow(8);
    let sources = sources(&bench, SourcesConfig::default());
    let stream = stream_of(&sources);
    let busy = Busy::keep(&bench).await;
    let soon = Instant::now() + Duration::from_secs(600);
    let waits = bench.frames.push(&sources, &stream, FRAME, file(5), soon);
    let overtakes = async {
        while bench.frames.composites.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        let part = Part::Raw(noise(FRAME.bytes(), 6).into());
        let newest = bench.frames.push(&sources, &stream, FRAME, part, soon);
        let newest = newest.await.unwrap();
        busy.open().await;
        newest
    };
    let (waited, newest) = tokio::join!(waits, overtakes);
    assert!(!waited.unwrap().shown && newest.shown);
    assert_eq!(stream.newest().map(|newest| newest.sequence()), Some(2));
}

#[tokio::test]
async fn a_later_frame_that_comes_to_nothing_takes_none_along() {
    let bench = narrow(8);
    let sources = sources(&bench, SourcesConfig::default());
    let stream = stream_of(&sources);
    let busy = Busy::keep(&bench).await;
    let soon = Instant::now() + Duration::from_secs(600);
    let Part::File(whole, header) = file(6) else {
        unreachable!("a file")
    };
    let broken = Part::File(whole.slice(..whole.len() / 2), header);
    let first = bench.frames.push(&sources, &stream, FRAME, file(5), soon);
    let second = bench.frames.push(&sources, &stream, FRAME, broken, soon);
    let both_wait = async {
        while bench.frames.composites.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        busy.open().await;
    };
    let (first, second, ()) = tokio::join!(first, second, both_wait);
    assert!(matches!(second, Err(FrameError::Codec(_))));
    let first = first.unwrap();
    assert!(first.shown && first.sequence == 1);
    assert_eq!(stream.newest().map(|newest| newest.sequence()), Some(1));
}

#[tokio::test]
async fn frames_of_streams_have_a_bound_of_their_own() {
    let bench = bench(false);
    let config = SourcesConfig {
        stream_bytes_max: FRAME.bytes() * 3 / 2,
        stale_after: Duration::from_secs(600),
        ..SourcesConfig::default()
    };
    let sources = sources(&bench, config);
    let (stream, other) = (stream_of(&sources), stream_at(&sources, 2));
    let soon = Instant::now() + Duration::from_secs(600);
    let push = |stream, size: Size| {
        let part = Part::Raw(noise(size.bytes(), 6).into());
        bench.frames.push(&sources, stream, size, part, soon)
    };
    assert!(push(&stream, FRAME).await.unwrap().shown);
    let is_shed = |refused| {
        let reason = ShedReason::Budget;
        matches!(refused, Err(FrameError::Shed { reason: of }) if of == reason)
    };
    assert!(is_shed(push(&other, FRAME).await));
    // One frame takes another's place, even while it cannot go: once, until it has done so.
    let held = stream.newest().unwrap();
    let replacing = sources.room(&stream, FRAME.bytes()).unwrap();
    assert!(is_shed(push(&stream, FRAME).await));
    drop(replacing);
    assert!(push(&stream, FRAME).await.unwrap().shown);
    assert!(is_shed(push(&other, Size::new(1, 1)).await), "two are held");
    drop(held);
    for _ in 0..3 {
        assert!(push(&stream, FRAME).await.unwrap().shown);
    }
    assert!(is_shed(push(&other, FRAME).await));
    assert!(push(&other, Size::new(1, 1)).await.unwrap().shown);
    let refused = push(&stream, Size::new(64, 36)).await;
    assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
}

#[tokio::test]
async fn a_stale_frame_gives_way_to_the_image_and_to_other_streams() {
    let bench = bench(false);
    let config = SourcesConfig {
        stale_after: Duration::ZERO,
        stream_bytes_max: FRAME.bytes(),
        ..SourcesConfig::default()
    };
    let sources = sources(&bench, config);
    let stream = stream_of(&sources);
    let soon = Instant::now() + Duration::from_secs(600);
    for sequence in 1..=3 {
        let part = Part::Raw(noise(FRAME.bytes(), 1).into());
        let push = bench.frames.push(&sources, &stream, FRAME, part, soon);
        assert_eq!(push.await.unwrap().sequence, sequence);
        assert!(matches!(sources.behind(1), Behind::Image));
        let other = sources.room(&Arc::default(), FRAME.bytes());
        assert!(other.is_some());
    }
    assert!(stream.newest().is_none(), "it made room for another");
}
