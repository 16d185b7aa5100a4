//! Batches.
pub mod binary;
pub mod json;
pub use binary::Operation;
/// Code.
#[derive(Clone, Copy)]
pub enum Code { /// x
 Ok }
impl Code { fn name(self) -> &'static str { "ok" } }
