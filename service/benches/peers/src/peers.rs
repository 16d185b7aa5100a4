//! The peers, each by its real interface and in its best configuration for few, large, shared values.
//!
//! All hold the same values (an `Arc` of a decoded texture, or less) under the same keys and hash with the same function.

use foyer_memory::{CacheBuilder, EvictionConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig};
use moka::policy::EvictionPolicy;
use quick_cache::{OptionsBuilder, UnitWeighter};

/// The fastest of those that they bring; given to all, so that none pays for a slower one.
pub type RandomState = quick_cache::DefaultHashBuilder;

pub type Quick<V> = quick_cache::sync::Cache<u32, V, UnitWeighter, RandomState>;
pub type Moka<V> = moka::sync::Cache<u32, V, RandomState>;
pub type MokaSegmented<V> = moka::sync::SegmentedCache<u32, V, RandomState>;
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
    quick_cache::sync::Cache::with_options(options, UnitWeighter, RandomState::default(), lifecycle)
}

/// moka's policies, the default first.
pub fn moka_policies() -> [(EvictionPolicy, &'static str); 2] {
    [
        (EvictionPolicy::tiny_lfu(), "moka"),
        (EvictionPolicy::lru(), "moka lru"),
    ]
}

pub fn moka<V: Clone + Send + Sync + 'static>(capacity: usize, policy: EvictionPolicy) -> Moka<V> {
    moka::sync::Cache::builder()
        .max_capacity(capacity as u64)
        .eviction_policy(policy)
        .build_with_hasher(RandomState::default())
}

/// In parts that know nothing of each other; each has room for `capacity`, so that nothing is evicted by chance.
pub fn moka_segmented<V: Clone + Send + Sync + 'static>(
    capacity: usize,
    segments: usize,
    policy: EvictionPolicy,
) -> MokaSegmented<V> {
    moka::sync::SegmentedCache::builder(segments)
        .max_capacity((capacity * segments) as u64)
        .eviction_policy(policy)
        .build_with_hasher(RandomState::default())
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
        .with_hash_builder(RandomState::default())
        .build()
}
