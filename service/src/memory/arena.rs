//! The pixel arena: one jemalloc arena that holds every decoded texture and nothing else.
//!
//! Because nothing else allocates from it, the allocator's own statistic `stats.arenas.<i>.large.allocated` must equal the
//! sum this file keeps. The difference is the *drift*; anything but zero at rest means that somebody lost count.
//! It knows neither textures nor budgets. This is the only file of `memory` with `unsafe`.
//!
//! Freed blocks leave the process at once (`dirty_decay_ms` of this arena is 0): the frame pool recycles blocks, so frees
//! are rare, and a freed block whose pages stayed would be memory that no charge covers.

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tikv_jemalloc_ctl::{epoch, raw, stats};
use tikv_jemalloc_sys as je;

/// Alignment of large blocks, and the size of the huge pages that are advised for them.
pub const HUGE_PAGE: usize = 2 << 20;
/// Smaller requests are rounded up to this, jemalloc's first *large* class, so that one statistic counts every block.
const LARGE_MIN: usize = 16 << 10;
/// Requests above this are a programmer error: no image that passes the pixel limit comes near it.
const LARGE_MAX: usize = 1 << 40;
const PAGE: usize = 4096;
/// jemalloc's `MALLCTL_ARENAS_ALL`: the index that means every arena, for which -sys has no constant.
const ARENAS_ALL: u32 = 4096;

/// What can go wrong between this process and its allocator.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// A control call was refused, which also happens when jemalloc is not the global allocator's library.
    #[error("jemalloc control {name} failed: {cause}")]
    Control {
        /// Name of the control.
        name: &'static str,
        /// What jemalloc answered.
        cause: String,
    },
    /// The allocator had no memory for a block.
    #[error("no memory for a block of {bytes} bytes")]
    OutOfMemory {
        /// Size of the request.
        bytes: usize,
    },
}

fn control(name: &'static str) -> impl FnOnce(tikv_jemalloc_ctl::Error) -> ArenaError {
    move |cause| ArenaError::Control {
        name,
        cause: cause.to_string(),
    }
}

/// Process-wide figures of the allocator, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// Bytes that the program holds.
    pub allocated: u64,
    /// Bytes of physical memory the allocator keeps, dirty pages included.
    pub resident: u64,
}

/// Refreshes jemalloc's statistics (about 12 µs with few arenas) and reads the process-wide ones.
pub fn allocator_stats() -> Result<AllocatorStats, ArenaError> {
    epoch::advance().map_err(control("epoch"))?;
    Ok(AllocatorStats {
        allocated: stats::allocated::read().map_err(control("stats.allocated"))? as u64,
        resident: stats::resident::read().map_err(control("stats.resident"))? as u64,
    })
}

/// Returns the dirty pages of *every* arena to the kernel. Takes 12 to 133 ms on a busy process, so never on a request's thread.
pub fn purge_all() -> Result<(), ArenaError> {
    call(&format!("arena.{}.purge", ARENAS_ALL), "arena.*.purge")
}

/// A jemalloc arena of its own, with a ledger of the bytes handed out.
#[derive(Debug)]
pub struct Arena {
    index: u32,
    large_allocated: [usize; 5],
    ledger_bytes: AtomicU64,
    blocks: AtomicU64,
}

impl Arena {
    /// Makes the arena. Arenas are never destroyed: make one per process.
    pub fn new() -> Result<Arc<Self>, ArenaError> {
        // SAFETY: `arenas.create` reads an `unsigned`, which is u32 on every platform jemalloc supports here.
        let index: u32 =
            unsafe { raw::read(b"arenas.create\0") }.map_err(control("arenas.create"))?;
        let decay = CString::new(format!("arena.{index}.dirty_decay_ms")).unwrap_or_default();
        // SAFETY: the control takes an `ssize_t`, and the name ends in a NUL byte.
        unsafe { raw::write(decay.as_bytes_with_nul(), 0isize) }
            .map_err(control("arena.dirty_decay_ms"))?;
        // The statistics know a new arena from the next epoch on.
        epoch::advance().map_err(control("epoch"))?;
        let name =
            CString::new(format!("stats.arenas.{index}.large.allocated")).unwrap_or_default();
        let mut large_allocated = [0usize; 5];
        raw::name_to_mib(name.as_bytes_with_nul(), &mut large_allocated)
            .map_err(control("stats.arenas.large.allocated"))?;
        Ok(Arc::new(Self {
            index,
            large_allocated,
            ledger_bytes: AtomicU64::new(0),
            blocks: AtomicU64::new(0),
        }))
    }

    /// Bytes that a request of `bytes` with `align` really takes (jemalloc's size class): what must be charged for it.
    pub fn usable_size(bytes: usize, align: usize) -> usize {
        let bytes = bytes.clamp(LARGE_MIN, LARGE_MAX);
        // SAFETY: size is not zero and below the allocator's maximum, the alignment is a power of two by `align_flag`.
        unsafe { je::nallocx(bytes, align_flag(align)) }
    }

    /// A zeroed block of at least `bytes`, aligned to `align` (a power of two).
    pub fn allocate(self: &Arc<Self>, bytes: usize, align: usize) -> Result<Block, ArenaError> {
        let usable = Self::usable_size(bytes, align);
        // SAFETY: `usable` comes from nallocx with the same alignment, hence is a valid size; the arena index is ours.
        let pointer = unsafe { je::mallocx(usable, self.flags(align) | je::MALLOCX_ZERO) };
        let start = NonNull::new(pointer.cast::<u8>()).ok_or(ArenaError::OutOfMemory { bytes })?;
        self.ledger_bytes
            .fetch_add(usable as u64, Ordering::Relaxed);
        self.blocks.fetch_add(1, Ordering::Relaxed);
        Ok(Block {
            start,
            usable,
            align,
            arena: Arc::clone(self),
        })
    }

    fn flags(&self, align: usize) -> i32 {
        je::MALLOCX_ARENA(self.index as usize) | je::MALLOCX_TCACHE_NONE | align_flag(align)
    }

    /// Bytes handed out and not yet freed, by this file's own count.
    pub fn ledger_bytes(&self) -> u64 {
        self.ledger_bytes.load(Ordering::Relaxed)
    }

    /// Blocks handed out and not yet freed.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// The same by the allocator's count, as of the last [`allocator_stats`].
    pub fn allocated_bytes(&self) -> Result<u64, ArenaError> {
        // SAFETY: the MIB was translated from this very name, whose value is a `size_t`.
        let bytes: usize = unsafe { raw::read_mib(&self.large_allocated) }
            .map_err(control("stats.arenas.large.allocated"))?;
        Ok(bytes as u64)
    }

    /// Allocator's count less our own, after refreshing the statistics. Zero whenever no call is half-way.
    pub fn drift_bytes(&self) -> Result<i64, ArenaError> {
        epoch::advance().map_err(control("epoch"))?;
        Ok(self.allocated_bytes()? as i64 - self.ledger_bytes() as i64)
    }

    /// Returns whatever the arena keeps of freed blocks to the kernel.
    pub fn purge(&self) -> Result<(), ArenaError> {
        call(&format!("arena.{}.purge", self.index), "arena.purge")
    }
}

fn align_flag(align: usize) -> i32 {
    assert!(
        align.is_power_of_two(),
        "alignment {align} is no power of two"
    );
    je::MALLOCX_ALIGN(align.max(PAGE))
}

/// A control that takes and returns nothing.
fn call(name: &str, label: &'static str) -> Result<(), ArenaError> {
    let name = CString::new(name).map_err(|cause| ArenaError::Control {
        name: label,
        cause: cause.to_string(),
    })?;
    // SAFETY: all value pointers are null, which is what a control without value demands; the name is NUL-terminated.
    let code = unsafe {
        je::mallctl(
            name.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    match code {
        0 => Ok(()),
        code => Err(ArenaError::Control {
            name: label,
            cause: std::io::Error::from_raw_os_error(code).to_string(),
        }),
    }
}

/// One allocation of the arena, freed on drop. Zeroed when new; a recycled one holds what its last owner left.
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    usable: usize,
    align: usize,
    arena: Arc<Arena>,
}

// SAFETY: a block is the sole owner of its memory, and shared access only reads.
unsafe impl Send for Block {}
// SAFETY: as above; `&Block` gives out `&[u8]` only.
unsafe impl Sync for Block {}

impl Block {
    /// Bytes that may be used, at least what was asked for.
    #[expect(clippy::len_without_is_empty, reason = "a block is never empty")]
    pub fn len(&self) -> usize {
        self.usable
    }

    /// The whole block.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the range is ours until drop and was zeroed at allocation, so every byte is initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.usable) }
    }

    /// The whole block, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.usable) }
    }

    /// Asks for huge pages (from 2 MiB on) and faults every page in, so that the cost of growth is paid here and not in the first
    /// decode. Best effort: a kernel before 5.14 knows no `MADV_POPULATE_WRITE` and pays page by page.
    pub fn populate(&mut self) -> bool {
        let start = self.start.as_ptr().cast::<c_void>();
        // SAFETY: the range is page aligned (`align_flag`), lies within our allocation, and neither advice alters contents.
        unsafe {
            if self.align >= HUGE_PAGE {
                libc::madvise(start, self.usable, libc::MADV_HUGEPAGE);
            }
            libc::madvise(start, self.usable, libc::MADV_POPULATE_WRITE) == 0
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the pointer came from mallocx with these flags (zeroing apart) and this usable size, and is freed once.
        unsafe {
            je::sdallocx(
                self.start.as_ptr().cast(),
                self.usable,
                self.arena.flags(self.align),
            )
        };
        self.arena
            .ledger_bytes
            .fetch_sub(self.usable as u64, Ordering::Relaxed);
        self.arena.blocks.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_sizes_are_what_the_allocator_really_takes() {
        assert_eq!(Arena::usable_size(8 << 20, HUGE_PAGE), 8 << 20);
        assert!((8_294_400..=8 << 20).contains(&Arena::usable_size(8_294_400, HUGE_PAGE)));
        assert!(
            Arena::usable_size(1, 4096) >= LARGE_MIN,
            "never a small class, which the statistic leaves out"
        );
    }

    #[test]
    fn ledger_equals_the_allocators_count_for_mixed_sizes() {
        let arena = Arena::new().expect("arena");
        let mut blocks: Vec<Block> = [1usize, 4096, 100_000, 8_294_400, 5 << 20, 33 << 20]
            .into_iter()
            .map(|bytes| {
                arena
                    .allocate(bytes, if bytes >= HUGE_PAGE { HUGE_PAGE } else { PAGE })
                    .expect("block")
            })
            .collect();
        assert_eq!(arena.drift_bytes().expect("statistics"), 0);
        assert!(arena.ledger_bytes() > 40 << 20);
        blocks.truncate(2);
        assert_eq!(arena.drift_bytes().expect("statistics"), 0);
        drop(blocks);
        assert_eq!((arena.ledger_bytes(), arena.blocks()), (0, 0));
        assert_eq!(arena.drift_bytes().expect("statistics"), 0);
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_writable() {
        let arena = Arena::new().expect("arena");
        let mut block = arena.allocate(3 << 20, HUGE_PAGE).expect("block");
        assert_eq!(block.as_slice().as_ptr() as usize % HUGE_PAGE, 0);
        block.populate();
        assert!(block.as_slice().iter().all(|&byte| byte == 0));
        block.as_mut_slice().fill(7);
        assert_eq!(block.as_slice()[block.len() - 1], 7);
        drop(block);
        arena.purge().expect("purge");
        purge_all().expect("purge of all arenas");
        let again = arena.allocate(3 << 20, HUGE_PAGE).expect("block");
        assert!(
            again.as_slice().iter().all(|&byte| byte == 0),
            "a fresh block never shows an earlier one"
        );
    }
}
