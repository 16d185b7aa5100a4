//! What the calling thread takes from jemalloc: the most it held, and what it holds.
#![allow(unsafe_code, reason = "the allocator's controls are untyped")]
#![allow(dead_code, reason = "not every test needs both")]

use tikv_jemalloc_ctl::thread::{allocatedp, deallocatedp};

/// Peaks are noted whenever this much was allocated.
pub const GRAIN: u64 = 128 * 1024;

/// Starts a measurement.
pub fn reset() {
    // SAFETY: the control takes and gives nothing.
    let failed = unsafe {
        let none = std::ptr::null_mut();
        tikv_jemalloc_sys::mallctl(c"thread.peak.reset".as_ptr(), none, none.cast(), none, 0)
    };
    assert_eq!(failed, 0);
}

/// Most bytes held beyond those at the reset.
pub fn bytes() -> u64 {
    // SAFETY: the control reads a `uint64_t` by jemalloc's manual.
    unsafe { tikv_jemalloc_ctl::raw::read(b"thread.peak.read\0") }.expect("readable")
}

/// Bytes that this thread allocated and has not freed.
pub fn held() -> u64 {
    let count = |counter: Result<u64, _>| counter.expect("jemalloc counts them");
    let allocated = count(allocatedp::read().map(|counter| counter.get()));
    allocated.wrapping_sub(count(deallocatedp::read().map(|counter| counter.get())))
}
