//! Keys of renditions that are normalised, against keys that are what was asked for, word by word.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::io;
use std::sync::Arc;

use backdrop_service::flyweight::RenditionKey;
use backdrop_service::flyweight::key::STEP;

use crate::rounds::{Contender, nanoseconds};
use crate::support::Figure;

/// Widths that nobody tells apart, as a window has them that is drawn larger pixel by pixel.
const WIDTHS: std::ops::RangeInclusive<u32> = 753..=768;
const HEIGHT: u32 = 432;
const FORMATS: [&str; 2] = ["jpeg", "JPEG"];
/// The last two are more than is ever drawn.
const QUALITIES: [u8; 3] = [95, 96, 100];

/// The naive key: a text of what was asked for.
fn text(id: &str, version: u32, width: u32, format: &str, quality: u8) -> String {
    format!("{id}/{version}/{width}x{HEIGHT}/{format}/{quality}")
}

pub fn run() -> io::Result<Vec<Figure>> {
    assert_eq!(WIDTHS.count() as u32, STEP, "one step of widths");
    let id: Arc<str> = Arc::from("beach");
    let asked: Vec<(u32, &str, u8)> = WIDTHS
        .flat_map(|width| FORMATS.map(|format| (width, format)))
        .flat_map(|(width, format)| QUALITIES.map(|quality| (width, format, quality)))
        .collect();
    let key = |&(width, format, quality): &(u32, &str, u8)| {
        RenditionKey::new(Arc::clone(&id), 1, width, HEIGHT, format, quality)
    };
    let naive = |&(width, format, quality): &(u32, &str, u8)| text(&id, 1, width, format, quality);
    let kept: HashSet<RenditionKey> = asked.iter().map(key).collect();
    let texts: HashSet<String> = asked.iter().map(naive).collect();
    let hasher = RandomState::new();
    let times = nanoseconds(
        &[
            Contender::new(|_, ops| {
                for ask in asked.iter().cycle().take(ops) {
                    black_box(key(black_box(ask)).hash64());
                }
            }),
            Contender::new(|_, ops| {
                for ask in asked.iter().cycle().take(ops) {
                    black_box(hasher.hash_one(naive(black_box(ask))));
                }
            }),
        ],
        1,
    );
    let peer = "a text of what was asked";
    let name = format!("keys: entries for {} requests that look alike", asked.len());
    Ok(vec![
        Figure::new(name, "entries", kept.len() as f64).peer(peer, texts.len() as f64),
        Figure::new("keys: make and hash one", "ns", times[0]).peer(peer, times[1]),
    ])
}
