//! What the calling thread allocates, as jemalloc counts it: two loads, no call.
//!
//! For code that bounds a library whose allocations it cannot see. It knows no budget; a thread that frees what another one
//! allocated reads as having less.

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp, deallocatedp};

/// The counters of the thread that made it. Not `Send`: they are its own.
#[derive(Clone, Copy)]
pub struct ThreadBytes {
    allocated: ThreadLocal<u64>,
    deallocated: ThreadLocal<u64>,
    start: u64,
    allocated_start: u64,
}

impl std::fmt::Debug for ThreadBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadBytes")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl ThreadBytes {
    /// Counts from now on. `None` when jemalloc keeps no such counters.
    pub fn start() -> Option<Self> {
        let mut counting = Self {
            allocated: allocatedp::read().ok()?,
            deallocated: deallocatedp::read().ok()?,
            start: 0,
            allocated_start: 0,
        };
        counting.allocated_start = counting.allocated.get();
        counting.start = counting.difference();
        Some(counting)
    }

    fn difference(&self) -> u64 {
        self.allocated.get().wrapping_sub(self.deallocated.get())
    }

    /// Bytes allocated by this thread since the start, freed or not.
    pub fn allocated(&self) -> u64 {
        self.allocated.get().wrapping_sub(self.allocated_start)
    }

    /// Bytes allocated and not freed by this thread since the start; 0 when it freed more than it allocated.
    pub fn held(&self) -> u64 {
        let held = self.difference().wrapping_sub(self.start);
        u64::try_from(held.cast_signed()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_held_and_forgets_what_is_freed() {
        let counting = ThreadBytes::start().expect("jemalloc");
        let block = std::hint::black_box(vec![1u8; 1 << 20]);
        assert!(counting.held() >= 1 << 20);
        drop(block);
        assert!(counting.held() < 1 << 20);
        assert!(counting.allocated() >= 1 << 20);
    }
}
