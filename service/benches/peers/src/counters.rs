//! What allocator and kernel count: requests and bytes of jemalloc, page faults and resident memory of the process.

use std::io;

use tikv_jemalloc_ctl::{epoch, raw, stats};

/// jemalloc's counts at one instant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heap {
    /// Requests for memory so far, of all arenas.
    pub requests: u64,
    /// Bytes held.
    pub allocated: u64,
}

impl Heap {
    /// Flushes this thread's cache, whose counts would else be missing, and reads. Other threads should be at rest.
    pub fn read() -> io::Result<Self> {
        let failed = |error: tikv_jemalloc_ctl::Error| io::Error::other(error.to_string());
        let none = std::ptr::null_mut();
        // SAFETY: the name ends in a NUL byte, and the control takes and gives no value, which null pointers say.
        let flushed = unsafe {
            let name = c"thread.tcache.flush";
            tikv_jemalloc_sys::mallctl(name.as_ptr(), none, none.cast(), none, 0)
        };
        if flushed != 0 {
            return Err(io::Error::from_raw_os_error(flushed));
        }
        epoch::advance().map_err(failed)?;
        let count = |name: &[u8]| {
            // SAFETY: both counters are `uint64_t` in jemalloc's manual; 4096 stands for all arenas together.
            let count: Result<u64, _> = unsafe { raw::read(name) };
            count.map_err(failed)
        };
        Ok(Self {
            requests: count(b"stats.arenas.4096.small.nrequests\0")?
                + count(b"stats.arenas.4096.large.nrequests\0")?,
            allocated: stats::allocated::read().map_err(failed)? as u64,
        })
    }

    /// What came since `before`: requests, and bytes held (which may be fewer).
    pub fn since(&self, before: &Self) -> (u64, i64) {
        let bytes = self.allocated.wrapping_sub(before.allocated).cast_signed();
        (self.requests - before.requests, bytes)
    }
}

/// Page faults of this process that needed no disk.
pub fn page_faults() -> u64 {
    // SAFETY: the structure is plain data, filled by the call.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    usage.ru_minflt.unsigned_abs()
}

/// Resident bytes of this process.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
