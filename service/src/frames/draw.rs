//! One thread's means to make frames: renderer, buffers and the charge for them.
//!
//! Synchronous and alone: knows no queue. Buffers grow only after their charge has. [`composite`] is the one place where the CPU makes
//! pixels of a frame; those that a GPU has drawn come here to be encoded (see [`encode_drawn`]).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::gpu::Canvas;
use super::layers::{self, Overlay, lay, resize};
use super::worker::{Failure, Material};
use super::{FrameFormat, FrameRequest, Pixels};
use crate::codec::{self, Header, Limits, PixelsMut, PixelsRef, Size};
use crate::failpoints;
use crate::memory::{Budget, Charge, Purpose};
use crate::render::view::View;
use crate::render::{Blur, CpuRenderer, Foreground, Radius, Renderer, ViewTransform, cpu};

/// Largest picture that a thumbnail may be.
const THUMBNAIL_PIXELS_MAX: u64 = 1 << 20;

/// All that one frame is drawn from and where to, in buffers of the thread that waits for it: several can go to a renderer at once.
pub(super) struct Composition<'a> {
    /// Picture behind all.
    pub(super) background: PixelsRef<'a>,
    /// What of it is seen; made for its size.
    pub(super) view: ViewTransform,
    /// What is laid over it, as large as the frame.
    pub(super) foreground: Option<Foreground<'a>>,
    /// The frame.
    pub(super) out: PixelsMut<'a>,
}

/// Draws one frame as `render`'s specification says.
pub(super) fn composite(renderer: &mut CpuRenderer, job: Composition<'_>) {
    renderer.composite(job.background, &job.view, job.foreground, job.out);
}

/// What stands behind a participant, on the thread that draws it.
pub(super) enum Backing {
    /// Pixels, kept by a lease or an owner, as the session's view shows them.
    Pixels(Box<dyn Pixels>),
    /// The small JPEG in their place.
    Thumbnail(Bytes),
    /// The participant's own frame, blurred, where it lies.
    Blur(Radius),
}

/// Until when a frame is of use, and to whom: looked at between the stages of its making.
pub(super) struct Wanted<'a> {
    pub(super) deadline: Instant,
    /// Whether nobody waits for it any more.
    pub(super) gone: &'a dyn Fn() -> bool,
}

impl Wanted<'_> {
    /// # Errors
    /// [`Failure::Late`] once it is of no use.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.deadline <= Instant::now() || (self.gone)() {
            true => Err(Failure::Late),
            false => Ok(()),
        }
    }
}

/// Buffers that a thread keeps between frames.
#[derive(Default)]
struct Sheets {
    /// The rendered frame before it is encoded.
    canvas: Vec<u8>,
    /// A picture that is made for this frame and stands behind it: a decoded thumbnail, a blurred frame.
    behind: Vec<u8>,
    /// Pixels and mask of what is laid over it.
    over: Vec<u8>,
    mask: Vec<u8>,
}

impl Sheets {
    fn held_bytes(&self) -> usize {
        let Self {
            canvas,
            behind,
            over,
            mask,
        } = self;
        canvas.capacity() + behind.capacity() + over.capacity() + mask.capacity()
    }
}

/// What a thread keeps between frames.
pub(super) struct Easel {
    renderer: CpuRenderer,
    blur: Blur,
    sheets: Sheets,
    /// Covers the buffers above and what a frame takes beside them.
    charge: Option<Charge>,
    budget: Arc<Budget>,
    keep_bytes: u64,
}

impl Easel {
    pub(super) fn new(budget: Arc<Budget>, keep_bytes: u64) -> Self {
        Self {
            renderer: CpuRenderer::default(),
            blur: Blur::default(),
            sheets: Sheets::default(),
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
            Material::Pixels(pixels) if pixels.is_frame() => {
                let view = View::default();
                self.paint(pixels.pixels(), &FrameRequest { view, ..*request })?;
            }
            Material::Pixels(pixels) => {
                self.paint(pixels.pixels(), request)?;
                pixels.drawn(view_of(&self.sheets.canvas, request.size));
            }
            Material::Drawn(drawn, pixels) => {
                // Before it is encoded, which may flatten it. What is kept for later frames is exact.
                if drawn.exact {
                    pixels.drawn(view_of(&drawn.pixels, request.size));
                }
                self.reserve(request.format.scratch_bytes(request.size))?;
                return encode_drawn(drawn, request, charge);
            }
            Material::Thumbnail(file) => {
                let size = self.open(&file)?;
                let behind = std::mem::take(&mut self.sheets.behind);
                let painted = self.paint(view_of(&behind, size), request);
                self.sheets.behind = behind;
                painted?;
            }
        }
        self.reserve(request.format.scratch_bytes(request.size))?;
        encode(&mut self.sheets.canvas, request, charge)
    }

    /// Composites and encodes one frame; given up between two stages once nobody wants it. What stands behind it and what is laid over
    /// it go as soon as its pixels are drawn.
    pub(super) fn compose(
        &mut self,
        backing: Backing,
        overlay: Option<Overlay>,
        request: &FrameRequest,
        wanted: &Wanted<'_>,
    ) -> Result<Bytes, Failure> {
        if failpoints::hit(failpoints::FRAMES_RENDER_ERROR) {
            return Err(Failure::Injected);
        }
        wanted.check()?;
        let scene = Scene::new(backing, overlay, request)?;
        let output = request.format.bytes_max(request.size);
        // All at once: a frame that can never fit is told apart from one that does not fit now.
        self.reserve(scene.bytes(&self.sheets, &self.renderer) + output)?;
        let charge = self.split(output);
        let mut bytes = Vec::with_capacity(charge.bytes() as usize);
        let mut sheets = std::mem::take(&mut self.sheets);
        let drawn = self.draw_scene(scene, &mut sheets, &mut bytes, wanted);
        self.sheets = sheets;
        drawn?;
        wanted.check()?;
        match request.format {
            FrameFormat::Rgba => Ok(charge.cover(bytes)),
            _ => write(&mut self.sheets.canvas, request, bytes, charge),
        }
    }

    /// Decodes a caller's file into pixels of their own, without a charge that lasts.
    pub(super) fn open_file(&mut self, file: &[u8], header: &Header) -> Result<Vec<u8>, Failure> {
        self.reserve(header.scratch_bytes)?;
        let mut pixels = Vec::new();
        layers::open(file, header, &mut pixels)?;
        Ok(pixels)
    }

    /// Draws on the canvas, and raw frames into `bytes` at once.
    fn draw_scene(
        &mut self,
        scene: Scene<'_>,
        sheets: &mut Sheets,
        bytes: &mut Vec<u8>,
        wanted: &Wanted<'_>,
    ) -> Result<(), Failure> {
        let Scene {
            backing,
            overlay,
            request,
            transform,
            thumbnail,
            ..
        } = scene;
        let Sheets {
            canvas,
            behind,
            over,
            mask,
        } = sheets;
        let size = request.size;
        let foreground = match &overlay {
            Some(overlay) => Some(lay(overlay, over, mask)?),
            None => None,
        };
        wanted.check()?;
        let background = match (&backing, thumbnail) {
            (Backing::Pixels(pixels), _) => pixels.pixels(),
            (Backing::Thumbnail(file), Some(header)) => {
                layers::open_trusted(file, &header, behind)?;
                view_of(behind, header.size)
            }
            (Backing::Blur(radius), _) => {
                let own = foreground.and_then(|foreground| foreground.joined());
                let (own, _) = own.ok_or(Failure::NoForeground)?;
                resize(behind, size.bytes());
                let target = PixelsMut::new(behind, size).expect("made for this size");
                self.blur.draw(view_of(own, size), *radius, target);
                view_of(behind, size)
            }
            (Backing::Thumbnail(_), None) => unreachable!("a thumbnail's scene has its header"),
        };
        wanted.check()?;
        let target = match request.format {
            FrameFormat::Rgba => bytes,
            _ => canvas,
        };
        resize(target, size.bytes());
        composite(
            &mut self.renderer,
            Composition {
                background,
                view: transform,
                foreground,
                out: PixelsMut::new(target, size).expect("made for this size"),
            },
        );
        Ok(())
    }

    /// Gives back what an unusually large frame took.
    pub(super) fn tidy(&mut self) {
        // Where memory is short in all, a thread's share of what may be kept is small too.
        let keep = self.keep_bytes.min(self.budget.ceiling() / KEEP_SHARE);
        if self.held_bytes() > keep {
            self.renderer = CpuRenderer::default();
            self.blur = Blur::default();
            self.sheets = Sheets::default();
        }
        let held = self.held_bytes();
        match &mut self.charge {
            Some(charge) if charge.bytes() > held => drop(charge.resize(held)),
            _ => {}
        }
    }

    fn held_bytes(&self) -> u64 {
        let tools = self.renderer.held_bytes() + self.blur.held_bytes();
        (tools + self.sheets.held_bytes()) as u64
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

    /// Takes what was reserved for the output.
    fn split(&mut self, output: u64) -> Charge {
        let charge = self.charge.as_mut().map(|charge| charge.split(output));
        charge.expect("it was reserved").transfer(Purpose::Encode)
    }

    /// Decodes a thumbnail.
    fn open(&mut self, file: &[u8]) -> Result<Size, Failure> {
        let header = thumbnail_header(file)?;
        self.reserve(header.scratch_bytes + header.output_bytes())?;
        layers::open_trusted(file, &header, &mut self.sheets.behind)?;
        Ok(header.size)
    }

    fn paint(&mut self, source: PixelsRef<'_>, request: &FrameRequest) -> Result<(), Failure> {
        let transform = request.view.transform(source.size());
        let scratch = self
            .renderer
            .scratch_bytes(source.size(), &transform, request.size);
        self.reserve(scratch + growth(&self.sheets.canvas, request.size.bytes()))?;
        let canvas = &mut self.sheets.canvas;
        resize(canvas, request.size.bytes());
        composite(
            &mut self.renderer,
            Composition {
                background: source,
                view: transform,
                foreground: None,
                out: PixelsMut::new(canvas, request.size).expect("made for this size"),
            },
        );
        Ok(())
    }
}

/// Encodes a frame's pixels into a new buffer of the bytes that `charge` covers; what it takes beside them has been reserved.
fn encode(canvas: &mut [u8], request: &FrameRequest, charge: Charge) -> Result<Bytes, Failure> {
    // The bound was charged. Room for all of it, of which only the file's pages are touched: a buffer that grew would hold
    // its old and its new copy side by side.
    let mut bytes = Vec::with_capacity(charge.bytes() as usize);
    if request.format == FrameFormat::Rgba {
        bytes.extend_from_slice(canvas);
    }
    write(canvas, request, bytes, charge)
}

/// The same of a frame that a GPU drew, from where it lies, under its own charge: a thread's canvas stays where it is counted. A raw one
/// is delivered as it lies.
pub(super) fn encode_drawn(
    drawn: Canvas,
    request: &FrameRequest,
    charge: Charge,
) -> Result<Bytes, Failure> {
    let Canvas {
        mut pixels,
        charge: canvas,
        ..
    } = drawn;
    match request.format {
        FrameFormat::Rgba => Ok(canvas.transfer(Purpose::Encode).cover(pixels)),
        _ => encode(&mut pixels, request, charge),
    }
}

/// Encodes a frame's pixels into `bytes`, for which all has been charged. They are flattened where the format has no alpha.
fn write(
    canvas: &mut [u8],
    request: &FrameRequest,
    mut bytes: Vec<u8>,
    mut charge: Charge,
) -> Result<Bytes, Failure> {
    match request.format {
        FrameFormat::Jpeg { quality } => {
            cpu::flatten_over_black(canvas);
            codec::encode_jpeg(view_of(canvas, request.size), quality, &mut bytes)
        }
        FrameFormat::Png => codec::encode_png(view_of(canvas, request.size), &mut bytes),
        FrameFormat::Webp => codec::encode_webp(view_of(canvas, request.size), &mut bytes),
        FrameFormat::Rgba => Ok(()),
    }
    .map_err(Failure::Codec)?;
    bytes.shrink_to_fit();
    charge
        .resize(bytes.capacity() as u64)
        .map_err(Failure::Reserve)?;
    Ok(charge.cover(bytes))
}

/// Of the budget's ceiling, what one thread's buffers may be between frames.
const KEEP_SHARE: u64 = 16;

/// One composite before it is drawn, looked at for what it takes.
struct Scene<'a> {
    backing: Backing,
    overlay: Option<Overlay>,
    request: &'a FrameRequest,
    /// Size of what stands behind.
    background: Size,
    transform: ViewTransform,
    /// Of a thumbnail.
    thumbnail: Option<Header>,
}

impl<'a> Scene<'a> {
    fn new(
        backing: Backing,
        overlay: Option<Overlay>,
        request: &'a FrameRequest,
    ) -> Result<Self, Failure> {
        let thumbnail = match &backing {
            Backing::Thumbnail(file) => Some(thumbnail_header(file)?),
            _ => None,
        };
        let size = match (&backing, &thumbnail) {
            (Backing::Pixels(pixels), _) => pixels.pixels().size(),
            (_, Some(header)) => header.size,
            (_, None) => request.size,
        };
        let transform = match backing {
            Backing::Blur(_) => ViewTransform::full(size),
            _ => request.view.transform(size),
        };
        Ok(Self {
            backing,
            overlay,
            request,
            background: size,
            transform,
            thumbnail,
        })
    }

    /// What it takes beyond what is held already, its output apart.
    fn bytes(&self, sheets: &Sheets, renderer: &CpuRenderer) -> u64 {
        let (request, size) = (self.request, self.request.size);
        let overlay = self.overlay.as_ref();
        let (over, mask) = overlay.map_or((0, 0), Overlay::buffer_bytes);
        let (behind, blur) = match self.backing {
            Backing::Pixels(_) => (0, 0),
            Backing::Thumbnail(_) => (self.background.bytes(), 0),
            Backing::Blur(_) => (size.bytes(), Blur::scratch_bytes(size)),
        };
        let canvas = match request.format {
            FrameFormat::Rgba => 0,
            _ => size.bytes(),
        };
        let sheets = growth(&sheets.over, over)
            + growth(&sheets.mask, mask)
            + growth(&sheets.behind, behind)
            + growth(&sheets.canvas, canvas);
        let renderer = renderer.scratch_bytes(self.background, &self.transform, size);
        // What ends with its stage, of which there is one at a time.
        let passing = overlay
            .map_or(0, Overlay::scratch_bytes)
            .max(self.thumbnail.map_or(0, |header| header.scratch_bytes))
            .max(request.format.scratch_bytes(size));
        sheets + renderer + blur + passing
    }
}

/// By how much a buffer must grow to hold so many bytes.
fn growth(buffer: &Vec<u8>, bytes: u64) -> u64 {
    bytes.saturating_sub(buffer.capacity() as u64)
}

fn thumbnail_header(file: &[u8]) -> Result<Header, Failure> {
    codec::probe(file, &Limits::with_pixels_max(THUMBNAIL_PIXELS_MAX)).map_err(Failure::Codec)
}

fn view_of(data: &[u8], size: Size) -> PixelsRef<'_> {
    PixelsRef::new(data, size).expect("the buffer was made for this size")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::BudgetConfig;
    use crate::memory::thread::ThreadBytes;

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
        let first = easel.sheets.canvas.clone();
        let counting = ThreadBytes::start().expect("jemalloc");
        for _ in 0..100 {
            assert!(easel.paint(view_of(&pixels, source), &request).is_ok());
        }
        assert_eq!(counting.allocated(), 0);
        assert_eq!(easel.sheets.canvas, first);
    }

    /// Something to draw from, with a word for the frame that is drawn from it.
    struct Told(std::sync::mpsc::Sender<Vec<u8>>);

    impl Pixels for Told {
        fn pixels(&self) -> PixelsRef<'_> {
            unreachable!("it is drawn already")
        }

        fn drawn(self: Box<Self>, frame: PixelsRef<'_>) {
            drop(self.0.send(frame.data().to_vec()));
        }
    }

    /// A frame that a GPU drew lies beside the thread's own buffers, which go on counting while it is encoded.
    #[test]
    fn what_a_gpu_drew_is_encoded_beside_what_the_thread_keeps() {
        let budget = Budget::new(BudgetConfig::default());
        let mut easel = Easel::new(Arc::clone(&budget), 64 << 20);
        let size = Size::new(64, 36);
        let pixels = vec![7; size.bytes() as usize];
        let request = FrameRequest {
            view: View::default(),
            size: Size::new(1280, 720),
            format: FrameFormat::Png,
            deadline: Instant::now(),
        };
        assert!(easel.paint(view_of(&pixels, size), &request).is_ok());
        easel.tidy();
        let kept = easel.held_bytes();
        assert!(kept >= request.size.bytes());
        let reserved = |bytes| budget.try_reserve(Purpose::Render, bytes).expect("room");
        let request = FrameRequest { size, ..request };
        let (tell, told) = std::sync::mpsc::channel();
        let mut drawn = |request: &FrameRequest, exact| {
            let canvas = Canvas {
                pixels: pixels.clone(),
                exact,
                charge: reserved(size.bytes()),
            };
            let material = Material::Drawn(canvas, Box::new(Told(tell.clone())));
            let output = reserved(request.format.bytes_max(size));
            assert!(easel.draw(material, request, output).is_ok());
            // What it was drawn of is told of the pixels as they were drawn, in whatever form they are delivered, if they are exact.
            let heard = told.try_recv().ok();
            assert!(heard.as_ref() == exact.then_some(&pixels));
        };
        let jpeg = FrameFormat::Jpeg { quality: 80 };
        let as_jpeg = FrameRequest {
            format: jpeg,
            ..request
        };
        drawn(&as_jpeg, true);
        drawn(&request, false);
        let charged = easel.charge.as_ref().map_or(0, Charge::bytes);
        assert!(charged >= kept + request.format.scratch_bytes(size));
    }
}
