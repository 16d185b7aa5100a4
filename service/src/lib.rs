//! Reference service: virtual backgrounds for a million sessions out of a few shared textures.

pub mod codec;
pub mod flyweight;
pub mod memory;
pub mod store;

/// jemalloc for everything: the pixel arena is one of its arenas, and its statistics are what the governor is checked against.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
