//! Backdrop beside its peers (quick_cache, moka, foyer) and beside the naive way, in one process.
//!
//! Ratios count, not absolute times. How the two sides of a figure were measured depends on its group:
//! - In rounds that give each side its turn, median kept: `hit`, `lease`, `lookup`, `preview`, `archive`, the times of `frame-buffers` and
//!   of `keys`, and `metadata`, except for its write, which has no peer.
//! - Both sides within one pass, median of a few passes: `herd`, `shrink`.
//! - A single pass of each side, one after the other: `churn`, `sharing`, `session-objects`, and the page faults and requests of
//!   `frame-buffers`. Their times carry the noise of one pass.
//! - Counted, nothing to repeat: the entries of `keys`.
//! - A single replay of each trace, which takes no time into account: `hit-ratio`.
//!
//! The naive ways are what a good programmer would write first, not strawmen.

mod archive;
mod counters;
mod herd;
mod hit;
mod naive;
mod order;
mod peers;
mod pool;
mod rounds;
mod sessions;
mod shrink;
#[path = "../../support/mod.rs"]
mod support;
mod world;

fn main() -> std::io::Result<()> {
    support::run(&[
        ("hit", hit::hit),
        ("lease", hit::lease),
        ("herd", herd::herd),
        ("pool", pool::acquire),
        ("churn", pool::churn),
        ("archive", archive::archive),
        ("evict-one", order::evict_one),
        ("hit-ratio", order::hit_ratios),
        ("sessions", sessions::bytes_per_session),
        ("sharing", naive::sharing::run),
        ("metadata", naive::metadata::run),
        ("keys", naive::keys::run),
        ("frame-buffers", naive::frames::run),
        ("lookup", naive::lookup::run),
        ("session-objects", naive::objects::run),
        ("preview", naive::previews::run),
        // Last: it takes 4 GiB.
        ("shrink", shrink::shrink),
    ])
}
