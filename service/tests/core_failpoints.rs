//! The injected faults of loads: clean errors, counted triggers, and recovery when they are taken away. One test, because
//! failpoints are global to the process.
#![cfg(feature = "failpoints")]

use std::sync::Arc;
use std::time::Duration;

use backdrop_service::codec::{PixelsRef, Size, encode_png};
use backdrop_service::failpoints::{
    self, CODEC_DECODE_ERROR, MEMORY_RESERVE_EXHAUSTED, STORE_LOAD_DELAY, STORE_LOAD_ERROR,
};
use backdrop_service::flyweight::{
    Flyweights, FlyweightsConfig, LeaseError, LoadError, Precondition,
};
use backdrop_service::memory::{Arena, Budget, BudgetConfig};
use backdrop_service::metrics::{LoadResult, Metrics};
use backdrop_service::store::{Store, StoreConfig};
use tokio::time::Instant;

fn picture() -> Vec<u8> {
    let size = Size::new(64, 64);
    let data = vec![200u8; size.bytes() as usize];
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, size).expect("size"), &mut out).expect("png");
    out
}

fn triggers(name: &str) -> u64 {
    let all = failpoints::triggers();
    all.iter()
        .find(|(known, _)| *known == name)
        .map_or(0, |(_, count)| *count)
}

fn injected(outcome: &Result<impl Sized, LeaseError>, point: &str) -> bool {
    match outcome {
        Err(LeaseError::Load(cause)) => {
            matches!(**cause, LoadError::Injected(name) if name == point)
        }
        _ => false,
    }
}

#[tokio::test]
async fn faults_of_loads_are_clean_counted_and_pass() {
    let dir = tempfile::tempdir().expect("directory");
    let store = Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store"));
    let (budget, metrics) = (
        Budget::new(BudgetConfig::default()),
        Arc::new(Metrics::default()),
    );
    let config = FlyweightsConfig {
        negative_ttl: Duration::ZERO,
        reserve_wait: Duration::ZERO,
        ..FlyweightsConfig::default()
    };
    let arena = Arena::new().expect("arena");
    let flyweights =
        Flyweights::new(config, store, budget, arena, Arc::clone(&metrics)).expect("threads");
    let uploaded = flyweights
        .upload("a", picture().into(), Precondition::None)
        .await;
    let index = uploaded.expect("upload").index;
    let lease = || flyweights.lease(index, Instant::now() + Duration::from_secs(60));

    for point in [STORE_LOAD_ERROR, CODEC_DECODE_ERROR] {
        failpoints::configure(point, "return").expect("known");
        assert!(injected(&lease().await, point));
        assert_eq!(triggers(point), 1);
        failpoints::remove(point).expect("known");
    }
    failpoints::configure(MEMORY_RESERVE_EXHAUSTED, "return").expect("known");
    assert!(matches!(lease().await, Err(LeaseError::Exhausted)));
    assert!(triggers(MEMORY_RESERVE_EXHAUSTED) >= 1);
    failpoints::remove(MEMORY_RESERVE_EXHAUSTED).expect("known");
    let loads = |result| metrics.flyweight.loads_total.of(result).get();
    assert_eq!((loads(LoadResult::Error), loads(LoadResult::Shed)), (2, 1));

    failpoints::configure(STORE_LOAD_DELAY, "1*return(20)").expect("known");
    assert!(lease().await.is_ok(), "a delay is no error");
    assert_eq!(triggers(STORE_LOAD_DELAY), 1);
    failpoints::remove(STORE_LOAD_DELAY).expect("known");
    assert!(lease().await.is_ok());
    assert_eq!(loads(LoadResult::Ok), 1);
}
