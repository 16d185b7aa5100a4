//! Where a frame's pixels come from, as far as drawing needs to know: a shared texture under a lease, a session's own one,
//! or a thumbnail.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::FrameRequest;
use crate::codec::PixelsRef;
use crate::flyweight::{
    self, Flyweights, Keeper, Lease, LeaseError, Looked, Texture, Unavailable, Wanted,
};
use crate::memory::ReserveError;

/// Something that keeps decoded pixels alive while it exists: a lease, or a private texture.
pub trait Pixels: Send {
    /// The pixels.
    fn pixels(&self) -> PixelsRef<'_>;

    /// Whether they are the frame itself, drawn before: all that is left to do is to copy them.
    fn is_frame(&self) -> bool {
        false
    }

    /// Takes leave with the frame that was drawn of them.
    fn drawn(self: Box<Self>, _frame: PixelsRef<'_>) {}

    /// The same pixels once more, for whoever works with them at the same time. `None`: they are for one frame only.
    fn share(&self) -> Option<Box<dyn Pixels>> {
        None
    }
}

/// How pixels were come by; a frame's answer names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// They were resident.
    Hit,
    /// Another caller was loading them.
    Joined,
    /// This caller loaded them.
    Miss,
    /// They were not to be had; the thumbnail took their place.
    Degraded,
}

impl Access {
    /// `hit`, `joined`, `miss` or `degraded`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Joined => "joined",
            Self::Miss => "miss",
            Self::Degraded => "degraded",
        }
    }
}

/// Pixels that are here now.
pub struct Resident {
    /// Keeps them; dropped as soon as they are drawn.
    pub pixels: Box<dyn Pixels>,
    /// Flyweight.
    pub index: u32,
    /// Version of the pixels.
    pub version: u32,
    /// How they were come by.
    pub access: Access,
}

impl Resident {
    /// A texture that one session owns, drawn as flyweight `index`.
    pub fn owned(index: u32, texture: Arc<Texture>) -> Self {
        Self {
            version: texture.version(),
            pixels: Box::new(texture),
            index,
            access: Access::Hit,
        }
    }
}

/// The small JPEG that is always resident.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// The file, at most 4 KiB.
    pub bytes: Bytes,
    /// Version of the picture it was made from.
    pub version: u32,
}

/// Why there are no pixels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// No room to load them now.
    #[error("no memory to load the texture")]
    Exhausted,
    /// They were not there before the deadline.
    #[error("the texture was not loaded in time")]
    Late,
    /// The flyweight was removed.
    #[error("the flyweight is gone")]
    Gone,
    /// There is no such flyweight.
    #[error("no such flyweight")]
    Unknown,
    /// They can never fit.
    #[error("the texture needs {bytes} bytes, more than can ever be reserved")]
    TooLarge {
        /// What they would take.
        bytes: u64,
    },
    /// The load failed.
    #[error("load failed: {0}")]
    Load(String),
}

/// What a frame can be drawn from.
pub enum Source {
    /// The picture itself.
    Resident(Resident),
    /// Memory or time are short: the small picture that is always there.
    Thumbnail(Thumbnail),
}

/// Shared textures by flyweight index.
pub trait Textures: Sync {
    /// What to draw of `index`: its pixels, loaded if need be, or its thumbnail where memory or time do not allow that.
    /// Gives up at `deadline`.
    fn source(
        &self,
        index: u32,
        deadline: Instant,
    ) -> impl Future<Output = Result<Source, SourceError>> + Send;

    /// The same for one frame, which may be there as it was drawn before.
    fn frame(
        &self,
        index: u32,
        _request: &FrameRequest,
        deadline: Instant,
    ) -> impl Future<Output = Result<Source, SourceError>> + Send {
        self.source(index, deadline)
    }
}

impl Textures for Arc<Flyweights> {
    async fn source(&self, index: u32, deadline: Instant) -> Result<Source, SourceError> {
        match Flyweights::source(self, index, deadline.into(), true).await? {
            flyweight::Source::Texture(lease, access) => Ok(Source::Resident(Resident {
                index,
                version: lease.version(),
                access: access.into(),
                pixels: Box::new(lease),
            })),
            flyweight::Source::Thumbnail(identity) => Ok(Source::Thumbnail(Thumbnail {
                bytes: identity.stored.thumbnail.clone(),
                version: identity.stored.version,
            })),
        }
    }

    async fn frame(
        &self,
        index: u32,
        request: &FrameRequest,
        deadline: Instant,
    ) -> Result<Source, SourceError> {
        let wanted = wanted(request);
        if let Some(lease) = self.rendition(index, &wanted) {
            return Ok(Source::Resident(Resident {
                index,
                version: lease.version(),
                access: Access::Hit,
                pixels: Box::new(Rendition(lease)),
            }));
        }
        match Flyweights::source(self, index, deadline.into(), true).await? {
            flyweight::Source::Texture(lease, access) => Ok(Source::Resident(Resident {
                index,
                version: lease.version(),
                access: access.into(),
                pixels: match self.keeper(&lease, &wanted).await {
                    Some(keeper) => Box::new(Kept { lease, keeper }),
                    None => Box::new(lease),
                },
            })),
            flyweight::Source::Thumbnail(identity) => Ok(Source::Thumbnail(Thumbnail {
                bytes: identity.stored.thumbnail.clone(),
                version: identity.stored.version,
            })),
        }
    }
}

/// The frame in the numbers that renditions are known by.
fn wanted(request: &FrameRequest) -> Wanted {
    let view = request.view.clamped();
    let [left, top] = view.crop_origin.map(u32::cast_signed);
    let [width, height] = view.crop_size.map(u32::cast_signed);
    let [right, down] = view.uv_offset;
    let zoom = view.scale.cast_signed();
    Wanted {
        size: request.size,
        looked: Looked {
            window: [left, top, width, height, right, down, zoom],
            alpha: view.alpha,
        },
    }
}

impl Pixels for Lease {
    fn pixels(&self) -> PixelsRef<'_> {
        Lease::pixels(self)
    }

    fn share(&self) -> Option<Box<dyn Pixels>> {
        Some(Box::new(self.clone()))
    }
}

/// A frame as it was drawn before.
struct Rendition(Lease);

impl Pixels for Rendition {
    fn pixels(&self) -> PixelsRef<'_> {
        self.0.pixels()
    }

    fn is_frame(&self) -> bool {
        true
    }
}

/// A texture whose frame is to be kept.
struct Kept {
    lease: Lease,
    keeper: Keeper,
}

impl Pixels for Kept {
    fn pixels(&self) -> PixelsRef<'_> {
        self.lease.pixels()
    }

    fn drawn(self: Box<Self>, frame: PixelsRef<'_>) {
        let Self { lease, keeper } = *self;
        drop(lease);
        keeper.keep(frame);
    }

    fn share(&self) -> Option<Box<dyn Pixels>> {
        self.lease.share()
    }
}

/// A texture that one session owns.
impl Pixels for Arc<Texture> {
    fn pixels(&self) -> PixelsRef<'_> {
        Texture::pixels(self)
    }

    fn share(&self) -> Option<Box<dyn Pixels>> {
        Some(Box::new(Arc::clone(self)))
    }
}

impl From<flyweight::Access> for Access {
    fn from(access: flyweight::Access) -> Self {
        match access {
            flyweight::Access::Hit => Self::Hit,
            flyweight::Access::Miss => Self::Miss,
            flyweight::Access::Joined => Self::Joined,
        }
    }
}

impl From<LeaseError> for SourceError {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Unavailable(Unavailable::Unknown) => Self::Unknown,
            LeaseError::Unavailable(Unavailable::Gone) => Self::Gone,
            LeaseError::Exhausted => Self::Exhausted,
            LeaseError::Deadline | LeaseError::Overtaken => Self::Late,
            LeaseError::TooLarge(
                ReserveError::TooLarge { requested, .. }
                | ReserveError::Exhausted { requested, .. },
            ) => Self::TooLarge { bytes: requested },
            LeaseError::Load(cause) => Self::Load(cause.to_string()),
        }
    }
}
