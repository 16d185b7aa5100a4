//! Leases: how pixels are held, how they were come by, and why there are none.

use std::sync::Arc;

use super::cell::Pin;
use super::loader::LoadError;
use super::reclaim::Residents;
use super::slot::Slot;
use super::texture::Texture;
use super::{Identity, Unavailable};
use crate::codec::{PixelsRef, Size};
use crate::memory::budget::ReserveError;
use crate::metrics::AccessResult;
use crate::store::StoreError;

/// How a lease was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// The texture was there.
    Hit,
    /// It was not, and this caller started the load.
    Miss,
    /// It was not, and a load was under way.
    Joined,
}

impl Access {
    /// As the header `backdrop-cache` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Hit => "hit",
            Access::Miss => "miss",
            Access::Joined => "joined",
        }
    }

    pub(super) fn result(self) -> AccessResult {
        match self {
            Access::Hit => AccessResult::Hit,
            Access::Miss => AccessResult::Miss,
            Access::Joined => AccessResult::Joined,
        }
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    /// Never given out, or removed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No memory for it now: shed, or show the thumbnail.
    #[error("no memory for the texture now")]
    Exhausted,
    /// Its pixels can never fit.
    #[error(transparent)]
    TooLarge(ReserveError),
    /// Not there in time. The load goes on.
    #[error("the texture was not there in time")]
    Deadline,
    /// The load failed; shared by all who waited for it.
    #[error(transparent)]
    Load(Arc<LoadError>),
    /// It was replaced faster than it could be loaded.
    #[error("the background was replaced faster than it could be loaded")]
    Overtaken,
}

impl LeaseError {
    /// Whether it is for lack of room or time, so that the same request may succeed later.
    pub fn is_overload(&self) -> bool {
        matches!(
            self,
            LeaseError::Exhausted | LeaseError::Deadline | LeaseError::Overtaken
        )
    }

    pub(super) fn result(&self) -> AccessResult {
        if self.is_overload() {
            AccessResult::Shed
        } else {
            AccessResult::Error
        }
    }
}

impl From<LoadError> for LeaseError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Reserve(too_large @ ReserveError::TooLarge { .. }) => {
                LeaseError::TooLarge(too_large)
            }
            overload if overload.is_overload() => LeaseError::Exhausted,
            fault => LeaseError::Load(Arc::new(fault)),
        }
    }
}

/// A texture, pinned: its pixels stay as they are until the lease is dropped. Hold it for one render.
#[derive(Debug)]
pub struct Lease {
    pub(super) pin: Option<Pin<Texture>>,
    pub(super) slot: &'static Slot,
    pub(super) residents: &'static Residents,
}

impl Lease {
    #[inline]
    fn texture(&self) -> &Texture {
        match &self.pin {
            Some(pin) => pin.get(),
            None => unreachable!("only drop takes the pin"),
        }
    }

    /// The pixels.
    pub fn pixels(&self) -> PixelsRef<'_> {
        self.texture().pixels()
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.texture().size()
    }

    /// Version of the background that the pixels show.
    #[inline]
    pub fn version(&self) -> u32 {
        self.texture().version()
    }

    /// Index of the flyweight.
    pub fn index(&self) -> u32 {
        self.slot.index
    }
}

impl Clone for Lease {
    #[inline]
    fn clone(&self) -> Self {
        Self {
            pin: self.pin.clone(),
            slot: self.slot,
            residents: self.residents,
        }
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        if let Some(pin) = self.pin.take() {
            self.residents.release(self.slot, pin);
        }
    }
}

/// What a frame is made of.
#[derive(Debug)]
pub enum Source {
    /// The pixels.
    Texture(Lease, Access),
    /// Memory or time is short: the small picture that is always there.
    Thumbnail(Arc<Identity>),
}

impl From<StoreError> for LeaseError {
    fn from(error: StoreError) -> Self {
        LeaseError::Load(Arc::new(error.into()))
    }
}
