//! Frames that are drawn together: jobs with their places, on their way from the thread that records to the one that waits.

use super::slot::{Mapping, Slot};
use super::{CompositeJob, Refusal};

/// A job whose frame lies at `at` of the frames that come back, `bytes` long.
pub struct Placed {
    pub job: Box<dyn CompositeJob>,
    pub at: u64,
    pub bytes: u64,
}

/// The jobs of one dispatch. Those that nobody has taken out are ended, undrawn, when it goes.
#[derive(Default)]
pub struct Batch(pub Vec<Placed>);

impl Drop for Batch {
    fn drop(&mut self) {
        for placed in self.0.drain(..) {
            placed.job.end(Err(Refusal::Lost));
        }
    }
}

/// What was submitted.
pub struct Flight {
    pub batch: Batch,
    pub submission: wgpu::SubmissionIndex,
    pub mapping: Mapping,
    /// Bytes of frames that come back.
    pub frames: u64,
    pub slot: Slot,
}
