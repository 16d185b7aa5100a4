//! What a composite's thread holds at its peak was charged before: for every form in, every format out, and whatever stands behind.

#[path = "../../../tests/support/peak.rs"]
pub(super) mod peak;

use super::*;
use crate::frames::draw::{Backing, Wanted};
use peak::GRAIN;

/// Small enough to be quick, and far larger than what a peak is known to.
const SMALL: Size = Size::new(640, 361);
const LARGE: Size = Size::new(1001, 700);

fn picture(size: Size) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size.bytes()).map(|_| next()).collect()
}

fn file(size: Size, encode: impl FnOnce(PixelsRef<'_>, &mut Vec<u8>)) -> Part {
    let mut file = Vec::new();
    encode(PixelsRef::new(&picture(size), size).unwrap(), &mut file);
    let header = codec::probe(&file, &Limits::default()).unwrap();
    Part::File(file.into(), header)
}

fn png(size: Size) -> Part {
    file(size, |pixels, out| codec::encode_png(pixels, out).unwrap())
}

fn webp(size: Size) -> Part {
    file(size, |pixels, out| codec::encode_webp(pixels, out).unwrap())
}

fn jpeg(size: Size) -> Part {
    file(size, |pixels, out| {
        codec::encode_jpeg(pixels, 80, out).unwrap();
    })
}

fn raw(bytes: u64) -> Part {
    Part::Raw(vec![90; bytes as usize].into())
}

/// Every form in which a frame of this size comes.
pub(super) fn overlays(size: Size) -> [Overlay; 5] {
    let masked = |foreground, mask| Overlay::new(size, foreground, mask).unwrap();
    [
        masked(raw(size.bytes()), Some(raw(size.pixels()))),
        masked(raw(size.bytes()), None),
        masked(png(size), Some(jpeg(size))),
        masked(webp(size), Some(png(size))),
        masked(jpeg(size), None),
    ]
}

/// All that can stand behind it.
fn backings() -> [Backing; 3] {
    [
        Backing::Pixels(Box::new(plain(&Arc::default()))),
        Backing::Thumbnail(thumbnail()),
        Backing::Blur(Radius::new(9).unwrap()),
    ]
}

pub(super) const FORMATS: [FrameFormat; 4] = [
    FrameFormat::Jpeg { quality: 95 },
    FrameFormat::Png,
    FrameFormat::Webp,
    FrameFormat::Rgba,
];

fn compose(easel: &mut Easel, backing: Backing, overlay: Overlay, format: FrameFormat) {
    let size = overlay.size();
    let deadline = Instant::now() + Duration::from_secs(600);
    let ask = FrameRequest {
        size,
        format,
        // Not the 1:1 case, which takes less.
        view: View {
            scale: 3 << 15,
            alpha: 200,
            ..View::default()
        },
        deadline,
    };
    let wanted = Wanted {
        deadline,
        gone: &|| false,
    };
    let composed = easel.compose(backing, Some(overlay), &ask, &wanted);
    assert!(!composed.unwrap().is_empty());
}

#[test]
fn a_composite_holds_no_more_than_was_charged() {
    for format in FORMATS {
        for (form, overlay) in overlays(SMALL).into_iter().enumerate() {
            for (behind, backing) in backings().into_iter().enumerate() {
                let budget = Budget::new(BudgetConfig::default());
                let mut easel = Easel::new(Arc::clone(&budget), 0);
                peak::reset();
                compose(&mut easel, backing, overlay.clone(), format);
                let (peak, charged) = (peak::bytes(), budget.report().peak);
                assert!(
                    peak <= charged + GRAIN,
                    "{format:?}, form {form} over {behind}: {peak} bytes, {charged} charged"
                );
                // Nor is everything charged, within which anything would stay.
                let most = 16 * SMALL.bytes() + overlay.scratch_bytes();
                assert!(
                    charged <= most,
                    "{format:?}, form {form} over {behind}: {charged} of {most} charged"
                );
            }
        }
    }
}

#[test]
fn buffers_that_grow_with_a_larger_frame_stay_within_the_charge() {
    let forms = [SMALL, LARGE].map(overlays);
    let budget = Budget::new(BudgetConfig::default());
    let mut easel = Easel::new(Arc::clone(&budget), 64 << 20);
    peak::reset();
    for overlay in forms.iter().flatten() {
        for backing in backings() {
            compose(&mut easel, backing, overlay.clone(), FrameFormat::Png);
            easel.tidy();
            assert!(budget.used() > 0, "buffers are kept");
        }
    }
    let (peak, charged) = (peak::bytes(), budget.report().peak);
    assert!(peak <= charged + GRAIN, "{peak} bytes, {charged} charged");
}
