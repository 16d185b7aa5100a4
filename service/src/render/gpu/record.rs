//! Writes jobs into mapped buffers and submits them: heads, tables, foregrounds, masks, and textures that are not there yet.
//!
//! Within a set's upload buffer what the shader reads grows from the front and pixels of textures from the back. Where the two meet,
//! or frames would not come back whole, the batch is submitted as it is and the next one begins. What the shader reads lies in the
//! order of `composite.wgsl`.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::atlas::{Atlas, NoPlace, Place, SLABS};
use super::batch::{Batch, Flight, Placed};
use super::device::Device;
use super::encoder::{Encoded, Encoder};
use super::slab::{self, Slab};
use super::slot::{SLOTS, Sizes, Slot};
use super::{CompositeJob, Event, Host, Refusal, TextureFormat, TextureKey, bc7};
use crate::codec::pixels::Size;
use crate::render::Foreground;
use crate::render::cpu::axis::Axis;
use crate::render::cpu::whole_pixels;
use crate::render::view::ViewTransform;

/// Words of a head.
const HEAD: usize = 16;
/// As in the shader.
const WHOLE: u32 = 1;
const MASKED: u32 = 2;
/// Invocations of a workgroup, across and down.
const GROUP: [u32; 2] = [32, 8];
/// Workgroups of a dispatch along each dimension; every device that we open takes so many.
const GROUPS_MAX: u32 = 65_535;
/// How long no blocks are asked for after some found no room: making them costs far more than drawing without.
const NO_ROOM: Duration = Duration::from_secs(1);

/// The device is lost, or its other thread is gone.
pub struct Gone;

/// A set that is being filled.
struct Open {
    slot: Slot,
    view: wgpu::BufferViewMut,
    encoder: wgpu::CommandEncoder,
    /// End of what the shader reads, in bytes.
    front: u64,
    /// Begin of pixels of textures.
    back: u64,
    /// End of the frames.
    frames: u64,
    /// Largest width and height of a frame.
    extent: [u32; 2],
    batch: Batch,
}

/// What a job takes of a set, in bytes.
struct Need {
    inputs: u64,
    frame: u64,
    whole: Option<(u32, u32)>,
}

/// The recorder; see the module.
pub struct Recorder {
    device: Arc<Device>,
    host: Arc<dyn Host>,
    sizes: Sizes,
    batch_max: usize,
    atlas: Atlas,
    slabs: [Option<Slab>; SLABS],
    /// In the place of those that do not exist.
    stub: Slab,
    /// Changes of the slabs.
    changes: u64,
    /// Number of the batch that is being made.
    number: u64,
    open: Option<Open>,
    spare: Vec<Slot>,
    free: mpsc::Receiver<Slot>,
    flights: mpsc::Sender<Flight>,
    /// Makes textures where they are blocks.
    encoder: Option<Arc<Encoder>>,
    /// When blocks found no room.
    no_room: Option<Instant>,
    x: Axis,
    y: Axis,
    bytes: Vec<u8>,
}

fn words(bytes: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}

/// Workgroups that cover so many pixels, across and down.
fn groups(extent: [u32; 2]) -> [u32; 2] {
    [0, 1].map(|axis| extent[axis].div_ceil(GROUP[axis]))
}

fn table(bytes: &mut Vec<u8>, axis: &Axis) {
    words(bytes, axis.firsts().iter().copied());
    words(
        bytes,
        axis.weights().iter().map(|&weight| u32::from(weight)),
    );
}

/// Bytes of a table as [`table`] writes it.
fn table_bytes(window: crate::render::view::Window, side: u32, n: u32) -> u64 {
    u64::from(n) * (4 + 4 * Axis::taps_of(window, side, n) as u64)
}

impl Need {
    fn of(background: Size, view: &ViewTransform, frame: Size, masked: bool) -> Self {
        let whole = whole_pixels(background, view, frame);
        let tables = match whole {
            Some(_) => 0,
            None => {
                table_bytes(view.x, background.width, frame.width)
                    + table_bytes(view.y, background.height, frame.height)
            }
        };
        let masked = match masked {
            true => frame.bytes() + frame.pixels().next_multiple_of(4),
            false => 0,
        };
        Self {
            inputs: tables + masked,
            frame: frame.bytes(),
            whole,
        }
    }
}

impl Open {
    /// Appends to what the shader reads; returns the first word's number.
    fn append(&mut self, bytes: &[u8]) -> u32 {
        let at = self.front as usize;
        self.view.slice(at..at + bytes.len()).copy_from_slice(bytes);
        self.front += bytes.len() as u64;
        (at / 4) as u32
    }

    /// Appends rows of `len` bytes each, one behind the other, padded to whole words at the end.
    fn append_rows<'a>(&mut self, len: usize, rows: impl Iterator<Item = &'a [u8]>) -> u32 {
        let first = self.front as usize;
        let mut at = first;
        for row in rows {
            self.view.slice(at..at + len).copy_from_slice(row);
            at += len;
        }
        self.front = at.next_multiple_of(4) as u64;
        (first / 4) as u32
    }

    fn append_foreground(&mut self, foreground: &Foreground<'_>) -> [u32; 2] {
        let Size { width, height } = foreground.size();
        if let Some((pixels, mask)) = foreground.joined() {
            return [
                self.append_rows(pixels.len(), std::iter::once(pixels)),
                self.append_rows(mask.len(), std::iter::once(mask)),
            ];
        }
        let pixels = (0..height).map(|y| foreground.pixels_row(y));
        let over = self.append_rows(width as usize * 4, pixels);
        let mask = (0..height).map(|y| foreground.mask_row(y));
        [over, self.append_rows(width as usize, mask)]
    }
}

impl Recorder {
    /// One that fills the slots which come over `free`, and sends them on over `flights`.
    pub fn new(
        device: Arc<Device>,
        host: Arc<dyn Host>,
        sizes: Sizes,
        batch_max: usize,
        (free, flights): (mpsc::Receiver<Slot>, mpsc::Sender<Flight>),
        encoder: Option<Arc<Encoder>>,
    ) -> Option<Self> {
        let stub = Slab::stub(&device)?;
        let grid = slab::grid(device.info.textures, sizes.slab);
        // No more heads than a small set has room for beside what they are of.
        let heads_max = (sizes.upload / 4 / (HEAD as u64 * 4)).max(1);
        Some(Self {
            device,
            host,
            sizes,
            batch_max: batch_max.min(heads_max as usize),
            atlas: Atlas::new(grid),
            slabs: [const { None }; SLABS],
            stub,
            changes: 0,
            number: 1,
            open: None,
            spare: Vec::new(),
            free,
            flights,
            encoder,
            no_room: None,
            x: Axis::default(),
            y: Axis::default(),
            bytes: Vec::new(),
        })
    }

    /// Waits until there is a set to fill: until then jobs gather in the queue.
    pub fn ready(&mut self) -> Result<(), Gone> {
        if self.open.is_none() && self.spare.is_empty() {
            self.spare.push(self.free.recv().map_err(|_| Gone)?);
        }
        self.alive()
    }

    fn alive(&self) -> Result<(), Gone> {
        match self.device.lost.is() {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    /// Takes a job into the batch, or ends it.
    pub fn add(&mut self, job: Box<dyn CompositeJob>) -> Result<(), Gone> {
        if !job.is_wanted() {
            return Ok(());
        }
        // From here on it is ended, whatever goes wrong.
        let mut batch = Batch(vec![Placed {
            job,
            at: 0,
            bytes: 0,
        }]);
        let refusal = self.place(&mut batch)?;
        if let Some((refusal, placed)) = refusal.zip(batch.0.pop()) {
            placed.job.end(Err(refusal));
        }
        Ok(())
    }

    /// Moves the one job of `one` into the batch, or says why it cannot be drawn.
    fn place(&mut self, one: &mut Batch) -> Result<Option<Refusal>, Gone> {
        let Some(Placed { job, .. }) = one.0.first() else {
            return Ok(None);
        };
        let (key, background, view, frame) =
            (job.texture(), job.background(), job.view(), job.size());
        let need = Need::of(background.size(), &view, frame, job.foreground().is_some());
        let room = self.sizes.upload - self.heads();
        if background.size().is_empty()
            || frame.is_empty()
            || groups([frame.width, frame.height])
                .iter()
                .any(|&count| count > GROUPS_MAX)
            || need.inputs > room
            || need.frame > self.sizes.readback
            || self.format().bytes(background.size()) > self.sizes.slab
            || slab::grain(self.format()) > room
        {
            return Ok(Some(Refusal::TooLarge));
        }
        let texture = match (self.atlas.find(key, self.number), self.format()) {
            (Some(texture), _) => texture,
            (None, TextureFormat::Rgba8) => match self.take_in(key, background.data())? {
                Ok(texture) => texture,
                Err(refusal) => return Ok(Some(refusal)),
            },
            (None, TextureFormat::Bc7) => {
                if self.no_room.is_some_and(|since| since.elapsed() < NO_ROOM) {
                    return Ok(Some(Refusal::NoMemory));
                }
                if let Some(encoder) = &self.encoder {
                    encoder.ask(&**job);
                }
                return Ok(Some(Refusal::Encoding));
            }
        };
        let fits = |open: &Open| {
            open.front + need.inputs <= open.back
                && open.frames + need.frame <= self.sizes.readback
                && open.batch.0.len() < self.batch_max
        };
        if !self.open.as_ref().is_none_or(fits) {
            self.submit()?;
            self.atlas.find(key, self.number);
        }
        self.tabulate(&need, &view, background.size(), frame);
        let tables = std::mem::take(&mut self.bytes);
        let open = self.opened()?;
        let first = open.append(&tables);
        let foreground = job.foreground();
        let [over, mask] = foreground.map_or([0; 2], |over| open.append_foreground(&over));
        let stride = match self.format() {
            TextureFormat::Rgba8 => background.size().width,
            TextureFormat::Bc7 => bc7::blocks(background.size())[0],
        };
        let (x, y) = (&self.x, &self.y);
        let axis = |axis: &Axis| axis.taps() as u32 | axis.shift() << 16;
        // Without tables theirs are those of another frame; in their place is the corner.
        let [columns, rows, taps_x, taps_y] = match need.whole {
            Some((left, top)) => [left, top, 0, 0],
            None => {
                let rows = first + frame.width * (1 + x.taps() as u32);
                [first, rows, axis(x), axis(y)]
            }
        };
        let flags = if need.whole.is_some() { WHOLE } else { 0 }
            | if foreground.is_some() { MASKED } else { 0 };
        let head: [u32; HEAD] = [
            frame.width,
            frame.height,
            // Set below: the end of the frames so far.
            0,
            flags,
            texture.slab as u32,
            texture.at as u32,
            stride,
            columns,
            rows,
            taps_x,
            taps_y,
            u32::from(view.alpha),
            over,
            mask,
            0,
            0,
        ];
        self.bytes = tables;
        self.seat(head, frame, &need, one)?;
        Ok(None)
    }

    /// Writes the head and moves the job from `one` into the batch.
    fn seat(
        &mut self,
        mut head: [u32; HEAD],
        frame: Size,
        need: &Need,
        one: &mut Batch,
    ) -> Result<(), Gone> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let open = self.opened()?;
        head[2] = (open.frames / 4) as u32;
        words(&mut bytes, head);
        let at = open.batch.0.len() * HEAD * 4;
        open.view.slice(at..at + HEAD * 4).copy_from_slice(&bytes);
        for Placed { job, .. } in one.0.drain(..) {
            open.batch.0.push(Placed {
                job,
                at: open.frames,
                bytes: need.frame,
            });
        }
        open.frames += need.frame;
        open.extent[0] = open.extent[0].max(frame.width);
        open.extent[1] = open.extent[1].max(frame.height);
        self.bytes = bytes;
        Ok(())
    }

    /// Fills `bytes` with the tables of both axes, or with nothing where none are needed.
    fn tabulate(&mut self, need: &Need, view: &ViewTransform, background: Size, frame: Size) {
        self.bytes.clear();
        if need.whole.is_none() {
            self.x.build(view.x, background.width, frame.width);
            self.y.build(view.y, background.height, frame.height);
            table(&mut self.bytes, &self.x);
            table(&mut self.bytes, &self.y);
        }
    }

    fn heads(&self) -> u64 {
        (self.batch_max * HEAD * 4) as u64
    }

    /// The set that is being filled; waits for one where there is none.
    fn opened(&mut self) -> Result<&mut Open, Gone> {
        if self.open.is_none() {
            self.ready()?;
            let slot = self.spare.pop().ok_or(Gone)?;
            let view = slot.upload.get_mapped_range_mut(..).map_err(|_| Gone)?;
            let descriptor = wgpu::CommandEncoderDescriptor::default();
            self.open = Some(Open {
                view,
                encoder: self.device.device.create_command_encoder(&descriptor),
                front: self.heads(),
                back: self.sizes.upload,
                frames: 0,
                extent: [0; 2],
                batch: Batch::default(),
                slot,
            });
        }
        self.open.as_mut().ok_or(Gone)
    }

    /// How textures lie on the device.
    fn format(&self) -> TextureFormat {
        self.device.info.textures
    }

    /// Puts a texture that is not there to a place, where it lies once all that was recorded is done.
    fn take_in(&mut self, key: TextureKey, data: &[u8]) -> Result<Result<Place, Refusal>, Gone> {
        let units = data.len() as u64 / slab::grid(self.format(), 0).unit_bytes;
        let place = loop {
            let Self {
                atlas,
                slabs,
                device,
                host,
                sizes,
                changes,
                number,
                ..
            } = self;
            let grow = |slab: usize| {
                slabs[slab] = Slab::make(device, &**host, sizes.slab);
                *changes += 1;
                slabs[slab].is_some()
            };
            match atlas.place(key, units, *number, grow) {
                Ok(place) => break place,
                Err(NoPlace::TooLong) => return Ok(Err(Refusal::TooLarge)),
                Err(NoPlace::NoSlab) => return Ok(Err(Refusal::NoMemory)),
                // What the batch draws from may go once it is submitted.
                Err(NoPlace::Busy) => self.submit()?,
            }
        };
        self.upload(place, data)?;
        self.atlas.find(key, self.number);
        self.host.tell(Event::Uploaded);
        self.told();
        Ok(Ok(place))
    }

    /// Puts a texture's blocks on the device, unless it has changed to another format, or has no room for them: its frames are the CPU's
    /// then, and the next one asks again.
    pub fn take_in_blocks(&mut self, encoded: &Encoded) -> Result<(), Gone> {
        let Encoded {
            key, size, blocks, ..
        } = encoded;
        let known = self.atlas.find(*key, self.number).is_some();
        if known || self.format().bytes(*size) != blocks.len() as u64 {
            return Ok(());
        }
        let taken_in = self.take_in(*key, blocks)?;
        self.no_room = taken_in.is_err().then(Instant::now);
        self.submit()
    }

    /// Records copies of a texture to its place; a long one goes in several submissions.
    fn upload(&mut self, place: Place, mut data: &[u8]) -> Result<(), Gone> {
        let unit_bytes = slab::grid(self.format(), 0).unit_bytes;
        let mut at = place.at;
        while !data.is_empty() {
            self.opened()?;
            let slab = self.slabs[place.slab].as_ref().ok_or(Gone)?;
            let open = self.open.as_mut().ok_or(Gone)?;
            let room = (open.back - open.front) as usize & !3;
            let (now, later) = data.split_at(slab.piece(data.len(), room));
            if now.is_empty() {
                self.submit()?;
                continue;
            }
            open.back -= now.len() as u64;
            let from = open.back;
            open.view
                .slice(from as usize..from as usize + now.len())
                .copy_from_slice(now);
            let bytes = now.len() as u64;
            slab.copy(&mut open.encoder, &open.slot.upload, from, at, bytes);
            at += bytes / unit_bytes;
            data = later;
        }
        Ok(())
    }

    /// Submits what was recorded, if anything.
    pub fn submit(&mut self) -> Result<(), Gone> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        self.number += 1;
        let Open {
            mut slot,
            view,
            mut encoder,
            front,
            frames,
            extent,
            batch,
            ..
        } = open;
        drop(view);
        slot.upload.unmap();
        if !batch.0.is_empty() {
            encoder.copy_buffer_to_buffer(&slot.upload, 0, &slot.inputs, 0, front);
            self.bind(&mut slot);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.device.pipeline);
            if let Some((_, group)) = &slot.bound {
                pass.set_bind_group(0, group, &[]);
            }
            let [across, down] = groups(extent);
            pass.dispatch_workgroups(across, down, batch.0.len() as u32);
            drop(pass);
            encoder.copy_buffer_to_buffer(&slot.frames, 0, &slot.readback, 0, frames);
        }
        let submission = self.device.queue.submit([encoder.finish()]);
        let mapping = slot.map(frames);
        if self.host.destroy() {
            self.device.device.destroy();
            self.device.lost.set("destroyed by an injected fault");
        }
        let flight = Flight {
            batch,
            submission,
            mapping,
            frames,
            slot,
        };
        self.flights.send(flight).map_err(|_| Gone)?;
        self.alive()
    }

    /// Binds a set's buffers and the slabs there are, unless that has been done.
    fn bind(&self, slot: &mut Slot) {
        if matches!(slot.bound, Some((changes, _)) if changes == self.changes) {
            return;
        }
        let slabs = self
            .slabs
            .iter()
            .map(|slab| slab.as_ref().unwrap_or(&self.stub));
        let buffers = [&slot.inputs, &slot.frames].map(wgpu::Buffer::as_entire_binding);
        let entries: Vec<_> = (0..)
            .zip(buffers.into_iter().chain(slabs.map(Slab::binding)))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let group = self
            .device
            .device
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &self.device.pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
        slot.bound = Some((self.changes, group));
    }

    /// Gives up slabs until textures take no more than `bytes`.
    pub fn shrink_to(&mut self, bytes: u64) -> Result<(), Gone> {
        let gone = self.atlas.shrink_to(bytes);
        if gone.is_empty() {
            return Ok(());
        }
        // While the device draws from a slab, or a set is bound to it, its memory stays, whatever is said here.
        self.submit()?;
        while (self.spare.len() as u64) < SLOTS {
            self.spare.push(self.free.recv().map_err(|_| Gone)?);
        }
        for slot in &mut self.spare {
            slot.bound = None;
        }
        for slab in gone {
            if let Some(slab) = self.slabs[slab].take() {
                slab.destroy();
            }
            self.changes += 1;
        }
        self.told();
        self.alive()
    }

    fn told(&self) {
        let slabs = self.slabs.iter().flatten().count() as u64;
        self.host.tell(Event::Held {
            textures: self.atlas.bytes(),
            all: slabs * self.sizes.slab + self.sizes.all_bytes(),
        });
    }
}
