//! The peers, each by its real interface and in its best configuration for few, large, shared values.
//!
//! All hold the same values (an `Arc` of a decoded texture, or less) under the same keys and hash with the same function.

use ahash::RandomState;
use foyer_memory::{CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use quick_cache::{OptionsBuilder, UnitWeighter};

pub type Quick<V> = quick_cache::sync::Cache<u32, V, UnitWeighter, RandomState>;
pub type Moka<V> = moka::sync::Cache<u32, V, RandomState>;
pub type Foyer<V> = foyer_memory::Cache<u32, V, RandomState>;

/// quick_cache for `capacity` entries. `shards` of 0 leaves the choice to it.
pub fn quick<V: Clone>(capacity: usize, shards: usize) -> Quick<V> {
    let mut options = OptionsBuilder::new();
    options
        .estimated_items_capacity(capacity)
        .weight_capacity(capacity as u64);
    if shards > 0 {
        options.shards(shards);
    }
    let options = options.build().expect("every option is set");
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    quick_cache::sync::Cache::with_options(options, UnitWeighter, RandomState::new(), lifecycle)
}

pub fn moka<V: Clone + Send + Sync + 'static>(capacity: usize) -> Moka<V> {
    moka::sync::Cache::builder()
        .max_capacity(capacity as u64)
        .build_with_hasher(RandomState::new())
}

/// foyer's policies; the configuration within each is its default.
pub fn foyer_policies() -> [(&'static str, EvictionConfig); 4] {
    [
        ("foyer lru", LruConfig::default().into()),
        ("foyer lfu", LfuConfig::default().into()),
        ("foyer s3fifo", S3FifoConfig::default().into()),
        ("foyer sieve", SieveConfig.into()),
    ]
}

pub fn foyer<V: Send + Sync + 'static>(
    capacity: usize,
    shards: usize,
    policy: EvictionConfig,
) -> Foyer<V> {
    CacheBuilder::new(capacity)
        .with_shards(shards)
        .with_eviction_config(policy)
        .with_hash_builder(RandomState::new())
        .build()
}
