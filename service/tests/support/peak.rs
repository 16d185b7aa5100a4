//! jemalloc's high-water mark of the calling thread, which it keeps to 64 KiB or so.

#![expect(unsafe_code, reason = "the allocator's controls are untyped")]

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
