//! No GPU: what a build without the feature `gpu` has in its place.

use std::sync::Arc;

use super::{GpuConfig, GpuError, Order, Painted, RendererChoice};
use crate::memory::Budget;
use crate::metrics::Metrics;

/// Why there is none.
const CAUSE: &str = "this build cannot use one, it is without the feature gpu";

/// There is none.
#[derive(Debug)]
pub enum Gpu {}

impl Gpu {
    /// No GPU, ever.
    ///
    /// # Errors
    /// Where one is asked for.
    pub fn open(
        config: &GpuConfig,
        _budget: &Arc<Budget>,
        _metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, GpuError> {
        match config.renderer {
            RendererChoice::Cpu => Ok(None),
            RendererChoice::Auto => {
                tracing::info!(cause = CAUSE, "no GPU: frames are drawn by the CPU");
                Ok(None)
            }
            RendererChoice::Gpu => Err(GpuError {
                cause: CAUSE.to_owned(),
            }),
        }
    }

    /// Not callable.
    pub fn trim(&self) {
        match *self {}
    }

    pub(in crate::frames) fn is_exact(&self) -> bool {
        match *self {}
    }

    pub(in crate::frames) fn is_lost(&self) -> bool {
        match *self {}
    }

    pub(in crate::frames) fn was_late(&self) {
        match *self {}
    }

    pub(in crate::frames) async fn draw(&self, _order: Order) -> Option<Painted> {
        match *self {}
    }
}
