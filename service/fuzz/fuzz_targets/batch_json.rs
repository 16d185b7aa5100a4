//! See `batch_json` of the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    backdrop_fuzz::batch_json::check(bytes);
});
