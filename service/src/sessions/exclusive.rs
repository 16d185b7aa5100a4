//! Textures that sessions own, one each: the naive control that shows what sharing saves.
//!
//! Pixels come through the same loader as shared ones, are fully written, and stay until the session switches again or
//! ends. Nothing evicts them: that is the point.

use super::SessionId;
use crate::flyweight::Texture;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 64;

type Shard = HashMap<SessionId, Arc<Texture>>;

/// Textures by session.
#[derive(Debug)]
pub struct Exclusive {
    shards: Box<[Mutex<Shard>]>,
}

impl Default for Exclusive {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Exclusive {
    fn shard(&self, id: SessionId) -> &Mutex<Shard> {
        &self.shards[id.slot() as usize % SHARDS]
    }

    /// Gives a session its texture; the one it had is freed, outside the lock.
    pub fn keep(&self, id: SessionId, texture: Texture) {
        let old = self.shard(id).lock().insert(id, Arc::new(texture));
        drop(old);
    }

    /// Takes a session's texture from it.
    pub fn release(&self, id: SessionId) {
        let old = self.shard(id).lock().remove(&id);
        drop(old);
    }

    /// A session's texture.
    #[must_use]
    pub fn texture(&self, id: SessionId) -> Option<Arc<Texture>> {
        self.shard(id).lock().get(&id).cloned()
    }
}
