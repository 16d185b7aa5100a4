//! The least that a composite could cost: the same bytes read and written, and next to nothing done to them.

/// `to = a ^ b ^ mask`, stored past the cache where the CPU has AVX2. `mask` has a byte for every four of the others.
pub fn xor(a: &[u8], b: &[u8], mask: &[u8], to: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && to.as_ptr().align_offset(32) == 0 {
        // SAFETY: the CPU has AVX2, and the address is a multiple of 32.
        unsafe { avx2::xor(a, b, mask, to) };
        return;
    }
    for (at, to) in to.iter_mut().enumerate() {
        *to = a[at] ^ b[at] ^ mask[at / 4];
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    /// # Safety
    /// The address of `to` must be a multiple of 32.
    #[target_feature(enable = "avx2")]
    pub unsafe fn xor(a: &[u8], b: &[u8], mask: &[u8], to: &mut [u8]) {
        let (a, _) = a.as_chunks::<128>();
        let (b, _) = b.as_chunks::<128>();
        let (mask, _) = mask.as_chunks::<32>();
        let (to, _) = to.as_chunks_mut::<128>();
        for (((a, b), mask), to) in a.iter().zip(b).zip(mask).zip(to) {
            // SAFETY: each pointer is that of 32 or 128 bytes; `to` is a multiple of 128 away from where the caller aligned it.
            unsafe {
                let mask = _mm256_loadu_si256(mask.as_ptr().cast());
                for at in 0..4 {
                    let a = _mm256_loadu_si256(a.as_ptr().cast::<__m256i>().add(at));
                    let b = _mm256_loadu_si256(b.as_ptr().cast::<__m256i>().add(at));
                    let mixed = _mm256_xor_si256(_mm256_xor_si256(a, b), mask);
                    _mm256_stream_si256(to.as_mut_ptr().cast::<__m256i>().add(at), mixed);
                }
            }
        }
        _mm_sfence();
    }
}
