//! A service's core without its HTTP: budget, arena, volatile store, flyweights, and pictures to fill it with.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backdrop_service::codec::{self, Limits, PixelsMut, PixelsRef, Size, encode_jpeg};
use backdrop_service::flyweight::{
    ArchivingConfig, Flyweights, FlyweightsConfig, Lease, Precondition,
};
use backdrop_service::memory::arena::Arena;
use backdrop_service::memory::budget::{Budget, BudgetConfig};
use backdrop_service::metrics::Metrics;
use backdrop_service::store::{Store, StoreConfig};
use bytes::Bytes;
use tokio::runtime::Runtime;

pub const MIB: u64 = 1 << 20;
/// A texture of this size takes 8 MiB.
pub const FULL_HD: Size = Size::new(1920, 1080);
/// A texture of this size takes the smallest block, 512 KiB.
pub const SMALL: Size = Size::new(256, 256);

/// See the file's description.
pub struct World {
    pub runtime: Runtime,
    pub flyweights: Arc<Flyweights>,
    pub budget: Arc<Budget>,
    pub metrics: Arc<Metrics>,
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl World {
    /// With room for `bytes` of textures, and all else at its defaults. Uploads stay in memory.
    pub fn of(bytes: u64) -> io::Result<Self> {
        let store = Store::open(StoreConfig {
            volatile: true,
            ..StoreConfig::at("unused")
        });
        let store = store.map_err(failed)?;
        Self::over(store, bytes, Arc::default(), ArchivingConfig::default())
    }

    /// The same over a store.
    pub fn over(
        store: Store,
        bytes: u64,
        metrics: Arc<Metrics>,
        archiving: ArchivingConfig,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let headroom = 64 * MIB;
        let budget = Budget::new(BudgetConfig {
            ceiling: bytes + headroom,
            headroom_min: headroom,
            headroom_max: headroom,
            waiters_max: 65_536,
            ..BudgetConfig::default()
        });
        let arena = Arena::new().map_err(failed)?;
        let flyweights = Flyweights::new(
            FlyweightsConfig {
                reserve_wait: Duration::from_secs(10),
                archiving,
                ..FlyweightsConfig::default()
            },
            Arc::new(store),
            Arc::clone(&budget),
            arena,
            Arc::clone(&metrics),
        )?;
        Ok(Self {
            runtime,
            flyweights,
            budget,
            metrics,
        })
    }

    /// Uploads `count` backgrounds of one size, evicts what that left, and returns their indices, which follow each other.
    pub fn upload(&self, count: usize, size: Size) -> io::Result<Vec<u32>> {
        let image = photograph(size)?;
        let indices = (0..count).map(|number| {
            let id = id(number);
            let upload = self
                .flyweights
                .upload(&id, image.clone(), Precondition::None);
            self.runtime
                .block_on(upload)
                .map(|registered| registered.index)
                .map_err(failed)
        });
        let indices = indices.collect();
        self.flyweights.shrink_to(0);
        indices
    }

    /// A lease, loading if need be.
    pub fn lease(&self, index: u32) -> io::Result<Lease> {
        let soon = tokio::time::Instant::now() + Duration::from_secs(60);
        let leased = self.runtime.block_on(self.flyweights.lease(index, soon));
        leased.map(|(lease, _)| lease).map_err(failed)
    }

    /// Has all of them loaded.
    pub fn warm(&self, indices: &[u32]) -> io::Result<()> {
        indices
            .iter()
            .try_for_each(|&index| self.lease(index).map(drop))
    }

    /// The value of a series of the exposition.
    pub fn metric(&self, series: &str) -> io::Result<f64> {
        self.flyweights.publish();
        let text = self.metrics.render().map_err(failed)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .ok_or_else(|| failed(format!("no series {series}")))
    }
}

/// Id of the n-th background.
pub fn id(number: usize) -> String {
    format!("background-{number:05}")
}

/// Something like a photograph, as JPEG: slopes, waves, some noise.
pub fn photograph(size: Size) -> io::Result<Bytes> {
    let mut noise = 1u32;
    let mut data = Vec::with_capacity(size.bytes() as usize);
    for y in 0..size.height {
        for x in 0..size.width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let grain = (noise >> 28) as f32;
            let wave = 60.0 * ((x as f32 / 60.0).sin() * (y as f32 / 45.0).cos() + 1.0);
            let slope = 90.0 * y as f32 / size.height as f32;
            data.extend(
                [
                    wave + slope + grain,
                    slope + grain + 70.0,
                    150.0 - wave + grain,
                ]
                .map(|v| v as u8),
            );
            data.push(255);
        }
    }
    let pixels = PixelsRef::new(&data, size).ok_or_else(|| failed("made for another size"))?;
    let mut file = Vec::new();
    encode_jpeg(pixels, 85, &mut file).map_err(failed)?;
    Ok(file.into())
}

/// The pixels of a file in a buffer of their own, as each naive way loads them.
pub fn decode(file: &[u8]) -> io::Result<Vec<u8>> {
    let header = codec::probe(file, &Limits::default()).map_err(failed)?;
    let mut pixels = vec![0; header.output_bytes() as usize];
    let out = PixelsMut::new(&mut pixels, header.size).expect("made for this size");
    codec::decode_trusted(file, &header, out).map_err(failed)?;
    Ok(pixels)
}

/// Milliseconds since then.
pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
