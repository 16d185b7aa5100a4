//! Backgrounds in and out: places, versions, files and restarts.

use super::*;

#[tokio::test]
async fn a_replace_and_a_removal_leave_no_old_files() {
    let world = World::of(4);
    world.upload("beach", [1, 1, 1]).await;
    world.upload("beach", [2, 2, 2]).await;
    let files = || {
        let listed = std::fs::read_dir(world.dir.path().join("backgrounds/beach"));
        let names = listed.expect("directory").map(|file| {
            let name = file.expect("entry").file_name();
            name.to_string_lossy().into_owned()
        });
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert!(files().iter().eq(["0000000002.image", "0000000002.json"]));
    let removed = world.flyweights.delete("beach", Precondition::None).await;
    removed.expect("delete");
    assert!(files().iter().eq(["tombstone-0000000002"]));
}

#[tokio::test]
async fn one_of_two_uploads_gets_the_last_place_and_has_it_after_a_restart() {
    let config = FlyweightsConfig {
        backgrounds_max: 1,
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    let world = World::with(config.clone(), budget_for(8), dir);
    let place = world.flyweights.catalogue.next_version("a").expect("room");
    let refused = world
        .flyweights
        .upload("b", picture([1, 2, 3]), Precondition::None)
        .await;
    assert!(matches!(
        refused,
        Err(UploadError::Catalogue(CatalogueError::Full(1)))
    ));
    drop(place);
    world.upload("b", [1, 2, 3]).await;
    assert!(!world.dir.path().join("backgrounds/a").exists());
    let World {
        flyweights, dir, ..
    } = world;
    drop(flyweights);
    let world = World::with(config, budget_for(8), dir);
    let report = world.flyweights.recover().await.expect("recovery");
    assert_eq!((report.live, report.refused.len()), (1, 0));
    assert!(world.flyweights.resolve("b").is_some());
}

#[tokio::test]
async fn what_could_not_be_kept_is_taken_back_with_its_place() {
    let config = FlyweightsConfig {
        backgrounds_max: 1,
        ..config()
    };
    let dir = tempfile::tempdir().expect("directory");
    // A directory where the sidecar should be: the image is written, its sidecar cannot be.
    let root = dir.path().join("backgrounds");
    std::fs::create_dir_all(root.join("a/0000000001.json")).expect("directory");
    let world = World::with(config, budget_for(8), dir);
    let failed = world
        .flyweights
        .upload("a", picture([1, 2, 3]), Precondition::None)
        .await;
    assert!(matches!(failed, Err(UploadError::Store(_))), "{failed:?}");
    assert!(!root.join("a/0000000001.image").exists());
    world.upload("b", [1, 2, 3]).await;
}

/// What is acknowledged has its thumbnail: without memory for that, an upload is shed like any other, and nothing of it is kept.
#[tokio::test]
async fn an_upload_without_room_for_its_thumbnail_is_shed_and_leaves_nothing() {
    let world = World::of(1);
    let lasting = world.budget.report().ceiling - HEADROOM;
    let full = world.budget.try_reserve(Purpose::Sessions, lasting);
    let full = full.expect("nothing is there yet");
    let upload = || {
        world
            .flyweights
            .upload("a", picture([1, 2, 3]), Precondition::None)
    };
    let shed = upload().await;
    assert!(
        matches!(&shed, Err(UploadError::Load(error)) if error.is_overload()),
        "{shed:?}"
    );
    assert!(!world.dir.path().join("backgrounds/a").exists());
    assert_eq!(world.flyweights.resolve("a"), None);
    drop(full);
    let kept = upload().await.expect("there is room again");
    let shown = world.flyweights.list(None, 1);
    assert_eq!(shown[0].index, kept.index);
    assert!(!shown[0].stored.thumbnail.is_empty());
}

#[tokio::test]
async fn removed_is_gone_for_ever_and_a_new_one_gets_another_index_and_a_higher_version() {
    let world = World::of(4);
    let first = world.upload("beach", [1, 1, 1]).await;
    let (lease, _) = world.lease(first.index).await.expect("lease");
    assert_eq!(
        world
            .flyweights
            .delete("beach", Precondition::Version(7))
            .await
            .ok(),
        None
    );
    assert_eq!(
        world
            .flyweights
            .delete("beach", Precondition::None)
            .await
            .ok(),
        Some(first.index)
    );
    assert_eq!(world.flyweights.check(first.index), Err(Unavailable::Gone));
    assert!(matches!(world.flyweights.entry(first.index), Entry::Gone));
    assert!(matches!(
        world.lease(first.index).await,
        Err(LeaseError::Unavailable(Unavailable::Gone))
    ));
    assert_eq!(
        first_pixel(&lease),
        [1, 1, 1, 255],
        "a held lease outlives the background"
    );
    drop(lease);
    assert_eq!(
        (
            world.flyweights.resident(),
            world.flyweights.resolve("beach")
        ),
        (0, None)
    );
    let second = world.upload("beach", [2, 2, 2]).await;
    assert_eq!((second.created, second.version), (true, 2));
    assert_ne!(second.index, first.index);
    assert_eq!(world.flyweights.check(999_999), Err(Unavailable::Unknown));
    assert!(matches!(
        world.flyweights.delete("nothing", Precondition::None).await,
        Err(RemoveError::NotFound)
    ));
}

#[tokio::test]
async fn a_restart_finds_everything_under_a_new_epoch_and_versions_go_on() {
    let world = World::of(4);
    world.upload("beach", [1, 1, 1]).await;
    world.upload("beach", [2, 2, 2]).await;
    world.upload("forest", [3, 3, 3]).await;
    world.upload("gone", [4, 4, 4]).await;
    world
        .flyweights
        .delete("gone", Precondition::None)
        .await
        .expect("delete");
    let World {
        flyweights, dir, ..
    } = world;
    let epoch = flyweights.epoch();
    drop(flyweights);
    let world = World::with(config(), budget_for(8), dir);
    let report = world.flyweights.recover().await.expect("recovery");
    assert_eq!(
        (report.live, report.refused.len(), report.damaged.len()),
        (2, 0, 0)
    );
    assert_ne!(world.flyweights.epoch(), epoch);
    let index = world.flyweights.resolve("beach").expect("there");
    let (lease, _) = world.lease(index).await.expect("lease");
    assert_eq!((lease.version(), first_pixel(&lease)), (2, [2, 2, 2, 255]));
    assert_eq!(world.upload("beach", [5, 5, 5]).await.version, 3);
    assert_eq!(world.upload("gone", [6, 6, 6]).await.version, 2);
    let ids: Vec<String> = world
        .flyweights
        .list(None, 10)
        .iter()
        .map(|identity| identity.stored.id.to_string())
        .collect();
    assert_eq!(ids, ["beach", "forest", "gone"]);
    assert_eq!(
        &*world.flyweights.list(Some("beach"), 1)[0].stored.id,
        "forest"
    );
}

#[tokio::test]
async fn bounds_and_preconditions_of_uploads() {
    let config = FlyweightsConfig {
        backgrounds_max: 2,
        indices_max: 3,
        ..config()
    };
    let world = World::with(
        config,
        budget_for(8),
        tempfile::tempdir().expect("directory"),
    );
    let upload = |id: &'static str, wanted| world.flyweights.upload(id, picture([1, 2, 3]), wanted);
    assert!(matches!(
        upload("../x", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::BadId(_)))
    ));
    assert!(matches!(
        upload("a", Precondition::Exists).await,
        Err(UploadError::Precondition { current: None })
    ));
    assert!(upload("a", Precondition::Absent).await.is_ok());
    assert!(matches!(
        upload("a", Precondition::Absent).await,
        Err(UploadError::Precondition { current: Some(1) })
    ));
    assert!(upload("a", Precondition::Version(1)).await.is_ok());
    assert!(matches!(
        upload("a", Precondition::Version(1)).await,
        Err(UploadError::Precondition { current: Some(2) })
    ));
    assert!(upload("b", Precondition::None).await.is_ok());
    assert!(matches!(
        upload("c", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::Full(2)))
    ));
    world
        .flyweights
        .delete("b", Precondition::None)
        .await
        .expect("delete");
    assert!(upload("b", Precondition::None).await.is_ok());
    world
        .flyweights
        .delete("b", Precondition::None)
        .await
        .expect("delete");
    assert!(matches!(
        upload("b", Precondition::None).await,
        Err(UploadError::Catalogue(CatalogueError::IndicesSpent(3)))
    ));
    let text = world
        .flyweights
        .upload(
            "a",
            Bytes::from_static(b"hello, this is text"),
            Precondition::None,
        )
        .await;
    assert!(matches!(text, Err(UploadError::Load(LoadError::Codec(_)))));
    let torn = picture([1, 2, 3]).slice(..60);
    assert!(matches!(
        world.flyweights.upload("a", torn, Precondition::None).await,
        Err(UploadError::Load(LoadError::Codec(_)))
    ));
    assert_eq!(
        (
            world.budget.used_by(Purpose::Upload),
            world.budget.used_by(Purpose::Textures)
        ),
        (0, 0)
    );
}
