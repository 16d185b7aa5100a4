//! The store: encoded backgrounds and what is known of them, kept across restarts.
//!
//! A chain of tiers behind one type: the [`archive`], which holds decoded pixels and may be off, before the [`origin`], which holds
//! everything. It knows files and checksums and pixels as bytes, neither blocks nor slots.
//! Invariants: what `put` acknowledged is on disk and is found again; a version number of an id is never used twice, not even after
//! a delete; an entry that is torn or corrupt is reported and passed over, never served; one process at a time has the directory.
//!
//! To keep and to remove are calls of their own, because the catalogue turns over in between: files go only when nobody is led to
//! them any more. A crash in between loses nothing: the newest sound version counts, a tombstone counts more, and the next start
//! removes what the crash left.

pub mod archive;
mod lock;
pub mod origin;
mod tags;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{Format, Size};
use crate::failpoints;
use archive::Archive;
use origin::{Kind, Origin};
pub use tags::{TAG_BYTES_MAX, TAGS_MAX, TagError, Tags};

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Directory that everything lies under.
    pub dir: PathBuf,
    /// Keep uploads in memory only and lose them on exit: for a control experiment.
    pub volatile: bool,
    /// Most ids, deleted ones included, that the directory may hold; with more, recovery fails.
    pub ids_max: usize,
}

impl StoreConfig {
    /// Defaults for a directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            volatile: false,
            ids_max: 65_536,
        }
    }
}

/// What is kept of one version of a background beside its bytes. Immutable once it is shown; a copy shares id, thumbnail and tags
/// with the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Id, already validated by [`valid_id`].
    pub id: Arc<str>,
    /// Version, from 1.
    pub version: u32,
    /// Format by signature.
    pub format: Format,
    /// Size in pixels.
    pub size: Size,
    /// Length of the source in bytes.
    pub bytes: u64,
    /// XXH3-64 of the source.
    pub checksum: u64,
    /// Small JPEG that is always at hand.
    pub thumbnail: Bytes,
    /// Words that its uploader put on it.
    pub tags: Tags,
}

/// The sidecar file: [`Stored`] as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    schema: u32,
    id: String,
    version: u32,
    format: String,
    width: u32,
    height: u32,
    bytes: u64,
    checksum: String,
    thumbnail: String,
    /// Not in the files of older versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

const SIDECAR_SCHEMA: u32 = 1;

impl Stored {
    /// The same with one more tag. The original stays as it is, and all but the new tag is shared with it.
    ///
    /// # Errors
    /// A tag that is not well formed, or one too many.
    pub fn with_tag(&self, tag: &str) -> Result<Self, TagError> {
        let tags = self.tags.with(tag)?;
        Ok(Self {
            tags,
            ..self.clone()
        })
    }

    fn to_sidecar(&self) -> Result<Vec<u8>, StoreError> {
        let sidecar = Sidecar {
            schema: SIDECAR_SCHEMA,
            id: self.id.to_string(),
            version: self.version,
            format: self.format.name().to_owned(),
            width: self.size.width,
            height: self.size.height,
            bytes: self.bytes,
            checksum: checksum_text(self.checksum),
            thumbnail: to_hex(&self.thumbnail),
            tags: self.tags.sorted().into_iter().map(str::to_owned).collect(),
        };
        serde_json::to_vec(&sidecar).map_err(|cause| self.corrupt(cause.to_string()))
    }

    fn from_sidecar(text: &[u8]) -> Option<Self> {
        let sidecar: Sidecar = serde_json::from_slice(text).ok()?;
        if sidecar.schema != SIDECAR_SCHEMA || sidecar.version == 0 || !valid_id(&sidecar.id) {
            return None;
        }
        Some(Self {
            id: sidecar.id.into(),
            version: sidecar.version,
            format: Format::from_name(&sidecar.format)?,
            size: Size::new(sidecar.width, sidecar.height),
            bytes: sidecar.bytes,
            checksum: u64::from_str_radix(&sidecar.checksum, 16).ok()?,
            thumbnail: from_hex(&sidecar.thumbnail)?.into(),
            tags: Tags::of(sidecar.tags.iter().map(String::as_str)).ok()?,
        })
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt {
            id: self.id.to_string(),
            version: self.version,
            what,
        }
    }

    /// Compares bytes with what they should be.
    fn check(&self, image: &[u8]) -> Result<(), StoreError> {
        if image.len() as u64 != self.bytes {
            return Err(self.corrupt(format!("{} bytes instead of {}", image.len(), self.bytes)));
        }
        self.check_sum(checksum(image))
    }

    fn check_sum(&self, found: u64) -> Result<(), StoreError> {
        if found != self.checksum {
            return Err(self.corrupt(format!(
                "checksum {} instead of {}",
                checksum_text(found),
                checksum_text(self.checksum)
            )));
        }
        Ok(())
    }
}

/// XXH3-64 of a source.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// A checksum as it is shown: 16 lowercase hex digits.
pub fn checksum_text(checksum: u64) -> String {
    format!("{checksum:016x}")
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| DIGITS[nibble as usize] as char)
        .collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect()
}

/// `[a-z0-9][a-z0-9._-]{0,63}`: safe as a file name and in a URL, and never `.` or `..`.
pub fn valid_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = id.as_bytes();
    (1..=64).contains(&bytes.len())
        && plain(bytes[0])
        && bytes
            .iter()
            .all(|&byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// An entry that was passed over at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// File or directory concerned.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The newest sound version of every live id, in order of ids.
    pub live: Vec<Stored>,
    /// For every id ever seen, the highest version number used, sound or not.
    pub last_versions: Vec<(String, u32)>,
    /// What was passed over.
    pub damaged: Vec<Damaged>,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such version.
    #[error("background {id} has no version {version} in the store")]
    NotFound {
        /// Id.
        id: String,
        /// Version.
        version: u32,
    },
    /// The bytes are not what was put.
    #[error("background {id} version {version} is corrupt: {what}")]
    Corrupt {
        /// Id.
        id: String,
        /// Version.
        version: u32,
        /// In what way.
        what: String,
    },
    /// The directory is another process's.
    #[error(
        "another process uses {dir}; stop that service or import first, or give this one a directory of its own with --data"
    )]
    InUse {
        /// The directory.
        dir: String,
    },
    /// The archive's directory is another process's.
    #[error(
        "another process uses the archive {dir}; give this one a directory of its own with --archive, or none with --archive-bytes-max 0"
    )]
    ArchiveInUse {
        /// The directory.
        dir: String,
    },
    /// More ids than fit the catalogue's bounds.
    #[error(
        "the directory holds more than {max} ids, deleted ones included; raise --backgrounds-max, or move ids away from backgrounds/"
    )]
    TooManyIds {
        /// Most that are read.
        max: usize,
    },
    /// The disk or what lies behind it failed.
    #[error("store failed: {0}")]
    Io(String),
}

/// The chain of tiers.
#[derive(Debug)]
pub struct Store {
    origin: Origin,
    archive: Option<Arc<Archive>>,
}

impl Store {
    /// Opens, and makes the directory if it is not there. It is this store's alone until that is dropped. Nothing is read yet.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        Ok(Self {
            origin: Origin::open(config)?,
            archive: None,
        })
    }

    /// The same store with an archive before its origin.
    #[must_use]
    pub fn with_archive(self, archive: Archive) -> Self {
        Self {
            archive: Some(Arc::new(archive)),
            ..self
        }
    }

    /// The tier of decoded pixels, unless it is off.
    pub fn archive(&self) -> Option<&Arc<Archive>> {
        self.archive.as_ref()
    }

    /// Removes pixels of `id` up to `version` from the archive, off the async workers.
    async fn unarchive(&self, id: &str, version: u32) {
        if let Some(archive) = &self.archive {
            let (archive, id) = (Arc::clone(archive), id.to_owned());
            // Best effort: an outdated file is never read, it only takes place.
            drop(tokio::task::spawn_blocking(move || archive.forget(&id, version)).await);
        }
    }

    /// Keeps a version. When it returns, the bytes and their sidecar are on disk; older versions are there still, until
    /// [`Store::prune`].
    pub async fn put(&self, entry: &Stored, image: Bytes) -> Result<(), StoreError> {
        debug_assert!(valid_id(&entry.id), "ids are validated at the edge");
        failpoints::delay(failpoints::STORE_WRITE_DELAY).await;
        self.origin.put(entry, image).await
    }

    /// The bytes of a version, checked against its checksum.
    pub async fn get(&self, entry: &Stored) -> Result<Bytes, StoreError> {
        let image = self.origin.get(&entry.id, entry.version).await?;
        entry.check(&image)?;
        Ok(image)
    }

    /// Ends an id whose newest version is `version`, and remembers that number. Durable when it returns; the files are there still,
    /// until [`Store::prune_deleted`].
    pub async fn bury(&self, id: &str, version: u32) -> Result<(), StoreError> {
        failpoints::delay(failpoints::STORE_WRITE_DELAY).await;
        self.origin.bury(id, version).await
    }

    /// Removes what is older than `version`, which was put before. Best effort: what stays goes at the next start.
    pub async fn prune(&self, id: &str, version: u32) {
        self.origin
            .remove_where(id, |kind| kind.version() < version)
            .await;
        self.unarchive(id, version.saturating_sub(1)).await;
    }

    /// Removes all versions up to `version`, whose tombstone was put before and stays. Best effort, as [`Store::prune`] is.
    pub async fn prune_deleted(&self, id: &str, version: u32) {
        self.origin
            .remove_where(id, |kind| kind.is_ended_by(version))
            .await;
        self.unarchive(id, version).await;
    }

    /// Takes a version back that was put, wholly or in part, and never shown. Best effort.
    pub async fn discard(&self, id: &str, version: u32) {
        self.origin
            .remove_where(id, |kind| {
                kind.version() == version && !matches!(kind, Kind::Tombstone(_))
            })
            .await;
    }

    /// Reads what is there, and removes what a crash kept from being removed. Torn and corrupt entries are reported, not fatal.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        self.origin.recover().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strict() {
        for good in ["a", "0", "sample-0001", "a.b_c-d", &"x".repeat(64)] {
            assert!(valid_id(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "A",
            "a/b",
            "ä",
            "a b",
            "a%2e",
            &"x".repeat(65),
        ] {
            assert!(!valid_id(bad), "{bad}");
        }
    }

    #[test]
    fn hex_is_its_own_inverse() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("zz"), None);
    }

    #[test]
    fn checksum_text_has_sixteen_digits() {
        assert_eq!(checksum_text(0xab), "00000000000000ab");
        assert_eq!(
            checksum_text(checksum(b"")),
            "2d06800538d394c2",
            "XXH3-64 of nothing, from its reference"
        );
    }
}
