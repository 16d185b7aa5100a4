//! The claims of the article on flyweights, each as the naive way beside Backdrop's, in the same process.

pub mod frames;
pub mod heap;
pub mod index;
pub mod metadata;
pub mod pauses;
pub mod sharing;
