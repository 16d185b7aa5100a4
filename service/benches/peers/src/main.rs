//! Backdrop beside its peers (quick_cache, moka, foyer) and beside the naive way, in one process and in turns.
//!
//! Ratios count, not absolute times: every figure with a peer is measured in rounds that give each side its turn, and the median
//! of the rounds is kept. The naive ways are what a good programmer would write first, not strawmen.

mod article;
mod counters;
mod herd;
mod hit;
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
        ("evict-one", order::evict_one),
        ("hit-ratio", order::hit_ratios),
        ("sessions", sessions::bytes_per_session),
        ("article-1", article::sharing::run),
        ("article-3", article::metadata::run),
        ("article-4", article::frames::run),
        ("article-7", article::index::run),
        ("article-13", article::heap::run),
        ("article-14", article::pauses::run),
        // Last: it takes 4 GiB.
        ("shrink", shrink::shrink),
    ])
}
