//! Encoded pictures in and out: what a file claims ([`probe`]), its pixels ([`decode`]), and files made from pixels.
//!
//! Bytes in, bytes out: no I/O, no budget, no threads; of `memory` only the count of what a decode takes. The caller reserves memory first, which is why [`probe`] reads
//! headers only and says in [`Header`] how much a decode will take. The invariant: a file either decodes completely or is
//! an error, never a picture with a grey rest. A picture is turned the way its EXIF orientation says, so that its size is the one
//! that is seen. Colour profiles (ICC, gamma and the like) are not applied: samples are taken as sRGB, whatever the file says.

pub mod decode;
pub mod encode;
mod jpeg_scan;
pub mod limits;
mod metered;
mod orientation;
pub mod pixels;
pub mod probe;
pub mod thumbnail;
mod vp8_parts;

#[cfg(test)]
mod tests;

pub use decode::{decode, decode_trusted};
pub use encode::{
    encode_jpeg, encode_png, encode_webp, jpeg_bytes_max, png_bytes_max, png_scratch_bytes,
    webp_bytes_max, webp_scratch_bytes,
};
pub use limits::Limits;
pub use orientation::Orientation;
pub use pixels::{PixelsMut, PixelsRef, Size};
pub use probe::{peek, probe};
pub use thumbnail::thumbnail;

/// Formats that backgrounds may be uploaded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG, baseline or progressive, 8 bits per sample.
    Jpeg,
    /// PNG, every colour type and depth; not APNG.
    Png,
    /// WebP, lossy or lossless; not animated.
    Webp,
}

impl Format {
    /// Lower-case name as it stands in metadata and in file names: `jpeg`, `png`, `webp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Webp => "webp",
        }
    }

    /// The format of that name, the inverse of [`Format::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "jpeg" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// Media type for `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    /// The format whose signature opens `bytes`; file names and declared types are not consulted.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.len() >= 12 && &bytes[..4] == b"RIFF" && &bytes[8..12] == b"WEBP" {
            Some(Self::Webp)
        } else {
            None
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a file claims to be, read before any pixel is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Format by signature.
    pub format: Format,
    /// Size of the picture as it is seen, turned; neither side is zero and both are within the [`Limits`].
    pub size: Size,
    /// How the file has it turned.
    pub orientation: Orientation,
    /// Upper bound of what [`decode`] allocates beside the output, in bytes. Freed when it returns.
    pub scratch_bytes: u64,
    /// The decoder's own share of `scratch_bytes`, beyond which it is ended.
    decoder_bytes: u64,
}

impl Header {
    /// Of a picture that is stored in `stored`. Its decoder takes at most `decoder_bytes` and is ended beyond them, by which time it
    /// may hold `overrun_bytes` more. A turn that swaps the sides adds a copy.
    fn new(
        format: Format,
        stored: Size,
        orientation: Orientation,
        decoder_bytes: u64,
        overrun_bytes: u64,
    ) -> Self {
        let mut header = Self {
            format,
            size: orientation.applied_to(stored),
            orientation,
            scratch_bytes: decoder_bytes.saturating_add(overrun_bytes),
            decoder_bytes,
        };
        header.scratch_bytes = header.scratch_bytes.saturating_add(header.copy_bytes());
        header
    }

    /// The same picture left as it is stored.
    pub fn unturned(self) -> Self {
        let (size, bytes) = (self.stored_size(), self.decoder_bytes);
        let overrun = self.scratch_bytes - bytes - self.copy_bytes();
        Self::new(self.format, size, Orientation::default(), bytes, overrun)
    }

    /// What a turn takes beside the output: the picture once more where its sides change places.
    const fn copy_bytes(&self) -> u64 {
        if self.orientation.swaps_sides() {
            self.size.bytes()
        } else {
            0
        }
    }

    /// The size that the file's own header gives.
    pub const fn stored_size(&self) -> Size {
        self.orientation.applied_to(self.size)
    }

    /// Bytes of the decoded picture.
    pub const fn output_bytes(&self) -> u64 {
        self.size.bytes()
    }
}

/// Why a file was refused, or a picture could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes open with no signature that is known.
    #[error("not a JPEG, PNG or WebP picture ({})", if *.looks_like_text { "it looks like text" } else { "unknown signature" })]
    UnknownFormat {
        /// The first bytes are printable text.
        looks_like_text: bool,
    },
    /// More pixels, or a longer side, than the limits allow. Decided from the header.
    #[error("picture of {size} exceeds the limit of {pixels_max} pixels and {side_max} per side")]
    TooLarge {
        /// What the header claims.
        size: Size,
        /// Largest number of pixels.
        pixels_max: u64,
        /// Largest width or height.
        side_max: u32,
    },
    /// The header claims a width or height of zero.
    #[error("{format} picture of {size} has no pixels")]
    ZeroSize {
        /// Format by signature.
        format: Format,
        /// What the header claims.
        size: Size,
    },
    /// More than one frame.
    #[error("{format} picture is animated; only still pictures are accepted")]
    Animated {
        /// Format by signature.
        format: Format,
    },
    /// Well-formed, but of a kind that is not decoded.
    #[error("{format} picture uses {what}, which is not supported")]
    Unsupported {
        /// Format by signature.
        format: Format,
        /// The feature.
        what: String,
    },
    /// The file ends before its picture does.
    #[error("{format} picture is truncated")]
    Truncated {
        /// Format by signature.
        format: Format,
    },
    /// The file breaks the rules of its format.
    #[error("malformed {format} picture: {cause}")]
    Malformed {
        /// Format by signature.
        format: Format,
        /// The decoder's reason.
        cause: String,
    },
    /// The decoder would have taken more memory than was reserved from the header.
    #[error("{format} picture needs more than the {scratch_bytes} bytes its header accounts for")]
    ScratchExceeded {
        /// Format by signature.
        format: Format,
        /// What was allowed.
        scratch_bytes: u64,
    },
    /// The encoder refused or failed.
    #[error("cannot encode {size} as {format}: {cause}")]
    Encode {
        /// Target format.
        format: Format,
        /// Size of the picture.
        size: Size,
        /// The encoder's reason.
        cause: String,
    },
}
