//! Frames from fake textures: what is drawn, what is charged, what is shed, what is dropped unseen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

#[cfg(feature = "gpu")]
mod by_gpu;
mod composites;
mod scratch;

use super::*;
use crate::codec::{Limits, PixelsMut, PixelsRef};
use crate::memory::BudgetConfig;
use crate::metrics::Build;

const SIZE: Size = Size::new(64, 36);

/// A picture of one colour; says when it is read and when it goes.
struct Plain {
    data: Vec<u8>,
    seen: Arc<AtomicUsize>,
    /// Reading waits for a message here.
    gate: Option<parking_lot::Mutex<mpsc::Receiver<()>>>,
    /// Reading announces itself here.
    entered: Option<mpsc::SyncSender<()>>,
}

impl Pixels for Plain {
    fn pixels(&self) -> PixelsRef<'_> {
        self.seen.fetch_add(1, Ordering::SeqCst);
        if let Some(entered) = &self.entered {
            entered.send(()).unwrap();
        }
        if let Some(gate) = &self.gate {
            gate.lock().recv().unwrap();
        }
        PixelsRef::new(&self.data, SIZE).unwrap()
    }

    fn share(&self) -> Option<Box<dyn Pixels>> {
        Some(Box::new(Self {
            data: self.data.clone(),
            seen: Arc::clone(&self.seen),
            gate: None,
            entered: None,
        }))
    }
}

const COLOUR: [u8; 4] = [200, 100, 50, 255];

fn plain(seen: &Arc<AtomicUsize>) -> Plain {
    Plain {
        data: COLOUR.repeat(SIZE.pixels() as usize),
        seen: Arc::clone(seen),
        gate: None,
        entered: None,
    }
}

fn resident(pixels: Plain) -> Resident {
    Resident {
        pixels: Box::new(pixels),
        index: 7,
        version: 3,
        access: Access::Hit,
    }
}

/// Flyweights as a test wants them: resident unless refused.
#[derive(Default)]
struct Shelf {
    refuse: Option<SourceError>,
    thumbnail: Option<Bytes>,
}

impl Textures for Shelf {
    async fn source(&self, index: u32, _deadline: Instant) -> Result<Source, SourceError> {
        match (&self.refuse, &self.thumbnail) {
            (None, _) => Ok(Source::Resident(Resident {
                index,
                access: Access::Miss,
                ..resident(plain(&Arc::default()))
            })),
            (Some(SourceError::Exhausted), Some(bytes)) => Ok(Source::Thumbnail(Thumbnail {
                bytes: bytes.clone(),
                version: 3,
            })),
            (Some(refusal), _) => Err(refusal.clone()),
        }
    }
}

struct Bench {
    frames: Frames,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

fn bench_with(critical: bool, budget: BudgetConfig, config: FramesConfig) -> Bench {
    let budget = Budget::new(budget);
    let metrics = Arc::new(Metrics::new(&Build {
        version: "0",
        features: &[],
        failpoints: &[],
    }));
    let frames = Frames::start(
        config,
        Arc::clone(&budget),
        Arc::clone(&metrics),
        move || critical,
    )
    .unwrap();
    Bench {
        frames,
        budget,
        metrics,
    }
}

fn bench(critical: bool) -> Bench {
    bench_with(
        critical,
        BudgetConfig::default(),
        FramesConfig {
            threads: 1,
            ..FramesConfig::default()
        },
    )
}

fn request(format: FrameFormat) -> FrameRequest {
    let deadline = Instant::now() + Duration::from_secs(600);
    FrameRequest {
        size: Size::new(32, 18),
        format,
        view: View::default(),
        deadline,
    }
}

fn rendered(bench: &Bench, result: RenderResult) -> u64 {
    bench.metrics.frames.renders_total.of(result).get()
}

fn thumbnail() -> Bytes {
    let data = COLOUR.repeat(SIZE.pixels() as usize);
    codec::thumbnail(PixelsRef::new(&data, SIZE).unwrap())
        .unwrap()
        .into()
}

fn decoded(file: &[u8]) -> (Size, Vec<u8>) {
    let header = codec::probe(file, &Limits::default()).unwrap();
    let mut block = vec![0; header.output_bytes() as usize];
    codec::decode(
        file,
        &header,
        PixelsMut::new(&mut block, header.size).unwrap(),
    )
    .unwrap();
    (header.size, block)
}

fn near(pixels: &[u8], colour: [u8; 4]) -> bool {
    pixels
        .chunks_exact(4)
        .all(|pixel| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 4))
}

#[tokio::test]
async fn every_format_is_delivered_in_the_size_asked_for() {
    let bench = bench(false);
    let shelf = Shelf::default();
    for format in [
        FrameFormat::Jpeg { quality: 80 },
        FrameFormat::Png,
        FrameFormat::Webp,
        FrameFormat::Rgba,
    ] {
        let frame = bench
            .frames
            .preview(&shelf, 7, &request(format))
            .await
            .unwrap();
        assert_eq!(
            (frame.index, frame.version, frame.access),
            (7, 3, Access::Miss)
        );
        assert_eq!(
            (frame.size, frame.content_type),
            (Size::new(32, 18), format.content_type())
        );
        let (size, pixels) = match format {
            FrameFormat::Rgba => (frame.size, frame.bytes.to_vec()),
            _ => decoded(&frame.bytes),
        };
        assert_eq!(size, Size::new(32, 18));
        assert!(near(&pixels, COLOUR), "{format:?}: {:?}", &pixels[..4]);
    }
    assert_eq!(rendered(&bench, RenderResult::Ok), 4);
}

#[tokio::test]
async fn opacity_shows_in_alpha_and_over_black_in_jpeg() {
    let bench = bench(false);
    let view = View {
        alpha: 128,
        ..View::default()
    };
    for (format, colour) in [
        (FrameFormat::Png, [200, 100, 50, 128]),
        (FrameFormat::Jpeg { quality: 90 }, [100, 50, 25, 255]),
    ] {
        let request = FrameRequest {
            view,
            ..request(format)
        };
        let frame = bench
            .frames
            .draw(resident(plain(&Arc::default())), &request)
            .await
            .unwrap();
        assert!(near(&decoded(&frame.bytes).1, colour), "{format:?}");
    }
}

#[tokio::test]
async fn sizes_outside_of_the_limits_are_refused() {
    let bench = bench(false);
    for size in [Size::new(0, 9), Size::new(4097, 1)] {
        let request = FrameRequest {
            size,
            ..request(FrameFormat::Rgba)
        };
        let refused = bench.frames.preview(&Shelf::default(), 7, &request).await;
        assert!(matches!(
            refused,
            Err(FrameError::Size { side_max: 4096, .. })
        ));
    }
    assert_eq!(rendered(&bench, RenderResult::Error), 0);
}

#[tokio::test]
async fn the_output_stays_charged_until_its_bytes_are_gone() {
    let bench = bench(false);
    let frame = bench
        .frames
        .preview(&Shelf::default(), 7, &request(FrameFormat::Rgba))
        .await
        .unwrap();
    let bytes = frame.bytes.slice(8..16);
    drop(frame);
    assert_eq!(bench.budget.used_by(Purpose::Encode), 32 * 18 * 4);
    drop(bytes);
    assert_eq!(bench.budget.used_by(Purpose::Encode), 0);
    let Bench { frames, budget, .. } = bench;
    drop(frames);
    assert_eq!(budget.used(), 0, "threads give their buffers back");
}

#[tokio::test]
async fn buffers_of_a_large_frame_are_not_kept() {
    let config = FramesConfig {
        threads: 1,
        keep_bytes: 100_000,
        ..FramesConfig::default()
    };
    let bench = bench_with(false, BudgetConfig::default(), config);
    let large = FrameRequest {
        size: Size::new(400, 400),
        ..request(FrameFormat::Rgba)
    };
    let shelf = Shelf::default();
    drop(bench.frames.preview(&shelf, 7, &large).await.unwrap());
    drop(
        bench
            .frames
            .preview(&shelf, 7, &request(FrameFormat::Rgba))
            .await
            .unwrap(),
    );
    assert!(bench.budget.used_by(Purpose::Render) <= 100_000);
}

#[tokio::test]
async fn without_memory_a_frame_is_shed_and_what_never_fits_says_so() {
    let budget = BudgetConfig {
        ceiling: 1 << 20,
        ..BudgetConfig::default()
    };
    let config = FramesConfig {
        threads: 1,
        reserve_wait: Duration::ZERO,
        ..FramesConfig::default()
    };
    let bench = bench_with(false, budget, config);
    let large = FrameRequest {
        size: Size::new(4000, 4000),
        ..request(FrameFormat::Rgba)
    };
    let refused = bench.frames.preview(&Shelf::default(), 7, &large).await;
    assert!(matches!(
        refused,
        Err(FrameError::TooLarge { bytes: 64_000_000 })
    ));
    let held = bench
        .budget
        .try_reserve(Purpose::Body, (1 << 20) - 100)
        .unwrap();
    let refused = bench
        .frames
        .preview(&Shelf::default(), 7, &request(FrameFormat::Rgba))
        .await;
    assert!(matches!(
        refused,
        Err(FrameError::Shed {
            reason: ShedReason::Budget,
            ..
        })
    ));
    drop(held);
    bench
        .frames
        .preview(&Shelf::default(), 7, &request(FrameFormat::Rgba))
        .await
        .unwrap();
    assert_eq!(rendered(&bench, RenderResult::Shed), 1);
}

#[tokio::test]
async fn a_thumbnail_is_drawn_in_the_size_asked_for_and_marked() {
    let bench = bench(true);
    let shelf = Shelf {
        refuse: Some(SourceError::Exhausted),
        thumbnail: Some(thumbnail()),
    };
    let ask = request(FrameFormat::Jpeg { quality: 90 });
    let frame = bench.frames.preview(&shelf, 7, &ask).await.unwrap();
    assert_eq!(
        (frame.access, frame.version, frame.index),
        (Access::Degraded, 3, 7)
    );
    let (size, pixels) = decoded(&frame.bytes);
    assert_eq!(size, ask.size);
    assert!(near(&pixels, COLOUR));
    assert_eq!(rendered(&bench, RenderResult::Degraded), 1);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let outcome = async |critical, refuse| {
        let shelf = Shelf {
            refuse: Some(refuse),
            thumbnail: None,
        };
        let bench = bench(critical);
        let error = bench
            .frames
            .preview(&shelf, 7, &request(FrameFormat::Rgba))
            .await
            .unwrap_err();
        (
            error,
            rendered(&bench, RenderResult::Error),
            rendered(&bench, RenderResult::Shed),
        )
    };
    let shed = |wanted| move |e: &FrameError| matches!(e, FrameError::Shed { reason, .. } if *reason == wanted);
    let (error, ..) = outcome(true, SourceError::Exhausted).await;
    assert!(shed(ShedReason::Governor)(&error));
    let (error, errors, sheds) = outcome(false, SourceError::Exhausted).await;
    assert!(shed(ShedReason::Budget)(&error));
    assert_eq!((errors, sheds), (0, 1));
    let (error, ..) = outcome(false, SourceError::Late).await;
    assert!(shed(ShedReason::Queue)(&error));
    assert!(matches!(
        outcome(false, SourceError::Gone).await,
        (FrameError::Gone, 0, 0)
    ));
    assert!(matches!(
        outcome(false, SourceError::Unknown).await,
        (FrameError::Unknown, 0, 0)
    ));
    let too_large = SourceError::TooLarge { bytes: 9 };
    assert!(matches!(
        outcome(false, too_large).await,
        (FrameError::SourceTooLarge { bytes: 9 }, 0, 0)
    ));
    assert!(matches!(
        outcome(false, SourceError::Load("x".into())).await,
        (FrameError::Load(_), 1, 0)
    ));
}

/// A pool of one thread that is busy until the returned sender speaks.
async fn busy(
    bench: &Arc<Bench>,
) -> (
    mpsc::Sender<()>,
    tokio::task::JoinHandle<Result<Frame, FrameError>>,
) {
    let (open, gate) = mpsc::channel();
    let (entered, inside) = mpsc::sync_channel(1);
    let seen = Arc::default();
    let pixels = Plain {
        gate: Some(parking_lot::Mutex::new(gate)),
        entered: Some(entered),
        ..plain(&seen)
    };
    let task = {
        let bench = Arc::clone(bench);
        tokio::spawn(async move {
            bench
                .frames
                .draw(resident(pixels), &request(FrameFormat::Rgba))
                .await
        })
    };
    tokio::task::spawn_blocking(move || inside.recv().unwrap())
        .await
        .unwrap();
    (open, task)
}

#[tokio::test]
async fn a_full_queue_sheds_and_late_or_abandoned_frames_give_their_places_back() {
    let config = FramesConfig {
        threads: 1,
        queue_max: 1,
        ..FramesConfig::default()
    };
    let bench = Arc::new(bench_with(false, BudgetConfig::default(), config));
    let (open, first) = busy(&bench).await;

    let seen: Arc<AtomicUsize> = Arc::default();
    let late = FrameRequest {
        deadline: Instant::now(),
        ..request(FrameFormat::Rgba)
    };
    let refused = bench.frames.draw(resident(plain(&seen)), &late).await;
    assert!(matches!(
        refused,
        Err(FrameError::Shed {
            reason: ShedReason::Queue,
            ..
        })
    ));
    assert_eq!(bench.frames.pool.waiting(), 0, "its place is free again");
    let abandoned = {
        let (bench, pixels) = (Arc::clone(&bench), plain(&seen));
        tokio::spawn(async move {
            bench
                .frames
                .draw(resident(pixels), &request(FrameFormat::Rgba))
                .await
        })
    };
    while bench.frames.pool.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let refused = bench
        .frames
        .draw(resident(plain(&seen)), &request(FrameFormat::Rgba))
        .await;
    assert!(
        matches!(
            refused,
            Err(FrameError::Shed {
                reason: ShedReason::Queue,
                ..
            })
        ),
        "the queue is full"
    );
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    assert_eq!(bench.frames.pool.waiting(), 0, "while the thread is busy");

    open.send(()).unwrap();
    first.await.unwrap().unwrap();
    bench
        .frames
        .draw(
            resident(plain(&Arc::default())),
            &request(FrameFormat::Rgba),
        )
        .await
        .unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_panic_while_drawing_costs_one_frame() {
    struct Bad;
    impl Pixels for Bad {
        fn pixels(&self) -> PixelsRef<'_> {
            panic!("planted by a test")
        }
    }
    let bench = bench(false);
    let bad = Resident {
        pixels: Box::new(Bad),
        index: 1,
        version: 1,
        access: Access::Hit,
    };
    let ask = request(FrameFormat::Rgba);
    assert!(matches!(
        bench.frames.draw(bad, &ask).await,
        Err(FrameError::Internal(_))
    ));
    bench
        .frames
        .draw(resident(plain(&Arc::default())), &ask)
        .await
        .unwrap();
}

#[test]
fn settings_are_checked() {
    assert_eq!(FramesConfig::default().validate(), Ok(()));
    for bad in [
        FramesConfig {
            threads: 0,
            ..FramesConfig::default()
        },
        FramesConfig {
            queue_max: 0,
            ..FramesConfig::default()
        },
        FramesConfig {
            composite_threads: 0,
            ..FramesConfig::default()
        },
        FramesConfig {
            composite_queue_max: 0,
            ..FramesConfig::default()
        },
        FramesConfig {
            side_max: 70_000,
            ..FramesConfig::default()
        },
    ] {
        assert!(bad.validate().is_err());
    }
}
