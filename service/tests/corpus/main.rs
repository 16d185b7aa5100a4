//! Every kind of file that may be sent as a background, and what becomes of it.
//!
//! Files are made here: by the encoders of our decoders' own projects, by the small writers beside this file where no encoder writes such
//! a thing, and by other people's encoders (`fixtures/make.py`). Three promises are checked of each, measured by the allocator's
//! own count for the thread: what the header condemns is refused with next to no memory, all else stays within what its header had reserved,
//! and either way everything is given back. No decoder's panic is ever the answer.

mod corrupt;
mod exif;
mod jpeg;
#[path = "../support/peak.rs"]
mod peak;
mod picture;
mod png;
mod webp;

use backdrop_service::codec::{self, CodecError, Header, Limits, PixelsMut, PixelsRef};

use picture::Picture;

/// Most that a refusal by the header may take.
const CONDEMNED_BYTES: u64 = 1 << 20;

/// A file and what must become of it.
struct Case {
    name: String,
    file: Vec<u8>,
    expected: Expected,
}

enum Expected {
    /// It decodes to this, give or take `tolerance` per sample.
    Picture { picture: Picture, tolerance: u8 },
    /// Its header alone has it refused, for this reason (see [`reason`]).
    Condemned(&'static str),
    /// Its header is fine, its data is not.
    Broken,
    /// A picture or an error.
    Answered,
}

impl Case {
    fn picture(name: impl Into<String>, file: Vec<u8>, picture: Picture, tolerance: u8) -> Self {
        let expected = Expected::Picture { picture, tolerance };
        Self::new(name, file, expected)
    }

    fn condemned(name: impl Into<String>, file: Vec<u8>, reason: &'static str) -> Self {
        Self::new(name, file, Expected::Condemned(reason))
    }

    fn broken(name: impl Into<String>, file: Vec<u8>) -> Self {
        Self::new(name, file, Expected::Broken)
    }

    fn new(name: impl Into<String>, file: Vec<u8>, expected: Expected) -> Self {
        Self {
            name: name.into(),
            file,
            expected,
        }
    }
}

fn reason(error: &CodecError) -> &'static str {
    match error {
        CodecError::UnknownFormat { .. } => "unknown format",
        CodecError::TooLarge { .. } => "too large",
        CodecError::ZeroSize { .. } => "zero size",
        CodecError::Animated { .. } => "animated",
        CodecError::Unsupported { .. } => "unsupported",
        CodecError::Truncated { .. } => "truncated",
        CodecError::Malformed { .. } => "malformed",
        CodecError::ScratchExceeded { .. } => "scratch exceeded",
        CodecError::Encode { .. } => "encode",
    }
}

/// What became of a file, and what that took.
struct Outcome {
    header: Result<Header, CodecError>,
    pixels: Result<Vec<u8>, CodecError>,
    probe_peak: u64,
    decode_peak: u64,
}

type Decode = fn(&[u8], &Header, PixelsMut<'_>) -> Result<(), CodecError>;

/// Probes and decodes by `decode`, and fails where that took more than was promised.
fn take_in(name: &str, file: &[u8], decode: Decode) -> Outcome {
    peak::reset();
    let header = codec::probe(file, &Limits::default());
    let mut outcome = Outcome {
        pixels: header.clone().map(|_| Vec::new()),
        header,
        probe_peak: peak::bytes(),
        decode_peak: 0,
    };
    if let Ok(header) = &outcome.header {
        // Not zeroes: a decoder that leaves pixels alone must show.
        let mut block = vec![0xA5; header.output_bytes() as usize];
        let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
        peak::reset();
        let decoded = decode(file, header, out);
        outcome.decode_peak = peak::bytes();
        assert!(
            outcome.decode_peak <= header.scratch_bytes + peak::GRAIN,
            "{name}: took {} bytes of {} reserved",
            outcome.decode_peak,
            header.scratch_bytes
        );
        outcome.pixels = decoded.map(|()| block);
    }
    for error in [outcome.header.as_ref().err(), outcome.pixels.as_ref().err()] {
        let text = error.map(ToString::to_string).unwrap_or_default();
        assert!(!text.contains("panicked"), "{name}: {text}");
    }
    outcome
}

/// Fails where memory stays behind once all that a decode returned is gone.
fn gives_all_back(name: &str, file: &[u8]) {
    let before = peak::held();
    if let Ok(header) = codec::probe(file, &Limits::default()) {
        let mut block = vec![0; header.output_bytes() as usize];
        let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
        drop(codec::decode(file, &header, out));
    }
    assert_eq!(peak::held(), before, "{name}: kept memory");
}

fn judge(case: &Case) {
    let Case {
        name,
        file,
        expected,
    } = case;
    gives_all_back(name, file);
    let outcome = take_in(name, file, codec::decode);
    match expected {
        Expected::Picture { picture, tolerance } => {
            let header = outcome.header.as_ref().expect(name);
            assert_eq!(header.size, picture.size, "{name}");
            let pixels = outcome.pixels.expect(name);
            if let Err(difference) = picture.compare(&pixels, *tolerance) {
                panic!("{name}: {difference}");
            }
            let again = take_in(name, file, codec::decode_trusted);
            assert!(again.pixels.expect(name) == pixels, "{name}: trusted");
        }
        Expected::Condemned(expected) => {
            let error = outcome.header.expect_err(name);
            assert_eq!(reason(&error), *expected, "{name}: {error}");
            assert!(outcome.probe_peak < CONDEMNED_BYTES, "{name}");
        }
        Expected::Broken => {
            outcome.header.expect(name);
            outcome.pixels.expect_err(name);
        }
        Expected::Answered => {}
    }
}

/// Everything but what [`corrupt`] makes of it.
fn corpus() -> Vec<Case> {
    let mut cases = jpeg::cases();
    cases.extend(png::cases());
    cases.extend(webp::cases());
    cases.extend(exif::cases());
    cases.extend(corrupt::cases());
    cases
}

/// First uses fill what lives as long as the thread.
fn warm() {
    for case in corpus() {
        if let Ok(header) = codec::probe(&case.file, &Limits::default()) {
            let mut block = vec![0; header.output_bytes() as usize];
            let out = PixelsMut::new(&mut block, header.size).expect("made for this size");
            let _ = codec::decode(&case.file, &header, out);
        }
    }
}

#[test]
fn every_file_becomes_what_it_must() {
    warm();
    let cases = corpus();
    for case in &cases {
        judge(case);
    }
    for of in ["Picture", "Condemned", "Broken"] {
        let is = |case: &&Case| match case.expected {
            Expected::Picture { .. } => of == "Picture",
            Expected::Condemned(_) => of == "Condemned",
            Expected::Broken => of == "Broken",
            Expected::Answered => false,
        };
        assert!(cases.iter().filter(is).count() > 8, "few of {of}");
    }
}

/// Where a picture stops, trailing bytes of another file do not count.
#[test]
fn no_sixteenth_of_a_file_passes_for_the_whole() {
    warm();
    for case in corpus() {
        let Expected::Picture { .. } = case.expected else {
            continue;
        };
        for part in 0..16 {
            let end = case.file.len() * part / 16;
            if corrupt::is_whole(&case, end) {
                continue;
            }
            let name = format!("{} cut at {part}/16", case.name);
            gives_all_back(&name, &case.file[..end]);
            let outcome = take_in(&name, &case.file[..end], codec::decode);
            let error = outcome.pixels.expect_err(&name);
            let text = error.to_string();
            assert!(
                matches!(
                    error,
                    CodecError::Truncated { .. } | CodecError::UnknownFormat { .. }
                ),
                "{name}: {text}"
            );
            if outcome.header.is_err() {
                assert!(outcome.probe_peak < CONDEMNED_BYTES, "{name}");
            }
        }
    }
}

/// A picture that was accepted can be shown as its thumbnail as well.
#[test]
fn every_picture_has_a_thumbnail() {
    for case in corpus() {
        if let Expected::Picture { picture, .. } = case.expected {
            let pixels = PixelsRef::new(&picture.pixels, picture.size).expect("made for this size");
            let file = codec::thumbnail(pixels).expect(&case.name);
            assert!(file.len() <= codec::thumbnail::THUMBNAIL_BYTES_MAX);
        }
    }
}
