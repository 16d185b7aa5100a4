//! The naive way beside Backdrop's, by subject and in the same process.

pub mod frames;
pub mod keys;
pub mod lookup;
pub mod metadata;
pub mod objects;
pub mod previews;
pub mod sharing;
