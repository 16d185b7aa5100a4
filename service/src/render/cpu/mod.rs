//! Rendering on the CPU: axis tables, the frame's rows, the kernels that work on them, and the scalar reference that all are checked
//! against.
//!
//! [`CpuRenderer`] owns the buffers that a thread reuses from frame to frame; it knows no threads and no queue.

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vectors are loaded and stored through pointers, past the cache too"
)]
mod avx2;
pub mod axis;
pub mod blur;
mod frame;
mod portable;
pub mod reference;
mod rows;

#[cfg(test)]
mod tests;

pub use blur::Blur;
pub use portable::flatten_over_black;

use super::view::ViewTransform;
use super::{Foreground, PixelsMut, PixelsRef, Renderer, Size};
#[cfg(feature = "gpu")]
pub(super) use frame::whole_pixels;
use frame::{Scene, Scratch};

/// A way to work on rows. All give the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Kernel(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Kernel {
    /// The kernel that every machine has.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// What this machine can run, the fastest one first.
    pub fn available() -> Vec<Self> {
        Self::wide().into_iter().chain([Self::PORTABLE]).collect()
    }

    /// The fastest one that this machine can run.
    pub fn best() -> Self {
        Self::wide().unwrap_or(Self::PORTABLE)
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn wide() -> Option<Self> {
        avx2::Avx2::detect().map(|avx2| Self(Kind::Avx2(avx2)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn wide() -> Option<Self> {
        None
    }
}

/// Draws with one kernel, the machine's best by default; keeps tables and rows between calls.
#[derive(Debug)]
pub struct CpuRenderer {
    kernel: Kernel,
    scratch: Scratch,
}

impl Default for CpuRenderer {
    fn default() -> Self {
        Self::with_kernel(Kernel::best())
    }
}

impl CpuRenderer {
    /// A renderer that uses `kernel`.
    pub fn with_kernel(kernel: Kernel) -> Self {
        let scratch = Scratch::default();
        Self { kernel, scratch }
    }

    /// Bytes of the buffers that are kept.
    pub fn held_bytes(&self) -> usize {
        self.scratch.held_bytes()
    }
}

impl Renderer for CpuRenderer {
    fn composite(
        &mut self,
        background: PixelsRef<'_>,
        view: &ViewTransform,
        foreground: Option<Foreground<'_>>,
        mut out: PixelsMut<'_>,
    ) {
        assert!(
            !background.size().is_empty() && !out.size().is_empty(),
            "pictures have pixels"
        );
        assert!(
            foreground.is_none_or(|foreground| foreground.size() == out.size()),
            "a foreground is as large as the frame"
        );
        let scene = Scene {
            background,
            view,
            foreground,
        };
        let scratch = &mut self.scratch;
        match self.kernel.0 {
            Kind::Portable => frame::draw(portable::Portable, &scene, scratch, &mut out),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(kernel) => frame::draw(kernel, &scene, scratch, &mut out),
        }
    }

    fn scratch_bytes(&self, background: Size, view: &ViewTransform, out: Size) -> u64 {
        Scratch::bytes(background, view, out)
    }
}
