//! Where a frame's pixels come from, as far as drawing needs to know: a shared texture under a lease, a session's own one,
//! or a thumbnail.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::codec::PixelsRef;
use crate::flyweight::{self, Flyweights, Lease, LeaseError, Texture, Unavailable};
use crate::memory::ReserveError;

/// Something that keeps decoded pixels alive while it exists: a lease, or a private texture.
pub trait Pixels: Send {
    /// The pixels.
    fn pixels(&self) -> PixelsRef<'_>;
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
}

impl Pixels for Lease {
    fn pixels(&self) -> PixelsRef<'_> {
        Lease::pixels(self)
    }
}

/// A texture that one session owns.
impl Pixels for Arc<Texture> {
    fn pixels(&self) -> PixelsRef<'_> {
        Texture::pixels(self)
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
