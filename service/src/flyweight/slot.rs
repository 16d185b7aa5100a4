//! A slot: one entry of the catalogue for as long as the process lives. What it shows (identity) and what it holds (residency)
//! change apart from each other.
//!
//! A slot is live from its first version on and gone for ever once removed; a new background of the same id gets a new slot, so an
//! index never names two backgrounds within an epoch. `status` answers a switch with one load.

use std::sync::Arc;
use std::time::Instant;

use super::cell::{Active, Cell, Pin};
use super::flight::Flight;
use super::policy::History;
use super::sync::{AtomicU64, Flaw, Mutex, Ordering, Swap, planted};
use super::texture::Texture;
use super::{Identity, LeaseError, Unavailable};

const LIVE: u64 = 1 << 32;
const GONE: u64 = 1 << 33;
/// Old versions that may be pinned at once beside the present one; more means that leases are never returned. Each takes a further
/// cell.
const CELLS_MAX: usize = 64;

/// A load that failed lately. It goes with what failed: a new version or an invalidation forgets it.
#[derive(Debug)]
pub(super) struct Negative {
    pub(super) until: Instant,
    pub(super) error: LeaseError,
}

/// What only changes under the slot's lock.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) flight: Option<Arc<Flight>>,
    pub(super) negative: Option<Negative>,
    /// Grows with every version, every invalidation and the end: a load of an earlier one is overtaken.
    pub(super) generation: u64,
    further: Vec<&'static Cell<Texture>>,
}

/// What a slot ceased to show, to be dropped outside of every lock: its texture, unless a lease still holds it, and its identity with
/// the charge of its thumbnail.
pub(super) type Outgoing = (Option<Texture>, Option<Arc<Identity>>);

impl Control {
    /// Nobody boards this flight any more. A later one is left as it is.
    pub(super) fn close(&mut self, flight: &Arc<Flight>) {
        if self
            .flight
            .as_ref()
            .is_some_and(|open| Arc::ptr_eq(open, flight))
        {
            self.flight = None;
        }
    }
}

/// What a hit reads and writes lies in one cache line, up to `history`, and no two slots share one.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// Holds the texture, unless leases still held an old one there when it came.
    own: Cell<Texture>,
    /// The further cell that holds the texture instead.
    active: Active<Texture>,
    pub(super) history: History,
    status: AtomicU64,
    pub(super) index: u32,
    identity: Swap<Identity>,
    pub(super) control: Mutex<Control>,
}

impl Slot {
    pub(super) fn vacant(index: u32) -> Self {
        Self {
            index,
            history: History::default(),
            control: Mutex::default(),
            status: AtomicU64::new(0),
            identity: Swap::default(),
            own: Cell::new(),
            active: Active::none(),
        }
    }

    /// The present version: one load, no lock.
    pub(super) fn version(&self) -> Result<u32, Unavailable> {
        let status = self.status.load(Ordering::Acquire);
        match status & (LIVE | GONE) {
            LIVE => Ok(status as u32),
            0 => Err(Unavailable::Unknown),
            _ => Err(Unavailable::Gone),
        }
    }

    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.load()
    }

    /// Shows a new version and bars the old texture from new leases. `unlink` empties its cell, still under the slot's lock, so that
    /// no load of the new version comes in between.
    pub(super) fn show(
        &'static self,
        identity: Arc<Identity>,
        unlink: impl FnOnce(&'static Cell<Texture>) -> Option<Texture>,
    ) -> Outgoing {
        let mut control = self.control.lock();
        let status = LIVE | u64::from(identity.stored.version);
        if planted(Flaw::AnnounceFirst) {
            self.status.store(status, Ordering::Release);
        }
        // Barred before it is announced: whoever knows of the new version never gets a lease of the old one.
        let old = self.bar(&mut control);
        if planted(Flaw::IdentityLast) {
            self.status.store(status, Ordering::Release);
        }
        let identity = self.identity.swap(Some(identity));
        self.status.store(status, Ordering::Release);
        (old.and_then(unlink), identity)
    }

    /// Ends the slot: every later look says `Gone`.
    pub(super) fn end(
        &'static self,
        unlink: impl FnOnce(&'static Cell<Texture>) -> Option<Texture>,
    ) -> Outgoing {
        let mut control = self.control.lock();
        let old = self.bar(&mut control);
        self.status.fetch_or(GONE, Ordering::AcqRel);
        let identity = self.identity.swap(None);
        (old.and_then(unlink), identity)
    }

    /// Bars the present texture, and any that is being loaded, from new leases; the version stays. False when no texture was there.
    pub(super) fn invalidate(
        &'static self,
        unlink: impl FnOnce(&'static Cell<Texture>) -> Option<Texture>,
    ) -> (bool, Outgoing) {
        let mut control = self.control.lock();
        let generation = control.generation;
        let old = self.bar(&mut control);
        if planted(Flaw::InvalidateBlind) {
            control.generation = generation;
        }
        (old.is_some(), (old.and_then(unlink), None))
    }

    /// Nothing of what was loaded, is being loaded or failed to load until now counts any more.
    fn bar(&'static self, control: &mut Control) -> Option<&'static Cell<Texture>> {
        control.negative = None;
        control.generation += 1;
        Some(self.cell()).filter(|cell| cell.look().resident && cell.retire())
    }

    /// The identity to load, and the generation that its load belongs to. `None` once the slot has ended.
    pub(super) fn to_load(&self) -> Option<(Arc<Identity>, u64)> {
        let control = self.control.lock();
        Some((self.identity()?, control.generation))
    }

    /// The cell that holds the texture, if there is one.
    pub(super) fn cell(&'static self) -> &'static Cell<Texture> {
        self.active.get().unwrap_or(&self.own)
    }

    #[inline]
    pub(super) fn try_pin(&'static self) -> Option<Pin<Texture>> {
        // A branch, and no address that is chosen: a hit shall not wait for `active` before it goes to the word.
        match self.active.get() {
            None => self.own.try_pin(),
            Some(further) => pin_further(further),
        }
    }

    /// Puts a loaded texture in, if its version is still the present one (or nobody asks, `version_check`); else gives it back, and
    /// so also where leases of old ones have taken all places.
    pub(super) fn install(
        &'static self,
        control: &mut Control,
        texture: Texture,
        version_check: bool,
    ) -> Result<Pin<Texture>, Texture> {
        if version_check && self.version() != Ok(texture.version()) {
            return Err(texture);
        }
        let mut texture = match self.own.install(texture) {
            Ok(pin) => {
                self.active.set(None);
                return Ok(pin);
            }
            Err(back) => back,
        };
        for cell in &control.further {
            match cell.install(texture) {
                Ok(pin) => {
                    self.active.set(Some(cell));
                    return Ok(pin);
                }
                Err(back) => texture = back,
            }
        }
        if control.further.len() >= CELLS_MAX {
            return Err(texture);
        }
        let cell = Cell::leaked();
        control.further.push(cell);
        let pin = cell.install(texture)?;
        self.active.set(Some(cell));
        Ok(pin)
    }
}

#[cold]
#[inline(never)]
fn pin_further(cell: &'static Cell<Texture>) -> Option<Pin<Texture>> {
    cell.try_pin()
}
