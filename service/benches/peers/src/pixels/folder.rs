//! The buffers that both sides read, as files in a folder that goes with it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use backdrop_service::codec::{self, PixelsRef, Size};
use backdrop_service::memory::Arena;
use backdrop_service::memory::arena::{Block, HUGE_PAGE};
use tempfile::TempDir;

pub const FULL: Size = Size::new(1920, 1080);
/// Sets of buffers, 27 MB each: more than a cache holds, as frames of many sessions are.
pub const SETS: usize = 6;

/// One frame's buffers: of huge pages and faulted in, as textures are.
pub struct Set {
    pub background: Block,
    pub over: Block,
    pub mask: Block,
    pub out: Block,
}

pub struct Folder {
    place: TempDir,
    picture: Vec<u8>,
    jpeg: Vec<u8>,
}

/// Something like a photograph: slopes, edges, some noise; opaque.
fn photograph(number: u32) -> Vec<u8> {
    let mut state = number + 1;
    let mut data = Vec::with_capacity(FULL.bytes() as usize);
    for y in 0..FULL.height {
        for x in 0..FULL.width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as f32;
            let (u, v) = ((x + number * 70) as f32 / 60.0, y as f32 / 45.0);
            let edge = if (x / 96 + y / 80) % 3 == 0 {
                40.0
            } else {
                0.0
            };
            let wave = 50.0 * (u.sin() * v.cos()) + edge;
            let slope = 90.0 * y as f32 / FULL.height as f32;
            let pixel = [
                wave + slope + noise + 60.0,
                slope + noise + 70.0,
                150.0 - wave + noise,
            ];
            data.extend(pixel.map(|v| v as u8));
            data.push(255);
        }
    }
    data
}

/// Somebody before a camera: head and shoulders, about a third of the frame, with edges some pixels wide.
fn person() -> Vec<u8> {
    let at = |at: u64| {
        let (x, y) = ((at % 1920) as f32 - 960.0, (at / 1920) as f32);
        let ellipse = |middle: f32, a: f32, b: f32| {
            let far = ((x / a).powi(2) + ((y - middle) / b).powi(2)).sqrt();
            (1.0 - far) * a.min(b)
        };
        let inside = ellipse(380.0, 190.0, 260.0).max(ellipse(1080.0, 620.0, 430.0));
        (inside * 16.0 + 128.0).clamp(0.0, 255.0) as u8
    };
    (0..FULL.pixels()).map(at).collect()
}

fn block(arena: &Arc<Arena>, bytes: &[u8]) -> io::Result<Block> {
    let mut block = arena
        .allocate(8 << 20, HUGE_PAGE)
        .map_err(io::Error::other)?;
    block.populate();
    block.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    Ok(block)
}

impl Folder {
    pub fn create() -> io::Result<Self> {
        let place = tempfile::tempdir()?;
        let mask = person();
        for number in 0..SETS {
            let write = |what: &str, data: &[u8]| {
                std::fs::write(place.path().join(format!("{what}-{number}")), data)
            };
            write("background", &photograph(number as u32))?;
            write("over", &photograph(number as u32 + 40))?;
            write("mask", &mask)?;
        }
        let picture = photograph(0);
        let mut jpeg = Vec::new();
        let pixels = PixelsRef::new(&picture, FULL).expect("made for this size");
        codec::encode_jpeg(pixels, 85, &mut jpeg).map_err(io::Error::other)?;
        std::fs::write(place.path().join("picture"), &picture)?;
        std::fs::write(place.path().join("picture.jpg"), &jpeg)?;
        Ok(Self {
            place,
            picture,
            jpeg,
        })
    }

    pub fn path(&self) -> &Path {
        self.place.path()
    }

    pub fn picture(&self) -> &[u8] {
        &self.picture
    }

    pub fn jpeg(&self) -> &[u8] {
        &self.jpeg
    }

    pub fn sets(&self) -> io::Result<Vec<Set>> {
        let arena = Arena::new().map_err(io::Error::other)?;
        let read = |what: &str, number: usize| {
            block(
                &arena,
                &std::fs::read(self.path().join(format!("{what}-{number}")))?,
            )
        };
        let set = |number| {
            Ok(Set {
                background: read("background", number)?,
                over: read("over", number)?,
                mask: read("mask", number)?,
                out: block(&arena, &[])?,
            })
        };
        (0..SETS).map(set).collect()
    }
}
