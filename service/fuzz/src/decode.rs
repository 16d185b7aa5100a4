//! An upload: judged by its first bytes, by its header, and decoded. It takes what its header had reserved and no more, and what an upload
//! is accepted as, a later load of it sees too.

use backdrop_service::codec::{self, Limits, PixelsMut};

use super::peak;

/// Small, so that many are tried: what a decoder takes grows with the picture, how it errs does not.
const PIXELS_MAX: u64 = 1 << 16;

/// What a refusal by the header may take.
const CONDEMNED_BYTES: u64 = 1 << 20;

/// Whether it is a picture.
///
/// # Panics
/// Where a promise is broken.
pub fn check(file: &[u8]) -> bool {
    let limits = Limits::with_pixels_max(PIXELS_MAX);
    peak::reset();
    let probed = codec::probe(file, &limits);
    assert!(peak::bytes() < CONDEMNED_BYTES);
    for end in [12, file.len() / 2, file.len()] {
        let head = &file[..end.min(file.len())];
        if codec::peek(head, &limits).is_err() {
            assert!(probed.is_err(), "refused by its first {end} bytes alone");
        }
    }
    let Ok(header) = probed else { return false };
    let mut block = vec![0xA5; header.output_bytes() as usize];
    peak::reset();
    let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
    let outcome = codec::decode(file, &header, out);
    let peak = peak::bytes();
    assert!(
        peak <= header.scratch_bytes + peak::GRAIN,
        "took {peak} bytes of {header:?}"
    );
    if let Err(error) = outcome {
        assert!(!error.to_string().contains("panicked"), "{error}");
        return false;
    }
    let mut again = vec![0x5A; block.len()];
    let out = PixelsMut::new(&mut again, header.size).expect("made for this size");
    codec::decode_trusted(file, &header, out).expect("it was accepted before");
    assert!(again == block, "a decode leaves pixels to what was there");
    true
}
