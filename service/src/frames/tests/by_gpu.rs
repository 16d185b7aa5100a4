//! Composites by a GPU beside those by the CPU: the same bytes, within what was charged, whatever goes wrong on the way.
//!
//! Without an adapter these tests say so and do nothing; with `BACKDROP_NEEDS_GPU_ADAPTER=1` they fail then.

use std::io::Write;

use super::scratch::{FORMATS, overlays, peak};
use super::*;
use crate::frames::composite::by_gpu::{Sum, encode, lay_out};
use crate::frames::gpu::{Canvas, GpuConfig, GpuTextures, RendererChoice};
use crate::metrics::{GpuEncoded, GpuFallback};

const FRAME: Size = Size::new(120, 67);

/// The bench with a GPU, if there is an adapter.
fn bench_with_gpu(budget: BudgetConfig, staging_bytes: u64) -> Option<Bench> {
    let config = GpuConfig {
        staging_bytes,
        ..GpuConfig::default()
    };
    bench_with_such_a_gpu(budget, config)
}

fn bench_with_such_a_gpu(budget: BudgetConfig, config: GpuConfig) -> Option<Bench> {
    let bench = bench_with(false, budget, FramesConfig::default());
    let config = GpuConfig {
        renderer: RendererChoice::Gpu,
        software: true,
        texture_bytes_max: 16 << 20,
        ..config
    };
    let gpu = Gpu::open(&config, &bench.budget, &bench.metrics);
    let gpu = gpu.map_err(|cause| {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        drop(writeln!(std::io::stderr(), "SKIPPED {test}: {cause}"));
        let needed = std::env::var("BACKDROP_NEEDS_GPU_ADAPTER").is_ok_and(|value| value == "1");
        assert!(!needed, "a GPU adapter is needed: {cause}");
    });
    let gpu = gpu.ok()?.map(Arc::new);
    let Bench {
        frames,
        budget,
        metrics,
    } = bench;
    Some(Bench {
        frames: frames.with_gpu(gpu),
        budget,
        metrics,
    })
}

fn drawn_by(bench: &Bench, drawer: Drawer) -> u64 {
    bench.metrics.gpu.frames_drawn_total.of(drawer).get()
}

fn ask(overlay: Option<Overlay>, format: FrameFormat, backdrop: Backdrop) -> CompositeRequest {
    CompositeRequest {
        frame: FrameRequest {
            size: FRAME,
            view: View {
                scale: 3 << 15,
                alpha: 200,
                ..View::default()
            },
            ..request(format)
        },
        overlay,
        backdrop,
    }
}

async fn bytes(bench: &Bench, request: CompositeRequest) -> Bytes {
    let composite = bench.frames.composite(&Shelf::default(), request).await;
    composite.unwrap().bytes
}

#[tokio::test]
async fn every_form_and_format_is_what_the_cpu_makes_of_it() {
    let Some(gpu) = bench_with_gpu(BudgetConfig::default(), 16 << 20) else {
        return;
    };
    let cpu = bench(false);
    let forms = overlays(FRAME).map(Some).into_iter().chain([None]);
    for (form, overlay) in forms.enumerate() {
        for format in FORMATS {
            let ask = || ask(overlay.clone(), format, Backdrop::Flyweight(7));
            let (by_gpu, by_cpu) = tokio::join!(bytes(&gpu, ask()), bytes(&cpu, ask()));
            assert!(by_gpu == by_cpu, "form {form} as {format:?}");
        }
    }
    let frames = 6 * FORMATS.len() as u64;
    assert_eq!(drawn_by(&gpu, Drawer::Gpu), frames);
    assert_eq!(drawn_by(&cpu, Drawer::Cpu), frames);
    // All but the GPU's own buffers is given back, on threads that may be kept for it.
    while gpu.budget.used() > gpu.budget.used_by(Purpose::Gpu) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_stands_behind_one_frame_only_is_the_cpus() {
    let Some(gpu) = bench_with_gpu(BudgetConfig::default(), 16 << 20) else {
        return;
    };
    let cpu = bench(false);
    let size = Size::new(40, 30);
    let picture = Picture::new(vec![90; size.bytes() as usize].into(), size, 4).unwrap();
    let picture = Arc::new(picture);
    let [overlay, ..] = overlays(FRAME);
    for behind in 0..2 {
        let ask = || {
            let backdrop = match behind {
                0 => Backdrop::Stream(Arc::clone(&picture)),
                _ => Backdrop::Blur(Radius::new(5).unwrap()),
            };
            ask(Some(overlay.clone()), FrameFormat::Png, backdrop)
        };
        assert!(bytes(&gpu, ask()).await == bytes(&cpu, ask()).await);
    }
    assert_eq!(drawn_by(&gpu, Drawer::Gpu), 0);
    assert_eq!(drawn_by(&gpu, Drawer::Cpu), 2);
}

/// A GPU of small buffers, in a budget that gives a composite to the CPU but not all that a GPU would take beside it.
#[tokio::test]
async fn what_a_gpu_has_no_room_for_goes_the_cpus_way() {
    let budget = BudgetConfig {
        ceiling: 64 << 20,
        ..BudgetConfig::default()
    };
    let Some(gpu) = bench_with_gpu(budget, 1 << 20) else {
        return;
    };
    let cpu = bench(false);
    let large = |size: Size, overlay| {
        let mut ask = ask(overlay, FrameFormat::Rgba, Backdrop::Flyweight(7));
        ask.frame.size = size;
        ask
    };
    // Longer than the buffers, known once it is there.
    let size = Size::new(700, 500);
    let [.., alone] = overlays(size);
    let ask = || large(size, Some(alone.clone()));
    assert!(bytes(&gpu, ask()).await == bytes(&cpu, ask()).await);
    assert_eq!(drawn_by(&gpu, Drawer::Cpu), 1);
    let too_large = gpu.metrics.gpu.fallbacks_total.of(GpuFallback::TooLarge);
    assert_eq!(too_large.get(), 1);
    // What can never fit is told by the CPU's sum.
    let ask = large(Size::new(4096, 4096), None);
    let refused = gpu.frames.composite(&Shelf::default(), ask).await;
    assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
}

/// It waits for others to be drawn with, for ever: to a composite it is a device that hangs.
#[tokio::test]
async fn a_composite_does_not_wait_for_a_gpu_until_it_is_too_late() {
    let config = GpuConfig {
        staging_bytes: 16 << 20,
        window: Duration::from_secs(3600),
        ..GpuConfig::default()
    };
    let Some(gpu) = bench_with_such_a_gpu(BudgetConfig::default(), config) else {
        return;
    };
    let cpu = bench(false);
    let [raw, .., alone] = overlays(FRAME);
    for overlay in [raw, alone] {
        let ask = || {
            ask(
                Some(overlay.clone()),
                FrameFormat::Png,
                Backdrop::Flyweight(7),
            )
        };
        let mut soon = ask();
        soon.frame.deadline = Instant::now() + Duration::from_secs(4);
        assert!(bytes(&gpu, soon).await == bytes(&cpu, ask()).await);
    }
    let late = gpu.metrics.gpu.fallbacks_total.of(GpuFallback::Late);
    assert_eq!((late.get(), drawn_by(&gpu, Drawer::Cpu)), (2, 2));
}

/// Blocks are made aside, while the CPU draws; where memory is short they go with what they are charged, and come back.
#[tokio::test]
async fn textures_of_blocks_are_charged_and_go_when_memory_is_short() {
    let config = GpuConfig {
        staging_bytes: 16 << 20,
        textures: GpuTextures::Bc7,
        ..GpuConfig::default()
    };
    let Some(bench) = bench_with_such_a_gpu(BudgetConfig::default(), config) else {
        return;
    };
    assert!(!bench.frames.is_exact());
    let buffers = bench.budget.used_by(Purpose::Gpu);
    let (shelf, ask) = (Shelf::default(), request(FrameFormat::Rgba));
    let metrics = &bench.metrics.gpu;
    let encoding = metrics.fallbacks_total.of(GpuFallback::Encoding);
    for times in 1..=2 {
        let before = encoding.get();
        loop {
            let frame = bench.frames.preview(&shelf, 7, &ask).await.unwrap();
            let pixels = frame.bytes.as_chunks::<4>().0;
            let near = |pixel: &[u8; 4]| pixel.iter().zip(COLOUR).all(|(a, b)| a.abs_diff(b) <= 2);
            assert!(pixels.iter().all(near));
            if !frame.exact {
                break;
            }
            assert!(frame.bytes == COLOUR.repeat(ask.size.pixels() as usize));
        }
        assert!(encoding.get() > before, "the first one was the CPU's");
        assert_eq!(metrics.texture_bytes.get(), SIZE.pixels() as i64);
        let slab = bench.budget.used_by(Purpose::Gpu) - buffers;
        assert_eq!(slab, 4 << 20, "a quarter of what textures may take");
        assert_eq!(metrics.encodes_total.of(GpuEncoded::Ok).get(), times);
        let gpu = bench.frames.gpu.as_ref().unwrap();
        gpu.trim();
        while bench.budget.used_by(Purpose::Gpu) > buffers {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(metrics.inexact_frames_total.get(), 2);
}

#[test]
fn both_stages_hold_no_more_than_was_charged() {
    let size = Size::new(640, 361);
    for format in FORMATS {
        for (form, overlay) in overlays(size).into_iter().enumerate() {
            let budget = Budget::new(BudgetConfig::default());
            let ask = FrameRequest {
                size,
                ..request(format)
            };
            let sum = Sum::of(Some(&overlay), &ask);
            let Sum {
                lay,
                canvas,
                encode: output,
            } = sum;
            let mut charge = budget
                .try_reserve(Purpose::Render, lay + canvas + output)
                .unwrap();
            peak::reset();
            let laid = lay_out(overlay, charge.split(lay)).unwrap();
            assert!(laid.laid().is_some(), "form {form}");
            let drawn = Canvas {
                pixels: vec![70; size.bytes() as usize],
                exact: true,
                charge: charge.split(canvas),
            };
            drop(laid);
            let encoded = encode(drawn, &ask, charge).unwrap();
            let (peak, charged) = (peak::bytes(), budget.report().peak);
            assert!(
                peak <= charged + peak::GRAIN,
                "{format:?}, form {form}: {peak} bytes, {charged} charged"
            );
            drop(encoded);
            assert_eq!(budget.used(), 0);
        }
    }
}
