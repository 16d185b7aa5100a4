//! Composites that a GPU draws: what comes before it and after it, on the composites' own threads, and what is left to the CPU.
//!
//! The caller's files become pixels first; then the GPU draws, together with whatever else is due; then the frame is encoded. What
//! stands behind must be an image: a frame of a stream, a blur or a thumbnail is drawn from once, which is not worth its way to the
//! device. The invariant: all that the stages take of the machine's memory is reserved as one sum before the first of them, and what
//! does not fit, comes back undrawn, or does not come in half of the time that is left, goes the CPU's way, which has the last word on what
//! can never fit.

use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout;

use super::super::draw::{self, Backing};
use super::super::gpu::{Canvas, Order, Painted};
use super::super::layers::{self, Overlay};
use super::super::worker::Failure;
use super::super::{FrameError, FrameFormat, FrameRequest, Frames, LOST_BY_GPU};
use super::{Kept, Made, Stood, Work};
use crate::failpoints;
use crate::memory::{Charge, Purpose, aside};

/// What became of a composite.
pub(super) enum ByGpu {
    /// The finished frame.
    Drawn(Bytes),
    /// It is the CPU's.
    Left(Backing, Option<Overlay>),
}

/// Bytes that a composite takes beside what came with the request, where a GPU draws it.
pub(in crate::frames) struct Sum {
    /// Pixels of the overlay, and what making them takes.
    pub(in crate::frames) lay: u64,
    /// The frame.
    pub(in crate::frames) canvas: u64,
    /// The frame as it is delivered, and what encoding takes.
    pub(in crate::frames) encode: u64,
}

impl Sum {
    pub(in crate::frames) fn of(overlay: Option<&Overlay>, frame: &FrameRequest) -> Self {
        let lay = overlay.map_or(0, |overlay| {
            let (over, mask) = overlay.buffer_bytes();
            over + mask + overlay.scratch_bytes()
        });
        let encode = match frame.format {
            FrameFormat::Rgba => 0,
            format => format.bytes_max(frame.size) + format.scratch_bytes(frame.size),
        };
        Self {
            lay,
            canvas: frame.size.bytes(),
            encode,
        }
    }
}

impl Frames {
    /// Has the GPU draw a composite, if there is one that takes it.
    pub(super) async fn by_gpu(
        &self,
        backing: Backing,
        overlay: Option<Overlay>,
        stood: Stood,
        frame: &FrameRequest,
    ) -> Result<ByGpu, FrameError> {
        let (gpu, pixels, texture) = match (&self.gpu, backing, stood) {
            (Some(gpu), Backing::Pixels(pixels), Stood::Image { index, version, .. })
                if !gpu.is_lost() =>
            {
                (gpu, pixels, (index, version))
            }
            (_, backing, _) => return Ok(ByGpu::Left(backing, overlay)),
        };
        let sum = Sum::of(overlay.as_ref(), frame);
        let wait = self.config.reserve_wait;
        let all = sum.lay + sum.canvas + sum.encode;
        let Ok(mut charge) = self.budget.reserve(Purpose::Render, all, wait).await else {
            return Ok(ByGpu::Left(Backing::Pixels(pixels), overlay));
        };
        let overlay = match overlay {
            Some(overlay) if overlay.laid().is_none() => {
                let charge = charge.split(sum.lay);
                Some(self.laid(overlay, charge, frame).await?)
            }
            laid => laid,
        };
        let order = Order {
            pixels,
            texture,
            overlay,
            view: frame.view,
            size: frame.size,
            charge: charge.split(sum.canvas),
        };
        // A device that hangs is known to only after longer than a composite may take.
        let spare = (order.pixels.share(), order.overlay.clone());
        let left = frame.deadline.saturating_duration_since(Instant::now());
        let painted = match (timeout(left / 2, gpu.draw(order)).await, spare) {
            (Ok(painted), _) => painted,
            (Err(_), (Some(pixels), overlay)) => {
                gpu.was_late();
                return Ok(ByGpu::Left(Backing::Pixels(pixels), overlay));
            }
            (Err(_), (None, _)) => return Err(FrameError::Late),
        };
        let Painted {
            pixels,
            overlay,
            canvas,
        } = painted.ok_or(LOST_BY_GPU)?;
        let Some(canvas) = canvas else {
            return Ok(ByGpu::Left(Backing::Pixels(pixels), overlay));
        };
        // Before it waits for a thread: neither is needed any more.
        aside::discard((pixels, overlay));
        let work = Work::Encode {
            canvas,
            request: *frame,
            charge,
        };
        Ok(ByGpu::Drawn(self.bytes(work, frame.deadline).await?))
    }

    /// Has a thread make pixels of an overlay's files.
    async fn laid(
        &self,
        overlay: Overlay,
        charge: Charge,
        frame: &FrameRequest,
    ) -> Result<Overlay, FrameError> {
        let work = Work::Lay { overlay, charge };
        match self.done(work, frame.deadline).await? {
            Made::Overlay(overlay) => Ok(overlay),
            Made::Bytes(_) => Err(FrameError::Internal("a thread made bytes of an overlay")),
        }
    }
}

/// Makes pixels of what are none; `charge` covers them and what that takes, and goes on with the pixels.
pub(in crate::frames) fn lay_out(overlay: Overlay, mut charge: Charge) -> Result<Overlay, Failure> {
    let (mut over, mut mask) = (Vec::new(), Vec::new());
    layers::lay(&overlay, &mut over, &mut mask)?;
    let mut keep = |buffer: Vec<u8>| {
        let charge = charge.split(buffer.capacity() as u64);
        (!buffer.is_empty()).then(|| {
            Bytes::from_owner(Kept {
                pixels: Some(buffer.into()),
                charge: Some(charge),
                room: None,
            })
        })
    };
    let (over, mask) = (keep(over), keep(mask));
    Ok(overlay.with_pixels(over, mask))
}

/// Encodes what the GPU drew; `charge` covers the output and what encoding takes.
pub(in crate::frames) fn encode(
    canvas: Canvas,
    request: &FrameRequest,
    mut charge: Charge,
) -> Result<Bytes, Failure> {
    if failpoints::hit(failpoints::FRAMES_RENDER_ERROR) {
        return Err(Failure::Injected);
    }
    let scratch = match request.format {
        FrameFormat::Rgba => 0,
        format => format.scratch_bytes(request.size),
    };
    let _scratch = charge.split(scratch);
    draw::encode_drawn(canvas, request, charge.transfer(Purpose::Encode))
}
