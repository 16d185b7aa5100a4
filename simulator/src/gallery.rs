//! The backgrounds of a run as files: drawn samples or stamped copies of photographs, kept in a cache folder.
//!
//! A manifest beside the files says what is whole, so that a second run draws nothing. Photographs are read only.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::code::{self, Payload};
use crate::draw::{self, QUALITY, SIZE};
use crate::picture::{self, PictureError, Rgb};

const MANIFEST: &str = "manifest.json";
/// Changes whenever drawings or codes change: an older cache is drawn again.
const MANIFEST_FORMAT: u32 = 1;
/// Revision of the files in the cache.
pub const FIRST_REVISION: u8 = 1;

/// Backgrounds that cannot be prepared.
#[derive(Debug, Error)]
pub enum GalleryError {
    /// A file or folder.
    #[error("{path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A folder without pictures.
    #[error("{0} holds no JPEG, PNG or WebP picture that can be read")]
    Empty(PathBuf),
    /// A picture.
    #[error("{path}: {cause}")]
    Picture {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: PictureError,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> GalleryError {
    move |cause| GalleryError::Io {
        path: path.to_owned(),
        cause,
    }
}

/// One background file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    id: String,
    bytes: u64,
    checksum: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    items: Vec<Item>,
}

/// All backgrounds of a run.
#[derive(Debug)]
pub struct Gallery {
    folder: PathBuf,
    items: Vec<Item>,
    drawn: bool,
    /// Photographs that could not be read, with the reason.
    pub skipped: Vec<String>,
}

impl Gallery {
    /// `count` drawn samples in `cache`; draws what is missing, on all CPUs.
    pub fn drawn(cache: &Path, count: u16) -> Result<Self, GalleryError> {
        let folder = cache.join(format!("drawn-{}x{}", SIZE.0, SIZE.1));
        let items = fill(&folder, "sample", count, |number| {
            let payload = payload(number, FIRST_REVISION);
            Ok(draw::sample(payload, SIZE.0, SIZE.1))
        })?;
        Ok(Gallery {
            folder,
            items,
            drawn: true,
            skipped: Vec::new(),
        })
    }

    /// `count` stamped copies of the photographs in `source`, used in turn if they are fewer.
    pub fn photographs(source: &Path, cache: &Path, count: u16) -> Result<Self, GalleryError> {
        let (files, key) = photographs_in(source)?;
        let skipped = Mutex::new(Vec::new());
        let (files, skipped_early) = readable(files);
        if files.is_empty() {
            return Err(GalleryError::Empty(source.to_owned()));
        }
        let folder = cache.join(format!("photos-{key:016x}"));
        let items = fill(&folder, "photo", count, |number| {
            // A photograph whose header is whole and whose pixels are not gives its place to the next one.
            (0..files.len())
                .map(|step| &files[(usize::from(number) + step) % files.len()])
                .find_map(|path| match copy(path, payload(number, FIRST_REVISION)) {
                    Ok(picture) => Some(picture),
                    Err(error) => {
                        skipped.lock().push(error.to_string());
                        None
                    }
                })
                .ok_or_else(|| GalleryError::Empty(source.to_owned()))
        })?;
        let mut skipped = skipped.into_inner();
        skipped.extend(skipped_early);
        skipped.sort();
        skipped.dedup();
        Ok(Gallery {
            folder,
            items,
            drawn: false,
            skipped,
        })
    }

    /// Backgrounds.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// No backgrounds.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Catalogue id of a background.
    pub fn id(&self, number: u16) -> &str {
        &self.items[usize::from(number)].id
    }

    /// Checksum of its first revision as the service computes it: XXH3-64, lowercase hex.
    pub fn checksum(&self, number: u16) -> &str {
        &self.items[usize::from(number)].checksum
    }

    /// File of its first revision.
    pub fn file(&self, number: u16) -> Result<Vec<u8>, GalleryError> {
        let path = self.path(number);
        fs::read(&path).map_err(io_error(&path))
    }

    fn path(&self, number: u16) -> PathBuf {
        self.folder.join(format!("{}.jpg", self.id(number)))
    }

    /// The same picture with another revision in its code, as JPEG.
    pub fn revised(&self, number: u16, revision: u8) -> Result<Vec<u8>, GalleryError> {
        let path = self.path(number);
        let failed = |cause| GalleryError::Picture {
            path: path.clone(),
            cause,
        };
        let payload = payload(number, revision);
        let picture = if self.drawn {
            draw::sample(payload, SIZE.0, SIZE.1)
        } else {
            let mut picture = picture::decode(&self.file(number)?).map_err(failed)?;
            code::stamp(&mut picture.data, picture.width, picture.height, payload);
            picture
        };
        picture::encode(&picture, QUALITY).map_err(failed)
    }
}

fn payload(number: u16, revision: u8) -> Payload {
    Payload { number, revision }
}

/// Draws samples into a folder that the user named: no manifest, every file anew. Returns the paths.
pub fn draw_into(
    folder: &Path,
    count: u16,
    width: u32,
    height: u32,
) -> Result<Vec<PathBuf>, GalleryError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    in_parallel(count, |number| {
        let path = folder.join(format!("sample-{number:04}.jpg"));
        let picture = draw::sample(
            payload(number, FIRST_REVISION),
            width as usize,
            height as usize,
        );
        write(&path, &encoded(&picture, &path)?)?;
        Ok(path)
    })
}

/// Completes a cache folder: whole files are kept, the rest made by `make`.
fn fill(
    folder: &Path,
    prefix: &str,
    count: u16,
    make: impl Fn(u16) -> Result<Rgb, GalleryError> + Sync,
) -> Result<Vec<Item>, GalleryError> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let known: HashMap<String, Item> = manifest(folder)
        .into_iter()
        .map(|item| (item.id.clone(), item))
        .collect();
    let items = in_parallel(count, |number| {
        let id = format!("{prefix}-{number:04}");
        let path = folder.join(format!("{id}.jpg"));
        let whole = |item: &&Item| fs::metadata(&path).is_ok_and(|meta| meta.len() == item.bytes);
        if let Some(item) = known.get(&id).filter(whole) {
            return Ok(item.clone());
        }
        let bytes = encoded(&make(number)?, &path)?;
        write(&path, &bytes)?;
        Ok(Item {
            id,
            bytes: bytes.len() as u64,
            checksum: format!("{:016x}", xxh3_64(&bytes)),
        })
    })?;
    if items.iter().any(|item| known.get(&item.id) != Some(item)) {
        save(folder, known, &items)?;
    }
    Ok(items)
}

fn encoded(picture: &Rgb, path: &Path) -> Result<Vec<u8>, GalleryError> {
    picture::encode(picture, QUALITY).map_err(|cause| GalleryError::Picture {
        path: path.to_owned(),
        cause,
    })
}

fn manifest(folder: &Path) -> Vec<Item> {
    fs::read(folder.join(MANIFEST))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Manifest>(&bytes).ok())
        .filter(|manifest| manifest.format == MANIFEST_FORMAT)
        .map(|manifest| manifest.items)
        .unwrap_or_default()
}

fn save(
    folder: &Path,
    mut known: HashMap<String, Item>,
    items: &[Item],
) -> Result<(), GalleryError> {
    known.extend(items.iter().map(|item| (item.id.clone(), item.clone())));
    let mut items: Vec<Item> = known.into_values().collect();
    items.sort_by(|a, b| a.id.cmp(&b.id));
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        items,
    };
    let path = folder.join(MANIFEST);
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|error| io_error(&path)(error.into()))?;
    write(&path, &text)
}

/// Written aside and renamed: a reader, or a second run, in this process too, never sees half a file.
fn write(path: &Path, bytes: &[u8]) -> Result<(), GalleryError> {
    static WRITES: AtomicUsize = AtomicUsize::new(0);
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("tmp-{}-{number}", std::process::id()));
    fs::write(&aside, bytes).map_err(io_error(&aside))?;
    fs::rename(&aside, path).map_err(io_error(path))
}

/// Runs `work` for 0..count on all CPUs; results in order, the first error wins.
fn in_parallel<T: Send>(
    count: u16,
    work: impl Fn(u16) -> Result<T, GalleryError> + Sync,
) -> Result<Vec<T>, GalleryError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(usize::from(count)));
    std::thread::scope(|scope| {
        for _ in 0..crate::host::cpus().min(usize::from(count)) {
            scope.spawn(|| {
                while let Ok(number) = u16::try_from(next.fetch_add(1, Ordering::Relaxed)) {
                    if number >= count {
                        break;
                    }
                    let result = work(number);
                    if result.is_err() {
                        next.store(usize::from(count), Ordering::Relaxed);
                    }
                    results.lock().push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner();
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Picture files of a folder in order, and a key that changes with any of them.
fn photographs_in(folder: &Path) -> Result<(Vec<PathBuf>, u64), GalleryError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let path = entry.map_err(io_error(folder))?.path();
        let extension = path
            .extension()
            .and_then(|text| text.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if path.is_file() && matches!(extension.as_str(), "jpg" | "jpeg" | "png" | "webp") {
            files.push(path);
        }
    }
    files.sort();
    let mut key = format!("{MANIFEST_FORMAT}");
    for path in &files {
        let meta = fs::metadata(path).map_err(io_error(path))?;
        key.push_str(&format!(
            "{}:{}:{:?};",
            path.display(),
            meta.len(),
            meta.modified().ok()
        ));
    }
    Ok((files, xxh3_64(key.as_bytes())))
}

/// Sorts out files that are no pictures whatever their name.
fn readable(files: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<String>) {
    let is_picture = |path: &PathBuf| {
        let mut head = [0_u8; 12];
        let read =
            fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
        read.is_ok() && !matches!(picture::decode(&head), Err(PictureError::Format))
    };
    let (good, bad): (Vec<_>, Vec<_>) = files.into_iter().partition(is_picture);
    let words = bad
        .iter()
        .map(|path| format!("{}: {}", path.display(), PictureError::Format))
        .collect();
    (good, words)
}

fn copy(path: &Path, payload: Payload) -> Result<Rgb, GalleryError> {
    let bytes = fs::read(path).map_err(io_error(path))?;
    let picture = picture::decode(&bytes).map_err(|cause| GalleryError::Picture {
        path: path.to_owned(),
        cause,
    })?;
    let crop = picture::cover(&picture, SIZE.0, SIZE.1);
    let mut out = picture::resample(&picture, crop, SIZE.0, SIZE.1);
    code::stamp(&mut out.data, out.width, out.height, payload);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{Crop, Luma};
    use crate::truth::Pixels;

    fn read_code(bytes: &[u8]) -> Pixels {
        let (luma, width, height) = picture::decode_luma(bytes).unwrap();
        code::read(
            Luma {
                data: &luma,
                width,
                height,
            },
            Crop::FULL,
        )
    }

    #[test]
    fn a_second_run_draws_nothing_and_a_damaged_file_is_drawn_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Gallery::drawn(dir.path(), 2).unwrap();
        let modified = |number| {
            fs::metadata(first.path(number))
                .unwrap()
                .modified()
                .unwrap()
        };
        let (kept, damaged) = (modified(0), first.path(1));
        fs::write(&damaged, b"short").unwrap();
        let second = Gallery::drawn(dir.path(), 2).unwrap();
        assert_eq!(modified(0), kept);
        assert_eq!(first.items, second.items);
        assert_eq!(
            read_code(&second.file(1).unwrap()),
            Pixels::Code {
                number: 1,
                revision: 1
            }
        );
        assert_eq!(
            read_code(&second.revised(1, 9).unwrap()),
            Pixels::Code {
                number: 1,
                revision: 9
            }
        );
        assert_eq!(second.id(1), "sample-0001");
    }

    #[test]
    fn photographs_are_copied_stamped_cycled_and_left_alone() {
        let (photos, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut picture = Rgb::blank(300, 400);
        picture
            .data
            .iter_mut()
            .enumerate()
            .for_each(|(at, value)| *value = (at % 251) as u8);
        let original = picture::encode(&picture, 90).unwrap();
        fs::write(photos.path().join("tree.JPG"), &original).unwrap();
        fs::write(photos.path().join("notes.txt"), "no picture").unwrap();
        fs::write(photos.path().join("liar.png"), "no picture either").unwrap();
        let cut = &original[..original.len() / 2];
        fs::write(photos.path().join("cut.jpg"), cut).unwrap();
        let gallery = Gallery::photographs(photos.path(), cache.path(), 3).unwrap();
        assert_eq!(gallery.len(), 3);
        let skipped = &gallery.skipped;
        assert!(
            skipped.len() == 2 && skipped[0].contains("cut off"),
            "{skipped:?}"
        );
        for number in 0..3 {
            assert_eq!(
                read_code(&gallery.file(number).unwrap()),
                Pixels::Code {
                    number,
                    revision: 1
                }
            );
        }
        assert_eq!(
            read_code(&gallery.revised(2, 7).unwrap()),
            Pixels::Code {
                number: 2,
                revision: 7
            }
        );
        assert_eq!(fs::read(photos.path().join("tree.JPG")).unwrap(), original);
    }

    #[test]
    fn a_folder_without_pictures_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Gallery::photographs(dir.path(), dir.path(), 3),
            Err(GalleryError::Empty(_))
        ));
        assert!(matches!(
            Gallery::photographs(&dir.path().join("none"), dir.path(), 3),
            Err(GalleryError::Io { .. })
        ));
    }
}
