//! Backdrop's side: what a worker of the service calls.

use std::hint::black_box;
use std::time::Instant;

use backdrop_service::codec::{self, Limits, PixelsMut, PixelsRef, Size};
use backdrop_service::render::view::{Fractions, View};
use backdrop_service::render::{Blur, CpuRenderer, Foreground, Radius, Renderer, ViewTransform};

use crate::folder::{FULL, Set};

pub const PREVIEW: Size = Size::new(640, 360);
pub const LARGE: Size = Size::new(2560, 1440);
pub const ZOOM: f64 = 1.25;
pub const RADIUS: u8 = 40;
pub const QUALITY: u8 = 80;

pub struct Ours<'a> {
    sets: &'a mut [Set],
    turn: usize,
    renderer: CpuRenderer,
    blur: Blur,
    picture: &'a [u8],
    jpeg: &'a [u8],
    large: Vec<u8>,
    file: Vec<u8>,
}

/// The middle of the picture, a quarter nearer.
fn zoomed() -> ViewTransform {
    let fractions = Fractions {
        crop: [0.0, 0.0, 1.0, 1.0],
        scale: ZOOM,
        uv_offset: [0.0; 2],
        alpha: 1.0,
    };
    let view = View::from_fractions(&fractions).expect("a view");
    view.transform(FULL)
}

/// The pixels of a JPEG file.
pub fn decoded(file: &[u8]) -> Vec<u8> {
    let Ok(header) = codec::probe(file, &Limits::default()) else {
        return Vec::new();
    };
    let mut out = vec![0; header.output_bytes() as usize];
    let pixels = PixelsMut::new(&mut out, header.size).expect("made for this size");
    match codec::decode(file, &header, pixels) {
        Ok(()) => out,
        Err(_) => Vec::new(),
    }
}

impl<'a> Ours<'a> {
    pub fn new(sets: &'a mut [Set], picture: &'a [u8], jpeg: &'a [u8]) -> Self {
        Self {
            sets,
            turn: 0,
            renderer: CpuRenderer::default(),
            blur: Blur::default(),
            picture,
            jpeg,
            large: vec![0; LARGE.bytes() as usize],
            file: Vec::new(),
        }
    }

    pub fn picture(&self) -> &'a [u8] {
        self.picture
    }

    /// Milliseconds of one run, with the next set of buffers.
    pub fn run(&mut self, key: &str) -> f64 {
        self.turn = (self.turn + 1) % self.sets.len();
        let start = Instant::now();
        self.work(key);
        start.elapsed().as_secs_f64() * 1e3
    }

    /// What a run with the first set makes.
    pub fn show(&mut self, key: &str) -> Vec<u8> {
        self.turn = 0;
        self.work(key);
        match key {
            "encode" => self.file.clone(),
            "enlarge" => self.large.clone(),
            "shrink" => self.sets[0].out.as_slice()[..PREVIEW.bytes() as usize].to_vec(),
            _ => self.sets[0].out.as_slice()[..FULL.bytes() as usize].to_vec(),
        }
    }

    fn work(&mut self, key: &str) {
        match key {
            "composite" => self.composite(&ViewTransform::full(FULL)),
            "bilinear" => self.composite(&zoomed()),
            "blur" => self.blur(),
            "shrink" => self.resize(PREVIEW),
            "enlarge" => self.resize(LARGE),
            "decode" => self.decode(),
            "encode" => self.encode(),
            other => unreachable!("{other} is none of the kinds"),
        }
    }

    fn composite(&mut self, view: &ViewTransform) {
        let set = &mut self.sets[self.turn];
        let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
        let out = PixelsMut::new(out, FULL).expect("made for this size");
        let over = &set.over.as_slice()[..FULL.bytes() as usize];
        let mask = &set.mask.as_slice()[..FULL.pixels() as usize];
        let over = Foreground::new(FULL, over, mask);
        let background = &set.background.as_slice()[..FULL.bytes() as usize];
        let background = PixelsRef::new(background, FULL).expect("made for this size");
        self.renderer.composite(background, view, over, out);
    }

    fn blur(&mut self) {
        let set = &mut self.sets[self.turn];
        let background = &set.background.as_slice()[..FULL.bytes() as usize];
        let src = PixelsRef::new(background, FULL).expect("made for this size");
        let out = black_box(&mut set.out.as_mut_slice()[..FULL.bytes() as usize]);
        let out = PixelsMut::new(out, FULL).expect("made for this size");
        self.blur
            .draw(src, Radius::new(RADIUS).expect("a radius"), out);
    }

    fn resize(&mut self, size: Size) {
        let set = &mut self.sets[self.turn];
        let background = &set.background.as_slice()[..FULL.bytes() as usize];
        let src = PixelsRef::new(background, FULL).expect("made for this size");
        let out = match size {
            LARGE => &mut self.large[..],
            _ => &mut set.out.as_mut_slice()[..size.bytes() as usize],
        };
        let out = PixelsMut::new(black_box(out), size).expect("made for this size");
        self.renderer.resample(src, &ViewTransform::full(FULL), out);
    }

    fn decode(&mut self) {
        let header = codec::probe(self.jpeg, &Limits::default()).expect("a picture");
        let out = &mut self.sets[self.turn].out.as_mut_slice()[..FULL.bytes() as usize];
        let out = PixelsMut::new(black_box(out), FULL).expect("made for this size");
        codec::decode_trusted(self.jpeg, &header, out).expect("decodes");
    }

    fn encode(&mut self) {
        self.file.clear();
        let pixels = PixelsRef::new(self.picture, FULL).expect("made for this size");
        codec::encode_jpeg(pixels, QUALITY, black_box(&mut self.file)).expect("encodes");
    }
}
