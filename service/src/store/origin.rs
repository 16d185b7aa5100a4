//! The origin: where sources are kept for good. An `object_store`, today always a local directory.
//!
//! Layout below the directory: `backgrounds/<id>/<version>.image`, beside it `<version>.json` (the sidecar, written last: an image
//! without one was never acknowledged), and `tombstone-<version>` for a deleted id. Every write is fsynced, file and directories, before
//! it is renamed into place and acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

use super::lock::DirLock;
use super::{Damaged, Recovered, StoreConfig, StoreError, Stored, valid_id};

const ROOT: &str = "backgrounds";
/// A sidecar is a small JSON with a thumbnail of 4 KiB in hex; anything larger is not one.
const SIDECAR_BYTES_MAX: u64 = 64 << 10;
/// Images are read for their checksums so much at a time.
const PIECE_BYTES: u64 = 1 << 20;

fn image_path(id: &str, version: u32) -> Path {
    Path::from_iter([ROOT, id, &format!("{version:010}.image")])
}

fn sidecar_path(id: &str, version: u32) -> Path {
    Path::from_iter([ROOT, id, &format!("{version:010}.json")])
}

fn tombstone_path(id: &str, version: u32) -> Path {
    Path::from_iter([ROOT, id, &format!("tombstone-{version:010}")])
}

fn io(error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(error.to_string())
}

/// What a file name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image(u32),
    Sidecar(u32),
    Tombstone(u32),
}

impl Kind {
    pub(super) fn version(self) -> u32 {
        let (Kind::Image(version) | Kind::Sidecar(version) | Kind::Tombstone(version)) = self;
        version
    }

    /// Whether the tombstone of `version` makes it superfluous.
    pub(super) fn is_ended_by(self, version: u32) -> bool {
        match self {
            Kind::Image(found) | Kind::Sidecar(found) => found <= version,
            Kind::Tombstone(found) => found < version,
        }
    }
}

fn kind(name: &str) -> Option<Kind> {
    if let Some(version) = name.strip_prefix("tombstone-") {
        return version.parse().ok().map(Kind::Tombstone);
    }
    let (version, suffix) = name.split_once('.')?;
    let version = version.parse().ok()?;
    match suffix {
        "image" => Some(Kind::Image(version)),
        "json" => Some(Kind::Sidecar(version)),
        _ => None,
    }
}

#[derive(Debug)]
enum Backend {
    Durable(Arc<dyn ObjectStore>),
    Volatile(Mutex<BTreeMap<(String, u32), Bytes>>),
}

/// See the file's description.
#[derive(Debug)]
pub(super) struct Origin {
    backend: Backend,
    config: StoreConfig,
    _lock: Option<DirLock>,
}

impl Origin {
    pub(super) fn open(config: StoreConfig) -> Result<Self, StoreError> {
        if config.volatile {
            return Ok(Self {
                backend: Backend::Volatile(Mutex::default()),
                config,
                _lock: None,
            });
        }
        std::fs::create_dir_all(config.dir.join(ROOT))
            .map_err(|cause| io(format!("{}: {cause}", config.dir.display())))?;
        let lock = DirLock::take(&config.dir)?;
        let local = LocalFileSystem::new_with_prefix(&config.dir)
            .map_err(io)?
            .with_fsync(true);
        Ok(Self {
            backend: Backend::Durable(Arc::new(local)),
            config,
            _lock: Some(lock),
        })
    }

    pub(super) async fn put(&self, entry: &Stored, image: Bytes) -> Result<(), StoreError> {
        let store = match &self.backend {
            Backend::Durable(store) => store,
            Backend::Volatile(images) => {
                images
                    .lock()
                    .insert((entry.id.to_string(), entry.version), image);
                return Ok(());
            }
        };
        let sidecar = entry.to_sidecar()?;
        store
            .put(
                &image_path(&entry.id, entry.version),
                PutPayload::from(image),
            )
            .await
            .map_err(io)?;
        store
            .put(
                &sidecar_path(&entry.id, entry.version),
                PutPayload::from(sidecar),
            )
            .await
            .map_err(io)?;
        Ok(())
    }

    pub(super) async fn get(&self, id: &str, version: u32) -> Result<Bytes, StoreError> {
        let missing = || StoreError::NotFound {
            id: id.to_owned(),
            version,
        };
        match &self.backend {
            Backend::Durable(store) => match store.get(&image_path(id, version)).await {
                Ok(found) => found.bytes().await.map_err(io),
                Err(Error::NotFound { .. }) => Err(missing()),
                Err(error) => Err(io(error)),
            },
            Backend::Volatile(images) => images
                .lock()
                .get(&(id.to_owned(), version))
                .cloned()
                .ok_or_else(missing),
        }
    }

    /// Puts the tombstone: whatever is left of the files after a crash cannot bring the background back.
    pub(super) async fn bury(&self, id: &str, version: u32) -> Result<(), StoreError> {
        if let Backend::Durable(store) = &self.backend {
            store
                .put(&tombstone_path(id, version), PutPayload::from_static(b""))
                .await
                .map_err(io)?;
        }
        Ok(())
    }

    /// Best effort: what stays is found and passed over, or removed, at the next start.
    pub(super) async fn remove_where(&self, id: &str, doomed: impl Fn(Kind) -> bool) {
        match &self.backend {
            Backend::Durable(store) => remove_files(store, id, doomed).await,
            Backend::Volatile(images) => images
                .lock()
                .retain(|(found, version), _| found != id || !doomed(Kind::Image(*version))),
        }
    }

    pub(super) async fn recover(&self) -> Result<Recovered, StoreError> {
        let Backend::Durable(store) = &self.backend else {
            return Ok(Recovered::default());
        };
        self.remove_staged();
        let mut recovered = Recovered::default();
        let listed = store
            .list_with_delimiter(Some(&Path::from(ROOT)))
            .await
            .map_err(io)?;
        if listed.common_prefixes.len() > self.config.ids_max {
            return Err(StoreError::TooManyIds {
                max: self.config.ids_max,
            });
        }
        for directory in listed.common_prefixes {
            let id = directory.filename().unwrap_or_default().to_owned();
            let mut damaged = |what: &str| {
                recovered.damaged.push(Damaged {
                    path: directory.to_string(),
                    what: what.to_owned(),
                })
            };
            if !valid_id(&id) {
                damaged("not a valid id");
                continue;
            }
            match store.list_with_delimiter(Some(&directory)).await {
                Ok(files) => {
                    self.recover_id(store, &id, files.objects, &mut recovered)
                        .await
                }
                Err(error) => damaged(&error.to_string()),
            }
        }
        Ok(recovered)
    }

    async fn recover_id(
        &self,
        store: &Arc<dyn ObjectStore>,
        id: &str,
        files: Vec<ObjectMeta>,
        recovered: &mut Recovered,
    ) {
        if files.is_empty() {
            // Left by an upload that was taken back.
            return;
        }
        let known = known(&files);
        let (mut sidecars, mut images, mut last, mut deleted) = (Vec::new(), BTreeMap::new(), 0, 0);
        for file in files {
            let version = match file.location.filename().and_then(kind) {
                Some(Kind::Image(version)) => {
                    images.insert(version, file.size);
                    version
                }
                Some(Kind::Sidecar(version)) => {
                    sidecars.push((version, file));
                    version
                }
                Some(Kind::Tombstone(version)) => {
                    deleted = deleted.max(version);
                    version
                }
                None => {
                    recovered.damaged.push(Damaged {
                        path: file.location.to_string(),
                        what: "unknown file".into(),
                    });
                    continue;
                }
            };
            last = last.max(version);
        }
        recovered.last_versions.push((id.to_owned(), last));
        sidecars.retain(|&(version, _)| version > deleted);
        sidecars.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
        self.report_unacknowledged(id, &images, &sidecars, deleted, recovered);
        for (version, file) in sidecars {
            match self
                .recover_version(store, id, version, &file, images.get(&version).copied())
                .await
            {
                Ok(entry) => {
                    recovered.live.push(entry);
                    // A replace that was cut short: the older files have had their day.
                    let older = |kind: Kind| kind.version() < version;
                    return unlink(store, id, known, older).await;
                }
                Err(what) => recovered.damaged.push(Damaged {
                    path: file.location.to_string(),
                    what,
                }),
            }
        }
        // A delete that was cut short. Without a tombstone this removes nothing.
        unlink(store, id, known, |kind| kind.is_ended_by(deleted)).await;
    }

    fn report_unacknowledged(
        &self,
        id: &str,
        images: &BTreeMap<u32, u64>,
        sidecars: &[(u32, ObjectMeta)],
        deleted: u32,
        recovered: &mut Recovered,
    ) {
        let orphans = images.keys().filter(|&&version| {
            version > deleted && !sidecars.iter().any(|&(known, _)| known == version)
        });
        for &version in orphans {
            let path = image_path(id, version).to_string();
            recovered.damaged.push(Damaged {
                path,
                what: "image without sidecar: its upload was never acknowledged".into(),
            });
        }
    }

    async fn recover_version(
        &self,
        store: &Arc<dyn ObjectStore>,
        id: &str,
        version: u32,
        sidecar: &ObjectMeta,
        image_bytes: Option<u64>,
    ) -> Result<Stored, String> {
        if sidecar.size > SIDECAR_BYTES_MAX {
            return Err(format!("sidecar of {} bytes", sidecar.size));
        }
        let text = store
            .get(&sidecar.location)
            .await
            .map_err(|error| error.to_string())?;
        let text = text.bytes().await.map_err(|error| error.to_string())?;
        let entry = Stored::from_sidecar(&text).ok_or("sidecar cannot be read")?;
        if *entry.id != *id || entry.version != version {
            return Err(format!(
                "sidecar names {} version {}",
                entry.id, entry.version
            ));
        }
        if image_bytes != Some(entry.bytes) {
            return Err(format!(
                "image of {image_bytes:?} bytes instead of {}",
                entry.bytes
            ));
        }
        let found = checksum_in_pieces(store, &image_path(id, version), entry.bytes)
            .await
            .map_err(|error| error.to_string())?;
        entry.check_sum(found).map_err(|error| error.to_string())?;
        Ok(entry)
    }

    /// Removes what a crash left half-written: `object_store` writes to `<name>#<n>` first and does not list those.
    fn remove_staged(&self) {
        let Ok(directories) = std::fs::read_dir(self.config.dir.join(ROOT)) else {
            return;
        };
        let files = directories
            .flatten()
            .filter_map(|directory| std::fs::read_dir(directory.path()).ok())
            .flatten()
            .flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().contains('#')) {
            if let Err(error) = std::fs::remove_file(file.path()) {
                tracing::warn!(path = %file.path().display(), %error, "half-written file stays");
            }
        }
    }
}

/// The checksum of a file, of which no more than a piece is held: recovery reads all there is, and no budget pays for it.
async fn checksum_in_pieces(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    bytes: u64,
) -> Result<u64, Error> {
    let mut hasher = Xxh3::new();
    let mut at = 0;
    while at < bytes {
        let end = bytes.min(at + PIECE_BYTES);
        hasher.update(&store.get_range(path, at..end).await?);
        at = end;
    }
    Ok(hasher.digest())
}

async fn remove_files(store: &Arc<dyn ObjectStore>, id: &str, doomed: impl Fn(Kind) -> bool) {
    match store
        .list_with_delimiter(Some(&Path::from_iter([ROOT, id])))
        .await
    {
        Ok(listed) => unlink(store, id, known(&listed.objects), doomed).await,
        Err(error) => tracing::warn!(id, %error, "old files cannot be listed"),
    }
}

/// The files whose names say something.
fn known(files: &[ObjectMeta]) -> Vec<(Kind, Path)> {
    files
        .iter()
        .filter_map(|file| Some((kind(file.location.filename()?)?, file.location.clone())))
        .collect()
}

async fn unlink(
    store: &Arc<dyn ObjectStore>,
    id: &str,
    files: Vec<(Kind, Path)>,
    doomed: impl Fn(Kind) -> bool,
) {
    // Sidecars go first: an image without one counts for nothing.
    let (sidecars, others): (Vec<_>, Vec<_>) = files
        .into_iter()
        .filter(|&(kind, _)| doomed(kind))
        .partition(|(kind, _)| matches!(kind, Kind::Sidecar(_)));
    for (_, path) in sidecars.into_iter().chain(others) {
        if let Err(error) = store.delete(&path).await {
            tracing::warn!(id, %error, "old file stays");
        }
    }
}

#[cfg(test)]
mod tests;
