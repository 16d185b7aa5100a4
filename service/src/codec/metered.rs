//! A reader that ends a decode which takes more memory than its header accounts for.
//!
//! What a lossless WebP's Huffman tables take cannot be told from its header: a few bits describe a table of 4 KiB or a tree of
//! 64 KiB, for as many groups as the file says. To know the number beforehand takes most of a decoder. So the decoder's own reading
//! is the place to look: it comes back for more bytes every few tables, and what its thread holds by then is known exactly.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};

use crate::memory::thread::ThreadBytes;

/// Bytes read between two looks: tables of some hundred KiB at the very most.
const STRIDE: u64 = 32;

/// What the reader's error says, for whoever finds it inside the decoder's.
#[derive(Debug, thiserror::Error)]
#[error("the decoder took more memory than its header accounts for")]
pub(super) struct OutOfScratch;

/// See the file's description. Made on the thread that decodes.
#[derive(Debug)]
pub(super) struct Metered<'a> {
    bytes: Cursor<&'a [u8]>,
    thread: Option<ThreadBytes>,
    limit: u64,
    look_at: u64,
}

impl<'a> Metered<'a> {
    pub(super) fn new(bytes: &'a [u8], limit: u64) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            thread: ThreadBytes::start(),
            limit,
            look_at: 0,
        }
    }

    fn look(&mut self) -> io::Result<()> {
        if self.bytes.position() < self.look_at {
            return Ok(());
        }
        self.look_at = self.bytes.position() + STRIDE;
        match self.thread {
            Some(thread) if thread.held() > self.limit => Err(io::Error::other(OutOfScratch)),
            _ => Ok(()),
        }
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.look()?;
        self.bytes.read(out)
    }
}

impl BufRead for Metered<'_> {
    #[inline]
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.look()?;
        self.bytes.fill_buf()
    }

    #[inline]
    fn consume(&mut self, amount: usize) {
        self.bytes.consume(amount);
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.look_at = 0;
        self.bytes.seek(to)
    }
}
