//! How a texture that is not there is come by: who opens a flight, who joins it, what it loads, and how it lands.
//!
//! All that decides happens under the slot's lock; loading, spawning and dropping do not. It knows how to load as a closure only.

use std::sync::Arc;
use std::time::Instant;

use super::flight::{Flight, Seat};
use super::lease::{Lease, LeaseError};
use super::loader::LoadError;
use super::slot::{Negative, Slot};
use super::sync::{Flaw, planted};
use super::texture::Texture;
use super::workers::WorkerError;
use super::{Flyweights, Identity, OVERTAKEN_MAX, Unavailable};
use crate::metrics::LoadResult;

impl Flyweights {
    /// Under the slot's lock: join the flight that is under way, or open one. A flight that is open brings the version that is
    /// present now or a later one, since it is closed under the same lock under which its texture is installed.
    pub(super) fn board(self: &Arc<Self>, slot: &'static Slot) -> Result<Boarded, LeaseError> {
        let mut control = slot.control.lock();
        slot.version()?;
        if let Some(lease) = self.pin(slot) {
            return Ok(Boarded::Resident(lease));
        }
        if let Some(flight) = control
            .flight
            .as_ref()
            .filter(|_| self.config.single_flight && !planted(Flaw::BoardBlind))
        {
            return Ok(Boarded::Joined(flight.board()));
        }
        if let Some(negative) = &control.negative
            && Instant::now() < negative.until
        {
            return Err(negative.error.clone());
        }
        if !self.budget.growth_open() {
            return Err(LeaseError::Exhausted);
        }
        let flight = Arc::new(Flight::default());
        control.flight = Some(Arc::clone(&flight));
        let seat = flight.board();
        let flying = Flying {
            flyweights: Arc::clone(self),
            slot,
            flight,
            ended: false,
        };
        Ok(Boarded::Opened(seat, flying))
    }

    /// Loads the present version; when it was replaced or invalidated meanwhile, once more.
    async fn load_present<L>(
        &self,
        slot: &'static Slot,
        flight: &Arc<Flight>,
        load: impl Fn(Arc<Identity>) -> L,
    ) -> Result<Lease, LeaseError>
    where
        L: Future<Output = Result<Texture, LoadError>>,
    {
        for _ in 0..OVERTAKEN_MAX {
            let Some((identity, generation)) = slot.to_load() else {
                return Err(Unavailable::Gone.into());
            };
            let started = Instant::now();
            let loaded = load(Arc::clone(&identity)).await;
            let landed = self.land(slot, flight, generation, loaded);
            let result = match &landed {
                Some(Ok(_)) => LoadResult::Ok,
                Some(Err(error)) if error.is_overload() => LoadResult::Shed,
                Some(Err(_)) => LoadResult::Error,
                None => LoadResult::Overtaken,
            };
            self.metrics.flyweight.loads_total.of(result).inc();
            match landed {
                Some(Ok(lease)) => {
                    self.metrics
                        .flyweight
                        .load_duration_seconds
                        .observe(started.elapsed().as_secs_f64());
                    return Ok(lease);
                }
                Some(Err(error)) => {
                    tracing::debug!(id = &*identity.stored.id, version = identity.stored.version, %error, "load failed");
                    return Err(error);
                }
                None => {}
            }
        }
        Err(LeaseError::Overtaken)
    }

    /// What a load begun in `generation` came to, decided and the flight closed in one go under the slot's lock: whoever comes after
    /// a replace finds neither this flight nor this failure. `None`: overtaken, the flight goes on.
    pub(super) fn land(
        &self,
        slot: &'static Slot,
        flight: &Arc<Flight>,
        generation: u64,
        loaded: Result<Texture, LoadError>,
    ) -> Option<Result<Lease, LeaseError>> {
        let mut refused = None;
        let mut control = slot.control.lock();
        let checked = self.config.version_check;
        if checked && control.generation != generation {
            return None;
        }
        // Without a single flight others may have brought it first; a second texture in the slot would never be evicted.
        let theirs = match self.config.single_flight {
            true => None,
            false => self.pin(slot),
        };
        let outcome = match (theirs, loaded) {
            (Some(lease), loaded) => {
                refused = loaded.ok();
                Ok(lease)
            }
            (None, Ok(texture)) => {
                match self.residents.install(slot, &mut control, texture, checked) {
                    Ok(pin) => Ok(self.wrap(slot, pin)),
                    // Its version is the present one, so every place for a texture is under a lease of an old one.
                    Err(texture) => {
                        refused = Some(texture);
                        Err(LeaseError::Exhausted)
                    }
                }
            }
            (None, Err(error)) => {
                let error = LeaseError::from(error);
                if matches!(error, LeaseError::Load(_) | LeaseError::TooLarge(_)) {
                    control.negative = Some(Negative {
                        until: Instant::now() + self.config.negative_ttl,
                        error: error.clone(),
                    });
                }
                Err(error)
            }
        };
        if !planted(Flaw::LandOpen) {
            control.close(flight);
        }
        drop(control);
        drop(refused);
        Some(outcome)
    }
}

/// What a caller finds whose texture was not there at first.
pub(super) enum Boarded {
    /// The texture is there.
    Resident(Lease),
    /// Its load is under way.
    Joined(Seat),
    /// Its load is this caller's to start.
    Opened(Seat, Flying),
}

/// The task of one flight. Dropped half-way (a panic, the end of the runtime) it still ends the flight.
pub(super) struct Flying {
    flyweights: Arc<Flyweights>,
    slot: &'static Slot,
    flight: Arc<Flight>,
    ended: bool,
}

impl Flying {
    pub(super) async fn run(self) {
        let flyweights = Arc::clone(&self.flyweights);
        let loader = &flyweights.loader;
        self.run_with(|identity| async move { loader.load(&identity.stored).await })
            .await;
    }

    pub(super) async fn run_with<L>(mut self, load: impl Fn(Arc<Identity>) -> L)
    where
        L: Future<Output = Result<Texture, LoadError>>,
    {
        let outcome = self
            .flyweights
            .load_present(self.slot, &self.flight, load)
            .await;
        self.end(outcome);
    }

    fn end(&mut self, outcome: Result<Lease, LeaseError>) {
        self.ended = true;
        self.slot.control.lock().close(&self.flight);
        self.flight.complete(outcome);
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err(LeaseError::Load(Arc::new(WorkerError::Stopped.into()))));
        }
    }
}
