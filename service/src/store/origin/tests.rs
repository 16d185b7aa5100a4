//! Uploads, replaces and deletes over real files, whole and cut short.

use super::super::{Store, Tags, checksum};
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
async fn images_of_several_pieces_are_checked_to_their_last_byte() {
    let piece = PIECE_BYTES as usize;
    for bytes in [0, 1, piece - 1, piece, piece + 1, 2 * piece + 7] {
        let dir = tempfile::tempdir().expect("directory");
        let mut image: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        let stored = entry("long", 1, &image);
        let kept = open(&dir).put(&stored, image.clone().into()).await;
        kept.expect("put");
        let recovered = open(&dir).recover().await.expect("recovery");
        assert_eq!(recovered.live, [stored], "{bytes} bytes");
        let Some(last) = image.last_mut() else {
            continue;
        };
        *last ^= 1;
        let file = dir.path().join("backgrounds/long/0000000001.image");
        std::fs::write(file, &image).expect("write");
        let recovered = open(&dir).recover().await.expect("recovery");
        assert!(recovered.live.is_empty(), "{bytes} bytes");
        assert!(
            recovered.damaged[0].what.contains("checksum"),
            "{recovered:?}"
        );
    }
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
