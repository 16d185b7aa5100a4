//! What is allocated, by the allocator's own count of this thread: nothing by a switch and by the lease of a resident texture, and next
//! to nothing but its text by a scrape.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backdrop_service::codec::{PixelsRef, Size, encode_png};
use backdrop_service::flyweight::{Flyweights, FlyweightsConfig, Precondition};
use backdrop_service::memory::thread::ThreadBytes;
use backdrop_service::memory::{Arena, Budget, BudgetConfig};
use backdrop_service::metrics::{Metrics, TEXT_BYTES_MAX};
use backdrop_service::sessions::{Sessions, SessionsConfig, TenantId};
use backdrop_service::store::{Store, StoreConfig};
use tokio::time::Instant;

const ROUNDS: u32 = 10_000;

fn picture() -> Vec<u8> {
    let size = Size::new(32, 32);
    let data = vec![200u8; size.bytes() as usize];
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, size).expect("size"), &mut out).expect("png");
    out
}

fn flyweights(dir: &Path, budget: &Arc<Budget>, metrics: &Arc<Metrics>) -> Arc<Flyweights> {
    Flyweights::new(
        FlyweightsConfig::default(),
        Arc::new(Store::open(StoreConfig::at(dir)).expect("a store")),
        Arc::clone(budget),
        Arena::new().expect("an arena"),
        Arc::clone(metrics),
    )
    .expect("threads")
}

#[tokio::test]
async fn a_switch_and_a_lease_of_a_resident_texture_allocate_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let budget = Budget::new(BudgetConfig::default());
    let metrics = Arc::new(Metrics::default());
    let flyweights = flyweights(dir.path(), &budget, &metrics);
    let mut indices = Vec::new();
    for id in ["one", "two"] {
        let uploaded = flyweights.upload(id, picture().into(), Precondition::None);
        let index = uploaded.await.expect("an upload").index;
        let deadline = Instant::now() + Duration::from_secs(60);
        drop(flyweights.lease(index, deadline).await.expect("a load"));
        indices.push(index);
    }
    let config = SessionsConfig { sessions_max: 100 };
    let sessions = Sessions::new(config, budget, metrics);
    let tenant = TenantId(1);
    let id = sessions.create(tenant, 1, indices[0]).expect("a session");
    let round = |number: u32| {
        let index = indices[number as usize % 2];
        assert!(flyweights.check(index).is_ok());
        assert!(sessions.switch(id, tenant, index).is_ok());
        let lease = flyweights
            .try_lease(index)
            .expect("live")
            .expect("resident");
        assert_eq!(lease.pixels().data()[0], 200);
        let again = lease.clone();
        drop(lease);
        drop(again);
    };
    // Whatever a thread sets up once is set up.
    round(0);
    let counting = ThreadBytes::start().expect("jemalloc");
    (0..ROUNDS).for_each(round);
    assert_eq!(counting.allocated(), 0);
    // The count can fail: it sees the smallest allocation.
    drop(std::hint::black_box(Box::new(1_u8)));
    assert!(counting.allocated() > 0);
}

/// Bytes that a scrape may allocate beside its text, most of them for moments: what the formatting of labels and floats needs.
const BESIDE_BYTES_MAX: u64 = 32 << 10;

#[tokio::test]
async fn a_scrape_allocates_its_text_and_next_to_nothing_beside() {
    let dir = tempfile::tempdir().expect("a directory");
    let metrics = Arc::new(Metrics::default());
    let flyweights = flyweights(dir.path(), &Budget::new(BudgetConfig::default()), &metrics);
    let scrape = || {
        flyweights.pinned_bytes();
        flyweights.publish();
        metrics.render().expect("formats")
    };
    // Whatever a thread sets up once is set up.
    drop(scrape());
    let scrapes = 100;
    let counting = ThreadBytes::start().expect("jemalloc");
    for _ in 0..scrapes {
        let text = scrape();
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.capacity(), TEXT_BYTES_MAX, "it never grew");
    }
    let each = counting.allocated() / scrapes;
    let text = TEXT_BYTES_MAX as u64;
    assert!((text..=text + BESIDE_BYTES_MAX).contains(&each), "{each}");
    assert_eq!(counting.held(), 0, "nothing of it stays");
}
