//! What a caller lays over a background: its own frame and a mask, as pixels or as files, and how files become pixels.
//!
//! Synchronous; knows no queue and no budget: whoever calls has charged the buffers and what a decode takes beside them. The invariant:
//! both parts are of one size, checked where an [`Overlay`] is made.

use bytes::Bytes;

use super::worker::Failure;
use crate::codec::{self, Header, PixelsMut, Size};
use crate::render::Foreground;

/// One picture of the caller's.
#[derive(Debug, Clone)]
pub enum Part {
    /// Pixels without padding: 4 bytes each, RGBA8, of a frame, and 1 byte each of a mask.
    Raw(Bytes),
    /// An encoded picture, and what its header says.
    File(Bytes, Header),
}

impl Part {
    /// Bytes that a decode takes beside its output.
    fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Raw(_) => 0,
            Self::File(_, header) => header.scratch_bytes,
        }
    }

    /// Whether it is of `size`, with so many bytes for each pixel where it is raw.
    fn is_of(&self, size: Size, pixel_bytes: u64) -> bool {
        match self {
            Self::Raw(bytes) => bytes.len() as u64 == size.pixels().saturating_mul(pixel_bytes),
            Self::File(_, header) => header.size == size,
        }
    }
}

/// A frame of the caller's, and the mask that says how much of it shows: 0 is the background, 255 the frame. Of a mask that is a file
/// the first channel counts: grey, or red. Without a mask the frame's own alpha is the mask, and its pixels count as opaque.
#[derive(Debug, Clone)]
pub struct Overlay {
    size: Size,
    foreground: Part,
    mask: Option<Part>,
}

impl Overlay {
    /// `None` unless both are of `size`.
    pub fn new(size: Size, foreground: Part, mask: Option<Part>) -> Option<Self> {
        let fits =
            foreground.is_of(size, 4) && mask.as_ref().is_none_or(|mask| mask.is_of(size, 1));
        fits.then_some(Self {
            size,
            foreground,
            mask,
        })
    }

    /// Width and height of the frame, and so of the composite.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// The overlay where both of its parts are pixels already: nothing has to be decoded or made of them.
    pub(super) fn laid(&self) -> Option<Foreground<'_>> {
        match (&self.foreground, &self.mask) {
            (Part::Raw(pixels), Some(Part::Raw(mask))) => Foreground::new(self.size, pixels, mask),
            _ => None,
        }
    }

    /// The same overlay with pixels in place of what was none: those that `lay` left in its buffers.
    pub(super) fn with_pixels(self, over: Option<Bytes>, mask: Option<Bytes>) -> Self {
        Self {
            size: self.size,
            foreground: over.map_or(self.foreground, Part::Raw),
            mask: mask.map(Part::Raw).or(self.mask),
        }
    }

    /// Bytes that the buffers of [`lay`] are filled up to: of the frame's pixels and of the mask.
    pub(super) fn buffer_bytes(&self) -> (u64, u64) {
        let over = match (&self.foreground, &self.mask) {
            (Part::Raw(_), Some(_)) => 0,
            _ => self.size.bytes(),
        };
        let mask = match &self.mask {
            Some(Part::Raw(_)) => 0,
            // Decoded as any picture, and then narrowed where it lies.
            Some(Part::File(..)) => self.size.bytes(),
            None => self.size.pixels(),
        };
        (over, mask)
    }

    /// Most bytes that [`lay`] takes beside its buffers.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let of_mask = self.mask.as_ref().map_or(0, Part::scratch_bytes);
        self.foreground.scratch_bytes().max(of_mask)
    }
}

/// The overlay as pixels: where they are none yet, in `over` and `mask`, which grow to [`Overlay::buffer_bytes`].
///
/// # Errors
/// A file that does not decode.
pub(super) fn lay<'a>(
    overlay: &'a Overlay,
    over: &'a mut Vec<u8>,
    mask: &'a mut Vec<u8>,
) -> Result<Foreground<'a>, Failure> {
    let size = overlay.size;
    match (&overlay.foreground, &overlay.mask) {
        (Part::Raw(_), Some(_)) => {}
        (Part::Raw(bytes), None) => {
            resize(over, size.bytes());
            over.copy_from_slice(bytes);
        }
        (Part::File(file, header), _) => open(file, header, over)?,
    }
    match &overlay.mask {
        Some(Part::Raw(_)) => {}
        Some(Part::File(file, header)) => {
            open(file, header, mask)?;
            narrow(mask, size);
        }
        None => {
            resize(mask, size.pixels());
            take_alpha(over, mask);
        }
    }
    let pixels: &[u8] = match (&overlay.foreground, &overlay.mask) {
        (Part::Raw(bytes), Some(_)) => bytes,
        _ => over,
    };
    let mask: &[u8] = match &overlay.mask {
        Some(Part::Raw(bytes)) => bytes,
        _ => mask,
    };
    Ok(Foreground::new(size, pixels, mask).expect("sizes were checked when it was made"))
}

/// Decodes a file of the caller's into `buffer`, which becomes exactly as long as its picture.
pub(super) fn open(file: &[u8], header: &Header, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    resize(buffer, header.output_bytes());
    let block = PixelsMut::new(buffer, header.size).expect("the block was made for this size");
    codec::decode(file, header, block).map_err(Failure::Codec)
}

/// The same for a file that was accepted before: a thumbnail of the service's own making.
pub(super) fn open_trusted(
    file: &[u8],
    header: &Header,
    buffer: &mut Vec<u8>,
) -> Result<(), Failure> {
    resize(buffer, header.output_bytes());
    let block = PixelsMut::new(buffer, header.size).expect("the block was made for this size");
    codec::decode_trusted(file, header, block).map_err(Failure::Codec)
}

/// Makes a buffer exactly so long, to be written over. One that must grow is given back first: nothing in it is of use, and old and
/// new bytes side by side would be more than was charged.
pub(super) fn resize(buffer: &mut Vec<u8>, bytes: u64) {
    let len = bytes as usize;
    if buffer.capacity() < len {
        *buffer = Vec::new();
        *buffer = vec![0; len];
    } else {
        buffer.resize(len, 0);
    }
}

/// Keeps the first channel of each pixel of `size`.
fn narrow(pixels: &mut Vec<u8>, size: Size) {
    let len = size.pixels() as usize;
    for at in 0..len {
        pixels[at] = pixels[4 * at];
    }
    pixels.truncate(len);
}

/// Moves every pixel's alpha to `mask` and leaves it opaque.
fn take_alpha(pixels: &mut [u8], mask: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks_mut::<4>();
    for (pixel, mask) in pixels.iter_mut().zip(mask) {
        *mask = std::mem::replace(&mut pixel[3], 255);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::new(2, 1);

    fn raw(bytes: &'static [u8]) -> Part {
        Part::Raw(Bytes::from_static(bytes))
    }

    #[test]
    fn parts_must_be_of_one_size() {
        let frame = raw(&[7; 8]);
        assert!(Overlay::new(SIZE, frame.clone(), Some(raw(&[1; 2]))).is_some());
        assert!(Overlay::new(SIZE, frame.clone(), None).is_some());
        assert!(Overlay::new(SIZE, frame, Some(raw(&[1; 3]))).is_none());
        assert!(Overlay::new(SIZE, raw(&[7; 9]), None).is_none());
        let huge = Size::new(u32::MAX, u32::MAX);
        assert!(Overlay::new(huge, raw(&[7; 8]), None).is_none());
    }

    #[test]
    fn raw_parts_are_used_where_they_lie() {
        let overlay = Overlay::new(SIZE, raw(&[7; 8]), Some(raw(&[1, 2]))).expect("sizes fit");
        assert_eq!(overlay.buffer_bytes(), (0, 0));
        assert!(overlay.laid().is_some());
        let (mut over, mut mask) = (Vec::new(), Vec::new());
        let laid = lay(&overlay, &mut over, &mut mask).expect("nothing to decode");
        assert_eq!(
            (laid.pixels_row(0), laid.mask_row(0)),
            (&[7; 8][..], &[1, 2][..])
        );
        assert_eq!((over.capacity(), mask.capacity()), (0, 0));
    }

    #[test]
    fn without_a_mask_alpha_is_the_mask_and_pixels_are_opaque() {
        let overlay = Overlay::new(SIZE, raw(&[1, 2, 3, 90, 4, 5, 6, 0]), None).expect("sizes fit");
        let (mut over, mut mask) = (Vec::new(), Vec::new());
        let laid = lay(&overlay, &mut over, &mut mask).expect("nothing to decode");
        assert_eq!(laid.pixels_row(0), [1, 2, 3, 255, 4, 5, 6, 255]);
        assert_eq!(laid.mask_row(0), [90, 0]);
    }

    #[test]
    fn a_buffer_grows_to_what_is_asked_and_stays_there() {
        let mut buffer = Vec::new();
        for (bytes, capacity) in [(100, 100), (40, 100), (100, 100), (101, 101)] {
            resize(&mut buffer, bytes);
            assert_eq!((buffer.len() as u64, buffer.capacity()), (bytes, capacity));
        }
    }

    #[test]
    fn of_a_mask_in_a_file_the_first_channel_counts() {
        let pixels = [10, 1, 1, 255, 200, 2, 2, 0];
        let mut file = Vec::new();
        let picture = codec::PixelsRef::new(&pixels, SIZE).expect("its size");
        codec::encode_png(picture, &mut file).expect("encodes");
        let header = codec::probe(&file, &codec::Limits::default()).expect("a picture");
        let mask = Part::File(file.into(), header);
        let overlay = Overlay::new(SIZE, raw(&[7; 8]), Some(mask)).expect("sizes fit");
        let (mut over, mut mask) = (Vec::new(), Vec::new());
        let laid = lay(&overlay, &mut over, &mut mask).expect("decodes");
        assert_eq!(laid.mask_row(0), [10, 200]);
    }
}
