//! What is measured, what counts as the same work, and what is aimed for.

use std::fmt;

/// One kind of work.
pub struct Kind {
    /// Its name in `pixels.py`.
    pub key: &'static str,
    /// Its name in the table.
    pub name: &'static str,
    /// The least likeness to ours in decibels that counts as the same work.
    pub likeness: f64,
}

const fn kind(key: &'static str, name: &'static str, likeness: f64) -> Kind {
    Kind {
        key,
        name,
        likeness,
    }
}

/// All of them. Where the work is one formula for each pixel, only its rounding may differ; where libraries place samples, cut kernels
/// off or end at edges in ways of their own, more; an encoder is held to what it started from.
pub const KINDS: [Kind; 7] = [
    kind("composite", "composite 1080p 1:1", 60.0),
    kind("bilinear", "composite 1080p bilinear", 40.0),
    kind("blur", "blur 1080p, radius 40", 38.0),
    kind("shrink", "resize 1080p to 640x360", 45.0),
    kind("enlarge", "resize 1080p to 2560x1440", 38.0),
    kind("decode", "decode 1080p JPEG", 38.0),
    kind("encode", "encode 1080p JPEG q80", 34.0),
];

/// What is aimed for: the largest share of that peer's time. Of several ways of one library the fastest is the one that matters.
pub fn goal(key: &str, peer: &str) -> Option<f64> {
    let library = peer.split(',').next().unwrap_or_default();
    match (key, library) {
        // It lacks a part of the work.
        ("composite", "libyuv") if peer.ends_with("beforehand") => None,
        ("composite", "pixman" | "libyuv") => Some(1.0 / 1.7),
        ("composite", "OpenCV") => Some(1.0 / 4.0),
        ("bilinear", "OpenCV") => Some(1.0 / 3.0),
        ("decode", "libjpeg-turbo") if peer == library => Some(1.5),
        _ => None,
    }
}

/// How far two pictures are apart.
pub struct Alike {
    /// Peak signal to noise.
    pub decibels: f64,
    /// Largest difference of a channel.
    pub apart: u8,
}

impl fmt::Display for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decibels, apart } = self;
        write!(f, "{decibels:.1} dB alike, {apart} levels apart at most")
    }
}

/// Compares a picture of RGBA with one of RGBA or RGB; alpha does not count. Of another size, they are not alike at all.
pub fn alike(ours: &[u8], theirs: &[u8]) -> Alike {
    let pixels = ours.len() / 4;
    let step = theirs.len() / pixels;
    if !matches!(step, 3 | 4) || !theirs.len().is_multiple_of(pixels) {
        return Alike {
            decibels: 0.0,
            apart: u8::MAX,
        };
    }
    let (mut squares, mut apart) = (0, 0);
    for (a, b) in ours.chunks_exact(4).zip(theirs.chunks_exact(step)) {
        for channel in 0..3 {
            let far = a[channel].abs_diff(b[channel]);
            squares += u64::from(far).pow(2);
            apart = apart.max(far);
        }
    }
    let mean = squares as f64 / (pixels * 3) as f64;
    Alike {
        decibels: 10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10(),
        apart,
    }
}
