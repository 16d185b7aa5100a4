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

use super::lock::DirLock;
use super::{Damaged, Recovered, Store, StoreConfig, StoreError, Stored, valid_id};

const ROOT: &str = "backgrounds";
/// A sidecar is a small JSON with a thumbnail of 4 KiB in hex; anything larger is not one.
const SIDECAR_BYTES_MAX: u64 = 64 << 10;

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
        if self.config.verify {
            let image = self
                .get(id, version)
                .await
                .map_err(|error| error.to_string())?;
            entry.check(&image).map_err(|error| error.to_string())?;
        }
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

impl Store {
    /// Directory of the store, for messages.
    pub fn dir(&self) -> &std::path::Path {
        &self.origin.config.dir
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tags, checksum};
    use super::*;
    use crate::codec::{Format, Size};

    fn entry(id: &str, version: u32, image: &[u8]) -> Stored {
        Stored {
            id: id.into(),
            version,
            format: Format::Png,
            size: Size::new(4, 2),
            bytes: image.len() as u64,
            checksum: checksum(image),
            thumbnail: Bytes::from_static(b"\xff\xd8thumb"),
            tags: Tags::of(["beach", "warm"]).expect("well formed"),
        }
    }

    fn open(dir: &tempfile::TempDir) -> Store {
        Store::open(StoreConfig::at(dir.path())).expect("store")
    }

    async fn put(store: &Store, id: &str, version: u32, image: &'static [u8]) -> Stored {
        let entry = entry(id, version, image);
        store
            .put(&entry, Bytes::from_static(image))
            .await
            .expect("put");
        entry
    }

    #[tokio::test]
    async fn what_was_put_is_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("directory");
        let first = put(&open(&dir), "beach", 1, b"sand").await;
        let store = open(&dir);
        let recovered = store.recover().await.expect("recovery");
        assert_eq!(recovered.live, std::slice::from_ref(&first));
        assert!(recovered.damaged.is_empty());
        assert_eq!(
            store.get(&first).await.expect("image"),
            Bytes::from_static(b"sand")
        );
    }

    fn files(dir: &tempfile::TempDir, id: &str) -> Vec<String> {
        let listed = std::fs::read_dir(dir.path().join(ROOT).join(id)).expect("directory");
        let mut names: Vec<String> = listed
            .map(|file| {
                let name = file.expect("entry").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn old_files_stay_until_they_are_pruned_and_a_delete_remembers_the_version() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        let first = put(&store, "beach", 1, b"one").await;
        let second = put(&store, "beach", 2, b"two").await;
        assert!(store.get(&first).await.is_ok(), "it may be shown still");
        store.prune("beach", 2).await;
        assert!(matches!(
            store.get(&first).await,
            Err(StoreError::NotFound { version: 1, .. })
        ));
        assert_eq!(
            files(&dir, "beach"),
            ["0000000002.image", "0000000002.json"]
        );
        assert_eq!(
            store.recover().await.expect("recovery").live,
            std::slice::from_ref(&second)
        );
        store.bury("beach", 2).await.expect("tombstone");
        assert!(store.get(&second).await.is_ok(), "it may be shown still");
        store.prune_deleted("beach", 2).await;
        assert_eq!(files(&dir, "beach"), ["tombstone-0000000002"]);
        let recovered = store.recover().await.expect("recovery");
        assert!(recovered.live.is_empty());
        assert_eq!(recovered.last_versions, [("beach".to_owned(), 2)]);
        put(&store, "beach", 3, b"three").await;
        let recovered = store.recover().await.expect("recovery");
        assert_eq!(
            (recovered.live[0].version, recovered.last_versions[0].1),
            (3, 3)
        );
    }

    #[tokio::test]
    async fn a_replace_that_was_cut_short_shows_the_new_version_and_is_tidied_up() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        put(&store, "beach", 1, b"one").await;
        let second = put(&store, "beach", 2, b"two").await;
        let recovered = store.recover().await.expect("recovery");
        assert_eq!((recovered.live, recovered.damaged.len()), (vec![second], 0));
        assert_eq!(
            files(&dir, "beach"),
            ["0000000002.image", "0000000002.json"]
        );
    }

    #[tokio::test]
    async fn what_is_taken_back_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        let first = put(&store, "beach", 1, b"one").await;
        put(&store, "beach", 2, b"two").await;
        put(&store, "hill", 1, b"one").await;
        store.discard("beach", 2).await;
        store.discard("hill", 1).await;
        let recovered = store.recover().await.expect("recovery");
        assert_eq!((recovered.live, recovered.damaged.len()), (vec![first], 0));
        assert_eq!(recovered.last_versions, [("beach".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_directory_has_one_store_at_a_time() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        let refused = Store::open(StoreConfig::at(dir.path()));
        assert!(matches!(refused, Err(StoreError::InUse { .. })));
        drop(store);
        drop(open(&dir));
    }

    #[tokio::test]
    async fn a_delete_that_was_cut_short_stays_deleted() {
        let dir = tempfile::tempdir().expect("directory");
        put(&open(&dir), "beach", 4, b"sand").await;
        std::fs::write(
            dir.path().join("backgrounds/beach/tombstone-0000000004"),
            b"",
        )
        .expect("tombstone");
        let recovered = open(&dir).recover().await.expect("recovery");
        assert!(recovered.live.is_empty() && recovered.damaged.is_empty());
        assert_eq!(recovered.last_versions, [("beach".to_owned(), 4)]);
        assert_eq!(files(&dir, "beach"), ["tombstone-0000000004"]);
    }

    #[tokio::test]
    async fn torn_and_corrupt_entries_are_reported_and_never_served() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        let sound = put(&store, "sound", 1, b"fine").await;
        let bent = put(&store, "bent", 1, b"abcd").await;
        put(&store, "short", 1, b"abcd").await;
        put(&store, "garbled", 1, b"abcd").await;
        let file = |name: &str| dir.path().join("backgrounds").join(name);
        std::fs::write(file("bent/0000000001.image"), b"abcx").expect("write");
        std::fs::write(file("short/0000000001.image"), b"ab").expect("write");
        std::fs::write(file("garbled/0000000001.json"), b"{\"schema\":1,").expect("write");
        std::fs::create_dir_all(file("orphan")).expect("directory");
        std::fs::write(file("orphan/0000000007.image"), b"never acknowledged").expect("write");
        std::fs::write(file("orphan/0000000008.image#1"), b"half").expect("write");
        std::fs::create_dir_all(file("Bad Id")).expect("directory");
        std::fs::write(file("Bad Id/x"), b"x").expect("write");
        std::fs::write(file("sound/notes.txt"), b"x").expect("write");
        let recovered = store.recover().await.expect("recovery");
        assert_eq!(recovered.live, [sound]);
        assert_eq!(recovered.damaged.len(), 6, "{:?}", recovered.damaged);
        assert!(
            recovered.last_versions.contains(&("orphan".to_owned(), 7)),
            "a torn version number is not used again"
        );
        assert!(matches!(
            store.get(&bent).await,
            Err(StoreError::Corrupt { .. })
        ));
        assert!(!file("orphan/0000000008.image#1").exists());
    }

    #[tokio::test]
    async fn a_torn_newer_version_leaves_the_older_one_in_force() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(&dir);
        let first = put(&store, "beach", 1, b"one").await;
        let newer = entry("beach", 2, b"two").to_sidecar().expect("sidecar");
        std::fs::write(dir.path().join("backgrounds/beach/0000000002.json"), newer).expect("write");
        let recovered = store.recover().await.expect("recovery");
        assert_eq!((recovered.live, recovered.damaged.len()), (vec![first], 1));
        assert_eq!(recovered.last_versions, [("beach".to_owned(), 2)]);
    }

    #[tokio::test]
    async fn more_ids_than_the_bound_end_the_start() {
        let dir = tempfile::tempdir().expect("directory");
        for id in ["a", "b", "c"] {
            put(&open(&dir), id, 1, b"x").await;
        }
        let store = Store::open(StoreConfig {
            ids_max: 2,
            ..StoreConfig::at(dir.path())
        })
        .expect("store");
        assert!(matches!(
            store.recover().await,
            Err(StoreError::TooManyIds { max: 2 })
        ));
    }

    #[tokio::test]
    async fn volatile_mode_forgets() {
        let dir = tempfile::tempdir().expect("directory");
        let config = StoreConfig {
            volatile: true,
            ..StoreConfig::at(dir.path())
        };
        let store = Store::open(config.clone()).expect("store");
        let first = put(&store, "beach", 1, b"sand").await;
        assert_eq!(
            store.get(&first).await.expect("image"),
            Bytes::from_static(b"sand")
        );
        let second = put(&store, "beach", 2, b"more").await;
        store.prune("beach", 2).await;
        assert!(store.get(&first).await.is_err());
        store.bury("beach", 2).await.expect("delete");
        store.prune_deleted("beach", 2).await;
        assert!(store.get(&second).await.is_err());
        assert_eq!(
            Store::open(config)
                .expect("store")
                .recover()
                .await
                .expect("recovery")
                .live,
            []
        );
        assert!(!dir.path().join("backgrounds").exists());
    }
}
