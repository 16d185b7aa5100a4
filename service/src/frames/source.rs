//! Where a frame's pixels come from, as far as drawing needs to know: a shared texture under a lease, a session's own one,
//! or a thumbnail.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;

use crate::codec::PixelsRef;

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
    /// The load failed.
    #[error("load failed: {0}")]
    Load(String),
}

/// Shared textures by flyweight index.
pub trait Textures: Sync {
    /// Pixels of `index`, loading them if need be; gives up at `deadline`.
    fn lease(&self, index: u32, deadline: Instant) -> impl Future<Output = Result<Resident, SourceError>> + Send;

    /// Pixels of `index` if they are resident; `None` when they are not.
    fn try_lease(&self, index: u32) -> Option<Result<Resident, SourceError>>;

    /// The thumbnail of `index`, if it is a live flyweight that has one.
    fn thumbnail(&self, index: u32) -> Option<Thumbnail>;
}
