//! The rules of flyweights, each as a test, over a real store, pool, budget and codec. Here: what the tests share.

mod archive;
mod catalogue;
mod eviction;
mod loads;
mod model;
mod readback;
mod rendition;
mod replace;
mod stress;

use std::time::Duration;

use tokio::time::Instant as TokioInstant;

use super::*;
use crate::codec::{PixelsRef, Size, encode_png};
use crate::memory::budget::{BudgetConfig, ReserveError};
use crate::metrics::Label;
use crate::store::{StoreConfig, StoreError};

const MIB: u64 = 1 << 20;
/// A texture of 512×256 fills the smallest class, 512 KiB.
const SIZE: Size = Size::new(512, 256);
const TEXTURE: u64 = 512 << 10;

/// A picture of one colour, as PNG: the colour says which background and version it is.
fn picture(colour: [u8; 3]) -> Bytes {
    let pixel = [colour[0], colour[1], colour[2], 255];
    let data: Vec<u8> = pixel
        .iter()
        .copied()
        .cycle()
        .take(SIZE.bytes() as usize)
        .collect();
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, SIZE).expect("size"), &mut out).expect("png");
    out.into()
}

/// A picture whose every pixel says which background, which version and which row it is of, as PNG.
fn stamped(size: Size, which: u8, version: u8) -> Bytes {
    let row = |y: u32| [which, version, y as u8, 255].repeat(size.width as usize);
    let data: Vec<u8> = (0..size.height).flat_map(row).collect();
    let mut out = Vec::new();
    encode_png(PixelsRef::new(&data, size).expect("size"), &mut out).expect("png");
    out.into()
}

/// Background and version that the pixels say in every row. `None`: torn.
fn stamp(pixels: PixelsRef<'_>) -> Option<(u8, u8)> {
    let (all, _) = pixels.data().as_chunks::<4>();
    let (which, version) = (all[0][0], all[0][1]);
    let rows = all.chunks_exact(pixels.size().width as usize);
    rows.enumerate()
        .all(|(y, row)| {
            row.iter()
                .all(|pixel| *pixel == [which, version, y as u8, 255])
        })
        .then_some((which, version))
}

struct World {
    flyweights: Arc<Flyweights>,
    budget: Arc<Budget>,
    arena: Arc<Arena>,
    metrics: Arc<Metrics>,
    dir: tempfile::TempDir,
}

fn config() -> FlyweightsConfig {
    FlyweightsConfig {
        decode_threads: 1,
        loads_max: 2,
        access_record: 100_000,
        reserve_wait: Duration::from_millis(50),
        ..Default::default()
    }
}

/// Kept free for decodes; a PNG of this size takes more scratch than pixels.
const HEADROOM: u64 = 16 * MIB;

fn budget_for(textures: u64) -> BudgetConfig {
    // Half a texture more, for thumbnails.
    let ceiling = textures * TEXTURE + TEXTURE / 2 + HEADROOM;
    BudgetConfig {
        ceiling,
        headroom_min: HEADROOM,
        ..BudgetConfig::default()
    }
}

impl World {
    fn with(config: FlyweightsConfig, budget: BudgetConfig, dir: tempfile::TempDir) -> Self {
        let budget = Budget::new(budget);
        let (arena, metrics) = (Arena::new().expect("arena"), Arc::new(Metrics::default()));
        let store = Arc::new(Store::open(StoreConfig::at(dir.path())).expect("store"));
        let flyweights = Flyweights::new(
            config,
            store,
            Arc::clone(&budget),
            Arc::clone(&arena),
            Arc::clone(&metrics),
        )
        .expect("threads");
        Self {
            flyweights,
            budget,
            arena,
            metrics,
            dir,
        }
    }

    /// Room for exactly `textures` textures.
    fn of(textures: u64) -> Self {
        Self::with(
            config(),
            budget_for(textures),
            tempfile::tempdir().expect("directory"),
        )
    }

    async fn upload(&self, id: &str, colour: [u8; 3]) -> Registered {
        self.flyweights
            .upload(id, picture(colour), Precondition::None)
            .await
            .expect("upload")
    }

    async fn upload_many(&self, count: u8) -> Vec<u32> {
        let mut indices = Vec::new();
        for number in 0..count {
            indices.push(
                self.upload(&format!("b{number:03}"), [number, 0, 1])
                    .await
                    .index,
            );
        }
        self.flyweights.shrink_to(0);
        self.flyweights.accesses(usize::MAX, true);
        indices
    }

    async fn lease(&self, index: u32) -> Result<(Lease, Access), LeaseError> {
        self.flyweights.lease(index, soon()).await
    }

    async fn access(&self, index: u32) -> Access {
        self.lease(index).await.expect("lease").1
    }

    fn events(&self) -> Vec<(u32, u8, u64)> {
        let bytes = self.flyweights.accesses(usize::MAX, false);
        let (entries, _) = bytes[16..].as_chunks::<8>();
        let unpack = |entry: &[u8; 8]| u64::from_le_bytes(*entry);
        entries
            .iter()
            .map(unpack)
            .map(|entry| (entry as u32, (entry >> 32) as u8, entry >> 40))
            .collect()
    }

    fn loads(&self, result: LoadResult) -> u64 {
        self.metrics.flyweight.loads_total.of(result).get()
    }
}

fn soon() -> TokioInstant {
    TokioInstant::now() + Duration::from_secs(30)
}

fn first_pixel(lease: &Lease) -> [u8; 4] {
    lease.pixels().pixel(0, 0)
}
