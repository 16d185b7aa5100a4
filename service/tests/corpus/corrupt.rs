//! Files that are next to nothing, and what a cut leaves whole.

use super::Case;

pub fn cases() -> Vec<Case> {
    let unknown = |name, file: &[u8]| Case::condemned(name, file.to_vec(), "unknown format");
    let truncated = |name, file: &[u8]| Case::condemned(name, file.to_vec(), "truncated");
    vec![
        unknown("nothing", b""),
        unknown("one byte", b"\xFF"),
        unknown("a text", b"no picture at all, but text"),
        unknown("a GIF", b"GIF89a\x01\0\x01\0\0\0\0;"),
        unknown("an SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
        unknown("a RIFF of another kind", b"RIFF\x24\0\0\0WAVEfmt "),
        unknown("zeroes", &[0; 4096]),
        truncated("the start of a JPEG", b"\xFF\xD8\xFF"),
        truncated("the start of a PNG", b"\x89PNG\r\n\x1a\n"),
        truncated("the start of a WebP", b"RIFF\x24\0\0\0WEBP"),
        truncated(
            "a JPEG of fill bytes",
            &[&b"\xFF\xD8"[..], &[0xFF; 5000]].concat(),
        ),
        truncated("a JPEG of segments", &segments()),
    ]
}

/// A megabyte of the shortest segments there are.
fn segments() -> Vec<u8> {
    [b"\xFF\xD8".as_slice(), &b"\xFF\xE5\0\x02".repeat(1 << 18)].concat()
}

/// Whether the picture is complete in the first `end` bytes: only bytes of something else were cut.
pub fn is_whole(case: &Case, end: usize) -> bool {
    let trailer = [
        "JPEG and ZIP",
        "PNG with trailing data",
        "WebP with trailing data",
    ];
    if !trailer.contains(&case.name.as_str()) {
        return false;
    }
    let file = &case.file;
    let at = |needle: &[u8]| file.windows(needle.len()).position(|part| part == needle);
    at(b"PK").is_some_and(|zip| end >= zip)
}
