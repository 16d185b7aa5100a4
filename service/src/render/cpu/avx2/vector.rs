//! Vectors in and out of memory.

use std::arch::x86_64::*;

/// The same sixteen bytes in both halves.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn both_lanes(bytes: &[u8; 16]) -> __m256i {
    // SAFETY: a reference is readable, this one for 16 bytes, and the load needs no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

/// The same four words in all quarters.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn four(words: &[u16; 4]) -> __m256i {
    // SAFETY: a reference is readable, this one for 8 bytes, and the read needs no alignment.
    _mm256_set1_epi64x(unsafe { words.as_ptr().cast::<i64>().read_unaligned() })
}

/// 32 bytes without padding, of which any are valid.
pub(super) trait Vector {}
impl Vector for [u8; 32] {}
impl Vector for [u16; 16] {}
impl Vector for [u32; 8] {}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load<T: Vector>(from: &T) -> __m256i {
    const { assert!(size_of::<T>() == size_of::<__m256i>()) };
    // SAFETY: a reference is readable, this one for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(from).cast()) }
}

/// Stores 32 bytes. This thread sees what it streamed in order with all else; others do after [`super::Avx2::finish`].
///
/// # Safety
/// Where `STREAM`, the address of `to` must be a multiple of 32.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) unsafe fn store<const STREAM: bool>(to: &mut [u8; 32], value: __m256i) {
    let to: *mut __m256i = to.as_mut_ptr().cast();
    // SAFETY: what the pointer comes from is writable for 32 bytes. Only streaming needs an alignment, for which the caller vouches.
    unsafe {
        match STREAM {
            true => _mm256_stream_si256(to, value),
            false => _mm256_storeu_si256(to, value),
        }
    }
}
