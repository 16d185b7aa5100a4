//! Reference service: virtual backgrounds for a million sessions out of a few shared textures.
//!
//! The library is everything but the command line's entry point, so that tests and benches reach the parts.
//! This file declares the parts and the process-wide allocator; who may import whom is checked by `tests/layers.rs`.

pub mod app;
pub mod codec;
pub mod config;
pub mod failpoints;
pub mod flyweight;
pub mod frames;
pub mod http;
pub mod memory;
pub mod metrics;
#[cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "system calls that std does not offer")
)]
pub mod priority;
pub mod render;
pub mod sessions;
pub mod store;

/// Version of this build, as `version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Features of this build that change what it can do; empty in a build that may produce figures.
pub const FEATURES: &[&str] = &[
    #[cfg(feature = "failpoints")]
    "failpoints",
    #[cfg(feature = "chaos-controls")]
    "chaos-controls",
];

/// jemalloc serves the whole process, tests included: the memory accounting reads its statistics.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Start-up options of jemalloc. Without the background thread, freed small blocks stay resident for ever;
/// a decay of zero makes large allocations many times dearer.
// SAFETY: jemalloc reads the symbol `malloc_conf` as a pointer to a NUL-terminated string, which a reference to a
// byte array is; no other crate defines it (jemalloc's own definition is weak).
#[expect(
    unsafe_code,
    reason = "the allocator reads its options under this name"
)]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8; 44] = b"background_thread:true,dirty_decay_ms:1000\0\0";

#[cfg(test)]
mod tests {
    #[test]
    #[expect(unsafe_code, reason = "the allocator's controls are untyped")]
    fn allocator_options_took_effect() {
        assert!(tikv_jemalloc_ctl::background_thread::read().expect("readable"));
        // SAFETY: `opt.dirty_decay_ms` is an `ssize_t` in jemalloc's manual.
        let decay: isize =
            unsafe { tikv_jemalloc_ctl::raw::read(b"opt.dirty_decay_ms\0") }.expect("readable");
        assert_eq!(decay, 1000);
    }
}
