//! One file of the archive: its name, its form, and how it is written and read past the page cache.
//!
//! A page of header, then the pixels as they lie in memory, filled up to a whole page with zeros. Every field of the header is
//! compared with what is expected; XXH3-64 covers the pixels. The header is written last: a file without one was never whole.
//!
//! Page cache counts against the memory limit that the archive is there to keep. Where the file system takes it, everything goes
//! with O_DIRECT between disk and the texture's own block, without a copy. Elsewhere (or from memory that is not aligned) it goes
//! through the page cache in pieces, each synced and dropped before the next, so that at most one piece is dirty.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use crate::metrics::ArchiveRead;
use crate::store::{Stored, valid_id};

/// What direct transfers must be aligned to: the largest logical block of usual disks, and a page of memory.
pub(super) const PAGE: usize = 4096;
/// Most bytes that one call moves, and that are dirty in the page cache at once.
const PIECE: usize = 1 << 20;
const MAGIC: [u8; 8] = *b"BKDROPAR";
const FORMAT: u32 = 1;
const SUFFIX: &str = ".pixels";
const ASIDE: &str = ".partial";
/// Where the checksum of the pixels stands in the header.
const CHECKSUM_AT: usize = 48;
const ID_AT: usize = 64;

/// A page of memory that a direct transfer can use.
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

impl Page {
    fn zeroed() -> Box<Self> {
        Box::new(Self([0; PAGE]))
    }
}

/// How bytes get to the disk and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    /// Past the page cache.
    Direct,
    /// Through the page cache, in pieces that are synced and dropped.
    Buffered,
}

impl Transfer {
    /// Tries out whether the file system of `dir` takes O_DIRECT. Doubt, such as a full disk, counts for it.
    pub(super) fn probe(dir: &Path) -> Self {
        let path = dir.join(format!("probe{SUFFIX}{ASIDE}"));
        let tried = open(&path, Transfer::Direct, true)
            .and_then(|file| file.write_all_at(&Page::zeroed().0, 0));
        drop(std::fs::remove_file(&path));
        match tried {
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Transfer::Buffered
            }
            _ => Transfer::Direct,
        }
    }

    /// The same, if memory that starts there allows it.
    fn from(self, memory: &[u8]) -> Self {
        if memory.as_ptr().addr().is_multiple_of(PAGE) {
            self
        } else {
            Transfer::Buffered
        }
    }

    #[cfg(target_os = "linux")]
    fn flags(self) -> i32 {
        match self {
            Transfer::Direct => libc::O_DIRECT | libc::O_CLOEXEC,
            Transfer::Buffered => libc::O_CLOEXEC,
        }
    }

    /// Elsewhere there is no such flag.
    #[cfg(not(target_os = "linux"))]
    fn flags(self) -> i32 {
        libc::O_CLOEXEC
    }
}

/// Whether a directory lies in memory, whose files count against the limit like any other memory.
#[cfg(target_os = "linux")]
pub(super) fn is_memory(dir: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(dir).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// Elsewhere it is not known.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_memory(_dir: &Path) -> bool {
    false
}

fn open(path: &Path, transfer: Transfer, write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(!write)
        .write(write)
        .create(write)
        .truncate(write)
        .custom_flags(transfer.flags())
        .open(path)
}

/// Drops what the page cache holds of a file and need not write. Advice: a refusal costs the memory and nothing else.
#[cfg(target_os = "linux")]
fn drop_cache(file: &File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Elsewhere it is the kernel's affair.
#[cfg(not(target_os = "linux"))]
fn drop_cache(_file: &File) {}

/// What a file is named for, and so what may be looked for in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) id: String,
    pub(super) version: u32,
    /// Of the source.
    pub(super) checksum: u64,
}

impl Name {
    pub(super) fn of(entry: &Stored) -> Self {
        Self {
            id: entry.id.to_string(),
            version: entry.version,
            checksum: entry.checksum,
        }
    }

    /// Name of the whole file.
    pub(super) fn file(&self) -> String {
        format!(
            "{}.{:010}.{:016x}{SUFFIX}",
            self.id, self.version, self.checksum
        )
    }

    /// Name while it is being written.
    pub(super) fn aside(&self) -> String {
        self.file() + ASIDE
    }

    /// Whether a file was left by a write that did not end.
    pub(super) fn is_aside(text: &str) -> bool {
        text.strip_suffix(ASIDE)
            .is_some_and(|name| Self::parse(name).is_some() || name == format!("probe{SUFFIX}"))
    }

    /// The name that a whole file has; `None` for a file that is not ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(SUFFIX)?.rsplitn(3, '.');
        let (checksum, version, id) = (parts.next()?, parts.next()?, parts.next()?);
        let name = Self {
            id: id.to_owned(),
            version: version.parse().ok()?,
            checksum: u64::from_str_radix(checksum, 16).ok()?,
        };
        (valid_id(id) && name.file() == text).then_some(name)
    }
}

/// Bytes of the file of `entry`.
pub(super) fn length(entry: &Stored) -> u64 {
    entry
        .size
        .bytes()
        .saturating_add(PAGE as u64)
        .checked_next_multiple_of(PAGE as u64)
        .unwrap_or(u64::MAX)
}

/// Whether a file can be one of ours by its length.
pub(super) fn is_plausible(length: u64) -> bool {
    length > PAGE as u64 && length.is_multiple_of(PAGE as u64)
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Flaw {
    /// It is not there.
    #[error("the file is gone")]
    Gone,
    /// It is shorter than it should be.
    #[error("{found} bytes instead of {expected}")]
    Truncated {
        /// Its length.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// It is longer than it should be, or of another texture, or its pixels are not those that were written.
    #[error("{0} differs from what was written")]
    Corrupt(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Io(io::Error),
}

impl Flaw {
    pub(super) fn result(&self) -> ArchiveRead {
        match self {
            Flaw::Gone => ArchiveRead::Absent,
            Flaw::Truncated { .. } => ArchiveRead::Truncated,
            Flaw::Corrupt(_) => ArchiveRead::Corrupt,
            Flaw::Io(_) => ArchiveRead::Error,
        }
    }
}

impl From<io::Error> for Flaw {
    fn from(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Flaw::Gone,
            _ => Flaw::Io(cause),
        }
    }
}

fn header(entry: &Stored, pixels_checksum: u64) -> Box<Page> {
    let mut page = Page::zeroed();
    let fields: [&[u8]; 7] = [
        &MAGIC,
        &FORMAT.to_le_bytes(),
        &entry.version.to_le_bytes(),
        &entry.size.width.to_le_bytes(),
        &entry.size.height.to_le_bytes(),
        &entry.size.bytes().to_le_bytes(),
        &entry.checksum.to_le_bytes(),
    ];
    let mut at = 0;
    for field in fields {
        page.0[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    page.0[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&pixels_checksum.to_le_bytes());
    let id = entry.id.as_bytes();
    page.0[ID_AT - 1] = id.len() as u8;
    page.0[ID_AT..ID_AT + id.len()].copy_from_slice(id);
    page
}

/// Writes a whole file to `path`, or as much of it as `go_on` allows: then it is not whole, and the answer is `false`.
pub(super) fn write(
    path: &Path,
    entry: &Stored,
    pixels: &[u8],
    transfer: Transfer,
    go_on: &dyn Fn() -> bool,
) -> io::Result<bool> {
    if pixels.len() as u64 != entry.size.bytes() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let transfer = transfer.from(pixels);
    let out = Out {
        file: open(path, transfer, true)?,
        transfer,
    };
    let mut hasher = Xxh3::new();
    let (body, tail) = pixels.split_at(pixels.len() - pixels.len() % PAGE);
    let mut at = PAGE as u64;
    for piece in body.chunks(PIECE) {
        if !go_on() {
            return Ok(false);
        }
        hasher.update(piece);
        out.put(piece, at)?;
        at += piece.len() as u64;
    }
    if !tail.is_empty() {
        hasher.update(tail);
        let mut page = Page::zeroed();
        page.0[..tail.len()].copy_from_slice(tail);
        out.put(&page.0, at)?;
    }
    out.put(&header(entry, hasher.digest()).0, 0)?;
    Ok(true)
}

struct Out {
    file: File,
    transfer: Transfer,
}

impl Out {
    fn put(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        if self.transfer == Transfer::Buffered {
            self.file.sync_data()?;
            drop_cache(&self.file);
        }
        Ok(())
    }
}

/// Reads the pixels of `entry` from `path` into `pixels`, in place, and checks everything.
pub(super) fn read(
    path: &Path,
    entry: &Stored,
    pixels: &mut [u8],
    transfer: Transfer,
) -> Result<(), Flaw> {
    if pixels.len() as u64 != entry.size.bytes() {
        return Err(Flaw::Corrupt("its size"));
    }
    let transfer = transfer.from(pixels);
    let file = open(path, transfer, false)?;
    let (found, expected) = (file.metadata()?.len(), length(entry));
    if found < expected {
        return Err(Flaw::Truncated { found, expected });
    }
    if found > expected {
        return Err(Flaw::Corrupt("its length"));
    }
    let outcome = read_checked(&file, entry, pixels);
    if transfer == Transfer::Buffered {
        drop_cache(&file);
    }
    outcome
}

fn read_checked(file: &File, entry: &Stored, pixels: &mut [u8]) -> Result<(), Flaw> {
    let mut page = Page::zeroed();
    file.read_exact_at(&mut page.0, 0)?;
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&page.0[CHECKSUM_AT..CHECKSUM_AT + 8]);
    let checksum = u64::from_le_bytes(checksum);
    if page.0 != header(entry, checksum).0 {
        return Err(Flaw::Corrupt("its header"));
    }
    let mut hasher = Xxh3::new();
    let whole = pixels.len() - pixels.len() % PAGE;
    let (body, tail) = pixels.split_at_mut(whole);
    let mut at = PAGE as u64;
    for piece in body.chunks_mut(PIECE) {
        file.read_exact_at(piece, at)?;
        // Piece by piece, while the bytes are in the processor's cache.
        hasher.update(piece);
        at += piece.len() as u64;
    }
    if !tail.is_empty() {
        file.read_exact_at(&mut page.0, at)?;
        tail.copy_from_slice(&page.0[..tail.len()]);
        hasher.update(tail);
    }
    if hasher.digest() == checksum {
        Ok(())
    } else {
        Err(Flaw::Corrupt("its pixels"))
    }
}
