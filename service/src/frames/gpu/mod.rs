//! The GPU as frames know it: which renderer was asked for, and frames that are drawn there, with the CPU behind it.
//!
//! A frame whose pixels the GPU does not draw (it has no device at the moment, or too much to do, or no room) is drawn by a thread of
//! a pool, as all are without a GPU: bit for bit the same, unless compressed textures were asked for; then a frame says which it is. A build without the feature `gpu` has the same face and never a GPU.

#[cfg(not(feature = "gpu"))]
mod absent;
#[cfg(feature = "gpu")]
mod present;

use std::time::Duration;

#[cfg(not(feature = "gpu"))]
pub use absent::Gpu;
#[cfg(feature = "gpu")]
pub use present::Gpu;

use super::{Overlay, Pixels};
use crate::codec::Size;
use crate::memory::Charge;
use crate::render::view::View;

/// Who shall draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RendererChoice {
    /// A GPU where there is a real one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or no start.
    Gpu,
}

impl RendererChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Cpu, Self::Gpu];

    /// As it is written in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// How textures lie on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GpuTextures {
    /// Exact: frames are the CPU's, bit for bit.
    #[default]
    Rgba,
    /// In BC7 blocks where the GPU reads them: a quarter of the memory, and frames that are near those of the CPU, and say so.
    Bc7,
}

impl GpuTextures {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Rgba, Self::Bc7];

    /// As it is written in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rgba => "rgba",
            Self::Bc7 => "bc7",
        }
    }
}

/// Settings of the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuConfig {
    /// Who shall draw.
    pub renderer: RendererChoice,
    /// Where there is no real GPU, one in software will do: a program that does its work on the CPU, for tests.
    pub software: bool,
    /// How textures lie there.
    pub textures: GpuTextures,
    /// How long the first frame of a batch waits for others.
    pub window: Duration,
    /// Frames of one dispatch.
    pub batch_max: usize,
    /// Bytes of textures on the device; where it shares the machine's memory no more than a quarter of the budget.
    pub texture_bytes_max: u64,
    /// Bytes of the machine's memory through which everything goes there and back; no more than a quarter of the budget is taken.
    pub staging_bytes: u64,
}

impl Default for GpuConfig {
    fn default() -> Self {
        Self {
            renderer: RendererChoice::default(),
            software: false,
            textures: GpuTextures::default(),
            window: Duration::from_micros(500),
            batch_max: 64,
            texture_bytes_max: 512 << 20,
            staging_bytes: 160 << 20,
        }
    }
}

impl GpuConfig {
    /// Says what is wrong with these settings, if anything.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            (
                "gpu-window in microseconds",
                self.window.as_micros() as u64,
                0,
                10_000,
            ),
            ("gpu-batch-max", self.batch_max as u64, 1, 1024),
            (
                "gpu-texture-bytes-max",
                self.texture_bytes_max,
                1 << 20,
                1 << 40,
            ),
            ("gpu-staging-bytes", self.staging_bytes, 1 << 20, 8 << 30),
        ];
        for (name, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                return Err(format!(
                    "{name} must be between {low} and {high}, not {value}"
                ));
            }
        }
        Ok(())
    }
}

/// Why a GPU that was asked for is not to be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "--renderer gpu finds none: {cause}; install its Vulkan driver (and give a container access to the device), or choose --renderer auto or cpu"
)]
pub struct GpuError {
    cause: String,
}

impl From<tokio::task::JoinError> for GpuError {
    fn from(defect: tokio::task::JoinError) -> Self {
        Self {
            cause: defect.to_string(),
        }
    }
}

/// One frame for the GPU to draw.
pub(super) struct Order {
    /// What stands behind.
    pub(super) pixels: Box<dyn Pixels>,
    /// Its flyweight and version: pixels never change under these.
    pub(super) texture: (u32, u32),
    /// What lies over it, as pixels already, of the frame's size.
    pub(super) overlay: Option<Overlay>,
    /// What of `pixels` is seen.
    pub(super) view: View,
    /// Size of the frame.
    pub(super) size: Size,
    /// Covers the frame's pixels.
    pub(super) charge: Charge,
}

/// What came of an [`Order`].
pub(super) struct Painted {
    pub(super) pixels: Box<dyn Pixels>,
    pub(super) overlay: Option<Overlay>,
    /// `None`: the CPU is to draw.
    pub(super) canvas: Option<Canvas>,
}

/// A frame's pixels as the GPU drew them, with their charge.
#[derive(Debug)]
pub(super) struct Canvas {
    /// RGBA8, of the frame's size.
    pub(super) pixels: Vec<u8>,
    /// Whether they are those that the CPU would have drawn.
    pub(super) exact: bool,
    pub(super) charge: Charge,
}
