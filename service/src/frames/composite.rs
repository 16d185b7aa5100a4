//! Composites: a caller's own frame and mask over what stands behind the session, in a queue and on threads of their own.
//!
//! Previews have others: a flood of composites, each of which may decode two pictures and encode a third, must not keep them waiting.
//! A deadline counts from the moment of the request to the last stage of the work; a caller that leaves, or whose deadline passes,
//! gives its place in the queue back and its work is not done, or not finished. Pictures pushed to streams are decoded here, too. Where
//! a GPU draws, the same threads do what comes before and after it (see [`by_gpu`]).

pub(super) mod by_gpu;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::draw::{Backing, Easel, Wanted};
use super::gpu::Canvas;
use super::layers::{Overlay, Part};
use super::sources::{Room, Sources};
use super::stream::{Picture, Stream};
use super::worker::Failure;
use super::{Access, FrameError, FrameRequest, Frames, Resident, Source, SourceError, Textures};
use crate::codec::{CodecError, Header, Size};
use crate::failpoints;
use crate::memory::{Budget, Charge, Purpose, aside};
use crate::metrics::{CompositeResult, Drawer, Metrics, PushResult, ShedReason};
use crate::render::Radius;
use by_gpu::ByGpu;

/// What is to stand behind a participant.
pub enum Backdrop {
    /// A flyweight: its texture, loaded if need be, or its thumbnail.
    Flyweight(u32),
    /// A texture that the session owns.
    Owned(Resident),
    /// A stream's frame, as the session's view shows it.
    Stream(Arc<Picture>),
    /// The participant's own frame, blurred, where it lies: the view has no part in it.
    Blur(Radius),
}

/// What is asked for.
pub struct CompositeRequest {
    /// Size, format, view and deadline. The size is the overlay's where there is one.
    pub frame: FrameRequest,
    /// What lies over the background.
    pub overlay: Option<Overlay>,
    /// What stands behind.
    pub backdrop: Backdrop,
}

/// What stood behind a participant in a finished composite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stood {
    /// A flyweight.
    Image {
        /// Its index.
        index: u32,
        /// Version of its pixels.
        version: u32,
        /// How they were come by.
        access: Access,
    },
    /// A frame of a stream.
    Stream {
        /// Its number.
        sequence: u64,
    },
    /// The participant's own frame, blurred.
    Blur,
}

/// A finished composite.
#[derive(Debug)]
pub struct Composite {
    /// The encoded picture. Its memory stays charged until the last clone of these bytes is gone.
    pub bytes: Bytes,
    /// Media type of `bytes`.
    pub content_type: &'static str,
    /// What stood behind.
    pub stood: Stood,
}

/// What became of a frame that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its number.
    pub sequence: u64,
    /// Whether it stood, if only for a moment: not, where a later one stood already or the stream was closed.
    pub shown: bool,
}

/// What a thread does.
enum Work {
    Compose {
        backing: Backing,
        overlay: Option<Overlay>,
        request: FrameRequest,
    },
    /// Of an overlay pixels, for a GPU; the charge covers them and what making them takes.
    Lay { overlay: Overlay, charge: Charge },
    /// Of a GPU's frame what was asked for; the charge covers it and what making it takes.
    Encode {
        canvas: Canvas,
        request: FrameRequest,
        charge: Charge,
    },
    Open {
        file: Bytes,
        header: Header,
        stream: Arc<Stream>,
        sequence: u64,
        room: Room,
    },
}

/// What a thread has made.
enum Made {
    /// A file, or pixels.
    Bytes(Bytes),
    /// An overlay that is laid.
    Overlay(Overlay),
}

/// A piece of work, for somebody who waits.
pub(super) struct Task {
    work: Work,
    deadline: Instant,
    reply: oneshot::Sender<Result<Made, Failure>>,
}

impl Task {
    /// Does it on a thread of the pool.
    pub(super) fn run(self, easel: &mut Easel, budget: &Arc<Budget>, metrics: &Metrics) {
        let Self {
            work,
            deadline,
            reply,
        } = self;
        let gone = || reply.is_closed();
        let wanted = Wanted {
            deadline,
            gone: &gone,
        };
        let result = wanted.check().and_then(|()| {
            let start = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| work.run(easel, budget, &wanted)));
            metrics
                .composites
                .duration_seconds
                .observe(start.elapsed().as_secs_f64());
            done.unwrap_or(Err(Failure::Panicked))
        });
        easel.tidy();
        drop(reply.send(result));
    }
}

impl Work {
    fn run(
        self,
        easel: &mut Easel,
        budget: &Arc<Budget>,
        wanted: &Wanted<'_>,
    ) -> Result<Made, Failure> {
        // Once for each composite, whoever draws it.
        if !matches!(self, Self::Lay { .. }) {
            failpoints::delay_blocking(failpoints::FRAMES_COMPOSITE_DELAY);
        }
        let bytes = match self {
            Self::Lay { overlay, charge } => {
                return by_gpu::lay_out(overlay, charge).map(Made::Overlay);
            }
            Self::Encode {
                canvas,
                request,
                charge,
            } => by_gpu::encode(canvas, &request, charge)?,
            Self::Compose {
                backing,
                overlay,
                request,
            } => easel.compose(backing, overlay, &request, wanted)?,
            Self::Open {
                file,
                header,
                stream,
                sequence,
                room,
            } => {
                if stream.is_overtaken(sequence) {
                    return Err(Failure::Overtaken);
                }
                let bytes = header.output_bytes();
                let charge = budget.try_reserve(Purpose::Streams, bytes);
                let charge = charge.map_err(Failure::Reserve)?;
                let pixels = easel.open_file(&file, &header)?;
                Bytes::from_owner(Kept {
                    pixels: Some(pixels.into()),
                    charge: Some(charge),
                    room: Some(room),
                })
            }
        };
        Ok(Made::Bytes(bytes))
    }
}

/// Pixels of a stream, or of an overlay, with what they are counted in. Freed where a thread may be kept.
struct Kept {
    pixels: Option<Bytes>,
    charge: Option<Charge>,
    room: Option<Room>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.pixels.as_ref().map_or(&[], |pixels| pixels)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Free at once: the stream's next frame may be on its way.
        drop(self.room.take());
        // Pixels before what they are charged to.
        aside::discard((self.pixels.take(), self.charge.take()));
    }
}

/// Counts a composite whose caller does not stay for its end.
struct Awaited<'a> {
    metrics: &'a Metrics,
    result: CompositeResult,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.metrics.composites.results_total.of(self.result).inc();
    }
}

impl Frames {
    /// Whether a composite may come in; one that would be refused for the length of the queue is counted as shed. To be asked before
    /// its frame is taken in.
    pub fn admits_composite(&self) -> bool {
        let admitted = !self.composites.is_full();
        if !admitted {
            let total = &self.metrics.composites.results_total;
            total.of(CompositeResult::Shed).inc();
        }
        admitted
    }

    /// Why a frame of a stream may not come in now, if so; it is counted as shed then. To be asked before it is taken in.
    pub fn refuses_push(&self) -> Option<ShedReason> {
        let reason = if (self.critical)() {
            ShedReason::Governor
        } else if self.composites.is_full() {
            ShedReason::Queue
        } else {
            return None;
        };
        self.metrics.sources.frames_total.of(PushResult::Shed).inc();
        Some(reason)
    }

    /// Draws a composite. Dropping the future gives everything up that is not done yet.
    ///
    /// # Errors
    /// [`FrameError::Late`] once the deadline has passed, and whatever else keeps it from being drawn.
    pub async fn composite(
        &self,
        textures: &impl Textures,
        request: CompositeRequest,
    ) -> Result<Composite, FrameError> {
        let mut awaited = Awaited {
            metrics: &self.metrics,
            result: CompositeResult::Cancelled,
        };
        let outcome = self.composite_uncounted(textures, request).await;
        awaited.result = result_of(&outcome);
        outcome
    }

    async fn composite_uncounted(
        &self,
        textures: &impl Textures,
        request: CompositeRequest,
    ) -> Result<Composite, FrameError> {
        let CompositeRequest {
            frame,
            overlay,
            backdrop,
        } = request;
        self.check(&frame)?;
        let of_size = overlay
            .as_ref()
            .is_none_or(|overlay| overlay.size() == frame.size);
        assert!(of_size, "a composite is as large as its overlay");
        if overlay.is_none() && matches!(backdrop, Backdrop::Blur(_)) {
            return Err(FrameError::NoForeground);
        }
        let work = async {
            let (backing, stood) = self.backing(textures, backdrop, &frame).await?;
            let bytes = self.composed(backing, overlay, stood, &frame).await?;
            Ok((bytes, stood))
        };
        let (bytes, stood) = in_time(frame.deadline, work).await?;
        Ok(Composite {
            bytes,
            content_type: frame.format.content_type(),
            stood,
        })
    }

    /// Takes a frame of a stream that is `size` large: decoded if need be, it is the stream's newest one unless a later one stands already.
    ///
    /// # Errors
    /// As [`Frames::composite`].
    pub async fn push(
        &self,
        sources: &Sources,
        stream: &Arc<Stream>,
        size: Size,
        part: Part,
        deadline: Instant,
    ) -> Result<Pushed, FrameError> {
        let outcome = in_time(
            deadline,
            self.push_uncounted(sources, stream, size, part, deadline),
        );
        let outcome = outcome.await;
        let result = match &outcome {
            Ok(Pushed { shown: true, .. }) => PushResult::Ok,
            Ok(_) => PushResult::Overtaken,
            Err(FrameError::Shed { .. } | FrameError::Late) => PushResult::Shed,
            Err(_) => PushResult::Rejected,
        };
        self.metrics.sources.frames_total.of(result).inc();
        outcome
    }

    async fn push_uncounted(
        &self,
        sources: &Sources,
        stream: &Arc<Stream>,
        size: Size,
        part: Part,
        deadline: Instant,
    ) -> Result<Pushed, FrameError> {
        let bytes = size.bytes();
        if bytes > sources.stream_bytes_max() {
            return Err(FrameError::TooLarge { bytes });
        }
        let (room, _replacing) = sources
            .room(stream, bytes)
            .ok_or_else(|| self.shed(ShedReason::Budget))?;
        let sequence = stream.arrive();
        let pixels = match part {
            Part::Raw(pixels) => Bytes::from_owner(Kept {
                pixels: Some(pixels),
                charge: None,
                room: Some(room),
            }),
            Part::File(file, header) => {
                let work = Work::Open {
                    file,
                    header,
                    stream: Arc::clone(stream),
                    sequence,
                    room,
                };
                match self.bytes(work, deadline).await {
                    Ok(pixels) => pixels,
                    Err(FrameError::Overtaken) => {
                        return Ok(Pushed {
                            sequence,
                            shown: false,
                        });
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let picture = Picture::new(pixels, size, sequence);
        let picture = picture.ok_or(FrameError::Internal("a pushed frame has another size"))?;
        let shown = stream.show(picture);
        Ok(Pushed { sequence, shown })
    }

    /// What stands behind, held for the draw, and what the answer will say about it.
    async fn backing(
        &self,
        textures: &impl Textures,
        backdrop: Backdrop,
        frame: &FrameRequest,
    ) -> Result<(Backing, Stood), FrameError> {
        let of = |resident: Resident| {
            let stood = Stood::Image {
                index: resident.index,
                version: resident.version,
                access: resident.access,
            };
            (Backing::Pixels(resident.pixels), stood)
        };
        Ok(match backdrop {
            Backdrop::Owned(resident) => of(resident),
            Backdrop::Stream(picture) => {
                let sequence = picture.sequence();
                let backing = Backing::Pixels(Box::new(picture));
                (backing, Stood::Stream { sequence })
            }
            Backdrop::Blur(radius) => (Backing::Blur(radius), Stood::Blur),
            Backdrop::Flyweight(index) => {
                let source = textures.source(index, self.load_deadline(frame)).await;
                match source.map_err(|error| match error {
                    SourceError::Late => FrameError::Late,
                    other => self.without_source(other),
                })? {
                    Source::Resident(resident) => of(resident),
                    Source::Thumbnail(thumbnail) => {
                        let stood = Stood::Image {
                            index,
                            version: thumbnail.version,
                            access: Access::Degraded,
                        };
                        (Backing::Thumbnail(thumbnail.bytes), stood)
                    }
                }
            }
        })
    }

    /// The finished frame: drawn by the GPU if there is one that takes it, else by a thread of the pool.
    async fn composed(
        &self,
        backing: Backing,
        overlay: Option<Overlay>,
        stood: Stood,
        frame: &FrameRequest,
    ) -> Result<Bytes, FrameError> {
        let (backing, overlay) = match self.by_gpu(backing, overlay, stood, frame).await? {
            ByGpu::Drawn(bytes) => return Ok(self.drawn_by(Drawer::Gpu, bytes)),
            ByGpu::Left(backing, overlay) => (backing, overlay),
        };
        let work = Work::Compose {
            backing,
            overlay,
            request: *frame,
        };
        let bytes = self.bytes(work, frame.deadline).await?;
        Ok(self.drawn_by(Drawer::Cpu, bytes))
    }

    fn drawn_by(&self, drawer: Drawer, bytes: Bytes) -> Bytes {
        self.metrics.gpu.frames_drawn_total.of(drawer).inc();
        bytes
    }

    /// Queues work that makes bytes and waits for it.
    async fn bytes(&self, work: Work, deadline: Instant) -> Result<Bytes, FrameError> {
        match self.done(work, deadline).await? {
            Made::Bytes(bytes) => Ok(bytes),
            Made::Overlay(_) => Err(FrameError::Internal("a thread made an overlay of a frame")),
        }
    }

    /// Queues work and waits for it.
    async fn done(&self, work: Work, deadline: Instant) -> Result<Made, FrameError> {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            work,
            deadline,
            reply,
        };
        let place = self.composites.push(task);
        let _place = place.map_err(|reason| self.shed(reason))?;
        let done = answer.await.unwrap_or(Err(Failure::Stopped));
        done.map_err(|failure| match failure {
            Failure::Late => FrameError::Late,
            other => self.failed(other),
        })
    }
}

async fn in_time<T>(
    deadline: Instant,
    work: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    tokio::time::timeout_at(deadline.into(), work)
        .await
        .unwrap_or(Err(FrameError::Late))
}

fn result_of(outcome: &Result<Composite, FrameError>) -> CompositeResult {
    match outcome {
        Ok(composite) => match composite.stood {
            Stood::Image {
                access: Access::Degraded,
                ..
            } => CompositeResult::Degraded,
            _ => CompositeResult::Ok,
        },
        Err(FrameError::Shed { .. }) => CompositeResult::Shed,
        Err(FrameError::Late) => CompositeResult::Late,
        // A file of the caller's that is none.
        Err(FrameError::Codec(error)) if !matches!(error, CodecError::Encode { .. }) => {
            CompositeResult::Rejected
        }
        Err(error) if error.is_the_callers() => CompositeResult::Rejected,
        Err(_) => CompositeResult::Error,
    }
}
