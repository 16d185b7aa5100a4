//! Reference service: virtual backgrounds for a million sessions out of a few shared textures.

pub mod codec;
pub mod render;
