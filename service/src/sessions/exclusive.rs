//! Textures that sessions own, one each: the naive control that shows what sharing saves.
//!
//! Pixels come through the same loader as shared ones, are fully written, and stay until the session switches again or
//! ends. Nothing evicts them: that is the point. A texture stands here together with the flyweight it shows, so that
//! nobody has to guess whose pixels they are.

use super::SessionId;
use crate::flyweight::Texture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 64;

type Shard<T> = HashMap<SessionId, (u32, Arc<T>)>;

/// Textures by session. What a texture is does not matter here.
#[derive(Debug)]
pub struct Exclusive<T = Texture> {
    shards: Box<[Mutex<Shard<T>>]>,
}

impl<T> Default for Exclusive<T> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl<T> Exclusive<T> {
    fn shard(&self, id: SessionId) -> &Mutex<Shard<T>> {
        &self.shards[id.slot() as usize % SHARDS]
    }

    /// Gives a session its texture of `flyweight` if `still_named` says that the session names it; else the texture is
    /// freed. The one it had is freed too. Both happen outside the lock.
    ///
    /// Asked under the lock: of two switches that race, the one whose flyweight the session ends up with is the last to
    /// pass, in whatever order they arrive here.
    pub fn keep_if(
        &self,
        id: SessionId,
        flyweight: u32,
        texture: T,
        still_named: impl FnOnce() -> bool,
    ) {
        let texture = Arc::new(texture);
        let unused = {
            let mut shard = self.shard(id).lock();
            if still_named() {
                shard.insert(id, (flyweight, texture))
            } else {
                Some((flyweight, texture))
            }
        };
        drop(unused);
    }

    /// Takes a session's texture from it.
    pub fn release(&self, id: SessionId) {
        let old = self.shard(id).lock().remove(&id);
        drop(old);
    }

    /// A session's texture, and the flyweight it shows.
    #[must_use]
    pub fn texture(&self, id: SessionId) -> Option<(u32, Arc<T>)> {
        self.shard(id).lock().get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Every order in which the two steps of two switches can fall.
    #[test]
    fn of_two_switches_the_session_ends_with_name_and_pixels_of_one() {
        let id = SessionId(1);
        for order in ["aAbB", "abAB", "abBA", "baAB", "baBA", "bBaA"] {
            let (exclusive, named) = (Exclusive::<u32>::default(), Cell::new(0));
            for step in order.chars() {
                let flyweight = u32::from(step.to_ascii_lowercase());
                if step.is_lowercase() {
                    named.set(flyweight);
                } else {
                    exclusive.keep_if(id, flyweight, flyweight, || named.get() == flyweight);
                }
            }
            let (flyweight, pixels) = exclusive.texture(id).expect("one of them");
            assert_eq!((flyweight, *pixels), (named.get(), named.get()), "{order}");
        }
    }

    #[test]
    fn an_ended_session_keeps_nothing() {
        let (exclusive, id) = (Exclusive::<u32>::default(), SessionId(1));
        exclusive.keep_if(id, 7, 7, || false);
        assert!(exclusive.texture(id).is_none());
    }
}
