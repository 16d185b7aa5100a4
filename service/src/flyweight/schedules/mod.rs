//! The concurrent core under schedule checkers: `loom` tries every interleaving, and what weak memory may show, of the slot word;
//! `shuttle` tries very many interleavings of slots, flights and residents as a whole.
//!
//! Each property is tried twice: it holds, and a flaw that is planted on purpose breaks it. `just schedules` runs both.

#[cfg(feature = "loom")]
mod word;

/// Panics say their message and no more: a backtrace does not fit the small stacks that models run on.
fn brief_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

#[cfg(all(feature = "shuttle", not(feature = "loom")))]
mod whole;
