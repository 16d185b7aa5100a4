//! One thread's means to make frames: renderer, buffers and the charge for them.
//!
//! Synchronous and alone: knows no queue and no deadline. Buffers grow only after their charge has.

use std::sync::Arc;

use bytes::Bytes;

use super::worker::{Failure, Material};
use super::{FrameFormat, FrameRequest};
use crate::codec::{self, Limits, PixelsMut, PixelsRef, Size};
use crate::failpoints;
use crate::memory::{Budget, Charge, Purpose};
use crate::render::{CpuRenderer, Renderer, cpu};

/// What a thread keeps between frames.
pub(super) struct Easel {
    renderer: CpuRenderer,
    /// The rendered frame before it is encoded.
    canvas: Vec<u8>,
    /// A decoded thumbnail.
    small: Vec<u8>,
    /// Covers the buffers above and what a frame takes beside them.
    charge: Option<Charge>,
    budget: Arc<Budget>,
    keep_bytes: u64,
}

impl Easel {
    pub(super) fn new(budget: Arc<Budget>, keep_bytes: u64) -> Self {
        let renderer = CpuRenderer::default();
        Self {
            renderer,
            canvas: Vec::new(),
            small: Vec::new(),
            charge: None,
            budget,
            keep_bytes,
        }
    }

    /// Renders and encodes one frame. The lease within `material` goes as soon as its pixels are drawn.
    pub(super) fn draw(
        &mut self,
        material: Material,
        request: &FrameRequest,
        charge: Charge,
    ) -> Result<Bytes, Failure> {
        if failpoints::hit(failpoints::FRAMES_RENDER_ERROR) {
            return Err(Failure::Injected);
        }
        match material {
            Material::Pixels(pixels) => {
                self.paint(pixels.pixels(), request)?;
                drop(pixels);
            }
            Material::Drawn(drawn) => {
                let own = std::mem::replace(&mut self.canvas, drawn.pixels);
                let encoded = self.encode(request, charge);
                self.canvas = own;
                return encoded;
            }
            Material::Thumbnail(file) => {
                let size = self.open(&file)?;
                let small = std::mem::take(&mut self.small);
                let painted = self.paint(view_of(&small, size), request);
                self.small = small;
                painted?;
            }
        }
        self.encode(request, charge)
    }

    /// Gives back what an unusually large frame took.
    pub(super) fn tidy(&mut self) {
        if self.held_bytes() > self.keep_bytes {
            self.renderer = CpuRenderer::default();
            self.canvas = Vec::new();
            self.small = Vec::new();
        }
        let held = self.held_bytes();
        match &mut self.charge {
            Some(charge) if charge.bytes() > held => drop(charge.resize(held)),
            _ => {}
        }
    }

    fn held_bytes(&self) -> u64 {
        (self.renderer.held_bytes() + self.canvas.capacity() + self.small.capacity()) as u64
    }

    /// Charges `bytes` beyond what the buffers hold already.
    fn reserve(&mut self, bytes: u64) -> Result<(), Failure> {
        let needed = self.held_bytes() + bytes;
        match &mut self.charge {
            Some(charge) if charge.bytes() >= needed => Ok(()),
            Some(charge) => charge.resize(needed).map_err(Failure::Reserve),
            None => {
                self.charge = Some(
                    self.budget
                        .try_reserve(Purpose::Render, needed)
                        .map_err(Failure::Reserve)?,
                );
                Ok(())
            }
        }
    }

    /// Decodes a thumbnail into `small`.
    fn open(&mut self, file: &[u8]) -> Result<Size, Failure> {
        let header =
            codec::probe(file, &Limits::with_pixels_max(1 << 20)).map_err(Failure::Codec)?;
        self.reserve(header.scratch_bytes + header.output_bytes())?;
        resize(&mut self.small, header.size);
        let block =
            PixelsMut::new(&mut self.small, header.size).expect("the block was made for this size");
        codec::decode_trusted(file, &header, block).map_err(Failure::Codec)?;
        Ok(header.size)
    }

    fn paint(&mut self, source: PixelsRef<'_>, request: &FrameRequest) -> Result<(), Failure> {
        let transform = request.view.transform(source.size());
        let scratch = self
            .renderer
            .scratch_bytes(source.size(), &transform, request.size);
        let canvas = request
            .size
            .bytes()
            .saturating_sub(self.canvas.capacity() as u64);
        self.reserve(scratch + canvas)?;
        resize(&mut self.canvas, request.size);
        let canvas = PixelsMut::new(&mut self.canvas, request.size)
            .expect("the canvas was made for this size");
        self.renderer.resample(source, &transform, canvas);
        Ok(())
    }

    fn encode(&mut self, request: &FrameRequest, mut charge: Charge) -> Result<Bytes, Failure> {
        // The bound was charged. Room for all of it, of which only the file's pages are touched: a buffer that grew would hold
        // its old and its new copy side by side.
        let mut bytes = Vec::with_capacity(charge.bytes() as usize);
        match request.format {
            FrameFormat::Jpeg { quality } => {
                cpu::flatten_over_black(&mut self.canvas);
                codec::encode_jpeg(view_of(&self.canvas, request.size), quality, &mut bytes)
            }
            FrameFormat::Png => {
                self.reserve(codec::png_scratch_bytes(request.size))?;
                codec::encode_png(view_of(&self.canvas, request.size), &mut bytes)
            }
            FrameFormat::Rgba => {
                bytes.extend_from_slice(&self.canvas);
                Ok(())
            }
        }
        .map_err(Failure::Codec)?;
        bytes.shrink_to_fit();
        charge
            .resize(bytes.capacity() as u64)
            .map_err(Failure::Reserve)?;
        Ok(charge.cover(bytes))
    }
}

/// Makes a buffer exactly as long as a picture; grows to that and no further.
fn resize(buffer: &mut Vec<u8>, size: Size) {
    let len = size.bytes() as usize;
    buffer.reserve_exact(len.saturating_sub(buffer.len()));
    buffer.resize(len, 0);
}

fn view_of(data: &[u8], size: Size) -> PixelsRef<'_> {
    PixelsRef::new(data, size).expect("the buffer was made for this size")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetConfig;
    use crate::memory::thread::ThreadBytes;
    use crate::render::view::View;

    /// The pixels of a preview are drawn into what the frame before left: only its file is new.
    #[test]
    fn a_preview_is_drawn_into_reused_buffers_without_an_allocation() {
        let mut easel = Easel::new(Budget::new(BudgetConfig::default()), 64 << 20);
        let source = Size::new(320, 180);
        let pixels: Vec<u8> = (0..source.bytes()).map(|at| at as u8).collect();
        let request = FrameRequest {
            view: View::default(),
            size: Size::new(160, 96),
            format: FrameFormat::Rgba,
            deadline: std::time::Instant::now(),
        };
        easel.paint(view_of(&pixels, source), &request).ok();
        let first = easel.canvas.clone();
        let counting = ThreadBytes::start().expect("jemalloc");
        for _ in 0..100 {
            assert!(easel.paint(view_of(&pixels, source), &request).is_ok());
        }
        assert_eq!(counting.allocated(), 0);
        assert_eq!(easel.canvas, first);
    }
}
