//! See `decode` of the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backdrop_fuzz::decode::check(bytes);
});
